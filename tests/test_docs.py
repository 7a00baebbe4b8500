"""What the documentation shows works, what it links to exists, and nothing public is left out.

A block marked `console` is run: lines that begin with "$ " are commands, the lines below are its
output, in order, others may stand between; "…" stands for anything; "[exit 3]" is the exit code.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(#[^)]*)?\)")
COMMAND_S = 90


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def commands_of(text: str) -> list[tuple[str, list[str]]]:
    """Return each command of a page with the lines that it is to print."""
    found: list[tuple[str, list[str]]] = []
    for block in BLOCK.findall(text):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            elif line.strip():
                found[-1][1].append(line.rstrip())
    return found


def missing(expected: list[str], output: str) -> str | None:
    """Return the first expected line that the output does not have after those before it."""
    lines = iter(output.splitlines())
    for want in expected:
        pattern = ".*".join(re.escape(part) for part in want.split("…"))
        if not any(re.fullmatch(pattern, line.rstrip()) for line in lines):
            return want
    return None


@pytest.fixture
def place():
    """A short path (a socket lies in it), a `fairlead` command, no service left afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="fl-docs-"))
    script = folder / "bin" / "fairlead"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m fairlead "$@"\n')
    script.chmod(0o755)
    environ = {
        **os.environ,
        "PATH": f"{script.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "src"),
        "FAIRLEAD_STATE": str(folder / "state"),
        "FAIRLEAD_CONFIG": os.devnull,
        "COLUMNS": "160",
    }
    shutil.copytree(ROOT / "examples", folder / "work" / "examples")

    def run(command: str) -> tuple[int, str]:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=folder / "work",
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_S,
        )
        return done.returncode, done.stdout

    yield run
    run("fairlead down --cancel-jobs")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize(
    "path", [each for each in PAGES if BLOCK.search(each.read_text())], ids=named
)
def test_the_commands_of_a_page_do_what_it_shows(path, place):
    for command, expected in commands_of(path.read_text()):
        code = next((int(w[6:-1]) for w in expected if re.fullmatch(r"\[exit \d+\]", w)), 0)
        wanted = [line for line in expected if not line.startswith("[exit ")]
        found, output = place(command)
        assert found == code, f"$ {command}\nexit code {found}, the page says {code}\n{output}"
        absent = missing(wanted, output)
        assert absent is None, f"$ {command}\nthe page shows: {absent}\nit printed:\n{output}"


def test_the_tutorial_is_run():
    assert len(commands_of((DOCS / "tutorial" / "first-job.md").read_text())) > 10


def test_a_page_that_shows_something_else_is_caught():
    output = "one\ntwo three\n"
    assert missing(["one", "two …"], output) is None
    assert missing(["two …", "one"], output) == "one"
    assert missing(["two"], output) == "two"


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_links_lead_somewhere(path):
    broken = [
        target
        for target, _ in LINK.findall(path.read_text())
        if "://" not in target and not (path.parent / target).exists()
    ]
    assert broken == []


def test_every_page_can_be_reached_from_the_readme():
    seen: set[Path] = set()
    left = [ROOT / "README.md"]
    while left:
        path = left.pop()
        if path in seen or path.suffix != ".md" or not path.exists():
            continue
        seen.add(path)
        left += [(path.parent / target).resolve() for target, _ in LINK.findall(path.read_text())]
    assert [named(path) for path in PAGES if path not in seen] == []


def script(name: str):
    """Return a script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pages_made_from_the_code_are_as_the_code_is():
    for name, made in script("generate").PAGES.items():
        assert (REFERENCE / name).read_text() == made(), "run: make docs"


def test_the_example_of_a_comparison_is_what_its_commands_make():
    example = script("compare_page")

    def known(page: str) -> str:
        return re.sub(r"Fairlead [^<]*, Python [^<]*, numpy [^<]*", "", page)

    # A plain comparison: the difference of two such pages would take pytest minutes to show.
    same = known(example.PAGE.read_text()) == known(example.page())
    assert same, "run: make docs"
    assert example.PAGE.stat().st_size < 400_000
    guide = (DOCS / "howto" / "compare.md").read_text()
    assert [line for line in example.COMMANDS if f"$ {line}" not in guide] == []


def test_every_key_of_a_job_file_is_documented():
    from fairlead.service.request import JobRequest, ResourcesRequest

    text = (REFERENCE / "job-spec.md").read_text()
    keys = (*JobRequest.__struct_fields__, *ResourcesRequest.__struct_fields__)
    assert [key for key in keys if f"`{key}`" not in text] == []


def test_every_key_of_the_configuration_is_documented():
    from fairlead.policy.sharing_file import QueueTable, QuotaTable, TenantTable
    from fairlead.service.config import NodeTable, PolicyTable

    text = (REFERENCE / "config.md").read_text()
    tables = (NodeTable, PolicyTable, QueueTable, QuotaTable, TenantTable)
    keys = {key for table in tables for key in table.__struct_fields__}
    assert [key for key in sorted(keys) if f"{key} = " not in text and f"`{key}`" not in text] == []


def test_the_configuration_that_is_shown_is_read_without_complaint():
    from fairlead.service.config import parse_config

    block = re.search(r"```toml\n(.*?)```", (REFERENCE / "config.md").read_text(), re.DOTALL)
    assert block is not None
    text = block[1]
    parse_config(text)
    table = text.replace('policy = "priority" ', "#").replace("\n# ", "\n")
    assert "[policy]" in table and tomllib.loads(table)["policy"]["overtake"] == "15m"
    parse_config(table)


def test_every_policy_and_placement_is_documented():
    from fairlead.policy.place.score import PLACEMENTS
    from fairlead.policy.registry import POLICIES

    text = (REFERENCE / "policies.md").read_text()
    assert [name for name in (*POLICIES, *PLACEMENTS) if f"| `{name}`" not in text] == []


def test_every_policy_has_a_paragraph_that_names_no_policy_that_is_none():
    from fairlead.policy.registry import POLICIES, policy_config

    text = (REFERENCE / "policies.md").read_text()
    told = re.findall(r"^\*\*`([^`]+)`\*\*: ", text, re.MULTILINE)
    assert sorted(told) == sorted(POLICIES)
    rows = re.findall(r"^\| `([^`]+)`(?: \(default\))? \|", text, re.MULTILINE)
    assert [name for name in POLICIES if rows.count(name) != 1] == []
    for name in told:
        policy_config(name)


def test_every_setting_of_a_policy_is_documented():
    from fairlead.policy.settings import KEYS

    text = (REFERENCE / "policies.md").read_text()
    assert [key for key in KEYS if not re.search(rf"^\|.*`{key}`.*\|", text, re.MULTILINE)] == []


def test_every_state_and_reason_is_explained():
    from fairlead.core import shares
    from fairlead.model.jobs import Phase
    from fairlead.policy import explain
    from fairlead.policy.deadlock import gate

    codes = (REFERENCE / "exit-codes.md").read_text()
    assert [phase for phase in Phase if f"`{phase}`" not in codes] == []
    reasons = (explain.RESOURCES, explain.PRIORITY, shares.QUOTA, explain.NODE_DOWN)
    reasons += (explain.RESERVED, explain.ACQUIRING, gate.LICENSES)
    reasons += tuple(re.findall(r'Block\("(\w+)"', Path(shares.__file__).read_text()))
    assert "ExceedsMaxQuota" in reasons
    why = (DOCS / "why" / "why-jobs-wait.md").read_text()
    assert [code for code in (*reasons, explain.PENDING_EVALUATION) if f"`{code}`" not in why] == []


def test_every_variable_that_a_job_gets_is_documented():
    from fairlead.backends.local import environment

    names = set(re.findall(r'"(FAIRLEAD_[A-Z_]+)"', Path(environment.__file__).read_text()))
    own = {"FAIRLEAD_MEMBER", "FAIRLEAD_PARAM_"} | set(environment._CARRIED)
    text = (REFERENCE / "job-spec.md").read_text()
    assert [name for name in sorted(names - own) if f"`{name}`" not in text] == []
