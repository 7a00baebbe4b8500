"""Real services on state folders of their own, and the API without a network."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from fairlead.backends.local.launch import agent_pid
from fairlead.cli.client import Client
from fairlead.cli.errors import Failure
from fairlead.model.resources import Node
from fairlead.policy.registry import build
from fairlead.service.api import Api
from fairlead.service.commands import Configure
from fairlead.service.lifecycle import members_left
from fairlead.service.lock import running_pid
from fairlead.service.places import Places
from fairlead.service.shell import Shell
from fairlead.store.memory import MemoryStore

SOURCE = str(Path(__file__).parents[2] / "src")


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


class World:
    """One state folder with its service, agent and jobs: real processes."""

    def __init__(self, state: Path) -> None:
        self.adopt(Places.find({}, str(state)))
        self.environ = {
            **{name: value for name, value in os.environ.items() if "FAIRLEAD" not in name},
            "FAIRLEAD_STATE": str(state),
            "PYTHONPATH": SOURCE,
            "XDG_CONFIG_HOME": str(state / "config"),
        }

    def adopt(self, places: Places) -> None:
        self.places, self.state = places, places.state
        self.client = Client(str(places.socket))

    def fairlead(self, *words: str, limits: Any = None) -> Done:
        done = subprocess.run(
            [sys.executable, "-m", "fairlead", *words],
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=60,
            preexec_fn=limits,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def up(self, *words: str, limits: Any = None) -> None:
        done = self.fairlead("up", *words, limits=limits)
        assert done.code == 0, done.err

    @property
    def pid(self) -> int | None:
        return running_pid(self.places.pid)

    @property
    def agent(self) -> int | None:
        return agent_pid(self.state)

    def kill_service(self) -> None:
        pid = self.pid
        assert pid
        os.kill(pid, signal.SIGKILL)
        until(lambda: self.pid is None)

    def kill_agent(self) -> None:
        pid = self.agent
        assert pid
        os.kill(pid, signal.SIGKILL)
        until(lambda: self.agent != pid)

    def submit(self, run: object, **more: object) -> int:
        return self.client.post("/jobs", {"run": run, "workdir": str(self.state), **more})["ids"][0]

    def show(self, job: int) -> dict[str, Any]:
        return self.client.get(f"/jobs/{job}")

    def ended(self, job: int, seconds: float = 20) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while True:
            status = self.client.get(f"/jobs/{job}", {"wait": 5})
            if status["ended_ms"] is not None:
                return status
            assert time.monotonic() < end, status

    def answers(self) -> bool:
        try:
            return bool(self.client.get("/status")["ready"])
        except Failure:
            return False

    def runs(self, job: int) -> None:
        until(lambda: self.show(job)["phase"] == "RUNNING")

    def written(self, name: str) -> str:
        """What jobs have written to a file of the state folder so far."""
        path = self.state / name
        return path.read_text() if path.exists() else ""

    def output(self, job: int, **query: object) -> str:
        return b"".join(self.client.stream(f"/jobs/{job}/logs", query).pieces()).decode()

    def clean(self) -> None:
        if self.pid is None and members_left(self.places):
            self.fairlead("up")
        if self.pid is not None and self.client.get("/status")["jobs"]:
            self.fairlead("down", "--cancel-jobs")
        for pid in (self.pid, self.agent):
            if pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def until(what: Any, seconds: float = 15) -> None:
    """Wait until it is so; an assertion with nothing to say otherwise."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it does not come about"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] != "Z"
    except FileNotFoundError:
        return False


class FakeLink:
    """An agent link as the API sees it."""

    connected, ready, problem = True, True, ""


class Answer(NamedTuple):
    """What the application answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Desk:
    """A shell, a store in memory and the HTTP application, in one event loop; no processes."""

    def __init__(self, folder: Path, clock: Any = None) -> None:
        self.store = MemoryStore()
        self.poked: list[int] = []
        options = {"clock": clock} if clock else {}
        self.shell = Shell(self.store, build, self.poked.append, **options)
        self.folder = folder
        self.api = Api(self.shell, self.store, Places.find({}, str(folder)), FakeLink())
        self.app = self.api.app()

    async def start(self, cpu_milli: int = 1000) -> None:
        node = Node(name="here", cpu_milli=cpu_milli, memory_mib=1024, boot="1")
        await self.shell.ask(Configure([node], [], [], None))

    async def call(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """Send one request through ASGI; `body` is bytes as they are, else made JSON."""
        data = (
            body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        )
        path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "scheme": "http",
            "query_string": query.encode(),
            "headers": [(k.lower().encode(), v.encode()) for k, v in (headers or {}).items()],
            "client": ("0", 1),
            "server": None,
            "state": {},
        }
        sent: list[dict[str, Any]] = []
        inbox = [{"type": "http.request", "body": data, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if inbox:
                return inbox.pop()
            await asyncio.sleep(60)
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        headers_ = {k.decode(): v.decode() for k, v in sent[0]["headers"]}
        return Answer(sent[0]["status"], headers_, b"".join(m.get("body", b"") for m in sent[1:]))
