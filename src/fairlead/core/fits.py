"""Questions about what fits, for refusals and explanations. Not on the hot path."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace

from fairlead.core.ledger import HOST, ROW_NAMES, UP, WHOLE, Columns, Devices, Ledger, Request
from fairlead.core.pack import pack
from fairlead.core.tree import Tally
from fairlead.model.base import NodeId
from fairlead.model.resources import DIMENSIONS, WHOLE_GPU_MILLI, Shape

MODEL = "GPU type"


def lacking(ledger: Ledger, request: Request, *, empty: bool = False) -> Counter[str]:
    """Count the nodes that cannot take one member now, by what they lack ("CPU and memory").

    With `empty`, the question is put to the cluster with nobody on it, every node up. Nodes that
    can take one are counted under "". O(nodes) in numpy; device by device only where the request
    restricts devices.
    """
    host = ledger.capacity if empty else ledger.room
    codes = np.zeros(ledger.count, np.int64)
    for row in range(HOST):
        codes |= (host[row, : ledger.count] < request.host[row]).astype(np.int64) << row
    if request.gpus or request.milli:
        codes |= _device_codes(ledger, request, empty)
    if not empty:
        codes[ledger.room[UP, : ledger.count] == 0] = 1 << UP
    kinds, counts = np.unique(codes, return_counts=True)
    words = {1 << row: ROW_NAMES[row] for row in (*range(HOST), UP)} | _DEVICE_LACKS
    return Counter(
        {
            " and ".join(word for bit, word in words.items() if kind & bit): count
            for kind, count in zip(kinds.tolist(), counts.tolist(), strict=True)
        }
    )


_DEVICE_LACKS = {1 << 10: "GPUs", 1 << 11: "GPU memory", 1 << 12: MODEL}
_LACK_CODES = {word: bit for bit, word in _DEVICE_LACKS.items()}


def _device_codes(ledger: Ledger, request: Request, empty: bool) -> Columns:
    if request.simple and not empty:
        few = ledger.room[WHOLE, : ledger.count] < request.gpus
        return few.astype(np.int64) * _LACK_CODES["GPUs"]
    codes = np.zeros(ledger.count, np.int64)
    for node in range(ledger.count):
        devices = ledger.devices[node].empty() if empty else ledger.devices[node]
        if devices.pick(request) is None:
            codes[node] = _LACK_CODES[_device_lack(devices, request)]
    return codes


def _device_lack(devices: Devices, request: Request) -> str:
    models = {device.model for device in devices.spec}
    if request.models and not (models & request.models):
        return MODEL if models else "GPUs"
    if request.memory and len(devices.size) >= request.picks:
        roomy = Request(replace(request.shape, gpu_memory_mib=0))
        if devices.pick(roomy) is not None:
            return "GPU memory"
    return "GPUs"


def copies(ledger: Ledger, request: Request, node: int, most: int, *, empty: bool) -> int:
    """Return how many members fit on one node together, at most `most`."""
    if not empty and not ledger.room[UP, node]:
        return 0
    host = ledger.capacity if empty else ledger.room
    count = most
    for row in range(HOST):
        if request.host[row]:
            count = min(count, int(host[row, node]) // request.host[row])
    if count <= 0 or not (request.gpus or request.milli):
        return max(count, 0)
    devices = ledger.devices[node].empty() if empty else ledger.devices[node].copy()
    for done in range(count):
        chosen = devices.pick(request)
        if chosen is None:
            return done
        devices.move(request, chosen, -1)
    return count


def members_that_fit(
    ledger: Ledger,
    request: Request,
    *,
    empty: bool,
    up_only: bool = False,
    without: frozenset[NodeId] = frozenset(),
) -> int:
    """Return how many members of a gang, at most all, could be placed together by its rules.

    `empty`: with nobody on the nodes, also on those that are down unless `up_only`.
    """
    if request.parts:
        return _kinds_that_fit(ledger, request, empty=empty, up_only=up_only, without=without)
    tally, most, largest = Tally(ledger, request), request.members, 0
    for node in range(ledger.count):
        if tally.enough():
            break  # most questions are answered by a few nodes
        if node in without or (up_only and not ledger.room[UP, node]):
            continue
        here = copies(ledger, request, node, most, empty=empty)
        largest = max(largest, here)
        tally.set(node, here)
    return largest if tally.spread == "same-node" else tally.most()


class _Free(NamedTuple):
    free: list[int]
    devices: Devices


def _kinds_that_fit(
    ledger: Ledger, request: Request, *, empty: bool, up_only: bool, without: frozenset[NodeId]
) -> int:
    """Return all members of a gang with different workers, or how many would fit kind by kind.

    Where it is not known whether all fit an empty cluster, they may.
    """
    up = up_only or not empty
    nodes = [
        node
        for node in range(ledger.count)
        if node not in without and not (up and not ledger.room[UP, node])
    ]

    def room(node: NodeId) -> _Free:
        host = (ledger.capacity if empty else ledger.room)[: len(DIMENSIONS), node].tolist()
        return _Free(host, ledger.devices[node].empty() if empty else ledger.devices[node])

    packing = pack(ledger, request, lambda _: nodes, room)
    if packing.slots is not None or (empty and not packing.known):
        return request.members
    alone = (
        members_that_fit(ledger, part, empty=empty, up_only=up_only, without=without)
        for part in request.parts
    )
    return min(sum(alone), request.members - 1)


def largest(ledger: Ledger, request: Request) -> Shape | None:
    """Return the nearest shape that the empty cluster can take: the same, cut to some node.

    Of all nodes the one that leaves most of the request (the product of the kept fractions);
    ties by lowest index. None if nothing of it fits anywhere.
    """
    if request.parts:
        return _largest_kinds(ledger, request)
    best: Shape | None = None
    best_kept = 0
    for node in range(ledger.count):
        cut = _cut(ledger, request, node)
        kept = _kept(request.shape, cut)
        if kept > best_kept:
            best, best_kept = cut, kept
    if best is None or (request.picks and not best.devices):
        return None
    fitting = members_that_fit(ledger, Request(best), empty=True)
    if fitting < best.members:
        if fitting == 0:
            return None
        best = replace(best, members=fitting)
    return best


def _largest_kinds(ledger: Ledger, request: Request) -> Shape | None:
    """Return each kind of workers cut as if it were alone, then fewer of them until all fit."""
    cut = [largest(ledger, part) for part in request.parts]
    kinds = [kind for kind in cut if kind is not None]
    if len(kinds) < len(cut):
        return None

    def fits(index: int, members: int) -> bool:
        kinds[index] = replace(kinds[index], members=members)
        whole = request.shape.with_kinds(kinds)
        return members_that_fit(ledger, Request(whole), empty=True) == whole.members

    for index in sorted(range(len(kinds)), key=lambda index: -kinds[index].members):
        least, most = 1, kinds[index].members
        while least < most:
            middle = (least + most + 1) // 2
            least, most = (middle, most) if fits(index, middle) else (least, middle - 1)
        if fits(index, least):
            return request.shape.with_kinds(kinds)
    return None


def _cut(ledger: Ledger, request: Request, node: int) -> Shape:
    shape, capacity = request.shape, ledger.capacity[:, node].tolist()
    sizes = [
        device.memory_mib
        for device in ledger.devices[node].spec
        if not request.models or device.model in request.models
    ]
    memory = min(shape.gpu_memory_mib, max(sizes, default=0))
    enough = [size for size in sizes if size >= memory]
    gpus = min(shape.gpus, len(enough))
    parts = shape.shares[: len(enough) - gpus]
    return Shape(
        cpu_milli=min(shape.cpu_milli, capacity[0]),
        memory_mib=min(shape.memory_mib, capacity[1]),
        disk_mib=min(shape.disk_mib, capacity[2]),
        gpus=gpus,
        gpu_milli=sum(parts),
        gpu_parts=parts if len(parts) > 1 else (),
        gpu_memory_mib=memory,
        gpu_models=shape.gpu_models,
        members=shape.members,
        spread=shape.spread,
        within=shape.within,
        near=shape.near,
    )


def _kept(asked: Shape, cut: Shape) -> int:
    """Return how much of a request is left, in millionths per amount, multiplied."""
    kept = 1
    for whole, part in zip(_amounts(asked), _amounts(cut), strict=True):
        if whole:
            kept *= 1_000_000 * part // whole
    return kept


def _amounts(shape: Shape) -> tuple[int, ...]:
    milli = WHOLE_GPU_MILLI * shape.gpus + shape.gpu_milli
    return (*shape.amounts(), milli, shape.gpu_memory_mib)
