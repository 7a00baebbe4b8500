"""The watchdog: who is preempted in vain is found, told apart, and left alone for a while."""

from __future__ import annotations

from fairlead.core import watch
from fairlead.model.events import Checkpointed
from strategies import cluster, node, place, start, submit


def preempted(core, job, times, by=0):
    for _ in range(times):
        watch.preempted(job, by or None)


def test_only_who_saves_nothing_in_between_gets_nowhere():
    core = cluster(node("n0"))
    job = submit(core)
    place(core, job, 0)
    start(core, job)
    preempted(core, job, 2)
    core.apply(core.now, Checkpointed(job=job.id, attempt=job.attempt))
    preempted(core, job, 2)
    assert watch.cycle_of(core.jobs, job) is None and job.preemptions == 4
    preempted(core, job, 1)
    found = watch.cycle_of(core.jobs, job)
    assert found is not None and found.times == 3
    assert watch.cycles(core.jobs) == [found]


def test_jobs_that_make_room_for_each_other_in_turns_are_named():
    core = cluster(node("n0"))
    one, other = submit(core), submit(core)
    preempted(core, one, 3, by=other.id)
    assert watch.cycle_of(core.jobs, one).mutual is None
    preempted(core, other, 1, by=one.id)
    assert watch.cycle_of(core.jobs, one).mutual == other.id


def test_each_further_time_it_is_left_alone_for_twice_as_long():
    core = cluster(node("n0"))
    job = submit(core)
    shields = []
    for _ in range(60):
        shields.append(watch.shield_ms(job))
        preempted(core, job, 1)
    assert shields[:6] == [0, 0, 0, watch.SHIELD_MS, 2 * watch.SHIELD_MS, 4 * watch.SHIELD_MS]
    assert shields == sorted(shields)
    place(core, job, 0)
    start(core, job)
    at = core.now + watch.shield_ms(job)
    assert watch.shielded(job, at - 1) and not watch.shielded(job, at)
