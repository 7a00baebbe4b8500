"""Small random workloads, and a truth of what fits when that knows nothing of the policies."""

from __future__ import annotations

from random import Random

from hypothesis import strategies as st
from msgspec.structs import replace

from fairlead.core.engine import Core
from fairlead.model.jobs import LIVE, JobSpec, PolicyConfig
from fairlead.model.resources import WHOLE_GPU_MILLI, Device, Node, Shape, Slot
from fairlead.policy.registry import PRICED, policy_config
from fairlead.sim.cluster import Cluster
from fairlead.sim.outcome import Rules
from fairlead.sim.replay import World
from fairlead.sim.workload import SimJob, Workload

Hold = tuple[Shape, Slot, int, int]  # who, where, from, until
NEVER = 10**9


def count_free(node: Node, where: int, holds: list[Hold], shape: Shape, at: int, run: int) -> int:
    """Return how many members fit on a node in the whole of [at, at + run), counted plainly."""
    times = [at, *(time for _, _, start, end in holds for time in (start, end))]
    host = [10**9] * 3
    milli = [WHOLE_GPU_MILLI] * len(node.devices)
    memory = [device.memory_mib for device in node.devices]
    for time in {time for time in times if at <= time < at + run}:
        now = [node.cpu_milli, node.memory_mib, node.disk_mib]
        parts = [WHOLE_GPU_MILLI] * len(node.devices)
        sizes = [device.memory_mib for device in node.devices]
        for other, slot, start, end in holds:
            if slot.node != where or not start <= time < end:
                continue
            now = [have - used for have, used in zip(now, other.amounts(), strict=True)]
            for device in slot.devices:
                parts[device] -= WHOLE_GPU_MILLI if other.gpus else other.gpu_milli
                whole = node.devices[device].memory_mib
                sizes[device] -= whole if other.gpus else other.gpu_memory_mib
        host = list(map(min, host, now))
        milli, memory = list(map(min, milli, parts)), list(map(min, memory, sizes))
    counts = [have // asked for have, asked in zip(host, shape.amounts(), strict=True) if asked]
    counts.append(shape.members)
    offered = [
        (part, size, device.memory_mib)
        for part, size, device in zip(milli, memory, node.devices, strict=True)
        if not shape.gpu_models or device.model in shape.gpu_models
    ]
    if shape.gpus:
        whole = [size for part, size, most in offered if (part, size) == (WHOLE_GPU_MILLI, most)]
        counts.append(sum(size >= shape.gpu_memory_mib for size in whole) // shape.gpus)
    elif shape.gpu_milli:
        asked = shape.gpu_memory_mib
        counts.append(
            sum(
                max(0, min(part // shape.gpu_milli, size // asked if asked else NEVER))
                for part, size, _ in offered
            )
        )
    return max(0, min(counts))


def fits(nodes: list[Node], holds: list[Hold], shape: Shape, at: int, run: int) -> bool:
    """Whether a whole gang fits in [at, at + run)."""
    if shape.within:
        anywhere = replace(shape, within="")
        racks = {node.rack for node in nodes}
        return any(
            fits(
                [replace(node, cpu_milli=0) if node.rack != rack else node for node in nodes],
                holds,
                anywhere,
                at,
                run,
            )
            for rack in racks
        )
    counts = [count_free(node, i, holds, shape, at, run) for i, node in enumerate(nodes)]
    if shape.spread == "same-node":
        return max(counts) >= shape.members
    if shape.spread == "distinct-nodes":
        return sum(map(bool, counts)) >= shape.members
    return sum(counts) >= shape.members


def earliest(nodes: list[Node], holds: list[Hold], shape: Shape, now: int, run: int) -> int | None:
    """Return the first time at which it fits, of all whole times."""
    last = max([now, *(end for _, _, _, end in holds if end < NEVER)])
    times = range(now, last + 1)
    return next((at for at in times if fits(nodes, holds, shape, at, run)), None)


def live(core: Core) -> list[Hold]:
    """Return what runs, each until its believed end."""
    return [
        (job.spec.shape, slot, 0, core.ends.get(job.id))
        for job in core.jobs.values()
        if job.phase in LIVE
        for slot in job.slots
    ]


# ---- workloads ------------------------------------------------------------------------------


def pool(size: int) -> list[Node]:
    return [Node(name="pool", cpu_milli=1000 * size)]


def gpu_nodes() -> list[Node]:
    """Return three machines of two kinds in two racks."""
    return [
        Node(
            name=f"n{i}",
            cpu_milli=8000,
            memory_mib=16_000,
            devices=tuple(Device(model=m, memory_mib=40_000) for m in models),
            rack="r1" if i < 2 else "r2",
        )
        for i, models in enumerate(("AA", "AB", "BBB"))
    ]


def gpu_shape(rng: Random) -> Shape:
    gpu = rng.choice(
        [
            {},
            {"gpus": 1},
            {"gpus": rng.randint(1, 2)},
            {"gpus": 1, "gpu_models": (rng.choice("AB"),)},
            {"gpu_milli": rng.choice([300, 500]), "gpu_memory_mib": rng.choice([0, 20_000])},
        ]
    )
    members = rng.choice([1, 1, 2, 3])
    spread = rng.choice(["any", "any", "distinct-nodes", "same-node"]) if members < 3 else "any"
    if gpu.get("gpus") == 2:
        members = 1
    cpu = rng.choice([500, 1000, 2000, 4000])
    if members > 1 and spread == "same-node":
        cpu = min(cpu, 2000)
        gpu = {key: value for key, value in gpu.items() if key != "gpu_models"}
    shape = Shape(cpu_milli=cpu, members=members, spread=spread, **gpu)
    near = rng.choice(["", "", "node", "rack"]) if members > 1 else ""
    close = replace(shape, within="rack", near=near)
    if members > 1 and rng.random() < 0.4 and fits(gpu_nodes(), [], close, 0, 1):
        return close
    return replace(shape, near=near)


@st.composite
def jobs_on(draw, gpus: bool, most: int = 25, size: int = 8, due: bool = False) -> list[SimJob]:
    """Draw jobs that end by their limits, often early; `due`: some have deadlines."""
    rng = Random(draw(st.integers(0, 2**32)))
    at, made = 0, []
    for number in range(draw(st.integers(1, most))):
        at += rng.choice([0, 0, 1, 5, 20])
        limit = rng.randint(1, 60)
        shape = gpu_shape(rng) if gpus else Shape(cpu_milli=1000 * rng.randint(1, size))
        run = rng.choice([limit, rng.randint(1, limit)])
        spec = JobSpec(
            shape=shape,
            limit_ms=limit,
            expected_ms=run,
            tenant=rng.choice("tu"),
            priority=rng.choice([10, 50, 90]),
            deadline_ms=rng.choice([None, at + 3 * limit]) if due else None,
        )
        made.append(SimJob(number, at, run, spec))
    return made


class Watched(World):
    """A world that lists its preemptions, and may lose all memory but the core at every turn."""

    def __init__(
        self,
        jobs,
        nodes,
        policy: str | PolicyConfig,
        rules: Rules | None = None,
        **more,
    ):
        config = policy_config(policy) if isinstance(policy, str) else policy
        if config.plan in PRICED:  # without prices there is no plan
            config = replace(config, prices=(("A", 2_000_000), ("B", 1_000_000)))
        self.stops: list[tuple[int, int, int]] = []  # time, job, how long it ran
        self.forget = False
        super().__init__(
            Workload(tuple(jobs), {}, {}),
            Cluster(spec="test", nodes=tuple(nodes)),
            config,
            rules or Rules(),
            **more,
        )

    def preempt(self, now, job_id, inbox):
        again = self.preempted[job_id - 1] > 0
        since = self.resumed[job_id] if again else self.start_ms[job_id - 1]
        self.stops.append((now, job_id, now - since))
        super().preempt(now, job_id, inbox)

    def turn(self, now, inbox, *, timers=True):
        super().turn(now, inbox, timers=timers)
        if self.forget:
            self.core = Core.load(self.core.dump())
            self.core.clock = now  # the next turn would set it
            self.scheduler = type(self.scheduler)(self.core, self.scheduler._build)

    def done(self, observe=None) -> Watched:
        self.run(None, observe)
        self.check_conservation()
        return self

    @property
    def schedule(self):
        return self.start_ms, self.end_ms, self.nodes, self.preempted
