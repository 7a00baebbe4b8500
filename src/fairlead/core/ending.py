"""What an exit means, and where a job goes after a bad one."""

from __future__ import annotations

from fairlead.core.jobs import Job
from fairlead.model import limits
from fairlead.model.jobs import Exit, Phase


def after_failure(job: Job, rank: int, exit: Exit) -> tuple[Phase, str]:
    """Return where a job goes whose member ended badly, and why; counts the failure."""
    worker = job.spec.worker(rank)
    named = f"({worker[0].name} {worker[1]}) " if worker else ""
    who = f"rank {rank} {named}" if len(job.slots) > 1 else ""
    what = describe_exit(exit)
    if job.attempt >= limits.RESTARTS_MAX:
        phase = Phase.NODE_FAIL if exit.why == "lost" else Phase.FAILED
        return phase, f"{who}{what}; {limits.RESTARTS_MAX} attempts are the most"
    if exit.why == "lost":
        return Phase.PENDING, f"{who}{what}; it runs again"
    if exit.code == limits.EXIT_REQUEUE:
        return Phase.PENDING, f"{who}asked to run again (exit {limits.EXIT_REQUEUE})"
    if exit.why == "cannot-start":
        return Phase.FAILED, f"{who}{what}"
    job.failures += 1
    if job.failures <= job.spec.retries:
        return Phase.PENDING, f"{who}{what}; retry {job.failures} of {job.spec.retries}"
    return (Phase.OOM if exit.why == "oom" else Phase.FAILED), f"{who}{what}"


def describe_exit(exit: Exit) -> str:
    """Return an exit in words."""
    if exit.why == "lost":
        return f"lost ({exit.detail})" if exit.detail else "lost"
    if exit.why == "cannot-start":
        return f"could not start: {exit.detail}"
    if exit.why == "oom":
        return f"ran out of memory ({exit.detail})" if exit.detail else "ran out of memory"
    if exit.signal is not None:
        return f"killed by signal {exit.signal}"
    return f"exit {exit.code}"
