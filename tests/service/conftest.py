"""A state folder with a real service, and the service without processes."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from service_harness import Desk, World


@pytest.fixture
def world():
    """A fresh state folder; nothing runs yet."""
    folder = Path(tempfile.mkdtemp(prefix="fl-", dir="/tmp"))
    made = World(folder / "s")
    yield made
    made.clean()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def desk(tmp_path):
    """The service without processes."""
    return Desk(tmp_path)


@pytest.fixture
def desk_at(tmp_path):
    """Make a desk with a clock of one's own."""
    return lambda clock: Desk(tmp_path, clock)
