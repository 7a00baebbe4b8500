"""One member's supervisor: starts the command, keeps its output, ends its tree, says how it ended.

Runs in a fork of the agent and outlives it. It holds the member's lock, so whoever finds the
lock free knows that it is gone; the end is in the journal before that, unless it was killed.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import resource
import select
import signal
import time
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

from fairlead.backends.local import environment, files, process
from fairlead.backends.local.cgroup import Cgroups, Group
from fairlead.backends.local.files import Assigned, Ended, Started, Supervised
from fairlead.backends.local.output import Output
from fairlead.backends.local.reports import REPORT_FD, Reports
from fairlead.model.base import Ms
from fairlead.model.jobs import Exit

_READ_BYTES = 65536  # what a pipe holds
_WAIT_MIN_S, _WAIT_MAX_S = 0.0005, 0.05
_FULL_S = 1.0  # between attempts to write to a full disk
_DETAIL_CHARS_MAX = 500
# What the agent sends: stop (notice, grace, kill), kill without grace, members came or left.
STOP, KILL, RESIZED = SENT = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
_RESTORED = (*SENT, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ)
# `Exit.code` of a command that could not be started, as shells have it.
CODE_NOT_FOUND, CODE_NOT_EXECUTABLE = 127, 126


def supervise(
    work: Assigned, state: str, journal: int, cgroups: Cgroups, files_max: tuple[int, int]
) -> NoReturn:
    """Run one member to its end; called in the fork, with SENT blocked. Never returns.

    `journal`: descriptor of the member's journal, locked. `files_max`: RLIMIT_NOFILE for the job.
    """
    try:
        gc.disable()  # a collection would touch, and so copy, the agent's memory
        wake = _prepare(journal)
        _Supervisor(work, state, journal, cgroups, files_max, wake).run()
    except BaseException:
        traceback.print_exc()  # to the agent's log; without an end the agent clears up
    finally:
        os._exit(0)


def _prepare(journal: int) -> int:
    """Leave the agent: own session, signals and descriptors. Returns the fd that signals wake."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != journal:
            with contextlib.suppress(OSError):  # the listing's own, closed already
                os.close(int(name))
    os.setsid()
    process.adopt_orphans()
    wake, wake_in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_in, warn_on_full_buffer=False)
    for ignored in (signal.SIGHUP, signal.SIGINT):
        signal.signal(ignored, signal.SIG_IGN)
    for handled in (*SENT, signal.SIGCHLD):
        signal.signal(handled, _noted)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    return wake


def _noted(_number: int, _frame: FrameType | None) -> None:
    """Let the wakeup descriptor tell the loop; the signal itself needs nothing more."""


def _now_ms() -> Ms:
    return time.time_ns() // 1_000_000


class _Supervisor:
    def __init__(
        self,
        work: Assigned,
        state: str,
        journal: int,
        cgroups: Cgroups,
        files_max: tuple[int, int],
        wake: int,
    ) -> None:
        self.work, self.state, self.journal = work, state, journal
        self.files_max, self.wake = files_max, wake
        self.spec = work.launch.spec
        self.key = work.launch.key
        self.task = files.task_folder(state, self.key)
        self.output = Output(self.task, self.spec.output_bytes)
        self.cgroups = cgroups
        self.group: Group | None = None
        self.main = 0  # process id, also the job's process group
        self.status: int | None = None  # of the main process, once it is reaped
        self.kill_at: float | None = None  # monotonic seconds; set while stopping
        self.started_ms: Ms | None = None
        self.heard = Reports(self.task)

    def run(self) -> None:
        try:
            self._confine()
            failed = self._start()
        except (OSError, ValueError) as error:  # ValueError: a zero byte in an argument
            failed = Exit(why="cannot-start", detail=str(error)[:_DETAIL_CHARS_MAX])
        if failed is None:
            self._serve()
        self._end_tree()
        if self.main:
            self._drain()
        self.output.close()
        ending = self._ending(failed)
        if self.group is not None:
            self.group.remove()
        self._record(ending)

    def _record(self, ending: Ended) -> None:
        """Write the end; on a full disk wait for room, since no one else knows it."""
        while True:
            try:
                files.append(self.journal, ending)
                return
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
            time.sleep(_FULL_S)

    def _confine(self) -> None:
        """Give the member its control groups and cores."""
        shape = self.work.launch.shape
        name = files.key_name(self.key)
        self.group = self.cgroups.group(name, shape.cpu_milli, shape.memory_mib)
        groups = self.group.folders if self.group is not None else ()
        files.append(self.journal, Supervised(pid=os.getpid(), groups=groups))
        if self.work.cores:
            # Cores may have gone offline: the job then runs where it can.
            with contextlib.suppress(OSError):
                os.sched_setaffinity(0, self.work.cores)

    def _start(self) -> Exit | None:
        """Execute the command; how it failed, if it did."""
        os.makedirs(files.checkpoint_folder(self.state, self.work.launch.job), 0o700, exist_ok=True)
        os.makedirs(self.task, 0o700, exist_ok=True)
        at_ms = _now_ms()
        env = environment.of_member(self.work, self.state, os.environ, at_ms)
        workdir = self.spec.workdir or env.get("HOME", "/")
        try:
            os.chdir(workdir)
        except OSError as error:
            reason = os.strerror(error.errno or 0).lower()
            detail = f"working directory {workdir}: {reason}"
            return Exit(why="cannot-start", detail=detail[:_DETAIL_CHARS_MAX])
        # What a child inherits is set here: posix_spawn is twice as fast as a fork, and says
        # exactly why it failed. In its group this process is only meanwhile, lest a lack of
        # memory or cores in there hit it too.
        resource.setrlimit(resource.RLIMIT_NOFILE, self.files_max)
        try:
            if self.group is not None:
                self.group.enter()
            failed = self._spawn(env)
        finally:
            if self.group is not None:
                self.group.leave()
        os.chdir("/")
        if failed is None:
            self.started_ms = at_ms
            files.append(self.journal, Started(pid=self.main, at_ms=at_ms))
            self._tell_agent(at_ms)
        return failed

    def _spawn(self, env: dict[str, str]) -> Exit | None:
        self.pipe, output = os.pipe2(os.O_CLOEXEC)
        self.reports, report = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.pipe, False)
        os.set_blocking(self.reports, False)
        inode = os.fstat(self.reports).st_ino
        # By this a process finds the pipe that was started without its parent's descriptors.
        env["FAIRLEAD_REPORT_PIPE"] = f"{inode}:/proc/{os.getpid()}/fd/{self.reports}"
        actions = (
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, output, 1),
            (os.POSIX_SPAWN_DUP2, output, 2),
            (os.POSIX_SPAWN_DUP2, report, REPORT_FD),
        )
        command, failure = self.work.launch.command, None
        for program in _programs(command[0], env["PATH"]):
            try:
                self.main = os.posix_spawn(
                    program,
                    command,
                    env,
                    file_actions=actions,
                    setpgroup=0,
                    setsigmask=(),
                    setsigdef=_RESTORED,
                )
                break
            except OSError as error:
                failure = error
        os.close(output)
        os.close(report)
        return None if self.main else _cannot_execute(command[0], failure)

    def _tell_agent(self, at_ms: Ms) -> None:
        # The agent may be away; it finds it in the journal when it comes back.
        with contextlib.suppress(OSError):
            path = os.path.join(files.agent_folder(self.state), "notify")
            notify = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                os.write(notify, f"{files.key_name(self.key)} {at_ms}\n".encode())
            finally:
                os.close(notify)

    def _serve(self) -> None:
        """Keep the output and pass on the stop until the job is over or out of grace."""
        poll = select.poll()
        poll.register(self.wake, select.POLLIN)
        poll.register(self.pipe, select.POLLIN)
        poll.register(self.reports, select.POLLIN)
        while not self._over():
            for fd, _ in poll.poll(self._timeout_ms()):
                if fd == self.wake:
                    signals = os.read(self.wake, _READ_BYTES)
                    if STOP in signals:
                        self._stop(self.spec.grace_ms)
                    if KILL in signals:
                        self._stop(0)
                    if RESIZED in signals:
                        self._resized()
                elif fd == self.reports:
                    if not self._hear():
                        poll.unregister(self.reports)
                elif not self._copy():
                    poll.unregister(self.pipe)
            self.heard.write(time.monotonic())
            self._reap()

    def _over(self) -> bool:
        if self.kill_at is None:
            return self.status is not None
        if time.monotonic() >= self.kill_at:
            return True
        # A shell dies of the notice at once while its child still writes a checkpoint: the
        # grace is for everything that got the notice.
        if self.status is None:
            return False
        processes = process.table()
        family = process.descendants({os.getpid()}, processes)
        return not any(processes[pid].group == self.main for pid in family)

    def _timeout_ms(self) -> float | None:
        now = time.monotonic()
        waits = [wait for wait in (self.heard.wait_s(now),) if wait is not None]
        if self.kill_at is not None:
            waits.append(max(0.0, self.kill_at - now))
            if self.status is not None:
                waits.append(_WAIT_MAX_S)  # without its parent a grandchild's end wakes nobody
        return 1000 * min(waits) if waits else None

    def _stop(self, grace_ms: Ms) -> None:
        """Begin to stop; another request can only shorten the grace to nothing."""
        if grace_ms == 0:
            self.kill_at = time.monotonic()
        if self.kill_at is not None:
            return
        self.kill_at = time.monotonic() + grace_ms / 1000
        with contextlib.suppress(OSError):  # a full disk must not keep the job alive
            files.write_text(f"{self.task}/preempt", b"%d\n" % grace_ms)
        if self.status is None:  # not reaped, so the number is still ours
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.main, self.spec.stop_signal)

    def _resized(self) -> None:
        """Pass on that the file `members` is another one, to processes that want to be told.

        Many signals kill who does not catch them, and a program that has just been started may
        not have got so far: it will look at the file when it has.
        """
        number = self.spec.resize_signal
        if not number or self.status is not None or self.kill_at is not None:
            return
        processes = process.table()
        for pid in process.descendants({os.getpid()}, processes):
            if processes[pid].group == self.main and process.catches(pid, number):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

    def _copy(self) -> bool:
        """Copy what the pipe holds to the output; whether more can come."""
        try:
            data = os.read(self.pipe, _READ_BYTES)
        except BlockingIOError:
            return True
        self.output.write(data)
        return bool(data)

    def _hear(self) -> bool:
        """Take in what the job says on its descriptor; whether more can come."""
        try:
            data = os.read(self.reports, _READ_BYTES)
        except BlockingIOError:
            return True
        self.heard.hear(data, _now_ms())
        return bool(data)

    def _drain(self) -> None:
        """Copy what is left; a pipe end that left the tree may never close, so no waiting."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.pipe, _READ_BYTES):
                self.output.write(data)
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.reports, _READ_BYTES):
                self.heard.hear(data, _now_ms())
        self.heard.write(time.monotonic(), last=True)

    def _reap(self) -> bool:
        """Collect children that ended; whether none is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if pid == 0:
                return False
            if pid == self.main:
                self.status = status

    def _end_tree(self) -> None:
        """Kill all descendants (orphans are adopted) and reap them.

        What the kernel cannot end yet is waited for: its resources are not free before.
        """
        wait_s = _WAIT_MIN_S
        while not self._reap():
            if self.group is not None:
                self.group.kill()
            for pid in process.descendants({os.getpid()}, process.table()):
                process.kill(pid)
            time.sleep(wait_s)
            wait_s = min(wait_s * 2, _WAIT_MAX_S)

    def _ending(self, failed: Exit | None) -> Ended:
        total = resource.getrusage(resource.RUSAGE_CHILDREN)
        return Ended(
            exit=failed or self._exit(),
            started_ms=self.started_ms,
            ended_ms=_now_ms(),
            max_rss_mib=total.ru_maxrss // 1024,
            cpu_ms=int(1000 * (total.ru_utime + total.ru_stime)),
        )

    def _exit(self) -> Exit:
        code = os.waitstatus_to_exitcode(self.status or 0)
        detail = ""
        if self.output.lost_bytes:
            detail = f"{self.output.lost_bytes} bytes of output were lost: the disk is full"
        if code != 0 and self.group is not None and (kills := self.group.oom_kills()):
            limit = self.work.launch.shape.memory_mib
            detail = f"used more than its {limit} MiB of memory; {kills} processes killed"
            return Exit(
                code=code if code > 0 else None,
                signal=-code if code < 0 else None,
                why="oom",
                detail=detail,
            )
        if code < 0:
            return Exit(signal=-code, detail=detail)
        return Exit(code=code, detail=detail)


def _programs(command: str, path: str) -> Iterator[str]:
    """Yield the files that the command may mean, as execvp has it."""
    if "/" in command:
        yield command
        return
    for folder in path.split(os.pathsep):
        program = os.path.join(folder, command)
        if os.path.exists(program):
            yield program


def _cannot_execute(command: str, error: OSError | None) -> Exit:
    """Say it with the codes and words that shells have for it."""
    code, reason = CODE_NOT_FOUND, "command not found"
    if error is not None and error.errno != errno.ENOENT:
        code, reason = CODE_NOT_EXECUTABLE, os.strerror(error.errno or 0).lower()
    elif error is not None and os.path.exists(command):
        reason = "its interpreter was not found"
    return Exit(code=code, why="cannot-start", detail=f"{command}: {reason}"[:_DETAIL_CHARS_MAX])
