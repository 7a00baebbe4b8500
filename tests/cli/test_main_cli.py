"""The command line as a whole: cheap to start, clear when it is misused."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from fake_service import Problem, job, rows

from fairlead import __version__
from fairlead.cli import main as cli_main

HEAVY = ("numpy", "starlette", "uvicorn", "rich", "jinja2", "msgspec", "http.client")


def modules_of(*words: str) -> set[str]:
    code = (
        "import sys\nfrom fairlead.cli.main import main\n"
        "try:\n    main()\n"
        "finally:\n    print(*sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["ps"], ["submit", "--", "true"]])
def test_daily_commands_import_nothing_heavy(service, words):
    service.answers["GET /api/v1/jobs"] = lambda _: rows(job(1), job(2, "RUNNING"))
    loaded = modules_of(*words)
    assert "fairlead.cli.main" in loaded
    assert not [name for name in HEAVY if name in loaded]
    assert not [name for name in loaded if name.startswith("fairlead.core")]


def test_the_version_costs_less_than_a_tenth_of_a_second_of_cpu():
    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    costs = []
    for _ in range(5):
        before = used()
        done = subprocess.run(
            [sys.executable, "-m", "fairlead", "--version"], capture_output=True, text=True
        )
        costs.append(used() - before)
        assert done.stdout == f"fairlead {__version__}\n"
    assert min(costs) <= 0.1  # the others may have shared their core with something


def test_a_misspelt_command_is_answered_with_the_nearest(cli):
    result = cli("sumbit", "--", "true")
    assert result.code == 2
    assert "there is no command 'sumbit'" in result.err
    assert "hint: did you mean: fairlead submit" in result.err


def test_a_command_that_resembles_nothing_points_to_the_help(cli):
    result = cli("xyzzy")
    assert result.code == 2
    assert "see: fairlead --help" in result.err


def test_a_group_without_a_command_names_its_commands_in_two_lines(cli):
    result = cli("resource")
    assert result.code == 2
    assert result.err.splitlines() == [
        "fairlead: fairlead resource needs a command: create, delete, edit, list",
        "  hint: see: fairlead resource --help",
    ]


def test_a_misspelt_option_is_answered_with_the_nearest(cli):
    result = cli("submit", "--cpsu", "2", "--", "true")
    assert result.code == 2
    assert "no such option '--cpsu'" in result.err
    assert "did you mean --cpus" in result.err


def test_without_a_service_every_command_says_how_to_start_one(cli):
    for words in (["ps"], ["submit", "--", "true"], ["nodes"], ["cancel", "1"], ["logs", "1"]):
        result = cli(*words)
        assert result.code == 1
        assert result.err.startswith("fairlead: no service is running here\n  hint: start it with")
        assert result.out == ""
    assert cli("run", "--", "true").code == 125


def test_errors_are_json_when_json_was_asked_for(cli, service):
    def refuse(_):
        raise Problem(422, "there is no state 'X'", code="misuse", hint="known: …", field="state")

    service.answers["GET /api/v1/jobs"] = refuse
    result = cli("ps", "--json", "--state", "X")
    assert result.code == 2
    assert json.loads(result.err) == {
        "error": {
            "code": "misuse",
            "message": "there is no state 'X'",
            "hint": "known: …",
            "field": "state",
        }
    }


def test_what_answers_may_not_be_fairlead(cli, state):
    import socket
    import threading

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(state / "api.sock"))
    listener.listen()

    def answer() -> None:
        connection, _ = listener.accept()
        connection.recv(1000)
        connection.sendall(b"220 mail.example.org ESMTP\r\n\r\n")
        connection.close()

    thread = threading.Thread(target=answer)
    thread.start()
    result = cli("ps")
    thread.join(10)
    listener.close()
    assert result.code == 1
    assert "not Fairlead" in result.err


def test_an_internal_error_is_one_line_and_debug_shows_where(cli, service, monkeypatch):
    service.answers["GET /api/v1/nodes"] = lambda _: {"nodes": [{"no": "name"}]}
    result = cli("nodes")
    assert result.code == 1
    assert "internal error: KeyError" in result.err
    assert "Traceback" not in result.err
    monkeypatch.setenv("FAIRLEAD_DEBUG", "1")
    with pytest.raises(KeyError):
        cli_main.main(["nodes"])


def test_the_help_lists_every_command_without_importing_any(cli):
    result = cli("--help")
    assert result.code == 0
    for name, entry in cli_main.COMMANDS.items():
        assert name in result.out
        assert entry.help.split()[0] in result.out


@pytest.mark.parametrize("name", sorted(cli_main.COMMANDS))
def test_every_command_of_the_table_exists_and_has_help(cli, name):
    result = cli(name, "--help")
    assert result.code == 0
    assert "Usage: fairlead" in result.out


def test_aliases_lead_to_the_same_command(cli, service):
    service.answers["GET /api/v1/jobs"] = lambda _: rows(job(7))
    assert cli("ls") == cli("ps")


def test_a_reader_that_has_seen_enough_is_no_failure(service, state):
    service.answers["GET /api/v1/jobs"] = lambda _: rows(*(job(n) for n in range(1, 3000)))
    command = f"set -o pipefail; {sys.executable} -m fairlead ps | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1


def test_the_state_folder_can_be_chosen_by_option(service, state, tmp_path, capsys, monkeypatch):
    service.answers["GET /api/v1/jobs"] = lambda _: rows(job(7))
    monkeypatch.setenv("FAIRLEAD_STATE", str(tmp_path))
    with pytest.raises(SystemExit) as end:
        cli_main.main(["--state", str(state), "ps", "-q"])
    assert end.value.code == 0
    assert capsys.readouterr().out == "7\n"
    assert Path(os.environ["FAIRLEAD_STATE"]) == state
