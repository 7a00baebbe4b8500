"""From a seed to a plan: a swarm. Each seed enables a random subset of faults at random rates."""

from __future__ import annotations

from random import Random
from typing import get_args

from msgspec.structs import replace

from fairlead.model.base import Ms
from fairlead.model.jobs import FORECAST_PERCENTS, Forecast, JobSpec, PolicyConfig, Queue, Tenant
from fairlead.model.limits import EXIT_REQUEUE
from fairlead.model.resources import Device, Node, Shape, Spread, gang_of
from fairlead.model.topology import Wish
from fairlead.policy.finish import LEASED
from fairlead.policy.registry import POLICIES, policy_config
from fairlead.sim.faults import menu_sharing
from fairlead.sim.faults.plan import (
    EPOCH_MS,
    Fate,
    Incident,
    IncidentKind,
    JobPlan,
    Plan,
    RequestPlan,
    ReservePlan,
    Weather,
)

HOUR: Ms = 3_600_000
MINUTE: Ms = 60_000
KINDS: tuple[IncidentKind, ...] = get_args(IncidentKind)
MOST = {"agent-restart": 20, "supervisor-kill": 8, "foreign": 8, "crash": 8, "reserve": 6}
MOST["advice"] = 20
ATTEMPTS_PLANNED = 4
FATES_MAX = 24
TENANTS = ("ada", "bob", "eve")
# Others would give every seed another plan.
_PLACEMENTS = ("best-fit", "worst-fit", "dot-product", "l2", "fgd", "fgd-floored")


def draw(seed: int, hours: float = 1.0) -> Plan:
    """Return the plan of a seed; pure. `hours`: how long faults go on."""
    rng = Random(f"fairlead faults {seed}")
    until = round(hours * HOUR)
    nodes = tuple(_node(rng, index) for index in range(rng.randint(2, 8)))
    load = rng.uniform(0.4, 1.3)
    queues = menu_sharing.queues(rng, nodes)
    jobs: dict[str, JobPlan] = {}
    requests: list[RequestPlan] = []
    for index in range(round(rng.randint(8, 60) * hours) + 1):
        requests.append(_request(rng, f"r{index}", until, nodes, jobs, load))
    if (drawn := Random(f"different workers {seed}")).random() < 0.5:
        for index in range(drawn.randint(1, 4)):
            shape = _different(drawn, nodes)
            requests.append(_request(drawn, f"w{index}", until, nodes, jobs, load, shape))
    leaves = menu_sharing.leaves(queues)
    resources = menu_sharing.resources(rng) if rng.random() < 0.5 else ()
    for name, job in jobs.items():
        placed = _in_queue(rng, job, leaves)
        jobs[name] = menu_sharing.needs(rng, placed, resources) if resources else placed
    enabled = [kind for kind in KINDS if rng.random() < 0.35]
    incidents = [
        _incident(rng, kind, until, nodes, queues)
        for kind in enabled
        for _ in range(_count(rng, kind, hours))
    ]
    return Plan(
        seed=seed,
        until_ms=until,
        nodes=nodes,
        jobs=jobs,
        requests=tuple(sorted(requests, key=lambda request: (request.at_ms, request.key))),
        incidents=tuple(sorted(incidents, key=lambda incident: incident.at_ms)),
        weather=_weather(rng),
        policy=_policy(rng),
        tenants=tuple(_tenant(rng, nodes) for _ in range(rng.randint(0, 2))),
        queues=queues,
        resources=resources,
        users=tuple(menu_sharing.user(rng, nodes) for _ in range(rng.choice((0, 0, 1, 2)))),
        skews={node.name: _skew(rng) for node in nodes if rng.random() < 0.2},
        snapshot_events=rng.choice((20, 100, 100_000)),
        heartbeat_ms=rng.choice((60_000, 120_000, 180_000)),
    )


def _node(rng: Random, index: int) -> Node:
    gpus = rng.choice((0, 0, 2, 4, 8))
    size = rng.choice((40_960, 81_920))
    model = "A100" if size == 40_960 else "H100"
    cpu_milli = 1000 * rng.choice((4, 8, 16))
    drawn = Random(f"{index} {gpus} {cpu_milli} {size}")
    linked = drawn.choice((1, 2, 4, 8))
    return Node(
        name=f"n{index}",
        cpu_milli=cpu_milli,
        memory_mib=1024 * rng.choice((16, 32, 64)),
        disk_mib=rng.choice((0, 100_000)),
        devices=tuple(
            Device(model=model, memory_mib=size, uuid=f"{index}-{d}", island=d // linked)
            for d in range(gpus)
        ),
        rack=drawn.choice(("", "r1", "r1", "r2")),
        switch=drawn.choice(("", "s1")),
    )


def _shape(rng: Random, nodes: tuple[Node, ...]) -> Shape:
    """Return a request of which one member at least fits some node."""
    node = rng.choice(nodes)
    members = rng.choices((1, 2, 3, 4), (70, 15, 8, 7))[0]
    spread: Spread = rng.choice(("any", "any", "same-node", "distinct-nodes"))
    part = rng.choice((1, 2, 2, 4, 4, 8))
    # Another sequence: what else is drawn stays the same for the same seed.
    drawn = Random(f"{node.name} {node.cpu_milli} {members} {part}")
    within: Wish = drawn.choice(("", "", "", "rack", "switch"))
    near: Wish = drawn.choice(("", "", "", "node", "rack"))
    gpus = milli = memory = 0
    if node.devices and rng.random() < 0.7:
        if rng.random() < 0.6:
            gpus = max(1, len(node.devices) // part)
            memory = rng.choice((0, 0, 20_000, node.devices[0].memory_mib))
        else:
            milli = rng.choice((100, 250, 300, 500, 1000))
            memory = rng.choice((0, 2_000, 10_000, 30_000))
    parts: tuple[int, ...] = ()
    if (gpus or milli) and len(node.devices) > max(gpus, 1) and drawn.random() < 0.25:
        milli = milli or drawn.choice((250, 500))  # beside whole GPUs, or on two of them
        if not gpus and milli > 1:
            parts = (milli - milli // 3, milli // 3)
        memory = min(memory, 10_000)
    return Shape(
        cpu_milli=max(100, node.cpu_milli // part - rng.choice((0, 0, 500))),
        memory_mib=rng.choice((0, node.memory_mib // part, 512)),
        disk_mib=rng.choice((0, 0, node.disk_mib // 4)),
        gpus=gpus,
        gpu_milli=milli,
        gpu_parts=parts,
        gpu_memory_mib=memory,
        gpu_models=(node.devices[0].model,) if (gpus or milli) and rng.random() < 0.3 else (),
        members=members,
        spread=spread if members > 1 else "any",
        within=within if members > 1 else "",
        near=near if members > 1 else "",
    )


def _different(rng: Random, nodes: tuple[Node, ...]) -> Shape:
    """Return a gang with workers of two kinds."""
    kinds = [replace(_shape(rng, nodes), members=rng.randint(1, 2)) for _ in range(2)]
    spread: Spread = rng.choice(("any", "any", "same-node", "distinct-nodes"))
    return gang_of(kinds, spread, rng.choice(("", "", "rack")), rng.choice(("", "", "node")))


def _job(rng: Random, name: str, shape: Shape, load: float, until: Ms) -> JobPlan:
    usual: Ms = round(min(rng.lognormvariate(11.3, 1.2) * load, 20 * MINUTE)) + 1
    mean_streak = rng.random() < 0.25
    most = min(ATTEMPTS_PLANNED * shape.members, FATES_MAX // shape.members * shape.members)
    fates = [_fate(rng, usual, mean_streak) for _ in range(most)]
    # The last attempts repeat for ever; they come to an end of their own.
    last = [Fate(run_ms=usual, code=rng.choice((0, 0, 0, 1))) for _ in range(shape.members)]
    limit = None
    if any(fate.run_ms is None for fate in fates) or rng.random() < 0.25:
        limit = max(1000, round(usual * rng.choice((0.5, 1.0, 2.0))))
    spec = JobSpec(
        shape=shape,
        name=name,
        user=rng.choice(TENANTS),
        tenant=rng.choice(TENANTS),
        priority=rng.choice((10, 50, 50, 90)),
        command=("train", name),
        env={"RUN": name},
        limit_ms=limit,
        # Wildly wrong on purpose: a policy may read it, safety must not depend on it.
        expected_ms=rng.choice((None, usual, 1, usual * 1000)),
        stop_signal=rng.choice((15, 15, 2)),
        grace_ms=rng.choice((0, 1000, 30_000, 120_000)),
        retries=rng.choice((0, 0, 1, 3)),
        members_max=_most(rng, shape),
        deadline_ms=EPOCH_MS + rng.randrange(2 * until) if rng.random() < 0.3 else None,
        preemptible=rng.random() < 0.85,
        job_type=rng.choice(("", "bert", "gpt")),
        steps=usual // 100 if usual % 2 else 0,  # it reports one in 100 ms (machine.py)
    )
    cancel = round(rng.expovariate(1 / (5 * MINUTE))) if rng.random() < 0.25 else None
    return JobPlan(
        spec=spec,
        fates=(*fates, *last),
        cancel_after_ms=cancel,
        cancel_now=rng.random() < 0.4,
        forecast=_forecast(rng, usual, limit) if rng.random() < 0.4 else None,
    )


def _most(rng: Random, shape: Shape) -> int:
    """Return the most members of an elastic job, 0 for others; different workers are not."""
    elastic = rng.random() < 0.2
    most = shape.members + rng.randint(1, 6) if elastic else 0
    return 0 if shape.kinds else most


def _in_queue(rng: Random, job: JobPlan, leaves: list[str]) -> JobPlan:
    return replace(job, spec=replace(job.spec, queue=rng.choice(leaves)))


def _forecast(rng: Random, usual: Ms, limit: Ms | None) -> Forecast:
    """Return what a predictor says: about right, or wrong by a factor of a thousand."""
    most = 1000 * HOUR if limit is None else limit
    expected = min(max(1, round(usual * rng.choice((0.001, 0.5, 1.0, 1.0, 2.0, 1000)))), most)
    if rng.random() < 0.5:
        return Forecast(expected_ms=expected, model="a point")
    steps = sorted(min(max(1, expected * p // 50), most) for p in FORECAST_PERCENTS)
    return Forecast(expected_ms=expected, quantiles_ms=tuple(steps), model="quantiles")


def _fate(rng: Random, usual: Ms, mean: bool) -> Fate:
    if not mean:
        return Fate(
            run_ms=usual,
            code=0 if rng.random() < 0.9 else rng.choice((1, 2, EXIT_REQUEUE)),
            start_ms=rng.choice((5, 20, 200)),
            notice_ms=rng.choice((1, 50, 5_000)),
        )
    return Fate(
        run_ms=rng.choice((0, 1, usual, usual, None)),
        code=rng.choice((0, 0, 1, EXIT_REQUEUE, 137)),
        start_ms=rng.choice((0, 20, 3_000, 30_000)),
        notice_ms=rng.choice((None, None, 1, 20_000)),
        notice_code=rng.choice((None, 0, 0, 3, EXIT_REQUEUE)),
        leftover_ms=rng.choice((0, 0, 100, 10_000)),
        cannot_start=rng.random() < 0.1,
        mute=rng.random() < 0.3,
    )


def _request(
    rng: Random,
    key: str,
    until: Ms,
    nodes: tuple[Node, ...],
    jobs: dict[str, JobPlan],
    load: float,
    shape: Shape | None = None,
) -> RequestPlan:
    shape = _shape(rng, nodes) if shape is None else shape
    names = tuple(f"{key}.{index}" for index in range(rng.choices((1, 2, 5), (80, 12, 8))[0]))
    for name in names:
        jobs[name] = _job(rng, name, shape, load, until)
    vanishes = rng.random() < 0.15
    return RequestPlan(
        at_ms=rng.randrange(until),
        key=key if rng.random() < 0.92 else "",
        jobs=names,
        tries=rng.randint(1, 3) if vanishes else None,
        eager=rng.random() < 0.1,
    )


def _count(rng: Random, kind: IncidentKind, hours: float) -> int:
    if kind == "node-loss":
        return 1
    return max(1, round(rng.randint(1, MOST.get(kind, 4)) * hours))


def _incident(
    rng: Random,
    kind: IncidentKind,
    until: Ms,
    nodes: tuple[Node, ...],
    queues: tuple[Queue, ...],
) -> Incident:
    node = rng.choice(nodes)
    foreign: tuple[int, ...] = ()
    devices: tuple[int, ...] = ()
    if kind == "foreign":
        share = rng.choice((0, 0, 2, 4))
        cpu, memory = (node.cpu_milli // share, node.memory_mib // share) if share else (0, 0)
        foreign = (cpu, memory, 0, 0, 0)
        devices = tuple(d for d in range(len(node.devices)) if share and rng.random() < 0.3)
    return Incident(
        at_ms=rng.randrange(until),
        kind=kind,
        node=node.name,
        amount=_amount(rng, kind),
        for_ms=rng.choice((10, 1_000, 20_000, 3 * MINUTE)),
        foreign=foreign,
        devices=devices,
        policy=_policy(rng) if kind == "policy" else None,
        tenant=_tenant(rng, nodes) if kind == "quota" else None,
        queue=_queue(rng, nodes, queues) if kind == "queue" else None,
        user=menu_sharing.user(rng, nodes) if kind == "user" else None,
        resource=rng.choice(menu_sharing.resources(rng)) if kind == "resource" else None,
        reservation=_reservation(rng, nodes, node) if kind == "reserve" else None,
        forecast=_forecast(rng, 10 * MINUTE, None) if kind == "forecast" else None,
    )


def _queue(rng: Random, nodes: tuple[Node, ...], queues: tuple[Queue, ...]) -> Queue:
    """Return one of the queues, changed."""
    return menu_sharing.queue(rng, nodes, rng.choice((*queues, Queue(name="default"))))


def _reservation(rng: Random, nodes: tuple[Node, ...], node: Node) -> ReservePlan:
    names = {node.name, *(other.name for other in nodes if rng.random() < 0.2)}
    shape = None
    if rng.random() < 0.5:
        gpus = rng.randint(0, min(2, len(node.devices)))
        shape = Shape(cpu_milli=node.cpu_milli // 2, memory_mib=rng.choice((0, 4096)), gpus=gpus)
    return ReservePlan(
        name=f"reservation-{rng.randrange(4)}",
        nodes=tuple(sorted(names)),
        after_ms=rng.choice((0, 0, MINUTE, 10 * MINUTE)),
        for_ms=rng.choice((None, MINUTE, 10 * MINUTE, 10 * MINUTE)),
        tenants=() if rng.random() < 0.4 else (rng.choice(TENANTS),),
        shape=shape,
    )


def _amount(rng: Random, kind: IncidentKind) -> int:
    if kind in ("write-fails", "crash-before-commit", "crash-after-commit"):
        return rng.randint(1, 5)  # which write from now on
    if kind == "clock-step":
        return _skew(rng)
    return rng.randrange(1 << 30)


def _skew(rng: Random) -> Ms:
    return rng.choice((-1, 1)) * rng.choice((100, 5_000, 10 * MINUTE))


def _weather(rng: Random) -> Weather:
    if rng.random() < 0.25:
        return Weather()
    return Weather(
        lost=rng.choice((0, 20, 100, 300)),
        repeated=rng.choice((0, 20, 200)),
        delayed=rng.choice((0, 50, 300)),
        delay_max_ms=rng.choice((500, 10_000, MINUTE, 5 * MINUTE)),
        delay_usual_ms=rng.choice((2, 50, 500)),
    )


def _policy(rng: Random) -> PolicyConfig:
    config = policy_config(f"{rng.choice(sorted(POLICIES))}+{rng.choice(_PLACEMENTS)}")
    config = replace(
        config,
        reclaim=rng.choice(("any", "any", "lower-priority", "never")),
        within=rng.choice(("never", "lower-priority")) if not config.preempt else "never",
        deadlock=rng.choice(("avoid", "detect", "ordered")),
        half_life_ms=rng.choice((MINUTE, HOUR, 7 * 24 * HOUR)),
    )
    if config.plan:
        config = replace(config, lease_ms=rng.choice((10_000, MINUTE, 20 * MINUTE)))
    if not config.preempt:
        least = rng.choice((0, 0, 10_000, MINUTE))
        most = rng.choice((1, 3, 10) if config.plan else (None, None, 1, 3))
        if not config.plan and config.defrag == "never":
            share = rng.choice(("any", "any", "known", "trial"))
            config = replace(config, share=share, trial_ms=rng.choice((20_000, MINUTE)))
        return replace(config, min_run_ms=least, preemptions_max=most)
    turns = config.order in ("las", *LEASED)
    if config.order in LEASED:
        config = replace(config, lease_ms=rng.choice((10_000, MINUTE, 20 * MINUTE)))
    levels = rng.choice((config.levels_gpu_ms, (MINUTE,), (30_000, 5 * MINUTE)))
    return replace(
        config,
        min_run_ms=rng.choice((0, 0, 10_000, MINUTE)),
        # Jobs here begin anew after each preemption: two that take turns for ever would never end.
        preemptions_max=rng.choice((1, 3, 10) if turns else (None, None, 1, 3)),
        levels_gpu_ms=levels if config.levels_gpu_ms else (),
    )


def _tenant(rng: Random, nodes: tuple[Node, ...]) -> Tenant:
    cpu = sum(node.cpu_milli for node in nodes)
    most = rng.choice((None, cpu // 2, cpu // 4, 1000))
    gpu = rng.choice((None, None, 2000, 500))
    quota = () if most is None else (most, None, None, gpu, None)
    return Tenant(name=rng.choice(TENANTS), weight=rng.randint(1, 3), quota=quota)
