"""How noisy this machine is now: a fixed piece of pure Python, timed again and again."""

from __future__ import annotations

import statistics
import time

REPEATS = 15


def kernel() -> int:
    """Return the same number always; about 20 ms of dictionary, list and integer work."""
    table: dict[int, int] = {}
    value = 1
    for step in range(60_000):
        value = (value * 1_103_515_245 + 12_345) % 2**31
        table[value % 997] = table.get(value % 997, 0) + step
    return sum(sorted(table.values())[:100])


def measure() -> dict[str, object]:
    """Return a line: the kernel's time in ms, least, median and most, by clock and by CPU."""
    wall, cpu = [], []
    for _ in range(REPEATS):
        before = time.perf_counter(), time.process_time()
        kernel()
        after = time.perf_counter(), time.process_time()
        wall.append((after[0] - before[0]) * 1000)
        cpu.append((after[1] - before[1]) * 1000)
    return {
        "bench": "noise",
        "wall_ms": [round(f(wall), 2) for f in (min, statistics.median, max)],
        "cpu_ms": [round(f(cpu), 2) for f in (min, statistics.median, max)],
        "spread": round(max(wall) / min(wall), 2),
    }
