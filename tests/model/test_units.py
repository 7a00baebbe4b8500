"""Units: what people write is read exactly, what is ambiguous is refused with what to write."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.model.base import Misuse
from fairlead.model.limits import AMOUNT_MAX, LIMIT_MS_MAX
from fairlead.model.units import (
    format_cpus,
    format_duration,
    format_size,
    parse_cpu_milli,
    parse_duration_ms,
    parse_size_bytes,
    parse_size_mib,
)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1h30m", 5_400_000),
        ("90s", 90_000),
        ("2d", 172_800_000),
        ("1-02:00:00", 93_600_000),
        ("01:30:00", 5_400_000),
        ("100:00:00", 360_000_000),
        ("500ms", 500),
        ("1.5h", 5_400_000),
        ("1 h 30 min", 5_400_000),
        ("2W", 14 * 86_400_000),
        ("0s", 0),
        ("0.0001s", 1),
    ],
)
def test_durations_are_read_as_people_write_them(text: str, ms: int) -> None:
    assert parse_duration_ms(text) == ms


@pytest.mark.parametrize("bare", ["30", 30, "0", 1.5, "007"])
def test_a_bare_duration_is_refused_with_what_to_write(bare: object) -> None:
    with pytest.raises(Misuse) as refused:
        parse_duration_ms(bare, "time_limit")
    assert refused.value.field == "time_limit"
    assert f'"{bare}m" (minutes)' in refused.value.hint


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "h",
        "30:00",
        "1-25:00:00",
        "01:60:00",
        "1x",
        "1h-3m",
        "1h30",
        "١h",
        "nan",
        "1e3s",
        "1,5h",
    ],
)
def test_what_is_not_a_duration_is_refused_with_examples(wrong: str) -> None:
    with pytest.raises(Misuse) as refused:
        parse_duration_ms(wrong)
    assert '"1h30m"' in refused.value.hint


@pytest.mark.parametrize("parse", [parse_duration_ms, parse_size_mib, parse_cpu_milli])
@pytest.mark.parametrize("wrong", [True, None, [], {}, b"1h"])
def test_what_is_not_even_text_is_refused_by_its_type(parse: Any, wrong: object) -> None:
    with pytest.raises(Misuse, match=type(wrong).__name__):
        parse(wrong, "f")


@pytest.mark.parametrize(
    ("parse", "text"), [(parse_duration_ms, "-1h"), (parse_size_mib, "-1G"), (parse_cpu_milli, -1)]
)
def test_negative_amounts_are_refused(parse, text: object) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(Misuse, match="cannot be negative"):
        parse(text)


def test_amounts_are_accepted_up_to_their_limit_and_refused_one_beyond() -> None:
    assert parse_duration_ms(f"{LIMIT_MS_MAX}ms") == LIMIT_MS_MAX
    assert parse_size_mib(f"{AMOUNT_MAX}M") == AMOUNT_MAX
    assert parse_cpu_milli(f"{AMOUNT_MAX}m") == AMOUNT_MAX
    for parse, text in (
        (parse_duration_ms, f"{LIMIT_MS_MAX + 1}ms"),
        (parse_size_mib, f"{AMOUNT_MAX + 1}M"),
        (parse_cpu_milli, f"{AMOUNT_MAX + 1}m"),
    ):
        with pytest.raises(Misuse, match="more than the largest amount"):
            parse(text, "f")
    with pytest.raises(Misuse, match="more than 40 characters"):
        parse_size_mib("9" * 1000 + "G")


@pytest.mark.parametrize("unit", ["G", "GB", "Gi", "GiB", "g", "gib", " GiB"])
def test_every_spelling_of_a_gibibyte_is_two_to_the_thirty(unit: str) -> None:
    assert parse_size_mib("16" + unit) == 16 * 1024
    assert parse_size_bytes("16" + unit) == 16 * 2**30


@pytest.mark.parametrize(
    ("text", "mib"), [("1.5G", 1536), ("1K", 1), ("1025K", 2), ("0M", 0), ("2T", 2**21)]
)
def test_sizes_are_rounded_up_to_mebibytes(text: str, mib: int) -> None:
    assert parse_size_mib(text) == mib


@pytest.mark.parametrize("wrong", ["16", 16, "16Q", "G", "1.G", "1..5G", "16 G B", ""])
def test_a_size_without_a_known_unit_is_refused_with_what_to_write(wrong: object) -> None:
    with pytest.raises(Misuse) as refused:
        parse_size_mib(wrong, "resources.memory")
    assert '16G"' in refused.value.hint
    assert refused.value.field == "resources.memory"


@pytest.mark.parametrize(
    ("value", "milli"),
    [(2, 2000), ("2", 2000), (0.5, 500), ("500m", 500), (0.1, 100), ("0.0001", 1)],
)
def test_cpus_are_read_as_cores_or_thousandths(value: object, milli: int) -> None:
    assert parse_cpu_milli(value) == milli


@pytest.mark.parametrize("wrong", ["two", "1e3", float("nan"), float("inf"), 1e-7, "", "2G"])
def test_cpus_that_are_no_number_are_refused(wrong: object) -> None:
    with pytest.raises(Misuse, match="cannot read the CPUs"):
        parse_cpu_milli(wrong)


def test_true_is_no_number_of_cpus_even_after_one_was_read() -> None:
    assert parse_cpu_milli(1) == 1000
    with pytest.raises(Misuse, match="bool"):
        parse_cpu_milli(True)


@given(st.integers(0, LIMIT_MS_MAX))
def test_a_formatted_duration_reads_back_as_itself(ms: int) -> None:
    assert parse_duration_ms(format_duration(ms)) == ms


@given(st.integers(0, AMOUNT_MAX))
def test_a_formatted_size_reads_back_as_itself(mib: int) -> None:
    assert parse_size_mib(format_size(mib)) == mib


@given(st.integers(0, AMOUNT_MAX))
def test_formatted_cpus_read_back_as_themselves(milli: int) -> None:
    assert parse_cpu_milli(format_cpus(milli)) == milli


@given(st.integers(0, 10**6), st.text("0123456789", min_size=1, max_size=9))
def test_a_fraction_is_exact_and_rounded_up(whole: int, digits: str) -> None:
    exact = (whole + Fraction(int(digits), 10 ** len(digits))) * 3_600_000
    assert parse_duration_ms(f"{whole}.{digits}h" if exact <= LIMIT_MS_MAX else "0s") == (
        -(-exact.numerator // exact.denominator) if exact <= LIMIT_MS_MAX else 0
    )


@given(st.integers(0, LIMIT_MS_MAX))
def test_a_short_duration_has_at_most_two_units_and_is_never_longer(ms: int) -> None:
    short = parse_duration_ms(format_duration(ms, exact=False))
    assert short <= ms
    assert ms - short <= max(ms // 24, 999)  # below the smaller of two neighbouring units


def test_short_forms_are_what_a_table_shows() -> None:
    assert format_duration(93_784_005, exact=False) == "1d2h"
    assert format_duration(86_405_000, exact=False) == "1d"
    assert format_duration(61_999, exact=False) == "1m1s"
    assert format_duration(250, exact=False) == "250ms"
    assert format_size(128_729, exact=False) == "125.7GiB"
    assert format_size(1500) == "1500MiB"
    assert format_size(1536) == "1.5GiB"
    assert format_cpus(2000) == "2"
    assert format_cpus(125) == "0.125"
