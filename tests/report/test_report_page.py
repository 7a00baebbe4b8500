import random
from html.parser import HTMLParser

from fairlead.model.events import MemberEnded, MemberStarted, NodeJoined, Placed, Submitted
from fairlead.model.jobs import Exit, JobSpec
from fairlead.model.resources import Node, Shape, Slot
from fairlead.pages.draw import BARS_SHOWN_MAX, Packer, Scale, round_ticks, timeline
from fairlead.pages.figures import OTHERS, shown_tenants
from fairlead.pages.history import read
from fairlead.pages.page import page, seconds

HOSTILE = """</text><script>alert(1)</script>"'&"""


def log(jobs, *, nodes=1, cpu_milli=4000, names="job", tenants=("vision", "nlp", "risk")):
    """Jobs one after the other on every core of every node in turn."""
    records = [
        (0, NodeJoined(node=n, spec=Node(name=f"node{n}", cpu_milli=cpu_milli)))
        for n in range(nodes)
    ]
    chance = random.Random(1)
    free = [0] * (nodes * cpu_milli // 1000)
    for job in range(1, jobs + 1):
        core = free.index(min(free))
        start = free[core]
        free[core] = end = start + chance.randint(200, 5000)
        shape = Shape(cpu_milli=1000)
        spec = JobSpec(shape=shape, tenant=tenants[job % len(tenants)], name=names)
        slot = Slot(node=core * 1000 // cpu_milli)
        code = 0 if job % 7 else 75
        records += [
            (0, Submitted(job=job, spec=spec)),
            (start, Placed(job=job, attempt=1, slots=(slot,))),
            (start, MemberStarted(job=job, attempt=1)),
            (end, MemberEnded(job=job, attempt=1, exit=Exit(code=code))),
        ]
    rank = {Submitted: 0, MemberEnded: 1, Placed: 2, MemberStarted: 3}
    records.sort(key=lambda record: (record[0], rank.get(type(record[1]), -1)))
    return [(number, at, event) for number, (at, event) in enumerate(records, 1)]


class Checker(HTMLParser):
    """Counts tags, and fails when one is left open or closed twice."""

    VOID = ("meta", "br", "link")

    def __init__(self):
        super().__init__()
        self.open, self.counts = [], {}

    def handle_starttag(self, tag, attrs):
        self.counts[tag] = self.counts.get(tag, 0) + 1
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.counts[tag] = self.counts.get(tag, 0) + 1

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()


def parsed(text):
    checker = Checker()
    checker.feed(text)
    checker.close()
    assert checker.open == []
    return checker.counts


def test_the_page_is_whole_and_needs_nothing_from_elsewhere():
    text = page(read(log(30)))
    counts = parsed(text)
    assert counts["svg"] >= 4
    assert not {"script", "img", "link", "iframe"} & set(counts)
    assert "http://" not in text and "https://" not in text


def test_text_from_users_is_escaped_wherever_it_appears():
    history = read(log(9, names=HOSTILE, tenants=(HOSTILE, "nlp")))
    history.nodes[0] = Node(name=HOSTILE, cpu_milli=4000)
    text = page(history, title=HOSTILE, marks=[(1000, HOSTILE)])
    assert "script" not in parsed(text)
    assert HOSTILE not in text


def test_an_empty_history_gives_a_page_that_says_so():
    assert "No job was ever submitted" in page(read([]))
    assert "No job was ever submitted" in page(read(log(0)))


def test_a_history_of_one_instant_divides_by_nothing():
    events = log(1)[:2]
    parsed(page(read(events)))


def test_a_long_history_gives_a_bounded_page_that_says_what_it_left_out():
    history = read(log(BARS_SHOWN_MAX + 500, nodes=3))
    text = page(history)
    assert f"Drawn are {BARS_SHOWN_MAX:,} of {BARS_SHOWN_MAX + 500:,} bars" in text
    assert len(text) < 6_000_000


def test_many_tenants_share_eight_colours():
    history = read(log(40, tenants=tuple(f"team{n:02}" for n in range(20))))
    shown = shown_tenants(history)
    assert len(shown) == 8
    assert shown[-1] == OTHERS
    parsed(page(history))


def test_bars_on_one_node_never_cover_each_other():
    history = read(log(400))
    drawing = timeline(history, shown_tenants(history), Scale(0, history.last))
    assert len(drawing.bars) == 400
    lane = drawing.lanes[0]
    for a in drawing.bars:
        assert lane.y <= a.y and a.y + a.height <= lane.y + lane.height
        for b in drawing.bars:
            apart = (
                a is b
                or a.x + a.width <= b.x + 1
                or b.x + b.width <= a.x + 1
                or a.y + a.height <= b.y
                or b.y + b.height <= a.y
            )
            assert apart, (a, b)


def test_work_that_fits_only_in_pieces_is_drawn_in_pieces():
    packer = Packer(4000)
    assert packer.take(0, 10, 1000) == [(0, 1000)]
    assert packer.take(0, 99, 1000) == [(1000, 2000)]
    assert packer.take(0, 10, 1000) == [(2000, 3000)]
    assert packer.take(0, 99, 1000) == [(3000, 4000)]
    assert packer.take(10, 20, 2000) == [(0, 1000), (2000, 3000)]
    assert packer.take(20, 30, 500) == [(0, 500)]


def test_work_beyond_what_the_node_has_is_drawn_above_it():
    packer = Packer(1000)
    packer.take(0, 10, 1000)
    assert packer.take(0, 10, 500) == [(1000, 1500)]
    assert packer.height == 1500
    assert packer.take(10, 20, 1500) == [(0, 1500)]


def test_ticks_are_round_and_few():
    for span in (0.3, 1, 7, 59, 61, 600, 4000, 86_400, 700_000, 40_000_000):
        ticks = round_ticks(span)
        assert 1 <= len(ticks) <= 10, span
        assert ticks[-1][0] <= span


def test_times_read_well():
    assert [seconds(value) for value in (None, 0.04, 9.94, 12.4, 200, 18_720)] == [
        "–",
        "0.0 s",
        "9.9 s",
        "12 s",
        "3 min 20 s",
        "5 h 12 min",
    ]
