"""The command line: a thin client of the service, and the tools that need none."""
