"""Fragmentation gradient descent by name: the classes are those of the jobs that are there."""

from __future__ import annotations

import pytest

from fairlead.core.engine import Core
from fairlead.core.turn import Scheduler
from fairlead.model.base import Misuse
from fairlead.model.events import Cancelled, NodeJoined, Placed, PolicySet, Submitted
from fairlead.model.jobs import JobSpec
from fairlead.model.resources import Shape
from fairlead.policy.place.fgd import Task
from fairlead.policy.place.least_fragments import LiveShapes
from fairlead.policy.registry import build, policy_config
from strategies import cluster, node

HALF = Shape(cpu_milli=100, gpu_milli=500)
PAIR = Shape(cpu_milli=100, gpus=2)


def submit(job: int, shape: Shape) -> Submitted:
    return Submitted(job=job, spec=JobSpec(shape=shape))


@pytest.mark.parametrize("placement", ["fgd", "fgd-floored"])
def test_halves_leave_pairs_of_gpus_whole_where_pairs_are_what_is_run(placement):
    core = Core()
    scheduler = Scheduler(core, build)
    nodes = [node("pair", gpus=2), node("single", gpus=1)]
    scheduler.turn(
        0,
        [
            PolicySet(policy=policy_config(f"fifo-skip+{placement}")),
            *(NodeJoined(node=n, spec=each) for n, each in enumerate(nodes)),
        ],
    )
    jobs = [submit(1, HALF), submit(2, HALF), submit(3, PAIR), submit(4, PAIR)]
    placed = {
        event.job: event.slots
        for event in scheduler.turn(1, jobs).events
        if isinstance(event, Placed)
    }
    assert [slot.node for job in (1, 2) for slot in placed[job]] == [1, 1]
    assert placed[3][0].node == 0
    assert 4 not in placed
    assert "fgd" in core.jobs[1].because


def test_classes_are_counted_by_the_members_that_have_come_and_anew_when_many_more_have():
    core = cluster(node("n0", cpus=64))
    popular = LiveShapes(core)
    core.apply(1, submit(1, Shape(cpu_milli=1000, members=3)))
    version, weights = popular()
    assert weights == {Task(1000): 3}
    for job in range(2, 81):
        core.apply(2, submit(job, Shape(cpu_milli=2000)))
    core.apply(3, Cancelled(job=2))
    later, weights = popular()
    assert later > version
    assert weights[Task(1000)] == 3
    assert 79 * 8 // 9 <= weights[Task(2000)] <= 79
    assert popular() == (later, weights)
    again = LiveShapes(Core.load(core.dump()))
    assert again() == (later, weights), "what is known follows from the core alone"


def test_a_placement_that_is_none_is_refused_with_the_nearest():
    with pytest.raises(Misuse) as wrong:
        policy_config("fifo+fdg")
    assert "did you mean 'fgd'" in wrong.value.hint
