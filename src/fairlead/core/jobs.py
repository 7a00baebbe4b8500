"""One job inside the core, and the table of transitions that every change goes through."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from fairlead.model.base import JobId, Ms
from fairlead.model.events import (
    Cancelled,
    Event,
    MemberEnded,
    MemberStarted,
    NodeLost,
    Placed,
    StopDecided,
    Submitted,
)
from fairlead.model.jobs import FINAL, Exit, JobSpec, Phase
from fairlead.model.resources import Slot


class Job:
    """A pending or live job. Only `Core` writes to it."""

    __slots__ = (
        "attempt",
        "because",
        "ended_ms",
        "exits",
        "failures",
        "first_started_ms",
        "id",
        "kill",
        "last_ms",
        "phase",
        "placed_ms",
        "shape_id",
        "slots",
        "spec",
        "started",
        "started_ms",
        "submitted_ms",
        "then",
        "token",
        "token_placed",
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
        self.slots: tuple[Slot, ...] = ()
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
    (Phase.RUNNING, NodeLost): (Phase.STOPPING, *_BY_LOSS),
    (Phase.RUNNING, StopDecided): (Phase.STOPPING,),
    (Phase.STOPPING, MemberStarted): (Phase.STOPPING,),
    (Phase.STOPPING, MemberEnded): (Phase.STOPPING, Phase.SUCCEEDED, *_AS_DECIDED),
    (Phase.STOPPING, NodeLost): (Phase.STOPPING, *_AS_DECIDED),
    (Phase.STOPPING, StopDecided): (Phase.STOPPING,),
}
