"""Plans in the simulator: its time stands still while an adviser thinks."""

from __future__ import annotations

import time

from msgspec.structs import replace

from fairlead.core.engine import Core
from fairlead.core.turn import Policy
from fairlead.model.events import AnyEvent
from fairlead.model.jobs import PolicyConfig
from fairlead.policy.pipeline import Pipeline
from fairlead.policy.question import question
from fairlead.solve.advise import adviser


class Advising:
    """Asks the adviser of a policy when the policy wants a plan."""

    def __init__(self, config: PolicyConfig) -> None:
        self.adviser = adviser(config.plan)
        self.asked = 0
        self.took_us = 0

    def ask(self, policy: Policy, core: Core) -> AnyEvent | None:
        """Return a plan where one is due. Measured time stays out of it: replays are equal."""
        rounds = policy.rounds if isinstance(policy, Pipeline) else None
        if rounds is None or not rounds.due(core):
            return None
        began = time.process_time_ns()
        answer = self.adviser(question(core))
        self.asked += 1
        self.took_us += (time.process_time_ns() - began) // 1000
        return replace(answer, took_us=0)
