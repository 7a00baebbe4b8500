"""Queues of a cluster file in the simulator: whose job is whose, and what each got of its due."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from fairlead.cli.errors import Failure
from fairlead.cli.main import main
from fairlead.cli.sim import sim
from fairlead.model.jobs import JobSpec, Queue, User
from fairlead.model.resources import Shape
from fairlead.policy.sharing_file import read_sharing
from fairlead.sim.cluster import parse_cluster
from fairlead.sim.outcome import Outcome
from fairlead.sim.queues import arrange, capacity
from fairlead.sim.replay import replay
from fairlead.sim.shares import shares_of
from fairlead.sim.workload import SimJob, Workload

HOUR = 3_600_000


def job(number: int, at: int, run: int, width: int = 1, **more) -> SimJob:
    spec = JobSpec(shape=Shape(cpu_milli=1000 * width), expected_ms=run, **more)
    return SimJob(number, at, run, spec)


def outcome(*jobs: SimJob, cores: int = 4, policy: str = "fifo-skip") -> Outcome:
    return replay(Workload(tuple(jobs), {}, {}), parse_cluster(f"pool:{cores}"), policy)


def rows(found) -> dict[str, tuple[float, float]]:
    return {row.name: (row.got_ratio, row.entitled_ratio) for row in found}


# ---- what was got, what was due -------------------------------------------------------------


def test_only_the_time_in_which_somebody_waits_counts():
    # a alone for an hour; then both want all four cores, and first come is first served: a's
    # second job holds all of them for an hour, b waits; then b runs, and nobody waits.
    made = outcome(
        job(1, 0, 2 * HOUR, 2, queue="a"),
        job(2, HOUR, HOUR, 2, queue="a"),
        job(3, HOUR, HOUR, 4, queue="b"),
    )
    found = shares_of(made)
    assert found is not None
    assert found.contended_s == 3600
    assert rows(found.queues) == {"a": (1.0, 0.5), "b": (0.0, 0.5)}
    assert found.jain_queues == pytest.approx(0.5)


def test_due_is_by_weight_level_by_level_among_those_who_have_jobs():
    queues = [
        Queue(name="lab", weight=3),
        Queue(name="a", parent="lab", weight=2),
        Queue(name="b", parent="lab"),
        Queue(name="other"),
        Queue(name="idle", weight=100),
    ]
    who = [("a", "x"), ("a", "y"), ("b", "x"), ("other", "z")]
    made = outcome(
        *(
            job(4 * place + each, 0, HOUR, queue=queue, user=user)
            for place, (queue, user) in enumerate(who)
            for each in range(1, 5)
        )
    )
    found = shares_of(made, queues, [User(name="x", weight=4)], until_ms=HOUR)
    assert found is not None
    lab, due = 3 / 4, {row.name: row.entitled_ratio for row in found.queues}
    assert due == pytest.approx({"a": lab * 2 / 3, "b": lab / 3, "other": 1 / 4})
    people = {row.name: row.entitled_ratio for row in found.users}
    a = lab * 2 / 3
    assert people == pytest.approx({"x": a * 4 / 5 + lab / 3, "y": a / 5, "z": 1 / 4})
    assert {row.name: row.weight for row in found.users} == {"x": 4, "y": 1, "z": 1}


def test_who_has_nothing_waiting_is_due_no_more_than_it_uses():
    # a has one core and wants no more, though its weight is high; the rest is b's and c's.
    made = outcome(
        job(1, 0, HOUR, queue="a"),
        *(job(number, 0, HOUR, queue="b") for number in (2, 3, 4)),
        job(5, 0, HOUR, queue="b"),
        job(6, 0, HOUR, queue="c"),
    )
    found = shares_of(made, [Queue(name="a", weight=9)])
    assert found is not None and found.contended_s == 3600
    assert rows(found.queues) == {
        "b": pytest.approx((0.75, 0.375)),
        "a": pytest.approx((0.25, 0.25)),
        "c": pytest.approx((0.0, 0.375)),
    }


def test_preempted_work_counts_once_and_its_pause_as_waiting():
    made = outcome(
        job(1, 0, 3 * HOUR, 4, queue="a"), job(2, HOUR, HOUR, 4, queue="b"), policy="srtf"
    )
    found = shares_of(made)
    assert found is not None and made.preempted == [1, 0]
    assert found.contended_s == 3600
    assert rows(found.queues) == {"b": (1.0, 0.5), "a": (0.0, 0.5)}
    assert {row.name: row.preemptions for row in found.queues} == {"a": 1, "b": 0}


def test_the_worst_rho_is_against_an_equal_part_of_the_cluster():
    # Both there for the first hour, so 1.5 of them on average for the second: it takes 2 h, and
    # with 1 of 1.5 parts of the cluster for itself it would have taken 1.5 h.
    made = outcome(job(1, 0, HOUR, 4, queue="a"), job(2, 0, HOUR, 4, queue="b"))
    found = shares_of(made)
    assert found is not None
    assert {row.name: row.max_rho for row in found.queues} == pytest.approx({"a": 0.5, "b": 4 / 3})
    assert found.max_rho == pytest.approx(4 / 3)


def test_one_queue_shares_with_nobody():
    made = outcome(job(1, 0, HOUR), job(2, 0, HOUR))
    assert shares_of(made) is None
    assert shares_of(made, [Queue(name="default"), Queue(name="a")]) is not None


# ---- the file and the trace -----------------------------------------------------------------


def test_jobs_go_to_the_queue_of_their_name_and_obey_it():
    said = read_sharing(
        {
            "queues": {
                "a": {"time_limit": "1h", "priorities": "60-80"},
                "lab": {},
                "b": {"parent": "lab", "quota": {"cpus": 2}},
            }
        }
    )
    jobs = (
        job(1, 0, HOUR, tenant="a"),
        job(2, 0, HOUR, tenant="b", limit_ms=5, priority=70),
        job(3, 0, HOUR, tenant="a", limit_ms=2 * HOUR),
        job(4, 0, HOUR, tenant="c"),
    )
    found = arrange(Workload(jobs, {}, {}), parse_cluster("pool:4"), said, "tenant")
    specs = [(each.id, each.spec.queue, each.spec.limit_ms) for each in found.workload.jobs]
    assert specs == [(1, "a", HOUR), (2, "b", 5), (4, "default", None)]
    assert [each.spec.priority for each in found.workload.jobs] == [60, 70, 50]
    assert found.unknown == {"c": 1}
    assert list(found.workload.rejected.values()) == [1]
    assert "at most 3600 s" in next(iter(found.workload.rejected))


def test_what_a_cluster_has_is_known_by_type():
    there = capacity(parse_cluster("2x16cpu,64GiB,8gpu:A100:80GiB"))
    assert there["cpu_milli"] == 32_000 and there["gpu_milli"] == 16_000
    assert there["gpu_milli/A100"] == 16_000 and there["gpu_memory_mib"] == 16 * 80 * 1024


# ---- the commands ---------------------------------------------------------------------------

FILE = """\
policy: srtf
queues:
  tenant1: {weight: 2}
  lab: {}
  tenant2:
    parent: lab
    quota: {gpus: 4}
"""


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, Path]:
    trace, file = tmp_path / "made.jsonl", tmp_path / "cluster.yaml"
    words = ("--jobs", "60", "--cluster", "2x4gpu", "--tenants", "3", "--load", "3", "--seed", "4")
    CliRunner().invoke(sim, ["generate", "poisson", *words, "-o", str(trace)])
    file.write_text(FILE)
    return trace, file


def call(*words: object) -> str:
    result = CliRunner().invoke(sim, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_run_says_what_each_queue_and_user_got(made):
    trace, file = made
    text = call("run", trace, "--queues", file, "--queue-of", "tenant")
    assert "srtf: least remaining" in text  # the file's policy, as none was named
    assert "cluster.yaml has no queue tenant3: " in text and "are in queue default" in text
    assert "Jain's index" in text and "tenant2" in text and "user1.1" in text


def test_what_is_got_and_due_adds_up_and_is_in_json(made):
    trace, file = made
    command = ("run", trace, "--queues", file, "--queue-of", "tenant", "--policy", "fifo", "--json")
    body = json.loads(call(*command).splitlines()[-1])
    assert body["policy"] == "fifo"
    for part in ("queues", "users"):
        assert sum(row["got_ratio"] for row in body["sharing"][part]) == pytest.approx(1)
        assert sum(row["entitled_ratio"] for row in body["sharing"][part]) == pytest.approx(1)
    assert 0 < body["sharing"]["jain_queues"] <= 1


def test_compare_shows_queues_under_each_policy_and_on_the_page(made, tmp_path):
    trace, file = made
    page = tmp_path / "page.html"
    options = ("--queues", file, "--queue-of", "tenant", "--policies", "fifo,ftf")
    text = call("compare", trace, *options, "--html", page)
    assert "the policy of" in text and "plays no part here" in text
    html = page.read_text()
    assert 'id="queues"' in html and "By queue" in html and "Jain" in html
    assert "--queue-of tenant" in html  # the command that makes it again


def test_a_trace_without_queues_is_told_and_queue_of_without_queues_refused(made, capsys):
    trace, file = made
    assert "names a queue, so all" in call("run", trace, "--queues", file)
    trace.write_text(trace.read_text().replace('"tenant":"', '"name":"'))
    text = call("run", trace, "--queues", file, "--queue-of", "tenant")
    assert "names a tenant, so all are in queue default" in text
    with pytest.raises(Failure, match="no effect without --queues"):
        call("run", trace, "--queue-of", "tenant")


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("queues:\n  a:\n    quota: {gpus: 9}\n", 3, "no more than gpus 8"),
        ("queues:\n  a: {parent: b}\n", 2, "queue b, which does not exist"),
        ("queues:\n  a:\n    weihgt: 2\n", 3, "unknown key queues.a.weihgt"),
        ("queues:\n  a: {quota: {gpus/H100: 1}}\n", 2, "gpus/H100"),
        ("policy: fairr\n", 1, "no policy 'fairr'"),
        ("", 0, "no documents"),
    ],
)
def test_a_wrong_file_is_told_with_its_line(made, capsys, text, line, message):
    trace, file = made
    file.write_text(text)
    with pytest.raises(SystemExit) as left:
        main(["sim", "run", str(trace), "--queues", str(file)])
    said = capsys.readouterr().err
    assert left.value.code == 2 and message in said and "Traceback" not in said
    assert f"{file}:{line}: " in said if line else f"{file}: " in said
