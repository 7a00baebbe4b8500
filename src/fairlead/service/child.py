"""A process that thinks for the service, so that its event loop does not stand still.

It reads questions on stdin and answers each with a line on stdout. It may hang, die or be killed:
then it is started anew at the next question, and the service goes on without an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

ANSWER_BYTES_MAX = 64 * 2**20


class ChildFailed(Exception):
    """The child died, or took too long."""


class Child:
    """The process of a module, started at the first question; one question at a time."""

    def __init__(self, module: str) -> None:
        self.module = module
        self._process: asyncio.subprocess.Process | None = None
        self._killed: list[asyncio.subprocess.Process] = []
        self._turn = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """Return its process id, None while there is none."""
        return None if self._process is None else self._process.pid

    async def ask(self, question: bytes, limit_s: float) -> bytes:
        """Return the line that it answers. Raises ChildFailed, after `limit_s` at the latest."""
        async with self._turn:
            try:
                return await asyncio.wait_for(self._ask(question), limit_s)
            except TimeoutError:
                self.close()
                raise ChildFailed(f"it took more than {limit_s:.0f} s") from None
            except (OSError, asyncio.IncompleteReadError, ValueError) as error:
                self.close()
                raise ChildFailed(f"it died: {error!r}") from None
            except asyncio.CancelledError:
                self.close()  # its answer would be taken for that of the next question
                raise

    async def _ask(self, data: bytes) -> bytes:
        if self._process is None:
            await self.gone()
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", self.module),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=ANSWER_BYTES_MAX,
                start_new_session=True,  # a Ctrl-C is for the service
            )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(data)
        await self._process.stdin.drain()
        return await self._process.stdout.readuntil(b"\n")

    def close(self) -> None:
        """End it; the next question starts another."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            self._killed.append(process)

    async def gone(self) -> None:
        """End it and wait until nothing is left of it, and of those before."""
        self.close()
        while self._killed:
            await self._killed.pop().wait()
