"""Which requests of running jobs are granted, and who is stopped where jobs wait for each other.

Requests wait in order. A job that holds something may be granted what one before it cannot have
yet, since others may wait for what it holds; one that holds nothing keeps nobody waiting, and so
waits for its turn. Whatever the setting, deadlocks are looked for: under "avoid" and "ordered"
there are none, unless the setting or an amount was changed while jobs ran.

Cost: nothing while nobody waits; else O(n^2 r) in the jobs that wait or may ask for more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.core.named import GOING_ON, Ask
from fairlead.model.base import JobId, Refused
from fairlead.model.events import AnyEvent, Granted, StopDecided
from fairlead.model.jobs import KINDS, JobSpec, Phase, PolicyConfig
from fairlead.policy.deadlock.banker import Amounts, Claim, grant, unsafe_set
from fairlead.policy.deadlock.detect import Waiter, deadlocked, helped, knot, victim

DEADLOCK = "deadlock"  # the first word of why a job was stopped
TIRED_AFTER = 3  # preemptions
SHOWN = 4  # jobs that a sentence names


def settle(core: Core, config: PolicyConfig) -> Iterator[AnyEvent]:
    """Yield grants, then stops until nobody waits for ever. Each is applied before the next."""
    if not core.named.asks:
        return
    while (ask := next_grant(core, config)) is not None:
        yield Granted(
            job=ask.job, attempt=ask.attempt, ask=ask.number, name=ask.name, amount=ask.amount
        )
    while (stop := next_stop(core)) is not None:
        yield stop


def next_grant(core: Core, config: PolicyConfig) -> Ask | None:
    """Return the first request that may be granted now, None if none may."""
    behind: set[str] = set()
    claims = Claims(core)
    for ask in core.named.waiting():
        turn = ask.name not in behind or any(core.named.live[ask.job].held().values())
        free = core.named.free(ask.name) >= ask.amount
        if turn and free and (config.deadlock != "avoid" or claims.grant(ask)):
            return ask
        if not hopeless(core, ask):
            behind.add(ask.name)
    return None


def check_order(
    core: Core, config: PolicyConfig, job: JobId, name: str, waits: Sequence[str] = ()
) -> None:
    """Raise Refused for a request out of the global order, where that rules.

    It must come after all that the job holds or waits for, in the order (kind, name); more of the
    same, too, could be what two jobs wait for that hold some of it.
    """
    if config.deadlock != "ordered":
        return
    resources = core.named.resources
    held = [each for each, amount in core.named.live[job].held().items() if amount]
    ranks = [resources[each].rank for each in (*held, *waits) if each in resources]
    if ranks and max(ranks) >= resources[name].rank:
        last = max(ranks)
        raise Refused(
            f"out of order: job {job} holds or waits for {KINDS[last[0]]} {last[1]}, and "
            f"{resources[name].kind} {name} comes "
            + (
                "again: more of the same has to be asked for at once"
                if last[1] == name
                else "before it"
            ),
            field="name",
            hint="acquire in the order of kind (licence, volume, lock) and name, or release first",
            code="out-of-order",
        )


def hopeless(core: Core, ask: Ask) -> bool:
    """Whether a request is for more than there is, since an amount was lowered."""
    return ask.amount + core.named.live[ask.job].held().get(ask.name, 0) > core.named.amount(
        ask.name
    )


def obstacle(core: Core, config: PolicyConfig, ask: Ask) -> str:
    """Return in words why a request cannot be granted now, "" if it can."""
    named = core.named
    free = named.free(ask.name)
    if free < ask.amount:
        return short(core, ask.name, ask.amount)
    claims = Claims(core)
    if config.deadlock != "avoid" or claims.grant(ask):
        return ""
    others = [job for job in claims.jobs if job != ask.job]
    return (
        f"{free} {ask.name} free, but to grant {ask.amount} now could end in a deadlock with "
        f"{jobs_in_words(others)}, which may ask for more"
    )


def short(core: Core, name: str, asked: int) -> str:
    """Return in words that there is too little of a resource, and who holds it."""
    named = core.named
    if name not in named.resources:
        return f"there is no {name} any more"
    held = ", ".join(f"job {job} ({n})" for job, n in named.holders(name)[:SHOWN]) or "nobody"
    more = len(named.holders(name)) - SHOWN
    held += f" and {more} more" if more > 0 else ""
    free, total = max(named.free(name), 0), named.amount(name)
    words = f"{free} of {total} {name} free, asks for {asked}; held by {held}"
    if asked > total:
        words += "; there are no longer so many"
    return f"{words}; more is held than there is" if name in named.drained else words


def jobs_in_words(jobs: list[JobId]) -> str:
    """Return "job 3", "jobs 3, 4", or the first of many."""
    if not jobs:
        return ""
    names = ", ".join(map(str, jobs[:SHOWN]))
    more = f" and {len(jobs) - SHOWN} more" if len(jobs) > SHOWN else ""
    return f"job{'s' if len(jobs) > 1 else ''} {names}{more}"


class Claims:
    """The jobs that may ask for more, what each holds and may need, and what is free; made once.

    One claim more, the last, is that of all others together: they finish without asking.
    """

    def __init__(self, core: Core) -> None:
        self.core = core

    @cached_property
    def jobs(self) -> list[JobId]:
        """The jobs, in the order of their claims."""
        jobs, needy = self.core.jobs, self.core.named.needy
        return sorted(
            job for job, each in needy.items() if jobs[job].phase in GOING_ON and each.need()
        )

    @cached_property
    def claims(self) -> list[Claim]:
        """The claims of the jobs, and that of all others together."""
        named, rest = self.core.named, dict(self.core.named.held)
        claims = []
        for job in self.jobs:
            holding = named.needy[job]
            claims.append(Claim(holding.held(), holding.need()))
            for name, amount in claims[-1].held.items():
                rest[name] -= amount
        return [*claims, Claim(rest, {})]

    @cached_property
    def free(self) -> dict[str, int]:
        """What is free, by name; below zero where an amount was lowered."""
        named = self.core.named
        return {name: named.free(name) for name in named.resources}

    def grant(self, ask: Ask) -> bool:
        """Whether the banker grants a request."""
        return grant(self.claims, self.free, self.jobs.index(ask.job), {ask.name: ask.amount})

    def unsafe_start(self, spec: JobSpec) -> list[JobId] | None:
        """Return with whom a job could end in a deadlock if it started now; None: it may start."""
        held, most = dict(spec.counted), dict(spec.may_acquire)
        after = {name: amount - held.get(name, 0) for name, amount in self.free.items()}
        stranded = set(unsafe_set([*self.claims, Claim(held, most)], after))
        if not stranded or stranded <= set(unsafe_set(self.claims, self.free)):
            return None
        return [job for index, job in enumerate(self.jobs) if index in stranded]


def waiters_of(core: Core) -> tuple[dict[JobId, Waiter], dict[str, int]]:
    """Return the jobs that wait, and what there is once all others have given back theirs."""
    named = core.named
    waits: dict[JobId, dict[str, int]] = {}
    for ask in named.waiting():
        asked = waits.setdefault(ask.job, {})
        asked[ask.name] = asked.get(ask.name, 0) + ask.amount
    work = {name: resource.amount for name, resource in named.resources.items()}
    waiters: dict[JobId, Waiter] = {}
    for job in waits:
        held = named.live[job].held()
        waiters[job] = Waiter(held, waits[job], _cost(core.jobs[job], sum(held.values())))
        for name, amount in held.items():
            work[name] = work.get(name, 0) - amount
    return waiters, work


def _cost(job: Job, held: int) -> tuple[int, ...]:
    """Return how dear it is to stop a job: by its priority, then by what it holds.

    Among jobs that were stopped often the youngest goes: by what they hold two could take turns for
    ever in stopping each other.
    """
    tired = job.preemptions >= TIRED_AFTER
    return (tired, not job.spec.preemptible, job.spec.priority, -job.id if tired else held)


def next_stop(core: Core) -> StopDecided | None:
    """Return whom to stop so that others can go on, None where nobody is stuck or none helps."""
    waiters, free = waiters_of(core)
    stuck = deadlocked(waiters, free)
    if not stuck:
        return None
    gone = victim(waiters, free)
    if gone is None:
        able = [job for job in stuck if not _too_much(core, waiters[job])]
        gone = knot({job: waiters[job] for job in able}, able)
        if gone is None:
            return None
    story = "; ".join(_plight(job, waiters[job]) for job in stuck[:SHOWN])
    after = jobs_in_words(helped(waiters, free, gone, stuck)) or "others"
    because = f"{DEADLOCK}: {story}: job {gone} is stopped, the cheapest that lets {after} go on"
    return StopDecided(
        job=gone, attempt=core.jobs[gone].attempt, then=Phase.PENDING, because=because
    )


def _too_much(core: Core, waiter: Waiter) -> bool:
    """Whether somebody waits for more than there is: whoever is stopped, it does not go on."""
    return any(
        amount + waiter.held.get(name, 0) > core.named.amount(name)
        for name, amount in waiter.waits.items()
    )


def _plight(job: JobId, waiter: Waiter) -> str:
    return f"job {job} holds {_amounts(waiter.held)} and waits for {_amounts(waiter.waits)}"


def _amounts(amounts: Amounts) -> str:
    return ", ".join(f"{n} {name}" for name, n in sorted(amounts.items()) if n) or "nothing"
