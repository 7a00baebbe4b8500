"""What an elastic job's members are told of each other: the file `members` in the task folder.

It is replaced at once whenever the membership changes, and told by a signal where the job asks for
one. The file itself says how new it is, so a restarted agent tells nobody the same thing twice.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable, Mapping

import msgspec

from fairlead.backends.local import files
from fairlead.backends.local.supervisor import RESIZED
from fairlead.model.base import Record
from fairlead.model.messages import MemberKey, Membership

FILE = "members"


class Members(Record, frozen=True, omit_defaults=False):
    """The file as a program reads it. Lists are by rank, 0 first.

    `rank` is the reader's own among `size`; None: it is leaving. `generation` grows with every
    change.
    """

    generation: int
    size: int
    rank: int | None
    nodes: tuple[str, ...]
    ranks: tuple[int, ...]
    numbers: tuple[int, ...]  # by which Fairlead knows the members: logs --rank


_decode = msgspec.json.Decoder(Members).decode


class Memberships:
    """The newest membership that is known of each elastic job on this node.

    `pidfds`: by member, of the supervisors that are watched; they pass the signal on.
    """

    def __init__(self, state: str, pidfds: Mapping[MemberKey, int]) -> None:
        self.state, self.pidfds = state, pidfds
        self.newest: dict[tuple[int, int], Membership] = {}  # by job and attempt

    def hear(self, teams: Iterable[Membership]) -> None:
        """Take in all that a message says, and tell those who live what is news."""
        fresh = {(team.job, team.attempt): team for team in teams}
        news = {key for key, team in fresh.items() if self.newest.get(key) != team}
        self.newest = fresh  # jobs that have no members here any more are not in it
        for member in self.pidfds:
            if member[:2] in news:
                self.tell(member)

    def tell(self, key: MemberKey) -> None:
        """See to it that a member knows the newest; one that is not started yet finds it there."""
        try:
            if key[:2] in self.newest and self._write(key) and key in self.pidfds:
                signal.pidfd_send_signal(self.pidfds[key], RESIZED)
        except ProcessLookupError:
            pass
        except OSError as error:
            print(
                f"{files.key_name(key)}: cannot write who its members are: {error}", file=sys.stderr
            )

    def _write(self, key: MemberKey) -> bool:
        """Write the file of a member; whether it says something new. Raises OSError."""
        team = self.newest[key[:2]]
        known = read(self.state, key)
        if known is not None and known.generation >= team.generation:
            return False
        size = len(team.numbers)
        body = Members(
            generation=team.generation,
            size=size,
            rank=team.numbers.index(key[2]) if key[2] in team.numbers else None,
            nodes=team.nodes,
            ranks=tuple(range(size)),
            numbers=team.numbers,
        )
        folder = files.task_folder(self.state, key)
        os.makedirs(folder, 0o700, exist_ok=True)
        files.write_text(os.path.join(folder, FILE), msgspec.json.encode(body) + b"\n")
        return True


def read(state: str, key: MemberKey) -> Members | None:
    """Return what a member was told last, None if nothing. Raises OSError."""
    text = files.read_text(os.path.join(files.task_folder(state, key), FILE))
    try:
        return None if text is None else _decode(text)
    except msgspec.MsgspecError:
        return None  # the program has written to it
