"""The options that say how the simulated world behaves, for every command that replays."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from fairlead.sim.outcome import EventOrder


_OPTIONS = (
    click.option(
        "--event-order",
        type=click.Choice(["instant", "reference"]),
        default="instant",
        show_default=True,
        help="Decide once for all that happens in an instant, or after every single event, as "
        "the simulators do that others compare with.",
    ),
    click.option(
        "--restart",
        metavar="DURATION",
        help="What a preempted job needs before it goes on with its work [0s].",
    ),
    click.option(
        "--checkpoint",
        metavar="DURATION",
        help="How often jobs save their work; a preempted one loses what it did since. "
        "Default: it loses nothing.",
    ),
    click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help="Change a setting of the policy, in the words of [policy] in config.toml, such as "
        "min_run=5m. May be repeated.",
    ),
)


def behaviour(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give the command the options; what they say comes as `rules` and `settings`."""

    @wraps(command)
    def told(
        *args: Any,
        event_order: EventOrder,
        restart: str | None,
        checkpoint: str | None,
        settings: tuple[str, ...],
        **words: Any,
    ) -> Any:
        from fairlead.model.units import parse_duration_ms
        from fairlead.policy.settings import parse
        from fairlead.sim.outcome import Rules

        rules = Rules(
            event_order=event_order,
            restart_ms=parse_duration_ms(restart, "restart") if restart else 0,
            checkpoint_ms=parse_duration_ms(checkpoint, "checkpoint") if checkpoint else 0,
        )
        return command(*args, rules=rules, settings=parse(settings), **words)

    for option in reversed(_OPTIONS):
        told = option(told)
    return told
