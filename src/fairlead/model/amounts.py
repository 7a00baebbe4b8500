"""Amounts of resources in people's words: {"gpu_milli": 8000} is "gpus=8"."""

from __future__ import annotations

from collections.abc import Mapping

from fairlead.model.resources import CPU, DIMENSIONS, GPU
from fairlead.model.units import format_cpus, format_size

WORDS = ("cpus", "memory", "disk", "gpus", "gpu_memory")  # of DIMENSIONS, in their order
_WORD = dict(zip(DIMENSIONS, WORDS, strict=True))
_THOUSANDTHS = (DIMENSIONS[CPU], DIMENSIONS[GPU])


def word(resource: str) -> str:
    """Return the word for a resource: "gpus" for "gpu_milli", "gpus/H100" for one type of them."""
    name, slash, model = resource.partition("/")
    return f"{_WORD[name]}{slash}{model}"


def show(resource: str, amount: int) -> str:
    """Return an amount without its resource: "8", "1.5GiB"; the sign stays."""
    if amount < 0:
        return f"-{show(resource, -amount)}"
    thousandths = resource.partition("/")[0] in _THOUSANDTHS
    return format_cpus(amount) if thousandths else format_size(amount)


def of(resource: str, amount: int) -> str:
    """Return "8 gpus", "1 gpu", "16GiB memory"."""
    shown, name = show(resource, amount), word(resource)
    return f"{shown} {name[:-1] if shown == '1' and '/' not in name else name}"


def listed(amounts: Mapping[str, int]) -> str:
    """Return "gpus=8,memory=16GiB", the resources in the order of DIMENSIONS; "none" if empty."""
    rank = {name: at for at, name in enumerate(DIMENSIONS)}
    names = sorted(amounts, key=lambda each: (rank[each.partition("/")[0]], each))
    return ",".join(f"{word(each)}={show(each, amounts[each])}" for each in names) or "none"


def jobs(count: int) -> str:
    """Return "1 job" or "2 jobs"."""
    return "1 job" if count == 1 else f"{count} jobs"
