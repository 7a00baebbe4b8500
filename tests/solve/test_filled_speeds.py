"""Speeds that nobody measured, from those that somebody did."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from fairlead.solve.speeds import filled

MICRO = 1_000_000


def test_the_reference_case_is_filled_as_it_says_and_zeros_teach_nothing():
    """algorithms.md 10.4, `mc-1`: bert on v100 24, gpt 1.25 and 20, lm 8 and 16."""
    known = {
        "r50": {"k80": 10 * MICRO, "p100": 40 * MICRO, "v100": 80 * MICRO, "a100": 160 * MICRO},
        "bert": {"k80": 3 * MICRO, "p100": 12 * MICRO, "a100": 48 * MICRO},
        "gpt": {"p100": 5 * MICRO, "v100": 10 * MICRO},
        "lm": {"k80": 2 * MICRO, "a100": 32 * MICRO},
        "alone": {"tpu": 7 * MICRO},
        "never": {"k80": 0, "v100": 8 * MICRO, "a100": 16 * MICRO},
    }
    more, spread = filled(known, ["k80", "p100", "v100", "a100", "tpu"])
    assert more == {
        ("bert", "v100"): 24 * MICRO,
        ("gpt", "k80"): 1_250_000,
        ("gpt", "a100"): 20 * MICRO,
        ("lm", "p100"): 8 * MICRO,
        ("lm", "v100"): 16 * MICRO,
        ("never", "p100"): 4 * MICRO,
    }
    assert spread is not None and spread < 1e-9
    assert filled({}, []) == ({}, None)


@given(
    st.lists(st.integers(1, 10**6), min_size=1, max_size=6),
    st.lists(st.integers(1, 10**3), min_size=2, max_size=4),
    st.data(),
)
def test_where_all_types_gain_alike_what_is_filled_is_the_truth(jobs, gains, data):
    models = [f"m{index}" for index in range(len(gains))]
    truth = {
        (f"j{number}", model): job * gain
        for number, job in enumerate(jobs)
        for model, gain in zip(models, gains, strict=True)
    }
    shown = {key for key in truth if data.draw(st.booleans())}
    known = {
        f"j{number}": {m: truth[f"j{number}", m] for m in models if (f"j{number}", m) in shown}
        for number in range(len(jobs))
    }
    more, _ = filled(known, models)
    assert not shown & set(more)
    for key, rate in more.items():
        assert math.isclose(rate, truth[key], rel_tol=1e-6, abs_tol=1)
