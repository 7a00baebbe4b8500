"""What jobs say of checkpoints and restarts in a world that has rules for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from fairlead.model.jobs import JobSpec

if TYPE_CHECKING:
    from fairlead.sim.outcome import Rules


def as_ruled(rules: Rules, spec: JobSpec) -> JobSpec:
    """Return what a job says of itself: the scheduler chooses by what this world makes it lose.

    Without checkpoints in the rules nothing is said, though nothing is lost then: who has run
    longest is to go last.
    """
    if not rules.checkpoint_ms and not rules.restart_ms:
        return spec
    every = spec.checkpoint_every_ms or rules.checkpoint_ms or None
    restart = rules.restart_ms if spec.restart_ms is None else spec.restart_ms
    return replace(spec, checkpoint_every_ms=every, restart_ms=restart)
