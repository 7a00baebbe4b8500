"""What an adviser is told: the jobs, the devices and the speeds of a core, as of now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from functools import partial
from typing import TypeAlias

from fairlead.core.advice import seen_of
from fairlead.core.ends import total_run_ms
from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.core.speeds import model_of
from fairlead.model.advice import Candidate, Free, Kind, Question
from fairlead.model.base import JobId, Ms
from fairlead.model.jobs import LIVE, Phase
from fairlead.model.resources import CPU, MEMORY, WHOLE_GPU_MILLI, width_milli

Speeds: TypeAlias = tuple[int | None, ...]
SIZING = ("sia", "pollux")  # plans that say how many members elastic jobs are to have


def fastest_first(core: Core, models: list[str] | None = None) -> list[str]:
    """Return device models, by default those that are up, what is faster for most jobs first.

    A model has a point for each other one than which a type of jobs is faster on it.
    """
    if models is None:
        there = (device.model for node in core.nodes if node.up for device in node.spec.devices)
        models = list(dict.fromkeys(there))
    points = core.speeds.points()
    return sorted(models, key=lambda model: (-points.get(model, 0), model))


def stale(core: Core) -> bool:
    """Whether another plan may be better than the one that holds, since something has changed.

    So is one that another policy's adviser made. Where a plan says sizes and somebody waits, time
    alone is enough: a job may be resized or moved later that was too young for it to be worth a
    restart.
    """
    advice = core.advice
    if advice.seen != seen_of(core) or advice.event.adviser != core.policy.plan:
        return True
    return core.policy.plan in SIZING and bool(core.pending)


class Known:
    """What was last asked of each waiting job: while it waits, time alone changes nothing of it."""

    def __init__(self) -> None:
        self._of: dict[JobId, tuple[tuple[object, ...], Candidate]] = {}

    def candidate(self, job: Job, speeds: Speeds, make: Callable[[], Candidate]) -> Candidate:
        """Return what is asked of a job, made only where anything of it is another than before."""
        if job.phase is not Phase.PENDING or job.spec.members_max:
            return make()
        key = (job.token, job.spec, speeds, total_run_ms(job), job.progress)
        known = self._of.get(job.id)
        if known is None or known[0] != key:
            known = self._of[job.id] = (key, make())
        return known[1]

    def forget(self, jobs: Collection[JobId]) -> None:
        """Forget jobs that have gone, when they are as many as those that are there."""
        if len(self._of) > 2 * len(jobs):
            self._of = {job: known for job, known in self._of.items() if job in jobs}


def question(core: Core, now: Ms | None = None, known: Known | None = None) -> Question:
    """Return the question of this moment, by default the turn's. O(jobs x models + nodes).

    `known`: of the same core and policy, to ask the next time without starting afresh.
    """
    now = core.clock if now is None else now
    kinds = _kinds(core)
    amounts: Counter[str] = Counter()
    for kind in kinds:
        amounts[kind.model] += kind.count * (kind.gpus * WHOLE_GPU_MILLI or kind.cpu_milli)
    models = tuple(fastest_first(core, list(amounts)))
    prices = dict(core.policy.prices)
    jobs = [job for _, job in sorted(core.jobs.items()) if job.phase is not Phase.STOPPING]
    widths = core.speeds.widths() if any(job.spec.members_max for job in jobs) else {}
    speeds: dict[tuple[int, str], Speeds] = {}  # by shape and type of jobs
    known = Known() if known is None else known
    known.forget(core.jobs)
    candidates = list[Candidate]()
    for job in jobs:
        key = (job.shape_id, job.spec.kind)
        its = speeds.get(key)
        if its is None:
            its = speeds[key] = tuple([_speed(core, job, model) for model in models])
        make = partial(_candidate, core, job, models, its, widths, now)
        candidates.append(known.candidate(job, its, make))
    return Question(
        now=now,
        lease_ms=core.policy.lease_ms,
        models=models,
        amounts_milli=tuple(amounts[model] for model in models),
        kinds=tuple(kinds),
        jobs=tuple(candidates),
        prices=tuple(prices.get(model, 0) for model in models),
        part_percent=core.policy.part_percent,
        weights=tuple((name, queue.weight) for name, queue in sorted(core.queues.items())),
        free=tuple(_free(core)),
    )


def _kinds(core: Core) -> list[Kind]:
    """Return the equal nodes that are up. A node of several models counts by its first."""
    found: Counter[tuple[str, int, int, int]] = Counter()
    for node in core.nodes:
        if node.up:
            spec = node.spec
            model = spec.devices[0].model if spec.devices else ""
            found[model, len(spec.devices), spec.cpu_milli, spec.memory_mib] += 1
    return [Kind(*key, count=count) for key, count in sorted(found.items())]


def _free(core: Core) -> list[Free]:
    """Return what is left on the nodes that are up, equal ones together."""
    found: Counter[tuple[str, tuple[int, ...], int, int]] = Counter()
    room = core.ledger.room
    for index, node in enumerate(core.nodes):
        if node.up:
            cpu, memory = (max(int(room[row, index]), 0) for row in (CPU, MEMORY))
            devices = core.ledger.devices[index]
            each = enumerate(devices.milli)
            own = [max(milli, 0) for at, milli in each if at not in devices.foreign]
            model = node.spec.devices[0].model if node.spec.devices else ""
            found[model, tuple(sorted(own, reverse=True)), cpu, memory] += 1
    return [Free(*key, count=count) for key, count in sorted(found.items())]


def _candidate(
    core: Core,
    job: Job,
    models: tuple[str, ...],
    speeds: Speeds,
    widths: dict[str, list[int]],
    now: Ms,
) -> Candidate:
    spec, live = job.spec, job.phase in LIVE
    shape, kinds = spec.shape, spec.shape.parts()
    total = total_run_ms(job)
    served = job.attained_ms(now)
    done = 0 if job.progress is None else job.progress.steps
    return Candidate(
        job=job.id,
        job_type=spec.kind,
        width_milli=width_milli(shape),
        # Of different workers the most that any of them asks for: what fits so, fits.
        gpus_milli=max(WHOLE_GPU_MILLI * kind.gpus + kind.gpu_milli for kind in kinds),
        members=shape.members,
        members_max=spec.members_max,
        weight=max(spec.priority, 1),
        entity=spec.queue,
        micro_per_s=speeds,
        left=max(spec.steps - done, 1) if spec.steps else 0,
        expected_ms=None if total is None else max(total - served, 1),
        submitted_ms=job.submitted_ms,
        served_ms=served,
        deadline_ms=spec.deadline_ms,
        restarts=job.preemptions,
        preemptible=spec.preemptible,
        on=model_of(core, job.slots) if live else None,
        size=0 if not live else len(job.slots) if job.team is None else job.team.size,
        cpu_milli=max(kind.cpu_milli for kind in kinds),
        memory_mib=max(kind.memory_mib for kind in kinds),
        steps=spec.steps,
        restart_ms=core.policy.restart_ms if spec.restart_ms is None else spec.restart_ms,
        wider=tuple(
            (members, tuple([_speed(core, job, model, members) for model in models]))
            for members in _known_sizes(job, widths.get(spec.kind, []))
        ),
    )


def _known_sizes(job: Job, widths: list[int]) -> list[int]:
    """Return with how many members beyond its least an elastic job's speed may be known."""
    shape, most = job.spec.shape, job.spec.members_max
    each = width_milli(shape) // shape.members
    if not each or not most:
        return []
    return [at // each for at in widths if shape.members < at // each <= most and at % each == 0]


def _speed(core: Core, job: Job, model: str, members: int | None = None) -> int | None:
    """Return the speed on a model, 0 where the job does not take it."""
    on_gpus = [kind for kind in job.spec.shape.parts() if kind.gpus or kind.gpu_milli]
    if bool(on_gpus) != bool(model):
        return 0
    if any(kind.gpu_models and model not in kind.gpu_models for kind in on_gpus):
        return 0
    return core.speeds.of(job.spec, model, members)
