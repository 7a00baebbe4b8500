"""config.toml: what it says is in force; what it says wrongly is shown with file and line."""

from __future__ import annotations

import pytest

from fairlead.model.base import Misuse
from fairlead.model.jobs import PolicyConfig, Queue, Tenant
from fairlead.model.resources import Node
from fairlead.service.config import Config, config_path, load_config, parse_config, toml_line

WHOLE = """
[policy]
name = "sjf-skip"
placement = "worst-fit"

[tenants.nlp]
weight = 2
quota = { cpus = 16, memory = "64G", gpus = 1.5 }

[tenants.vision]

[queues.short]
priority = 60
pending_max = 10
time_limit = "1h"

[node]
cpus = 1.5
memory = "2G"
"""


def test_every_table_becomes_its_record():
    config = parse_config(WHOLE)
    assert config.policy == PolicyConfig(order="sjf", placement="worst-fit", overtake_ms=None)
    assert config.tenants == (
        Tenant(name="nlp", weight=2, quota=(16_000, 65_536, None, 1_500, None)),
        Tenant(name="vision"),
    )
    assert config.queues == (Queue(name="short", priority=60, pending_max=10, limit_ms=3_600_000),)
    assert (config.cpu_milli, config.memory_mib, config.disk_mib) == (1_500, 2_048, None)


def test_a_policy_may_be_just_a_name_or_a_table_of_settings():
    assert parse_config('policy = "fifo"').policy == PolicyConfig(order="fifo", overtake_ms=0)
    settings = parse_config('[policy]\novertake = "30m"\nageing_per_hour = 10')
    assert settings.policy == PolicyConfig(overtake_ms=1_800_000, ageing_per_hour=10)
    assert parse_config('policy = {overtake = "never"}').policy.overtake_ms == 0
    assert parse_config('policy = {overtake = "always"}').policy.overtake_ms is None
    assert parse_config("").policy == PolicyConfig()


@pytest.mark.parametrize(
    ("text", "line", "message", "hint"),
    [
        ("polcy = 'fifo'", 1, "unknown key polcy", "did you mean policy?"),
        ("policy = 'fiof'", 1, "there is no policy 'fiof'", "fifo"),
        ("\n[policy]\nplacement = 'bst-fit'", 3, "bst-fit", "best-fit"),
        ("[policy]\novertake = 30", 2, "policy.overtake: expected text", "quotes"),
        ("[policy]\novertake = '30'", 2, "the duration 30 has no unit", '"never" or "always"'),
        ("[policy]\nageing_per_hour = 0", 2, "starvation bound", ""),
        ("[queues.short]\npriorty = 1", 2, "unknown key queues.short.priorty", "priority"),
        ("[queues.short]\n\npriority = 101", 3, "queues.short.priority", "0 to 100"),
        ("[queues.short]\nmax_pending = 0", 2, "must be 1 or more, not 0", ""),
        ("[queues.short]\ntime_limit = 60", 2, "no unit", '"60m"'),
        ("[queues.short]\ntime_limit = '0s'", 2, "must be 1 or more", ""),
        ("[tenants.nlp]\nweight = 0", 2, "must be 1 or more, not 0", ""),
        ("[tenants.nlp.quota]\nmemory = 64", 2, "the size 64 has no unit", '"64G"'),
        ("[tenants.nlp]\nquota = {memroy = '1G'}", 2, "tenants.nlp.quota.memroy", "memory"),
        ("[node]\ncpus = -1", 2, "cannot be negative", ""),
        ("[node]\nname = 'x'", 2, "unknown key node.name", "cpus"),
        ("x = \n", 1, "not TOML: invalid value", ""),
        ("a = 1\na = 2\n", 2, "not TOML: cannot overwrite", ""),
        ("a = '''\nopen\n", 2, "not TOML", ""),
    ],
)
def test_what_is_wrong_is_shown_with_file_line_and_what_to_write(text, line, message, hint):
    with pytest.raises(Misuse) as caught:
        parse_config(text, "/etc/config.toml")
    assert caught.value.message.startswith(f"/etc/config.toml:{line}: ")
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_the_line_of_a_key_is_found_in_every_way_to_write_it():
    text = 'a = 1\n[t]\nb = 2\n  [t."u v"]\nc.d = 3\n[[list]]\ne = 4\n'
    assert toml_line(text, "a") == 1
    assert toml_line(text, "t.b") == 3
    assert toml_line(text, "t.u v.c.d") == 5
    assert toml_line(text, "t.u v.nowhere") == 4
    assert toml_line(text, "nowhere") == 0


def test_the_file_is_where_xdg_says_or_where_the_user_says(tmp_path):
    folder = tmp_path / "fairlead"
    folder.mkdir()
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert config_path(environ) == (folder / "config.toml", False)
    assert load_config(environ) == Config()  # none there: the defaults
    (folder / "config.toml").write_text("policy = 'fifo'\n")
    assert load_config(environ).policy.order == "fifo"

    named = {"FAIRLEAD_CONFIG": str(tmp_path / "mine.toml")}
    with pytest.raises(Misuse, match="there is no file"):
        load_config(named)  # who names a file means it
    (tmp_path / "mine.toml").write_bytes(b"# caf\xe9\n")
    with pytest.raises(Misuse, match="not UTF-8"):
        load_config(named)
    (tmp_path / "mine.toml").write_bytes(b"#" * (2**20 + 1))
    with pytest.raises(Misuse, match="more than 1048576 bytes"):
        load_config(named)
    with pytest.raises(Misuse, match="cannot read"):
        load_config({"FAIRLEAD_CONFIG": str(tmp_path)})


def test_a_machine_lends_out_what_is_configured_and_never_more_than_it_has():
    node = Node(name="vm", cpu_milli=2_000, memory_mib=4_096, disk_mib=100)
    lent = parse_config(WHOLE).lent(node)
    assert (lent.cpu_milli, lent.memory_mib, lent.disk_mib) == (1_500, 2_048, 100)
    assert Config().lent(node) == node
    with pytest.raises(Misuse) as caught:
        Config(memory_mib=4_097).lent(node)
    assert "node.memory: 4097MiB is more than this machine has, 4GiB" in caught.value.message
