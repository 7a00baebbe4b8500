"""The report page: one HTML file that needs nothing else, in light and dark, wide and narrow."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import jinja2

from fairlead import __version__
from fairlead.model.base import Ms
from fairlead.pages import draw, figures
from fairlead.pages.history import History

JOBS_LISTED_MAX = 500
USE_HEIGHT = 120
TEMPLATE = "page.html.j2"


def seconds(value: float | None) -> str:
    """Return a time for people: "0.4 s", "12 s", "3 min 20 s", "5 h 12 min"; "–" for none."""
    if value is None:
        return "–"
    if value < 10:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 120:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 120:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min"


def clock(at: Ms) -> str:
    """Return a time in UTC, to the second."""
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def page(
    history: History,
    *,
    title: str = "Fairlead report",
    marks: Sequence[tuple[Ms, str]] = (),
) -> str:
    """Return the report of a history as one HTML document.

    `marks` are moments to point out on the timeline: (time, text). Every text that came from a
    user is escaped.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fairlead.pages", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"seconds": seconds, "clock": clock}
    tenants = figures.shown_tenants(history)
    start = min((job.submitted for job in history.jobs.values()), default=history.first)
    scale = draw.Scale(start, max(history.last, start + 1))
    axis, waits = draw.wait_histograms(history, tenants)
    jobs = list(history.jobs.values())
    return environment.get_template(TEMPLATE).render(
        title=title,
        version=__version__,
        history=history,
        start=start,
        tenants=tenants,
        rows=figures.tenant_figures(history),
        total=figures.total_figures(history),
        cores=sum(node.cpu_milli for node in history.nodes) / 1000,
        timeline=draw.timeline(history, tenants, scale),
        ticks=scale.ticks(),
        marks=[(scale.x(at), text) for at, text in marks],
        use=draw.use_paths(history, tenants, scale, USE_HEIGHT),
        use_height=USE_HEIGHT,
        waits=waits,
        wait_ticks=[(at / axis, text) for at, text in draw.round_ticks(axis, 6)],
        jobs=jobs[:JOBS_LISTED_MAX],
        jobs_left_out=max(0, len(jobs) - JOBS_LISTED_MAX),
        gutter=draw.GUTTER,
        width=draw.WIDTH,
    )
