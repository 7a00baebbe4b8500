"""Says in the service's log when a job is preempted again and again and gets nowhere."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from fairlead.core.engine import Core
from fairlead.core.watch import Cycle, cycle_of, cycles
from fairlead.model.events import AnyEvent, StopDecided
from fairlead.model.jobs import Phase
from fairlead.model.units import format_duration
from fairlead.service.shell import Shell

SHOWN = 20

log = logging.getLogger("fairlead.service")


class Watchdog:
    """Looks at every preemption."""

    def __init__(self, shell: Shell) -> None:
        shell.listeners.append(self._happened)
        self.preemptions = 0  # since the service started

    def _happened(self, core: Core, events: Sequence[AnyEvent]) -> None:
        for event in events:
            if not isinstance(event, StopDecided) or event.then is not Phase.PENDING:
                continue
            self.preemptions += 1
            job = core.jobs.get(event.job)
            cycle = None if job is None else cycle_of(core.jobs, job)
            if cycle is not None:
                log.warning("%s", in_words(cycle))

    def view(self, core: Core) -> dict[str, Any]:
        """Return how many preemptions there were, and who gets nowhere."""
        found = cycles(core.jobs)
        return {
            "since_start": self.preemptions,
            "get_nowhere": len(found),
            "cycles": [{"job": each.job, "words": in_words(each)} for each in found[:SHOWN]],
        }


def in_words(cycle: Cycle) -> str:
    """Return what the watchdog has found, and what it does about it."""
    turns = "" if cycle.mutual is None else f", in turns with job {cycle.mutual}"
    shield = format_duration(cycle.shield_ms, exact=False)
    return (
        f"job {cycle.job} gets nowhere: preempted {cycle.times} times since it last saved its "
        f"work{turns}; once it runs it is left alone for {shield}"
    )
