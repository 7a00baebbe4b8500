"""`fairlead sim leases`: every interleaving of gangs that reserve their workers one by one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from fairlead.cli.errors import misuse

if TYPE_CHECKING:
    from fairlead.sim.leases import Guard


@click.command()
@click.option("--gpus", type=click.IntRange(1, 64), default=4, show_default=True, metavar="N")
@click.option("--gangs", default="3,3", show_default=True, metavar="N,N", help="Members of each.")
@click.option(
    "--guard",
    type=click.Choice(["none", "lease", "lock"]),
    default="lease",
    show_default=True,
    help="none: who has some waits for more; lease: what is reserved goes back in time; lock: one "
    "gang reserves at a time.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def leases(gpus: int, gangs: str, guard: Guard, as_json: bool) -> None:
    """Go through every interleaving of gangs whose workers are placed one by one.

    Fairlead places gangs whole. This is what it takes where an engine cannot: reserve all, then
    start, under a lease or a lock.
    """
    from fairlead.model.base import Misuse
    from fairlead.sim.leases import explore

    words = [word.strip() for word in gangs.split(",")]
    if not all(word.isdecimal() and len(word) < 4 for word in words):
        raise misuse(f"--gangs {gangs}: sizes with commas between them", hint="--gangs 3,3")
    try:
        found = explore(gpus, [int(word) for word in words], guard)
    except Misuse as wrong:
        raise misuse(f"--gangs {gangs}: {wrong.message}", hint=wrong.hint) from None
    if as_json:
        body = {name: getattr(found, name) for name in found.__struct_fields__}
        click.echo(json.dumps(body))
        return
    click.echo(f"gangs of {gangs} on {gpus} GPUs, guard {guard}: {found.states:,} states")
    for state in found.stuck:
        has = ", ".join(f"{gang} has {n} of {found.gangs[gang]}" for gang, n in state.items())
        click.echo(f"deadlock: {has}")
    if found.hopeless:
        click.echo(f"{found.hopeless:,} states from which not all gangs can end")
    else:
        click.echo("from every state all gangs can come to their end")
