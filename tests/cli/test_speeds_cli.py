"""`speeds`: what it asks the service for, what it shows, wrong input; and progress in `show`."""

from __future__ import annotations

from fake_service import NOW, Problem, job


def cell(**more):
    made = {"job_type": "bert", "width_milli": 1000, "on": "A100", "per_s": 3.25, "runs": 2}
    made |= {"source": "measured", "low_per_s": 3.0, "high_per_s": 3.5, "words": ""}
    return made | more


def test_the_table_says_where_each_number_comes_from(cli, service):
    filled = cell(
        on="T4", per_s=1234.5, source="filled", runs=0, low_per_s=None, words="not measured"
    )
    alone = cell(job_type="gpt", width_milli=4000, per_s=None, source="", runs=0, low_per_s=None)
    service.answers["GET /api/v1/speeds"] = lambda request: {
        "speeds": [cell(), filled, alone, cell(job_type="awk", on="cpu", width_milli=500)]
    }
    header, *rows = [line.split() for line in cli("speeds").out.splitlines()]
    assert header == ["TYPE", "WIDTH", "ON", "STEPS/S", "FROM", "RUNS", "RANGE", "NOTE"]
    assert rows == [
        ["bert", "1", "GPU", "A100", "3.25", "measured", "2", "3", "to", "3.5"],
        ["bert", "1", "GPU", "T4", "1,234", "filled", "-", "-", "not", "measured"],
        ["gpt", "4", "GPUs", "A100", "-", "-", "-", "-"],
        ["awk", "0.5", "cores", "cpu", "3.25", "measured", "2", "3", "to", "3.5"],
    ]
    service.answers["GET /api/v1/speeds"] = lambda request: {"speeds": []}
    assert "no job has reported" in cli("speeds").out
    assert '"speeds"' in cli("speeds", "--json").out


def test_pairs_that_share_a_gpu_are_listed_below(cli, service):
    pair = {"types": ["a", "b"], "widths_milli": [500, 250], "on": "T4", "of_alone": [0.7, 0.65]}
    pairs = [
        {**pair, "shares": True, "parted": False},
        {**pair, "shares": False, "parted": True, "of_alone": None},
        {**pair, "shares": False, "parted": False},
    ]
    service.answers["GET /api/v1/speeds"] = lambda request: {"speeds": [cell()], "pairs": pairs}
    *_, title, header, one, two, three = cli("speeds").out.splitlines()
    assert (title, header.split()[:4]) == ("sharing a GPU:", ["TYPES", "WIDTHS", "ON", "OF"])
    assert one.split() == [*"a|b", "0.5", "|", "0.25", "T4", "0.70", "|", "0.65", "yes"]
    assert two.split()[-2:] == ["-", "parted"]
    assert three.split()[-1] == "no"


def test_set_and_forget_send_what_was_said_and_nothing_else(cli, service):
    service.answers["POST /api/v1/speeds"] = lambda request: cell(source="told")
    done = cli("speeds", "set", "bert", "3.25", "--on", "A100")
    assert (done.code, done.out) == (0, "bert, 1 GPU, on A100: 3.25 steps/s\n")
    assert service.requests[-1].body == {"job_type": "bert", "rate": "3.25", "on": "A100"}
    cli("speeds", "set", "awk", "9/min", "--on", "cpu", "--cpus", "2", "--json")
    asked = {"job_type": "awk", "rate": "9/min", "on": "cpu", "cpus": "2"}
    assert service.requests[-1].body == asked
    service.answers["POST /api/v1/speeds:forget"] = lambda request: {"forgotten": [cell()]}
    assert cli("speeds", "forget", "bert").out == "forgotten: bert, 1 GPU, on A100: 3.25\n"
    assert service.requests[-1].body == {"job_type": "bert"}


def test_wrong_input_is_one_line_with_a_hint(cli, service):
    def refuse(request):
        raise Problem(422, "cannot read the rate 'x'", field="rate", hint="write 3.2")

    service.answers["POST /api/v1/speeds"] = refuse
    done = cli("speeds", "set", "bert", "x", "--on", "A100")
    assert done.code == 2 and done.err.splitlines() == [
        "fairlead: cannot read the rate 'x'",
        "  hint: write 3.2",
    ]
    assert cli("speeds", "set", "bert").code == 2
    assert cli("speeds", "sett", "bert", "1").code == 2


def test_show_says_how_far_a_job_is_how_fast_and_what_was_ignored(cli, service):
    said = {"steps": 1200, "of": 5000, "per_s": 3.2, "left_ms": 1_187_000, "ignored": 2}
    said["odd"] = "not understood: b'junk'"
    found = job(7, "RUNNING", spec={"steps": 5000}, progress=said, now_ms=NOW)
    service.answers["GET /api/v1/jobs/7"] = lambda request: found
    assert (
        "1,200 of 5,000 steps; 3.2 steps/s; about 19m47s left at that speed; "
        "2 lines of its reports ignored, the first not understood: b'junk'"
    ) in cli("show", "7").out
    found = job(7, "SUCCEEDED", spec={"steps": 5000}, progress=None, steps=5000, now_ms=NOW)
    assert "5,000 of 5,000 steps\n" in cli("show", "7").out
    found = job(7, "RUNNING", spec={"steps": 5000}, progress=None, now_ms=NOW)
    assert "none of 5,000 steps reported yet" in cli("show", "7").out
    found = job(7, "RUNNING", spec={}, progress=None, now_ms=NOW)
    assert "steps" not in cli("show", "7").out
