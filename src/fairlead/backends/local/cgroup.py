"""Control groups for members, version 2 or 1, where this process may make them.

Groups are made below the agent's own group, so limits that someone set on it keep holding. What
is not permitted is left out without an error: then cores rest on affinity, the end of a process
tree on adopted orphans, and memory is not limited. `probe` says which, and why.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

from fairlead.backends.local import process
from fairlead.model.base import Record

_PERIOD_US = 100_000
_QUOTA_US_MIN = 1_000  # the kernel refuses less
_MEMORY_MIB_MIN = 4  # with less, the command dies before it is executed
_MIB = 2**20


class Means(Record, frozen=True):
    """How something is enforced ("" for not at all), and what keeps it from being better."""

    by: str = ""
    because: str = ""


class Enforcement(Record, frozen=True):
    """What holds members to their share of this machine."""

    cores: Means
    memory: Means
    kill: Means


class Group:
    """The control groups of one member: one per hierarchy."""

    def __init__(self, folders: Sequence[str], homes: Sequence[str] = ()) -> None:
        self.folders, self._homes = tuple(folders), tuple(homes)

    def enter(self) -> None:
        """Move the calling process into the group. Raises OSError."""
        for folder in self.folders:
            _join(folder)

    def leave(self) -> None:
        """Move the calling process back to where it was before `enter`. Raises OSError."""
        for home in self._homes:
            _join(home)

    def oom_kills(self) -> int:
        """Return how many processes of the group the kernel killed for want of memory."""
        for folder in self.folders:
            for name in ("memory.events", "memory.oom_control"):  # version 2, version 1
                for line in _lines(f"{folder}/{name}"):
                    word, _, count = line.partition(" ")
                    if word == "oom_kill":
                        return int(count)
        return 0

    def kill(self) -> bool:
        """Kill what is in the group; whether anything was. Callers repeat until nothing is."""
        busy = False
        for folder in self.folders:
            members = _lines(f"{folder}/cgroup.procs")
            busy = busy or bool(members)
            with contextlib.suppress(OSError):  # absent in version 1 and before Linux 5.14
                _write(f"{folder}/cgroup.kill", "1")
                continue
            for member in members:
                process.kill(int(member))
        return busy

    def remove(self) -> None:
        """Remove the empty group."""
        for folder in self.folders:
            with contextlib.suppress(OSError):  # gone already, or still holds a dying process
                os.rmdir(folder)


class Cgroups:
    """Where groups for members may be made, found once when the agent starts."""

    def __init__(self, name: str, proc: str = "/proc/self") -> None:
        self._folders: dict[str, str] = {}  # controller -> folder that members' groups go into
        self._homes: dict[str, str] = {}  # such a folder -> where this process is
        self._because: dict[str, str] = {}
        mounts, own = _mounts(proc), _own(proc)
        for controller in ("memory", "cpu"):
            try:
                if controller in mounts:  # version 1: one hierarchy per controller
                    folder = f"{_below(mounts[controller], own[controller])}/{name}"
                    os.makedirs(folder, 0o755, exist_ok=True)
                elif "" in mounts:
                    folder = _delegated(_below(mounts[""], own[""]), controller, name)
                else:
                    raise OSError("no control groups are mounted")
                self._folders[controller] = folder
                which = controller if controller in mounts else ""
                self._homes[folder] = _below(mounts[which], _own(proc)[which])
            except (OSError, KeyError) as error:
                self._because[controller] = f"no control group for {controller}: {_reason(error)}"

    def group(self, name: str, cpu_milli: int, memory_mib: int) -> Group | None:
        """Make a member's group with these limits (0: none); None where there is none to make."""
        wanted = {"cpu": cpu_milli, "memory": memory_mib}
        parents = sorted({self._folders[c] for c in self._folders if wanted[c]})
        if not parents:
            return None
        group = Group(
            [f"{parent}/{name}" for parent in parents], [self._homes[parent] for parent in parents]
        )
        try:
            for folder in group.folders:
                os.makedirs(folder, 0o755, exist_ok=True)
                if cpu_milli and folder.startswith(f"{self._folders.get('cpu', ' ')}/"):
                    _limit_cpu(folder, cpu_milli)
                if memory_mib and folder.startswith(f"{self._folders.get('memory', ' ')}/"):
                    _limit_memory(folder, memory_mib)
        except OSError:
            group.remove()
            return None
        return group

    def enforcement(self) -> Enforcement:
        """Try it, and say what is enforced how."""
        cores = Means(by="affinity", because=self._because.get("cpu", ""))
        memory = Means(because=self._because.get("memory", ""))
        kill = Means(
            by="adopted orphans and sessions",
            because="; ".join(dict.fromkeys(self._because.values())),
        )
        trial = f"probe-{os.getpid()}"
        if (group := self.group(trial, 500, 0)) is not None:
            cores = Means(by=f"affinity and control group {_version(group)} quota")
            kill = Means(by=f"adopted orphans, sessions and control group {_version(group)}")
            group.remove()
        elif "cpu" in self._folders:
            cores = Means(by="affinity", because="the cpu controller refuses a quota")
        if (group := self.group(trial, 0, 64)) is not None:
            memory = Means(by=f"control group {_version(group)} limit")
            group.remove()
        elif "memory" in self._folders:
            memory = Means(because="the memory controller refuses a limit")
        return Enforcement(cores=cores, memory=memory, kill=kill)

    def close(self) -> None:
        """Remove the folders for members' groups where they are empty."""
        Group(sorted(set(self._folders.values()))).remove()


def probe() -> Enforcement:
    """Return what would be enforced for jobs of an agent started by this process."""
    cgroups = Cgroups(f"fairlead-probe-{os.getpid()}")
    try:
        return cgroups.enforcement()
    finally:
        cgroups.close()


def _limit_cpu(folder: str, cpu_milli: int) -> None:
    quota_us = max(_QUOTA_US_MIN, cpu_milli * _PERIOD_US // 1000)
    if os.path.exists(f"{folder}/cpu.max"):
        _write(f"{folder}/cpu.max", f"{quota_us} {_PERIOD_US}")
    else:
        _write(f"{folder}/cpu.cfs_period_us", str(_PERIOD_US))
        _write(f"{folder}/cpu.cfs_quota_us", str(quota_us))


def _limit_memory(folder: str, memory_mib: int) -> None:
    limit = str(max(_MEMORY_MIB_MIN, memory_mib) * _MIB)
    if os.path.exists(f"{folder}/memory.max"):
        _write(f"{folder}/memory.max", limit)
        swap = (f"{folder}/memory.swap.max", "0")
    else:
        _write(f"{folder}/memory.limit_in_bytes", limit)
        swap = (f"{folder}/memory.memsw.limit_in_bytes", limit)
    with contextlib.suppress(OSError):  # swap is not accounted on every kernel
        _write(*swap)


def _delegated(base: str, controller: str, name: str) -> str:
    """Return the version 2 folder whose children get the controller. Raises OSError."""
    if controller not in " ".join(_lines(f"{base}/cgroup.controllers")).split():
        raise OSError(f"{base} does not offer it")
    folder = f"{base}/{name}"
    os.makedirs(folder, 0o755, exist_ok=True)
    try:
        _write(f"{base}/cgroup.subtree_control", f"+{controller}")
    except OSError:
        # A group with processes of its own cannot pass controllers on: step aside and retry.
        if _lines(f"{base}/cgroup.procs") != [str(os.getpid())]:
            raise
        os.makedirs(f"{base}/{name}-agent", 0o755, exist_ok=True)
        _write(f"{base}/{name}-agent/cgroup.procs", "0")
        _write(f"{base}/cgroup.subtree_control", f"+{controller}")
    _write(f"{folder}/cgroup.subtree_control", f"+{controller}")
    return folder


def _below(mount: tuple[str, str], own: str) -> str:
    """Return the folder of a group, whatever part of the hierarchy a container mounts."""
    where, root = mount
    return f"{where}/{own.removeprefix(root).strip('/')}".rstrip("/")


def _mounts(proc: str) -> dict[str, tuple[str, str]]:
    """Return (mount point, root of what is mounted) by controller; version 2 under ""."""
    found: dict[str, tuple[str, str]] = {}
    for line in _lines(f"{proc}/mountinfo"):
        left, _, right = line.partition(" - ")
        kind, _source, options = right.split(" ", 2)
        root, where = left.split(" ")[3:5]
        if kind == "cgroup2":
            found.setdefault("", (where, root))
        elif kind == "cgroup":
            for controller in options.split(","):
                found.setdefault(controller, (where, root))
    return found


def _own(proc: str) -> dict[str, str]:
    """Return this process's group by controller; version 2 under ""."""
    found: dict[str, str] = {}
    for line in _lines(f"{proc}/cgroup"):
        _number, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            found[controller] = path
    return found


def _reason(error: OSError | KeyError) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f" ({os.path.dirname(error.filename)})" if error.filename else ""
        return f"{error.strerror.lower()}{where}"
    return str(error)


def _version(group: Group) -> str:
    two = any(os.path.exists(f"{folder}/cgroup.events") for folder in group.folders)
    return "v2" if two else "v1"


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().splitlines()
    except OSError:
        return []


def _join(folder: str) -> None:
    """Move this process, which has one thread, into a group."""
    try:
        # Version 1 alone has it. Moving a whole process waits for other cores (14 ms measured),
        # moving a thread that is the process's only one does not (0.1 ms).
        _write(f"{folder}/tasks", "0")
    except FileNotFoundError:
        _write(f"{folder}/cgroup.procs", "0")


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
