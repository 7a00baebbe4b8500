"""A core can be written down at any moment and goes on as if nothing had been."""

from __future__ import annotations

import pytest

from fairlead.core.engine import Core
from fairlead.core.invariants import check
from fairlead.core.snapshot import digest
from fairlead.core.turn import Scheduler, recover
from fairlead.model.base import StoreFailed
from fairlead.model.events import Submitted
from fairlead.policy.registry import build
from strategies import POLICIES, History, cluster, image, node, place, start, submit


class MemoryLog:
    """The least that a store must do."""

    def __init__(self):
        self.records, self.images, self.statuses, self.full = [], [], {}, False

    def append(self, records, statuses=()):
        if self.full:
            raise StoreFailed("the disk is full")
        self.records += records
        self.statuses |= {status.id: status for status in statuses}
        return len(self.records)

    def replay(self, after):
        for seq, (at, event) in enumerate(self.records[after:], after + 1):
            yield seq, at, event

    def save_snapshot(self, seq, digest, body):
        self.images.append((seq, digest, body))

    def snapshots(self):
        return reversed(self.images)


@pytest.mark.parametrize("seed", range(8))
def test_an_image_of_any_moment_of_a_random_history_loads_to_the_same_core(seed):
    history = History(seed, POLICIES[seed % len(POLICIES)])
    for _ in range(60):
        history.step()
        core = history.core
        check(core)
        twin = Core.load(core.dump())
        check(twin)
        assert twin.digest() == core.digest()
        assert twin.next_deadline() == core.next_deadline()
        assert list(twin.pending) == sorted(twin.pending, key=lambda j: twin.pending[j].token)
        for index in range(len(core.nodes)):
            assert twin.desired(index) == core.desired(index)
            assert twin.ledger.room[:, index].tolist() == core.ledger.room[:, index].tolist()


@pytest.mark.parametrize("seed", range(8))
def test_replaying_the_log_gives_the_same_core_from_any_image_on(seed):
    history = History(seed, POLICIES[seed % len(POLICIES)])
    images = []
    for _ in range(40):
        history.step()
        images.append((history.core.seq, history.core.dump()))
    for seq, body in [(0, Core().dump()), *images[::7]]:
        core = Core.load(body)
        for at, event in history.log[seq:]:
            core.apply(at, event)
        check(core)
        assert core.digest() == history.core.digest()


def test_two_runs_of_the_same_history_are_byte_for_byte_the_same():
    one, two = History(5), History(5)
    for _ in range(50):
        assert one.step() == two.step()
    assert one.core.dump() == two.core.dump()


def test_a_core_that_was_loaded_decides_as_the_one_that_lived_on():
    history = History(3, "priority")
    for _ in range(40):
        history.step()
        twin = Core.load(history.core.dump())
        assert list(build(twin.policy).decide(twin)) == []


def test_equal_digests_mean_equal_states_and_only_they():
    core, other = cluster(node()), cluster(node())
    assert core.digest() == other.digest() == digest(core.dump())
    submit(core)
    submit(other, name="x")
    assert core.digest() != other.digest()


def test_an_idempotency_key_survives():
    core = cluster(node())
    core.apply(0, Submitted(job=1, spec=submit(cluster(node())).spec, request="key"))
    assert Core.load(core.dump()).requests == {"key": [1]}


def test_a_time_limit_survives():
    core = cluster(node())
    job = submit(core, limit_ms=500)
    place(core, job, 0)
    start(core, job)
    twin = Core.load(core.dump())
    assert twin.due(500) == core.due(500) != []


# ---- recovery ----------------------------------------------------------------------------------


def lived(store, steps=30):
    """Return a scheduler after a random life, logged to the store."""
    history = History(11)
    for at, event in history.log:
        store.append([(at, event)])
    history.scheduler.store = store
    for step in range(steps):
        history.step()
        if step in (10, 20):
            body = history.core.dump()
            store.save_snapshot(history.core.seq, digest(body), body)
    return history.scheduler


def test_recovery_is_the_newest_image_and_the_rest_of_the_log():
    store = MemoryLog()
    core = lived(store).core
    replayed = []
    replay = store.replay
    store.replay = lambda after: replayed.append(after) or replay(after)
    assert recover(store).digest() == core.digest()
    assert replayed == [store.images[-1][0]]


@pytest.mark.parametrize(
    "damage",
    [
        lambda seq, mark, body: (seq, mark, body[:-1]),
        lambda seq, mark, body: (seq, mark, body.replace(b'"seq":', b'"sex":')),
        lambda seq, mark, body: (seq, mark, body.replace(b'"node":0', b'"node":9')),
        lambda seq, mark, body: (seq, "other", body),
        lambda seq, mark, body: (seq + 1, mark, body),
        lambda seq, mark, body: (seq, digest(b"{}"), b"{}"),
    ],
)
def test_a_damaged_image_is_passed_over(damage):
    store = MemoryLog()
    core = lived(store).core
    store.images[-1] = damage(*store.images[-1])
    assert recover(store).digest() == core.digest()
    store.images[:] = [damage(*each) for each in store.images]
    assert recover(store).digest() == core.digest()


def test_recovery_of_nothing_is_an_empty_core():
    assert image(recover(MemoryLog())) == image(Core())


def test_after_a_failed_write_the_core_is_recovered_and_goes_on():
    store = MemoryLog()
    scheduler = lived(store)
    durable = scheduler.core.digest()
    new = Submitted(job=scheduler.core.next_job, spec=submit(cluster(node())).spec)
    store.full = True
    with pytest.raises(StoreFailed):
        scheduler.turn(scheduler.core.now, [new])
    store.full = False
    again = Scheduler.recover(build, store)
    assert again.core.digest() == durable
    assert again.turn(again.core.now, [new]).events[0] == new
    assert recover(store).digest() == again.core.digest()


def test_the_stored_statuses_are_those_of_the_core():
    store = MemoryLog()
    core = lived(store).core
    for job in core.jobs.values():
        if job.id in store.statuses:
            assert store.statuses[job.id] == core.status(job)
    done = [status for status in store.statuses.values() if status.id not in core.jobs]
    assert done and all(status.ended_ms is not None for status in done)
