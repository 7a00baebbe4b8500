"""Sia and Pollux: how many members each elastic job is to have, and on which device model.

Sia (Jayaram Subramanya et al., SOSP 2023) chooses model and size together; Pollux (Qiao et al.,
OSDI 2021) takes all devices as alike. Both go by goodput: the speeds of a job type are to be told
or reported in steps that count. A job is tried with at most twice as many members as anything is
known of. Jobs that are not elastic have one size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fairlead.model.advice import WHOLE, Candidate, Question, Share
from fairlead.model.events import Advised
from fairlead.solve import goodput
from fairlead.solve import sia as program
from fairlead.solve.advise.rates import Kind, Rates, in_words, kind_of, rates_of
from fairlead.solve.sia import Config, Elastic

# Of a job that has nothing, in Sia's sum: with the paper's 1.1 a job waits for hours where another
# would lose more than a tenth by making room for it, and the mean completion is worse for it.
LEFT_OUT = 2.0
# Of its speed, kept by a job that grows or shrinks: that is no restart, but not for nothing.
RESIZED = 0.95
NOTHING = 1e-6
TIES = 1e-5  # of all that a job may count: who runs and who came first comes first among equals
WAITING = 0.01  # of its speed at its least size: what a job counts for that has nothing
MILLI = 1000


def sia(question: Question) -> Advised:
    """Return the best model and number of members of each job: Sia's program of one round."""
    rates = rates_of(question)
    sizes = [_sizes(question, job, rates[kind_of(job)]) for job in question.jobs]
    grid: dict[tuple[int, int], int] = {}
    for job, mine in zip(question.jobs, sizes, strict=True):
        for model, members in mine:
            grid.setdefault((model, members * _each(job)), len(grid))
    configs = [Config(question.models[model], width) for model, width in grid]
    ranks = {job.job: at for at, job in enumerate(sorted(question.jobs, key=_comes_first))}
    asked = [
        replace(
            _elastic(question, job, rates[kind_of(job)], mine, grid),
            precedence=TIES * (2 * (job.on is not None) + 1 - ranks[job.job] / len(ranks)),
        )
        for job, mine in zip(question.jobs, sizes, strict=True)
    ]
    room = dict(zip(question.models, question.amounts_milli, strict=True))
    found = program.choose(asked, configs, room, left_out=LEFT_OUT)
    plan = [
        Share((job.job,), ((configs[at].type, WHOLE),), configs[at].gpus // _each(job))
        for job, at in zip(question.jobs, found.choice, strict=True)
        if at is not None
    ]
    said = "no plan" if found.objective is None else f"objective {found.objective:.6g}"
    return Advised(
        adviser="sia",
        plan=_running_first(question, plan),
        because=f"{said}; {in_words(question, rates)}",
        gap_ppm=None if found.gap is None else round(found.gap * 1_000_000),
    )


def _comes_first(job: Candidate) -> tuple[bool, int, int]:
    """Return the order among jobs that count alike: who runs, then who came first."""
    return (job.on is None, job.submitted_ms, job.job)


def _each(job: Candidate) -> int:
    """Return how wide a member is; what asks for nothing counts as a thousandth."""
    return max(job.width_milli // job.members, 1)


def _most(job: Candidate, rates: Rates) -> int:
    """Return the most members that are worth a trial now."""
    if not job.members_max:
        return job.members
    if not rates.largest:
        return job.members_max  # no trial would tell anything
    return min(job.members_max, 2 * max(rates.largest, job.size, job.members))


def _sizes(question: Question, job: Candidate, rates: Rates) -> list[tuple[int, int]]:
    """Return the configurations of a job: (model, members).

    Its least size, powers of two within a node, whole nodes, its most members, and what it has.
    """
    each, most = _each(job), _most(job, rates)
    found = set()
    for model, name in enumerate(question.models):
        if rates.at(model, job.members) is None:
            continue
        counts = {job.members, most}
        for kind in question.kinds:
            if kind.model == name:
                node = (kind.gpus * MILLI or kind.cpu_milli) // each
                counts |= {1 << power for power in range(node.bit_length())}
                counts |= {node * number for number in range(1, kind.count + 1)}
        if job.on == name:
            counts.add(job.size)
        room = question.amounts_milli[model] // each
        found |= {(model, count) for count in counts if job.members <= count <= min(most, room)}
        if job.on == name:
            found.add((model, job.size))
    return sorted(found)


def _elastic(
    question: Question,
    job: Candidate,
    rates: Rates,
    sizes: Sequence[tuple[int, int]],
    grid: dict[tuple[int, int], int],
) -> Elastic:
    row: list[float | None] = [None] * len(grid)
    each = _each(job)
    for model, members in sizes:
        row[grid[model, members * each]] = rates.at(model, members)
    row = list(program.relative(row))
    current = None
    if job.on is not None:
        current = grid.get((question.models.index(job.on), job.size * each))
        for model, members in sizes:
            at, here = grid[model, members * each], question.models[model] == job.on
            value = row[at]
            if value is not None and at != current:
                row[at] = value * (RESIZED if here else max(_restart(question, job), NOTHING))
    fixed = not job.preemptible and current is not None and row[current] is not None
    return Elastic(tuple(row), current=current, fixed=fixed)


def _restart(question: Question, job: Candidate) -> float:
    """Return what a job keeps of its speed if it starts again elsewhere."""
    age_s = (question.now - job.submitted_ms) / 1000
    return goodput.restart_factor(age_s, job.restarts, job.restart_ms / 1000)


def _running_first(question: Question, plan: Sequence[Share]) -> tuple[Share, ...]:
    """Return the shares with those of running jobs first: who waits takes what these leave."""
    running = {job.job for job in question.jobs if job.on is not None}
    return tuple(sorted(plan, key=lambda share: share.jobs[0] not in running))


def pollux(question: Question) -> Advised:
    """Return the best number of members of each job, by the power mean of speedups with p = -1.

    All device models count as alike: a job's speed is the mean over those where it runs. It stays
    on its model, or goes to the one with most room, with as many members as that has.
    """
    rates = rates_of(question)
    plan: list[Share] = []
    for models in (
        [at for at, name in enumerate(question.models) if name],
        [at for at, name in enumerate(question.models) if not name],
    ):
        jobs = [job for job in question.jobs if _runs_on(job, rates[kind_of(job)], models)]
        if jobs:
            plan += _shared(question, jobs, models, rates)
    return Advised(
        adviser="pollux",
        plan=_running_first(question, plan),
        because=f"power mean of {len(question.jobs)} jobs; {in_words(question, rates)}",
    )


def _runs_on(job: Candidate, rates: Rates, models: list[int]) -> bool:
    return any(rates.curves[model] for model in models)


def _shared(
    question: Question, jobs: list[Candidate], models: list[int], rates: dict[Kind, Rates]
) -> list[Share]:
    """Return the shares of jobs in the devices of some models, taken as one."""
    room = {model: question.amounts_milli[model] for model in models}
    sizes: dict[int, int] = {}
    free = []
    for job in jobs:
        if job.on is not None and not job.preemptible:
            sizes[job.job] = job.size
        else:
            free.append(job)
    free.sort(key=_comes_first, reverse=True)  # of equals the last has the most
    whole = sum(room.values()) - sum(_each(job) * job.size for job in jobs if job.job in sizes)
    counts = goodput.best_replicas(
        [_speedups(job, rates[kind_of(job)], models) for job in free],
        max(whole, 0) // MILLI,
        waiting=WAITING,
    )
    for job, count in zip(free, counts, strict=True):
        if count:
            most = _most(job, rates[kind_of(job)])
            sizes[job.job] = min(count * MILLI // _each(job), most)
    found = []
    for job in sorted(jobs, key=lambda job: (job.on is None, -sizes.get(job.job, 0), job.job)):
        if job.job not in sizes:
            continue
        able = [model for model in models if rates[kind_of(job)].curves[model]]
        model = max(able, key=lambda each: (question.models[each] == job.on, room[each]))
        members = min(sizes[job.job], room[model] // _each(job))
        if members >= job.members:
            room[model] -= members * _each(job)
            found.append(Share((job.job,), ((question.models[model], WHOLE),), members))
    return found


def _speedups(job: Candidate, rates: Rates, models: list[int]) -> list[float]:
    """Return the speed with 1, 2, … whole devices over that at the least size; 0: no such size."""
    each, most = _each(job), _most(job, rates)
    found: list[float] = [0.0] * -(-most * each // MILLI)
    least = _mean(rates, models, job.members)
    for members in range(job.members, most + 1):
        kept = 1.0 if members == job.size or job.on is None else RESIZED
        found[-(-members * each // MILLI) - 1] = kept * _mean(rates, models, members) / least
    return found


def _mean(rates: Rates, models: list[int], members: int) -> float:
    speeds = [speed for model in models if (speed := rates.at(model, members)) is not None]
    return sum(speeds) / len(speeds)
