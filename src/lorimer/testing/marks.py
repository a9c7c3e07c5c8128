"""Marks of effects, stored so that they survive a crash of the process that makes them: a tool or a
model is wrapped, and records the start and the end of each of its calls.

They show what really happened, whatever a journal says: `audit.py` compares the two.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Final, NamedTuple, Protocol, cast

from lorimer.core.context import Safety
from lorimer.core.jsonable import canonical, dumps
from lorimer.core.model import Model
from lorimer.core.request import Delta, Request, Response, Usage
from lorimer.core.world import World
from lorimer.tools.base import NotDone, Tool, ToolContext, ToolInput, ToolResult
from lorimer.tools.registry import ToolRegistry
from lorimer.tools.schema import Check

MODEL: Final = "model"
"""Used in marks of model calls instead of a safety class."""


class Mark(NamedTuple):
    """One line of the log."""

    edge: str
    """`begin` and `end` of an effect; `found`: the tool determined the outcome of one
    (`reconcile`); `accepted`: a run's id was reported to the outside; `over`: its result was. A
    harness may add more."""
    life: int
    """Number of the process, from 0."""
    safety: str = ""
    """`read_only`, `idempotent`, `unsafe`, or `model`."""
    run: str = ""
    iteration: int = 0
    call: str = ""
    """Position of the call in its reply."""
    key: str = ""
    """The idempotency key that the tool was given; "" for a model call. A harness that marks other
    effects stores here what distinguishes them."""
    effect: str = ""
    """What was requested: the tool's name and its arguments."""


class Notes(Protocol):
    """Where marks are stored. `append` returns once the mark will survive the process."""

    def append(self, mark: Mark, /) -> None:
        """Store a mark, after those before it."""
        ...


class MarkFile:
    """Marks in a file that any number of processes append to: one write each, unbuffered."""

    def __init__(self, path: str | Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def append(self, mark: Mark, /) -> None:
        """Visible to every other process when this returns. Raises OSError."""
        os.write(self._file, (dumps(list(mark)) + "\n").encode())

    def close(self) -> None:
        """Calling it twice is an error, as with any descriptor."""
        os.close(self._file)


def read_marks(path: str | Path) -> list[Mark]:
    """All marks of a file, in order of creation. Raises ValueError for an invalid line."""
    return [_mark(line) for line in Path(path).read_bytes().splitlines()]


def _mark(line: bytes) -> Mark:
    edge, life, safety, run, iteration, call, key, effect = cast("list[str]", json.loads(line))
    return Mark(edge, int(life), safety, run, int(iteration), call, key, effect)


class MarkedTool(Tool):
    """A tool that records its calls; otherwise like the one it wraps."""

    def __init__(self, tool: Tool, notes: Notes, life: int) -> None:
        self.name = tool.name
        self.description = tool.description
        self.input_schema = tool.input_schema
        self.effects = tool.effects
        self.idempotent = tool.idempotent
        self.concurrency_safe = tool.concurrency_safe
        self.timeout_s = tool.timeout_s
        self.max_result_chars = tool.max_result_chars
        self.subject = tool.subject
        self.paths = tool.paths
        self.rooted = tool.rooted
        self.commands = tool.commands
        self.urls = tool.urls
        self.untrusted = tool.untrusted
        self.recalls = tool.recalls
        self.recalls_errors = tool.recalls_errors
        self._tool = tool
        self._notes = notes
        self._life = life
        self._safety = safety_of(tool).value

    def check(self) -> Check:
        return self._tool.check()

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        mark = self._mark("begin", input, context.idempotency_key)
        self._notes.append(mark)
        over = mark._replace(edge="end")
        try:
            result = await self._tool.execute(input, context)
        except Exception:
            self._notes.append(over)
            raise
        self._notes.append(over)
        return result

    async def reconcile(
        self, key: str, input: ToolInput, context: ToolContext
    ) -> ToolResult | NotDone | None:
        found = await self._tool.reconcile(key, input, context)
        if isinstance(found, ToolResult):
            self._notes.append(self._mark("found", input, key))
        return found

    def _mark(self, edge: str, input: ToolInput, key: str) -> Mark:
        run, iteration, call = key.rsplit("-", 2)
        effect = f"{self.name} {canonical(input).decode()}"
        return Mark(edge, self._life, self._safety, run, int(iteration), call, key, effect)


def safety_of(tool: Tool) -> Safety:
    """What a resumed run may do about an interrupted call of it."""
    entry = ToolRegistry([tool]).entry(str(tool.name))
    assert entry is not None
    return entry.safety


def marked(tools: Iterable[Tool], notes: Notes, life: int) -> list[Tool]:
    """The tools, each recording its calls."""
    return [MarkedTool(tool, notes, life) for tool in tools]


class MarkedModel:
    """A model that records its calls. `run` identifies the run; the iteration is counted in the
    conversation, from the last message that is not the result of a call."""

    def __init__(self, model: Model, notes: Notes, life: int, run: Callable[[], str]) -> None:
        self.provider = model.provider
        self.name = model.name
        self._model = model
        self._notes = notes
        self._life = life
        self._run = run

    def price(self, usage: Usage, *, model: str = "") -> int | None:
        """That of the wrapped model."""
        return self._model.price(usage, model=model)

    async def stream(self, request: Request, *, world: World) -> AsyncIterator[Delta | Response]:
        """The wrapped model's stream, with a mark before the call and one before its answer."""
        iteration = iteration_of(request)
        mark = Mark("begin", self._life, MODEL, self._run(), iteration, "0", "", "")
        self._notes.append(mark)
        answer = self._model.stream(request, world=world)
        try:
            async for item in answer:
                if isinstance(item, Response):
                    self._notes.append(mark._replace(edge="end"))
                yield item
        finally:
            if isinstance(answer, AsyncGenerator):
                await answer.aclose()


def iteration_of(request: Request) -> int:
    """How many times the model has answered since the last user message."""
    answered = 0
    for at in range(len(request.messages) - 1, -1, -1):
        message = request.messages[at]
        if message.role == "assistant":
            answered += 1
        elif message.text:
            break
    return answered
