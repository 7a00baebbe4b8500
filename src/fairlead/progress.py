"""How a Python program says how far it is: `import fairlead; fairlead.report(step=120)`.

Light on purpose: programs import it that know nothing else of Fairlead. The line goes to the pipe
of the member's supervisor, as any language may write it (docs/howto/progress.md).
"""

from __future__ import annotations

import operator
import os
import select
import stat

WHOLE_MAX = 2**53 - 1  # what every reader of JSON can tell from its neighbours
_UNKNOWN = -1  # no pipe was looked for yet
_NONE = -2  # there is none: this does not run in a job of Fairlead

_pipe = _UNKNOWN
_owner = 0  # the process that found the pipe, and that has reported `_last`
_last = (-1, -1)  # step and samples
_room = select.poll()


def report(*, step: object, samples: object = None) -> None:
    """Say how far this program is: how many steps it has done in all, and how many samples.

    Counted from the beginning of the job: a program that goes on from a checkpoint says the step
    of the checkpoint plus what it has done since. Outside a job of Fairlead it does nothing. It
    never waits: what does not fit the pipe is left out, since a later report says all of it. Of
    the processes that a launcher such as torchrun starts on a machine the first one speaks
    (LOCAL_RANK). Costs microseconds.

    Raises ValueError for what is not a whole number from 0 on, or less than this process has
    reported before.
    """
    global _last, _owner, _pipe, _room
    now = (_whole("step", step), -1 if samples is None else _whole("samples", samples))
    if _owner != os.getpid():  # the first time, or in a fork
        _owner, _last, _pipe = os.getpid(), (-1, -1), _UNKNOWN
    for name, value, before in zip(("step", "samples"), now, _last, strict=True):
        if value < before and not (name == "samples" and samples is None):
            raise ValueError(
                f"{name} {value} goes backwards: {before} was reported before; "
                f"{name} counts from the beginning of the job"
            )
    _last = (now[0], max(now[1], _last[1]))
    if _pipe == _UNKNOWN:
        _pipe, _room = _find(), select.poll()
        if _pipe >= 0:
            _room.register(_pipe, select.POLLOUT)
    if _pipe >= 0:
        counted = "" if samples is None else f', "samples": {now[1]}'
        _say(f'{{"step": {now[0]}{counted}}}\n'.encode())


def _whole(name: str, value: object) -> int:
    """Return the number, also of numpy and torch; raises ValueError with what is wrong with it."""
    number: int | float | None = None
    if not isinstance(value, bool | str | bytes):
        try:
            number = operator.index(value)  # type: ignore[arg-type]
        except TypeError:
            try:
                number = float(value)  # type: ignore[arg-type]
            except (TypeError, ValueError):
                number = None
    if number is None:
        raise ValueError(f"{name} is a number, not {value!r:.80}")
    if not 0 <= number <= WHOLE_MAX or number != int(number):  # NaN is not within
        raise ValueError(f"{name} is a whole number from 0 on, not {value!r:.80}")
    return int(number)


def _find() -> int:
    """Return a descriptor of the supervisor's pipe, _NONE without one.

    A process of a process has often lost the job's own descriptor, and may have something else
    by that number: only what is that very pipe is written to.
    """
    pipe = os.environ.get("FAIRLEAD_REPORT_PIPE", "")
    number = os.environ.get("FAIRLEAD_REPORT_FD", "")
    inode, _, path = pipe.partition(":")
    if os.environ.get("LOCAL_RANK", "0") != "0" or not inode.isdecimal():
        return _NONE
    try:
        if number.isdecimal() and _is_pipe(os.fstat(int(number)), inode):
            return int(number)
    except OSError:
        pass
    try:
        if _is_pipe(os.stat(path), inode):
            return os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        pass  # the supervisor is gone, or out of reach, as in a container
    return _NONE


def _is_pipe(found: os.stat_result, inode: str) -> bool:
    return stat.S_ISFIFO(found.st_mode) and found.st_ino == int(inode)


def _say(line: bytes) -> None:
    """Write the line if there is room for it at once; without a reader there is no more to say."""
    global _pipe
    try:
        events = _room.poll(0)
        if events and events[0][1] != select.POLLOUT:
            _pipe = _NONE
        elif events:  # then there is room for a line as short as this
            os.write(_pipe, line)
    except (BlockingIOError, InterruptedError):
        pass
    except OSError:
        _pipe = _NONE
