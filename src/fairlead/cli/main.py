"""`fairlead`: finds the command, imports its module alone, and shows how it failed."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

import click

from fairlead import __version__
from fairlead.cli.errors import FAILED, INTERRUPTED, MISUSE, Failure, misuse, show


class Entry(NamedTuple):
    """Where a command is, and its line in the help."""

    module: str
    name: str
    help: str


_JOBS, _SUBMIT, _FOLLOW = "fairlead.cli.jobs", "fairlead.cli.submit", "fairlead.cli.follow"
_RESERVE, _QUEUES = "fairlead.cli.reservations", "fairlead.cli.queues"
_NAMED = "fairlead.cli.resources"
COMMANDS = {
    "up": Entry("fairlead.cli.service", "up", "Start the service on this machine."),
    "down": Entry("fairlead.cli.service", "down", "Stop the service."),
    "status": Entry("fairlead.cli.service", "status", "Show the service itself."),
    "submit": Entry(_SUBMIT, "submit", "Queue a command, a script, or the jobs of a file."),
    "run": Entry(_SUBMIT, "run", "Submit, show the output, and exit as the job did."),
    "plan": Entry("fairlead.cli.plan", "plan", "Say what would happen, without submitting."),
    "ps": Entry(_JOBS, "ps", "List jobs: where they are, and why they wait."),
    "show": Entry(_JOBS, "show", "Show everything about a job, and its history."),
    "why": Entry(_JOBS, "why", "Explain why a job waits, or where it was placed."),
    "logs": Entry(_FOLLOW, "logs", "Show what a job wrote."),
    "cancel": Entry(_JOBS, "cancel", "Cancel jobs."),
    "wait": Entry(_FOLLOW, "wait", "Wait until jobs have ended, and exit as they did."),
    "history": Entry(_JOBS, "history", "List jobs that have ended."),
    "nodes": Entry("fairlead.cli.nodes", "nodes", "List machines and what is free on them."),
    "node": Entry(_RESERVE, "node", "Drain a machine, and resume it."),
    "reservation": Entry(_RESERVE, "reservation", "Keep machines or amounts for a time."),
    "defrag": Entry("fairlead.cli.defrag", "defrag", "Make room by moving running jobs."),
    "queue": Entry(_QUEUES, "queue", "Queues: their tree, quotas and limits."),
    "user": Entry(_QUEUES, "user", "Users: their shares and limits."),
    "tenant": Entry(_QUEUES, "tenant", "Tenants: their quotas."),
    "apply": Entry("fairlead.cli.apply", "apply", "Set queues, users and policy from a file."),
    "share": Entry("fairlead.cli.share", "share", "Show who is entitled to what, and borrows it."),
    "usage": Entry("fairlead.cli.share", "usage", "Show what was used, by whom."),
    "resource": Entry(_NAMED, "resource", "Licences, volumes, locks: who holds how many."),
    "acquire": Entry(_NAMED, "acquire", "In a job: take some of a named resource."),
    "release": Entry(_NAMED, "release", "In a job: give back some of a named resource."),
    "checkpoint": Entry(
        "fairlead.cli.checkpoint", "checkpoint", "In a job: say that its work is saved."
    ),
    "speeds": Entry("fairlead.cli.speeds", "speeds", "How fast types of jobs are, on which GPU."),
    "metrics": Entry("fairlead.cli.metrics", "metrics", "Print metrics, for Prometheus."),
    "doctor": Entry("fairlead.cli.service", "doctor", "Check this machine and the service."),
    "report": Entry("fairlead.cli.report", "report", "Make an HTML page of what happened."),
    "store": Entry("fairlead.cli.store", "store", "Check, rebuild or export the database."),
    "predict": Entry("fairlead.cli.predict", "predict", "Forecast run times, and check forecasts."),
    "solve": Entry("fairlead.cli.solve", "solve", "Assign tasks to resources, provably."),
    "sim": Entry("fairlead.cli.sim", "sim", "Simulate: replay traces, compare policies."),
}
ALIASES = {"ls": "ps", "log": "logs", "kill": "cancel", "explain": "why"}


class Commands(click.Group):
    """The commands of `COMMANDS`; each module is imported when its command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command; None if there is none of that name."""
        entry = COMMANDS.get(ALIASES.get(cmd_name, cmd_name))
        if entry is None:
            return None
        command = getattr(import_module(entry.module), entry.name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command of the first word; suggest the nearest when it is misspelt."""
        name = args[0]
        if not name.startswith("-") and ALIASES.get(name, name) not in COMMANDS:
            from difflib import get_close_matches

            close = get_close_matches(name, [*COMMANDS, *ALIASES], n=1)
            hint = f"did you mean: fairlead {close[0]}" if close else "see: fairlead --help"
            raise misuse(f"there is no command '{name}'", hint=hint, code="unknown-command")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])


@click.command(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option("--state", metavar="FOLDER", help="Of the service; else FAIRLEAD_STATE, else XDG.")
@click.version_option(__version__, prog_name="fairlead", message="%(prog)s %(version)s")
def fairlead(debug: bool, state: str | None) -> None:
    """Schedule AI work on this machine's CPUs and GPUs, and say why it waits."""
    if state:
        os.environ["FAIRLEAD_STATE"] = os.path.abspath(state)
    if debug:
        os.environ["FAIRLEAD_DEBUG"] = "1"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 failed or refused, 2 misuse."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    code = _run(words)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _forget_stdout()
    sys.exit(code)


def _run(words: list[str]) -> int:
    try:
        return _invoke(words)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BrokenPipeError:
        _forget_stdout()  # `fairlead ps | head` has seen enough; that is no failure
        return 0
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except Exception as error:
        if os.environ.get("FAIRLEAD_DEBUG"):
            raise
        failure = _failure_of(error)
        show(failure, as_json=_wants_json(words))
        return failure.exit_code


def _invoke(words: list[str]) -> int:
    """Run a command and return what it returns as its exit code, else 0."""
    if "_FAIRLEAD_COMPLETE" in os.environ:
        fairlead.main(words, prog_name="fairlead")  # Click's own: completion for the shell
    try:
        # Not `fairlead.main`: that turns a broken pipe into a failure.
        with fairlead.make_context("fairlead", words) as ctx:
            result = fairlead.invoke(ctx)
    except click.exceptions.Exit as end:  # --help, --version
        return end.exit_code
    return result if isinstance(result, int) else 0


def _failure_of(error: Exception) -> Failure:
    """Return the error as one that can be shown in a line."""
    if isinstance(error, Failure):
        return error
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        assert error.ctx is not None and isinstance(error.ctx.command, click.Group)
        path, below = error.ctx.command_path, error.ctx.command.list_commands(error.ctx)
        return misuse(f"{path} needs a command: {', '.join(below)}", hint=f"see: {path} --help")
    if isinstance(error, click.UsageError):
        path = error.ctx.command_path if error.ctx else "fairlead"
        near = getattr(error, "possibilities", None)  # of an option that does not exist
        hint = f"did you mean {' or '.join(near)}?" if near else f"see: {path} --help"
        message = (error.message if near else error.format_message()).rstrip(".")
        return misuse(message[:1].lower() + message[1:], hint=hint)
    if isinstance(error, click.ClickException):
        return Failure(error.format_message(), exit_code=MISUSE)
    # Only who imported the model can have raised its errors.
    base = sys.modules.get("fairlead.model.base")
    if base is not None and isinstance(error, base.Misuse):
        code = FAILED if isinstance(error, base.Refused) else MISUSE
        named = error.field.rpartition(".")[2] in error.message
        return Failure(
            error.message if named else f"{error.field}: {error.message}",
            hint=error.hint,
            code=error.code,
            field=error.field,
            exit_code=code,
        )
    if base is not None and isinstance(error, base.StoreFailed):
        return Failure(f"the log cannot be written: {error}", code="store-failed")
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return Failure(f"{where}{error.strerror or error}", code="os-error")
    return Failure(
        f"internal error: {type(error).__name__}: {error}",
        hint="this is a bug of Fairlead; fairlead --debug … shows where",
        code="internal",
    )


def _wants_json(words: list[str]) -> bool:
    return "--json" in words[: words.index("--")] if "--" in words else "--json" in words


def _forget_stdout() -> None:
    """Let nothing be written to the closed pipe when the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
