from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from fake_service import FakeService

from fairlead.cli.main import main


class Result(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty state folder, also in FAIRLEAD_STATE; its path is short, as sockets need."""
    with tempfile.TemporaryDirectory(prefix="fl-") as folder:
        monkeypatch.setenv("FAIRLEAD_STATE", folder)
        monkeypatch.delenv("FAIRLEAD_DEBUG", raising=False)
        yield Path(folder)


@pytest.fixture
def service(state: Path) -> Iterator[FakeService]:
    fake = FakeService(str(state / "api.sock"))
    yield fake
    fake.close()


@pytest.fixture
def cli(state: Path, capsys: pytest.CaptureFixture[str]):
    """Run a command in this process: cli("ps", "--json") -> (code, out, err)."""

    def call(*words: str) -> Result:
        with pytest.raises(SystemExit) as end:
            main(words)
        captured = capsys.readouterr()
        assert isinstance(end.value.code, int)
        return Result(end.value.code, captured.out, captured.err)

    return call
