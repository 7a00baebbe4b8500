"""Moving jobs with real processes, on a machine that believes to have two GPUs."""

from __future__ import annotations

import pytest
from service_harness import until

NVML = """
class NVMLError(Exception): ...
class Memory: total = 80 * 2**30
nvmlInit = nvmlShutdown = lambda: None
nvmlDeviceGetCount = lambda: 2
nvmlDeviceGetHandleByIndex = lambda index: index
nvmlDeviceGetName = lambda handle: "H100"
nvmlDeviceGetUUID = lambda handle: f"GPU-{handle}"
nvmlDeviceGetMemoryInfo = lambda handle: Memory
nvmlDeviceGetComputeRunningProcesses = nvmlDeviceGetGraphicsRunningProcesses = lambda handle: []
"""
HALF = {"cpus": 0.1, "gpus": 0.5}
# Says where it runs and from which attempt; told to stop it waits until it may go.
MOVES = """
trap 'echo told >> log; while ! [ -e go ]; do sleep 0.05; done; exit 75' TERM
echo "$CUDA_VISIBLE_DEVICES" >> log; while :; do sleep 0.05; done
"""


@pytest.fixture
def halves(world):
    """Half of each GPU in use, by a job that can move and one that must not."""
    folder = world.state.parent / "fake"
    folder.mkdir()
    (folder / "pynvml.py").write_text(NVML)
    world.environ["PYTHONPATH"] = f"{folder}:{world.environ['PYTHONPATH']}"
    world.up("--cpus", "1")
    preempt = {"grace": "20s"}
    stays = world.submit("sleep 600", resources=HALF, preemptible=False)
    other = world.submit("sleep 600", resources=HALF)
    moves = world.submit(MOVES, resources=HALF, preempt=preempt)
    world.runs(moves)
    world.client.post(f"/jobs/{other}/cancel", {"now": True})
    world.ended(other)
    return world, stays, moves


def test_a_service_killed_while_a_job_moves_finishes_the_move_after_its_next_start(halves):
    world, stays, moves = halves
    whole = world.submit("sleep 600", resources={"cpus": 0.1, "gpus": 1}, name="whole")
    shown = world.fairlead("defrag", "--for", str(whole))
    assert (shown.code, shown.out.splitlines()[-1]) == (0, "nothing was moved: --yes moves them")
    assert world.show(moves)["phase"] == "RUNNING"
    done = world.fairlead("defrag", "--for", str(whole), "--yes")
    assert done.code == 0 and f"the room is held for job {whole}" in done.out
    until(lambda: "told" in world.written("log"))
    world.kill_service()
    (world.state / "go").touch()
    world.up("--cpus", "1")
    world.runs(whole)
    world.runs(moves)
    until(lambda: world.written("log").split() == ["GPU-1", "told", "GPU-0"])
    assert world.show(stays)["attempt"] == 1
    again = world.fairlead("defrag", "--for", str(whole))
    assert (again.code, f"job {whole} does not wait: it is RUNNING" in again.err) == (2, True)
    full = world.fairlead("defrag", "--gpus", "1")
    assert (full.code, "free in all: 0 gpus" in full.out) == (1, True)
