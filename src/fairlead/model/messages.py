"""What the service and an agent say to each other. Both directions are level-triggered.

The service sends the *whole* desired state of a node, the agent reports its *whole* actual
state. A message that is lost, repeated, delayed or reordered therefore does no harm:
`Desired.version` is the length of the durable log it was derived from, an agent ignores a
version older than one it has seen, and a report says which version it had seen when it was made
(so "the agent does not have it" can be told from "the agent does not have it yet").
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from fairlead.model.base import JobId, Ms, Record
from fairlead.model.jobs import Exit, JobSpec
from fairlead.model.resources import Shape

MemberKey: TypeAlias = tuple[int, int, int]  # job, attempt, rank


class Launch(Record, frozen=True):
    """Start this member once, if it was never seen before. `rank` is the number it is known by.

    placed: the version of the log that placed it. An agent that comes back starts nothing that
    an earlier life of it had seen placed: its absence from a report has proved it lost.
    """

    job: JobId
    attempt: int
    rank: int
    spec: JobSpec
    placed: int = 0
    devices: tuple[int, ...] = ()
    nodes: tuple[str, ...] = ()  # address (or name) of every rank's node, in rank order
    local_rank: int = 0  # which of this job's members on this node it is, from 0
    # Of an elastic job: the rank among its present members (`rank` is the member's number), and
    # how often the membership had changed.
    place: int | None = None
    generation: int = 0

    @property
    def key(self) -> MemberKey:
        """Return the member's identity."""
        return (self.job, self.attempt, self.rank)

    @property
    def shape(self) -> Shape:
        """Return what this member asks for: not every member of a gang need ask for the same."""
        return self.spec.shape.of(self.rank)

    @property
    def command(self) -> tuple[str, ...]:
        """Return what this member runs."""
        worker = self.spec.worker(self.rank)
        return (worker[0].command if worker else ()) or self.spec.command


class Membership(Record, frozen=True):
    """Who is in the gang of an elastic job now: its members by rank, without those that leave."""

    job: JobId
    attempt: int
    generation: int
    numbers: tuple[int, ...]
    nodes: tuple[str, ...]


class Desired(Record, frozen=True, tag_field="kind", tag="desired"):
    """All that should be on a node. Members in none of the lists are orphans: stop them.

    boot: the life of the node that it was meant for; an agent of another life ignores it, since
    what it would start then is about to be declared lost. "": any.
    run: members that should run; the agent launches those it does not know.
    keep: members that run already by the agent's own word: leave them, launch nothing.
    stop: members to stop (notice signal, grace, kill).
    kill: those of `stop` that get no grace, or no more of it.
    forget: members whose end is durable in the log; the agent may drop its record of them.
    teams: the memberships of the elastic jobs that have members here.
    """

    version: int
    boot: str = ""
    run: tuple[Launch, ...] = ()
    keep: tuple[MemberKey, ...] = ()
    stop: tuple[MemberKey, ...] = ()
    kill: tuple[MemberKey, ...] = ()
    forget: tuple[MemberKey, ...] = ()
    teams: tuple[Membership, ...] = ()


class Progress(Record, frozen=True):
    """What a member has said of how far its job is, counted from the beginning of the job.

    steps: -1 when it has said nothing of that. at_ms: since when it is so far, by the node's own
    clock. malformed, backwards: lines that were ignored; odd: the first of them, in words.
    """

    steps: int = -1
    samples: int = -1
    at_ms: Ms = 0
    malformed: int = 0
    backwards: int = 0
    odd: str = ""


class MemberState(Record, frozen=True):
    """One member as the agent sees it. `exit` is set iff state is "ended"."""

    job: JobId
    attempt: int
    rank: int
    state: Literal["starting", "running", "stopping", "ended"]
    exit: Exit | None = None
    started_ms: Ms | None = None  # by the node's own clock; for display and accounting only
    ended_ms: Ms | None = None
    checkpoint_ms: Ms | None = None  # when its work was last saved
    progress: Progress | None = None  # None: it has said nothing

    @property
    def key(self) -> MemberKey:
        """Return the member's identity."""
        return (self.job, self.attempt, self.rank)


class Report(Record, frozen=True, tag_field="kind", tag="report"):
    """All that is on a node: every member that runs, stops, or ended and was not forgotten.

    boot: the node's life (differs after a reboot). seen: the newest Desired.version applied, in
    this life of the node.
    """

    node: str
    boot: str
    seen: int
    members: tuple[MemberState, ...] = ()
