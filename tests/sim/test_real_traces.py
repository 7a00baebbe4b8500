"""What the readers find in the published files: ../shared/traces/README.md has the figures."""

from __future__ import annotations

import csv
import gzip
import time
from collections import Counter

import pytest

from fairlead.sim import traces
from fairlead.sim.cluster import parse_cluster
from fairlead.sim.replay import gate
from fairlead.sim.traces.info import TraceInfo, summarise_trace
from fairlead.sim.workload import Trace, fit
from traces import real

OPENB = "alibaba-gpu-v2023-openb/openb_pod_list_"
TABLE = "gavel/simulation_throughputs.json.gz"


def read(name: str, **how: str) -> tuple[Trace, TraceInfo]:
    trace = traces.read(real(name), **how)
    return trace, summarise_trace(trace)


@pytest.mark.parametrize(
    ("name", "lines", "processors", "dropped"),
    [
        ("KTH-SP2-unfiltered", 28_489, 100, {}),
        ("LLNL-Atlas-2006-2.1-cln", 43_778, 9216, {"unknown processors": 4571}),
        ("lublin_256", 10_000, 256, {}),
        ("hpc2n-alea-sample", 3170, 240, {"unknown run time": 25}),
        ("wagap-2013", 17_900, None, {"negative run time": 2}),
    ],
)
def test_logs_of_the_archive_are_read_to_the_last_job(name, lines, processors, dropped):
    trace, info = read(f"swf/pwa/{name}.swf.gz")
    assert info.jobs + sum(dropped.values()) == lines
    assert (trace.processors, trace.dropped) == (processors, dropped)


@pytest.mark.parametrize(
    ("name", "jobs", "processors"),
    [
        ("KTH-SP2", 28_481, 100),
        ("CTC-SP2", 77_199, 338),
        ("SDSC-SP2", 54_006, 128),
        ("SDSC-BLUE", 232_542, 1152),
    ],
)
def test_logs_with_outcomes_are_complete_inputs(name, jobs, processors):
    began = time.thread_time()
    trace, info = read(f"swf/easy-reference/{name}.easy_backfill.swf.gz")
    took = time.thread_time() - began
    assert (info.jobs, trace.processors, trace.dropped) == (jobs, processors, {})
    assert info.over_limit == 0
    assert took < 30, f"{jobs:,} jobs took {took:.1f} s of CPU"  # about 2 s here


def test_philly_has_the_table_of_widths_and_the_gpu_time():
    trace, info = read("philly/philly-until-2017-11-12.csv.gz")
    widths = Counter(job.processors for job in trace.jobs)
    assert widths == {1: 58_384, 2: 1177, 4: 1427, 8: 1069, 12: 7, 16: 97, 24: 4, 32: 29}
    assert info.jobs == 62_194 and info.tenants == 13
    assert f"{info.work_s:.4g}" == "2.739e+09"
    assert trace.notes["first submission"] == "2017-09-04 10:30:41"
    assert info.longest_run_s > 4.6e6


def test_philly_keeps_the_order_of_the_file_among_jobs_of_one_second():
    trace, _ = read("philly/philly-until-2017-11-12.csv.gz")
    with gzip.open(real("philly/philly-until-2017-11-12.csv.gz"), "rt") as file:
        stamps = [row["timestamp"] for row in csv.DictReader(file)]
    order = sorted(range(len(stamps)), key=stamps.__getitem__)
    assert [job.id for job in trace.jobs] == [index + 1 for index in order]
    assert len(stamps) - len(set(stamps)) > 5000


def test_openb_has_the_pods_and_the_demand_of_the_default_list():
    trace, info = read(f"{OPENB}default.csv.gz", format="openb-packing")
    assert info.jobs == 8152
    assert info.kinds["no GPU"] == 1088
    assert info.kinds["a share of a GPU"] == 3078
    assert info.kinds["several GPUs"] == 75
    assert (info.unit, round(info.asked, 1)) == ("GPUs", 6086.8)
    queues = Counter(job.queue for job in trace.jobs)
    assert queues == {"LS": 4647, "BE": 3398, "Burstable": 100, "Guaranteed": 7}


def test_openb_with_times_drops_the_pods_that_never_ran():
    trace, info = read(f"{OPENB}default.csv.gz")
    assert trace.dropped == {"no scheduled_time (a pod that never ran)": 897}
    assert info.jobs == 8152 - 897
    assert info.last_submit_s <= 12_901_761


@pytest.mark.parametrize(("share", "asked"), [(20, 7086.8), (30, 8086.8), (40, 9442.8)])
def test_openb_lists_without_times_are_read_for_packing(share, asked):
    trace, info = read(f"{OPENB}multigpu{share}.csv.gz")
    assert (trace.format, round(info.asked, 1)) == ("openb-packing", asked)


def test_openb_pods_fit_the_nodes_that_their_list_comes_with():
    cluster = parse_cluster(str(real("alibaba-gpu-v2023-openb/openb_node_list_gpu_node.csv")))
    models = Counter(device.model for node in cluster.nodes for device in node.devices)
    assert models == {
        **{"G2": 4392, "T4": 842, "G3": 312, "P100": 265},
        **{"V100M32": 204, "V100M16": 195, "A10": 2},
    }
    assert (len(cluster.nodes), cluster.gpus) == (1213, 6212)
    assert sum(node.cpu_milli for node in cluster.nodes) == 107_018_000
    assert sum(node.memory_mib for node in cluster.nodes) == 503_828_480
    for name, too_large in (("default", 0), ("gpuspec33", 1)):
        trace, _ = read(f"{OPENB}{name}.csv.gz")
        workload = fit(trace, cluster, gate(cluster))
        assert sum(workload.rejected.values()) == too_large
    assert any(job.spec.shape.gpu_models for job in workload.jobs)


@pytest.mark.parametrize(
    ("name", "nodes", "capacity"),
    [
        ("alibaba-gpu-v2023-openb/openb_node_list_all_node.csv", 1523, 6212),
        ("alibaba-v2026-spot-gpu/node_info_df.csv", 4278, 10_412),
        ("muri/simulator/cluster_spec/n8g8.csv", 8, 64),
        ("tiresias/n160g8.csv", 160, 1280),
        ("swf/pwa/wagap-2013.swf.machines", 68, 2176),
        ("swf/pwa/hpc2n-alea-sample.swf.machines", 120, 240),
    ],
)
def test_lists_of_nodes_are_clusters(name, nodes, capacity):
    cluster = parse_cluster(str(real(name)))
    assert (len(cluster.nodes), cluster.capacity_milli) == (nodes, 1000 * capacity)


@pytest.mark.parametrize(
    ("name", "jobs"),
    [("trace1.csv", 1494), ("trace2.csv.gz", 5755), ("trace3.csv", 992), ("trace4.csv", 2638)],
)
def test_muri_has_its_jobs_and_the_same_ones_all_at_once(name, jobs):
    trace, info = read(f"muri/simulator/trace-data/{name}")
    stem, dot, rest = name.partition(".")
    together, at_once = read(f"muri/simulator/trace-data/{stem}_pr{dot}{rest}")
    assert info.jobs == at_once.jobs == jobs
    assert at_once.last_submit_s == 0 < info.last_submit_s < 365 * 86_400
    assert at_once.work_s == info.work_s
    assert trace.format == together.format == "muri"


@pytest.mark.parametrize(
    ("name", "without_gpu", "best"), [("SLO", 205, 0), ("MIX1", 184, 9216), ("MIX2", 194, 3139)]
)
def test_chronus_has_its_jobs_and_no_deadline_that_the_run_time_alone_misses(
    name, without_gpu, best
):
    trace, info = read(f"chronus/trace_job_Philly_{name}.csv.gz")
    assert info.jobs + without_gpu == 30_940
    assert list(trace.dropped.values()) == [without_gpu]
    assert info.jobs - info.deadlines <= best <= info.jobs - info.deadlines + without_gpu
    assert info.deadlines_too_short == 0
    assert info.last_submit_s <= 60 * 20_151


def test_elasticflow_has_its_jobs_with_deadlines():
    _, info = read("elasticflow/traces_for_ElasticFlow/philly_103959.csv")
    assert (info.jobs, info.deadlines) == (876, 876)


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_gavels_generated_jobs_run_for_as_long_as_they_were_drawn(kind):
    # 10^U(1.5, 3) or 10^U(3, 4) minutes on a V100, so steps over throughput must lie there.
    trace, info = read(
        f"gavel/continuous/continuous_{kind}_seed0_rate1.trace.gz", throughputs=str(real(TABLE))
    )
    assert info.jobs == 10_000 and not trace.dropped
    minutes = [job.run_ms / 60_000 for job in trace.jobs]
    assert min(minutes) > 10**1.5 * 0.999 and max(minutes) < 10**4 * 1.001
    assert round(sum(each > 1000 for each in minutes) / 10_000, 1) == 0.2
    if kind == "multi":
        wide = Counter(job.processors for job in trace.jobs)
        assert [round(wide[width] / 10_000, 1) for width in (1, 2)] == [0.7, 0.1]


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("traces/physical_cluster/max_min_fairness.trace", 96),
        ("traces/physical_cluster/minimize_makespan.trace", 100),
        ("traces/physical_cluster/artifact_evaluation.trace", 15),
        ("traces/msr/seed=0/6214e9.trace.gz", 2000),
    ],
)
def test_gavels_other_traces_are_read_in_both_layouts(name, lines):
    trace, info = read(f"gavel/{name}", throughputs=str(real(TABLE)))
    assert info.jobs + sum(trace.dropped.values()) == lines


def test_shockwave_brings_its_durations():
    names = "0,0.5,0.5_0.6,0.3,0.09,0.01_multigpu_dynamic"
    _, info = read(f"shockwave/traces/120_0.2_5_100_40_25_{names}.trace")
    assert info.jobs == 120 and info.mean_run_s > 1000


def test_slurms_events_are_read_and_run_as_long_as_in_the_real_slurm():
    trace, info = read("slurm-sim/micro_cluster/workload/jobs500.events")
    assert info.jobs == 500
    with real("slurm-sim/micro_cluster/real_slurm_run/slurm_acct.out").open() as file:
        rows = {row["JobName"]: row for row in csv.DictReader(file, delimiter="|")}
    near = 0
    for job in trace.jobs:
        hours, minutes, seconds = map(int, rows[job.name]["Elapsed"].split(":"))
        run_s = min(job.run_ms, job.limit_ms or job.run_ms) / 1000
        near += abs(3600 * hours + 60 * minutes + seconds - run_s) <= 5
        assert job.shape is not None
        cores = job.shape.cpu_milli * job.shape.members // 1000
        assert cores == int(rows[job.name]["ReqCPUS"]), job.name
    assert near > 0.75 * 500


def test_a_week_of_slurms_events_is_read():
    trace, info = read("slurm-sim/medium_cluster/workload_week.events.gz")
    assert info.jobs == 19_579
    assert info.last_submit_s < 8 * 86_400
    assert trace.notes["not heeded, --exclusive"] == "179 jobs"
