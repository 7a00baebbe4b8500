"""Our own history under another policy: what is read from a log, and what is left out."""

from __future__ import annotations

import pytest

from fairlead.model.base import Misuse
from fairlead.model.events import Forecasted, MemberEnded
from fairlead.model.jobs import Exit, Forecast
from fairlead.model.resources import Shape
from fairlead.policy.registry import policy_config
from fairlead.sim.history import as_it_was, first_difference, read_history
from fairlead.sim.metrics import summarise
from fairlead.sim.replay import gate, replay
from fairlead.sim.workload import fit
from sim_life import Lived

ONE, ALL = Shape(cpu_milli=1000), Shape(cpu_milli=4000)


@pytest.fixture
def lived(tmp_path):
    life = Lived(tmp_path)
    yield life
    life.store.close()


def test_a_log_becomes_a_workload_with_true_run_times_and_the_beliefs_of_then(lived, tmp_path):
    long = lived.submit(1000, ALL, tenant="cv", limit_ms=100_000)
    short = lived.submit(2000, ONE, tenant="nlp", limit_ms=90_000)
    lived.turn(2000, Forecasted(job=short, forecast=Forecast(expected_ms=5_000)))
    lived.end(31_000, long)
    lived.end(35_000, short)
    running = lived.submit(40_000, ONE)

    history = read_history(tmp_path)

    assert [job.id for job in history.trace.jobs] == [long, short]
    assert [job.run_ms for job in history.trace.jobs] == [30_000, 4_000]
    assert [job.expected_ms for job in history.trace.jobs] == [None, 5_000]
    assert history.trace.dropped == {"not ended when the log was read": 1}
    assert running not in history.starts
    assert history.starts == {long: 1000, short: 31_000}
    assert [node.name for node in history.cluster.nodes] == ["box"]
    assert history.policy == policy_config("fifo")


def test_the_same_policy_gives_what_happened_and_another_one_parts_from_it(lived, tmp_path):
    first = lived.submit(1000, Shape(cpu_milli=3000), limit_ms=60_000)
    wide = lived.submit(2000, ALL, limit_ms=60_000)
    small = lived.submit(3000, ONE, limit_ms=5_000)
    lived.end(31_000, first)
    lived.end(41_000, wide)
    lived.end(44_000, small)

    history = read_history(tmp_path)
    cluster = history.cluster
    work = fit(history.trace, cluster, gate(cluster), estimates="recorded")
    was = as_it_was(history, work)

    assert first_difference(was, replay(work, cluster, "fifo", setup=history.setup), 0) is None
    easy = replay(work, cluster, "easy", setup=history.setup)
    assert first_difference(was, easy, 0) == (small, 41_000, 3_000)


def test_quotas_that_held_then_hold_again(lived, tmp_path):
    jobs = [lived.submit(1000, ONE, tenant="nlp", limit_ms=60_000) for _ in range(3)]
    for place, job in enumerate(jobs[:2]):
        lived.end(11_000 + place, job)
    lived.end(30_000, jobs[2])

    history = read_history(tmp_path)
    work = fit(history.trace, history.cluster, gate(history.cluster), estimates="recorded")
    again = replay(work, history.cluster, "fifo", setup=history.setup)

    assert again.start_ms == [1000, 1000, 11_000]


def test_a_folder_without_a_log_is_told_in_words(tmp_path):
    with pytest.raises(Misuse, match=r"fairlead\.db"):
        read_history(tmp_path)


def test_an_elastic_job_is_played_again_with_the_work_that_it_did(lived, tmp_path):
    """10 s with all four cores, 20 s with two of them beside another: 80 core-seconds."""
    wide = lived.submit(0, ONE, members_max=4)
    beside = lived.submit(10_000, Shape(cpu_milli=2000), limit_ms=60_000)
    for rank in sorted(lived.core.jobs[wide].team.leaving):
        lived.turn(10_000, MemberEnded(job=wide, attempt=1, rank=rank, exit=Exit(code=0)))
    assert lived.core.jobs[beside].started_ms == 10_000
    for rank in (0, 1):
        lived.turn(30_000, MemberEnded(job=wide, attempt=1, rank=rank, exit=Exit(code=0)))
    lived.end(40_000, beside)

    history = read_history(tmp_path)

    assert history.sizes == {wide: [(0, 1), (0, 2), (0, 3), (0, 4), (10_000, 2), (30_000, 0)]}
    (again, _) = history.trace.jobs
    assert (again.run_ms, again.members_max) == (80_000, 4)
    cluster = history.cluster
    work = fit(history.trace, cluster, gate(cluster), estimates="recorded")
    was = as_it_was(history, work)
    now = replay(work, cluster, "fifo", setup=history.setup)
    assert (was.end_ms, now.end_ms) == ([30_000, 40_000], [30_000, 40_000])
    assert summarise(was).mean_members == summarise(now).mean_members == round(8 / 3, 6)
