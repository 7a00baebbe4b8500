"""Reservations of a simulation: a TOML file with a [[reservations]] table for each.

The times are seconds on the clock of the trace. Each passes the same gate as in the service, on
the empty cluster; amounts are put where the service would put them.
"""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from fairlead.core.engine import Core
from fairlead.core.reserve import check, node_named
from fairlead.model.base import Misuse, Ms
from fairlead.model.events import NodeJoined, ReservationSet
from fairlead.model.jobs import PolicyConfig, Reservation
from fairlead.model.units import parse_cpu_milli, parse_size_mib
from fairlead.policy.place import score
from fairlead.policy.place.fit import Fit
from fairlead.policy.reserve import Amount, choose
from fairlead.sim.cluster import Cluster

_KEYS = (
    *("name", "start_s", "end_s", "nodes", "all_nodes", "gpus", "gpu_type", "cpus", "memory"),
    *("tenants", "reason"),
)
FIELD = "reservations"


def read_reservations(path: str | None, cluster: Cluster) -> tuple[Reservation, ...]:
    """Return the reservations of a file, () for none; Misuse says which one is wrong, and how."""
    if path is None:
        return ()
    core = Core()
    for index, node in enumerate(cluster.nodes):
        core.apply(0, NodeJoined(node=index, spec=node))
    for number, table in enumerate(_tables(path), 1):
        name = str(table.get("name", f"reservation-{number}"))
        try:
            made = _one(core, {**table, "name": name})
        except Misuse as error:
            error.message = f"{path}, reservation {number} ('{name}'): {error.message}"
            error.field = FIELD
            raise
        core.apply(0, ReservationSet(reservation=made))
    return tuple(core.reservations.values())


def _tables(path: str) -> list[dict[str, Any]]:
    try:
        body = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise Misuse(f"cannot read {path}: {why}", field=FIELD, hint="a TOML file") from None
    tables = body.get("reservations")
    if set(body) != {"reservations"} or not isinstance(tables, list):
        hint = "each reservation is a table: [[reservations]] with name, start_s, end_s and nodes"
        raise Misuse(f"{path} has other things than reservations", field=FIELD, hint=hint)
    for table in tables:
        for key in table:
            if key not in _KEYS:
                near = difflib.get_close_matches(key, _KEYS, n=1)
                hint = f"did you mean {near[0]}?" if near else f"the keys are {', '.join(_KEYS)}"
                raise Misuse(f"{path}: unknown key {key}", field=FIELD, hint=hint)
    return tables


def _one(core: Core, table: dict[str, Any]) -> Reservation:
    start, end = _ms(table, "start_s"), _ms(table, "end_s")
    made = Reservation(
        name=table["name"],
        start_ms=start,
        end_ms=end,
        tenants=_words(table, "tenants"),
        because=str(table.get("reason", "")),
    )
    nodes, amounts = _words(table, "nodes"), {"gpus", "cpus", "memory"} & set(table)
    if (bool(nodes) or bool(table.get("all_nodes"))) == bool(amounts):
        raise Misuse("give nodes, or all_nodes = true, or gpus, or cpus", hint="one of them")
    if table.get("all_nodes"):
        made = msgspec.structs.replace(made, nodes=tuple(range(len(core.nodes))))
    elif nodes:
        made = msgspec.structs.replace(
            made, nodes=tuple(sorted({node_named(core, name) for name in nodes}))
        )
    else:
        gpus = table.get("gpus", 0)
        if type(gpus) is not int or gpus < 0:
            raise Misuse(f"gpus is a whole number, not {gpus!r}", hint="write gpus = 2")
        amount = Amount(
            cpu_milli=parse_cpu_milli(table.get("cpus", 0), "cpus"),
            memory_mib=parse_size_mib(table["memory"], "memory") if "memory" in table else 0,
            gpus=gpus,
            gpu_models=tuple(sorted(_words(table, "gpu_type"))),
        )
        fit = Fit(core.ledger, score.build(PolicyConfig().placement))
        shape, slots = choose(core, fit, amount, start, end, 0)
        made = msgspec.structs.replace(made, shape=shape, slots=slots)
    check(core, made, 0, core.reservations)
    return made


def _ms(table: dict[str, Any], key: str) -> Ms:
    value = table.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 2**40:
        hint = "seconds on the clock of the trace, such as 3600; every window of a replay ends"
        raise Misuse(f"{key} is missing or no time: {value!r}", hint=hint)
    return round(1000 * value)


def _words(table: dict[str, Any], key: str) -> tuple[str, ...]:
    value = table.get(key, [])
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise Misuse(f"{key} is a list of names, not {value!r}", hint=f'write {key} = ["…"]')
    return tuple(dict.fromkeys(value))
