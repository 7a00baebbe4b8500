"""`solve`: which task goes to which resource, with a proof, or why it cannot be."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fairlead.cli.output import print_json, table

if TYPE_CHECKING:
    from fairlead.solve.answer import Answer, Explanation
    from fairlead.solve.problem import Problem

CODES = {"optimal": 0, "feasible": 0, "infeasible": 1, "unknown": 3}
SHOWN_MAX = 200  # tasks in a table for people
NAMED_MAX = 40  # in a sentence, or rules in a list


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--reading", metavar="NAME", help="Which question is asked; see below.")
@click.option("--capacity", metavar="N,…", help="Of every resource, or of each; else the file's.")
@click.option("--penalty", metavar="N", help="A task may be left out at this cost.")
@click.option("--gap", metavar="PERCENT", default="0", help="Stop this close to the bound [0].")
@click.option("--time-limit", metavar="TIME", default="60s", help="Then the best so far [60s].")
@click.option("--memory", metavar="SIZE", help="Use at most this; else what is available.")
@click.option("--certificate", is_flag=True, help="Print the prices that prove it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def solve(file: Path, as_json: bool, certificate: bool, **options: Any) -> int:
    """Assign tasks to resources at the least cost, provably.

    FILE is a CSV table (a row per task, a column per resource; an empty cell or "-" is a forbidden
    pair; a column "size", a row "capacity") or JSON (costs, capacities, sizes, forbidden, penalty,
    tasks, resources).

    \b
    once                 each task exactly once, each resource at most once
    capacity             each resource up to its capacity (of tasks, or of their sizes)
    as-many-as-possible  as many tasks as possible, then the cheapest
    shared-total         resources shared by any number, least total cost
    makespan             one after another on each resource, all done as early as possible
    sum-completion       one after another, least sum of completion times

    Without --reading: capacity if the file has capacities, else once.

    Exit code: 0 a plan, 1 infeasible, 2 misuse, 3 unknown within the time.
    """
    from fairlead.solve.child import solve as in_child
    from fairlead.solve.read import read
    from fairlead.solve.solver import reading_of, unused

    problem = read(
        file,
        available=_memory(options["memory"]),
        penalty=options["penalty"],
        capacity=_capacity(options["capacity"]),
    )
    reading = options["reading"] or reading_of(problem)
    left = unused(problem, reading)
    answer = in_child(
        *(problem, reading), limit_s=_limit(options["time_limit"]), gap=_gap(options["gap"])
    )
    if as_json:
        print_json(as_object(problem, answer, certificate=certificate))
    else:
        click.echo("\n".join(_lines(problem, answer, certificate=certificate)))
        if left and answer.reading == reading:
            click.echo(f"not used under this reading: {', '.join(left)}")
    return CODES[answer.status]


def _capacity(given: str | None) -> list[str] | str | None:
    """Return one capacity for all, or a list."""
    return given.split(",") if given is not None and "," in given else given


def _memory(given: str | None) -> int:
    """Return how many bytes may be used."""
    if given is not None:
        from fairlead.model.units import parse_size_bytes

        return parse_size_bytes(given, "memory")
    import psutil

    return int(psutil.virtual_memory().available)


def _limit(given: str) -> float:
    from fairlead.cli.errors import misuse
    from fairlead.model.units import parse_duration_ms

    ms = parse_duration_ms(given, "time-limit")
    if ms <= 0:
        raise misuse("the time limit is zero", field="time-limit", hint="such as 10s")
    return ms / 1000


def _gap(given: str) -> float:
    from fairlead.cli.errors import misuse

    try:
        percent = float(given.removesuffix("%"))
    except ValueError:
        percent = -1.0
    if not 0 <= percent < 100:
        hint = "a percentage from 0 up to 100, such as 1%"
        raise misuse(f"{given!r} is not a gap", field="gap", hint=hint)
    return percent / 100


def _exact(amount: Fraction | int, scale: int) -> int | float:
    """Return an amount in the units of the file: an integer where it is one."""
    found = Fraction(amount) / scale
    return found.numerator if found.denominator == 1 else float(found)


def _text(amount: Fraction | int, scale: int) -> str:
    found = _exact(amount, scale)
    return f"{found:,}" if isinstance(found, int) else f"{found:,.10g}"


def as_object(problem: Problem, answer: Answer, *, certificate: bool) -> dict[str, Any]:
    """Return an answer as JSON shows it, in the units of the file."""
    from fairlead.solve.problem import READINGS

    body: dict[str, Any] = {
        "status": str(answer.status),
        "reading": answer.reading,
        "solved": READINGS[answer.reading],
    }
    if answer.plan:
        names = [None if each is None else problem.resources[each] for each in answer.plan]
        body["cost"] = _exact(answer.value or 0, problem.scale)
        body["assignment"] = list(answer.plan)
        body["plan"] = dict(zip(problem.tasks, names, strict=True))
        left = [task for task, name in zip(problem.tasks, names, strict=True) if name is None]
        body["left_out"] = left
        body["lexicographically_smallest"] = answer.smallest
    if answer.orders:
        body["orders"] = {
            problem.resources[each]: [problem.tasks[task] for task in order]
            for each, order in enumerate(answer.orders)
        }
    if answer.bound is not None:
        body["bound"] = _exact(answer.bound, problem.scale)
        body["bound_of"] = answer.bound_name
        body["gap"] = None if answer.gap is None else float(answer.gap)
    if certificate:
        body["certificate"] = _certificate(problem, answer)
    if answer.explanation is not None:
        body["explanation"] = _why(problem, answer.explanation)
    if answer.counter_offer is not None:
        body["counter_offer"] = as_object(problem, answer.counter_offer, certificate=certificate)
    if answer.reason:
        body["reason"] = answer.reason
    return body


def _certificate(problem: Problem, answer: Answer) -> dict[str, Any] | None:
    scale = problem.scale
    if answer.duals is not None:
        found: dict[str, Any] = {
            "tasks": [_exact(each, scale) for each in answer.duals.u],
            "resources": [_exact(each, scale) for each in answer.duals.v],
        }
        if answer.duals.left_out_most:
            found["left_out"] = _exact(answer.duals.left_out, scale)
            found["left_out_at_most"] = answer.duals.left_out_most
        return found
    if answer.prices:
        found = {"prices": [str(each) for each in answer.prices]}
        if answer.longest is not None:
            found["for_times_below"] = _exact(answer.longest, scale)
        return found
    return None


def _why(problem: Problem, why: Explanation) -> dict[str, Any]:
    return {
        "rows": list(why.rows),
        "irreducible": why.irreducible,
        "tasks": [problem.tasks[each] for each in why.tasks],
        "resources": [problem.resources[each] for each in why.resources],
        "shortage": why.shortage,
        "placeable": why.placeable,
        "smallest": why.smallest,
    }


def _lines(problem: Problem, answer: Answer, *, certificate: bool) -> list[str]:
    from fairlead.solve.problem import READINGS

    lines = [f"{answer.reading}: {READINGS[answer.reading]}", _headline(problem, answer)]
    if answer.plan:
        lines += ["", _orders(problem, answer) if answer.orders else _plan(problem, answer), ""]
        lines.append(_proof(problem, answer))
    if answer.explanation is not None:
        lines += _reason(problem, answer.explanation)
    if answer.reason:
        lines.append(f"the search ended early: {answer.reason}")
    if certificate:
        lines += _prices(problem, answer)
    if answer.counter_offer is not None:
        offer = answer.counter_offer
        lines += ["", "what can be done instead"]
        lines += _lines(problem, offer, certificate=certificate)
    return lines


_MEASURES = {"makespan": "makespan", "sum-completion": "sum of completion times"}


def _headline(problem: Problem, answer: Answer) -> str:
    if not answer.plan:
        return str(answer.status)
    named = _MEASURES.get(answer.reading, "cost")
    text = f"{answer.status}: {named} {_text(answer.value or 0, problem.scale)}"
    left = len(answer.plan) - answer.placed
    return text + (f", {answer.placed} of {len(answer.plan)} tasks placed" if left else "")


def _plan(problem: Problem, answer: Answer) -> str:
    rows = []
    for task, resource in list(enumerate(answer.plan))[:SHOWN_MAX]:
        if resource is None:
            rows.append((problem.tasks[task], "left out", ""))
            continue
        cost = _text(int(problem.cost[task, resource]), problem.scale)
        rows.append((problem.tasks[task], problem.resources[resource], cost))
    text = table(("TASK", "RESOURCE", "COST"), rows)
    more = len(answer.plan) - len(rows)
    return text + (f"\n… and {more:,} more; --json has them all" if more else "")


def _orders(problem: Problem, answer: Answer) -> str:
    rows = []
    for resource, order in enumerate(answer.orders):
        now = 0
        for task in order:
            begin, now = now, now + int(problem.cost[task, resource])
            times = (_text(begin, problem.scale), _text(now, problem.scale))
            rows.append((problem.resources[resource], problem.tasks[task], *times))
    for task, place in enumerate(answer.plan):
        if place is None:
            rows.append(("left out", problem.tasks[task], "", ""))
    more = len(rows) - SHOWN_MAX
    text = table(("RESOURCE", "TASK", "FROM", "TO"), rows[:SHOWN_MAX])
    return text + (f"\n… and {more:,} more; --json has them all" if more > 0 else "")


def _proof(problem: Problem, answer: Answer) -> str:
    if answer.bound is None:
        return "no bound is known"
    bound = _text(answer.bound, problem.scale)
    if answer.status == "optimal":
        if answer.duals is not None:
            return f"proof: prices that explain every pair add up to {bound}"
        return f"proof: nothing is below {bound} ({answer.bound_name})"
    gap = "" if answer.gap is None else f"at most {100 * float(answer.gap):.3g} % above the best; "
    return f"{gap}nothing is below {bound} ({answer.bound_name})"


def _reason(problem: Problem, why: Explanation) -> list[str]:
    tasks = _few([problem.tasks[each] for each in why.tasks])
    lines = []
    if why.shortage and not why.resources:
        lines.append(f"{tasks} may use no resource at all")
    elif why.shortage:
        resources = _few([problem.resources[each] for each in why.resources])
        few = "the smallest such set" if why.smallest else "a set of which no part is short"
        lines.append(f"{tasks} may use only {resources}: {why.shortage} too few ({few})")
    if why.rows:
        all_needed = "; without any of these it could be done" if why.irreducible else ""
        lines.append(f"these rules contradict each other{all_needed}:")
        lines += [f"  {row}" for row in why.rows[:NAMED_MAX]]
        if len(why.rows) > NAMED_MAX:
            lines.append(f"  … and {len(why.rows) - NAMED_MAX:,} more; --json has them all")
    if why.placeable is not None:
        lines.append(f"{why.placeable} of {len(problem.tasks)} tasks can be placed")
    return lines


def _few(names: list[str]) -> str:
    more = len(names) - NAMED_MAX
    return ", ".join(names[:NAMED_MAX]) + (f" and {more:,} more" if more > 0 else "")


def _prices(problem: Problem, answer: Answer) -> list[str]:
    found = _certificate(problem, answer)
    if found is None:
        return []
    lines = ["", "certificate"]
    if answer.duals is not None:
        scale = problem.scale
        rows = [(n, _text(x, scale)) for n, x in zip(problem.tasks, answer.duals.u, strict=True)]
        rows += [
            (n, _text(x, scale)) for n, x in zip(problem.resources, answer.duals.v, strict=True)
        ]
        if answer.duals.left_out_most:
            rows.append(("left out", _text(answer.duals.left_out, scale)))
    else:
        rows = [(n, str(x)) for n, x in zip(problem.resources, answer.prices, strict=True)]
    return [*lines, table(("OF", "PRICE"), rows)]
