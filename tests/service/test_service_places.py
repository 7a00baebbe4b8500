"""Where state lives, who holds it, and who may come in."""

from __future__ import annotations

import os
import stat
import struct
import subprocess
import sys

import pytest

from fairlead.model.base import Misuse
from fairlead.service.lock import AlreadyRuns, Lock, running_pid
from fairlead.service.places import SOCKET_PATH_BYTES_MAX, Places


def test_the_state_folder_follows_the_option_then_the_environment_then_xdg():
    xdg = {"XDG_STATE_HOME": "/x/state", "XDG_RUNTIME_DIR": "/x/run"}
    assert str(Places.find(xdg).state) == "/x/state/fairlead"
    assert str(Places.find(xdg).socket) == "/x/run/fairlead/socket"
    named = Places.find({**xdg, "FAIRLEAD_STATE": "/x/own"})
    assert (str(named.state), str(named.socket)) == ("/x/own", "/x/own/api.sock")
    assert str(Places.find({**xdg, "FAIRLEAD_STATE": "/x/own"}, "/y").state) == "/y"
    bare = Places.find({})
    assert bare.state.parts[-3:] == (".local", "state", "fairlead")
    assert bare.socket == bare.state / "api.sock"


def test_places_are_found_without_loading_anything_heavy():
    code = (
        "import sys, fairlead.service.places\n"
        "assert not {'msgspec', 'numpy', 'starlette', 'asyncio'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_folders_are_made_for_their_owner_alone(tmp_path):
    places = Places.find({}, str(tmp_path / "a" / "b"))
    places.ensure()
    assert stat.S_IMODE(places.state.stat().st_mode) == 0o700


def test_a_socket_path_of_107_bytes_is_the_longest(tmp_path):
    room = SOCKET_PATH_BYTES_MAX - len(str(tmp_path)) - len("//api.sock")
    Places.find({}, f"{tmp_path}/{'x' * room}").ensure()
    with pytest.raises(Misuse, match="108 bytes, the system allows 107"):
        Places.find({}, f"{tmp_path}/{'x' * (room + 1)}").ensure()


def test_a_file_in_the_place_of_the_folder_is_said_in_words(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Misuse, match="cannot keep state in") as refused:
        Places.find({}, str(tmp_path / "file" / "s")).ensure()
    assert "FAIRLEAD_STATE" in refused.value.hint


def test_a_folder_of_somebody_else_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(Misuse, match="belongs to user"):
        Places.find({}, str(tmp_path)).ensure()


HOLD = """
import sys, time
from pathlib import Path
from fairlead.service.lock import Lock
with Lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(30)
"""


def test_the_lock_tells_the_living_from_the_dead_whatever_the_file_says(tmp_path):
    path = tmp_path / "service.pid"
    assert running_pid(path) is None
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        assert running_pid(path) == holder.pid == int(path.read_text())
        with pytest.raises(AlreadyRuns) as refused:
            Lock(path)
        assert refused.value.pid == holder.pid
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    assert path.read_text(), "a killed service leaves its file"
    assert running_pid(path) is None
    with Lock(path):
        assert int(path.read_text()) == os.getpid()


class Transport:
    """A connection of some user, as asyncio shows it."""

    def __init__(self, uid: int) -> None:
        self.uid, self.aborted = uid, False

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self if name == "socket" else default

    def getsockopt(self, *_: int) -> bytes:
        return struct.pack("3i", 4242, self.uid, 0)

    family = 1

    def getpeername(self) -> str:
        return ""

    def getsockname(self) -> str:
        return ""

    def abort(self) -> None:
        self.aborted = True


@pytest.mark.parametrize(("uid", "refused"), [(os.geteuid(), False), (0, False), (54321, True)])
def test_only_the_owner_and_root_may_use_the_socket(uid, refused):
    import asyncio

    import uvicorn
    from uvicorn.server import ServerState

    from fairlead.service.server import PeerProtocol

    async def app(scope, receive, send):
        return None

    async def story():
        transport = Transport(uid)
        protocol = PeerProtocol(uvicorn.Config(app, log_config=None), ServerState(), {})
        protocol.connection_made(transport)
        assert protocol.client == (str(uid), 4242)
        assert transport.aborted == refused

    asyncio.run(story())
