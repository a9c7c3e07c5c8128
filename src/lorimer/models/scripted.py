"""A model that gives scripted answers: for tests, simulations, demos and benchmarks."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TypeAlias, get_args

from lorimer.core.arguments import is_a, wrong
from lorimer.core.errors import APIError, ConfigError, ExecutorErrorCode, nearest
from lorimer.core.jsonable import JSON, dumps
from lorimer.core.messages import Block, TextBlock, ThinkingBlock, ToolResultBlock, ToolUse
from lorimer.core.request import (
    NO_USAGE,
    Delta,
    Request,
    Response,
    StopReason,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
    Usage,
    UsageDelta,
)
from lorimer.core.world import World
from lorimer.models.pricing import Price, cost_nano
from lorimer.models.recording import Call, difference, read
from lorimer.world.plainfiles import read_lines

if TYPE_CHECKING:
    from lorimer.models.registry import ProviderContext
    from lorimer.models.spec import ModelSpec

Part: TypeAlias = Block | Delta | Exception
Answer: TypeAlias = str | Response | Call | Part | Sequence[Part]
"""A text, a whole response, an error to raise, a recorded call, a part, or parts in order: blocks
make up the answer, deltas are emitted as they are, an error is raised at that point."""
Reply: TypeAlias = Answer | Callable[[Request], Answer]

DEFAULT_USAGE: Final = Usage(input_tokens=10, output_tokens=5)
_PARTS: Final = (*get_args(Block), *get_args(Delta), Exception)
_EXAMPLE: Final = '[ToolUse("call_1", "stock", {"article": "bolt"}), "There are 240."]'
_WORDS: Final = re.compile(r"\s*\S+\s*$|\s*\S+|\s+")
_CALL: Final = re.compile(r"^CALL ([\w.-]+)[ \t]*(.*)$", re.MULTILINE)


class _AtOnce:
    """The stream of an answer that is complete already: a generator, which has to be closed, would
    take longer than the rest of the call."""

    __slots__ = ("_left",)

    def __init__(self, answer: Response) -> None:
        self._left: Response | None = answer

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Response:
        answer, self._left = self._left, None
        if answer is None:
            raise StopAsyncIteration
        return answer


async def _raising(error: BaseException) -> AsyncIterator[Delta | Response]:
    raise error
    yield UsageDelta(NO_USAGE)  # makes it a generator


class ScriptedModel:
    """Plays replies, one per call, whoever calls; implements `core.model.Model`.

    `replies` is an iterable (an endless one is fine) or a function that is called each time. When
    it is exhausted, calls raise APIError `exec.api.terminal`. For one event loop; runs that share
    an instance share its replies.

    usage: that of a reply, unless it is a Response with its own.
    price: dollars per million tokens; None: unknown, so a cost limit refuses it.
    latency_s, delta_s: seconds, on the run's world, before the first piece and between deltas.
    deltas: split an answer into deltas when the request asks for a stream. `chunk` is their length
        in characters, 0: by words.
    record: keep every request in `requests`, with the messages as they were.
    """

    def __init__(
        self,
        replies: Iterable[Reply] | Callable[[Request], Answer] = (),
        *,
        name: str = "scripted",
        provider: str = "scripted",
        usage: Usage = DEFAULT_USAGE,
        price: Price | None = None,
        latency_s: float = 0.0,
        delta_s: float = 0.0,
        deltas: bool = True,
        chunk: int = 0,
        record: bool = True,
    ) -> None:
        self.name = name
        self.provider = provider
        self.usage = usage
        self.latency_s = latency_s
        self.delta_s = delta_s
        self.deltas = deltas
        self.chunk = chunk
        self.record = record
        self.requests: list[Request] = []
        self.calls = 0
        """Number of calls so far."""
        self._tiers = None if price is None else price.tiers()
        self._next: Iterator[Reply] = (
            repeat(replies) if callable(replies) else iter(_listed(replies))
        )

    @classmethod
    def obedient(
        cls,
        tool: str = "",
        input: Mapping[str, JSON] | None = None,
        *,
        name: str = "obedient",
        usage: Usage = DEFAULT_USAGE,
        price: Price | None = None,
        deltas: bool = True,
        record: bool = True,
    ) -> ScriptedModel:
        """An adversarial worst case: it does whatever the last message tells it to.

        Every line `CALL name {json}` in the last message, whether the user's or a tool's result,
        becomes a call. Without such a line it calls `tool` with `input`, forever; without a `tool`
        it says "done".
        """
        arguments = dict(input or {})

        def obey(request: Request) -> Answer:
            calls = _commands(request)
            if not calls and tool:
                calls = [ToolUse(f"call_{len(request.messages)}_0", tool, arguments)]
            return calls or "done"

        return cls(obey, name=name, usage=usage, price=price, deltas=deltas, record=record)

    @classmethod
    def from_recording(
        cls,
        source: str | Path | Iterable[str],
        *,
        check: bool = True,
        price: Price | None = None,
        delta_s: float = 0.0,
        name: str = "",
    ) -> ScriptedModel:
        """The answers of a real run, including failures and deltas, in the same order: `source` is
        a file that `lorimer run --record` wrote, or its lines.

        A call that differs from the recorded one raises APIError `exec.api.terminal` with the first
        difference; with `check` False any request gets the next answer. `name`: by default that of
        the first model recorded. Raises ConfigError if it is not a recording.
        """
        named = isinstance(source, str | Path)
        lines = read_lines(source) if named else source
        calls = read(lines, str(source) if named else "the recording")
        replies = [_played(number, call, check) for number, call in enumerate(calls, 1)]
        name = name or (calls[0].model if calls else "recorded")
        return cls(replies, name=name, price=price, delta_s=delta_s, record=False)

    def price(self, usage: Usage, *, model: str = "") -> int | None:
        """Nano-dollars at the given price, whatever the model; None if none was given."""
        return None if self._tiers is None else cost_nano(self._tiers, usage)

    async def aclose(self) -> None:
        """Nothing to close."""

    def stream(self, request: Request, *, world: World) -> AsyncIterator[Delta | Response]:
        """The next reply. Raises the scripted error, or APIError when the script is exhausted."""
        self.calls += 1
        if self.record:
            self.requests.append(_snapshot(request))
        try:
            answer = self._answer(request)
        except BaseException as error:  # noqa: BLE001 - raised where a stream may raise
            return _raising(error)
        at_once = not self.latency_s and not (self.deltas and request.stream)
        if at_once and isinstance(answer, Response):
            return _AtOnce(answer)
        return self._played(answer, request, world)

    async def _played(
        self, answer: Answer, request: Request, world: World
    ) -> AsyncIterator[Delta | Response]:
        if self.latency_s:
            if request.stream:
                yield UsageDelta(NO_USAGE)  # the provider has answered, the model is thinking
            await world.sleep(self.latency_s)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Call):
            for delta in answer.deltas if request.stream else ():
                if self.delta_s:
                    await world.sleep(self.delta_s)
                yield delta
            if answer.response is None:
                raise answer.error or APIError("It said nothing.")
            yield answer.response
            return
        parts: Sequence[Part] = ()
        if isinstance(answer, Response):
            response = answer
        else:
            parts = _parts(answer)
            response = self._response(parts)
        if self.deltas and request.stream:
            if response.usage.input_tokens:
                yield UsageDelta(Usage(input_tokens=response.usage.input_tokens))
            for delta in self._deltas(parts or response.content):
                if self.delta_s:
                    await world.sleep(self.delta_s)
                yield delta
        for part in parts:
            if isinstance(part, Exception):
                raise part
        yield response

    def _answer(self, request: Request) -> Answer:
        reply = next(self._next, None)
        if reply is None:
            raise APIError(
                f"the script of {self.provider}:{self.name} is used up: it was asked for reply "
                f"number {self.calls}",
                code=ExecutorErrorCode.EXEC_API_TERMINAL,
            )
        return reply(request) if callable(reply) else reply

    def _response(self, parts: Sequence[Part]) -> Response:
        blocks = tuple([part for part in parts if isinstance(part, Block)])
        calls = any(isinstance(block, ToolUse) for block in blocks)
        stop = StopReason.TOOL_USE if calls else StopReason.END_TURN
        return Response(blocks, stop, self.usage, self.name)

    def _deltas(self, parts: Sequence[Part]) -> Iterator[Delta]:
        index = 0
        for part in parts:
            match part:
                case TextBlock():
                    for piece in self._pieces(part.text):
                        yield TextDelta(piece)
                case ThinkingBlock():
                    for piece in self._pieces(part.text):
                        yield ThinkingDelta(piece)
                case ToolUse():
                    yield ToolInputDelta(index, part.raw or dumps(part.input), part.name)
                    index += 1
                case TextDelta() | ThinkingDelta() | ToolInputDelta() | UsageDelta():
                    yield part
                case Exception():
                    return
                case _:
                    pass

    def _pieces(self, text: str) -> Iterable[str]:
        if self.chunk:
            return [text[at : at + self.chunk] for at in range(0, len(text), self.chunk)]
        return _WORDS.findall(text)


def scripted(spec: ModelSpec, context: ProviderContext) -> ScriptedModel:
    """The factory of the provider `scripted`, if nothing else is registered: `scripted:echo`
    repeats the last message, `scripted:obedient` is `ScriptedModel.obedient()`,
    `scripted:FILE.jsonl` plays a recording.

    Raises ConfigError for other names.
    """
    match spec.model:
        case "echo":
            return ScriptedModel(lambda request: _said(request) or "...", name="echo", record=False)
        case "obedient":
            return ScriptedModel.obedient(record=False)
        case path if path.endswith(".jsonl"):
            return ScriptedModel.from_recording(path, name=path)  # a replay has only the spec
        case other:
            raise ConfigError(
                f"there is no scripted model {other!r}{nearest(other, ('echo', 'obedient'))}",
                hint="Name a recording, scripted:FILE.jsonl, or pass"
                ' Models(providers={"scripted": ScriptedModel([...])}).',
                code=ExecutorErrorCode.EXEC_API_NO_CLIENT,
            )


def _played(number: int, call: Call, check: bool) -> Callable[[Request], Answer]:
    def play(request: Request) -> Answer:
        other = difference(call.asked, request) if check else ""
        if other:
            raise APIError(
                f"request {number} is not the one that was recorded: {other}",
                code=ExecutorErrorCode.EXEC_API_TERMINAL,
                hint="Record it again (--record), or play it with check=False.",
            )
        return call

    return play


def _listed(replies: Iterable[Reply]) -> Iterable[Reply]:
    # a single string is an iterable of letters, which nobody means
    return [replies] if isinstance(replies, str | Block | Response) else replies


def _parts(answer: str | Part | Sequence[Part]) -> Sequence[Part]:
    if isinstance(answer, str):
        return (TextBlock(answer),)
    parts = (answer,) if isinstance(answer, Block | Delta | Exception) else answer
    for part in parts if is_a(parts, Sequence) else [parts]:
        if not is_a(part, *_PARTS):
            raise wrong("a scripted reply", part, "a text, a block or a list of blocks", _EXAMPLE)
    return parts


def _snapshot(request: Request) -> Request:
    # the engine's history is a live object that keeps growing
    kept = copy(request)
    kept.messages = tuple(request.messages)
    return kept


def _said(request: Request) -> str:
    texts: list[str] = []
    for block in request.messages[-1].content if request.messages else ():
        if isinstance(block, TextBlock):
            texts.append(block.text)
        elif isinstance(block, ToolResultBlock):
            content = block.content
            parts = (TextBlock(content),) if isinstance(content, str) else content
            texts.extend([part.text for part in parts if isinstance(part, TextBlock)])
    return "\n".join(texts)


def _commands(request: Request) -> list[ToolUse]:
    return [
        _command(f"call_{len(request.messages)}_{number}", *match)
        for number, match in enumerate(_CALL.findall(_said(request)))
    ]


def _command(id: str, name: str, text: str) -> ToolUse:
    try:
        value: JSON = json.loads(text or "{}")
    except ValueError:
        value = None
    return ToolUse(id, name, value) if isinstance(value, dict) else ToolUse(id, name, {}, text)
