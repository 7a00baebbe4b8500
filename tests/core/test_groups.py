"""Queues and users that change while jobs live: what is kept does not depend on who looks when."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.core.engine import Core
from fairlead.core.invariants import check
from fairlead.model.events import QueueDeleted, QueueSet, UserDeleted, UserSet
from fairlead.model.jobs import Queue, User
from strategies import History, end, place, start, submit

NAMES = ("a", "b", "c")


class Shared(History):
    """A history in which queues and users come, change and go, several in a turn."""

    def random_event(self, fresh):
        rng, core = self.rng, self.core
        if rng.random() > 0.3:
            return super().random_event(fresh)
        name = rng.choice(NAMES)
        quota = {"gpu_milli": 1000 * rng.randint(0, 2), "gpu_milli/A": 1000 * rng.randint(0, 1)}
        if rng.random() < 0.5:
            return QueueSet(queue=Queue(name=name, weight=rng.randint(1, 3), quota=quota))
        if rng.random() < 0.5:
            return UserSet(user=User(name=name, live_max=rng.choice([None, 2])))
        busy = any(job.spec.queue == name for job in core.jobs.values())
        if name in core.queues and not busy and fresh == core.next_job:
            return QueueDeleted(name=name)
        return UserDeleted(name=name)

    def random_spec(self):
        spec = super().random_spec()
        queue = self.rng.choice(["default", *(name for name in NAMES if name in self.core.queues)])
        return type(spec)(shape=spec.shape, queue=queue, user=self.rng.choice(NAMES))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_a_replay_that_nobody_looks_at_comes_to_the_same_state(seed):
    history = Shared(seed)
    for _ in range(60):
        history.step()
    looked, other, rng = Core(), Core(), Random(seed)
    for at, event in history.log:
        for core in (looked, other):
            core.apply(at, event)
        if rng.random() < 0.5:
            check(looked)
    check(other)
    assert looked.digest() == other.digest() == history.core.digest()
    assert Core.load(other.dump()).digest() == other.digest()


def test_the_past_of_a_queue_that_was_deleted_and_made_again_is_forgotten():
    for look in (True, False):
        history = Shared(1)
        core = history.core
        core.apply(core.now, QueueSet(queue=Queue(name="a")))
        job = submit(core, 1, queue="a", user="u")
        place(core, job, 0)
        start(core, job)
        core.apply(core.now + 3_600_000, UserSet(user=User(name="x")))
        end(core, job)
        core.apply(core.now, QueueDeleted(name="a"))
        if look:
            assert ("a", "u") not in core.shares.accounts
        core.apply(core.now, QueueSet(queue=Queue(name="a")))
        assert ("a", "u") not in core.shares.accounts
