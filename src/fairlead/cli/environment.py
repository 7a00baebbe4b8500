"""The environment that a job inherits from whoever submits it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fairlead.cli.errors import misuse

# Secrets are passed by name only; the rest would be wrong in a job: another scheduler's variables
# (Lightning would believe to run under Slurm), and what belongs to the terminal.
DENIED_PREFIXES = ("SLURM_", "FAIRLEAD_", "SSH_")
DENIED_SUFFIXES = ("_TOKEN", "_KEY", "_SECRET", "_PASSWORD")
DENIED_NAMES = frozenset({"DISPLAY", "_", "SHLVL", "PWD", "OLDPWD"})


def denied(name: str) -> bool:
    """Whether a variable is left out unless it is named."""
    upper = name.upper()
    return (
        upper in DENIED_NAMES
        or upper.startswith(DENIED_PREFIXES)
        or upper.endswith(DENIED_SUFFIXES)
    )


def captured(environ: Mapping[str, str], *, everything: bool = True) -> dict[str, str]:
    """Return what a job inherits; without `everything` only what a login would set."""
    kept = {
        name: value
        for name, value in environ.items()
        if not denied(name) and (everything or name in ("HOME", "LANG", "LOGNAME", "PATH", "USER"))
    }
    # Bytes that are no text cannot travel as JSON; no program should depend on them.
    return {name: value for name, value in kept.items() if _is_text(name + value)}


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def named(words: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of `--env NAME=VALUE` and, from here, of `--env NAME`."""
    found: dict[str, str] = {}
    for word in words:
        name, given, value = word.partition("=")
        if not name:
            raise misuse(f"--env {word}: a variable needs a name", hint="write --env NAME=VALUE")
        if not given:
            if name not in environ:
                raise misuse(
                    f"--env {name}: there is no such variable here",
                    hint=f"write --env {name}=VALUE, or export it first",
                )
            value = environ[name]
        found[name] = value
    return found
