"""What one pass has given to jobs before any of it is decided: it counts against limits already."""

from __future__ import annotations

from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.core.shares import plus
from fairlead.model.resources import Slot


class Given:
    """Accounts as they will be: those of the core, and what was given since."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.shares = core.shares
        self.usage: dict[str, list[int]] = {}  # by tenant: what was given on top
        self.named: dict[str, int] = {}  # of named resources, on top

    def add(self, job: Job, slots: tuple[Slot, ...]) -> None:
        """Count that a waiting job gets these slots."""
        self.move(job, slots, 1, 1)
        for name, amount in job.spec.counted:
            self.named[name] = self.named.get(name, 0) + amount

    def move(self, job: Job, slots: tuple[Slot, ...], sign: int, live: int) -> None:
        """Count that a job gets slots, or with sign -1 gives them back; as Shares.hold."""
        core = self.core
        if core.shares.limited:
            if self.shares is core.shares:
                self.shares = core.shares.copy(core)
            self.shares.hold(job, slots, sign, live)
        tenant = job.spec.tenant
        if tenant in core.quota_tenants:
            change = [0] * len(core.tenants[tenant].quota)
            core.ledger.add_held(change, core.shapes[job.shape_id], slots, sign)
            known = self.usage.get(tenant)
            self.usage[tenant] = change if known is None else plus(known, change)
