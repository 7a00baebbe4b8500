"""Which jobs share a GPU, by how fast they are beside each other (algorithms.md 11).

Two jobs may share where each keeps enough of its speed alone, and both together gain enough over
one alone; at most two on a GPU. `share = known`: only pairs that were measured. `trial`: also pairs
that nobody has measured, for a short window; then they are parted unless they go well, and so are,
in both modes, pairs that go well no more. Parting needs a clear miss (SLACK), so that noise around
a threshold does not pair and part for ever; and who was parted is not paired again.

Everything else looks for parts of GPUs on empty ones (core/models.py), so that this is the only way
to come beside somebody.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from fairlead.core import together
from fairlead.core.ends import FAR, believed_run_ms
from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.core.speeds import Key, pair_of
from fairlead.core.together import Side, may_share, side_of
from fairlead.model.base import Ms
from fairlead.model.events import AnyEvent, Parted, Placed, StopDecided
from fairlead.model.jobs import Phase, PolicyConfig
from fairlead.model.resources import Slot

if TYPE_CHECKING:
    from fairlead.policy.pipeline import Pipeline

WHOLE = 1000  # the speed alone
SLACK = 50  # so far below what lets pairs share they are parted


class Verdict(NamedTuple):
    """Whether two types may share a device model: good, trial, or "" and in words why not."""

    way: str
    words: str
    gain: int = 0  # of both speeds together over one alone, in thousandths


class Together:
    """Joins and parts, for one pipeline."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline, self.config = pipeline, pipeline.config

    def decide(self, core: Core) -> Iterator[AnyEvent]:
        """Yield who is parted, then who joins whom."""
        places = together.shared(core)
        if places:
            yield from self._part(core, places)
            yield from self._join(core, places)

    def wake_at(self, core: Core) -> Ms | None:
        """Return when the next window is over, None for never."""
        windows = [
            since + self.config.trial_ms
            for jobs in together.shared(core).values()
            if (since := _since(jobs)) is not None
        ]
        return min((at for at in windows if at > core.clock), default=None)

    def why_not(self, core: Core, job: Job) -> list[str]:
        """Say beside whom a waiting job has room, and why it does not share with them."""
        if not may_share(job):
            return []
        found: dict[str, int] = {}
        for (node, device), others in together.shared(core).items():
            if self._room(core, job, node, device):
                words = self._verdict_at(core, job, node, device, others).words
                found[words] = found.get(words, 0) + 1
        return [
            f"room on {count} GPU{'' if count == 1 else 's'} in use: {words}"
            for words, count in sorted(found.items())
        ]

    # ---- join ---------------------------------------------------------------------------------

    def _join(self, core: Core, places: dict[tuple[int, int], list[Job]]) -> Iterator[AnyEvent]:
        pipeline = self.pipeline
        pipeline.queue.sync(core)
        for job in pipeline.queue.in_order(core):
            best = self._best(core, job, places) if may_share(job) else None
            if best is None:
                if pipeline.protected(core.clock, job) and pipeline.possible(core, job):
                    return
                continue
            (node, device), verdict = best
            (other,) = places[node, device]
            slots = (Slot(node=node, devices=(device,)),)
            if core.reservations or core.promises:
                until = min(core.clock + believed_run_ms(job, self.config), FAR)
                pipeline.plans(core).occupy(job, slots, until)
            because = f"{pipeline.because}; beside job {other.id}: {verdict.words}"
            yield Placed(job=job.id, attempt=job.attempt + 1, slots=slots, because=because)
            places[node, device] = [other, job]

    def _best(
        self, core: Core, job: Job, places: dict[tuple[int, int], list[Job]]
    ) -> tuple[tuple[int, int], Verdict] | None:
        """Return where a job joins another: where both gain most; on trial last."""
        found: list[tuple[int, int, int, Verdict]] = []
        for (node, device), others in places.items():
            if not self._room(core, job, node, device):
                continue
            verdict = self._verdict_at(core, job, node, device, others)
            if verdict.way and self._allowed(core, job, node, device):
                found.append((-verdict.gain, node, device, verdict))
        if not found or self.pipeline.block(core, job) is not None:
            return None
        _, node, device, verdict = min(found, key=lambda each: each[:3])
        return (node, device), verdict

    def _room(self, core: Core, job: Job, node: int, device: int) -> bool:
        return core.ledger.has_room(node, core.shapes[job.shape_id], (device,))

    def _allowed(self, core: Core, job: Job, node: int, device: int) -> bool:
        """Whether no reservation or promise of others is in the way."""
        if not core.reservations and not core.promises:
            return True
        plans = self.pipeline.plans(core)
        plans.withdraw(job.id)
        until = min(core.clock + believed_run_ms(job, self.config), FAR)
        allowed = plans.view(job).allows(node, core.shapes[job.shape_id], (device,), until)
        if job.promise is not None:
            plans.promise(job, job.promise)
        return allowed

    def _verdict_at(
        self, core: Core, job: Job, node: int, device: int, others: list[Job]
    ) -> Verdict:
        if len(others) != 1 or not may_share(others[0]):
            several = len(others) > 1
            words = "two jobs share it already" if several else "its job takes more than a part"
            return Verdict("", words)
        other = others[0]
        model = core.nodes[node].spec.devices[device].model
        found = verdict(core, self.config, model, side_of(job), side_of(other))
        if found.way == "trial" and not job.spec.preemptible:
            return Verdict("", "it is not preemptible, so it cannot be tried beside another")
        if found.way and other.phase is Phase.STOPPING:
            return Verdict("", "the job there is about to stop")
        return found

    # ---- part ---------------------------------------------------------------------------------

    def _part(self, core: Core, places: dict[tuple[int, int], list[Job]]) -> Iterator[AnyEvent]:
        for (node, device), jobs in list(places.items()):
            since = _since(jobs)
            if since is None or core.clock < since + self.config.trial_ms:
                continue
            model = core.nodes[node].spec.devices[device].model
            # Who came later goes; somebody who must not be stopped stays, and so does the other.
            first, last = sorted(jobs, key=lambda each: (each.placed_ms or 0, each.id))
            words = self._bad(core, model, last, first)
            if not words or not last.spec.preemptible:
                continue
            because = f"shared a GPU with job {first.id} ({first.spec.kind}): {words}"
            yield Parted(job=last.id, other=first.id, model=model, because=because)
            yield StopDecided(
                job=last.id, attempt=last.attempt, then=Phase.PENDING, because=because
            )
            del places[node, device]

    def _bad(self, core: Core, model: str, last: Job, first: Job) -> str:
        """Return why two that share are to be parted, "" if they go well enough."""
        one, other = side_of(last), side_of(first)
        pair = pair_of(model, one, other)
        if pair in core.speeds.parted:
            return "their types do not go well together"
        rates = rates_of(core, model, one, other)
        if rates is None:
            silent = "their window is over, and they did not both say how fast they are"
            return silent if self.config.share == "trial" else ""
        return "" if well(self.config, rates, SLACK) else in_words(self.config, rates)


# ---- what is known of a pair ------------------------------------------------------------------


def verdict(core: Core, config: PolicyConfig, model: str, one: Side, other: Side) -> Verdict:
    """Return whether two types may share a GPU of a model by what is known of them."""
    names = f"{one[0]} beside {other[0]}"
    if pair_of(model, one, other) in core.speeds.parted:
        return Verdict("", f"{names} did not go well, and is not tried again")
    rates = rates_of(core, model, one, other)
    if rates is not None:
        words = in_words(config, rates)
        return Verdict("good" if well(config, rates, 0) else "", words, sum(rates) - WHOLE)
    alone = [core.speeds.get((*side, model)) for side in (one, other)]
    if config.share != "trial":
        return Verdict("", f"{names} is not known")
    if not all(alone):
        lacks = one[0] if not alone[0] else other[0]
        return Verdict("", f"{names} is not known, nor how fast {lacks} is alone on {model}")
    return Verdict("trial", f"{names} is tried", -WHOLE)


def rates_of(core: Core, model: str, one: Side, other: Side) -> tuple[int, int] | None:
    """Return the speeds beside each other, in thousandths of those alone; None: not both known."""
    first, second = _rate(core, (*one, model), other), _rate(core, (*other, model), one)
    return None if first is None or second is None else (first, second)


def _rate(core: Core, key: Key, other: Side) -> int | None:
    alone, found = core.speeds.get(key), core.speeds.together.get((key, other))
    return None if not alone or found is None else found.rate * WHOLE // alone


def well(config: PolicyConfig, rates: tuple[int, int], slack: int) -> bool:
    """Whether a pair goes well: it gains enough, and neither loses too much."""
    gains = sum(rates) >= WHOLE + 10 * config.gain_percent - slack
    return gains and min(rates) >= 10 * config.rate_percent - slack


def in_words(config: PolicyConfig, rates: tuple[int, int]) -> str:
    """Say how fast a pair is, and what it takes."""
    one, other = (f"{rate // WHOLE}.{rate % WHOLE // 10:02d}" for rate in rates)
    need = f"{WHOLE // 10 + config.gain_percent} % together and {config.rate_percent} % each"
    return f"{one} and {other} of their speeds alone (sharing takes {need})"


def _since(jobs: list[Job]) -> Ms | None:
    """Return since when two jobs, alone on a GPU, run beside each other; None: they do not."""
    if len(jobs) != 2 or not all(may_share(job) for job in jobs):
        return None
    if any(job.phase is not Phase.RUNNING or job.started_ms is None for job in jobs):
        return None
    return max(job.started_ms or 0 for job in jobs)
