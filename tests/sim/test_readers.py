"""What each reader makes of its format, what it drops, and what it says of a damaged file."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.model.base import Misuse
from fairlead.model.resources import Shape
from fairlead.sim import traces
from fairlead.sim.traces.lines import Lines
from fairlead.sim.workload import Trace, TraceJob, fit, parse_cluster
from traces import EXCERPTS, OLD_GAVEL, SEREN, SHOCKWAVE, THROUGHPUTS, write_profile


@pytest.fixture
def read(tmp_path: Path):
    def write_and_read(body: str | bytes, **how: object) -> Trace:
        path = tmp_path / "trace"
        path.write_bytes(body.encode() if isinstance(body, str) else body)
        table = tmp_path / "throughputs.json"
        table.write_text(THROUGHPUTS)
        known = {"throughputs": table, "profiles": write_profile(tmp_path / "profiles")}
        return traces.read(path, **(known | how))

    return write_and_read


def error_of(read, body: str | bytes, **how: object) -> Misuse:
    with pytest.raises(Misuse) as caught:
        read(body, **how)
    assert "Traceback" not in caught.value.message
    return caught.value


@pytest.mark.parametrize("name", sorted(traces.FORMATS.keys() - {"openb-packing"}))
def test_a_format_is_recognised_by_its_content_plain_packed_and_by_name(read, name):
    body = EXCERPTS[name].encode()
    trace = read(body)
    assert trace.format == name
    assert read(gzip.compress(body)) == trace
    assert read(body, format=name) == trace


def test_every_format_but_one_has_an_excerpt():
    assert traces.FORMATS.keys() - EXCERPTS.keys() == {"openb-packing"}


@pytest.mark.parametrize(
    ("name", "hint"),
    [("phily", "did you mean philly?"), ("cronus", "chronus"), ("zzz", "the formats are swf,")],
)
def test_a_format_that_does_not_exist_gets_the_nearest(read, name, hint):
    error = error_of(read, EXCERPTS["swf"], format=name)
    assert hint in error.hint and error.field == "format"


def test_swf_takes_extra_columns_blank_lines_and_cancelled_jobs(read):
    trace = read(EXCERPTS["swf"])
    assert [(job.id, job.processors, job.limit_ms) for job in trace.jobs] == [
        (1, 4, 90_000),
        (3, 2, 60_000),
    ]
    assert trace.dropped == {"unknown processors": 1}


def test_philly_sorts_by_time_then_position_and_counts_from_the_first_submission(read):
    trace = read(EXCERPTS["philly"])
    assert trace.jobs == (
        TraceJob(id=2, submit_ms=0, run_ms=10_000, processors=1, tenant="aaa"),
        TraceJob(id=1, submit_ms=60_000, run_ms=66_500, processors=2, tenant="bbb"),
        TraceJob(id=3, submit_ms=60_000, run_ms=1000, processors=8, tenant="aaa"),
    )
    assert trace.notes == {"first submission": "2017-10-09 07:01:00"}


def test_raw_philly_runs_for_the_sum_of_the_attempts_on_the_widest(read):
    trace = read(EXCERPTS["philly-json"])
    assert trace.jobs == (
        TraceJob(
            id="application_2", submit_ms=0, run_ms=90_000, processors=3, user="u1", tenant="aaa"
        ),
    )
    assert trace.dropped == {
        "an attempt without an end (still running when the log was taken)": 1,
        "no attempt that started": 2,
    }


def test_raw_philly_on_one_long_line_is_read_too(read):
    jobs = ", ".join([EXCERPTS["philly-json"].replace("\n", "")[1:-1]] * 2000)
    assert len(f"[{jobs}]") > 2**20
    assert len(read(f"[{jobs}]").jobs) == 2000


def test_pai_tasks_are_gangs_of_their_instances_with_percents_of_a_gpu(read):
    trace = read(EXCERPTS["pai"])
    shapes = {job.id: (job.submit_ms, job.run_ms, job.shape) for job in trace.jobs}
    assert shapes == {
        "bbb/tensorflow": (900_000, 50_000, Shape(cpu_milli=6000, memory_mib=30_000, gpus=2)),
        "ccc/tensorflow": (
            *(990_000, 5_000),
            Shape(cpu_milli=6000, memory_mib=1024, gpus=2, members=2),
        ),
        "aaa/worker": (
            *(1_000_000, 600_000),
            Shape(cpu_milli=6000, memory_mib=2560, gpu_milli=250, members=4),
        ),
        "aaa/ps": (1_000_000, 600_000, Shape(cpu_milli=1000, memory_mib=1024)),
    }
    assert trace.dropped == {"no end_time (still ran)": 1, "no start_time (never ran)": 1}
    assert "1 tasks" in trace.notes["rounded up"]


def test_pai_with_a_header_is_the_same(read):
    header = ",".join(traces.pai.COLUMNS) + "\n"
    assert read(header + EXCERPTS["pai"]) == read(EXCERPTS["pai"])


@pytest.mark.parametrize("head", ["", ",".join(traces.pai.JOB_COLUMNS) + "\n"])
def test_the_job_table_of_pai_says_when_and_by_whom(read, tmp_path, head):
    table = tmp_path / "pai_job_table.csv"
    table.write_text(head + "aaa,i,ada,Terminated,940.0,1600.0\nbbb,i,bob,Failed,,950.0\n")
    alone, joined = read(EXCERPTS["pai"]), read(EXCERPTS["pai"], job_table=table)
    assert {job.id: (job.submit_ms, job.user) for job in joined.jobs} == {
        "bbb/tensorflow": (900_000, ""),
        "ccc/tensorflow": (990_000, ""),
        "aaa/ps": (940_000, "ada"),
        "aaa/worker": (940_000, "ada"),
    }
    assert {job.id: job.run_ms for job in joined.jobs} == {job.id: job.run_ms for job in alone.jobs}
    assert alone.notes["submission unknown"].startswith("4 tasks")
    assert joined.notes["submission unknown"].startswith("2 tasks")


def test_a_damaged_job_table_is_one_clear_error(read, tmp_path):
    table = tmp_path / "pai_job_table.csv"
    table.write_text("aaa,i,ada,Terminated,x,1600.0\n")
    error = error_of(read, EXCERPTS["pai"], job_table=table)
    assert f"{table}:1: column start_time" in error.message


def test_openb_runs_from_its_start_to_its_deletion_and_waits_from_its_creation(read):
    trace = read(EXCERPTS["openb"])
    assert [(job.id, job.submit_ms, job.run_ms, job.queue) for job in trace.jobs] == [
        ("pod-1", 5000, 4000, "BE"),
        ("pod-2", 7000, 9000, "LS"),
        ("pod-0", 10_000, 110_000, "LS"),
    ]
    assert [job.shape for job in trace.jobs] == [
        Shape(cpu_milli=1000, memory_mib=512),
        Shape(cpu_milli=64_000, memory_mib=2048, gpus=4),
        Shape(cpu_milli=12_000, memory_mib=1024, gpu_milli=460, gpu_models=("P100", "T4")),
    ]
    assert trace.dropped == {"no scheduled_time (a pod that never ran)": 1}


def test_openb_for_packing_has_every_pod_in_the_files_order_and_none_leaves_early(read):
    short = "\n".join(line.rsplit(",", 6)[0] for line in EXCERPTS["openb"].splitlines())
    for trace in (read(EXCERPTS["openb"], format="openb-packing"), read(short)):
        assert trace.format == "openb-packing"
        assert [job.id for job in trace.jobs] == ["pod-0", "pod-1", "pod-2", "pod-3"]
        assert [job.submit_ms for job in trace.jobs] == [0, 1000, 2000, 3000]
        assert {job.submit_ms + job.run_ms for job in trace.jobs} == {4000}


def test_gavel_jobs_run_as_long_as_the_table_says_and_its_objective_is_a_deadline(read):
    trace = read(EXCERPTS["gavel"])
    assert [(job.run_ms, job.processors, job.deadline_ms) for job in trace.jobs] == [
        (300_000, 2, None),
        (10_000, 1, 30_500),
    ]
    assert list(trace.dropped.values()) == [1]
    slow = read(EXCERPTS["gavel"], throughputs_gpu="k80")
    assert [job.run_ms for job in slow.jobs] == [100_000]


def test_the_other_layouts_of_gavel_are_told_apart_by_their_columns(read):
    (old,) = read(OLD_GAVEL).jobs
    assert (old.submit_ms, old.run_ms, old.processors) == (6000, 10_000, 1)
    (new,) = read(SHOCKWAVE, throughputs=None).jobs
    assert (new.submit_ms, new.run_ms, new.processors) == (55_000, 1_418_000, 2)


def test_gavel_without_a_table_says_what_to_add(read):
    assert "--throughputs" in error_of(read, EXCERPTS["gavel"], throughputs=None).hint


def test_gavel_on_a_gpu_that_the_table_lacks_says_which_it_has(read):
    assert "k80, v100" in error_of(read, EXCERPTS["gavel"], throughputs_gpu="v10").hint


@pytest.mark.parametrize(
    "table", ["", "{", "[1]", '{"v100": 3}', '{"v100": {"a": {"null": "x"}}}', "\0", "null"]
)
def test_a_damaged_table_of_throughputs_is_one_clear_error(read, tmp_path, table):
    path = tmp_path / "damaged.json"
    path.write_text(table)
    assert str(path) in error_of(read, EXCERPTS["gavel"], throughputs=path).message


def test_muri_is_in_milliseconds(read):
    assert [(job.submit_ms, job.run_ms, job.processors) for job in read(EXCERPTS["muri"]).jobs] == [
        (0, 60_000, 1),
        (90_000, 1500, 8),
    ]


def test_chronus_is_in_minutes_and_its_deadlines_count_from_the_submission(read):
    trace = read(EXCERPTS["chronus"])
    found = [(job.id, job.submit_ms, job.run_ms, job.deadline_ms, job.queue) for job in trace.jobs]
    assert found == [
        (1, 120_000, 540_000, 60_000 * (2 + 20), "soft"),
        (2, 300_000, 1_800_000, None, "best"),
        (0, 600_000, 420_000, 60_000 * (10 + 11), "strict"),
    ]
    assert trace.dropped == {"0 GPUs (a fraction of one, rounded down)": 1}


def test_elasticflow_is_in_seconds_and_its_deadlines_are_absolute(read):
    found = [
        (job.submit_ms, job.run_ms, job.deadline_ms) for job in read(EXCERPTS["elasticflow"]).jobs
    ]
    assert found == [(100_000, 250_000, 400_000), (150_000, 66_000, 160_000)]


def test_deadlines_reach_the_scheduler(read):
    cluster = parse_cluster("pool:64")
    workload = fit(read(EXCERPTS["elasticflow"]), cluster, lambda spec: None)
    assert [job.spec.deadline_ms for job in workload.jobs] == [400_000, 160_000]


def test_helios_spreads_totals_over_nodes_and_its_queue_is_a_wait(read):
    trace = read(EXCERPTS["helios"])
    found = [(job.id, job.submit_ms, job.run_ms, job.tenant, job.queue) for job in trace.jobs]
    assert found == [
        (12, 0, 10_000, "vc2", "default"),
        (11, 30_000, 600_000, "vc1", "default"),
    ]
    assert [job.shape for job in trace.jobs] == [
        Shape(cpu_milli=4000),
        Shape(cpu_milli=32_000, gpus=8, members=2),
    ]
    assert trace.dropped == {"no start_time (never ran)": 1}


def test_gpus_that_do_not_divide_among_the_nodes_become_members_of_one_gpu(read):
    trace = read(EXCERPTS["helios"].replace("uA,vc1,16,64,2", "uA,vc1,7,28,2"))
    assert trace.jobs[1].shape == Shape(cpu_milli=4000, gpus=1, members=7)


def test_acme_runs_from_start_to_end_whatever_its_duration_says(read):
    trace = read(EXCERPTS["acme"])
    assert [(job.id, job.submit_ms, job.run_ms) for job in trace.jobs] == [
        ("dlc2", 0, 2000),
        ("dlc1", 60_000, 50_000),
    ]
    assert trace.jobs[1].shape == Shape(cpu_milli=120_000, memory_mib=1_024_000, gpus=8, members=8)
    assert trace.dropped == {"no start_time (never ran)": 1}


def test_acme_of_the_other_cluster_has_fewer_columns_and_another_zone(read):
    (job,) = read(SEREN).jobs
    assert (job.id, job.run_ms, job.tenant) == (57, 117_000, "Other")


def test_slurm_events_become_members_per_node_with_their_limits(read):
    trace = read(EXCERPTS["slurm"])
    assert [(job.submit_ms, job.run_ms, job.limit_ms) for job in trace.jobs] == [
        (0, 15_000, 420_000),
        (10_500, 84_000, 86_400_000),
        (11_000, 300_000, 300_000),
    ]
    assert [job.shape for job in trace.jobs] == [
        Shape(cpu_milli=12_000, members=2),
        Shape(cpu_milli=2000, memory_mib=2048, members=2),
        Shape(cpu_milli=1000, gpus=2),
    ]
    assert (trace.jobs[0].tenant, trace.jobs[0].queue, trace.jobs[0].user) == ("x", "p", "u5")
    assert trace.notes == {"not heeded, --exclusive": "1 jobs"}


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("30", 30 * 60),
        ("5:30", 5 * 60 + 30),
        ("1:00:00", 3600),
        ("2-3", 51 * 3600),
        ("2-3:04", 51 * 3600 + 240),
        ("2-03:04:05", 51 * 3600 + 245),
    ],
)
def test_every_form_of_slurms_limits_is_understood(read, text, limit):
    trace = read(EXCERPTS["slurm"].replace("00:07:00", text))
    assert trace.jobs[0].limit_ms == 1000 * limit


@pytest.mark.parametrize(
    ("text", "gpus"), [("gpu", 1), ("gpu:3", 3), ("gpu:p100:2", 2), ("gpu:v100", 1), ("nic:4", 0)]
)
def test_every_form_of_slurms_gpus_is_understood(read, text, gpus):
    shape = read(EXCERPTS["slurm"].replace("gpu:2", text)).jobs[2].shape
    assert shape == Shape(cpu_milli=1000, gpus=gpus)


DAMAGES = [
    # format, what stands there, what is written instead, where, what is said of it, field
    ("philly", "66.5", "soon", 2, 'column duration: found "soon", expected a number', "duration"),
    ("philly", "66.5", "-66.5", 2, 'found "-66.5", expected a time from 0', "duration"),
    ("philly", "66.5", "nan", 2, 'found "nan", expected a number', "duration"),
    ("philly", "66.5", "1e300", 2, 'found "1e300"', "duration"),
    ("philly", "66.5,2,", "66.5,", 2, "found 4 columns", ""),
    ("philly", "66.5,2,", "66.5,2.5,", 2, "expected a whole number", "num_gpus"),
    ("philly", "07:01:00", "07:61:00", 3, "expected YYYY-MM-DD HH:MM:SS", "timestamp"),
    ("philly", "07:01:00", "07:01:00+00:00", 3, "without a zone", "timestamp"),
    ("philly", "num_gpus", "num_gpu", 1, "found no column num_gpus", "num_gpus"),
    ("philly", "gpu_time", "duration", 1, "the column duration twice", "duration"),
    ("philly-json", '"jobid": "application_4"', '"id": 4', 15, "found no jobid", "jobid"),
    ("philly-json", '"attempts": []', '"attempts": 7', 9, "attempts: expected", "attempts"),
    ("philly-json", "07:10:30", "7h", 2, "YYYY-MM-DD HH:MM:SS", "end_time"),
    ("philly-json", '"user": "u2"', '"user": ', 11, "expected a JSON list of jobs", ""),
    (
        "pai",
        "1000.0,1600.0,600.0,2.5",
        "1000.0,900.0,600.0,2.5",
        1,
        "from start_time on",
        "end_time",
    ),
    ("pai", "25.0,T4", "x,T4", 1, 'column plan_gpu: found "x"', "plan_gpu"),
    ("openb", "1,460", "1,4600", 2, "expected a number from 0 to 1,000", "gpu_milli"),
    ("openb", "4,1000", "4,500", 4, "expected 1000, or for one GPU", "gpu_milli"),
    ("openb", "10,130,20", "10,13,20", 2, "from scheduled_time on", "deletion_time"),
    (
        "openb",
        "scheduled_time",
        "sched_time",
        1,
        "found no column scheduled_time",
        "scheduled_time",
    ),
    ("gavel", "\t6000\t", "\tmany\t", 1, 'column total_steps: found "many"', "total_steps"),
    ("gavel", "\t6000\t2\t", "\t6000\t0\t", 1, "expected a number from 1", "scale_factor"),
    ("gavel", "\t10.500000", "", 2, "found 9 columns", ""),
    ("gavel", "\t0.000000", "", 1, "expected 7, 10 or 12", ""),
    ("muri", "0,1,0,100", "0,1,-5,100", 2, "expected a time from 0", "submit_time"),
    ("chronus", "12-15-20", "12-15-x", 3, "expected minutes, separated by -", "expect_time_list"),
    ("chronus", "0,strict\n1", "0,hard\n1", 2, "expected one of strict, soft, best", "job_type"),
    ("helios", "18:41:00", "18h41", 2, "column submit_time", "submit_time"),
    ("helios", "node_num", "nodes", 1, "found no column node_num", "node_num"),
    ("acme", "11:01:00+00:00,,", "11:01:00,,", 2, "+00:00", "end_time"),
    ("acme", "11:01:00+00:00,,", "11:00:00+00:00,,", 2, "from start_time on", "end_time"),
    ("slurm", "-dt 10.50 ", "", 2, "found no -dt", "-dt"),
    ("slurm", "-sim-walltime 84.00 ", "", 2, "found no -sim-walltime", "-sim-walltime"),
    ("slurm", "-sim-walltime 84.00", "-sim-walltime -84", 2, "-84", "-sim-walltime"),
    ("slurm", "--mem=2G", "--mem=2Q", 2, "a size per node", "--mem"),
    ("slurm", "-t 5:00", "-t soon", 3, "a time such as", "--time"),
    ("slurm", "gpu:2", "gpu:2000", 3, "GPUs per node", "--gres"),
    ("slurm", "-n 24", "-n none", 1, 'found "none"', "--ntasks"),
    ("slurm", "-e submit_batch_job | -J c", "-e other_event | -J c", 3, "submit_batch_job", ""),
]


@pytest.mark.parametrize(("name", "what", "instead", "line", "message", "field"), DAMAGES)
def test_damage_is_named_with_line_column_and_what_was_expected(
    read, name, what, instead, line, message, field
):
    assert EXCERPTS[name].count(what) >= 1
    error = error_of(read, EXCERPTS[name].replace(what, instead, 1))
    assert f"trace:{line}: " in error.message
    assert message in error.message
    assert error.field == field
    assert error.code == "damaged-trace"


def test_a_column_that_is_misspelt_gets_the_nearest_name(read):
    error = error_of(read, EXCERPTS["philly"].replace("num_gpus", "num_gpu"))
    assert 'is "num_gpu" meant?' in error.hint


def test_columns_of_no_known_format_are_named(read):
    error = error_of(read, "fruit,colour,weight\napple,red,3\n")
    assert "fruit, colour, weight" in error.message and "--format" in error.hint


def test_the_job_table_of_pai_is_answered_with_the_one_to_read(read):
    error = error_of(read, "job_name,inst_id,user,status,start_time,end_time\na,b,c,Failed,1,2\n")
    assert "job table" in error.message and "pai_task_table" in error.hint


@pytest.mark.parametrize("name", sorted(EXCERPTS))
def test_a_file_that_goes_on_in_another_format_is_named_at_the_line(read, name):
    other = EXCERPTS["swf" if name != "swf" else "muri"]
    error = error_of(read, EXCERPTS[name].rstrip("\n") + "\n" + other)
    line = int(error.message.split(":")[1])
    assert line >= len(EXCERPTS[name].splitlines())


@pytest.mark.parametrize("name", sorted(EXCERPTS))
def test_a_file_that_is_cut_off_in_its_gzip_is_named(read, name):
    body = EXCERPTS[name].encode() + random.Random(1).randbytes(3000).hex().encode()
    packed = gzip.compress(body)
    assert "ends in the middle" in error_of(read, packed[: len(packed) // 2]).message


@pytest.mark.parametrize("name", sorted(EXCERPTS))
def test_a_file_that_turns_binary_is_named(read, name):
    assert "binary" in error_of(read, EXCERPTS[name].encode() + b"\0\1\2\3").message


@pytest.mark.parametrize("name", sorted(set(EXCERPTS) - {"swf", "gavel", "slurm", "pai"}))
def test_a_header_without_jobs_has_no_jobs(read, name):
    head = "[]" if name == "philly-json" else EXCERPTS[name].splitlines()[0]
    assert "has no jobs" in error_of(read, head).message


def test_a_trace_of_which_nothing_can_be_used_says_why(read):
    lines = EXCERPTS["helios"].splitlines()
    error = error_of(read, lines[0] + "\n" + lines[-1])
    assert "no usable job: 1 with no start_time (never ran)" in error.message


def test_quotes_spaces_and_a_byte_order_mark_do_no_harm(read):
    body = EXCERPTS["philly"].replace("66.5,2", '"66.5" , 2')
    assert read("\ufeff" + body) == read(EXCERPTS["philly"])


def lines_of(body: bytes) -> Lines:
    numbered = enumerate(body.split(b"\n"), 1)
    return [(number, line.strip()) for number, line in numbered if line.strip()]


def parse(body: bytes, name: str | None) -> Trace | Misuse:
    """Return what reading gives: a trace with sane times, or one error."""
    lines = lines_of(body)
    try:
        if name is None:
            name = traces.detect("t", lines)
        if name == "gavel":
            table = traces.gavel.Throughputs("x", "v100", {("LM (batch size 10)", 1): 50.0})
            return traces.gavel.parse("t", lines, table)
        return traces.FORMATS[name].parse("t", lines)
    except Misuse as error:
        return error


_CELLS = st.sampled_from(
    [
        *("", "-1", "0", "1e999", "nan", "9" * 30, "2.5", "x", "²", "١", "None", "\ud7ff"),
        *('"', "'", ",", "\t", "|", "[", "{", "}", "]", ":", "-", "="),
        *("9999-12-31 23:59:59", "0001-01-01 00:00:00"),
    ]
)


@st.composite
def damaged_excerpts(draw: st.DrawFn) -> bytes:
    """Return an excerpt with some cells or lines replaced, removed, repeated."""
    text = draw(st.sampled_from(sorted([*EXCERPTS.values(), SEREN, OLD_GAVEL, SHOCKWAVE])))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, max(len(text) - 1, 0)))
        end = draw(st.integers(start, min(start + draw(st.sampled_from([0, 1, 8, 80])), len(text))))
        piece = draw(_CELLS | st.text(max_size=3) | st.sampled_from(sorted(EXCERPTS.values())))
        text = text[:start] + piece + text[end:]
    return text.encode("utf-8", "replace")


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    damaged_excerpts() | st.binary(max_size=60),
    st.none() | st.sampled_from(sorted(traces.FORMATS)),
)
def test_no_input_gives_anything_but_a_trace_or_a_misuse(body, name):
    if not lines_of(body):
        return  # read_lines has said so
    found = parse(body, name)
    if isinstance(found, Trace):
        assert found.jobs
        assert all(job.submit_ms >= 0 and job.run_ms >= 0 for job in found.jobs)
        assert all(bool(job.processors) != bool(job.shape) for job in found.jobs)
    else:
        assert found.message


def test_every_format_has_its_page_and_its_line_in_the_table():
    folder = Path(__file__).parents[2] / "docs" / "reference" / "traces"
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert [name for name in traces.FORMATS if f"| [`{name}`](" not in text] == []
