"""Files, functions and lines stay small, nothing is left for later, every package says its purpose.

RATCHET lists what was too large when a rule came in, with its size; an entry may only shrink,
and must go when it is no longer needed.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
LINE_CHARS_MAX = 100
RATCHET: dict[str, int] = {}  # "path" or "path::function" -> lines

# Spelt apart so that this file does not accuse itself.
LEFT_FOR_LATER = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X")) + r")\b")


def sources() -> list[Path]:
    """Return every Python file of the repository."""
    folders = ("src", "tests", "bench", "examples", "docs")
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def sizes(name: str, text: str) -> dict[str, tuple[int, int]]:
    """Return, for a file and each function in it, its lines and the most it may have."""
    found = {name: (len(text.splitlines()), FILE_LINES_MAX)}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            lines = node.end_lineno - node.lineno + 1
            found[f"{name}::{node.name}"] = (lines, FUNCTION_LINES_MAX)
    return found


def too_large(found: dict[str, tuple[int, int]], ratchet: dict[str, int]) -> list[str]:
    return [
        f"{name} has {lines} lines, allowed are {ratchet.get(name, most)}"
        for name, (lines, most) in found.items()
        if lines > ratchet.get(name, most)
    ]


def unneeded(found: dict[str, tuple[int, int]], ratchet: dict[str, int]) -> list[str]:
    """Return the ratchet entries that are gone, small enough now, or larger than the truth."""
    return [
        name
        for name, allowed in ratchet.items()
        if name not in found or found[name][0] <= found[name][1] or found[name][0] < allowed
    ]


def everything() -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for path in sources():
        found |= sizes(name_of(path), path.read_text())
    return found


def test_files_and_functions_are_small():
    assert too_large(everything(), RATCHET) == []


def test_the_ratchet_only_shrinks():
    assert unneeded(everything(), RATCHET) == []


def test_lines_are_short():
    long = [
        f"{name_of(path)}:{number}"
        for path in sources()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if len(line) > LINE_CHARS_MAX
    ]
    assert long == []


def test_nothing_is_left_for_later():
    texts = [*sources(), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), ROOT / "Makefile"]
    left = [
        f"{name_of(path)}:{number}"
        for path in texts
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if LEFT_FOR_LATER.search(line)
    ]
    assert left == []


def test_every_module_says_what_it_is_for():
    silent = [
        name_of(path)
        for path in sorted((ROOT / "src").rglob("*.py"))
        if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []


def test_every_folder_of_source_is_a_package():
    folders = {path.parent for path in (ROOT / "src" / "fairlead").rglob("*.py")}
    assert [name_of(each) for each in sorted(folders) if not (each / "__init__.py").exists()] == []


def test_a_large_function_and_a_large_file_are_caught():
    text = "def long():\n" + "    pass\n" * 600
    found = sizes("a.py", text)
    assert len(too_large(found, {})) == 2
    assert too_large(found, {"a.py": 601, "a.py::long": 601}) == []
    assert too_large(found, {"a.py": 600, "a.py::long": 601}) != []


def test_a_stale_ratchet_entry_is_caught():
    found = sizes("a.py", "def short():\n    pass\n")
    assert unneeded(found, {"a.py::short": 80, "gone.py": 900}) == ["a.py::short", "gone.py"]


def test_a_note_for_later_is_caught():
    assert LEFT_FOR_LATER.search("# TO" + "DO: write this")
    assert not LEFT_FOR_LATER.search("autodoc")
