"""The single writer: batches, answers only what is durable, survives a store that fails."""

from __future__ import annotations

import asyncio

import pytest

from fairlead.model.base import Misuse, StoreFailed
from fairlead.model.events import StopDecided, Submitted
from fairlead.model.jobs import Exit, Phase
from fairlead.model.messages import MemberState, Report
from fairlead.service import shell as shell_module
from fairlead.service.commands import Cancel, CancelAll, Configure, Submit
from fairlead.service.shell import EXIT_BUG
from fairlead.service.spec import Defaults

ME = Defaults(user="me")


def true(**more: object) -> dict[str, object]:
    return {"run": ["true"], **more}


def report(desk, *members: MemberState) -> Report:
    return Report(node="here", boot="1", seen=desk.shell.core.seq, members=members)


def member(job: int, state: str, exit: Exit | None = None, attempt: int = 1) -> MemberState:
    started = None if state == "starting" else 1
    return MemberState(job=job, attempt=attempt, rank=0, state=state, exit=exit, started_ms=started)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(shell_module, "STORE_RETRY_S", 0.01)


def run(story) -> None:
    asyncio.run(asyncio.wait_for(story, 20))


async def turn_over(desk) -> None:
    """Let the event loop come to the turn that was asked for."""
    turns = desk.shell.turns
    while desk.shell.turns == turns:
        await asyncio.sleep(0)


def test_requests_of_one_moment_become_one_turn(desk):
    async def story():
        await desk.start()
        turns = desk.shell.turns
        answers = await asyncio.gather(*(desk.shell.ask(Submit(true(), ME)) for _ in range(50)))
        assert desk.shell.turns == turns + 1
        assert [ids for ids, _ in answers] == [(n,) for n in range(1, 51)]

    run(story())


def test_a_request_that_makes_no_sense_does_not_harm_the_others_of_its_turn(desk):
    async def story():
        await desk.start()
        good, bad = await asyncio.gather(
            desk.shell.ask(Submit(true(), ME)),
            desk.shell.ask(Submit({"rum": "true"}, ME)),
            return_exceptions=True,
        )
        assert good == ((1,), True)
        assert isinstance(bad, Misuse) and "run" in bad.hint

    run(story())


def test_the_same_key_submits_once_even_within_one_turn(desk):
    async def story():
        await desk.start()
        first, second = await asyncio.gather(
            desk.shell.ask(Submit(true(), ME, "k")), desk.shell.ask(Submit(true(), ME, "k"))
        )
        third = await desk.shell.ask(Submit(true(), ME, "k"))
        assert first == ((1,), True)
        assert second == third == ((1,), False)
        assert desk.shell.core.next_job == 2

    run(story())


def test_nothing_is_answered_or_kept_when_the_disk_is_full_and_all_goes_on_afterwards(desk):
    async def story():
        await desk.start()
        await desk.shell.ask(Submit(true(), ME))
        seq, digest = desk.shell.core.seq, desk.shell.core.digest()
        desk.store.fail_next()
        failed = await asyncio.gather(
            desk.shell.ask(Submit(true(), ME)),
            desk.shell.ask(Cancel([1], "no")),
            return_exceptions=True,
        )
        assert all(isinstance(error, StoreFailed) for error in failed)
        assert desk.shell.failing
        assert (desk.shell.core.seq, desk.shell.core.digest()) == (seq, digest)
        assert (await desk.call("GET", "/api/v1/jobs")).json["jobs"][0]["id"] == 1
        ids, _ = await desk.shell.ask(Submit(true(), ME))
        assert ids == (2,) and not desk.shell.failing

    run(story())


def test_what_an_agent_reported_while_the_disk_was_full_is_not_lost(desk):
    async def story():
        await desk.start()
        await desk.shell.ask(Submit(true(), ME))
        desk.store.fail_next()
        desk.shell.reported(report(desk, member(1, "ended", Exit(code=0))))
        assert await desk.shell.ended(1, 5)
        assert desk.store.status_of(1).phase is Phase.SUCCEEDED

    run(story())


def test_a_contradiction_in_the_core_stops_the_service_and_leaves_the_log_sound(desk):
    async def story():
        await desk.start()
        await desk.shell.ask(Submit(true(), ME))

        class Impossible:
            def plan(self, batch):
                return [StopDecided(job=1, attempt=7, then=Phase.CANCELLED)]

            def answer(self, core):
                return None

        await desk.shell.ask(Impossible())

    with pytest.raises(SystemExit) as stopped:
        run(story())
    assert stopped.value.code == EXIT_BUG
    assert not any(isinstance(event, StopDecided) for _, _, event in desk.store.replay(0))


def test_a_cancel_takes_a_waiting_job_at_once_and_stops_a_running_one(desk):
    async def story():
        await desk.start()
        for _ in range(2):
            await desk.shell.ask(Submit(true(), ME))
        desk.shell.reported(report(desk, member(1, "running")))
        await turn_over(desk)
        phases = await desk.shell.ask(Cancel([1, 2, 2, 99], "no"))
        assert phases == {1: Phase.STOPPING}
        assert desk.shell.desired(0).stop == ((1, 1, 0),)
        desk.shell.reported(report(desk, member(1, "ended", Exit(signal=15))))
        assert await desk.shell.ended(1, 5)
        assert {n: desk.store.status_of(n).phase for n in (1, 2)} == {
            1: Phase.CANCELLED,
            2: Phase.CANCELLED,
        }

    run(story())


def test_two_cancels_in_one_turn_are_one(desk):
    async def story():
        await desk.start()
        await desk.shell.ask(Submit(true(), ME))
        await asyncio.gather(*(desk.shell.ask(Cancel([1], "no")) for _ in range(3)))
        stops = [event for _, _, event in desk.store.replay(0) if isinstance(event, StopDecided)]
        assert len(stops) == 1

    run(story())


def test_cancelling_everything_lets_nothing_move_up(desk):
    async def story():
        await desk.start()
        for _ in range(4):
            await desk.shell.ask(Submit(true(), ME))
        await desk.shell.ask(CancelAll("the end"))
        assert list(desk.shell.core.jobs) == [1]
        desk.shell.reported(report(desk, member(1, "ended", Exit(signal=15))))
        assert await desk.shell.ended(1, 5)
        assert not desk.shell.core.jobs
        assert desk.store.status_of(2).attempt == 0

    run(story())


def test_a_time_limit_is_kept_by_the_timer_and_the_clock_may_step_back(desk_at):
    clock = [1_000_000]
    desk = desk_at(lambda: clock[0])

    async def story():
        await desk.start()
        await desk.shell.ask(Submit(true(time_limit="50ms"), ME))
        desk.shell.reported(report(desk, member(1, "running")))
        await turn_over(desk)
        clock[0] -= 500_000
        await desk.shell.ask(Submit(true(), ME))
        assert desk.shell.now == 1_000_000
        clock[0] = 1_000_060
        desk.shell._wake()
        await turn_over(desk)
        assert desk.shell.core.jobs[1].phase is Phase.STOPPING
        times = [at for _, at, _ in desk.store.replay(0)]
        assert times == sorted(times)

    run(story())


def test_the_agent_may_forget_an_end_only_when_it_is_durable(desk):
    async def story():
        await desk.start()
        await desk.shell.ask(Submit(true(), ME))
        ending = report(desk, member(1, "ended", Exit(code=0)))
        desk.shell.reported(ending)
        assert desk.shell.desired(0).forget == ()
        assert await desk.shell.ended(1, 5)
        assert desk.shell.desired(0).forget == ((1, 1, 0),)

    run(story())


def test_the_configuration_is_logged_only_where_it_differs(desk):
    async def story():
        await desk.start()
        seq = desk.shell.core.seq
        await desk.start()
        assert desk.shell.core.seq == seq
        await desk.start(cpu_milli=2000)
        assert desk.shell.core.seq == seq + 1

    run(story())


def test_a_queue_takes_no_more_than_its_limit_in_one_call(desk):
    from fairlead.model.jobs import Queue

    async def story():
        await desk.start()
        await desk.shell.ask(Configure([], [], [Queue(name="short", pending_max=3)], None))
        many = {"jobs": [true(queue="short")] * 4}
        with pytest.raises(Misuse, match="room for 3 more jobs, not for 4"):
            await desk.shell.ask(Submit(many, ME))
        assert desk.shell.core.next_job == 1

    run(story())


def test_a_snapshot_saves_the_replay(desk):
    async def story():
        await desk.start()
        await desk.shell.ask(Submit(true(), ME))
        desk.shell.snapshot()
        seq, digest, _ = next(desk.store.snapshots())
        assert (seq, digest) == (desk.shell.core.seq, desk.shell.core.digest())

    run(story())


def test_a_snapshot_that_cannot_be_written_is_no_harm(desk):
    async def story():
        await desk.start()
        desk.store.fail_next()
        desk.shell.snapshot()
        assert await desk.shell.ask(Submit(true(), ME)) == ((1,), True)
        assert any(isinstance(event, Submitted) for _, _, event in desk.store.replay(0))

    run(story())


def test_waiting_requests_are_refused_when_the_service_stops(desk):
    async def story():
        await desk.start()
        waiting = asyncio.ensure_future(desk.shell.ask(Submit(true(), ME)))
        await asyncio.sleep(0)
        desk.shell.stop()
        with pytest.raises(StoreFailed, match="stops"):
            await waiting
        assert desk.store.status_of(1) is None

    run(story())
