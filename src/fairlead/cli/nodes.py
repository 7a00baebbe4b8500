"""`nodes`: machines, and what is free on them."""

from __future__ import annotations

from typing import Any

import click

from fairlead.cli import output
from fairlead.cli.client import connect
from fairlead.cli.times import moment
from fairlead.model.units import format_cpus, format_size

_HEADER = ("NODE", "STATE", "CPUS FREE", "MEM FREE", "DISK FREE", "GPUS FREE", "JOBS")


@click.command()
@click.option("-w", "--watch", is_flag=True, help="Show it anew every second until Ctrl-C.")
@click.option("-q", "--quiet", is_flag=True, help="Print names only.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def nodes(watch: bool, quiet: bool, as_json: bool) -> None:
    """List machines and what is free on them, of how much."""
    client = connect()
    if as_json:
        output.print_json(client.get("/nodes"))
    elif quiet:
        for node in client.get("/nodes")["nodes"]:
            print(node["name"])
    elif watch:
        output.watch(lambda: _table(client.get("/nodes")))
    else:
        print(_table(client.get("/nodes")))


def _table(answer: dict[str, Any]) -> str:
    found, now = answer["nodes"], answer.get("now_ms", 0)
    rows: list[tuple[str, ...]] = [
        (
            node["name"],
            _state(node, now),
            _free(node, "cpu_milli", format_cpus),
            _free(node, "memory_mib", _size),
            _free(node, "disk_mib", _size),
            _free(node, "gpu_milli", format_cpus),
            ",".join(map(str, node["jobs"])) or "-",
        )
        for node in found
    ]
    header, places = list(_HEADER), [_place(node) for node in found]
    if any(places):
        header.append("RACK")
        rows = [(*row, place or "-") for row, place in zip(rows, places, strict=True)]
    devices = [
        f"{node['name']} GPU {device['index']}: {device['model']}, "
        f"{format_size(device['memory_mib'], exact=False)}, {_holders(device)}"
        for node in found
        for device in node["devices"]
    ]
    reserved = [_reserved(node, each) for node in found for each in node.get("reserved", ())]
    return "\n".join([output.table(header, rows), *devices, *reserved])


def _place(node: dict[str, Any]) -> str:
    """Return where a machine is: "s1/r1", switch and rack, as far as it is known."""
    return "/".join(filter(None, (node.get("switch"), node.get("rack"))))


def _state(node: dict[str, Any], now: int) -> str:
    """Return what may start there: "reserved" is kept whole for some, now."""
    if not node["up"]:
        return "down"
    current = [each for each in node.get("reserved", ()) if each["start_ms"] <= now]
    if any(each["drain"] for each in current):
        return "draining" if node["jobs"] else "drained"
    return "reserved" if any(each["whole"] for each in current) else "up"


def _reserved(node: dict[str, Any], each: dict[str, Any]) -> str:
    """Return "vm: kernel, all of it for nobody, 2026-12-01 09:00 to 12:00 (reason)"."""
    reason = f" ({each['reason']})" if each["reason"] else ""
    if each["drain"]:
        return f"{node['name']}: drained since {moment(each['start_ms'])}{reason}"
    what = "all of it" if each["whole"] else "a part of it"
    whom = ", ".join(each["tenants"]) or "nobody"
    end = "until it is deleted" if each["end_ms"] is None else f"to {moment(each['end_ms'])}"
    span = f"{moment(each['start_ms'])} {end}"
    return f"{node['name']}: {each['name']}, {what} for {whom}, {span}{reason}"


def _size(mib: int) -> str:
    return format_size(mib, exact=False)


def _free(node: dict[str, Any], name: str, show: Any) -> str:
    """Return "6 of 8" (less what others use), "-" where the machine has none."""
    capacity = node["capacity"].get(name, 0)
    if not capacity:
        return "-"
    taken = node["used"].get(name, 0) + (node.get("foreign") or {}).get(name, 0)
    return f"{show(max(capacity - taken, 0))} of {show(capacity)}"


def _holders(device: dict[str, Any]) -> str:
    if device["jobs"]:
        return "job " + ", ".join(map(str, device["jobs"]))
    return "used by others" if device.get("foreign") else "free"
