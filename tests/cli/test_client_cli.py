"""The hand-written HTTP client: whatever is at the other end, the failure is clear."""

from __future__ import annotations

import os
import pty
import socket
import subprocess
import sys
import threading

import pytest
from fake_service import job, rows

from fairlead.cli.client import Client, Disconnected, NoService, query_string
from fairlead.cli.errors import Failure


@pytest.fixture
def raw(state):
    """Serve one connection with these bytes; returns the client."""
    listeners = []

    def serve(data: bytes) -> Client:
        path = str(state / "raw.sock")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()
        listeners.append(listener)

        def answer() -> None:
            connection, _ = listener.accept()
            connection.recv(65_536)
            connection.sendall(data)
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        return Client(path)

    yield serve
    for listener in listeners:
        listener.close()


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        HEAD + b"Content-Length: 8\r\n\r\n" + b'{"a": 1}',
        HEAD + b"transfer-ENCODING: Chunked\r\n\r\n4\r\n" + b'{"a"\r\n4;x=y\r\n: 1}\r\n0\r\n\r\n',
        HEAD + b"\r\n" + b'{"a": 1}',
    ],
)
def test_a_body_may_come_in_every_framing(raw, answer):
    assert raw(answer).get("/x") == {"a": 1}


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 20",
        HEAD,
        HEAD + b"Content-Length: 9\r\n\r\n" + b'{"a": 1}',
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n8\r\n{",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
    ],
)
def test_an_answer_that_breaks_off_is_never_taken_for_whole(raw, answer):
    with pytest.raises(Disconnected):
        raw(answer).get("/x")


@pytest.mark.parametrize(
    "answer",
    [
        b"220 mail ESMTP\r\n\r\n",
        HEAD + b"Content-Length: many\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        HEAD + b"Content-Length: 5\r\n\r\nhello",
    ],
)
def test_what_is_not_fairlead_is_said_so(raw, answer):
    with pytest.raises(Failure) as caught:
        raw(answer).get("/x")
    assert caught.value.code == "not-fairlead"


def test_an_error_without_a_body_still_has_its_status(raw):
    with pytest.raises(Failure, match="the service answered 503"):
        raw(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n").get("/x")


def test_a_service_that_does_not_answer_is_given_up(state):
    path = str(state / "mute.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        with pytest.raises(Failure) as caught:
            Client(path).get("/x", timeout_s=0.05)
    assert caught.value.code == "timeout"


def test_a_refusal_that_comes_before_the_whole_body_was_sent_is_read(state):
    path = str(state / "raw.sock")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def refuse() -> None:
        connection, _ = listener.accept()
        error = b'{"error": {"code": "too-large", "message": "too large"}}'
        connection.sendall(b"HTTP/1.1 413 No\r\nContent-Length: %d\r\n\r\n%s" % (len(error), error))
        connection.close()

    thread = threading.Thread(target=refuse)
    thread.start()
    with pytest.raises(Failure) as caught:
        Client(path).post("/jobs", {"run": "x" * 8_000_000})
    thread.join(10)
    listener.close()
    assert caught.value.code in ("too-large", "disconnected")


def test_there_is_nobody_or_the_path_is_too_long(tmp_path):
    with pytest.raises(NoService, match="no service is running"):
        Client("/tmp/no-such-socket").get("/x")
    with pytest.raises(NoService) as caught:
        Client("/" + "x" * 200).get("/x")
    assert "FAIRLEAD_STATE" in caught.value.hint


def test_queries_are_encoded_and_empty_values_left_out():
    assert query_string({"a": None, "b": "", "c": 0, "d": "x&y=ü", "ids": "1-2,3"}) == (
        "?c=0&d=x%26y%3D%C3%BC&ids=1-2,3"
    )
    assert query_string(None) == query_string({"a": None}) == ""


def at_a_terminal(*words: str, **environ: str) -> str:
    mine, theirs = pty.openpty()
    running = subprocess.Popen(
        [sys.executable, "-m", "fairlead", *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", **environ},
    )
    os.close(theirs)
    seen = b""
    try:
        while (piece := os.read(mine, 65_536)) and b"\x1b[J" not in seen:
            seen += piece
    except OSError:  # Linux: the other side is closed
        seen += b""
    if "--watch" in words:
        running.terminate()
    running.wait(30)
    os.close(mine)
    return seen.decode()


def test_a_terminal_gets_colour_and_lines_cut_at_its_width_unless_told_not_to(service, state):
    service.answers["GET /api/v1/jobs"] = lambda _: rows(
        job(7, "RUNNING"), job(8, reason="Resources: " + "x" * 300)
    )
    shown = at_a_terminal("ps")
    assert "\x1b[32mRUNNING\x1b[0m" in shown
    assert "\x1b[33mPENDING\x1b[0m" in shown
    assert "x" * 300 not in shown
    assert "\x1b" not in at_a_terminal("ps", NO_COLOR="1")


def test_watch_shows_the_table_in_place(service, state):
    service.answers["GET /api/v1/jobs"] = lambda _: rows(job(7, "RUNNING"))
    shown = at_a_terminal("ps", "--watch")
    assert shown.startswith("\x1b[H")
    assert "RUNNING" in shown
