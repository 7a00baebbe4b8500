"""Reservations: nothing of others runs in them, owners may, and without them nothing changes."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.core.engine import Core
from fairlead.core.turn import Scheduler
from fairlead.model.base import Refused
from fairlead.model.events import Placed, ReservationDeleted, ReservationSet, Submitted
from fairlead.model.jobs import JobSpec, Reservation
from fairlead.model.resources import Shape, Slot
from fairlead.policy.explain import explain, reasons
from fairlead.policy.registry import build
from fairlead.sim.cluster import parse_cluster
from fairlead.sim.replay import gate, replay
from fairlead.sim.workload import SimJob, Workload
from strategies import cluster, end, node, spec, start, submit

PLAIN = ("fifo", "fifo-skip", "priority", "easy", "conservative", "fifo-backfill4", "easy++")
PREEMPTIVE = ("srtf", "las")
TENANTS = "abc"


def job(number: int, at: int, run: int, tenant: str = "a", limit: int | None = None, **shape):
    """A job of seconds."""
    spec = JobSpec(
        shape=Shape(**{"cpu_milli": 1000, **shape}),
        tenant=tenant,
        limit_ms=None if limit is None else 1000 * limit,
        expected_ms=1000 * run,
    )
    return SimJob(number, 1000 * at, 1000 * run, spec)


def window(name: str, start: int, end: int, tenants: str = "", **what) -> Reservation:
    return Reservation(
        name=name, start_ms=1000 * start, end_ms=1000 * end, tenants=tuple(tenants), **what
    )


def run(jobs, spec: str, policy: str, reservations=()):
    """Return the outcome, and the slots of every job's first attempt."""
    slots: dict[int, tuple[Slot, ...]] = {}

    def observe(now, core):
        for each in core.jobs.values():
            if each.slots and each.attempt == 1:
                slots[each.id - 1] = each.slots

    done = replay(
        Workload(tuple(jobs), {}, {}),
        parse_cluster(spec),
        policy,
        reservations=reservations,
        observe=observe,
    )
    return done, slots


@st.composite
def worlds(draw):
    spec = draw(st.sampled_from(["1x4cpu", "3x4cpu", "3x4gpu", "2x4cpu,8GiB,2gpu"]))
    nodes = parse_cluster(spec).nodes
    gpus = len(nodes[0].devices)
    at, jobs = 0, []
    for number in range(draw(st.integers(1, 12))):
        at += draw(st.integers(0, 20))
        shape = {"members": draw(st.integers(1, 3 if len(nodes) > 1 else 2))}
        if gpus and draw(st.booleans()):
            shape |= {"cpu_milli": 0, "gpus": draw(st.integers(1, min(2, gpus)))}
        else:
            shape |= {"cpu_milli": 1000 * draw(st.integers(1, 2))}
        length = draw(st.integers(1, 40))
        limit = draw(st.sampled_from([None, length, length + 5, 3 * length, max(1, length - 2)]))
        made = job(number, at, length, draw(st.sampled_from(TENANTS)), limit, **shape)
        try:
            gate(parse_cluster(spec))(made.spec)
        except Refused:
            made = job(number, at, length, "a", limit)
        jobs.append(made)
    reservations = []
    for number in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, 100))
        end = start + draw(st.integers(1, 60))
        tenants = draw(st.sampled_from(["", "a", "b"]))
        node = draw(st.integers(0, len(nodes) - 1))
        what: dict = {"nodes": (node,)}
        if draw(st.booleans()):
            devices = (number,) if number < gpus else ()
            count = draw(st.integers(1, 2)) if not devices else 1
            shape = Shape(cpu_milli=500 * draw(st.integers(1, 2)), gpus=len(devices))
            what = {"shape": shape, "slots": (Slot(node=node, devices=devices),) * count}
        reservations.append(window(f"r{number}", start, end, tenants, **what))
    return spec, jobs, reservations


def check_kept_out(spec, jobs, reservations, done, slots) -> None:
    for index, its in slots.items():
        tenant = jobs[index].spec.tenant
        lives = done.start_ms[index], done.end_ms[index]
        for each in reservations:
            if tenant in each.tenants or lives[0] >= each.end_ms or each.start_ms >= lives[1]:
                continue
            for slot in its:
                assert slot.node not in each.nodes, (index, each)
                for theirs in each.slots:
                    shared = set(theirs.devices) & set(slot.devices)
                    assert slot.node != theirs.node or not shared, (index, each)
    check_amounts(spec, jobs, reservations, done, slots)


def check_amounts(spec, jobs, reservations, done, slots) -> None:
    """At each instant every node has room for who runs there and for what owners do not use yet.

    Reservations that are too much together leave no room for others, whatever they use.
    """
    times = sorted({*done.start_ms, *(each.start_ms for each in reservations)})
    for place, its in enumerate(parse_cluster(spec).nodes):
        for now in times:
            used: dict[str, int] = defaultdict(int)
            for index, held in slots.items():
                if done.start_ms[index] <= now < done.end_ms[index]:
                    count = sum(slot.node == place for slot in held)
                    used[jobs[index].spec.tenant] += count * jobs[index].spec.shape.cpu_milli
            kept: dict[str, int] = defaultdict(int)
            for each in reservations:
                if each.shape and each.start_ms <= now < each.end_ms:
                    count = sum(slot.node == place for slot in each.slots)
                    kept["".join(each.tenants)] += count * each.shape.cpu_milli
            for tenant, amount in used.items():
                others = sum(max(kept[t] - used.get(t, 0), 0) for t in kept if t != tenant)
                free = its.cpu_milli - sum(used.values()) + amount
                assert amount <= max(free - others, 0) or not others, (place, now, tenant)


@pytest.mark.parametrize("policy", [*PLAIN, *PREEMPTIVE])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(worlds())
def test_nothing_runs_in_what_is_reserved_for_others(policy, world):
    spec, jobs, reservations = world
    done, slots = run(jobs, spec, policy, reservations)
    if not any(done.preempted):
        check_kept_out(spec, jobs, reservations, done, slots)


@pytest.mark.parametrize("policy", [*PLAIN, *PREEMPTIVE])
@settings(max_examples=15, deadline=None)
@given(worlds())
def test_reservations_of_the_past_change_nothing(policy, world):
    spec, jobs, reservations = world
    later = [SimJob(each.id, each.submit_ms + 200_000, each.run_ms, each.spec) for each in jobs]
    plain, _ = run(later, spec, policy)
    over, _ = run(later, spec, policy, reservations)
    assert (plain.start_ms, plain.nodes) == (over.start_ms, over.nodes)


def five() -> list[SimJob]:
    return [
        job(0, 0, 50, limit=50, cpu_milli=4000),
        job(1, 10, 60, limit=60, cpu_milli=2000),
        job(2, 20, 40, limit=50, cpu_milli=2000),
        job(3, 20, 10),
        job(4, 95, 5, limit=5),
    ]


@pytest.mark.parametrize(
    ("policy", "tenants", "starts"),
    [
        # Job 1 would run to 110, job 3 for who knows how long; job 2 is gone at 100 at the latest.
        ("fifo-skip", "", [0, 160, 50, 160, 95]),
        ("priority", "", [0, 160, 50, 160, 95]),
        ("easy", "", [0, 160, 50, 160, 95]),
        ("fifo", "", [0, 160, 160, 200, 200]),  # strict: job 1 blocks all others
        ("fifo", "a", [0, 50, 50, 90, 95]),  # its owners may cross it
        ("fifo", "b", [0, 160, 160, 200, 200]),
    ],
)
def test_a_window_by_hand(policy, tenants, starts):
    kernel = window("kernel", 100, 160, tenants, nodes=(0,))
    done, _ = run(five(), "1x4cpu", policy, [kernel])
    assert [at // 1000 for at in done.start_ms] == starts


def test_an_amount_by_hand():
    two = window("two", 100, 160, "b", shape=Shape(cpu_milli=1000), slots=(Slot(node=0),) * 2)
    jobs = [
        job(0, 80, 60, limit=60, cpu_milli=3000),  # would leave 1 of the 2 cores
        job(1, 80, 60, limit=60, cpu_milli=2000),
        job(2, 100, 10, "b", limit=10, cpu_milli=2000),
        job(3, 101, 10, "b", limit=10, cpu_milli=3000),  # more than is kept: waits for job 1
    ]
    done, _ = run(jobs, "1x4cpu", "fifo-skip", [two])
    assert [at // 1000 for at in done.start_ms] == [160, 80, 100, 140]


def test_predictions_do_not_let_a_job_into_a_window_that_its_limit_reaches():
    # easy++ plans by predictions: 5 s, but nothing stops the job before 30 s.
    kernel = window("kernel", 20, 40, nodes=(0,))
    done, _ = run([job(0, 0, 5, limit=30)], "2x4cpu", "easy++", [kernel])
    assert done.nodes[0] == (1,)
    done, _ = run([job(0, 0, 5, limit=30)], "1x4cpu", "easy++", [kernel])
    assert done.start_ms == [40_000]


def test_an_owner_that_fills_its_reservation_leaves_the_rest_to_others_at_once():
    two = window("two", 0, 100, "b", shape=Shape(cpu_milli=2000), slots=(Slot(node=0),))
    jobs = [job(0, 10, 50, "b", cpu_milli=2000), job(1, 10, 50, limit=50, cpu_milli=2000)]
    for policy in ("fifo", "easy", "conservative"):
        assert run(jobs, "1x4cpu", policy, [two])[0].start_ms == [10_000, 10_000]


def test_one_job_does_not_fill_two_reservations():
    those = [
        window(name, 10, 100, "b", shape=Shape(cpu_milli=1000), slots=(Slot(node=0),))
        for name in ("one", "two")
    ]
    jobs = [job(0, 10, 50, "b", limit=50), job(1, 11, 50, limit=50, cpu_milli=3000)]
    done, _ = run(jobs, "1x4cpu", "fifo", those)
    assert done.start_ms == [10_000, 100_000]  # 1 used, 1 still kept: 2 of 4 are free


def test_members_of_a_gang_on_one_node_do_not_break_a_plan():
    jobs = [
        job(0, 0, 10, limit=10, members=2),
        job(1, 1, 10, limit=10, cpu_milli=4000),
        job(2, 2, 5, limit=5),
    ]
    assert run(jobs, "1x4cpu", "conservative")[0].start_ms == [0, 10_000, 2_000]


# ---- drains, and what is told ------------------------------------------------------------------


def drained(core, node: int = 0) -> None:
    name = core.nodes[node].spec.name
    made = Reservation(name=f"drain-{name}", start_ms=core.clock, nodes=(node,))
    core.apply(core.now, ReservationSet(reservation=made))


def starts_of(scheduler, now: int) -> list[int]:
    events = scheduler.turn(now, []).events
    return [event.job for event in events if isinstance(event, Placed)]


def test_a_drained_node_lets_end_what_runs_and_starts_nothing_new_over_a_restart_too():
    core = cluster(node("n0"), policy="fifo-skip")
    first = submit(core, 2)
    scheduler = Scheduler(core, build)
    assert starts_of(scheduler, 0) == [first.id]
    start(core, first)
    drained(core)
    second = submit(core, 1)
    assert starts_of(scheduler, 1000) == []
    again = Core.load(core.dump())
    assert again.digest() == core.digest()
    for each in (core, again):
        later = Scheduler(each, build)
        end(each, each.jobs[first.id])
        assert starts_of(later, 2000) == []
        assert explain(each, later.policy, second.id).reason == "Reserved"
        each.apply(3000, ReservationDeleted(name="drain-n0"))
        assert starts_of(later, 3000) == [second.id]


def test_who_needs_a_drained_node_holds_up_nobody():
    core = cluster(node("big", 8), node("small", 2), policy="fifo")
    drained(core)
    wide, narrow = submit(core, 6), submit(core, 1)
    scheduler = Scheduler(core, build)
    assert starts_of(scheduler, 0) == [narrow.id]
    told = explain(core, scheduler.policy, wide.id)
    assert told.reason == "Reserved" and "node big is drained" in told.summary


def test_who_waits_for_a_window_does_not_keep_short_jobs_from_the_time_before_it():
    core = cluster(node("n0"), policy="priority")
    made = Reservation(name="kernel", start_ms=7_200_000, end_ms=9_000_000, nodes=(0,))
    core.apply(0, ReservationSet(reservation=made))
    endless = submit(core, 1)
    scheduler = Scheduler(core, build)
    assert starts_of(scheduler, 0) == []
    core.apply(3_600_000, Submitted(job=2, spec=spec(1, limit_ms=60_000)))
    assert starts_of(scheduler, 3_600_000) == [2]  # though job 1 has waited more than 15 min
    assert endless.id in core.pending


@pytest.mark.parametrize(
    ("limit", "says"),
    [
        (None, "it has no time limit and could still run when reservation 'kernel'"),
        (7_200_000, "it could still run when reservation 'kernel'"),
    ],
)
def test_a_held_up_job_is_told_by_what_and_which_time_limit_would_do(limit, says):
    core = cluster(node("n0"), policy="priority")
    made = Reservation(name="kernel", start_ms=3_000_000, end_ms=9_000_000, nodes=(0,))
    core.apply(0, ReservationSet(reservation=made))
    held = submit(core, 1, limit_ms=limit)
    short = submit(core, 1, limit_ms=60_000, tenant="other")
    scheduler = Scheduler(core, build)
    assert starts_of(scheduler, 0) == [short.id]
    told = explain(core, scheduler.policy, held.id)
    assert told.reason == "Reserved" and told.summary.startswith(says)
    assert "for nobody, 1970-01-01 00:50 UTC to 1970-01-01 02:30 UTC" in told.summary
    assert "with a time_limit of 50m or less it could start now before 'kernel'" in told.summary
    assert reasons(core, scheduler.policy)[held.id] == f"Reserved: {told.summary}"
    shorter = reasons(core, scheduler.policy, 1_200_000)[held.id]
    assert "with a time_limit of 30m or less" in shorter


def test_who_may_use_it_is_not_held_up_and_who_may_not_is_told_for_whom_it_is():
    core = cluster(node("n0"), policy="fifo-skip")
    made = Reservation(name="demo", start_ms=0, end_ms=9_000_000, tenants=("nlp",), nodes=(0,))
    core.apply(0, ReservationSet(reservation=made))
    other, owner = submit(core, 1, tenant="vis"), submit(core, 1, tenant="nlp")
    scheduler = Scheduler(core, build)
    assert starts_of(scheduler, 0) == [owner.id]
    told = explain(core, scheduler.policy, other.id)
    assert "reservation 'demo' (for nlp, " in told.summary
    assert "it can start at 1970-01-01 02:30 UTC" in told.summary
