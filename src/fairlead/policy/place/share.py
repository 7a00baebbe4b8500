"""How few GPUs hold tasks that take a share of one: thousandths of its time, and memory.

algorithms.md 8.4. Both amounts are hard limits; an exclusive task takes a whole GPU. The least
number is two-dimensional vector packing: a lower bound and first-fit decreasing are here, the
exact answer for some tens of tasks is in solve/share.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fairlead.model.base import Misuse
from fairlead.model.resources import WHOLE_GPU_MILLI


class Part(NamedTuple):
    """What one task takes of one GPU: thousandths of its time, MiB of its memory."""

    id: str
    milli: int
    memory: int
    exclusive: bool = False


def check(parts: Sequence[Part], memory: int) -> None:
    """Raise Misuse, naming the task, where one takes more than a GPU with so many MiB has."""
    for part in parts:
        if not 1 <= part.milli <= WHOLE_GPU_MILLI:
            raise Misuse(
                f"task {part.id} takes {part.milli} thousandths of a GPU, expected 1 to 1000",
                field="milli",
            )
        if not 0 <= part.memory <= memory:
            raise Misuse(
                f"task {part.id} takes {part.memory} MiB of a GPU with {memory}", field="mem"
            )


def lower_bound(parts: Sequence[Part], memory: int) -> int:
    """Return a number of GPUs that is never too many: sums, exclusive tasks as whole GPUs.

    Tasks of which no two fit together need a GPU each, which can say more than the sums do.
    """
    check(parts, memory)
    alone = sum(part.exclusive for part in parts)
    shared = [part for part in parts if not part.exclusive]
    milli = sum(part.milli for part in shared)
    used = sum(part.memory for part in shared)
    by_sum = max(-(-milli // WHOLE_GPU_MILLI), -(-used // memory) if memory else 0)
    large = sum(2 * part.milli > WHOLE_GPU_MILLI for part in shared)
    hungry = sum(2 * part.memory > memory for part in shared)
    return alone + max(by_sum, large, hungry, int(bool(shared)))


def first_fit_decreasing(parts: Sequence[Part], memory: int) -> list[list[str]]:
    """Return the tasks of each GPU: the largest first, each on the first GPU that has room.

    Large is the greater of the two ratios; ties by id. O(n log n + n x GPUs).
    """
    check(parts, memory)
    # milli / 1000 and memory / M over the common denominator 1000 M: no fractions.
    ordered = sorted(
        parts,
        key=lambda p: (-max(p.milli * max(memory, 1), p.memory * WHOLE_GPU_MILLI), p.id),
    )
    gpus: list[list[str]] = []
    free: list[tuple[int, int]] = []
    for part in ordered:
        milli, used = (WHOLE_GPU_MILLI, memory) if part.exclusive else (part.milli, part.memory)
        for index, (time, space) in enumerate(free):
            if milli <= time and used <= space:
                gpus[index].append(part.id)
                free[index] = time - milli, space - used
                break
        else:
            gpus.append([part.id])
            free.append((WHOLE_GPU_MILLI - milli, memory - used))
    return gpus
