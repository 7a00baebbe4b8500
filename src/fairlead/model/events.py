"""Everything that can happen. `Core.apply` of these, in log order, is the whole of history.

Events are facts: decisions too (`Placed`, `StopDecided`) are logged and never recomputed.
The log stores each as JSON with its `kind`. A released kind keeps its fields; new fields have
defaults; tests/golden replays the logs of every release.
"""

from __future__ import annotations

from typing import TypeAlias

from fairlead.model.advice import Share
from fairlead.model.base import JobId, Ms, NodeId, Record
from fairlead.model.jobs import (
    Exit,
    Forecast,
    JobSpec,
    Phase,
    PolicyConfig,
    Queue,
    Reservation,
    Resource,
    Speed,
    Tenant,
    User,
)
from fairlead.model.resources import Node, Slot


class Event(Record, frozen=True, tag_field="kind"):
    """Base of all events."""


class NodeJoined(Event, frozen=True, tag="node-joined"):
    """A node is up with this capacity: new (id = number of known nodes), back, or changed.

    In one life of the node devices keep their indices; new ones come after them. Another `boot`,
    or devices that do not begin with the known ones, mean that whatever ran there is gone.
    What others use there is to be said again (ForeignUsage).
    """

    node: NodeId
    spec: Node


class NodeLost(Event, frozen=True, tag="node-lost"):
    """A node is gone for good or fenced: whatever ran there runs no more."""

    node: NodeId
    because: str = ""


class ForeignUsage(Event, frozen=True, tag="foreign-usage"):
    """What others, not Fairlead, now use on a node: amounts in the order of DIMENSIONS.

    `devices` are indices of GPUs that a foreign process occupies; they are given to no job.
    """

    node: NodeId
    amounts: tuple[int, ...]
    devices: tuple[int, ...] = ()


class TenantSet(Event, frozen=True, tag="tenant-set"):
    """Create or replace a tenant."""

    tenant: Tenant


class QueueSet(Event, frozen=True, tag="queue-set"):
    """Create or replace a queue."""

    queue: Queue


class TenantDeleted(Event, frozen=True, tag="tenant-deleted"):
    """A tenant's quota and weight are forgotten; its jobs go on."""

    name: str


class QueueDeleted(Event, frozen=True, tag="queue-deleted"):
    """A queue is no more; it is empty, and so are those below it."""

    name: str


class UserSet(Event, frozen=True, tag="user-set"):
    """Create or replace a user's share and limits."""

    user: User


class UserDeleted(Event, frozen=True, tag="user-deleted"):
    """A user has no share and limits of its own any more."""

    name: str


class PolicySet(Event, frozen=True, tag="policy-set"):
    """From here on this policy decides."""

    policy: PolicyConfig


class Submitted(Event, frozen=True, tag="submitted"):
    """A job was accepted. `request` is the client's idempotency key, "" for none."""

    job: JobId
    spec: JobSpec
    request: str = ""


class Placed(Event, frozen=True, tag="placed"):
    """Decided: this attempt starts on these slots (slot i is rank i)."""

    job: JobId
    attempt: int
    slots: tuple[Slot, ...]
    because: str = ""


class StopDecided(Event, frozen=True, tag="stop-decided"):
    """Decided: stop this attempt; when it is gone the job goes to `then`."""

    job: JobId
    attempt: int
    then: Phase  # PENDING after preemption, CANCELLED after a cancel, TIMEOUT at the limit
    because: str = ""
    now: bool = False  # kill at once, without notice and grace
    beneficiary: JobId | None = None  # the waiting job that it makes room for


class Grown(Event, frozen=True, tag="grown"):
    """Decided: members on these slots join a running elastic job, after those it has."""

    job: JobId
    attempt: int
    slots: tuple[Slot, ...]
    because: str = ""


class Shrunk(Event, frozen=True, tag="shrunk"):
    """Decided: of a running elastic job `members` stay, and the last ones are told to leave.

    Each gives its slot back when it is confirmed gone; the job goes on.
    """

    job: JobId
    attempt: int
    members: int
    because: str = ""


class Cancelled(Event, frozen=True, tag="cancelled"):
    """A pending job was cancelled (a running one is stopped by StopDecided)."""

    job: JobId
    because: str = ""


class MemberStarted(Event, frozen=True, tag="started"):
    """The agent confirmed that a member's process runs, since `at_ms` by the node's clock."""

    job: JobId
    attempt: int
    rank: int = 0
    at_ms: Ms | None = None


class MemberEnded(Event, frozen=True, tag="ended"):
    """The agent confirmed that a member is gone, its whole process tree with it, since `at_ms`."""

    job: JobId
    attempt: int
    exit: Exit
    rank: int = 0
    at_ms: Ms | None = None


class Forecasted(Event, frozen=True, tag="forecast"):
    """A prediction of a job's run time, an outside fact: made once, never recomputed."""

    job: JobId
    forecast: Forecast


class Outlived(Event, frozen=True, tag="outlived"):
    """A running attempt has outlived what was believed; now it is believed to run so long."""

    job: JobId
    attempt: int
    expected_ms: Ms  # of this attempt, from its start


class Promised(Event, frozen=True, tag="promised"):
    """Decided: a waiting job starts at this time, or earlier, on these slots.

    With `until_ms` it is a hold: room that others have to leave for it, by its id. Nobody else is
    given any of it, nor of the quota it takes, from now until the job starts or that time comes.
    With `move_for` the job runs yet: it is stopped once these slots are free, and starts there.
    """

    job: JobId
    start_ms: Ms
    slots: tuple[Slot, ...] = ()  # empty: the promise is taken back, `because` says why
    because: str = ""
    until_ms: Ms | None = None
    move_for: JobId | None = None  # the waiting job that this makes room for; 0: for none yet
    # Of a gang with different workers of which only some keep their slots: their ranks.
    ranks: tuple[int, ...] = ()


class Checkpointed(Event, frozen=True, tag="checkpointed"):
    """A running job has saved its work: what it did before `at_ms` is not lost when it stops."""

    job: JobId
    attempt: int
    at_ms: Ms | None = None  # by the node's clock; None: now


class Promoted(Event, frozen=True, tag="promoted"):
    """Decided: a job that sank by its attained service is back at the top."""

    job: JobId


class ReservationSet(Event, frozen=True, tag="reservation-set"):
    """Create or replace a reservation; a drain is one without an end and for nobody."""

    reservation: Reservation


class ReservationDeleted(Event, frozen=True, tag="reservation-deleted"):
    """A reservation is no more: deleted, or over."""

    name: str


class ResourceSet(Event, frozen=True, tag="resource-set"):
    """Create or replace a named resource."""

    resource: Resource


class ResourceDeleted(Event, frozen=True, tag="resource-deleted"):
    """A named resource is no more; nobody holds any of it."""

    name: str


class Asked(Event, frozen=True, tag="asked"):
    """A running job asks for more of a named resource, and waits in order until it gets it.

    The event's sequence number is the request's. `key` is the client's: the same again is one
    request.
    """

    job: JobId
    attempt: int
    name: str
    amount: int
    key: str = ""


class Granted(Event, frozen=True, tag="granted"):
    """Decided: a running job gets what it asked for with request number `ask`."""

    job: JobId
    attempt: int
    ask: int
    name: str
    amount: int


class Withdrawn(Event, frozen=True, tag="withdrawn"):
    """A running job does not wait for its request number `ask` any more."""

    job: JobId
    attempt: int
    ask: int
    because: str = ""


class Released(Event, frozen=True, tag="released"):
    """A running job gives back some of what it acquired."""

    job: JobId
    attempt: int
    name: str
    amount: int


class Progressed(Event, frozen=True, tag="progressed"):
    """A running attempt has made so many steps of its job, says the job itself."""

    job: JobId
    attempt: int
    steps: int
    at_ms: Ms | None = None  # by the node's clock; None: now


class SpeedSet(Event, frozen=True, tag="speed-set"):
    """Somebody tells how fast jobs are: it holds whatever is measured."""

    speed: Speed


class SpeedDeleted(Event, frozen=True, tag="speed-deleted"):
    """What was told and measured of a type and width on a kind of device is forgotten."""

    job_type: str
    width_milli: int
    model: str


class Parted(Event, frozen=True, tag="parted"):
    """Decided: two jobs that share a GPU do not go well together; their types share no more.

    `job` is stopped for it; on this device model, and until their speeds are forgotten.
    """

    job: JobId
    other: JobId
    model: str
    because: str = ""


class Advised(Event, frozen=True, tag="advised"):
    """A plan has been made, an outside fact: it holds until the next one.

    `gap_ppm`: at most so far from the best plan, in millionths; None: not known. `took_us`:
    measured by whoever asked. `seen`: the state of affairs when it was asked for; (): as it is now.
    """

    adviser: str
    plan: tuple[Share, ...]
    because: str = ""
    gap_ppm: int | None = None
    took_us: int = 0
    seen: tuple[int, ...] = ()


AnyEvent: TypeAlias = (
    NodeJoined
    | NodeLost
    | ForeignUsage
    | TenantSet
    | TenantDeleted
    | QueueSet
    | QueueDeleted
    | UserSet
    | UserDeleted
    | PolicySet
    | Submitted
    | Placed
    | StopDecided
    | Grown
    | Shrunk
    | Cancelled
    | MemberStarted
    | MemberEnded
    | Forecasted
    | Outlived
    | Promised
    | Checkpointed
    | Promoted
    | ReservationSet
    | ReservationDeleted
    | ResourceSet
    | ResourceDeleted
    | Asked
    | Granted
    | Withdrawn
    | Released
    | Progressed
    | SpeedSet
    | SpeedDeleted
    | Parted
    | Advised
)
