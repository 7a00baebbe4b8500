"""Whoever claims a bound keeps it against an adversary, and whoever claims none lets it win.

The cluster has 4 cores. From the first second on an adversary sends jobs of one core and ten
minutes, of the highest priority, half as many again as the cluster can do, for six hours. The
victim comes after an hour, with the lowest priority: a long one (one core, ten hours), a wide one
(all cores, ten minutes, as long as each of the others), one that is as the others but for its
priority, or one whose user holds half of the cluster already. Every newcomer is of a new user.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.model.jobs import JobSpec
from fairlead.model.resources import Shape
from fairlead.policy.bounds import LONG, LOW, SERVED, UNDATED, WIDE, in_words, lines, may_starve
from fairlead.policy.bounds import protected_after_ms as protected_after
from fairlead.policy.explain import explain
from fairlead.policy.registry import POLICIES, build, describe, policy_config
from fairlead.sim.cluster import parse_cluster
from fairlead.sim.replay import World
from fairlead.sim.workload import SimJob, Workload

SECOND, HOUR = 1000, 3_600_000
CORES, EVERY, SHORT = 4, 100 * SECOND, 600 * SECOND  # 600 s of work every 100 s: for 6 cores
CAME, OVER = HOUR, 6 * HOUR
RUN = {LONG: 10 * HOUR, WIDE: SHORT, UNDATED: 10 * HOUR, LOW: SHORT, SERVED: SHORT}
ALL = tuple(RUN)
DOCS = Path(__file__).parents[2] / "docs" / "reference" / "policies.md"


def made(kind: str, run_ms: int | None = None) -> tuple[Workload, int]:
    """Return the workload and the victim's number, from 1."""
    jobs = []
    for number, at in enumerate(range(0, OVER, EVERY)):
        due = at + HOUR if kind == UNDATED else None
        spec = JobSpec(
            shape=Shape(cpu_milli=1000),
            user=f"newcomer{number}",
            priority=100,
            limit_ms=SHORT,
            expected_ms=SHORT,
            deadline_ms=due,
        )
        jobs.append(SimJob(number, at, SHORT, spec))
    run_ms = run_ms or RUN[kind]
    shape = Shape(cpu_milli=1000 * (CORES if kind == WIDE else 1))
    spec = JobSpec(shape=shape, user="victim", priority=0, limit_ms=run_ms * 2, expected_ms=run_ms)
    jobs.append(SimJob("victim", CAME + 1, run_ms, spec))
    if kind == SERVED:
        spec = JobSpec(shape=Shape(cpu_milli=1000 * CORES // 2), user="victim", priority=100)
        jobs.insert(0, SimJob("held", 0, 2 * OVER, spec))
    jobs.sort(key=lambda job: job.submit_ms)
    names = [job.id for job in jobs]
    return Workload(tuple(jobs), {}, {}), names.index("victim") + 1


class Seen:
    """What an adversary did to the victim."""

    def __init__(self, kind: str, config, run_ms: int | None = None) -> None:
        workload, self.victim = made(kind, run_ms)
        self.config = config
        self.world = World(workload, parse_cluster(f"pool:{CORES}"), config)
        self.served = 0  # of the victim, when the adversary stops
        self.said: tuple[str, ...] = ()
        self.protected: int | None = None
        self.world.run(None, self.observe)
        self.start = self.world.start_ms[self.victim - 1]
        self.end = self.world.end_ms[self.victim - 1]

    def observe(self, now: int, core: Core) -> None:
        job = core.jobs.get(self.victim)
        if job is None:
            return
        if now <= OVER:
            self.served = job.attained_ms(now)
        if not self.said and now > CAME:
            self.protected = protected_after(self.config, job)
            story = explain(core, build(self.config), job.id, now)
            assert story is not None and story.protected_after_ms == self.protected
            self.said = story.lines

    def served_those_before(self, protected: int) -> int:
        """Return when all who came before that are surely done, and who then still runs."""
        ahead = [job for job in self.world.jobs if job.submit_ms <= protected]
        work = sum(job.run_ms for job in ahead if job.id != "victim")
        overtaken = self.config.overtake_ms or 0
        return max(protected, work // CORES) + 2 * SHORT + overtaken


CLAIMS = [(name, kind) for name in POLICIES for kind in ALL]


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name, kind in CLAIMS if kind in may_starve(policy_config(name))],
)
def test_who_is_said_to_have_no_bound_does_starve(name, kind):
    seen = Seen(kind, policy_config(name))
    assert seen.served <= RUN[kind] // 10
    assert seen.end > OVER
    assert "no starvation bound" in describe(policy_config(name))
    assert any("bound: none" in line or "no bound" in line for line in seen.said)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (name, kind)
        for name, kind in CLAIMS
        if kind in (LONG, WIDE, LOW)
        # What each victim has too: no deadline, a low priority.
        and not {kind, UNDATED, LOW} & set(may_starve(policy_config(name)))
    ],
)
def test_who_is_said_to_have_a_bound_gets_its_turn_within_it(name, kind):
    seen = Seen(kind, policy_config(name))
    # A wide victim is as long as all others, so even by length nobody who comes later is before it.
    protected = CAME + 1 if seen.protected is None else seen.protected
    assert seen.start <= seen.served_those_before(protected) < OVER


def test_a_job_with_a_deadline_waits_behind_nobody_who_comes_after_it():
    config = policy_config("edf")
    workload, victim = made(UNDATED, run_ms=HOUR)
    due = 3 * HOUR
    jobs = list(workload.jobs)
    spec = msgspec.structs.replace(jobs[victim - 1].spec, deadline_ms=due)
    jobs[victim - 1] = msgspec.structs.replace(jobs[victim - 1], spec=spec)
    world = World(Workload(tuple(jobs), {}, {}), parse_cluster(f"pool:{CORES}"), config)
    world.run(None, None)
    ahead = sum(job.run_ms for job in jobs if job.submit_ms <= due)
    assert world.start_ms[victim - 1] <= max(due, ahead // CORES) + SHORT


def test_a_long_job_under_las_is_back_at_the_top_after_waiting_its_bound():
    level = 700 * SECOND
    config = msgspec.structs.replace(policy_config("las"), levels_gpu_ms=(level,))
    seen = Seen(LONG, config, run_ms=3 * level)
    pauses = [until - since for job, since, until in seen.world.pauses if job == seen.victim - 1]
    assert len(pauses) == 2 and max(pauses) <= 8 * level + SECOND
    assert seen.end < OVER
    forever = msgspec.structs.replace(config, promote_percent=None)
    assert LONG in may_starve(forever)
    assert Seen(LONG, forever, run_ms=3 * level).end > OVER


def test_the_table_of_policies_says_who_may_starve():
    rows = dict(
        re.findall(r"^\| `([^`]+)`(?: \(default\))? \|.*\| ([^|]*) \|$", DOCS.read_text(), re.M)
    )
    for name in POLICIES:
        starves = may_starve(policy_config(name))
        assert ("may starve" in rows[name]) == bool(starves), name
        for kind in starves:
            assert kind.split()[0] in rows[name], (name, kind)


def test_a_bound_is_told_in_the_words_of_its_policy():
    job = Job(1, JobSpec(shape=Shape(), priority=40), 0, 1000, 1)
    assert lines(policy_config("priority"), job, 1000)[0] == (
        "bound: no job that arrives later than 3600 s from now is ordered before it"
    )
    while_not = "while it does not fit, it is promised a start once it is "
    easy, four = (lines(policy_config(each), job, 0)[1] for each in ("easy", "fifo-backfill4"))
    assert easy == f"{while_not}the first that does not fit"
    assert four == f"{while_not}among the first 4 that do not fit"
    assert "others may pass it for ever" in lines(policy_config("fifo-skip"), job, 0)[1]
    assert "1 h 40 min" in in_words(policy_config("priority"))
