"""`metrics`: the service's metrics in the Prometheus text format."""

from __future__ import annotations

import click

from fairlead.cli.client import connect


@click.command()
def metrics() -> None:
    """Print the service's metrics in the Prometheus text format.

    The service listens on its own socket alone. To have Prometheus collect them, write them where
    node_exporter's textfile collector looks, through a name that it does not read yet:

    \b
        fairlead metrics > DIR/fairlead.prom.new && mv DIR/fairlead.prom.new DIR/fairlead.prom
    """
    click.echo(connect().plain("/metrics"), nl=False)
