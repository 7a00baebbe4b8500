"""The endpoints that explain forecasts of run times, and measure them against the truth."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from fairlead.core.ends import FAR
from fairlead.core.future import GOING_ON
from fairlead.model.base import JobId
from fairlead.model.events import Forecasted
from fairlead.model.jobs import FORECAST_PERCENTS, Forecast
from fairlead.service import web
from fairlead.service.forecasts import COMPLETED
from fairlead.store.codec import JobFilter

if TYPE_CHECKING:
    from fairlead.service.api import Api

COMPARED_JOBS = 2_000  # the newest that ended
PAGE_JOBS = 100


async def show_forecast(api: Api, request: Request) -> Response:
    """Say what was forecast of a job's run time, what it has run, and what is believed now."""
    web.Query(request, ())
    job_id = api.job_id(request)
    status = api.status(job_id)
    job = api.shell.core.jobs.get(job_id)
    forecast = _forecast_of(api, job_id) if job is None else job.forecast
    spec = api.store.spec_of(job_id)
    now = api.shell.now
    ran, believed = None, None
    if job is not None and job.phase in GOING_ON:
        ran, believed = job.attained_ms(now), api.shell.core.ends.get(job_id)
    elif status.started_ms is not None and status.ended_ms is not None:
        ran = status.ended_ms - status.started_ms
    body = {
        **{"id": job_id, "phase": status.phase, "forecast": forecast},
        **{"limit_ms": status.limit_ms, "ran_ms": ran},
        "believed_end_ms": believed if believed is None or believed < FAR else None,
        "why": api.shell.forecasts.why(now, spec) if spec is not None else (),
        "predictor": api.shell.forecasts.name,
        "now_ms": now,
    }
    return web.respond(body)


def _forecast_of(api: Api, job_id: JobId) -> Forecast | None:
    for _, _, event in api.store.story(job_id):
        if isinstance(event, Forecasted):
            return event.forecast
    return None


async def measure_forecasts(api: Api, request: Request) -> Response:
    """Compare forecasts with how long the newest jobs that completed ran, per model."""
    web.Query(request, ())
    models: dict[str, dict[str, Any]] = {}
    seen, before = 0, None
    while seen < COMPARED_JOBS:
        page = api.store.history(JobFilter(phases=COMPLETED), limit=PAGE_JOBS, before=before)
        for status in page:
            started, ended = status.started_ms, status.ended_ms
            if status.expected_ms is None or started is None or ended is None:
                continue
            forecast = _forecast_of(api, status.id)
            if forecast is not None:
                _compare(models.setdefault(forecast.model, _nothing()), forecast, ended - started)
        seen += len(page)
        if len(page) < PAGE_JOBS:
            break
        before = page[-1].id
        await asyncio.sleep(0)
    return web.respond({"predictor": api.shell.forecasts.name, "models": models})


def _nothing() -> dict[str, Any]:
    empty = {str(percent): 0 for percent in FORECAST_PERCENTS}
    return {"jobs": 0, "error_ms": 0, "ran_ms": 0, "banded": 0, "below": empty}


def _compare(found: dict[str, Any], forecast: Forecast, ran_ms: int) -> None:
    """Count a job: how far off, and below which quantiles it ended."""
    found["jobs"] += 1
    found["error_ms"] += abs(forecast.expected_ms - ran_ms)
    found["ran_ms"] += ran_ms
    if not forecast.quantiles_ms:
        return
    found["banded"] += 1
    for percent, quantile in zip(FORECAST_PERCENTS, forecast.quantiles_ms, strict=True):
        found["below"][str(percent)] += ran_ms <= quantile
