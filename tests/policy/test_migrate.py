"""Making room: the cheapest of all ways, in steps of which none over-fills a machine."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crowded import Held, Host, core_of, make_room
from fairlead.core.engine import Core
from fairlead.core.ledger import Request
from fairlead.model.events import NodeJoined, Placed, Submitted
from fairlead.model.jobs import JobSpec
from fairlead.model.resources import Device, Node, Shape, Slot, gang_of
from fairlead.policy.defrag import movers, somebody
from fairlead.policy.migrate import Move, cheapest, has_room, in_safe_order, shift
from fairlead.policy.place import score
from fairlead.policy.place.fit import Fit
from fairlead.solve.lp import Program, mixed


@st.composite
def clusters(draw):
    nodes, number = {}, 0
    for name in "abcd"[: draw(st.integers(1, 4))]:
        capacity = left = draw(st.integers(2, 8))
        jobs = {}
        for _ in range(draw(st.integers(0, 4))):
            gpus = draw(st.integers(1, 4))
            if gpus <= left:
                cost = draw(st.sampled_from([None, 0, 10, 30, 70]))
                jobs[f"j{number}"] = Held(gpus, cost)
                number, left = number + 1, left - gpus
        nodes[name] = Host(capacity, jobs)
    return nodes


def by_program(nodes, need, count):
    """The least cost, and the fewest moves of that cost, by an integer program."""
    program = Program()
    jobs = {job: (name, held) for name, host in nodes.items() for job, held in host.jobs.items()}
    target = {name: program.binary() for name in nodes if nodes[name].capacity >= need}
    place = {
        job: {
            name: program.binary(0.0 if name == home else float(held.cost * (len(jobs) + 1) + 1))
            for name in nodes
            if name == home or held.cost is not None
        }
        for job, (home, held) in jobs.items()
    }
    for columns in place.values():
        program.row(dict.fromkeys(columns.values(), 1.0), least=1.0, most=1.0)
    for name, host in nodes.items():
        terms = {
            columns[name]: float(jobs[job][1].gpus)
            for job, columns in place.items()
            if name in columns
        }
        if name in target:
            terms[target[name]] = float(need)
        if terms:
            program.row(terms, most=float(host.capacity))
    program.row(dict.fromkeys(target.values(), 1.0), least=float(count))
    found = mixed(program)
    if found.value is None:
        return None
    return divmod(round(found.value), len(jobs) + 1)


@settings(max_examples=60, deadline=None)
@given(clusters(), st.integers(1, 8), st.integers(1, 2))
def test_the_moves_cost_what_the_cheapest_of_all_costs_and_are_as_few(nodes, need, count):
    core, _ = core_of(nodes)
    before = core.digest()
    found = make_room(core, nodes, need, count)
    best = by_program(nodes, need, count)
    assert found.sure and core.digest() == before
    assert (found.way is None) == (best is None)
    if found.way is not None:
        assert (found.way.cost, len(found.way.moves)) == best
        in_steps(core, found.way.moves, found.way.slots)


def in_steps(core: Core, moves, room) -> None:
    """Take the steps one by one; nothing is ever over-filled, and at the end there is room."""
    trials, away = {}, set()
    for step in in_safe_order(core, moves):
        request = core.shapes[core.jobs[step.move.job].shape_id]
        if step.kind != "resume":
            shift(core, trials, request, step.move.source, 1)
        if step.kind == "suspend":
            away.add(step.move.job)
            continue
        assert (step.kind == "resume") == (step.move.job in away)
        away.discard(step.move.job)
        assert has_room(core, trials, request, step.move.to)
        shift(core, trials, request, step.move.to, -1)
    assert not away
    need = Request(Shape(cpu_milli=0, gpus=len(room[0].devices)))
    assert has_room(core, trials, need, room)


def test_nothing_moves_where_there_is_room():
    nodes = {"a": Host(8, {"x": Held(4, 0)}), "b": Host(8, {})}
    core, _ = core_of(nodes)
    found = make_room(core, nodes, 8)
    assert found.way is not None and found.way.moves == () and found.way.cost == 0
    assert found.way.slots == (Slot(1, tuple(range(8))),)


def test_two_that_change_places_need_one_to_be_suspended():
    core, _ = core_of({"a": Host(2, {"x": Held(2, 9)}), "b": Host(2, {"y": Held(2, 5)})})
    here, there = (Slot(0, (0, 1)),), (Slot(1, (0, 1)),)
    steps = in_safe_order(core, [Move(1, here, there, 9), Move(2, there, here, 5)])
    assert [(step.kind, step.move.job) for step in steps] == [
        ("suspend", 2), ("move", 1), ("resume", 2),
    ]  # fmt: skip


def test_a_move_that_waits_for_another_comes_after_it():
    nodes = {"a": Host(4, {"x": Held(3, 9)}), "b": Host(3, {"y": Held(2, 5)}), "c": Host(2, {})}
    core, names = core_of(nodes)
    found = make_room(core, nodes, 4)
    assert found.way is not None and found.way.cost == 14
    steps = in_safe_order(core, found.way.moves)
    assert [(step.kind, names[step.move.job]) for step in steps] == [("move", "y"), ("move", "x")]


def world(*jobs: tuple[Shape, tuple[Slot, ...]], models: str = "AAAA") -> Core:
    """Machines of two GPUs each, two in a rack, and who runs there."""
    core = Core()
    for index in range(len(models) // 2):
        devices = tuple(Device(model=each, memory_mib=80) for each in models[2 * index :][:2])
        rack = f"r{index // 2}"
        node = Node(f"n{index}", 4000, 4000, devices=devices, rack=rack)
        core.apply(0, NodeJoined(node=index, spec=node))
    for number, (shape, slots) in enumerate(jobs, 1):
        core.apply(0, Submitted(job=number, spec=JobSpec(shape=shape)))
        core.apply(0, Placed(job=number, attempt=1, slots=slots))
    return core


def ways(core: Core, shape: Shape):
    fit = Fit(core.ledger, score.build("best-fit"))
    who = movers(core, core.policy)
    return cheapest(core, fit, (somebody(core, shape), Request(shape)), who).way


def test_shares_of_gpus_move_together_on_the_same_machine():
    half = Shape(cpu_milli=0, gpu_milli=500, gpu_memory_mib=40)
    core = world(*((half, (Slot(node, (gpu,)),)) for node in (0, 1) for gpu in (0, 1)))
    way = ways(core, Shape(cpu_milli=0, gpus=1))
    assert way is not None and len(way.moves) == 1
    both = ways(core, Shape(cpu_milli=0, gpus=1, members=2))
    assert both is not None and len(both.moves) == 2


def test_one_and_a_half_gpus_move_to_a_whole_one_and_half_of_another():
    uneven, half = Shape(cpu_milli=0, gpus=1, gpu_milli=500), Shape(cpu_milli=0, gpu_milli=500)
    core = world((uneven, (Slot(0, (0, 1)),)), (half, (Slot(1, (0,)),)))
    who = [each for each in movers(core, core.policy) if each.job.id == 1]
    fit = Fit(core.ledger, score.build("best-fit"))
    two = Shape(cpu_milli=0, gpus=2)
    way = cheapest(core, fit, (somebody(core, two), Request(two)), who).way
    assert way is not None
    assert [move.to for move in way.moves] == [(Slot(1, (1, 0)),)]


def test_a_gang_moves_as_a_whole():
    gang = Shape(cpu_milli=0, gpus=1, members=2, spread="distinct-nodes")
    core = world((gang, (Slot(0, (0,)), Slot(1, (0,)))))
    assert ways(core, Shape(cpu_milli=0, gpus=2)) is None  # it may not be on one machine
    loose = Shape(cpu_milli=0, gpus=1, members=2)
    core = world((loose, (Slot(0, (0,)), Slot(1, (0,)))))
    way = ways(core, Shape(cpu_milli=0, gpus=2))
    assert way is not None and len(way.moves) == 1
    (to,) = {slot.node for slot in way.moves[0].to}
    assert {slot.node for slot in way.slots} == {1 - to}


def test_a_job_keeps_to_the_gpu_type_that_it_runs_on():
    one = Shape(cpu_milli=0, gpus=1)
    core = world((one, (Slot(0, (0,)),)), models="AABB")
    wish = Shape(cpu_milli=0, gpus=2, gpu_models=("A",))
    assert ways(core, wish) is None
    core = world((one, (Slot(0, (0,)),)), models="AAAB")
    way = ways(core, wish)
    assert way is not None and way.moves[0].to == (Slot(1, (0,)),)


def test_different_workers_find_room_and_move_all_together():
    one, two = Shape(cpu_milli=0, gpus=1), Shape(cpu_milli=0, gpus=2)
    core = world((one, (Slot(0, (0,)),)), (one, (Slot(1, (0,)),)))
    way = ways(core, gang_of((Shape(cpu_milli=500, members=2), two)))
    assert way is not None and len(way.moves) == 1
    assert [len(slot.devices) for slot in way.slots] == [0, 0, 2]
    mixed = gang_of((one, Shape(cpu_milli=3000)))
    core = world((mixed, (Slot(0, (0,)), Slot(0))), (one, (Slot(1, (0,)),)))
    way = ways(core, Shape(cpu_milli=3000, gpus=2))
    assert way is not None
    in_steps(core, way.moves, way.slots)
    apart = gang_of((one, Shape(cpu_milli=3000)), "distinct-nodes")
    core = world((apart, (Slot(0, (0,)), Slot(1))))
    assert ways(core, Shape(cpu_milli=3000, gpus=2)) is None


def test_members_that_have_to_be_close_together_are():
    one = Shape(cpu_milli=0, gpus=1)
    core = world((one, (Slot(1, (0,)),)), (one, (Slot(3, (0,)),)), models="A" * 8)
    wide = Shape(cpu_milli=0, gpus=2, members=2)
    free = ways(core, wide)
    assert free is not None and not free.moves
    way = ways(core, msgspec.structs.replace(wide, within="rack"))
    assert way is not None and len(way.moves) == 1
    assert {slot.node for slot in way.slots} in ({0, 1}, {2, 3})
    assert ways(core, msgspec.structs.replace(wide, within="node")) is None


def test_cores_and_memory_count_too():
    core = world((Shape(cpu_milli=3000), (Slot(0),)), (Shape(cpu_milli=1000), (Slot(1),)))
    assert ways(core, Shape(cpu_milli=4000)) is not None
    core = world(
        (Shape(cpu_milli=3000, memory_mib=2000), (Slot(0),)),
        (Shape(cpu_milli=1000, memory_mib=2500), (Slot(1),)),
    )
    assert ways(core, Shape(cpu_milli=4000)) is None


@pytest.mark.parametrize("steps", [0, 30])
def test_a_search_that_is_cut_off_says_so_and_what_it_has_is_a_way(steps):
    nodes = {name: Host(8, {f"{name}{i}": Held(1, i) for i in range(6)}) for name in "abcdef"}
    core, _ = core_of(nodes)
    shape = Shape(cpu_milli=0, gpus=8)
    fit = Fit(core.ledger, score.build("best-fit"))
    who = movers(core, core.policy)
    answer = cheapest(core, fit, (somebody(core, shape), Request(shape)), who, steps)
    assert answer.sure is False
    assert (answer.way is None) == (steps == 0)
    if answer.way is not None:
        in_steps(core, answer.way.moves, answer.way.slots)
