"""What must hold of preemption for any jobs, quotas and settings."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.core import invariants
from fairlead.core.jobs import Job
from fairlead.model.events import (
    Promised,
    QueueSet,
    StopDecided,
)
from fairlead.model.jobs import JobSpec, Phase, Queue
from fairlead.model.resources import CPU, GPU, Device, Node, Shape
from fairlead.policy.reclaim import Scene
from fairlead.policy.registry import build, policy_config
from fairlead.policy.room import Tree, stopping
from fairlead.policy.settings import override
from fairlead.sim.workload import SimJob
from policy.reclaim_life import gpus
from policy.worlds import Watched


@st.composite
def shared(draw):
    rng = Random(draw(st.integers(0, 2**32)))
    queues = [
        Queue(name="a", quota=gpus(rng.randint(0, 3))),
        Queue(name="b", quota=gpus(rng.randint(0, 3))),
        Queue(name="c", parent="b", quota=gpus(rng.randint(0, 2))),
        Queue(name="d"),
    ]
    nodes = [
        Node(name=f"n{i}", cpu_milli=64_000, devices=tuple(Device() for _ in range(4)))
        for i in range(2)
    ]
    at, jobs = 0, []
    for number in range(rng.randint(1, 25)):
        at += rng.choice([0, 0, 1, 5, 20])
        limit = rng.randint(1, 60)
        shape = Shape(cpu_milli=100, gpus=rng.choice([1, 1, 2, 4]), members=rng.choice([1, 1, 2]))
        spec = JobSpec(
            shape=shape,
            queue=rng.choice("abcd"),
            priority=rng.choice([10, 50]),
            limit_ms=10 * limit,
            preemptible=rng.random() < 0.9,
        )
        jobs.append(SimJob(number, at, limit, spec))
    policy = rng.choice(["fifo", "fifo-skip", "priority", "easy", "conservative", "srtf"])
    set_ = {"within": rng.choice(["never", "lower-priority"])}
    set_["reclaim"] = rng.choice(["any", "any", "lower-priority"])
    if policy == "srtf":
        del set_["within"]
    return jobs, nodes, queues, override(policy_config(policy), set_)


class Judged(Watched):
    """Judges every preemption at the moment of its decision, by what was before it."""

    def __init__(self, *args, **more):
        super().__init__(*args, **more)
        self.batch: list[Job] = []
        self.scheduler._build = lambda config: Judge(build(config), self)
        self.scheduler.policy = Judge(self.scheduler.policy, self)

    def judge(self, core, pipeline, event):
        if isinstance(event, StopDecided) and event.beneficiary is not None:
            self._stop(core, event)
        elif isinstance(event, Promised) and event.until_ms is not None:
            self._hold(core, pipeline, event)

    def _stop(self, core, event):
        victim, job = core.jobs[event.job], core.jobs[event.beneficiary]
        assert victim.spec.preemptible and job.phase is Phase.PENDING
        self.batch.append(victim)
        if victim.spec.queue == job.spec.queue:
            assert core.policy.within != "never", "nobody gives way in a queue"
            assert victim.spec.priority < job.spec.priority, "equals do not preempt each other"
            return
        assert core.policy.reclaim == "any" or victim.spec.priority < job.spec.priority
        mine = Tree(core, stopping(core)).branches[victim.spec.queue]
        assert mine.borrowed(GPU) or mine.borrowed(CPU), "a queue within its quota loses nothing"

    def _hold(self, core, pipeline, event):
        """All that were stopped are needed, and with them gone the job does fit."""
        job = core.jobs[event.job]
        pipeline.reclaim.look_anew()
        scene = Scene(pipeline.reclaim, job, stopping(core))
        assert scene.fits(), "somebody was stopped in vain"
        for victim in self.batch:
            scene.candidates = [victim]
            scene.restore(0)
            assert not scene.fits(), f"job {victim.id} need not have gone"
            scene.remove(0)
        pipeline.reclaim.look_anew()
        self.batch.clear()

    def obey(self, now, decisions):
        assert not self.batch, "nobody goes unless somebody is to have the place"
        invariants.check(self.core)
        return super().obey(now, decisions)


class Judge:
    """A policy whose decisions are looked at before they are applied."""

    def __init__(self, policy, world):
        self.policy, self.world = policy, world

    def decide(self, core):
        for event in self.policy.decide(core):
            self.world.judge(core, self.policy, event)
            yield event

    def wake_at(self, core):
        return self.policy.wake_at(core)


@settings(max_examples=150, deadline=None)
@given(shared())
def test_any_finite_input_comes_to_an_end_with_every_job_done(case):
    jobs, nodes, queues, config = case
    setup = [QueueSet(queue=each) for each in queues]
    world = Judged(jobs, nodes, config, setup=setup)
    world.done()
    again = Judged(jobs, nodes, config, setup=setup)
    again.forget = True  # decisions follow from the log alone
    assert again.done().schedule == world.schedule
