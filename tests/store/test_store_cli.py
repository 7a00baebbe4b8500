"""`fairlead store`: what it prints, and how it exits."""

import gzip
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from histories import turns

from fairlead.cli.errors import Failure
from fairlead.cli.store import store as command
from fairlead.store.sqlite import SqliteStore


def run(*arguments: str | Path, **environ: str) -> Result:
    result = CliRunner().invoke(command, [str(each) for each in arguments], env=environ)
    if result.exception and not isinstance(result.exception, SystemExit | Failure):
        raise result.exception
    return result


@pytest.fixture
def state(tmp_path: Path) -> Path:
    with SqliteStore(tmp_path / "fairlead.db") as store:
        for records, statuses in turns(6):
            store.append(records, statuses)
    return tmp_path


def damage(state: Path, statement: str) -> None:
    db = sqlite3.connect(state / "fairlead.db", isolation_level=None)
    db.execute(statement)
    db.close()


@pytest.mark.parametrize("by", ["state", "file", "environment"])
def test_check_finds_the_database_by_option_or_environment(state, by):
    result = {
        "state": lambda: run("check", "--state", state),
        "file": lambda: run("check", "--file", state / "fairlead.db"),
        "environment": lambda: run("check", FAIRLEAD_STATE=str(state)),
    }[by]()
    assert result.exit_code == 0
    assert str(state / "fairlead.db") in result.stdout
    assert "log        ok   21 events: none missing" in result.stdout


def test_check_exits_with_one_and_says_what_to_do_when_tables_differ(state):
    damage(state, "UPDATE job SET phase = 'OOM' WHERE id = 2")
    result = run("check", "--state", state)
    assert result.exit_code == 1
    assert "jobs       BAD  1 rows differ" in result.stdout
    assert f"fairlead store rebuild --file {state}/fairlead.db" in result.stderr
    assert run("rebuild", "--state", state).exit_code == 0
    assert run("check", "--state", state).exit_code == 0


def test_check_prints_one_json_object(state):
    damage(state, "DELETE FROM log WHERE seq = 15")
    result = run("check", "--state", state, "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (report["ok"], report["events"]) == (False, 14)
    assert report["findings"][1]["problems"] == ["event 15: it is missing (the next is 16)"]


def test_a_damaged_log_is_rebuilt_only_when_salvage_is_asked_for(state):
    damage(state, "DELETE FROM log WHERE seq = 15")
    assert "rebuild --salvage" in run("check", "--state", state).stderr
    refused = run("rebuild", "--state", state)
    assert isinstance(refused.exception, Failure)
    assert (refused.exception.exit_code, refused.exception.code) == (1, "store-damaged")
    assert "the first 14 events can be saved" in refused.exception.message
    done = run("rebuild", "--state", state, "--salvage")
    assert done.exit_code == 0
    assert f"the old file is kept as {state}/fairlead.db.damaged-1" in done.stdout
    assert "job 4 train-4 lost events: is PENDING now, was last SUCCEEDED" in done.stdout
    assert "job 6 train-6 lost events: is gone, was last PENDING" in done.stdout
    assert run("check", "--state", state).exit_code == 0


def test_rebuild_is_refused_while_a_service_has_the_database(state):
    with SqliteStore(state / "fairlead.db"):
        assert run("check", "--state", state).exit_code == 0
        refused = run("rebuild", "--state", state, "--json").exception
    assert isinstance(refused, Failure)
    assert (refused.exit_code, refused.code) == (2, "store-in-use")
    assert str(os.getpid()) in refused.message


@pytest.mark.parametrize("action", ["check", "rebuild", "export"])
def test_a_database_that_is_not_there_is_named(tmp_path, action):
    failure = run(action, "--state", tmp_path).exception
    assert isinstance(failure, Failure) and failure.exit_code == 2
    assert f"no database at {tmp_path}/fairlead.db" in failure.message
    assert list(tmp_path.iterdir()) == []


def test_naming_the_database_twice_is_refused(state):
    failure = run("check", "--state", state, "--file", state / "fairlead.db").exception
    assert isinstance(failure, Failure) and "same thing" in failure.message


def test_export_writes_one_line_of_json_for_each_event(state):
    lines = [json.loads(line) for line in run("export", "--state", state).stdout.splitlines()]
    assert [line["seq"] for line in lines] == list(range(1, 22))
    assert lines[1]["event"]["kind"] == "submitted"
    assert lines[1]["event"]["spec"]["name"] == "train-1"
    assert lines[1]["at_ms"] == 1_020


@pytest.mark.parametrize("name", ["events.jsonl", "events.jsonl.gz"])
def test_export_writes_files_compressed_if_their_name_says_so(state, name):
    result = run("export", state / name, "--state", state)
    assert result.exit_code == 0 and "21 events written" in result.stderr
    opened = gzip.open if name.endswith(".gz") else open
    with opened(state / name, "rb") as file:
        assert file.read().decode() == run("export", "--state", state).stdout
    assert not list(state.glob("*.part"))


def test_export_of_a_damaged_log_to_a_file_leaves_no_half_file(state):
    damage(state, "DELETE FROM log WHERE seq = 15")
    failure = run("export", state / "out.jsonl", "--state", state).exception
    assert isinstance(failure, Failure) and failure.exit_code == 1
    assert not list(state.glob("out*"))


def test_export_of_a_damaged_log_prints_what_is_sound_and_then_fails(state):
    damage(state, "DELETE FROM log WHERE seq = 15")
    result = run("export", "--state", state)
    assert isinstance(result.exception, Failure) and result.exception.exit_code == 1
    assert len(result.stdout.splitlines()) == 14


def test_export_to_where_nothing_can_be_written_is_refused(state):
    failure = run("export", state / "none" / "out.jsonl", "--state", state).exception
    assert isinstance(failure, Failure) and failure.exit_code == 2
    assert "cannot write" in failure.message


def test_export_into_head_ends_quietly(state):
    with SqliteStore(state / "fairlead.db") as store:
        _, at_ms, event = next(iter(store.replay(0)))
        store.append([(at_ms, event)] * 20_000)
    done = subprocess.run(
        "set -o pipefail; "
        f"{sys.executable} -c 'from fairlead.cli.store import store; store()' "
        f"export --state {state} | head -n 1",
        shell=True,
        executable="/bin/bash",
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["seq"] == 1
