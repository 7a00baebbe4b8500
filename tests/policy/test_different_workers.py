"""Gangs with different workers, through every way by which jobs come to their slots."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from fairlead.core.admission import admit
from fairlead.core.engine import Core
from fairlead.core.invariants import check
from fairlead.model.base import Refused
from fairlead.model.events import NodeJoined, NodeLost, Placed, Promised, SpeedSet, Submitted
from fairlead.model.jobs import JobSpec, Phase, Queue, Speed, Tenant, Workers
from fairlead.model.resources import Device, Shape, Slot, gang_of
from fairlead.policy.defrag import search
from fairlead.policy.explain import explain, reasons
from fairlead.policy.registry import build
from fairlead.sim.workload import SimJob
from policy.reclaim_life import CV, NLP, Life
from policy.test_resize import World
from policy.worlds import Watched
from strategies import SPREADS, TERMINATED, History, cluster, node, place, start, submit

# A server of 4 cores without a GPU, and two workers of 1 core and 2 GPUs.
TRAINING = gang_of([Shape(cpu_milli=4000), Shape(cpu_milli=1000, gpus=2, members=2)])
NAMES = (Workers(name="ps"), Workers(name="worker", members=2))


def alone(cpus: int, gpus: int = 0) -> Shape:
    return Shape(cpu_milli=1000 * cpus, gpus=gpus)


def played(policy: str, nodes, *jobs: tuple[int, int, Shape]):
    """Return when jobs (submitted at, run for, shape) started."""
    made = [
        SimJob(i, at, run, JobSpec(shape=shape, limit_ms=run, expected_ms=run))
        for i, (at, run, shape) in enumerate(jobs)
    ]
    return Watched(made, nodes, policy).done().start_ms


ORDERS = ("fifo", "fifo-skip", "priority", "easy", "conservative", "srtf", "las", "fair", "ftf")


@pytest.mark.parametrize("policy", ORDERS)
def test_it_starts_whole_as_soon_as_the_last_kind_has_room_and_never_before(policy):
    """Node 0 has the GPUs, node 1 is busy until 50 and is the only one with room for the server."""
    world = World(4, 4, policy=policy, gpus=4)
    busy = world.submit(1, cpus=3)
    gang = submitted(world, TRAINING)
    assert (busy.phase, gang.phase, gang.slots) == (Phase.RUNNING, Phase.PENDING, ())
    world.gone(busy)
    assert gang.phase is Phase.RUNNING
    assert [len(slot.devices) for slot in gang.slots] == [0, 2, 2]
    server, *workers = (slot.node for slot in gang.slots)
    assert {server} != set(workers)


def submitted(world: World, shape: Shape, **more):
    spec = JobSpec(shape=shape, workers=NAMES, **more)
    world.turn(Submitted(job=world.core.next_job, spec=spec))
    return world.core.jobs[world.core.next_job - 1]


def test_two_gangs_that_each_hold_half_of_what_the_other_needs_cannot_arise():
    """Kind by kind each would get its server, or its workers, and both would wait for ever."""
    world = World(5, 5, policy="fifo-skip", gpus=2)
    first, second = submitted(world, TRAINING), submitted(world, TRAINING)
    assert (first.phase, second.phase, second.slots) == (Phase.RUNNING, Phase.PENDING, ())
    world.gone(first)
    assert second.phase is Phase.RUNNING


def test_why_says_of_each_kind_of_workers_how_many_fit():
    world = World(4, 4, gpus=4)
    world.submit(1, cpus=4)
    gang = submitted(world, TRAINING)
    told = world.why(gang)
    assert told.reason == "Resources"
    assert told.summary == "each kind of workers fits alone, but not all of them together"
    world.submit(1, cpus=1)
    told = world.why(gang)
    assert told.summary == "ps: 0 of 1 fit now (2 nodes: CPU)"
    assert "asks for ps 1 x (cpus: 4) + worker 2 x (cpus: 1, gpus: 2)" in told.lines


def test_why_says_that_not_every_way_was_tried(monkeypatch):
    monkeypatch.setattr("fairlead.core.pack.STEPS_MAX", 3)
    world = World(10, 10, 10, 10)
    kinds = [
        Shape(cpu_milli=cpu, members=count) for cpu, count in ((6000, 2), (4000, 4), (3000, 4))
    ]
    gang = submitted(world, gang_of(kinds))
    assert gang.phase is Phase.PENDING
    assert "not every way was tried" in world.why(gang).summary
    monkeypatch.undo()
    world.submit(1, cpus=1)
    world.gone(world.core.jobs[2])
    assert gang.phase is Phase.RUNNING


def test_what_can_never_run_is_refused_with_the_nearest_that_can():
    core = cluster(node("n0", cpus=8, gpus=4), node("n1", cpus=8))
    many = gang_of([Shape(cpu_milli=8000), Shape(cpu_milli=1000, gpus=1, members=9)])
    with pytest.raises(Refused) as refused:
        admit(core, JobSpec(shape=many, workers=(NAMES[0], Workers(name="w", members=9))))
    assert refused.value.message == "can never run: w: 4 of 9 fit"
    assert refused.value.hint.endswith("ps 1 x (cpus: 8) + w 4 x (cpus: 1, gpus: 1)")
    nearest = gang_of([Shape(cpu_milli=8000), Shape(cpu_milli=1000, gpus=1, members=4)])
    admit(core, JobSpec(shape=nearest))
    apart = gang_of([Shape(cpu_milli=8000, members=2), Shape(cpu_milli=1000, gpus=1)])
    with pytest.raises(Refused, match="fits alone, but not all of them together"):
        admit(core, JobSpec(shape=apart))


def test_a_tenants_quota_counts_all_kinds_together():
    core = cluster(node("n0", cpus=64, gpus=8))
    core.set_tenants({"t": Tenant(name="t", quota=(5999, None, None, None, None))})
    with pytest.raises(Refused, match=r"at most 5\.999 cpus at once, this job asks for 6"):
        admit(core, JobSpec(shape=TRAINING, tenant="t"))


def test_easy_promises_it_the_first_time_at_which_all_kinds_fit_and_fills_in_what_ends_before():
    nodes = [node("n0", cpus=8, gpus=4), node("n1", cpus=4)]
    starts = played(
        "easy",
        nodes,
        (0, 100, alone(4)),
        (0, 60, alone(8, 4)),
        (1, 50, TRAINING),
        (2, 58, alone(1)),
        (2, 59, alone(1)),
    )
    # The big job has node 0 until 60, when the gang fits beside the first: 4 + 1 + 1 of its cores.
    assert starts[:3] == [0, 0, 60]
    assert starts[3:] == [60, 60]


def test_a_shorter_gang_stops_as_few_of_the_longest_jobs_as_it_has_to():
    nodes = [node("n0", cpus=2, gpus=2), node("n1", cpus=2, gpus=2), node("n2", cpus=4)]
    world = Watched(
        [
            SimJob(0, 0, 500, JobSpec(shape=alone(2, 2), expected_ms=500)),
            SimJob(1, 0, 400, JobSpec(shape=alone(2, 2), expected_ms=400)),
            SimJob(2, 0, 300, JobSpec(shape=alone(4), expected_ms=300)),
            SimJob(
                3,
                10,
                20,
                JobSpec(shape=gang_of([alone(1), alone(1, 2)]), expected_ms=20),
            ),
        ],
        nodes,
        "srtf",
    )
    outcome = world.done()
    assert outcome.start_ms[3] == 10
    assert [(at, job) for at, job, _ in world.stops] == [(10, 1)]


def test_a_queue_takes_back_what_it_lent_for_all_kinds_of_its_gang_and_it_is_held():
    life = Life(NLP, CV)
    lent = life.submit(0, "cv", 1, count=8)
    shape = gang_of([Shape(cpu_milli=100, gpus=2), Shape(cpu_milli=100, gpus=1, members=2)])
    owner = life.core.next_job
    life.turn(60_000, Submitted(job=owner, spec=JobSpec(shape=shape, queue="nlp")))
    assert life.stopping() == {*lent[4:]}
    life.end(61_000, *lent[4:6])
    assert life.phase(owner) is Phase.PENDING
    life.end(62_000, *lent[6:])
    assert life.phase(owner) is Phase.RUNNING
    assert life.running() == {*lent[:4], owner}


def test_types_of_gpus_with_a_quota_are_open_to_a_kind_only_if_all_that_take_them_fit():
    life = Life(Queue(name="a", most={"gpu_milli/A": 2000}), nodes=("AAAA", "BBBB"))
    only_a = Shape(cpu_milli=100, gpus=1, gpu_models=("A",))
    either = Shape(cpu_milli=100, gpus=2)
    gang = life.core.next_job
    spec = JobSpec(shape=gang_of([only_a, either]), queue="a")
    life.turn(0, Submitted(job=gang, spec=spec))
    assert [slot.node for slot in life.core.jobs[gang].slots] == [0, 1]


def test_a_gang_that_lost_a_worker_keeps_the_slots_of_the_others_by_their_kind():
    world = World(4, 4, 4, policy="fifo-skip", gpus=2)
    gang = submitted(world, TRAINING, limit_ms=10**6)
    server, first, _ = (slot.node for slot in gang.slots)
    world.turn(NodeLost(node=first))
    world.gone(gang, TERMINATED)
    hold = gang.promise
    assert hold is not None
    assert {rank: slot.node for rank, slot in zip(hold.ranks, hold.slots, strict=True)}[0] == server
    assert 1 not in hold.ranks
    again = Core.load(world.core.dump())
    assert again.jobs[gang.id].promise == hold
    check(again)
    other = world.submit(1, cpus=4, priority=90)
    assert other.phase is Phase.PENDING, "the server's node is held for it"
    world.turn(NodeJoined(node=first, spec=replace(world.core.nodes[first].spec, boot="next")))
    assert (gang.phase, gang.attempt) == (Phase.RUNNING, 2)
    assert gang.slots[0].node == server
    check(world.core)


class Mixed(History):
    """A random history in which most jobs have several kinds of workers."""

    def random_spec(self) -> JobSpec:
        first, *others = (super(Mixed, self).random_spec() for _ in range(self.rng.randint(1, 3)))
        if not others:
            return first
        kinds = [each.shape for each in (first, *others)]
        within = self.rng.choice(["", "", "node", "rack"])
        return replace(first, shape=gang_of(kinds, self.rng.choice(SPREADS), within))


@pytest.mark.parametrize("policy", ["priority", "easy", "conservative", "srtf", "fair", "las+fgd"])
def test_in_any_history_all_is_booked_by_kind_and_an_image_loads_to_the_same(policy):
    history = Mixed(2, policy)
    placed = promised = 0
    for step in range(60):
        for event in history.step():
            job = history.core.jobs.get(getattr(event, "job", 0))
            if job is not None and job.spec.shape.kinds:
                placed += isinstance(event, Placed)
                promised += isinstance(event, Promised)
        check(history.core)
        if step % 10 == 0:
            twin = Core.load(history.core.dump())
            check(twin)
            assert twin.digest() == history.core.clone().digest() == history.core.digest()
            told = reasons(history.core, history.scheduler.policy)
            assert told.keys() == history.core.pending.keys()
            for job_id in history.core.jobs:
                assert explain(history.core, history.scheduler.policy, job_id)
    assert placed


def mix() -> list[SimJob]:
    """Return jobs of which every other has different workers, more than fit at once."""
    kinds = (
        gang_of([alone(2), Shape(cpu_milli=1000, gpus=1, members=2)]),
        alone(1, 2),
        gang_of([Shape(cpu_milli=1000, gpus=2), Shape(cpu_milli=500, gpu_milli=500)], "same-node"),
        alone(2),
    )
    return [
        SimJob(i, 10 * i, 100 + 30 * (i % 5), JobSpec(shape=kinds[i % 4], tenant="tu"[i % 3 > 1]))
        for i in range(24)
    ]


PLANNED = ("gavel-maxmin", "gavel-las", "assignment", "allox", "sia", "pollux", "themis", "ftf")


@pytest.mark.parametrize("policy", PLANNED)
def test_plans_and_rounds_bring_every_job_of_a_mix_to_its_end(policy):
    """The core stops the world if a placement does not fit, or a gang is not whole."""
    nodes = [
        node("n0", cpus=8, gpus=4),
        node("n1", cpus=8, devices=(Device(model="B", memory_mib=16_000),) * 4),
        node("n2", cpus=4),
    ]
    world = Watched(mix(), nodes, policy)
    outcome = world.done()
    check(world.core)
    assert min(outcome.end_ms) > 0
    assert not world.core.jobs


def test_a_model_that_all_kinds_are_told_never_to_run_on_is_taken_from_each():
    core = cluster(node("n0", gpus=2), node("n1", devices=(Device(model="B"),) * 2))
    spec = JobSpec(shape=TRAINING, job_type="train")
    told = Speed(job_type="train", width_milli=4000, model="A", micro_per_s=0)
    core.apply(0, SpeedSet(speed=told))
    core.apply(0, Submitted(job=1, spec=spec))
    server, workers = core.shapes[core.jobs[1].shape_id].parts
    assert (server.shape.gpu_models, workers.shape.gpu_models) == ((), ("B",))


def test_one_small_job_moves_so_that_a_gang_with_different_workers_fits():
    core = cluster(node("n0", gpus=2), node("n1", gpus=2))
    for index in range(2):
        small = submit(core, gpus=1)
        place(core, small, Slot(node=index, devices=(0,)))
        start(core, small)
    core.apply(0, Submitted(job=3, spec=JobSpec(shape=gang_of([alone(4), alone(1, 2)]))))
    pipeline = build(core.policy)
    pipeline.bind(core)
    way = search(core, pipeline, core.jobs[3], 1000).way
    assert way is not None
    (move,) = way.moves
    ((left,), (there,)) = move.source, move.to
    server, worker = way.slots
    assert (worker.node, worker.devices, server.devices) == (left.node, (0, 1), ())
    assert there.node != left.node
