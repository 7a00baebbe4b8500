"""Plans for waiting jobs are the best that trying everything finds, or say how far off they are."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.model.advice import WHOLE, Candidate, Free, Question
from fairlead.solve import extra
from fairlead.solve.advise import assignment
from fairlead.solve.advise.groups import expected

MODELS = ("a", "b")


def job(number: int, gpus: int = 1, **more: object) -> Candidate:
    told = {
        **{"job": number, "job_type": "", "width_milli": 1000 * gpus, "gpus_milli": 1000 * gpus},
        **{"members": 1, "members_max": 0, "weight": 1, "entity": "", "micro_per_s": (None, None)},
        **{"left": 0, "expected_ms": None, "submitted_ms": number, "served_ms": 0},
        **{"deadline_ms": None, "restarts": 0, "preemptible": True, "on": None, "size": 0},
    }
    return Candidate(**(told | more))


def hours(number: int, *each: float, gpus: int = 1, **more: object) -> Candidate:
    """Return a job that takes so many hours on each model."""
    return job(number, gpus, micro_per_s=speeds(each), left=3600 * 1000, **more)


def speeds(each: tuple[float, ...]) -> tuple[int, ...]:
    return tuple([round(10**9 / hours) for hours in each])


def asked(free: list[Free], *jobs: Candidate) -> Question:
    return Question(0, 1, MODELS, (0, 0), (), jobs, free=tuple(free))


def node(model: str, *gpus: int, cpu: int = 64_000, count: int = 1) -> Free:
    return Free(model, tuple(sorted(gpus, reverse=True)), cpu, 64_000, count)


def where(question: Question) -> dict[int, str]:
    found = assignment.advise(question)
    assert all(part == WHOLE for share in found.plan for _, part in share.on)
    return {each: share.on[0][0] for share in found.plan for each in share.jobs}


def test_who_gains_most_has_the_fast_device_whoever_came_first():
    """The first is fastest on a as well, but loses one hour elsewhere; the second nine."""
    question = asked([node("a", 1000), node("b", 1000)], hours(1, 1, 2), hours(2, 1, 10))
    assert where(question) == {1: "b", 2: "a"}


def test_two_more_jobs_are_worth_any_time():
    question = asked(
        [node("a", 1000, 1000)], hours(1, 1, 1, gpus=2), hours(2, 99, 1), hours(3, 99, 1)
    )
    assert where(question) == {2: "a", 3: "a"}


def test_a_heavier_job_comes_before_several_light_ones():
    free = [node("a", 1000, 1000)]
    question = asked(free, hours(1, 9, 9, gpus=2, weight=3), hours(2, 1, 1), hours(3, 1, 1))
    assert where(question) == {1: "a"}


def test_of_equal_jobs_the_one_that_came_first_has_the_faster_device():
    question = asked([node("a", 1000), node("b", 1000)], *(hours(n, 2, 1) for n in (3, 1, 2)))
    assert where(question) == {1: "b", 2: "a"}


def test_who_runs_is_in_no_plan_and_nothing_runs_where_it_cannot():
    question = asked(
        [node("a", 1000), node("b", 1000)],
        hours(1, 1, 1, on="a"),
        job(2, micro_per_s=(0, 0)),
        job(3, micro_per_s=(0, 5)),
    )
    assert where(question) == {3: "b"}


def test_times_go_by_steps_and_speeds_and_else_by_what_is_expected():
    told = job(1, micro_per_s=(2_000_000, None), left=3600)
    assert expected(told) == (1_800_000, 1_800_000)
    guessed = job(1, micro_per_s=(4, 2), expected_ms=1000)
    assert expected(guessed) == (1000, 2000)
    assert expected(job(1, micro_per_s=(None, 0), expected_ms=7)) == (7, None)


def test_gpus_on_several_nodes_are_not_taken_for_one_node_with_all():
    free = [node("a", 1000, count=4), node("b", 1000, 1000)]
    question = asked(free, hours(1, 1, 9, gpus=2), *(hours(n, 1, 1) for n in (2, 3, 4, 5)))
    assert where(question) == {1: "b", 2: "a", 3: "a", 4: "a", 5: "a"}
    assert assignment.advise(question).gap_ppm == 0


def test_a_thousand_equal_jobs_and_nodes_are_one_group_and_one_room():
    free = [node("a", *[1000] * 8, count=100), node("b", *[1000] * 8, count=50)]
    question = asked(free, *(hours(n, 1, 2) for n in range(1, 1101)))
    found = where(question)
    assert list(found.values()).count("a") == 800 and list(found.values()).count("b") == 300


@pytest.mark.parametrize("most", [1, 2])
def test_those_beyond_what_can_be_weighed_fill_what_is_left_and_no_proof_is_claimed(
    monkeypatch, most
):
    monkeypatch.setattr(assignment, "GROUPS_MAX", most)
    free = [node("a", 1000, 1000), node("b", 1000, 1000)]
    question = asked(free, hours(1, 1, 2), hours(2, 1, 3), hours(3, 1, 4), hours(4, 4, 1))
    assert where(question) == {1: "a", 2: "a", 3: "b", 4: "b"}
    assert assignment.advise(question).gap_ppm is None


def test_without_the_solver_jobs_go_where_they_are_fastest_and_nothing_is_promised(monkeypatch):
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(extra, "import_module", absent)
    question = asked([node("a", 1000), node("b", 1000)], hours(1, 1, 2), hours(2, 1, 10))
    found = assignment.advise(question)
    assert [share.on[0][0] for share in found.plan] == ["a", "b"]
    assert found.gap_ppm is None and "highspy" in found.because


# ---- trying everything ---------------------------------------------------------------------------

Room = tuple[str, int]  # model, GPUs


def packs(sizes: list[int], rooms: list[int]) -> bool:
    """Whether members of these sizes fit into nodes with so many GPUs: tries every node."""
    if not sizes:
        return True
    tried = set()
    for at, room in enumerate(rooms):
        if room >= sizes[0] and room not in tried:
            tried.add(room)
            if packs(sizes[1:], [*rooms[:at], room - sizes[0], *rooms[at + 1 :]]):
                return True
    return False


def best(jobs: list[Candidate], rooms: list[Room]) -> tuple[int, int]:
    """Return the greatest weight and then the least time of all plans."""
    found = (0, 0)
    for plan in product((None, 0, 1), repeat=len(jobs)):
        weight, time = value(jobs, plan)
        if (weight, -time) > (found[0], -found[1]) and possible(jobs, plan, rooms):
            found = weight, time
    return found


def value(jobs: list[Candidate], plan: tuple[int | None, ...]) -> tuple[int, int]:
    chosen = [(each, at) for each, at in zip(jobs, plan, strict=True) if at is not None]
    return sum(j.weight for j, _ in chosen), sum(expected(j)[at] or 0 for j, at in chosen)


def possible(jobs: list[Candidate], plan: tuple[int | None, ...], rooms: list[Room]) -> bool:
    for at, model in enumerate(MODELS):
        here = [each for each, place in zip(jobs, plan, strict=True) if place == at]
        sizes = [each.gpus_milli // 1000 for each in here for _ in range(each.members)]
        nodes = [gpus for name, gpus in rooms if name == model]
        if not packs(sorted(sizes, reverse=True), nodes):
            return False
    return True


room = st.tuples(st.sampled_from(MODELS), st.integers(1, 4))
shape = st.tuples(
    *(st.integers(1, 3), st.integers(1, 2), st.integers(1, 2)),
    *(st.integers(1, 9), st.integers(1, 9)),
)


@given(st.lists(room, min_size=1, max_size=4), st.lists(shape, min_size=1, max_size=5))
@settings(deadline=None, max_examples=150)
def test_plans_fit_and_are_as_far_from_the_best_as_they_say_at_most(rooms, shapes):
    jobs = [
        hours(n, a, b, gpus=gpus, members=members, weight=weight)
        for n, (gpus, members, weight, a, b) in enumerate(shapes, 1)
    ]
    question = asked([node(model, *[1000] * gpus) for model, gpus in rooms], *jobs)
    found = assignment.advise(question)
    places = {each: MODELS.index(share.on[0][0]) for share in found.plan for each in share.jobs}
    plan = tuple(places.get(each.job) for each in jobs)
    assert possible(jobs, plan, rooms)
    weight, time = value(jobs, plan)
    most, least = best(jobs, rooms)
    assert found.gap_ppm is not None and weight <= most
    if weight < most:
        assert found.gap_ppm >= (most - weight) / most * 1e6 - 1
    else:
        assert time >= least
        unsure = 1e6 / sum(each.weight for each in jobs)  # whether more could be placed
        least_gap = (time - least) / max(time, 1) * 1e6 - len(jobs)
        assert found.gap_ppm >= min(least_gap, unsure - 1)
    if all(gpus & (gpus - 1) == 0 for gpus, *_ in shapes):  # sizes that divide each other
        assert weight == most


@pytest.mark.parametrize("limit_s", [0.0])
def test_no_time_is_a_greedy_plan_that_promises_nothing(monkeypatch, limit_s):
    monkeypatch.setattr(assignment, "LIMIT_S", limit_s)
    found = assignment.advise(asked([node("a", 1000), node("b", 1000)], hours(1, 1, 2)))
    assert found.gap_ppm is None and found.plan[0].jobs == (1,)
