"""The environment that a member's command gets (docs/reference: Environment of jobs)."""

from __future__ import annotations

from collections.abc import Mapping

from fairlead.backends.local import files, reports
from fairlead.backends.local.files import Assigned
from fairlead.model.base import Ms
from fairlead.model.messages import Launch, MemberKey

# What a job gets from the agent's own environment; all else comes from the job's spec.
_BASE = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR", "XDG_RUNTIME_DIR")
_PATH_DEFAULT = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Names of ours that a carried environment may set; the others would be those of an outer job.
_CARRIED = ("FAIRLEAD_STATE", "FAIRLEAD_URL", "FAIRLEAD_TOKEN", "FAIRLEAD_CONFIG")


def marker(state: str, key: MemberKey) -> dict[str, str]:
    """Return the variables by which a process is known to belong to this member."""
    return {
        "FAIRLEAD_MEMBER": files.key_name(key),
        "FAIRLEAD_TASK_DIR": files.task_folder(state, key),
    }


def of_member(
    work: Assigned, state: str, base: Mapping[str, str], started_ms: Ms
) -> dict[str, str]:
    """Return the whole environment; `base` is the agent's own."""
    launch, spec = work.launch, work.launch.spec
    env = {name: base[name] for name in _BASE if name in base}
    env.update((name, value) for name, value in base.items() if name.startswith("LC_"))
    env.setdefault("PATH", _PATH_DEFAULT)
    for name, value in spec.env.items():
        ours = name.startswith("FAIRLEAD_") and not name.startswith("FAIRLEAD_PARAM_")
        # A carried SLURM_* makes Lightning and others believe that they run under Slurm.
        if not name.startswith("SLURM_") and (not ours or name in _CARRIED):
            env[name] = value
    env.setdefault("OMP_NUM_THREADS", str(max(1, -(-launch.shape.cpu_milli // 1000))))
    env.setdefault("FAIRLEAD_STATE", state)  # so that the job's own `fairlead` finds this service
    env |= marker(state, launch.key)
    env |= {
        "FAIRLEAD_JOB_ID": str(launch.job),
        "FAIRLEAD_JOB_NAME": spec.name,
        "FAIRLEAD_RESTART_COUNT": str(launch.attempt - 1),
        "FAIRLEAD_USER": spec.user,
        "FAIRLEAD_QUEUE": spec.queue,
        "FAIRLEAD_TENANT": spec.tenant,
        "FAIRLEAD_SUBMIT_DIR": spec.workdir,
        "FAIRLEAD_REPORT_FD": str(reports.REPORT_FD),
        "FAIRLEAD_CHECKPOINT_DIR": files.checkpoint_folder(state, launch.job),
    }
    if launch.attempt > 1:
        env["FAIRLEAD_RESUME"] = "1"
    if spec.limit_ms is not None:
        env["FAIRLEAD_JOB_END_TIME"] = str((started_ms + spec.limit_ms) // 1000)
    if spec.array is not None:
        env |= {
            "FAIRLEAD_ARRAY_ID": str(spec.array),
            "FAIRLEAD_ARRAY_INDEX": str(spec.array_index),
            "FAIRLEAD_ARRAY_COUNT": str(spec.array_count),
        }
    if (worker := spec.worker(launch.rank)) is not None:
        env |= {
            "FAIRLEAD_WORKER_GROUP": worker[0].name,
            "FAIRLEAD_WORKER_INDEX": str(worker[1]),
            "FAIRLEAD_WORKER_COUNT": str(worker[0].members),
        }
    env |= _gang(launch)
    env |= _gpus(work)
    return env


def _gang(launch: Launch) -> dict[str, str]:
    addresses = launch.nodes or ("127.0.0.1",)
    distinct = tuple(dict.fromkeys(addresses))
    rank = launch.rank if launch.place is None else launch.place
    mine = addresses[rank] if rank < len(addresses) else addresses[0]
    members = launch.spec.shape.members
    elastic = {
        "FAIRLEAD_MEMBERS_MIN": str(members),
        "FAIRLEAD_MEMBERS_MAX": str(launch.spec.members_max),
        "FAIRLEAD_RESIZE_GENERATION": str(launch.generation),
    }
    return {
        **(elastic if launch.spec.members_max else {}),
        "FAIRLEAD_RANK": str(rank),
        "FAIRLEAD_LOCAL_RANK": str(launch.local_rank),
        "FAIRLEAD_MEMBERS": str(len(addresses) if launch.spec.members_max else members),
        "FAIRLEAD_NUM_NODES": str(len(distinct)),
        "FAIRLEAD_NODE_RANK": str(distinct.index(mine)),
        "FAIRLEAD_NODE_IPS": "\n".join(distinct),
        "FAIRLEAD_MASTER_ADDR": addresses[0],
        "FAIRLEAD_GPUS_PER_NODE": str(len(launch.devices)),
    }


def _gpus(work: Assigned) -> dict[str, str]:
    # UUIDs, since indices mean different devices to CUDA, NVML and MPS; empty hides all devices.
    visible = ",".join(work.gpus)
    return {
        "CUDA_VISIBLE_DEVICES": visible,
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "NVIDIA_VISIBLE_DEVICES": visible or "void",
    }
