"""Numbers out of a history: per tenant, waits, and use of the machines over time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fairlead.model.base import Ms
from fairlead.pages.history import History, JobStory, Member

TENANTS_SHOWN_MAX = 8
OTHERS = "all others"


@dataclass(frozen=True, slots=True)
class TenantFigures:
    """What one tenant got. Times in seconds; `share`: of all core-seconds of the span, 0 to 1."""

    tenant: str
    jobs: int
    succeeded: int
    failed: int
    attempts: int
    wait_mean_s: float | None
    wait_median_s: float | None
    wait_max_s: float | None
    run_s: float
    core_s: float
    share: float


def quantile(ordered: Sequence[float], part: float) -> float | None:
    """Return the least value that `part` (0 to 1) of a sorted list does not exceed (nearest rank).

    None if the list is empty.
    """
    if not ordered:
        return None
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]


def held_ms(member: Member, placed: Ms, last: Ms) -> tuple[Ms, Ms]:
    """Return from when to when a member held its resources, up to the end of the log."""
    placed = placed if member.joined is None else member.joined
    return placed, last if member.ended is None else member.ended


def core_seconds(job: JobStory, last: Ms) -> float:
    """Return the cores that a job held times the seconds it held them."""
    held = 0
    for attempt in job.attempts:
        for rank, member in enumerate(attempt.members):
            start, end = held_ms(member, attempt.placed, last)
            held += (end - start) * job.spec.shape.of(rank).cpu_milli
    return held / 1e6


def capacity_core_seconds(history: History) -> float:
    """Return what the machines could have given in the span, in core-seconds."""
    return sum(node.cpu_milli for node in history.nodes) * history.span_ms / 1e6


def tenant_figures(history: History) -> list[TenantFigures]:
    """Return one row per tenant, in order of their names."""
    capacity = capacity_core_seconds(history)
    rows = []
    for tenant in history.tenants:
        jobs = [job for job in history.jobs.values() if job.spec.tenant == tenant]
        rows.append(_row(tenant, jobs, history.last, capacity))
    return rows


def total_figures(history: History) -> TenantFigures:
    """Return the row of all tenants together."""
    jobs = list(history.jobs.values())
    return _row("together", jobs, history.last, capacity_core_seconds(history))


def _row(tenant: str, jobs: list[JobStory], last: Ms, capacity: float) -> TenantFigures:
    waits = sorted(job.wait_ms / 1000 for job in jobs if job.wait_ms is not None)
    used = sum(core_seconds(job, last) for job in jobs)
    return TenantFigures(
        tenant=tenant,
        jobs=len(jobs),
        succeeded=sum(job.result == "ok" for job in jobs),
        failed=sum(job.result not in ("ok", "running", "waiting") for job in jobs),
        attempts=sum(len(job.attempts) for job in jobs),
        wait_mean_s=sum(waits) / len(waits) if waits else None,
        wait_median_s=quantile(waits, 0.5),
        wait_max_s=waits[-1] if waits else None,
        run_s=sum(job.run_ms for job in jobs) / 1000,
        core_s=used,
        share=used / capacity if capacity else 0.0,
    )


def shown_tenants(history: History) -> list[str]:
    """Return the tenants that get a colour of their own: those that used most, by name."""
    tenants = history.tenants
    if len(tenants) <= TENANTS_SHOWN_MAX:
        return tenants
    most = sorted(tenant_figures(history), key=lambda row: -row.core_s)
    return [*sorted(row.tenant for row in most[: TENANTS_SHOWN_MAX - 1]), OTHERS]


def use_over_time(history: History, tenants: Sequence[str]) -> list[tuple[Ms, list[int]]]:
    """Return the steps of cores in use (thousandths) by tenant: (from when, one per tenant)."""
    index = {tenant: place for place, tenant in enumerate(tenants)}
    changes: dict[Ms, list[int]] = {}
    for job in history.jobs.values():
        place = index.get(job.spec.tenant, len(tenants) - 1)
        for attempt in job.attempts:
            for rank, member in enumerate(attempt.members):
                start, end = held_ms(member, attempt.placed, history.last)
                for at, sign in ((start, 1), (end, -1)):
                    row = changes.setdefault(at, [0] * len(tenants))
                    row[place] += sign * job.spec.shape.of(rank).cpu_milli
    steps = []
    now = [0] * len(tenants)
    for at in sorted(changes):
        now = [have + more for have, more in zip(now, changes[at], strict=True)]
        steps.append((at, now))
    return steps
