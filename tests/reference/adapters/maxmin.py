"""The kind `maxmin`, answered by policy/fair/maxmin.py."""

from fractions import Fraction

from fairlead.policy.fair.maxmin import Claim, divide


def exact(value) -> Fraction:
    return Fraction(str(value))


def answer(given: dict) -> dict:
    consumers = given["consumers"]
    claims = [
        Claim(exact(each["demand"]), exact(each["weight"]), exact(each.get("guarantee", 0)))
        for each in consumers
    ]
    parts, level = divide(exact(given["capacity"]), claims)
    alloc = {each["id"]: part for each, part in zip(consumers, parts, strict=True)}
    return {"alloc": alloc, "level": level}
