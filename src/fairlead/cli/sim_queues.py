"""`--queues` of `fairlead sim`: the queues of a cluster file, and what each of them got."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from fairlead.cli.errors import misuse, notice
from fairlead.cli.jobfile import JobFile, read_cluster_file
from fairlead.cli.sim_output import print_table, words_of
from fairlead.cli.sim_source import Source

if TYPE_CHECKING:
    from fairlead.model.jobs import PolicyConfig, Queue, User
    from fairlead.sim.outcome import Outcome
    from fairlead.sim.queues import Column
    from fairlead.sim.shares import Shares

ROWS_SHOWN = 20
NAMES_SHOWN = 4

_OPTIONS = (
    click.option(
        "--queues",
        type=click.Path(),
        metavar="FILE",
        help="Queues, users and tenants with weights and quotas, as for `fairlead apply`.",
    ),
    click.option(
        "--queue-of",
        type=click.Choice(["queue", "tenant", "user"]),
        help="With --queues: what of a job in the trace names its queue [queue].",
    ),
)


def in_queues(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give the command the options `queues` and `queue_of`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


class Queued(NamedTuple):
    """What is replayed, with its queues as they were set."""

    source: Source
    queues: tuple[Queue, ...] = ()
    users: tuple[User, ...] = ()
    policy: PolicyConfig | None = None  # the file's own

    def shares(self, outcome: Outcome) -> Shares | None:
        """Return what queues and users got; None where there is one queue alone."""
        from fairlead.sim.shares import shares_of

        return shares_of(outcome, self.queues, self.users)


def queued(source: Source, path: str | None, column: Column | None) -> Queued:
    """Return the source with its jobs in the queues of a file, if one is named."""
    from fairlead.model.base import Misuse
    from fairlead.policy.sharing_file import read_sharing
    from fairlead.sim.queues import arrange

    if path is None:
        if column is not None:
            raise misuse(
                "--queue-of has no effect without --queues", hint="name the file of the queues"
            )
        return Queued(source)
    file = read_cluster_file(path)
    try:
        said = read_sharing(file.jobs[0])
        found = arrange(source.workload, source.cluster, said, column or "queue")
    except Misuse as wrong:
        raise _located(file, wrong) from None
    if found.unknown:
        count = sum(found.unknown.values())
        names = ", ".join(list(found.unknown)[:NAMES_SHOWN])
        more = len(found.unknown) - NAMES_SHOWN
        names += f" and {more} more" if more > 0 else ""
        notice(f"{path} has no queue {names}: {count:,} jobs are in queue default")
    what = column or "queue"
    if said.queues and {getattr(job.spec, what) for job in source.workload.jobs} <= {"", "default"}:
        notice(f"no job of the trace names a {what}, so all are in queue default; see --queue-of")
    setup = (*source.setup, *found.setup)
    moved = source._replace(workload=found.workload, setup=setup)
    return Queued(moved, found.queues, found.users, said.policy)


def _located(file: JobFile, wrong: Any) -> Exception:
    return file.located(misuse(wrong.message, hint=wrong.hint, field=wrong.field, code=wrong.code))


def shares_in_json(body: dict[str, Any], shares: Shares | None) -> dict[str, Any]:
    """Return the fields of a replay with those of its queues, where there are several."""
    return body if shares is None else {**body, "sharing": shares.as_json()}


def print_shares(found: Sequence[tuple[str, Shares | None]]) -> None:
    """Print what the queues, and the users, got under each policy."""
    shares = [(policy, each) for policy, each in found if each is not None]
    if not shares:
        return
    several = len(shares) > 1
    for what in ("queue", "user"):
        _print_rows(what, shares, several)
    rows = [
        [
            policy,
            _index(each.jain_queues),
            _index(each.jain_users),
            f"{each.max_rho:,.2f}",
            words_of(each.contended_s),
        ]
        for policy, each in shares
    ]
    headers = ["policy", "Jain's index\nof queues", "of users", "worst\nrho", "somebody\nwaited"]
    print_table(headers, rows)


def _print_rows(what: str, shares: Sequence[tuple[str, Shares]], several: bool) -> None:
    per_policy = [
        (policy, each.queues if what == "queue" else each.users) for policy, each in shares
    ]
    names = [row.name for row in per_policy[0][1]]
    if what == "user" and len(names) < 2:
        return
    body, shown = [], max(5, ROWS_SHOWN // len(shares))
    for name in names[:shown]:
        for policy, rows in per_policy:
            row = next(each for each in rows if each.name == name)
            due = "" if row.entitled_ratio is None else f"{100 * row.entitled_ratio:.1f}%"
            body.append(
                [
                    name or "(none)",
                    *([policy] if several else []),
                    f"{row.weight:,}",
                    f"{row.jobs:,}",
                    f"{100 * row.got_ratio:.1f}%",
                    due,
                    words_of(row.mean_wait_s),
                    words_of(row.mean_completion_s),
                    f"{row.preemptions:,}",
                    f"{row.max_rho:,.2f}",
                ]
            )
    headers = [what, *(["policy"] if several else []), "weight", "jobs", "got", "due"]
    headers += ["mean\nwait", "mean\ncompletion", "preempted", "worst\nrho"]
    print_table(headers, body, left=2 if several else 1)
    if len(names) > shown:
        click.echo(f"… and {len(names) - shown:,} {what}s that got less")


def _index(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
