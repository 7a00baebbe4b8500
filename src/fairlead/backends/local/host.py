"""The agent process: drives the state machine of agent.py with real processes, files, a socket.

Lean on purpose (standard library and msgspec), since every supervisor is a fork of it. It may be
killed at any moment: what it must know is in the members' folders, and the supervisors go on.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import fcntl
import gc
import os
import resource
import select
import signal
import socket
import sys
import time
import traceback
from types import FrameType

import msgspec

from fairlead.backends.local import environment, files, process, supervisor
from fairlead.backends.local.agent import Action, Agent, MemberRecord, Start, Stop
from fairlead.backends.local.cgroup import Cgroups, Group
from fairlead.backends.local.files import Assignment, Ending, Started
from fairlead.model.base import Ms
from fairlead.model.jobs import Exit
from fairlead.model.messages import Desired, MemberKey, MemberState

HEARTBEAT_S = 5.0
IDLE_S = 600.0  # without members and without a connection; then the agent ends itself
MESSAGE_BYTES_MAX = 256 * 2**20
_SETTLE_S = 0.01  # between looks at a member whose supervisor is gone but not all its processes
_BURST_S = 0.01  # of starting members before messages and ends are looked at again
_READ_BYTES = 2**20
_LOST = "its supervisor was killed; how the command ended is unknown"


class Host:
    """One agent process on one state folder."""

    def __init__(self, state: str, node: str, cores: tuple[int, ...], idle_s: float) -> None:
        self.state, self.idle_s = state, idle_s
        self.folder = files.agent_folder(state)
        self.files_max = _raise_files_max()
        where = os.stat(self.folder)
        self.cgroups = Cgroups(f"fairlead-{where.st_dev:x}-{where.st_ino:x}")
        self.poll = select.epoll()
        self.watched: dict[int, MemberKey] = {}  # pidfd of a supervisor -> member
        self.pidfds: dict[MemberKey, int] = {}
        self.unsettled: set[MemberKey] = set()  # no supervisor to watch, no end known
        self.todo: collections.deque[Action] = collections.deque()
        self.peer: Connection | None = None
        self.reported = -1
        self.ending = False
        self.agent = Agent(node, _boot(), cores, self._known(), self._read_seen())

    def run(self) -> None:
        """Serve until SIGTERM or idleness; members go on without the agent."""
        process.adopt_orphans()
        self.wake = self._catch_signals()
        self.notify = self._open_notify()
        self.listener = self._listen()
        for fd in (self.wake, self.notify, self.listener.fileno()):
            self.poll.register(fd, select.EPOLLIN)
        for key, record in list(self.agent.members.items()):
            if record.state.state != "ended":
                self._settle(key)
        gc.collect()
        gc.freeze()  # so that a fork's collections leave these pages shared
        beat_at = time.monotonic() + HEARTBEAT_S
        idle_at = time.monotonic() + self.idle_s
        while not self.ending:
            self._work()
            now = time.monotonic()
            if self.peer is not None or self.agent.members:
                idle_at = now + self.idle_s
            if now >= beat_at:
                beat_at = now + HEARTBEAT_S
                self._beat()
            if now >= idle_at:
                break
            self._report()
            self._wait(min(beat_at, idle_at) - now)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{self.folder}/agent.sock")
        self.cgroups.close()

    def _wait(self, timeout_s: float) -> None:
        """Handle what happens next; returns after one batch or the timeout."""
        if self.todo:
            timeout_s = 0
        elif self.unsettled:
            timeout_s = min(timeout_s, _SETTLE_S)
        for fd, events in self.poll.poll(max(0.0, timeout_s)):
            if fd == self.wake:
                self._signalled()
            elif fd == self.notify:
                self._notified()
            elif fd == self.listener.fileno():
                self._accept()
            elif fd in self.watched:
                self._supervisor_gone(fd)
            elif self.peer is not None and fd == self.peer.socket.fileno():
                self._converse(events)
        for key in list(self.unsettled):
            self._settle(key)

    # -- the service ---------------------------------------------------------------------------

    def _accept(self) -> None:
        try:
            connected, _ = self.listener.accept()
        except OSError:
            return  # it gave up before we came
        self._hang_up()  # the newest connection is the service that is alive
        self.peer = Connection(connected)
        self.poll.register(connected.fileno(), select.EPOLLIN)
        self.reported = -1

    def _hang_up(self) -> None:
        if self.peer is not None:
            self.poll.unregister(self.peer.socket.fileno())
            self.peer.socket.close()
            self.peer = None

    def _converse(self, events: int) -> None:
        assert self.peer is not None
        try:
            if events & ~select.EPOLLOUT:
                for line in self.peer.lines():
                    self._desired(msgspec.json.decode(line, type=Desired))
            if events & select.EPOLLOUT:
                self._flush()
        except (OSError, EOFError, msgspec.MsgspecError) as error:
            if not isinstance(error, EOFError):
                _log(f"connection dropped: {error}")
            self._hang_up()

    def _desired(self, message: Desired) -> None:
        seen = self.agent.seen
        actions = self.agent.desired(message)
        if self.agent.seen != seen:
            # Before anything is done: after a restart no older message may start it again.
            files.write_text(f"{self.folder}/seen", b"%d\n" % self.agent.seen)
        self.todo.extend(actions)

    def _report(self) -> None:
        """Send the whole state if it changed; while the peer is slow, only the latest waits."""
        if self.peer is None or self.peer.unsent or self.reported == self.agent.changes:
            return
        self.reported = self.agent.changes
        self.peer.unsent = msgspec.json.encode(self.agent.report()) + b"\n"
        try:
            self._flush()
        except OSError:
            self._hang_up()

    def _flush(self) -> None:
        assert self.peer is not None
        self.peer.send()
        more = select.EPOLLOUT if self.peer.unsent else 0
        self.poll.modify(self.peer.socket.fileno(), select.EPOLLIN | more)

    def _beat(self) -> None:
        self.reported = -1
        for key, record in self.agent.members.items():
            if record.state.started_ms is None and record.state.state != "ended":
                self._look_for_start(key)  # its word may have been lost
        if not os.path.exists(f"{self.folder}/agent.lock") and not self.agent.members:
            _log("the state folder is gone")
            self.ending = True

    # -- members -------------------------------------------------------------------------------

    def _work(self) -> None:
        until = time.monotonic() + _BURST_S
        while self.todo and time.monotonic() < until:
            action = self.todo.popleft()
            if isinstance(action, Start):
                self._start(action)
            elif isinstance(action, Stop):
                self._stop(action.key)
            else:
                files.drop_member(self.state, action.key)

    def _start(self, action: Start) -> None:
        key = action.launch.key
        try:
            gpus = self._gpus(action.launch.devices)
            work = Assignment(launch=action.launch, cores=action.cores, gpus=gpus)
            pid = self._fork(work)
        except (OSError, LookupError) as error:
            _log(f"{files.key_name(key)}: cannot start: {error}")
            how = Exit(why="cannot-start", detail=str(error))
            self._ended(key, Ending(exit=how, ended_ms=_now_ms()))
            return
        self._watch(key, os.pidfd_open(pid))

    def _fork(self, work: Assignment) -> int:
        """Fork the supervisor; it inherits the lock, which lives as long as the supervisor."""
        folder = files.member_folder(self.state, work.launch.key)
        with contextlib.suppress(FileNotFoundError):
            files.remove_tree(folder)  # of an agent that died before it wrote launch.json
        os.mkdir(folder, 0o700)
        lock = os.open(f"{folder}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            files.write_record(f"{folder}/launch.json", work)
            # A stop may follow at once: it waits until the supervisor is ready for it.
            signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
            pid = os.fork()
            if pid == 0:
                supervisor.supervise(work, self.state, lock, self.cgroups, self.files_max)
            return pid
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))
            os.close(lock)

    def _gpus(self, devices: tuple[int, ...]) -> tuple[str, ...]:
        if not devices:
            return ()
        known = (files.read_text(f"{self.folder}/gpus") or b"").decode().splitlines()
        if max(devices) >= len(known):
            raise LookupError(f"GPU {max(devices)} is not known to the agent of this machine")
        return tuple(known[device] for device in devices)

    def _stop(self, key: MemberKey) -> None:
        if (pidfd := self.pidfds.get(key)) is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGTERM)

    def _watch(self, key: MemberKey, pidfd: int) -> None:
        self.watched[pidfd], self.pidfds[key] = key, pidfd
        self.poll.register(pidfd, select.EPOLLIN)

    def _supervisor_gone(self, pidfd: int) -> None:
        key = self.watched.pop(pidfd)
        del self.pidfds[key]
        self.poll.unregister(pidfd)
        os.close(pidfd)
        self._settle(key)

    def _settle(self, key: MemberKey) -> None:
        """Find out about a member whose supervisor is not watched: ended, running, or lost."""
        folder = files.member_folder(self.state, key)
        self.unsettled.discard(key)
        if not _is_free(f"{folder}/lock"):
            self._look_for_start(key)
            pid = int(files.read_text(f"{folder}/pid") or 0)
            try:
                pidfd = os.pidfd_open(pid) if pid else -1
            except ProcessLookupError:
                pidfd = -1
            # Held after the pidfd was opened: so it is the supervisor's, not a reused number.
            if pidfd >= 0 and not _is_free(f"{folder}/lock"):
                self._watch(key, pidfd)
                if self.agent.members[key].state.state == "stopping":
                    self._stop(key)
                return
            if pidfd >= 0:
                os.close(pidfd)
            self.unsettled.add(key)
            return
        ending = files.read_record(f"{folder}/exit.json", Ending)
        if ending is None and self._kill_remains(key, folder):
            self.unsettled.add(key)
            return
        if ending is None:
            _log(f"{files.key_name(key)}: lost")
            started = files.read_record(f"{folder}/started.json", Started)
            ending = Ending(
                exit=Exit(why="lost", detail=_LOST),
                started_ms=started.at_ms if started else None,
                ended_ms=_now_ms(),
            )
            self._group(folder).remove()
            with contextlib.suppress(OSError):  # a full disk: the next agent finds the same
                files.write_record(f"{folder}/exit.json", ending)
        self._ended(key, ending)

    def _kill_remains(self, key: MemberKey, folder: str) -> bool:
        """Kill what a dead supervisor left behind; whether anything was there."""
        work = files.read_record(f"{folder}/launch.json", Assignment)
        marker = environment.marker(self.state, work.launch) if work else {}
        pid = int(files.read_text(f"{folder}/pid") or 0)
        found = process.remains(pid, marker, {os.getpid()}) if marker else set()
        for remaining in found:
            process.kill(remaining)
        self._reap()
        return self._group(folder).kill() or bool(found)

    def _group(self, folder: str) -> Group:
        return Group((files.read_text(f"{folder}/cgroups") or b"").decode().splitlines())

    def _ended(self, key: MemberKey, ending: Ending) -> None:
        self.agent.ended(key, ending.exit, ending.started_ms, ending.ended_ms)

    def _look_for_start(self, key: MemberKey) -> None:
        path = f"{files.member_folder(self.state, key)}/started.json"
        if (started := files.read_record(path, Started)) is not None:
            self.agent.started(key, started.at_ms)

    # -- what is there at the start ------------------------------------------------------------

    def _known(self) -> list[MemberRecord]:
        """Return the members that an earlier life of the agent left; ends come by `_settle`."""
        parent = f"{self.folder}/members"
        os.makedirs(parent, 0o700, exist_ok=True)
        found = []
        for name in os.listdir(parent):
            key = files.parse_key(name)
            if key is None:
                continue
            if not os.path.exists(f"{parent}/{name}/launch.json"):
                files.remove_tree(f"{parent}/{name}")  # never started, or being dropped
                continue
            work = files.read_record(f"{parent}/{name}/launch.json", Assignment)
            state = MemberState(job=key[0], attempt=key[1], rank=key[2], state="starting")
            found.append(
                MemberRecord(
                    state=state,
                    cpu_milli=work.launch.spec.shape.cpu_milli if work else 0,
                    cores=work.cores if work else (),
                )
            )
        return found

    def _read_seen(self) -> int:
        text = files.read_text(f"{self.folder}/seen") or b""
        return int(text) if text.strip().isdigit() else 0  # torn: no message survived that either

    # -- signals, notifications ----------------------------------------------------------------

    def _catch_signals(self) -> int:
        wake, wake_in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_in, warn_on_full_buffer=False)
        for handled in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(handled, _noted)
        for ignored in (signal.SIGHUP, signal.SIGINT):
            signal.signal(ignored, signal.SIG_IGN)
        return wake

    def _signalled(self) -> None:
        if signal.SIGTERM in os.read(self.wake, 4096):
            self.ending = True
        self._reap()

    def _reap(self) -> None:
        """Collect supervisors and adopted orphans; ends are learned by pidfd and lock."""
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass

    def _open_notify(self) -> int:
        path = f"{self.folder}/notify"
        with contextlib.suppress(FileExistsError):
            os.mkfifo(path, 0o600)
        # Also open for writing, so that it never reads as ended.
        return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def _notified(self) -> None:
        for line in os.read(self.notify, 65536).decode().splitlines():
            name, _, at_ms = line.partition(" ")
            key = files.parse_key(name)
            if key is not None and at_ms.isdigit():
                self.agent.started(key, int(at_ms))

    def _listen(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        os.chdir(self.folder)  # socket names are short, state folders need not be
        with contextlib.suppress(FileNotFoundError):
            os.unlink("agent.sock")
        listener.bind("agent.sock")
        listener.listen(8)
        listener.setblocking(False)
        return listener


class Connection:
    """The service's end of the conversation: lines in, one report at a time out."""

    def __init__(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        self.socket = connected
        self.unsent: bytes | memoryview = b""
        self._parts: list[bytes] = []
        self._bytes = 0

    def lines(self) -> list[bytes]:
        """Return the complete lines that have come. Raises EOFError at the end, OSError."""
        data = self.socket.recv(_READ_BYTES)
        if not data:
            raise EOFError
        self._bytes += len(data)
        if self._bytes > MESSAGE_BYTES_MAX:
            raise OSError(f"a message is longer than {MESSAGE_BYTES_MAX} bytes")
        self._parts.append(data)
        if b"\n" not in data:
            return []
        *lines, rest = b"".join(self._parts).split(b"\n")
        self._parts, self._bytes = [rest], len(rest)
        return lines

    def send(self) -> None:
        """Send as much as the peer takes. Raises OSError."""
        with contextlib.suppress(BlockingIOError):
            self.unsent = memoryview(self.unsent)[self.socket.send(self.unsent) :]


def _is_free(path: str) -> bool:
    """Whether no supervisor holds the lock."""
    try:
        lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True


def _raise_files_max() -> tuple[int, int]:
    """Allow as many descriptors as may be (one per member); returns the old limits."""
    old = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (old[1], old[1]))
    return old


def _boot() -> str:
    return (files.read_text("/proc/sys/kernel/random/boot_id") or b"").decode().strip()


def _noted(_number: int, _frame: FrameType | None) -> None:
    """Let the wakeup descriptor tell the loop; the signal itself needs nothing more."""


def _now_ms() -> Ms:
    return time.time_ns() // 1_000_000


def _log(text: str) -> None:
    print(time.strftime("%Y-%m-%d %H:%M:%S"), text, file=sys.stderr, flush=True)


def _lock_or_exit(folder: str) -> int:
    """Take the agent's lock for life, or exit since another agent has it."""
    lock = os.open(f"{folder}/agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # A POSIX lock, unlike the members': forks do not inherit it, so it dies with the agent,
        # and it can be asked who holds it.
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.read(lock, 64).decode().strip()
        print(f"fairlead: an agent (process {holder}) serves {folder}", file=sys.stderr)
        sys.exit(1)
    os.ftruncate(lock, 0)
    os.write(lock, b"%d\n" % os.getpid())
    return lock


def main() -> None:
    """Run the agent process: python -m fairlead.backends.local.host --state DIR."""
    parser = argparse.ArgumentParser(prog="fairlead.backends.local.host")
    parser.add_argument("--state", required=True, help="the state folder")
    parser.add_argument("--node", default=socket.gethostname(), help="this machine's name")
    parser.add_argument("--cores", default="", help="core ids to give out, e.g. 0,1,4")
    parser.add_argument("--idle", type=float, default=IDLE_S, help="seconds idle until it ends")
    options = parser.parse_args()
    os.umask(0o077)
    state = os.path.abspath(options.state)
    os.makedirs(files.agent_folder(state), 0o700, exist_ok=True)
    _lock_or_exit(files.agent_folder(state))
    named = tuple(int(core) for core in options.cores.split(",") if core)
    try:
        Host(state, options.node, named or tuple(os.sched_getaffinity(0)), options.idle).run()
    except Exception:
        _log(traceback.format_exc())
        sys.exit(1)


if __name__ == "__main__":
    main()
