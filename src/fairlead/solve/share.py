"""The least number of GPUs for tasks that share them: exact, by a mixed program (8.4).

policy/place/share.py has the lower bound and first-fit decreasing, which this starts from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fairlead.model.base import Misuse
from fairlead.solve.lp import Program, Status, mixed

EXACT_TASKS = 30  # beyond, the program may take long: give it a time limit


@dataclass(frozen=True)
class Packing:
    """Tasks per GPU. `feasible`: no proof that it is the least; `bound` is a proven least."""

    status: Status
    gpus: list[list[int]]
    bound: int


def fewest_gpus(
    sizes: Sequence[tuple[int, int]],
    gpu: tuple[int, int],
    start: Sequence[Sequence[int]],
    bound: int,
    time_limit_s: float | None = None,
) -> Packing:
    """Return a packing of tasks (thousandths, MiB) on as few GPUs of a size as can be.

    `start` is any packing (indices per GPU), `bound` a number below which none exists. Exclusive
    tasks have the size of a GPU.
    """
    if any(size[0] > gpu[0] or size[1] > gpu[1] for size in sizes):
        raise Misuse("a task is larger than a GPU", field="tasks")
    best = [list(each) for each in start]
    while len(best) > bound:
        fewer = _packed(sizes, gpu, len(best) - 1, time_limit_s)
        if isinstance(fewer, str):
            proven = fewer == "infeasible"
            return Packing(
                "optimal" if proven else "feasible", best, len(best) if proven else bound
            )
        best = fewer
    return Packing("optimal", best, len(best))


def _packed(
    sizes: Sequence[tuple[int, int]], gpu: tuple[int, int], count: int, time_limit_s: float | None
) -> list[list[int]] | Status:
    """Return a packing on at most so many GPUs, or why there is none: infeasible or unknown.

    The task with index i may only be on GPUs 0..i: equal GPUs have no names.
    """
    program = Program()
    x = [
        {number: program.binary() for number in range(min(count, task + 1))}
        for task in range(len(sizes))
    ]
    for columns in x:
        program.row(dict.fromkeys(columns.values(), 1.0), least=1.0, most=1.0)
    for number in range(count):
        for row in (0, 1):
            terms = {
                columns[number]: float(sizes[task][row])
                for task, columns in enumerate(x)
                if number in columns and sizes[task][row]
            }
            if terms:
                program.row(terms, most=float(gpu[row]))
    answer = mixed(program, time_limit_s)
    if answer.value is None:
        return answer.status
    found: list[list[int]] = [[] for _ in range(count)]
    for task, columns in enumerate(x):
        for number, column in columns.items():
            if answer.x[column] > 0.5:
                found[number].append(task)
    return [each for each in found if each]
