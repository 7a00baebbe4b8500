"""`queue`, `user` and `tenant`: who may have how much, shown and changed one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import click

from fairlead.cli import output
from fairlead.cli.client import connect, quoted
from fairlead.cli.errors import Failure, misuse
from fairlead.model import amounts
from fairlead.model.units import format_duration

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_AMOUNTS = ("quota", "borrow", "lend", "limit")

Command = Callable[..., None]


def _in_user_words(command: Command) -> Command:
    """Let errors name options."""

    @wraps(command)
    def call(**options: Any) -> None:
        name = options["name"]
        if not name or "/" in name:  # in a path it would be no name
            hint = "letters, digits, and signs such as - _ ."
            raise misuse(f"'{name}' cannot be a name", field="name", hint=hint)
        try:
            command(**options)
        except Failure as failure:
            key = failure.field.partition(".")[0]
            if key in options and key != "name":
                failure.field = "--" + key.replace("_", "-")
                if failure.field not in failure.message:
                    failure.message = f"{failure.field}: {failure.message}"
            raise

    return call


_SETTINGS = {
    "parent": ("QUEUE", "The queue above it; none: the cluster."),
    "weight": ("N", "Of its share, beside its siblings [1]."),
    "quota": ("gpus=8,…", "Guaranteed: cpus, memory, disk, gpus, gpu_memory, gpus/TYPE."),
    "borrow": ("gpus=4,…", "The most it may use beyond its quota; else what is free."),
    "lend": ("gpus=4,…", "The most of its quota that others may use; else all."),
    "limit": ("gpus=16,…", "The most it may use at once, whatever is free."),
    "max_running": ("N", "Jobs that hold resources at once."),
    "max_pending": ("N", "Jobs that wait; more are refused."),
    "priority": ("N", "Of jobs that name none [50]."),
    "priorities": ("LOW-HIGH", "What its jobs may ask for [0-100]."),
    "time_limit": ("DURATION", "The longest a job may ask for, and what it gets by default."),
    "users": ("NAME,…", "Who may submit to it; else whoever may to its parent."),
}
_OF_USERS = ("weight", "limit", "max_running", "max_pending")
_OF_TENANTS = ("weight", "quota")


def _settings(names: Sequence[str]) -> Callable[[Command], Command]:
    """Add an option per setting; the value "none" clears it."""

    def add(command: Command) -> Command:
        for name in reversed(names):
            metavar, text = _SETTINGS[name]
            many = name in _AMOUNTS or name == "users"
            command = click.option(
                "--" + name.replace("_", "-"), name, metavar=metavar, help=text, multiple=many
            )(command)
        return command

    return add


def _table(options: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that were given, as the service reads them."""
    table: dict[str, Any] = {}
    for name, value in options.items():
        if value is None or value == ():
            continue
        if name in _AMOUNTS:
            table[name] = _amounts(name, ",".join(value))
        elif name == "users":
            table[name] = ",".join(value)
        elif name in ("weight", "max_running", "max_pending", "priority"):
            table[name] = _number(name, value)
        else:
            table[name] = value
    return table


def _amounts(name: str, text: str) -> Any:
    if text.strip().lower() == "none":
        return None
    found: dict[str, str] = {}
    option = f"--{name}"
    for part in text.split(","):
        key, equals, value = (each.strip() for each in part.partition("="))
        if not key or not equals or not value:
            raise misuse(
                f"{option}: '{part}' is no RESOURCE=AMOUNT",
                field=option,
                hint=f"write {option} gpus=8,memory=256G, or {option} none",
            )
        if key in found:
            raise misuse(f"{option}: {key} is given twice", field=option, hint="name it once")
        found[key] = value
    return found


def _number(name: str, text: str) -> int | None:
    option = "--" + name.replace("_", "-")
    if text.strip().lower() == "none":
        return None
    try:
        return int(text)
    except ValueError:
        message = f"{option}: '{text[:40]}' is no whole number"
        raise misuse(message, field=option, hint='such as 2; or "none"') from None


def _tell(answer: dict[str, Any], word: str, name: str, *, as_json: bool) -> None:
    """Say what changed."""
    if as_json:
        output.print_json(answer)
        return
    verbs = {"+": "created", "~": "changed", "-": "deleted"}
    for line in answer["changes"]:
        print(f"{verbs[line[0]]} {line[2:]}")
    if not answer["changes"]:
        print(f"{word} {name} is so already")
    for note in answer["notes"]:
        print(f"note: {note}")


def _make(word: str, names: Sequence[str], group: click.Group, examples: str) -> None:
    """Add create, edit and delete to a group: the same for queues, users and tenants."""
    path = f"/{word}s"

    def create(name: str, as_json: bool, **options: Any) -> None:
        answer = connect().put(f"{path}/{quoted(name)}", _table(options), {"new": 1})
        _tell(answer, word, name, as_json=as_json)

    def edit(name: str, as_json: bool, **options: Any) -> None:
        table = _table(options)
        if not table:
            hint = f"see: fairlead {word} edit --help"
            raise misuse("it does not say what to change", hint=hint)
        answer = connect().patch(f"{path}/{quoted(name)}", table)
        _tell(answer, word, name, as_json=as_json)

    def delete(name: str, as_json: bool) -> None:
        answer = connect().delete(f"{path}/{quoted(name)}")
        _tell(answer, word, name, as_json=as_json)

    create.__doc__ = f"Make a {word}.{examples}"
    edit.__doc__ = (
        f'Change some settings of a {word}: the value "none" clears one.\n\nIn amounts, resources '
        "that are not named stay as they are; gpus=none clears one."
    )
    delete.__doc__ = {
        "queue": "Delete a queue that has no jobs and no queues below it.",
        "user": "Delete what is set for a user; its jobs go on.",
        "tenant": "Delete what is set for a tenant; its jobs go on.",
    }[word]
    for command, options in ((create, names), (edit, names), (delete, ())):
        made = click.argument("name")(_settings(options)(_JSON(_in_user_words(command))))
        group.command(command.__name__)(made)


# ---- queues -----------------------------------------------------------------------------------


@click.group(invoke_without_command=True)
@_JSON
@click.pass_context
def queue(ctx: click.Context, as_json: bool) -> None:
    """Queues: who is promised what, and who may use how much. Without a command: list them."""
    if ctx.invoked_subcommand is None:
        _list_queues(as_json=as_json, tree=False)


_make(
    "queue",
    tuple(_SETTINGS),
    queue,
    "\n\n\b\n"
    "fairlead queue create research --quota gpus=8,memory=256G\n"
    "fairlead queue create nlp --parent research --weight 2 --users ann,bob --time-limit 4h\n\n"
    "A queue with queues below it takes no jobs itself. The same again changes nothing.",
)


@queue.command("list")
@_JSON
def list_queues(as_json: bool) -> None:
    """List queues with what they are guaranteed and use, those below others behind them."""
    _list_queues(as_json=as_json, tree=False)


@queue.command("tree")
@_JSON
def tree_of_queues(as_json: bool) -> None:
    """Draw the tree of queues."""
    _list_queues(as_json=as_json, tree=True)


def _list_queues(*, as_json: bool, tree: bool) -> None:
    answer = connect().get("/queues")
    if as_json:
        output.print_json(answer)
        return
    found = answer["queues"]
    labels = _drawn(found) if tree else [each["name"] for each in found]
    header = ["QUEUE", "PARENT", "WEIGHT", "QUOTA", "USING", "BORROWED", "RUN", "WAIT", "LIMIT"]
    rows = [
        [
            label,
            each["parent"] or "-",
            str(each["settings"].get("weight", 1)),
            _said(each["settings"].get("quota")),
            _listed(each["using"]),
            _listed(each["borrowed"]),
            str(each["running"]),
            str(each["waiting"]),
            _said(each["settings"].get("limit")),
        ]
        for label, each in zip(labels, found, strict=True)
    ]
    dropped = {"PARENT"} if tree else set()
    dropped |= {
        name
        for at, name in enumerate(header)
        if name in ("BORROWED", "LIMIT") and all(row[at] == "-" for row in rows)
    }
    keep = [at for at, name in enumerate(header) if name not in dropped]
    rows = [[row[at] for at in keep] for row in rows]
    print(output.table([header[at] for at in keep], rows, right=("WEIGHT", "RUN", "WAIT")))
    for each in found:
        for note in each["notes"]:
            print(f"note: {note}")


def _drawn(found: Sequence[dict[str, Any]]) -> list[str]:
    """Return the names with the branches of the tree before them; those below follow each."""
    lines: list[str] = []
    by_parent: dict[str, list[str]] = {}
    for each in found:
        by_parent.setdefault(each["parent"], []).append(each["name"])
    parents = {each["name"]: each["parent"] for each in found}
    last = {names[-1] for names in by_parent.values()}
    for each in found:
        name = each["name"]
        stem, at = "", each["parent"]
        while at:
            stem = ("   " if at in last else "│  ") + stem
            at = parents[at]
        lines.append(f"{stem}{'└─' if name in last else '├─'} {name}")
    return lines


@queue.command("show")
@click.argument("name")
@_JSON
@_in_user_words
def show_queue(name: str, as_json: bool) -> None:
    """Show one queue: its settings, what holds from those above it, and what it uses."""
    found = connect().get(f"/queues/{quoted(name)}")
    if as_json:
        output.print_json(found)
        return
    settings = found["settings"]
    limit = found["limit_ms"]
    items = [
        ("queue", name),
        ("parent", found["parent"] or "the cluster"),
        ("takes jobs", "no, those below it do" if found["children"] else "yes"),
        ("below it", ", ".join(found["children"])),
        ("weight", str(settings.get("weight", 1))),
        *((key, _said(settings.get(key), "")) for key in _AMOUNTS),
        ("max running", str(settings.get("max_running", ""))),
        ("max pending", str(settings.get("max_pending", ""))),
        ("priority", f"{found['priority']}, of {found['priority_min']}-{found['priority_max']}"),
        ("time limit", format_duration(limit) if limit else ""),
        ("users", ", ".join(found["users"]) or "everybody"),
        ("using", _listed(found["using"])),
        ("borrowed", _listed(found["borrowed"], "")),
        ("could have", _listed(_positive(found["available"]), "") + _more(found["available"])),
        ("jobs", f"{found['running']} run, {found['waiting']} wait"),
        *(("note", note) for note in found["notes"]),
    ]
    print(output.pairs(items))


def _positive(given: dict[str, int]) -> dict[str, int]:
    return {name: max(amount, 0) for name, amount in given.items()}


def _more(given: dict[str, int]) -> str:
    return " more now" if given else ""


def _listed(given: dict[str, int], none: str = "-") -> str:
    """Return amounts in units as "gpus=2,cpus=8"."""
    return amounts.listed(given) if given else none


def _said(given: dict[str, str] | None, none: str = "-") -> str:
    """Return amounts that are words already."""
    return ",".join(f"{name}={amount}" for name, amount in (given or {}).items()) or none


# ---- users and tenants ------------------------------------------------------------------------


@click.group(invoke_without_command=True)
@_JSON
@click.pass_context
def user(ctx: click.Context, as_json: bool) -> None:
    """Users: shares inside queues, and limits over all of them. "*" is everybody else."""
    if ctx.invoked_subcommand is None:
        _list_flat("user", as_json=as_json)


_make(
    "user",
    _OF_USERS,
    user,
    "\n\n\b\n"
    "fairlead user create ann --weight 2\n"
    "fairlead user create '*' --limit gpus=4 --max-running 10\n\n"
    'What "*" says holds for all who have no settings of their own.',
)


@click.group(invoke_without_command=True)
@_JSON
@click.pass_context
def tenant(ctx: click.Context, as_json: bool) -> None:
    """Tenants: who pays for jobs, over all queues, and the most of it at once."""
    if ctx.invoked_subcommand is None:
        _list_flat("tenant", as_json=as_json)


_make("tenant", _OF_TENANTS, tenant, "\n\n\b\nfairlead tenant create nlp --quota gpus=4,cpus=32")


def _flat(word: str, group: click.Group) -> None:
    """Add list and show to a group without a tree."""

    def list_(as_json: bool) -> None:
        _list_flat(word, as_json=as_json)

    def show(name: str, as_json: bool) -> None:
        found = connect().get(f"/{word}s/{quoted(name)}")
        if as_json:
            output.print_json(found)
            return
        settings = found["settings"]
        items = [(word, name), ("settings", "none of its own" if settings is None else "")]
        for key, value in (settings or {}).items():
            text = _said(value) if isinstance(value, dict) else str(value)
            items.append((key.replace("_", " "), text))
        items.append(("using", _listed(found["using"])))
        items.append(("jobs", f"{found['running']} run, {found['waiting']} wait"))
        print(output.pairs(items))

    list_.__doc__ = f"List {word}s: those with settings, and those with jobs."
    show.__doc__ = f"Show one {word}: its settings, and what it uses."
    group.command("list")(_JSON(list_))
    group.command("show")(click.argument("name")(_JSON(_in_user_words(show))))


_flat("user", user)
_flat("tenant", tenant)


def _list_flat(word: str, *, as_json: bool) -> None:
    answer = connect().get(f"/{word}s")
    if as_json:
        output.print_json(answer)
        return
    rows = []
    for each in answer[f"{word}s"]:
        settings = dict(each["settings"] or {})
        weight = settings.pop("weight", 1)
        limits = [
            f"{key} {_said(value) if isinstance(value, dict) else value}"
            for key, value in settings.items()
        ]
        counts = (str(each["running"]), str(each["waiting"]))
        rows.append(
            (each["name"], str(weight), _listed(each["using"]), *counts, ", ".join(limits) or "-")
        )
    header = (word.upper(), "WEIGHT", "USING", "RUN", "WAIT", "LIMITS")
    if rows:
        print(output.table(header, rows, right=("WEIGHT", "RUN", "WAIT")))
    else:
        print(f"nothing is set for any {word}, and none has jobs")
