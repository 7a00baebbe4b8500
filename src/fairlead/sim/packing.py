"""Packing experiments by the published protocol: tasks come one by one, and none leaves.

As in Weng et al., ATC 2023 (the openb workloads, experiments/ of their simulator): the tasks of a
workload, shuffled by a seed and then drawn from again until they ask for 130 % of all GPUs; what
does not fit is dropped. What counts is the percentage of all GPUs that is given away when what has
come asks for a certain percentage of them. Placements are those that jobs get, by name.
"""

from __future__ import annotations

import difflib
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import Any

import msgspec

from fairlead.core.ledger import Ledger, Request
from fairlead.model.base import Misuse, Record
from fairlead.model.resources import Shape
from fairlead.policy.place.fgd import Task, task_of
from fairlead.policy.place.named import placing
from fairlead.policy.place.score import PLACEMENTS
from fairlead.sim import traces
from fairlead.sim.cluster import Cluster
from fairlead.sim.traces.lines import read_lines
from fairlead.sim.workload import Trace

FIRST_SEED = 42  # that of the published experiments, which go on to 51
INFLATED_PERCENT = 130
DEMAND_MAX_PERCENT = 1000
SEEDS_MAX = 1000


class Packing(msgspec.Struct, frozen=True):
    """One run: what was given away, in percent of all processors, and what was dropped by then."""

    placement: str
    seed: int
    allocated_percent: float
    tasks: int
    dropped: int
    cpu_s: float


class Packed(Record, frozen=True):
    """A placement over all seeds."""

    placement: str
    runs: tuple[Packing, ...]

    @property
    def mean_percent(self) -> float:
        """Return the mean of what was given away, in percent."""
        return statistics.fmean(run.allocated_percent for run in self.runs)

    def as_json(self) -> dict[str, object]:
        """Return it as plain data."""
        return {
            "placement": self.placement,
            "allocated_percent": round(self.mean_percent, 3),
            "by_seed": {run.seed: round(run.allocated_percent, 3) for run in self.runs},
            "tasks": [run.tasks for run in self.runs],
            "dropped": [run.dropped for run in self.runs],
        }


def read_tasks(path: str, how: Mapping[str, Any] = MappingProxyType({})) -> Trace:
    """Return a trace with all its tasks: lists of pods as for packing, unless told otherwise.

    `how`: the keywords of `traces.read`. Misuse names the line that is damaged.
    """
    how = dict(how)
    if how.get("format") is None and traces.detect(path, read_lines(Path(path))) == "openb":
        how["format"] = "openb-packing"  # else pods that were never scheduled would be left out
    return traces.read(path, **how)


def parse_placements(text: str) -> list[str]:
    """Return the placements of "A,B,C", each once; Misuse suggests the nearest."""
    names = list(dict.fromkeys(word.strip().lower() for word in text.split(",") if word.strip()))
    if not names:
        raise Misuse("no placement is named", field="placements", hint=", ".join(PLACEMENTS))
    for name in names:
        _check_name(name)
    return names


def _check_name(name: str) -> None:
    if name not in PLACEMENTS:
        near = difflib.get_close_matches(name, PLACEMENTS, n=1)
        listed = f"known: {', '.join(PLACEMENTS)}"
        raise Misuse(
            f"there is no placement '{name}'",
            field="placements",
            hint=f"did you mean '{near[0]}'? {listed}" if near else listed,
        )


def shapes_of(trace: Trace, cluster: Cluster) -> list[Shape]:
    """Return what the trace's jobs ask for on this cluster; Misuse if that is nothing at all."""
    shapes = [job.shape or cluster.shape(job.processors) for job in trace.jobs]
    if not any(map(cluster.used_milli, shapes)):
        raise Misuse(
            f"no job of {trace.path} asks for a {cluster.kind}",
            field="cluster",
            hint="packing counts GPUs, and cores only on a cluster without any",
        )
    return shapes


def stream(
    shapes: Sequence[Shape], cluster: Cluster, seed: int, percent: int = INFLATED_PERCENT
) -> list[Shape]:
    """Return the tasks in random order, then drawn again, until they ask for so many percent."""
    rng = Random(seed)
    order = rng.sample(shapes, len(shapes))
    total = sum(map(cluster.used_milli, order))
    while 100 * total < percent * cluster.capacity_milli:
        order.append(rng.choice(shapes))
        total += cluster.used_milli(order[-1])
    return order


def pack(
    cluster: Cluster,
    order: Sequence[Shape],
    placement: str,
    *,
    seed: int = 0,
    demand: int = 100,
    live: bool = False,
) -> Packing:
    """Place tasks in this order until they ask for more than `demand` percent of all processors.

    `live`: placements that go by the classes of tasks know those that have come so far, as they do
    in the service, instead of those of the whole order, as in the published experiments.
    """
    ledger = Ledger()
    for index, node in enumerate(cluster.nodes):
        ledger.join(index, node)
    come: Counter[Task] = Counter()
    whole: Counter[Task] = Counter()
    for shape in order:
        _count(whole, shape)

    def popular() -> tuple[int, Counter[Task]]:
        if not live:
            return 1, whole
        seen = come.total()  # its first four binary digits: anew when an eighth more has come
        return seen.bit_length() * 8 + (seen >> max(seen.bit_length() - 4, 0)) % 8, Counter(come)

    fit = placing(placement, ledger, popular, lambda: come.total() + (seed << 32))
    requests = {shape: Request(shape) for shape in order}
    arrived = given = tasks = dropped = 0
    began = time.process_time()
    for shape in order:
        asked = cluster.used_milli(shape)
        arrived += asked
        if 100 * arrived > demand * cluster.capacity_milli:
            break
        tasks += 1
        _count(come, shape)
        slots = fit.gang(requests[shape])
        if slots is None:
            dropped += 1
            continue
        for part, its in requests[shape].split(slots):
            for slot in its:
                ledger.take(slot.node, part, slot.devices)
        given += asked
    spent = time.process_time() - began
    percent = 100 * given / cluster.capacity_milli
    return Packing(placement, seed, percent, tasks, dropped, spent)


def _count(come: Counter[Task], shape: Shape) -> None:
    for kind in shape.parts():
        come[task_of(kind)] += kind.members


def compare(
    cluster: Cluster,
    trace: Trace,
    placements: Sequence[str],
    *,
    seeds: int = 5,
    demand: int = 100,
    live: bool = False,
    progress: Callable[[str, int], None] = lambda name, done: None,
) -> Iterator[Packed]:
    """Yield each placement over the same seeds, from that of the published experiments on.

    Misuse for a number of seeds or a demand that makes no sense, or a trace that asks for nothing.
    """
    if not 1 <= seeds <= SEEDS_MAX:
        raise Misuse(f"{seeds} seeds", field="seeds", hint=f"from 1 to {SEEDS_MAX}")
    if not 1 <= demand <= DEMAND_MAX_PERCENT:
        raise Misuse(
            f"a demand of {demand} %", field="demand", hint=f"from 1 to {DEMAND_MAX_PERCENT}"
        )
    shapes = shapes_of(trace, cluster)
    most = max(INFLATED_PERCENT, demand)
    orders = {
        seed: stream(shapes, cluster, seed, most) for seed in range(FIRST_SEED, FIRST_SEED + seeds)
    }
    for name in placements:
        runs = []
        for seed, order in orders.items():
            runs.append(pack(cluster, order, name, seed=seed, demand=demand, live=live))
            progress(name, len(runs))
        yield Packed(placement=name, runs=tuple(runs))
