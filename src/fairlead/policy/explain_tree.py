"""What the tree of queues has to do with it that a job waits: quotas, what is borrowed, by whom."""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.core.cohort import Branch
from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.model.amounts import of, show
from fairlead.model.jobs import PolicyConfig
from fairlead.policy.fair.standing import standing

BORROWERS_SHOWN = 8


def chain(core: Core, config: PolicyConfig, job: Job) -> list[str]:
    """Return a line per queue, from the job's up to the cluster; nothing where none is limited."""
    shares = core.shares
    if not shares.limited or shares.block(job) is None:
        return []
    leaf = shares.branches.get(job.spec.queue)
    if leaf is None:
        return []
    lines = [*_of_user(core, job)]
    asked = shares.asked(job)
    for branch in leaf.above()[:-1]:
        lines += _of_queue(core, branch)
        for row, _ in asked:
            lines += _of_row(core, branch, row)
    short = [row for row, amount in asked if _short(core, leaf, row, amount)]
    if short:
        root = shares.root
        for row in short:
            name = shares.rows[row]
            used = min(root.used[row], root.subtree[row])
            lines.append(
                f"the cluster: of {of(name, root.subtree[row])} that may go to and fro, "
                f"{show(name, used)} in use"
            )
        lines += _borrowers(core, config, {shares.rows[row] for row in short}, leaf.name)
    return lines


def _short(core: Core, leaf: Branch, row: int, amount: int) -> bool:
    return row in core.shares.governed and leaf.available(row) < amount


def _of_user(core: Core, job: Job) -> Iterator[str]:
    name, shares = job.spec.user, core.shares
    user, account = shares.user(name), shares.people.get(name)
    if user is None or account is None:
        return
    if user.live_max is not None:
        yield f"user {name}: {_run(account.live)}, of at most {user.live_max}"
    for row, _ in shares.asked(job):
        resource = shares.rows[row]
        most = user.most.get(resource)
        if most is not None:
            held = of(resource, account.held[row])
            yield f"user {name}: {held} in use, of at most {show(resource, most)}"


def _of_queue(core: Core, branch: Branch) -> Iterator[str]:
    queue = core.queues.get(branch.name)
    if queue is not None and queue.live_max is not None:
        yield f"queue {branch.name}: {_run(branch.live)}, of at most {queue.live_max}"


def _run(count: int) -> str:
    return f"{count} job runs" if count == 1 else f"{count} jobs run"


def _of_row(core: Core, branch: Branch, row: int) -> Iterator[str]:
    name, held, most = core.shares.rows[row], branch.held[row], branch.most[row]
    if row not in core.shares.governed and most is None:
        return
    parts = [f"{of(name, held)} in use"]
    if row in core.shares.governed:
        parts.append(f"quota {show(name, branch.subtree[row])}")
        if branch.borrowed(row):
            parts.append(f"borrowed {show(name, branch.borrowed(row))}")
        if branch.borrow[row] is not None:
            parts.append(f"may borrow {show(name, branch.borrow[row] or 0)}")
        parts.append(f"{show(name, max(0, branch.available(row)))} more now")
    if most is not None:
        parts.append(f"at most {show(name, most)}")
    yield f"queue {branch.name}: {', '.join(parts)}"


def _borrowers(core: Core, config: PolicyConfig, rows: set[str], own: str) -> Iterator[str]:
    """Say who uses what is guaranteed to others, or to nobody."""
    shown = 0
    for each in standing(core, config):
        for loan in each.loans:
            if each.user or each.queue == own or loan.resource not in rows:
                continue
            if shown == BORROWERS_SHOWN:
                yield "others borrow, too: fairlead share"
                return
            shown += 1
            whose = f"of queue {loan.lender}" if loan.lender else "that nobody is guaranteed"
            yield f"queue {each.queue} borrows {of(loan.resource, loan.amount)} {whose}"
