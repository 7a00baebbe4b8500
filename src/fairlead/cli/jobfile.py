"""Job files (YAML, TOML, JSON) and the `#FAIRLEAD` lines of scripts, with line numbers."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from fairlead.cli.errors import Failure, misuse

FILE_BYTES_MAX = 64 * 2**20
SCRIPT_HEADER_LINES_MAX = 200


class JobFile(NamedTuple):
    """The requests in a file, and how to find the line of a key in it."""

    name: str
    text: str
    jobs: list[dict[str, Any]]
    tree: Any  # what ruamel read, with line numbers; None for JSON and TOML

    def located(self, failure: Failure) -> Failure:
        """Return the failure with "name:line: " before it."""
        where = self.name
        if line := self._line(failure.field):
            where = f"{where}:{line}"
        field = re.sub(r"^jobs\[\d+\]\.?", "", failure.field)
        key = f"{field}: " if field and field not in failure.message else ""
        return Failure(
            f"{where}: {key}{failure.message}",
            hint=failure.hint,
            code=failure.code,
            field=failure.field,
            exit_code=failure.exit_code,
        )

    def _line(self, field: str) -> int:
        position = re.match(r"jobs\[(\d+)\]\.?(.*)", field)
        index, path = (int(position[1]), position[2]) if position else (0, field)
        if self.name.endswith(".toml"):
            from fairlead.service.config import toml_line

            return toml_line(self.text, path) if len(self.jobs) == 1 else 0
        tree = _yaml(self.text, self.name) if self.tree is None else self.tree
        documents = _documents(tree)
        if index >= len(documents):
            return 0
        return _yaml_line(documents[index], path)


def _yaml_line(node: Any, path: str) -> int:
    """Return the line of the deepest key of the path that is there."""
    line = node.lc.line + 1 if hasattr(node, "lc") else 0
    for part in path.replace("[", ".[").split("."):
        if part.startswith("[") and isinstance(node, list) and int(part[1:-1]) < len(node):
            node = node[int(part[1:-1])]
            line = node.lc.line + 1 if hasattr(node, "lc") else line
            continue
        if not isinstance(node, Mapping) or part not in node:
            break
        line = node.lc.key(part)[0] + 1  # type: ignore[attr-defined]
        node = node[part]
    return line


def read_job_file(path: str) -> JobFile:
    """Return the jobs of a file, "-" for stdin: one job, several documents, or a list `jobs`."""
    found = _parse(path)
    jobs = _documents(found.jobs)
    if not jobs:
        raise misuse(
            f"{found.name}: there is no job in this file", hint="write at least: run: COMMAND"
        )
    return found._replace(jobs=jobs)


def read_cluster_file(path: str) -> JobFile:
    """Return the one document of a cluster file, "-" for stdin, as the only one of its `jobs`."""
    found = _parse(path)
    if len(found.jobs) != 1:
        raise misuse(
            f"{found.name}: {len(found.jobs) or 'no'} documents, a cluster file is one",
            field="file",
            hint="write for example queues: {research: {weight: 2}}",
        )
    return found


def _parse(path: str) -> JobFile:
    """Return the documents of a file, "-" for stdin."""
    name = "stdin" if path == "-" else path
    text = _read(path)
    if name.endswith(".toml"):
        from fairlead.service.config import parse_toml

        return JobFile(name, text, [parse_toml(text, name)], None)
    if name.endswith(".json"):
        return JobFile(name, text, [_json(text, name)], None)
    tree = _yaml(text, name)
    return JobFile(name, text, [_plain(each) for each in tree], tree)


def _json(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise misuse(f"{name}:{error.lineno}: not JSON: {error.msg}", field="file") from None


def _read(path: str) -> str:
    try:
        if path == "-":
            data = sys.stdin.buffer.read(FILE_BYTES_MAX + 1)
        else:
            with open(path, "rb") as file:
                data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise misuse(f"cannot read {path}: {error.strerror}", field="file") from None
    if len(data) > FILE_BYTES_MAX:
        raise misuse(f"{path} has more than {FILE_BYTES_MAX // 2**20} MiB", field="file")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise misuse(f"{path}:{line}: this is not UTF-8 text", field="file") from None


def _documents(tree: list[Any]) -> list[Any]:
    """Return the jobs: each document is one, or a list of them, or a table with `jobs`."""
    found: list[Any] = []
    for document in tree:
        if isinstance(document, Mapping) and isinstance(document.get("jobs"), list):
            found += document["jobs"]
        elif isinstance(document, list):
            found += document
        else:
            found.append(document)
    return found


def _yaml(text: str, name: str) -> list[Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        return [each for each in YAML(typ="rt").load_all(text) if each is not None]
    except MarkedYAMLError as error:
        problem = str(error.problem or error.context).splitlines()[0]
        # What never ends is best looked for where it begins.
        endless = "end of stream" in problem and error.context_mark
        mark = error.context_mark if endless else error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}" if mark else name
        raise misuse(
            f"{where}: not YAML: {problem}", field="file", hint="write key: value; indent by spaces"
        ) from None
    except (YAMLError, ValueError, RecursionError) as error:
        raise misuse(f"{name}: not YAML: {error}".splitlines()[0], field="file") from None


def _plain(node: Any) -> Any:
    """Return ruamel's node as plain values that JSON knows; dates become text."""
    if node is None or isinstance(node, bool):
        return node
    if isinstance(node, Mapping):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return [_plain(each) for each in node]
    for kind in (int, float):
        if isinstance(node, kind):
            return kind(node)
    return str(node)


def is_script(word: str) -> bool:
    """Whether a command's first word names a text file to be read for `#FAIRLEAD` lines."""
    if ("/" not in word and "." not in word) or not os.path.isfile(word):
        return False
    try:
        with open(word, "rb") as file:
            return file.read(2) == b"#!" or word.endswith(".sh")
    except OSError:
        return False


def read_script(path: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return how to run a script, and the options of its `#FAIRLEAD` lines with their numbers.

    They stand before the first line that is no comment, as with `#SBATCH`.
    """
    text = _read(path)
    lines = text.splitlines()
    first = lines[0] if lines else ""
    runner = first[2:].split(None, 1) if first.startswith("#!") else []
    options: list[tuple[int, list[str]]] = []
    for number, line in enumerate(lines[:SCRIPT_HEADER_LINES_MAX], 1):
        if line.strip() and not line.startswith("#"):
            break
        if not line.startswith("#FAIRLEAD"):
            continue
        try:
            words = shlex.split(line.removeprefix("#FAIRLEAD"), comments=True)
        except ValueError as error:
            raise misuse(f"{path}:{number}: {error}", field="script") from None
        options.append((number, words))
    return [*(runner or ["/bin/sh"]), os.path.abspath(path)], options
