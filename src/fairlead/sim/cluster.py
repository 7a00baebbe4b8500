"""Clusters to simulate: from a short form such as `12x8gpu` or from a TOML file.

What a specification does not name never binds. Nodes of `12x8gpu` get 1,000 cores, 4 TiB of memory
and 4 TiB of disk per GPU, and 1 TiB of memory on each GPU, so that GPUs alone decide; nodes of
`4x16cpu` get 4 TiB of memory and of disk per core.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from fairlead.model import limits
from fairlead.model.base import Misuse, Record
from fairlead.model.links import Matrix, check_links, grouped
from fairlead.model.resources import CPU, GPU, WHOLE_GPU_MILLI, Device, Node, Shape, asked_in_all
from fairlead.model.units import parse_cpu_milli, parse_size_mib

AMPLE_CORES = 1_000  # per GPU, where a specification names no cores
AMPLE_MIB = 4 * 2**20  # per core or GPU, where it names no memory or disk
AMPLE_GPU_MIB = 2**20  # per GPU, where it names no GPU memory
NAMELESS = "gpu"  # the model of GPUs of which a specification names none: as fast as any
LISTS = (".csv", ".csv.gz", ".machines", ".machines.gz")  # names of lists of nodes
FORMS = 'write for example "pool:96", "12x8gpu", "4x16cpu,64GiB,8gpu:A100:80GiB" or a TOML file'

_COUNTED = re.compile(r"([0-9]+)x(.+)")
_CPUS = re.compile(r"([0-9.]+)(?:cpus?|cores?)", re.IGNORECASE)
_GPUS = re.compile(r"([0-9]+)gpus?((?::[^:]+){0,2})", re.IGNORECASE)
_SIZE = re.compile(r"[0-9.]+[KMGTP](?:i?B|i)?", re.IGNORECASE)
_GROUP = re.compile(r"(rack|switch|nvlink|pcie|socket):([0-9]+)", re.IGNORECASE)
_WORDS = ("pool", "cpu", "gpu", "rack", "switch", "nvlink", "pcie", "socket")
_GROUPS = {  # of the short form, and what they are in a file
    "rack": "per_rack",  # nodes in a row that are in one rack
    "switch": "per_switch",  # racks in a row that are under one switch
    "nvlink": "nvlink",  # GPUs in a row that are linked
    "pcie": "pcie",  # ... that are on one PCIe switch
    "socket": "socket",  # ... that are on one socket
}
_KEYS = (
    *("count", "name", "cpus", "memory", "disk", "gpus", "gpu_type", "gpu_memory"),
    *("rack", "switch", *_GROUPS.values(), "gpu_links"),
)


class Cluster(Record, frozen=True, dict=True):
    """A simulated cluster: the text it was asked for with, and its nodes in order of their ids."""

    spec: str
    nodes: tuple[Node, ...]

    @cached_property
    def gpus(self) -> int:
        """Return the number of GPUs of all nodes."""
        return sum(len(node.devices) for node in self.nodes)

    @property
    def kind(self) -> str:
        """Return what a processor of a trace is here: "GPU" where there are any, else "core"."""
        return "GPU" if self.gpus else "core"

    @property
    def capacity_milli(self) -> int:
        """Return thousandths of a processor of all nodes together."""
        if self.gpus:
            return WHOLE_GPU_MILLI * self.gpus
        return sum(node.cpu_milli for node in self.nodes)

    @cached_property
    def widths(self) -> dict[int, int]:
        """Return how many nodes there are by their number of processors."""
        if self.gpus:
            return dict(Counter(len(node.devices) for node in self.nodes))
        return dict(Counter(node.cpu_milli // 1000 for node in self.nodes))

    @property
    def widest(self) -> int:
        """Return the processors of the node that has most."""
        return max(self.widths)

    def shape(self, processors: int) -> Shape:
        """Return what a job of so many processors asks for here.

        One that is wider than the widest node becomes a gang of equal members, as wide as divides
        it evenly and lets all of them fit the empty cluster together.
        """
        each = self._member_width(processors)
        members = processors // each
        if self.gpus:
            return Shape(cpu_milli=0, gpus=each, members=members)
        return Shape(cpu_milli=1000 * each, members=members)

    def _member_width(self, processors: int) -> int:
        widest_that_divides = 0
        for width in range(min(processors, max(self.widest, 1)), 0, -1):
            if processors % width == 0:
                widest_that_divides = widest_that_divides or width
                fitting = sum(count * (node // width) for node, count in self.widths.items())
                if fitting * width >= processors:
                    return width
        return widest_that_divides  # the cluster is too small: the scheduler will say so

    def used_milli(self, shape: Shape) -> int:
        """Return the thousandths of a processor that a job of this shape uses."""
        return asked_in_all(shape)[GPU if self.gpus else CPU]

    def describe(self) -> str:
        """Return the cluster in one line: nodes and processors."""
        nodes = f"{len(self.nodes):,} node" + ("s" if len(self.nodes) != 1 else "")
        count = self.capacity_milli / 1000
        return f"{self.spec} ({nodes}, {count:,.10g} {self.kind}{'s' if count != 1 else ''})"


def pool(processors: int) -> Cluster:
    """Return one flat pool of processors without node boundaries."""
    return parse_cluster(f"pool:{processors}")


def parse_cluster(text: str) -> Cluster:
    """Return the cluster of a short form or of a file: TOML, or a list of nodes.

    Misuse says what is wrong.
    """
    if text.strip().endswith(LISTS):
        return _from_list(text.strip())
    text = "".join(text.split())
    if text.endswith(".toml") or "/" in text:
        return _from_toml(Path(text))
    nodes: list[Node] = []
    for group in text.split("+"):
        if group.startswith("pool") and group != text:
            raise _wrong(text, "a pool stands alone", 'write "pool:96", or groups of nodes')
        nodes.extend(_group(group, text, nodes))
    return _cluster(text, nodes)


def _cluster(spec: str, nodes: list[Node]) -> Cluster:
    if not nodes:
        raise _wrong(spec, "it has no nodes", FORMS)
    return Cluster(spec=spec, nodes=tuple(nodes))


def _wrong(spec: str, why: str, hint: str) -> Misuse:
    return Misuse(f'cannot use the cluster "{spec}": {why}', field="cluster", hint=hint)


def _group(group: str, spec: str, known: list[Node]) -> list[Node]:
    if group.startswith("pool:"):
        cores = _count(group[5:], spec, "processors", limits.AMOUNT_MAX // 1000)
        (node,) = _nodes(1, {"cpu_milli": 1000 * cores}, spec, known)
        return [msgspec.structs.replace(node, name="pool")]
    counted = _COUNTED.fullmatch(group)
    count = _count(counted[1], spec, "nodes", limits.NODES_MAX) if counted else 1
    parts = (counted[2] if counted else group).split(",")
    return _nodes(count, _parts(parts, spec), spec, known)


def _parts(parts: list[str], spec: str) -> dict[str, Any]:
    """Return the amounts of a node from the parts of a short form, each at most once."""
    found: dict[str, Any] = {}
    for part in parts:
        if cpus := _CPUS.fullmatch(part):
            key, value = "cpu_milli", parse_cpu_milli(cpus[1], "cluster")
        elif gpus := _GPUS.fullmatch(part):
            key, value = "gpus", _count(gpus[1], spec, "GPUs", limits.DEVICES_PER_NODE_MAX)
            for detail in gpus[2].split(":")[1:]:
                size = _SIZE.fullmatch(detail)
                found["gpu_memory_mib" if size else "model"] = (
                    parse_size_mib(detail, "cluster") if size else detail
                )
        elif _GROUP.fullmatch(part):
            key, value = _group_size(part, spec)
        elif _SIZE.fullmatch(part):
            key, value = "memory_mib", parse_size_mib(part, "cluster")
        else:
            raise _wrong(spec, f'cannot read "{part}"', _suggest(part))
        if key in found:
            raise _wrong(spec, f'"{part}" names the same amount twice', "name each amount once")
        found[key] = value
    return found


def _group_size(text: str, spec: str) -> tuple[str, int]:
    """Return the key and the value of a part such as "nvlink:2"."""
    word, _, count = text.partition(":")
    if not 1 <= int(count) <= limits.NODES_MAX:
        raise _wrong(spec, f"{count} in a group", f"write {word}:2 for groups of two")
    return _GROUPS[word.lower()], int(count)


def _suggest(part: str) -> str:
    letters = re.sub(r"[^a-z]", " ", part.lower()).split()
    for word in letters:
        near = difflib.get_close_matches(word.rstrip("s"), _WORDS, n=1, cutoff=0.5)
        if near and near[0] == "pool":
            return 'write "pool:96" for a flat pool of 96 processors'
        if near and near[0] in _GROUPS:
            counts = re.findall(r"[0-9]+", part)
            return f'did you mean "{near[0]}:{counts[-1] if counts else 2}"?'
        if near:
            number = re.match(r"[0-9]+", part)
            return f'did you mean "{number[0] if number else 8}{near[0]}"?'
    if re.fullmatch(r"[0-9]+", part):
        return f'write "{part}cpu", "{part}gpu" or "{part}GiB"'
    return FORMS


def _count(text: str, spec: str, what: str, most: int) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise _wrong(spec, f'found "{text}" where a number of {what} belongs', FORMS)
    if not 1 <= int(text) <= most:
        raise _wrong(spec, f"{text} {what}", f"write a number from 1 to {most:,}")
    return int(text)


def _nodes(count: int, found: Mapping[str, Any], spec: str, before: list[Node]) -> list[Node]:
    """Return equal nodes, after others; what was not named is ample."""
    known = len(before)
    if known + count > limits.NODES_MAX:
        raise _wrong(spec, f"more than {limits.NODES_MAX:,} nodes", "ask for fewer")
    gpus = found.get("gpus", 0)
    if not gpus and "cpu_milli" not in found:
        raise _wrong(spec, "its nodes have neither cores nor GPUs", 'add "16cpu" or "8gpu"')
    cpu_milli = found.get("cpu_milli", 1000 * AMPLE_CORES * gpus)
    ample = AMPLE_MIB * max(gpus, cpu_milli // 1000 if not gpus else 0, 1)
    device = Device(
        model=found.get("model", NAMELESS), memory_mib=found.get("gpu_memory_mib", AMPLE_GPU_MIB)
    )
    prefix = found.get("name", "node")
    devices, links = _devices((device,) * gpus, found, spec)
    places = _places(count, found, spec, before)
    return [
        Node(
            name=f"{prefix}{known + index + 1}",
            cpu_milli=cpu_milli,
            memory_mib=found.get("memory_mib", min(ample, limits.AMOUNT_MAX)),
            disk_mib=found.get("disk_mib", min(ample, limits.AMOUNT_MAX)),
            devices=devices,
            links=links,
            rack=rack,
            switch=switch,
        )
        for index, (rack, switch) in enumerate(places)
    ]


def _devices(
    devices: tuple[Device, ...], found: Mapping[str, Any], spec: str
) -> tuple[tuple[Device, ...], Matrix]:
    """Return the GPUs of a node with what links them."""
    groups = {key: found[key] for key in ("nvlink", "pcie", "socket") if key in found}
    if groups and not devices:
        raise _wrong(spec, f"{next(iter(groups))} without GPUs", 'write such as "8gpu,nvlink:2"')
    links: Matrix = ()
    if "gpu_links" in found:
        links = check_links(found["gpu_links"], len(devices), "gpu_links")
    return grouped(devices, **groups), links


def _places(
    count: int, found: Mapping[str, Any], spec: str, before: list[Node]
) -> list[tuple[str, str]]:
    """Return the rack and the switch of each node; racks and switches are numbered on."""
    rack, switch = found.get("rack", ""), found.get("switch", "")
    for name, key in ((rack, "rack"), (switch, "switch")):
        if name and _GROUPS[key] in found:
            raise _wrong(spec, f"both {key} and {_GROUPS[key]}", "keep one of them")
    per_rack, per_switch = found.get("per_rack", count), found.get("per_switch", 0)
    racks = len({node.rack for node in before} - {""}) + 1
    switches = len({node.switch for node in before} - {""}) + 1
    return [
        (
            rack or (f"rack{racks + index // per_rack}" if "per_rack" in found else ""),
            switch
            or (f"switch{switches + index // (per_rack * per_switch)}" if per_switch else ""),
        )
        for index in range(count)
    ]


def _from_list(spec: str) -> Cluster:
    """Read a list of nodes as traces come with."""
    # Imported late: those readers stand on the traces', which stand on this module.
    from fairlead.sim.clusterfiles import groups

    nodes: list[Node] = []
    for count, found in groups(Path(spec)):
        made = _nodes(count, found, spec, nodes)
        if count == 1 and "name" in found:  # the name of this node, not of its kind
            made = [msgspec.structs.replace(made[0], name=found["name"])]
        nodes.extend(made)
    return _cluster(spec, nodes)


def _from_toml(path: Path) -> Cluster:
    """Read `pool = 96` or `[[nodes]]` tables with the keys of _KEYS."""
    try:
        body = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _wrong(str(path), "there is no such file", FORMS) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _wrong(str(path), str(error), "the file must be readable TOML") from None
    _known(body, ("pool", "nodes"), str(path))
    if "pool" in body:
        if "nodes" in body:
            raise _wrong(str(path), "it has both a pool and nodes", "keep one of them")
        return Cluster(spec=str(path), nodes=parse_cluster(f"pool:{body['pool']}").nodes)
    tables = body.get("nodes")
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise _wrong(str(path), "it has no [[nodes]] tables", "add [[nodes]] with count and cpus")
    nodes: list[Node] = []
    for table in tables:
        _known(table, _KEYS, str(path))
        count = _count(str(table.get("count", 1)), str(path), "nodes", limits.NODES_MAX)
        nodes.extend(_nodes(count, _table(table, str(path)), str(path), nodes))
    return _cluster(str(path), nodes)


def _known(table: Mapping[str, Any], keys: tuple[str, ...], spec: str) -> None:
    for key in table:
        if key not in keys:
            near = difflib.get_close_matches(key, keys, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the keys are {', '.join(keys)}"
            raise _wrong(spec, f"unknown key {key}", hint)


def _table(table: Mapping[str, Any], spec: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "cpus" in table:
        found["cpu_milli"] = parse_cpu_milli(table["cpus"], "cpus")
    if table.get("gpus", 0) != 0:
        found["gpus"] = _count(str(table["gpus"]), spec, "GPUs", limits.DEVICES_PER_NODE_MAX)
    for key, amount in (
        ("memory", "memory_mib"),
        ("disk", "disk_mib"),
        ("gpu_memory", "gpu_memory_mib"),
    ):
        if key in table:
            found[amount] = parse_size_mib(table[key], key)
    for key in _GROUPS.values():
        if key in table:
            found[key] = _count(str(table[key]), spec, f"nodes or GPUs for {key}", limits.NODES_MAX)
    if "gpu_links" in table:
        found["gpu_links"] = table["gpu_links"]
    texts = (("name", "name"), ("gpu_type", "model"), ("rack", "rack"), ("switch", "switch"))
    for key, text in texts:
        if key in table:
            if not isinstance(table[key], str) or not table[key]:
                raise _wrong(spec, f"{key} is text, not {table[key]!r}", f'write {key} = "…"')
            found[text] = table[key]
    return found
