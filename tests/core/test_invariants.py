"""The consistency check of a core can fail: every new part of it, on purpose."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fairlead.core.engine import Core
from fairlead.core.invariants import check
from fairlead.core.jobs import Promise
from fairlead.model.events import (
    NodeJoined,
    PolicySet,
    Promised,
    ReservationSet,
)
from fairlead.model.jobs import PolicyConfig, Reservation
from fairlead.model.resources import Slot
from strategies import cluster, node, place, submit


def world() -> Core:
    """Return a core with a running job (1), and one that waits (2) with a promise."""
    core = cluster(node(cpus=2, gpus=1))
    place(core, submit(core, 2, limit_ms=10), 0)
    submit(core, 1, gpus=1)
    core.apply(0, Promised(job=2, start_ms=10, slots=(Slot(node=0, devices=(0,)),)))
    core.apply(0, ReservationSet(reservation=Reservation(name="r", start_ms=99, nodes=(0,))))
    return core


DAMAGE: dict[str, tuple[str, Callable[[Core], object]]] = {
    "a promise that is not listed": ("promise of job 2", lambda c: c.promises.clear()),
    "a promise of one that runs": (
        "does not wait",
        lambda c: c.promises.update({1: c.jobs[1]}),
    ),
    "a promise in part": (
        "is promised",
        lambda c: setattr(c.jobs[2], "promise", Promise(10, (), 5)),
    ),
    "a promise without a device": (
        "job 2",
        lambda c: setattr(c.jobs[2], "promise", Promise(10, (Slot(node=0),), 5)),
    ),
    "a promise of no time": (
        "no time",
        lambda c: setattr(c.jobs[2], "promise", c.jobs[2].promise._replace(run_ms=0)),
    ),
    "an end of one that waits": ("others than", lambda c: c.ends.set(2, 5, final=True)),
    "no end of one that runs": ("others than", lambda c: c.ends.drop(1)),
    "ends out of order": ("order", lambda c: c.ends.sorted.insert(0, (10**6, 7))),
    "service below zero": ("below zero", lambda c: setattr(c.jobs[1], "served_ms", -1)),
    "waiting below zero": ("below zero", lambda c: setattr(c.jobs[2], "waited_ms", -1)),
    "a reserved node that is not there": (
        "unknown node 7",
        lambda c: c.reservations.update({"r": Reservation(name="r", start_ms=9, nodes=(7,))}),
    ),
    "a reservation under another name": (
        "is called 'r'",
        lambda c: c.reservations.update({"q": c.reservations["r"]}),
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_what_is_wrong_with_the_future_is_found(name: str) -> None:
    words, damage = DAMAGE[name]
    core = world()
    check(core)
    damage(core)
    with pytest.raises(AssertionError, match=words):
        check(core)


def test_promises_go_with_the_policy_that_made_them() -> None:
    """Found by the fault simulation: they held others up when nobody kept them any more."""
    core = world()
    core.apply(1, PolicySet(policy=PolicyConfig(order="fifo")))
    assert not core.promises and core.jobs[2].promise is None
    check(core)


def test_promises_of_devices_go_with_the_devices() -> None:
    """Found by the fault simulation: a plan fell over a GPU that was promised and is gone."""
    core = world()
    core.apply(1, NodeJoined(node=0, spec=node(cpus=2, gpus=1)))
    assert core.promises
    core.apply(2, NodeJoined(node=0, spec=node(cpus=2, gpus=0, boot="2")))
    assert not core.promises
    check(core)
