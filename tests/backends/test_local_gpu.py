"""How GPUs are linked, as a driver says it: a stand-in for NVML, for no machine here has eight."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from fairlead.backends.local import gpu
from fairlead.backends.local.inventory import inventory

GIB = 2**30


class NVMLError(Exception):
    pass


def nvml(count: int, link, ancestor=None, **more):
    """Return a driver of so many GPUs; `link` and `ancestor` tell about pairs of indices."""

    def p2p(one, other, what):
        if isinstance(link, Exception):
            raise link
        return 0 if what == 2 and link(one, other) else 5

    def common(one, other):
        if isinstance(ancestor, Exception):
            raise ancestor
        return ancestor(one, other)

    calls = {
        "NVMLError": NVMLError,
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: count,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetName": lambda handle: b"A100",
        "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(total=80 * GIB),
        "nvmlDeviceGetUUID": lambda handle: f"GPU-{handle}",
        "nvmlDeviceGetComputeRunningProcesses": lambda handle: [],
        "nvmlDeviceGetGraphicsRunningProcesses": lambda handle: [],
        "nvmlDeviceGetP2PStatus": p2p,
        "nvmlDeviceGetTopologyCommonAncestor": common,
        "NVML_P2P_CAPS_INDEX_NVLINK": 2,
        "NVML_P2P_STATUS_OK": 0,
        "NVML_TOPOLOGY_MULTIPLE": 20,
        "NVML_TOPOLOGY_SYSTEM": 50,
    }
    return SimpleNamespace(**{**calls, **more})


@pytest.fixture
def driver(monkeypatch):
    return lambda *given, **more: monkeypatch.setitem(sys.modules, "pynvml", nvml(*given, **more))


def where(devices) -> list[tuple[int, int, int]]:
    return [(each.island, each.pcie, each.socket) for each in devices]


def test_pairs_by_nvlink_on_switches_of_two_sockets(driver):
    driver(
        8,
        lambda one, other: one // 2 == other // 2,
        lambda one, other: 10 if one // 4 == other // 4 else 50,
    )
    node = inventory("h")
    assert where(node.devices) == [
        *((0, 0, 0), (0, 0, 0), (1, 0, 0), (1, 0, 0)),
        *((2, 1, 1), (2, 1, 1), (3, 1, 1), (3, 1, 1)),
    ]
    assert node.links == ()


def test_a_mesh_in_which_not_all_are_linked_is_kept_as_costs(driver):
    """Eight V100: each is linked with four of the others."""
    linked = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3), (0, 4), (1, 5), (2, 6), (3, 7)]
    linked += [(4, 5), (4, 6), (4, 7), (5, 6), (5, 7), (6, 7)]
    driver(
        8,
        lambda one, other: (min(one, other), max(one, other)) in linked,
        lambda one, other: 40 if one // 4 == other // 4 else 50,
    )
    found = gpu.discover()
    assert len(found.links) == 8 and found.links[0] == (0, 1, 1, 1, 1, 8, 8, 8)
    assert inventory("h").links == found.links


def test_an_older_driver_that_knows_no_nvlink_still_knows_the_bus(driver):
    driver(4, NVMLError("not supported"), lambda one, other: 30 if one // 2 == other // 2 else 50)
    assert where(gpu.discover().devices) == [(0, 0, 0), (1, 1, 0), (2, 2, 1), (3, 3, 1)]


@pytest.mark.parametrize("more", [{}, {"nvmlDeviceGetTopologyCommonAncestor": None}])
def test_a_virtual_machine_that_says_nothing_offers_its_gpus_all_the_same(driver, more):
    driver(4, NVMLError("no"), NVMLError("not supported"), **more)
    if more:
        del sys.modules["pynvml"].nvmlDeviceGetTopologyCommonAncestor
    found = gpu.discover()
    assert where(found.devices) == [(0, 0, 0)] * 4 and found.because == ""
