"""What queues, users and the users of each queue hold, and whether they may hold more.

Facts that follow from the jobs alone, but for the averages of the past, which are kept. Booking a
job costs O(depth x resources); a change of queues books everything anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from fairlead.core import models
from fairlead.core.capacity import MODEL, potentials
from fairlead.core.cohort import Branch
from fairlead.core.decay import decayed_by, factor
from fairlead.core.jobs import Job
from fairlead.core.ledger import Request
from fairlead.core.nodes import device_memory_most
from fairlead.model.amounts import jobs, of, show
from fairlead.model.base import JobId, Ms, ShapeId
from fairlead.model.jobs import EVERYBODY, LIVE, Queue, User
from fairlead.model.resources import DIMENSIONS, GPU_MEMORY, WHOLE_GPU_MILLI, Shape, Slot

if TYPE_CHECKING:
    from fairlead.core.engine import Core

D = len(DIMENSIONS)
QUOTA = "WaitingForQuota"  # a reason code of `why`


class Account:
    """A user in one queue, or over all queues."""

    __slots__ = ("at_ms", "average", "held", "live", "waiting", "waits")

    def __init__(self, rows: int, now: Ms) -> None:
        self.held = [0] * rows  # now
        self.live = 0
        self.waiting = 0
        self.waits: dict[ShapeId, int] = {}  # waiting jobs by shape
        self.average = [0] * D  # of the past, in the order of DIMENSIONS, in parts of AVERAGE_ONE
        self.at_ms = now  # when the average was brought up last

    def copy(self) -> Account:
        """Return an independent copy."""
        other = Account.__new__(Account)
        other.held, other.live, other.waiting = self.held, self.live, self.waiting
        other.average, other.at_ms = self.average, self.at_ms
        other.waits = dict(self.waits)
        return other

    def wait(self, shape: ShapeId, sign: int) -> None:
        """A job of a shape waits, or waits no more."""
        self.waiting += sign
        jobs = self.waits.get(shape, 0) + sign
        if jobs:
            self.waits[shape] = jobs
        else:
            del self.waits[shape]

    def bring_up(self, now: Ms, half_life_ms: Ms) -> None:
        """Let the time until now count as past."""
        if now != self.at_ms:
            self.average = self.as_of(now, half_life_ms)
            self.at_ms = now

    def as_of(self, now: Ms, half_life_ms: Ms) -> list[int]:
        """Return the average as of now."""
        passed = now - self.at_ms
        if not passed or not (any(self.average) or any(self.held)):
            return self.average
        f = factor(passed, half_life_ms)
        return [
            decayed_by(f, average, held)
            for average, held in zip(self.average, self.held, strict=False)
        ]


def plus(a: list[int], b: list[int]) -> list[int]:
    """Return the sum of two vectors over the same rows."""
    if len(a) == D:  # three times as fast as a loop, in the hot path
        a0, a1, a2, a3, a4 = a
        b0, b1, b2, b3, b4 = b
        return [a0 + b0, a1 + b1, a2 + b2, a3 + b3, a4 + b4]
    return [x + y for x, y in zip(a, b, strict=True)]


class Block(NamedTuple):
    """Why a job may not start, whatever is free."""

    code: str  # a reason code of `why`
    words: str


class Kept(NamedTuple):
    """What others leave for a waiting job: it counts as used until the job starts."""

    job: Job
    amounts: tuple[tuple[int, int], ...]  # (row, amount)


class Shares:
    """The accounts of one core. Only the core writes to it."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.rows: tuple[str, ...] = DIMENSIONS
        self.accounts: dict[tuple[str, str], Account] = {}  # of (queue, user)
        self.people: dict[str, Account] = {}  # of users, over all queues
        self.root = Branch("", None, D)
        self.branches: dict[str, Branch] = {}
        self.governed: tuple[int, ...] = ()  # rows of which somebody is guaranteed a part
        self.limited = False  # whether anything here could keep a job from starting
        self.generation = 0  # grows when queues, users, or what there is of a resource change
        self.kept: dict[JobId, Kept] = {}  # for jobs with a hold (event Promised)
        self.narrowed: dict[tuple[Shape, frozenset[str]], Request | None] = {}  # core/models.py
        self.stale = False  # queues or users are others than when all was booked
        self._layout = -1
        self._asked: dict[int, tuple[tuple[int, int], ...]] = {}  # by shape
        self._ever: dict[str, dict[str, int]] = {}  # by queue; what it could have at the most
        self.models: dict[str, int] = {}  # GPU types that are rows of their own

    # ---- change -------------------------------------------------------------------------------

    def wait(self, job: Job, sign: int) -> None:
        """A job waits, or waits no more."""
        self._account(job).wait(job.shape_id, sign)
        self._person(job).wait(job.shape_id, sign)
        branch: Branch | None = self.branch(job.spec.queue)
        while branch is not None:
            branch.waiting += sign
            branch = branch.parent

    def hold(self, job: Job, slots: tuple[Slot, ...], sign: int, live: int) -> list[int]:
        """Book that a live job holds these slots of its, or gives them back with sign -1.

        `live` is 1 where the job begins to hold anything, -1 where it ceases to, else 0.
        Returns the change by DIMENSIONS.
        """
        core = self.core
        held = self.holdings(job, slots, sign)
        account = self._account(job)
        if account.at_ms != core.now:
            account.bring_up(core.now, core.policy.half_life_ms)
        self._hold(job, account, held, live)
        return held[:D]

    def _hold(self, job: Job, account: Account, held: list[int], live: int) -> None:
        person = self._person(job)
        account.live += live
        person.live += live
        account.held = plus(account.held, held)
        person.held = plus(person.held, held)
        leaf = self.branch(job.spec.queue)
        for row in self.governed:
            leaf.use(row, held[row])
        branch: Branch | None = leaf
        while branch is not None:
            branch.held = plus(branch.held, held)
            branch.live += live
            branch = branch.parent

    def holdings(self, job: Job, slots: tuple[Slot, ...], sign: int = 1) -> list[int]:
        """Return what a job holds with these slots, by row; O(slots)."""
        held = [0] * D
        self.core.ledger.add_held(held, self.core.shapes[job.shape_id], slots, sign)
        return held + self._of_models(job, slots, sign) if self.models else held

    def keep(self, job: Job) -> None:
        """Count what a waiting job asks for as used: others may not borrow what is freed for it."""
        self.kept[job.id] = kept = Kept(job, self.asked(job))
        self._book(kept, 1)

    def unkeep(self, job: Job) -> None:
        """Undo `keep`."""
        self._book(self.kept.pop(job.id), -1)

    def _book(self, kept: Kept, sign: int) -> None:
        leaf = self.branch(kept.job.spec.queue)
        for row, amount in kept.amounts:
            if row in self.governed:
                leaf.use(row, sign * amount)

    def _of_models(self, job: Job, slots: tuple[Slot, ...], sign: int) -> list[int]:
        """Return what slots hold of the GPU types that have rows of their own."""
        rows = [0] * len(self.models)
        for request, its in self.core.shapes[job.shape_id].split(slots):
            for slot in its:
                devices = self.core.nodes[slot.node].spec.devices
                for at, index in enumerate(slot.devices):
                    row = self.models.get(devices[index].model)
                    if row is not None:
                        rows[row - D] += sign * request.milli_of(at)
        return rows

    def _account(self, job: Job) -> Account:
        key = (job.spec.queue, job.spec.user)
        found = self.accounts.get(key)
        if found is None:
            found = self.accounts[key] = Account(len(self.rows), self.core.now)
        return found

    def _person(self, job: Job) -> Account:
        found = self.people.get(job.spec.user)
        if found is None:
            found = self.people[job.spec.user] = Account(len(self.rows), self.core.now)
        return found

    def branch(self, queue: str) -> Branch:
        """Return the branch of a queue."""
        found = self.branches.get(queue)
        if found is None:  # a queue that nobody made: jobs of old logs
            found = self.branches[queue] = Branch(queue, self.root, len(self.rows))
        return found

    def settle(self, half_life_ms: Ms) -> None:
        """From now on another half-life counts: what is past was decayed by the old one."""
        old = self.core.policy.half_life_ms
        if half_life_ms != old:
            for account in self.accounts.values():
                account.bring_up(self.core.now, old)

    def outdate(self) -> None:
        """Queues or users have changed: the past counts until now, all else is booked anew later.

        What is kept of the past must not depend on when somebody next looks.
        """
        core = self.core
        for key, account in list(self.accounts.items()):
            account.bring_up(core.now, core.policy.half_life_ms)
            if key[0] not in core.queues and not account.live and not account.waiting:
                del self.accounts[key]
        self.stale = True

    def rebuild(self) -> None:
        """Book everything anew; not what is kept of the past."""
        core = self.core
        self.stale = False
        named: set[str] = set()
        for queue in core.queues.values():
            named |= {*queue.quota, *queue.borrow, *queue.lend, *queue.most}
        for user in core.users.values():
            named |= set(user.most)
        typed = sorted(name for name in named if name.startswith(MODEL))
        self.rows = (*DIMENSIONS, *typed)
        self.models = {name.removeprefix(MODEL): D + i for i, name in enumerate(typed)}
        self.root = Branch("", None, len(self.rows))
        self.branches = {}
        for name in sorted(core.queues):
            self._grow(name)
        self.governed = tuple(
            row
            for row, name in enumerate(self.rows)
            if any(name in {*q.quota, *q.borrow, *q.lend} for q in core.queues.values())
        )
        limits = [(each.most, each.live_max) for each in core.queues.values()]
        limits += [(each.most, each.live_max) for each in core.users.values()]
        self.limited = bool(self.governed) or any(
            most or live_max is not None for most, live_max in limits
        )
        for account in self.accounts.values():
            account.held, account.live, account.waiting = [0] * len(self.rows), 0, 0
            account.waits = {}
        self.people.clear()
        self.kept.clear()
        self._layout = -1
        self.sync()
        for job in core.jobs.values():
            if job.phase in LIVE:
                self._hold(job, self._account(job), self.holdings(job, job.slots), 1)
            else:
                self.wait(job, 1)
        for job in core.promises.values():
            if job.phase not in LIVE and job.promise and job.promise.until_ms is not None:
                self.keep(job)

    def copy(self, core: Core) -> Shares:
        """Return the same accounts for a copy of the core."""
        other = Shares(core)
        for name in ("rows", "governed", "limited", "generation", "_layout", "models"):
            setattr(other, name, getattr(self, name))
        other.accounts = {key: each.copy() for key, each in self.accounts.items()}
        other.people = {key: each.copy() for key, each in self.people.items()}
        other.kept = {key: Kept(core.jobs[key], each.amounts) for key, each in self.kept.items()}
        other.root = self.root.copy(None)
        waiting = [other.root]
        while waiting:
            branch = waiting.pop()
            if branch.parent is not None:
                other.branches[branch.name] = branch
            waiting += branch.children
        return other

    def _grow(self, name: str) -> Branch:
        """Return the branch of a queue, after those above it."""
        found = self.branches.get(name)
        if found is not None:
            return found
        queue = self.core.queues[name]
        parent = self._grow(queue.parent) if queue.parent in self.core.queues else self.root
        branch = self.branches[name] = Branch(name, parent, len(self.rows))
        branch.quota = [queue.quota.get(row, 0) for row in self.rows]
        branch.borrow = [queue.borrow.get(row) for row in self.rows]
        branch.lend = [queue.lend.get(row) for row in self.rows]
        branch.most = [queue.most.get(row) for row in self.rows]
        return branch

    def restore(self, past: Iterable[tuple[str, str, Ms, tuple[int, ...]]]) -> None:
        """Book everything of a core that was loaded, with (queue, user, at_ms, average)."""
        self.rebuild()
        for queue, user, at_ms, average in past:
            account = self.accounts.get((queue, user))
            if account is None:
                account = self.accounts[queue, user] = Account(len(self.rows), at_ms)
            account.at_ms, account.average = at_ms, list(average) or [0] * D

    def sync(self) -> None:
        """Take in that nodes came, changed or went: the cluster has more or less to share."""
        if self._layout == self.core.ledger.layout:
            return
        self._layout = self.core.ledger.layout
        self.generation += 1
        self._asked.clear()
        self.narrowed.clear()
        self._ever.clear()
        if not self.governed:
            return
        there = self.capacity()
        # What is promised to nobody is everybody's; where too much is promised, nothing is.
        self.root.quota = [0] * len(self.rows)
        self.root.settle()
        self.root.quota = [
            max(0, most - sum(child.subtree[row] for child in self.root.children))
            for row, most in enumerate(there)
        ]
        self.root.settle()
        self._use_anew(self.root)
        for job in [each.job for each in self.kept.values()]:
            self.keep(job)

    def _use_anew(self, branch: Branch) -> None:
        below = [0] * len(self.rows)
        branch.used = list(branch.held)
        for child in branch.children:
            self._use_anew(child)
            for row in self.governed:
                below[row] += child.held[row] - max(0, child.used[row] - child.local[row])
        for row in self.governed:
            branch.used[row] -= below[row]

    # ---- read ---------------------------------------------------------------------------------

    def capacity(self) -> list[int]:
        """Return what there is of each row, on nodes that are up; O(nodes)."""
        core = self.core
        up = [index for index, node in enumerate(core.nodes) if node.up]
        there: list[int] = core.ledger.capacity[:, up].sum(axis=1).tolist()
        of_models = [0] * len(self.models)
        for index in up if of_models else ():
            for device in core.nodes[index].spec.devices:
                row = self.models.get(device.model)
                if row is not None:
                    of_models[row - D] += WHOLE_GPU_MILLI
        return there + of_models

    def asked(self, job: Job) -> tuple[tuple[int, int], ...]:
        """Return (row, amount) of what a job will hold at least, and for whole GPUs' memory at
        most: which they will be is not known before they are chosen."""
        self.sync()
        found = self._asked.get(job.shape_id)
        if found is None:
            found = self._asked[job.shape_id] = self.ask(job.spec.shape)
        return found

    def ever(self, queue: str) -> dict[str, int]:
        """Return the most of each governed resource that a queue could have, all others idle, all
        machines up."""
        self.sync()
        if self.governed and not self._ever:
            self._ever = potentials(self.core)
        return self._ever.get(queue, {})

    def ask(self, shape: Shape) -> tuple[tuple[int, int], ...]:
        """Return `asked` of a shape."""
        amounts = [0] * len(self.rows)
        for kind in shape.parts():
            amounts = plus(amounts, self._ask(kind))
        return tuple((row, amount) for row, amount in enumerate(amounts) if amount > 0)

    def _ask(self, shape: Shape) -> list[int]:
        milli = WHOLE_GPU_MILLI * shape.gpus + shape.gpu_milli
        memory = shape.gpu_memory_mib * shape.devices
        if shape.gpus and GPU_MEMORY in self.governed:
            whole = shape.gpus * device_memory_most(self.core.nodes, shape)
            memory = max(memory, whole + shape.gpu_memory_mib * len(shape.shares))
        amounts = [*shape.amounts(), milli, memory, *(0 for _ in self.models)]
        if len(shape.gpu_models) == 1 and shape.gpu_models[0] in self.models:
            amounts[self.models[shape.gpu_models[0]]] = milli
        return [amount * shape.members for amount in amounts]

    def user(self, name: str) -> User | None:
        """Return what is set for a user: its own, else everybody's."""
        return self.core.users.get(name) or self.core.users.get(EVERYBODY)

    def queues_above(self, name: str) -> list[Queue]:
        """Return a queue and all above it."""
        queues, found = self.core.queues, []
        while name in queues:
            found.append(queues[name])
            name = queues[name].parent
        return found

    def block(self, job: Job) -> Block | None:
        """Return why a job may not start, whatever is free; None: it may."""
        if not self.limited:
            return None
        own = self.kept.get(job.id)
        if own is None:
            return self._block(job)
        self.unkeep(job)  # what is kept for the job itself is in nobody's way but others'
        try:
            return self._block(job)
        finally:
            self.kept[job.id] = own
            self._book(own, 1)

    def _block(self, job: Job) -> Block | None:
        asked = self.asked(job)
        block = self._block_of_user(job, asked, 1) or self._block_of_queue(job, asked, 1)
        if block is None and self.models and (words := models.none_open(self, job)):
            return Block(QUOTA, words)
        return block

    def request(self, job: Job) -> Request:
        """Return what a waiting job may be placed by now: on GPU types with room in its quotas."""
        return models.request(self, job)

    def block_more(self, job: Job, shape: Shape) -> Block | None:
        """Return why a live job may not hold so much more; None: it may."""
        if not self.limited:
            return None
        self.sync()
        asked = self.ask(shape)
        return self._block_of_user(job, asked, 0) or self._block_of_queue(job, asked, 0)

    def _block_of_user(
        self, job: Job, asked: tuple[tuple[int, int], ...], live: int
    ) -> Block | None:
        name = job.spec.user
        user, account = self.user(name), self.people.get(name)
        if user is None or account is None:
            return None
        if user.live_max is not None and account.live + live > user.live_max:
            words = f"user {name} has {jobs(account.live)} running, of at most {user.live_max}"
            return Block("QOSMaxJobsPerUserLimit", words)
        for row, amount in asked if user.most else ():
            most = user.most.get(self.rows[row])
            if most is not None and account.held[row] + amount > most:
                words = self._over(f"user {name}", row, account.held[row], most, amount)
                return Block("QOSMaxResourcesPerUser", words)
        return None

    def _block_of_queue(
        self, job: Job, asked: tuple[tuple[int, int], ...], live: int
    ) -> Block | None:
        leaf = self.branch(job.spec.queue)
        for branch in leaf.above()[:-1]:
            queue = self.core.queues.get(branch.name)
            if queue is None:
                continue
            if queue.live_max is not None and branch.live + live > queue.live_max:
                words = f"queue {queue.name} has {jobs(branch.live)} running, of at most "
                return Block("QOSMaxJobsLimit", f"{words}{queue.live_max}")
            for row, amount in asked if queue.most else ():
                most = branch.most[row]
                if most is not None and branch.held[row] + amount > most:
                    words = self._over(f"queue {queue.name}", row, branch.held[row], most, amount)
                    return Block("ExceedsMaxQuota", words)
        for row, amount in asked:
            if row in self.governed and (more := leaf.available(row)) < amount:
                words = self._no_quota(leaf, row, more, amount)
                return Block(QUOTA, words)
        return None

    def _over(self, who: str, row: int, held: int, most: int, amount: int) -> str:
        name = self.rows[row]
        return (
            f"{who} holds {of(name, held)} of at most {show(name, most)}, and this job asks for "
            f"{show(name, amount)}"
        )

    def _no_quota(self, leaf: Branch, row: int, more: int, amount: int) -> str:
        name = self.rows[row]
        return (
            f"queue {leaf.name} holds {of(name, leaf.held[row])} (quota "
            f"{show(name, leaf.quota[row])}, borrowed {show(name, leaf.borrowed(row))}) and could "
            f"have {show(name, max(more, 0))} more now; this job asks for {show(name, amount)}"
        )
