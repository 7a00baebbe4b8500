"""`submit` and `run`: from options, a script or a file to requests, and to the service."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any

import click
from click.core import ParameterSource

from fairlead.cli import environment, jobfile, output, selectors
from fairlead.cli.client import Client, connect
from fairlead.cli.errors import Failure, misuse, notice
from fairlead.cli.times import localised

# Option -> the key of a request that it sets, as a path. Errors name what the user wrote.
_KEYS = {
    "name": "name",
    "cpus": "resources.cpus",
    "memory": "resources.memory",
    "disk": "resources.disk",
    "gpus": "resources.gpus",
    "gpu_split": "resources.gpu_split",
    "gpu_memory": "resources.gpu_memory",
    "gpu_type": "resources.gpu_type",
    "members": "members",
    "spread": "spread",
    "topology": "topology",
    "priority": "priority",
    "queue": "queue",
    "tenant": "tenant",
    "time_limit": "time_limit",
    "expected": "expected",
    "job_type": "job_type",
    "steps": "steps",
    "deadline": "deadline",
    "preemptible": "preemptible",
    "retry": "retry",
    "workdir": "workdir",
    "array": "array",
    "signal": "preempt.signal",
    "grace": "preempt.grace",
    "restart_cost": "preempt.restart_cost",
    "checkpoint": "checkpoint.path",
    "checkpoint_every": "checkpoint.every",
    "resize_signal": "resize_signal",
    "output_limit": "output_limit",
}
_OPTIONS = (
    click.option("--name", help="To find it again; else the program's."),
    click.option("-c", "--cpus", metavar="N", help="CPUs per member: 2, 0.5, 500m [1]."),
    click.option("-m", "--memory", metavar="SIZE", help="Memory per member, such as 4G."),
    click.option("--disk", metavar="SIZE", help="Scratch space per member."),
    click.option("-g", "--gpus", metavar="N", help="GPUs per member: 2, 0.5, 1.5, H100:2."),
    click.option("--gpu-split", metavar="N,N,…", help="Instead: what it takes of each, 0.5,0.25."),
    click.option("--gpu-memory", metavar="SIZE", help="Memory on each GPU."),
    click.option("--gpu-type", metavar="MODEL,…", help="Acceptable GPU models."),
    click.option("--members", metavar="N", help="Gang size: all start, or none. 2-8: elastic."),
    click.option(
        "--worker",
        multiple=True,
        metavar="NAME:N:KEY=VALUE,…",
        help="N members that differ from others: ps:1:cpus=8.",
    ),
    click.option(
        "--spread",
        type=click.Choice(["any", "same-node", "distinct-nodes"]),
        help="Where members may be.",
    ),
    click.option("--topology", metavar="LEVEL", help="Within one node, rack or switch."),
    click.option("-p", "--priority", metavar="P", help="0 to 100, or low, normal, high."),
    click.option("--queue", metavar="NAME", help="Where it waits [default]."),
    click.option("--tenant", metavar="NAME", help="Who pays: team, account, project."),
    click.option("-t", "--time-limit", metavar="DURATION", help="Stopped after it: 90s, 1h30m."),
    click.option("--expected", metavar="DURATION", help="Your estimate of the run time."),
    click.option("--job-type", metavar="NAME", help="Jobs of one type run equally fast."),
    click.option("--steps", type=int, metavar="N", help="How many it makes in all."),
    click.option("--deadline", metavar="TIME", help="Done by then, or refused: now+4h."),
    click.option(
        "--preemptible/--not-preemptible", default=None, help="Once it runs, others may stop it."
    ),
    click.option("--license", multiple=True, metavar="NAME[=N]", help="Held while it runs."),
    click.option(
        "--may-acquire", multiple=True, metavar="NAME[=N]", help="The most it may acquire then."
    ),
    click.option("--retry", type=int, metavar="N", help="Further attempts after a failure."),
    click.option("--env", multiple=True, metavar="NAME[=VALUE]", help="Set or pass a variable."),
    click.option(
        "--env-pass",
        type=click.Choice(["most", "none"]),
        help="Inherit this environment but secrets and SLURM_* (most), or next to nothing.",
    ),
    click.option("--workdir", metavar="FOLDER", help="Where it runs [here]."),
    click.option("--array", metavar="INDICES", help="One job per index: 0-9, 0-99:2, 1,3,7."),
    click.option("--signal", metavar="NAME", help="Notice before the end [TERM]."),
    click.option("--grace", metavar="DURATION", help="From the notice to the kill [30s]."),
    click.option("--restart-cost", metavar="DURATION", help="What starting again costs it."),
    click.option("--checkpoint", metavar="PATH", help="What it writes when it saves its work."),
    click.option("--checkpoint-every", metavar="DURATION", help="How often it does [unknown]."),
    click.option("--resize-signal", metavar="NAME", help="When members came or left [none]."),
    click.option("--label", multiple=True, metavar="NAME=VALUE", help="To find it again."),
    click.option("--output-limit", metavar="SIZE", help="Output kept per member [256M]."),
    click.option("-f", "--file", metavar="FILE", help="Jobs in YAML, TOML or JSON; - is stdin."),
)


def job_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that describe a job, and the command that it runs."""
    command = click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[COMMAND…]")(
        command
    )
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


# The first word that is no option begins the job's own command line, whose options are its own.
_SETTINGS = {"allow_interspersed_args": False}


@click.command(context_settings=_SETTINGS)
@job_options
@click.option("-q", "--quiet", is_flag=True, help="Print ids only.")
@click.option("--dry-run", is_flag=True, help="Only say what would happen: fairlead plan.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def submit(ctx: click.Context, /, quiet: bool, dry_run: bool, as_json: bool, **options: Any) -> int:
    """Queue a command, a script, or the jobs of a file.

    \b
    fairlead submit --cpus 2 -m 4G -- python train.py --lr 0.1
    fairlead submit train.sh            its #FAIRLEAD lines are options
    fairlead submit -f jobs.yaml
    """
    if dry_run:
        from fairlead.cli.plan import look_ahead

        return look_ahead(ctx, options, as_json=as_json)
    answer = send(ctx, connect(), options)
    if as_json:
        output.print_json(answer)
    elif quiet:
        print("\n".join(map(str, answer["ids"])))
    else:
        print(localised(_receipt(answer)))
    return 0


@click.command(context_settings=_SETTINGS)
@job_options
@click.option("--json", "as_json", is_flag=True, help="Print the ended job as JSON, no output.")
@click.pass_context
def run(ctx: click.Context, /, as_json: bool, **options: Any) -> int:
    """Submit, show the output, and exit as the job did.

    Exit code: the job's own; 128+n when signal n killed it; 124 at its time limit; 126 or 127
    when it could not start; 125 when Fairlead failed. Ctrl-C asks whether to detach or cancel.
    """
    from fairlead.cli.follow import as_service_failure, run_to_end

    client = connect()
    with as_service_failure():
        answer = send(ctx, client, options)
        if len(answer["ids"]) != 1:
            notice(_receipt(answer))
            raise misuse(
                f"run shows the output of one job, these are {len(answer['ids'])}",
                hint="they are submitted; use: fairlead wait ID…, fairlead logs ID",
            )
        return run_to_end(client, answer["jobs"][0], as_json=as_json)


def send(
    ctx: click.Context, client: Client, options: dict[str, Any], path: str = "/jobs"
) -> dict[str, Any]:
    """Submit what the command line asks for, once; return the service's answer.

    `path`: /jobs:plan only asks what would happen.
    """
    words, script = list(options["words"]), ""
    if words and jobfile.is_script(words[0]):
        script = words[0]
        runner, header = jobfile.read_script(script)
        words = [*runner, *words[1:]]
        options = _with_header(ctx, options, script, header)
    explicit = environment.named(options["env"], os.environ)
    base = _request(options, explicit, words, script)
    file = _file(options, words)
    jobs = [_merged(each, base) for each in file.jobs] if file else [base]
    body = {
        "jobs": jobs,
        "request": os.urandom(16).hex(),
        "env": environment.captured(os.environ, everything=options["env_pass"] != "none"),
        "workdir": os.getcwd(),
    }
    try:
        _check_workdirs(jobs)
        answer: dict[str, Any] = client.post(path, body, key=str(body["request"]))
    except Failure as failure:
        raise _in_user_words(failure, file, options) from None
    return answer


def _with_header(
    ctx: click.Context, options: dict[str, Any], script: str, header: list[tuple[int, list[str]]]
) -> dict[str, Any]:
    """Return the options with those of the script below them: the command line wins."""
    merged = dict(options)
    mine = {
        name
        for name in options
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE and name != "words"
    }
    for number, words in header:
        try:
            line = ctx.command.make_context("#FAIRLEAD", list(words))
        except click.exceptions.Exit:
            raise misuse(f"{script}:{number}: this is no option of a job") from None
        except click.UsageError as error:
            raise misuse(f"{script}:{number}: {error.format_message()}", field="script") from None
        for name, value in line.params.items():
            if line.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
                continue
            if name in ("words", "file", "quiet", "dry_run", "as_json"):
                raise misuse(f"{script}:{number}: only options of the job can stand here")
            if isinstance(value, tuple):  # several add up; of equal names the last counts
                merged[name] = (*value, *merged[name])
            elif name not in mine:
                merged[name] = value
    return merged


def _request(
    options: Mapping[str, Any], env: Mapping[str, str], words: list[str], script: str
) -> dict[str, Any]:
    request: dict[str, Any] = {}
    for option, path in _KEYS.items():
        value = options[option]
        if value is None:
            continue
        if option == "gpu_type":
            value = [each.strip() for each in value.split(",")]
        elif option == "members" and value.isdecimal():
            value = int(value)
        elif option == "workdir":
            value = os.path.abspath(os.path.expanduser(value))
        _put(request, path, value)
    if words:
        request["run"] = words
    if script and "name" not in request:
        request["name"] = os.path.basename(script)
    if env:
        request["env"] = dict(env)
    labels = {}
    for label in options["label"]:
        name, given, value = label.partition("=")
        if not name or not given:
            raise misuse(f"--label {label}: a label has a name and a value", hint="--label exp=3")
        labels[name] = value
    if labels:
        request["labels"] = labels
    for option, key in (("license", "licenses"), ("may_acquire", "may_acquire")):
        if options[option]:
            request[key] = _amounts(options[option], "--" + option.replace("_", "-"))
    if options["worker"]:
        request["workers"] = [_worker(word) for word in options["worker"]]
    return request


def _worker(word: str) -> dict[str, Any]:
    """Return one kind of workers: ps, ps:2, or worker:4:cpus=4,gpus=2."""
    name, _, rest = word.partition(":")
    count, _, pairs = rest.partition(":")
    amounts = [pair.partition("=") for pair in pairs.split(",") if pair.strip()]
    if (rest and not count.isdecimal()) or not all(key and value for key, _, value in amounts):
        raise misuse(
            f"--worker {word}: a name, how many, and what each asks for",
            hint="--worker ps:1:cpus=8 --worker worker:4:cpus=4,gpus=2",
        )
    worker: dict[str, Any] = {"name": name, "count": int(count) if count else 1}
    if amounts:
        worker["resources"] = {key.strip(): value.strip() for key, _, value in amounts}
    return worker


def _amounts(words: tuple[str, ...], option: str) -> dict[str, int]:
    """Return amounts of named resources: matlab=2, or matlab for one."""
    found = {}
    for word in words:
        name, given, value = word.partition("=")
        if not name or (given and not value.isdecimal()):
            raise misuse(f"{option} {word}: a name and a whole number", hint=f"{option} matlab=2")
        found[name] = int(value) if given else 1
    return found


def _put(request: dict[str, Any], path: str, value: Any) -> None:
    table, _, key = path.rpartition(".")
    (request.setdefault(table, {}) if table else request)[key] = value


def _file(options: Mapping[str, Any], words: list[str]) -> jobfile.JobFile | None:
    if options["file"] is None:
        if not words:
            raise misuse(
                "there is nothing to run",
                hint="fairlead submit -- COMMAND…, fairlead submit script.sh, or -f jobs.yaml",
            )
        return None
    if words:
        raise misuse("give either a command or -f FILE, not both", hint=shlex.join(words))
    return jobfile.read_job_file(options["file"])


def _merged(job: Any, over: Mapping[str, Any]) -> Any:
    """Return a job of a file with what the command line says; that wins."""
    if not isinstance(job, dict):
        return job  # the service says what is wrong with it
    merged = dict(job)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = (
            {**below, **value} if isinstance(below, dict) and isinstance(value, dict) else value
        )
    return merged


def _check_workdirs(jobs: list[Any]) -> None:
    """Refuse a folder that is not there, now rather than when the job starts."""
    for position, job in enumerate(jobs):
        folder = job.get("workdir") if isinstance(job, dict) else None
        if isinstance(folder, str) and not os.path.isdir(folder):
            field = f"jobs[{position}].workdir" if len(jobs) > 1 else "workdir"
            raise misuse(f"there is no folder {folder}", field=field, hint="create it first")


def _in_user_words(
    failure: Failure, file: jobfile.JobFile | None, options: Mapping[str, Any]
) -> Failure:
    """Return the failure with the option, or with file and line, instead of the key."""
    failure.message, failure.hint = localised(failure.message), localised(failure.hint)
    for option, path in _KEYS.items():
        if failure.field == path and options[option] is not None:
            failure.field = "--" + option.replace("_", "-")
            failure.message = f"{failure.field}: {failure.message}"
            return failure
    kind = re.match(r"(?:jobs\[0\]\.)?workers\[(\d+)\]", failure.field)
    if kind and options["worker"]:
        failure.message = f"--worker {options['worker'][int(kind[1])]}: {failure.message}"
        return failure
    return file.located(failure) if file and failure.field else failure


def _receipt(answer: Mapping[str, Any]) -> str:
    """Return what was accepted, and the reason of each job that does not start now."""
    ids, jobs = answer["ids"], answer["jobs"]
    if len(ids) == 1:
        return _line(jobs[0], answer)
    lines = [f"jobs {selectors.ranges(ids)} ({len(ids)} jobs)"]
    reasons: dict[str, int] = {}
    for job in jobs:
        if job["phase"] == "PENDING":
            # Behind a long queue the answer comes without reasons: ps and why have them.
            reason = job["reason"] or "fairlead why ID says why"
            reasons[reason] = reasons.get(reason, 0) + 1
    shown = f" of the first {len(jobs)}" if len(jobs) < len(ids) else ""
    lines += [f"  {count}{shown} wait: {reason}" for reason, count in reasons.items()]
    return "\n".join(lines)


def _line(job: Mapping[str, Any], answer: Mapping[str, Any]) -> str:
    if job["phase"] == "PENDING":
        reason = job["reason"] or f"fairlead why {job['id']} says why"
        return f"job {job['id']} waits: {reason}{_when(job, answer)}"
    where = ", ".join(dict.fromkeys(job["nodes"]))
    return f"job {job['id']} starts on {where}" if where else f"job {job['id']}"


def _when(job: Mapping[str, Any], answer: Mapping[str, Any]) -> str:
    """Return a second line: the place in the queue, and when it is expected to start."""
    from fairlead.cli import when

    parts = []
    if position := job.get("position"):
        parts.append(f"{when.ordinal(position)} of {answer['waiting']} that wait")
    if soon := when.sentence(answer.get("now_ms", 0), job.get("eta")):
        parts.append(f"expected to start {soon}")
    return f"\n  {'; '.join(parts)}" if parts else ""
