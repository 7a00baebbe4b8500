"""How events and statuses become rows, and back. Both stores go through here.

The body of a log row is the event's JSON. SQLite does not notice a flipped bit in a row, so each
row carries a checksum over its body, its place and its time: a wrong fact is worse than a stop.
"""

from __future__ import annotations

import zlib
from typing import TypeAlias, get_args

import msgspec

from fairlead.model.base import JobId, Misuse, Ms, Record
from fairlead.model.events import AnyEvent, Submitted
from fairlead.model.jobs import JobSpec, Phase
from fairlead.model.status import JobStatus

EVENT_VERSION = 1  # of the rows written; a reader lifts older ones, and refuses newer ones
STORY_MAX = 10_000  # events of one job in one answer

# seq, at_ms, kind, version, job (0: none), checksum, body
LogRow: TypeAlias = tuple[int, int, str, int, int, int, str]
# id, name, user, tenant, queue, phase, five times and exits (-1: none), because, nodes, status
JobRow: TypeAlias = tuple[
    int, str, str, str, str, str, int, int, int, int, int, int, str, str, str
]

_KINDS: dict[type, str] = {
    kind: str(kind.__struct_config__.tag) for kind in get_args(AnyEvent)
}
_HAS_JOB = frozenset(kind for kind in _KINDS if "job" in kind.__struct_fields__)
_encode = msgspec.json.Encoder().encode
decode_event = msgspec.json.Decoder(AnyEvent).decode
decode_status = msgspec.json.Decoder(JobStatus).decode


def checksum(seq: int, at_ms: Ms, body: bytes) -> int:
    """Return the checksum of a log row; rows that swapped places do not match either."""
    return zlib.crc32(body, (seq * 0x9E3779B1 + at_ms) & 0xFFFFFFFF)


def job_of(event: AnyEvent) -> JobId:
    """Return the job that an event is about, 0 for none."""
    return event.job if type(event) in _HAS_JOB else 0  # type: ignore[union-attr]


def kind_of(event: AnyEvent) -> str:
    """Return the event's kind, as it stands in the log."""
    return _KINDS[type(event)]


def log_row(seq: int, at_ms: Ms, event: AnyEvent) -> LogRow:
    """Return an event as a row of the log."""
    body = _encode(event)
    # sqlite3 binds exact int and str twice as fast as None and bytes; hence 0 and `decode`.
    return (
        seq,
        at_ms,
        _KINDS[type(event)],
        EVENT_VERSION,
        job_of(event),
        checksum(seq, at_ms, body),
        body.decode(),
    )


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
        saved = f"the first {events:,} events can be saved" if events else "no event can be read"
        super().__init__(
            f"the database {path} is damaged ({why}); {saved}",
            field="state",
            hint="nothing was changed; `fairlead store rebuild --salvage --file "
            f"{path}` saves what can be read into a new file and keeps this one as "
            f"{path}.damaged-N; or put a backup in its place",
            code="store-damaged",
        )
