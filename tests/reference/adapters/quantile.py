"""Pinball loss, empirical quantile, split conformal and CQR, by fairlead.predict.scores."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from fairlead.predict.scores import (
    conformal_bound,
    conformal_rank,
    distance,
    outside,
    pinball,
    quantile,
    widened,
)


def answer(given: dict[str, Any]) -> dict[str, Any]:
    level, alpha = Fraction(given["tau"]), Fraction(given["alpha"])
    pairs = zip(given["y"], given["pred"], strict=True)
    losses = [pinball(level, Fraction(y), Fraction(said)) for y, said in pairs]
    points = [distance(row["y"], row["pred"]) for row in given["calibration"]]
    bands = [outside(row["y"], (row["lo"], row["hi"])) for row in given["cqr"]]
    point, low_high = given["new_point"], tuple(given["new_interval"])
    return {
        "pinball": losses,
        "mean_pinball": sum(losses, Fraction(0)) / len(losses),
        "best_constant": quantile(given["y"], level),
        "conformal_rank": conformal_rank(len(points), alpha),
        "conformal_q": conformal_bound(points, alpha),
        "point_interval": widened((point, point), conformal_bound(points, alpha)),
        "cqr_rank": conformal_rank(len(bands), alpha),
        "cqr_q": conformal_bound(bands, alpha),
        "cqr_interval": widened(low_high, conformal_bound(bands, alpha)),
    }
