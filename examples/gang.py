"""Data-parallel training by a gang: the members average their gradients after every step.

Member 0 listens on a free port and leaves its address in the job's checkpoint folder; the others
call it. Every step is a barrier, so half a gang would wait for the rest in vain: Fairlead starts
all members or none. Here the rest is given 30 s, then the program says who is missing.
"""

from __future__ import annotations

import argparse
import os
import socket
import struct
import sys
import time
from pathlib import Path

import numpy as np
from common import begin, checkpoint_folder, progress

PATIENCE_S = 30
FEATURES = 240
EXAMPLES = 12_000


def send(connection: socket.socket, numbers: np.ndarray) -> None:
    body = numbers.tobytes()
    connection.sendall(struct.pack("<Q", len(body)) + body)


def receive(connection: socket.socket) -> np.ndarray:
    (size,) = struct.unpack("<Q", exactly(connection, 8))
    return np.frombuffer(exactly(connection, size))


def exactly(connection: socket.socket, size: int) -> bytes:
    body = bytearray()
    while len(body) < size:
        part = connection.recv(size - len(body))
        if not part:
            sys.exit("gang: a member left in the middle")
        body += part
    return bytes(body)


def gather(meeting: Path, members: int) -> list[socket.socket]:
    """Member 0: wait for the others; return a connection to each."""
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(PATIENCE_S)
    fresh = meeting.with_suffix(".new")
    fresh.write_text(str(server.getsockname()[1]))
    os.replace(fresh, meeting)
    others: list[socket.socket] = []
    while len(others) < members - 1:
        try:
            others.append(server.accept()[0])
        except TimeoutError:
            sys.exit(f"gang: only {len(others) + 1} of {members} members came")
    return others


def join(meeting: Path) -> socket.socket:
    """Any other member: call member 0 as soon as its address is known."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if meeting.exists():
            return socket.create_connection(("127.0.0.1", int(meeting.read_text())), PATIENCE_S)
        time.sleep(0.02)
    sys.exit("gang: member 0 did not come")


def average(mine: np.ndarray, others: list[socket.socket], rank: int) -> np.ndarray:
    """Return the mean of every member's gradient; returns when all members are here."""
    if rank:
        send(others[0], mine)
        return receive(others[0])
    mean: np.ndarray = (mine + sum(receive(each) for each in others)) / (len(others) + 1)
    for each in others:
        send(each, mean)
    return mean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--passes", type=int, default=8, help="gradients taken per step")
    args = parser.parse_args()
    begin()
    rank = int(os.environ.get("FAIRLEAD_RANK", "0"))
    members = int(os.environ.get("FAIRLEAD_MEMBERS", "1"))
    meeting = checkpoint_folder() / f"member-0.{os.environ.get('FAIRLEAD_RESTART_COUNT', '0')}"
    others = [join(meeting)] if rank else gather(meeting, members)
    print(f"member {rank} of {members} is here", flush=True)
    truth = np.random.default_rng(0).normal(0, 1, FEATURES)
    chance = np.random.default_rng(1 + rank)  # every member has its own part of the data
    points = chance.normal(0, 1, (EXAMPLES, FEATURES))
    target = points @ truth + chance.normal(0, 0.1, EXAMPLES)
    weights = np.zeros(FEATURES)
    for step in range(args.steps):
        gradient = np.zeros(FEATURES)
        for _ in range(args.passes):
            rows = chance.integers(0, EXAMPLES, EXAMPLES // 2)
            gradient += points[rows].T @ (points[rows] @ weights - target[rows]) / len(rows)
        weights -= 0.2 * average(gradient / args.passes, others, rank)
        progress(step + 1, args.steps, f"error {np.abs(weights - truth).mean():.4f}")


if __name__ == "__main__":
    main()
