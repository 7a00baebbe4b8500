"""A simulated machine: its disk, its processes, a supervisor per member, and the real agent.

Mirrors backends/local/host.py and supervisor.py: what they keep in memory dies with them, what
they write survives them, and processes die only of their own end, of a kill, or with the machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from fairlead.backends.local.agent import Action, Agent, MemberRecord, Start, Stop
from fairlead.model.base import Ms
from fairlead.model.jobs import Exit
from fairlead.model.messages import Launch, MemberKey, MemberState, Progress
from fairlead.model.resources import DIMENSIONS, Node
from fairlead.sim.faults.network import Word, decode_desired
from fairlead.sim.faults.plan import EPOCH_MS, Fate

if TYPE_CHECKING:
    from fairlead.sim.faults.world import World

KILLED = Exit(signal=9)
LOST = Exit(why="lost", detail="its supervisor was killed; how the command ended is unknown")
NOTHING = (0,) * len(DIMENSIONS)


class Folder:
    """What is on the disk about a member: launch.json, started.json, exit.json."""

    __slots__ = ("cores", "exit", "launch", "started_ms")

    def __init__(self, launch: Launch, cores: tuple[int, ...]) -> None:
        self.launch, self.cores = launch, cores
        self.started_ms: Ms | None = None
        self.exit: tuple[Exit, Ms] | None = None


class Member:
    """The truth about one member: its supervisor and its process tree."""

    __slots__ = ("exit", "fate", "hasty", "key", "launch", "stopping", "supervised", "tree")

    def __init__(self, launch: Launch, fate: Fate) -> None:
        self.launch, self.fate = launch, fate
        self.key = launch.key
        self.supervised = True  # the supervisor lives
        self.tree = False  # some process of it lives
        self.exit: Exit | None = None  # of the command itself
        self.stopping = False  # the supervisor was told to stop it
        self.hasty = False  # … without grace


class Machine:
    """One node. `spec` is what it offers in its present life."""

    def __init__(self, world: World, spec: Node) -> None:
        self.world, self.name = world, spec.name
        self.life = 0  # of the machine: its boot id
        self.spec = spec
        self.up = False
        self.lost = False  # for good
        self.agent: Agent | None = None
        self.agent_life = 0
        self.seen = 0  # on disk
        self.folders: dict[MemberKey, Folder] = {}  # on disk
        self.members: dict[MemberKey, Member] = {}  # whose supervisor or processes live
        self.foreign: tuple[int, ...] = NOTHING
        self.foreign_devices: tuple[int, ...] = ()
        self.agent_dies_after: int | None = None  # so many more actions
        self._todo: list[Action] = []
        self._word_due = False
        self._describe = True  # in the next word: what the machine offers, and who else is there
        self._reported = -1  # the agent's state of which the last word told

    def clock(self) -> Ms:
        """Return the machine's own wall clock."""
        return EPOCH_MS + self.world.now + self.world.plan.skews.get(self.name, 0)

    # ---- the machine --------------------------------------------------------------------------

    def start(self) -> None:
        """Boot: a new life."""
        if self.up or self.lost:
            return
        self.life += 1
        self.spec = replace(self.spec, boot=f"{self.name}.{self.life}")
        self.up = True
        self.foreign, self.foreign_devices = NOTHING, ()
        self.world.tell(0, "{} boots, life {}", self.name, self.life)
        self.world.at(self.world.rng.randint(0, 50), self.start_agent, self.life)

    def die(self, *, wipe: bool = False) -> None:
        """Power off: every process, the supervisors and the agent are gone; the disk stays."""
        self.world.tell(0, "{} dies{}", self.name, ", its disk is wiped" if wipe else "")
        self.up = False
        self.stop_agent()
        for member in list(self.members.values()):
            member.supervised = False
            if member.tree:
                self._tree_gone(member)
        self.members.clear()
        if wipe:
            self.folders.clear()
            self.seen = 0

    def heal(self) -> None:
        """No more faults: everything that can come back does."""
        self.agent_dies_after = None
        self.foreign, self.foreign_devices = NOTHING, ()
        if self.up:
            self.start_agent(self.life)
        else:
            self.start()

    def set_foreign(self, amounts: tuple[int, ...], devices: tuple[int, ...]) -> None:
        """Others now use this much."""
        if self.up:
            self.foreign = amounts
            self.foreign_devices = tuple(d for d in devices if d < len(self.spec.devices))
            self._describe = True
            self._word_soon()

    # ---- the agent ----------------------------------------------------------------------------

    def start_agent(self, life: int) -> None:
        """Start the agent of this life of the machine, from what the disk says."""
        if not self.up or life != self.life or self.agent is not None:
            return
        known = [
            MemberRecord(
                state=MemberState(job=key[0], attempt=key[1], rank=key[2], state="starting"),
                cpu_milli=folder.launch.shape.cpu_milli,
                cores=folder.cores,
            )
            for key, folder in self.folders.items()
        ]
        cores = range(self.spec.cpu_milli // 1000)
        self.agent = Agent(self.name, self.spec.boot, cores, known, self.seen)
        self.agent_life += 1
        self._describe = True
        self.world.tell(0, "the agent of {} starts, had seen {}", self.name, self.seen)
        for key in list(self.folders):
            self._settle(key, self.agent_life)
        self._word_soon()
        self.world.at(self.world.plan.heartbeat_ms, self._beat, self.agent_life)

    def stop_agent(self) -> None:
        """The agent is killed; what it had yet to do is forgotten."""
        if self.agent is not None:
            self.world.tell(0, "the agent of {} dies with {} to do", self.name, len(self._todo))
        self.agent = None
        self.agent_dies_after = None
        self._todo.clear()

    def receive(self, body: bytes) -> None:
        """A Desired arrives."""
        agent = self.agent
        if agent is None:
            return
        message = decode_desired(body)
        actions = agent.desired(message)
        self.seen = agent.seen  # durable before anything is done
        if actions:
            if not self._todo:
                self.world.at(int(self.world.rng.random() * 4), self._work, self.agent_life)
            self._todo += actions
        self._word_soon()

    def _work(self, agent_life: int) -> None:
        if self.agent is None or agent_life != self.agent_life:
            return
        todo, self._todo = self._todo, []
        for action in todo:
            if self.agent_dies_after is not None:
                self.agent_dies_after -= 1
                if self.agent_dies_after <= 0:
                    self.stop_agent()
                    self.world.at(self.world.rng.randint(1, 5_000), self.start_agent, self.life)
                    return
            if isinstance(action, Start):
                self._launch(action)
            elif isinstance(action, Stop):
                self._stop(action.key, action.now)
            else:
                self.folders.pop(action.key, None)
        self._word_soon()

    def _beat(self, agent_life: int) -> None:
        if self.agent is None or agent_life != self.agent_life:
            return
        for key, record in self.agent.members.items():
            if record.state.started_ms is None and record.state.state != "ended":
                self._look_for_start(key)
            if key in self.members and record.state.started_ms is not None:
                self.agent.progressed(key, self._progress(key, record.state.started_ms))
        self._describe = True
        self._send_word()
        self.world.at(self.world.plan.heartbeat_ms, self._beat, agent_life)

    def _progress(self, key: MemberKey, started_ms: Ms) -> Progress:
        """Return how far a member is: a step in 100 ms, from where an earlier attempt may be."""
        now = self.clock()
        steps = max(0, now - started_ms) // 100 + 5 * (key[1] - 1)
        return Progress(steps=steps, at_ms=now)

    def _word_soon(self) -> None:
        if self.agent is not None and not self._word_due:
            self._word_due = True
            self.world.at(1, self._word_now)

    def _word_now(self) -> None:
        self._word_due = False
        if self.agent is not None and (self._describe or self._reported != self.agent.changes):
            self._send_word()

    def _send_word(self) -> None:
        assert self.agent is not None
        report = self.agent.report()
        self._reported = self.agent.changes
        word = Word(report=report)
        if self._describe:
            self._describe = False
            word = Word(
                report=report,
                spec=self.spec,
                foreign=self.foreign,
                foreign_devices=self.foreign_devices,
            )
        self.world.network.send(word, self.world.service.hear, self.name)

    def _settle(self, key: MemberKey, agent_life: int) -> None:
        """The agent looks at a member that it does not watch: running, ended, or lost."""
        agent = self.agent
        folder = self.folders.get(key)
        if agent is None or agent_life != self.agent_life or folder is None:
            return
        if key not in agent.members:
            return
        member = self.members.get(key)
        if member is not None and member.supervised:
            self._look_for_start(key)
            if agent.members[key].state.state == "stopping":
                self._stop(key, False)
            return
        if folder.exit is None and member is not None and member.tree:
            self.world.tell(key[0], "{}: the agent kills what is left of {}", self.name, key)
            self.world.at(self.world.rng.randint(1, 500), self._kill_remains, key, agent_life)
            return
        if folder.exit is None:
            folder.exit = (LOST, self.clock())
        how, ended_ms = folder.exit
        agent.ended(key, how, folder.started_ms, ended_ms)
        self._word_soon()

    def _kill_remains(self, key: MemberKey, agent_life: int) -> None:
        if self.agent is None or agent_life != self.agent_life:
            return
        member = self.members.get(key)
        if member is not None and member.tree:
            self._tree_gone(member)
        self._settle(key, agent_life)

    def _look_for_start(self, key: MemberKey) -> None:
        folder = self.folders.get(key)
        if self.agent is not None and folder is not None and folder.started_ms is not None:
            self.agent.started(key, folder.started_ms)

    # ---- members ------------------------------------------------------------------------------

    def _launch(self, action: Start) -> None:
        launch = action.launch
        if launch.devices and max(launch.devices) >= len(self.spec.devices):
            assert self.agent is not None
            how = Exit(why="cannot-start", detail="no such GPU on this machine")
            self.agent.ended(launch.key, how, None, self.clock())
            return
        fate = self.world.plan.jobs[launch.spec.name].fate(launch.attempt, launch.rank)
        self.folders[launch.key] = Folder(launch, action.cores)
        member = self.members[launch.key] = Member(launch, fate)
        self.world.at(fate.start_ms, self._execute, member)

    def _execute(self, member: Member) -> None:
        if not member.supervised:
            return
        folder = self.folders[member.key]
        if member.fate.cannot_start:
            member.exit = Exit(code=127, why="cannot-start", detail="no such command")
            self.world.tell(member.key[0], "{}: {} cannot start", self.name, member.key)
            self._supervisor_ends(member)
            return
        member.tree = True
        self.world.oracles.process_starts(self, member)
        self.world.clients.process_starts(member.launch)
        folder.started_ms = self.clock()
        if not member.fate.mute:
            self._notify(member.key)
        if member.fate.run_ms is not None:
            code = member.fate.code
            how = Exit(code=code) if code < 128 else Exit(signal=code - 128)
            self.world.at(member.fate.run_ms, self._command_ends, member, how)
        if member.hasty:
            self._kill(member)
        if member.stopping:
            self._signal(member)

    def _notify(self, key: MemberKey) -> None:
        self._look_for_start(key)
        self._word_soon()

    def _stop(self, key: MemberKey, now: bool) -> None:
        member = self.members.get(key)
        if member is None or not member.supervised:
            return
        if now and member.tree:
            self.world.tell(key[0], "{}: the supervisor of {} is told to kill it", self.name, key)
            self.world.at(0, self._kill, member)
        member.hasty = member.hasty or now
        if member.stopping:
            return
        self.world.tell(key[0], "{}: the supervisor of {} is told to stop it", self.name, key)
        member.stopping = True
        if member.tree:
            self._signal(member)

    def _signal(self, member: Member) -> None:
        """The supervisor sends the notice; after the grace it kills the tree."""
        fate, spec = member.fate, member.launch.spec
        if fate.notice_ms is not None:
            code = fate.notice_code
            how = Exit(signal=spec.stop_signal) if code is None else Exit(code=code)
            self.world.at(fate.notice_ms, self._command_ends, member, how)
        self.world.at(spec.grace_ms, self._kill, member)

    def _command_ends(self, member: Member, how: Exit) -> None:
        if not member.tree or member.exit is not None:
            return
        member.exit = how
        self.world.at(member.fate.leftover_ms, self._tree_ends, member)

    def _kill(self, member: Member) -> None:
        if member.tree and member.supervised:
            if member.exit is None:
                member.exit = KILLED
            self.world.at(1, self._tree_ends, member)

    def _tree_ends(self, member: Member) -> None:
        if member.tree:
            self._tree_gone(member)
            self._supervisor_ends(member)

    def _tree_gone(self, member: Member) -> None:
        member.tree = False
        if not member.supervised:
            self.members.pop(member.key, None)
        self.world.oracles.process_ends(self, member)

    def _supervisor_ends(self, member: Member) -> None:
        """The supervisor writes exit.json and ends; the agent, if there is one, notices."""
        if not member.supervised:
            return
        assert member.exit is not None
        member.supervised = False
        self.folders[member.key].exit = (member.exit, self.clock())
        self.members.pop(member.key, None)
        self.world.at(1, self._settle, member.key, self.agent_life)

    def kill_supervisor(self, chance: int) -> None:
        """Kill the supervisor of one member; what it supervised lives on."""
        keys = [key for key, member in sorted(self.members.items()) if member.supervised]
        if not keys:
            return
        key = keys[chance % len(keys)]
        member = self.members[key]
        self.world.tell(key[0], "{}: the supervisor of {} is killed", self.name, key)
        member.supervised = False
        if not member.tree:
            self.members.pop(key)
        self.world.at(1, self._settle, key, self.agent_life)
