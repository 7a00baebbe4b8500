"""Checkpoints and preemption with the real service, and by the API."""

from __future__ import annotations

import asyncio

from service_harness import until

from fairlead.model.events import Checkpointed
from fairlead.model.messages import MemberState, Report

JOBS = "/api/v1/jobs"


def test_a_running_job_says_by_the_api_that_its_work_is_saved(desk_at):
    now = [1_000_000]
    desk = desk_at(lambda: now[0])

    async def story():
        await desk.start()
        await desk.call("POST", JOBS, {"run": "x"})
        core = desk.shell.core
        runs = MemberState(job=1, attempt=1, rank=0, state="running")
        desk.shell.reported(Report(node="here", boot="1", seen=core.seq, members=(runs,)))
        assert await desk.shell.changed(core.seq, 10)
        now[0] += 5_000
        answer = await desk.call("POST", f"{JOBS}/1/checkpoint", {"attempt": 1})
        assert (answer.status, answer.json["checkpoint_ms"]) == (200, now[0])
        assert core.jobs[1].unsaved_ms(now[0] + 300) == 300
        assert any(isinstance(event, Checkpointed) for _, _, event in desk.store.replay(0))
        shown = (await desk.call("GET", f"{JOBS}/1")).json
        assert shown["checkpoint_ms"] == now[0]
        late = await desk.call("POST", f"{JOBS}/1/checkpoint", {"attempt": 7})
        assert (late.status, late.json["error"]["code"]) == (422, "not-running")
        none = await desk.call("POST", f"{JOBS}/9/checkpoint")
        assert none.status == 404
        wrong = await desk.call("POST", f"{JOBS}/1/checkpoint", {"attemt": 1})
        assert "unknown key" in wrong.json["error"]["message"]
        await desk.call("POST", JOBS, {"run": "x"})
        waits = await desk.call("POST", f"{JOBS}/2/checkpoint")
        assert "is PENDING" in waits.json["error"]["message"]
        await desk.api.etas.close()

    asyncio.run(asyncio.wait_for(story(), 60))


SAVES = """
trap 'cat $FAIRLEAD_TASK_DIR/preempt > notice; exit 1' TERM
echo "$FAIRLEAD_RESTART_COUNT ${FAIRLEAD_RESUME:-0}" >> starts
echo '{"checkpoint": true}' >&$FAIRLEAD_REPORT_FD
while :; do sleep 0.1; done
"""


def test_a_queue_gets_its_quota_back_from_a_program_that_gets_its_notice(world, tmp_path):
    """The word of the checkpoint is in the log, the notice in the file, the restart counted."""
    world.up("--cpus", "2")
    assert world.fairlead("queue", "create", "nlp", "--quota", "cpus=1").code == 0
    assert world.fairlead("queue", "create", "cv").code == 0
    lasting = world.submit("sleep 60", queue="cv")
    saver = world.submit(SAVES, queue="cv")
    world.runs(lasting)
    until(lambda: world.show(saver)["checkpoint_ms"], 30)
    owner = world.submit("sleep 1", queue="nlp")
    until(lambda: "preempt" in world.show(saver)["because"] or world.show(saver)["preemptions"])
    assert world.ended(owner)["phase"] == "SUCCEEDED"
    assert world.written("notice").strip() == "30000"
    until(lambda: world.written("starts").split() == ["0", "0", "1", "1"])
    shown = world.show(saver)
    assert shown["preemptions"] == 1
    (stop,) = [each for each in shown["events"] if each["kind"] == "stop-decided"]
    assert stop["beneficiary"] == owner
    assert f"preempted for job {owner} of queue nlp" in stop["because"]
