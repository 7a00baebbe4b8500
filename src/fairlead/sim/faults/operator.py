"""Whoever runs the cluster: brings about the planned incidents, and clears up after them."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from msgspec.structs import replace

from fairlead.model.advice import Share
from fairlead.model.events import (
    Advised,
    Forecasted,
    PolicySet,
    QueueSet,
    ReservationDeleted,
    ResourceSet,
    SpeedDeleted,
    SpeedSet,
    TenantSet,
    UserDeleted,
    UserSet,
)
from fairlead.model.jobs import Phase, Queue, Speed
from fairlead.model.resources import width_milli
from fairlead.sim.faults.client import Call
from fairlead.sim.faults.machine import Machine
from fairlead.sim.faults.network import SLOW_MS, Ask, Cancel, Configure, GiveUp, Reserve
from fairlead.sim.faults.plan import Incident
from fairlead.sim.faults.truth import can_ever_run
from fairlead.store.memory import Fault

if TYPE_CHECKING:
    from fairlead.sim.faults.world import World


MODELS = ("A100", "H100", "")  # those of the menu; "": nodes without GPUs
PLANNED = 0.8  # of all jobs


class Operator:
    """Makes things happen at their time; its calls are repeated until they are answered."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.calls: list[Call] = []
        self._kinds = {
            "agent-restart": self._agent_restart,
            "supervisor-kill": self._supervisor_kill,
            "reboot": self._reboot,
            "wipe": self._reboot,
            "shrink": self._reboot,
            "node-loss": self._node_loss,
            "node-return": self._node_loss,
            "partition": self._partition,
            "crash": self._crash,
            "crash-before-commit": self._write_fault,
            "crash-after-commit": self._write_fault,
            "write-fails": self._write_fault,
            "disk-full": self._disk_full,
            "snapshot": self._snapshot,
            "snapshot-damaged": self._snapshot,
            "clock-step": self._clock_step,
            "policy": self._configure,
            "quota": self._configure,
            "queue": self._configure,
            "user": self._configure,
            "resource": self._configure,
            "foreign": self._foreign,
            "reserve": self._reserve,
            "unreserve": self._unreserve,
            "forecast": self._forecast,
            "advice": self._advice,
            "speed": self._speed,
        }

    @property
    def waiting(self) -> int:
        """How many calls are not answered."""
        self.calls = [call for call in self.calls if not call.over]
        return len(self.calls)

    def start(self) -> None:
        """Configure the service and lay out all incidents."""
        plan = self.world.plan
        self._call(Configure(number=self._number(), event=PolicySet(policy=plan.policy)))
        for tenant in plan.tenants:
            self._call(Configure(number=self._number(), event=TenantSet(tenant=tenant)))
        for queue in plan.queues:
            self._call(Configure(number=self._number(), event=QueueSet(queue=queue)))
        for resource in plan.resources:
            self._call(Configure(number=self._number(), event=ResourceSet(resource=resource)))
        for user in plan.users:
            self._call(Configure(number=self._number(), event=UserSet(user=user)))
        for incident in plan.incidents:
            self.world.at(incident.at_ms, self._incident, incident)

    def heal(self) -> None:
        """Take quotas and reservations back, so that everything may run in the end."""
        plan = self.world.plan
        changed = [incident.tenant for incident in plan.incidents if incident.tenant is not None]
        for tenant in {tenant.name: tenant for tenant in (*plan.tenants, *changed)}.values():
            event = TenantSet(tenant=replace(tenant, quota=()))
            self._call(Configure(number=self._number(), event=event))
        for queue in self.world.oracles.shadow.queues.values():
            free = QueueSet(queue=Queue(name=queue.name, parent=queue.parent))
            self._call(Configure(number=self._number(), event=free))
        for resource in plan.resources:
            self._call(Configure(number=self._number(), event=ResourceSet(resource=resource)))
        for name in self.world.oracles.shadow.users:
            self._call(Configure(number=self._number(), event=UserDeleted(name=name)))
        for name in list(self.world.oracles.shadow.reservations):
            self._delete(name)
        for job_type, width, model in self.world.oracles.shadow.speeds.told:
            forget = SpeedDeleted(job_type=job_type, width_milli=width, model=model)
            self._call(Configure(number=self._number(), event=forget))

    def tidy(self) -> None:
        """Give up dead machines, take quotas back, cancel what the other machines cannot run.

        A late word of a life that was given up before it was known makes a dead machine look up:
        somebody has to look again.
        """
        service = self.world.service
        if not service.up or self.waiting:
            return
        quotas = any(tenant.quota for tenant in service.core.tenants.values())
        short = any(
            service.core.named.amount(each.name) < each.amount for each in self.world.plan.resources
        )
        if quotas or short or service.core.shares.limited or service.core.reservations:
            self.heal()  # a late call has set it again
            return
        for known in service.core.nodes:
            if known.up and not self.world.machines[known.spec.name].up:
                self._give_up(known.spec.name, known.spec.boot)
        nodes = [machine.spec for machine in self.world.machines.values() if machine.up]
        ids = tuple(
            job.id
            for job in service.core.jobs.values()
            if job.phase is Phase.PENDING and not can_ever_run(job.spec.shape, nodes)
        )
        for job in ids:
            self.world.tell(job, "the operator cancels job {}: it can never run now", job)
            self.world.oracles.cancels(job)
        if ids:
            self._call(Cancel(number=self._number(), ids=ids))

    def _number(self) -> int:
        return self.world.clients.number()

    def _call(self, ask: Ask) -> None:
        call = Call(self.world, ask, None)
        self.calls.append(call)
        call.send()

    # ---- incidents ----------------------------------------------------------------------------

    def _incident(self, incident: Incident) -> None:
        if self.world.faulty:
            self._kinds[incident.kind](incident)

    def _machine(self, incident: Incident) -> Machine | None:
        return self.world.machines.get(incident.node)  # a shrunk plan may lack it

    def _agent_restart(self, incident: Incident) -> None:
        machine = self._machine(incident)
        if machine is None or machine.agent is None:
            return
        if incident.amount % 4:  # in the middle of its work
            machine.agent_dies_after = incident.amount % 4
            if incident.amount // 4 % 2:  # the machine is overloaded, and so slow to say anything
                self.world.network.slow[machine.name] = self.world.now + 10 * SLOW_MS
        else:
            machine.stop_agent()
            self.world.at(incident.for_ms, machine.start_agent, machine.life)

    def _supervisor_kill(self, incident: Incident) -> None:
        machine = self._machine(incident)
        if machine is not None and machine.up:
            machine.kill_supervisor(incident.amount)

    def _reboot(self, incident: Incident) -> None:
        machine = self._machine(incident)
        if machine is None or not machine.up:
            return
        machine.die(wipe=incident.kind == "wipe")
        if incident.kind == "shrink":
            spec = machine.spec
            machine.spec = replace(
                spec, cpu_milli=max(1000, spec.cpu_milli // 2), devices=spec.devices[:-1]
            )
        self.world.at(incident.for_ms, machine.start)

    def _node_loss(self, incident: Incident) -> None:
        machine = self._machine(incident)
        if machine is None or not machine.up:
            return
        up = [other for other in self.world.machines.values() if not other.lost]
        machine.lost = incident.kind == "node-loss" and len(up) > 1
        boot = machine.spec.boot
        machine.die(wipe=bool(incident.amount % 2))
        self.world.at(incident.for_ms, self._give_up, machine.name, boot)
        if not machine.lost:
            self.world.at(incident.for_ms + incident.amount % 600_000, machine.start)

    def _give_up(self, name: str, boot: str) -> None:
        self.world.tell(0, "the operator gives up {} ({})", name, boot)
        self._call(GiveUp(number=self._number(), node=name, boot=boot))

    def _partition(self, incident: Incident) -> None:
        self.world.tell(0, "{} is cut off for {} ms", incident.node, incident.for_ms)
        self.world.network.cut[incident.node] = self.world.now + incident.for_ms

    def _crash(self, incident: Incident) -> None:
        self.world.service.die(incident.for_ms)

    def _write_fault(self, incident: Incident) -> None:
        if not self.world.service.up:
            return
        fault: Fault = "fail"
        if incident.kind != "write-fails":
            fault = "torn" if incident.kind == "crash-before-commit" else "unheard"
        self.world.disk.fail_next(incident.amount, fault)

    def _disk_full(self, incident: Incident) -> None:
        self.world.tell(0, "the disk is full for {} ms", incident.for_ms)
        self.world.disk.full = True
        self.world.at(incident.for_ms, self._disk_has_room)

    def _disk_has_room(self) -> None:
        self.world.disk.full = False

    def _snapshot(self, incident: Incident) -> None:
        self.world.service.snapshot()
        if incident.kind == "snapshot-damaged":
            self.world.disk.damage(incident.amount)
            self.world.service.die(incident.for_ms)

    def _clock_step(self, incident: Incident) -> None:
        self.world.tell(0, "the service's clock steps by {} ms", incident.amount)
        self.world.service.step_clock(incident.amount)

    def _configure(self, incident: Incident) -> None:
        event: PolicySet | TenantSet | QueueSet | UserSet | ResourceSet
        if incident.queue is not None:
            event = QueueSet(queue=incident.queue)
        elif incident.resource is not None:
            event = ResourceSet(resource=incident.resource)
        elif incident.user is not None:
            event = UserSet(user=incident.user)
        elif incident.policy is not None:
            event = PolicySet(policy=incident.policy)
        else:
            assert incident.tenant is not None
            event = TenantSet(tenant=incident.tenant)
        self._call(Configure(number=self._number(), event=event))

    def _reserve(self, incident: Incident) -> None:
        assert incident.reservation is not None
        self.world.tell(0, "the operator reserves {}", incident.reservation)
        self._call(Reserve(number=self._number(), reservation=incident.reservation))

    def _unreserve(self, incident: Incident) -> None:
        names = list(self.world.oracles.shadow.reservations)
        if names:
            self._delete(names[incident.amount % len(names)])

    def _delete(self, name: str) -> None:
        event = ReservationDeleted(name=name)
        self._call(Configure(number=self._number(), event=event))

    def _advice(self, incident: Incident) -> None:
        """Somebody makes a plan, with jobs and models that there are not among the others."""
        rng = Random(incident.amount)
        models = [*MODELS, "K80"]
        jobs = [job for job in self.world.oracles.shadow.jobs if rng.random() < PLANNED]
        plan = []
        for job in (*jobs, self.world.oracles.shadow.next_job + 7):
            on = {model: rng.choice((0, 1, 250_000, 500_000)) for model in models}
            plan.append(Share(jobs=(job,), on=tuple(on.items()), members=rng.choice((0, 0, 2))))
        name = self.world.oracles.shadow.policy.plan or "anybody"
        event = Advised(adviser=name, plan=tuple(plan), gap_ppm=rng.choice((None, 0)))
        self._call(Configure(number=self._number(), event=event))

    def _speed(self, incident: Incident) -> None:
        jobs = list(self.world.oracles.shadow.jobs.values())
        if not jobs:
            return
        rng = Random(incident.amount)
        job = rng.choice(jobs)
        speed = Speed(
            job_type=job.spec.kind,
            width_milli=width_milli(job.spec.shape),
            model=rng.choice(MODELS),
            micro_per_s=rng.choice((0, 1, 1_000_000, 1_000_000_000)),
        )
        self._call(Configure(number=self._number(), event=SpeedSet(speed=speed)))

    def _forecast(self, incident: Incident) -> None:
        count = self.world.oracles.submitted
        if count and incident.forecast is not None:
            job = incident.amount % count + 1
            event = Forecasted(job=job, forecast=incident.forecast)
            self._call(Configure(number=self._number(), event=event))

    def _foreign(self, incident: Incident) -> None:
        machine = self._machine(incident)
        if machine is not None:
            machine.set_foreign(incident.foreign, incident.devices)
