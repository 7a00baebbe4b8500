"""What one seed stands for: nodes, jobs, clients and faults, all laid out before the world starts.

A plan is plain data, so a failing one can be cut down piece by piece, written to a file and run
again. The world adds chance only to messages and small delays, from one generator seeded by it.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from fairlead.model.base import Ms, Record
from fairlead.model.jobs import Forecast, JobSpec, PolicyConfig, Queue, Resource, Tenant, User
from fairlead.model.resources import Node, Shape

EPOCH_MS: Ms = 1_000_000_000  # what good wall clocks show when the world begins

IncidentKind: TypeAlias = Literal[
    "agent-restart",  # the agent process dies and comes back; supervisors live on
    "supervisor-kill",  # the supervisor of one running member is killed, its processes live on
    "reboot",  # everything on the node dies; a new life of the machine begins
    "wipe",  # the same, and its disk is empty or out of date
    "shrink",  # the same, and it comes back with fewer devices and cores
    "node-loss",  # it dies for good; an operator declares it lost
    "node-return",  # it dies, is declared lost, and comes back much later
    "partition",  # no message to or from the node for a while
    "crash",  # the scheduler dies between turns
    "crash-before-commit",  # … inside the n-th write from now on, before the commit (a torn tail)
    "crash-after-commit",  # … inside the n-th write from now on, after the commit
    "write-fails",  # the n-th write from now on fails
    "disk-full",  # all writes fail for a while
    "snapshot",  # an image of the core is saved
    "snapshot-damaged",  # … and altered on the disk, and the scheduler dies
    "clock-step",  # the service's wall clock jumps
    "policy",  # PolicySet
    "quota",  # TenantSet, often below what is in use
    "queue",  # QueueSet: other quotas and limits, often below what is in use
    "user",  # UserSet
    "resource",  # ResourceSet: another amount, often below what is held
    "foreign",  # others use a part of a node, or stop to
    "reserve",  # nodes or parts of them are reserved, now or soon, for a while or until told
    "unreserve",  # the n-th reservation known is deleted
    "forecast",  # the n-th job is predicted anew, right or wildly wrong
    "advice",  # a plan is made: some jobs get shares of time on models, others none
    "speed",  # somebody tells how fast a type of jobs is on a model, now and then not at all
]


class Fate(Record, frozen=True):
    """What one member's processes will do. Times in ms after the process has started.

    notice_ms: how long it goes on after the stop signal; None: it ignores it and has to be killed.
    leftover_ms: how long some child of it outlives the command. run_ms None: it hangs.
    """

    run_ms: Ms | None
    code: int = 0
    start_ms: Ms = 20
    notice_ms: Ms | None = 50
    notice_code: int | None = None  # exit code after the notice; None: dies of the signal
    leftover_ms: Ms = 0
    cannot_start: bool = False
    mute: bool = False  # the word that it has started gets lost on the way to the agent


class JobPlan(Record, frozen=True):
    """One job, what its members do (by attempt, then rank; the last ones repeat), and its end."""

    spec: JobSpec
    fates: tuple[Fate, ...]
    cancel_after_ms: Ms | None = None  # the client asks for it so long after it was answered
    cancel_now: bool = False  # … and again half a second later, without grace
    forecast: Forecast | None = None  # what the service predicts when it takes the job
    # What it takes of named resources while it runs, each time: name, amount, so long after its
    # first process has started, and for how long (None: to its end).
    takes: tuple[tuple[str, int, Ms, Ms | None], ...] = ()

    def fate(self, attempt: int, rank: int) -> Fate:
        """Return what this member of this attempt does."""
        rank %= self.spec.shape.members  # those that join an elastic job do as the first ones
        index = (attempt - 1) * self.spec.shape.members + rank
        last = len(self.fates) - self.spec.shape.members
        return self.fates[min(index, last + rank)]


class RequestPlan(Record, frozen=True):
    """One call of a client: jobs submitted together under one key ("": none, never repeated)."""

    at_ms: Ms
    key: str
    jobs: tuple[str, ...]  # names in Plan.jobs
    tries: int | None = None  # it vanishes after so many tries; None: repeats until answered
    eager: bool = False  # repeats at once, without waiting for an answer


class ReservePlan(Record, frozen=True):
    """A reservation as an operator asks for it: nodes by name, times from when it is heard."""

    name: str
    nodes: tuple[str, ...]
    after_ms: Ms = 0
    for_ms: Ms | None = None  # None: a drain, until it is deleted
    tenants: tuple[str, ...] = ()
    shape: Shape | None = None  # None: whole nodes; else one such slot on each


class Incident(Record, frozen=True):
    """One fault at one time. `amount` is what the kind needs: a node, a number, a duration."""

    at_ms: Ms
    kind: IncidentKind
    node: str = ""
    amount: int = 0
    for_ms: Ms = 0
    foreign: tuple[int, ...] = ()
    devices: tuple[int, ...] = ()
    policy: PolicyConfig | None = None
    tenant: Tenant | None = None
    queue: Queue | None = None
    user: User | None = None
    resource: Resource | None = None
    reservation: ReservePlan | None = None
    forecast: Forecast | None = None


class Weather(Record, frozen=True):
    """What the network does to messages while faults are on: chances in thousandths."""

    lost: int = 0
    repeated: int = 0
    delayed: int = 0
    delay_max_ms: Ms = 0
    delay_usual_ms: Ms = 5  # every message takes 1 to this; the order is not kept


class Plan(Record, frozen=True):
    """Everything that a seed stands for."""

    seed: int
    until_ms: Ms  # faults until then, silence after
    nodes: tuple[Node, ...]
    jobs: dict[str, JobPlan]
    requests: tuple[RequestPlan, ...]
    incidents: tuple[Incident, ...]
    weather: Weather
    policy: PolicyConfig
    tenants: tuple[Tenant, ...] = ()
    queues: tuple[Queue, ...] = ()  # parents first
    users: tuple[User, ...] = ()
    resources: tuple[Resource, ...] = ()
    skews: dict[str, Ms] = {}  # by how much the clocks of some nodes are wrong
    snapshot_events: int = 100_000  # the service saves an image after so many events
    heartbeat_ms: Ms = 60_000
    luck: int = 0  # another fate of messages; a shrunk plan may need it to fail as before

    def mix(self) -> str:
        """Return the faults of this plan in words, for the report of a failure."""
        counts: dict[str, int] = {}
        for incident in self.incidents:
            counts[incident.kind] = counts.get(incident.kind, 0) + 1
        parts = [f"{kind} x{count}" for kind, count in sorted(counts.items())]
        if self.skews:
            parts.append(f"wrong clocks x{len(self.skews)}")
        weather = self.weather
        if weather.lost or weather.repeated or weather.delayed:
            parts.append(
                f"messages lost {weather.lost}‰, repeated {weather.repeated}‰, delayed "
                f"{weather.delayed}‰ by up to {weather.delay_max_ms / 1000:g} s"
            )
        return ", ".join(parts) or "no faults"
