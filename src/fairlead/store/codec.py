"""How events and statuses become rows, and back. Both stores go through here.

The body of a log row is the event's JSON. SQLite does not notice a flipped bit in a row, so each
row carries a checksum over its body, its place and its time: a wrong fact is worse than a stop.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import TypeAlias, get_args

import msgspec

from fairlead.model.base import JobId, Misuse, Ms, Record
from fairlead.model.events import AnyEvent, Event, Progressed, Submitted
from fairlead.model.jobs import JobSpec, Phase
from fairlead.model.status import JobStatus

EVENT_VERSION = 1  # of the rows written; a reader lifts older ones, and refuses newer ones
STORY_MAX = 10_000  # events of one job in one answer

# seq, at_ms, kind, version, job (0: none), checksum, body
LogRow: TypeAlias = tuple[int, int, str, int, int, int, str]
# id, name, user, tenant, queue, phase, five times and exits (-1: none), because, nodes, status
JobRow: TypeAlias = tuple[int, str, str, str, str, str, int, int, int, int, int, int, str, str, str]

_KINDS: dict[type[Event], str] = {
    kind: str(kind.__struct_config__.tag) for kind in get_args(AnyEvent)
}
PROGRESSED = _KINDS[Progressed]
_HAS_JOB = frozenset(kind for kind in _KINDS if "job" in kind.__struct_fields__)
_SPREAD = 0x9E3779B1  # odd and large: neighbouring rows get far-apart checksums
_encode = msgspec.json.Encoder().encode
decode_event = msgspec.json.Decoder(AnyEvent).decode
decode_status = msgspec.json.Decoder(JobStatus).decode


def checksum(seq: int, at_ms: Ms, body: bytes) -> int:
    """Return the checksum of a log row; rows that swapped places do not match either."""
    return zlib.crc32(body, (seq * _SPREAD + at_ms) & 0xFFFFFFFF)


def job_of(event: AnyEvent) -> JobId:
    """Return the job that an event is about, 0 for none."""
    return event.job if type(event) in _HAS_JOB else 0  # type: ignore[union-attr]


def kind_of(event: AnyEvent) -> str:
    """Return the event's kind, as it stands in the log."""
    return _KINDS[type(event)]


def log_rows(after: int, records: Iterable[tuple[Ms, AnyEvent]]) -> Iterator[LogRow]:
    """Yield events as rows of the log, numbered from after + 1."""
    # One at a time: 5,000 tuples alive at once would set off the garbage collector. And sqlite3
    # binds exact int and str twice as fast as None and bytes; hence 0 for no job, and `decode`.
    for seq, (at_ms, event) in enumerate(records, after + 1):
        kind = type(event)
        body = _encode(event)
        job: int = event.job if kind in _HAS_JOB else 0  # type: ignore[union-attr]
        check = zlib.crc32(body, (seq * _SPREAD + at_ms) & 0xFFFFFFFF)
        yield seq, at_ms, _KINDS[kind], EVENT_VERSION, job, check, body.decode()


def job_row(status: JobStatus) -> JobRow:
    """Return a status as a row of the table of jobs, with -1 where there is no number."""
    first, started, ended = status.first_started_ms, status.started_ms, status.ended_ms
    code, signal = status.exit_code, status.exit_signal
    return (
        status.id,
        status.name,
        status.user,
        status.tenant,
        status.queue,
        status.phase.value,
        status.submitted_ms,
        -1 if first is None else first,
        -1 if started is None else started,
        -1 if ended is None else ended,
        -1 if code is None else code,
        -1 if signal is None else signal,
        status.because,
        ",".join(status.nodes),
        _encode(status).decode(),
    )


def pack(body: bytes) -> bytes:
    """Return a snapshot's body as it is stored: a fifth of the size for little time."""
    return zlib.compress(body, 1)


def unpack(row: tuple[str, bytes] | None) -> tuple[str, bytes] | None:
    """Return digest and body of a stored snapshot; None if it is not there or broken."""
    if row is None:
        return None
    try:
        return row[0], zlib.decompress(row[1])
    except (zlib.error, TypeError):
        return None


class JobFilter(Record, frozen=True):
    """Which jobs to list. What is empty does not restrict."""

    ids: tuple[JobId, ...] = ()
    phases: tuple[Phase, ...] = ()
    tenant: str = ""
    queue: str = ""
    user: str = ""
    name: str = ""

    def matches(self, status: JobStatus) -> bool:
        """Whether a job passes; the same rule as the SQL of `store.sqlite`."""
        return (
            (not self.ids or status.id in self.ids)
            and (not self.phases or status.phase in self.phases)
            and self.tenant in ("", status.tenant)
            and self.queue in ("", status.queue)
            and self.user in ("", status.user)
            and self.name in ("", status.name)
        )


ALL_JOBS = JobFilter()


def spec_in(event: AnyEvent) -> JobSpec | None:
    """Return the spec that an event carries, if it is a submission."""
    return event.spec if isinstance(event, Submitted) else None


class Damaged(Misuse):
    """The database cannot be read any more. `events`: how many can be saved."""

    def __init__(self, path: str, why: str, events: int) -> None:
        self.events = events
        saved = "no event can be read"
        hint = (
            "nothing was changed; put a backup in its place, or move the whole state folder away "
            "and start with an empty one (what jobs printed is in its folder jobs)"
        )
        if events:
            saved = f"the first {events:,} events can be saved"
            hint = (
                f"nothing was changed; `fairlead store rebuild --salvage --file {path}` saves what "
                f"can be read into a new file and keeps this one as {path}.damaged-N; or put a "
                "backup in its place"
            )
        super().__init__(
            f"the database {path} is damaged ({why}); {saved}",
            field="state",
            hint=hint,
            code="store-damaged",
        )
