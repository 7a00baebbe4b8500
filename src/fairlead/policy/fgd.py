"""A policy that places by fragmentation gradient descent."""

from __future__ import annotations

from fairlead.core.engine import Core
from fairlead.policy.pipeline import Pipeline
from fairlead.policy.place.least_fragments import LeastFragments, LiveShapes


class LeastFragmentsPipeline(Pipeline):
    """The order and admission of its configuration; nodes and GPUs by least fragmentation."""

    def bind(self, core: Core) -> None:
        """Read from this core from now on."""
        fresh = self._core is not core
        super().bind(core)
        if fresh:
            floored = self.config.placement == "fgd-floored"
            self.fit = LeastFragments(
                core.ledger, LiveShapes(core), floored=floored, gpus_last=self.fit.gpus_last
            )
