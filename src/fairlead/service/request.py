"""The words of a request: the keys that users may write."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from fairlead.model import limits
from fairlead.model.document import Amount, Closed, Level
from fairlead.model.resources import Spread


class ResourcesRequest(Closed, frozen=True):
    """What one member of the job asks for."""

    cpus: Amount = 1
    memory: Amount | None = None
    disk: Amount | None = None
    gpus: Amount = 0
    gpu_split: str | tuple[Amount, ...] = ()  # instead of gpus: what it takes of each
    gpu_memory: Amount | None = None
    gpu_type: str | tuple[str, ...] = ()


class PreemptRequest(Closed, frozen=True):
    """How the job is told to stop."""

    signal: str | int = "TERM"
    grace: Amount | None = None
    restart_cost: Amount | None = None


class CheckpointRequest(Closed, frozen=True):
    """How the job saves its work: what it then writes, and how often."""

    path: str = ""
    every: Amount | None = None


class TopologyRequest(Closed, frozen=True):
    """How close together members have to be, and are if they can: within one node, rack, switch."""

    required: str = ""
    preferred: str = ""


class RetryRequest(Closed, frozen=True):
    """How often a failed job is tried again."""

    max: int = 0


class MembersRequest(Closed, frozen=True):
    """How many members: at least so many all the time, at most so many while others need less."""

    min: int
    max: int


class WorkersRequest(Closed, frozen=True):
    """Some of the members of a gang with different workers; what is left out is the job's."""

    name: str
    count: int = 1
    resources: ResourcesRequest | None = None
    run: str | tuple[str, ...] | None = None


class ArrayRequest(Closed, frozen=True):
    """The indices of an array."""

    index: str


class JobRequest(Closed, frozen=True):
    """One job, or one array of jobs, in the words of the user."""

    run: str | tuple[str, ...] | None = None  # may be left out where all workers have their own
    name: str = ""
    workdir: str = ""
    env: dict[str, str | int | float] | None = None
    tenant: str = ""
    queue: str = ""
    priority: int | str | None = None
    resources: ResourcesRequest = ResourcesRequest()
    members: int | str | MembersRequest | None = None
    nodes: int | str | MembersRequest | None = None
    workers: tuple[WorkersRequest, ...] = ()
    spread: Spread | None = None
    topology: str | TopologyRequest = ""  # "rack": required
    time_limit: Amount | None = None
    expected: Amount | None = None
    deadline: Amount | None = None
    preemptible: bool = True
    retry: int | RetryRequest = 0
    preempt: PreemptRequest = PreemptRequest()
    checkpoint: CheckpointRequest = CheckpointRequest()
    resize_signal: str | int | None = None
    array: str | ArrayRequest = ""
    labels: dict[str, str | int | float] | None = None
    output_limit: Amount | None = None
    licenses: dict[str, int] | None = None
    may_acquire: dict[str, int] | None = None
    job_type: str = ""
    steps: Annotated[int, Meta(ge=1, le=limits.STEPS_MAX)] | None = None


class BodyRequest(Closed, frozen=True):
    """A submission of several jobs; `env` and `workdir` are defaults of each."""

    jobs: list[object]
    request: str = ""
    env: dict[str, str | int | float] = {}
    workdir: str = ""


_RESOURCES = Level(
    ResourcesRequest,
    aliases={"cpu": "cpus", "mem": "memory", "gpu": "gpus"},
    later=("shm_size", "exclusive"),
)
JOB = Level(
    JobRequest,
    what="a job",
    example='write for example {"run": ["python", "train.py"], "resources": {"cpus": 2}}',
    aliases={
        "command": "run",
        "commands": "run",
        "account": "tenant",
        "project": "tenant",
        "partition": "queue",
        "working_dir": "workdir",
        "chdir": "workdir",
        "envs": "env",
        "gang": "members",
        "num_nodes": "nodes",
        "max_duration": "time_limit",
        "max_run_duration": "time_limit",
        "tags": "labels",
        "licences": "licenses",
        "total_steps": "steps",
        "max_steps": "steps",
    },
    later=(
        *("any_of", "begin", "depends_on", "env_passthrough", "idle"),
        *("launch", "logs", "matrix", "min_nodes", "notify", "schedule", "setup"),
        "time_min",
    ),
    below={
        "resources": _RESOURCES,
        "preempt": Level(PreemptRequest),
        "checkpoint": Level(CheckpointRequest),
        "retry": Level(RetryRequest, later=("on", "backoff")),
        "members": Level(MembersRequest),
        "nodes": Level(MembersRequest),
        "topology": Level(TopologyRequest),
        "array": Level(ArrayRequest, later=("max_parallel",)),
    },
    items={
        "workers": Level(
            WorkersRequest,
            what="a kind of workers",
            example="write for example workers: [{name: ps, count: 1, resources: {cpus: 8}}]",
            aliases={"members": "count", "replicas": "count", "command": "run"},
            below={"resources": _RESOURCES},
        )
    },
)
BODY = Level(BodyRequest)
