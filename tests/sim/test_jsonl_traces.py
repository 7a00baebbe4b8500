from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.model.base import Misuse
from fairlead.model.limits import AMOUNT_MAX
from fairlead.model.resources import Shape
from fairlead.sim import traces
from fairlead.sim.traces import jsonl
from fairlead.sim.traces.lines import Lines
from fairlead.sim.workload import TraceJob, cluster_for

HEADER = {"format": "fairlead-trace", "version": 1, "cluster": "2x4gpu"}


def lines_of(*bodies: object) -> Lines:
    texts = [body if isinstance(body, str) else json.dumps(body) for body in (HEADER, *bodies)]
    return [(number, text.encode()) for number, text in enumerate(texts, 1)]


def parse(*bodies: object) -> traces.Trace:
    return jsonl.parse("t", lines_of(*bodies))


def error_of(*bodies: object) -> Misuse:
    with pytest.raises(Misuse) as caught:
        parse(*bodies)
    return caught.value


def job(**more: object) -> dict[str, object]:
    return {"id": 1, "submit_s": 0, "run_s": 1} | more


def test_every_key_becomes_the_job():
    (found,) = parse(
        job(
            id="a",
            submit_s=1.0005,
            run_s=2,
            cpus=1.5,
            memory_mib=10,
            disk_mib=11,
            gpus=2,
            gpu_memory_mib=12,
            gpu_type=["T4", "A100"],
            members=3,
            name="n",
            user="u",
            tenant="t",
            queue="q",
            priority=70,
            limit_s=9.5,
        )
    ).jobs
    assert found == TraceJob(
        id="a",
        submit_ms=1000,
        run_ms=2000,
        shape=Shape(
            cpu_milli=1500,
            memory_mib=10,
            disk_mib=11,
            gpus=2,
            gpu_memory_mib=12,
            gpu_models=("A100", "T4"),
            members=3,
        ),
        name="n",
        user="u",
        tenant="t",
        queue="q",
        priority=70,
        limit_ms=9500,
    )


def test_a_job_that_names_nothing_asks_for_one_core():
    assert parse(job()).jobs[0].shape == Shape(cpu_milli=1000)


def test_processors_are_what_the_cluster_is_made_of():
    trace = parse(job(processors=4))
    assert cluster_for(trace, None).shape(trace.jobs[0].processors) == Shape(cpu_milli=0, gpus=4)
    assert cluster_for(trace, "pool:9").shape(4) == Shape(cpu_milli=4000)


def test_ids_may_be_numbers_or_words_and_order_ties():
    trace = parse(job(id="b"), job(id=10), job(id="a"), job(id=9))
    assert [found.id for found in trace.jobs] == [9, 10, "a", "b"]


@pytest.mark.parametrize(
    ("body", "message", "field", "hint"),
    [
        (job(gpu=1), 'unknown key "gpu"', "gpu", "did you mean gpus?"),
        (job(wombat=1), 'unknown key "wombat"', "wombat", "the keys are id, submit_s"),
        ({"id": 1, "submit_s": 0}, "found no run_s", "run_s", ""),
        (job(run_s=-1), 'run_s: found "-1"; expected `float` >= 0', "run_s", ""),
        (job(submit_s="soon"), "submit_s: found", "submit_s", ""),
        (job(cpus=-2), "cpus: found", "cpus", ""),
        (job(memory_mib=AMOUNT_MAX + 1), "memory_mib: found", "memory_mib", ""),
        (job(memory_mib=1.5), "memory_mib: found", "memory_mib", ""),
        (job(priority=101), "priority: found", "priority", ""),
        (job(members=0), "members: found", "members", ""),
        (job(limit_s=0), "limit_s: found", "limit_s", ""),
        (job(gpu_parts=[500], gpu_milli=500), "gpu_milli and gpu_parts", "gpu_parts", ""),
        (job(gpu_memory_mib=5), "without GPUs", "gpus", "add gpus"),
        (job(processors=2, gpus=1), "found processors and gpus", "processors", "cores"),
        (job(processors=2, members=2), "found processors and members", "processors", ""),
        (job(cpus=0), "asks for nothing", "cpus", ""),
        ("{broken", "expected one JSON object", "", ""),
        ('{"id": 1, "submit_s": "soon" and so on}', "submit_s: expected", "submit_s", ""),
        ("[1, 2]", "expected one JSON object", "", ""),
        ('{"id": 1, "submit_s": 0, "run_s": 1} extra', "expected one JSON object", "", ""),
        ("garbage \x01\x02", "expected one JSON object", "", ""),
    ],
)
def test_a_damaged_line_is_named_with_what_was_found_and_expected(body, message, field, hint):
    error = error_of(job(id=0), body, job(id=2))
    assert error.message.startswith("t:3: ")
    assert message in error.message
    assert error.field == field
    assert hint in error.hint


def test_an_id_used_twice_names_both_lines():
    assert "t:4: the id 1 is that of line 2 too" in error_of(job(), job(id=2), job()).message


def test_a_header_of_another_version_is_refused():
    later = json.dumps(HEADER | {"version": 2}).encode()
    with pytest.raises(Misuse, match=r"t:1: found format .* version 2, expected"):
        jsonl.parse("t", [(1, later)])


def test_a_header_alone_has_no_jobs():
    assert "has no jobs" in error_of().message


def test_a_job_before_any_header_is_refused():
    with pytest.raises(Misuse, match="t:1: unknown key"):
        jsonl.parse("t", [(1, json.dumps(job()).encode())])


@given(
    st.lists(
        st.builds(
            jsonl.Line,
            id=st.integers(0, 10**9),
            submit_s=st.integers(0, 10**9).map(lambda ms: ms / 1000),
            run_s=st.integers(0, 10**9).map(lambda ms: ms / 1000),
            cpus=st.none() | st.integers(1, 64).map(float),
            gpus=st.integers(0, 8),
            members=st.integers(1, 5),
            tenant=st.sampled_from(["a", "b"]),
        ),
        min_size=1,
        max_size=5,
        unique_by=lambda line: line.id,
    )
)
def test_what_is_written_reads_back_as_the_same_jobs(lines):
    header = jsonl.Header(format=jsonl.FORMAT, cluster="pool:8", note="x")
    text = b"".join(jsonl.encode(header, lines)).splitlines()
    trace = jsonl.parse("t", list(enumerate(text, 1)))
    assert trace.cluster == "pool:8"
    expected = sorted((round(1000 * line.submit_s), line.id) for line in lines)
    assert [(found.submit_ms, found.id) for found in trace.jobs] == expected
    by_id = {line.id: line for line in lines}
    for found in trace.jobs:
        line = by_id[found.id]
        assert found.run_ms == round(1000 * line.run_s)
        assert found.shape is not None and found.shape.gpus == line.gpus
        assert found.tenant == line.tenant


def test_the_documented_keys_are_the_keys():
    page = (Path(__file__).parents[2] / "docs/reference/traces/jsonl.md").read_text(
        encoding="utf-8"
    )
    for key in (*jsonl.Line.__struct_fields__, *jsonl.Header.__struct_fields__):
        assert f"`{key}`" in page


def test_a_gang_with_different_workers_names_what_each_kind_asks_for():
    body = job(workers=[{"cpus": 8}, {"count": 4, "cpus": 4, "gpus": 2}], topology="rack")
    (found,) = parse(body).jobs
    assert found.shape.members == 5
    assert [(kind.cpu_milli, kind.gpus, kind.members) for kind in found.shape.kinds] == [
        (8000, 0, 1),
        (4000, 2, 4),
    ]
    assert found.shape.within == "rack"


@pytest.mark.parametrize(
    ("more", "field", "message"),
    [
        ({"gpus": 2}, "workers", "found workers and gpus"),
        ({"members": 2}, "workers", "found workers and members"),
        ({"members_max": 2}, "workers", "found workers and members_max"),
        ({"processors": 2}, "processors", "found processors and workers"),
    ],
)
def test_workers_stand_instead_of_what_equal_members_ask_for(more, field, message):
    wrong = error_of(job(workers=[{"cpus": 8}, {"count": 4}], **more))
    assert (wrong.field, message in wrong.message) == (field, True), wrong.message


def test_a_wrong_key_of_a_kind_of_workers_is_an_error_with_its_line():
    wrong = error_of(job(workers=[{"cuont": 2}]))
    assert "t:2" in wrong.message
    assert (wrong.field, wrong.hint) == ("cuont", "did you mean count?")
