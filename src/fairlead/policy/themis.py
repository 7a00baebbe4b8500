"""The Themis auction: GPUs go to those who are worst off and gain most by them; they pay for it.

Every bidder names what each number of GPUs is worth to it, 1 / rho. The GPUs are given so that the
product of these is greatest. Who wins keeps only the part of its GPUs by which the others would
not have been better off without it (a hidden payment), so that nobody gains by a false bid; what
is left goes to others, so that nothing stands idle. Source: Mahajan et al., NSDI 2020;
algorithms.md 4.6.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import gcd
from typing import NamedTuple, TypeAlias

from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.model.jobs import PolicyConfig
from fairlead.model.resources import CPU, GPU, asked_in_all, width_milli
from fairlead.policy.finish import Standing
from fairlead.policy.order import Key, Order

BIDDERS_MAX = 16  # those worst off: an auction in every pass has to be quick
Value: TypeAlias = int | Fraction
Bid: TypeAlias = Sequence[tuple[int, Value]]  # (GPUs, what they are worth), 0 GPUs among them
_Table: TypeAlias = list[Value]  # the greatest product with at most so many GPUs


class Auction(NamedTuple):
    """Who gets what, in the order of the bids."""

    best: list[int]  # the numbers of GPUs whose product of values is greatest
    kept: list[Fraction]  # what part of them each keeps: above 0, at most 1
    won: list[int]  # the whole GPUs of that
    left: int  # GPUs that nobody won


def auction(gpus: int, bids: Sequence[Bid]) -> Auction:
    """Return the outcome of an auction of so many GPUs. O(bidders x GPUs x longest bid).

    Values are above zero and grow with the GPUs; of equal products the one with fewer GPUs for
    those who come first. A number that a bid does not name is worth as much as the next below it.
    """
    before = [_none(gpus)]  # the tables of the bids before each
    for bid in bids:
        before.append(_with(before[-1], bid))
    after = [_none(gpus)]  # of those after each, last first
    for bid in reversed(bids):
        after.append(_with(after[-1], bid))
    best = _share_out(gpus, bids, after)
    values = [dict(bid)[got] for bid, got in zip(bids, best, strict=True)]
    kept, won = [], []
    for index, got in enumerate(best):
        others: Value = 1
        for other, value in enumerate(values):
            if other != index:
                others *= value
        first, rest = before[index], after[len(bids) - 1 - index]
        alone = max(first[part] * rest[gpus - part] for part in range(gpus + 1))
        kept.append(Fraction(others, alone))
        won.append(got * kept[-1].numerator // kept[-1].denominator)
    return Auction(best, kept, won, gpus - sum(won))


def _none(gpus: int) -> _Table:
    return [1] * (gpus + 1)


def _with(table: _Table, bid: Bid) -> _Table:
    """Return the table with one more bidder."""
    return [
        max(table[most - asked] * value for asked, value in bid if asked <= most)
        for most in range(len(table))
    ]


def _share_out(gpus: int, bids: Sequence[Bid], after: Sequence[_Table]) -> list[int]:
    """Return what each gets of an allocation with the greatest product."""
    found: list[int] = []
    for index, bid in enumerate(bids):
        rest = after[len(bids) - 1 - index]
        worth = {asked: rest[gpus - asked] * value for asked, value in bid if asked <= gpus}
        most = max(worth.values())
        found.append(min(asked for asked, value in worth.items() if value == most))
        gpus -= found[-1]
    return found


def order_of(core: Core, config: PolicyConfig, held: Sequence[Job]) -> Order:
    """Return the order of a pass: the winners of the auction, then who lost it, then all others.

    `held` are the running jobs whose places are on offer, with all that is free. A gang has use
    for all of its GPUs or for none: a winner that pays gets what it lacks from what is left, before
    others do. Those in between come by their rho, the worst first.
    """
    standing = Standing(core, config.lease_ms)
    kind = GPU if standing.gpus else CPU
    jobs = [job for job in (*core.pending.values(), *held) if _has_use(job, kind)]
    count = min(BIDDERS_MAX, -(-len(jobs) * config.auction_percent // 100))
    bidders = sorted(jobs, key=standing.key)[:count]
    free = int(core.ledger.view()[kind].clip(min=0).sum()) if bidders else 0
    offer = free + sum(width_milli(job.spec.shape) for job in held if _has_use(job, kind))
    rank = _ranks(bidders, offer, standing)

    def key(job: Job) -> Key:
        worst, submitted, job_id = standing.key(job)
        # Ranks are at most 0 and few; what is behind them sorts by rho alone.
        return (worst + (rank.get(job.id, 0) << TIER_BITS), submitted, job_id)

    return key


TIER_BITS = 200  # above any rho


def _has_use(job: Job, kind: int) -> bool:
    return kind == CPU or asked_in_all(job.spec.shape)[GPU] > 0


def _ranks(bidders: Sequence[Job], offer: int, standing: Standing) -> dict[int, int]:
    """Return the rank of each bidder: those who won and keep most first; below 0 for all."""
    widths = [width_milli(job.spec.shape) for job in bidders]
    unit = gcd(*widths) or 1
    gpus = min(offer, sum(widths)) // unit
    bids = []
    for job, width in zip(bidders, widths, strict=True):
        soon = standing.finish_ms(job)
        # 1 / rho with and without a place in this round, times what is the same for both.
        bids.append([(0, soon), (width // unit, soon + standing.lease_ms)])
    found = auction(gpus, bids)
    order = sorted(
        range(len(bidders)),
        key=lambda i: (not found.best[i], -found.kept[i] if found.best[i] else 0, i),
    )
    return {bidders[index].id: place - len(bidders) for place, index in enumerate(order)}
