"""A problem of assignment: what each task would cost on each resource, in exact integers.

Decimals are scaled once, when a problem is made; every later sum and comparison is exact. A pair
that is not allowed is FORBIDDEN, a mark that no cost can reach and no solver is given as a cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from fairlead.model.base import Misuse

Matrix: TypeAlias = npt.NDArray[np.int64]
Number: TypeAlias = int | Decimal | Fraction | float | str

FORBIDDEN: Final = np.int64(2**62)  # the mark of a pair that is not allowed
COST_MAX: Final = 10**15  # of a scaled number: sums of thousands of them stay exact in 64 bits
DIGITS_MAX: Final = 9  # behind the decimal point
SUMS_MAX: Final = 2**61

READINGS: Final = {
    "once": "each task exactly once, each resource at most once, at the least total cost",
    "capacity": "each task exactly once, no resource beyond its capacity, at the least total cost",
    "as-many-as-possible": "as many tasks as possible, and of those plans the cheapest",
    "shared-total": "each task exactly once, resources shared by any number, least total cost",
    "makespan": "tasks one after another on each resource, all done as early as possible",
    "sum-completion": "tasks one after another on each resource, least sum of completion times",
}


@dataclass(frozen=True)
class Problem:
    """Tasks, resources, and what each pair costs.

    `cost[i, j]` is FORBIDDEN or an integer, in units of 1/scale; `penalty` (of a task left out,
    None if none may be) likewise. Without `size` each task takes one of the `capacity` of its
    resource; with it `size[i, j]`, in units of 1/size_scale like the capacity.
    """

    cost: Matrix
    tasks: tuple[str, ...]
    resources: tuple[str, ...]
    capacity: tuple[int, ...] | None = None
    size: Matrix | None = None
    penalty: int | None = None
    scale: int = 1
    size_scale: int = 1

    @property
    def shape(self) -> tuple[int, int]:
        """Return the numbers of tasks and of resources."""
        tasks, resources = self.cost.shape
        return tasks, resources

    @property
    def complete(self) -> bool:
        """Whether every pair is allowed."""
        return bool(self.cost.max() < FORBIDDEN)


def build(
    cost: Sequence[Sequence[Number | None]] | Matrix,
    *,
    capacity: Sequence[Number] | Number | None = None,
    size: Sequence[Sequence[Number | None]] | Sequence[Number] | None = None,
    penalty: Number | None = None,
    tasks: Sequence[str] | None = None,
    resources: Sequence[str] | None = None,
) -> Problem:
    """Return the problem of a matrix of numbers, None where a pair is forbidden.

    `size` is a matrix, or a list with one size per task. Raises Misuse that names row and column.
    """
    grid, scale = _grid(cost, "costs", tasks, resources)
    rows, columns = grid.shape
    names = _names(tasks, rows, "task"), _names(resources, columns, "resource")
    left_out: int | None = None
    if penalty is not None:
        exact = _number(penalty, "penalty")
        finer = max(scale, _scale_of(exact, "penalty"))
        grid, scale = _finer(grid, finer // scale, "costs"), finer
        left_out = _fits(int(exact * scale), "penalty")
    sizes, size_scale = _sizes(size, grid.shape, names)
    room = _capacity(capacity, columns)
    if room is not None:
        if sizes is None:
            room = [Fraction(each.numerator // each.denominator) for each in room]
        else:
            finer = max([size_scale, *(_scale_of(each, "capacity") for each in room)])
            sizes, size_scale = _finer(sizes, finer // size_scale, "sizes"), finer
    elif sizes is not None:
        hint = "give how much each resource holds"
        raise Misuse("there are sizes but no capacities", field="capacities", hint=hint)
    if sizes is not None:
        grid = np.where(sizes == FORBIDDEN, FORBIDDEN, grid)
        sizes = np.where(grid == FORBIDDEN, 0, sizes)
    held = None if room is None else tuple(_fits(int(x * size_scale), "capacities") for x in room)
    _exact_sums(grid, left_out or 0)
    return Problem(
        *(grid, *names, held, sizes, left_out),
        scale=scale,
        size_scale=size_scale,
    )


def _grid(
    cells: Any, what: str, tasks: Sequence[str] | None, resources: Sequence[str] | None
) -> tuple[Matrix, int]:
    """Return the cells as integers, and by what they were multiplied."""
    if isinstance(cells, np.ndarray) and cells.dtype.kind in "iu" and cells.ndim == 2:
        grid = np.ascontiguousarray(cells, dtype=np.int64)
        _some(grid.shape, what)
        if np.any((grid < -COST_MAX) | ((grid > COST_MAX) & (grid != FORBIDDEN))):
            raise Misuse(f"a number of {what} is larger than {COST_MAX:.0e}", field=what)
        return grid, 1
    rows = [list(row) for row in cells]
    _some((len(rows), len(rows[0]) if rows else 0), what)
    for index, row in enumerate(rows):
        if len(row) != len(rows[0]):
            where = _label(tasks, index, "row")
            message = f"{where} has {len(row)} columns, the first row has {len(rows[0])}"
            raise Misuse(message, field=what, hint="give every row the same number of cells")
    grid = np.empty((len(rows), len(rows[0])), dtype=np.int64)
    exact: dict[tuple[int, int], Fraction] = {}
    for index, row in enumerate(rows):
        if all(type(each) is int and -COST_MAX <= each <= COST_MAX for each in row):
            grid[index] = row
            continue
        for column, each in enumerate(row):
            if each is None:
                grid[index, column] = FORBIDDEN
                continue
            at = f"{_label(tasks, index, 'row')}, {_label(resources, column, 'column')}"
            exact[index, column] = _number(each, what, at)
    scale = max((_scale_of(each, what) for each in exact.values()), default=1)
    for index, column in exact:
        grid[index, column] = 0  # until all is scaled
    grid = _finer(grid, scale, what)
    for (index, column), number in exact.items():
        grid[index, column] = _fits(int(number * scale), what, (index, column))
    return grid, scale


def _finer(grid: Matrix, factor: int, what: str) -> Matrix:
    """Return a matrix in smaller units."""
    if factor == 1:
        return grid
    for row, column in np.argwhere((grid != FORBIDDEN) & (np.abs(grid) > COST_MAX // factor)):
        _fits(COST_MAX + 1, what, (int(row), int(column)))
    return np.where(grid == FORBIDDEN, FORBIDDEN, np.where(grid == FORBIDDEN, 0, grid) * factor)


def _some(shape: tuple[int, ...], what: str) -> None:
    if not shape[0] or not shape[1]:
        raise Misuse(f"there are no {what}", field=what, hint="a matrix has rows and columns")


def _label(names: Sequence[str] | None, index: int, what: str) -> str:
    named = names is not None and index < len(names)
    return f"{what} {index + 1}" + (f" ({names[index]})" if named and names else "")


def _number(value: Any, what: str, at: str = "") -> Fraction:
    """Return a number exactly; raises Misuse for what is none, NaN and infinity."""
    where = f"{at}: " if at else ""
    try:
        if isinstance(value, bool) or value is None:
            raise ValueError
        if isinstance(value, float):
            value = Decimal(repr(value))  # 0.1 as it was written, not the nearest binary number
        elif isinstance(value, str):
            value = Decimal(value.strip() if "_" not in value else "-")
        if not isinstance(value, Decimal):
            return Fraction(value)
    except (ValueError, TypeError, InvalidOperation):
        hint = 'numbers such as 12 or 0.5; an empty cell, "-" or null is a forbidden pair'
        raise Misuse(f"{where}{value!r} is not a number", field=what, hint=hint) from None
    if not value.is_finite():
        hint = "leave the cell empty (or null) when the pair is forbidden"
        raise Misuse(f"{where}{value} is not a number to add up", field=what, hint=hint)
    if abs(value.adjusted()) > 40 and value:
        hint = "use other units, or fewer decimals"
        raise Misuse(f"{where}{value} is out of range; {_LARGEST}", field=what, hint=hint)
    return Fraction(value)


_LARGEST = f"the largest number is {COST_MAX:,}, divided by the scale when there are decimals"


def _scale_of(number: Fraction, what: str) -> int:
    """Return the power of ten that makes a number an integer."""
    scale = 1
    while (number * scale).denominator != 1:
        scale *= 10
        if scale > 10**DIGITS_MAX:
            hint = f"use at most {DIGITS_MAX} digits behind the point, or other units"
            raise Misuse(f"{float(number)!r} has too many decimals", field=what, hint=hint)
    return scale


def _fits(number: int, what: str, at: tuple[int, int] | None = None) -> int:
    if abs(number) > COST_MAX:
        where = f"row {at[0] + 1}, column {at[1] + 1}: " if at else ""
        hint = "use other units, or fewer decimals"
        raise Misuse(f"{where}a number is too large; {_LARGEST}", field=what, hint=hint)
    return number


def _exact_sums(grid: Matrix, penalty: int) -> None:
    allowed = grid[grid != FORBIDDEN]
    if not allowed.size:
        return
    low, high = min(int(allowed.min()), penalty), max(int(allowed.max()), penalty)
    if (high - low + 1) * 2 * sum(grid.shape) > SUMS_MAX:
        message = "the costs are too large for exact sums over so many tasks"
        raise Misuse(message, field="costs", hint="use other units, or fewer decimals")


def _names(given: Sequence[str] | None, count: int, what: str) -> tuple[str, ...]:
    if given is None:
        return tuple(f"{what} {index + 1}" for index in range(count))
    if len(given) != count:
        message = f"{len(given)} names for {count} {what}s"
        raise Misuse(message, field=f"{what}s", hint=f"name every {what}, or none")
    seen: set[str] = set()
    for name in given:
        if name in seen:
            raise Misuse(f"two {what}s are named {name}", field=f"{what}s")
        seen.add(name)
    return tuple(given)


def _sizes(
    size: Any, shape: tuple[int, int], names: tuple[tuple[str, ...], tuple[str, ...]]
) -> tuple[Matrix | None, int]:
    if size is None:
        return None, 1
    rows = list(size)
    if rows and not isinstance(rows[0], list | tuple | np.ndarray):
        rows = [[each] * shape[1] for each in rows]
    grid, scale = _grid(rows, "sizes", *names)
    if grid.shape != shape:
        message = f"sizes are {grid.shape[0]} × {grid.shape[1]}, costs {shape[0]} × {shape[1]}"
        raise Misuse(message, field="sizes", hint="one size per task, or one per pair")
    if np.any(grid < 0):
        row, column = (int(each[0]) for each in np.nonzero(grid < 0))
        where = f"{names[0][row]} on {names[1][column]}"
        raise Misuse(f"the size of {where} is negative", field="sizes", hint="0 or more")
    return grid, scale


def _capacity(capacity: Any, columns: int) -> list[Fraction] | None:
    if capacity is None:
        return None
    given = [capacity] * columns if not isinstance(capacity, list | tuple) else list(capacity)
    if len(given) != columns:
        message = f"{len(given)} capacities for {columns} resources"
        raise Misuse(message, field="capacities", hint="one number, or one per resource")
    found = [_number(each, "capacities", f"capacity {n + 1}") for n, each in enumerate(given)]
    for index, each in enumerate(found):
        if each < 0:
            message = f"capacity {index + 1} is negative"
            raise Misuse(message, field="capacities", hint="0 or more")
    return found
