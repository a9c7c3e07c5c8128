"""The output of the demo."""

from __future__ import annotations

import csv
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lorimer.cli.demo.proof import Proof, number
from lorimer.cli.demo.stage import PRICES, RULES, Folder
from lorimer.cli.printing import hanging
from lorimer.cli.story import Story
from lorimer.cli.text import cost, count, flow, short_id
from lorimer.core.events import Event
from lorimer.core.journal import RunRow

if TYPE_CHECKING:
    from rich.console import Console

    from lorimer.core.world import World

_BAR: Final = 34
"""Columns of the longest bar of the small chart."""
_BESIDE_BAR: Final = 26
"""Columns beside the bars: the name, the axis and the figure."""


@dataclass(frozen=True, slots=True)
class Cast:
    """Which model is used."""

    model: str | None
    """None: the script."""
    base_url: str | None = None
    api_key_env: str | None = None
    priced: bool = True
    """The model has a price, so a cost limit can be enforced; one on the user's own server has
    none."""


class Show:
    """The output of one demo."""

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
        """Give the user time to read; no pause without a terminal."""
        if self._paced:
            await self.world.sleep(seconds)

    def _say(self, text: str = "", style: str = "") -> None:
        from rich.text import Text

        self._out.print(Text(text, style=style), soft_wrap=True)
        sys.stdout.flush()

    def _tell(self, text: str) -> None:
        """Show prose: on a terminal it is wrapped between words, and nothing in it is copied."""
        self._out.print(text, markup=False, soft_wrap=not self._out.is_terminal)

    def _act(self, title: str) -> None:
        self._say()
        self._out.rule(f"[bold]{title}[/bold]", align="left", style="cyan")
        sys.stdout.flush()

    # --- commands ------------------------------------------------------------------------

    def first_command(self) -> list[str]:
        """The command that starts the agent."""
        folder = self.folder
        return [
            "run",
            *("--manifest", str(folder.manifest)),
            *("--input-file", str(folder.task)),
            *("--workspace", str(folder.workspace)),
            *self._common(),
        ]

    def second_command(self, row: RunRow) -> list[str]:
        """The command that resumes the run."""
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
        """Show a command as it could be typed, one option per line."""
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
        """Show which model is used, and where."""
        self._say()
        self._say("Lorimer demo: an agent works, is killed in the middle, and is resumed.", "bold")
        self._say()
        if self._cast.model is None:
            self._say(
                "The model is a SCRIPT (no key is used): its answers were written in", "yellow"
            )
            self._say(
                "advance; a small server on this machine plays them over real HTTP.", "yellow"
            )
            self._say("All else is real: SDK, tools, files, programs, journal, rules, the kill.")
        else:
            limit = ", for 1 dollar at most" if self._cast.priced else ""
            self._say(f"The model is {self._cast.model}, for real{limit}.", "yellow")
        self._say(f"It happens in {self.folder.root}{os.sep}, and touches nothing else.")
        self._act("1  An agent looks into census data")
        self._command(self.first_command())
        self._say()

    def killed(self, pid: int, facts: Sequence[Event], row: RunRow) -> None:
        """Show that the process is gone, and what is left."""
        if self._out.is_terminal:
            self._out.show_cursor(True)
            self._say()
        self._act("2  Killed in the middle")
        self._say(f"$ kill -9 {pid}", "bold red")
        self._say()
        replies, calls = number(facts, "model.reply"), number(facts, "tool.result")
        self._tell(
            "The process is gone, without a chance to save anything, while the model was answering."
        )
        self._tell(
            f"Its journal has {count(len(facts), 'fact')} of run {short_id(row.run_id)}: "
            f"{count(replies, 'answer')} of the model, {count(calls, 'result')} of tools."
        )

    def resuming(self, pid: int, row: RunRow) -> None:
        """Show that another process takes over."""
        self._say()
        self._say(f"A new process, {pid}, goes on:")
        self._say()
        self._command(self.second_command(row))
        self._say()

    def was_too_quick(self) -> None:
        """Show that the agent was not killed."""
        self._say()
        self._say(
            "The model took another way than the one that this demo waits for, so nothing was"
            " killed.",
            "yellow",
        )

    def proof(self, proof: Proof) -> None:
        """Show what was not repeated."""
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
                proof.asked_once,
                f"{proof.requests} requests",
                f"for {count(proof.all_replies, 'answer')}: only the one cut off was sent again",
            )
        if proof.log:
            lines = count(len(proof.log), "line")
            self._row(
                proof.ran_once,
                f"{self.folder.log.name} has {lines}",
                f"one for each time that step ran: {proof.log[-1]}",
            )
        if proof.steps:
            again = f"{', '.join(proof.again)} ran again, for values" if proof.again else "none ran"
            self._row(
                True,
                f"{proof.steps} steps of code",
                f"{again}; what wrote a file did not",
            )
        if not proof.holds:
            self._say("This should not happen: something was done twice.", "bold red")

    def _row(self, good: bool, what: str, why: str) -> None:
        from rich.text import Text

        mark = Text("  ✓ ", "green") if good else Text("  ✗ ", "bold red")
        whole = Text.assemble(mark, (f"{what:<24}", "bold"), f"  {why}")
        if self._out.is_terminal:
            whole = hanging(whole, [(mark.plain, ""), (what, "")], self._out)
        self._out.print(whole, soft_wrap=True)

    def closing(self, row: RunRow, facts: Sequence[Event]) -> None:
        """Show the outcome, the cost, and what to try next."""
        self._act("What came of it")
        self._chart()
        story = Story.of(facts)
        usage = story.usage
        spent = cost(story.cost_nano, usage.total)
        if self._cast.model is None:
            spent = f"{spent} at made-up prices (${PRICES['input_per_million']:g} and "
            spent += f"${PRICES['output_per_million']:g} a million); nothing was paid"
        folder = self.folder
        for name, text in (
            ("done", f"{count(story.turns, 'turn')}, {count(story.calls, 'tool call')}"),
            ("tokens", flow(usage)),
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
        manifest = shlex.quote(str(folder.manifest))
        run = short_id(row.run_id)
        for command, why in (
            (f"runs show {run} --store {store}", "the run, turn by turn"),
            (f"runs explain {run} --time --store {store}", "where its time went, as bars"),
            (f"manifest explain {manifest}", "the agent, stage by stage"),
            ("doctor", "what works on this machine, and what is missing"),
            ('run "what is in this folder?"', "an agent of your own; needs a key"),
        ):
            self._say(f"  # {why}", "dim")
            self._say(f"  {name} {command}")

    def _chart(self) -> None:
        """Show the fastest-growing and the shrinking states as bars, from the data itself."""
        from rich.text import Text

        data = self.folder.workspace / "data"
        before, after = _people(data / "population-2010.csv"), _people(data / "population-2020.csv")
        growth = sorted(
            [(100 * (after[name] / before[name] - 1), name) for name in before], reverse=True
        )
        shrank = [item for item in growth if item[0] < 0]
        most, least = growth[0][0], shrank[-1][0] if shrank else 0.0
        self._tell("  Growth of the US states from 2010 to 2020: the fastest, and all that shrank")
        columns = max(min(_BAR, self._out.width - _BESIDE_BAR), 2)
        left = round(columns * -least / (most - least))
        scale = (columns - left) / most
        for percent, name in [*growth[:5], *shrank]:
            bar = "█" * round(abs(percent) * scale)
            below, above = ("", bar) if percent >= 0 else (bar or "▕", "")
            self._out.print(
                Text.assemble(
                    f"  {name:<14} ",
                    (f"{below:>{left}}", "red"),
                    ("│", "dim"),
                    (above, "cyan"),
                    (f" {percent:+.1f} %", "dim"),
                )
            )
        self._tell("  Source: U.S. Census Bureau")
        self._say()


def _people(path: Path) -> dict[str, int]:
    with path.open(newline="", encoding="utf-8") as file:
        return {row["state"]: int(row["population"]) for row in csv.DictReader(file)}


def program() -> str:
    """The name by which this program was called, so that shown commands can be typed."""
    called = Path(sys.argv[0])
    if called.name == "lorimer":
        found = shutil.which("lorimer")
        if found is not None and Path(found).resolve() == called.resolve():
            return "lorimer"
        return shlex.quote(_near(called))
    return f"{shlex.quote(_near(Path(sys.executable)))} -m lorimer"


def _near(path: Path) -> str:
    """The path, relative to the current folder if it is below it."""
    path = path.absolute()
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
