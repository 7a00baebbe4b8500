"""Small builders, Hypothesis strategies and random histories, for tests of several packages."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import msgspec
from hypothesis import strategies as st

from fairlead.core.admission import admit
from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.core.turn import Scheduler
from fairlead.model.base import Misuse
from fairlead.model.events import (
    AnyEvent,
    Cancelled,
    ForeignUsage,
    MemberEnded,
    MemberStarted,
    NodeJoined,
    NodeLost,
    Placed,
    PolicySet,
    QueueSet,
    StopDecided,
    Submitted,
    TenantSet,
)
from fairlead.model.jobs import LIVE, Exit, JobSpec, Phase, PolicyConfig, Queue, Tenant
from fairlead.model.resources import Device, Node, Shape, Slot, gang_of
from fairlead.policy.registry import build, policy_config

OK = Exit(code=0)
FAILED = Exit(code=1)
TERMINATED = Exit(signal=15)
LOST = Exit(why="lost")
POLICIES = (
    *("fifo", "fifo-skip", "sjf", "sjf-skip", "priority", "priority-strict", "priority-skip"),
    *("priority+worst-fit", "fifo-skip+dot-product", "sjf-skip+l2"),
    *("fifo-skip+fgd", "priority+fgd-floored"),
)
SPREADS = ("any", "same-node", "distinct-nodes")
CLOSE = (
    *(("", ""), ("", ""), ("", ""), ("node", ""), ("rack", ""), ("switch", "")),
    *(("", "node"), ("", "rack"), ("switch", "rack"), ("rack", "rack")),
)


def node(name: str = "n0", cpus: int = 8, memory: int = 32_000, gpus: int = 0, **more) -> Node:
    """Return a node of so many cores, MiB, and GPUs (of 40,000 MiB, model A)."""
    more.setdefault("devices", tuple(Device(model="A", memory_mib=40_000) for _ in range(gpus)))
    return Node(name=name, cpu_milli=1000 * cpus, memory_mib=memory, **more)


def cluster(*nodes: Node, policy: str | PolicyConfig | None = None) -> Core:
    """Return a core that these nodes have joined."""
    core = Core()
    if policy is not None:
        config = policy_config(policy) if isinstance(policy, str) else policy
        core.apply(0, PolicySet(policy=config))
    for index, each in enumerate(nodes):
        core.apply(0, NodeJoined(node=index, spec=each))
    return core


def spec(cpus: float = 1, **more) -> JobSpec:
    """Return a job's spec; what the shape knows goes to the shape."""
    names = set(Shape.__struct_fields__)
    shape = {name: more.pop(name) for name in list(more) if name in names}
    return JobSpec(shape=Shape(cpu_milli=int(1000 * cpus), **shape), **more)


def submit(core: Core, cpus: float = 1, **more) -> Job:
    """Submit a job now and return it."""
    core.apply(core.now, Submitted(job=core.next_job, spec=spec(cpus, **more)))
    return core.jobs[core.next_job - 1]


def place(core: Core, job: Job, *slots: Slot | int) -> None:
    """Place a job; an int stands for a slot without devices on that node."""
    chosen = tuple(slot if isinstance(slot, Slot) else Slot(node=slot) for slot in slots)
    core.apply(core.now, Placed(job=job.id, attempt=job.attempt + 1, slots=chosen))


def start(core: Core, job: Job, *ranks: int) -> None:
    """Report members as started: these ranks, else all."""
    for rank in ranks or list(job.ranks):
        core.apply(core.now, MemberStarted(job=job.id, attempt=job.attempt, rank=rank))


def end(core: Core, job: Job, *ranks: int, exit: Exit = OK) -> None:
    """Report members as gone: these ranks, else all that are not."""
    for rank in ranks or [r for r in job.ranks if r not in job.exits]:
        core.apply(core.now, MemberEnded(job=job.id, attempt=job.attempt, rank=rank, exit=exit))


def stop(core: Core, job: Job, then: Phase = Phase.CANCELLED, because: str = "") -> None:
    """Decide to stop a job."""
    core.apply(core.now, StopDecided(job=job.id, attempt=job.attempt, then=then, because=because))


def free(core: Core, node_id: int = 0) -> list[int]:
    """Return what is free on a node, in the order of DIMENSIONS."""
    return core.ledger.room[:5, node_id].tolist()


def image(core: Core) -> dict:
    """Return the durable image of a core as a dict, without the count of events and the time."""
    body = msgspec.json.decode(core.dump())
    del body["seq"], body["now"]
    return body


# ---- Hypothesis --------------------------------------------------------------------------------

devices = st.builds(
    Device,
    model=st.sampled_from(["A", "B"]),
    memory_mib=st.sampled_from([16_000, 40_000, 80_000]),
)


@st.composite
def nodes(draw, name: str = "n0", *, boot: str = "") -> Node:
    return Node(
        name=name,
        cpu_milli=draw(st.sampled_from([0, 2000, 4000, 8000, 16_000])),
        memory_mib=draw(st.sampled_from([0, 8000, 16_000, 64_000])),
        disk_mib=draw(st.sampled_from([0, 100_000])),
        devices=tuple(draw(st.lists(devices, max_size=4))),
        boot=boot,
        rack=draw(st.sampled_from(["", "r1", "r1", "r2"])),
        switch=draw(st.sampled_from(["", "s1", "s1", "s2"])),
    )


def clusters(least: int = 1, most: int = 5) -> st.SearchStrategy[list[Node]]:
    return st.integers(least, most).flatmap(
        lambda count: st.tuples(*(nodes(f"n{index}") for index in range(count))).map(list)
    )


@st.composite
def shapes(draw, *, members: int = 3) -> Shape:
    gpu = draw(st.sampled_from(["none", "none", "whole", "share", "several"]))
    more: dict[str, object] = {}
    if gpu == "whole":
        more["gpus"] = draw(st.integers(1, 3))
    elif gpu == "share":
        more["gpu_milli"] = draw(st.sampled_from([1, 250, 500, 700, 1000]))
    elif gpu == "several":
        parts = draw(st.sampled_from([(500,), (500, 250), (700, 300), (400, 400, 1)]))
        more["gpus"] = draw(st.integers(1 if len(parts) == 1 else 0, 2))
        more["gpu_milli"] = sum(parts)
        more["gpu_parts"] = parts if len(parts) > 1 else ()
    if gpu != "none":
        more["gpu_memory_mib"] = draw(st.sampled_from([0, 0, 8000, 30_000, 80_000]))
        more["gpu_models"] = draw(st.sampled_from([(), (), ("A",), ("A", "B")]))
    cpu = draw(st.sampled_from([0, 1, 500, 1000, 2000, 3000]))
    within, near = draw(st.sampled_from(CLOSE))
    return Shape(
        cpu_milli=cpu if cpu or gpu != "none" else 1,
        memory_mib=draw(st.sampled_from([0, 0, 1000, 5000])),
        disk_mib=draw(st.sampled_from([0, 0, 0, 40_000])),
        members=draw(st.integers(1, members)),
        spread=draw(st.sampled_from(SPREADS)),
        within=within,
        near=near,
        **more,
    )


@st.composite
def gangs(draw) -> Shape:
    """Draw a gang with different workers."""
    kinds = draw(st.lists(shapes(members=2), min_size=2, max_size=3))
    spread = draw(st.sampled_from(["any", *SPREADS]))
    return gang_of(kinds, spread, draw(st.sampled_from(["", "", "rack"])))


exits = st.sampled_from([OK, OK, FAILED, TERMINATED, LOST, Exit(code=75), Exit(why="oom")])


# ---- random histories --------------------------------------------------------------------------


class History:
    """A cluster that lives at random through the real turn: reports come late, twice, or wrong.

    Everything follows from the seed and the steps asked for.
    """

    def __init__(self, seed: int, policy: str = "priority", node_count: int = 4) -> None:
        self.rng = Random(seed)
        self.scheduler = Scheduler(Core(), build)
        self.core = self.scheduler.core
        self.log: list[tuple[int, AnyEvent]] = []
        self.now = 0
        self.boots = 0
        self.node_count = node_count
        inbox: list[AnyEvent] = [PolicySet(policy=policy_config(policy))]
        inbox += [NodeJoined(node=n, spec=self.random_node(n)) for n in range(node_count)]
        self.turn(inbox)

    def admitted_spec(self) -> JobSpec | None:
        """Return a spec that passes the gate, None if a few tries find none."""
        for _ in range(5):
            spec = self.random_spec()
            try:
                admit(self.core, spec)
            except Misuse:
                continue
            return spec
        return None

    def turn(self, inbox: Sequence[AnyEvent]) -> list[AnyEvent]:
        events = self.scheduler.turn(self.now, inbox).events
        self.log += [(self.now, event) for event in events]
        return events

    def step(self) -> list[AnyEvent]:
        """Let some time pass and one to three things happen; return the events of the turn."""
        self.now += self.rng.choice([0, 1, 1000, 60_000, 1_200_000])
        inbox: list[AnyEvent] = []
        touched: set[int] = set()
        fresh = self.core.next_job
        for _ in range(self.rng.randint(1, 3)):
            event = self.random_event(fresh)
            about = getattr(event, "job", 0) or -1 - getattr(event, "node", 0)
            if event is None or about in touched:
                continue  # a second word on the same thing could contradict the first
            if isinstance(event, NodeLost | NodeJoined) and touched:
                continue
            touched.add(about)
            inbox.append(event)
            if isinstance(event, Submitted):
                fresh += 1
                if self.rng.random() < 0.1:  # an array: equal jobs in a row
                    inbox += [Submitted(job=fresh + n, spec=event.spec) for n in range(11)]
                    fresh += 11
            if isinstance(event, NodeLost | NodeJoined):
                break  # it changes what may be said of jobs
        return self.turn(inbox)

    def random_event(self, fresh: int) -> AnyEvent | None:
        rng, core = self.rng, self.core
        live = [job for job in core.jobs.values() if job.phase in LIVE]
        kind = rng.random()
        if kind < 0.3:
            spec = self.admitted_spec()
            return None if spec is None else Submitted(job=fresh, spec=spec)
        if kind < 0.82 and live:
            return self.random_report(rng.choice(live))
        if kind < 0.86 and live:
            job = rng.choice(live)
            then = rng.choice([Phase.PENDING, Phase.PENDING, Phase.CANCELLED])
            return StopDecided(job=job.id, attempt=job.attempt, then=then, because="random")
        if kind < 0.89 and core.pending:
            return Cancelled(job=rng.choice(sorted(core.pending)), because="random")
        if kind < 0.905:
            return NodeLost(node=rng.randrange(self.node_count))
        if kind < 0.95:
            down = [index for index, each in enumerate(core.nodes) if not each.up]
            which = rng.choice(down or range(self.node_count))
            same = core.nodes[which].spec if core.nodes else None
            again = rng.random() < 0.6 and same is not None
            return NodeJoined(node=which, spec=same if again else self.random_node(which))
        if kind < 0.97:
            return self.random_foreign(rng.randrange(self.node_count))
        quota = rng.choice([(), (4000, None, None, 2000, None), (None, 20_000, None, None, None)])
        return TenantSet(tenant=Tenant(name=rng.choice("tu"), quota=quota))

    def random_report(self, job: Job) -> AnyEvent:
        rng = self.rng
        attempt = job.attempt - (rng.random() < 0.1)  # now and then a late word
        rank = rng.randrange(len(job.slots))
        if rng.random() < 0.3:
            return MemberStarted(job=job.id, attempt=attempt, rank=rank)
        exit = rng.choice([*[OK] * 8, FAILED, TERMINATED, Exit(code=75), Exit(why="oom"), LOST])
        return MemberEnded(job=job.id, attempt=attempt, rank=rank, exit=exit)

    def random_foreign(self, which: int) -> AnyEvent:
        rng = self.rng
        count = len(self.core.nodes[which].spec.devices)
        occupied = tuple(index for index in range(count) if rng.random() < 0.3)
        amounts = (rng.choice([0, 1000, 9000]), rng.choice([0, 4000]), 0, 0, 0)
        return ForeignUsage(node=which, amounts=amounts, devices=occupied)

    def random_node(self, which: int) -> Node:
        rng = self.rng
        self.boots += 1
        return Node(
            name=f"n{which}",
            cpu_milli=rng.choice([4000, 8000, 16_000]),
            memory_mib=rng.choice([8000, 16_000, 64_000]),
            disk_mib=rng.choice([0, 100_000]),
            devices=tuple(
                Device(model=rng.choice("AB"), memory_mib=rng.choice([16_000, 40_000]))
                for _ in range(rng.choice([0, 0, 1, 2, 4]))
            ),
            boot=str(self.boots),
        )

    def random_spec(self) -> JobSpec:
        rng = self.rng
        gpu = rng.choice(
            [
                *({}, {}, {}),
                {"gpus": rng.randint(1, 2)},
                {"gpu_milli": rng.choice([250, 500]), "gpu_memory_mib": rng.choice([0, 9000])},
                {"gpus": 1, "gpu_models": ("A",)},
            ]
        )
        shape = Shape(
            cpu_milli=rng.choice([1, 1000, 1000, 2000, 6000]),
            memory_mib=rng.choice([0, 0, 3000, 9000]),
            disk_mib=rng.choice([0, 0, 0, 60_000]),
            members=rng.choice([1, 1, 1, 1, 2, 3]),
            spread=rng.choice(SPREADS),
            **gpu,
        )
        return JobSpec(
            shape=shape,
            tenant=rng.choice("tuv"),
            priority=rng.choice([0, 20, 50, 100]),
            expected_ms=rng.choice([None, 1000, 60_000, 3_600_000]),
            limit_ms=rng.choice([None, None, 30_000, 3_600_000]),
            retries=rng.choice([0, 0, 2]),
        )


def queue(core: Core, **settings) -> None:
    """Create or replace a queue."""
    core.apply(core.now, QueueSet(queue=Queue(**settings)))
