"""What jobs that report their steps say of how long they take, in words."""

from __future__ import annotations

from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.core.speeds import NOWHERE, key_of
from fairlead.model.base import Ms
from fairlead.model.jobs import LIVE
from fairlead.model.units import format_duration


def steps_lines(core: Core, job: Job, now: Ms) -> list[str]:
    """Say how far a job is by its own words, when it ends by that, and whether plans go by it."""
    said, total = job.progress, job.spec.steps
    if said is None:
        return []
    done = f"{said.steps} of {total} steps" if total else f"{said.steps} steps"
    if job.phase not in LIVE:
        return [f"had made {done} when it stopped"]
    line = f"has made {done}, as it said {_span(now - said.at_ms)} ago"
    if said.total_ms is None:
        return [line]
    left = max(said.total_ms - job.attained_ms(now), 0)
    line += f"; at its speed it takes about {_span(left)} more"
    if core.policy.estimate == "limit" and job.spec.limit_ms is not None:
        line += " (plans go by its time limit)"
    return [line]


def never_lines(core: Core, job: Job) -> list[str]:
    """Say on which devices jobs of this type do not run, as somebody told."""
    shape = job.spec.shape
    never = core.speeds.never.get(key_of(job.spec, "")[:2])
    if not never or not (shape.gpus or shape.gpu_milli):
        return []
    left = core.shapes[job.shape_id].shape.gpu_models
    line = f"never on {', '.join(sorted(never))}: somebody told a speed of 0 for {job.spec.kind}"
    nowhere = "; so there is no GPU for it" if left == NOWHERE else ""
    return [f"{line}{nowhere} (fairlead speeds)"]


def ends_in_words(job: Job, now: Ms) -> str:
    """Return in how long a job ends that has no time limit, as far as it said itself."""
    if job.progress is None or job.progress.total_ms is None:
        return "no time limit"
    left = max(job.progress.total_ms - job.attained_ms(now), 0)
    return f"no time limit; by its own steps it ends in about {_span(left)}"


def _span(ms: Ms) -> str:
    return format_duration(max(ms, 0) // 1000 * 1000, exact=False)
