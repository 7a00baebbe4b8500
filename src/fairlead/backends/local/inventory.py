"""What this machine offers to jobs. Runs in the service, which may load psutil."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from fairlead.backends.local import gpu
from fairlead.model.resources import Device, Node

# Not offered to jobs: the system's and Fairlead's own share of memory, 5 % but at least 512 MiB,
# and of the state folder's disk, where the database must never find it full.
MEMORY_RESERVE_SHARE, MEMORY_RESERVE_MIB = 20, 512
DISK_RESERVE_MIB = 1024
_MIB = 2**20


def inventory(
    name: str | None = None,
    *,
    cpus: float | None = None,
    memory_mib: int | None = None,
    disk_mib: int | None = None,
    devices: tuple[Device, ...] | None = None,
    state: Path | None = None,
) -> Node:
    """Return this machine as a node; what is given overrides what is found.

    cpus: the cores this process may use. Memory: the total, or the limit of the control group
    that this process is in, minus a reserve. Disk: what is free where `state` lies, minus a
    reserve (0 without `state`). GPUs: by NVML, in its order, which is that of Slot.devices.
    """
    cores = len(os.sched_getaffinity(0))
    found = gpu.discover() if devices is None else gpu.Gpus(devices=devices)
    return Node(
        name=name or socket.gethostname(),
        cpu_milli=round((cores if cpus is None else cpus) * 1000),
        memory_mib=_memory_mib() if memory_mib is None else memory_mib,
        disk_mib=_disk_mib(state) if disk_mib is None else disk_mib,
        devices=found.devices,
        links=found.links,
        address="127.0.0.1",
        boot=Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
    )


def _memory_mib() -> int:
    import psutil  # not needed by those who only read records

    total = psutil.virtual_memory().total // _MIB
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            total = min(total, int(Path(limit).read_text()) // _MIB)  # of a container
        except (OSError, ValueError):
            continue  # no such version, or "max"
    return int(total - max(MEMORY_RESERVE_MIB, total // MEMORY_RESERVE_SHARE))


def _disk_mib(state: Path | None) -> int:
    if state is None:
        return 0
    existing = next(folder for folder in (state, *state.absolute().parents) if folder.exists())
    space = os.statvfs(existing)
    return max(0, space.f_bavail * space.f_frsize // _MIB - DISK_RESERVE_MIB)
