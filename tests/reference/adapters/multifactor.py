"""The kind `multifactor`, answered by policy/fair/multifactor.py."""

from fractions import Fraction

from fairlead.core.decay import ONE
from fairlead.policy.fair.multifactor import fair_factor, part, size_factor, value


def exact(number) -> tuple[int, int]:
    return Fraction(str(number)).as_integer_ratio()


def answer(given: dict) -> dict:
    weights, cluster = given["weights"], given["cluster"]
    points, waits, factors = {}, {}, {}
    for job in given["jobs"]:
        age = part(job["wait_s"], given["max_age_s"])
        fair = fair_factor(
            exact(job["usage_norm"]), exact(job["shares_norm"]), exact(given["dampening"])
        )
        size = size_factor(
            (job["nodes"], cluster["nodes"]),
            (job["cpus"], cluster["cpus"]),
            favour_small=given["favor_small"],
        )
        rest = [part(*exact(job["partition_norm"])), part(*exact(job["qos_norm"]))]
        rest += [part(*exact(job["tres"].get(name, 0))) for name in weights["tres"]]
        names = ("age", "fairshare", "size", "partition", "qos")
        weighing = [*(weights[name] for name in names), *weights["tres"].values()]
        points[job["id"]] = value(weighing, [age, fair, size, *rest], job["nice"])
        waits[job["id"]] = job["wait_s"]
        factors[job["id"]] = {
            name: Fraction(each, ONE)
            for name, each in (("age", age), ("fairshare", fair), ("size", size))
        }
    return {
        "priority": points,
        "order": sorted(points, key=lambda job: (-points[job], -waits[job], job)),
        "factors": factors,
    }
