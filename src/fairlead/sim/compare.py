"""One workload under several policies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from fairlead.model.base import Misuse
from fairlead.model.jobs import Reservation
from fairlead.policy.registry import build, policy_config
from fairlead.sim.cluster import Cluster
from fairlead.sim.replay import Outcome, replay
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
) -> Iterator[Outcome]:
    """Yield the outcome under each policy, in turn; `progress` hears (policy, jobs ended)."""
    for policy in policies:
        report = None if progress is None else _reporter(progress, policy)
        yield replay(workload, cluster, policy, reservations=reservations, progress=report)


def _reporter(progress: Callable[[str, int], None], policy: str) -> Callable[[int], None]:
    return lambda ended: progress(policy, ended)
