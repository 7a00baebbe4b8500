"""Waiting jobs are matched to kinds of hardware: stories with known answers."""

from __future__ import annotations

from test_paces import HOUR, cluster, run

# The seed's example: three tasks, two resources, what each costs on each, in hours.
SEED = [[2, 3], [4, 1], [3, 2]]


def hours(first: int, second: int, **more: object) -> dict[str, object]:
    """Return a job that takes so many hours on the one model, and so many on the other."""
    rates = {"a": 60 / first, "b": 60 / second}
    steps = 60 * 3600
    return {"rates": rates, "total_steps": steps, "job_type": f"{first}-{second}", **more}


def test_the_seeds_example_run_as_jobs_starts_with_the_cheapest_pairs(tmp_path):
    found = run(tmp_path, cluster("a", "b"), "assignment", *(hours(*row) for row in SEED))
    # First 2 + 1, the least for two of three; the third, when "b" is free again, there.
    assert found.nodes == [(0,), (1,), (1,)]
    assert found.end_ms == [2 * HOUR, 1 * HOUR, 3 * HOUR]
