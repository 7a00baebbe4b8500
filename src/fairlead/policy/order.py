"""Who is next. An order is one key per job; smaller is sooner; ties by (submission, id).

The keys do not change while a job waits, so a queue is sorted once and a round costs nothing for
the jobs that stay where they are. Only capped ageing has to sort anew in every round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from fairlead.core.ends import FAR, total_run_ms
from fairlead.core.jobs import Job
from fairlead.model.base import Misuse, Ms
from fairlead.model.jobs import PolicyConfig
from fairlead.model.limits import LIMIT_MS_MAX, PRIORITY_MAX, PRIORITY_MIN
from fairlead.model.resources import WHOLE_GPU_MILLI, width_milli

HOUR_MS = 3_600_000
Key: TypeAlias = tuple[int, Ms, int]
Order: TypeAlias = Callable[[Job], Key]


def fifo(job: Job) -> Key:
    """First come, first served. Source: algorithms.md 2.1."""
    return (0, job.submitted_ms, job.id)


def shortest_first(job: Job) -> Key:
    """Shortest expected run time first; without an estimate the time limit; without both last.

    Starves long jobs while shorter ones keep coming. Source: algorithms.md 2.1 (SJF).
    """
    return (expected_ms(job), job.submitted_ms, job.id)


def expected_ms(job: Job) -> Ms:
    """Return the run time that an order goes by: the forecast, else the limit, else the longest."""
    total = total_run_ms(job)
    if total is None:
        total = job.spec.limit_ms if job.spec.limit_ms is not None else LIMIT_MS_MAX
    return total


def remaining_ms(job: Job, now: Ms) -> Ms:
    """Return what is left of the expected run time, never below 0: a job that has outlived it
    competes with others that have. Source: algorithms.md 2.1."""
    return max(0, expected_ms(job) - job.attained_ms(now))


def qssf(job: Job) -> Key:
    """Quasi-shortest service first: predicted run time x width; not preemptive, the head blocks.

    Good where predictions are; starves long and wide jobs. Source: Hu et al., SC 2021 (Helios);
    algorithms.md 10.2.
    """
    return (expected_ms(job) * width_milli(job.spec.shape), job.submitted_ms, job.id)


def edf(job: Job) -> Key:
    """Earliest deadline first; jobs without one come last. Source: algorithms.md 6.4."""
    deadline = job.spec.deadline_ms
    return (FAR if deadline is None else deadline, job.submitted_ms, job.id)


def remaining_first(now: Ms) -> Order:
    """SRTF: least remaining time first. Holds at `now`; what waits does not change.

    Least mean completion on one server; starves long jobs. Source: Schrage 1968; algorithms.md 2.1.
    """

    def key(job: Job) -> Key:
        return (remaining_ms(job, now), job.submitted_ms, job.id)

    return key


def service_first(now: Ms) -> Order:
    """SRSF: least remaining time x width first; starves long and wide jobs. algorithms.md 2.1."""

    def key(job: Job) -> Key:
        left = remaining_ms(job, now) * width_milli(job.spec.shape)
        return (left, job.submitted_ms, job.id)

    return key


def attained_milli(job: Job, now: Ms) -> int:
    """Return the attained service since the job was last at the top: ms x thousandths of a GPU."""
    return (job.attained_ms(now) - job.promoted_served_ms) * width_milli(job.spec.shape)


def level(attained: int, levels: Sequence[int]) -> int:
    """Return how deep a job has sunk: how many of the levels (GPU-ms) its service has reached."""
    return sum(limit * WHOLE_GPU_MILLI <= attained for limit in levels)


def level_of(config: PolicyConfig, job: Job) -> int:
    """Return how deep a waiting job has sunk since it was last at the top."""
    served = job.served_ms - job.promoted_served_ms
    return level(served * width_milli(job.spec.shape), config.levels_gpu_ms)


def promoted_at(config: PolicyConfig, job: Job) -> Ms | None:
    """Return when a waiting job is moved back to the top; None: it is there, or never."""
    if config.promote_percent is None or not level_of(config, job):
        return None
    served = job.served_ms - job.promoted_served_ms
    return job.pending_ms + max(0, served * config.promote_percent // 100 - job.waited_ms)


def least_attained(now: Ms, levels: Sequence[int]) -> Order:
    """Discretised 2D-LAS: the least sunk first, then who started first (Tiresias).

    Needs no estimate; long jobs wait while short ones keep coming, unless they are promoted.
    Source: Gu et al., NSDI 2019; algorithms.md 2.3.
    """

    def key(job: Job) -> Key:
        first = FAR if job.first_started_ms is None else job.first_started_ms
        return (level(attained_milli(job, now), levels), first, job.id)

    return key


def ageing(per_hour: int) -> Order:
    """Highest priority first, where a job gains `per_hour` points for every hour of waiting.

    Linear ageing keeps the order of two waiting jobs fixed, so base - rate x arrival decides,
    once. Source: algorithms.md 3.1.
    """

    def key(job: Job) -> Key:
        merit = job.spec.priority * HOUR_MS - per_hour * job.submitted_ms
        return (-merit, job.submitted_ms, job.id)

    return key


def capped_ageing(per_hour: int, cap: int, now: Ms) -> Order:
    """As `ageing`, but waiting adds at most `cap` points; such an order holds at `now` alone."""

    def key(job: Job) -> Key:
        gained = min(per_hour * (now - job.submitted_ms), cap * HOUR_MS)
        return (-(job.spec.priority * HOUR_MS + gained), job.submitted_ms, job.id)

    return key


def effective_milli(base: int, per_hour: int, cap: int | None, waited_ms: Ms) -> int:
    """Return the priority of a job that has waited so long, in thousandths of a point."""
    gained = per_hour * waited_ms * 1000 // HOUR_MS
    if cap is not None:
        gained = min(gained, cap * 1000)
    return base * 1000 + gained


def protected_after_ms(
    base: int, arrived_ms: Ms, per_hour: int, cap: int | None = None, base_max: int = PRIORITY_MAX
) -> Ms | None:
    """Return the time after which no newcomer can be ordered before this job; None: never.

    That is arrival + (base_max - base) / rate, rounded up. Source: algorithms.md 3.1.
    """
    gap = base_max - base
    if gap <= 0:
        return arrived_ms
    if per_hour <= 0 or (cap is not None and cap < gap):
        return None
    return arrived_ms - (-gap * HOUR_MS // per_hour)


def check_ageing(config: PolicyConfig) -> None:
    """Raise Misuse where a job could wait for ever: no ageing, or a cap too low to catch up."""
    gap = PRIORITY_MAX - PRIORITY_MIN
    if config.ageing_per_hour <= 0:
        raise Misuse(
            "priority without ageing has no starvation bound: a job of low priority may wait for "
            "ever while others of higher priority keep coming",
            field="ageing_per_hour",
            hint="set ageing_per_hour to 1 or more (60: a point a minute)",
        )
    if config.ageing_cap is not None and config.ageing_cap < gap:
        raise Misuse(
            f"ageing capped at {config.ageing_cap} points has no starvation bound: priorities span "
            f"{gap} points ({PRIORITY_MIN} to {PRIORITY_MAX}), so a job of priority "
            f"{PRIORITY_MIN} would never catch up with newcomers of {PRIORITY_MAX}",
            field="ageing_cap",
            hint=f"set ageing_cap to {gap} or more, or leave it out",
        )


STATIC: dict[str, Order] = {"fifo": fifo, "sjf": shortest_first, "qssf": qssf, "edf": edf}
# Orders whose keys change while a job runs: only preemptive policies go by them.
RUNNING = ("srtf", "srsf", "las", "gittins", "ftf", "themis")


def build(config: PolicyConfig) -> Order:
    """Return the order that a configuration names, where keys stand still while a job waits."""
    if config.order == "priority":
        check_ageing(config)
        return ageing(config.ageing_per_hour)
    if config.order == "multifactor":
        return fifo  # of jobs of one user that are equal but for their age
    if config.order in ("fair", "drf", "maxmin", "fairtree"):
        check_ageing(config)
        return ageing(config.ageing_per_hour)  # among the jobs of one user
    if config.order in STATIC:
        return STATIC[config.order]
    if config.order in RUNNING:
        return fifo  # a stand-in: the preemptive part brings the order of the moment
    raise Misuse(f"there is no order '{config.order}'", field="order")
