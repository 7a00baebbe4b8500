"""Metrics in the Prometheus text format: gauges from the state as it is, counts since the start.

Base units, ratios from 0 to 1, names as prometheus.io asks for, and no label whose values grow with
the jobs. What is slow to know is not here. Cost of an event: a dictionary and an addition.
"""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

import fairlead
from fairlead.core.engine import Core
from fairlead.model.events import (
    Advised,
    AnyEvent,
    Cancelled,
    Placed,
    Promised,
    StopDecided,
)
from fairlead.model.jobs import Phase
from fairlead.model.resources import DIMENSIONS

if TYPE_CHECKING:
    from fairlead.core.jobs import Job
    from fairlead.service.api import Api
    from fairlead.service.shell import Shell

# When each count began is as good as when the service did.
disable_created_metrics()  # type: ignore[no-untyped-call]
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
WAITS_S = (1, 10, 60, 300, 1800, 3600, 4 * 3600, 24 * 3600, 7 * 24 * 3600)
CYCLES_S = (0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5)
SOLVES_S = (0.001, 0.01, 0.05, 0.1, 0.5, 1, 5, 30)
_UNITS = {  # of each dimension: its name in base units, and how many of ours are one
    "cpu_milli": ("cpu_cores", 1000),
    "memory_mib": ("memory_bytes", 2**-20),
    "disk_mib": ("disk_bytes", 2**-20),
    "gpu_milli": ("gpus", 1000),
    "gpu_memory_mib": ("gpu_memory_bytes", 2**-20),
}


class Metrics:
    """Counts what happens in a shell."""

    def __init__(self, shell: Shell) -> None:
        self.registry = registry = CollectorRegistry()
        by_queue = ("queue",)
        self.finished = Counter(
            "fairlead_jobs_finished",
            "Jobs that ended, by how.",
            ("queue", "state"),
            registry=registry,
        )
        self.waited = Histogram(
            "fairlead_job_wait_seconds",
            "From submission to the first start.",
            by_queue,
            buckets=WAITS_S,
            registry=registry,
        )
        self.ran = Histogram(
            "fairlead_job_run_seconds",
            "Run time of jobs that ended, all attempts.",
            by_queue,
            buckets=WAITS_S,
            registry=registry,
        )
        self.preempted = Counter(
            "fairlead_preemptions", "Jobs stopped to run again later.", by_queue, registry=registry
        )
        self.decided = Counter(
            "fairlead_schedule_decisions", "Decisions, by kind.", ("result",), registry=registry
        )
        self.cycle = Histogram(
            "fairlead_schedule_cycle_seconds",
            "One turn: take in, decide, make durable.",
            buckets=CYCLES_S,
            registry=registry,
        )
        self.solving = Histogram(
            "fairlead_solver_seconds",
            "What a plan took.",
            ("plan",),
            buckets=SOLVES_S,
            registry=registry,
        )
        self.gap = Gauge(
            "fairlead_solver_gap_ratio",
            "The last plan is at most so far from the best one.",
            ("plan",),
            registry=registry,
        )
        self.requests = Counter(
            "fairlead_http_requests", "Requests.", ("method", "status"), registry=registry
        )
        registry.register(State(shell))
        shell.listeners.append(self._happened)
        shell.over.append(self._ended)
        shell.timed.append(self.cycle.observe)

    def answered(self, method: str, status: int) -> None:
        """A request has its answer."""
        self.requests.labels(method, f"{status // 100}xx").inc()

    def text(self) -> bytes:
        """Return all metrics as Prometheus reads them."""
        return generate_latest(self.registry)

    def _happened(self, core: Core, events: Sequence[AnyEvent]) -> None:
        for event in events:
            match event:
                case Placed():
                    self.decided.labels("placed").inc()
                    job = core.jobs.get(event.job)
                    if event.attempt == 1 and job is not None and job.placed_ms is not None:
                        waited = (job.placed_ms - job.submitted_ms) / 1000
                        self.waited.labels(job.spec.queue).observe(waited)
                case StopDecided():
                    self.decided.labels("stopped").inc()
                    job = core.jobs.get(event.job)
                    if event.then is Phase.PENDING and job is not None:
                        self.preempted.labels(job.spec.queue).inc()
                case Promised():
                    self.decided.labels("promised" if event.slots else "withdrawn").inc()
                case Cancelled():
                    self.decided.labels("cancelled").inc()
                case Advised():
                    self.solving.labels(event.adviser).observe(event.took_us / 1_000_000)
                    if event.gap_ppm is not None:
                        self.gap.labels(event.adviser).set(event.gap_ppm / 1_000_000)

    def _ended(self, core: Core, job: Job) -> None:
        self.finished.labels(job.spec.queue, job.phase.lower()).inc()
        if job.served_ms:
            self.ran.labels(job.spec.queue).observe(job.served_ms / 1000)


class State(Collector):
    """What there is now, read when it is asked for. O(jobs + nodes + queues)."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Return nothing: the names are not known beforehand, and need not be."""
        return iter(())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauges."""
        core = self.shell.core
        build = GaugeMetricFamily("fairlead_build_info", "What runs.", labels=["version"])
        build.add_metric([fairlead.__version__], 1)
        yield build
        jobs = GaugeMetricFamily(
            "fairlead_jobs", "Jobs that wait or run.", labels=["queue", "state"]
        )
        counts = Counts((job.spec.queue, job.phase.lower()) for job in core.jobs.values())
        for (queue, state), count in sorted(counts.items()):
            jobs.add_metric([queue, state], count)
        yield jobs
        yield from self._queues(core)
        yield from self._nodes(core)

    def _queues(self, core: Core) -> Iterator[GaugeMetricFamily]:
        labels = ["queue", "resource"]
        quota = GaugeMetricFamily("fairlead_queue_quota", "Promised to a queue.", labels=labels)
        usage = GaugeMetricFamily("fairlead_queue_usage", "Held by a queue.", labels=labels)
        for name in sorted(core.queues):
            for resource, amount in sorted(core.queues[name].quota.items()):
                quota.add_metric([name, *_unit(resource)[:1]], amount / _unit(resource)[1])
            branch = core.shares.branches.get(name)
            for row, dimension in enumerate(DIMENSIONS):
                held = 0 if branch is None else branch.held[row]
                unit, per = _unit(dimension)
                usage.add_metric([name, unit], held / per)
        yield quota
        yield usage

    def _nodes(self, core: Core) -> Iterator[GaugeMetricFamily]:
        up = GaugeMetricFamily("fairlead_node_up", "Whether a node is there.", labels=["node"])
        labels = ["node", "resource", "kind"]
        amounts = GaugeMetricFamily("fairlead_node_resource", "Of each node.", labels=labels)
        for index, node in enumerate(core.nodes):
            name = node.spec.name
            up.add_metric([name], int(node.up))
            for row, dimension in enumerate(DIMENSIONS):
                unit, per = _unit(dimension)
                capacity = int(core.ledger.capacity[row, index])
                free = int(core.ledger.room[row, index]) if node.up else 0
                amounts.add_metric([name, unit, "capacity"], capacity / per)
                amounts.add_metric([name, unit, "free"], max(free, 0) / per)
        yield up
        yield amounts


def _unit(resource: str) -> tuple[str, float]:
    """Return a resource's name in base units, with the GPU model if it has one."""
    dimension, slash, model = resource.partition("/")
    name, per = _UNITS[dimension]
    return name + slash + model, per


async def show_metrics(api: Api, request: Request) -> Response:
    """Metrics in the Prometheus text format."""
    return Response(api.metrics.text(), media_type=CONTENT_TYPE)
