"""Waiting jobs x device models: as many as possible, then with the least time in all.

First the greatest sum of the weights of jobs that can start now, then, of those plans, one with the
least sum of expected run times: two integer programs over groups of equal jobs (lexicographic
optimisation: no factor trades a job for time). Within a model the nodes are taken together, with
rows that every packing keeps (dual feasible functions, Lueker 1983); the plan is then packed node
by node, and jobs for which there is no node are left out. How far it may be from the best is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from fairlead.model.advice import WHOLE, Free, Question, Share
from fairlead.model.base import Ms
from fairlead.model.events import Advised
from fairlead.solve.advise.groups import Ask, Group, Packer, fit_in, groups_of
from fairlead.solve.extra import Missing
from fairlead.solve.lp import Program, SolverFailed, mixed
from fairlead.solve.mip import Clock

NAME = "assignment"
LIMIT_S = 2.0  # for both programs
GROUPS_MAX = 1000  # of so many the programs take about a second; later ones fill what is left
SIZES_MAX = 8  # of a dimension for which there are rows
FINE = 1_000_000  # the longest time is so many units: programs see whole numbers


class Place(NamedTuple):
    """So many jobs of a group may be on a model."""

    group: int
    model: int
    most: int
    time: Ms


class Found(NamedTuple):
    """How many jobs per place, and what no plan can surpass; None: not known."""

    counts: list[int]
    weight: float | None
    time: float | None


def advise(question: Question) -> Advised:
    """Return the plan for the jobs that wait; those that run stay where they are."""
    groups = groups_of(question)
    rooms = [[free for free in question.free if free.model == m] for m in question.models]
    places = places_of(groups, rooms)
    if not places:
        return Advised(adviser=NAME, plan=(), because="no waiting job fits now", gap_ppm=0)
    how, found = "", None
    weighed = [place for place in places if place.group < GROUPS_MAX]
    try:
        found = solve(groups, weighed, rooms, LIMIT_S) if weighed else None
    except Missing as missing:
        how = f"; greedily: {missing.message}"
    except SolverFailed as failed:
        how = f"; greedily: {failed}"
    put = packed(groups, places, rooms, None if found is None else found.counts)
    placed = sum(put)
    total = sum(n * place.time for n, place in zip(put, places, strict=True))
    waiting = sum(len(group.jobs) for group in groups)
    gap = None if found is None else gap_ppm(groups, places, put, found)
    return Advised(
        adviser=NAME,
        plan=_shares(question, groups, places, put),
        because=f"{placed} of {waiting} waiting jobs, {total // 1000} s in all{how}",
        gap_ppm=None if len(groups) > GROUPS_MAX else gap,
    )


def places_of(groups: Sequence[Group], rooms: Sequence[Sequence[Free]]) -> list[Place]:
    """Return which group may be where, with how many jobs at most."""
    known: dict[tuple[Ask, int], int] = {}
    found = []
    for index, group in enumerate(groups):
        for model, time in enumerate(group.times):
            if time is None:
                continue
            key = (group.ask, model)
            if key not in known:
                known[key] = fit_in(rooms[model], group.ask)
            most = min(known[key], len(group.jobs))
            if most:
                found.append(Place(index, model, most, time))
    return found


def solve(
    groups: Sequence[Group],
    places: Sequence[Place],
    rooms: Sequence[Sequence[Free]],
    limit_s: float,
) -> Found | None:
    """Return the best numbers of jobs for the rows of `_rows`; None if the time was too short.

    Raises SolverFailed, and Missing without the extra.
    """
    clock = Clock(limit_s)
    program = Program()
    longest = max(place.time for place in places)
    times = [-(-place.time * FINE // longest) for place in places]
    weights = [groups[place.group].weight for place in places]
    for place, weight in zip(places, weights, strict=True):
        program.column(-float(weight), 0.0, place.most)
    _rows(program, groups, places, rooms)
    first = mixed(program, limit_s / 2)
    if first.value is None:
        return None
    program.row(dict(enumerate(map(float, weights))), least=-first.value)
    program.cost = [float(time) for time in times]
    second = mixed(program, max(clock.left(), limit_s / 10))
    best = None if first.bound is None else -first.bound
    if second.value is None:
        return Found([round(x) for x in first.x], best, None)
    time = None if second.bound is None else second.bound * longest / FINE
    return Found([round(x) for x in second.x], best, time)


def _rows(
    program: Program,
    groups: Sequence[Group],
    places: Sequence[Place],
    rooms: Sequence[Sequence[Free]],
) -> None:
    """Write what every plan keeps: each job once, and no model beyond what it has left.

    For each size k of a member, a node takes at most floor(left / k) pieces of that size, and a
    member of size d counts as floor(d / k) of them.
    """
    of_group: dict[int, dict[int, float]] = {}
    of_model: dict[int, list[int]] = {}
    for column, place in enumerate(places):
        of_group.setdefault(place.group, {})[column] = 1.0
        of_model.setdefault(place.model, []).append(column)
    for group, terms in of_group.items():
        if len(terms) > 1:
            program.row(terms, most=len(groups[group].jobs))
    for model, columns in of_model.items():
        asks = {column: groups[places[column].group].ask for column in columns}
        for size in [1, *_sizes(ask.gpus_milli for ask in asks.values())]:
            _row(
                program,
                {column: _pieces(ask.gpus_milli, size) for column, ask in asks.items()},
                asks,
                sum(
                    free.count * sum(_pieces(milli, size) for milli in free.gpus_milli)
                    if size <= 1000
                    else free.count * (free.gpus_milli.count(1000) * 1000 // size)
                    for free in rooms[model]
                ),
            )
        for name in ("cpu_milli", "memory_mib"):
            for size in [1, *_sizes(getattr(ask, name) for ask in asks.values())]:
                _row(
                    program,
                    {column: getattr(ask, name) // size for column, ask in asks.items()},
                    asks,
                    sum(free.count * (getattr(free, name) // size) for free in rooms[model]),
                )


def _pieces(milli: int, size: int) -> int:
    """Return into how many pieces of a size GPUs can be cut: pieces below one are of one GPU."""
    if size >= 1000 or milli <= 1000:
        return milli // size
    return milli // 1000 * (1000 // size)


def _sizes(asked: Iterable[int]) -> list[int]:
    """Return the sizes for which there are rows: the largest of those that are asked for."""
    return sorted({size for size in asked if size > 1}, reverse=True)[:SIZES_MAX]


def _row(program: Program, pieces: dict[int, int], asks: dict[int, Ask], most: int) -> None:
    terms = {
        column: float(count * asks[column].members) for column, count in pieces.items() if count
    }
    if terms:
        program.row(terms, most=most)


def packed(
    groups: Sequence[Group],
    places: Sequence[Place],
    rooms: Sequence[Sequence[Free]],
    counts: Sequence[int] | None,
) -> list[int]:
    """Return how many jobs of each place there are nodes for.

    Large jobs first. Who finds no node on its model, or has no place in the plan, goes where it is
    fastest of what is left. `counts` is of the first places; None: of no place.
    """
    packers = [Packer(free) for free in rooms]
    put = [0] * len(places)
    left = {place.group: len(groups[place.group].jobs) for place in places}

    def fill(column: int, most: int) -> None:
        group = places[column].group
        for _ in range(min(most, left[group])):
            if not packers[places[column].model].put(groups[group].ask):
                return
            put[column] += 1
            left[group] -= 1

    for column in sorted(range(len(places)), key=lambda n: groups[places[n].group].turn):
        fill(column, 0 if counts is None or column >= len(counts) else counts[column])
    quick = sorted(range(len(places)), key=lambda n: (places[n].group, places[n].time))
    for column in quick:
        fill(column, places[column].most - put[column])
    return put


def gap_ppm(
    groups: Sequence[Group], places: Sequence[Place], put: Sequence[int], found: Found
) -> int | None:
    """Return how far a plan may be from the best, in millionths; None: not known.

    In weight, if there may be a plan of more weight; else in time.
    """
    weight = sum(n * groups[place.group].weight for n, place in zip(put, places, strict=True))
    if found.weight is None:
        return None
    if weight < found.weight - 0.5:
        return round((found.weight - weight) / found.weight * 1_000_000)
    time = sum(n * place.time for n, place in zip(put, places, strict=True))
    if found.time is None or not time:
        return None
    slack = len(places) * max(place.time for place in places) / FINE  # times were rounded up
    return max(0, round((time - found.time - slack) / time * 1_000_000))


def _shares(
    question: Question, groups: Sequence[Group], places: Sequence[Place], put: Sequence[int]
) -> tuple[Share, ...]:
    """Return who is to be where: of equal jobs the first where it is fastest."""
    taken: dict[int, int] = {}
    shares: list[tuple[tuple[int, ...], Share]] = []
    for column in sorted(range(len(places)), key=lambda n: places[n].time):
        group, model, _, _ = places[column]
        if not put[column]:
            continue
        begin = taken.get(group, 0)
        taken[group] = begin + put[column]
        jobs = groups[group].jobs[begin : begin + put[column]]
        on = ((question.models[model], WHOLE),)
        shares.append((groups[group].turn, Share(jobs=jobs, on=on)))
    shares.sort(key=lambda each: (each[0], each[1].jobs))
    return tuple(share for _, share in shares)
