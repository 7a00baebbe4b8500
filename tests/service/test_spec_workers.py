"""`workers` in a request: kinds of members that differ, and what may be wrong with them."""

from __future__ import annotations

import pytest
from test_spec import misuse_of, spec_of

from fairlead.model.jobs import Workers
from fairlead.model.resources import Shape

PS = {"name": "ps", "resources": {"cpus": 8}}
WORKER = {"name": "worker", "count": 4, "resources": {"cpus": 4, "gpus": 2}}


def test_kinds_of_workers_become_one_shape_with_ranks_in_their_order():
    spec = spec_of(workers=[PS, WORKER], spread="distinct-nodes")
    assert [spec.shape.of(rank).gpus for rank in range(5)] == [0, 2, 2, 2, 2]
    assert [kind.members for kind in spec.shape.kinds] == [1, 4]
    assert (spec.shape.members, spec.shape.spread) == (5, "distinct-nodes")
    assert spec.workers == (Workers(name="ps"), Workers(name="worker", members=4))
    assert spec.worker(0) == (spec.workers[0], 0)
    assert spec.worker(3) == (spec.workers[1], 2)
    assert spec.kind_names() == ["ps", "worker"]


def test_a_kind_without_resources_or_command_has_those_of_the_job():
    spec = spec_of(
        resources={"cpus": 2},
        workers=[{"name": "a"}, {"name": "b", "count": 2, "run": "echo b"}],
    )
    assert spec.shape == Shape(cpu_milli=2000, members=3), "all ask for the same"
    assert [each.command for each in spec.workers] == [(), ("/bin/sh", "-c", "echo b")]
    assert spec.kind_names() == ["a/b"]


def test_a_job_whose_workers_all_have_a_command_needs_none():
    spec = spec_of(run=None, workers=[{**PS, "run": ["serve", "x"]}, {**WORKER, "run": "train"}])
    assert (spec.command, spec.name) == (("serve", "x"), "serve")
    assert misuse_of({"workers": [{**PS, "run": "serve"}, WORKER]}).field == "run"


def test_workers_have_aliases_as_the_job_has():
    kind = {"name": "w", "replicas": 2, "command": ["x"], "resources": {"cpu": 2}}
    spec = spec_of(workers=[kind])
    assert (spec.shape, spec.workers[0].command) == (Shape(cpu_milli=2000, members=2), ("x",))


def test_topology_and_spread_are_rules_for_all_kinds_together():
    spec = spec_of(workers=[PS, WORKER], topology={"required": "rack", "preferred": "node"})
    assert (spec.shape.within, spec.shape.near) == ("rack", "node")
    assert {kind.within for kind in spec.shape.kinds} == {"rack"}


@pytest.mark.parametrize(
    ("keys", "field", "message", "hint"),
    [
        ({"workers": [PS], "members": 2}, "members", "beside workers", "equal members"),
        ({"workers": [PS], "members": "2-8"}, "members", "beside workers", "count"),
        ({"workers": [PS], "nodes": 2}, "nodes", "beside workers", "count"),
        ({"workers": [PS, PS]}, "workers[1].name", "two kinds of workers have the name ps", ""),
        ({"workers": [{**PS, "count": 0}]}, "workers[0].count", "1 to 100000, not 0", ""),
        ({"workers": [{**PS, "count": "two"}]}, "workers[0].count", "expected a whole number", ""),
        (
            {"workers": [{**PS, "count": 60_000}, {**WORKER, "count": 60_000}]},
            "workers",
            "120000 w",
            "",
        ),
        ({"workers": [{"count": 2}]}, "workers[0].name", "name is missing", "add name"),
        ({"workers": [{"name": ""}]}, "workers[0].name", "the name is empty", ""),
        (
            {"workers": [{**PS, "cuont": 2}]},
            "workers[0].cuont",
            "unknown key",
            "did you mean count?",
        ),
        (
            {"workers": [PS, {"name": "w", "resources": {"gpuss": 1}}]},
            "workers[1].resources.gpuss",
            "unknown key",
            "did you mean gpus?",
        ),
        (
            {"workers": [PS, {"name": "w", "resources": {"gpus": -1}}]},
            "workers[1].resources.gpus",
            "gpus cannot be negative",
            "",
        ),
        ({"workers": [{**PS, "run": ""}]}, "workers[0].run", "run is empty", ""),
        ({"workers": {"ps": 1}}, "workers", "expected a list", ""),
        ({"workers": [3]}, "workers[0]", "expected a table of keys", ""),
        ({"worker": [PS]}, "worker", "unknown key", "did you mean workers?"),
    ],
)
def test_what_is_wrong_with_workers_is_said_with_the_place(keys, field, message, hint):
    wrong = misuse_of({"run": ["true"], **keys})
    assert wrong.field == field
    assert message in wrong.message
    assert hint in wrong.hint
