"""One turn: the inbox, what the clock demands, the decisions, one commit."""

from __future__ import annotations

import msgspec
import pytest

from fairlead.core.engine import Core
from fairlead.core.turn import Scheduler
from fairlead.model.events import (
    MemberEnded,
    MemberStarted,
    NodeJoined,
    Placed,
    PolicySet,
    StopDecided,
    Submitted,
)
from fairlead.model.jobs import Phase
from fairlead.policy.registry import build, policy_config
from strategies import OK, cluster, node, spec


class Tape:
    """Records every commit."""

    def __init__(self):
        self.commits, self.seq = [], 0

    def append(self, records, statuses=()):
        self.commits.append((list(records), list(statuses)))
        self.seq += len(records)
        return self.seq


@pytest.fixture
def scheduler():
    return Scheduler(Core(), build, Tape())


def test_a_turn_is_one_commit_of_inbox_then_stops_then_decisions(scheduler):
    tape = scheduler.store
    scheduler.turn(
        0, [NodeJoined(node=0, spec=node(cpus=1)), Submitted(job=1, spec=spec(limit_ms=5))]
    )
    scheduler.turn(0, [MemberStarted(job=1, attempt=1)])
    turn = scheduler.turn(5, [Submitted(job=2, spec=spec())])
    assert [type(event) for event in turn.events] == [Submitted, StopDecided]
    assert (turn.nodes, len(tape.commits)) == ([0], 3)
    turn = scheduler.turn(6, [MemberEnded(job=1, attempt=1, exit=OK)])
    assert [type(event) for event in turn.events] == [MemberEnded, Placed]
    records, statuses = tape.commits[-1]
    assert [event for _, event in records] == turn.events
    assert {at for at, _ in records} == {6}
    assert [(s.id, s.phase) for s in statuses] == [(1, Phase.TIMEOUT), (2, Phase.STARTING)]


def test_a_turn_in_which_nothing_happens_writes_nothing(scheduler):
    turn = scheduler.turn(0, [])
    assert (turn.events, turn.nodes, scheduler.store.commits) == ([], [], [])


def test_a_clock_that_jumps_back_does_not_move_time_back(scheduler):
    scheduler.turn(1000, [NodeJoined(node=0, spec=node())])
    scheduler.turn(400, [Submitted(job=1, spec=spec())])
    assert scheduler.core.jobs[1].submitted_ms == 1000


def test_a_new_policy_decides_from_its_turn_on(scheduler):
    scheduler.turn(0, [PolicySet(policy=policy_config("fifo")), NodeJoined(node=0, spec=node())])
    jobs = [Submitted(job=n, spec=spec(cpus)) for n, cpus in enumerate((1, 8, 1), 1)]
    assert [event.job for event in scheduler.turn(0, jobs).events[3:]] == [1]
    turn = scheduler.turn(0, [PolicySet(policy=policy_config("fifo-skip"))])
    assert [type(event) for event in turn.events] == [PolicySet, Placed]
    assert turn.events[1].job == 3


def test_without_a_store_the_changed_nodes_are_told_all_the_same():
    scheduler = Scheduler(cluster(node()), build)
    assert scheduler.turn(0, [Submitted(job=1, spec=spec())]).nodes == [0]
    assert scheduler.turn(0, []).nodes == []
    assert scheduler.core.drain().statuses == []


def test_a_store_that_counts_otherwise_stops_the_scheduler(scheduler):
    scheduler.store.seq = 7
    with pytest.raises(AssertionError, match="the log ends at"):
        scheduler.turn(0, [NodeJoined(node=0, spec=node())])


def test_the_events_of_a_turn_can_be_written_and_read_back(scheduler):
    from fairlead.model.events import AnyEvent

    turn = scheduler.turn(
        0, [NodeJoined(node=0, spec=node(gpus=2)), Submitted(job=1, spec=spec(gpus=2, members=1))]
    )
    decode = msgspec.json.Decoder(AnyEvent).decode
    assert [decode(msgspec.json.encode(event)) for event in turn.events] == turn.events
    assert type(turn.events[-1]) is Placed
