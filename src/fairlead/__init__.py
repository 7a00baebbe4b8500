"""Fairlead schedules AI work on shared CPUs and GPUs, and says why."""

__version__ = "0.3.0"
