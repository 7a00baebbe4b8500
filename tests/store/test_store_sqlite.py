import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from histories import EVERY_KIND, in_child, numbered, status, turns

from fairlead.core.engine import Core
from fairlead.core.turn import recover
from fairlead.model.base import Misuse, StoreFailed
from fairlead.model.events import Submitted
from fairlead.model.jobs import JobSpec, Phase
from fairlead.model.resources import Shape
from fairlead.store.codec import JobFilter
from fairlead.store.sqlite import SqliteStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "fairlead.db"


def test_every_kind_of_event_comes_back_as_it_was(path):
    with SqliteStore(path) as store:
        assert store.append([(7, event) for event in EVERY_KIND]) == len(EVERY_KIND)
        expected = [(i, 7, event) for i, event in enumerate(EVERY_KIND, 1)]
        assert list(store.replay(0)) == expected
        assert list(store.replay(5)) == expected[5:]
    with SqliteStore(path) as store:
        assert list(store.replay()) == expected


def test_sequence_numbers_are_consecutive_over_turns_and_restarts(path):
    for first in (1, 4, 7):
        with SqliteStore(path) as store:
            assert store.seq == first - 1
            assert store.append(numbered(first, 2)[0]) == first + 1
            assert store.append(numbered(first, 1)[0]) == first + 2
            assert store.append([]) == first + 2
    with SqliteStore(path) as store:
        assert [seq for seq, _, _ in store.replay(0)] == list(range(1, 10))


def test_a_long_log_is_replayed_completely_while_it_grows(path):
    with SqliteStore(path) as store:
        store.append(numbered(1, 5_000)[0])
        seen = []
        for seq, _, _ in store.replay(0):
            seen.append(seq)
            if seq == 10:
                store.append(numbered(2, 1)[0])
        assert seen == list(range(1, 5_002))


def test_a_core_is_recovered_from_a_snapshot_and_the_tail(path):
    core = Core()
    with SqliteStore(path) as store:
        for number, (records, statuses) in enumerate(turns(20, core)):
            store.append(records, statuses)
            if number == 30:
                store.save_snapshot(core.seq, core.digest(), core.dump())
    with SqliteStore(path) as store:
        assert recover(store).digest() == core.digest()


def test_the_table_of_jobs_is_for_people_who_speak_sql(path):
    with SqliteStore(path) as store:
        for records, statuses in turns(5):
            store.append(records, statuses)
        rows = sqlite3.connect(path).execute(
            "SELECT name, phase, exit_code, nodes, ended_ms IS NULL FROM job ORDER BY id"
        )
        assert rows.fetchall() == [
            ("train-1", "FAILED", 1, "n0", 0),
            ("train-2", "SUCCEEDED", 0, "n0", 0),
            ("train-3", "FAILED", 1, "n0", 0),
            ("train-4", "RUNNING", None, "n0", 1),
            ("train-5", "PENDING", None, "", 1),
        ]
        kinds = sqlite3.connect(path).execute(
            "SELECT group_concat(kind), group_concat(body ->> 'because') FROM log WHERE job = 2"
        )
        assert kinds.fetchone() == ("submitted,placed,started,ended", "fits-2")


def test_the_story_and_the_spec_of_a_job(path):
    with SqliteStore(path) as store:
        for records, statuses in turns(4):
            store.append(records, statuses)
        story = store.story(2)
        assert [event.__struct_config__.tag for _, _, event in story] == [
            "submitted",
            "placed",
            "started",
            "ended",
        ]
        assert story == [row for row in store.replay(0) if getattr(row[2], "job", 0) == 2]
        assert store.story(2, after=story[1][0]) == story[2:]
        assert store.story(2, limit=1) == story[:1]
        assert store.spec_of(2).name == "train-2"
        assert store.status_of(2).phase is Phase.SUCCEEDED
        assert (store.story(9), store.spec_of(9), store.status_of(9)) == ([], None, None)


def test_history_is_newest_first_filtered_and_paged(path):
    jobs = [
        status(i, tenant="ab"[i % 2], phase=Phase.FAILED if i % 3 else Phase.OOM, user=f"u{i % 4}")
        for i in range(1, 25)
    ]
    with SqliteStore(path) as store:
        store.append([], jobs)
        assert store.history() == jobs[::-1]
        assert store.history(limit=3, before=10) == [jobs[8], jobs[7], jobs[6]]
        for which in (
            JobFilter(tenant="a"),
            JobFilter(phases=(Phase.OOM, Phase.TIMEOUT), user="u3"),
            JobFilter(ids=(3, 4, 99), queue="default"),
            JobFilter(name="job-7"),
            JobFilter(queue="none"),
        ):
            wanted = [each for each in jobs[::-1] if which.matches(each)]
            assert store.history(which) == wanted
            assert store.count(which) == len(wanted)
        assert store.count(JobFilter(ids=tuple(range(100_000)))) == 24


def test_a_status_replaces_the_one_before(path):
    with SqliteStore(path) as store:
        store.append([], [status(1)])
        store.append([], [status(1, phase=Phase.RUNNING, started_ms=5)])
        store.append([], [status(1)])
        assert store.history() == [status(1)]


def test_only_the_last_two_snapshots_stay(path):
    with SqliteStore(path) as store:
        store.append(numbered(1, 9)[0])
        for seq in (3, 5, 9):
            store.save_snapshot(seq, f"d{seq}", bytes([seq]) * 1_000)
        store.save_snapshot(9, "new", b"again")
        assert list(store.snapshots()) == [(9, "new", b"again"), (5, "d5", b"\x05" * 1_000)]


def test_a_snapshot_that_is_broken_or_ahead_of_the_log_is_passed_over(path):
    with SqliteStore(path) as store:
        store.append(numbered(1, 5)[0])
        store.save_snapshot(2, "d2", b"sound")
        sqlite3.connect(path, isolation_level=None).execute(
            "INSERT INTO snapshot VALUES(5, 'd5', x'00'), (6, 'd6', x'00')"
        )
        assert list(store.snapshots()) == [(2, "d2", b"sound")]


def test_all_files_belong_to_the_owner_alone(path):
    with SqliteStore(path) as store:
        store.append(numbered(1, 1)[0])
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == dict.fromkeys(
        (path.name, f"{path.name}-wal", f"{path.name}-shm", f"{path.name}.lock"), 0o600
    )


def test_every_commit_is_flushed_also_after_the_file_was_opened_anew(path):
    with SqliteStore(path) as store:
        store._db.close()
        for _ in range(2):
            try:
                store.append(numbered(1, 1)[0])
            except StoreFailed:
                continue
        assert store._db.execute("PRAGMA synchronous").fetchone() == (2,)
        assert store._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


# -- who may open it, and what -----------------------------------------------------------------


def test_a_second_service_is_told_who_has_the_file(path):
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"from fairlead.store.sqlite import SqliteStore; s = SqliteStore({str(path)!r});"
            "print(flush=True); input()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        holder.stdout.readline()
        with pytest.raises(Misuse, match=f"in use by process {holder.pid}") as caught:
            SqliteStore(path)
        assert caught.value.code == "store-in-use" and "fairlead down" in caught.value.hint
    finally:
        holder.kill()
        holder.communicate()
    SqliteStore(path).close()  # the kernel dropped the lock


def test_a_closed_store_lets_others_in_and_may_be_closed_twice(path):
    store = SqliteStore(path)
    with pytest.raises(Misuse, match=f"process {os.getpid()}"):
        SqliteStore(path)
    store.close()
    store.close()
    SqliteStore(path).close()


def test_a_missing_folder_is_named(path):
    with pytest.raises(Misuse, match="does not exist") as caught:
        SqliteStore(path.parent / "none" / "fairlead.db")
    assert "mkdir" in caught.value.hint


def test_a_folder_without_write_permission_is_refused_in_words(path):
    SqliteStore(path).close()

    def as_somebody_else() -> None:
        os.chmod(path.parent, 0o500)
        if os.geteuid() == 0:
            os.setuid(65_534)
        for place in (path, path.with_name("new.db")):
            with pytest.raises(Misuse, match="cannot be used") as caught:
                SqliteStore(place)
            assert "write permission" in caught.value.hint

    assert in_child(as_somebody_else) == 0
    os.chmod(path.parent, 0o700)


def test_a_file_that_may_only_be_read_is_refused_in_words():
    def as_somebody_else() -> None:
        os.chmod(folder, 0o777)
        os.chmod(path.with_name(path.name + ".lock"), 0o666)
        os.chmod(path, 0o444)
        if os.geteuid() == 0:
            os.setuid(65_534)
        with pytest.raises(Misuse, match="cannot be opened for writing") as caught:
            SqliteStore(path)
        assert "write permission" in caught.value.hint

    with tempfile.TemporaryDirectory() as folder:  # tmp_path lies where nobody else may look
        path = Path(folder, "fairlead.db")
        SqliteStore(path).close()
        assert in_child(as_somebody_else) == 0


@pytest.mark.parametrize(
    "content", [b"hello, I am a text file\n" * 400, b"x", b"SQLite format 3\0 cut short"]
)
def test_a_file_that_is_no_database_is_refused_and_left_alone(path, content):
    path.write_bytes(content)
    with pytest.raises(Misuse, match="is not a database"):
        SqliteStore(path)
    assert path.read_bytes() == content


def test_somebody_elses_database_is_refused_and_left_alone(path):
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE recipe(name)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(Misuse, match="not one of Fairlead's"):
        SqliteStore(path)
    assert path.read_bytes() == before


def test_a_database_of_a_newer_program_is_refused_and_left_alone(path):
    SqliteStore(path).close()
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("UPDATE meta SET value = '2'")
    db.close()
    before = path.read_bytes()
    with pytest.raises(Misuse, match=r"newer Fairlead \(schema 2; this program knows 1\)"):
        SqliteStore(path)
    assert path.read_bytes() == before


def test_an_empty_file_is_a_store_that_was_never_filled(path):
    path.touch()
    with SqliteStore(path) as store:
        assert store.append(numbered(1, 1)[0]) == 1


# -- writes that fail ---------------------------------------------------------------------------


def test_a_full_disk_fails_the_turn_and_nothing_else_whatever_page_is_the_last(path):
    with SqliteStore(path) as store:
        acknowledged = 0
        failures = 0
        pages = store._db.execute("PRAGMA page_count").fetchone()[0]
        for limit in range(pages, pages + 40):
            store._db.execute(f"PRAGMA max_page_count={limit}")
            for turn in range(100):
                try:
                    records, statuses = numbered(limit * 100 + turn, 7)
                    acknowledged = store.append(records, statuses)
                except StoreFailed as error:
                    assert "the disk is full" in str(error) and "free some space" in str(error)
                    failures += 1
                    break
            assert store.seq == acknowledged == sum(1 for _ in store.replay(0))
            assert store.count() == acknowledged // 7  # the statuses went with their events
        assert failures == 40
        store._db.execute("PRAGMA max_page_count=100000")
        assert store.append(numbered(1, 1)[0]) == acknowledged + 1


def test_a_snapshot_that_does_not_fit_leaves_the_old_ones(path):
    with SqliteStore(path) as store:
        store.append(numbered(1, 5)[0])
        store.save_snapshot(3, "old", b"old")
        pages = store._db.execute("PRAGMA page_count").fetchone()[0]
        store._db.execute(f"PRAGMA max_page_count={pages}")
        with pytest.raises(StoreFailed, match="disk is full"):
            store.save_snapshot(5, "new", os.urandom(100_000))
        assert list(store.snapshots()) == [(3, "old", b"old")]


def test_a_locked_database_fails_the_turn_and_works_again_afterwards(path):
    with SqliteStore(path) as store:
        store._db.execute("PRAGMA busy_timeout=0")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreFailed, match="another program has locked"):
            store.append(numbered(1, 1)[0])
        other.execute("ROLLBACK")
        assert store.append(numbered(1, 1)[0]) == 1


def test_an_event_that_cannot_be_encoded_leaves_nothing_of_its_turn(path):
    bad = Submitted(job=2, spec=JobSpec(shape=Shape(), name="\udcff"))
    with SqliteStore(path) as store:
        with pytest.raises(UnicodeEncodeError):
            store.append([*numbered(1, 3)[0], (9, bad)])
        assert store.seq == 0 and list(store.replay(0)) == []
        assert store.append(numbered(1, 1)[0]) == 1


def test_a_connection_that_broke_is_opened_again(path):
    with SqliteStore(path) as store:
        store.append(numbered(1, 2)[0])
        store._db.close()
        with pytest.raises(StoreFailed):
            store.append(numbered(2, 2)[0])
        assert store.append(numbered(2, 2)[0]) == 4
