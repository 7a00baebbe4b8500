"""Fairlead schedules AI work on shared CPUs and GPUs, and says why."""

from fairlead.progress import report

__all__ = ["__version__", "report"]
__version__ = "0.4.0"
