"""Named counted resources: licences, volumes, locks. Who holds how many, and who waits for more.

What a job's spec names it holds from its placement to the end of the attempt, granted with the
placement; what it acquires while it runs it may give back earlier. All of it goes back in one
place, when the attempt is over, however it ended: so it is released exactly once.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from fairlead.core.jobs import Job
from fairlead.model.base import JobId, Misuse, Ms, Refused
from fairlead.model.events import (
    Asked,
    Event,
    Granted,
    Released,
    ResourceDeleted,
    ResourceSet,
    Withdrawn,
)
from fairlead.model.jobs import JobSpec, Phase, Resource

if TYPE_CHECKING:
    from fairlead.core.engine import Core

KEYS_KEPT = 32  # of requests that were granted, per attempt: a client may ask again whether it was
GOING_ON = (Phase.STARTING, Phase.RUNNING)
Amounts: TypeAlias = Mapping[str, int]


class Ask(NamedTuple):
    """A request of a running job that was not granted yet."""

    number: int  # the sequence number of the event that brought it: the order of waiting
    job: JobId
    attempt: int
    name: str
    amount: int
    at_ms: Ms
    key: str = ""


class Holding:
    """What one live job holds."""

    __slots__ = ("acquired", "attempt", "granted", "spec")

    def __init__(self, spec: JobSpec, attempt: int) -> None:
        self.spec, self.attempt = spec, attempt
        self.acquired: dict[str, int] = {}  # while it runs
        self.granted: tuple[str, ...] = ()  # keys of the last requests that were granted

    def copy(self) -> Holding:
        """Return an independent copy."""
        other = Holding(self.spec, self.attempt)
        other.acquired, other.granted = dict(self.acquired), self.granted
        return other

    def held(self) -> dict[str, int]:
        """Return all it holds, by name."""
        found = dict(self.spec.counted)
        for name, amount in self.acquired.items():
            found[name] = found.get(name, 0) + amount
        return found

    def need(self) -> dict[str, int]:
        """Return the most that it may still ask for, by name."""
        left = ((name, most - self.acquired.get(name, 0)) for name, most in self.spec.may_acquire)
        return {name: amount for name, amount in left if amount > 0}


class Named:
    """The named resources of one core. Only the core writes to it."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.resources: dict[str, Resource] = {}
        self.held: dict[str, int] = {}
        self.live: dict[JobId, Holding] = {}  # of jobs that hold some, or may ask for some
        self.needy: dict[JobId, Holding] = {}  # of those, the ones that may ask for some
        self.asks: dict[int, Ask] = {}  # by number, which is the order of waiting
        self.drained: set[str] = set()  # more is held than there is: somebody has lowered it

    def handlers(self) -> dict[type[Event], Callable[[Any], None]]:
        """Return what to do for each event of named resources."""
        return {
            ResourceSet: self._resource_set,
            ResourceDeleted: self._resource_deleted,
            Asked: self._asked,
            Granted: self._granted,
            Withdrawn: self._withdrawn,
            Released: self._released,
        }

    def copy(self, core: Core) -> Named:
        """Return an independent copy, of another core."""
        other = Named(core)
        other.resources, other.held = dict(self.resources), dict(self.held)
        other.live = {job: each.copy() for job, each in self.live.items()}
        other.needy = {job: other.live[job] for job in self.needy}
        other.asks, other.drained = dict(self.asks), set(self.drained)
        return other

    # ---- change -------------------------------------------------------------------------------

    def take(self, job: Job) -> None:
        """A job was placed: it holds what its spec names."""
        spec = job.spec
        if spec.counted or spec.may_acquire:
            holding = self.live[job.id] = Holding(spec, job.attempt)
            if spec.may_acquire:
                self.needy[job.id] = holding
            for name, amount in spec.counted:
                self._take(name, amount, f"job {job.id}")

    def _take(self, name: str, amount: int, who: str) -> None:
        free = self.free(name)
        assert free >= amount, f"{who} would get {amount} {name}, of {free} that are free"
        self.held[name] = self.held.get(name, 0) + amount

    def give(self, job: Job) -> None:
        """An attempt is over: what it held is free, and it waits for nothing."""
        holding = self.live.pop(job.id, None)
        if holding is None:
            return
        self.needy.pop(job.id, None)
        assert holding.attempt == job.attempt, f"job {job.id}: held by attempt {holding.attempt}"
        for name, amount in holding.held().items():
            self._give(name, amount)
        for number in [ask.number for ask in self.asks.values() if ask.job == job.id]:
            del self.asks[number]

    def _give(self, name: str, amount: int) -> None:
        self.held[name] -= amount
        assert self.held[name] >= 0, f"more {name} was given back than was held"
        if name in self.drained and self.free(name) >= 0:
            self.drained.discard(name)

    def _resource_set(self, event: ResourceSet) -> None:
        resource = event.resource
        self.resources[resource.name] = resource
        self.held.setdefault(resource.name, 0)
        self.drained.discard(resource.name)
        if self.free(resource.name) < 0:
            self.drained.add(resource.name)
        self.core.wakeups += 1

    def _resource_deleted(self, event: ResourceDeleted) -> None:
        held = self.held.pop(event.name, 0)
        assert not held, f"{held} {event.name} are held: {event}"
        self.resources.pop(event.name, None)
        self.drained.discard(event.name)
        self.core.wakeups += 1

    def current(self, job_id: JobId, attempt: int) -> Holding | None:
        """Return what an attempt holds if it goes on; None for whatever is stale."""
        job, holding = self.core.jobs.get(job_id), self.live.get(job_id)
        if job is None or holding is None or holding.attempt != attempt:
            return None
        return holding if job.phase in GOING_ON else None

    def _asked(self, event: Asked) -> None:
        core = self.core
        holding = self.current(event.job, event.attempt)
        if holding is None or (event.key and self.knows(event.job, event.key)):
            return
        self.asks[core.seq] = Ask(
            core.seq, event.job, event.attempt, event.name, event.amount, core.now, event.key
        )
        core.note(core.jobs[event.job])

    def knows(self, job: JobId, key: str) -> bool:
        """Whether a job's request with this key waits or was granted lately."""
        holding = self.live.get(job)
        return holding is not None and (key in holding.granted or self.ask_of(job, key) is not None)

    def ask_of(self, job: JobId, key: str) -> Ask | None:
        """Return the request of a job with this key that still waits."""
        return next((ask for ask in self.asks.values() if (ask.job, ask.key) == (job, key)), None)

    def _granted(self, event: Granted) -> None:
        ask = self.asks.pop(event.ask, None)
        holding = self.current(event.job, event.attempt)
        assert ask is not None and holding is not None, f"nobody waits for this: {event}"
        assert (ask.job, ask.name, ask.amount) == (event.job, event.name, event.amount), event
        self._take(ask.name, ask.amount, f"job {ask.job}")
        holding.acquired[ask.name] = holding.acquired.get(ask.name, 0) + ask.amount
        most = dict(holding.spec.may_acquire).get(ask.name, 0)
        assert holding.acquired[ask.name] <= most, f"more than it said that it may: {event}"
        if ask.key:
            holding.granted = (*holding.granted, ask.key)[-KEYS_KEPT:]
        self.core.note(self.core.jobs[event.job])

    def _withdrawn(self, event: Withdrawn) -> None:
        ask = self.asks.get(event.ask)
        if ask is not None and (ask.job, ask.attempt) == (event.job, event.attempt):
            del self.asks[event.ask]
            self.core.wakeups += 1  # those that waited behind it

    def _released(self, event: Released) -> None:
        holding = self.current(event.job, event.attempt)
        if holding is None or holding.acquired.get(event.name, 0) < event.amount:
            return  # the attempt is over, or it was released already
        holding.acquired[event.name] -= event.amount
        if not holding.acquired[event.name]:
            del holding.acquired[event.name]
        self._give(event.name, event.amount)
        self.core.wakeups += 1

    def restore(
        self, resources: Iterable[Resource], acquired: Mapping[JobId, Holding], asks: Iterable[Ask]
    ) -> None:
        """Set everything anew, from a snapshot."""
        self.resources = {each.name: each for each in resources}
        self.live, self.asks = dict(acquired), {ask.number: ask for ask in asks}
        self.needy = {job: each for job, each in self.live.items() if each.spec.may_acquire}
        self.held = dict.fromkeys(self.resources, 0)
        for holding in self.live.values():
            for name, amount in holding.held().items():
                self.held[name] = self.held.get(name, 0) + amount
        self.drained = {name for name in self.resources if self.free(name) < 0}

    # ---- read ---------------------------------------------------------------------------------

    def free(self, name: str) -> int:
        """Return how many are free: below zero where the amount was lowered below what is held."""
        resource = self.resources.get(name)
        return (resource.amount if resource else 0) - self.held.get(name, 0)

    def amount(self, name: str) -> int:
        """Return how many there are, 0 of what does not exist."""
        resource = self.resources.get(name)
        return resource.amount if resource else 0

    def waiting(self) -> Iterator[Ask]:
        """Yield the requests that wait, in order; those of jobs that are stopping do not."""
        jobs = self.core.jobs
        for ask in self.asks.values():
            if jobs[ask.job].phase in GOING_ON:
                yield ask

    def holders(self, name: str) -> list[tuple[JobId, int]]:
        """Return (job, amount) of those that hold some, by job."""
        found = ((job, holding.held().get(name, 0)) for job, holding in self.live.items())
        return sorted((job, amount) for job, amount in found if amount)

    def in_order(self, amounts: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
        """Return amounts in the global order (kind, name); what does not exist comes last."""
        last = (len(self.resources), "")

        def rank(item: tuple[str, int]) -> tuple[int, str]:
            resource = self.resources.get(item[0])
            return resource.rank if resource else last

        return sorted(amounts, key=rank)


def unknown_name(core: Core, name: str, field: str) -> Misuse:
    """Return what to say of a name that no resource has."""
    known = core.named.resources
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean '{close[0]}'?" if close else "the resources are: " + ", ".join(known)
    if not known:
        hint = f"make it first: fairlead resource create {name} --amount 1"
    return Misuse(f"there is no resource '{name}'", field=field, hint=hint, code="unknown-resource")


def check_spec(core: Core, spec: JobSpec) -> None:
    """Raise Misuse for resources that do not exist, Refused for more than there is."""
    if not spec.counted and not spec.may_acquire:
        return
    if spec.deadline_ms is not None:
        raise Refused(
            "a start cannot be promised to a job that needs named resources: they are not planned",
            field="deadline",
            hint="leave the deadline out, or the licenses",
            code="not-supported",
        )
    least = dict(spec.counted)
    for field, amounts in (("licenses", spec.counted), ("may_acquire", spec.may_acquire)):
        for name, amount in amounts:
            if name not in core.named.resources:
                raise unknown_name(core, name, field)
            most = core.named.amount(name)
            asked = amount + (least.get(name, 0) if field == "may_acquire" else 0)
            if asked > most:
                raise Refused(
                    f"can never run: there are {most} {name}, this job asks for {asked}",
                    field=field,
                    hint=f"ask for less, or: fairlead resource edit {name} --amount {asked}",
                    code="never-fits",
                )
