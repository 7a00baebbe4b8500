"""The fixture of tests that need a real agent."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_node import Node


@pytest.fixture
def node() -> Iterator[Node]:
    state = Path(tempfile.mkdtemp(prefix="fairlead-test-"))
    made = Node(state)
    yield made
    made.close()
    shutil.rmtree(state, ignore_errors=True)
