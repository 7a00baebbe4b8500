"""Backfilling held against what it promises, by a checker that counts plainly."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import Watched, earliest, gpu_nodes, jobs_on, live, pool

from fairlead.core.engine import Core
from fairlead.model.jobs import JobSpec
from fairlead.model.resources import Shape
from fairlead.sim.workload import SimJob

PLACES = [pytest.param(False, id="pool"), pytest.param(True, id="gpus")]


def nodes_of(gpus: bool):
    return gpu_nodes() if gpus else pool(8)


def holds_only_what_is_there(nodes, core: Core) -> None:
    for index, node in enumerate(nodes):
        for _, slot, _, _ in live(core):
            assert slot.node < len(nodes)
        used = sum(shape.cpu_milli for shape, slot, _, _ in live(core) if slot.node == index)
        assert used <= node.cpu_milli


@pytest.mark.parametrize("gpus", PLACES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_the_head_of_easy_starts_by_its_first_shadow_which_never_moves_later(gpus, data):
    jobs, nodes = data.draw(jobs_on(gpus)), nodes_of(gpus)
    shadows: dict[int, int] = {}

    def observe(now: int, core: Core) -> None:
        holds_only_what_is_there(nodes, core)
        head = min(core.pending.values(), key=lambda j: (j.submitted_ms, j.id), default=None)
        if head is None:
            return
        shadow = earliest(nodes, live(core), head.spec.shape, now, 1)
        assert shadow is not None and shadow > now, "the head fits and still waits"
        assert shadow <= shadows.get(head.id, shadow), f"the head, job {head.id}, moved later"
        shadows[head.id] = shadow

    world = Watched(jobs, nodes, "easy").done(observe)
    for job, shadow in shadows.items():
        assert world.start_ms[job - 1] <= shadow


@pytest.mark.parametrize("gpus", PLACES)
@pytest.mark.parametrize("policy", ["conservative", "fifo-backfill4", "fifo-backfill2"])
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_no_promise_moves_later_and_each_is_kept(gpus, policy, data):
    jobs, nodes = data.draw(jobs_on(gpus)), nodes_of(gpus)
    promised: dict[int, int] = {}

    def observe(now: int, core: Core) -> None:
        holds_only_what_is_there(nodes, core)
        if policy == "conservative":
            assert core.promises.keys() == core.pending.keys()
        else:
            assert len(core.promises) <= int(policy[-1])
        for job in core.promises.values():
            assert now <= job.promise.start_ms <= promised.get(job.id, job.promise.start_ms)
            promised[job.id] = job.promise.start_ms
        for job in promised.keys() & core.pending.keys():
            assert job in core.promises, "a promise was dropped though nobody came before"

    world = Watched(jobs, nodes, policy).done(observe)
    for job, start in promised.items():
        assert world.start_ms[job - 1] <= start


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_conservative_first_promise_is_the_earliest_hole_beside_all_others(data):
    jobs, nodes = data.draw(jobs_on(True, most=15)), gpu_nodes()
    known: set[int] = set()

    def observe(now: int, core: Core) -> None:
        fresh = [job for job in core.promises.values() if job.id not in known]
        if fresh:  # the last that came was promised beside all others as they stand now
            last = max(fresh, key=lambda job: job.id)
            holds = live(core) + [
                (job.spec.shape, slot, job.promise.start_ms, job.promise.end_ms)
                for job in core.promises.values()
                if job is not last
                for slot in job.promise.slots
            ]
            found = earliest(nodes, holds, last.spec.shape, now, last.promise.run_ms)
            assert last.promise.start_ms == found
        known.update(core.promises)

    Watched(jobs, nodes, "conservative").done(observe)


@pytest.mark.parametrize("policy", ["easy", "conservative", "fifo-backfill4", "easy-sjbf"])
@given(runs=st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), min_size=1, max_size=12))
@settings(max_examples=20, deadline=None)
def test_where_nothing_fits_beside_another_backfilling_is_first_come_first_served(policy, runs):
    at, jobs = 0, []
    for number, (gap, run) in enumerate(runs):
        at += gap
        spec = JobSpec(shape=Shape(cpu_milli=8000), limit_ms=2 * run)
        jobs.append(SimJob(number, at, run, spec))
    fifo = Watched(jobs, pool(8), "fifo").done()
    assert Watched(jobs, pool(8), policy).done().schedule == fifo.schedule


def test_backfilling_is_of_use():
    """The checks above would pass for strict order as well."""
    wide = JobSpec(shape=Shape(cpu_milli=8000), limit_ms=10)
    narrow = JobSpec(shape=Shape(cpu_milli=1000), limit_ms=10)
    short = JobSpec(shape=Shape(cpu_milli=1000), limit_ms=8)
    jobs = [SimJob(0, 0, 10, narrow), SimJob(1, 1, 10, wide), SimJob(2, 2, 5, short)]
    for policy, third in (("fifo", 20), ("easy", 2), ("conservative", 2), ("fifo-backfill2", 2)):
        assert Watched(jobs, pool(8), policy).done().start_ms == [0, 10, third]
