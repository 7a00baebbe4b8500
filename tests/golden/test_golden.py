"""The log of every release replays to the state that the release had."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from fairlead.core.engine import Core
from fairlead.core.invariants import check
from fairlead.core.snapshot import digest
from fairlead.model.base import Ms
from fairlead.model.events import AnyEvent, Event

LOGS = sorted(Path(__file__).parent.glob("*.jsonl"))


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_the_log_of_a_release_replays_to_its_digest(path: Path) -> None:
    header, *lines = path.read_bytes().splitlines()
    decoder = msgspec.json.Decoder(tuple[Ms, AnyEvent])
    core = Core()
    for line in lines:
        core.apply(*decoder.decode(line))
        check(core)
    assert digest(as_of(path.stem, core.dump())) == msgspec.json.decode(header)["digest"]


# What a release did not know of a job, and of the whole, yet: the state that it had is the rest.
ADDED_SINCE: dict[str, tuple[set[str], set[str]]] = {
    "0.1.0": (
        {
            *("end_ms", "served_ms", "preemptions", "pending_ms", "waited_ms"),
            *("promoted_served_ms", "fruitless", "made_room", "crowd_ms"),
        },
        {"services", "services_seen", "accounts", "crowd_ms", "demand", "demand_next"},
    ),
    "0.2.0": (
        {"fruitless", "made_room", "crowd_ms"},
        {"accounts", "crowd_ms", "demand", "demand_next"},
    ),
}


def as_of(release: str, body: bytes) -> bytes:
    image = msgspec.json.decode(body)
    of_jobs, of_all = ADDED_SINCE.get(release, (set(), set()))
    for each, added in [(image, of_all), *((job, of_jobs) for job in image["jobs"])]:
        for key in added:
            each.pop(key, None)
    return msgspec.json.encode(image)


def test_the_newest_golden_log_has_every_kind_of_event() -> None:
    kinds = {
        msgspec.json.decode(line)[1]["kind"] for line in LOGS[-1].read_bytes().splitlines()[1:]
    }
    assert kinds == {kind.__struct_config__.tag for kind in Event.__subclasses__()}
