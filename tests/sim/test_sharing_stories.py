"""Stories of two groups on one set of machines, in the simulator: who gets what, and when."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

import msgspec
import pytest

from fairlead.model.jobs import JobSpec
from fairlead.model.resources import Shape
from fairlead.policy.registry import policy_config
from fairlead.policy.sharing_file import read_sharing
from fairlead.sim.cluster import parse_cluster
from fairlead.sim.generate import generate
from fairlead.sim.meter import Meter, Over
from fairlead.sim.outcome import Rules
from fairlead.sim.queues import arrange
from fairlead.sim.replay import World, gate
from fairlead.sim.traces import jsonl
from fairlead.sim.workload import SimJob, Workload, fit

HOUR = 3_600_000
DAY = 24 * HOUR
CORES = 8


def job(name: str, at: int, run: int, queue: str, width: int = 1, **more) -> SimJob:
    spec = JobSpec(
        shape=Shape(cpu_milli=1000 * width),
        queue=queue,
        user=queue,
        limit_ms=run,
        expected_ms=run,
        **more,
    )
    return SimJob(name, at, run, spec)


def run(jobs, queues, policy, rules=None, until=None, *, cores: int = CORES) -> tuple:
    """Return the world after it has run, and (time, cores held by each queue) over time."""
    cluster = parse_cluster(f"pool:{cores}")
    jobs = sorted(jobs, key=lambda each: each.submit_ms)
    workload = Workload(tuple(jobs), {}, {})
    found = arrange(workload, cluster, read_sharing({"queues": queues}), "queue")
    config = policy_config(policy)
    world = World(found.workload, cluster, config, rules or Rules(), setup=found.setup)
    held: list[tuple[int, dict[str, int]]] = []

    def observe(now, core):
        held.append((now, {q: core.shares.branches[q].held[0] // 1000 for q in queues}))
        if until is not None and now >= until:
            raise Over

    with suppress(Over):
        world.run(None, observe)
    return world, held


def core_hours(held, queue: str, low: int, high: int) -> float:
    """Return what a queue had between two times."""
    total = 0
    for (at, now), (after, _) in pairwise(held):
        total += now[queue] * max(0, min(after, high) - max(at, low))
    return total / HOUR


# ---- an overload ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "users"),
    [("usage", "many"), ("usage", "one"), ("fair", "one")],
)
def test_in_an_overload_each_tenant_gets_its_weight(policy, users):
    cluster = parse_cluster("16x1gpu")
    header, lines = generate("overload", jobs=1500, load=2.2, cluster=cluster, seed=5, tenants=2)
    if users == "one":
        lines = [msgspec.structs.replace(line, user=line.tenant) for line in lines]
    text = b"".join(jsonl.encode(header, lines)).splitlines()
    made = fit(jsonl.parse("overload", list(enumerate(text, 1))), cluster, gate(cluster))
    weights = {"tenant1": {"weight": 1}, "tenant2": {"weight": 2}}
    found = arrange(made, cluster, read_sharing({"queues": weights}), "tenant")
    meter = Meter(list(weights), found.workload.jobs[-1].submit_ms)
    world = World(found.workload, cluster, policy_config(policy), setup=found.setup)
    with pytest.raises(Over):
        world.run(None, meter)
    assert meter.counted_ms > 0.9 * meter.until_ms
    assert meter.share("tenant2") == pytest.approx(2 / 3, abs=0.02)


@pytest.mark.parametrize("policy", ["fair", "fifo-skip", "priority-easy", "usage"])
def test_a_guarantee_is_met_at_once_and_costs_no_more_than_it_is(policy):
    queues = {"owner": {"quota": {"cpus": 3}}, "other": {}}
    jobs = [job(f"other{n}", 0, 5 * HOUR, "other") for n in range(30)]
    asked = [HOUR, 9 * HOUR]
    jobs += [job(f"owner{at}.{n}", at, 2 * HOUR, "owner") for at in asked for n in range(3)]
    world, held = run(jobs, queues, policy)
    world.check_conservation()
    waits = [
        start - each.submit_ms
        for each, start in zip(world.jobs, world.start_ms, strict=True)
        if each.spec.queue == "owner"
    ]
    assert len(waits) == 6 and max(waits) == 0
    assert 0 < sum(world.preempted) <= 6
    assert all(now["owner"] + now["other"] <= CORES for _, now in held)


# ---- idle for six days, then a burst --------------------------------------------------------


def burst(policy: str):
    """Return what a queue gets that was idle for six days, in each of the days of its burst."""
    jobs = [job(f"busy{n}", n * HOUR // CORES, HOUR, "busy") for n in range(10 * 24 * CORES)]
    jobs += [job(f"idle{n}", 6 * DAY, HOUR, "idle") for n in range(4 * 24 * CORES)]
    _, held = run(jobs, {"busy": {}, "idle": {}}, policy, until=10 * DAY)
    assert core_hours(held, "idle", 0, 6 * DAY) == 0
    days = [core_hours(held, "idle", day * DAY, (day + 1) * DAY) for day in range(6, 10)]
    return [each / (24 * CORES) for each in days], held


def test_idle_for_six_days_then_a_burst_gets_half_at_once_and_no_credit_by_present_use():
    parts, held = burst("hdrf")
    assert parts == pytest.approx([0.5] * 4, abs=0.05)
    # Nobody is stopped for it: it has its half as soon as what ran has ended.
    first = next(at for at, now in held if now["idle"] >= CORES // 2)
    assert first - 6 * DAY <= HOUR


def test_idle_for_six_days_then_a_burst_is_paid_back_by_past_use_but_not_for_ever():
    parts, _ = burst("usage")
    assert parts[0] > 0.9  # what was not used for days comes back now
    both, _ = burst("fair")
    assert 0.5 < both[0] < parts[0]  # and the other group is not shut out for it
    assert both[0] > both[-1] > 0.45


# ---- a late queue and a long one ------------------------------------------------------------


def late(policy: str, queues=None):
    jobs = [job(f"long{n}", n, 10 * HOUR, "long") for n in range(10 * CORES)]
    jobs.append(job("late", HOUR, HOUR, "late"))
    world, held = run(jobs, queues or {"long": {}, "late": {}}, policy)
    world.check_conservation()
    names = [each.id for each in world.jobs]
    return world, held, names.index("late")


def test_a_late_queue_starves_behind_a_long_one_in_one_line():
    world, _, index = late("fifo")
    assert world.start_ms[index] >= 90 * HOUR  # behind all eighty that came before it


@pytest.mark.parametrize("policy", ["fair", "hdrf", "usage", "drf", "maxmin", "fairtree"])
def test_a_late_queue_is_next_when_shares_decide(policy):
    world, _, index = late(policy)
    assert world.start_ms[index] <= 10 * HOUR + CORES  # as soon as anything ends
    assert sum(world.preempted) == 0


def test_a_late_queue_with_a_guarantee_does_not_wait_and_one_job_makes_room():
    world, _, index = late("fair", {"long": {}, "late": {"quota": {"cpus": 1}}})
    assert world.start_ms[index] == HOUR
    assert sum(world.preempted) == 1
    victim = world.preempted.index(1)
    # It goes on when the guest is gone, with all that it had done.
    assert world.end_ms[victim] - world.jobs[victim].submit_ms <= 11 * HOUR + CORES
