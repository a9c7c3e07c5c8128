"""The demo in three acts.

1 An agent works on real data, in a process of its own. 2 That process is killed with SIGKILL
while its model is answering, and another one goes on. 3 What was not repeated is counted: from
the facts of the journal, from the requests that the model's server got, and from what the
analysis left on the disk.
"""

from __future__ import annotations

import csv
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lorimer.cli import agent, reading
from lorimer.cli.demo.actor import REPORT_TURN, actor
from lorimer.cli.demo.process import AgentProcess
from lorimer.cli.demo.stage import PRICES, RULES, Folder, describe_agent, lay_out
from lorimer.cli.fail import FAILED, INTERRUPTED, OK
from lorimer.cli.store import opened
from lorimer.cli.story import Story, call_text
from lorimer.cli.text import cost, count, short_id, tokens
from lorimer.core.events import Event
from lorimer.core.journal import RunRow
from lorimer.core.jsonable import JSON
from lorimer.testing.fake_server import FakeLLMServer
from lorimer.world import RealWorld

if TYPE_CHECKING:
    from rich.console import Console

    from lorimer.core.world import World
    from lorimer.journal.sqlite import SQLiteJournal

_POLL_S: Final = 0.05
_IN_FLIGHT_S: Final = 0.4
"""Seconds after the intent of a model call until it is on its way for sure."""
_PACE_S: Final = 0.7
_BAR: Final = 34
"""Columns of the longest bar of the small chart."""


@dataclass(frozen=True, slots=True)
class Cast:
    """Who plays the model."""

    model: str | None
    """None: the script."""
    base_url: str | None = None
    api_key_env: str | None = None


async def play(folder: Folder, cast: Cast, *, paced: bool) -> int:
    """Play it in a new folder; the exit code."""
    world = RealWorld()
    described = describe_agent(cast.model, priced=cast.base_url is None)
    if cast.model is not None:  # a key that is missing is told before anything is written
        await agent.connect(described, cast.base_url, cast.api_key_env, world).aclose()
    lay_out(folder, described)
    with _server(cast, _PACE_S if paced else 0.0) as server:
        url = server.url if server is not None else cast.base_url
        show = _Show(folder, cast, url, world, paced)
        async with opened(folder.journal, world) as journal:
            return await _Play(show, journal, server).run()


@contextmanager
def _server(cast: Cast, pause_s: float) -> Iterator[FakeLLMServer | None]:
    """The script's server, if it is the script that plays."""
    if cast.model is not None:
        yield None
        return
    with FakeLLMServer(actor(pause_s)) as server:
        yield server


class _Play:
    """One performance."""

    def __init__(self, show: _Show, journal: SQLiteJournal, server: FakeLLMServer | None) -> None:
        self._show = show
        self._journal = journal
        self._server = server
        self._world = show.world

    async def run(self) -> int:
        show = self._show
        show.opening()
        first = AgentProcess(show.first_command())
        try:
            row = await self._until_in_flight(first)
            if row is None:
                return await self._not_killed(first)
            await show.pause(1.2)
            first.kill()
        finally:
            first.stop()
        facts = await reading.facts_of(self._journal, row)
        show.killed(first.pid, facts, row)
        await show.pause(2.5)
        second = AgentProcess(show.second_command(row))
        try:
            show.resuming(second.pid, row)
            while second.exit_code is None:
                await self._world.sleep(_POLL_S)
        finally:
            second.stop()
        if second.exit_code != OK:
            return _ended_early(second.exit_code)
        await show.pause(1.5)
        whole = await reading.facts_of(self._journal, row)
        requests = [request.number for request in self._server.requests] if self._server else None
        proof = Proof.of(facts, whole, len(requests) if requests else None, show.folder.log)
        show.proof(proof)
        await show.pause(2.0)
        show.closing(row, whole)
        return OK if proof.holds else FAILED

    async def _until_in_flight(self, process: AgentProcess) -> RunRow | None:
        """Wait for the moment to kill: the analysis has run and its result is recorded, and the
        model is being asked what comes next. None: the agent was done before."""
        while process.exit_code is None:
            await self._world.sleep(_POLL_S)
            rows = await self._journal.runs(limit=1)
            if not rows:
                continue
            facts = await reading.facts_of(self._journal, rows[0])
            if _in_flight(facts) and self._asked():
                await self._world.sleep(_IN_FLIGHT_S)
                again = await reading.facts_of(self._journal, rows[0])
                if len(again) == len(facts) and process.exit_code is None:
                    return rows[0]
        return None

    def _asked(self) -> bool:
        return self._server is None or len(self._server.requests) > REPORT_TURN

    async def _not_killed(self, process: AgentProcess) -> int:
        """It ended before the kill: a real model may do anything, and so may a person."""
        code = process.exit_code
        rows = await self._journal.runs(limit=1)
        if code != OK or not rows:
            return _ended_early(code)
        self._show.was_too_quick()
        self._show.closing(rows[0], await reading.facts_of(self._journal, rows[0]))
        return OK


def _ended_early(code: int | None) -> int:
    """The agent's own exit code; it has said why itself."""
    return INTERRUPTED if code in (None, -2) else code if code > 0 else FAILED


def _in_flight(facts: Sequence[Event]) -> bool:
    """The analysis has a good result, and the last fact is a call to the model."""
    if not facts or facts[-1].type != "model.intent":
        return False
    return any([use.get("name") == "Bash" and done for use, done in _calls(facts)])


def _calls(facts: Sequence[Event]) -> Iterator[tuple[Mapping[str, JSON], bool]]:
    """Every call that has a result, and whether that was a good one."""
    uses: list[Mapping[str, JSON]] = []
    for fact in facts:
        if fact.type == "model.reply":
            content = fact.data.get("content")
            blocks = content if isinstance(content, list | tuple) else ()
            uses = [b for b in blocks if isinstance(b, Mapping) and b.get("type") == "tool_use"]
        elif fact.type == "tool.result":
            key = str(fact.data.get("key", ""))
            if key.isdecimal() and int(key) < len(uses):
                yield uses[int(key)], fact.data.get("is_error") is not True


@dataclass(frozen=True, slots=True)
class Proof:
    """What was there before the kill, and how often it is there at the end."""

    replies: int
    """Answers of the model that were recorded before the kill."""
    repeated_replies: int
    calls: int
    """Tool calls with a result before the kill."""
    repeated_calls: int
    requests: int | None
    """What the script's server was asked in all; None: a real model's server does not tell."""
    all_replies: int
    log: tuple[str, ...]
    """One line for each time that the analysis really ran."""

    @classmethod
    def of(
        cls, before: Sequence[Event], after: Sequence[Event], requests: int | None, log: Path
    ) -> Proof:
        """Count. A fact counts as repeated when one of the same place is recorded once more."""
        lines = log.read_text("utf-8").splitlines() if log.exists() else []
        return cls(
            _number(before, "model.reply"),
            _number(after, "model.reply") - len(_places(after, "model.reply")),
            _number(before, "tool.result"),
            _number(after, "tool.result") - len(_places(after, "tool.result")),
            requests,
            _number(after, "model.reply"),
            tuple(lines),
        )

    @property
    def holds(self) -> bool:
        """Nothing was repeated."""
        asked_once = self.requests is None or self.requests == self.all_replies + 1
        return (
            not self.repeated_replies and not self.repeated_calls and asked_once
        ) and len(self.log) == 1


def _number(facts: Sequence[Event], type: str) -> int:
    return sum(fact.type == type for fact in facts)


def _places(facts: Sequence[Event], type: str) -> set[tuple[int, str]]:
    return {(fact.iteration, str(fact.data.get("key"))) for fact in facts if fact.type == type}


class _Show:
    """What the reader sees."""

    def __init__(
        self, folder: Folder, cast: Cast, url: str | None, world: World, paced: bool
    ) -> None:
        from rich.console import Console

        self.folder = folder
        self.world = world
        self._cast = cast
        self._url = url
        self._paced = paced
        self._out: Console = Console(highlight=False)

    async def pause(self, seconds: float) -> None:
        """Time to read; none where nobody watches."""
        if self._paced:
            await self.world.sleep(seconds)

    def _say(self, text: str = "", style: str = "") -> None:
        from rich.text import Text

        self._out.print(Text(text, style=style), soft_wrap=True)
        sys.stdout.flush()

    def _act(self, title: str) -> None:
        self._say()
        self._out.rule(f"[bold]{title}[/bold]", align="left", style="cyan")
        sys.stdout.flush()

    # --- commands ------------------------------------------------------------------------

    def first_command(self) -> list[str]:
        """What starts the agent."""
        folder = self.folder
        return [
            "run",
            *("--manifest", str(folder.manifest)),
            *("--input-file", str(folder.task)),
            *("--workspace", str(folder.workspace)),
            *self._common(),
        ]

    def second_command(self, row: RunRow) -> list[str]:
        """What goes on with it."""
        return ["runs", "resume", short_id(row.run_id), *self._common()]

    def _common(self) -> list[str]:
        words = ["--store", str(self.folder.journal)]
        for rule in RULES:
            words += ["--allow", rule]
        if self._url:
            words += ["--base-url", self._url]
        if self._cast.api_key_env:
            words += ["--api-key-env", self._cast.api_key_env]
        return words

    def _command(self, words: Sequence[str]) -> None:
        """A command as one would type it, an option a line."""
        quoted = [shlex.quote(word) for word in words]
        line = f"$ {program()} "
        for at, word in enumerate(quoted):
            if word.startswith("--") and at > 1:
                self._say(f"{line}\\", "dim")
                line = "    "
            line += f"{word} "
        self._say(line.rstrip(), "dim")

    # --- acts ----------------------------------------------------------------------------

    def opening(self) -> None:
        """Who plays, and where."""
        self._say()
        self._say("Lorimer demo: an agent works, is killed in the middle, and goes on.", "bold")
        self._say()
        if self._cast.model is None:
            self._say("No key is set, so the model is a SCRIPT: its answers are written down in", "yellow")
            self._say("advance, and a small server on this machine plays them over real HTTP.", "yellow")
            self._say("All else is real: SDK, tools, files, programs, journal, rules, and the kill.")
        else:
            limit = "" if self._cast.base_url else ", for 1 dollar at most"
            self._say(f"The model is {self._cast.model}, for real{limit}.", "yellow")
        self._say(f"It happens in {self.folder.root}{os.sep}, and touches nothing else.")
        self._act("1  An agent looks into census data")
        self._command(self.first_command())
        self._say()

    def killed(self, pid: int, facts: Sequence[Event], row: RunRow) -> None:
        """The process is gone; what is left."""
        if self._out.is_terminal:
            self._out.show_cursor(True)
            self._say()
        self._act("2  Killed in the middle")
        self._say(f"$ kill -9 {pid}", "bold red")
        self._say()
        replies, calls = _number(facts, "model.reply"), _number(facts, "tool.result")
        self._say(
            "The process is gone, without a chance to save anything, while the model was"
            " answering."
        )
        self._say(
            f"Its journal has {count(len(facts), 'fact')} of run {short_id(row.run_id)}: "
            f"{count(replies, 'answer')} of the model, {count(calls, 'result')} of tools."
        )

    def resuming(self, pid: int, row: RunRow) -> None:
        """Another process takes over."""
        self._say(f"A new process ({pid}) goes on:")
        self._say()
        self._command(self.second_command(row))
        self._say()

    def was_too_quick(self) -> None:
        """The kill never came."""
        self._say()
        self._say(
            "The model took another way than the one that this demo waits for, so nothing was"
            " killed.",
            "yellow",
        )

    def proof(self, proof: Proof) -> None:
        """What was not repeated."""
        self._act("3  What was not repeated")
        self._row(
            not proof.repeated_replies,
            count(proof.replies, "answer") + " of the model",
            "read from the journal, not paid for again",
        )
        self._row(
            not proof.repeated_calls,
            count(proof.calls, "tool call"),
            "read from the journal, not run again",
        )
        if proof.requests is not None:
            self._row(
                proof.requests == proof.all_replies + 1,
                f"{proof.requests} requests",
                f"for {count(proof.all_replies, 'answer')}: only the one cut off was sent again",
            )
        log = self.folder.log
        last = f": {proof.log[-1]}" if len(proof.log) == 1 else ""
        self._row(len(proof.log) == 1, f"{log.name}, {count(len(proof.log), 'line')}", f"of the analysis{last}")
        if not proof.holds:
            self._say("That is not as it should be: something was done twice.", "bold red")

    def _row(self, good: bool, what: str, why: str) -> None:
        from rich.text import Text

        mark = Text("  ✓ ", "green") if good else Text("  ✗ ", "bold red")
        self._out.print(Text.assemble(mark, (f"{what:<24}", "bold"), f"  {why}"), soft_wrap=True)

    def closing(self, row: RunRow, facts: Sequence[Event]) -> None:
        """What came of it, what it took, and what to type next."""
        self._act("What came of it")
        self._chart()
        story = Story()
        for fact in facts:
            story.count(fact)
        usage = story.usage
        into = tokens(usage.total - usage.output_tokens)
        spent = cost(story.cost_nano, usage.total)
        if self._cast.model is None:
            spent = f"{spent} at made-up prices (${PRICES['input_per_million']:g} and "
            spent += f"${PRICES['output_per_million']:g} a million); nothing was really paid"
        folder = self.folder
        for name, text in (
            ("done", f"{count(story.turns, 'turn')}, {count(story.calls, 'tool call')}"),
            ("tokens", f"{into} in, {tokens(usage.output_tokens)} out"),
            ("cost", spent),
            ("report", str(folder.report)),
            ("chart", f"{folder.chart}  (open it in a browser)"),
            ("journal", str(folder.journal)),
        ):
            self._say(f"  {name:<8} {text}")
        self._next(row)

    def _next(self, row: RunRow) -> None:
        self._say()
        self._say("Next, type:", "bold")
        name, folder = program(), self.folder
        store = shlex.quote(str(folder.journal))
        commands = [
            (f"{name} runs show {short_id(row.run_id)} --store {store}", "the run, fact by fact"),
            (f"{name} manifest explain {shlex.quote(str(folder.manifest))}", "the agent, stage by stage"),
            (f"{name} doctor", "what works here"),
            (f'{name} run "what is in this folder?"', "your own; needs a key"),
        ]
        width = max(len(command) for command, _ in commands[1:])
        for command, why in commands:
            self._say(f"  {command:<{width}}   # {why}")

    def _chart(self) -> None:
        """The fastest and the shrinking states as bars, from the data itself."""
        from rich.text import Text

        data = self.folder.workspace / "data"
        before, after = _people(data / "population-2010.csv"), _people(data / "population-2020.csv")
        growth = sorted(
            [(100 * (after[name] / before[name] - 1), name) for name in before], reverse=True
        )
        most = growth[0][0]
        self._say("  Population of the US states, 2010 to 2020 (U.S. Census Bureau)")
        for percent, name in [*growth[:5], *[item for item in growth if item[0] < 0]]:
            bar = "█" * max(round(abs(percent) / most * _BAR), 1)
            self._out.print(
                Text.assemble(
                    (f"  {name:<14} ", ""),
                    (bar, "cyan" if percent >= 0 else "red"),
                    (f" {percent:+.1f} %", "dim"),
                )
            )
        self._say()


def _people(path: Path) -> dict[str, int]:
    with path.open(newline="", encoding="utf-8") as file:
        return {row["state"]: int(row["population"]) for row in csv.DictReader(file)}


def program() -> str:
    """How this program is called here, so that what is shown can be typed."""
    called = Path(sys.argv[0])
    if called.name == "lorimer":
        found = shutil.which("lorimer")
        if found is not None and Path(found).resolve() == called.resolve():
            return "lorimer"
        return shlex.quote(_near(called))
    return f"{shlex.quote(_near(Path(sys.executable)))} -m lorimer"


def _near(path: Path) -> str:
    """Relative to here where it is beneath."""
    path = path.absolute()
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
