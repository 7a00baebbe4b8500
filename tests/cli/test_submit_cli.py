"""`submit`: options, scripts and files become requests; errors name what the user wrote."""

from __future__ import annotations

import json
import os
import stat

import pytest
from fake_service import Hangup, job

from fairlead.cli.environment import captured


def request_of(service):
    """The one request of the last submission."""
    (only,) = service.requests[-1].body["jobs"]
    return only


def test_options_become_the_keys_of_a_request(cli, service, tmp_path):
    result = cli(
        *("submit", "--name", "tune", "-c", "2", "-m", "4G", "-g", "H100:2", "--gpu-memory", "20G"),
        *("--members", "3", "--spread", "distinct-nodes", "-p", "high", "--queue", "q"),
        *("--tenant", "nlp", "-t", "1h30m", "--expected", "1h", "--retry", "2", "--env", "A=b=c"),
        *("--workdir", str(tmp_path), "--signal", "USR1", "--grace", "1m", "--label", "exp=3"),
        *("--output-limit", "1M", "--disk", "1G", "--", "python", "train.py", "--lr", "0.1"),
    )
    assert result.code == 0, result.err
    assert request_of(service) == {
        "name": "tune",
        "resources": {
            **{"cpus": "2", "memory": "4G", "disk": "1G", "gpus": "H100:2", "gpu_memory": "20G"},
        },
        "members": 3,
        "spread": "distinct-nodes",
        "priority": "high",
        "queue": "q",
        "tenant": "nlp",
        "time_limit": "1h30m",
        "expected": "1h",
        "retry": 2,
        "env": {"A": "b=c"},
        "workdir": str(tmp_path),
        "preempt": {"signal": "USR1", "grace": "1m"},
        "labels": {"exp": "3"},
        "output_limit": "1M",
        "run": ["python", "train.py", "--lr", "0.1"],
    }
    spec = service.submitted[0]
    assert (spec.shape.cpu_milli, spec.shape.memory_mib, spec.shape.gpus) == (2000, 4096, 2)
    assert spec.shape.gpu_models == ("H100",)
    assert spec.priority == 90


def test_each_worker_option_is_a_kind_of_workers(cli, service):
    words = ("--worker", "ps", "--worker", "w:4:cpus=4,gpus=H100:2", "--cpus", "8")
    assert cli("submit", *words, "--", "train").code == 0
    assert request_of(service)["workers"] == [
        {"name": "ps", "count": 1},
        {"name": "w", "count": 4, "resources": {"cpus": "4", "gpus": "H100:2"}},
    ]
    shape = service.submitted[0].shape
    assert [(kind.cpu_milli, kind.gpus, kind.members) for kind in shape.kinds] == [
        (8000, 0, 1),
        (4000, 2, 4),
    ]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("ps:x", "a name, how many, and what each asks for"),
        ("ps:1:cpus", "a name, how many, and what each asks for"),
        ("ps:0", "count must be 1 to 100000, not 0"),
        ("ps:1:cpuss=3", "unknown key workers[0].resources.cpuss"),
    ],
)
def test_a_wrong_worker_option_is_named(cli, service, word, message):
    result = cli("submit", "--worker", word, "--", "train")
    assert result.code == 2
    assert f"--worker {word}: {message}" in result.err


def test_the_line_of_a_wrong_kind_of_workers_is_named(cli, service, tmp_path):
    file = tmp_path / "job.yaml"
    file.write_text("run: train\nworkers:\n  - name: ps\n  - name: w\n    cuont: 2\n")
    result = cli("submit", "-f", str(file))
    assert "job.yaml:5: unknown key workers[1].cuont" in result.err
    assert "did you mean count?" in result.err


def test_options_behind_the_command_are_the_commands_own(cli, service):
    assert cli("submit", "-c", "1", "python", "train.py", "--cpus", "9", "--json").code == 0
    assert request_of(service)["run"] == ["python", "train.py", "--cpus", "9", "--json"]


def test_the_receipt_says_why_the_job_waits(cli, service):
    assert cli("submit", "--", "true").out == "job 12 waits: Resources: 1 node: CPU\n"
    assert cli("submit", "-q", "--", "true").out == "12\n"
    assert json.loads(cli("submit", "--json", "--", "true").out)["ids"] == [12]


def test_the_receipt_says_the_place_in_the_queue_and_when_it_starts(cli, service):
    minute = 60_000
    eta = {"earliest_ms": 10 * minute, "likely_ms": 20 * minute, "latest_ms": 60 * minute}
    waits = job(12, reason="Resources: 1 node: CPU", eta=eta | {"made_ms": 0}, position=3)
    service.answers["POST /api/v1/jobs"] = lambda _: {
        **{"ids": [12], "jobs": [waits], "waiting": 7, "now_ms": 0}
    }
    first, second = cli("submit", "--", "true").out.splitlines()
    assert first == "job 12 waits: Resources: 1 node: CPU"
    assert second.startswith("  3rd of 7 that wait; expected to start in about 20m (")


def test_an_array_is_answered_by_one_summary(cli, service):
    assert cli("submit", "--array", "0-9", "--", "true").out == (
        "jobs 12-21 (10 jobs)\n  10 wait: Resources: 1 node: CPU\n"
    )
    assert [spec.array_index for spec in service.submitted] == list(range(10))
    assert {spec.array for spec in service.submitted} == {12}


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["-m", "16"], "--memory: the size 16 has no unit", '"16G" (GiB)'),
        (["-t", "30"], "--time-limit: the duration 30 has no unit", '"30m" (minutes)'),
        (["-c", "-1"], "--cpus: a number of CPUs cannot be negative", "0.5"),
        (["-c", "9" * 30], "--cpus: 9999", "ask for less"),
        (["--gpu-split", "1.5"], "--gpu-split", "up to 1: [1, 0.5]"),
        (["-p", "urgent"], "--priority: there is no priority 'urgent'", "low, normal, high"),
        (["-p", "101"], "--priority: the priority 101 is out of range", "0 to 100"),
        (["--signal", "TREM"], "--signal: there is no signal 'TREM'", "did you mean TERM?"),
        (["--signal", "KILL"], "--signal: no program can notice KILL", "USR1"),
        (["--array", "9-0"], "--array: the range '9-0' is empty", ""),
        (["--array", "0-99999999"], "more than 100000 jobs", "several calls"),
        (["--members", "0"], "--members: members must be 1", ""),
        (["--spread", "apart"], "'apart' is not one of", ""),
        (["--label", "x"], "--label x: a label has a name", ""),
        (["--env", "=x"], "a variable needs a name", ""),
        (["--env", "FL_NO_SUCH"], "there is no such variable here", "export it"),
        (["--workdir", "/no/such"], "--workdir: there is no folder /no/such", "create"),
    ],
)
def test_a_wrong_option_is_named_as_it_was_written(cli, service, words, message, hint):
    result = cli("submit", *words, "--", "true")
    assert result.code == 2
    assert message in result.err
    assert hint in result.err
    assert "Traceback" not in result.err
    assert service.submitted == []


def test_nothing_to_run_is_a_misuse(cli, service):
    result = cli("submit", "--cpus", "2")
    assert result.code == 2
    assert "nothing to run" in result.err


def test_a_job_inherits_the_environment_without_secrets_and_other_schedulers(
    cli, service, monkeypatch
):
    for name in ("HF_TOKEN", "aws_secret_key", "SLURM_NTASKS", "FAIRLEAD_X", "SSH_TTY", "DISPLAY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("WANDB_MODE", "offline")
    cli("submit", "--env", "HF_TOKEN", "--", "true")
    env = service.submitted[0].env
    assert env["WANDB_MODE"] == "offline"
    assert env["HF_TOKEN"] == "x"  # it was named
    assert not {"aws_secret_key", "SLURM_NTASKS", "FAIRLEAD_X", "SSH_TTY", "DISPLAY"} & set(env)
    assert service.submitted[0].workdir == os.getcwd()

    cli("submit", "--env-pass", "none", "--env", "A=1", "--", "true")
    env = service.submitted[1].env
    assert "WANDB_MODE" not in env
    assert env["A"] == "1"
    assert env["PATH"] == os.environ["PATH"]


def test_a_variable_that_is_no_text_is_left_out():
    assert captured({"GOOD": "é", "BAD": "\udcff"}) == {"GOOD": "é"}


def test_a_broken_connection_is_tried_once_more_with_the_same_key(cli, service):
    keys = []

    def once_broken(request):
        keys.append(request.headers["Idempotency-Key"])
        if len(keys) == 1:
            raise Hangup
        return service.submit(request)

    service.answers["POST /api/v1/jobs"] = once_broken
    assert cli("submit", "--", "true").code == 0
    assert len(keys) == 2
    assert keys[0] == keys[1] == service.requests[0].body["request"]
    assert len(keys[0]) == 32


def test_a_connection_that_breaks_twice_is_an_error(cli, service):
    def broken(_):
        raise Hangup

    service.answers["POST /api/v1/jobs"] = broken
    result = cli("submit", "--", "true")
    assert result.code == 1
    assert "went away" in result.err
    assert len(service.requests) == 2


def script(folder, text, name="train.sh"):
    path = folder / name
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_the_fairlead_lines_of_a_script_are_options_and_the_command_line_wins(
    cli, service, tmp_path
):
    path = script(
        tmp_path,
        "#!/bin/bash -e\n# a remark\n#FAIRLEAD --cpus 4 --memory 8G  # for the model\n"
        "#FAIRLEAD --env A=1 --env B=1\n\necho hi\n#FAIRLEAD --cpus 9\n",
    )
    assert cli("submit", "--memory", "16G", "--env", "B=2", path, "--epochs", "3").code == 0
    request = request_of(service)
    assert request["resources"] == {"cpus": "4", "memory": "16G"}
    assert request["env"] == {"A": "1", "B": "2"}
    assert request["run"] == ["/bin/bash", "-e", path, "--epochs", "3"]
    assert request["name"] == "train.sh"


def test_a_wrong_line_in_a_script_is_named_by_its_number(cli, service, tmp_path):
    path = script(tmp_path, "#!/bin/sh\n#FAIRLEAD --cpus 2\n#FAIRLEAD --memroy 4G\n")
    result = cli("submit", path)
    assert result.code == 2
    assert f"{path}:3: " in result.err
    assert "--memroy" in result.err
    for line in ("--help", "-q", "-- echo", "-f other.yaml", "--name 'open"):
        result = cli("submit", script(tmp_path, f"#!/bin/sh\n#FAIRLEAD {line}\n"))
        assert result.code == 2, line
        assert f"{path}:2: " in result.err
    assert service.submitted == []


def test_a_binary_or_a_word_without_slash_is_no_script(cli, service):
    assert cli("submit", "/bin/ls", "-l").code == 0
    assert request_of(service)["run"] == ["/bin/ls", "-l"]


def test_a_yaml_file_is_sent_as_it_is_and_the_command_line_wins(cli, service, tmp_path):
    path = tmp_path / "job.yaml"
    path.write_text(
        "name: tune\nrun: python train.py\nresources:\n  cpus: 2\n  mem: 4G\nenv: {SEED: 1}\n"
        "time_limit: 01:30:00\nlabels: {date: 2026-11-23, on: yes}\n"
    )
    assert cli("submit", "-f", str(path), "--cpus", "4", "--env", "X=y").code == 0
    request = request_of(service)
    assert request["resources"] == {"cpus": "4", "mem": "4G"}
    assert request["env"] == {"SEED": 1, "X": "y"}
    assert request["time_limit"] == "01:30:00"
    assert request["labels"] == {"date": "2026-11-23", "on": "yes"}
    assert service.submitted[0].limit_ms == 5_400_000


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("run: x\nresources:\n  cpus: 1\n  memroy: 4G\n", 4, "unknown key resources.memroy"),
        ("run: x\ntime_limit: 30\n", 2, "time_limit: the duration 30 has no unit"),
        ("run: x\n---\nrun: y\nnmae: z\n", 4, "unknown key nmae"),
        ("jobs:\n- run: x\n- run: y\n  priority: 900\n", 4, "the priority 900 is out of range"),
        ("setup: uv sync\nrun: x\n", 1, "setup is not supported yet"),
        ("run: x\nresources:\n  gpus: [1]\n", 3, "got a list"),
        ("name: x\nrun: 'open\n", 2, "not YAML"),
        ("run: x\nrun: y\n", 2, "not YAML"),
        ("run: x\nworkdir: /no/such\n", 2, "workdir: there is no folder /no/such"),
    ],
)
def test_a_wrong_key_is_shown_with_file_and_line(cli, service, tmp_path, text, line, message):
    path = tmp_path / "job.yaml"
    path.write_text(text)
    result = cli("submit", "-f", str(path))
    assert result.code == 2
    assert message in result.err
    assert f"{path}:{line}: " in result.err
    assert service.submitted == []


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("j.toml", 'run = "x"\nnmae = "y"\n', "j.toml:2: unknown key nmae"),
        (
            "j.toml",
            'run = "x"\n[resources]\nmemory = 4\n',
            "j.toml:3: resources.memory: the size 4",
        ),
        ("j.toml", "run = x\n", "j.toml:1: not TOML: invalid value"),
        ("j.json", '{"run": "x",\n "nmae": 1}', "j.json:2: unknown key nmae"),
        ("j.json", '{"run": }', "j.json:1: not JSON"),
        ("j.yaml", "", "there is no job in this file"),
        ("j.yaml", "[]", "there is no job in this file"),
        ("j.yaml", "42", "a job is a table of keys, not a whole number"),
        ("j.yaml", "\tx: 1", "not YAML"),
    ],
)
def test_other_formats_and_empty_files_have_clear_errors_too(
    cli, service, tmp_path, monkeypatch, name, text, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text(text)
    result = cli("submit", "-f", name)
    assert result.code == 2
    assert message in result.err


def test_a_file_that_cannot_be_read_is_said_so(cli, service, tmp_path):
    assert "No such file" in cli("submit", "-f", str(tmp_path / "no.yaml")).err
    assert "Is a directory" in cli("submit", "-f", str(tmp_path)).err
    (tmp_path / "latin.yaml").write_bytes(b"run: x\nname: caf\xe9\n")
    assert (
        "latin.yaml:2: this is not UTF-8" in cli("submit", "-f", str(tmp_path / "latin.yaml")).err
    )


def test_a_file_and_a_command_exclude_each_other(cli, service, tmp_path):
    (tmp_path / "j.yaml").write_text("run: x\n")
    result = cli("submit", "-f", str(tmp_path / "j.yaml"), "--", "true")
    assert result.code == 2
    assert "not both" in result.err


def test_several_documents_are_several_jobs(cli, service, tmp_path):
    (tmp_path / "j.yaml").write_text("run: a\n---\nrun: b\n---\n- run: c\n- run: d\n")
    assert cli("submit", "-q", "-f", str(tmp_path / "j.yaml")).out == "12\n13\n14\n15\n"
    assert [spec.command[-1] for spec in service.submitted] == ["a", "b", "c", "d"]
