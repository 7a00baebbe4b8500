"""One workload under several policies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from fairlead.model.base import Misuse
from fairlead.model.events import AnyEvent
from fairlead.model.jobs import Reservation
from fairlead.policy.registry import build, policy_config
from fairlead.policy.settings import Setting, configured
from fairlead.sim.cluster import Cluster
from fairlead.sim.outcome import DEFAULT_RULES, Outcome, Rules
from fairlead.sim.replay import Predictor, replay
from fairlead.sim.workload import Workload

POLICIES_MAX = 20


def parse_policies(text: str) -> list[str]:
    """Return the names of a list such as "fifo,sjf"; Misuse for one unknown or named twice."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not 1 <= len(names) <= POLICIES_MAX:
        raise Misuse(
            f"{len(names)} policies, expected 1 to {POLICIES_MAX}",
            field="policies",
            hint="write for example --policies fifo,sjf,priority",
        )
    for name in names:
        if names.count(name) > 1:
            raise Misuse(f"{name} is there twice", field="policies", hint="name each policy once")
        build(policy_config(name))  # all of them before the first long replay
    return names


def compare(
    workload: Workload,
    cluster: Cluster,
    policies: Sequence[str],
    progress: Callable[[str, int], None] | None = None,
    reservations: Sequence[Reservation] = (),
    *,
    rules: Rules = DEFAULT_RULES,
    settings: Mapping[str, Setting] | None = None,
    setup: Sequence[AnyEvent] = (),
    predictor: Callable[[], Predictor | None] | None = None,
) -> Iterator[Outcome]:
    """Yield the outcome under each policy, in turn; `progress` hears (policy, jobs ended).

    A setting changes the policies that have it; Misuse if none has. Each policy gets a predictor
    of its own, which has learned nothing yet.
    """
    for name, config in configured(policies, settings or {}).items():
        report = None if progress is None else _reporter(progress, name)
        yield replay(
            workload,
            cluster,
            config,
            rules=rules,
            predictor=None if predictor is None else predictor(),
            reservations=reservations,
            setup=setup,
            progress=report,
            name=name,
        )


def _reporter(progress: Callable[[str, int], None], policy: str) -> Callable[[int], None]:
    return lambda ended: progress(policy, ended)
