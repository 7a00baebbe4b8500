"""The agent process: drives the state machine of agent.py with real processes, files, a socket.

Lean on purpose (standard library and msgspec), since every supervisor is a fork of it. It may be
killed at any moment: what it must know is in the members' journals, and the supervisors go on.
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
from collections.abc import Iterable
from types import FrameType

import msgspec

from fairlead.backends.local import checkpoints, environment, files, process, supervisor
from fairlead.backends.local.agent import Action, Agent, MemberRecord, Start, Stop
from fairlead.backends.local.cgroup import Cgroups, Group
from fairlead.backends.local.connection import Connection
from fairlead.backends.local.files import Assigned, Ended, Journal
from fairlead.backends.local.membership import Memberships
from fairlead.backends.local.reports import Watch
from fairlead.model.base import Ms
from fairlead.model.jobs import Exit
from fairlead.model.messages import Desired, MemberKey, MemberState, Progress

HEARTBEAT_S = 5.0
IDLE_S = 600.0  # without members and without a connection; then the agent ends itself
_SETTLE_S = 0.01  # between looks at a member whose supervisor is gone but not all its processes
_BURST_S = 0.01  # of starting members before messages and ends are looked at again
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
        self.forked: dict[MemberKey, int] = {}  # supervisors that are children of this process
        self.unsettled: set[MemberKey] = set()  # no supervisor to watch, no end known
        self.saves = checkpoints.Watch(state)
        self.progress = Watch(state)
        self.todo: collections.deque[Action] = collections.deque()
        self.memberships = Memberships(state, self.pidfds)
        self.peer: Connection | None = None
        self.reported = -1
        self.ending = False
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self.seen_file = os.open(f"{self.folder}/seen", flags, 0o600)
        self._decode = msgspec.json.Decoder(Desired)
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
        messages: list[Desired] = []
        try:
            if events & ~select.EPOLLOUT:
                messages += [self._decode.decode(line) for line in self.peer.lines()]
            if events & select.EPOLLOUT:
                self._flush()
        except (OSError, EOFError, msgspec.MsgspecError) as error:
            if not isinstance(error, EOFError):
                _log(f"connection dropped: {error}")
            self._hang_up()
        for message in messages:
            self._desired(message)

    def _desired(self, message: Desired) -> None:
        seen = self.agent.seen
        actions = self.agent.desired(message)
        if self.agent.seen != seen:
            # Before anything is done: after a restart no older message may start it again.
            # In place, so that it works on a full disk; a failure ends this life of the agent.
            os.pwrite(self.seen_file, b"%020d\n" % self.agent.seen, 0)
        if message.version == self.agent.seen and message.boot in ("", self.agent.boot):
            self.memberships.hear(message.teams)
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
        for key, at_ms in self.saves.look(self.agent.members.values()):
            self.agent.checkpointed(key, at_ms)
        self._progressed(self.progress.look(self.agent.members.values()))
        for key, record in self.agent.members.items():
            self.memberships.tell(key)  # a full disk may have kept it from us
            if record.state.started_ms is not None or record.state.state == "ended":
                continue
            if (started := files.journal(self.state, key).started) is not None:
                self.agent.started(key, started.at_ms)  # its word got lost
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
                self._stop(action)
            else:
                try:
                    files.drop_member(self.state, action.key)
                except OSError as error:  # what is left of it goes at the next start
                    _log(f"{files.key_name(action.key)}: cannot drop: {error}")

    def _start(self, action: Start) -> None:
        key = action.launch.key
        try:
            gpus = self._gpus(action.launch.devices)
            work = Assigned(
                launch=action.launch, cores=action.cores, gpus=gpus, boot=self.agent.boot
            )
            self.memberships.tell(key)
            pid = self._fork(work)
        except (OSError, LookupError) as error:
            _log(f"{files.key_name(key)}: cannot start: {error}")
            how = Exit(why="cannot-start", detail=str(error))
            self._conclude(key, Ended(exit=how, ended_ms=_now_ms()))
            return
        self.forked[key] = pid
        self._watch(key, os.pidfd_open(pid))

    def _fork(self, work: Assigned) -> int:
        """Fork the supervisor; it inherits the lock, which lives as long as the supervisor."""
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        journal = os.open(files.journal_file(self.state, work.launch.key), flags, 0o600)
        try:
            fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
            files.append(journal, work)
            # A stop may follow at once: it waits until the supervisor is ready for it.
            signal.pthread_sigmask(signal.SIG_BLOCK, supervisor.SENT)
            pid = os.fork()
            if pid == 0:
                supervisor.supervise(work, self.state, journal, self.cgroups, self.files_max)
            return pid
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, supervisor.SENT)
            os.close(journal)

    def _gpus(self, devices: tuple[int, ...]) -> tuple[str, ...]:
        if not devices:
            return ()
        known = (files.read_text(f"{self.folder}/gpus") or b"").decode().splitlines()
        if max(devices) >= len(known):
            raise LookupError(f"GPU {max(devices)} is not known to the agent of this machine")
        return tuple(known[device] for device in devices)

    def _stop(self, action: Stop) -> None:
        if (pidfd := self.pidfds.get(action.key)) is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, supervisor.KILL if action.now else supervisor.STOP)

    def _watch(self, key: MemberKey, pidfd: int) -> None:
        self.watched[pidfd], self.pidfds[key] = key, pidfd
        self.poll.register(pidfd, select.EPOLLIN)

    def _supervisor_gone(self, pidfd: int) -> None:
        key = self.watched.pop(pidfd)
        del self.pidfds[key]
        self.forked.pop(key, None)
        self.poll.unregister(pidfd)
        os.close(pidfd)
        self._settle(key)

    def _settle(self, key: MemberKey) -> None:
        """Find out about a member whose supervisor is not watched: ended, running, or lost."""
        path = files.journal_file(self.state, key)
        self.unsettled.discard(key)
        free = _is_free(path)  # asked first: what a dying supervisor wrote is then there
        journal = Journal.read(path)
        if journal.started is not None:
            self.agent.started(key, journal.started.at_ms)
        if not free:
            if not self._adopt(key, journal, path):
                self.unsettled.add(key)
        elif journal.ended is not None:
            self._ended(key, journal.ended)
        elif self._kill_remains(key, journal):
            self.unsettled.add(key)
        else:
            self._lost(key, journal)

    def _adopt(self, key: MemberKey, journal: Journal, path: str) -> bool:
        """Watch the supervisor of an earlier life of the agent; whether that worked."""
        if journal.supervised is None:
            return False  # forked just now
        try:
            pidfd = os.pidfd_open(journal.supervised.pid)
        except ProcessLookupError:
            return False
        # Held after the pidfd was opened: so it is the supervisor's, not a reused number.
        if _is_free(path):
            os.close(pidfd)
            return False
        self._watch(key, pidfd)
        if self.agent.members[key].state.state == "stopping":
            self._stop(Stop(key=key))
        return True

    def _kill_remains(self, key: MemberKey, journal: Journal) -> bool:
        """Kill what a dead supervisor left behind; whether anything was there."""
        if journal.assigned is None or journal.assigned.boot != self.agent.boot:
            return False  # of before a reboot, and so are its numbers
        pid = journal.supervised.pid if journal.supervised else 0
        found = process.remains(pid, environment.marker(self.state, key), set(self.forked.values()))
        for remaining in found:
            process.kill(remaining)
        self._reap()
        groups = journal.supervised.groups if journal.supervised else ()
        return Group(groups).kill() or bool(found)

    def _lost(self, key: MemberKey, journal: Journal) -> None:
        _log(f"{files.key_name(key)}: {_LOST}")
        if journal.supervised:
            Group(journal.supervised.groups).remove()
        started_ms = journal.started.at_ms if journal.started else None
        how = Exit(why="lost", detail=_LOST)
        self._conclude(key, Ended(exit=how, started_ms=started_ms, ended_ms=_now_ms()))

    def _conclude(self, key: MemberKey, ended: Ended) -> None:
        """Write the end in the supervisor's place, so that a later agent says the same."""
        with contextlib.suppress(OSError):  # no journal yet, or a full disk: it finds the same
            flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
            file = os.open(files.journal_file(self.state, key), flags)
            try:
                files.append(file, ended)
            finally:
                os.close(file)
        self._ended(key, ended)

    def _progressed(self, said: Iterable[tuple[MemberKey, Progress]]) -> None:
        for key, progress in said:
            if self.agent.progressed(key, progress):
                _log(f"{files.key_name(key)}: a line of its reports {progress.odd}")

    def _ended(self, key: MemberKey, ending: Ended) -> None:
        self._progressed(self.progress.last(key))  # what it said at the very last
        self.agent.ended(key, ending.exit, ending.started_ms, ending.ended_ms)

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
            work = Journal.read(f"{parent}/{name}").assigned
            if work is None:
                os.unlink(f"{parent}/{name}")  # never started
                continue
            state = MemberState(job=key[0], attempt=key[1], rank=key[2], state="starting")
            found.append(
                MemberRecord(
                    state=state,
                    cpu_milli=work.launch.shape.cpu_milli,
                    cores=work.cores,
                )
            )
        return found

    def _read_seen(self) -> int:
        text = os.pread(self.seen_file, 64, 0)
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
        mask = os.umask(0o177)  # for the socket only: jobs inherit the user's
        listener.bind("agent.sock")
        os.umask(mask)
        listener.listen(8)
        listener.setblocking(False)
        return listener


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
