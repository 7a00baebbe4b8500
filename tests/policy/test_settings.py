"""Settings of policies in people's words: both ways to write them mean the same."""

from __future__ import annotations

import pytest

from fairlead.model.base import Misuse
from fairlead.model.jobs import PolicyConfig
from fairlead.policy.registry import policy_config
from fairlead.policy.settings import KEYS, configured, override, parse
from fairlead.service.config import PolicyTable, parse_config

HOUR = 3_600_000


def test_a_table_and_the_command_line_know_the_same_keys():
    assert set(PolicyTable.__struct_fields__) - {"name"} == set(KEYS)


@pytest.mark.parametrize(
    ("name", "table", "words", "expected"),
    [
        ("fifo", "backfill = 4", "backfill=4", {"backfill": 4}),
        ("fifo", 'backfill = "all"', "backfill=all", {"backfill": None}),
        ("easy", "backfill = 0", "backfill=0", {"backfill": 0}),
        ("easy", 'estimate = "expected"', "estimate=expected", {"estimate": "expected"}),
        ("easy", "shortest = true", "shortest=true", {"shortest": True}),
        ("easy++", "shortest = false", "shortest=false", {"shortest": False}),
        ("priority", "preempt = true", "preempt=true", {"preempt": True}),
        ("srtf", 'min_run = "5m"', "min-run=5m", {"min_run_ms": 300_000}),
        ("srtf", "preemptions_max = 3", "preemptions_max=3", {"preemptions_max": 3}),
        ("las", 'levels = ["10m", "2h"]', "levels=10m,2h", {"levels_gpu_ms": (600_000, 2 * HOUR)}),
        ("las", "promote = 300", "promote=300", {"promote_percent": 300}),
        ("las", 'promote = "never"', "promote=never", {"promote_percent": None}),
        ("fifo", 'overtake = "never"', "overtake=never", {"overtake_ms": 0}),
        ("fifo", 'overtake = "always"', "overtake=always", {"overtake_ms": None}),
        ("priority", "ageing_cap = 100", "ageing_cap=100", {"ageing_cap": 100}),
        ("fifo", 'placement = "l2"', "placement=l2", {"placement": "l2"}),
    ],
)
def test_a_setting_is_the_same_in_a_table_and_on_the_command_line(name, table, words, expected):
    config = override(policy_config(name), parse([words]))
    assert {key: getattr(config, key) for key in expected} == expected
    assert parse_config(f'[policy]\nname = "{name}"\n{table}').policy == config


@pytest.mark.parametrize(
    ("name", "words", "message", "hint"),
    [
        ("srtf", "minrun=5m", "there is no setting minrun", "did you mean min_run?"),
        ("srtf", "min_run", "is no KEY=VALUE", "such as"),
        ("srtf", "min_run=", "is no KEY=VALUE", "such as"),
        ("srtf", "min_run=5", "no unit", "5m"),
        ("srtf", "within=lower-priority", "within has no effect here", "preempt anyway"),
        ("fifo", "reclaim=some", 'reclaim is some, expected "any"', ""),
        ("srtf", "promote=100", "promote has no effect here", "las"),
        ("fifo", "ageing_per_hour=5", "ageing_per_hour has no effect", "priority"),
        ("fifo", "shortest=true", "shortest has no effect", "backfill"),
        ("easy", "shortest=1", "expected true or false", ""),
        ("easy", "backfill=-1", "expected a whole number from 0", '"all"'),
        ("easy", "backfill=some", "expected a whole number from 0", '"all"'),
        ("easy", "estimate=guess", "limit", ""),
        ("las", "levels=2h,1h", "do not grow", "1h"),
        ("las", "levels=0s,1h", "do not grow", "1h"),
        ("las", "promote=0", "from 1", '"never"'),
        ("fifo", "order=srtf", "without preemption", "preempt"),
        ("srtf", "order=las", "no levels", "levels"),
        ("srtf", "backfill=1", "does not backfill", "backfill to 0"),
        ("easy", "preempt=true", "does not backfill", "preempt to false"),
        ("priority", "ageing_per_hour=0", "starvation bound", ""),
    ],
)
def test_what_cannot_work_is_said_with_what_to_do(name, words, message, hint):
    with pytest.raises(Misuse) as caught:
        override(policy_config(name), parse([words]))
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_a_key_is_set_once():
    with pytest.raises(Misuse, match="min_run is set twice"):
        parse(["min_run=1s", "min-run=2s"])


def test_what_is_there_anyway_does_no_harm():
    config = policy_config("fifo")
    words = ["min_run=0s", "shortest=false", "preemptions_max=unlimited"]
    assert override(config, parse(words)) == config


def test_of_several_policies_a_setting_changes_those_that_have_it():
    found = configured(["fifo", "srtf", "las"], parse(["within=lower-priority", "levels=1h"]))
    assert found["fifo"].within == "lower-priority" and found["fifo"].levels_gpu_ms == ()
    assert found["srtf"] == policy_config("srtf")
    assert found["las"].within == "never"
    assert found["las"].levels_gpu_ms == (HOUR,)
    with pytest.raises(Misuse, match="levels has no effect here"):
        configured(["fifo", "srtf"], parse(["levels=1h"]))
    assert configured(["priority"], {}) == {"priority": PolicyConfig()}
