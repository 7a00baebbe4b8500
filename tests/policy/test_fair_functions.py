"""What fair division promises, checked on random cases: max-min, DRF, H-DRF, ranks and sums."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fairlead.core.decay import ONE
from fairlead.policy.fair.drf import Asker, asset, by_task, dominant, equal_incomes, fluid
from fairlead.policy.fair.fairtree import Member, levels, ranking, usage
from fairlead.policy.fair.hdrf import Share, launch, leaves, promised
from fairlead.policy.fair.maxmin import Claim, divide, divide_whole
from fairlead.policy.fair.multifactor import fair_factor, part, size_factor, value

small = st.integers(0, 30)
claims = st.lists(st.builds(Claim, small, st.integers(1, 5), st.just(0)), min_size=1, max_size=6)


@st.composite
def guaranteed(draw) -> tuple[int, list[Claim]]:
    capacity = draw(st.integers(1, 60))
    found, left = [], capacity
    for _ in range(draw(st.integers(1, 6))):
        guarantee = draw(st.integers(0, left))
        left -= guarantee
        found.append(Claim(draw(small), draw(st.integers(0, 5)), guarantee))
    return capacity, found


# ---- max-min --------------------------------------------------------------------------------


@given(guaranteed())
def test_nothing_is_wasted_while_somebody_wants_more(case):
    capacity, wanted = case
    parts = divide(capacity, wanted).parts
    assert all(0 <= part <= claim.demand for part, claim in zip(parts, wanted, strict=True))
    assert sum(parts) == min(capacity, sum(claim.demand for claim in wanted))


@given(guaranteed())
def test_everybody_gets_its_guarantee_or_all_that_it_wants(case):
    capacity, wanted = case
    for part_, claim in zip(divide(capacity, wanted).parts, wanted, strict=True):
        assert part_ >= min(claim.demand, claim.guarantee)


@given(guaranteed())
def test_who_wants_more_has_the_largest_excess_by_its_weight(case):
    capacity, wanted = case
    assume(all(claim.weight for claim in wanted))
    parts = divide(capacity, wanted).parts
    excess = [
        Fraction(part_ - min(claim.demand, claim.guarantee), claim.weight)
        for part_, claim in zip(parts, wanted, strict=True)
    ]
    for part_, claim, mine in zip(parts, wanted, excess, strict=True):
        if part_ < claim.demand:
            assert mine == max(excess)


@given(guaranteed(), st.integers(1, 30), st.data())
def test_asking_for_more_than_is_needed_gains_nothing(case, more, data):
    capacity, wanted = case
    who = data.draw(st.integers(0, len(wanted) - 1))
    lie = list(wanted)
    lie[who] = lie[who]._replace(demand=lie[who].demand + more)
    honest, lying = divide(capacity, wanted).parts[who], divide(capacity, lie).parts[who]
    # Within a guarantee that is nobody else's business one may take what one does not need.
    assert min(lying, wanted[who].demand) <= honest


@given(st.integers(1, 60), claims)
def test_nobody_loses_when_somebody_leaves(capacity, wanted):
    before = divide(capacity, wanted).parts
    after = divide(capacity, wanted[1:]).parts
    assert all(a >= b for a, b in zip(after, before[1:], strict=True))


@given(guaranteed())
def test_whole_units_are_the_fair_parts_rounded_and_none_is_lost(case):
    capacity, wanted = case
    parts, whole = divide(capacity, wanted).parts, divide_whole(capacity, wanted)
    assert sum(whole) == sum(parts)
    for exact, rounded, claim in zip(parts, whole, wanted, strict=True):
        assert abs(exact - rounded) < 1 and rounded <= claim.demand


def test_of_equal_remainders_the_first_gets_the_unit():
    assert divide_whole(4, [Claim(9), Claim(9), Claim(9)]) == [2, 1, 1]


def test_where_nodes_are_gone_all_guarantees_shrink_alike():
    wanted = [Claim(40, 1, 40), Claim(20, 1, 20)]
    assert divide(30, wanted).parts == [20, 10]


def test_who_has_no_weight_gets_what_the_others_leave():
    assert divide(10, [Claim(6, 1), Claim(9, 0)]).parts == [6, 4]
    assert divide(10, [Claim(12, 1), Claim(9, 0)]).parts == [10, 0]


# ---- DRF ------------------------------------------------------------------------------------

RESOURCES = ("cpu", "gpu", "mem")
amounts = st.fixed_dictionaries({name: st.integers(0, 4) for name in RESOURCES}).filter(
    lambda found: any(found.values())
)
positive = st.fixed_dictionaries({name: st.integers(1, 4) for name in RESOURCES})
capacities = st.fixed_dictionaries({name: st.integers(5, 40) for name in RESOURCES})


def askers(demands: list, weights: list[int] | None = None) -> list[Asker]:
    weights = weights or [1] * len(demands)
    return [
        Asker(f"u{i}", demand, weight)
        for i, (demand, weight) in enumerate(zip(demands, weights, strict=True))
    ]


def used(asked: list[Asker], tasks: list[Fraction], name: str) -> Fraction:
    return sum((n * a.demand[name] for n, a in zip(tasks, asked, strict=True)), Fraction(0))


@given(capacities, st.lists(amounts, min_size=1, max_size=5))
def test_everybody_gets_at_least_an_equal_split(capacity, demands):
    asked = askers(demands)
    for asker, tasks in zip(asked, fluid(capacity, asked), strict=True):
        assert tasks * dominant(capacity, asker.demand) >= Fraction(1, len(asked))


@given(capacities, st.lists(amounts, min_size=2, max_size=4))
def test_nobody_would_rather_have_what_another_got(capacity, demands):
    asked = askers(demands)
    tasks = fluid(capacity, asked)
    for mine, asker in zip(tasks, asked, strict=True):
        for its, other in zip(tasks, asked, strict=True):
            could = min(
                Fraction(its * other.demand[name], amount)
                for name, amount in asker.demand.items()
                if amount
            )
            assert could <= mine


@given(capacities, st.lists(amounts, min_size=1, max_size=5), st.data())
def test_nobody_could_have_more_without_another_having_less(capacity, demands, data):
    asked = askers(
        demands,
        data.draw(st.lists(st.integers(1, 3), min_size=len(demands), max_size=len(demands))),
    )
    tasks = fluid(capacity, asked)
    free = {name: capacity[name] - used(asked, tasks, name) for name in RESOURCES}
    assert min(free.values()) >= 0
    for asker in asked:
        assert any(amount and not free[name] for name, amount in asker.demand.items())


@given(capacities, st.lists(positive, min_size=2, max_size=4), positive)
def test_a_false_demand_runs_no_more_true_tasks(capacity, demands, lie):
    honest = fluid(capacity, askers(demands))[0]
    got = fluid(capacity, askers([lie, *demands[1:]]))[0]
    true_tasks = min(Fraction(got * lie[name], demands[0][name]) for name in RESOURCES)
    assert true_tasks <= honest


@given(st.integers(5, 40), st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3)), min_size=1))
def test_with_one_resource_it_is_max_min(capacity, found):
    asked = [Asker(f"u{i}", {"gpu": each}, weight) for i, (each, weight) in enumerate(found)]
    tasks = fluid({"gpu": capacity}, asked)
    parts = divide(capacity, [Claim(capacity, weight) for _, weight in found]).parts
    assert [n * each for n, (each, _) in zip(tasks, found, strict=True)] == parts


@given(capacities, st.lists(st.tuples(amounts, st.integers(1, 3)), min_size=1, max_size=5))
def test_task_by_task_who_fits_and_has_the_least_share_is_next(capacity, found):
    asked = askers([demand for demand, _ in found], [weight for _, weight in found])
    free, tasks = dict(capacity), Counter()

    def fitting():
        return [a for a in asked if all(free[name] >= n for name, n in a.demand.items())]

    def share(asker: Asker) -> tuple[Fraction, str]:
        return (tasks[asker.name] * dominant(capacity, asker.demand) / asker.weight, asker.name)

    for name in by_task(capacity, asked):
        assert name == min(fitting(), key=share).name
        tasks[name] += 1
        for resource, amount in next(a for a in asked if a.name == name).demand.items():
            free[resource] -= amount
    assert not fitting()


def test_the_alternatives_break_what_drf_keeps():
    capacity, asked = {"cpu": 9, "mem": 18}, askers([{"cpu": 1, "mem": 4}, {"cpu": 3, "mem": 1}])
    assert fluid(capacity, asked) == [3, 2]
    assert asset(capacity, asked) == [Fraction(63, 25), Fraction(54, 25)]
    assert equal_incomes(capacity, asked) == [Fraction(45, 11), Fraction(18, 11)]


# ---- H-DRF ----------------------------------------------------------------------------------


@st.composite
def trees(draw, depth: int = 3) -> Share:
    counter = iter(range(100))

    def grow(left: int) -> Share:
        name, weight = f"n{next(counter):02}", draw(st.integers(1, 3))
        if not left or draw(st.booleans()):
            demand = draw(
                st.fixed_dictionaries({n: st.integers(0, 3) for n in ("cpu", "mem")}).filter(
                    lambda found: any(found.values())
                )
            )
            return Share(name, weight, demand=demand)
        return Share(name, weight, tuple(grow(left - 1) for _ in range(draw(st.integers(1, 3)))))

    return Share("root", below=tuple(grow(depth - 1) for _ in range(draw(st.integers(1, 3)))))


CAPACITY = {"cpu": 240, "mem": 240}


@given(trees())
def test_a_busy_leaf_gets_what_the_weights_on_its_path_promise(tree):
    done = Counter(launch(CAPACITY, tree))
    for leaf in leaves(tree):
        share = done[leaf.name] * dominant(CAPACITY, leaf.demand)
        one_task = dominant(CAPACITY, leaf.demand)
        others = Fraction(3 * len(list(leaves(tree))), 240)  # a task too many of everybody else
        assert share + one_task + others >= promised(tree)[leaf.name]


@given(trees(), st.integers(1, 3))
def test_idle_leaves_change_nothing(tree, weight):
    idle = Share(
        "zz",
        weight,
        (Share("zz1", demand={"cpu": 1}, most=0), Share("zz2", demand={"mem": 1}, most=0)),
    )
    more = tree._replace(below=(*tree.below, idle))
    assert launch(CAPACITY, more) == launch(CAPACITY, tree)


@given(st.lists(st.tuples(amounts, st.integers(1, 3)), min_size=1, max_size=5), capacities)
def test_in_a_tree_without_inner_nodes_it_is_drf(found, capacity):
    asked = askers([demand for demand, _ in found], [weight for _, weight in found])
    alone = Share(
        "root",
        below=(
            Share("all", below=tuple(Share(a.name, int(a.weight), demand=a.demand) for a in asked)),
        ),
    )
    done = launch(capacity, alone)
    assert Counter(done) == Counter(by_task(capacity, asked))


def test_complementary_siblings_do_not_starve_each_other():
    tree = Share(
        "root",
        below=(
            Share("n1", demand={"cpu": 1, "mem": 1}),
            Share("n2", below=(Share("n2.1", demand={"cpu": 1}), Share("n2.2", demand={"mem": 1}))),
        ),
    )
    assert Counter(launch({"cpu": 10, "mem": 10}, tree)) == {"n1": 5, "n2.1": 5, "n2.2": 5}


# ---- ranks and sums ---------------------------------------------------------------------------


@st.composite
def accounts(draw) -> Member:
    counter = iter(range(100))

    def grow(left: int) -> Member:
        name, shares = f"n{next(counter):02}", draw(st.integers(0, 3))
        if not left or draw(st.booleans()):
            return Member(name, shares, draw(st.integers(0, 4)))
        return Member(
            name, shares, 0, tuple(grow(left - 1) for _ in range(draw(st.integers(1, 3))))
        )

    return Member("root", 1, 0, tuple(grow(2) for _ in range(draw(st.integers(1, 4)))))


def users(member: Member) -> list[str]:
    return [name for each in member.below for name in users(each)] or [member.name]


@given(accounts())
def test_no_user_of_a_worse_served_account_is_ranked_before_one_of_a_better_served_sibling(tree):
    ranks = {user.name: rank for rank, user in ranking(tree)}
    assert sorted(ranks) == sorted(users(tree))

    def check(account: Member) -> None:
        valued = list(zip(levels(account.below), account.below, strict=True))
        for level, better in valued:
            for other, worse in valued:
                if other is not None and (level is None or level > other):
                    least = min(ranks[name] for name in users(better))
                    assert least > max(ranks[name] for name in users(worse))
        for each in account.below:
            check(each)

    check(tree)
    assert usage(tree) == sum(usage(each) for each in tree.below)


factors = st.lists(st.integers(0, ONE), min_size=4, max_size=4)
weights = st.lists(st.integers(0, 10_000), min_size=4, max_size=4)


@given(weights, factors, st.integers(0, 3), st.integers(0, ONE))
def test_a_larger_factor_never_lowers_a_priority(weighing, found, which, other):
    more = list(found)
    more[which] = max(found[which], other)
    assert value(weighing, more) >= value(weighing, found)


@given(weights, factors, st.integers(0, 3), st.integers(0, 10_000))
def test_the_weight_of_a_factor_that_is_zero_changes_nothing(weighing, found, which, other):
    found[which] = 0
    changed = list(weighing)
    changed[which] = other
    assert value(changed, found) == value(weighing, found)


@given(st.integers(1, 10**9), st.integers(0, 10**9))
def test_waiting_beyond_the_most_age_adds_nothing(most, more):
    assert part(most + more, most) == part(most, most) == ONE


@given(st.integers(0, 100), st.integers(0, 100), st.integers(0, 50))
def test_who_has_used_more_has_the_smaller_fair_factor(one, more, shares):
    assert fair_factor((one + more, 200), (shares, 50)) <= fair_factor((one, 200), (shares, 50))


def test_sums_are_at_least_one_and_at_most_what_slurm_can_hold():
    assert value([1000], [ONE], nice=5000) == 1
    assert value([2**40], [ONE]) == 2**32 - 1
    assert fair_factor((1, 4), (1, 4)) == ONE // 2 and fair_factor((1, 4), (0, 1)) == 0
    assert size_factor((0, 4), (0, 8), favour_small=True) == ONE


@pytest.mark.parametrize("most", [0, 1, 5])
def test_a_leaf_that_has_run_all_its_tasks_leaves_the_rest_to_others(most):
    tree = Share(
        "root", below=(Share("a", demand={"cpu": 1}, most=most), Share("b", demand={"cpu": 1}))
    )
    assert Counter(launch({"cpu": 20}, tree)) == +Counter(a=most, b=20 - most)
