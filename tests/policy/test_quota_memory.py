"""A quota of GPU memory counts what whole GPUs bring along, not only what was asked for."""

from __future__ import annotations

import pytest

from fairlead.core.admission import admit
from fairlead.core.engine import Core
from fairlead.core.turn import Scheduler
from fairlead.model.base import Refused
from fairlead.model.events import NodeJoined, Submitted, TenantSet
from fairlead.model.jobs import JobSpec, Phase, Tenant
from fairlead.model.resources import GPU_MEMORY, Device, Node, Shape
from fairlead.policy.registry import build

GPUS = tuple(Device(model="A100", memory_mib=40_960) for _ in range(4))


def test_whole_gpus_never_take_a_tenant_over_its_memory() -> None:
    scheduler = Scheduler(Core(), build)
    core = scheduler.core
    tenant = Tenant(name="nlp", quota=(None, None, None, None, 90_000))
    job = JobSpec(shape=Shape(gpus=1, gpu_memory_mib=8_192), tenant="nlp")
    scheduler.turn(
        0,
        [
            NodeJoined(node=0, spec=Node(name="a", cpu_milli=8000, devices=GPUS)),
            TenantSet(tenant=tenant),
            *(Submitted(job=number, spec=job) for number in (1, 2, 3)),
        ],
    )
    assert [each.phase for each in core.jobs.values()] == [
        Phase.STARTING,
        Phase.STARTING,
        Phase.PENDING,
    ]
    assert core.usage["nlp"][GPU_MEMORY] == 2 * 40_960
    with pytest.raises(Refused, match="gpu_memory at once"):
        admit(core, JobSpec(shape=Shape(gpus=3), tenant="nlp"))
