"""What is shown of a job: the row of `ps`, of the API and of the history table."""

from __future__ import annotations

from fairlead.model.base import JobId, Ms, Record
from fairlead.model.jobs import Phase


class JobStatus(Record, frozen=True):
    """One job as users see it. Times are ms since the epoch of the clock that fed the core."""

    id: JobId
    name: str
    user: str
    tenant: str
    queue: str
    phase: Phase
    priority: int
    submitted_ms: Ms
    attempt: int = 0  # 0: never placed
    placed_ms: Ms | None = None  # decision of the current or last attempt
    started_ms: Ms | None = None  # every member of the current or last attempt was running
    first_started_ms: Ms | None = None
    ended_ms: Ms | None = None
    nodes: tuple[str, ...] = ()  # of the current or last attempt, in rank order
    devices: tuple[tuple[int, ...], ...] = ()  # per rank
    exit_code: int | None = None  # of the last attempt: the first member that failed, else 0
    exit_signal: int | None = None
    because: str = ""  # why it is in this phase: the placement, the stop, the failure
    cpu_milli: int = 0  # asked for, all members together
    memory_mib: int = 0
    gpus_milli: int = 0  # whole devices x 1000, or thousandths
    members: int = 1  # of an elastic job: the least
    members_max: int = 0  # of an elastic job; how many it has now, `nodes` says
    limit_ms: Ms | None = None
    array: JobId | None = None
    array_index: int = 0
    array_count: int = 0
    deadline_ms: Ms | None = None
    expected_ms: Ms | None = None  # the run time that was predicted when it was submitted
    preemptions: int = 0  # how often it had to make room for another
    checkpoint_ms: Ms | None = None  # when it last said that its work is saved
    steps: int | None = None  # that it has made, as it said itself
