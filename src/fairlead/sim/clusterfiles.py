"""Clusters from the node lists that traces come with, told apart by their content.

`openb_node_list_*.csv` (Alibaba 2023), `node_info_df.csv` (Alibaba 2026), Muri's and Tiresias'
`cluster_spec/*.csv`, PAI's machine table, and `.machines` beside a Standard Workload Format log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from fairlead.model import limits
from fairlead.model.base import Misuse
from fairlead.sim.traces.lines import Lines, damaged, read_lines, shown
from fairlead.sim.traces.table import Row, cells_of, check_columns, header, rows

# How many nodes, and the amounts of each as cluster.py names them; what is missing is ample.
Group: TypeAlias = tuple[int, dict[str, Any]]

_MACHINES = ("id", "name", "nodes", "cpus_per_node", "speed", "ram_kb")


def groups(path: Path) -> Iterator[Group]:
    """Yield the nodes of a list in its order; Misuse names the line that is wrong."""
    try:
        lines = read_lines(path)
    except Misuse as wrong:  # says what is wrong with a trace; this is the other option
        raise Misuse(wrong.message, field="cluster", hint="name a list of nodes") from None
    number, first = lines[0]
    names = header(first)
    if len(names) == 1:
        yield from _machines(str(path), lines)
        return
    for columns, group in _TABLES.items():
        if set(columns) <= set(names):
            for row in rows(str(path), lines, columns):
                yield group(row)
            return
    nearest = max(_TABLES, key=lambda columns: len(set(columns) & set(names)))
    if len(set(nearest) & set(names)) > len(nearest) / 2:
        check_columns(str(path), number, names, nearest)  # says which one is missing
    raise damaged(
        str(path),
        number,
        f"found the columns {shown(', '.join(names))}, expected those of a known list of nodes",
        hint="; ".join(", ".join(columns) for columns in _TABLES),
    )


def _openb(row: Row) -> Group:
    return 1, {
        "name": row.text("sn"),
        "cpu_milli": row.whole("cpu_milli", 0, limits.AMOUNT_MAX),
        "memory_mib": row.whole("memory_mib", 0, limits.AMOUNT_MAX),
        **_gpus(row, "gpu", "model"),
    }


def _spot(row: Row) -> Group:
    return 1, {
        "name": f"node{row.text('node_name')}",
        "cpu_milli": 1000 * row.whole("cpu_num", 0, limits.AMOUNT_MAX // 1000),
        **_gpus(row, "gpu_capacity_num", "gpu_model"),
    }


def _pai(row: Row) -> Group:
    return 1, {
        "name": row.text("machine"),
        "cpu_milli": 1000 * row.whole("cap_cpu", 0, limits.AMOUNT_MAX // 1000),
        "memory_mib": round(1024 * row.number("cap_mem", 0, limits.AMOUNT_MAX // 1024)),
        **_gpus(row, "cap_gpu", "gpu_type"),
    }


def _switches(row: Row) -> Group:
    count = row.whole("num_switch", 1, limits.NODES_MAX)
    per_switch = row.whole("num_node_p_switch", 1, limits.NODES_MAX)
    count *= per_switch
    if count > limits.NODES_MAX:
        raise row.wrong("num_node_p_switch", f"at most {limits.NODES_MAX:,} nodes in all")
    return count, {
        "per_rack": per_switch,  # the switch on top of it: with no other, it is a switch as well
        "cpu_milli": 1000 * row.whole("num_cpu_p_node", 0, limits.AMOUNT_MAX // 1000),
        "memory_mib": 1024 * row.whole("mem_p_node", 0, limits.AMOUNT_MAX // 1024),
        "gpus": row.whole("num_gpu_p_node", 0, limits.DEVICES_PER_NODE_MAX),
    }


_TABLES: Mapping[Sequence[str], Callable[[Row], Group]] = {
    ("sn", "cpu_milli", "memory_mib", "gpu", "model"): _openb,
    ("gpu_model", "gpu_capacity_num", "cpu_num", "node_name"): _spot,
    ("machine", "gpu_type", "cap_cpu", "cap_mem", "cap_gpu"): _pai,
    (
        *("num_switch", "num_node_p_switch", "num_gpu_p_node", "num_cpu_p_node"),
        "mem_p_node",
    ): _switches,
}


def _gpus(row: Row, count: str, model: str) -> dict[str, Any]:
    gpus = 0 if row.blank(count) else row.whole(count, 0, limits.DEVICES_PER_NODE_MAX)
    return {"gpus": gpus, "model": row.text(model) or "gpu"} if gpus else {}


def _machines(path: str, lines: Lines) -> Iterator[Group]:
    tabbed = [(number, b"\t".join(line.split())) for number, line in lines]
    for row in cells_of(path, tabbed, _MACHINES, "\t"):
        yield (
            row.whole("nodes", 1, limits.NODES_MAX),
            {
                "name": row.text("name"),
                "cpu_milli": 1000 * row.whole("cpus_per_node", 1, limits.AMOUNT_MAX // 1000),
                "memory_mib": row.whole("ram_kb", 0, limits.AMOUNT_MAX) // 1024,
            },
        )
