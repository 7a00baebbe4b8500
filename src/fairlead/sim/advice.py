"""Plans in the simulator: its time stands still while an adviser thinks."""

from __future__ import annotations

from fairlead.core.engine import Core
from fairlead.core.turn import Policy
from fairlead.model.events import AnyEvent
from fairlead.model.jobs import PolicyConfig
from fairlead.policy.pipeline import Pipeline
from fairlead.solve.advise import adviser


class Advising:
    """Asks the adviser of a policy when the policy wants a plan."""

    def __init__(self, config: PolicyConfig) -> None:
        self.adviser = adviser(config.plan)
        self.asked = 0

    def ask(self, policy: Policy, core: Core) -> AnyEvent | None:
        """Return a plan where one is due."""
        rounds = policy.rounds if isinstance(policy, Pipeline) else None
        if rounds is None or not rounds.due(core):
            return None
        self.asked += 1
        return self.adviser(rounds.question(core))
