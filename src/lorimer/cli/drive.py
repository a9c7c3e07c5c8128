"""Drives one run in the foreground: signals, progress, output, and the exit code.

Ctrl-C cancels the run: it ends, and its journal says so. SIGTERM and SIGHUP mean that the machine
wants this process gone, not that the task is unwanted: the run is suspended, as soon as tools that
change something have ended or timed out, and can be resumed. A second signal waits for nothing.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Awaitable, Callable, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import click

from lorimer.cli import fail
from lorimer.cli.call import Call
from lorimer.cli.error_context import named_store
from lorimer.cli.printing import print_answer
from lorimer.cli.progress import Screen, is_live
from lorimer.cli.story import TOLD, Story, summary
from lorimer.cli.text import print_json, short_id, visible
from lorimer.core.cancel import Reason
from lorimer.core.errors import ExecutorErrorCode
from lorimer.core.events import Event
from lorimer.core.jsonable import JSON
from lorimer.core.result import PipelineResult
from lorimer.core.world import World

if TYPE_CHECKING:
    from collections.abc import Generator

    from lorimer.pipeline import Pipeline

FORMATS: Final = ("text", "json", "stream-json")

_DELTAS: Final = ("text.delta", "thinking.delta", "tool.input_delta")
_STREAMED: Final = (
    *("api.retry", "api.model_routed", "api.stream_restart"),
    *("tool.call_start", "tool.progress", "events.dropped", "hook.failed", "hook.refused"),
)
"""Signals that `stream-json` shows in addition to the facts."""
_HURRY_S: Final = 0.7
"""Seconds that a second signal leaves for killing what tools have started."""


@dataclass(slots=True)
class Output:
    """The format of the outcome."""

    format: str = "text"
    quiet: bool = False
    deltas: bool = False
    """In `stream-json`: also pieces of text as they arrive. If an attempt fails after the first
    one, stage 6's `after_release` decides what happens."""

    def __post_init__(self) -> None:
        if self.deltas and self.format != "stream-json":
            raise fail.Fault("--include-partial-messages goes with --output-format stream-json")


class Drive:
    """One run in the foreground."""

    def __init__(
        self,
        pipeline: Pipeline,
        story: Story,
        screen: Screen,
        output: Output,
        world: World,
        call: Call = Call(),  # noqa: B008 - it is immutable
    ) -> None:
        self._pipeline = pipeline
        self._story = story
        self._screen = screen
        self._output = output
        self._world = world
        self._call = call
        self._run_id = ""
        self._signal: int | None = None
        self._main: asyncio.Task[PipelineResult] | None = None

    async def run(self, begin: Callable[[], Awaitable[PipelineResult]], known_id: str = "") -> int:
        """Start the run, show it, wait for it and report; returns the exit code. Raises what
        `begin` raises before there is a run."""
        self._run_id = known_id
        self._listen()
        started = self._world.monotonic()
        try:
            with self._signals():
                self._screen.open()
                if known_id:
                    self._announce(known_id)
                self._main = asyncio.ensure_future(begin())
                try:
                    result = await self._main
                except asyncio.CancelledError:
                    if self._signal is None:
                        raise
                    self._screen.close()
                    if not self._run_id:
                        fail.report("stopped before anything ran")
                    return 128 + self._signal
        finally:
            self._screen.close()
        return self._tell(result, self._world.monotonic() - started)

    # --- listening -------------------------------------------------------------------------

    def _listen(self) -> None:
        pipeline, output = self._pipeline, self._output
        pipeline.on("run.start", self._begun)
        shown = not output.quiet
        if shown:
            for kind in TOLD:
                pipeline.on(kind, self._show)
        if output.format == "stream-json":
            from lorimer.core.events import FACT_KINDS

            for kind in (*FACT_KINDS, *_STREAMED, *(_DELTAS if output.deltas else ())):
                pipeline.on(kind, self._print_event)

    def _begun(self, event: Event) -> None:
        self._run_id = event.run_id
        self._announce(event.run_id)

    def _announce(self, run_id: str) -> None:
        model = self._pipeline.model_spec
        self._screen.line([("run ", "bold"), (short_id(run_id), ""), (f"  {model}", "dim")])

    def _show(self, event: Event) -> None:
        for line in self._story.tell(event):
            self._screen.line(line)

    def _print_event(self, event: Event) -> None:
        try:
            print_json(event.to_json())
        except OSError:  # the reader is gone, or the disk is full
            self._pipeline.cancel(Reason.CLOSED)

    # --- stopping --------------------------------------------------------------------------

    @contextmanager
    def _signals(self) -> Generator[None]:
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        for number in numbers:
            loop.add_signal_handler(number, partial(self._stop, number))
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def _stop(self, number: signal.Signals) -> None:
        if self._signal is not None:
            self._stop_at_once()
            return
        self._signal = number
        self._story.doing = "stopping"
        if not self._output.quiet:
            self._screen.line([("  ■ ", "yellow"), ("stopping (again: at once)", "")])
        stop = self._pipeline.cancel if number == signal.SIGINT else self._pipeline.shut_down
        if not stop() and self._main is not None:
            self._main.cancel()  # the run has not started yet

    def _stop_at_once(self) -> None:
        self._screen.close()
        code = 128 + (self._signal or signal.SIGINT)
        for task in asyncio.all_tasks():  # a second cancellation ends the grace period of tools
            task.cancel()
        if self._run_id:
            see = f"lorimer runs show {short_id(self._run_id)}"
            fail.report("stopped at once", hint=f"See how far it came: {see}")
        asyncio.get_running_loop().call_later(_HURRY_S, os._exit, code)

    # --- reporting -------------------------------------------------------------------------

    def _tell(self, result: PipelineResult, seconds: float) -> int:
        error = result.exception
        try:
            self._print_result(result)
        except BrokenPipeError:
            raise
        except OSError as lost:
            run = f"{short_id(result.run_id)}{named_store()}"
            kept = "the answer" if error is None else "the run"
            return fail.stdout_lost(lost, f"; {kept} is kept: lorimer runs show {run}")
        used = summary(
            result.run_id,
            result.iterations,
            len(result.steps),
            result.usage,
            result.cost_nano,
            seconds,
        )
        if error is None:
            self._say_end("ok", "green", used)
            self._say_without_answer(result)
            self._hint_refusals()
            return fail.OK
        self._say_end(result.status, "red", used)
        from lorimer.cli.remedy import remedy

        hint = remedy(error, self._pipeline.model_spec, self._call)
        if error.code is ExecutorErrorCode.EXEC_RUN_SHUTDOWN:
            hint = f"Go on with: {self._call.resume_command(result.run_id)}"
        elif error.code is ExecutorErrorCode.EXEC_RUN_WAITING:
            hint = f"See its question: lorimer runs show {short_id(result.run_id)}"
        elif not hint:
            hint = f"lorimer runs show {short_id(result.run_id)}"
        if self._signal == signal.SIGINT:
            fail.report("cancelled; what was done until then stays done", code=error.code.value)
        else:
            fail.report(str(error), code=error.code.value, hint=hint)
        self._hint_refusals()
        return 128 + self._signal if self._signal is not None else fail.exit_code(error)

    def _print_result(self, result: PipelineResult) -> None:
        match self._output.format:
            case "json":
                print_json(result.to_json())
            case "stream-json":
                print_json({"type": "result", **result.to_json()})
            case _ if result.exception is not None:
                pass  # on stdout, half an answer would look like a whole one
            case _ if (data := self._data_of(result)) is not None:
                print_json(data, indent=2 if sys.stdout.isatty() else None)
            case _:
                print_answer(result.text.rstrip("\n"))

    def _data_of(self, result: PipelineResult) -> JSON:
        """The answer if it is data, without surrounding text; None: it is text."""
        asked = self._pipeline.manifest.model.output_schema is not None
        return result.recorded_output if asked else None

    def _say_end(self, status: str, colour: str, used: str) -> None:
        if not self._output.quiet or status != "ok":
            word = {"cancelled": "spent", "error": "failed"}.get(status, status)
            head = click.style(f"{word}:", fg=colour, bold=True)
            click.echo(f"{head} {_fitted(used, len(word) + 2)}", err=True)

    def _say_without_answer(self, result: PipelineResult) -> None:
        if not result.text.strip() and result.reason not in ("", "end_turn"):
            run = f"{short_id(result.run_id)}{named_store()}"
            click.echo(
                f"{click.style('note:', fg='yellow')} it was ended before there was an answer "
                f"({visible(result.reason)}); see: lorimer runs explain {run}",
                err=True,
            )

    def _hint_refusals(self) -> None:
        refused = list(dict.fromkeys(self._story.refused))
        if refused and not self._output.quiet:
            rules = " ".join([f"--allow {_quoted(rule)}" for rule in refused[:3]])
            more = f" (and {len(refused) - 3} more)" if len(refused) > 3 else ""
            click.echo(
                f"{click.style('hint:', fg='cyan')} calls were refused that this would allow: "
                f"{rules}{more}",
                err=True,
            )


def _fitted(used: str, at: int) -> str:
    """The totals, starting at column `at` of the terminal; what does not fit goes to the next
    line."""
    if not is_live():
        return used
    columns, blank = shutil.get_terminal_size().columns, " " * at
    rows = [blank]
    for piece in used.split(" · "):
        joint = " · " if rows[-1] != blank else ""
        if joint and len(rows[-1]) + len(joint) + len(piece) > columns:
            rows.append(blank)
            joint = ""
        rows[-1] += joint + piece
    return "\n".join(rows)[at:]


def _quoted(text: str) -> str:
    from shlex import quote

    return quote(visible(text))


def primed(facts: Iterable[Event]) -> Story:
    """A story that starts with the totals of what is recorded."""
    story = Story.of(facts)
    story.refused.clear()
    return story
