"""`fairlead sim deadlines`: can these jobs be done in time, and if not, what could give way."""

from __future__ import annotations

import json
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import click

from fairlead.cli.errors import misuse

if TYPE_CHECKING:
    from collections.abc import Callable

    from fairlead.policy.deadline import Refusal
    from fairlead.sim.deadlines import Question

METHODS = ("edf", "flow", "elasticflow")


@click.command()
@click.argument("file", type=click.Path())
@click.option("--machines", type=click.IntRange(1, 100_000), metavar="M", help="Of one GPU each.")
@click.option("--gpus", type=click.IntRange(1, 100_000), metavar="G", help="The same.")
@click.option(
    "--method",
    metavar="NAME",
    help="edf: what earliest deadline first would miss; flow: exactly; elasticflow: jobs that can "
    "use more or fewer GPUs. Default: elasticflow for jobs with rates, else flow.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def deadlines(
    file: str, machines: int | None, gpus: int | None, method: str | None, as_json: bool
) -> None:
    """Say whether the jobs of FILE can all be done by their deadlines.

    Jobs ask in the order of the file. A refused one is told the earliest deadline that it could be
    given, and which admitted jobs would have to give way for the one it asked for.
    """
    from fairlead.sim.deadlines import read

    if method is not None and method not in METHODS:
        close = get_close_matches(method, METHODS, n=1)
        listed = "known: " + ", ".join(METHODS)
        raise misuse(
            f"there is no method '{method}'",
            field="method",
            hint=f"did you mean '{close[0]}'? {listed}" if close else listed,
        )
    if machines is not None and gpus is not None:
        raise click.UsageError("give --machines or --gpus, not both")
    question = read(file)
    count = machines or gpus or question.machines
    if count is None:
        raise misuse(f"{file} does not say how many GPUs there are", hint="add --gpus G")
    chosen = method or ("elasticflow" if question.elastic else "flow")
    if (chosen == "elasticflow") != bool(question.elastic):
        need = "work and rate" if chosen == "elasticflow" else "size and deadline"
        raise misuse(f"{chosen} needs jobs with {need}; see docs/reference/deadlines.md")
    answer = {"edf": _edf, "flow": _flow, "elasticflow": _elastic}[chosen]
    body, lines = answer(question, count)
    if as_json:
        click.echo(json.dumps({"method": chosen, "gpus": count, **body}, ensure_ascii=False))
        return
    jobs = len(question.works) or len(question.elastic)
    click.echo(f"{jobs} job{'s' * (jobs != 1)} on {count} GPU{'s' * (count != 1)}, {chosen}")
    click.echo("\n".join(lines))


def _seconds(ms: int | None) -> int | float | None:
    return ms if ms is None else ms // 1000 if ms % 1000 == 0 else ms / 1000


def _ids(ids: Any) -> str:
    return ", ".join(map(str, ids)) or "none"


def _edf(question: Question, machines: int) -> tuple[dict[str, Any], list[str]]:
    from fairlead.model.units import format_duration
    from fairlead.policy import deadline

    missed = deadline.edf_misses(question.works, machines)
    single = machines == 1 and all(work.width == 1 for work in question.works)
    first = deadline.demand_violation(question.works) if single else None
    body = {
        "edf_misses": missed,
        "demand_violation_s": None if first is None else [_seconds(at) for at in first],
    }
    lines = [f"earliest deadline first misses: {_ids(missed)}"]
    if first is not None:
        start, end = map(format_duration, first)
        lines.append(f"more work than time, first from {start} to {end}: no order can do it")
    elif missed and not single:
        lines.append("on several GPUs another order may do it: --method flow says")
    return body, lines


def _flow(question: Question, machines: int) -> tuple[dict[str, Any], list[str]]:
    from fairlead.policy import deadline

    verdict = deadline.verdict(question.works, machines)
    done = deadline.admit(question.works, machines)
    body = {
        "verdict": verdict,
        "admitted": list(done.admitted),
        "refused": [
            {
                "id": no.id,
                "deadline_s": _seconds(no.deadline),
                "earliest_deadline_s": _seconds(no.earliest),
                **_rest(no, deadline.words(no)),
            }
            for no in done.refused
        ],
    }
    words = {"feasible": "yes", "infeasible": "no", "unknown": "not known: they differ in width"}
    lines = [f"all in time: {words[verdict]}", f"admitted in turn: {_ids(done.admitted)}"]
    return body, lines + [deadline.words(no) for no in done.refused]


def _elastic(question: Question, gpus: int) -> tuple[dict[str, Any], list[str]]:
    from fairlead.cli.output import table
    from fairlead.policy import deadline, elastic

    done = elastic.admit(question.elastic, gpus)
    admitted = [job for job in question.elastic if job.id in done.admitted]
    more = elastic.leftovers(admitted, gpus, done.plan)
    least = {job.id: elastic.minimum_share(job, gpus) for job in question.elastic}
    shown = _slot(question.slot_ms)
    body = {
        "least_gpus": {str(name): share for name, share in least.items()},
        "admitted": list(done.admitted),
        "plan": {str(name): list(plan) for name, plan in done.plan.items()},
        "plan_with_leftovers": {str(name): list(plan) for name, plan in more.items()},
        "refused": [
            {
                "id": no.id,
                "deadline_slot": no.deadline,
                "earliest_deadline_slot": no.earliest,
                **_rest(no, deadline.words(no, shown)),
            }
            for no in done.refused
        ],
    }
    rows = [
        [
            str(job.id),
            str(job.deadline_slot),
            str(least[job.id]),
            " ".join(map(str, done.plan[job.id])),
            " ".join(map(str, more[job.id])),
        ]
        for job in admitted
    ]
    header = ("JOB", "BY SLOT", "LEAST", "GUARANTEED", "WITH LEFTOVERS")
    lines = [table(header, rows, right=("BY SLOT", "LEAST"))] if rows else ["admitted: none"]
    return body, lines + [deadline.words(no, shown) for no in done.refused]


def _rest(no: Refusal, words: str) -> dict[str, Any]:
    ways = None if no.give_way is None else list(no.give_way)
    return {"give_way": ways, "proven": no.proven, "words": words}


def _slot(slot_ms: int | None) -> Callable[[int], str]:
    from fairlead.model.units import format_duration

    def shown(slot: int) -> str:
        return f"slot {slot}" + (f" ({format_duration(slot * slot_ms)})" if slot_ms else "")

    return shown
