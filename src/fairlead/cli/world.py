"""The options that say how the simulated world behaves, for every command that replays."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from fairlead.sim.outcome import EventOrder, Speeds


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
        "--measure",
        metavar="A-B",
        help="Tell of the jobs A to B alone, counted from 0 as they come, and end with them.",
    ),
    click.option(
        "--speeds",
        type=click.Choice(["told", "measured"]),
        default="told",
        show_default=True,
        help="Whether the scheduler knows how fast jobs with rates are on each GPU model, or has "
        "to find out from what they report.",
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
        measure: str | None,
        speeds: Speeds,
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
            measure=_window(measure),
            speeds=speeds,
        )
        return command(*args, rules=rules, settings=parse(settings), **words)

    for option in reversed(_OPTIONS):
        told = option(told)
    return told


def _window(text: str | None) -> tuple[int, int] | None:
    """Return the first job that is measured and the one after the last; None: all are."""
    from fairlead.model.base import Misuse

    if text is None:
        return None
    first, _, last = (part.strip() for part in text.partition("-"))
    if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
        raise Misuse(f"'{text}' is no range of jobs", field="measure", hint="such as 4000-4999")
    return int(first), int(last) + 1
