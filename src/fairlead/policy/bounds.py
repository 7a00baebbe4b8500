"""How long a job may wait behind others that come later: what each policy promises, and what not.

Two things can starve a job: newcomers that the order puts before it, and others that pass it while
it does not fit. Whoever bounds both bounds the wait, by those that came before the bound, what they
take, and the longest time limit of what runs. The rest says so. Sources: algorithms.md 2 and 3.1,
and those that docs/reference/policies.md names; tests/sim/test_starvation.py tries every claim.
"""

from __future__ import annotations

from fairlead.core.jobs import Job
from fairlead.model.base import Ms
from fairlead.model.jobs import PolicyConfig
from fairlead.model.limits import PRIORITY_MIN
from fairlead.model.units import format_duration
from fairlead.policy import order
from fairlead.policy.assigned import ASSIGNMENT
from fairlead.policy.fair.orders import NAMES as FAIR

LONG, WIDE = "long jobs", "wide jobs"
UNDATED, LOW = "jobs without a deadline", "jobs of low priority"
SERVED = "jobs of users who had more than their part"
# Whom newcomers may keep from the top for ever, by the order alone.
_BY_ORDER: dict[str, tuple[str, ...]] = {
    "fifo": (),
    "priority": (),
    "sjf": (LONG,),
    "qssf": (LONG, WIDE),
    "srtf": (LONG, WIDE),
    "srsf": (LONG, WIDE),
    "gittins": (LONG, WIDE),
    "ftf": (LONG, WIDE),
    "themis": (LONG, WIDE),
    "edf": (UNDATED,),
    **dict.fromkeys(FAIR, (SERVED,)),
    "multifactor": (SERVED, LOW),
}
_WHEN = {  # under which condition, where not always
    "ftf": "while shorter or narrower ones bring more work than the cluster can do",
    "themis": "while shorter or narrower ones bring more work than the cluster can do",
    **dict.fromkeys(FAIR, "while users who had less keep coming"),
    "multifactor": "while others who had less, or of higher priority, keep coming",
}


# Plans by which some have no time at all, since others make more of it.
GREEDY = ("gavel-throughput", "gavel-cost", "gavel-slo")


def may_starve(config: PolicyConfig) -> tuple[str, ...]:
    """Return who may wait for ever under a policy, () where every job gets its turn."""
    if config.plan == ASSIGNMENT:
        return (LONG, WIDE, LOW)
    if config.plan == "allox":
        return (LONG, WIDE)
    if config.plan.startswith("gavel-"):
        return (LONG, WIDE, LOW) if config.plan in GREEDY else ()
    if config.order == "las":
        # In the highest level who has started stays before who has not.
        return (WIDE,) if config.promote_percent is not None else (LONG, WIDE)
    found = _BY_ORDER.get(config.order, (LONG, WIDE))
    passed = config.overtake_ms is None and config.backfill == 0 and not config.preempt
    return (*found, WIDE) if passed and WIDE not in found else found


def in_words(config: PolicyConfig) -> str:
    """Return the bound of a policy in one clause."""
    who = may_starve(config)
    if who:
        when = _WHEN.get(config.order, "")
        return f"no starvation bound: {' and '.join(who)} may wait for ever {when}".rstrip()
    if config.plan.startswith("gavel-") and config.overtake_ms is None:
        return "bound: who waits comes nearer to its turn with every round"
    if config.order == "priority":
        worst = order.protected_after_ms(PRIORITY_MIN, 0, config.ageing_per_hour, config.ageing_cap)
        return f"bound: nobody waits behind one that comes {_rounded(worst or 0)} after it"
    return "bound: nobody waits behind one that comes after it"


def protected_after_ms(config: PolicyConfig, job: Job) -> Ms | None:
    """Return the time after which no newcomer is ordered before this job; None: never.

    For least attained service: when the job is back at the top, as things are.
    """
    if config.plan in (ASSIGNMENT, "allox", *GREEDY):
        return None
    match config.order:
        case "priority":
            return order.protected_after_ms(
                job.spec.priority, job.submitted_ms, config.ageing_per_hour, config.ageing_cap
            )
        case "fifo":
            return job.submitted_ms
        case "edf":  # deadlines lie after the submission
            return job.spec.deadline_ms
        case "las":
            if order.level_of(config, job) == 0:
                return job.submitted_ms
            return order.promoted_at(config, job)
        case _:
            return None


def lines(config: PolicyConfig, job: Job, now: Ms) -> list[str]:
    """Return what `why` says of the bound on a job's wait."""
    protected = protected_after_ms(config, job)
    if protected is None:
        when = _WHEN.get(config.order, "")
        text = f"bound: none; jobs that arrive later may always be ordered before it {when}"
    elif (wait := max(0, protected - now) // 1000) == 0:
        text = "bound: no job that arrives from now on is ordered before it"
    else:
        text = f"bound: no job that arrives later than {wait} s from now is ordered before it"
    return [text.rstrip(), f"while it does not fit, {_while_it_does_not_fit(config)}"]


def _while_it_does_not_fit(config: PolicyConfig) -> str:
    if config.preempt:
        text = "it takes the place of those ordered behind it"
        if WIDE not in may_starve(config):
            return text
        return f"{text}; where that is not enough others may pass it for ever: no bound when wide"
    if config.backfill is None:
        return "it is promised a start, which only moves earlier"
    if config.backfill:
        first = "first" if config.backfill == 1 else f"first {config.backfill}"
        return f"it is promised a start once it is among the {first} that do not fit".replace(
            "among the first that do not", "the first that does not"
        )
    if config.overtake_ms is None and WIDE not in may_starve(config):
        return "others may run, until a round begins in which it comes before them"
    if config.overtake_ms is None:
        return "others may pass it for ever: no bound for a wide job"
    if not config.overtake_ms:
        return "nobody behind it starts"
    waited = format_duration(config.overtake_ms)
    return f"others may pass it until it has waited {waited}; then nobody behind it starts"


def _rounded(ms: Ms) -> str:
    minutes = -(-ms // 60_000)
    return f"{minutes // 60} h {minutes % 60:02d} min"
