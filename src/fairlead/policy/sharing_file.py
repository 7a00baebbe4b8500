"""Who gets what, in people's words: queues, users, tenants and the policy of a cluster file.

```yaml
policy: fair
queues:
  research: {weight: 2, quota: {gpus: 16, "gpus/H100": 8}, borrow: {gpus: 8}}
  vision: {parent: research, priorities: 10-80, max_running: 20, users: [ada, bob]}
users:
  ada: {weight: 2, limit: {gpus: 8}, max_pending: 100}
tenants:
  nlp: {quota: {gpus: 4}}
```

The same tables stand in config.toml. What is read here is what people wrote: whether it goes
together with a cluster and its jobs is for those to say who know them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from fairlead.model import limits
from fairlead.model.base import Misuse, Record
from fairlead.model.document import Amount, Closed, Level, convert
from fairlead.model.jobs import PolicyConfig, Queue, Tenant, User
from fairlead.model.resources import DIMENSIONS, GPU
from fairlead.model.units import (
    format_cpus,
    format_size,
    parse_cpu_milli,
    parse_duration_ms,
    parse_size_mib,
)

# The words for resources, in the order of DIMENSIONS; "gpus/MODEL" is a GPU type.
WORDS = ("cpus", "memory", "disk", "gpus", "gpu_memory")
_PARSE = (parse_cpu_milli, parse_size_mib, parse_size_mib, parse_cpu_milli, parse_size_mib)
_FORMAT = (format_cpus, format_size, format_size, format_cpus, format_size)
GPU_TYPE = f"{WORDS[GPU]}/"


class QuotaTable(Closed, frozen=True):
    """The most that a tenant may use at once; in the order of DIMENSIONS."""

    cpus: Amount | None = None
    memory: Amount | None = None
    disk: Amount | None = None
    gpus: Amount | None = None
    gpu_memory: Amount | None = None


class TenantTable(Closed, frozen=True):
    """`tenants: NAME`."""

    weight: int = 1
    quota: QuotaTable = QuotaTable()


class QueueTable(Closed, frozen=True):
    """`queues: NAME`. Amounts are by resource: cpus, memory, disk, gpus, gpu_memory, gpus/TYPE."""

    parent: str = ""  # the queue above it; "": the cluster
    weight: int = 1  # of its share beside its siblings
    quota: dict[str, Amount] = {}  # guaranteed
    borrow: dict[str, Amount] = {}  # the most beyond its quota
    lend: dict[str, Amount] = {}  # the most of its quota that others may use
    limit: dict[str, Amount] = {}  # the most at once, whatever is free
    max_running: int | None = None
    max_pending: int = limits.QUEUE_PENDING_MAX
    priority: int | None = None  # of jobs that name none
    priorities: str = ""  # what its jobs may ask for, such as "10-80"
    time_limit: str | int | None = None
    users: tuple[str, ...] = ()  # who may submit to it; none named: whoever may to its parent


class UserTable(Closed, frozen=True):
    """`users: NAME`; the name "*" stands for everybody who is not named."""

    weight: int = 1
    limit: dict[str, Amount] = {}
    max_running: int | None = None
    max_pending: int | None = None


class SharingFile(Closed, frozen=True):
    """The whole file; a part that is not there is not spoken of."""

    policy: str | dict[str, Any] | None = None
    queues: dict[str, QueueTable] | None = None
    users: dict[str, UserTable] | None = None
    tenants: dict[str, TenantTable] | None = None


_COUNTS = {"running_max": "max_running", "pending_max": "max_pending"}
QUEUE = Level(QueueTable, aliases={**_COUNTS, "max_time": "time_limit", "limits": "limit"})
USER = Level(UserTable, aliases={**_COUNTS, "limits": "limit"})
TENANT = Level(TenantTable, below={"quota": Level(QuotaTable)})
_LEVEL = Level(
    SharingFile,
    what="a cluster file",
    example='write for example {"queues": {"research": {"weight": 2}}}',
    aliases={"queue": "queues", "user": "users", "tenant": "tenants"},
    each={"queues": QUEUE, "users": USER, "tenants": TENANT},
)


class Sharing(Record, frozen=True):
    """What a file says. None: it does not speak of that; (): it wants none of them."""

    queues: tuple[Queue, ...] | None = None
    users: tuple[User, ...] | None = None
    tenants: tuple[Tenant, ...] | None = None
    policy: PolicyConfig | None = None


def read_sharing(document: object) -> Sharing:
    """Return what a parsed file says; Misuse with the path of the key where it cannot be."""
    sharing = read_tables(document)
    check_tree({queue.name: queue for queue in sharing.queues or ()})
    return sharing


def read_tables(document: object) -> Sharing:
    """Return what a parsed file says, table by table: parents may be queues that it does not name.

    Misuse with the path of the key.
    """
    file = convert(document, _LEVEL)
    queues = users = tenants = None
    if file.queues is not None:
        queues = tuple(queue_of(name, table) for name, table in file.queues.items())
    if file.users is not None:
        users = tuple(user_of(name, table) for name, table in file.users.items())
    if file.tenants is not None:
        tenants = tuple(tenant_of(name, table) for name, table in file.tenants.items())
    policy = None if file.policy is None else policy_of(file.policy)
    return Sharing(queues=queues, users=users, tenants=tenants, policy=policy)


def policy_of(asked: str | Mapping[str, Any]) -> PolicyConfig:
    """Return the policy that a name, or a table of settings with a `name` to start from, means."""
    # Imported late: a policy needs numpy, and this module is read by those who need no policy.
    from fairlead.policy.registry import policy_config
    from fairlead.policy.settings import override

    if isinstance(asked, str):
        return policy_config(asked)
    settings = dict(asked)
    name = settings.pop("name", "")
    config = policy_config(str(name)) if name else PolicyConfig()
    try:
        return override(config, settings)
    except Misuse as wrong:
        if not name and "no effect" in wrong.message:
            wrong.hint += "; without a name the policy is priority: add name: fair, or whichever"
        prefix = "" if wrong.field.startswith("policy") else "policy."
        wrong.field = f"{prefix}{wrong.field}".rstrip(".")
        raise


def queue_of(name: str, table: QueueTable) -> Queue:
    """Return the queue of a table; Misuse with the path of the key."""
    path = f"queues.{name}"
    least, most = _priorities(table.priorities, f"{path}.priorities")
    priority = min(max(50, least), most) if table.priority is None else table.priority
    if not least <= priority <= most:
        raise Misuse(
            f"the priority {priority} is out of range",
            field=f"{path}.priority",
            hint=f"write {least} to {most}",
        )
    limit = table.time_limit
    queue = Queue(
        name=checked_name(name, path),
        priority=priority,
        pending_max=at_least(1, table.max_pending, f"{path}.max_pending"),
        limit_ms=None if limit is None else _time(limit, f"{path}.time_limit"),
        parent=table.parent,
        weight=_weight(table.weight, f"{path}.weight"),
        quota=amounts(table.quota, f"{path}.quota"),
        borrow=amounts(table.borrow, f"{path}.borrow"),
        lend=amounts(table.lend, f"{path}.lend"),
        most=amounts(table.limit, f"{path}.limit"),
        live_max=_count(0, table.max_running, f"{path}.max_running"),
        priority_min=least,
        priority_max=most,
        users=tuple(dict.fromkeys(checked_name(user, f"{path}.users") for user in table.users)),
    )
    for row, amount in queue.quota.items():
        if amount > queue.most.get(row, amount):
            raise Misuse(
                f"queue {name} is guaranteed {in_words(row, amount)} and may use at most "
                f"{in_words(row, queue.most[row])}",
                field=f"{path}.limit.{word_of(row)}",
                hint="raise the limit, or lower the quota",
            )
    return queue


def user_of(name: str, table: UserTable) -> User:
    """Return the user of a table; Misuse with the path of the key."""
    path = f"users.{name}"
    return User(
        name=checked_name(name, path),
        weight=_weight(table.weight, f"{path}.weight"),
        most=amounts(table.limit, f"{path}.limit"),
        live_max=_count(0, table.max_running, f"{path}.max_running"),
        pending_max=_count(0, table.max_pending, f"{path}.max_pending"),
    )


def tenant_of(name: str, table: TenantTable) -> Tenant:
    """Return the tenant of a table; Misuse with the path of the key."""
    path = f"tenants.{name}"
    quota = tuple(
        None
        if (asked := getattr(table.quota, word)) is None
        else parse(asked, f"{path}.quota.{word}")
        for word, parse in zip(WORDS, _PARSE, strict=True)
    )
    return Tenant(
        name=checked_name(name, path),
        weight=_weight(table.weight, f"{path}.weight"),
        quota=quota if any(amount is not None for amount in quota) else (),
    )


def amounts(asked: Mapping[str, Amount], path: str) -> dict[str, int]:
    """Return amounts by resource, in the units of DIMENSIONS, from {"gpus": 2, "gpus/A100": 1}."""
    found: dict[str, int] = {}
    for word, amount in asked.items():
        kind = GPU if word.startswith(GPU_TYPE) else WORDS.index(word) if word in WORDS else -1
        model = word.removeprefix(GPU_TYPE) if word.startswith(GPU_TYPE) else ""
        if kind < 0 or (word.startswith(GPU_TYPE) and not model.strip()):
            close = difflib.get_close_matches(word, WORDS, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise Misuse(
                f"there is no resource {word}",
                field=f"{path}.{word}",
                hint=f"{hint}known: {', '.join(WORDS)}, and gpus/TYPE for GPUs of one type",
            )
        row = f"{DIMENSIONS[GPU]}/{model}" if model else DIMENSIONS[kind]
        found[row] = _PARSE[kind](amount, f"{path}.{word}")
    return found


def word_of(row: str) -> str:
    """Return the word for a resource: "gpus" for "gpu_milli", "gpus/A100" for its type."""
    kind, slash, model = row.partition("/")
    return WORDS[DIMENSIONS.index(kind)] + slash + model


def in_words(row: str, amount: int) -> str:
    """Return an amount of a resource as people write it: "gpus 2.5", "memory 64GiB"."""
    kind = DIMENSIONS.index(row.partition("/")[0])
    return f"{word_of(row)} {_FORMAT[kind](amount)}"


def check_tree(queues: Mapping[str, Queue]) -> None:
    """Raise Misuse where a parent is not among the queues, or a queue is above itself."""
    for queue in queues.values():
        path, at = f"queues.{queue.name}.parent", queue
        seen = [queue.name]
        while at.parent:
            if at.parent not in queues:
                close = difflib.get_close_matches(at.parent, queues, n=1)
                known = ", ".join(sorted(queues))
                raise Misuse(
                    f"queue {at.name} is below queue {at.parent}, which does not exist",
                    field=f"queues.{at.name}.parent",
                    hint=f"did you mean {close[0]}?" if close else f"the queues are: {known}",
                )
            at = queues[at.parent]
            if at.name in seen:
                circle = " below ".join([*seen[seen.index(at.name) :], at.name])
                raise Misuse(
                    f"the queues form a circle: {circle}",
                    field=path,
                    hint="give one of them another parent, or none",
                )
            seen.append(at.name)
        if len(seen) > limits.QUEUE_DEPTH_MAX:
            raise Misuse(
                f"queue {queue.name} is {len(seen)} levels deep, at most "
                f"{limits.QUEUE_DEPTH_MAX} are allowed",
                field=path,
                hint="give it a parent further up",
            )


def check_guarantees(queues: Iterable[Queue], capacity: Mapping[str, int]) -> None:
    """Raise Misuse where quotas promise more of a resource than there is.

    `capacity` is by resource, in the units of DIMENSIONS; a GPU type that is not in it is absent.
    """
    promised: dict[str, int] = {}
    for queue in queues:
        for row, amount in queue.quota.items():
            promised[row] = promised.get(row, 0) + amount
            there = capacity.get(row, 0)
            if promised[row] > there:
                types = [word_of(each) for each in capacity if "/" in each]
                known = f"; GPU types here: {', '.join(types) or 'none'}" if "/" in row else ""
                raise Misuse(
                    f"the queues are guaranteed {in_words(row, promised[row])} and more, and there "
                    f"is no more than {in_words(row, there)}"
                    if promised[row] != amount
                    else f"queue {queue.name} is guaranteed {in_words(row, amount)}, and there is "
                    f"no more than {in_words(row, there)}",
                    field=f"queues.{queue.name}.quota.{word_of(row)}",
                    hint=f"lower the quotas{known}",
                )


def checked_name(name: str, field: str) -> str:
    """Return a name of a queue, user or tenant; Misuse if it cannot be one."""
    if not name or len(name) > limits.NAME_CHARS_MAX or not name.isprintable():
        hint = f"1 to {limits.NAME_CHARS_MAX} printable characters"
        raise Misuse(f"'{name[:40]}' cannot be a name", field=field, hint=hint)
    return name


def at_least(least: int, value: int, field: str) -> int:
    """Return a whole number from `least` to AMOUNT_MAX; Misuse for another."""
    if value < least:
        raise Misuse(f"{field} must be {least} or more, not {value}", field=field)
    if value > limits.AMOUNT_MAX:
        raise Misuse(f"{field} is {value}, at most {limits.AMOUNT_MAX} is allowed", field=field)
    return value


def _count(least: int, value: int | None, field: str) -> int | None:
    return None if value is None else at_least(least, value, field)


def _weight(value: int, field: str) -> int:
    if not 1 <= value <= limits.WEIGHT_MAX:
        raise Misuse(
            f"{field} must be 1 or more, not {value}"
            if value < 1
            else f"{field} is {value}, at most {limits.WEIGHT_MAX} is allowed",
            field=field,
            hint="weights say how shares compare: 2 gets twice as much as 1",
        )
    return value


def _time(asked: str | int, field: str) -> int:
    return at_least(1, parse_duration_ms(asked, field), field)


def _priorities(text: str, field: str) -> tuple[int, int]:
    if not text:
        return limits.PRIORITY_MIN, limits.PRIORITY_MAX
    least, dash, most = (part.strip() for part in text.partition("-"))
    if not dash or not least.isdecimal() or not most.isdecimal():
        raise Misuse(f"'{text}' is no range of priorities", field=field, hint='such as "10-80"')
    if not limits.PRIORITY_MIN <= int(least) <= int(most) <= limits.PRIORITY_MAX:
        raise Misuse(
            f"the range {text} is not within {limits.PRIORITY_MIN} to {limits.PRIORITY_MAX}, "
            "the lower first",
            field=field,
            hint='such as "10-80"',
        )
    return int(least), int(most)
