"""Whom to preempt so that somebody fits: the fewest of the lowest priority that lose the least.

Minimises (highest priority of a victim, number of victims, work lost), ties by the sorted ids
(algorithms.md 7.2). Whether somebody fits is asked of a scene, which knows about shapes, gangs and
quotas; it must be monotone: whoever fits still fits when one more is gone.

Up to EXACT_MAX candidates of the lowest sufficient priority the answer is exact, unless the search
takes more than STEPS_MAX steps. Else it is greedy, then each victim that is not needed is spared,
and `bound` says what no answer can be better than.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, NamedTuple, Protocol, TypeAlias, TypeVar

Id = TypeVar("Id", int, str)
Objective: TypeAlias = tuple[int, int, int]

EXACT_MAX = 20
STEPS_MAX = 20_000


class Candidate(NamedTuple, Generic[Id]):
    """Somebody who may have to go: whole gangs."""

    id: Id
    priority: int
    lost: int  # work that is lost if it goes
    width: int  # by which the loss is shared when the choice is greedy


class Scene(Protocol):
    """Tries out who is gone. Candidates are known by their places in the list."""

    def remove(self, place: int) -> None:
        """Think a candidate away."""
        ...

    def restore(self, place: int) -> None:
        """Undo `remove`."""
        ...

    def fits(self) -> bool:
        """Whether it fits with those gone that were removed."""
        ...

    def least(self, places: Sequence[int]) -> int:
        """Return a number of these of which surely none fewer have to go."""
        ...


class Choice(NamedTuple):
    """Who goes: places in the list of candidates, ascending by id."""

    places: tuple[int, ...]
    objective: Objective
    bound: Objective  # no choice is better than this; the objective itself where it is exact

    @property
    def exact(self) -> bool:
        """Whether no choice is better."""
        return self.objective == self.bound


def choose(candidates: Sequence[Candidate[Id]], scene: Scene) -> Choice | None:
    """Return whom to preempt, None if it does not fit even with all of them gone.

    The scene has nobody removed, before and after.
    """
    ceiling = _ceiling(candidates, scene)
    if ceiling is None:
        return None
    places = [place for place, each in enumerate(candidates) if each.priority <= ceiling]
    if len(places) <= EXACT_MAX:
        search = _Search(candidates, scene, places)
        found = search.run()
        if found is not None:
            chosen = _choice(candidates, found)
            return Choice(*chosen, bound=chosen[1])
    greedy = _greedy(candidates, scene, places)
    return Choice(*_choice(candidates, greedy), bound=(ceiling, scene.least(places), 0))


def minimal(chosen: Sequence[int], scene: Scene) -> list[int]:
    """Return who of the chosen is needed, looking from the last; all of them are removed.

    Of what is returned nobody can be spared, since the scene is monotone. They stay removed.
    """
    needed: list[int] = []
    for place in reversed(chosen):
        scene.restore(place)
        if not scene.fits():
            scene.remove(place)
            needed.append(place)
    return needed[::-1]


def _ceiling(candidates: Sequence[Candidate[Id]], scene: Scene) -> int | None:
    """Return the lowest priority such that it fits if all up to it are gone; None: never."""
    removed: list[int] = []
    found: int | None = None
    for priority in sorted({each.priority for each in candidates}):
        for place, each in enumerate(candidates):
            if each.priority == priority:
                scene.remove(place)
                removed.append(place)
        if scene.fits():
            found = priority
            break
    for place in removed:
        scene.restore(place)
    return found


def _choice(
    candidates: Sequence[Candidate[Id]], places: Sequence[int]
) -> tuple[tuple[int, ...], Objective]:
    ordered = sorted(places, key=lambda place: candidates[place].id)
    those = [candidates[place] for place in ordered]
    highest = max((each.priority for each in those), default=0)
    return tuple(ordered), (highest, len(those), sum(each.lost for each in those))


def _greedy(candidates: Sequence[Candidate[Id]], scene: Scene, places: Sequence[int]) -> list[int]:
    """Take those of low priority first that lose little for their width; spare who can be."""

    def rank(place: int) -> tuple[int, int, Id]:
        each = candidates[place]
        return (each.priority, each.lost * 1000 // max(each.width, 1), each.id)

    chosen: list[int] = []
    for place in sorted(places, key=rank):
        if scene.fits():
            break
        scene.remove(place)
        chosen.append(place)
    needed = minimal(chosen, scene)
    for place in needed:
        scene.restore(place)
    return needed


class _Search(Generic[Id]):
    """Goes through sets of one size after the other, and gives up what cannot lead anywhere."""

    candidates: Sequence[Candidate[Id]]

    def __init__(
        self, candidates: Sequence[Candidate[Id]], scene: Scene, places: Sequence[int]
    ) -> None:
        self.candidates: Sequence[Candidate[Id]] = candidates
        self.scene = scene
        # Cheap ones first: what is found early cuts off more of what follows.
        self.order = sorted(places, key=lambda p: (candidates[p].lost, candidates[p].id))
        self.best: tuple[int, list[Id]] | None = None
        self.found: list[int] = []
        self.steps = 0

    def run(self) -> list[int] | None:
        """Return the best set, None if it takes too many steps."""
        for size in range(self.scene.least(self.order), len(self.order) + 1):
            self._go(size, 0, [], 0)
            if self.steps > STEPS_MAX:
                return None
            if self.best is not None:
                return self.found
        return None

    def _go(self, more: int, start: int, chosen: list[int], lost: int) -> None:
        """Add `more` of those from `start` on."""
        self.steps += 1
        if self.steps > STEPS_MAX or (self.best is not None and lost > self.best[0]):
            return
        if more == 0:
            if self.scene.fits():
                ids = sorted(self.candidates[place].id for place in chosen)
                if self.best is None or (lost, ids) < self.best:
                    self.best, self.found = (lost, ids), list(chosen)
            return
        if self.scene.least(self.order[start:]) > more:
            return
        for at in range(start, len(self.order) - more + 1):
            place = self.order[at]
            self.scene.remove(place)
            chosen.append(place)
            self._go(more - 1, at + 1, chosen, lost + self.candidates[place].lost)
            chosen.pop()
            self.scene.restore(place)
