"""What `fairlead sim run` and `compare` replay: a trace, or our own log. Imports late."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from fairlead.cli.errors import misuse
from fairlead.cli.reading import Reading

if TYPE_CHECKING:
    from fairlead.model.events import AnyEvent
    from fairlead.sim.cluster import Cluster
    from fairlead.sim.outcome import Outcome
    from fairlead.sim.workload import Estimates, Trace, Workload

TOLERANCE_MS = 1_000  # a real start takes its time; a later one is another decision

from_log = click.option(
    "--from-log",
    type=click.Path(),
    is_flag=False,
    flag_value="",
    metavar="[STATE]",
    help="Replay the history of a service instead: its state folder, or the database in it. "
    "Without a value: the service that the other commands talk to.",
)
predictor = click.option(
    "--predictor",
    metavar="NAME",
    help="Forecast each job from those that ended before: last2, tsafrir, online, learned.",
)


class Source(NamedTuple):
    """A workload on a cluster, and where it came from. `was`: what really happened, of a log."""

    trace: Trace
    workload: Workload
    cluster: Cluster
    setup: tuple[AnyEvent, ...] = ()
    was: Outcome | None = None

    @property
    def name(self) -> str:
        """Return its name for people."""
        return Path(self.trace.path).name


def find_source(
    trace: str | None,
    log: str | None,
    cluster: str | None,
    limit_jobs: int | None,
    estimates: Estimates | None,
    how: Reading,
) -> Source:
    """Return what to replay: exactly one of a trace and a log. Misuse says what is wrong."""
    from fairlead.model.events import ResourceSet
    from fairlead.sim.replay import gate
    from fairlead.sim.workload import cluster_for, fit

    if (trace is None) == (log is None):
        raise misuse(
            "name what to replay" if trace is None else "a trace and --from-log are two workloads",
            field="trace",
            hint="fairlead sim run TRACE, or fairlead sim run --from-log STATE",
        )
    if trace is not None:
        from fairlead.sim import traces

        found = traces.read(trace, **how)
        where = cluster_for(found, cluster)
        believed: Estimates = estimates or "exact"
        setup = tuple(ResourceSet(resource=each) for each in found.resources)
        jobs = fit(found, where, gate(where, setup), estimates=believed, limit_jobs=limit_jobs)
        return Source(found, jobs, where, setup)
    from fairlead.service.places import Places
    from fairlead.sim.cluster import parse_cluster
    from fairlead.sim.history import as_it_was, read_history

    assert log is not None
    history = read_history(Path(log) if log else Places.find(os.environ).state)
    where = parse_cluster(cluster) if cluster else history.cluster
    believed = estimates or "recorded"
    admit = gate(where, [each for each in history.setup if isinstance(each, ResourceSet)])
    jobs = fit(history.trace, where, admit, estimates=believed, limit_jobs=limit_jobs)
    return Source(history.trace, jobs, where, history.setup, as_it_was(history, jobs))


def first_difference_in_words(was: Outcome, now: Outcome) -> str:
    """Return where a schedule parts from what really happened, in one line."""
    from fairlead.model.units import format_duration
    from fairlead.sim.history import first_difference

    found = first_difference(was, now, TOLERANCE_MS)
    if found is None:
        return "every job starts as it did, to the second"
    job, before, after = found
    how = "earlier" if after < before else "later"
    apart = format_duration(abs(after - before), exact=False)
    return f"parts from what happened at job {job}: it starts {apart} {how}"
