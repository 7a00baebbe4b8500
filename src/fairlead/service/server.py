"""The service process: lock, recover, listen, connect the agent, run, leave in good order."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from fairlead.backends.local.inventory import inventory
from fairlead.backends.local.launch import publish_gpus
from fairlead.model.base import NodeId, StoreFailed
from fairlead.model.messages import Desired, Report
from fairlead.model.resources import Node
from fairlead.policy.registry import build
from fairlead.service.agentlink import AgentLink
from fairlead.service.api import Api
from fairlead.service.commands import Configure, keep_devices
from fairlead.service.config import Config
from fairlead.service.forecasts import Forecasts
from fairlead.service.forecasts import build as build_predictor
from fairlead.service.lock import Lock
from fairlead.service.places import Places
from fairlead.service.shell import EXIT_BUG, STORE_RETRY_S, Shell
from fairlead.store.sqlite import SqliteStore

BACKLOG = 2048
KEEP_ALIVE_S = 75
# The garbage collector looks seldom: records make no cycles, and a look at 100,000 jobs takes
# longer than a turn.
GC_OBJECTS = 200_000
DRAIN_S = 2  # how long answers under way may take once the service stops

log = logging.getLogger("fairlead.service")


class PeerProtocol(H11Protocol):
    """HTTP for the owner and root alone. `scope["client"]` is (user id as text, process id)."""

    def connection_made(self, transport: Any) -> None:
        """Ask the kernel who is at the other end."""
        super().connection_made(transport)
        peer = transport.get_extra_info("socket")
        size = struct.calcsize("3i")
        pid, uid, _ = struct.unpack(
            "3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        )
        if uid not in (0, os.geteuid()):
            log.warning("refused a connection of user %d (process %d)", uid, pid)
            transport.abort()
        self.client = (str(uid), pid)


class QuietServer(uvicorn.Server):
    """uvicorn without signal handlers and without a ticking clock: idle means asleep."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stopping = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the service."""
        yield

    async def main_loop(self) -> None:
        """Wait until told to stop."""
        await self.stopping.wait()


def listen(path: Path) -> socket.socket:
    """Return the listening socket, usable by its owner alone. The lock must be held."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()  # left by a service that was killed
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        listener.bind(os.fspath(path))
    finally:
        os.umask(mask)
    listener.listen(BACKLOG)
    return listener


class Service:
    """Everything of one running service."""

    def __init__(self, places: Places, config: Config) -> None:
        self.places, self.config = places, config
        self.server: QuietServer
        self.node: Node

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        Raises AlreadyRuns, Misuse (places, configuration, database), and SystemExit with EXIT_BUG
        when the core contradicts itself.
        """
        self.places.ensure()
        with Lock(self.places.pid):
            self.node = self.config.lent(inventory(state=self.places.state))
            gc.disable()  # until all is recovered: nothing of that is garbage
            with SqliteStore(self.places.database) as store:
                asyncio.run(self._serve(store))

    async def _serve(self, store: SqliteStore) -> None:
        forecasts = Forecasts(build_predictor(self.config.predictor), learned=False)
        shell = Shell(store, build, self._poke, forecasts=forecasts)
        log.info("recovered at event %d: %d jobs", shell.core.seq, len(shell.core.jobs))
        self.shell = shell
        self._publish_gpus()
        self.node_name = self.node.name
        self.link = AgentLink(self.places.state, self.node_name, self._desired, self._reported)
        api = self.api = Api(shell, store, self.places, self.link)
        self.server = QuietServer(_uvicorn_config(api.app()))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self.stop)
        tasks = [
            asyncio.create_task(each)
            for each in (self._configure(), self.link.run(), forecasts.learn(store))
        ]
        for task in tasks:
            task.add_done_callback(_no_task_dies_silently)
        gc.freeze()  # what lives for ever need not be looked at again
        gc.set_threshold(GC_OBJECTS)
        gc.enable()
        api.advice.wake()
        listener = listen(self.places.socket)
        log.info("listening on %s", self.places.socket)
        try:
            await self.server.serve(sockets=[listener])
        finally:
            for task in tasks:
                task.cancel()
            await api.etas.close()
            await api.advice.close()
            self.places.socket.unlink(missing_ok=True)
        shell.snapshot()
        log.info("stopped at event %d", shell.core.seq)

    def _publish_gpus(self) -> None:
        """Tell the agent which GPU an index means, before any launch."""
        core = self.shell.core
        known = core.node_ids.get(self.node.name)
        spec = None if known is None else core.nodes[known].spec
        node, _ = keep_devices(spec, self.node)
        publish_gpus(self.places.state, [device.uuid for device in node.devices])

    async def _configure(self) -> None:
        """Make the log agree with the configuration, as soon as it can be written."""
        config = self.config
        command = Configure([self.node], config.tenants, config.queues, config.policy, config.users)
        while True:
            try:
                wrong = await self.shell.ask(command)
                if wrong is not None:
                    self.api.config_problem = f"{wrong.field}: {wrong.message}; {wrong.hint}"
                    log.error("config.toml is not in force: %s", self.api.config_problem)
                return
            except StoreFailed as error:
                log.error("the configuration is not in force yet: %s", error)
            await asyncio.sleep(STORE_RETRY_S)

    def stop(self) -> None:
        """Begin to leave: no more turns; waiting clients are answered, jobs run on."""
        if not self.server.stopping.is_set():
            log.info("stopping")
            self.shell.stop()
            self.server.stopping.set()

    def _poke(self, node: NodeId) -> None:
        self.link.poke()

    def _desired(self) -> Desired | None:
        node = self.shell.core.node_ids.get(self.node_name)
        return None if node is None else self.shell.desired(node)

    def _reported(self, report: Report) -> None:
        core = self.shell.core
        if report.seen > core.seq:
            log.critical(
                "the log ends at event %d, but the agent has seen event %d: this database is older"
                " than the jobs that run here. Put the newer one back, or give up what runs:"
                " stop the agent and move %s away",
                core.seq,
                report.seen,
                self.places.state / "agent",
            )
            raise SystemExit(1)
        self.shell.reported(report)


def _no_task_dies_silently(task: asyncio.Task[None]) -> None:
    error = None if task.cancelled() else task.exception()
    if isinstance(error, Exception):
        log.critical("the service stops: %r", error, exc_info=error)
        raise SystemExit(EXIT_BUG)


def _uvicorn_config(app: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=PeerProtocol,
        ws="none",
        lifespan="off",
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=DRAIN_S,
    )


def set_up_logging() -> None:
    """Log to stderr: the service's own words, and what uvicorn has to warn of."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.WARNING,
        format="%(asctime)s %(levelname)s %(message)s",
    )
    logging.getLogger("fairlead").setLevel(logging.INFO)
