"""Workloads of Pollux and Sia: jobs go as fast as the profiles of their applications say."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from fairlead.cli.sim import sim
from fairlead.model.base import Misuse
from fairlead.model.resources import Shape
from fairlead.sim import traces
from fairlead.sim.traces.pollux import read_profile
from traces import EXCERPTS, PROFILE, real, write_profile


@pytest.fixture
def workload(tmp_path):
    path = tmp_path / "workload.csv"
    path.write_text(EXCERPTS["pollux"])
    return path


def test_an_epoch_is_trained_with_the_batch_that_is_quickest_on_so_many_gpus(tmp_path):
    """With one GPU 10 steps of 10 samples in 10 s, twice; with two 6 and 5 of 20, at 1.5 s."""
    profile = read_profile(write_profile(tmp_path), "toy")
    assert profile.total_steps == 20
    assert dict(profile.rates) == {"T4": (1_000_000, round(20e6 / 16.5))}


def test_a_batch_that_does_not_fit_the_memory_is_made_of_several_steps(tmp_path):
    """Only batches of 40: two local steps of 2 s each on one GPU, one of 2.5 s on two."""
    epochs = PROFILE["validation-20.csv"]
    files = {"placements.csv": PROFILE["placements.csv"], "validation-40.csv": epochs}
    profile = read_profile(write_profile(tmp_path, files), "toy")
    assert dict(profile.rates)["T4"] == (round(20e6 / 44), round(20e6 / 27.5))


def test_between_numbers_of_gpus_that_were_measured_steps_are_as_long_as_between(tmp_path):
    wide = "num_nodes,num_replicas,local_bsz,step_time,sync_time\n2,4,10,3.5,2.5\n1,4,10,99,0\n"
    (folder := write_profile(tmp_path)).joinpath("toy", "scalability.csv").write_text(wide)
    batch = PROFILE["validation-20.csv"]
    folder.joinpath("toy", "validation-40.csv").write_text(batch)
    rates = dict(read_profile(folder, "toy").rates)["T4"]
    assert len(rates) == 4
    assert rates[2] == round(20e6 / (11 * 2.7))  # on 3: 14 samples each, between 1.9 and 3.5 s
    assert rates[3] == round(20e6 / (11 * 3.5))


def test_each_ending_of_a_profile_is_a_model_of_its_own(tmp_path):
    files = dict(PROFILE)
    files["placements-rtx.csv"] = PROFILE["placements.csv"].replace("1,10,1.0", "1,10,0.5")
    files["placements-dgx.csv"] = "placement,local_bsz,step_time,sync_time\n2,10,1,0\n"
    rates = dict(read_profile(write_profile(tmp_path, files), "toy").rates)
    assert rates["RTX2080Ti"][0] == 2 * rates["T4"][0]
    assert "A100" not in rates  # nothing is known of one of them


def test_jobs_are_elastic_and_those_without_a_profile_are_left_out(workload, tmp_path):
    found = traces.read(workload, profiles=write_profile(tmp_path / "profiles"))
    assert [job.id for job in found.jobs] == ["toy-0", "toy-1"]
    first = found.jobs[0]
    assert (first.submit_ms, first.run_ms, first.members_max) == (5000, 20_000, 2)
    assert first.shape == Shape(cpu_milli=1000, gpus=1) and first.job_type == "toy"
    assert found.dropped == {"no profile of gone": 1}
    assert found.cluster == "16x4gpu:T4"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("placements.csv", "placement,local_bsz,step_time\n1,10,1\n", "no column sync_time"),
        ("placements.csv", PROFILE["placements.csv"].replace("11,", "1x,"), 'found "1x"'),
        ("validation-10.csv", "progress,iteration\n", "found no epoch"),
        ("validation-10.csv", "progress,iteration\n5,1\n5,2\n", "progress does not rise"),
        ("validation-10.csv", "progress,iteration\nx,1\n", "expected a number"),
    ],
)
def test_a_damaged_profile_is_one_clear_error(tmp_path, name, text, message):
    with pytest.raises(Misuse) as wrong:
        read_profile(write_profile(tmp_path, {**PROFILE, name: text}), "toy")
    assert message in wrong.value.message and name in wrong.value.message


def test_what_is_missing_is_said_with_what_to_do(workload, tmp_path):
    for how, hint in (
        ({}, "--profiles"),
        ({"profiles": tmp_path / "none"}, ""),
        ({"profiles": write_profile(tmp_path / "toys").rename(tmp_path / "moved")}, None),
    ):
        if hint is None:
            (tmp_path / "moved" / "toy").rename(tmp_path / "moved" / "toys")
            hint = "did you mean toys?"
        with pytest.raises(Misuse) as wrong:
            traces.read(workload, **how)
        assert wrong.value.field == "profiles" and hint in wrong.value.hint


def test_the_command_replays_a_workload_under_pollux(workload, tmp_path):
    folder = write_profile(tmp_path / "profiles")
    words = ["run", str(workload), "--profiles", str(folder), "--policy", "pollux"]
    found = CliRunner().invoke(sim, [*words, "--cluster", "2x2gpu:T4"])
    assert found.exit_code == 0, found.output
    assert "pollux: the best number of members" in found.output


def test_pollux_on_its_own_workload_is_near_the_published_run():
    """Their runs pause at each change of size and learn speeds as they go: ours are shorter."""
    folder = real("pollux/traces")
    published_s = 2088.77  # pollux/results-jobload/pollux-1.0: avgs of workload-1
    found = mean_completion_s(real("pollux/workloads/workload-1.csv"), folder, "pollux")
    assert 0.7 * published_s < found < published_s
    assert found < 0.85 * mean_completion_s(real("pollux/workloads/workload-1.csv"), folder, "fifo")


def mean_completion_s(path, folder, policy: str) -> float:
    from fairlead.sim.cluster import parse_cluster
    from fairlead.sim.replay import gate, replay
    from fairlead.sim.workload import fit

    trace = traces.read(path, profiles=folder)
    cluster = parse_cluster(trace.cluster)
    outcome = replay(fit(trace, cluster, gate(cluster)), cluster, policy)
    jobs = outcome.workload.jobs
    ended = zip(jobs, outcome.end_ms, strict=True)
    return sum(end - job.submit_ms for job, end in ended) / len(jobs) / 1000
