"""A speed of zero: jobs of that type are never placed on those devices, and `why` says it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.admission import admit
from fairlead.core.engine import Core
from fairlead.core.invariants import check
from fairlead.core.turn import Scheduler
from fairlead.model.base import Refused
from fairlead.model.events import (
    MemberEnded,
    MemberStarted,
    NodeJoined,
    PolicySet,
    QueueSet,
    SpeedDeleted,
    SpeedSet,
    Submitted,
)
from fairlead.model.jobs import Exit, Phase, Queue, Speed
from fairlead.model.resources import Device
from fairlead.policy.explain import explain
from fairlead.policy.registry import build, policy_config
from strategies import node, spec


class Life:
    """Nodes with one GPU each, of these models, under a policy."""

    def __init__(self, *models, policy="fifo"):
        self.scheduler = Scheduler(Core(), build)
        self.now = 0
        self.turn(PolicySet(policy=policy_config(policy)))
        for model in models:
            self.join(model)

    @property
    def core(self):
        return self.scheduler.core

    def turn(self, *events):
        self.now += 1_000
        self.scheduler.turn(self.now, events)
        check(self.core)

    def join(self, model):
        at = len(self.core.nodes)
        self.turn(NodeJoined(node=at, spec=node(f"n{at}", devices=(Device(model=model),))))

    def submit(self, kind="bert", **more):
        made = spec(job_type=kind, gpus=1, **more)
        self.turn(Submitted(job=self.core.next_job, spec=made))
        return self.core.jobs[self.core.next_job - 1]

    def tell(self, model, micro=0, kind="bert"):
        speed = Speed(job_type=kind, width_milli=1000, model=model, micro_per_s=micro)
        self.turn(SpeedSet(speed=speed))

    def ends(self, job):
        key = {"job": job.id, "attempt": job.attempt, "rank": 0}
        self.turn(MemberStarted(**key), MemberEnded(**key, exit=Exit(code=0)))

    def on(self, job):
        if not job.slots:
            return None
        return self.core.nodes[job.slots[0].node].spec.devices[0].model

    def why(self, job):
        return explain(self.core, self.scheduler.policy, job.id, self.now)


@pytest.mark.parametrize("policy", ["fifo-skip", "priority", "easy", "srtf", "maxmin"])
def test_it_waits_for_the_device_on_which_it_runs_though_another_is_free(policy):
    life = Life("A", "B", policy=policy)
    first, second = life.submit(expected_ms=50_000), life.submit("gpt", expected_ms=50_000)
    assert (life.on(first), life.on(second)) == ("A", "B")
    life.tell("B")
    third = life.submit(expected_ms=50_000)
    life.ends(second)
    assert third.phase is Phase.PENDING
    (line,) = [each for each in life.why(third).lines if "never on" in each]
    assert line == "never on B: somebody told a speed of 0 for bert (fairlead speeds)"
    other = life.submit("gpt", expected_ms=50_000)
    assert life.on(other) == "B", "another type is not concerned"
    life.ends(first)
    assert life.on(third) == "A"


def test_what_is_told_later_counts_for_those_who_wait_and_what_is_forgotten_no_more():
    life = Life("A")
    first, waits = life.submit("gpt"), life.submit()
    life.tell("A")
    life.ends(first)
    assert waits.phase is Phase.PENDING
    assert "so there is no GPU for it" in "".join(life.why(waits).lines)
    loaded = Core.load(life.core.dump())
    assert loaded.shapes[loaded.jobs[waits.id].shape_id].shape.gpu_models == ("",)
    life.join("C")
    assert life.on(waits) == "C", "a model that there was not before"
    again = life.submit()
    assert again.phase is Phase.PENDING
    life.turn(SpeedDeleted(job_type="bert", width_milli=1000, model="A"))
    assert life.on(again) == "A"


def test_who_runs_there_already_goes_on():
    life = Life("A")
    job = life.submit()
    life.tell("A")
    assert job.phase is Phase.STARTING
    life.ends(job)
    assert job.phase is Phase.SUCCEEDED


def test_it_is_refused_where_it_could_never_run():
    life = Life("A")
    life.tell("A")
    with pytest.raises(Refused, match="bert run on no GPU that there is") as refused:
        admit(life.core, spec(job_type="bert", gpus=1))
    assert refused.value.hint == "see: fairlead speeds"
    admit(life.core, spec(job_type="gpt", gpus=1))
    life.join("B")
    admit(life.core, spec(job_type="bert", gpus=1))
    with pytest.raises(Refused):
        admit(life.core, spec(job_type="bert", gpus=1, gpu_models=("A",)))


def test_a_quota_of_the_type_that_is_left_is_not_exceeded():
    life = Life("A", "A", "B")
    life.turn(QueueSet(queue=Queue(name="default", most={"gpu_milli/A": 1000})))
    life.tell("B")
    first, second = life.submit(), life.submit()
    assert (life.on(first), second.phase) == ("A", Phase.PENDING)
    life.ends(first)
    assert life.on(second) == "A"


@given(
    st.sampled_from(["fifo-skip", "priority", "easy", "las", "maxmin"]),
    st.lists(st.tuples(st.sampled_from("stfe"), st.sampled_from("xy"), st.sampled_from("AB"))),
)
def test_nobody_is_ever_placed_where_it_does_not_run(policy, steps):
    life = Life("A", "A", "B", policy=policy)
    for step, kind, model in steps:
        placed = {job.id: job.attempt for job in life.core.jobs.values()}
        if step == "s":
            life.submit(kind)
        elif step == "t":
            life.tell(model, kind=kind)
        elif step == "f":
            life.turn(SpeedDeleted(job_type=kind, width_milli=1000, model=model))
        else:
            live = [job for job in life.core.jobs.values() if job.slots]
            if live:
                life.ends(live[0])
        for job in life.core.jobs.values():
            if job.attempt > placed.get(job.id, 0):
                told = life.core.speeds.told.get((job.spec.kind, 1000, life.on(job)))
                assert told != 0
    for job in life.core.pending.values() if policy == "fifo-skip" else ():
        for index, each in enumerate(life.core.nodes):
            told = life.core.speeds.told.get((job.spec.kind, 1000, each.spec.devices[0].model))
            assert each.members or told == 0, f"job {job.id} waits beside a free node {index}"
