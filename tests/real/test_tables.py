"""Published and agreed figures: Philly and Poisson under EASY, Muri's traces with preemption."""

from __future__ import annotations

import csv
import heapq
from functools import cache
from pathlib import Path

import pytest
from real_logs import REFERENCE, replayed

from fairlead.sim.metrics import summarise
from fairlead.sim.outcome import DEFAULT_RULES, Rules
from fairlead.sim.traces import read
from traces import real

PHILLY = "philly/philly-until-2017-11-12.csv.gz"


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("pool", "wait", "completion", "p99_wait", "makespan"),
    [
        (640, 34_568.83, 48_126.77, 134_735, 6_895_853),
        (800, 759.93, 14_317.87, 20_684, 6_852_656),
        (560, 251_589.41, 265_147.35, None, None),
    ],
)
def test_philly_under_easy_gives_the_table(pool, wait, completion, p99_wait, makespan):
    outcome = replayed(real(PHILLY), "easy-expected", spec=f"pool:{pool}", rules=REFERENCE)
    summary = summarise(outcome)
    assert summary.jobs == 62_194
    assert round(summary.mean_wait_s, 2) == wait
    assert round(summary.mean_completion_s, 2) == completion
    assert p99_wait is None or summary.p99_wait_s == p99_wait
    assert makespan is None or round(summary.makespan_s) == makespan


# ---- Poisson ----------------------------------------------------------------------------------

POISSON = {  # mean completion in the table, and by the rules of the reference EASY run
    "poisson-1000-96-load0.85": (2_208.2, 2_208.2),
    "poisson-4000-96-load0.85": (2_357.7, 2_357.7),
    "poisson-16000-96-load0.85": (2_690.3, 2_692.0),
    "poisson-4000-96-load1.2": (11_929.4, 12_035.7),
}


def loop(path: Path, total: int, *, together: bool) -> float:
    """EASY in few lines, one pass per instant, and nothing of ours; returns the mean completion.

    together: what ends at the promised time counts as free then, all of it. Otherwise ends are
    released one by one, the smallest first, until the head fits, as the table's own loop does.
    """
    jobs = sorted(
        (j.submit_ms, int(j.id), j.run_ms, j.processors, j.limit_ms) for j in read(path).jobs
    )
    queue: list[tuple] = []
    running: list[tuple] = []  # end, id, size, believed end
    free, done, at = total, 0, 0

    def start(job: tuple) -> None:
        heapq.heappush(running, (now + job[2], job[1], job[3], now + job[4]))

    while at < len(jobs) or running:
        now = min([jobs[at][0]] if at < len(jobs) else [], default=2**60)
        now = min(now, running[0][0]) if running else now
        while running and running[0][0] <= now:
            ended = heapq.heappop(running)
            free, done = free + ended[2], done + ended[0]
        while at < len(jobs) and jobs[at][0] <= now:
            queue.append(jobs[at])
            at += 1
        while queue and queue[0][3] <= free:
            free -= queue[0][3]
            start(queue.pop(0))
        if not queue:
            continue
        then, promised = free, None
        for _, _, size, end in sorted(running, key=lambda each: (each[3], each[2])):
            if promised is not None and (end > promised or not together):
                break
            then += size
            if promised is None and then >= queue[0][3]:
                promised = end
        extra = then - queue[0][3]
        for job in queue[1:]:
            in_time = now + job[4] <= promised
            if job[3] <= free and (in_time or job[3] <= extra):
                extra -= 0 if in_time else job[3]
                free -= job[3]
                start(job)
                queue.remove(job)
    return (done - sum(job[0] for job in jobs)) / len(jobs) / 1000


@pytest.mark.parametrize("name", POISSON)
def test_poisson_under_easy_is_what_a_short_loop_computes(name):
    table, by_the_rules = POISSON[name]
    path = real(f"poisson/{name}.swf.gz")
    summary = summarise(replayed(path, "easy", spec="pool:96", estimates="limit"))
    assert summary.mean_completion_s == pytest.approx(loop(path, 96, together=True), abs=1e-6)
    assert round(summary.mean_completion_s, 1) == by_the_rules
    assert summary.mean_completion_s == pytest.approx(table, rel=0.014)


@pytest.mark.parametrize("name", POISSON)
def test_the_table_of_poisson_releases_what_ends_together_one_by_one(name):
    path = real(f"poisson/{name}.swf.gz")
    assert round(loop(path, 96, together=False), 1) == POISSON[name][0]


# ---- Muri -------------------------------------------------------------------------------------

MURI = [f"trace{n}{kind}" for n in (1, 2, 3, 4) for kind in ("", "_pr")]
SMALL = ("trace3", "trace3_pr")


@cache
def published() -> dict[tuple[str, str], float]:
    """Return the mean completion of (trace, policy) in Muri's own figures."""
    with real("muri/expected_fig9_fig10.csv").open() as file:
        return {
            (row["trace"], row["policy"].lower()): float(row["avg_jct_s"])
            for row in csv.DictReader(file)
        }


def muri(name: str, policy: str, rules: Rules = DEFAULT_RULES) -> float:
    packed = ".gz" if name.startswith("trace2") else ""
    path = real(f"muri/simulator/trace-data/{name}.csv{packed}")
    return summarise(replayed(path, policy, spec="pool:64", rules=rules)).mean_completion_s


@pytest.mark.parametrize("policy", ["srtf", "srsf"])
@pytest.mark.parametrize(
    "name", [each if each in SMALL else pytest.param(each, marks=pytest.mark.long) for each in MURI]
)
def test_muri_is_a_little_below_what_is_published(name, policy):
    ratio = muri(name, policy) / published()[name, policy]
    assert 0.92 <= ratio <= 1.03


def test_what_restarts_cost_moves_one_of_muris_traces_towards_the_published_figure():
    # Not all: where all jobs come at once (trace3_pr), 30 s to 5 min make it a little shorter.
    free, minute, five = (
        muri("trace3", "srtf", Rules(restart_ms=1000 * seconds)) for seconds in (0, 60, 300)
    )
    theirs = published()["trace3", "srtf"]
    assert free < minute < five
    assert abs(minute - theirs) < abs(free - theirs)
