"""Pollux and Sia: elastic jobs, with profiles of how fast they make progress on how many GPUs.

docs/reference/traces/pollux.md. A workload says which application comes when. The profile of an
application has the time of a step by placement and local batch size, and for some global batch
sizes how many steps it takes to learn how much. What counts is progress in steps of the smallest
of these batch sizes; with K GPUs on as few nodes as will do an epoch is trained with the batch
size that is quickest there, with accumulation where it does not fit the memory. That is goodput
(Qiao et al., OSDI 2021) as measured, without a model: a job's speed is the mean over its epochs.
"""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from fairlead.model.base import Misuse
from fairlead.model.resources import Shape
from fairlead.sim.traces.lines import Lines, assemble, damaged, read_lines, shown
from fairlead.sim.traces.table import rows
from fairlead.sim.workload import Rates, Trace, TraceJob

COLUMNS = ("name", "time", "application", "num_replicas", "batch_size")
GPUS_MAX = 64  # of one job
MICRO = 1_000_000
# Endings of profiles' names, and the devices they were taken on: the last of a device counts.
MODELS = {
    "": "T4",
    "-aws": "T4",
    "-rtx": "RTX2080Ti",
    "-quad": "QuadroRTX6000",
    "-dgx": "A100",
    "-dgx-ext": "A100",
}
CLUSTER = "16x4gpu:T4"  # of the published runs of Pollux
Vector: TypeAlias = npt.NDArray[np.float64]


class Profile(NamedTuple):
    """What is known of an application: its steps in all, and its speeds by device model."""

    total_steps: int
    rates: Rates


class Curve(NamedTuple):
    """Seconds of a step and of its synchronising, by rising local batch size, on one placement."""

    local: Vector
    step: Vector
    sync: Vector

    def at(self, local: int) -> tuple[float, float]:
        """Return both for a local batch size within what was measured, else the nearest."""
        return (
            float(np.interp(local, self.local, self.step)),
            float(np.interp(local, self.local, self.sync)),
        )


def parse(path: str, lines: Lines, profiles: Path | None = None) -> Trace:
    """Return the trace; jobs run as the profiles say. An application without one is dropped."""
    if profiles is None:
        raise Misuse(
            "jobs of Pollux do not say how long they run",
            field="profiles",
            hint="add --profiles with the folder of their applications, such as pollux/traces",
        )
    known: dict[str, Profile | None] = {}
    dropped: Counter[str] = Counter()
    jobs: list[TraceJob] = []
    for row in rows(path, lines, COLUMNS):
        name, application = row.text("name"), row.text("application")
        submit_ms = row.ms("time")
        if application not in known:
            known[application] = read_profile(profiles, application)
        profile = known[application]
        if profile is None:
            dropped[f"no profile of {application}"] += 1
            continue
        fastest = max(each[0] for _, each in profile.rates)
        count = len(profile.rates[0][1])
        jobs.append(
            TraceJob(
                id=name,
                submit_ms=submit_ms,
                run_ms=-(-profile.total_steps * 10**9 // fastest),
                shape=Shape(cpu_milli=1000, gpus=1),
                members_max=count if count > 1 else 0,
                name=application,
                job_type=application,
                total_steps=profile.total_steps,
                rates=profile.rates,
            )
        )
    if known and not jobs:
        raise _no_profiles(profiles, known)
    found = assemble(path, "pollux", jobs, dropped)
    models = {model for job in jobs for model, _ in job.rates}
    return found if models != {"T4"} else _on(found, CLUSTER)


def _on(trace: Trace, cluster: str) -> Trace:
    return Trace(
        path=trace.path,
        format=trace.format,
        jobs=trace.jobs,
        dropped=trace.dropped,
        cluster=cluster,
        notes=trace.notes,
    )


def _no_profiles(folder: Path, asked: Iterable[str]) -> Misuse:
    there = sorted(each.name for each in folder.iterdir() if each.is_dir())
    name = next(iter(asked), "")
    near = difflib.get_close_matches(name, there, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return Misuse(
        f"{folder} has no profile of any application of the trace, such as {shown(name)}",
        field="profiles",
        hint=f"{hint}each is a folder with placements.csv and validation-*.csv",
    )


def read_profile(folder: Path, application: str) -> Profile | None:
    """Return the profile of an application, None if there is none. Raises Misuse for damage."""
    if not folder.is_dir():
        raise Misuse(f"there is no folder {folder}", field="profiles")
    mine = folder / application
    if not application or not mine.is_dir():
        return None
    learnt = _epochs(mine)
    if not learnt:
        return None
    rates: dict[str, tuple[int, ...]] = {}
    total = round(max(float(progress[-1]) for progress, _ in learnt.values()))
    for ending, model in MODELS.items():
        curves = _curves(mine, ending)
        if 1 in curves:  # else nothing is known of its least size
            speeds = _speeds(curves, learnt, total)
            if speeds:
                rates[model] = speeds
    if not rates:
        return None
    most = max(len(each) for each in rates.values())
    padded = {model: each + (each[-1],) * (most - len(each)) for model, each in rates.items()}
    return Profile(total, tuple(sorted(padded.items())))


def _epochs(folder: Path) -> dict[int, tuple[Vector, Vector]]:
    """Return progress and steps at the end of each epoch, by global batch size."""
    found: dict[int, tuple[Vector, Vector]] = {}
    for path in sorted(folder.glob("validation-*.csv")):
        text = path.stem.removeprefix("validation-")
        if not text.isdecimal():
            continue
        lines = read_lines(path)
        table = list(rows(str(path), lines, ("progress", "iteration")))
        if not table:
            raise damaged(str(path), 1, "found no epoch below the header", field="profiles")
        progress = np.array([row.number("progress") for row in table])
        steps = np.array([row.number("iteration") for row in table])
        if (np.diff(progress) <= 0).any() or progress[0] <= 0:
            raise damaged(str(path), 2, "progress does not rise", field="progress")
        found[int(text)] = (progress, steps)
    epochs = min((len(progress) for progress, _ in found.values()), default=0)
    return {
        batch: (progress[:epochs], steps[:epochs])
        for batch, (progress, steps) in sorted(found.items())
    }


def _curves(folder: Path, ending: str) -> dict[int, Curve]:
    """Return the step times by number of GPUs, on as few nodes as will do."""
    points: dict[int, dict[int, tuple[float, float]]] = {}
    placements = folder / f"placements{ending}.csv"
    if not placements.is_file():
        return {}
    needed = ("placement", "local_bsz", "step_time", "sync_time")
    table = list(rows(str(placements), read_lines(placements), needed))
    where = [row.text("placement").removesuffix(".0") for row in table]
    digits = [digit for each in where for digit in each if digit.isdecimal()]
    node = max((int(digit) for digit in digits), default=0)
    for row, each in zip(table, where, strict=True):
        if not each.isdecimal() or "0" in each:
            raise row.wrong("placement", "the GPUs on each node, such as 44")
        count = sum(int(digit) for digit in each)
        if len(each) == -(-count // node) and _packed(each, node):
            time = (row.number("step_time"), row.number("sync_time"))
            points.setdefault(count, {})[row.whole("local_bsz", 1)] = time
    scalability = folder / f"scalability{ending}.csv"
    if scalability.is_file():
        columns = ("num_nodes", "num_replicas", "local_bsz", "step_time", "sync_time")
        for row in rows(str(scalability), read_lines(scalability), columns):
            count, nodes = row.whole("num_replicas", 1), row.whole("num_nodes", 1)
            if count not in points and nodes * node == count:
                time = (row.number("step_time"), row.number("sync_time"))
                points.setdefault(-count, {})[row.whole("local_bsz", 1)] = time
    return {abs(count): _curve(times) for count, times in sorted(points.items(), key=_by_count)}


def _by_count(item: tuple[int, object]) -> int:
    return abs(item[0])


def _packed(placement: str, node: int) -> bool:
    """Whether all nodes of a placement but one are full."""
    return sum(int(digit) < node for digit in placement) <= 1


def _curve(times: dict[int, tuple[float, float]]) -> Curve:
    local = sorted(times)
    step, sync = zip(*[times[each] for each in local], strict=True)
    return Curve(np.array(local, float), np.array(step), np.array(sync))


def _speeds(
    curves: dict[int, Curve], learnt: dict[int, tuple[Vector, Vector]], total: int
) -> tuple[int, ...]:
    """Return the speed with 1, 2, … GPUs, as far as the least local batch lets it be spread."""
    least = min(int(curve.local[0]) for curve in curves.values())
    most = max(int(curve.local[-1]) for curve in curves.values())
    found: list[int] = []
    for count in range(1, min(GPUS_MAX, max(curves)) + 1):
        times = [
            np.diff(steps, prepend=0.0) * seconds
            for batch, (_, steps) in learnt.items()
            if (seconds := _step_s(curves, count, batch, least, most)) is not None
        ]
        if not times:
            break
        found.append(round(MICRO * total / float(np.min(times, axis=0).sum())))
    return tuple(found)


def _step_s(
    curves: dict[int, Curve], count: int, batch: int, least: int, most: int
) -> float | None:
    """Return the seconds of a step of a global batch on so many GPUs; None: it is too small.

    Between numbers of GPUs that were measured, times are taken as linear.
    """
    share = -(-batch // count)
    if share < least:
        return None
    more = math.ceil(share / most) - 1  # local steps before those that are synchronised
    local = math.ceil(share / (more + 1))
    if count in curves:
        step, sync = curves[count].at(local)
    else:
        low = max((each for each in curves if each < count), default=min(curves))
        high = min((each for each in curves if each > count), default=max(curves))
        part = (count - low) / (high - low) if high > low else 0.0
        (step, sync), (later, agreed) = curves[low].at(local), curves[high].at(local)
        step, sync = step + part * (later - step), sync + part * (agreed - sync)
    return step + more * max(step - sync, 0.0)
