"""The store in memory: it behaves as the real one does, and fails when it is told to."""

import tempfile
from pathlib import Path

import pytest
from histories import EVERY_KIND, numbered, status, turns
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.engine import Core
from fairlead.core.turn import recover
from fairlead.model.base import Misuse, StoreFailed
from fairlead.model.jobs import Phase
from fairlead.store.codec import JobFilter
from fairlead.store.memory import Crashed, MemoryStore
from fairlead.store.sqlite import SqliteStore

AnyStore = MemoryStore | SqliteStore


def answers(store: AnyStore) -> tuple[object, ...]:
    """Everything that a store can be asked."""
    jobs = range(4)
    filters = (
        JobFilter(),
        JobFilter(tenant="a", phases=(Phase.PENDING, Phase.RUNNING)),
        JobFilter(ids=(1, 3), user="ann"),
        JobFilter(name="job-2", queue="default"),
    )
    return (
        store.seq,
        [list(store.replay(after)) for after in (0, 1, store.seq, store.seq + 1)],
        list(store.snapshots()),
        [(store.story(job), store.story(job, after=2, limit=2)) for job in jobs],
        [(store.spec_of(job), store.status_of(job)) for job in jobs],
        [(store.history(f), store.history(f, limit=1, before=3), store.count(f)) for f in filters],
    )


def hasty(path: Path) -> SqliteStore:
    """The real store, but for the flushes, which cost time and change no answer."""
    store = SqliteStore(path)
    store._db.execute("PRAGMA synchronous=OFF")
    return store


statuses = st.builds(
    status,
    st.integers(1, 3),
    tenant=st.sampled_from("ab"),
    phase=st.sampled_from(Phase),
    ended_ms=st.none() | st.integers(0, 2**50),
    exit_code=st.none() | st.integers(0, 255),
    because=st.text(st.characters(codec="utf-8"), max_size=5),
    nodes=st.lists(st.sampled_from(("n0", "n1")), max_size=2).map(tuple),
)
operations = st.lists(
    st.one_of(
        st.tuples(
            st.just("append"),
            st.lists(st.tuples(st.integers(0, 2**50), st.sampled_from(EVERY_KIND)), max_size=4),
            st.lists(statuses, max_size=3),
        ),
        st.tuples(
            st.just("save_snapshot"), st.integers(0, 12), st.just("digest"), st.binary(max_size=9)
        ),
        st.just(("crash",)),
    ),
    max_size=8,
)


@given(operations)
def test_both_stores_behave_alike(wanted):
    with tempfile.TemporaryDirectory() as folder:
        memory, real = MemoryStore(), hasty(Path(folder, "fairlead.db"))
        for name, *arguments in wanted:
            if name == "crash":
                memory.crash()
                real.close()
                real = hasty(real.path)
            else:
                assert getattr(memory, name)(*arguments) == getattr(real, name)(*arguments)
            assert answers(memory) == answers(real)
        real.close()


@pytest.mark.parametrize("fault", ["fail", "torn", "unheard"])
def test_a_fault_strikes_the_write_it_was_asked_for_until_none_is_left(fault):
    for n in range(1, 100):
        store = MemoryStore()
        store.fail_next(n, fault)
        heard = 0
        for turn in range(12):
            try:
                heard = store.append(*numbered(turn, 3))
            except (StoreFailed, Crashed):
                break
        if store.fault_waits:
            assert (heard, n) == (36, 13), "every write was reached"
            return
        store.crash()
        written = 3 * (n - 1) + (3 if fault == "unheard" else 0)
        assert heard == 3 * (n - 1)
        assert store.seq == len(list(store.replay(0))) == written
        assert store.count() == written // 3
    pytest.fail("the faults never end")


def test_a_failed_write_leaves_a_store_that_goes_on():
    store = MemoryStore()
    store.fail_next()
    with pytest.raises(StoreFailed, match="disk is full"):
        store.append(*numbered(0, 2))
    assert answers(store) == answers(MemoryStore())
    assert store.append(*numbered(0, 2)) == 2


def test_a_snapshot_is_a_write_that_can_fail():
    store = MemoryStore()
    store.append(*numbered(0, 3))
    store.fail_next(2)
    store.save_snapshot(1, "a", b"")
    with pytest.raises(StoreFailed):
        store.save_snapshot(2, "b", b"")
    assert list(store.snapshots()) == [(1, "a", b"")]


@pytest.mark.parametrize("fault", ["torn", "unheard"])
def test_a_dead_process_uses_the_store_no_more(fault):
    store = MemoryStore()
    store.fail_next(fault=fault)
    with pytest.raises(Crashed):
        store.append(*numbered(0, 2))
    for use in (lambda: store.append(*numbered(0, 2)), lambda: list(store.replay(0))):
        with pytest.raises(Misuse, match="dead"):
            use()
    store.crash()
    assert store.append(*numbered(5, 1)) in (1, 3)


def test_a_crash_takes_waiting_faults_with_it():
    store = MemoryStore()
    store.fail_next(3)
    store.crash()
    assert not store.fault_waits


def test_a_disk_that_lies_loses_what_it_acknowledged_and_only_that():
    store = MemoryStore()
    store.append(*numbered(0, 3))
    store.save_snapshot(2, "old", b"old")
    before = answers(store)
    store.lie()
    store.append(*numbered(1, 3))
    store.lie()
    store.save_snapshot(5, "new", b"new")
    assert store.seq == 6
    store.crash()
    assert answers(store) == before
    store.append(*numbered(2, 1))
    store.crash()
    assert store.seq == 4, "it lies no more"


def test_a_core_is_recovered_from_memory():
    store, core = MemoryStore(), Core()
    for number, (records, changed) in enumerate(turns(9, core)):
        store.append(records, changed)
        if number == 12:
            store.save_snapshot(core.seq, core.digest(), core.dump())
    assert recover(store).digest() == core.digest()
