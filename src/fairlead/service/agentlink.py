"""The connection to a node's agent: newline-delimited JSON, level-triggered both ways."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import msgspec

from fairlead.backends.local.launch import connect, ensure_agent
from fairlead.model.base import Misuse
from fairlead.model.messages import Desired, Report

LINE_BYTES_MAX = 256 * 2**20  # a report of 100,000 members has 20 MiB
RETRY_FIRST_S = 0.05
RETRY_MAX_S = 2.0

log = logging.getLogger("fairlead.service")


class AgentLink:
    """Keeps an agent alive and connected, sends it the newest desire, hands on its reports.

    `desired` is asked when there is room to send, so that a slow agent gets the newest state and
    never a queue of old ones. An agent that died is started again.
    """

    def __init__(
        self,
        state: Path,
        node: str,
        desired: Callable[[], Desired | None],
        reported: Callable[[Report], None],
    ) -> None:
        self.state, self.node = state, node
        self.connected = False
        self.ready = False  # connected, and it has said what is there
        self.problem = ""  # why there is no connection
        self._desired, self._reported = desired, reported
        self._due = asyncio.Event()
        self._decode = msgspec.json.Decoder(Report).decode

    def poke(self) -> None:
        """Say that the desired state changed."""
        self._due.set()

    async def run(self) -> None:
        """Stay connected until cancelled."""
        delay = RETRY_FIRST_S
        while True:
            try:
                await asyncio.to_thread(ensure_agent, self.state, node=self.node)
                reader, writer = await asyncio.open_unix_connection(
                    sock=connect(self.state), limit=LINE_BYTES_MAX
                )
            except (OSError, Misuse) as error:
                self._lost(f"cannot reach the agent: {error}")
            else:
                delay = RETRY_FIRST_S
                await self._talk(reader, writer)
            await asyncio.sleep(delay)
            delay = min(2 * delay, RETRY_MAX_S)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        log.info("connected to the agent")
        self.connected, self.problem = True, ""
        self._due.set()
        sender = asyncio.create_task(self._send(writer))
        try:
            while line := await reader.readline():
                self._reported(self._decode(line))
                self.ready = True
            self._lost("the agent closed the connection")
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            self._lost(f"the agent's report was not understood: {error}")
        finally:
            sender.cancel()
            writer.close()

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await self._due.wait()
                self._due.clear()
                desired = self._desired()
                if desired is not None:
                    writer.write(msgspec.json.encode(desired) + b"\n")
                    await writer.drain()
        except OSError as error:
            self._lost(f"cannot send to the agent: {error}")
            writer.close()  # ends the reading side too

    def _lost(self, problem: str) -> None:
        if self.connected or problem != self.problem:
            log.warning("%s", problem)
        self.connected, self.ready, self.problem = False, False, problem
