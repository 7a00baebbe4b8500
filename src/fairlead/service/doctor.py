"""What of this machine Fairlead can use, and what stands in its way, in plain words."""

from __future__ import annotations

import os
import resource
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import fairlead
from fairlead.backends.local import cgroup, gpu
from fairlead.backends.local.launch import agent_pid
from fairlead.model.base import Misuse
from fairlead.service.lock import running_pid
from fairlead.service.places import Places

DISK_FREE_MIB_MIN = 1024
FLUSH_MS_MAX = 20.0
FILES_MIN = 1024
CLOCK_BEHIND_MS_MAX = 1000
_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "lustre", "gpfs", "fuse.sshfs", "9p"}

Result = Literal["ok", "warn", "fail"]


class Check(NamedTuple):
    """One finding; `hint` says what to do when it is not ok."""

    name: str
    result: Result
    detail: str
    hint: str = ""


def examine(places: Places, status: Mapping[str, Any]) -> list[Check]:
    """Return every finding. `status` is the running service's own, empty when there is none."""
    return [
        Check("fairlead", "ok", f"{fairlead.__version__} on Python {sys.version.split()[0]}"),
        *_state(places),
        *_service(places, status),
        *_clock(status),
        *_limits(),
        *_enforcement(),
        *_gpus(),
    ]


def _state(places: Places) -> Iterator[Check]:
    try:
        places.ensure()
    except Misuse as error:
        yield Check("state", "fail", error.message, error.hint)
        return
    mode = places.state.stat().st_mode & 0o777
    open_to = "others may look into it" if mode & 0o077 else "yours alone"
    yield Check(
        "state",
        "warn" if mode & 0o077 else "ok",
        f"{places.state}, {open_to}",
        f"chmod 700 {places.state}",
    )
    space = os.statvfs(places.state)
    free = space.f_bavail * space.f_frsize // 2**20
    kind = _file_system(places.state)
    yield Check(
        "disk",
        "warn" if free < DISK_FREE_MIB_MIN else "ok",
        f"{free / 1024:.1f} GiB free ({kind})",
        "free some space: a full disk stops scheduling, not the jobs that run",
    )
    if kind in _NETWORK:
        yield Check(
            "disk",
            "warn",
            f"the state folder is on a network file system ({kind})",
            "use a local disk: FAIRLEAD_STATE=/local/folder",
        )
    flush_ms = _flush_ms(places.state)
    yield Check(
        "flush",
        "warn" if flush_ms > FLUSH_MS_MAX else "ok",
        f"{flush_ms:.1f} ms to make a decision durable",
        "every turn of the scheduler waits for this; a faster disk makes it faster",
    )


def _file_system(path: Path) -> str:
    best, kind = "", "unknown"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, point, found, *_ = line.split(" ")
        inside = f"{path}/".startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, found
    return kind


def _flush_ms(folder: Path) -> float:
    path = folder / f"doctor.{os.getpid()}"
    took = []
    with path.open("wb", buffering=0) as file:
        path.unlink()
        for _ in range(7):
            begin = time.perf_counter()
            file.write(b"x" * 4096)
            os.fdatasync(file.fileno())
            took.append(1000 * (time.perf_counter() - begin))
    return statistics.median(took)


def _service(places: Places, status: Mapping[str, Any]) -> Iterator[Check]:
    pid = running_pid(places.pid)
    if pid is None:
        yield Check("service", "ok", "not running; start it with: fairlead up")
        agent = agent_pid(places.state)
        yield Check("agent", "ok", f"process {agent}" if agent else "not running")
        return
    if not status:
        yield Check("service", "fail", f"process {pid} does not answer", f"see {places.log}")
        return
    version = status["version"]
    same = version == fairlead.__version__
    yield Check(
        "service",
        "ok" if same else "warn",
        f"process {pid}, version {version}, {status['events']} events",
        "another version is installed: fairlead down --keep-jobs, then fairlead up",
    )
    store = status["store"]
    yield Check(
        "store",
        "ok" if store["ok"] else "fail",
        "writes are durable" if store["ok"] else store["problem"],
        "free space on the disk; the service tries again every second",
    )
    agent = status["agent"]
    yield Check(
        "agent",
        "ok" if agent["connected"] else "fail",
        f"process {agent['pid']}, connected" if agent["connected"] else agent["problem"],
        f"see {places.state / 'agent' / 'agent.log'}; the service starts it again",
    )


def _clock(status: Mapping[str, Any]) -> Iterator[Check]:
    behind = status.get("now_ms", 0) - time.time_ns() // 1_000_000
    yield Check(
        "clock",
        "warn" if behind > CLOCK_BEHIND_MS_MAX else "ok",
        f"{behind / 1000:.1f} s behind the log: time stands still until it has caught up"
        if behind > CLOCK_BEHIND_MS_MAX
        else time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        "keep the clock right with chrony or systemd-timesyncd",
    )


def _limits() -> Iterator[Check]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield Check(
        "files",
        "warn" if hard < FILES_MIN else "ok",
        f"{hard} open files allowed (now {soft})",
        f"raise the hard limit (ulimit -Hn) to {FILES_MIN} or more",
    )
    most = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    text = "no limit" if most == resource.RLIM_INFINITY else f"{most} allowed"
    yield Check("processes", "ok", text)


def _enforcement() -> Iterator[Check]:
    cores = sorted(os.sched_getaffinity(0))
    found = cgroup.probe()
    for name, means, without in (
        ("cores", found.cores, "jobs may use more cores than they asked for"),
        ("memory", found.memory, "memory is booked but not limited: a job may use more"),
        ("kill", found.kill, "processes that detach from a job may survive it"),
    ):
        detail = means.by or without
        if name == "cores":
            detail = f"{len(cores)} usable; {detail}"
        if means.because:
            detail += f" ({means.because})"
        hint = "let a systemd user session delegate control groups, or run as root"
        yield Check(name, "ok" if means.by else "warn", detail, hint)


def _gpus() -> Iterator[Check]:
    found = gpu.discover()
    if not found.devices:
        yield Check("GPUs", "ok", f"none: {found.because}")
    for index, device in enumerate(found.devices):
        others = sum(process.device == index for process in found.processes)
        used = f", {others} processes on it" if others else ""
        yield Check("GPU", "ok", f"{index}: {device.model}, {device.memory_mib} MiB{used}")
