"""A full consistency check of a core, by recomputing everything from its jobs. O(jobs + nodes).

The numbers are those of docs/design/architecture.md, section 8 (invariants of the core).
"""

from __future__ import annotations

from collections import Counter

from fairlead.core import future
from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.core.ledger import HOST, SHARE_MEMORY, SHARE_MILLI, UP, WHOLE
from fairlead.core.team import Team
from fairlead.core.tree import together
from fairlead.model.jobs import LIVE, Phase
from fairlead.model.resources import DIMENSIONS, WHOLE_GPU_MILLI

D = len(DIMENSIONS)


def check(core: Core) -> None:
    """Raise AssertionError with what is wrong; return None for a consistent core."""
    _check_jobs(core)
    _check_nodes(core)
    _check_usage(core)
    _check_queue(core)
    _check_shares(core)
    _check_future(core)
    _check_named(core)


def _check_jobs(core: Core) -> None:
    elastic = {job.id for job in core.jobs.values() if job.team is not None}
    assert elastic == {job.id for job in core.elastic.values()}, f"elastic: {elastic}"
    broken = {job.id for job in core.pending.values() if job.broken}
    assert broken == set(core.broken), f"gangs that lost a member: {broken}"
    for job_id, job in core.jobs.items():
        story = f"job {job_id} ({job.phase}, attempt {job.attempt}): {job.because}"
        assert job.id == job_id < core.next_job, story
        assert job.phase is Phase.PENDING or job.phase in LIVE, f"final but kept: {story}"
        assert (job.phase is Phase.PENDING) == (job_id in core.pending), story
        accounts = (job.served_ms, job.waited_ms, job.preemptions, job.promoted_served_ms)
        assert min(accounts) >= 0, f"an account below zero, {accounts}: {story}"
        assert job.promoted_served_ms <= job.attained_ms(core.now), story
        assert 0 <= job.crowd_ms <= core.crowd_ms, story
        if job.phase is Phase.PENDING:
            assert job.then is None and job.team is None, story
            continue
        assert (job.team is not None) == (job.spec.members_max > 0), story
        members, joined = core.shapes[job.shape_id].members, set[int]()
        if job.team is None:
            assert len(job.slots) == members, f"a gang holds all its slots or none: {story}"
        else:
            joined = set(job.team.joined)
            _check_team(job, job.team, members, story)
        nodes = (slot.node for slot in job.slots)
        within = together(core.ledger, job.spec.shape, nodes)
        assert within, f"not within one {job.spec.shape.within}: {story}"
        assert set(job.exits) < set(job.ranks), f"all gone but still live: {story}"
        assert job.started <= set(job.ranks), story
        if job.phase is Phase.RUNNING:
            assert job.started | joined == set(job.ranks), story
            assert job.started_ms is not None, story
        if job.phase is Phase.STOPPING:
            assert job.then is not None, f"stopping without an aim: {story}"
        for rank, slot in zip(job.ranks, job.slots, strict=True):
            known = core.nodes[slot.node].members.get((job.id, job.attempt, rank))
            assert (known is job) == (rank not in job.exits), f"rank {rank}: {story}"


def _check_team(job: Job, team: Team, least: int, story: str) -> None:
    """An elastic gang has at least its least size from start to stop, and never too many."""
    numbers = team.numbers
    assert len(numbers) == len(job.slots), story
    assert numbers == sorted(set(numbers)) and team.unused > max(numbers), story
    assert set(team.joined) <= set(numbers), story
    assert team.leaving <= set(numbers) - set(job.exits), f"leaving: {team.leaving}: {story}"
    if job.phase is Phase.STARTING:
        assert numbers == list(range(least)) and not team.leaving, story
    elif job.phase is Phase.RUNNING:
        assert least <= team.size <= job.spec.members_max, f"{team.size} members: {story}"
    else:  # all have to go, those too that were leaving: these may be beyond the most
        assert not team.leaving, story


def _check_nodes(core: Core) -> None:
    """1. capacity = room + foreign + held, per node and dimension. 4. devices. 8. summaries."""
    holders = _held_by_node(core)
    for index, node in enumerate(core.nodes):
        name = node.spec.name
        assert core.node_ids[name] == index, name
        for job_id, attempt, rank in node.members:
            job = core.jobs.get(job_id)
            assert job is not None and job.attempt == attempt, f"{name}: stale member {job_id}"
            assert job.slot(rank).node == index, f"{name}: member {job_id} is elsewhere"
        taken = [0] * D
        alive = [0] * HOST  # of that, by members that are not confirmed gone
        milli = [0] * len(node.spec.devices)
        memory = [0] * len(node.spec.devices)
        for job, rank, devices in holders[index]:
            request = core.shapes[job.shape_id].of(rank)
            for row in range(HOST):
                taken[row] += request.host[row]
                alive[row] += 0 if rank in job.exits else request.host[row]
            for at, device in enumerate(devices):
                size = node.spec.devices[device].memory_mib
                milli[device] += request.milli_of(at)
                memory[device] += size if at < request.gpus else request.memory
        taken[HOST], taken[HOST + 1] = sum(milli), sum(memory)
        _compare_node(core, index, taken, milli, memory)
        # A node may come back smaller, with parts of gangs that died there.
        for row in range(HOST):
            assert alive[row] <= core.ledger.capacity[row, index], (
                f"{name}: {DIMENSIONS[row]} twice"
            )


def _held_by_node(core: Core) -> list[list[tuple[Job, int, tuple[int, ...]]]]:
    holders: list[list[tuple[Job, int, tuple[int, ...]]]] = [[] for _ in core.nodes]
    for job in core.jobs.values():
        if job.phase in LIVE:
            for rank, slot in zip(job.ranks, job.slots, strict=True):
                holders[slot.node].append((job, rank, slot.devices))
    return holders


def _compare_node(
    core: Core, index: int, taken: list[int], milli: list[int], memory: list[int]
) -> None:
    ledger, spec = core.ledger, core.nodes[index].spec
    room = ledger.room[:, index].tolist()
    capacity = ledger.capacity[:, index].tolist()
    foreign = ledger.foreign[:, index].tolist()
    assert room[UP] == core.nodes[index].up, f"{spec.name}: up"
    for row in range(D):
        total = room[row] + foreign[row] + taken[row]
        assert total == capacity[row], (
            f"{spec.name}: {DIMENSIONS[row]}: room {room[row]} + foreign {foreign[row]} + "
            f"held {taken[row]} is not the capacity {capacity[row]}"
        )
    devices = ledger.devices[index]
    for device, size in enumerate(devices.size):
        assert devices.milli[device] == WHOLE_GPU_MILLI - milli[device] >= 0, (
            f"{spec.name}: device {device} time"
        )
        assert devices.memory[device] == size - memory[device] >= 0, (
            f"{spec.name}: device {device} memory"
        )
    assert (room[WHOLE], room[SHARE_MILLI], room[SHARE_MEMORY]) == devices.summary(), spec.name


def _check_usage(core: Core) -> None:
    """5. Usage per tenant is the sum over its jobs."""
    usage: dict[str, list[int]] = {}
    for job in core.jobs.values():
        if job.phase in LIVE:
            total = usage.setdefault(job.spec.tenant, [0] * D)
            core.ledger.add_held(total, core.shapes[job.shape_id], job.slots)
    for tenant in {*usage, *core.usage}:
        expected = usage.get(tenant, [0] * D)
        assert core.usage.get(tenant, [0] * D) == expected, (
            f"usage of {tenant}: {core.usage.get(tenant)} is not {expected}"
        )


def _check_queue(core: Core) -> None:
    """6. Every pending job is in the queue's count and in the list that policies read."""
    waiting: dict[str, int] = {}
    for job in core.pending.values():
        waiting[job.spec.queue] = waiting.get(job.spec.queue, 0) + 1
        assert core.jobs.get(job.id) is job, f"job {job.id} waits but is not known"
    for queue in {*waiting, *core.waiting}:
        assert core.waiting.get(queue, 0) == waiting.get(queue, 0), f"queue {queue}"
    assert core.pending.keys() <= set(core.arrivals), "a pending job that no policy will see"


def _check_shares(core: Core) -> None:
    """5. What queues and users hold is the sum over their jobs, up the tree."""
    shares = core.shares
    held: dict[tuple[str, str], list[int]] = {}
    live: dict[tuple[str, str], int] = {}
    for job in core.jobs.values():
        if job.phase in LIVE:
            key = (job.spec.queue, job.spec.user)
            live[key] = live.get(key, 0) + 1
            total = held.setdefault(key, [0] * D)
            core.ledger.add_held(total, core.shapes[job.shape_id], job.slots)
    for key, account in shares.accounts.items():
        assert account.held[:D] == held.pop(key, [0] * D), f"holdings of {key}"
        assert account.live == live.get(key, 0), f"live jobs of {key}: {account.live}"
        waits = Counter(
            job.shape_id for job in core.pending.values() if (job.spec.queue, job.spec.user) == key
        )
        assert account.waits == waits, f"waiting jobs of {key}: {account.waits}"
        assert account.waiting == waits.total(), f"waiting jobs of {key}: {account.waiting}"
    assert not held, f"holdings without an account: {held}"
    shares.sync()
    for branch in (shares.root, *shares.branches.values()):
        own = [
            account.held for (queue, _), account in shares.accounts.items() if queue == branch.name
        ]
        below = [child.held for child in branch.children]
        sums = [sum(column) for column in zip(*own, *below, strict=True)] or [0] * len(branch.held)
        assert branch.held == sums, f"queue '{branch.name}' holds {branch.held}, not {sums}"
        assert branch.live == sum(child.live for child in branch.children) + sum(
            account.live for (queue, _), account in shares.accounts.items() if queue == branch.name
        ), f"queue '{branch.name}': live jobs"
        for row in shares.governed:
            kept = sum(
                amount
                for each in shares.kept.values()
                for of, amount in each.amounts
                if of == row and each.job.spec.queue == branch.name
            )
            used = (
                kept
                + sum(each[row] for each in own)
                + sum(max(0, child.used[row] - child.local[row]) for child in branch.children)
            )
            assert branch.used[row] == used, f"queue '{branch.name}' uses {branch.used}"


def _check_future(core: Core) -> None:
    """7. Promises are of jobs that wait, or are to move, and whole; exactly what lives is believed
    to end sometime."""
    promised = [job for job in core.jobs.values() if job.promise is not None]
    moving = {job.id for job in promised if job.promise and job.promise.move_for is not None}
    assert moving == core.moving.keys(), f"who is to move: {moving}, not {list(core.moving)}"
    for job_id, job in core.promises.items():
        moves = job.promise is not None and job.promise.move_for is not None
        known = core.jobs if moves else core.pending
        assert known.get(job_id) is job, f"job {job_id} has a promise but does not wait"
    for job in core.jobs.values():
        assert (job.promise is not None) == (job.id in core.promises), f"promise of job {job.id}"
        held = job.promise is not None and job.promise.until_ms is not None
        kept = held and job.phase is Phase.PENDING
        assert kept == (job.id in core.shares.kept), f"what is kept for job {job.id}"
        if job.promise is None:
            continue
        shape, slots, request = job.spec.shape, job.promise.slots, future.request_of(core, job)
        # Of a gang that lost a member only what it still had is held.
        whole = len(slots) == shape.members or (held and job.broken)
        assert whole and 1 <= len(slots) <= shape.members, f"job {job.id} is promised {slots}"
        nodes = (slot.node for slot in slots)
        assert together(core.ledger, shape, nodes), f"job {job.id} is promised {slots}: too far"
        assert job.promise.run_ms > 0, f"job {job.id} is promised no time"
        assert max(slot.node for slot in slots) < len(core.nodes), f"job {job.id}: {slots}"
        for its, those in request.split(slots):
            assert all(len(slot.devices) == its.picks for slot in those), f"job {job.id}: {slots}"
    live = {job.id for job in core.jobs.values() if job.phase in LIVE}
    ends = core.ends.sorted
    assert ends == sorted(ends), "believed ends are out of order"
    assert sorted(job for _, job in ends) == sorted(live), "ends of others than what lives"
    assert all(core.ends.get(job) == end for end, job in ends), "two beliefs of one job"
    for name, each in core.reservations.items():
        assert each.name == name, f"reservation '{name}' is called '{each.name}'"
        for node in (*each.nodes, *(slot.node for slot in each.slots)):
            assert 0 <= node < len(core.nodes), f"reservation '{name}' of an unknown node {node}"


def _check_named(core: Core) -> None:
    """9. Of named resources exactly what lives holds some, and no more than there is."""
    named = core.named
    wanting = {
        job.id: job
        for job in core.jobs.values()
        if job.phase in LIVE and (job.spec.counted or job.spec.may_acquire)
    }
    assert named.live.keys() == wanting.keys(), "holdings of others than what lives"
    needy = {job_id for job_id, job in wanting.items() if job.spec.may_acquire}
    assert named.needy.keys() == needy, "jobs that may ask for named resources"
    assert all(named.live[job_id] is holding for job_id, holding in named.needy.items())
    held: dict[str, int] = {}
    for job_id, holding in named.live.items():
        job = wanting[job_id]
        assert holding.attempt == job.attempt, f"job {job_id}: held by another attempt"
        most = dict(job.spec.may_acquire)
        for name, amount in holding.acquired.items():
            assert 0 < amount <= most.get(name, 0), f"job {job_id} acquired {amount} {name}"
        for name, amount in holding.held().items():
            held[name] = held.get(name, 0) + amount
    for name in {*held, *named.held}:
        assert named.held.get(name, 0) == held.get(name, 0), f"{name}: {named.held.get(name)} held"
        over = named.free(name) < 0
        assert over == (name in named.drained), f"{name}: {held.get(name)} held, more than there is"
    for number, ask in named.asks.items():
        assert ask.number == number <= core.seq and ask.amount > 0, ask
        assert ask.job in named.live and named.live[ask.job].attempt == ask.attempt, ask
