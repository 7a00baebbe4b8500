"""Durability: the log of events, snapshots and the table of jobs. Imports model only."""
