"""Layers point one way only, and the deciding packages cannot reach the outside world.

`model <- core <- policy <- store, backends <- sim, service, pages <- cli`: the left never imports
the right; `predict` and `solve` stand on `model` alone. The pure packages get time as an argument
and randomness not at all, so that the same log gives the same state on every machine; integers only
(inside `predict` floats too), so that no order of summing matters.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "fairlead"

LAYERS = {
    "model": set(),
    "core": {"model"},
    "policy": {"model", "core"},
    "predict": {"model"},
    "solve": {"model"},
    "store": {"model"},
    "backends": {"model"},
    "sim": {"model", "core", "policy", "predict", "solve", "store", "backends"},
    "service": {"model", "core", "policy", "predict", "solve", "store", "backends"},
    "pages": {"model"},
    "cli": {
        *("model", "core", "policy", "predict", "solve", "store", "backends"),
        *("sim", "service", "pages"),
    },
}
LIBRARIES = {  # what a package may use beside the standard library
    "model": {"msgspec"},
    "core": {"msgspec", "numpy"},
    "policy": {"msgspec", "numpy"},
    "predict": {"msgspec", "numpy", "sklearn"},
    "solve": {"msgspec", "numpy", "lap", "highspy"},
    "store": {"msgspec"},
    "backends": {"msgspec", "pynvml", "psutil"},
}
PURE = ("model", "core", "policy", "predict", "backends/local/agent.py")
BANNED_MODULES = {
    *("time", "datetime", "random", "secrets", "uuid", "os", "io", "pathlib", "tempfile", "shutil"),
    *("socket", "ssl", "select", "selectors", "asyncio", "threading", "multiprocessing", "signal"),
    *("concurrent", "subprocess", "logging", "platform", "importlib", "locale", "sqlite3"),
}
BANNED_CALLS = {"open", "print", "input", "exec", "eval", "__import__", "hash", "breakpoint"}
BANNED_ATTRIBUTES = {"random"}  # numpy.random
INTEGERS_ONLY = ("model", "core", "policy")


def parts_of(path: Path) -> tuple[str, str]:
    """Return the package of a file ("" for the top level) and its path below src/fairlead."""
    below = path.relative_to(SOURCE).as_posix()
    return (below.split("/")[0] if "/" in below else ""), below


def imports(tree: ast.AST) -> list[tuple[int, str]]:
    """Return line and dotted name of everything imported, those inside functions too."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative imports hide the layer"
            if node.module == "fairlead":  # from fairlead import store
                found += [(node.lineno, f"fairlead.{alias.name}") for alias in node.names]
            else:
                found.append((node.lineno, node.module or ""))
    return found


def layer_violations(package: str, tree: ast.AST) -> list[str]:
    """Return what in this tree points upwards or to a library that the package may not use."""
    found = []
    for line, name in imports(tree):
        root, _, rest = name.partition(".")
        layer = rest.split(".")[0]
        if root == "fairlead" and layer in LAYERS:
            if layer != package and layer not in LAYERS[package]:
                found.append(f"line {line}: {package} must not import {name}")
        elif root != "fairlead" and root not in sys.stdlib_module_names:
            allowed = LIBRARIES.get(package)
            if allowed is not None and root not in allowed:
                found.append(f"line {line}: {package} must not need {root}")
    return found


def impurities(tree: ast.AST) -> list[str]:
    """Return what in this tree reaches the clock, chance, the system, or the terminal."""
    found = [
        f"line {line}: a pure module must not import {name}"
        for line, name in imports(tree)
        if name.split(".")[0] in BANNED_MODULES
    ]
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in BANNED_CALLS:
                found.append(f"line {node.lineno}: a pure module must not call {name}()")
            case ast.Attribute(attr=name) if name in BANNED_ATTRIBUTES:
                found.append(f"line {node.lineno}: a pure module must not use .{name}")
            case ast.Global():
                found.append(f"line {node.lineno}: a pure module has no global state")
    return found


def floats(tree: ast.AST) -> list[str]:
    """Return the lines with a float literal, a true division, or a conversion to float."""
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=float()):
                found.append(f"line {node.lineno}: float {node.value!r}")
            case ast.BinOp(op=ast.Div()) | ast.AugAssign(op=ast.Div()):
                found.append(f"line {node.lineno}: true division; use //")
            case ast.Call(func=ast.Name(id="float")):
                found.append(f"line {node.lineno}: float()")
    return found


def files(*below: str) -> list[Path]:
    """Return the source files under the given folders or files."""
    found: list[Path] = []
    for name in below:
        place = SOURCE / name
        found += [place] if name.endswith(".py") else sorted(place.rglob("*.py"))
    return found


def violations(paths: list[Path], check) -> list[str]:
    return [
        f"src/fairlead/{parts_of(path)[1]} {each}"
        for path in paths
        for each in check(path, ast.parse(path.read_text()))
    ]


def test_every_package_has_a_layer():
    packages = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert packages == set(LAYERS)


def test_layers_point_downward_only():
    paths = [path for path in files(".") if parts_of(path)[0]]
    assert paths
    assert violations(paths, lambda path, tree: layer_violations(parts_of(path)[0], tree)) == []


def test_the_deciding_packages_cannot_reach_the_outside_world():
    assert violations(files(*PURE), lambda _, tree: impurities(tree)) == []


def test_resources_scores_and_times_are_integers():
    assert violations(files(*INTEGERS_ONLY), lambda _, tree: floats(tree)) == []


@pytest.mark.parametrize(
    ("package", "planted"),
    [
        ("solve", "from fairlead.core.engine import Core"),
        ("model", "from fairlead.core.engine import Core"),
        ("core", "import fairlead.policy.registry"),
        ("policy", "from fairlead import store"),
        ("store", "def late():\n    from fairlead.core.engine import Core"),
        ("backends", "from fairlead.service import places"),
        ("core", "import starlette.applications"),
        ("store", "import numpy"),
    ],
)
def test_an_import_that_points_upward_is_caught(package, planted):
    assert len(layer_violations(package, ast.parse(planted))) == 1


@pytest.mark.parametrize(
    "planted",
    [
        "import time",
        "from datetime import datetime",
        "import os.path",
        "def late():\n    from asyncio import sleep",
        "open('/etc/passwd')",
        "print('here')",
        "import numpy as np\nnp.random.default_rng(1)",
        "hash('a')",
        "def count():\n    global total\n    total = 1",
    ],
)
def test_a_module_that_reaches_outside_is_caught(planted):
    assert len(impurities(ast.parse(planted))) == 1


@pytest.mark.parametrize("planted", ["share = 0.5", "half = total / 2", "total /= 2", "float(1)"])
def test_a_float_is_caught(planted):
    assert len(floats(ast.parse(planted))) == 1


def test_the_checkers_pass_what_is_allowed():
    tree = ast.parse("import msgspec\nfrom fairlead.model.base import Ms\nhalf = 4 // 2\n")
    assert layer_violations("core", tree) == impurities(tree) == floats(tree) == []


@pytest.mark.parametrize("command", [["--version"], ["submit", "--help"], ["ps", "--help"]])
def test_daily_commands_load_neither_numpy_nor_the_server_nor_the_core(command):
    code = (
        "import sys\n"
        "from fairlead.cli.main import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "heavy = {'numpy', 'starlette', 'uvicorn', 'fairlead.core', 'matplotlib'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
