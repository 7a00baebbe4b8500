"""CPU of the commands that people type all day, interpreter included: user and system time."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys

REPEATS = 15
CASES = (  # words of the command, budget in ms or None
    (("-c", "pass"), None),
    (("-m", "fairlead", "--version"), 100),
    (("-m", "fairlead", "submit", "--help"), None),
    (("-m", "fairlead", "ps", "--help"), None),
)


def cpu_ms(words: tuple[str, ...]) -> float:
    """Return the CPU time of one run of Python with these words."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL, env=os.environ)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def main() -> None:
    for words, budget in CASES:
        cpu_ms(words)  # the first run may have to compile
        times = sorted(cpu_ms(words) for _ in range(REPEATS))
        line = {
            "name": "cpu of python " + " ".join(words),
            "unit": "ms",
            "value": round(statistics.median(times), 1),
            "min": round(times[0], 1),
            "max": round(times[-1], 1),
            "better": "less",
        }
        print(json.dumps(line | ({"target": budget} if budget else {})), flush=True)


if __name__ == "__main__":
    main()
