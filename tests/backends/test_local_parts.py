"""Output segments, journals, environments, control groups and GPUs, each by itself."""

from __future__ import annotations

import errno
import os
import sys
import types
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.backends.local import (
    cgroup,
    environment,
    files,
    gpu,
    inventory,
    output,
    process,
    supervisor,
)
from fairlead.backends.local.files import Assigned, Ended, Journal, Started, Supervised
from fairlead.backends.local.output import Output
from fairlead.model.jobs import Exit, JobSpec, Workers
from fairlead.model.messages import Launch
from fairlead.model.resources import Device, Shape, gang_of


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=9000), max_size=12), st.integers(1, 5000))
def test_what_is_read_is_what_was_written_less_the_gaps(
    tmp_path_factory: pytest.TempPathFactory, writes: list[bytes], chunk: int
) -> None:
    folder = tmp_path_factory.mktemp("out")
    out = Output(str(folder), 16384)
    for data in writes:
        out.write(data)
    out.close()
    whole, offset = b"".join(writes), 0
    while True:
        data, after, gaps = output.read(folder, offset, chunk)
        if not data:
            break
        assert len(data) <= chunk
        skipped = sum(end - start for start, end in gaps)
        assert after == offset + len(data) + skipped
        kept = range(offset, after)
        lost = {i for start, end in gaps for i in range(start, end)}
        assert data == bytes(whole[i] for i in kept if i not in lost)
        offset = after
    assert offset == len(whole)
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 16384


def test_output_that_the_disk_refuses_becomes_a_gap(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.write_text("a file is in the way")
    out = Output(str(folder), 16384)
    out.write(b"lost")
    folder.unlink()
    out.write(b"kept")
    out.close()
    assert out.lost_bytes == 4
    assert output.read(folder) == (b"kept", 8, ((0, 4),))


def test_tail_of_short_and_empty_output(tmp_path: Path) -> None:
    assert output.tail(tmp_path / "none", 3) == (b"", 0)
    out = Output(str(tmp_path), 1 << 20)
    out.write(b"one\ntwo\nno newline")
    out.close()
    assert output.tail(tmp_path, 2) == (b"two\nno newline", 18)
    assert output.tail(tmp_path, 9)[0] == b"one\ntwo\nno newline"
    assert output.tail(tmp_path, 0) == (b"", 18)


def test_tail_looks_far_enough_back_for_long_lines(tmp_path: Path) -> None:
    out = Output(str(tmp_path), 1 << 20)
    lines = [bytes([65 + i]) * 9000 + b"\n" for i in range(5)]
    out.write(b"".join(lines))
    out.close()
    assert output.tail(tmp_path, 2)[0] == b"".join(lines[-2:])


def test_a_torn_line_in_a_journal_counts_as_nothing(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    files.append(fd, Supervised(pid=5))
    os.write(fd, b'{"kind":"ended","exit":{"co')
    assert Journal.read(str(path)).ended is None
    files.append(fd, Ended(exit=Exit(why="lost"), ended_ms=9))
    os.close(fd)
    found = Journal.read(str(path))
    assert found.supervised == Supervised(pid=5)
    assert found.ended is not None and found.ended.exit.why == "lost"


def test_an_end_waits_for_room_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, refused = files.append, []

    def full_at_first(fd: int, entry: files.Entry) -> None:
        if len(refused) < 2:
            refused.append(entry)
            raise OSError(errno.ENOSPC, "disk full")
        real(fd, entry)

    monkeypatch.setattr(files, "append", full_at_first)
    monkeypatch.setattr(supervisor, "_FULL_S", 0.001)
    path = tmp_path / "journal"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    work = assigned()
    made = supervisor._Supervisor(work, "/s", fd, cgroup.Cgroups("x", str(tmp_path)), (9, 9), -1)
    made._record(Ended(exit=Exit(code=4), ended_ms=1))
    os.close(fd)
    assert Journal.read(str(path)).ended == Ended(exit=Exit(code=4), ended_ms=1)


def test_a_journal_that_is_not_there_is_empty(tmp_path: Path) -> None:
    found = Journal.read(str(tmp_path / "none"))
    assert (found.assigned, found.started, found.ended) == (None, None, None)
    assert Started(pid=1, at_ms=2).pid == 1


@pytest.mark.parametrize("name", ["1.2", "1.2.3.4", "a.b.c", "-1.1.0", "", "1.1.0.new"])
def test_other_names_are_no_member_keys(name: str) -> None:
    assert files.parse_key(name) is None
    assert files.parse_key(files.key_name((12, 3, 4))) == (12, 3, 4)


def assigned(attempt: int = 1, **spec: object) -> Assigned:
    made = JobSpec(shape=Shape(cpu_milli=2500, members=3), command=("x",), **spec)
    return Assigned(
        launch=Launch(
            job=9, attempt=attempt, rank=2, spec=made, local_rank=1, nodes=("a", "b", "b")
        )
    )


def test_the_environment_of_a_gang_member() -> None:
    env = environment.of_member(assigned(name="n", tenant="t", queue="q", user="u"), "/s", {}, 0)
    expected = {
        "FAIRLEAD_MEMBER": "9.1.2",
        "FAIRLEAD_STATE": "/s",
        "FAIRLEAD_JOB_ID": "9",
        "FAIRLEAD_JOB_NAME": "n",
        "FAIRLEAD_TENANT": "t",
        "FAIRLEAD_QUEUE": "q",
        "FAIRLEAD_USER": "u",
        "FAIRLEAD_RANK": "2",
        "FAIRLEAD_LOCAL_RANK": "1",
        "FAIRLEAD_MEMBERS": "3",
        "FAIRLEAD_NUM_NODES": "2",
        "FAIRLEAD_NODE_RANK": "1",
        "FAIRLEAD_NODE_IPS": "a\nb",
        "FAIRLEAD_MASTER_ADDR": "a",
        "FAIRLEAD_TASK_DIR": "/s/jobs/9/1.2",
        "FAIRLEAD_CHECKPOINT_DIR": "/s/jobs/9/checkpoint",
        "FAIRLEAD_RESTART_COUNT": "0",
        "OMP_NUM_THREADS": "3",
        "CUDA_VISIBLE_DEVICES": "",
        "NVIDIA_VISIBLE_DEVICES": "void",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    }
    assert {name: env.get(name) for name in expected} == expected
    assert not {"FAIRLEAD_RESUME", "FAIRLEAD_ARRAY_ID", "FAIRLEAD_JOB_END_TIME"} & set(env)


def test_a_member_of_a_gang_with_different_workers_is_told_its_group_and_runs_its_own() -> None:
    kinds = (Shape(cpu_milli=2500), Shape(cpu_milli=500, members=2))
    spec = JobSpec(
        shape=gang_of(kinds),
        command=("train",),
        workers=(Workers(name="ps", command=("serve",)), Workers(name="w", members=2)),
    )
    server, last = (Launch(job=9, attempt=1, rank=rank, spec=spec) for rank in (0, 2))
    assert (server.command, last.command) == (("serve",), ("train",))
    env = environment.of_member(Assigned(launch=server), "/s", {}, 0)
    assert (env["FAIRLEAD_WORKER_GROUP"], env["FAIRLEAD_WORKER_INDEX"]) == ("ps", "0")
    assert (env["OMP_NUM_THREADS"], env["FAIRLEAD_MEMBERS"]) == ("3", "3")
    env = environment.of_member(Assigned(launch=last), "/s", {}, 0)
    assert (env["FAIRLEAD_WORKER_GROUP"], env["FAIRLEAD_WORKER_INDEX"]) == ("w", "1")
    assert (env["OMP_NUM_THREADS"], env["FAIRLEAD_WORKER_COUNT"]) == ("1", "2")
    assert "FAIRLEAD_WORKER_GROUP" not in environment.of_member(assigned(), "/s", {}, 0)


def test_a_restarted_array_member_is_told_so() -> None:
    work = assigned(attempt=3, array=4, array_index=5, array_count=6, limit_ms=60_000)
    env = environment.of_member(work, "/s", {}, 1_000_000)
    assert env["FAIRLEAD_RESUME"] == "1" and env["FAIRLEAD_RESTART_COUNT"] == "2"
    assert [env[f"FAIRLEAD_ARRAY_{n}"] for n in ("ID", "INDEX", "COUNT")] == ["4", "5", "6"]
    assert env["FAIRLEAD_JOB_END_TIME"] == "1060"


def test_slurm_and_outer_job_variables_are_stripped_and_the_users_own_win() -> None:
    carried = {
        "SLURM_JOB_ID": "1",
        "FAIRLEAD_RESUME": "1",
        "FAIRLEAD_JOB_ID": "77",
        "FAIRLEAD_STATE": "/other",
        "OMP_NUM_THREADS": "7",
        "PATH": "/mine",
        "CUDA_VISIBLE_DEVICES": "0,1",
    }
    base = {"PATH": "/base", "HOME": "/home/u", "SECRET_TOKEN": "x", "LC_ALL": "C"}
    env = environment.of_member(assigned(env=carried), "/s", base, 0)
    assert "SLURM_JOB_ID" not in env and "FAIRLEAD_RESUME" not in env and "SECRET_TOKEN" not in env
    assert env["FAIRLEAD_JOB_ID"] == "9" and env["FAIRLEAD_STATE"] == "/other"
    assert (env["PATH"], env["OMP_NUM_THREADS"]) == ("/mine", "7")
    assert (env["HOME"], env["LC_ALL"], env["CUDA_VISIBLE_DEVICES"]) == ("/home/u", "C", "")


def fake_version_2(tmp_path: Path, controllers: str) -> Path:
    """A /proc/self and a control group file system that are plain files."""
    mount, proc = tmp_path / "cgroup", tmp_path / "proc"
    own = mount / "user.slice"
    own.mkdir(parents=True)
    proc.mkdir()
    (proc / "mountinfo").write_text(f"30 1 0:26 / {mount} rw - cgroup2 cgroup2 rw\n")
    (proc / "cgroup").write_text("0::/user.slice\n")
    (own / "cgroup.controllers").write_text(controllers + "\n")
    (own / "cgroup.subtree_control").write_text("")
    return proc


def test_version_2_without_the_controllers_degrades_and_says_so(tmp_path: Path) -> None:
    groups = cgroup.Cgroups("fl", str(fake_version_2(tmp_path, "pids")))
    assert groups.group("1.1.0", 1000, 64) is None
    found = groups.enforcement()
    assert (found.cores.by, found.memory.by) == ("affinity", "")
    assert "does not offer it" in found.memory.because


def test_version_2_limits_are_written_where_it_delegates(tmp_path: Path) -> None:
    proc = fake_version_2(tmp_path, "cpu memory")
    fl = tmp_path / "cgroup/user.slice/fl"
    member = fl / "1.1.0"
    member.mkdir(parents=True)
    (fl / "cgroup.subtree_control").write_text("")
    for name in ("memory.max", "memory.swap.max", "cpu.max", "cgroup.procs"):
        (member / name).write_text("")
    (member / "memory.events").write_text("low 0\noom 3\noom_kill 2\n")
    group = cgroup.Cgroups("fl", str(proc)).group("1.1.0", 500, 64)
    assert group is not None and group.folders == (str(member),)
    assert (member / "memory.max").read_text() == str(64 << 20)
    assert (member / "cpu.max").read_text() == "50000 100000"
    assert group.oom_kills() == 2
    group.enter()
    assert (member / "cgroup.procs").read_text() == "0"


def test_no_control_groups_at_all_is_no_error(tmp_path: Path) -> None:
    found = cgroup.Cgroups("fl", str(tmp_path)).enforcement()
    assert found.cores.by == "affinity" and "no control groups are mounted" in found.cores.because


def test_the_probe_leaves_nothing_behind() -> None:
    cgroup.probe()
    left = [folder for folder, _, _ in os.walk("/sys/fs/cgroup") if "fairlead-probe" in folder]
    assert left == []


def fake_pynvml(devices: int) -> types.ModuleType:
    class NVMLError(Exception):
        pass

    def refuse(_handle: int) -> list[object]:
        raise NVMLError("not supported")

    def used(handle: int) -> list[object]:
        return [types.SimpleNamespace(pid=100 + handle, usedGpuMemory=3 << 30)]

    module = types.ModuleType("pynvml")
    for name, value in {
        "NVMLError": NVMLError,
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: devices,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetName": lambda handle: b"NVIDIA H200",
        "nvmlDeviceGetUUID": lambda handle: f"GPU-{handle}",
        "nvmlDeviceGetMemoryInfo": lambda handle: types.SimpleNamespace(total=141 << 30),
        "nvmlDeviceGetComputeRunningProcesses": used,
        "nvmlDeviceGetGraphicsRunningProcesses": refuse,
    }.items():
        setattr(module, name, value)
    return module


def test_gpus_are_found_with_their_uuids_and_foreign_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", fake_pynvml(2))
    found = gpu.discover()
    assert found.devices[1] == Device(model="NVIDIA H200", memory_mib=141 << 10, uuid="GPU-1")
    assert found.processes[1] == gpu.GpuProcess(device=1, pid=101, memory_mib=3 << 10)
    assert found.because == ""
    assert inventory.inventory().devices == found.devices


def test_a_machine_without_a_driver_has_no_gpus_and_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = fake_pynvml(1)

    def fail() -> None:
        raise module.NVMLError("Driver Not Loaded")

    monkeypatch.setattr(module, "nvmlInit", fail)
    monkeypatch.setitem(sys.modules, "pynvml", module)
    assert gpu.discover() == gpu.Gpus(because="no NVIDIA driver: Driver Not Loaded")


def test_the_inventory_is_this_machine_unless_told_otherwise(tmp_path: Path) -> None:
    node = inventory.inventory("n", cpus=1.5, memory_mib=100, devices=(), state=tmp_path / "new")
    assert (node.name, node.cpu_milli, node.memory_mib, node.devices) == ("n", 1500, 100, ())
    assert node.disk_mib > 0 and node.boot
    found = inventory.inventory(devices=())
    assert found.cpu_milli == 1000 * len(os.sched_getaffinity(0)) and found.memory_mib > 0


def test_descendants_follow_parents_through_every_level() -> None:
    family = {2: (1,), 3: (2,), 4: (3,), 9: (8,)}
    table = {pid: process.Process(parent, 0, 0) for pid, (parent,) in family.items()}
    assert process.descendants({1}, table) == {2, 3, 4}
