"""What `why` says of named resources."""

from __future__ import annotations

from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.model.base import Ms
from fairlead.model.jobs import PolicyConfig
from fairlead.policy.deadlock.settle import obstacle, short

ACQUIRING = "Acquiring"  # a reason code: a running job waits for a request of its own

_MODES = {
    "avoid": "granted only while all can still finish, whatever they declared that they may ask",
    "detect": "granted when free; where jobs wait for each other, the cheapest is stopped",
    "ordered": "granted when free, and asked for in the order of kind and name",
}


def live_lines(core: Core, config: PolicyConfig, job: Job, now: Ms) -> tuple[str, ...]:
    """Return what a live job waits for, first of all, and what it holds and may ask for."""
    holding = core.named.live.get(job.id)
    if holding is None:
        return ()
    lines = []
    for ask in core.named.waiting():
        if ask.job == job.id:
            since = max(0, now - ask.at_ms) // 1000
            why = obstacle(core, config, ask) or "requests before it have not been granted"
            lines.append(f"waits for {ask.amount} {ask.name} since {since} s: {why}")
    held = ", ".join(f"{n} {name}" for name, n in sorted(holding.held().items()) if n)
    need = ", ".join(f"{n} {name}" for name, n in sorted(holding.need().items()))
    lines.append(f"holds {held or 'no named resources'}")
    if need:
        lines.append(f"may acquire {need} more: {_MODES[config.deadlock]}")
    return tuple(lines)


def pending_lines(core: Core, job: Job) -> list[str]:
    """Return what a waiting job needs of named resources."""
    lines = []
    for name, amount in core.named.in_order(job.spec.counted):
        lines.append(f"needs {amount} {name}: {short(core, name, amount)}")
    if job.spec.may_acquire:
        most = ", ".join(f"{n} {name}" for name, n in job.spec.may_acquire)
        lines.append(f"may acquire while it runs: {most}")
    return lines
