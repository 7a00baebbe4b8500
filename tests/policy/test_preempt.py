"""Preemptive orders: work is conserved, rules are kept, and nothing lives outside the core."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import Watched, gpu_nodes, jobs_on, pool

from fairlead.core.engine import Core
from fairlead.model.events import ForeignUsage, ReservationSet
from fairlead.model.jobs import LIVE, JobSpec, Reservation
from fairlead.model.resources import Shape, Slot
from fairlead.policy.gittins import GittinsTable
from fairlead.policy.preempt import GittinsOrder, learnt_of
from fairlead.policy.registry import POLICIES, build, policy_config
from fairlead.sim.outcome import Rules
from fairlead.sim.workload import SimJob
from strategies import cluster, node, place, start, submit

PREEMPTIVE = [name for name in POLICIES if policy_config(name).preempt]
HERE = Path(__file__).parent


def config(name: str, **more):
    made = policy_config(name)
    if made.levels_gpu_ms:
        more.setdefault("levels_gpu_ms", (10, 40))
    return msgspec.structs.replace(made, **more)


@pytest.mark.parametrize("gpus", [False, True], ids=["pool", "gpus"])
@pytest.mark.parametrize("name", PREEMPTIVE)
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_work_is_conserved_and_only_what_is_lost_is_done_again(name, gpus, data):
    jobs = data.draw(jobs_on(gpus, due=True))
    rules = Rules(
        restart_ms=data.draw(st.integers(0, 3)), checkpoint_ms=data.draw(st.integers(0, 4))
    )
    busy: dict[int, int] = {}
    before = (0, set[int]())

    def observe(now: int, core: Core) -> None:
        nonlocal before
        for job in before[1]:
            busy[job] = busy.get(job, 0) + now - before[0]
        before = (now, {job.id for job in core.jobs.values() if job.phase in LIVE})

    jobs = [respec(job, limit_ms=None) for job in jobs]
    nodes = gpu_nodes() if gpus else pool(8)
    world = Watched(jobs, nodes, config(name, preemptions_max=5), rules)
    world.done(observe)
    assert sum(busy.values()) == sum(job.run_ms for job in jobs) + world.lost_ms
    assert all(busy.get(i, 0) >= job.run_ms for i, job in enumerate(jobs, 1))


def respec(job: SimJob, **changes) -> SimJob:
    return msgspec.structs.replace(job, spec=msgspec.structs.replace(job.spec, **changes))


small = st.lists(st.tuples(st.integers(0, 4), st.integers(1, 4)), min_size=1, max_size=5)


@settings(max_examples=100, deadline=None)
@given(jobs=small)
def test_least_remaining_first_on_one_server_has_the_least_total_completion_of_all_schedules(jobs):
    jobs = sorted(jobs)
    last = max(at for at, _ in jobs) + sum(run for _, run in jobs)

    @cache
    def least(now: int, left: tuple[int, ...]) -> int:
        """Return the least sum of completions over every way to go on."""
        if not any(left):
            return 0
        assert now <= last
        ready = [i for i, (at, _) in enumerate(jobs) if at <= now and left[i]]
        if not ready:
            return least(now + 1, left)
        found = []
        for i in ready:
            rest = (*left[:i], left[i] - 1, *left[i + 1 :])
            found.append((now + 1 if not rest[i] else 0) + least(now + 1, rest))
        return min(found)

    spec = JobSpec(shape=Shape())
    made = [respec(SimJob(i, at, run, spec), expected_ms=run) for i, (at, run) in enumerate(jobs)]
    world = Watched(made, pool(1), "srtf").done()
    assert sum(world.end_ms) == least(0, tuple(run for _, run in jobs))


@pytest.mark.parametrize("name", PREEMPTIVE)
@settings(max_examples=8, deadline=None)
@given(jobs=jobs_on(True, due=True))
def test_jobs_of_one_gpu_leave_no_gpu_idle_while_any_waits(name, jobs):
    one = Shape(cpu_milli=1, gpus=1)
    jobs = [respec(job, shape=one) for job in jobs]

    def observe(now: int, core: Core) -> None:
        used = sum(job.phase in LIVE for job in core.jobs.values())
        assert not core.pending or used == 7

    Watched(jobs, gpu_nodes(), config(name)).done(observe)


@pytest.mark.parametrize("name", PREEMPTIVE)
@settings(max_examples=8, deadline=None)
@given(
    jobs=jobs_on(True, due=True),
    least=st.integers(0, 9),
    most=st.sampled_from([None, 1, 2]),
    data=st.data(),
)
def test_the_rules_against_thrashing_are_kept(name, jobs, least, most, data):
    kept = {i for i in range(len(jobs)) if data.draw(st.booleans())}
    jobs = [respec(job, preemptible=i not in kept) for i, job in enumerate(jobs)]
    world = Watched(jobs, gpu_nodes(), config(name, min_run_ms=least, preemptions_max=most)).done()
    assert all(ran >= least for _, _, ran in world.stops)
    assert not {job - 1 for _, job, _ in world.stops} & kept
    assert most is None or max(world.preempted) <= most
    # Finitely many: all that happens is arrivals, ends, three levels, and a few promotions.
    assert len(world.stops) <= 3 * len(jobs) ** 2


def test_preemption_is_of_use():
    long, short = JobSpec(shape=Shape(), expected_ms=10), JobSpec(shape=Shape(), expected_ms=2)
    world = Watched([SimJob(0, 0, 10, long), SimJob(1, 4, 2, short)], pool(1), "srtf").done()
    assert (world.end_ms, world.preempted) == ([12, 6], [1, 0])


def test_restarts_and_unsaved_work_cost_time_and_are_counted():
    long, short = JobSpec(shape=Shape(), expected_ms=10), JobSpec(shape=Shape(), expected_ms=2)
    jobs = [SimJob(0, 0, 10, long), SimJob(1, 4, 2, short)]
    world = Watched(jobs, pool(1), "srtf", Rules(restart_ms=1, checkpoint_ms=3)).done()
    # Saved at 3, stopped at 4; from 6 on 1 ms of restart, then the 7 ms that were not saved.
    assert (world.end_ms, world.lost_ms) == ([14, 6], 2)


@settings(max_examples=30, deadline=None)
@given(jobs=jobs_on(False))
def test_a_job_that_sank_waits_no_longer_than_its_promotion(jobs):
    levels, percent = (10, 40), 200

    def observe(now: int, core: Core) -> None:
        for job in core.pending.values():
            served = job.served_ms - job.promoted_served_ms
            if served * job.spec.shape.cpu_milli >= levels[0] * 1000:
                waited = job.waited_ms + now - job.pending_ms
                assert waited < max(1, served * percent // 100)

    Watched(jobs, pool(8), config("las", levels_gpu_ms=levels, promote_percent=percent)).done(
        observe
    )


# ---- all policies: nothing essential outside the core -------------------------------------------


@pytest.mark.parametrize("name", POLICIES)
@settings(max_examples=5, deadline=None)
@given(jobs=jobs_on(True), reserve=st.booleans())
def test_a_scheduler_that_forgets_all_but_its_core_at_every_turn_decides_the_same(
    name, jobs, reserve
):
    end = 60
    night = Reservation(name="r", start_ms=20, end_ms=end, tenants=("t",), nodes=(1,))
    more = {"setup": [ReservationSet(reservation=night)]} if reserve else {}
    jobs = [respec(job, limit_ms=None if i % 5 == 4 else job.spec.limit_ms)
            for i, job in enumerate(jobs)]  # fmt: skip
    whole = Watched(jobs, gpu_nodes(), config(name), **more).done()
    split = Watched(jobs, gpu_nodes(), config(name), **more)
    split.forget = True
    assert split.done().schedule == whole.schedule


# Those whose newcomers wait for a round begin them on the clock.
UNSCALED = ("las", "gittins", "priority", "allox", "sia", "pollux")
SCALED = [name for name in POLICIES if not name.startswith(UNSCALED)]


@pytest.mark.parametrize("name", SCALED)
@settings(max_examples=4, deadline=None)
@given(jobs=jobs_on(True, due=True))
def test_the_unit_of_time_does_not_matter(name, jobs):
    slow = [
        msgspec.structs.replace(
            respec(
                job,
                limit_ms=7 * job.spec.limit_ms,
                expected_ms=7 * job.spec.expected_ms,
                deadline_ms=job.spec.deadline_ms and 7 * job.spec.deadline_ms,
            ),
            submit_ms=7 * job.submit_ms,
            run_ms=7 * job.run_ms,
        )
        for job in jobs
    ]
    usual, scaled = (Watched(each, gpu_nodes(), name).done() for each in (jobs, slow))
    assert scaled.start_ms == [7 * at for at in usual.start_ms]
    assert (scaled.nodes, scaled.preempted) == (usual.nodes, usual.preempted)


@pytest.mark.parametrize("name", POLICIES)
@settings(max_examples=3, deadline=None)
@given(jobs=jobs_on(True, due=True))
def test_names_of_nodes_users_and_jobs_do_not_matter(name, jobs):
    renamed = [
        msgspec.structs.replace(node, name=f"z{9 - i}") for i, node in enumerate(gpu_nodes())
    ]
    others = [
        respec(job, user="z", name=f"j{job.id}", tenant=f"x{job.spec.tenant}") for job in jobs
    ]
    usual, other = Watched(jobs, gpu_nodes(), name), Watched(others, renamed, name)
    assert other.done().schedule == usual.done().schedule


def test_every_policy_gives_the_same_schedule_whatever_the_hash_seed():
    program = (
        "import random, worlds\n"
        "from fairlead.policy.registry import POLICIES\n"
        "from fairlead.sim.workload import SimJob\n"
        "from fairlead.model.jobs import JobSpec\n"
        "rng, at, jobs = random.Random(1), 0, []\n"
        "for i in range(60):\n"
        "    at += rng.randint(0, 9); limit = rng.randint(1, 60)\n"
        "    spec = JobSpec(shape=worlds.gpu_shape(rng), limit_ms=limit,\n"
        "                   tenant=rng.choice('tuv'), expected_ms=rng.randint(1, 90),\n"
        "                   priority=rng.choice([10, 90]))\n"
        "    jobs.append(SimJob(i, at, rng.randint(1, limit), spec))\n"
        "for name in POLICIES:\n"
        "    world = worlds.Watched(jobs, worlds.gpu_nodes(), name).done()\n"
        "    print(name, world.schedule, world.core.digest())\n"
    )
    path = os.pathsep.join([str(HERE.parents[1] / "src"), str(HERE.parent), str(HERE)])
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout
        for seed in ("1", "4242")
    }
    assert len(outputs) == 1 and outputs.pop().count("\n") == len(POLICIES)


# ---- found by the fault simulation ---------------------------------------------------------------


def decided(core: Core) -> list:
    return list(build(core.policy).decide(core))


def test_foreign_use_stops_no_running_job_since_nobody_gains_by_it():
    core = cluster(*pool(8), policy="edf")
    running = submit(core, 8)
    place(core, running, 0)
    start(core, running)
    core.apply(1, ForeignUsage(node=0, amounts=(4000, 0, 0, 0, 0)))
    assert decided(core) == []


def test_a_preemptive_policy_starts_nobody_in_a_reservation_of_others():
    core = cluster(*pool(8), policy="priority-preempt")
    held = Reservation(
        name="r", start_ms=0, tenants=("a",), shape=Shape(cpu_milli=6000), slots=(Slot(node=0),)
    )
    core.apply(0, ReservationSet(reservation=held))
    submit(core, 4, tenant="b")
    assert decided(core) == []
    submit(core, 4, tenant="a")
    assert [event.job for event in decided(core)] == [2]


def test_whoever_uses_a_reservation_of_its_own_is_not_stopped_for_one_who_may_not():
    core = cluster(*pool(16), policy="priority-preempt")
    held = Reservation(
        name="r", start_ms=0, tenants=("a",), shape=Shape(cpu_milli=8000), slots=(Slot(node=0),)
    )
    core.apply(0, ReservationSet(reservation=held))
    owner = submit(core, 15, tenant="a", priority=10)
    place(core, owner, 0)
    start(core, owner)
    submit(core, 12, tenant="b", priority=90)
    assert decided(core) == []
    submit(core, 8, tenant="b", priority=90)
    assert [type(event).__name__ for event in decided(core)] == ["StopDecided"]


def test_what_gittins_has_learnt_follows_from_the_core_alone():
    core = Core()
    kept = GittinsOrder()
    for seen in range(1, 1500):
        core.services.append(seen * 7 % 50)
        core.services_seen = seen
        if len(core.services) > 1024:
            del core.services[:-512]
        kept.learn(core)
        if seen % 37 == 0:
            fresh = GittinsOrder()
            fresh.learn(core)
            assert fresh._table.values == kept._table.values
    assert [learnt_of(seen) for seen in (0, 1, 2, 3, 5, 63, 64, 127, 128)] == [
        *(0, 1, 2, 2, 4, 32, 64, 64, 128)
    ]


def test_two_long_jobs_share_a_place_by_gittins_without_history_few_times():
    spec = JobSpec(shape=Shape())
    jobs = [SimJob(0, 0, 100_000, spec), SimJob(1, 1, 100_000, spec)]
    jobs += [SimJob(2 + i, 100 * i + 2, 1, spec) for i in range(500)]  # something always happens
    jobs.sort(key=lambda job: job.submit_ms)
    world = Watched(jobs, pool(1), "gittins")
    world.scheduler.policy.preempt.gittins.learn = lambda core: None
    world.done()
    assert not GittinsTable(()).values
    longest = sorted(world.preempted)[-2:]
    assert max(longest) <= 600 and sum(longest) < 700


def test_a_gang_takes_the_places_of_others_beside_the_room_that_there_is():
    """Four places, three of them held by jobs of low priority: a gang of two needs one more."""
    core = cluster(node(gpus=4), policy="priority-preempt")
    low = [submit(core, 0, gpus=1, priority=10) for _ in range(3)]
    for number, job in enumerate(low):
        place(core, job, Slot(node=0, devices=(number,)))
        start(core, job)
    gang = submit(core, 0, gpus=1, members=2, priority=90)
    (stop,) = list(build(core.policy).decide(core))
    assert stop.job in [job.id for job in low]
    assert f"{gang.id}" in stop.because
