"""One test per case of every file in --cases DIR."""

from __future__ import annotations

from pathlib import Path

from harness import CASES, Case, Damaged, read_file


def pytest_generate_tests(metafunc):
    if "reference_case" not in metafunc.fixturenames:
        return
    folder = Path(metafunc.config.getoption("cases", None) or CASES)
    found: list[tuple[str, Case | Damaged]] = []
    for path in sorted(folder.glob("*.json")):
        try:
            found += [(case.id, case) for case in read_file(path)]
        except Damaged as damage:
            found.append((f"{path.name}-damaged", damage))
    if not found:
        found.append(("no-cases", Damaged(f"there are no case files in {folder}")))
    metafunc.parametrize(
        "reference_case", [each for _, each in found], ids=[name for name, _ in found]
    )
