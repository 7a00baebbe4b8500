"""Last k of the same, by fairlead.predict.history: records are taught as they end."""

from __future__ import annotations

from typing import Any

from fairlead.model.jobs import JobSpec
from fairlead.model.resources import Shape
from fairlead.predict.history import History, Past, mean, median


def answer(given: dict[str, Any]) -> dict[str, Any]:
    return {"predictions": [_predict(given, query) for query in given["queries"]]}


def _predict(given: dict[str, Any], query: dict[str, Any]) -> dict[str, Any]:
    history = History([tuple(level) for level in given["levels"]])
    for record in given["history"]:
        if record["end"] <= query["submit"]:
            past = Past(record["end"], record["submit"], record["runtime"])
            history.add(_spec(record), past)
    found = history.find(_spec(query), given["k"])
    if found is None:
        default = given["default_s"]
        return {"level": None, "mean": default, "median": default, "n": 0}
    records = found.records
    return {
        "level": found.level,
        "mean": mean(records),
        "median": median(records),
        "n": len(records),
    }


def _spec(row: dict[str, Any]) -> JobSpec:
    return JobSpec(shape=Shape(gpus=row["gpus"]), name=row["name"], user=row["user"])
