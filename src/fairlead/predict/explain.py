"""One forecast in words: what is expected, how sure that is, and from what it was concluded."""

from __future__ import annotations

from collections.abc import Sequence

from fairlead.model.base import Ms
from fairlead.model.jobs import FORECAST_PERCENTS, Forecast
from fairlead.model.units import format_duration

LOW, HIGH = FORECAST_PERCENTS.index(5), FORECAST_PERCENTS.index(95)


def explain(
    forecast: Forecast,
    *,
    limit_ms: Ms | None = None,
    why: Sequence[str] = (),
    ran_ms: Ms | None = None,
) -> list[str]:
    """Return the lines that people are shown; `ran_ms`: how it ended, where that is known."""
    lines = [f"expected     {_words(forecast.expected_ms)}"]
    if forecast.quantiles_ms:
        low, high = forecast.quantiles_ms[LOW], forecast.quantiles_ms[HIGH]
        lines.append(f"90 % between {_words(low)} and {_words(high)}")
        pairs = zip(FORECAST_PERCENTS, forecast.quantiles_ms, strict=True)
        shown = " · ".join(f"{percent} % {_words(time)}" for percent, time in pairs)
        lines.append(f"quantiles    {shown}")
    lines.append(f"time limit   {'none' if limit_ms is None else _words(limit_ms)}")
    lines.append(f"said by      {forecast.model or 'nobody'}")
    lines += [f"because of   {reason}" for reason in why]
    if ran_ms is not None:
        lines.append(f"it ran       {_words(ran_ms)}{_where(forecast, ran_ms)}")
    return lines


def _where(forecast: Forecast, ran_ms: Ms) -> str:
    if not forecast.quantiles_ms:
        return ""
    below = [
        percent
        for percent, time in zip(FORECAST_PERCENTS, forecast.quantiles_ms, strict=True)
        if time < ran_ms
    ]
    return (
        f", above the quantile {below[-1]} %"
        if below
        else f", within the first {FORECAST_PERCENTS[LOW]} %"
    )


def _words(time_ms: Ms) -> str:
    return format_duration(time_ms, exact=False)
