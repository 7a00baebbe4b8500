"""A GPU that vanishes, or comes back, never changes what an index means to a running job."""

from __future__ import annotations

from fairlead.core.engine import Core
from fairlead.core.invariants import check
from fairlead.model.events import MemberStarted, NodeJoined, Placed, Submitted
from fairlead.model.jobs import JobSpec, Phase
from fairlead.model.resources import Device, Node, Shape, Slot
from fairlead.service.commands import Batch, Configure, keep_devices

A, B, C = (Device(model="A100", memory_mib=40_960, uuid=f"GPU-{name}") for name in "abc")


def machine(*devices: Device, boot: str = "1") -> Node:
    return Node(name="box", cpu_milli=8000, devices=devices, boot=boot)


def running_on_b() -> Core:
    core = Core()
    core.apply(0, NodeJoined(node=0, spec=machine(A, B)))
    core.apply(1, Submitted(job=1, spec=JobSpec(shape=Shape(gpus=1))))
    core.apply(2, Placed(job=1, attempt=1, slots=(Slot(node=0, devices=(1,)),)))
    core.apply(3, MemberStarted(job=1, attempt=1))
    return core


def configure(core: Core, node: Node) -> None:
    for event in Configure([node], (), (), None).plan(Batch(core)):
        core.apply(core.now + 1, event)
    check(core)


def test_a_job_keeps_running_and_its_index_when_another_gpu_vanishes_and_a_new_one_comes() -> None:
    core = running_on_b()
    configure(core, machine(B, C))
    assert core.jobs[1].phase is Phase.RUNNING
    assert core.jobs[1].slots == (Slot(node=0, devices=(1,)),)
    assert core.nodes[0].spec.devices == (A, B, C)
    request = core.shapes[core.intern(Shape(gpus=1))]
    assert core.ledger.devices[0].pick(request) == (2,)  # not the one that is gone


def test_a_gpu_that_comes_back_is_lent_again_and_nothing_is_logged_twice() -> None:
    core = running_on_b()
    configure(core, machine(B))
    assert core.ledger.devices[0].foreign == {0}
    assert not Configure([machine(B)], (), (), None).plan(Batch(core))
    configure(core, machine(A, B))
    assert core.ledger.devices[0].foreign == frozenset()
    assert not Configure([machine(A, B)], (), (), None).plan(Batch(core))


def test_after_a_reboot_the_devices_are_what_was_found() -> None:
    core = running_on_b()
    configure(core, machine(C, boot="2"))
    assert core.nodes[0].spec.devices == (C,)
    assert core.jobs[1].phase is Phase.PENDING  # what ran is gone


def test_a_machine_never_seen_before_is_taken_as_it_is() -> None:
    assert keep_devices(None, machine(A)) == (machine(A), ())
