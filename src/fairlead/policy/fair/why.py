"""Why a job stands where it does under a fair order: every term of it, in words."""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.core.decay import AVERAGE_ONE, ONE, ONE_BITS
from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.core.shares import D
from fairlead.model.amounts import of
from fairlead.model.jobs import PolicyConfig
from fairlead.model.resources import DIMENSIONS
from fairlead.policy.fair import walk as tree
from fairlead.policy.fair.entitle import demands, entitlements
from fairlead.policy.fair.fairtree import Level, Member, levels, ranking
from fairlead.policy.fair.orders import Fair, Firsts
from fairlead.policy.fair.past import tree_of
from fairlead.policy.fair.terms import TERMS, Terms

Lines = list[str]


def standing_lines(core: Core, config: PolicyConfig, job: Job) -> Lines:
    """Return the terms that decide who is before the user of a waiting job."""
    if config.order == "multifactor":
        return _terms(core, config, job)
    if config.order == "fairtree":
        return _levels(core, config, job)
    if config.order == "maxmin":
        return _entitled(core, job)
    return _shares(core, config, job)


def _percent(part: int, whole: int) -> str:
    thousandths = (2000 * part + whole) // (2 * whole) if whole else 0
    return f"{thousandths // 10}.{thousandths % 10} %"


def _firsts(core: Core) -> Firsts:
    """Return some waiting job of every user in a queue."""
    return {(job.spec.queue, job.spec.user): job for job in core.pending.values()}


def _shares(core: Core, config: PolicyConfig, job: Job) -> Lines:
    flat = config.order == "drf"
    walk = Fair(core, _firsts(core), config, flat=flat)
    walk.count_all()
    key = (job.spec.queue, job.spec.user)
    found = next(leaf for leaf in _leaves(walk.tree.root) if leaf.key == key)
    account = core.shares.accounts[key]
    average = account.as_of(max(core.clock, account.at_ms), config.half_life_ms)
    lines = [f"holds now: {_amounts(account.held[:D])}"]
    if not flat and config.history_percent:
        past = _amounts([each // AVERAGE_ONE for each in average])
        lines.append(f"held on average: {past}, which counts {config.history_percent} of 100")
    node: tree.Leaf = found
    while (parent := node.parent) is not None:
        who = f"user {key[1] or '-'} in queue {key[0]}" if node is found else f"queue {node.key}"
        shares = sorted(entry[0] for entry in parent.heap)
        place = shares.index(node.share) + 1
        share = _percent(node.share * max(node.weight, 1), 1 << tree.NORM_BITS)
        among = "all" if parent.parent is None else f"those in queue {parent.key}"
        lines.append(
            f"share of {who}: {share}, weight {node.weight}: "
            f"number {place} of {len(shares)} among {among} who wait"
        )
        node = parent
    return lines


def _leaves(node: tree.Inner) -> Iterator[tree.Leaf]:
    for entry in node.heap:
        child = entry[3]
        if isinstance(child, tree.Inner):
            yield from _leaves(child)
        else:
            yield child


def _amounts(amounts: list[int]) -> str:
    pairs = zip(DIMENSIONS, amounts, strict=True)
    return ", ".join(of(name, amount) for name, amount in pairs if amount) or "nothing"


def _entitled(core: Core, job: Job) -> Lines:
    wanted = demands(core)
    key = (job.spec.queue, job.spec.user)
    entitled = entitlements(core, wanted)
    lines = []
    for name in ((key[0], ""), key):
        who = f"user {key[1] or '-'} in queue {key[0]}" if name[1] or name == key else "queue"
        who = f"queue {key[0]}" if who == "queue" else who
        lines.append(f"entitlement of {who}: {_amounts(entitled[name])}")
    lines.append(f"holds now: {_amounts(core.shares.accounts[key].held[:D])}")
    return lines


def _levels(core: Core, config: PolicyConfig, job: Job) -> Lines:
    root = tree_of(core, config)
    key = (job.spec.queue, job.spec.user)
    ranked = ranking(root)
    rank = next(rank for rank, user in ranked if user.key == key)
    lines = [f"rank: {rank} of {len(ranked)}, the largest is first"]
    for account, level in _path(root, key):
        who = f"user {key[1] or '-'}" if account.key else f"queue {account.name}"
        lines.append(f"level of {who}: {_level(level)} (shares by use), weight {account.shares}")
    return lines


def _level(level: Level) -> str:
    if level is None:
        return "infinite, nothing was used"
    hundredths = round(level * 100)
    return f"{hundredths // 100}.{hundredths % 100:02d}"


def _path(account: Member, key: tuple[str, str]) -> list[tuple[Member, Level]]:
    """Return those on the way to a user, each with its level."""
    for each, level in zip(account.below, levels(account.below), strict=True):
        if each.key == key:
            return [(each, level)]
        below = _path(each, key)
        if below:
            return [(each, level), *below]
    return []


def _terms(core: Core, config: PolicyConfig, job: Job) -> Lines:
    terms = Terms(core, config)
    lines = [f"priority: {terms.points(job)} points"]
    for name, weight, factor in zip(TERMS, terms.weights, terms.factors(job), strict=True):
        points = weight * factor >> ONE_BITS
        lines.append(f"term {name}: {_percent(factor, ONE)} of weight {weight} = {points} points")
    return lines
