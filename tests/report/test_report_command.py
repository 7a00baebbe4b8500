import json

import pytest
from click.testing import CliRunner
from test_report_page import log

from fairlead.cli.errors import MISUSE, Failure
from fairlead.cli.report import history_of, report
from fairlead.store.sqlite import SqliteStore


@pytest.fixture
def state(tmp_path, monkeypatch):
    """A state folder with the log of a few jobs."""
    monkeypatch.setenv("FAIRLEAD_STATE", str(tmp_path))
    with SqliteStore(tmp_path / "fairlead.db") as store:
        store.append([(at, event) for _, at, event in log(12)])
    return tmp_path


def run(*words):
    return CliRunner().invoke(report, words, catch_exceptions=False)


def test_the_page_is_made_from_the_log_while_a_service_holds_it(state):
    with SqliteStore(state / "fairlead.db"):
        done = run("--html", str(state / "page.html"))
    assert "12 jobs" in done.output
    assert "Who ran where" in (state / "page.html").read_text()


def test_the_figures_are_printed_as_one_object(state):
    found = json.loads(run("--json").output)
    assert found["together"]["jobs"] == 12
    assert [row["tenant"] for row in found["tenants"]] == ["nlp", "risk", "vision"]


def test_without_anything_to_make_the_command_is_misuse(state):
    with pytest.raises(Failure, match="say what to make") as caught:
        run()
    assert caught.value.exit_code == MISUSE


def test_a_place_that_cannot_be_written_is_told(state):
    with pytest.raises(Failure, match="cannot write"):
        run("--html", str(state / "missing" / "page.html"))


def test_without_a_history_the_command_says_where_it_looked(tmp_path):
    with pytest.raises(Failure, match="there is no history") as caught:
        history_of(tmp_path / "fairlead.db")
    assert "FAIRLEAD_STATE" in caught.value.hint


def test_a_file_that_is_no_database_is_not_read_as_one(tmp_path):
    (tmp_path / "fairlead.db").write_text("certainly not SQLite" * 100)
    with pytest.raises(Failure, match="cannot read"):
        history_of(tmp_path / "fairlead.db")


def test_an_empty_database_is_an_empty_history(tmp_path):
    (tmp_path / "fairlead.db").touch()
    assert history_of(tmp_path / "fairlead.db").jobs == {}
