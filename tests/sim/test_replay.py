from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core import invariants
from fairlead.core.engine import Core
from fairlead.model.base import Misuse, Refused
from fairlead.model.resources import Shape
from fairlead.policy.pipeline import Pipeline
from fairlead.sim.cluster import Cluster, parse_cluster
from fairlead.sim.generate import generate
from fairlead.sim.metrics import binned, busy_milli, columns, digest, queue_length, summarise
from fairlead.sim.outcome import Outcome
from fairlead.sim.replay import gate, replay
from fairlead.sim.traces import jsonl
from fairlead.sim.workload import Trace, TraceJob, fit, in_order

POLICIES = ("fifo", "fifo-skip", "sjf", "sjf-skip", "priority")


def job(
    number: int, submit_s: float, run_s: float, processors: int = 1, **more: object
) -> TraceJob:
    return TraceJob(
        id=number,
        submit_ms=round(1000 * submit_s),
        run_ms=round(1000 * run_s),
        processors=processors,
        **more,  # type: ignore[arg-type]
    )


def trace_of(*jobs: TraceJob) -> Trace:
    return Trace(path="test", format="jsonl", jobs=in_order("test", jobs))


def run(spec: str, *jobs: TraceJob, policy: str = "fifo", **more: object) -> Outcome:
    cluster = parse_cluster(spec)
    workload = fit(trace_of(*jobs), cluster, gate(cluster))
    return replay(workload, cluster, policy, **more)  # type: ignore[arg-type]


def spans(outcome: Outcome) -> dict[int | str, tuple[float, float]]:
    """Return (start, end) in seconds by job."""
    return {
        job.id: (start / 1000, end / 1000)
        for job, start, end in zip(
            outcome.workload.jobs, outcome.start_ms, outcome.end_ms, strict=True
        )
    }


jobs_lists = st.lists(
    st.tuples(
        st.integers(0, 30),  # submit, s
        st.integers(0, 20),  # run, s
        st.integers(1, 8),  # processors
        st.sampled_from([None, 5, 15]),  # limit, s
        st.integers(0, 100),  # priority
    ),
    min_size=1,
    max_size=25,
).map(
    lambda rows: [
        job(
            index + 1,
            submit,
            run_s,
            processors,
            limit_ms=None if limit is None else 1000 * limit,
            priority=priority,
            tenant=f"t{priority % 3}",
        )
        for index, (submit, run_s, processors, limit, priority) in enumerate(rows)
    ]
)
clusters = st.sampled_from(["pool:8", "4x2cpu", "2x4gpu", "1x4gpu+2x2gpu"])


@given(jobs=jobs_lists, spec=clusters, policy=st.sampled_from(POLICIES))
def test_every_run_conserves_resources_and_jobs_and_obeys_littles_law(jobs, spec, policy):
    seen: list[tuple[int, int, int]] = []

    def observe(now: int, core: Core) -> None:
        invariants.check(core)
        running = sum(
            outcome_cluster.used_milli(job.spec.shape)
            for job in core.jobs.values()
            if job.id not in core.pending
        )
        seen.append((now, len(core.pending), running))

    outcome_cluster = parse_cluster(spec)
    outcome = run(spec, *jobs, policy=policy, observe=observe)
    cols = columns(outcome)
    # Little's law, exactly: the area under what the core said of its queue is the sum of waits.
    steps = list(pairwise(seen))
    queued = sum(waiting * (after[0] - now) for (now, waiting, _), after in steps)
    busy = sum(used * (after[0] - now) for (now, _, used), after in steps)
    assert queued == int((cols.start - cols.submit).sum())
    assert busy == int((cols.used_milli * (cols.end - cols.start)).sum())
    assert max(used for _, _, used in seen) <= outcome_cluster.capacity_milli
    assert seen[-1][1:] == (0, 0)  # everything has come to an end
    assert len(cols.submit) == len(jobs)
    for row, ended in zip(outcome.workload.jobs, cols.end - cols.start, strict=True):
        limit = row.spec.limit_ms
        assert ended == (row.run_ms if limit is None else min(row.run_ms, limit))
    assert (cols.start >= cols.submit).all()
    assert outcome.timeouts == sum(
        row.spec.limit_ms is not None and row.spec.limit_ms < row.run_ms
        for row in outcome.workload.jobs
    )


@given(jobs=jobs_lists, spec=clusters, seed=st.randoms(use_true_random=False))
def test_permuting_the_lines_of_a_trace_changes_nothing(jobs, spec, seed):
    shuffled = list(jobs)
    seed.shuffle(shuffled)
    assert digest(run(spec, *jobs)) == digest(run(spec, *shuffled))


@given(jobs=jobs_lists, spec=clusters)
def test_strict_fifo_never_lets_a_later_arrival_start_first(jobs, spec):
    outcome = run(spec, *jobs, policy="fifo")
    assert outcome.start_ms == sorted(outcome.start_ms)


def test_a_job_that_ends_frees_its_place_for_one_that_arrives_at_the_same_instant():
    outcome = run("pool:4", job(1, 0, 5, 4), job(2, 5, 1, 4))
    assert spans(outcome) == {1: (0, 5), 2: (5, 6)}


def test_jobs_that_arrive_together_are_decided_on_together():
    seen = []
    outcome = run(
        "pool:1",
        job(1, 0, 9),
        job(2, 0, 1),
        policy="sjf",
        observe=lambda now, core: seen.append(now),
    )
    assert spans(outcome) == {2: (0, 1), 1: (1, 10)}
    assert seen == [0, 1000, 10_000]  # one decision pass per instant


def test_a_job_is_stopped_at_its_limit_and_its_place_is_free_in_that_instant():
    outcome = run("pool:1", job(1, 0, 100, limit_ms=7000), job(2, 1, 5))
    assert spans(outcome) == {1: (0, 7), 2: (7, 12)}
    assert outcome.timeouts == 1


def test_a_job_that_ends_at_its_very_limit_has_come_to_its_own_end():
    assert run("pool:1", job(1, 0, 7, limit_ms=7000)).timeouts == 0


def test_a_job_of_no_run_time_passes_through():
    outcome = run("pool:1", job(1, 0, 0), job(2, 0, 3), job(3, 0, 0))
    assert spans(outcome) == {1: (0, 0), 2: (0, 3), 3: (3, 3)}


def test_fractions_of_a_second_are_kept():
    outcome = run("pool:1", job(1, 0.25, 0.125), job(2, 0.3, 1))
    assert spans(outcome) == {1: (0.25, 0.375), 2: (0.375, 1.375)}


def test_a_job_wider_than_a_node_runs_as_a_gang_of_equal_members():
    outcome = run("3x4gpu", job(1, 0, 5, 12), job(2, 0, 5, 6), job(3, 0, 5, 7))
    shapes = [job.spec.shape for job in outcome.workload.jobs]
    assert [(shape.gpus, shape.members) for shape in shapes] == [(4, 3), (3, 2), (1, 7)]
    assert outcome.nodes[0] == (0, 1, 2)
    assert len(outcome.nodes[2]) == 7


def test_the_members_of_a_wide_job_are_as_wide_as_the_nodes_together_can_hold():
    # Members of 3 would fit the one large node only.
    (one,) = run("1x4gpu+2x2gpu", job(1, 0, 5, 6)).workload.jobs
    assert (one.spec.shape.gpus, one.spec.shape.members) == (2, 3)


def test_what_can_never_run_is_rejected_with_the_schedulers_reason_and_counted():
    outcome = run("2x4gpu", job(1, 0, 5, 9), job(2, 0, 5, 8), job(3, 0, 5, 11))
    assert sum(outcome.workload.rejected.values()) == 2
    assert all("can never run" in reason for reason in outcome.workload.rejected)
    assert summarise(outcome).as_json()["rejected"] == outcome.workload.rejected


def test_a_job_that_asks_for_gpus_on_a_pool_is_rejected():
    wants = TraceJob(id=1, submit_ms=0, run_ms=1000, shape=Shape(gpus=1))
    outcome = run("pool:4", wants, job(2, 0, 1))
    assert [row.id for row in outcome.workload.jobs] == [2]
    assert list(outcome.workload.rejected.values()) == [1]


def test_a_trace_of_which_nothing_can_run_is_refused():
    with pytest.raises(Refused, match="no job of test can run on 1x1cpu; 1 of them"):
        run("1x1cpu", job(1, 0, 1, 8))


def test_estimates_decide_the_order_of_shortest_first():
    jobs = (job(1, 0, 10), job(2, 1, 5, limit_ms=60_000), job(3, 1, 8, limit_ms=9000))
    cluster = parse_cluster("pool:1")
    ends = {}
    for estimates in ("exact", "limit"):
        workload = fit(trace_of(*jobs), cluster, gate(cluster), estimates=estimates)
        ends[estimates] = spans(replay(workload, cluster, "sjf"))
    assert ends["exact"][2] == (10, 15)
    assert ends["limit"][3] == (10, 18)


def test_an_unknown_policy_is_refused_with_a_suggestion():
    with pytest.raises(Misuse) as error:
        run("pool:1", job(1, 0, 1), policy="fifoo")
    assert "fifo" in error.value.hint


def test_progress_ends_with_all_jobs():
    heard: list[int] = []
    run("pool:1", *(job(index, index, 1) for index in range(3000)), progress=heard.append)
    assert heard == sorted(heard) and heard[-1] == 3000 and len(heard) > 1


def test_the_mean_over_bins_is_the_mean_over_time():
    outcome = run("pool:4", job(1, 0, 7, 3), job(2, 1, 5, 2), job(3, 2, 1, 1), policy="fifo-skip")
    cols = columns(outcome)
    low, high = int(cols.submit.min()), int(cols.end.max())
    for bins in (1, 3, 7, 50):
        waiting = binned(*queue_length(cols), low, high, bins).mean() * (high - low)
        assert waiting == pytest.approx(int((cols.start - cols.submit).sum()))
        busy = binned(*busy_milli(cols), low, high, bins).mean() * (high - low)
        assert busy == pytest.approx(int((cols.used_milli * (cols.end - cols.start)).sum()))


def test_digests_are_equal_under_different_hash_seeds_and_for_every_policy(tmp_path: Path):
    path = tmp_path / "trace.jsonl"
    cluster: Cluster = parse_cluster("2x8cpu,32GiB,4gpu:A100+3x4gpu:T4")
    header, lines = generate("poisson", jobs=200, load=1.1, cluster=cluster, seed=5, tenants=5)
    path.write_bytes(b"".join(jsonl.encode(header, lines)))
    shown = {
        subprocess.run(
            [sys.executable, "-c", _DIGESTS, str(path), *POLICIES],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(shown) == 1
    assert len(set(shown.pop().split())) > 1  # policies do differ here


_DIGESTS = """
import sys
from fairlead.sim import traces
from fairlead.sim.metrics import digest
from fairlead.sim.replay import gate, replay
from fairlead.sim.workload import cluster_for, fit

trace = traces.read(sys.argv[1])
cluster = cluster_for(trace, None)
workload = fit(trace, cluster, gate(cluster))
for policy in sys.argv[2:]:
    print(digest(replay(workload, cluster, policy)))
"""


def test_a_policy_that_asks_to_be_woken_for_nothing_is_named_instead_of_obeyed_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Pipeline, "wake_at", lambda self, core: core.clock)
    with pytest.raises(AssertionError, match="policy fifo is woken at 0 ms for ever"):
        run("pool:1", job(1, 0, 5))
