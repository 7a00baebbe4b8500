"""Jobs: what a user asks for, and the phases a job goes through."""

from __future__ import annotations

import enum
from typing import Literal

from fairlead.model import limits
from fairlead.model.base import JobId, Ms, NodeId, Record
from fairlead.model.resources import Shape, Slot


class Phase(enum.StrEnum):
    """Where a job is. The words are those that users see."""

    PENDING = "PENDING"
    STARTING = "STARTING"  # decided and durable; the agent has not confirmed every member yet
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"  # holds its resources until every member is confirmed gone
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMEOUT = "TIMEOUT"
    OOM = "OOM"
    NODE_FAIL = "NODE_FAIL"


LIVE = (Phase.STARTING, Phase.RUNNING, Phase.STOPPING)  # the phases that hold resources
FINAL = (
    Phase.SUCCEEDED,
    Phase.FAILED,
    Phase.CANCELLED,
    Phase.TIMEOUT,
    Phase.OOM,
    Phase.NODE_FAIL,
)


class Workers(Record, frozen=True):
    """Some of the members of a job, ranks in a row, under a name of their own."""

    name: str
    members: int = 1
    command: tuple[str, ...] = ()  # (): the job's


class JobSpec(Record, frozen=True):
    """A job as asked for, after validation; never changes. Times in ms, sizes in MiB."""

    shape: Shape
    name: str = ""
    user: str = ""  # who submitted
    tenant: str = "default"  # who pays: team, account, project
    queue: str = "default"
    priority: int = 50
    command: tuple[str, ...] = ()
    workdir: str = ""
    env: dict[str, str] = {}
    limit_ms: Ms | None = None  # the user's own bound on run time; the job is stopped at it
    # What shortest-first sorts by: an estimate, or the truth in a replay.
    expected_ms: Ms | None = None
    stop_signal: int = 15  # the notice; after grace_ms the whole process tree is killed
    grace_ms: Ms = limits.GRACE_MS_DEFAULT
    retries: int = 0  # further attempts after a failure of the job's own; node loss does not count
    output_bytes: int = limits.OUTPUT_BYTES_DEFAULT
    array: JobId | None = None  # the first job of the array
    array_index: int = 0
    array_count: int = 0
    labels: tuple[tuple[str, str], ...] = ()
    deadline_ms: Ms | None = None  # the time by which it has to be done; admitted only if it can be
    preemptible: bool = True  # False: once it runs, no order takes its place from it
    # Elastic: it starts with shape.members, and may have up to so many while it runs. 0: it is not.
    members_max: int = 0
    resize_signal: int = 0  # tells running members that the membership has changed; 0: no signal
    # Named resources (class Resource), sorted by name: what it holds from its placement to the end
    # of the attempt, and the most that it may acquire beyond that while it runs.
    counted: tuple[tuple[str, int], ...] = ()
    may_acquire: tuple[tuple[str, int], ...] = ()
    restart_ms: Ms | None = None  # what it costs to start again; None: what the policy says
    checkpoint_path: str = ""  # what it writes when it saves its work, from workdir
    checkpoint_every_ms: Ms | None = None  # believed as long as it says nothing itself
    job_type: str = ""  # jobs of one type and width run equally fast; empty: its user and name
    steps: int = 0  # that it makes in all; 0: not known

    @property
    def kind(self) -> str:
        """Return the type of the job, by which speeds are known; "": nothing tells it."""
        if self.job_type:
            return self.job_type
        return f"{self.user}/{self.name}" if self.name else ""

    workers: tuple[Workers, ...] = ()  # different kinds of members, in the order of their ranks

    def worker(self, rank: int) -> tuple[Workers, int] | None:
        """Return which workers a rank belongs to and its index among them; None: all are alike."""
        for each in self.workers:
            if rank < each.members:
                return each, rank
            rank -= each.members
        return None

    def kind_names(self) -> list[str]:
        """Return the names of each kind of members that the shape tells apart."""
        found, first = list[str](), 0
        for kind in self.shape.parts():
            ranks = (self.worker(rank) for rank in range(first, first + kind.members))
            found.append("/".join(dict.fromkeys(each[0].name for each in ranks if each)))
            first += kind.members
        return found


FORECAST_PERCENTS = (5, 10, 25, 50, 75, 90, 95)


class Forecast(Record, frozen=True):
    """What is believed of a job's run time: a fact of the moment at which it was made.

    `quantiles_ms` are the run times at FORECAST_PERCENTS, ascending, () where only a point is
    known. None of it exceeds the job's own time limit, and all of it is at least 1 ms.
    """

    expected_ms: Ms  # what orders and plans go by
    quantiles_ms: tuple[Ms, ...] = ()
    model: str = ""  # who says so, for people


class Exit(Record, frozen=True):
    """How one member ended: exactly one of code, signal, or a word in `why`.

    why: "" | "lost" (node or supervisor gone, exit unknown) | "cannot-start" | "oom".
    An OOM kill has why="oom" and, where known, the signal.
    """

    code: int | None = None
    signal: int | None = None
    why: str = ""
    detail: str = ""

    @property
    def ok(self) -> bool:
        """Whether the member ended well."""
        return self.code == 0 and not self.why


class Tenant(Record, frozen=True):
    """Who work is accounted to. quota: the most in use at once; None in it: no limit."""

    name: str
    weight: int = 1
    quota: tuple[int | None, ...] = ()  # in the order of DIMENSIONS; empty: no limit


class Queue(Record, frozen=True):
    """Where jobs wait, and a node of the tree by which resources are shared.

    `priority` is what a job gets that names none. Amounts are by resource: a name in DIMENSIONS,
    or "gpu_milli/MODEL" for GPUs of one type. What counts in a queue counts in all above it. The
    tree's root is the cluster itself, and its own quota is what no queue was promised.
    Source of quota, borrow and lend: Kueue; algorithms.md 4.4.
    """

    name: str
    priority: int = 50
    pending_max: int = limits.QUEUE_PENDING_MAX
    limit_ms: Ms | None = None  # the longest time limit a job may ask for; also its default
    parent: str = ""  # "": the cluster
    weight: int = 1  # of its fair share, beside its siblings
    quota: dict[str, int] = {}  # guaranteed: what it lent of it comes back when asked for
    borrow: dict[str, int] = {}  # the most it may use beyond its quota; not named: what is free
    lend: dict[str, int] = {}  # the most of its quota that others may use; not named: all
    most: dict[str, int] = {}  # the most it may use at once, whatever is free
    live_max: int | None = None  # jobs that hold resources at once
    priority_min: int = limits.PRIORITY_MIN  # what its jobs may ask for
    priority_max: int = limits.PRIORITY_MAX
    users: tuple[str, ...] = ()  # who may submit to it; empty: whoever may to its parent


class User(Record, frozen=True):
    """A user's share and limits, over all queues. The user "*" stands for all who are not named."""

    name: str
    weight: int = 1  # of its share inside a queue
    most: dict[str, int] = {}
    live_max: int | None = None
    pending_max: int | None = None


EVERYBODY = "*"


class Speed(Record, frozen=True):
    """How fast jobs of a type and width are on a kind of device: steps per million seconds.

    Of the whole job, not of one of its devices. 0: they do not run there.
    """

    job_type: str
    width_milli: int  # thousandths of a GPU, or of a core for jobs without GPUs (width_milli)
    model: str  # of the device; "" for jobs without GPUs
    micro_per_s: int


class Reservation(Record, frozen=True):
    """A claim on nodes for a time: maintenance and drains (for nobody), or capacity for tenants.

    Whole `nodes`, or `slots` of one `shape` each. Nobody but `tenants` may run there between
    start_ms and end_ms (None: until it is deleted), and nothing that could still run at start_ms.
    """

    name: str
    start_ms: Ms
    end_ms: Ms | None = None
    tenants: tuple[str, ...] = ()  # who may use it; empty: nobody
    nodes: tuple[NodeId, ...] = ()
    shape: Shape | None = None
    slots: tuple[Slot, ...] = ()
    user: str = ""  # who made it
    because: str = ""


KINDS = ("licence", "volume", "lock")  # of resources, in the order in which they are acquired


class Resource(Record, frozen=True):
    """Something of which there are so many, wherever jobs run: licences, volumes, locks."""

    name: str
    kind: Literal["licence", "volume", "lock"] = "licence"
    amount: int = 1

    @property
    def rank(self) -> tuple[int, str]:
        """Return its place in the global order of acquisition (algorithms.md 12.1)."""
        return (KINDS.index(self.kind), self.name)


class PolicyConfig(Record, frozen=True):
    """Which policy decides, by name, and its settings. Logged, so it is part of every replay."""

    order: str = "priority"  # a name in policy/order.py
    placement: str = "best-fit"  # a name in policy/place/score.py
    # Where work that asks for no GPU goes: to nodes with GPUs last of all, or wherever is best.
    cpu_only: Literal["last", "any"] = "last"
    # How long others may overtake a job that is first in the order but does not fit:
    # 0: never (strict); None: always (skip); else until it has waited that long.
    overtake_ms: Ms | None = 15 * 60_000
    ageing_per_hour: int = 60  # priority points per hour of waiting
    ageing_cap: int | None = None  # most points ageing may add; None: no cap
    # How many jobs that do not fit get a promised start that others must not delay:
    # 0: none (then overtake_ms rules); 1: EASY; None: all (conservative).
    backfill: int | None = 0
    estimate: Literal["limit", "expected"] = "limit"  # what plans believe of run times
    shortest: bool = False  # backfill the shortest first (EASY++), else in the policy's order
    preempt: bool = False  # who comes first takes the place of who runs
    # For preemptive policies:
    min_run_ms: Ms = 0  # a job that has run for less in this attempt is not preempted
    preemptions_max: int | None = None  # a job that was preempted so often runs to its end
    levels_gpu_ms: tuple[int, ...] = ()  # las: attained service at which a job sinks a level
    promote_percent: int | None = None  # las: back to the top after waiting so much of its run
    # For ftf and themis:
    lease_ms: Ms = 20 * 60_000  # places change hands at most so often
    auction_percent: int = 20  # themis: how many of 100 take part, those worst off
    # For orders by fair share:
    half_life_ms: Ms = limits.HALF_LIFE_MS_DEFAULT  # in which past use counts half
    # Elastic jobs grow never, into what no waiting job could use, or beside jobs that wait but
    # could not start there anyway; and not sooner after their last change than this.
    elastic: Literal["never", "idle", "beside"] = "idle"
    resize_every_ms: Ms = 60_000
    rebuild_ms: Ms = 300_000  # so long what is left of a gang that lost a member is held for it
    history_percent: int = 50  # how much past use counts beside present use, of 100
    weights: tuple[int, ...] = ()  # multifactor: in the order of its terms; empty: the default
    max_age_ms: Ms = limits.MAX_AGE_MS_DEFAULT  # multifactor: waiting longer adds nothing
    # Who gives back what a queue has lent: any job, or only those of lower priority than the
    # owner's; and whether a job may take the place of one of lower priority in its own queue.
    reclaim: Literal["never", "lower-priority", "any"] = "any"
    within: Literal["never", "lower-priority"] = "never"
    # Whether running jobs are moved for a blocked one, where that saves more than it costs.
    defrag: Literal["never", "when-worth"] = "never"
    # What keeps jobs that acquire resources while they run from waiting for each other for ever:
    # grant only what leaves a way out for all, or grant what is free and stop one where they do,
    # or grant in one global order alone.
    deadlock: Literal["avoid", "detect", "ordered"] = "avoid"
    restart_ms: Ms = 0  # what starting again is believed to cost a job that was preempted
    # Jobs that ask for a part of a GPU share one with any others, with one that is known to go well
    # beside them, or also on trial: for trial_ms, and then parted unless it goes well. Well: they
    # gain so much over one alone, and neither is slower than so much of its speed alone.
    share: Literal["any", "known", "trial"] = "any"
    trial_ms: Ms = 60_000
    gain_percent: int = 10
    rate_percent: int = 40
    # Who plans, by name (fairlead.solve.advise): which job is to have how much of its time on which
    # kind of device. Plans are carried out in rounds of lease_ms; what no plan knows of comes
    # after, by `order`. "": nobody. `by_model`: model by model, whoever is left may have what is
    # left of it, as in Gavel's simulator; else by shares alone. Prices in millionths per GPU hour.
    plan: str = ""
    by_model: bool = False
    blind: bool = False  # how fast a job is where counts nothing, unless it does not run there
    prices: tuple[tuple[str, int], ...] = ()
    part_percent: int = 100  # allox: how many of 100 waiting jobs it plans for, the longest first
