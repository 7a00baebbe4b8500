"""What the members of an elastic job are told by their agent: a file, and a signal if they ask."""

from __future__ import annotations

import json
import os
from pathlib import Path

from local_node import launch, shell, wait_for

from fairlead.backends.local import environment, files
from fairlead.backends.local.files import Assigned
from fairlead.backends.local.membership import Memberships, read
from fairlead.model.jobs import JobSpec
from fairlead.model.messages import Launch, Membership
from fairlead.model.resources import Shape

KEY = (1, 1, 0)


def team(generation: int, *numbers: int, job: int = 1) -> Membership:
    nodes = tuple(f"10.0.0.{number}" for number in numbers)
    return Membership(job=job, attempt=1, generation=generation, numbers=numbers, nodes=nodes)


def body(state, key=KEY):
    return json.loads(Path(files.task_folder(str(state), key), "members").read_text())


def test_the_file_says_who_is_in_and_who_reads_it(tmp_path):
    told = Memberships(str(tmp_path), {})
    told.hear([team(3, 0, 4, 7)])
    told.tell((1, 1, 4))
    assert body(tmp_path, (1, 1, 4)) == {
        "generation": 3,
        "size": 3,
        "rank": 1,
        "nodes": ["10.0.0.0", "10.0.0.4", "10.0.0.7"],
        "ranks": [0, 1, 2],
        "numbers": [0, 4, 7],
    }
    told.tell((1, 1, 5))
    assert body(tmp_path, (1, 1, 5))["rank"] is None, "it is leaving"


def test_older_words_never_replace_newer_ones(tmp_path):
    told = Memberships(str(tmp_path), {})
    told.hear([team(3, 0, 1)])
    told.tell(KEY)
    told.hear([team(2, 0)])
    told.tell(KEY)
    assert body(tmp_path)["generation"] == 3


def test_a_job_that_is_not_elastic_gets_no_file(tmp_path):
    told = Memberships(str(tmp_path), {})
    told.hear([team(0, 0, job=2)])
    told.tell(KEY)
    assert not os.listdir(tmp_path)


def test_a_file_that_the_program_has_spoilt_is_written_anew(tmp_path):
    told = Memberships(str(tmp_path), {})
    told.hear([team(1, 0)])
    told.tell(KEY)
    Path(files.task_folder(str(tmp_path), KEY), "members").write_text("oops")
    assert read(str(tmp_path), KEY) is None
    told.tell(KEY)
    assert body(tmp_path)["generation"] == 1


def test_a_full_disk_is_told_and_tried_again(tmp_path, capsys):
    (tmp_path / "jobs").write_text("in the way")
    told = Memberships(str(tmp_path), {})
    told.hear([team(1, 0)])
    told.tell(KEY)
    assert "1.1.0: cannot write who its members are" in capsys.readouterr().err
    (tmp_path / "jobs").unlink()
    told.tell(KEY)
    assert body(tmp_path)["size"] == 1


def test_the_environment_names_the_rank_and_the_bounds():
    spec = JobSpec(shape=Shape(members=2), members_max=8, command=("x",))
    joined = Launch(
        job=1,
        attempt=1,
        rank=9,
        spec=spec,
        nodes=("a", "b", "a"),
        place=2,
        generation=5,
        local_rank=1,
    )
    env = environment.of_member(Assigned(launch=joined), "/s", {}, 0)
    assert env["FAIRLEAD_RANK"] == "2"
    assert (env["FAIRLEAD_MEMBERS"], env["FAIRLEAD_NODE_RANK"]) == ("3", "0")
    assert (env["FAIRLEAD_MEMBERS_MIN"], env["FAIRLEAD_MEMBERS_MAX"]) == ("2", "8")
    assert (env["FAIRLEAD_RESIZE_GENERATION"], env["FAIRLEAD_TASK_DIR"]) == ("5", "/s/jobs/1/1.9")
    rigid = environment.of_member(Assigned(launch=launch(1, "x")), "/s", {}, 0)
    assert not {name for name in rigid if "MEMBERS_M" in name or "GENERATION" in name}


SAYS = """
members() { cat "$FAIRLEAD_TASK_DIR/members" | tr '\\n' ' '; }
echo start; members; echo
trap 'echo told; members; echo' USR1
echo ready
while :; do sleep 0.05; done
"""


def test_a_running_member_is_told_by_file_and_signal_also_after_a_restart_of_the_agent(node):
    member = shell(1, SAYS, members_max=4, resize_signal=10)
    node.send(run=[member], teams=[team(0, 0)])
    wait_for(lambda: "ready" in node.printed(KEY))
    assert '"generation":0' in node.printed(KEY)
    node.send(keep=[KEY], teams=[team(1, 0, 1)])
    wait_for(lambda: '"size":2' in node.printed(KEY))  # it says so just after "told"
    assert node.printed(KEY).count("told") == 1
    node.kill_agent()
    node.start_agent()
    node.send(version=node.version, keep=[KEY], teams=[team(2, 0, 1, 2)])  # it had not come so far
    wait_for(lambda: '"size":3' in node.printed(KEY))
    assert node.printed(KEY).count("told") == 2
    node.send(stop=[KEY], kill=[KEY])
    node.member(KEY, "ended")


def test_a_signal_kills_nobody_who_does_not_catch_it(node):
    member = shell(1, "echo ready; sleep 30", members_max=4, resize_signal=10)
    node.send(run=[member], teams=[team(0, 0)])
    wait_for(lambda: "ready" in node.printed(KEY))
    node.send(keep=[KEY], teams=[team(1, 0, 1)])
    wait_for(lambda: body(node.state)["generation"] == 1)
    node.send(keep=[KEY], teams=[team(2, 0)])
    wait_for(lambda: body(node.state)["generation"] == 2)
    assert node.member(KEY, "running").exit is None
    node.send(stop=[KEY], kill=[KEY])
    assert node.member(KEY, "ended").exit.signal == 9
