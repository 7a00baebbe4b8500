"""Queues, users and tenants come, change and go.

What follows from queues and users is booked anew only when the next event or reader needs it: a
file that sets hundreds of them costs as much as one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairlead.model.events import (
    QueueDeleted,
    QueueSet,
    TenantDeleted,
    TenantSet,
    UserDeleted,
    UserSet,
)

if TYPE_CHECKING:
    from fairlead.core.engine import Core

BOOKED_LATER = (QueueSet, QueueDeleted, UserSet, UserDeleted)


def queue_set(core: Core, event: QueueSet) -> None:
    """A queue is new, or another."""
    core.queues[event.queue.name] = event.queue
    core.groups_changed()


def queue_deleted(core: Core, event: QueueDeleted) -> None:
    """A queue is no more."""
    assert not core.waiting.pop(event.name, 0), f"jobs wait in queue {event.name}"
    assert event.name != "default" and event.name in core.queues, event
    del core.queues[event.name]
    core.groups_changed()


def user_set(core: Core, event: UserSet) -> None:
    """A user has other settings."""
    core.users[event.user.name] = event.user
    core.groups_changed()


def user_deleted(core: Core, event: UserDeleted) -> None:
    """A user has no settings of its own any more."""
    core.users.pop(event.name, None)
    core.groups_changed()


def tenant_set(core: Core, event: TenantSet) -> None:
    """A tenant is new, or another."""
    core.set_tenants({**core.tenants, event.tenant.name: event.tenant})
    core.wakeups += 1


def tenant_deleted(core: Core, event: TenantDeleted) -> None:
    """A tenant's quota and weight are forgotten."""
    core.set_tenants({name: each for name, each in core.tenants.items() if name != event.name})
    core.wakeups += 1
