"""Gangs within one node, rack or switch; GPUs of one host; CPU-only work. Stories.

Every way to slots is tried: at once, promised, by preemption, in the place of members that leave,
beside reservations, and one by one where elastic jobs grow.
"""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.admission import admit
from fairlead.core.invariants import check
from fairlead.core.turn import Scheduler
from fairlead.model.base import Refused
from fairlead.model.events import (
    Grown,
    MemberEnded,
    MemberStarted,
    Placed,
    PolicySet,
    StopDecided,
    Submitted,
)
from fairlead.model.jobs import LIVE, Phase
from fairlead.model.links import ACROSS, NVLINK, SOCKET, SWITCH, costs_of, grouped, known_links
from fairlead.model.resources import Device, Node
from fairlead.policy.explain import explain
from fairlead.policy.registry import build, policy_config
from strategies import OK, TERMINATED, cluster, node, spec

GPU = Device(model="A", memory_mib=40_000)


class World:
    """Nodes in racks. What is decided happens, but for ends."""

    def __init__(self, *nodes: Node, policy="fifo-skip", **settings) -> None:
        self.core = cluster(*nodes)
        self.scheduler, self.now = Scheduler(self.core, build), 0
        config = msgspec.structs.replace(policy_config(policy), **settings)
        self.turn(PolicySet(policy=config))

    def turn(self, *inbox):
        decided = []
        while True:
            events = self.scheduler.turn(self.now, list(inbox)).events[len(inbox) :]
            check(self.core)
            decided += events
            inbox = []
            for job in [self.core.jobs[e.job] for e in events if isinstance(e, Placed | Grown)]:
                inbox += [
                    MemberStarted(job=job.id, attempt=job.attempt, rank=rank)
                    for rank in job.ranks
                    if rank not in job.started
                ]
            for event in events:
                if isinstance(event, StopDecided):
                    inbox += self.ends(self.core.jobs[event.job], TERMINATED)
            if not inbox:
                return decided

    def ends(self, job, exit=OK):
        return [
            MemberEnded(job=job.id, attempt=job.attempt, rank=rank, exit=exit)
            for rank in job.ranks
            if rank not in job.exits
        ]

    def submit(self, members=1, **more):
        asked = spec(more.pop("cpus", 1), members=members, **more)
        admit(self.core, asked)
        self.turn(Submitted(job=self.core.next_job, spec=asked))
        return self.core.jobs[self.core.next_job - 1]

    def end(self, *jobs):
        self.turn(*(end for job in jobs for end in self.ends(job)))

    def where(self, job):
        """Return the names of the nodes of a job, rank by rank."""
        return [self.core.nodes[slot.node].spec.name for slot in job.slots]

    def why(self, job):
        found = explain(self.core, self.scheduler.policy, job.id, self.now)
        return " ".join([found.summary, *found.lines])


def racks(*sizes: tuple[int, ...], gpus=True) -> list[Node]:
    """Return racks r1, r2, … of nodes a1, a2, b1, … with so many GPUs (or cores) each."""
    return [
        node(
            f"{chr(97 + rack)}{number}",
            cpus=100 if gpus else size,
            rack=f"r{rack + 1}",
            **({"gpus": size} if gpus else {}),
        )
        for rack, its in enumerate(sizes)
        for number, size in enumerate(its, 1)
    ]


# ---- where members go -----------------------------------------------------------------------


def test_a_gang_within_a_rack_takes_the_rack_with_least_room_and_as_few_nodes_as_possible():
    """algorithms.md 8.3, tree-2 and tree-1: 12 GPUs go to r2 as 6 + 6, 5 to its fullest node."""
    world = World(*racks((4, 2, 8), (6, 6), (8, 8)))
    twelve = world.submit(12, gpus=1, within="rack")
    assert world.where(twelve) == ["b1"] * 6 + ["b2"] * 6
    world.end(twelve)
    assert set(world.where(world.submit(5, gpus=1, within="rack"))) == {"b1"}


def test_what_is_preferred_gives_way_and_what_is_required_waits():
    """tree-3: 20 GPUs fit in no rack. 8 + 8 + 4 where a rack is preferred, refused if required."""
    world = World(*racks((4, 2, 8), (6, 6), (8, 8)))
    with pytest.raises(Refused) as no:
        world.submit(20, gpus=1, within="rack")
    assert "only 16 of 20 members fit at once within one rack" in no.value.message
    assert no.value.hint == (
        "the nearest that can run: cpus: 1, gpus: 1, members: 16, topology: rack, "
        "or topology: {preferred: rack}"
    )
    wide = world.submit(20, gpus=1, near="rack")
    assert world.where(wide) == ["a3"] * 8 + ["c1"] * 8 + ["a1"] * 4
    waits = world.submit(6, gpus=1, within="rack", cpus=1)
    assert set(world.where(waits)) == {"b1"}
    tight = world.submit(9, gpus=1, within="rack")
    assert tight.phase is Phase.PENDING
    assert "8 of 9 members fit within one rack now" in world.why(tight)
    world.end(waits)
    assert world.where(tight) == ["b1"] * 6 + ["b2"] * 3


def test_racks_of_one_switch_are_closer_than_others_and_nodes_without_a_rack_are_alone():
    spread = [
        node(f"n{i}", cpus=4, rack=rack, switch=switch)
        for i, (rack, switch) in enumerate(
            [("r1", "s1"), ("r2", "s1"), ("r1", "s2"), ("", "s2"), ("", ""), ("", "")]
        )
    ]
    world = World(*spread)
    with pytest.raises(Refused):
        world.submit(5, within="rack")  # r1 of s1 is not r1 of s2, and what has none is alone
    eight = world.submit(8, within="switch", near="rack")
    assert world.where(eight) == ["n0"] * 4 + ["n1"] * 4
    assert world.where(world.submit(6, within="switch")) == ["n2"] * 4 + ["n3"] * 2
    with pytest.raises(Refused) as no:
        world.submit(9, within="switch")
    assert "members: 8, topology: switch" in no.value.hint


def test_members_on_distinct_nodes_are_within_one_rack_all_the_same():
    world = World(*racks((8, 8), (8, 8, 8)))
    world.submit(1, gpus=6)
    job = world.submit(3, gpus=4, within="rack", spread="distinct-nodes")
    assert world.where(job) == ["b1", "b2", "b3"]
    with pytest.raises(Refused) as no:
        world.submit(4, gpus=1, within="rack", spread="distinct-nodes")
    assert "only 3 of 4" in no.value.message


# ---- every way to slots ---------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["easy", "conservative", "fifo-backfill2"])
def test_a_promised_start_is_when_one_rack_has_room_not_when_all_together_have(policy):
    world = World(*racks((4, 4), (4, 4)), policy=policy)
    first = world.submit(4, gpus=1, limit_ms=10_000, near="node")
    second = world.submit(4, gpus=1, limit_ms=50_000, near="node")
    third = world.submit(4, gpus=1, limit_ms=20_000, near="node")
    assert [world.where(job)[0] for job in (first, second, third)] == ["a1", "a2", "b1"]
    waits = world.submit(8, gpus=1, within="rack", limit_ms=5_000)
    # 8 GPUs are free when the first has ended, but in one rack only from 20 s on.
    quick = world.submit(4, gpus=1, limit_ms=20_000)  # ends in time
    assert quick.phase is Phase.RUNNING
    world.now = 10_000
    world.end(first)
    assert waits.phase is Phase.PENDING
    world.now = 20_000
    world.end(third, quick)
    assert world.where(waits) == ["b1"] * 4 + ["b2"] * 4
    assert second.phase is Phase.RUNNING


def test_preemption_clears_one_rack_and_leaves_the_other_alone():
    world = World(*racks((4, 4), (4, 4)), policy="srtf")
    jobs = [world.submit(4, gpus=1, expected_ms=90_000 - 1000 * i, near="node") for i in range(4)]
    assert [world.where(job)[0] for job in jobs] == ["a1", "a2", "b1", "b2"]
    short = world.submit(6, gpus=1, within="rack", expected_ms=1_000)
    assert short.phase is Phase.RUNNING
    rack = {name[0] for name in world.where(short)}
    assert rack == {"a"}  # those with most left were there
    assert [job.phase is Phase.RUNNING for job in jobs] == [False, False, True, True]


def test_members_that_leave_make_room_within_one_rack():
    world = World(*racks((4,), (4,), gpus=False), resize_every_ms=0)
    elastic = world.submit(2, members_max=8)
    assert len(elastic.slots) == 8
    wants = world.submit(3, within="rack")
    assert wants.phase is Phase.PENDING and len(elastic.leaving) == 3
    assert len({world.core.nodes[slot.node].spec.rack for slot in elastic.leaving}) == 1
    gone = [
        MemberEnded(job=elastic.id, attempt=1, rank=rank, exit=TERMINATED)
        for rank in sorted(elastic.team.leaving)
    ]
    world.turn(*gone)
    assert len(set(world.where(wants))) == 1


def test_an_elastic_gang_grows_within_its_rack_only_or_there_first():
    required = World(*racks((4, 4), (8, 8), gpus=False))
    job = required.submit(2, members_max=20, within="rack")
    assert set(required.where(job)) == {"a1", "a2"} and len(job.slots) == 8
    required.now += 60_000
    required.turn()
    assert "no room for another member" in required.why(job)
    preferred = World(*racks((2, 4), (8, 8), gpus=False))
    job = preferred.submit(2, members_max=9, near="rack")
    assert preferred.where(job) == ["a1"] * 2 + ["a2"] * 4 + ["b1"] * 3


@pytest.mark.parametrize("policy", ["fifo", "priority", "easy", "conservative", "srtf", "las"])
@given(data=st.data())
def test_whatever_comes_and_goes_a_gang_is_within_what_it_requires(policy, data):
    """The invariants of the core say so after every turn; all get their turn."""
    sizes = st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple)
    world = World(*racks(*data.draw(st.lists(sizes, min_size=1, max_size=3))), policy=policy)
    for _ in range(data.draw(st.integers(1, 12))):
        world.now += 1000
        live = [job for job in world.core.jobs.values() if job.phase in LIVE]
        if live and data.draw(st.booleans()):
            world.end(data.draw(st.sampled_from(live)))
            continue
        ms = data.draw(st.sampled_from([1000, 5000, 30_000]))
        members = data.draw(st.integers(1, 5))
        asked = {
            "gpus": data.draw(st.integers(0, 2)),
            "within": data.draw(st.sampled_from(["", "node", "rack"])),
            "near": data.draw(st.sampled_from(["", "node"])),
            "limit_ms": ms,
            "expected_ms": ms,
        }
        try:
            world.submit(members, **asked)
        except Refused:
            continue
    while live := [job for job in world.core.jobs.values() if job.phase in LIVE]:
        world.now += 1000
        world.end(*live)
    assert not world.core.jobs


# ---- work without GPUs ----------------------------------------------------------------------


@pytest.mark.parametrize("placement", ["best-fit", "worst-fit", "dot-product", "l2", "fgd"])
def test_work_without_gpus_goes_to_nodes_with_gpus_last(placement):
    mixed = [node("g1", cpus=4, gpus=2), node("c1", cpus=16), node("g2", cpus=4, gpus=2)]
    world = World(*mixed, placement=placement)
    jobs = [world.submit(cpus=4) for _ in range(6)]
    where = [world.where(job)[0] for job in jobs]
    assert where[:4] == ["c1"] * 4 and sorted(where[4:]) == ["g1", "g2"]
    world.end(*jobs)
    wide = world.submit(5, cpus=4)  # a gang, too
    assert world.where(wide)[:4] == ["c1"] * 4
    assert world.where(world.submit(gpus=1, cpus=4))[0] in ("g1", "g2")


def test_a_setting_lets_work_without_gpus_go_wherever_it_fits_best():
    mixed = [node("g1", cpus=4, gpus=2), node("c1", cpus=16)]
    for cpu_only, where in (("last", "c1"), ("any", "g1")):
        world = World(*mixed, cpu_only=cpu_only)
        world.submit(gpus=2)
        assert world.where(world.submit(cpus=3)) == [where]  # of g1 nothing would be left over


@pytest.mark.parametrize("policy", ["easy", "conservative", "srtf"])
def test_plans_and_preemption_keep_work_without_gpus_off_nodes_with_gpus_too(policy):
    world = World(node("g1", cpus=8, gpus=2), node("c1", cpus=8), policy=policy)
    busy = world.submit(cpus=8, limit_ms=10_000, expected_ms=10_000)
    assert world.where(busy) == ["c1"]
    gpu = world.submit(cpus=8, gpus=1, limit_ms=10_000, expected_ms=10_000)
    waits = world.submit(cpus=8, limit_ms=10_000, expected_ms=20_000)
    world.now = 10_000
    world.end(busy, gpu)
    assert world.where(waits) == ["c1"]


# ---- GPUs of one host -----------------------------------------------------------------------


def host(**groups: int) -> Node:
    return node("h", cpus=100, devices=grouped((GPU,) * 8, **groups))


def test_jobs_get_the_gpus_that_are_closest_together():
    world = World(host(nvlink=2, pcie=4, socket=4))
    first = world.submit(gpus=1)
    assert first.slots[0].devices == (0,)
    second = world.submit(gpus=2)
    assert second.slots[0].devices == (2, 3)  # not 1 and 2, which are not linked
    third = world.submit(gpus=1)
    assert third.slots[0].devices == (1,)  # no pair is broken for one
    four = world.submit(gpus=4)
    assert four.slots[0].devices == (4, 5, 6, 7)
    world.end(first, second, four)
    three = world.submit(gpus=3).slots[0].devices
    assert three == (0, 2, 3)  # as close as 4, 5, 6, and the lowest numbers


def test_a_host_of_which_nothing_is_known_gives_the_lowest_numbers():
    world = World(node("h", cpus=100, gpus=8))
    world.submit(gpus=1)
    assert world.submit(gpus=2).slots[0].devices == (1, 2)


def test_a_host_with_its_own_table_of_costs_goes_by_it():
    ring = tuple(
        tuple(0 if a == b else 1 if (a - b) % 8 in (1, 7) else 5 for b in range(8))
        for a in range(8)
    )
    world = World(node("h", cpus=100, gpus=8, links=ring))
    jobs = [world.submit(gpus=1) for _ in range(3)]
    world.end(jobs[1])
    taken = {jobs[0].slots[0].devices[0], jobs[2].slots[0].devices[0]}
    pair = world.submit(gpus=2).slots[0].devices
    assert (pair[0] - pair[1]) % 8 in (1, 7) and not taken & set(pair)


def test_that_more_is_learnt_of_how_gpus_are_linked_stops_nothing():
    """A service that was updated finds NVLink where it saw nothing before: the node is the same."""
    from fairlead.model.events import NodeJoined

    world = World(node("h", cpus=100, gpus=8))
    job = world.submit(gpus=2)
    world.turn(NodeJoined(node=0, spec=host(nvlink=4)))
    assert job.phase is Phase.RUNNING and job.attempt == 1
    assert world.submit(gpus=4).slots[0].devices == (4, 5, 6, 7)


def test_pairs_cost_by_what_they_share():
    devices = grouped((GPU,) * 8, nvlink=2, pcie=4, socket=4)
    assert costs_of(tuple((d.island, d.pcie, d.socket) for d in devices))[0] == (
        *(NVLINK, NVLINK, SWITCH, SWITCH),
        *(ACROSS,) * 4,
    )
    apart = grouped((GPU,) * 4, pcie=2)  # nobody spoke of NVLink
    assert costs_of(tuple((d.island, d.pcie, d.socket) for d in apart))[0][1:] == (
        *(SWITCH, SOCKET, SOCKET),
    )


@given(st.sampled_from([(2, 4, 4), (1, 2, 4), (4, 4, 8), (8, 8, 8), (1, 1, 4)]))
def test_what_pairs_cost_tells_the_groups_again(sizes):
    nvlink, pcie, socket = sizes
    devices = grouped((GPU,) * 8, nvlink=nvlink, pcie=pcie, socket=socket)
    cost = costs_of(tuple((d.island, d.pcie, d.socket) for d in devices))
    found, links = known_links((GPU,) * 8, lambda one, other: cost[one][other])
    assert links == ()
    assert costs_of(tuple((d.island, d.pcie, d.socket) for d in found)) == cost


def test_links_from_each_to_the_next_are_kept_as_a_table():
    """A ring, or the mesh of eight V100: groups cannot say it."""
    found, links = known_links((GPU,) * 4, lambda a, b: NVLINK if abs(a - b) in (1, 3) else SOCKET)
    assert len(found) == 4 and links[0] == (0, NVLINK, SOCKET, NVLINK)


def test_jobs_are_moved_so_that_one_rack_has_room():
    world = World(*racks((2, 2), (2, 2)), policy="fifo-skip", defrag="when-worth")
    first, second, third = (world.submit(gpus=2, expected_ms=10**8, limit_ms=10**9) for _ in "abc")
    assert [world.where(job)[0] for job in (first, second, third)] == ["a1", "a2", "b1"]
    world.now = 1000
    world.end(second)
    wants = world.submit(4, gpus=1, within="rack", expected_ms=1000, limit_ms=10**6)
    world.now = 5000
    world.turn()
    assert wants.phase is Phase.RUNNING
    assert len({name[0] for name in world.where(wants)}) == 1
    assert first.phase is third.phase is Phase.RUNNING
