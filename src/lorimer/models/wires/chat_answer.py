"""OpenAI's chat chunks, or its complete response, as the canonical answer.

Also those of other servers, with their deviations: thinking under two names, text in parts, calls
without index or id, a stop reason of `stop` after calls, or one of another vendor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from lorimer.core.brackets import Brackets
from lorimer.core.jsonable import JSON, clean, dumps
from lorimer.core.messages import Block, TextBlock, ThinkingBlock
from lorimer.core.request import (
    NO_USAGE,
    Delta,
    Response,
    StopReason,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
    Usage,
    UsageDelta,
)
from lorimer.models.credentials import ProviderCredentials
from lorimer.models.errors import event_error, incomplete
from lorimer.models.wires.shared import (
    CUTTING,
    Assembler,
    Text,
    array,
    count,
    counted,
    mapping,
    string,
    tool_use,
)
from lorimer.models.wires.sse import Event, parse_json

_STOPS: Final[Mapping[str, StopReason]] = {
    "stop": StopReason.END_TURN,
    "length": StopReason.MAX_TOKENS,
    "tool_calls": StopReason.TOOL_USE,
    "function_call": StopReason.TOOL_USE,
    "content_filter": StopReason.REFUSAL,
    # passed through by gateways to other vendors
    "tool_use": StopReason.TOOL_USE,
    "max_tokens": StopReason.MAX_TOKENS,
    "refusal": StopReason.REFUSAL,
}
_FAILED: Final = frozenset({"error", "abort"})
"""The server gave up; vLLM says `abort`."""


class _Call:
    """A tool call under construction."""

    __slots__ = ("_brackets", "_seen", "_whole", "arguments", "id", "name")

    def __init__(self, id: str) -> None:
        self.id = id
        self.name = ""
        self.arguments = Text()
        self._seen = 0
        """Number of pieces of the arguments that were examined."""
        self._brackets = Brackets()
        self._whole: bool | None = None
        """The brackets are closed, and it is an object, or not JSON at all; None: they are open."""

    def precedes(self, id: str, name: str, text: str) -> bool:
        """Whether a piece with this name begins another call: decided by its id; without ids, by
        whether the arguments of this one are complete. Some servers repeat the name with every
        piece."""
        if id and self.id:
            return id != self.id
        if name == self.name and not text.lstrip().startswith("{"):
            return False
        pieces = self.arguments.parts[self._seen :]
        self._seen += len(pieces)
        for piece in pieces:
            self._brackets.look(piece)
        if self._whole is None and self._brackets.closed:
            try:
                self._whole = isinstance(parse_json(str(self.arguments)), dict)
            except ValueError:
                self._whole = False
        return self._whole is True


class ChatAnswer(Assembler):
    """An `Assembler`; see `models.wires.shared`."""

    def __init__(self, provider: str, credentials: ProviderCredentials) -> None:
        super().__init__(provider, credentials)
        self._text = Text()
        self._thinking = Text()
        self._calls: list[_Call] = []
        self._slots: dict[JSON, int] = {}  # index on the wire → position in _calls
        self._finish = ""
        self._refused = False

    def read(self, events: Iterable[Event]) -> Sequence[Delta]:
        """See `Assembler.read`. Unknown fields are skipped, and all choices but the first."""
        out: list[Delta] = []
        for name, text in events:
            if text == "[DONE]":
                self.done = True
                return out
            data = mapping(parse_json(text))
            if data.get("error") or name == "error":
                raise self._failed(data.get("error") or data)
            if not self._id:
                self._head(data)
            for item in array(data.get("choices") or []):
                choice = mapping(item)
                if choice.get("index", 0) == 0:
                    self._delta(mapping(choice.get("delta") or {}), out)
                    self._finish = string(choice.get("finish_reason") or self._finish)
            if data.get("usage"):
                self._count(data["usage"])
                out.append(UsageDelta(self.usage))
        return out

    def whole(self, body: JSON) -> None:
        """See `Assembler.whole`."""
        data = mapping(body)
        if data.get("error"):
            raise self._failed(data["error"])
        self._head(data)
        choice = mapping(array(data["choices"])[0])
        self._delta(mapping(choice["message"]), [])
        self._finish = string(choice.get("finish_reason") or "")
        if data.get("usage"):
            self._count(data["usage"])
        self.done = True

    def finish(self) -> Response:
        """See `Assembler.finish`. A body that ends without `[DONE]` is complete if it gave both the
        stop reason and the usage: nothing of the answer can be missing then."""
        if not self._finish or not (self.done or self.usage is not NO_USAGE):
            missing = "a finish_reason" if not self._finish else "[DONE]"
            raise incomplete(self._provider, f"it ended without {missing}", usage=self.usage)
        if self._finish in _FAILED:
            why = f"it stopped with {self._finish!r}"
            raise self._failed({"code": "server_error", "message": why})
        extra: dict[str, JSON] = {}
        if self._finish not in _STOPS:
            extra["stop_reason"] = self._finish
        if self.dropped:
            extra["dropped"] = list(self.dropped)
        stop = self._stop()
        content = self._content(cut=stop in CUTTING)
        self.usage = counted(self.usage, self.sent, content, extra)
        return Response(content, stop, self.usage, self._model, self._id, 0, extra)

    def _stop(self) -> StopReason:
        stop = _STOPS.get(self._finish, StopReason.END_TURN)
        if stop in (StopReason.END_TURN, StopReason.TOOL_USE):
            stop = StopReason.TOOL_USE if self._calls else StopReason.END_TURN
        return StopReason.REFUSAL if self._refused else stop

    def _content(self, *, cut: bool) -> tuple[Block, ...]:
        content: list[Block] = []
        if thinking := str(self._thinking):
            content.append(ThinkingBlock(thinking))
        if text := str(self._text):
            content.append(TextBlock(text))
        for call in self._calls:
            last = call is self._calls[-1]
            made = tool_use(call.id, clean(call.name), str(call.arguments), cut=cut and last)
            content.append(made)
        return tuple(content)

    def _head(self, data: Mapping[str, JSON]) -> None:
        self._id = string(data.get("id") or "")
        self._model = string(data.get("model") or "")

    def _delta(self, delta: Mapping[str, JSON], out: list[Delta]) -> None:
        """A delta, or the message of a non-streamed answer: the fields are the same."""
        content = delta.get("content")
        if isinstance(content, str):
            self._say(content, out)
        elif content:
            self._parts(array(content), out)
        thought = delta.get("reasoning_content") or delta.get("reasoning")
        if thought:
            piece = self._thinking.add(string(thought))
            if piece:
                out.append(ThinkingDelta(piece))
        refusal = delta.get("refusal")
        if refusal:
            self._refused = True
            self._say(string(refusal), out)
        calls = delta.get("tool_calls")
        if calls:
            for call in array(calls):
                self._call(mapping(call), out)

    def _parts(self, parts: list[JSON], out: list[Delta]) -> None:
        for part in map(mapping, parts):
            if part.get("type") == "text":
                self._say(string(part.get("text") or ""), out)

    def _say(self, text: str, out: list[Delta]) -> None:
        if not text:
            return
        piece = self._text.add(text)
        if piece:
            out.append(TextDelta(piece))

    def _call(self, data: Mapping[str, JSON], out: list[Delta]) -> None:
        given = string(data.get("id") or "")
        function = mapping(data.get("function") or {})
        name = string(function.get("name") or "")
        arguments = function.get("arguments") or ""
        text = arguments if isinstance(arguments, str) else dumps(arguments)
        number = self._slot(data.get("index"), given, name, text)
        call = self._calls[number]
        fresh = bool(name) and not call.name
        call.name = call.name or name
        piece = call.arguments.add(text) if text else ""
        if fresh or piece:
            out.append(ToolInputDelta(number, piece, name if fresh else ""))

    def _slot(self, index: JSON, id: str, name: str, text: str) -> int:
        """The call that a piece belongs to. Some servers send no index, or the same one for all,
        and some of those no ids."""
        number = len(self._calls) - 1 if index is None else self._slots.get(index, -1)
        if number >= 0:
            call = self._calls[number]
            if not name or not (index is None or call.precedes(id, name, text)):
                call.id = call.id or id
                return number
        self._calls.append(_Call(id))
        self._slots[index] = len(self._calls) - 1
        return len(self._calls) - 1

    def _count(self, value: JSON) -> None:
        """The wire's prompt tokens include cached tokens; our input tokens do not."""
        usage = mapping(value)
        prompt_details = usage.get("prompt_tokens_details")
        answer_details = usage.get("completion_tokens_details")
        prompt = prompt_details if isinstance(prompt_details, dict) else {}
        answer = answer_details if isinstance(answer_details, dict) else {}
        read = count(prompt.get("cached_tokens"))
        written = count(prompt.get("cache_write_tokens"))
        self.usage = Usage(
            max(0, count(usage.get("prompt_tokens")) - read - written),
            count(usage.get("completion_tokens")),
            written,
            read,
            count(answer.get("reasoning_tokens")),
        )

    def _failed(self, error: JSON) -> Exception:
        return event_error(self._provider, error, usage=self.usage, credentials=self._credentials)
