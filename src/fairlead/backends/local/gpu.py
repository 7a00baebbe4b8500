"""GPUs of this machine and who uses them, by NVML. No driver or no library: none, and why."""

from __future__ import annotations

import importlib
from typing import Any

from fairlead.model.base import Record
from fairlead.model.links import ACROSS, NVLINK, SOCKET, SWITCH, Matrix, known_links
from fairlead.model.resources import Device

_MIB = 2**20


class GpuProcess(Record, frozen=True):
    """A process that has memory on a GPU (index in the order of `Gpus.devices`)."""

    device: int
    pid: int
    memory_mib: int = 0  # 0 where the driver does not say


class Gpus(Record, frozen=True):
    """What NVML found. `because` says why there are no devices, for `doctor`."""

    devices: tuple[Device, ...] = ()
    processes: tuple[GpuProcess, ...] = ()
    links: Matrix = ()  # costs of pairs, where the groups of the devices do not say it
    because: str = ""


def discover() -> Gpus:
    """Return the devices in PCI order, with the processes on them."""
    try:
        nvml: Any = importlib.import_module("pynvml")
    except ImportError as error:
        return Gpus(because=f"no NVML library: {error}")
    try:
        nvml.nvmlInit()
    except (nvml.NVMLError, OSError) as error:
        return Gpus(because=f"no NVIDIA driver: {error}")
    try:
        return _read(nvml)
    except nvml.NVMLError as error:
        return Gpus(because=f"the NVIDIA driver failed: {error}")
    finally:
        nvml.nvmlShutdown()


def _read(nvml: Any) -> Gpus:
    devices: list[Device] = []
    processes: list[GpuProcess] = []
    for index in range(nvml.nvmlDeviceGetCount()):
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        devices.append(
            Device(
                model=_text(nvml.nvmlDeviceGetName(handle)),
                memory_mib=nvml.nvmlDeviceGetMemoryInfo(handle).total // _MIB,
                uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
            )
        )
        used: dict[int, int] = {}
        for query in (
            nvml.nvmlDeviceGetComputeRunningProcesses,
            nvml.nvmlDeviceGetGraphicsRunningProcesses,
        ):
            try:
                found = query(handle)
            except nvml.NVMLError:
                continue  # not every device and container answers this
            for process in found:
                used[process.pid] = max(used.get(process.pid, 0), process.usedGpuMemory or 0)
        processes += [
            GpuProcess(device=index, pid=pid, memory_mib=memory // _MIB)
            for pid, memory in sorted(used.items())
        ]
    because = "" if devices else "the driver knows no device"
    linked, links = _linked(nvml, devices)
    return Gpus(devices=linked, processes=tuple(processes), links=links, because=because)


def _linked(nvml: Any, devices: list[Device]) -> tuple[tuple[Device, ...], Matrix]:
    """Return the devices with where they are; as they are where the driver does not say it."""
    handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(len(devices))]

    def tell(one: int, other: int) -> int:
        pair = handles[one], handles[other]
        try:
            status = nvml.nvmlDeviceGetP2PStatus(*pair, nvml.NVML_P2P_CAPS_INDEX_NVLINK)
            if status == nvml.NVML_P2P_STATUS_OK:
                return NVLINK
        except nvml.NVMLError:
            pass  # an older driver knows how they sit on the bus all the same
        ancestor = nvml.nvmlDeviceGetTopologyCommonAncestor(*pair)
        if ancestor <= nvml.NVML_TOPOLOGY_MULTIPLE:  # one or several switches, no host bridge
            return SWITCH
        return ACROSS if ancestor >= nvml.NVML_TOPOLOGY_SYSTEM else SOCKET

    try:
        return known_links(devices, tell)
    except (nvml.NVMLError, AttributeError):  # virtual machines and old libraries
        return tuple(devices), ()


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value  # depends on the version
