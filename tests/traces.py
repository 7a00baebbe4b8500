"""Traces for tests: real ones, which are not ours to ship, and an invented one of each format.

FAIRLEAD_TRACES says where the real ones are (default: ../shared/traces beside the repository);
with FAIRLEAD_TRACES_REQUIRED=1 their absence is a failure instead of a skip.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

TRACES = Path(
    os.environ.get("FAIRLEAD_TRACES", Path(__file__).parents[2] / "shared" / "traces")
).resolve()


def real(path: str | Path) -> Path:
    """Return the file of this name below the folder of real traces; skip the test without it."""
    found = TRACES / path
    if not found.exists():
        story = f"{found} is not there; set FAIRLEAD_TRACES to the folder of the traces"
        if os.environ.get("FAIRLEAD_TRACES_REQUIRED") == "1":
            pytest.fail(story)
        pytest.skip(story)
    return found


_HELIOS = "job_id,user,vc,gpu_num,cpu_num,node_num,state,submit_time,start_time,end_time,duration"
_SEREN = "job_id,user,node_num,gpu_num,cpu_num,type,state,submit_time,start_time,end_time,duration"
_KALOS = (
    "job_id,user,node_num,gpu_num,cpu_num,mem_per_pod_GB,shared_mem_per_pod,type,state,"
    "submit_time,start_time,end_time,fail_time,stop_time,duration,queue,gpu_time"
)
_EVENT = "-e submit_batch_job |"
_GAVEL = "python3 main.py --data_dir=%s/x\twhere\t--steps\t1"

# Every line is made up; the layout is that of the published files.
EXCERPTS: dict[str, str] = {
    "pollux": """\
name,time,application,num_replicas,batch_size
toy-0,5,toy,2,20
toy-1,7,toy,1,10
gone-2,9,gone,1,10
""",
    "swf": """\
; MaxProcs: 96
1 0 5 60 4 -1 -1 4 90 -1 1 3 2 -1 -1 -1 -1 -1
   \t
2 10 -1 0 -1 -1 -1 -1 -1 -1 5 3 2 -1 -1 -1 -1 -1
3 12 0 30 2 -1 -1 2 60 68719476736 1 4 2 1 -1 1 1 1 {12,13} q_1d 1:ppn=2
""",
    "jsonl": """\
{"format": "fairlead-trace", "version": 1, "cluster": "2x4gpu"}
{"id": 1, "submit_s": 0, "run_s": 5, "gpus": 2}
{"id": 2, "submit_s": 1.5, "run_s": 5, "gpus": 1, "tenant": "b"}
""",
    "philly": """\
timestamp,duration,num_gpus,gpu_time,cluster
2017-10-09 07:02:00,66.5,2,133.0,bbb
2017-10-09 07:01:00,10.0,1,10.0,aaa
2017-10-09 07:02:00,1.0,8,8.0,aaa
""",
    "philly-json": """\
[
 {"status": "Pass", "vc": "aaa", "jobid": "application_2", "user": "u1",
  "submitted_time": "2017-10-09 07:02:00",
  "attempts": [
   {"start_time": "2017-10-09 07:03:00", "end_time": "2017-10-09 07:04:00",
    "detail": [{"ip": "m1", "gpus": ["gpu0", "gpu1"]}]},
   {"start_time": "2017-10-09 07:10:00", "end_time": "2017-10-09 07:10:30",
    "detail": [{"ip": "m1", "gpus": ["gpu0", "gpu1"]}, {"ip": "m2", "gpus": ["gpu0"]}]}]},
 {"status": "Killed", "vc": "aaa", "jobid": "application_1", "user": "u1",
  "submitted_time": "2017-10-09 07:01:00", "attempts": []},
 {"status": "Pass", "vc": "bbb", "jobid": "application_3", "user": "u2",
  "submitted_time": "2017-10-09 07:01:30",
  "attempts": [{"start_time": "2017-10-09 07:03:00", "end_time": null,
                "detail": [{"ip": "m1", "gpus": ["gpu0"]}]}]},
 {"status": "Killed", "vc": "bbb", "jobid": "application_4", "user": "u2",
  "submitted_time": "2017-10-09 07:01:30",
  "attempts": [{"start_time": null, "end_time": null, "detail": []},
               {"start_time": "None", "end_time": "None", "detail": []}]}
]
""",
    "pai": """\
aaa,worker,4.0,Terminated,1000.0,1600.0,600.0,2.5,25.0,T4
aaa,ps,1.0,Terminated,1000.0,1600.0,100.0,1.0,,
bbb,tensorflow,1.0,Failed,900.0,950.0,600.0,29.296875,200.0,MISC
ccc,tensorflow,2.0,Terminated,990.0,995.0,600.0,1.0,150.0,V100
ddd,tensorflow,1.0,Waiting,,,600.0,1.0,100.0,
eee,tensorflow,1.0,Running,990.0,,600.0,1.0,100.0,
""",
    "openb": """\
name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,\
deletion_time,scheduled_time
pod-0,12000,1024,1,460,T4|P100,LS,Running,10,130,20
pod-1,1000,512,0,0,,BE,Succeeded,5,9,5
pod-2,64000,2048,4,1000,,LS,Running,7,17,8
pod-3,64000,2048,8,1000,,LS,Pending,8,19,
""",
    "gavel": f"""\
ResNet-18 (batch size 64)\t{_GAVEL}\t6000\t2\t1\t-1.000000\t0.000000
LM (batch size 10)\t{_GAVEL}\t500\t1\t1\t2.0\t10.500000
LM (batch size 10)\t{_GAVEL}\t500\t16\t1\t-1.0\t11
""",
    "muri": """\
job_id,num_gpu,submit_time,iterations,model_name,batch_size,duration,interval,iteration_time,\
resource_time_0,resource_time_1,resource_time_2,priority
0,1,0,100,dqn,128,60000,46122000,490,446,8,0,1
1,8,90000,100,gpt2,128,1500,201694000,509,435,8,0.5,0
""",
    "chronus": """\
job_id,user,num_gpu,submit_time,iterations,model_name,duration,interval,expect_time_list,\
expect_value_list,best_effort,job_type
0,vc_a,1,10,5049,vgg16,7,14,11,10,0,strict
1,vc_b,8,2,296,alexnet,9,8,12-15-20,10-8-5,0,soft
2,vc_a,2,5,3621,alexnet,30,17,5,10,1,best
3,vc_a,0,5,3621,alexnet,30,17,40,10,0,strict
""",
    "elasticflow": """\
job_id,submit_time,iteration,model_name,ddl,batch_size,num_gpu,duration
0,100,2011,vgg16,400,4096,1,250
1,150,1548,ncf,160,32768,8,66
""",
    "helios": f"""\
{_HELIOS},queue
11,uA,vc1,16,64,2,COMPLETED,2020-06-09 18:41:00,2020-06-09 18:42:00,2020-06-09 18:52:00,600,60
12,uB,vc2,0,4,1,FAILED,2020-06-09 18:40:30,2020-06-09 18:40:30,2020-06-09 18:40:40,10,0
13,uB,vc2,1,4,1,CANCELLED,2020-06-09 18:40:31,,2020-06-09 18:40:40,0,9
""",
    "acme": f"""\
{_KALOS}
dlc1,u1,8,64,960,1000,100,Pretrain,COMPLETED,2023-05-17 11:00:00+00:00,2023-05-17 11:00:10+00:00,\
2023-05-17 11:01:00+00:00,,2023-05-17 11:01:00+00:00,60,10.0,3840.0
dlc2,u2,1,0,16,32,1,Other,FAILED,2023-05-17 10:59:00+00:00,2023-05-17 10:59:10+00:00,\
2023-05-17 10:59:12+00:00,2023-05-17 10:59:12+00:00,,12,10.0,0.0
dlc3,u2,1,0,16,32,1,Other,CANCELLED,2023-05-17 10:59:00+00:00,,,,,0,0,0.0
""",
    "slurm": f"""\
-dt 0 {_EVENT} -J a -sim-walltime 15 --uid=u5 -t 00:07:00 -n 24 --ntasks-per-node=12 -A x -p p a.job
-dt 10.50 {_EVENT} -sim-walltime 84.00 --uid=u1 -J b -N 2 -n 3 -t 1-00:00:00 -p q --mem=2G b.job
-dt 11 {_EVENT} -J c -sim-walltime -1 --uid=u5 -t 5:00 -n 1 --gres=gpu:2 --exclusive c.job
""",
}
SEREN = f"""\
{_SEREN},queue,gpu_time
57,u59,1,8,128,Other,FAILED,2023-03-01 00:18:22+08:00,2023-03-01 00:18:54+08:00,\
2023-03-01 00:20:51+08:00,117,32,936.0
"""
OLD_GAVEL = """\
LM (batch size 10)\tcd %s/x && python3 main.py --data %s/y\t-n\t1\t500\t6.000000\t1
"""
SHOCKWAVE = f"""\
LM (batch size 10)\t{_GAVEL}\t134583\t2\tgns\t1\t-1.000000\t1418\t55
"""
THROUGHPUTS = """\
{"v100": {"('ResNet-18 (batch size 64)', 2)": {"null": 20.0, "('x', 1)": [1.0, 2.0]},
          "('LM (batch size 10)', 1)": {"null": 50.0}, "('Broken', 1)": {"null": 0.0}},
 "k80": {"('LM (batch size 10)', 1)": {"null": 5.0}}}
"""


PROFILE = {  # of an application of Pollux: file -> text
    "placements.csv": """\
placement,local_bsz,step_time,sync_time
1,10,1.0,0.0
1,20,2.0,0.0
2,10,1.5,0.5
2,20,2.5,0.5
11,10,9.0,8.0
""",
    "validation-10.csv": """\
progress,iteration,metric,grad_sqr,grad_var
10.0,10,0.5,1.0,1.0
20.0,20,0.6,1.0,1.0
""",
    "validation-20.csv": """\
progress,iteration,metric,grad_sqr,grad_var
10.0,6,0.5,1.0,1.0
20.0,11,0.6,1.0,1.0
""",
}


def write_profile(folder: Path, files: dict[str, str] = PROFILE) -> Path:
    """Write the profile of the application `toy` into a folder of profiles; return that."""
    (folder / "toy").mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / "toy" / name).write_text(text)
    return folder
