from hypothesis import given, settings, strategies as st
from fairlead.core.engine import Core
from fairlead.core.ledger import Request
from fairlead.model.events import *
from fairlead.model.jobs import JobSpec
from fairlead.model.resources import *
from fairlead.policy.place import score
from fairlead.policy.place.fit import Fit
from fairlead.policy.migrate import *
from fairlead.policy.defrag import somebody
from fairlead.solve.defrag import Held, Host, plan


def core_of(nodes):
    core = Core()
    jobs = {}
    for i, (name, host) in enumerate(sorted(nodes.items())):
        core.apply(
            0,
            NodeJoined(
                i,
                Node(
                    name=name, cpu_milli=1000, devices=tuple(Device() for _ in range(host.capacity))
                ),
            ),
        )
        used = 0
        for job, held in sorted(host.jobs.items()):
            n = core.next_job
            core.apply(0, Submitted(n, JobSpec(shape=Shape(cpu_milli=0, gpus=held.gpus))))
            core.apply(0, Placed(n, 1, (Slot(i, tuple(range(used, used + held.gpus))),)))
            used += held.gpus
            jobs[n] = (job, held)
    return core, jobs


@st.composite
def clusters(draw):
    nodes, number = {}, 0
    for name in "abcd"[: draw(st.integers(1, 4))]:
        capacity = left = draw(st.integers(2, 8))
        jobs = {}
        for _ in range(draw(st.integers(0, 4))):
            gpus = draw(st.integers(1, 4))
            if gpus <= left:
                cost = draw(st.sampled_from([None, 0, 10, 30, 70]))
                jobs[f"j{number}"] = Held(gpus, cost)
                number, left = number + 1, left - gpus
        nodes[name] = Host(capacity, jobs)
    return nodes


@settings(max_examples=400, deadline=None)
@given(clusters(), st.integers(1, 8), st.integers(1, 2))
def test_it(nodes, need, count):
    found = plan(nodes, need, count)
    core, jobs = core_of(nodes)
    movers = [
        Mover(core.jobs[n], core.shapes[core.jobs[n].shape_id], h.cost)
        for n, (_, h) in jobs.items()
        if h.cost is not None
    ]
    shape = Shape(cpu_milli=0, gpus=need, members=count, spread="distinct-nodes")
    a = cheapest(
        core,
        Fit(core.ledger, score.build("best-fit")),
        (somebody(core, shape), Request(shape)),
        movers,
    )
    assert a.sure
    if found.cost is None:
        assert a.way is None
    else:
        assert a.way is not None and a.way.cost == found.cost, (a, found)
        assert len(a.way.moves) == len(found.moves)
        in_safe_order(core, a.way.moves)
