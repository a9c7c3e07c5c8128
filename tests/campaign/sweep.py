"""Plays one scenario with one thing going wrong at one operation, and audits what is left.

`count(scenario)` plays it undisturbed and names its operations; `play(scenario, strike)` plays it
again with a strike: the program is cut short, goes on as programs do (it tries again, and does
what the error says), and is then started anew on the same store, where everything has to come to
its end. The same scenario and strike always give the same play.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from tempfile import TemporaryDirectory

import apsw

from lorimer.testing.simulated_failures import LeftBehind, SimulatedCrash
from lorimer.testing.simulated_world import SimulatedWorld
from lorimer.testing.simulation import simulate_in
from tests.campaign.audit import Evidence, Finding, Told, audit
from tests.campaign.gather import gather
from tests.campaign.outside import Outside
from tests.campaign.seams import STORED, Hit, Seams
from tests.campaign.store import Store
from tests.campaign.sweep_process import Process
from tests.campaign.sweep_scenarios import Scenario, manifest

AT_SEAMS = (
    "fail",
    "fatal",
    "hang",
    "cancel",
    "task",
    "shutdown",
    "kill",
    "power",
    "takeover",
    "locked",
)
AT_WRITES = ("full", "eio", "torn", "cut")


@dataclass(frozen=True)
class Strike:
    """What goes wrong, and at which operation. At the seams:

    fail: the operation raises its own kind of error; fatal: a model one that is not tried again;
    hang: it never comes back.
    cancel, shutdown: `pipeline.cancel`; task: the caller's task is cancelled.
    kill, power: the process dies; what it has written, or only what it has synced, is there.
    takeover: it stands still for longer than its claim holds, and another one ends its runs.
    locked: another process is writing to the store.

    At the writes of the store: full: from then on, until somebody frees some space; eio: once;
    torn, cut: the process dies in the middle of the transaction, or loses power there.
    """

    kind: str
    at: int

    @property
    def in_store(self) -> bool:
        return self.kind in AT_WRITES


@dataclass(frozen=True)
class Counted:
    """The operations of an undisturbed play."""

    seams: tuple[str, ...]
    writes: tuple[str, ...]

    def strikes(self) -> Iterator[Strike]:
        """Everything that can go wrong, everywhere."""
        for kind in AT_SEAMS:
            for at, name in enumerate(self.seams):
                if applies(kind, name):
                    yield Strike(kind, at)
        for kind in AT_WRITES:
            for at in range(len(self.writes)):
                yield Strike(kind, at)


def applies(kind: str, name: str) -> bool:
    word = name.split()[0]
    match kind:
        case "fail":
            own = ("model", "tool", "person", "listener", "emit", "stage", "port")
            return word in (*STORED, *own)
        case "fatal":
            return word == "model"
        case "hang":
            return word in ("model", "tool", "listener", "port")
        case "locked":
            return word in STORED and not name.endswith(", done")
        case _:
            return True


def count(scenario: Scenario) -> Counted:
    """Raises AssertionError when even undisturbed something is wrong."""
    played = Play(scenario, None)
    findings = played.run()
    assert not findings, f"{scenario.name!r}, undisturbed: {findings}"
    return Counted(tuple(played.operations), tuple(played.store.writes))


def play(scenario: Scenario, strike: Strike) -> tuple[str, list[Finding]]:
    """The operation that was struck, and what was wrong afterwards."""
    played = Play(scenario, strike)
    findings = played.run()
    return played.struck, findings


class Play:
    """All lives of the processes of one scenario."""

    def __init__(self, scenario: Scenario, strike: Strike | None) -> None:
        self.scenario = scenario
        self.strike = strike
        self.world = SimulatedWorld(scenario.name)
        self.store = Store(empty=scenario.empty)
        self.files = TemporaryDirectory() if scenario.files else None
        self.outside = Outside()
        self.begins: list[dict[str, int]] = []
        self.told: list[Told] = []
        self.findings: list[Finding] = []
        self.operations: list[str] = []
        self.struck = ""
        self.exact = True
        self.broken = False
        """The store said that it has to be opened anew."""
        self.process: Process | None = None
        self.left: Evidence

    def run(self) -> list[Finding]:
        try:
            for kind, name in self.scenario.cuts:
                self.life(Seams(self.striker(kind), fits=name.__eq__), "work")
            struck = self.strike
            seams = Seams()
            if struck is not None and not struck.in_store:
                seams = Seams(self.striker(struck.kind), struck.at)
            self.store.strike = self.store_strike
            self.life(seams, "struck")
            self.struck = self.struck or seams.struck
            self.life(Seams(), "recover")
            if struck is not None and not self.struck:
                self.find("the sweep itself", f"operation {struck.at} never came")
            self.left = self.evidence()
            return self.findings + audit(self.left)
        finally:
            self.store.close()
            if self.files is not None:
                self.files.cleanup()

    def find(self, rule: str, what: str) -> None:
        self.findings.append(Finding(rule, what))

    # --- lives -----------------------------------------------------------------------------

    def life(self, seams: Seams, part: str) -> None:
        """One life of the process, to its end or its death."""
        power = self.strike is not None and self.strike.kind in ("power", "cut")
        if part == "work":
            power = any(kind == "power" for kind, _ in self.scenario.cuts)
        process = self.process = Process(self, seams)
        try:
            simulate_in(self.world, lambda _: getattr(process, part)())
        except SimulatedCrash:
            self.exact = False
            self.store.crashed(process.file, power=power)
        except LeftBehind as error:
            self.find("C7 no litter", str(error))
        finally:
            self.store.strike = None

    def striker(self, kind: str) -> Hit:
        async def strike(name: str) -> None:
            process = self.process
            assert process is not None
            await getattr(process, f"strike_{kind}")(name)

        return strike

    def store_strike(self, number: int, what: str) -> None:
        strike = self.strike
        if strike is None or not strike.in_store or self.process is None:
            return
        if number < strike.at or (number > strike.at and strike.kind != "full"):
            return
        self.struck = self.struck or f"{what} during {self.process.seams.names[-1:]}"
        self.exact = False
        if strike.kind in ("torn", "cut"):
            self.process.die()
        elif what.startswith("sync"):
            if strike.kind == "eio":
                self.broken = True
                raise apsw.exception_for(apsw.SQLITE_IOERR_FSYNC)
        elif strike.kind == "full":
            raise apsw.FullError("no room")
        else:
            raise apsw.exception_for(apsw.SQLITE_IOERR_WRITE)

    # --- what is left ----------------------------------------------------------------------

    def evidence(self) -> Evidence:
        return simulate_in(self.world, lambda _: self._evidence())

    async def _evidence(self) -> Evidence:
        journal = self.store.open(self.world)
        evidence = await gather(
            journal,
            marks=self.outside.marks,
            begins=self.begins,
            told=self.told,
            limits=manifest(self.scenario).limits,
            refused=self.outside.refused,
            used=self.outside.used,
            exact=self.exact,
        )
        await journal.close()
        return evidence
