"""Common parts of the vendors' wires: reading an answer from a response, and assembling it.

A vendor provides an `Assembler`, which knows its events, and sends the request; the rules here hold
for all: one answer or one error, deltas once, the connection closed or returned to the pool.
"""

from __future__ import annotations

import asyncio
import re
from abc import ABC, abstractmethod
from base64 import b64decode
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final, Protocol

import httpx2

from lorimer.core.documents import deeper
from lorimer.core.errors import APIError, ExecutorErrorCode, reason_of
from lorimer.core.jsonable import JSON, clean, dumps
from lorimer.core.messages import Block, DocumentBlock, Message, Role, ToolUse
from lorimer.core.request import NO_USAGE, Delta, Request, Response, StopReason, Usage, UsageDelta
from lorimer.models.credentials import ProviderCredentials
from lorimer.models.errors import NETWORK_ERRORS, event_error, incomplete
from lorimer.models.estimate import CHARS_PER_TOKEN
from lorimer.models.wires.sse import Event, LineTooLong, SSEParser, parse_json

DRAIN_S: Final = 0.05
"""Seconds to wait for the end of the body after the answer has ended, to keep the connection."""

MAX_BODY: Final = 64 * 1024 * 1024
"""Bytes of an answer that is not streamed."""

MAX_STREAM: Final = 128 * 1024 * 1024
"""Bytes of a streamed answer. Around each word of an answer are some 300 others."""

MAX_TOKENS: Final = 10**9
"""The most that a provider can plausibly count in one call."""

LOW_BUDGET: Final = 5_000
MEDIUM_BUDGET: Final = 20_000

CUTTING: Final = frozenset({StopReason.MAX_TOKENS, StopReason.CONTEXT_OVERFLOW, StopReason.REFUSAL})
"""Stop reasons that may interrupt a call."""

_WIRE_ID: Final = re.compile(r"[a-zA-Z0-9_-]+")
MAX_ID: Final = 64
"""Length of a call's id that every provider accepts, but for OpenAI's chat wire."""
_NOT_IN_NAME: Final = re.compile(r"[^a-zA-Z0-9_-]")
BROKEN: Final = (KeyError, TypeError, AttributeError, IndexError, ValueError, RecursionError)
"""Raised when parsing an answer that makes no sense, or is nested more deeply than Python's
recursion limit."""

MAX_NESTING: Final = 128
"""Nesting depth of objects and lists in what is kept of an answer: all later code that walks
through it has to finish. Tools accept less."""


@dataclass(slots=True)
class Encoded:
    """A request ready to be written."""

    body: dict[str, JSON]
    headers: dict[str, str] = field(default_factory=dict[str, str])
    """In addition to those of every request."""
    dropped: list[str] = field(default_factory=list[str])
    """Fields that were requested but not sent."""


class Assembler(ABC):
    """Assembles one answer. One object per call."""

    def __init__(self, provider: str, credentials: ProviderCredentials) -> None:
        self.usage = NO_USAGE
        self.done = False
        """The provider's own last event has come."""
        self.sent = 0
        """Size of the request in bytes."""
        self.dropped: Sequence[str] = ()
        """Fields of the request that were not sent."""
        self._provider = provider
        self._credentials = credentials
        self._model = ""
        self._id = ""

    @abstractmethod
    def read(self, events: Iterable[Event]) -> Sequence[Delta]:
        """The deltas in these events. Raises APIError for one that reports an error, and KeyError,
        TypeError or ValueError for one that makes no sense."""

    @abstractmethod
    def whole(self, body: JSON) -> None:
        """Read an answer that was not streamed. Raises like `read`."""

    @abstractmethod
    def finish(self) -> Response:
        """The answer. Raises APIError `exec.api.stream_incomplete` if it has not ended."""

    def _response(
        self, content: tuple[Block, ...], stop: StopReason, extra: dict[str, JSON]
    ) -> Response:
        """The answer with this content. Its usage, if not reported, is a guess, which `extra`
        names."""
        if self.dropped:
            extra["dropped"] = list(self.dropped)
        if not self.usage.total:
            extra["usage_estimated"] = True
            chars = sum(len(dumps(block.to_json())) for block in content)
            self.usage = Usage(-(-self.sent // CHARS_PER_TOKEN), -(-chars // CHARS_PER_TOKEN))
        return Response(content, stop, self.usage, self._model, self._id, 0, extra)

    def _failed(self, error: JSON) -> APIError:
        """The error for one that the provider reports within its answer."""
        return event_error(self._provider, error, usage=self.usage, credentials=self._credentials)


class Price(Protocol):
    """`Model.price`."""

    def __call__(self, usage: Usage, *, model: str = "") -> int | None: ...


async def exchange(
    provider: str,
    send: Callable[[], Awaitable[httpx2.Response]],
    assembler: Assembler,
    price: Price,
    *,
    streamed: bool,
) -> AsyncGenerator[Delta | Response, None]:
    """Send a request, then yield the deltas and the answer; the response is closed in any case.

    Raises APIError: that of `send`, an error that the provider reports inside the answer, and
    `exec.api.stream_incomplete` for an answer that is cut off, malformed or too long.
    """
    response = await send()
    chunks = response.aiter_bytes()
    kind = response.headers.get("content-type", "")
    page = "html" in kind  # of something else, unless there is an answer in it
    try:
        if not streamed or "json" in kind:
            assembler.whole(parse_json(await _body(chunks)))
        else:
            if not page:
                yield UsageDelta(NO_USAGE)  # it has answered: stops the connect clock
            parser = SSEParser()
            size = 0
            async for chunk in chunks:
                size += len(chunk)
                if size > MAX_STREAM:
                    raise LineTooLong(f"it is longer than {MAX_STREAM} bytes")
                events = parser.feed(chunk)
                if events:
                    page = False
                    for delta in assembler.read(events):
                        yield delta
                    if assembler.done:
                        await _drain(chunks)
                        break
            else:
                stray = parser.stray()
                if stray.startswith(("{", "[")) and '"error"' in stray:
                    assembler.read([("error", stray)])
            if page:
                raise ValueError("there is no event in it")
        answer = assembler.finish()
    except NETWORK_ERRORS as error:
        why = reason_of(error)
        raise incomplete(provider, why, usage=assembler.usage, cause=error) from error
    except LineTooLong as error:
        raise incomplete(provider, str(error), usage=assembler.usage) from error
    except BROKEN as error:
        why = f"it makes no sense ({type(error).__name__}: {error})"
        if page:
            why = "it is a web page; is the base URL right?"
        raise incomplete(provider, why, usage=assembler.usage, cause=error) from error
    finally:
        await chunks.aclose()
        await response.aclose()
    answer.cost_nano = price(answer.usage, model=answer.model) or 0
    yield answer


async def read_json(provider: str, response: httpx2.Response) -> JSON:
    """The complete body of a response other than a model's answer, parsed strictly; the response is
    closed. Raises APIError `exec.api.stream_incomplete` if it is cut off, malformed or too long."""
    chunks = response.aiter_bytes()
    try:
        return parse_json(await _body(chunks))
    except (*NETWORK_ERRORS, ValueError) as error:
        raise incomplete(provider, reason_of(error), cause=error) from error
    finally:
        await chunks.aclose()
        await response.aclose()


async def _body(chunks: AsyncGenerator[bytes, None]) -> str:
    parts: list[bytes] = []
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > MAX_BODY:
            raise LineTooLong(f"the body is longer than {MAX_BODY} bytes")
        parts.append(chunk)
    return b"".join(parts).decode("utf-8", "replace")


async def _drain(chunks: AsyncGenerator[bytes, None]) -> None:
    # A body read to its end returns the connection to the pool; one that does not end is closed.
    try:
        async with asyncio.timeout(DRAIN_S):
            async for _ in chunks:
                pass
    except NETWORK_ERRORS:  # includes TimeoutError, an OSError
        return


class Text:
    """Text that arrives in pieces, where a surrogate pair may be split."""

    __slots__ = ("_held", "parts")

    def __init__(self) -> None:
        self.parts: list[str] = []
        self._held = ""

    def add(self, piece: str) -> str:
        """Add a piece; returns the part of the text that can be shown now."""
        if self._held or not piece.isascii():
            piece = self._held + piece
            self._held = ""
            if "\ud800" <= piece[-1] <= "\udbff":
                self._held = piece[-1]
                piece = piece[:-1]
            piece = clean(piece)
        self.parts.append(piece)
        return piece

    def __str__(self) -> str:
        return "".join(self.parts) + clean(self._held)


@dataclass(frozen=True, slots=True)
class Turn:
    """Consecutive messages of one role, merged."""

    role: Role
    blocks: list[Block]


def turns(messages: Sequence[Message]) -> list[Turn]:
    """The conversation with consecutive messages of one role merged."""
    out: list[Turn] = []
    for message in messages:
        if out and out[-1].role == message.role:
            out[-1].blocks.extend(message.content)
        else:
            out.append(Turn(message.role, list(message.content)))
    return out


@contextmanager
def writing(provider: str) -> Generator[None]:
    """Wraps the encoding of a request: values that JSON cannot represent (a NaN, an object) become
    APIError `exec.api.bad_request`."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise APIError(
            f"the request to {provider} cannot be written as JSON: {error}",
            code=ExecutorErrorCode.EXEC_API_BAD_REQUEST,
            cause=error,
        ) from error


def encode_body(body: Mapping[str, JSON]) -> bytes:
    """The request as bytes. Lone surrogates in a prompt or a result do not make it fail."""
    return dumps(body).encode("utf-8", "replace")


def wire_id(id: str, longest: int = MAX_ID) -> str:
    """A call's id in a form that every provider accepts; the same for the call and its result."""
    if _WIRE_ID.fullmatch(id) and len(id) <= longest:
        return id
    return "id_" + blake2b(id.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def wire_name(name: str) -> str:
    """The name of a called tool in a form that every provider accepts: a model may have made it
    up."""
    return _NOT_IN_NAME.sub("_", name)[:64] or "unknown"


def plain_text(block: DocumentBlock) -> str | None:
    """The text of a document that is nothing but text; None for any other."""
    if not block.data or not block.media_type.startswith("text/"):
        return None
    try:
        return clean(b64decode(block.data).decode("utf-8", "replace"))
    except ValueError:
        return None


def effort_of(request: Request, default: str) -> str:
    """The effort as a word: as requested, from the spec, or derived from the thinking budget."""
    if request.effort or default or not request.thinking_tokens:
        return request.effort or default
    if request.thinking_tokens < LOW_BUDGET:
        return "low"
    return "medium" if request.thinking_tokens <= MEDIUM_BUDGET else "high"


def tool_use(id: str, name: str, text: str, *, cut: bool) -> ToolUse:
    """A call from the text of its arguments. If `raw` is set it cannot be run: the text was not a
    JSON object, was nested deeper than MAX_NESTING, or (`cut`) the answer stopped in the middle of
    it. Servers encode missing arguments as an empty text or null, and some encode an object as a
    JSON string, or send the whole text again at the end of a stream."""
    if cut:
        return ToolUse(id, name, {}, clean(text) or "{")
    if not text.strip():
        return ToolUse(id, name, {})
    try:
        value: JSON = parse_json(text[: (text * 2).find(text, 1)] if '}{"' in text else text)
        if isinstance(value, str) and value.lstrip().startswith("{"):
            value = parse_json(value)
        if "\\u" in text:
            # escapes can hide surrogates, which no file or socket accepts
            value = parse_json(clean(dumps(value)))
        if value is None:
            value = {}
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict) and not deeper(value, MAX_NESTING):
        return ToolUse(id, name, value)
    return ToolUse(id, name, {}, clean(text))


def shallow(value: JSON) -> JSON:
    """A value to be kept unchanged; None if it is nested deeper than MAX_NESTING."""
    return None if deeper(value, MAX_NESTING) else value


def count(value: JSON, default: int = 0) -> int:
    """A number of tokens as sent by providers: `default` if it is null, missing, negative or
    absurd."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return default
    if not 0 <= value <= MAX_TOKENS:  # also for NaN
        return default
    return int(value)


def counted_tokens(provider: str, value: JSON) -> int:
    """The result of counting the tokens of a request. Raises APIError `exec.api.stream_incomplete`
    if it is not a number of tokens."""
    tokens = count(value, -1)
    if tokens < 0:
        raise incomplete(provider, "it counts no tokens")
    return tokens


def mapping(value: JSON) -> dict[str, JSON]:
    """`value`, which has to be an object. Raises TypeError."""
    if not isinstance(value, dict):
        raise TypeError(f"an object was expected, not {type(value).__name__}")
    return value


def array(value: JSON) -> list[JSON]:
    """`value`, which has to be an array. Raises TypeError."""
    if not isinstance(value, list):
        raise TypeError(f"an array was expected, not {type(value).__name__}")
    return value


def string(value: JSON) -> str:
    """`value`, which has to be a string. Raises TypeError."""
    if not isinstance(value, str):
        raise TypeError(f"a string was expected, not {type(value).__name__}")
    return value
