"""The solvers that are not part of the base install."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from fairlead.model.base import Misuse


class Missing(Misuse):
    """A solver is not installed."""


def need(module: str, package: str) -> Any:
    """Return a module of the extra; raises Missing with what to install."""
    try:
        return import_module(module)
    except ImportError:
        hint = "pip install 'fairlead[solve]'"
        message = f"this needs the solver {package}, which is not installed"
        raise Missing(message, field="solver", hint=hint, code="missing-extra") from None
