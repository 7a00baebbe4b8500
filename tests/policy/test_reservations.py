"""Reservations: nothing of others runs in them, owners may, and without them nothing changes."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.model.base import Refused
from fairlead.model.jobs import JobSpec, Reservation
from fairlead.model.resources import Shape, Slot
from fairlead.sim.cluster import parse_cluster
from fairlead.sim.replay import gate, replay
from fairlead.sim.workload import SimJob, Workload

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
    for node, its in enumerate(parse_cluster(spec).nodes):
        for now in times:
            used: dict[str, int] = defaultdict(int)
            for index, held in slots.items():
                if done.start_ms[index] <= now < done.end_ms[index]:
                    count = sum(slot.node == node for slot in held)
                    used[jobs[index].spec.tenant] += count * jobs[index].spec.shape.cpu_milli
            kept: dict[str, int] = defaultdict(int)
            for each in reservations:
                if each.shape and each.start_ms <= now < each.end_ms:
                    count = sum(slot.node == node for slot in each.slots)
                    kept["".join(each.tenants)] += count * each.shape.cpu_milli
            for tenant, amount in used.items():
                others = sum(max(kept[t] - used.get(t, 0), 0) for t in kept if t != tenant)
                free = its.cpu_milli - sum(used.values()) + amount
                assert amount <= max(free - others, 0) or not others, (node, now, tenant)


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
