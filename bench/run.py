"""`make bench`: run every benchmark, one JSON object per line, with the machine's noise around it.

    python bench/run.py [--only place,imports]

A benchmark is a script beside this one that prints JSON lines. Where a line has a `value` and a
`target`, a `ratio` is added: 2.0 is twice as good as asked, whichever direction is good
(`"better": "less"` for times and sizes). The noise line before and after each benchmark says how
far to trust it: a `spread` of 3 means that equal work took three times as long at its slowest.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

import noise

HERE = Path(__file__).resolve().parent
ORDER = ("place", "replay", "recover", "sim", "time", "eta", "service", "imports", "size")
TIMEOUT_S = 900


def known() -> list[str]:
    """Return the benchmarks that are here: those of ORDER first, then others by name."""
    here = {path.stem for path in HERE.glob("*.py")} - {"run", "noise"}
    return [name for name in ORDER if name in here] + sorted(here - set(ORDER))


def with_ratio(line: dict[str, object]) -> dict[str, object]:
    """Return the line, with how many times better than its target the value is."""
    value, target = line.get("value"), line.get("target")
    less = line.get("better") == "less"
    if isinstance(target, str):  # such as "<= 15 ms"
        found = re.match(r"\s*(<|>|≤|≥)=?\s*([\d.,]+)", target)
        if found is None:
            return line
        less, target = found[1] in "<≤", float(found[2].replace(",", ""))
    if not isinstance(value, int | float) or not isinstance(target, int | float):
        return line
    good, bad = (target, value) if less else (value, target)
    return line | {"ratio": round(good / bad, 2) if bad else None}


def say(line: dict[str, object]) -> None:
    print(json.dumps(line), flush=True)


def run(name: str) -> bool:
    """Run one benchmark; return whether it ended well. What is not JSON goes to stderr."""
    command = [sys.executable, str(HERE / f"{name}.py")]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        say({"bench": name, "error": f"not done after {TIMEOUT_S} s"})
        return False
    for text in done.stdout.splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            line = None
        if isinstance(line, dict):
            say({"bench": name} | with_ratio(line))
        elif text.strip():
            print(text, file=sys.stderr)
    if done.returncode:
        say({"bench": name, "error": f"exit code {done.returncode}"})
    return done.returncode == 0


def main() -> int:
    """Run what was asked for; the exit code is 1 when a benchmark failed to run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="comma list: " + ",".join(known()))
    args = parser.parse_args()
    names = [name for name in args.only.split(",") if name] or known()
    unknown = [name for name in names if name not in known()]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}; there are {', '.join(known())}")
    good = True
    say(noise.measure())
    for name in names:
        good = run(name) and good
        say(noise.measure())
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
