"""Records requests to models and their answers, one JSON line per call, to be replayed without the
models. A run's own record, from which it resumes, is the journal instead: `journal/recording.py`.

A line holds digests of the request, and the answer with its deltas, or the error; no key, no
header, and nothing of the prompt except what the model repeats. Written by `Recorder`; replayed by
`ScriptedModel.from_recording`, and over the wires by `lorimer.testing.FakeLLMServer`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import AsyncGeneratorType
from typing import Final

from lorimer.core.context import short_hash
from lorimer.core.errors import APIError, ConfigError, ExecutorErrorCode, error_from_json
from lorimer.core.jsonable import JSON, canonical, dumps
from lorimer.core.messages import Message
from lorimer.core.model import (
    Capabilities,
    KnowsSecrets,
    Model,
    ModelResolver,
    Target,
    capabilities_of,
)
from lorimer.core.record import record
from lorimer.core.redaction import Redactor, of_environment
from lorimer.core.request import (
    Delta,
    Request,
    Response,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
    Usage,
    UsageDelta,
    response_from_json,
)
from lorimer.core.world import World
from lorimer.models.scrubbing import Scrubber

FORMAT: Final = "lorimer-recording"
VERSION: Final = 1

_PREVIEW: Final = 80


@record
class Call:
    """One recorded call."""

    provider: str
    model: str
    """The name as requested."""
    asked: Mapping[str, JSON]
    """See `asked`."""
    deltas: Sequence[Delta]
    response: Response | None
    error: APIError | None
    """Either this or an answer is set."""


class Recorder:
    """A ModelResolver that records the requests to the models of another one, and their answers."""

    def __init__(self, models: ModelResolver, write: Callable[[str], None]) -> None:
        """`write` gets each line as soon as its call is over, without a newline. Secrets known to
        the models or the environment are removed from it."""
        self._models = models
        self._writer = _Writer(write, of_environment(self.secrets()))
        self._made: dict[str, tuple[Sequence[Target], tuple[Target, ...]]] = {}

    def resolve(self, spec: str) -> Model:
        """See ModelResolver."""
        return _Recorded(self._models.resolve(spec), self._writer)

    def targets(self, spec: str) -> Sequence[Target]:
        """See ModelResolver."""
        found = self._models.targets(spec)
        made = self._made.get(spec)
        if made is None or made[0] is not found:
            wrapped = [replace(one, model=_Recorded(one.model, self._writer)) for one in found]
            made = self._made[spec] = (found, tuple(wrapped))
        return made[1]

    async def aclose(self) -> None:
        """See ModelResolver."""
        await self._models.aclose()

    def secrets(self) -> Mapping[str, str]:
        """See KnowsSecrets."""
        return self._models.secrets() if isinstance(self._models, KnowsSecrets) else {}


class _Writer:
    """Writes the lines of one recording; only the new part of a conversation that has grown."""

    def __init__(self, write: Callable[[str], None], redactor: Redactor | None) -> None:
        self._write = write
        self.redactor = redactor
        self._last: list[JSON] = []
        write(dumps({"format": FORMAT, "version": VERSION}))

    def note(self, line: Mapping[str, JSON]) -> None:
        if self.redactor is not None:
            line = self.redactor.json(line, deep=True)
        said = _mapping(line, "asked")
        messages = list(_list(said, "messages"))
        same = 0
        for ours, theirs in zip(messages, self._last, strict=False):
            if ours != theirs:
                break
            same += 1
        self._last = messages
        self._write(dumps({**line, "asked": {**said, "same": same, "messages": messages[same:]}}))


class _Recorded:
    def __init__(self, inner: Model, writer: _Writer) -> None:
        self._inner = inner
        self._writer = writer
        self.provider = inner.provider
        self.name = inner.name

    @property
    def capabilities(self) -> Capabilities:
        return capabilities_of(self._inner)

    def price(self, usage: Usage, *, model: str = "") -> int | None:
        return self._inner.price(usage, model=model)

    async def stream(
        self, request: Request, *, world: World
    ) -> AsyncGenerator[Delta | Response, None]:
        line: dict[str, JSON] = {"provider": self.provider, "asked": asked(request)}
        deltas: list[JSON] = []
        redactor = self._writer.redactor
        scrubber = None if redactor is None else Scrubber(redactor)
        stream = self._inner.stream(request, world=world)
        try:
            async for item in stream:
                if isinstance(item, Response):
                    if scrubber is not None:
                        deltas += map(_plain, scrubber.rest())
                    line["response"] = item.to_json()
                    self._note(line, deltas)
                else:
                    pieces: Sequence[Delta] = [item]
                    if scrubber is not None and not isinstance(item, UsageDelta):
                        pieces = scrubber.take(item)
                    deltas += map(_plain, pieces)
                yield item
        except APIError as error:
            line["error"] = error.to_json()
            if error.usage is not None:
                line["usage"] = error.usage.to_json()
            self._note(line, deltas)
            raise
        finally:
            if "response" not in line and "error" not in line:
                line["error"] = APIError(
                    "the recorded call was cut off here", code=ExecutorErrorCode.EXEC_API_TIMEOUT
                ).to_json()
                self._note(line, deltas)
            if isinstance(stream, AsyncGeneratorType | AsyncGenerator):
                await stream.aclose()

    def _note(self, line: dict[str, JSON], deltas: list[JSON]) -> None:
        if deltas:
            line["deltas"] = deltas
        self._writer.note(line)


def asked(request: Request) -> dict[str, JSON]:
    """What distinguishes one request from another, as digests. Ids of calls are numbered, because
    they differ between runs."""
    data: dict[str, JSON] = {
        "model": request.model,
        "system": _digest(request.system),
        "tools": {tool.name: tool.fingerprint.hex() for tool in request.tools},
        "messages": _digests(request.messages),
        "settings": _settings(request),
    }
    if request.output is not None:
        data["output"] = _digest(request.output.schema)
    return data


def difference(recorded: Mapping[str, JSON], request: Request) -> str:
    """The first difference between a request and the recorded one; "": none. The model's name is
    ignored."""
    now = asked(request)
    for name in ("system", "output"):
        if recorded.get(name) != now.get(name):
            shown = request.system if name == "system" else ""
            return f"its {name} is another one{_shown(shown)}"
    for name in ("tools", "settings"):
        theirs, ours = _mapping(recorded, name), _mapping(now, name)
        for key in {**theirs, **ours}:
            if theirs.get(key) != ours.get(key):
                if name == "tools":
                    there = "is not there" if key not in ours else "was not there"
                    both = key in ours and key in theirs
                    return f"its tool {key!r} {'is another one' if both else there}"
                return f"its {key} is {ours.get(key)!r}, it was {theirs.get(key)!r}"
    theirs, ours = _list(recorded, "messages"), _list(now, "messages")
    for index, message in enumerate(request.messages):
        if index >= len(theirs) or theirs[index] != ours[index]:
            which = "more" if index >= len(theirs) else "another one"
            text = message.text or dumps(message.to_json()["content"])
            return f"its message {index + 1} ({message.role}) is {which}{_shown(text)}"
    if len(theirs) > len(ours):
        return f"it has {len(ours)} messages, it had {len(theirs)}"
    return ""


def read(lines: Iterable[str], name: str = "the recording") -> list[Call]:
    """The calls of a recording, in the order in which they ended. Raises ConfigError; a last line
    cut off by the end of the process is ignored."""
    rows = [line for line in lines if line.strip()]
    first = _row(rows[0]) if rows else None
    if first is None or first.get("format") != FORMAT:
        raise ConfigError(f"{name} is not a recording of model calls (lorimer run --record)")
    if first.get("version") != VERSION:
        raise ConfigError(
            f"{name} is a recording of version {first.get('version')}; this is {VERSION}",
            hint="Record it again.",
        )
    calls: list[Call] = []
    last: list[JSON] = []
    for number, text in enumerate(rows[1:], 2):
        row = _row(text)
        try:
            if row is None:
                raise ValueError("it is no JSON object")
            last = last[: _whole(row)] + list(_list(_mapping(row, "asked"), "messages"))
            calls.append(_call(row, last))
        except (ValueError, TypeError, KeyError) as error:
            if number == len(rows) and row is None:
                break
            raise ConfigError(f"line {number} of {name} cannot be read: {error}") from None
    return calls


def _row(text: str) -> dict[str, JSON] | None:
    try:
        row: JSON = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _whole(row: Mapping[str, JSON]) -> int:
    same = _mapping(row, "asked").get("same")
    if not isinstance(same, int):
        raise ValueError("it does not say how many messages are as before")
    return same


def _call(row: Mapping[str, JSON], messages: list[JSON]) -> Call:
    said = {**_mapping(row, "asked"), "messages": messages}
    response, error = row.get("response"), None
    if not isinstance(response, Mapping):
        error = error_from_json(_mapping(row, "error"))
        if not isinstance(error, APIError):
            raise ValueError(f"{error.code.value} is not an error of a model")
        usage = row.get("usage")
        error.usage = Usage.from_json(usage) if isinstance(usage, Mapping) else None
    return Call(
        str(row.get("provider", "")),
        str(said.get("model", "")),
        said,
        [_delta(item) for item in _list(row, "deltas")] if "deltas" in row else [],
        response_from_json(response) if isinstance(response, Mapping) else None,
        error,
    )


def _plain(delta: Delta) -> JSON:
    match delta:
        case TextDelta():
            return delta.text
        case ThinkingDelta():
            return {"thinking": delta.text}
        case ToolInputDelta():
            return {"index": delta.index, "json": delta.partial_json, "name": delta.name}
        case UsageDelta():
            return {"usage": delta.usage.to_json()}


def _delta(data: JSON) -> Delta:
    if isinstance(data, str):
        return TextDelta(data)
    if not isinstance(data, Mapping):
        raise ValueError("a delta is neither text nor an object")
    if "thinking" in data:
        return ThinkingDelta(str(data["thinking"]))
    if "usage" in data:
        return UsageDelta(Usage.from_json(_mapping(data, "usage")))
    index = data.get("index")
    if not isinstance(index, int):
        raise ValueError("a delta of a call needs its index")
    return ToolInputDelta(index, str(data.get("json", "")), str(data.get("name", "")))


def _mapping(data: Mapping[str, JSON], name: str) -> Mapping[str, JSON]:
    value = data.get(name)
    if not isinstance(value, Mapping):
        raise ValueError(f"it has no {name!r}")
    return value


def _list(data: Mapping[str, JSON], name: str) -> Sequence[JSON]:
    value = data.get(name)
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ValueError(f"it has no list of {name!r}")
    return value


def _digest(value: JSON) -> str:
    return short_hash(canonical(value))


def _settings(request: Request) -> dict[str, JSON]:
    return {
        "tool_choice": request.tool_choice,
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_k": request.top_k,
        "stop_sequences": list(request.stop_sequences),
        "thinking_tokens": request.thinking_tokens,
        "effort": request.effort,
        "seed": request.seed,
    }


def _digests(messages: Sequence[Message]) -> list[JSON]:
    numbers: dict[str, int] = {}
    digests: list[JSON] = []
    for message in messages:
        blocks: list[JSON] = []
        for block in message.content:
            plain = block.to_json()
            for name in ("id", "tool_use_id"):
                if name in plain and plain["type"] != "thinking":
                    plain[name] = numbers.setdefault(str(plain[name]), len(numbers))
            blocks.append(plain)
        digests.append(_digest([message.role, blocks]))
    return digests


def _shown(text: str) -> str:
    line = " ".join(text.split())
    return f": {line[:_PREVIEW]}{'...' if len(line) > _PREVIEW else ''}" if line else ""
