"""ElasticFlow, by fairlead.policy.elastic."""

from __future__ import annotations

from typing import Any

from fairlead.policy import elastic
from fairlead.policy.elastic import Elastic


def answer(given: dict[str, Any]) -> dict[str, Any]:
    jobs = [
        Elastic(
            id=job["id"],
            work=job["work"],
            deadline_slot=job["deadline_slot"],
            rates={int(gpus): rate for gpus, rate in job["rate"].items()},
        )
        for job in given["jobs"]
    ]
    done = elastic.admit(jobs, given["gpus"])
    return {
        "mss": {job.id: elastic.minimum_share(job, given["gpus"]) for job in jobs},
        "admitted": list(done.admitted),
        "plan": done.plan,
    }
