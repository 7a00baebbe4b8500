from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from fairlead.cli.main import main
from fairlead.cli.sim import sim
from fairlead.model.base import Misuse
from fairlead.model.limits import DEADLINE_JOBS_MAX, DEADLINE_SLOTS_MAX
from fairlead.sim import deadlines

EXAMPLES = Path(__file__).parents[2] / "examples"
RIGID = {"machines": 1, "jobs": [{"id": "a", "release": 0, "size": 3, "deadline": 6.5}]}
ELASTIC = {"gpus": 2, "jobs": [{"id": "a", "work": 3, "deadline_slot": 2, "rate": {"1": 2}}]}


def call(*words: object) -> str:
    result = CliRunner().invoke(sim, ["deadlines", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def fails(capsys, *words: object) -> str:
    with pytest.raises(SystemExit) as left:
        main(["sim", "deadlines", *map(str, words)])
    assert left.value.code == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err and "internal error" not in err
    return err


def test_flow_says_who_is_admitted_and_what_a_refused_job_could_do():
    body = json.loads(call(EXAMPLES / "deadlines.json", "--json"))
    assert (body["method"], body["gpus"], body["verdict"]) == ("flow", 1, "infeasible")
    assert body["admitted"] == ["a", "b", "d"]
    (no,) = body["refused"]
    assert (no["id"], no["deadline_s"], no["earliest_deadline_s"]) == ("c", 7, 8)
    assert no["give_way"] == ["b"] and no["proven"]
    assert no["words"] in call(EXAMPLES / "deadlines.json")


def test_edf_says_what_it_misses_and_where_there_is_too_much_work():
    body = json.loads(call(EXAMPLES / "deadlines.json", "--method", "edf", "--json"))
    assert (body["edf_misses"], body["demand_violation_s"]) == (["c"], [0, 7])


def test_edf_on_several_gpus_leaves_the_last_word_to_the_flow(tmp_path):
    path = tmp_path / "dhall.json"
    jobs = [("a", 4, 9), ("b", 4, 9), ("c", 10, 10)]
    rows = [{"id": n, "size": size, "deadline": due} for n, size, due in jobs]
    path.write_text(json.dumps({"gpus": 2, "jobs": rows}))
    assert "--method flow says" in call(path, "--method", "edf")
    assert "all in time: yes" in call(path)


def test_elasticflow_shows_guarantees_and_what_comes_on_top():
    body = json.loads(call(EXAMPLES / "elastic.json", "--json"))
    assert body["least_gpus"] == {"a": 4, "b": 1, "c": 4, "d": 4}
    assert body["plan"] == {"a": [4, 4, 0], "b": [1, 1, 1], "c": [2, 2, 4, 4]}
    assert body["refused"][0]["earliest_deadline_slot"] == 3
    shown = call(EXAMPLES / "elastic.json")
    assert "2 2 4 4" in shown and "slot 2 (20m)" in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--method", "flaw"], "did you mean 'flow'?"),
        (["--method", "elasticflow"], "elasticflow needs jobs with work and rate"),
        (["--gpus", "1", "--machines", "1"], "not both"),
        (["--gpus", "0"], "0 is not in the range"),
    ],
)
def test_a_wrong_option_is_one_clear_error(capsys, words, message):
    assert message in fails(capsys, EXAMPLES / "deadlines.json", *words)


def test_how_many_gpus_has_to_be_said_somewhere(capsys, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"jobs": RIGID["jobs"]}))
    assert "add --gpus G" in fails(capsys, path)
    assert "all in time: yes" in call(path, "--machines", 3)


@pytest.mark.parametrize(
    ("base", "at", "value", "message"),
    [
        (RIGID, ["jobs", 0, "size"], -1, "job a: size is not a time"),
        (RIGID, ["jobs", 0, "size"], "3", "job a: size is not a time"),
        (RIGID, ["jobs", 0, "size"], True, "job a: size is not a time"),
        (RIGID, ["jobs", 0, "deadline"], 1e300, "job a: deadline is not a time"),
        (RIGID, ["jobs", 0, "release"], 7, "job a: the deadline is before the release"),
        (RIGID, ["jobs", 0, "width"], 0, "job a: width is not a whole number"),
        (RIGID, ["jobs", 0, "dead_line"], 7, "job a: there is no field 'dead_line'"),
        (RIGID, ["jobs", 0, "id"], None, "job 1: id is neither"),
        (RIGID, ["jobs", 0, "id"], "", "id is neither"),
        (RIGID, ["jobs", 0, "id"], "x" * 300, "id has more than"),
        (RIGID, ["jobs", 0], 7, "job 1 is not an object"),
        (RIGID, ["jobs"], {}, "jobs is not a list"),
        (RIGID, ["jobs"], [], "jobs is not a list"),
        (RIGID, ["jobs"], RIGID["jobs"] * 2, "job a: id comes twice"),
        (RIGID, ["jobs"], RIGID["jobs"] * (DEADLINE_JOBS_MAX + 1), "more than 200 jobs"),
        (RIGID, ["machines"], 1.5, "machines is not a whole number"),
        (RIGID, ["gpus"], 1, "machines and gpus are the same"),
        (RIGID, ["parallel"], True, "parallel can only be false"),
        (ELASTIC, ["jobs", 0, "work"], 1.5, "job a: work is not a whole number"),
        (ELASTIC, ["jobs", 0, "deadline_slot"], DEADLINE_SLOTS_MAX + 1, "job a: deadline_slot"),
        (ELASTIC, ["jobs", 0, "rate"], {}, "job a: rate is not a table"),
        (ELASTIC, ["jobs", 0, "rate"], {"two": 1}, "job a: rate: 'two' is not a number of GPUs"),
        (ELASTIC, ["jobs", 0, "rate"], {"2": -1}, "job a: rate is not a whole number"),
        (ELASTIC, ["slot_s"], -1, "slot_s is not a time"),
    ],
)
def test_damage_names_the_job_and_the_field(base, at, value, message):
    body = copy.deepcopy(base)
    inner = body
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = value
    with pytest.raises(Misuse) as raised:
        deadlines.parse(body, "f.json")
    assert message in raised.value.message and raised.value.message.startswith("f.json")


def test_as_many_jobs_and_slots_as_allowed_are_read():
    jobs = [{**ELASTIC["jobs"][0], "id": n} for n in range(DEADLINE_JOBS_MAX)]
    jobs[0]["deadline_slot"] = DEADLINE_SLOTS_MAX
    found = deadlines.parse({"gpus": 1, "jobs": jobs}, "f.json")
    assert len(found.elastic) == DEADLINE_JOBS_MAX


@pytest.mark.parametrize("field", ["id", "size", "deadline"])
def test_a_missing_field_is_named(field):
    job = {name: value for name, value in RIGID["jobs"][0].items() if name != field}
    with pytest.raises(Misuse, match=f"{field} is missing"):
        deadlines.parse({"machines": 1, "jobs": [job]}, "f.json")


@pytest.mark.parametrize("text", ["", "{", '{"jobs": NaN}', "[" * 5000, "[]", "\xff"])
def test_a_file_that_is_no_question_is_one_clear_error(capsys, tmp_path, text):
    path = tmp_path / "f.json"
    path.write_bytes(text.encode("latin-1"))
    assert "f.json" in fails(capsys, path)


def test_a_file_that_is_not_there_is_one_clear_error(capsys, tmp_path):
    assert "cannot read" in fails(capsys, tmp_path / "none.json")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "size", "deadline", "work", "rate", "deadline_slot", "1"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.lists(_JSON, max_size=3))
def test_whatever_is_read_is_a_question_or_a_misuse(jobs):
    try:
        found = deadlines.parse({"gpus": 2, "jobs": jobs}, "f.json")
    except Misuse as error:
        assert error.message
    else:
        assert len(found.works) + len(found.elastic) == len(jobs)
