"""Requests become specs; whatever a user may write wrongly is answered with what to write."""

from __future__ import annotations

import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.model import limits
from fairlead.model.base import Misuse
from fairlead.model.jobs import Queue
from fairlead.service.spec import Defaults, parse_array, parse_body, parse_job, parse_jobs

ANN = Defaults("ann", "/home/ann", {"PATH": "/bin"})


def spec_of(**keys):
    return parse_job({"run": ["true"], **keys}, ANN)


def misuse_of(request, defaults=ANN) -> Misuse:
    with pytest.raises(Misuse) as caught:
        parse_body(request, defaults)
    return caught.value


def test_the_least_request_gets_every_default():
    spec = parse_job({"run": "python train.py --lr 1"}, ANN)
    assert spec.command == ("/bin/sh", "-c", "python train.py --lr 1")
    assert (spec.name, spec.user, spec.tenant, spec.queue) == (
        "python",
        "ann",
        "default",
        "default",
    )
    assert (spec.priority, spec.limit_ms, spec.retries, spec.stop_signal) == (50, None, 0, 15)
    assert (spec.workdir, spec.env) == ("/home/ann", {"PATH": "/bin"})
    assert (spec.shape.cpu_milli, spec.shape.members) == (1000, 1)


def test_every_key_has_its_place():
    spec = spec_of(
        name="tune",
        workdir="data/../out",
        env={"SEED": 7, "LR": 0.5, "PATH": "/opt"},
        tenant="nlp",
        queue="short",
        priority="high",
        resources={
            **{"cpus": 0.5, "memory": "1.5G", "disk": "10G", "gpus": 2, "gpu_memory": "20G"},
            "gpu_type": ["H100", "A100"],
        },
        members=4,
        spread="same-node",
        time_limit="1h30m",
        expected="1h",
        retry={"max": 3},
        preempt={"signal": "USR1", "grace": "1m"},
        labels={"exp": 3, "a": "b"},
        output_limit="1M",
    )
    shape = spec.shape
    assert (shape.cpu_milli, shape.memory_mib, shape.disk_mib) == (500, 1536, 10_240)
    assert (shape.gpus, shape.gpu_milli, shape.gpu_memory_mib) == (2, 0, 20_480)
    assert shape.gpu_models == ("A100", "H100")
    assert (shape.members, shape.spread) == (4, "same-node")
    assert spec.env == {"PATH": "/opt", "SEED": "7", "LR": "0.5"}
    assert (spec.limit_ms, spec.expected_ms, spec.grace_ms) == (5_400_000, 3_600_000, 60_000)
    assert (spec.stop_signal, spec.retries, spec.priority) == (10, 3, 90)
    assert spec.labels == (("a", "b"), ("exp", "3"))
    assert (spec.workdir, spec.output_bytes) == ("/home/ann/out", 2**20)


def test_the_words_of_other_tools_are_understood():
    spec = parse_job(
        {
            **{
                "command": "x",
                "account": "nlp",
                "partition": "q",
                "chdir": "/w",
                "envs": {"A": "1"},
            },
            **{"gang": 2, "max_duration": "1h", "tags": {"a": "b"}},
            "resources": {"cpu": 2, "mem": "1G", "gpu": "A100"},
        },
        ANN,
    )
    assert (spec.tenant, spec.queue, spec.workdir, spec.limit_ms) == ("nlp", "q", "/w", 3_600_000)
    assert (spec.shape.cpu_milli, spec.shape.memory_mib, spec.shape.gpus) == (2000, 1024, 1)
    assert spec.shape.members == 2


def test_a_key_and_its_alias_together_are_a_misuse():
    wrong = misuse_of({"run": "x", "command": "y"})
    assert "given twice" in wrong.message
    assert misuse_of({"run": "x", "resources": {"cpus": 1, "cpu": 2}}).field == "resources.cpu"


@pytest.mark.parametrize(
    ("gpus", "expected"),
    [
        (2, (2, 0, ())),
        ("2", (2, 0, ())),
        (0.5, (0, 500, ())),
        ("250m", (0, 250, ())),
        ("A100:2", (2, 0, ("A100",))),
        ("A100:0.5", (0, 500, ("A100",))),
        ("H100", (1, 0, ("H100",))),
        (0, (0, 0, ())),
        (1.0, (1, 0, ())),
    ],
)
def test_gpus_are_whole_or_a_part_of_one_and_may_name_a_model(gpus, expected):
    shape = spec_of(resources={"gpus": gpus}).shape
    assert (shape.gpus, shape.gpu_milli, shape.gpu_models) == expected


@pytest.mark.parametrize(
    ("keys", "field", "message", "hint"),
    [
        ({"resources": {"gpu_mem": "1G"}}, "resources.gpu_mem", "unknown key", "gpu_memory"),
        ({"nmae": "x"}, "nmae", "unknown key nmae", "did you mean name?"),
        ({"memory": "1G"}, "memory", "unknown key", "belongs under resources"),
        ({"qqqq": 1}, "qqqq", "unknown key", "the keys are: array"),
        ({"preempt": {"sig": 1}}, "preempt.sig", "unknown key", "signal"),
        ({"setup": "uv sync"}, "setup", "not supported yet", "leave it out"),
        ({"matrix": {}}, "matrix", "not supported yet", ""),
        ({"depends_on": []}, "depends_on", "not supported yet", ""),
        ({"retry": {"on": []}}, "retry.on", "not supported yet", ""),
        ({"array": {"index": "0-9", "max_parallel": 2}}, "array.max_parallel", "not supported", ""),
        ({"resources": {"shm_size": "1G"}}, "resources.shm_size", "not supported yet", ""),
        ({"resources": {"memory": 16}}, "resources.memory", "no unit", '"16G"'),
        ({"resources": {"memory": "-1G"}}, "resources.memory", "negative", ""),
        ({"resources": {"cpus": 0}}, "resources.cpus", "needs some CPU", "0.1"),
        ({"resources": {"cpus": "9" * 20}}, "resources.cpus", "more than the largest", "less"),
        ({"resources": {"cpus": True}}, "resources.cpus", "got true or false", ""),
        ({"resources": {"cpus": None}}, "resources.cpus", "got nothing", ""),
        ({"resources": []}, "resources", "got a list", ""),
        ({"resources": {"gpus": -1}}, "resources.gpus", "negative", ""),
        ({"resources": {"gpus": 65}}, "resources.gpus", "more than a node can have", "members"),
        ({"resources": {"gpus": "A100:x"}}, "resources.gpus", "cannot read gpus", "H100:2"),
        ({"resources": {"gpus": ":2"}}, "resources.gpu_type", "empty", ""),
        ({"resources": {"gpu_type": "A100"}}, "resources.gpu_type", "without gpus", "gpus: 1"),
        ({"resources": {"gpus": "A100:1", "gpu_type": "H100"}}, "resources.gpu_type", "twice", ""),
        ({"time_limit": 30}, "time_limit", "no unit", "30m"),
        ({"time_limit": "0s"}, "time_limit", "more than nothing", ""),
        ({"time_limit": "99999d"}, "time_limit", "ten years", ""),
        ({"expected": "soon"}, "expected", "cannot read the duration", "1h30m"),
        ({"priority": 101}, "priority", "out of range", "0 to 100"),
        ({"priority": -1}, "priority", "out of range", "0 to 100"),
        ({"priority": "urgent"}, "priority", "no priority 'urgent'", "low, normal, high"),
        ({"priority": 1.5}, "priority", "got a number", ""),
        ({"retry": -1}, "retry", "0 to 100", ""),
        ({"retry": 101}, "retry", "0 to 100", ""),
        ({"preempt": {"signal": "TREM"}}, "preempt.signal", "no signal 'TREM'", "TERM"),
        ({"preempt": {"signal": 9}}, "preempt.signal", "no program can notice", ""),
        ({"preempt": {"signal": 999}}, "preempt.signal", "no signal '999'", ""),
        ({"preempt": {"grace": "2d"}}, "preempt.grace", "more than 1d", ""),
        ({"members": 0}, "members", "1 to 100000", ""),
        ({"members": limits.MEMBERS_MAX + 1}, "members", "1 to 100000", ""),
        ({"members": 2, "nodes": 2}, "nodes", "short for members", ""),
        ({"members": "8-2"}, "members", "the most, 2, is below the least, 8", ""),
        ({"members": "two"}, "members", "cannot read members 'two'", '"2-8"'),
        ({"members": "-3"}, "members", "cannot read members", '"2-8"'),
        ({"members": "0-3"}, "members", "1 to 100000", ""),
        ({"nodes": "2-100001"}, "nodes", "1 to 100000", ""),
        ({"members": {"min": 2}}, "members.max", "missing", "add"),
        ({"members": {"min": 2, "maxx": 3}}, "members.maxx", "unknown key", "did you mean max"),
        ({"resize_signal": "USR1"}, "resize_signal", "no effect", "2-8"),
        ({"members": "1-2", "resize_signal": "KILL"}, "resize_signal", "no program", "TERM"),
        ({"spread": "apart"}, "spread", "apart", ""),
        ({"array": "0-"}, "array", "cannot read the array", '"0-9"'),
        ({"array": "0-9%2"}, "array", "not supported yet", ""),
        ({"array": "3,1-4"}, "array", "repeats an index", ""),
        ({"array": "0-9:0"}, "array", "is empty", ""),
        ({"name": "a\nb"}, "name", "cannot be shown", ""),
        ({"name": "x" * 201}, "name", "more than 200", ""),
        ({"name": 7}, "name", "expected text, got a whole number", "quotes"),
        ({"env": {"A=B": "1"}}, "env", "cannot be the name", ""),
        ({"env": {"": "1"}}, "env", "cannot be the name", ""),
        ({"env": {"A": "x\0y"}}, "env", "NUL", ""),
        ({"env": {"A": True}}, "env", "got true or false", "quotes"),
        ({"env": {"A": "x" * limits.ENV_BYTES_MAX}}, "env", "bytes, allowed are", "file"),
        ({"labels": {"": "x"}}, "labels", "no name", ""),
        ({"labels": {str(n): "x" for n in range(101)}}, "labels", "more than 100", ""),
        ({"workdir": "x\0y"}, "workdir", "not the name of a file or folder", ""),
        ({"run": []}, "run", "run is empty", "say what to run"),
        ({"run": " "}, "run", "run is empty", ""),
        ({"run": [""]}, "run", "run is empty", ""),
        ({"run": ["a\0b"]}, "run", "NUL", ""),
        ({"run": "\ud800"}, "run", "not Unicode", ""),
        ({"run": ["x"] * limits.COMMAND_BYTES_MAX}, "run", "bytes, allowed are", "script"),
        ({"run": 7}, "run", "expected", ""),
        ({"output_limit": "1"}, "output_limit", "no unit", ""),
    ],
)
def test_what_is_wrong_is_said_with_its_path_and_what_to_write(keys, field, message, hint):
    wrong = misuse_of({"run": ["true"], **keys})
    assert wrong.field == field
    assert message in wrong.message
    assert hint in wrong.hint


def test_limits_hold_to_the_last_and_no_further():
    assert spec_of(members=limits.MEMBERS_MAX).shape.members == limits.MEMBERS_MAX
    assert spec_of(name="x" * limits.NAME_CHARS_MAX).name
    assert spec_of(retry=limits.RETRIES_MAX).retries == limits.RETRIES_MAX
    text = "x" * (limits.COMMAND_BYTES_MAX - 1)
    assert spec_of(run=[text]).command == (text,)
    assert "bytes" in misuse_of({"run": [text + "x"]}).message
    accented = "é" * (limits.COMMAND_BYTES_MAX // 2)  # as many characters fit, its bytes do not
    assert "bytes" in misuse_of({"run": [accented]}).message


@pytest.mark.parametrize("request_", [None, [], "run", 7, {}, {"resources": {}}, {7: "x"}])
def test_what_is_no_request_at_all_is_a_misuse(request_):
    wrong = misuse_of(request_)
    assert wrong.hint


@pytest.mark.parametrize("form", ["2-8", " 2 - 8 ", {"min": 2, "max": 8}])
@pytest.mark.parametrize("key", ["members", "nodes", "gang", "num_nodes"])
def test_a_job_may_say_how_many_members_it_can_use_beyond_its_least(key, form):
    spec = spec_of(**{key: form}, resize_signal="USR1")
    assert (spec.shape.members, spec.members_max, spec.resize_signal) == (2, 8, 10)
    assert spec.shape.spread == ("distinct-nodes" if "nodes" in key else "any")


def test_a_job_whose_bounds_are_equal_is_not_elastic():
    for form in (3, "3", "3-3", {"min": 3, "max": 3}):
        spec = spec_of(members=form)
        assert (spec.shape.members, spec.members_max) == (3, 0)
    assert spec_of(nodes="1-4").shape.spread == "distinct-nodes"


def test_nodes_is_one_member_on_each():
    assert spec_of(nodes=1).shape.spread == "any"
    shape = spec_of(nodes=3).shape
    assert (shape.members, shape.spread) == (3, "distinct-nodes")


def test_the_queue_gives_priority_and_limit_to_those_that_name_none():
    queues = {"short": Queue(name="short", priority=70, limit_ms=3_600_000)}
    defaults = ANN._replace(queues=queues)
    spec = parse_job({"run": "x", "queue": "short"}, defaults)
    assert (spec.priority, spec.limit_ms) == (70, 3_600_000)
    spec = parse_job({"run": "x", "queue": "short", "priority": 0, "time_limit": "1m"}, defaults)
    assert (spec.priority, spec.limit_ms) == (0, 60_000)


def test_arrays_become_jobs_that_know_their_first():
    specs = parse_jobs([{"run": "a"}, {"run": "b", "array": "0-8:4"}], ANN, first_id=41)
    assert [spec.array for spec in specs] == [None, 42, 42, 42]
    assert [spec.array_index for spec in specs] == [0, 0, 4, 8]
    assert [spec.array_count for spec in specs] == [0, 3, 3, 3]
    assert parse_array("1,3,5-7") == (1, 3, 5, 6, 7)
    with pytest.raises(Misuse, match="not one job"):
        parse_job({"run": "b", "array": "0-1"}, ANN)


def test_a_call_has_at_most_so_many_jobs_and_a_huge_array_is_refused_before_it_is_made():
    most = limits.SUBMIT_BATCH_MAX
    assert len(parse_jobs([{"run": "x", "array": f"1-{most}"}], ANN)) == most
    for array in (f"0-{most}", "0-999999999", f"0-{most - 2},{most},{most + 1}"):
        assert misuse_of({"run": "x", "array": array}).code == "too-many"
    assert (
        misuse_of({"jobs": [{"run": "x", "array": f"1-{most}"}, {"run": "y"}]}).code == "too-many"
    )
    assert misuse_of({"jobs": []}).field == "jobs"


def test_the_position_of_a_wrong_job_among_several_is_named():
    body = {"jobs": [{"run": "x"}, {"run": "y", "resources": {"memroy": "1G"}}]}
    assert misuse_of(body).field == "jobs[1].resources.memroy"
    assert misuse_of({"jobs": [{"run": "x"}, 7]}).field == "jobs[1]"
    assert misuse_of({"jobs": [{"run": "x"}], "rquest": "k"}).field == "rquest"


def test_the_jobs_of_a_call_share_its_environment_and_folder():
    body = {
        "jobs": [{"run": "x"}, {"run": "y"}, {"run": "z", "env": {"A": "2"}, "workdir": "sub"}],
        "env": {"A": "1", "B": "1"},
        "workdir": "/work",
        "request": "key",
    }
    jobs, key = parse_body(body, ANN)
    assert key == "key"
    assert jobs[0].env == {"PATH": "/bin", "A": "1", "B": "1"}
    assert jobs[0].env is jobs[1].env  # one dictionary, not thousands
    assert jobs[2].env == {"PATH": "/bin", "A": "2", "B": "1"}
    assert [job.workdir for job in jobs] == ["/work", "/work", "/work/sub"]


def test_a_request_may_come_from_json_as_it_is():
    body = msgspec.json.decode(b'{"run": ["x"], "resources": {"cpus": 2, "memory": "1G"}}')
    assert parse_body(body, ANN).jobs[0].shape.cpu_milli == 2000


KEYS = st.sampled_from(
    [*("run", "name", "resources", "env", "priority", "array", "retry", "preempt", "members"), "x"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(KEYS, JSON, max_size=5) | JSON)
def test_whatever_is_sent_is_a_spec_or_a_misuse(request_):
    try:
        jobs = parse_body(request_, ANN).jobs
    except Misuse as wrong:
        assert wrong.message
    else:
        encoded = msgspec.json.encode(jobs)
        assert msgspec.json.decode(encoded, type=list[type(jobs[0])]) == jobs


def test_five_thousand_equal_requests_cost_little():
    request = {"run": ["x"], "resources": {"cpus": 2, "memory": "4G"}, "time_limit": "1h"}
    body = {"jobs": [dict(request) for _ in range(5000)]}
    costs = []
    for _ in range(5):
        before = time.process_time()
        parse_body(body, ANN)
        costs.append(time.process_time() - before)
    assert min(costs) < 0.12  # measured: 0.02; far less than per-key Python would take


@pytest.mark.parametrize(
    ("asked", "close"),
    [
        ("rack", ("rack", "")),
        ({"required": "switch"}, ("switch", "")),
        ({"preferred": "rack"}, ("", "rack")),
        ("preferred:node", ("", "node")),
        ("required:switch, preferred:rack", ("switch", "rack")),
        ({"required": "rack", "preferred": "rack"}, ("rack", "rack")),
        ("", ("", "")),
    ],
)
def test_topology_says_what_is_required_and_what_is_preferred(asked, close):
    shape = spec_of(members=4, topology=asked).shape
    assert (shape.within, shape.near) == close
    alone = spec_of(topology=asked).shape  # one member is always close to itself
    assert (alone.within, alone.near) == ("", "")
    elastic = spec_of(members="1-4", topology=asked).shape
    assert (elastic.within, elastic.near) == close


@pytest.mark.parametrize(
    ("asked", "message", "hint"),
    [
        ("rak", "topology has no level 'rak'", "did you mean rack?"),
        ("zone", "topology has no level 'zone'", "the levels are node, rack, switch"),
        ({"required": "Rack"}, "no level 'Rack'", "did you mean rack?"),
        ({"preffered": "rack"}, "unknown key topology.preffered", "did you mean preferred?"),
        ("prefered:rack", "topology has no key 'prefered'", "did you mean preferred?"),
        ("rack,switch", "says twice what is required", "the levels are"),
        ({}, "topology says nothing", 'write for example "rack"'),
        ({"required": "rack", "preferred": "switch"}, "which is wider", "a closer one"),
        (7, "expected text", ""),
    ],
)
def test_a_topology_that_cannot_be_is_refused_in_words(asked, message, hint):
    no = misuse_of({"run": "x", "members": 4, "topology": asked})
    assert message in no.message and hint in no.hint
    assert no.field.startswith("topology")


def test_members_on_one_node_and_on_distinct_nodes_cannot_be():
    no = misuse_of({"run": "x", "nodes": 2, "topology": "node"})
    assert "one node and on distinct nodes" in no.message


@pytest.mark.parametrize(
    ("resources", "whole", "shares"),
    [
        ({"gpus": 1.5}, 1, (500,)),
        ({"gpus": "H100:2.25"}, 2, (250,)),
        ({"gpu_split": [0.25, 0.5]}, 0, (500, 250)),
        ({"gpu_split": "0.5, 0.25, 1"}, 1, (500, 250)),
        ({"gpu_split": ["1", "1"]}, 2, ()),
        ({"gpu_split": [0.5]}, 0, (500,)),
    ],
)
def test_a_member_takes_several_gpus_in_uneven_parts(resources, whole, shares):
    shape = spec_of(resources=resources).shape
    assert (shape.gpus, shape.shares, shape.devices) == (whole, shares, whole + len(shares))
    assert shape.gpu_milli == sum(shares)


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ({"gpu_split": [1.5]}, "1.5 is no part of one GPU"),
        ({"gpu_split": [0.5, 0]}, "0 is no part of one GPU"),
        ({"gpu_split": [-0.5]}, "cannot read '-0.5' in gpu_split"),
        ({"gpu_split": "half"}, "cannot read 'half' in gpu_split"),
        ({"gpu_split": [0.5], "gpus": 1}, "both say how much"),
        ({"gpu_split": [0.01] * 1000}, "more than a node can have"),
        ({"gpus": 1000.5}, "more than a node can have"),
        ({"gpu_splt": [0.5]}, "unknown key resources.gpu_splt"),
    ],
)
def test_splits_that_cannot_be_are_refused(resources, message):
    no = misuse_of({"run": "x", "resources": resources})
    assert message in no.message and no.field.startswith("resources.gpu")
