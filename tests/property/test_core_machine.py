"""A machine that does to a core whatever can happen to it, and checks all invariants each time."""

from __future__ import annotations

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from fairlead.core.engine import Core
from fairlead.core.invariants import check
from fairlead.core.ledger import Request
from fairlead.core.reconcile import reconcile
from fairlead.model.events import (
    Asked,
    Cancelled,
    ForeignUsage,
    Granted,
    Grown,
    MemberEnded,
    MemberStarted,
    NodeJoined,
    NodeLost,
    Placed,
    Promised,
    Released,
    ResourceSet,
    Shrunk,
    StopDecided,
    Submitted,
    Withdrawn,
)
from fairlead.model.jobs import LIVE, JobSpec, Phase, PolicyConfig, Resource
from fairlead.model.messages import MemberState, Report
from fairlead.policy.deadlock.settle import next_grant
from fairlead.policy.place.fit import Fit
from fairlead.policy.place.score import BestFit
from strategies import OK, clusters, exits, gangs, image, nodes, shapes

picks = st.integers(0, 10**6)
amounts = st.dictionaries(st.sampled_from("ab"), st.integers(1, 2), max_size=2)


class CoreMachine(RuleBasedStateMachine):
    """Placements come from Fit; reports may be late, doubled, or of members that never were."""

    reports = Bundle("reports")

    @initialize(specs=clusters(1, 3))
    def join(self, specs):
        self.core, self.log, self.time = Core(), [], 0
        for index, spec in enumerate(specs):
            self.apply(NodeJoined(node=index, spec=spec))
        self.fit = Fit(self.core.ledger, BestFit())

    def apply(self, event):
        self.core.apply(self.time, event)
        self.log.append((self.time, event))

    def some(self, phases, pick):
        found = [job for _, job in sorted(self.core.jobs.items()) if job.phase in phases]
        return found[pick % len(found)] if found else None

    @rule(ms=st.sampled_from([1, 500, 10**6]))
    def time_passes(self, ms):
        self.time += ms
        for stop in self.core.due(self.time):
            self.apply(stop)
        assert self.core.due(self.time) == []

    @rule(
        shape=st.one_of(shapes(), gangs()),
        limit=st.sampled_from([None, 1000]),
        retries=st.integers(0, 2),
        more=st.integers(0, 3),
        counted=amounts,
        may=amounts,
    )
    def submit(self, shape, limit, retries, more, counted, may):
        members_max = shape.members + more if more and not shape.kinds else 0
        spec = JobSpec(
            shape=shape,
            limit_ms=limit,
            retries=retries,
            members_max=members_max,
            counted=tuple(sorted(counted.items())),
            may_acquire=tuple(sorted(may.items())),
        )
        self.apply(Submitted(job=self.core.next_job, spec=spec))

    @rule(pick=picks)
    def place(self, pick):
        job = self.some((Phase.PENDING,), pick)
        if job is None:
            return
        slots = self.fit.gang(self.core.shapes[job.shape_id])
        named = self.core.named
        enough = all(named.free(name) >= amount for name, amount in job.spec.counted)
        if slots is not None and enough:
            self.apply(Placed(job=job.id, attempt=job.attempt + 1, slots=slots))

    @rule(target=reports, pick=picks, rank=picks, exit=exits, times=st.integers(1, 2))
    def agent_speaks(self, pick, rank, exit, times):
        job = self.some(LIVE, pick)
        if job is None:
            return multiple()
        numbers = range(len(job.slots) if job.team is None else job.team.unused)
        where = {"job": job.id, "attempt": job.attempt, "rank": rank % len(numbers)}
        both = [MemberStarted(**where), MemberEnded(**where, exit=exit)]
        return multiple(*both[: 1 + pick % 2] * times)

    @rule(report=consumes(reports))
    def report_arrives(self, report):
        self.apply(report)

    @rule(report=reports)
    def report_arrives_and_will_again(self, report):
        self.apply(report)
        if isinstance(report, Released):
            return  # said twice it is two releases; each is checked before it is logged
        once = image(self.core)
        self.apply(report)
        assert image(self.core) == once

    @rule(pick=picks, then=st.sampled_from([Phase.PENDING, Phase.CANCELLED]))
    def stop(self, pick, then):
        job = self.some(LIVE, pick)
        if job is not None:
            held = self.core.ledger.room.copy()
            self.apply(StopDecided(job=job.id, attempt=job.attempt, then=then))
            assert (self.core.ledger.room == held).all()

    @rule(pick=picks, ms=st.sampled_from([1, 2000]), again=st.booleans())
    def is_to_move(self, pick, ms, again):
        """What is free is held for a job that runs, and may be stopped for it, or may not."""
        job = self.some((Phase.STARTING, Phase.RUNNING), pick)
        slots = job and self.fit.gang(self.core.shapes[job.shape_id])
        if slots and job.team is None:
            until = self.time + ms
            self.apply(Promised(job.id, self.time, slots, "it moves", until, move_for=0))
            if again:
                self.apply(StopDecided(job=job.id, attempt=job.attempt, then=Phase.PENDING))

    @rule(name=st.sampled_from("ab"), amount=st.integers(1, 4))
    def there_are_so_many(self, name, amount):
        self.apply(ResourceSet(resource=Resource(name=name, amount=amount)))

    @rule(pick=picks, amount=st.integers(1, 3), key=st.sampled_from(["", "k", "l"]))
    def acquire(self, pick, amount, key):
        holdings = sorted(self.core.named.live.items())
        if not holdings:
            return
        job, holding = holdings[pick % len(holdings)]
        asked = sum(ask.amount for ask in self.core.named.asks.values() if ask.job == job)
        for name, most in holding.need().items():
            if asked + amount <= most:
                attempt = holding.attempt - pick % 2
                self.apply(Asked(job=job, attempt=attempt, name=name, amount=amount, key=key))

    @rule(mode=st.sampled_from(["avoid", "detect"]))
    def grant(self, mode):
        ask = next_grant(self.core, PolicyConfig(deadlock=mode))
        if ask is not None:
            where = {"job": ask.job, "attempt": ask.attempt, "ask": ask.number}
            self.apply(Granted(**where, name=ask.name, amount=ask.amount))

    @rule(target=reports, pick=picks, amount=st.integers(1, 2))
    def release(self, pick, amount):
        holdings = sorted(self.core.named.live.items())
        if not holdings:
            return multiple()
        job, holding = holdings[pick % len(holdings)]
        name = next(iter(holding.acquired), "a")
        where = {"job": job, "attempt": holding.attempt}
        if pick % 3 == 0 and self.core.named.asks:
            return multiple(Withdrawn(**where, ask=min(self.core.named.asks)))
        return multiple(Released(**where, name=name, amount=amount))

    def resizable(self, pick):
        found = [
            job
            for job in self.core.elastic.values()
            if job.phase is Phase.RUNNING and not job.exits
        ]
        return found[pick % len(found)] if found else None

    @rule(pick=picks, more=st.integers(1, 3))
    def grow(self, pick, more):
        job = self.resizable(pick)
        if job is None or job.team.size == job.spec.members_max:
            return
        request = Request(msgspec.structs.replace(job.spec.shape, members=1, spread="any"))
        slot = self.fit.one(request)
        if slot is not None:
            self.apply(Grown(job=job.id, attempt=job.attempt, slots=(slot,)))

    @rule(pick=picks, least=picks)
    def shrink(self, pick, least):
        job = self.resizable(pick)
        if job is None or job.team.size == job.spec.shape.members:
            return
        stay = job.spec.shape.members + least % (job.team.size - job.spec.shape.members)
        held = self.core.ledger.room.copy()
        self.apply(Shrunk(job=job.id, attempt=job.attempt, members=stay))
        assert (self.core.ledger.room == held).all()
        assert len(job.staying) == stay

    @rule(pick=picks)
    def cancel(self, pick):
        job = self.some((Phase.PENDING,), pick)
        if job is not None:
            self.apply(Cancelled(job=job.id))

    @rule(pick=picks)
    def node_vanishes(self, pick):
        node = pick % len(self.core.nodes)
        self.apply(NodeLost(node=node))
        assert not self.core.nodes[node].members

    @rule(pick=picks, spec=nodes(), reboot=st.booleans())
    def node_comes_back(self, pick, spec, reboot):
        node = pick % len(self.core.nodes)
        now = self.core.nodes[node].spec
        boot = f"{now.boot}x" if reboot else now.boot
        if not reboot:  # in one life a machine has its devices, and no less of anything
            spec = msgspec.structs.replace(
                spec,
                devices=now.devices,
                cpu_milli=max(spec.cpu_milli, now.cpu_milli),
                memory_mib=max(spec.memory_mib, now.memory_mib),
                disk_mib=max(spec.disk_mib, now.disk_mib),
            )
        changed = msgspec.structs.replace(spec, name=now.name, boot=boot)
        self.apply(NodeJoined(node=node, spec=changed))

    @rule(pick=picks, cpu=st.sampled_from([0, 1000, 50_000]))
    def others_use(self, pick, cpu):
        node = pick % len(self.core.nodes)
        devices = tuple(i for i in range(len(self.core.nodes[node].spec.devices)) if pick >> i & 1)
        self.apply(ForeignUsage(node=node, amounts=(cpu, 0, 0, 0, 0), devices=devices))

    @precondition(lambda self: self.core.nodes)
    @rule(pick=picks, running=st.booleans())
    def agent_reports_all_that_should_be(self, pick, running):
        """An agent that does exactly as told proves nothing but starts and confirmed stops."""
        node = pick % len(self.core.nodes)
        desired = self.core.desired(node)
        state = "running" if running else "starting"
        members = [
            *(MemberState(job=x.job, attempt=x.attempt, rank=x.rank, state=state)
              for x in desired.run),
            *(MemberState(job=j, attempt=a, rank=r, state="running") for j, a, r in desired.keep),
            *(MemberState(job=j, attempt=a, rank=r, state="stopping") for j, a, r in desired.stop),
        ]  # fmt: skip
        spec = self.core.nodes[node].spec
        report = Report(
            node=spec.name, boot=spec.boot, seen=desired.version, members=tuple(members)
        )
        events, forget = reconcile(self.core, report)
        assert forget == () and all(type(event) is MemberStarted for event in events)
        for event in events:
            self.apply(event)
        if running:
            assert not self.core.desired(node).run

    @invariant()
    def all_is_consistent(self):
        if hasattr(self, "core"):
            check(self.core)

    def teardown(self):
        if not hasattr(self, "core"):
            return
        twin = Core.load(self.core.dump())
        check(twin)
        assert image(twin) == image(self.core)
        again = Core()
        for at, event in self.log:
            again.apply(at, event)
        assert image(again) == image(self.core)
        self.everything_comes_to_an_end()

    def everything_comes_to_an_end(self):
        """When every member is gone and what waits is cancelled, nothing is held by anybody."""
        core = self.core
        for job in list(core.jobs.values()):
            for rank in list(job.ranks):
                self.apply(MemberEnded(job=job.id, attempt=job.attempt, rank=rank, exit=OK))
        for job_id in list(core.pending):
            self.apply(Cancelled(job=job_id))
        assert not core.jobs and not any(map(any, core.usage.values()))
        assert not core.promises and not core.moving and not core.shares.kept
        assert not any(core.named.held.values()) and not core.named.live and not core.named.asks
        for index in range(len(core.nodes)):
            free = core.ledger.room[:5, index] + core.ledger.foreign[:, index]
            assert (free == core.ledger.capacity[:, index]).all()


TestCore = CoreMachine.TestCase
