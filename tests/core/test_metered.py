"""What was used in a window: a story worked out by hand, and any story against the accounts."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.core.engine import Core
from fairlead.core.metered import Key, Metered
from fairlead.model.base import Ms
from fairlead.model.events import (
    AnyEvent,
    MemberEnded,
    MemberStarted,
    NodeJoined,
    NodeLost,
    Placed,
    QueueSet,
    ReservationDeleted,
    ReservationSet,
    StopDecided,
    Submitted,
)
from fairlead.model.jobs import Exit, Phase, Queue, Reservation
from fairlead.model.resources import CPU, DIMENSIONS, GPU, GPU_MEMORY, Shape, Slot
from strategies import History, node, spec

HOUR = 3_600_000
Log = list[tuple[Ms, AnyEvent]]
ANN, BOB = Key("nlp", "ann", "default"), Key("default", "bob", "default")


def metered(log: Log, since: Ms, until: Ms) -> Metered:
    core = Metered(since, until)
    for at, event in log:
        if at < until:
            core.take(at, event)
    return core


def story() -> Log:
    """ann holds 2 GPUs from hour 0 to 4, preempted, again from 6 on; bob half a GPU from 1 to 2."""
    two, half = spec(4, gpus=2, queue="nlp", user="ann"), spec(1, gpu_milli=500, user="bob")
    ended = Exit(code=0)
    return [
        (0, NodeJoined(node=0, spec=node("n0", cpus=8, gpus=4))),
        (0, QueueSet(queue=Queue(name="nlp"))),
        (0, Submitted(job=1, spec=two)),
        (0, Placed(job=1, attempt=1, slots=(Slot(node=0, devices=(0, 1)),))),
        (1 * HOUR, Submitted(job=2, spec=half)),
        (1 * HOUR, Placed(job=2, attempt=1, slots=(Slot(node=0, devices=(2,)),))),
        (1 * HOUR + 1, MemberStarted(job=2, attempt=1)),
        (2 * HOUR, MemberEnded(job=2, attempt=1, exit=ended)),
        (3 * HOUR, MemberStarted(job=1, attempt=1)),
        (3 * HOUR, StopDecided(job=1, attempt=1, then=Phase.PENDING)),
        (4 * HOUR, MemberEnded(job=1, attempt=1, exit=Exit(code=75))),
        (6 * HOUR, Placed(job=1, attempt=2, slots=(Slot(node=0, devices=(0, 3)),))),
    ]


def test_what_each_used_is_what_it_held_clipped_to_the_window():
    core = metered(story(), 0, 10 * HOUR)
    core.finish()
    ann, bob = core.meters[ANN], core.meters[BOB]
    assert ann.used[GPU] == 2000 * 8 * HOUR  # 4 hours, and 4 that go on
    assert ann.used[GPU_MEMORY] == 80_000 * 8 * HOUR
    assert ann.used[CPU] == 4000 * 8 * HOUR
    assert bob.used[GPU] == 500 * HOUR and bob.used[GPU_MEMORY] == 0
    assert (ann.jobs, ann.preemptions) == ({1}, 1)
    assert (bob.jobs, bob.preemptions) == ({2}, 0)


def test_a_window_in_the_middle_counts_what_lies_in_it():
    core = metered(story(), int(1.5 * HOUR), 5 * HOUR)
    core.finish()
    ann, bob = core.meters[ANN], core.meters[BOB]
    assert ann.used[GPU] == 2000 * int(2.5 * HOUR) and ann.preemptions == 1
    assert bob.used[GPU] == 500 * HOUR // 2 and bob.jobs == {2}
    later = metered(story(), 5 * HOUR, 7 * HOUR)
    later.finish()
    ann, bob = later.meters[ANN], later.meters[BOB]
    assert ann.used[GPU] == 2000 * HOUR and ann.preemptions == 0 and ann.jobs == {1}
    assert not any(bob.used) and not bob.jobs


def kept(log: Log, since: Ms, until: Ms) -> dict[str, int]:
    core = metered(log, since, until)
    return {each.reservation.name: each.gpu_milli_ms for each in core.finish()}


def test_what_a_reservation_kept_while_nobody_used_it_is_counted_by_device():
    shape = Shape(gpus=1)
    slots = tuple(Slot(node=0, devices=(device,)) for device in (1, 2))
    demo = Reservation(
        name="demo", start_ms=HOUR, end_ms=8 * HOUR, tenants=("t",), slots=slots, shape=shape
    )
    log = story()
    log.insert(2, (0, ReservationSet(reservation=demo)))
    # Device 1 is ann's until hour 4, then free; half of device 2 is bob's from 1 to 2.
    expected = 1000 * 4 * HOUR + 1000 * 7 * HOUR - 500 * HOUR
    assert kept(log, 0, 10 * HOUR) == {"demo": expected}
    assert kept(log, 0, HOUR) == {}
    assert kept(log, 3 * HOUR, 5 * HOUR) == {"demo": 1000 * HOUR + 1000 * 2 * HOUR}
    gone = [*log, (7 * HOUR, ReservationDeleted(name="demo"))]
    assert kept(gone, 0, 10 * HOUR) == {"demo": expected - 2 * 1000 * HOUR}


def test_a_window_for_nobody_keeps_whole_machines_and_one_that_is_down_keeps_nothing():
    log: Log = [
        (0, NodeJoined(node=0, spec=node("n0", cpus=8, gpus=4))),
        (0, ReservationSet(reservation=Reservation(name="fix", start_ms=0, nodes=(0,)))),
        (2 * HOUR, NodeLost(node=0)),
        (5 * HOUR, NodeJoined(node=0, spec=node("n0", cpus=8, gpus=4))),
    ]
    assert kept(log, 0, 6 * HOUR) == {"fix": 4000 * 3 * HOUR}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 20 * HOUR), st.integers(1, 20 * HOUR))
def test_any_history_is_metered_as_its_accounts_were_held(seed, since, length):
    """Against the slowest way: at each event, what every account held times the time until it."""
    history = History(seed)
    for _ in range(100):
        history.step()
    log, until = history.log, since + length
    core = Metered(since, until)
    slow: dict[tuple[str, str], list[int]] = {}
    plain = Core()
    times = [at for at, _ in log] + [max(until, log[-1][0])]
    for (at, event), following in zip(log, times[1:], strict=True):
        plain.apply(at, event)
        if at < until:
            core.take(at, event)
        span = min(following, until) - max(at, since)
        for key, account in plain.shares.accounts.items() if span > 0 else ():
            total = slow.setdefault(key, [0] * len(DIMENSIONS))
            for row in range(len(DIMENSIONS)):
                total[row] += account.held[row] * span
    core.finish()
    quick: dict[tuple[str, str], list[int]] = {}
    for key, meter in core.meters.items():
        total = quick.setdefault((key.queue, key.user), [0] * len(DIMENSIONS))
        for row, used in enumerate(meter.used):
            total[row] += used
    assert {k: v for k, v in quick.items() if any(v)} == {k: v for k, v in slow.items() if any(v)}
