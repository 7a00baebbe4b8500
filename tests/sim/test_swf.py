from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest

from fairlead.model.base import Misuse
from fairlead.sim import traces
from fairlead.sim.workload import TraceJob, cluster_for

HEADER = b"; Version: 2.2\n; MaxNodes: 12\n; MaxProcs: 96\n"


def line(**fields: object) -> bytes:
    """Return a line of 18 fields; those not named are -1, but for a plain job's."""
    order = ["id", "submit", "wait", "run", "allocated", "cpu", "used", "requested", "limit"]
    order += [
        "memory",
        "status",
        "user",
        "group",
        "program",
        "queue",
        "partition",
        "before",
        "think",
    ]
    values = dict.fromkeys(order, -1) | {"id": 1, "submit": 0, "run": 10, "requested": 2} | fields
    return " ".join(str(values[name]) for name in order).encode() + b"\n"


@pytest.fixture
def read(tmp_path: Path):
    def write_and_read(body: bytes) -> traces.Trace:
        path = tmp_path / "test.swf"
        path.write_bytes(body)
        return traces.read(path)

    return write_and_read


def only(trace: traces.Trace) -> TraceJob:
    (job,) = trace.jobs
    return job


def error_of(read, body: bytes) -> Misuse:
    with pytest.raises(Misuse) as caught:
        read(body)
    return caught.value


def test_fields_become_the_job(read):
    body = HEADER + line(id=7, submit=3, run=5, allocated=4, requested=2, limit=9, user=8, group=6)
    assert only(read(body)) == TraceJob(
        id=7,
        submit_ms=3000,
        run_ms=5000,
        processors=2,
        user="user8",
        tenant="group6",
        limit_ms=9000,
    )


def test_the_header_gives_the_pool(read):
    trace = read(HEADER + line())
    assert trace.processors == 96
    assert cluster_for(trace, None).spec == "pool:96"
    assert cluster_for(trace, "2x8gpu").gpus == 16


def test_the_pool_is_maxnodes_where_maxprocs_is_unknown(read):
    assert read(b"; MaxProcs: -1\n; MaxNodes: 256\n" + line()).processors == 256


def test_a_trace_that_names_no_machine_needs_a_cluster(read):
    with pytest.raises(Misuse, match="does not say what cluster") as caught:
        cluster_for(read(line()), None)
    assert "--cluster" in caught.value.hint


def test_allocated_processors_stand_in_for_unknown_requested_ones(read):
    assert only(read(line(requested=-1, allocated=3))).processors == 3


def test_a_requested_time_of_zero_or_unknown_is_no_limit(read):
    assert only(read(line(limit=0))).limit_ms is None
    assert only(read(line(limit=-1))).limit_ms is None


def test_jobs_that_cannot_be_replayed_are_dropped_and_counted(read):
    trace = read(
        line(id=1)
        + line(id=2, run=-1)
        + line(id=3, requested=-1, allocated=0)
        + line(id=4, submit=-1)
        + line(id=5, run=-3600)
        + line(id=6, run=-1)
        + line(id=7, run=0)
    )
    assert [job.id for job in trace.jobs] == [1, 7]
    assert trace.dropped == {
        "negative run time": 1,
        "unknown processors": 1,
        "unknown run time": 2,
        "unknown submit time": 1,
    }


def test_a_trace_without_any_usable_job_says_why(read):
    assert "1 with unknown run time" in error_of(read, line(run=-1)).message


def test_jobs_are_sorted_by_submission_then_number_not_by_line(read):
    lines = [line(id=number, submit=number // 3) for number in range(20)]
    random.Random(1).shuffle(lines)
    assert [job.id for job in read(b"".join(lines)).jobs] == list(range(20))


def test_fractions_of_seconds_and_extra_columns_are_read(read):
    body = line(submit="3.25", run="0.5").rstrip() + b" {12,13} q_2w 1:ppn=12\n"
    assert (only(read(body)).submit_ms, only(read(body)).run_ms) == (3250, 500)


def test_blank_lines_and_windows_line_ends_do_no_harm(read):
    assert len(read(b"\n  \t\n" + line().replace(b"\n", b"\r\n") + b"\n").jobs) == 1


def test_gzip_is_recognised_by_content_whatever_the_name(read):
    assert len(read(gzip.compress(HEADER + line())).jobs) == 1


@pytest.mark.parametrize(
    ("damage", "message", "field"),
    [
        (
            b"2 5 -1 ten" + b" 1" * 14,
            'field 4 (run time): found "ten", expected a number',
            "run time",
        ),
        (b"x" + b" 1" * 17, 'field 1 (job number): found "x"', "job number"),
        (b"2 nan" + b" 1" * 16, 'field 2 (submit time): found "nan"', "submit time"),
        (b"2 1e999" + b" 1" * 16, 'field 2 (submit time): found "1e999"', "submit time"),
        (b"2 -5" + b" 1" * 16, 'found "-5", expected seconds from 0', "submit time"),
        (b"2.5 1" + b" 1" * 16, 'found "2.5", expected a whole number', "job number"),
        (b"1 2 3 4", 'found 4 fields ("1 2 3 4"), expected 18 numbers', ""),
        (b"what is this", "expected 18 numbers", ""),
        (b"1 1 1 1 1 1 1 99999999999" + b" 1" * 10, "too large", "requested processors"),
    ],
)
def test_a_damaged_line_is_named_with_what_was_found_and_expected(read, damage, message, field):
    error = error_of(read, HEADER + line() + damage + b"\n" + line(id=3))
    assert ":5: " in error.message
    assert message in error.message
    assert error.field == field


def test_a_truncated_gzip_is_named(read):
    rows = b"".join(line(id=number, submit=number * 37 % 1009) for number in range(5000))
    whole = gzip.compress(HEADER + rows)
    error = error_of(read, whole[: len(whole) // 2])
    assert "the gzip file ends in the middle" in error.message
    assert "gzip -t" in error.hint


def test_a_damaged_gzip_is_named(read):
    rows = b"".join(line(id=number, submit=number * 37 % 1009) for number in range(5000))
    whole = bytearray(gzip.compress(HEADER + rows))
    whole[len(whole) // 2] ^= 0xFF
    assert "gzip" in error_of(read, bytes(whole)).message


@pytest.mark.parametrize("body", [b"", b"\n\n", gzip.compress(b"", mtime=0)])
def test_an_empty_file_is_empty(read, body):
    assert "is empty" in error_of(read, body).message


def test_a_file_of_comments_has_no_jobs(read):
    assert "has no jobs" in error_of(read, HEADER).message


def test_binary_garbage_is_named(read):
    assert "found binary data" in error_of(read, random.Random(2).randbytes(5000)).message


def test_text_that_is_not_utf8_is_shown_and_harms_nobody(read):
    trace = read("; Computer: Größe\n".encode("latin-1") + line())
    assert trace.notes["Computer"] == "Gr\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}e"
    assert "\N{REPLACEMENT CHARACTER}" in error_of(read, b"\xff\xfe 1 2\n").message


def test_a_missing_file_and_a_folder_are_misuse(tmp_path):
    with pytest.raises(Misuse, match="there is no file"):
        traces.read(tmp_path / "none.swf")
    with pytest.raises(Misuse, match="is a folder"):
        traces.read(tmp_path)
