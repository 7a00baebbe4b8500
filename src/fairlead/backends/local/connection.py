"""The service's end of the conversation with the agent, without blocking."""

from __future__ import annotations

import contextlib
import socket

MESSAGE_BYTES_MAX = 256 * 2**20
_READ_BYTES = 2**20


class Connection:
    """Lines in, one report at a time out."""

    def __init__(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        self.socket = connected
        self.unsent: bytes | memoryview = b""
        self._parts: list[bytes] = []
        self._bytes = 0

    def lines(self) -> list[bytes]:
        """Return the complete lines that have come. Raises EOFError at the end, OSError."""
        try:
            data = self.socket.recv(_READ_BYTES)
        except BlockingIOError:
            return []
        if not data:
            raise EOFError
        self._bytes += len(data)
        if self._bytes > MESSAGE_BYTES_MAX:
            raise OSError(f"a message is longer than {MESSAGE_BYTES_MAX} bytes")
        self._parts.append(data)
        if b"\n" not in data:
            return []
        *lines, rest = b"".join(self._parts).split(b"\n")
        self._parts, self._bytes = [rest], len(rest)
        return lines

    def send(self) -> None:
        """Send as much as the peer takes. Raises OSError."""
        with contextlib.suppress(BlockingIOError):
            self.unsent = memoryview(self.unsent)[self.socket.send(self.unsent) :]
