"""Plans of the future against a count over every whole time, on tiny clusters."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import NEVER, Hold, earliest, fits, gpu_nodes, gpu_shape, live

from fairlead.core.ends import FAR, believed_run_ms
from fairlead.core.engine import Core
from fairlead.core.ledger import Request
from fairlead.model.events import MemberEnded, ReservationSet, StopDecided
from fairlead.model.jobs import Exit, Phase, Reservation
from fairlead.model.resources import Node, Shape, Slot
from fairlead.policy.beside import find
from fairlead.policy.ending import expected_end, next_end
from fairlead.policy.line import Line
from fairlead.policy.place.fit import Fit
from fairlead.policy.place.score import BestFit
from fairlead.policy.place.trial import Trial
from fairlead.policy.plan import Plan, Plans, Shadow
from strategies import cluster, place, start, submit

seeds = st.integers(0, 2**32)


def busy(rng: Random, nodes: list[Node]) -> Core:
    """Return a cluster on which some jobs run, each with a limit; now is 5."""
    core = cluster(*nodes)
    core.now = core.clock = 5
    fit = Fit(core.ledger, BestFit())
    for _ in range(rng.randint(0, 7)):
        job = submit(core, limit_ms=rng.choice([1, 3, 6, 10]), **fields(gpu_shape(rng)))
        slots = fit.gang(core.shapes[job.shape_id])
        if slots is not None:
            place(core, job, *slots)
            start(core, job)
    for job in list(core.jobs.values()):
        if job.phase is Phase.RUNNING and len(job.slots) > 1 and rng.random() < 0.5:
            gone = MemberEnded(job=job.id, attempt=job.attempt, exit=Exit(code=0))
            core.apply(5, gone)  # its slot is held until the others are gone too
    for job_id in list(core.pending):
        core.pending.pop(job_id)
        del core.jobs[job_id]
    return core


def fields(shape: Shape) -> dict:
    names = ("members", "spread", "gpus", "gpu_milli", "gpu_memory_mib", "gpu_models")
    names += ("within", "near")
    return {"cpus": shape.cpu_milli / 1000, **{name: getattr(shape, name) for name in names}}


def nodes_of(rng: Random) -> list[Node]:
    return gpu_nodes()[: rng.randint(1, 3)]


def reserved(rng: Random, core: Core) -> list[Hold]:
    """Make reservations at random; return what they hold."""
    holds: list[Hold] = []
    for number in range(rng.randint(0, 2)):
        begin = rng.randint(3, 14)
        end = rng.choice([None, begin + rng.randint(1, 6)])
        where = rng.randrange(len(core.nodes))
        spec = core.nodes[where].spec
        whole = rng.random() < 0.5
        shape = Shape(cpu_milli=rng.choice([1000, 8000]), gpus=rng.randint(0, len(spec.devices)))
        slot = Slot(node=where, devices=tuple(range(shape.gpus)))
        each = Reservation(
            name=str(number),
            start_ms=begin,
            end_ms=end,
            nodes=(where,) if whole else (),
            shape=None if whole else shape,
            slots=() if whole else (slot,),
        )
        core.apply(5, ReservationSet(reservation=each))
        until = NEVER if end is None else end
        if whole:
            everything = Shape(
                cpu_milli=spec.cpu_milli, memory_mib=spec.memory_mib, gpus=len(spec.devices)
            )
            slot = Slot(node=where, devices=tuple(range(len(spec.devices))))
            holds.append((everything, slot, begin, until))
        else:
            holds.append((shape, slot, begin, until))
    return holds


@settings(max_examples=300, deadline=None)
@given(seed=seeds)
def test_the_earliest_start_is_the_first_of_all_times_at_which_everything_fits(seed):
    rng = Random(seed)
    nodes = nodes_of(rng)
    core = busy(rng, nodes)
    holds = live(core) + reserved(rng, core)
    plan = Plan(core, Fit(core.ledger, BestFit()))
    for _ in range(4):
        shape, run = gpu_shape(rng), rng.choice([1, 2, 5, 9])
        request = Request(shape)
        expected = earliest(nodes, holds, shape, 5, run)
        found = plan.earliest(request, run)
        assert (None if found is None else found[0]) == expected
        if found is None:
            assert plan.earliest(request, run, until=NEVER) is None
            continue
        at, slots = found
        assert len(slots) == shape.members
        assert plan.earliest(request, run, until=at) is None
        for slot in slots:  # one after the other: each beside the last, on its very devices
            alone = Shape(**{**fields_of_one(shape)})
            assert fits_there(nodes, holds, alone, slot, at, run)
            holds.append((alone, slot, at, at + run))
        plan.claim(request, slots, at, at + run, -1)


def fields_of_one(shape: Shape) -> dict:
    names = ("cpu_milli", "gpus", "gpu_milli", "gpu_memory_mib", "gpu_models")
    return {name: getattr(shape, name) for name in names}


def fits_there(
    nodes: list[Node], holds: list[Hold], shape: Shape, slot: Slot, at: int, run: int
) -> bool:
    """Whether a member has room on these very devices: all others there are taken away."""
    others = [d for d in range(len(nodes[slot.node].devices)) if d not in slot.devices]
    taken = [
        (Shape(cpu_milli=0, gpus=1), Slot(node=slot.node, devices=(device,)), at, at + run)
        for device in others
        if shape.gpus or shape.gpu_milli
    ]
    only = [hold for hold in holds if not set(hold[1].devices) & set(others)] + taken
    hosts = [
        (Shape(cpu_milli=hold[0].cpu_milli), Slot(node=hold[1].node), *hold[2:])
        for hold in holds
        if set(hold[1].devices) & set(others)
    ]
    here = [hold for hold in only + hosts if hold[1].node == slot.node]
    moved = [(s, Slot(node=0, devices=where.devices), a, b) for s, where, a, b in here]
    return fits([nodes[slot.node]], moved, shape, at, run)


@settings(max_examples=200, deadline=None)
@given(seed=seeds)
def test_a_shadow_lets_start_what_a_plan_with_this_one_claim_does(seed):
    rng = Random(seed)
    core = busy(rng, nodes_of(rng))
    fit = Fit(core.ledger, BestFit())
    head, run = Request(gpu_shape(rng)), rng.choice([1, 5, FAR])
    shadow = Shadow(Plan(core, fit), head, run)
    plan = Plan(core, fit)
    found = plan.earliest(head, run)
    assert (shadow.start_ms, shadow.slots) == ((FAR, ()) if found is None else found)
    if found is None:
        return
    plan.claim(head, found[1], found[0], FAR, -1)  # to the end: a shadow knows no other
    for _ in range(6):
        shape, run = gpu_shape(rng), rng.choice([1, 3, 6, 20])
        other, until = Request(shape), 5 + run
        slots = find(fit, other, shadow, until)
        assert slots == find(fit, other, plan, until)
        if slots is not None and rng.random() < 0.5:
            shadow.take(other, slots, until)
            plan.occupy(other, slots, until)
            place(core, submit(core, limit_ms=run, **fields(shape)), *slots)


@settings(max_examples=150, deadline=None)
@given(seed=seeds)
def test_the_earliest_time_of_one_line_is_the_first_of_all_times(seed):
    rng = Random(seed)
    nodes = gpu_nodes()[rng.randint(0, 2) :][:1]
    core = cluster(*nodes)
    line, holds = Line(0, Trial.now(core.ledger, 0)), []
    for _ in range(rng.randint(0, 6)):
        shape = Shape(**fields_of_one(gpu_shape(rng)))
        at, run = rng.randint(0, 8), rng.randint(1, 8)
        trial = line.least(at, at + run)
        devices = trial.pick(Request(shape))
        assert (devices is not None) == fits(nodes, holds, shape, at, run)
        if devices is not None:
            line.move(Request(shape), devices, at, at + run, -1)
            holds.append((shape, Slot(node=0, devices=devices), at, at + run))
    shape, run, now = Shape(**fields_of_one(gpu_shape(rng))), rng.randint(1, 9), rng.randint(0, 3)
    assert line.earliest(Request(shape), run, now) == earliest(nodes, holds, shape, now, run)


def test_a_gang_with_two_members_on_a_node_has_a_line():
    """Found by the fault simulation: slots have no order, and were compared."""
    core = cluster(*gpu_nodes()[:1])
    job = submit(core, 1, members=2, limit_ms=10)
    place(core, job, 0, 0)
    plan = Plan(core, Fit(core.ledger, BestFit()))
    assert plan.line(0).times == [0, 10]


def test_what_is_overdue_is_expected_in_steps_that_double():
    """Found by the fault simulation: it counted as gone, or was planned anew every millisecond."""
    assert expected_end(100, 99) == 100
    assert expected_end(100, 100) == expected_end(100, 1099) == 1100
    assert expected_end(100, 1100) == expected_end(100, 2099) == 2100
    assert expected_end(100, 2100) == 4100
    assert expected_end(FAR, 2100) == FAR


def test_plans_fall_when_what_they_believe_of_a_job_has_moved_or_passed():
    """Found by the fault simulation: a job that had to end, but had not, made room for others."""
    core = cluster(*gpu_nodes()[:1])
    job = submit(core, 8, limit_ms=10)
    place(core, job, 0)
    fit = Fit(core.ledger, BestFit())
    plans = Plans(core, fit)
    assert plans.stands()
    core.clock = 10
    assert not plans.stands()
    plans = Plans(core, fit)
    core.apply(10, StopDecided(job=job.id, attempt=1, then=Phase.PENDING))
    assert not plans.stands()
    assert believed_run_ms(job, core.policy) == 10


def test_of_those_who_are_overdue_whoever_is_least_so_is_expected_to_go_first():
    """Found by the fault simulation: plans stood until the one that is longest overdue was due."""
    core = cluster(*gpu_nodes()[:1])
    for limit in (10, 1500):
        place(core, submit(core, 1, limit_ms=limit), 0)
    core.clock = 2200
    assert [expected_end(end, 2200) for end, _ in core.ends.sorted] == [4010, 2500]
    assert next_end(core) == 2500
