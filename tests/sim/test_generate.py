from __future__ import annotations

from itertools import pairwise

import pytest

from fairlead.model.base import Misuse
from fairlead.sim.cluster import parse_cluster
from fairlead.sim.generate import DAY_S, generate, jobs_in
from fairlead.sim.traces.jsonl import Line

CLUSTER = parse_cluster("12x8gpu")


def made(pattern: str = "poisson", **more: object) -> list[Line]:
    asked = {"jobs": 2000, "load": 0.8, "cluster": CLUSTER, "seed": 1} | more
    return generate(pattern, **asked)[1]  # type: ignore[arg-type]


@pytest.mark.parametrize("pattern", ["poisson", "diurnal"])
@pytest.mark.parametrize("load", [0.3, 0.85, 1.5])
def test_the_offered_load_is_the_one_asked_for(pattern, load):
    lines = made(pattern, load=load, jobs=5000)
    work = sum(line.run_s * line.gpus for line in lines)
    window = max(line.submit_s for line in lines)
    assert work / (96 * window) == pytest.approx(load, rel=0.02)


def test_the_same_seed_gives_the_same_jobs_and_another_seed_others():
    assert made() == made()
    assert made() != made(seed=2)


def test_arrivals_are_independent_in_a_poisson_workload():
    at = [line.submit_s for line in made(jobs=20_000)]
    gaps = [after - before for before, after in pairwise(at)]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert deviation / mean == pytest.approx(1, abs=0.05)  # exponential gaps


def test_arrivals_follow_the_day_in_a_diurnal_workload():
    lines = made("diurnal", jobs=20_000, load=0.5)
    days = int(max(line.submit_s for line in lines) // DAY_S)
    assert days >= 3
    whole = [line.submit_s % DAY_S / 3600 for line in lines if line.submit_s < days * DAY_S]
    by_hour = [sum(hour <= at < hour + 1 for at in whole) / len(whole) * 24 for hour in range(24)]
    assert by_hour[15] == pytest.approx(1.8, abs=0.2)
    assert by_hour[3] == pytest.approx(0.2, abs=0.15)


def test_widths_follow_their_shares_and_fit_a_node():
    lines = made(jobs=20_000)
    shares = {width: sum(line.gpus == width for line in lines) / 20_000 for width in (1, 2, 4, 8)}
    assert sum(shares.values()) == 1
    assert shares == pytest.approx({1: 0.70, 2: 0.10, 4: 0.15, 8: 0.05}, abs=0.01)
    assert {line.gpus for line in made(cluster=parse_cluster("6x3gpu"))} == {1, 2}


def test_on_a_cluster_without_gpus_jobs_ask_for_cores():
    assert {line.gpus for line in made(cluster=parse_cluster("pool:64"))} == {0}
    assert {line.cpus for line in made(cluster=parse_cluster("pool:64"))} == {1, 2, 4, 8}


def test_tenants_differ_in_size():
    lines = made(tenants=4, jobs=5000)
    counts = [sum(line.tenant == f"tenant{number}" for line in lines) for number in (1, 2, 3, 4)]
    assert sum(counts) == 5000
    assert counts == sorted(counts, reverse=True) and counts[0] > 2.5 * counts[3]


@pytest.mark.parametrize(
    "wrong",
    [{"jobs": 0}, {"jobs": 10**9}, {"load": 0.0}, {"load": float("nan")}, {"tenants": 0}],
)
def test_numbers_that_make_no_sense_are_misuse(wrong):
    with pytest.raises(Misuse):
        made(**wrong)


def test_in_an_overload_every_tenant_wants_more_than_there_is():
    lines = made("overload", tenants=2, load=2.2, jobs=10_000)
    window = max(line.submit_s for line in lines)
    for tenant in ("tenant1", "tenant2"):
        work = sum(line.run_s * line.gpus for line in lines if line.tenant == tenant)
        assert work > 96 * window


def test_an_overload_of_one_or_of_little_is_misuse():
    for wrong in ({"tenants": 1, "load": 2.0}, {"tenants": 2, "load": 0.9}):
        with pytest.raises(Misuse, match="no overload") as said:
            made("overload", **wrong)
        assert said.value.field in wrong and "more than all there is" in said.value.hint


def test_so_many_jobs_keep_coming_for_so_many_days():
    count = jobs_in(3 * DAY_S, load=0.9, cluster=CLUSTER, seed=3)
    lines = made(jobs=count, load=0.9, seed=3)
    assert max(line.submit_s for line in lines) == pytest.approx(3 * DAY_S, rel=0.1)
