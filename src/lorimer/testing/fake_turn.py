"""Answers of and requests to a fake provider as plain data: one format for all wires.

A `Turn` is one answer. The modules named after the wires (`fake_anthropic`, ...) write it in their
vendor's format, `fake_server` plays it, `faults` describes what may go wrong on the way.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Literal, Protocol, TypeAlias

from lorimer.core.jsonable import JSON, dumps
from lorimer.testing.faults import ContextOverflow, ErrorEvent, Event, Fault

Wire: TypeAlias = Literal["anthropic", "openai", "responses", "google"]

MAX_DELTAS = 64
"""How many deltas a text is split into if the turn does not give them."""
_SHORTEST_DELTA = 4
"""Characters."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model makes."""

    id: str
    name: str
    input: Mapping[str, JSON] = field(default_factory=dict[str, JSON])
    raw: str | None = None
    """Text sent in place of `input`: cut off, not JSON, or not an object. Where the wire requires
    an object (Anthropic, not streamed) it is used if it is JSON of any kind."""

    @property
    def arguments(self) -> str:
        """The arguments as text."""
        return dumps(self.input) if self.raw is None else self.raw


@dataclass(frozen=True, slots=True)
class FakeUsage:
    """Tokens of one answer. The wires add and split them as their vendor does."""

    input_tokens: int = 10
    """Neither read from nor written to a cache."""
    output_tokens: int = 5
    """All generated tokens, including `reasoning`."""
    cache_read: int = 0
    cache_write: int = 0
    reasoning: int = 0


@dataclass(frozen=True, slots=True)
class Turn:
    """One answer: thinking, then text, then calls; empty parts are left out."""

    text: str | tuple[str, ...] = ""
    """A tuple gives the deltas of a stream; a string is split into at most MAX_DELTAS."""
    thinking: str | tuple[str, ...] = ""
    signature: str = ""
    """Of the thinking (Anthropic, and OpenAI's responses: its encrypted content), of the first call
    or the end of the text (Google). "": derived from what it seals, and accepted by every
    server."""
    redacted_thinking: str = ""
    """Data of a redacted block after the thinking (Anthropic)."""
    phase: str = ""
    """Of the text (OpenAI's responses): `commentary` or `final_answer`. "": not sent."""
    tool_calls: tuple[ToolCall, ...] = ()
    stop: str | None = None
    """`end_turn`, `tool_use`, `max_tokens`, `stop_sequence`, `refusal`, `pause` or
    `context_overflow`, in the vendor's own terms; any other word is sent unchanged. None:
    `tool_use` if there are calls, else `end_turn`."""
    usage: FakeUsage | None = FakeUsage()
    """None: not reported by the provider."""
    model: str | None = None
    """The model that answers; None: the one requested."""
    faults: tuple[Fault, ...] = ()

    @property
    def stop_reason(self) -> str:
        """`stop`, or the default that depends on the calls."""
        return self.stop or ("tool_use" if self.tool_calls else "end_turn")

    @property
    def seal(self) -> str:
        """The signature of the thinking."""
        return self.signature or seal(joined(self.thinking))


def joined(text: str | tuple[str, ...]) -> str:
    """The complete text, which may be given as deltas."""
    return text if isinstance(text, str) else "".join(text)


def deltas(text: str | tuple[str, ...]) -> tuple[str, ...]:
    """The text as deltas: those given, or slices of equal length."""
    if not isinstance(text, str):
        return text
    size = max(_SHORTEST_DELTA, -(-len(text) // MAX_DELTAS))
    return tuple([text[at : at + size] for at in range(0, len(text), size)])


def seal(thinking: str) -> str:
    """The signature that every fake server gives to, and accepts for, this text."""
    return b64encode(sha256(b"lorimer fake signature\n" + thinking.encode()).digest()).decode()


@dataclass(frozen=True, slots=True)
class SeenRequest:
    """One request as parsed by the server."""

    number: int
    """1 for the first that this server got, including rejected ones."""
    wire: Wire
    path: str
    """With its query."""
    headers: Mapping[str, str]
    """Names in lower case."""
    body: Mapping[str, JSON]

    @property
    def stream(self) -> bool:
        """Whether the answer is to be streamed."""
        return self.body.get("stream") is True or ":streamGenerateContent" in self.path

    @property
    def model(self) -> str:
        """The model asked for."""
        named = self.path.partition("/models/")[2].partition(":")[0]  # Google has it in the URL
        return named or str(self.body.get("model", ""))

    @property
    def api_key(self) -> str:
        """The credential, from `authorization: Bearer`, `x-api-key` or `x-goog-api-key`; ""
        without one."""
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return token
        return self.headers.get("x-api-key") or self.headers.get("x-goog-api-key", "")


class Refused(Exception):
    """The provider rejects the request. Each wire has its own format for it."""

    def __init__(
        self, status: int, message: str, *, kind: str = "", param: str | None = None, code: str = ""
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        """The vendor's `type`; "": the default for the status."""
        self.param = param
        """OpenAI: the location in the request."""
        self.code = code
        """OpenAI's `code`; "": the default for the status."""


class WireForm(Protocol):
    """One vendor's format. It may remember what it sent, to check what comes back."""

    wire: Wire
    path: str
    """A regular expression for all of it, without the query."""
    ping: bytes
    request_id_header: str

    def check(self, request: SeenRequest) -> None:
        """Raises Refused for a request that the vendor would reject."""
        ...

    def message(self, turn: Turn, request: SeenRequest) -> JSON:
        """The turn, not streamed."""
        ...

    def events(self, turn: Turn, request: SeenRequest) -> list[Event]:
        """The turn, streamed."""
        ...

    def error(self, refused: Refused, request_id: str) -> JSON:
        """The body for `refused.status`."""
        ...

    def error_event(self, fault: ErrorEvent) -> Event:
        """An error in mid-stream."""
        ...

    def overflow(self, fault: ContextOverflow) -> Refused:
        """The prompt is too long."""
        ...

    def wrong_key(self) -> Refused:
        """The credential is unknown, or missing."""
        ...
