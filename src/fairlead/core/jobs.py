"""One job inside the core, and the table of transitions that every change goes through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

from fairlead.core.team import Team
from fairlead.model.base import JobId, Ms
from fairlead.model.events import (
    Cancelled,
    Event,
    Grown,
    MemberEnded,
    MemberStarted,
    NodeLost,
    Placed,
    Shrunk,
    StopDecided,
    Submitted,
)
from fairlead.model.jobs import FINAL, Exit, Forecast, JobSpec, Phase
from fairlead.model.resources import Slot


class Job:
    """A pending or live job. Only `Core` writes to it."""

    __slots__ = (
        "attempt",
        "because",
        "beneficiary",
        "broken",
        "checkpoint_ms",
        "crowd_ms",
        "ended_ms",
        "exits",
        "failures",
        "first_started_ms",
        "forecast",
        "fruitless",
        "id",
        "kill",
        "last_ms",
        "made_room",
        "pending_ms",
        "phase",
        "placed_ms",
        "preemptions",
        "progress",
        "promise",
        "promoted_served_ms",
        "served_ms",
        "shape_id",
        "slots",
        "spec",
        "started",
        "started_ms",
        "submitted_ms",
        "team",
        "then",
        "token",
        "token_placed",
        "waited_ms",
        "worst",
    )

    def __init__(self, job: JobId, spec: JobSpec, shape_id: int, submitted_ms: Ms, token: int):
        self.id = job
        self.spec = spec
        self.shape_id = shape_id
        self.submitted_ms = submitted_ms
        self.token = token  # core.seq when it last became pending: tells one wait from the next
        self.token_placed = 0  # core.seq of the last placement: the log that launches it
        self.phase = Phase.PENDING
        self.attempt = 0
        self.failures = 0  # attempts that failed by the job's own fault, for `retries`
        self.slots: tuple[Slot, ...] = ()  # held now, or by the last attempt: one per member
        self.broken = False  # stops, or waits, since a member was lost: what is left is held for it
        self.team: Team | None = None  # of an elastic job that is live
        self.started: set[int] = set()  # ranks confirmed running at some time in this attempt
        self.exits: dict[int, Exit] = {}  # ranks confirmed gone, in order
        self.worst: Exit | None = None  # of this attempt: the first bad exit, else a good one
        self.kill = False  # stopping without grace
        self.then: Phase | None = None  # where a stopping job goes
        self.placed_ms: Ms | None = None
        self.started_ms: Ms | None = None
        self.first_started_ms: Ms | None = None
        self.last_ms: Ms = 0  # the last start or end of a member in this attempt
        self.ended_ms: Ms | None = None
        self.because = ""
        self.forecast: Forecast | None = None
        self.progress: Progress | None = None  # what it last said itself, in any attempt
        self.promise: Promise | None = None
        self.served_ms: Ms = 0  # run time of earlier attempts
        self.crowd_ms = 0  # the core's, when it was submitted
        self.preemptions = 0  # how often a policy stopped it so that it runs again later
        self.checkpoint_ms: Ms | None = None  # when it last said that its work is saved
        self.fruitless = 0  # preemptions since it last saved its work, or since it came
        self.made_room: tuple[JobId, ...] = ()  # for whom, the last few times
        self.beneficiary: JobId | None = None  # for whom it stops, or stopped last
        # For orders by attained service: since when it waits, what it had waited before, and what
        # it had run, both since it was last moved back to the top.
        self.pending_ms: Ms = submitted_ms
        self.waited_ms: Ms = 0
        self.promoted_served_ms: Ms = 0

    @property
    def ranks(self) -> Sequence[int]:
        """The numbers by which the members are known that hold the slots, in the same order."""
        return range(len(self.slots)) if self.team is None else self.team.numbers

    def slot(self, rank: int) -> Slot:
        """Return the slot of the member that is known by this number."""
        return self.slots[rank if self.team is None else self.team.numbers.index(rank)]

    @property
    def staying(self) -> tuple[Slot, ...]:
        """The slots of the members that were not told to leave, in the order of their ranks."""
        return self.slots if self.team is None else self._slots(leaving=False)

    @property
    def leaving(self) -> tuple[Slot, ...]:
        """The slots of the members that were told to leave while the job goes on."""
        return () if self.team is None else self._slots(leaving=True)

    def _slots(self, *, leaving: bool) -> tuple[Slot, ...]:
        assert self.team is not None
        going = self.team.leaving
        pairs = zip(self.team.numbers, self.slots, strict=True)
        return tuple([slot for number, slot in pairs if (number in going) is leaving])

    def launched_by(self, rank: int) -> int:
        """Return core.seq of the event that placed a member: the log that launches it."""
        if self.team is None:
            return self.token_placed
        return self.team.joined.get(rank, self.token_placed)

    def attained_ms(self, now: Ms) -> Ms:
        """Return how long the job has run in all its attempts."""
        if self.started_ms is None or self.phase is Phase.PENDING:
            return self.served_ms
        return self.served_ms + now - self.started_ms

    def unsaved_ms(self, now: Ms) -> Ms:
        """Return how long this attempt has run since its work was last saved."""
        if self.started_ms is None or self.phase is Phase.PENDING:
            return 0
        saved = self.started_ms if self.checkpoint_ms is None else self.checkpoint_ms
        unsaved = max(0, now - max(saved, self.started_ms))
        every = self.spec.checkpoint_every_ms
        return unsaved % every if every else unsaved


class Progress(NamedTuple):
    """What a job has said of itself last, and what that means for its run time."""

    steps: int
    at_ms: Ms
    attempt: int
    from_steps: int  # what it said first in this attempt, or since its size has changed
    from_ms: Ms
    # By that all its attempts together are believed to take so long; None: it is not known.
    total_ms: Ms | None = None
    disturbed: bool = False  # others came to its device or left it since: it begins anew


class Promise(NamedTuple):
    """A start that a waiting job was promised, or one that is to move: kept, or moved earlier."""

    start_ms: Ms
    slots: tuple[Slot, ...]
    run_ms: Ms  # what was believed of its run time
    until_ms: Ms | None = None  # a hold: room that others left for it, kept until then
    move_for: JobId | None = None  # it moves there to make room for this job; 0: for none yet
    ranks: tuple[int, ...] = ()  # whose slots these are, where not all ranks of different kinds

    @property
    def end_ms(self) -> Ms:
        """Return when it ends, if it starts as promised and runs as believed."""
        return self.start_ms + self.run_ms


def in_time(spec: JobSpec, promise: Promise) -> bool:
    """Whether a job that starts as promised is surely done by its deadline: by its time limit.

    Such a promise is firm. One that is too late anyway, or of a job without a limit, is not: it
    would only hold others up, for as long as somebody is wrongly believed to run.
    """
    if spec.deadline_ms is None or spec.limit_ms is None:
        return False
    return promise.start_ms + spec.limit_ms <= spec.deadline_ms


Transitions: TypeAlias = Mapping[tuple[Phase | None, type[Event]], tuple[Phase, ...]]

# Where a job goes whose last member is gone: by an exit of its own, by the loss of a node, and
# from STOPPING, where it was decided before.
_BY_EXIT = (Phase.PENDING, Phase.SUCCEEDED, Phase.FAILED, Phase.OOM, Phase.NODE_FAIL)
_BY_LOSS = (Phase.PENDING, Phase.NODE_FAIL)
_AS_DECIDED = (Phase.PENDING, *(phase for phase in FINAL if phase is not Phase.SUCCEEDED))

# (phase before, event) -> phases that may follow. What is absent here is ignored when it comes
# from outside (late, repeated and reordered reports), and our own bug when we decided it.
# docs/reference/states.md is drawn from this table.
TRANSITIONS: Transitions = {
    (None, Submitted): (Phase.PENDING,),
    (Phase.PENDING, Placed): (Phase.STARTING,),
    (Phase.PENDING, Cancelled): (Phase.CANCELLED,),
    (Phase.STARTING, MemberStarted): (Phase.STARTING, Phase.RUNNING),
    (Phase.STARTING, MemberEnded): (Phase.STARTING, Phase.RUNNING, Phase.STOPPING, *_BY_EXIT),
    (Phase.STARTING, NodeLost): (Phase.STOPPING, *_BY_LOSS),
    (Phase.STARTING, StopDecided): (Phase.STOPPING,),
    (Phase.RUNNING, MemberEnded): (Phase.RUNNING, Phase.STOPPING, *_BY_EXIT),
    (Phase.RUNNING, NodeLost): (Phase.RUNNING, Phase.STOPPING, Phase.SUCCEEDED, *_BY_LOSS),
    (Phase.RUNNING, Grown): (Phase.RUNNING,),
    (Phase.RUNNING, Shrunk): (Phase.RUNNING,),
    (Phase.RUNNING, StopDecided): (Phase.STOPPING,),
    (Phase.STOPPING, MemberStarted): (Phase.STOPPING,),
    (Phase.STOPPING, MemberEnded): (Phase.STOPPING, Phase.SUCCEEDED, *_AS_DECIDED),
    (Phase.STOPPING, NodeLost): (Phase.STOPPING, *_AS_DECIDED),
    (Phase.STOPPING, StopDecided): (Phase.STOPPING,),
}
