"""The terms of multifactor priority for the jobs of a core."""

from __future__ import annotations

from fairlead.core.decay import ONE
from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.core.shares import D
from fairlead.model.base import Ms
from fairlead.model.jobs import PolicyConfig
from fairlead.model.limits import PRIORITY_MAX
from fairlead.model.resources import CPU, GPU
from fairlead.policy.fair.entitle import asks
from fairlead.policy.fair.fairtree import Member, usage
from fairlead.policy.fair.multifactor import fair_factor, part, size_factor, value
from fairlead.policy.fair.past import tree_of

# The weights of a configuration are in this order. age: waiting, up to max_age; fair: use beside
# shares; size: nodes and CPUs; queue: the queue's own priority; priority: the job's; gpu: GPUs.
TERMS = ("age", "fair", "size", "queue", "priority", "gpu")
WEIGHTS = (1000, 10_000, 0, 0, 1000, 0)


class Terms:
    """Factors of all jobs at one moment, worked out once per user, queue and shape."""

    def __init__(self, core: Core, config: PolicyConfig) -> None:
        self.core = core
        self.weights = config.weights or WEIGHTS
        self.max_age: Ms = config.max_age_ms
        core.shares.sync()
        self._capacity = core.shares.capacity()[:D]
        self._nodes = sum(node.up for node in core.nodes)
        self._fair: dict[tuple[str, ...], int] = {}
        tree = tree_of(core, config)
        self._share(tree, 1, 1, usage(tree))
        self._sizes: dict[int, tuple[int, int]] = {}

    def _share(self, account: Member, shares: int, of: int, total: int) -> None:
        """Work out the fair-share factors of all users below, who together have shares / of."""
        siblings = sum(each.shares for each in account.below)
        for each in account.below:
            mine, among = shares * each.shares, of * max(1, siblings)
            if each.below:
                self._share(each, mine, among, total)
            else:
                used = (each.usage, total) if total else (0, 1)
                self._fair[each.key] = fair_factor(used, (mine, among))

    def factors(self, job: Job) -> list[int]:
        """Return the factors of a job, in the order of TERMS, in parts of ONE."""
        core, spec = self.core, job.spec
        found = self._sizes.get(job.shape_id)
        if found is None:
            amounts = asks(core.shapes[job.shape_id])
            nodes = (min(spec.shape.members, self._nodes), max(1, self._nodes))
            cpus = (amounts[CPU], max(1, self._capacity[CPU]))
            found = (size_factor(nodes, cpus), part(amounts[GPU], self._capacity[GPU]))
            self._sizes[job.shape_id] = found
        size, gpu = found
        queue = core.queues.get(spec.queue)
        return [
            part(core.clock - job.submitted_ms, self.max_age),
            self._fair.get((spec.queue, spec.user), ONE),
            size,
            part(queue.priority if queue else 0, PRIORITY_MAX),
            part(spec.priority, PRIORITY_MAX),
            gpu,
        ]

    def points(self, job: Job) -> int:
        """Return the priority of a job."""
        return value(self.weights, self.factors(job))
