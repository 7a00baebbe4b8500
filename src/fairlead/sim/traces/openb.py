"""Alibaba 2023 (openb): pods with shares of GPUs (docs/reference/traces/openb.md).

`parse` replays the pods that were scheduled. `parse_packing` takes every pod, in the order of the
file, as experiments on packing do: they come one by one and none leaves before all have come.
"""

from __future__ import annotations

from collections import Counter

from fairlead.model import limits
from fairlead.model.resources import WHOLE_GPU_MILLI, Shape
from fairlead.sim.traces.lines import Lines, assemble
from fairlead.sim.traces.table import SECOND_MS, Row, header, rows
from fairlead.sim.workload import Trace, TraceJob

COLUMNS = ("name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli")
TIMES = ("creation_time", "deletion_time", "scheduled_time")


def parse(path: str, lines: Lines) -> Trace:
    """Return the trace; lists without times are read as for packing."""
    if not set(TIMES) & set(header(lines[0][1])):
        return parse_packing(path, lines)
    dropped: Counter[str] = Counter()
    jobs: list[TraceJob] = []
    for row in rows(path, lines, (*COLUMNS, *TIMES)):
        shape = _shape(row)
        submit = row.ms("creation_time")
        if row.blank("scheduled_time"):
            dropped["no scheduled_time (a pod that never ran)"] += 1
            continue
        if row.blank("deletion_time"):
            dropped["no deletion_time (a pod that still ran)"] += 1
            continue
        run = row.ms("deletion_time") - row.ms("scheduled_time")
        if run < 0:
            raise row.wrong("deletion_time", "a time from scheduled_time on")
        jobs.append(_job(row, submit, run, shape))
    return assemble(path, "openb", jobs, dropped)


def parse_packing(path: str, lines: Lines) -> Trace:
    """Return all pods as jobs, one a second, all of which end one second after the last came."""
    pods = [(row, _shape(row)) for row in rows(path, lines, COLUMNS)]
    jobs = [
        _job(row, SECOND_MS * index, SECOND_MS * (len(pods) - index), shape)
        for index, (row, shape) in enumerate(pods)
    ]
    notes = {"times": "not used: one pod a second, none leaves before all have come"}
    return assemble(path, "openb-packing", jobs, {}, notes=notes)


def _job(row: Row, submit: int, run: int, shape: Shape) -> TraceJob:
    return TraceJob(
        id=row.key("name"),
        submit_ms=submit,
        run_ms=run,
        shape=shape,
        queue=row.text("qos") or "default",
    )


def _shape(row: Row) -> Shape:
    gpus = row.whole("num_gpu", 0, limits.DEVICES_PER_NODE_MAX)
    milli = row.whole("gpu_milli", 0, WHOLE_GPU_MILLI) if gpus else 0
    whole = milli == WHOLE_GPU_MILLI
    if gpus and not whole and (gpus > 1 or not milli):
        raise row.wrong("gpu_milli", "1000, or for one GPU 1 to 1000")
    models = row.text("gpu_spec").split("|")
    return Shape(
        cpu_milli=row.whole("cpu_milli", 0, limits.AMOUNT_MAX),
        memory_mib=row.whole("memory_mib", 0, limits.AMOUNT_MAX),
        gpus=gpus if whole else 0,
        gpu_milli=0 if whole else milli,
        gpu_models=tuple(sorted({model for model in models if model})) if gpus else (),
    )
