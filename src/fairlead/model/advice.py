"""Plans: what an adviser is asked, and which job is to have how much of its time where.

An adviser may be slow, use floats, or die; it is asked by the worlds, never by the core. Its answer
is a fact of the log (`Advised`), and the policy carries it out as far as the ledger allows.
"""

from __future__ import annotations

from fairlead.model.base import JobId, Ms, Record

WHOLE = 1_000_000  # all of a job's time


class Share(Record, frozen=True):
    """Jobs of which each is to run for these parts of its time, in millionths, by device model.

    The model "" stands for nodes without GPUs. `members`: what an elastic job is to have; 0: as few
    as it takes.
    """

    jobs: tuple[JobId, ...]
    on: tuple[tuple[str, int], ...]
    members: int = 0


class Kind(Record, frozen=True):
    """Equal nodes: so many that are up, each with so many devices of a model ("": none)."""

    model: str
    gpus: int
    cpu_milli: int
    memory_mib: int
    count: int


class Free(Record, frozen=True):
    """So many nodes with the same left: thousandths of each GPU, largest first, and the host's.

    The model "" stands for nodes without GPUs.
    """

    model: str
    gpus_milli: tuple[int, ...]
    cpu_milli: int
    memory_mib: int
    count: int


class Candidate(Record, frozen=True):
    """A waiting or running job, as an adviser sees it. Speeds in the order of Question.models."""

    job: JobId
    job_type: str
    width_milli: int  # of the whole job at its least size: thousandths of a GPU, or of a core
    gpus_milli: int  # of one member; 0: it needs no GPU
    members: int
    members_max: int
    weight: int
    entity: str  # its queue
    micro_per_s: tuple[int | None, ...]  # None: neither told nor measured; 0: does not run there
    left: int  # steps still to make; 0: not known
    expected_ms: Ms | None  # still to run, where it was predicted for
    submitted_ms: Ms
    served_ms: Ms  # run time up to now
    deadline_ms: Ms | None
    restarts: int
    preemptible: bool
    on: str | None  # where it runs; None: it waits
    size: int  # members that it has now
    cpu_milli: int = 0  # of one member
    memory_mib: int = 0
    steps: int = 0  # that it makes in all; 0: not known
    restart_ms: Ms = 0  # what starting again costs it
    # Speeds with more members than the least, in rising order, where any is known.
    wider: tuple[tuple[int, tuple[int | None, ...]], ...] = ()


class Question(Record, frozen=True):
    """Everything that an adviser is told, as of now."""

    now: Ms
    lease_ms: Ms
    models: tuple[str, ...]  # what is faster for most jobs first
    amounts_milli: tuple[int, ...]  # there are so many GPUs of each, or cores for the model ""
    kinds: tuple[Kind, ...]
    jobs: tuple[Candidate, ...]
    weights: tuple[tuple[str, int], ...] = ()  # of queues
    free: tuple[Free, ...] = ()
    prices: tuple[int, ...] = ()  # millionths per GPU hour, in the order of models; 0: not told
    part_percent: int = 100  # of those that wait: how many are considered, the longest first
