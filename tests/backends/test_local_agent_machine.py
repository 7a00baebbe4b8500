"""The agent's state machine under lost, repeated, delayed and reordered messages."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from fairlead.backends.local.agent import Agent, Drop, Start, Stop
from fairlead.model.jobs import Exit, JobSpec
from fairlead.model.messages import Desired, Launch, MemberKey
from fairlead.model.resources import Shape

KEYS: list[MemberKey] = [(job, attempt, 0) for job in (1, 2, 3) for attempt in (1, 2)]


def made(key: MemberKey, cpu_milli: int = 1000) -> Launch:
    job, attempt, rank = key
    spec = JobSpec(shape=Shape(cpu_milli=cpu_milli), command=("true",))
    return Launch(job=job, attempt=attempt, rank=rank, spec=spec)


def agent(cores: int = 4) -> Agent:
    return Agent("n0", "boot", range(cores))


@st.composite
def histories(draw: st.DrawFn) -> list[Desired]:
    """What a service says over time: each key runs, is kept or stopped, ends, is forgotten."""
    stages = dict.fromkeys(KEYS, 0)  # 0 not yet, 1 run, 2 keep, 3 stop, 4 forgotten, 5 never again
    messages = []
    for version in range(1, draw(st.integers(2, 12))):
        for key in KEYS:
            stages[key] = max(stages[key], draw(st.sampled_from([0, stages[key], *range(6)])))
        at = {stage: tuple(k for k in KEYS if stages[k] == stage) for stage in range(6)}
        run = tuple(made(key) for key in at[1])
        messages.append(
            Desired(version=version, run=run, keep=at[2], stop=at[3], forget=at[4] + at[5])
        )
    return messages


@settings(max_examples=300, deadline=None)
@given(histories(), st.randoms(use_true_random=False), st.data())
def test_no_interleaving_starts_a_member_twice_or_again_after_it_was_forgotten(
    history: list[Desired], rng: random.Random, data: st.DataObject
) -> None:
    arrivals = [m for m in history for _ in range(rng.choice((0, 1, 1, 2)))]
    for _ in range(rng.randrange(6)):  # reordered and delayed
        if len(arrivals) > 1:
            arrivals.insert(
                rng.randrange(len(arrivals)), arrivals.pop(rng.randrange(len(arrivals)))
            )
    subject, starts, forgotten, alive = (
        agent(),
        list[MemberKey](),
        set[MemberKey](),
        set[MemberKey](),
    )
    for message in arrivals:
        newest = subject.seen
        for action in subject.desired(message):
            assert message.version >= newest
            if isinstance(action, Start):
                assert action.launch.key not in starts
                assert action.launch.key not in forgotten
                starts.append(action.launch.key)
                alive.add(action.launch.key)
            elif isinstance(action, Drop):
                assert action.key not in alive
                forgotten.add(action.key)
        for key in sorted(alive):
            if rng.random() < 0.4:
                subject.ended(key, Exit(code=0), 1, 2)
                alive.discard(key)
        if rng.random() < 0.3:  # killed and started again: what it knows is what it wrote
            subject = Agent("n0", "boot", range(4), list(subject.members.values()), subject.seen)
        shown = {member.key: member.state for member in subject.report().members}
        assert {key for key, state in shown.items() if state != "ended"} == alive
    # At the end of all faults the newest message decides what lives.
    last = history[-1]
    for action in subject.desired(last):
        if isinstance(action, Stop):
            assert action.key not in {launch.key for launch in last.run}


def test_a_message_older_than_the_newest_is_ignored() -> None:
    subject = agent()
    subject.desired(Desired(version=5))
    assert subject.desired(Desired(version=4, run=(made((1, 1, 0)),))) == []


def test_a_member_in_no_list_is_an_orphan_and_is_stopped() -> None:
    subject = agent()
    subject.desired(Desired(version=1, run=(made((1, 1, 0)), made((2, 1, 0)))))
    assert subject.desired(Desired(version=2, keep=((2, 1, 0),))) == [Stop(key=(1, 1, 0))]
    assert [m.state for m in subject.report().members] == ["stopping", "starting"]


def test_keep_and_stop_of_an_unknown_member_do_nothing() -> None:
    subject = agent()
    assert subject.desired(Desired(version=1, keep=((1, 1, 0),), stop=((2, 1, 0),))) == []
    assert subject.report().members == ()


def test_a_stop_that_comes_first_bars_a_start_of_the_same_version() -> None:
    subject = agent()
    subject.desired(Desired(version=3, stop=((1, 1, 0),)))
    assert subject.desired(Desired(version=3, run=(made((1, 1, 0)),))) == []


def test_forget_does_not_drop_a_live_member() -> None:
    subject = agent()
    subject.desired(Desired(version=1, run=(made((1, 1, 0)),)))
    keep: tuple[MemberKey, ...] = ((1, 1, 0),)
    assert subject.desired(Desired(version=2, keep=keep, forget=keep)) == []


def test_an_ended_member_is_reported_until_it_is_forgotten() -> None:
    subject = agent()
    subject.desired(Desired(version=1, run=(made((1, 1, 0)),)))
    subject.ended((1, 1, 0), Exit(code=3), 10, 20)
    subject.desired(Desired(version=2))
    assert [m.exit for m in subject.report().members] == [Exit(code=3)]
    assert subject.desired(Desired(version=3, forget=((1, 1, 0),))) == [Drop(key=(1, 1, 0))]
    assert subject.report().members == ()


def test_a_new_life_starts_nothing_that_its_predecessor_had_seen_placed() -> None:
    subject = Agent("n0", "boot", range(4), (), seen=7)
    old, new = replace(made((1, 1, 0)), placed=7), replace(made((2, 1, 0)), placed=8)
    assert subject.desired(Desired(version=7, run=(old,))) == []
    assert subject.desired(Desired(version=9, run=(old, new))) == [Start(launch=new, cores=(0,))]


def test_a_message_to_another_life_of_the_machine_is_ignored() -> None:
    subject = agent()
    assert subject.desired(Desired(version=3, boot="before", run=(made((1, 1, 0)),))) == []
    assert subject.seen == 0
    assert len(subject.desired(Desired(version=3, boot="boot", run=(made((1, 1, 0)),)))) == 1


def cores_of(subject: Agent, version: int, *wanted: tuple[int, int]) -> list[tuple[int, ...]]:
    run = tuple(replace(made((job, 1, 0), cpu), placed=version) for job, cpu in wanted)
    keep = tuple(subject.members)
    actions = subject.desired(Desired(version=version, run=run, keep=keep))
    return [action.cores for action in actions if isinstance(action, Start)]


def test_members_get_the_least_loaded_cores_and_fractions_share_one() -> None:
    subject = agent(cores=4)
    assert cores_of(subject, 1, (1, 2000), (2, 500), (3, 500), (4, 1000)) == [
        (0, 1),
        (2,),
        (2,),
        (3,),
    ]
    subject.ended((1, 1, 0), Exit(code=0), 1, 2)
    assert cores_of(subject, 2, (5, 1500)) == [(0, 1)]
    assert cores_of(subject, 3, (6, 500)) == [(1,)]


def test_a_member_that_asks_for_every_core_gets_them_and_one_that_asks_for_none_is_free() -> None:
    assert cores_of(agent(cores=2), 1, (1, 9000), (2, 0)) == [(0, 1), ()]


def test_a_new_life_knows_the_load_of_members_that_run_on() -> None:
    before = agent(cores=2)
    cores_of(before, 1, (1, 1000))
    after = Agent("n0", "boot", range(2), before.members.values(), before.seen)
    assert cores_of(after, 2, (2, 1000)) == [(1,)]
