"""Messages between the service, agents and clients: encoded, lost, repeated, late, reordered."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from fairlead.model.base import JobId, Record
from fairlead.model.events import (
    Advised,
    Forecasted,
    PolicySet,
    QueueSet,
    ReservationDeleted,
    ResourceSet,
    SpeedDeleted,
    SpeedSet,
    TenantSet,
    UserDeleted,
    UserSet,
)
from fairlead.model.jobs import JobSpec
from fairlead.model.messages import Desired, Report
from fairlead.model.resources import Node
from fairlead.sim.faults.plan import ReservePlan

if TYPE_CHECKING:
    from fairlead.sim.faults.world import World


SLOW_MS = 60_000


class Word(Record, frozen=True):
    """What an agent sends: its report, and now and then what the machine offers and others use."""

    report: Report
    spec: Node | None = None
    foreign: tuple[int, ...] = ()
    foreign_devices: tuple[int, ...] = ()


class Ask(Record, frozen=True, tag_field="kind"):
    """A call of a client. `number` pairs it with its answer."""

    number: int


class Submit(Ask, frozen=True, tag="submit"):
    """Accept these jobs, all or none."""

    key: str
    specs: tuple[JobSpec, ...]


class Cancel(Ask, frozen=True, tag="cancel"):
    """End these jobs; `now`: without grace."""

    ids: tuple[JobId, ...]
    now: bool = False


class Configure(Ask, frozen=True, tag="configure"):
    """Set a policy, a tenant, a queue or a user, predict, plan, delete a reservation."""

    event: (
        PolicySet
        | TenantSet
        | QueueSet
        | UserSet
        | UserDeleted
        | Forecasted
        | Advised
        | SpeedSet
        | SpeedDeleted
        | ReservationDeleted
        | ResourceSet
    )


class Acquire(Ask, frozen=True, tag="acquire"):
    """A running job asks for more of a named resource."""

    job: JobId
    attempt: int
    name: str
    amount: int


class Release(Ask, frozen=True, tag="release"):
    """A running job gives some of it back."""

    job: JobId
    attempt: int
    name: str
    amount: int


class Reserve(Ask, frozen=True, tag="reserve"):
    """Reserve nodes, or a slot on each."""

    reservation: ReservePlan


class GiveUp(Ask, frozen=True, tag="give-up"):
    """An operator says that this life of a node is over: it is switched off."""

    node: str
    boot: str


class Answer(Record, frozen=True):
    """What a client gets back; `refused` says why not."""

    number: int
    ids: tuple[JobId, ...] = ()
    refused: str = ""


encode = msgspec.json.Encoder().encode
decode_word = msgspec.json.Decoder(Word).decode
decode_desired = msgspec.json.Decoder(Desired).decode
decode_ask = msgspec.json.Decoder(
    Submit | Cancel | Configure | Acquire | Release | Reserve | GiveUp
).decode
decode_answer = msgspec.json.Decoder(Answer).decode


class Network:
    """Delivers encoded messages, each on its own: nothing keeps their order."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.cut: dict[str, int] = {}  # node -> time until which nothing passes
        self.slow: dict[str, int] = {}  # node -> time until which messages may take SLOW_MS
        self.sent = 0

    def send(
        self, message: Any, deliver: Callable[[bytes], None], node: str = "", once: bool = False
    ) -> None:
        """Send a message from or to a node or a client. `once`: the transport never repeats it."""
        world, chance = self.world, self.world.rng.random
        weather = world.plan.weather
        body = encode(message)
        self.sent += 1
        usual = weather.delay_usual_ms
        if not world.faulty:
            world.at(1 + int(chance() * usual), deliver, body)
            return
        if self.cut and self.cut.get(node, 0) > world.now:
            return
        if weather.lost and chance() * 1000 < weather.lost:
            return
        copies = 1
        if weather.repeated and not once and chance() * 1000 < weather.repeated:
            copies = 2
        for _ in range(copies):
            delay = 1 + int(chance() * usual)
            if weather.delayed and chance() * 1000 < weather.delayed:
                delay += int(chance() * weather.delay_max_ms)
            if self.slow and self.slow.get(node, 0) > world.now:
                delay += int(chance() * SLOW_MS)
            world.at(delay, deliver, body)
