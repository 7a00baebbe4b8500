"""A running job says by the API that its work is saved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from fairlead.core.engine import Core
from fairlead.model.base import JobId, Misuse
from fairlead.model.events import AnyEvent, Checkpointed
from fairlead.model.jobs import LIVE
from fairlead.service import web
from fairlead.service.commands import Batch

if TYPE_CHECKING:
    from fairlead.service.api import Api


class Checkpoint:
    """The work that a job has done until now is saved; nothing of it is lost if it has to stop."""

    def __init__(self, job: JobId, attempt: int | None = None) -> None:
        self.job, self.attempt = job, attempt

    def plan(self, batch: Batch) -> Sequence[AnyEvent]:
        """Refuse it for a job that does not run, or of an attempt that is over."""
        job = batch.core.jobs.get(self.job)
        if job is None or job.phase not in LIVE:
            phase = "has ended" if job is None else f"is {job.phase}"
            raise Misuse(
                f"job {self.job} {phase}: there is no work to save",
                field="id",
                hint="only a job that runs can say that its work is saved",
                code="not-running",
            )
        if self.attempt is not None and self.attempt != job.attempt:
            raise Misuse(
                f"job {self.job} is in attempt {job.attempt}, not {self.attempt}",
                field="attempt",
                code="not-running",
            )
        return [Checkpointed(job=job.id, attempt=job.attempt, at_ms=batch.now)]

    def answer(self, core: Core) -> dict[str, Any]:
        """Return when it was."""
        job = core.jobs.get(self.job)
        return {"id": self.job, "checkpoint_ms": None if job is None else job.checkpoint_ms}


async def checkpoint_job(api: Api, request: Request) -> Response:
    """A running job says that its work is saved: what it did until now is not lost if it stops."""
    job_id = api.job_id(request)
    body = web.mapping(await web.body_of(request), ("attempt",))
    attempt = body.get("attempt")
    if attempt is not None and type(attempt) is not int:
        raise Misuse("attempt is a whole number", field="attempt")
    found = await api.shell.ask(Checkpoint(job_id, attempt))
    return web.respond({**found, "now_ms": api.shell.now})


ROUTES = (("POST", "/api/v1/jobs/{id}/checkpoint", checkpoint_job),)
