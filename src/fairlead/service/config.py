"""config.toml: the policy, tenants, queues, and how much of this machine is lent out.

```toml
predictor = "online"         # of run times: online, last2, learned, none
policy = "priority"          # or a table: [policy] with name or order, placement, overtake, …

[tenants.nlp]
weight = 2
quota = { cpus = 16, memory = "64G", gpus = 2 }

[queues.short]
priority = 60
time_limit = "1h"            # the longest a job may ask for, and what it gets by default

[node]
cpus = 6                     # lend out less than the machine has
memory = "24G"
```
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from fairlead.core.queues import check_alone
from fairlead.model import limits
from fairlead.model.base import Misuse, Record
from fairlead.model.document import Amount, Closed, Level, convert
from fairlead.model.jobs import PolicyConfig, Queue, Tenant, User
from fairlead.model.links import check_links, grouped
from fairlead.model.resources import Node
from fairlead.model.units import (
    format_cpus,
    format_size,
    parse_cpu_milli,
    parse_size_mib,
)
from fairlead.policy import sharing_file
from fairlead.policy.sharing_file import (
    QueueTable,
    TenantTable,
    UserTable,
    queue_of,
    tenant_of,
    user_of,
)

CONFIG_BYTES_MAX = 2**20
PREDICTOR = "online"  # needs no extras, and has quantiles: without these bands have no width


class PolicyTable(Closed, frozen=True):
    """`[policy]`: a name to start from, and what differs from it."""

    name: str = ""
    order: str | None = None
    placement: str | None = None
    cpu_only: str | None = None  # goes to nodes with GPUs: "last", or to "any"
    overtake: str | None = None  # "never", "always", or for how long, such as "15m"
    ageing_per_hour: int | None = None
    ageing_cap: int | None = None
    backfill: int | str | None = None  # how many are promised a start, or "all"
    estimate: str | None = None  # what plans go by: "limit" or "expected"
    shortest: bool | None = None
    preempt: bool | None = None
    min_run: str | None = None
    preemptions_max: int | str | None = None  # or "unlimited"
    levels: tuple[str, ...] | None = None  # of las: times of one GPU
    promote: int | str | None = None  # of las: per cent, or "never"
    history: int | None = None  # of fair: how much past use counts, of 100
    half_life: str | None = None  # after it past use counts half
    weights: str | None = None  # of multifactor: "age:1000,fair:10000"
    max_age: str | None = None  # of multifactor
    elastic: str | None = None  # jobs grow: "never", "idle" or "beside"
    resize_every: str | None = None  # no sooner after their last change
    rebuild: str | None = None  # how long the rest of a gang is held that lost a member
    deadlock: str | None = None  # "avoid", "detect" or "ordered"
    reclaim: str | None = None  # from whom a queue takes back: "any", "lower-priority", "never"
    within: str | None = None  # who gives way in a queue: "lower-priority" or "never"
    defrag: str | None = None  # whether jobs move for a blocked one: "never" or "when-worth"
    restart_cost: str | None = None  # what starting again costs a preempted job, such as "2m"
    lease: str | None = None  # of ftf, themis and policies with plans: how long a round is
    rounds: str | None = None  # of policies with plans: "by-share" or "by-model"
    prices: str | None = None  # of gavel-cost and gavel-slo: "v100:2.5,p100:1.2", per GPU hour
    auction: int | None = None  # of themis: per cent
    part: int | None = None  # of allox: per cent
    share: str | None = None  # who shares a GPU: "any", "known" or "trial"
    trial: str | None = None  # for how long it is tried
    share_gain: int | None = None  # per cent over one alone, of both together
    share_rate: int | None = None  # per cent of its speed alone that each is to keep


class NodeTable(Closed, frozen=True):
    """`[node]`: how much of this machine is lent out, where not all of it; and where things are."""

    cpus: Amount | None = None
    memory: Amount | None = None
    disk: Amount | None = None
    rack: str = ""  # where it is
    switch: str = ""
    nvlink: int = 0  # so many of its GPUs in a row are linked; where the driver does not say it
    pcie: int = 0  # ... are on one PCIe switch
    socket: int = 0  # ... are on one socket
    gpu_links: list[list[int]] | None = None  # what each pair costs that works together


class ConfigFile(Closed, frozen=True):
    """The whole file."""

    policy: str | PolicyTable = ""
    predictor: str = ""
    tenants: dict[str, TenantTable] = {}
    queues: dict[str, QueueTable] = {}
    users: dict[str, UserTable] = {}
    node: NodeTable = NodeTable()


_LEVEL = Level(
    ConfigFile,
    what="the configuration",
    below={"policy": Level(PolicyTable), "node": Level(NodeTable)},
    each={
        "tenants": sharing_file.TENANT,
        "queues": sharing_file.QUEUE,
        "users": sharing_file.USER,
    },
)


class Config(Record, frozen=True):
    """What the file says, checked. The node's amounts are None where it says nothing."""

    policy: PolicyConfig = PolicyConfig()
    predictor: str = PREDICTOR
    tenants: tuple[Tenant, ...] = ()
    queues: tuple[Queue, ...] = ()
    users: tuple[User, ...] = ()
    cpu_milli: int | None = None
    memory_mib: int | None = None
    disk_mib: int | None = None
    where: NodeTable = NodeTable()

    def lent(self, node: Node) -> Node:
        """Return the node with what of it is lent out; Misuse for more than it has."""
        changed: dict[str, Any] = _where(self.where, node)
        for key, field, wanted, has, show in (
            ("cpu_milli", "cpus", self.cpu_milli, node.cpu_milli, format_cpus),
            ("memory_mib", "memory", self.memory_mib, node.memory_mib, format_size),
            ("disk_mib", "disk", self.disk_mib, node.disk_mib, format_size),
        ):
            if wanted is None:
                continue
            if wanted > has:
                raise Misuse(
                    f"node.{field}: {show(wanted)} is more than this machine has, {show(has)}",
                    field=f"node.{field}",
                    hint=f"write at most {show(has)}",
                )
            changed[key] = wanted
        return replace(node, **changed)


def config_path(environ: Mapping[str, str]) -> tuple[Path, bool]:
    """Return where the configuration is, and whether the user named it ($FAIRLEAD_CONFIG)."""
    if named := environ.get("FAIRLEAD_CONFIG", ""):
        return Path(named).expanduser().absolute(), True
    base = environ.get("XDG_CONFIG_HOME", "")
    return (Path(base) if base else Path.home() / ".config") / "fairlead" / "config.toml", False


def load_config(environ: Mapping[str, str]) -> Config:
    """Return the configuration of this user; the defaults where there is no file. Raises Misuse."""
    path, named = config_path(environ)
    try:
        with path.open("rb") as file:
            data = file.read(CONFIG_BYTES_MAX + 1)
    except FileNotFoundError:
        if named:
            raise Misuse(
                f"there is no file {path}",
                field="FAIRLEAD_CONFIG",
                hint="correct FAIRLEAD_CONFIG, or unset it to run with the defaults",
            ) from None
        return Config()
    except OSError as error:
        raise Misuse(f"cannot read {path}: {error.strerror}", field="config") from None
    if len(data) > CONFIG_BYTES_MAX:
        raise Misuse(f"{path} has more than {CONFIG_BYTES_MAX} bytes", field="config")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise Misuse(f"{path} is not UTF-8 text (byte {error.start})", field="config") from None
    return parse_config(text, str(path))


def parse_config(text: str, name: str = "config.toml") -> Config:
    """Return the configuration in this TOML text; a Misuse begins with "name:line: "."""
    document = parse_toml(text, name)
    try:
        return _checked(convert(document, _LEVEL))
    except Misuse as wrong:
        line = toml_line(text, wrong.field)
        where = f"{name}:{line}" if line else name
        key = f"{wrong.field}: " if wrong.field and wrong.field not in wrong.message else ""
        raise Misuse(
            f"{where}: {key}{wrong.message}", field=wrong.field, hint=wrong.hint, code=wrong.code
        ) from None


def parse_toml(text: str, name: str) -> dict[str, Any]:
    """Return the document; a Misuse begins with "name:line: "."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        found = re.search(r" \(at line (\d+), column (\d+)\)$", message)
        # "at end of document" has no line: then it is the last.
        line = found[1] if found else str(len(text.splitlines()))
        message = message[: found.start()] if found else message
        raise Misuse(
            f"{name}:{line}: not TOML: {message[0].lower()}{message[1:]}",
            field="config",
            hint='write key = "value"; text is quoted',
        ) from None


def toml_line(text: str, field: str) -> int:
    """Return the line (from 1) of a key such as "queues.short.priority", or of a table above it.

    0 when it cannot be found. It only has to find what tomllib accepted.
    """
    best, best_parts, table = 0, 0, ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[+\s*([^\]]+?)\s*\]", line):
            path = table = header[1].replace('"', "")
        elif key := re.match(r"\s*([\w\-.\"' ]+?)\s*=", line):
            path = f"{table}.{key[1]}".lstrip(".").replace('"', "")
        else:
            continue
        parts = path.count(".") + 1
        if parts > best_parts and f"{field}.".startswith(f"{path}."):
            best, best_parts = number, parts
    return best


def _checked(file: ConfigFile) -> Config:
    node = file.node
    queues = tuple(queue_of(name, table) for name, table in file.queues.items())
    users = tuple(user_of(name, table) for name, table in file.users.items())
    check_alone(queues, users)
    return Config(
        policy=_policy(file.policy),
        predictor=_predictor(file.predictor),
        tenants=tuple(tenant_of(name, table) for name, table in file.tenants.items()),
        queues=queues,
        users=users,
        cpu_milli=None if node.cpus is None else parse_cpu_milli(node.cpus, "node.cpus"),
        memory_mib=None if node.memory is None else parse_size_mib(node.memory, "node.memory"),
        disk_mib=None if node.disk is None else parse_size_mib(node.disk, "node.disk"),
        where=node,
    )


def _where(table: NodeTable, node: Node) -> dict[str, Any]:
    """Return what changes of a node by where it is, and where its GPUs are."""
    changed: dict[str, Any] = {}
    for key in ("rack", "switch"):
        if name := getattr(table, key):
            changed[key] = name
    groups = {key: getattr(table, key) for key in ("nvlink", "pcie", "socket")}
    for key, count in groups.items():
        if not 0 <= count <= limits.DEVICES_PER_NODE_MAX:
            raise Misuse(
                f"node.{key}: {count} GPUs in a group",
                field=f"node.{key}",
                hint="write how many GPUs in a row belong together",
            )
    if any(groups.values()):
        changed["devices"], changed["links"] = grouped(node.devices, **groups), ()
    if table.gpu_links is not None:
        changed["links"] = check_links(table.gpu_links, len(node.devices), "node.gpu_links")
    return changed


def _predictor(name: str) -> str:
    if name in ("", "none"):
        return name or PREDICTOR
    from fairlead.service.forecasts import build

    build(name)  # says what is wrong with the name, or with what it needs
    return name


def _policy(asked: str | PolicyTable) -> PolicyConfig:
    # Imported late: a policy needs numpy, and this module is read by those who need no policy.
    from fairlead.policy.registry import policy_config
    from fairlead.policy.settings import override

    if asked == "":
        return PolicyConfig()
    if isinstance(asked, str):
        return policy_config(asked)
    config = policy_config(asked.name) if asked.name else PolicyConfig()
    settings = {
        key: value
        for key in PolicyTable.__struct_fields__
        if key != "name" and (value := getattr(asked, key)) is not None
    }
    try:
        return override(config, settings)
    except Misuse as wrong:
        prefix = "" if wrong.field.startswith("policy") else "policy."
        wrong.field = f"{prefix}{wrong.field}".rstrip(".")
        raise
