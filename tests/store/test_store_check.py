"""A damaged database is found out, what can be read of it is saved, and it is never changed."""

import os
import resource
import sqlite3
from pathlib import Path

import pytest
from histories import in_child, turns

from fairlead.core.engine import Core
from fairlead.core.turn import recover
from fairlead.model.base import Misuse, StoreFailed
from fairlead.store import salvage
from fairlead.store.check import check
from fairlead.store.codec import Damaged
from fairlead.store.salvage import rebuild
from fairlead.store.sqlite import SqliteStore

JOBS = 150
EVENTS = 1 + 4 * (JOBS - 2) + 3 + 1
PAGE = 4_096


def fill(store: SqliteStore) -> Core:
    core, records, statuses = Core(), [], []
    for turn_records, turn_statuses in turns(JOBS, core):
        records += turn_records
        statuses += turn_statuses
        if core.seq % 50 == 1 or core.seq == EVENTS:  # few commits, for speed
            store.append(records, statuses)
            records, statuses = [], []
        if core.seq in (101, 201):
            store.save_snapshot(core.seq, core.digest(), core.dump())
    assert store.seq == EVENTS
    return core


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    place = tmp_path_factory.mktemp("sound") / "fairlead.db"
    with SqliteStore(place) as store:
        fill(store)
    return place.read_bytes()


@pytest.fixture
def path(sound: bytes, tmp_path: Path) -> Path:
    place = tmp_path / "fairlead.db"
    place.write_bytes(sound)
    place.chmod(0o600)
    return place


def run_sql(path: Path, statement: str) -> None:
    db = sqlite3.connect(path, isolation_level=None)
    assert db.execute(statement).rowcount > 0, "the damage was not done"
    db.close()


def findings(path: Path) -> dict[str, tuple[str, ...]]:
    """Return the problems of the parts that are not sound."""
    report = check(path, Core)
    bad = {part.part: part.problems for part in report.findings if not part.ok}
    assert report.ok == (not bad)
    return bad


def page_of(path: Path, text: bytes) -> int:
    """Return the offset of the page that holds a text."""
    content = path.read_bytes()
    assert content.count(text) == 1
    return content.index(text) // PAGE * PAGE


def overwrite(path: Path, at: int, content: bytes) -> bytes:
    """Damage a file; return all of it as it is then."""
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)
    return path.read_bytes()


def everything(path: Path) -> tuple[object, ...]:
    with SqliteStore(path) as store:
        return list(store.replay(0)), store.history(limit=10**6), list(store.snapshots())


def test_a_sound_database_is_found_sound_and_counted(path):
    report = check(path, Core)
    assert (report.ok, report.events, report.jobs) == (True, EVENTS, JOBS)
    assert [part.part for part in report.findings] == ["file", "log", "snapshots", "jobs"]
    assert "2: each equals a replay" in report.findings[2].summary


def test_a_database_in_use_can_be_checked(tmp_path):
    with SqliteStore(tmp_path / "live.db") as store:
        fill(store)
        assert findings(store.path) == {}
        assert check(store.path, Core).events == EVENTS


def test_a_missing_and_an_empty_database_are_told_apart(tmp_path):
    with pytest.raises(Misuse, match="there is no database"):
        check(tmp_path / "none.db", Core)
    (tmp_path / "empty.db").touch()
    assert check(tmp_path / "empty.db", Core).ok


@pytest.mark.parametrize(
    ("damage", "part", "words"),
    [
        ("UPDATE log SET body = replace(body, 'ann', 'bob') WHERE seq = 42", "log", "event 42"),
        ("UPDATE log SET at_ms = at_ms + 1 WHERE seq = 42", "log", "checksum does not match"),
        ("UPDATE log SET body = x'ff' WHERE seq = 42", "log", "checksum does not match"),
        ("UPDATE log SET version = 2 WHERE seq = 42", "log", "version 2 is not known"),
        ("DELETE FROM log WHERE seq = 42", "log", "event 42: it is missing (the next is 43)"),
        ("UPDATE log SET kind = 'placed' WHERE seq = 42", "log", "event 42: its columns say"),
        ("UPDATE log SET job = 7 WHERE seq = 42", "log", "event 42: its columns say"),
        ("UPDATE snapshot SET digest = 'x' WHERE seq = 101", "snapshots", "its digest is not"),
        ("UPDATE snapshot SET body = x'00' WHERE seq = 101", "snapshots", "cannot be unpacked"),
        ("UPDATE snapshot SET seq = 100 WHERE seq = 101", "snapshots", "its digest is not"),
        ("UPDATE snapshot SET seq = 10000 WHERE seq = 101", "snapshots", "ends before it"),
        (
            "UPDATE snapshot SET body = (SELECT body FROM snapshot WHERE seq = 201) "
            "WHERE seq = 101",
            "snapshots",
            "its content is not what its digest says",
        ),
        ("UPDATE job SET phase = 'FAILED' WHERE id = 42", "jobs", "job 42 differs"),
        ("UPDATE job SET status = replace(status, '42', '41') WHERE id = 42", "jobs", "job 42"),
        ("DELETE FROM job WHERE id = 42", "jobs", "job 42 is missing"),
        ("UPDATE job SET id = 4242 WHERE id = 42", "jobs", "job 4242 is in the table, and not"),
    ],
)
def test_every_kind_of_damage_is_found_and_named(path, damage, part, words):
    run_sql(path, damage)
    bad = findings(path)
    assert any(words in problem for problem in bad[part]), bad
    if part != "log":
        assert list(bad) == [part], "the rest is sound"


def test_many_problems_are_counted_and_few_are_shown(path):
    run_sql(path, "DELETE FROM job WHERE id <= 30")
    assert len(findings(path)["jobs"]) == 11
    assert findings(path)["jobs"][-1] == "… and 20 more"


def test_a_rebuild_makes_tables_anew_and_drops_bad_snapshots(path):
    log, jobs, snapshots = everything(path)
    run_sql(path, "UPDATE job SET phase = 'FAILED', status = '{' WHERE id < 42")
    run_sql(path, "DELETE FROM job WHERE id > 100")
    run_sql(path, "UPDATE snapshot SET digest = 'x' WHERE seq = 201")
    done = rebuild(path, Core)
    assert (done.events, done.jobs, done.snapshots, len(done.dropped)) == (EVENTS, JOBS, 1, 1)
    assert "after event 201" in done.dropped[0]
    assert findings(path) == {}
    assert everything(path) == (log, jobs, snapshots[1:])
    assert sorted(file.name for file in path.parent.iterdir()) == [path.name, f"{path.name}.lock"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_rebuild_takes_what_is_only_in_the_write_ahead_log(tmp_path):
    path = tmp_path / "fairlead.db"

    def fill_and_die() -> None:
        fill(SqliteStore(path))
        os._exit(0)  # no close, no checkpoint

    assert in_child(fill_and_die) == 0
    assert path.stat().st_size < path.with_name(path.name + "-wal").stat().st_size
    assert rebuild(path, Core).events == EVENTS
    assert findings(path) == {}
    assert len(everything(path)[0]) == EVENTS


def test_a_rebuild_waits_for_nobody(path):
    before = path.read_bytes()
    with SqliteStore(path), pytest.raises(Misuse, match=f"in use by process {os.getpid()}"):
        rebuild(path, Core)
    assert path.read_bytes() == before


def test_a_rebuild_for_which_there_is_no_space_changes_nothing(path):
    before = path.read_bytes()

    def starve() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        with pytest.raises(StoreFailed, match=r"failed|full"):
            rebuild(path, Core)

    assert in_child(starve) == 0
    assert path.read_bytes() == before
    left = {file.name.removeprefix(path.name) for file in path.parent.iterdir()}
    assert left <= {"", ".lock", "-wal", "-shm"}, "no half-made file stays"


def test_an_interrupted_swap_is_finished_at_the_next_start(tmp_path):
    path, other = tmp_path / "fairlead.db", tmp_path / "other.db"
    with SqliteStore(other) as store:
        for records, statuses in turns(3):
            store.append(records, statuses)
    content = everything(other)

    def fill_and_die() -> None:
        fill(SqliteStore(path))
        os._exit(0)

    assert in_child(fill_and_die) == 0
    assert path.with_name(path.name + "-wal").stat().st_size > 100_000, "must not reach the new one"
    other.rename(path.with_name(path.name + ".swap"))
    assert everything(path) == content


def test_the_write_ahead_log_of_a_damaged_file_is_kept_with_it(path):
    wal = path.with_name(path.name + "-wal")

    def damage_and_die() -> None:
        db = sqlite3.connect(path, isolation_level=None)
        db.execute("UPDATE log SET at_ms = 0 WHERE seq = 42")
        os._exit(0)

    assert in_child(damage_and_die) == 0
    before = path.read_bytes(), wal.read_bytes()
    done = rebuild(path, Core, damaged=True)
    assert done.events == 41
    kept = Path(done.kept_as)
    assert (kept.read_bytes(), kept.with_name(kept.name + "-wal").read_bytes()) == before


def test_a_damaged_page_is_reported_and_the_events_before_it_are_saved(path):
    log, _, _ = everything(path)
    at = page_of(path, b'"because":"fits-70"')
    damaged = overwrite(path, at, os.urandom(PAGE))
    report = check(path, Core)
    saved = report.events
    assert not report.ok and 200 < saved < 282, "job 70 was placed by event 279"
    assert f"event {saved + 1}: it cannot be read" in report.findings[1].problems[0]

    with (
        pytest.raises(Damaged, match=f"the first {saved} events can be saved") as caught,
        SqliteStore(path) as store,
    ):
        list(store.replay(0))
    assert "fairlead store rebuild --salvage" in caught.value.hint
    with pytest.raises(Damaged):
        rebuild(path, Core)
    assert path.read_bytes() == damaged, "it is never changed"

    done = rebuild(path, Core, damaged=True)
    assert done.events == saved
    assert Path(done.kept_as) == path.with_name("fairlead.db.damaged-1")
    assert Path(done.kept_as).read_bytes() == damaged
    assert everything(path)[0] == log[:saved]
    assert findings(path) == {}
    with SqliteStore(path) as store:
        assert recover(store).seq == saved
        assert store.append([]) == saved


def test_the_jobs_that_lost_events_are_named_with_what_is_known_of_them(path):
    overwrite(path, page_of(path, b'"because":"fits-70"'), bytes(PAGE))
    done = rebuild(path, Core, damaged=True)
    lost = {job.id: job for job in done.lost_jobs}
    first = min(lost)
    assert sorted(lost) == list(range(first, JOBS + 1)), "this job and all after it"
    assert done.events + done.lost_events == EVENTS
    assert (lost[71].name, lost[71].was, lost[71].now) == ("train-71", "FAILED", "")
    assert (lost[149].was, lost[149].now) == ("RUNNING", "")
    assert first in (done.events // 4, done.events // 4 + 1)


def test_a_flipped_bit_cuts_the_log_there_and_keeps_the_rest_out(path):
    content = path.read_bytes()
    at = content.index(b'"because":"fits-70"') + 12
    overwrite(path, at, bytes([content[at] ^ 1]))
    assert "event 279: its checksum does not match" in findings(path)["log"]
    assert rebuild(path, Core, damaged=True).events == 278


def test_a_destroyed_first_page_costs_nothing(path):
    log, jobs, snapshots = everything(path)
    damaged = overwrite(path, 0, os.urandom(PAGE))
    with pytest.raises(Damaged, match=f"the first {EVENTS} events can be saved"):
        SqliteStore(path)
    assert not check(path, Core).ok
    assert path.read_bytes() == damaged
    done = rebuild(path, Core, damaged=True)
    assert (done.events, done.lost_jobs, done.bad) == (EVENTS, (), "")
    assert everything(path) == (log, jobs, snapshots)


def test_a_file_cut_short_is_saved_as_far_as_it_goes(path):
    log, _, _ = everything(path)
    size = path.stat().st_size
    os.truncate(path, size // 3)
    kept = path.read_bytes()
    assert not check(path, Core).ok
    done = rebuild(path, Core, damaged=True)
    assert 0 < done.events < EVENTS
    assert everything(path)[0] == log[: done.events]
    assert Path(done.kept_as).read_bytes() == kept


def test_every_page_may_be_the_damaged_one(path, tmp_path):
    log, _, _ = everything(path)
    whole = path.read_bytes()
    saved = set()
    for number in range(0, len(whole) // PAGE, 2):
        copy = tmp_path / f"{number}.db"
        copy.write_bytes(whole)
        damaged = overwrite(copy, number * PAGE, b"\xa5" * PAGE)
        unsound = not check(copy, Core).ok
        try:
            done = rebuild(copy, Core, damaged=True)
        except Damaged as error:
            assert error.events == 0 and copy.read_bytes() == damaged
            continue
        assert everything(copy)[0] == log[: done.events]
        assert unsound or done.events == EVENTS, "a free page may be damaged unseen"
        assert Path(done.kept_as).read_bytes() == damaged
        saved.add(done.events)
    assert max(saved) == EVENTS and len(saved) > 5


def test_damaged_files_are_kept_side_by_side(path):
    for n in (1, 2):
        run_sql(path, "UPDATE log SET at_ms = 0 WHERE seq = (SELECT max(seq) FROM log)")
        assert rebuild(path, Core, damaged=True).kept_as.endswith(f".damaged-{n}")
    assert everything(path)[0][-1][0] == EVENTS - 2


def test_what_never_was_a_store_is_not_salvaged(tmp_path):
    path = tmp_path / "letter.db"
    path.write_bytes(b"Dear Sir or Madam,\n" * 1_000)
    before = path.read_bytes()
    with pytest.raises(Damaged, match="no event can be read") as caught:
        rebuild(path, Core, damaged=True)
    assert "--salvage" not in caught.value.hint  # that was just tried, and has nothing to save
    assert path.read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["letter.db", "letter.db.lock"]


@pytest.mark.parametrize("damaged", [False, True])
def test_a_rebuild_refuses_what_is_empty_or_newer_by_its_own_name(path, tmp_path, damaged):
    empty = tmp_path / "empty.db"
    empty.touch()
    run_sql(path, "UPDATE meta SET value = '2'")
    for place, words in ((empty, "is empty"), (path, "was written by a newer")):
        with pytest.raises(Misuse, match=f"{place} {words}"):
            rebuild(place, Core, damaged=damaged)


def test_an_event_that_cannot_follow_ends_the_log(path):
    with SqliteStore(path) as store:
        extra = next(event for _, _, event in store.replay(0) if getattr(event, "job", 0) == 3)
        store.append([(10**9, type(extra)(job=999, spec=extra.spec))])
    problems = findings(path)["log"]
    assert f"event {EVENTS + 1}: it does not follow from the events before it" in problems[0]
    assert rebuild(path, Core, damaged=True).events == EVENTS
    assert findings(path) == {}


def test_damage_in_the_table_of_jobs_stops_only_its_reader(path):
    run_sql(path, "UPDATE job SET status = 'garbage' WHERE id = 42")
    with SqliteStore(path) as store:
        with pytest.raises(Damaged, match=f"the first {EVENTS} events can be saved"):
            store.history(limit=JOBS)
        assert store.append([]) == EVENTS


def test_the_count_of_readable_events_of_what_is_not_there_is_zero(tmp_path):
    assert salvage.readable_events(tmp_path / "none.db") == 0
