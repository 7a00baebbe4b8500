"""One member's supervisor: starts the command, keeps its output, ends its tree, says how it ended.

Runs in a fork of the agent and outlives it. It holds the member's lock, so whoever finds the
lock free knows that it is gone; `exit.json` is there before that, unless it was killed.
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
from types import FrameType
from typing import NoReturn

from fairlead.backends.local import environment, files, process
from fairlead.backends.local.cgroup import Cgroups, Group
from fairlead.backends.local.files import Assignment, Ending, Started
from fairlead.backends.local.output import Output
from fairlead.model.base import Ms
from fairlead.model.jobs import Exit

_READ_BYTES = 65536  # what a pipe holds
_WAIT_MIN_S, _WAIT_MAX_S = 0.0005, 0.05
_DETAIL_CHARS_MAX = 500
_RESTORED = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ)
# `Exit.code` of a command that could not be started, as shells have it.
CODE_NOT_FOUND, CODE_NOT_EXECUTABLE = 127, 126


def supervise(
    work: Assignment, state: str, lock: int, cgroups: Cgroups, files_max: tuple[int, int]
) -> NoReturn:
    """Run one member to its end; called in the fork, with SIGTERM blocked. Never returns.

    `lock`: descriptor of the member's lock file, locked. `files_max`: RLIMIT_NOFILE for the job.
    """
    try:
        gc.disable()  # a collection would touch, and so copy, the agent's memory
        wake = _prepare(lock)
        _Supervisor(work, state, cgroups, files_max, wake).run()
    except BaseException:
        traceback.print_exc()  # to the agent's log; without exit.json the agent clears up
    finally:
        os._exit(0)


def _prepare(lock: int) -> int:
    """Leave the agent: own session, signals and descriptors. Returns the fd that signals wake."""
    os.closerange(3, lock)
    os.closerange(lock + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    os.setsid()
    process.adopt_orphans()
    wake, wake_in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_in, warn_on_full_buffer=False)
    for ignored in (signal.SIGHUP, signal.SIGINT):
        signal.signal(ignored, signal.SIG_IGN)
    for handled in (signal.SIGTERM, signal.SIGCHLD):
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
        work: Assignment,
        state: str,
        cgroups: Cgroups,
        files_max: tuple[int, int],
        wake: int,
    ) -> None:
        self.work, self.state, self.files_max, self.wake = work, state, files_max, wake
        self.spec = work.launch.spec
        self.key = work.launch.key
        self.folder = files.member_folder(state, self.key)
        self.task = files.task_folder(state, self.key)
        self.output = Output(files.output_folder(state, self.key), self.spec.output_bytes)
        self.cgroups = cgroups
        self.group: Group | None = None
        self.main = 0  # process id, also the job's process group
        self.status: int | None = None  # of the main process, once it is reaped
        self.usage: resource.struct_rusage | None = None
        self.kill_at: float | None = None  # monotonic seconds; set while stopping
        self.started_ms: Ms | None = None

    def run(self) -> None:
        files.write_text(f"{self.folder}/pid", b"%d\n" % os.getpid())
        try:
            failed = self._start()
        except OSError as error:
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
        files.write_record(f"{self.folder}/exit.json", ending)

    def _start(self) -> Exit | None:
        """Execute the command; how it failed, if it did."""
        os.mkdir(self.task, 0o700)
        os.makedirs(files.checkpoint_folder(self.state, self.work.launch.job), 0o700, exist_ok=True)
        shape = self.spec.shape
        name = f"{files.key_name(self.key)}"
        self.group = self.cgroups.group(name, shape.cpu_milli, shape.memory_mib)
        if self.group is not None:
            text = "".join(f"{folder}\n" for folder in self.group.folders)
            files.write_text(f"{self.folder}/cgroups", text.encode())
        if self.work.cores:
            # Cores may have gone offline: the job then runs where it can.
            with contextlib.suppress(OSError):
                os.sched_setaffinity(0, self.work.cores)
        self.pipe, pipe_in = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.pipe, False)
        word, word_in = os.pipe2(os.O_CLOEXEC)
        at_ms = _now_ms()
        env = environment.of_member(self.work, self.state, os.environ, at_ms)
        self.main = os.fork()
        if self.main == 0:
            _execute(self.work, env, self.group, pipe_in, word_in, self.files_max)
        os.close(pipe_in)
        os.close(word_in)
        failure = os.read(word, _READ_BYTES)  # nothing: the pipe closed itself at execve
        os.close(word)
        if failure:
            code, _, detail = failure.decode().partition(" ")
            return Exit(code=int(code) or None, why="cannot-start", detail=detail)
        self.started_ms = at_ms
        files.write_record(f"{self.folder}/started.json", Started(pid=self.main, at_ms=at_ms))
        self._tell_agent(at_ms)
        return None

    def _tell_agent(self, at_ms: Ms) -> None:
        # The agent may be away; it finds started.json when it comes back.
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
        while not self._over():
            for fd, _ in poll.poll(self._timeout_ms()):
                if fd == self.wake:
                    if signal.SIGTERM in os.read(self.wake, _READ_BYTES):
                        self._stop()
                elif not self._copy():
                    poll.unregister(self.pipe)
            self._reap()

    def _over(self) -> bool:
        if self.kill_at is None:
            return self.status is not None
        if time.monotonic() >= self.kill_at:
            return True
        # A shell dies of the notice at once while its child still writes a checkpoint: the
        # grace is for everything that got the notice.
        return self.status is not None and not any(
            process.table()[pid].group == self.main for pid in self._alive()
        )

    def _timeout_ms(self) -> float | None:
        if self.kill_at is None:
            return None
        left = max(0.0, self.kill_at - time.monotonic())
        # Without its parent in between, the end of a grandchild wakes nobody.
        return 1000 * (left if self.status is None else min(left, _WAIT_MAX_S))

    def _stop(self) -> None:
        """Begin to stop; another request changes nothing."""
        if self.kill_at is not None:
            return
        self.kill_at = time.monotonic() + self.spec.grace_ms / 1000
        with contextlib.suppress(OSError):  # a full disk must not keep the job alive
            files.write_text(f"{self.task}/preempt", b"%d\n" % self.spec.grace_ms)
        if self.status is None:  # not reaped, so the number is still ours
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.main, self.spec.stop_signal)

    def _copy(self) -> bool:
        """Copy what the pipe holds to the output; whether more can come."""
        try:
            data = os.read(self.pipe, _READ_BYTES)
        except BlockingIOError:
            return True
        self.output.write(data)
        return bool(data)

    def _drain(self) -> None:
        """Copy what is left; a pipe end that left the tree may never close, so no waiting."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.pipe, _READ_BYTES):
                self.output.write(data)

    def _reap(self) -> bool:
        """Collect children that ended; whether none is left."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if pid == 0:
                return False
            if pid == self.main:
                self.status, self.usage = status, usage

    def _alive(self) -> set[int]:
        return process.descendants({os.getpid()}, process.table())

    def _end_tree(self) -> None:
        """Kill all descendants (orphans are adopted) and reap them.

        What the kernel cannot end yet is waited for: its resources are not free before.
        """
        wait_s = _WAIT_MIN_S
        while not self._reap():
            if self.group is not None:
                self.group.kill()
            for pid in self._alive():
                process.kill(pid)
            time.sleep(wait_s)
            wait_s = min(wait_s * 2, _WAIT_MAX_S)

    def _ending(self, failed: Exit | None) -> Ending:
        total = resource.getrusage(resource.RUSAGE_CHILDREN)
        return Ending(
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
            limit = self.spec.shape.memory_mib
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


def _execute(
    work: Assignment,
    env: dict[str, str],
    group: Group | None,
    output: int,
    word: int,
    files_max: tuple[int, int],
) -> NoReturn:
    """Become the command; called in the second fork. Says on `word` why it could not."""
    spec = work.launch.spec
    code, detail = 0, ""
    try:
        os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        for number in _RESTORED:
            signal.signal(number, signal.SIG_DFL)
        if group is not None:
            group.enter()
        resource.setrlimit(resource.RLIMIT_NOFILE, files_max)
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (output, 1), (output, 2)):
            os.dup2(source, target)
        detail = f"working directory {spec.workdir}: "
        if spec.workdir:
            os.chdir(spec.workdir)
        elif "HOME" in env:
            os.chdir(env["HOME"])
        detail, code = f"{spec.command[0] if spec.command else ''}: ", CODE_NOT_EXECUTABLE
        os.execvpe(spec.command[0], spec.command, env)
    except FileNotFoundError as error:
        if code:
            code, reason = CODE_NOT_FOUND, _not_found(work, env)
        else:
            reason = error.strerror.lower()
    except OSError as error:
        reason = (error.strerror or errno.errorcode.get(error.errno, "")).lower()
    except BaseException as error:
        reason = str(error)
    os.write(word, f"{code} {detail}{reason}"[:_DETAIL_CHARS_MAX].encode())
    os._exit(CODE_NOT_FOUND)


def _not_found(work: Assignment, env: dict[str, str]) -> str:
    """Tell a missing command from a script whose interpreter is missing."""
    command = work.launch.spec.command[0]
    return "its interpreter was not found" if os.path.exists(command) else "command not found"
