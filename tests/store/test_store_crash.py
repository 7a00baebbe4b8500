"""The real store, killed and starved at random points: the acknowledged prefix is there, whole."""

import os
import random
import resource
import shutil
import signal
import time
from pathlib import Path

import pytest
from histories import in_child, numbered, status

from fairlead.model.base import StoreFailed
from fairlead.store.codec import JobFilter
from fairlead.store.sqlite import SqliteStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "fairlead.db"


def require_whole_turns(path: Path) -> int:
    """Assert that the log is whole turns in order, each with its status; return its length."""
    with SqliteStore(path) as store:
        rows = list(store.replay(0))
        assert [seq for seq, _, _ in rows] == list(range(1, len(rows) + 1)), "a gap"
        last_turn, position, expected = -1, 0, []
        while position < len(rows):
            _, turn, event = rows[position]
            size = int(event.because.partition("/")[2])
            whole = [event.because for _, at, event in rows[position : position + size]]
            assert whole == [f"{i}/{size}" for i in range(size)], f"turn {turn} is half done"
            assert turn == last_turn + 1, f"turn {turn} after {last_turn}"
            expected.append(status(turn + 1, because=str(size)))
            last_turn, position = turn, position + size
        assert store.history(limit=10**6) == expected[::-1]
        return len(rows)


def append_for_ever(path: Path, first_turn: int, seed: int, heard: int) -> None:
    """Append turns of random sizes, and tell each acknowledged length."""
    draw = random.Random(seed)
    store = SqliteStore(path)
    for turn in range(first_turn, first_turn + 100_000):
        records, statuses = numbered(turn, draw.choice((1, 1, 2, 5, 40, 400)))
        os.write(heard, b"%d\n" % store.append(records, statuses))
        if draw.random() < 0.05:
            store.save_snapshot(store.seq, "digest", b"body" * draw.randrange(10_000))


def killed_at_random(path: Path, seed: int) -> int:
    """Let a process append, kill it at some point, return the last length it acknowledged."""
    with SqliteStore(path) as store:
        first_turn = store.count()
    hear, heard = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            append_for_ever(path, first_turn, seed, heard)
        finally:
            os._exit(99)
    os.close(heard)
    acknowledged = os.read(hear, 20)  # it is at work
    time.sleep(random.Random(seed).random() * 0.06)
    os.kill(child, signal.SIGKILL)
    while more := os.read(hear, 65_536):
        acknowledged += more
    os.close(hear)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    return int(acknowledged.split()[-1]) if acknowledged else 0


def test_what_was_acknowledged_survives_sigkill_and_no_turn_is_half_done(path):
    for seed in range(20):
        acknowledged = killed_at_random(path, seed)
        assert acknowledged
        assert require_whole_turns(path) >= acknowledged, f"lost acknowledged events, seed {seed}"
        if seed % 5 == 4:
            path.unlink()  # start afresh: other sizes, an early WAL


def torn(path: Path, folder: Path, seed: int) -> Path:
    """Return a copy whose write-ahead log was cut short, or altered somewhere."""
    draw = random.Random(seed)
    copy = folder / f"{seed}.db"
    shutil.copyfile(path, copy)
    wal = bytearray(path.with_name(path.name + "-wal").read_bytes())
    at = draw.randrange(len(wal))
    match draw.choice(("cut", "flip", "zero")):
        case "cut":
            del wal[at:]
        case "flip":
            wal[at] ^= 1 << draw.randrange(8)
        case "zero":
            wal[at:] = bytes(len(wal) - at)
    copy.with_name(copy.name + "-wal").write_bytes(wal)
    return copy


def test_a_torn_write_ahead_log_leaves_whole_turns(path, tmp_path):
    SqliteStore(path).close()

    def append_and_die() -> None:
        store = SqliteStore(path)
        for turn in range(30):
            store.append(*numbered(turn, 1 + turn % 7 * 5))
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(append_and_die) == -signal.SIGKILL
    lengths = {require_whole_turns(torn(path, tmp_path, seed)) for seed in range(40)}
    assert len(lengths) > 5, "the damage should strike at many places"
    whole = sum(1 + turn % 7 * 5 for turn in range(30))
    assert require_whole_turns(path) == whole > max(lengths)


def test_a_write_that_fails_anywhere_leaves_whole_turns_and_a_store_that_works_again(path):
    """The n-th byte that the file system refuses, for n in steps until none is refused."""

    def starve() -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        store = SqliteStore(path)
        wal = path.with_name(path.name + "-wal")
        acknowledged = turn = failures = 0
        allowed = 4_096
        while True:
            size = wal.stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + allowed, hard))
            try:
                acknowledged = store.append(*numbered(turn, 200))
                turn += 1
            except StoreFailed as error:
                assert "acknowledged is safe" in str(error), error
                failures += 1
            else:
                break
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            assert store.seq == acknowledged
            assert store.append(*numbered(turn, 3)) == acknowledged + 3, "usable again at once"
            acknowledged, turn = acknowledged + 3, turn + 1
            allowed += 1_700
        assert failures > 5
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(starve) == -signal.SIGKILL
    with SqliteStore(path) as store:
        last = list(store.replay(0))[-1][2]
        assert last.because == "199/200"
        assert store.count(JobFilter(name="job-1")) == 1
    require_whole_turns(path)


def test_a_failed_write_is_not_there_after_a_crash_either(path):
    def fail_and_die() -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        store = SqliteStore(path)
        store.append(*numbered(0, 2))
        resource.setrlimit(resource.RLIMIT_FSIZE, (16_384, hard))
        with pytest.raises(StoreFailed):
            store.append(*numbered(1, 400))
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(fail_and_die) == -signal.SIGKILL
    assert require_whole_turns(path) == 2
