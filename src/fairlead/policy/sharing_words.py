"""Queues, users and tenants as the tables that people write: what `sharing_file` reads, back.

What is as it would be anyway is left out, so a table is short, and two tables differ where their
owners do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

from fairlead.model import amounts, limits
from fairlead.model.jobs import PolicyConfig, Queue, Tenant, User
from fairlead.model.resources import DIMENSIONS
from fairlead.model.units import format_duration

Table: TypeAlias = dict[str, Any]
_PRIORITY = 50
_KEYS = ("parent", "weight", "quota", "borrow", "lend", "limit", "max_running", "max_pending")
_UNSET: Mapping[str, str] = {"weight": "1", "priority": str(_PRIORITY), "parent": "the cluster"}


def queue_table(queue: Queue) -> Table:
    """Return the table of a queue: `queue_of` makes the same queue of it."""
    low, high = queue.priority_min, queue.priority_max
    any_priority = (low, high) == (limits.PRIORITY_MIN, limits.PRIORITY_MAX)
    plain = queue.priority == min(max(_PRIORITY, low), high)
    pending = None if queue.pending_max == limits.QUEUE_PENDING_MAX else queue.pending_max
    return _given(
        parent=queue.parent,
        weight=None if queue.weight == 1 else queue.weight,
        quota=_amounts(queue.quota),
        borrow=_amounts(queue.borrow),
        lend=_amounts(queue.lend),
        limit=_amounts(queue.most),
        max_running=queue.live_max,
        max_pending=pending,
        priority=None if plain else queue.priority,
        priorities="" if any_priority else f"{low}-{high}",
        time_limit=None if queue.limit_ms is None else format_duration(queue.limit_ms),
        users=list(queue.users),
    )


def user_table(user: User) -> Table:
    """Return the table of a user: `user_of` makes the same user of it."""
    return _given(
        weight=None if user.weight == 1 else user.weight,
        limit=_amounts(user.most),
        max_running=user.live_max,
        max_pending=user.pending_max,
    )


def tenant_table(tenant: Tenant) -> Table:
    """Return the table of a tenant: `tenant_of` makes the same tenant of it."""
    quota = dict(zip(DIMENSIONS, tenant.quota, strict=False))
    given = {name: amount for name, amount in quota.items() if amount is not None}
    weight = None if tenant.weight == 1 else tenant.weight
    return _given(weight=weight, quota=_amounts(given))


def policy_table(config: PolicyConfig) -> Table:
    """Return every setting of a policy, as it is kept."""
    return {name: str(value) for name, value in msgspec.structs.asdict(config).items()}


def _amounts(given: Mapping[str, int]) -> dict[str, str]:
    return {amounts.word(each): amounts.show(each, amount) for each, amount in given.items()}


def _given(**values: Any) -> Table:
    return {name: value for name, value in values.items() if value not in (None, "", {}, [])}


def in_words(key: str, value: object) -> str:
    """Return a value of a table as the command line takes it: "gpus=8,cpus=64", "ann,bob"."""
    if value is None:
        return _UNSET.get(key, "none")
    if isinstance(value, Mapping):
        return ",".join(f"{name}={amount}" for name, amount in value.items())
    return ",".join(value) if isinstance(value, list) else str(value)


def differences(before: Table, after: Table) -> list[str]:
    """Return "weight 1 -> 2", one per key."""
    keys = dict.fromkeys(
        [*(key for key in _KEYS if key in before or key in after), *before, *after]
    )
    return [
        f"{key} {in_words(key, before.get(key))} -> {in_words(key, after.get(key))}"
        for key in keys
        if before.get(key) != after.get(key)
    ]


def summary(table: Table) -> str:
    """Return "parent research, weight 2", "" for an empty table."""
    return ", ".join(f"{key} {in_words(key, value)}" for key, value in table.items())
