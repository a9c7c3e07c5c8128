"""OpenAI's chat chunks, or its complete response, as the canonical answer.

Also those of other servers, with their deviations: thinking under two names, text in parts, calls
without index or id, a stop reason of `stop` after calls, or one of another vendor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from lorimer.core.brackets import Brackets
from lorimer.core.jsonable import JSON, clean, dumps
from lorimer.core.messages import Block, TextBlock, ToolUse
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
from lorimer.models.errors import incomplete
from lorimer.models.wires.chat_thoughts import Thoughts
from lorimer.models.wires.shared import (
    CUTTING,
    Assembler,
    Text,
    array,
    count,
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
    # passed through by gateways to other vendors, or another server's own
    "tool_use": StopReason.TOOL_USE,
    "max_tokens": StopReason.MAX_TOKENS,
    "model_length": StopReason.CONTEXT_OVERFLOW,
    "model_context_window_exceeded": StopReason.CONTEXT_OVERFLOW,
    **dict.fromkeys(
        ("refusal", "safety", "sensitive", "content_filtered", "guardrail_intervened"),
        StopReason.REFUSAL,
    ),
}
_FAILED: Final = frozenset({"error", "abort", "insufficient_system_resource", "network_error"})
"""The server gave up; vLLM says `abort`, DeepSeek and Z.ai the longer words."""
_MALFORMED: Final = "malformed_function_call"
"""Part of what Google says when a Gemini made no proper call, and its output is lost."""


class _Call:
    """A tool call under construction."""

    __slots__ = ("_brackets", "_seen", "_whole", "arguments", "id", "name", "signature")

    def __init__(self, id: str) -> None:
        self.id = id
        self.name = ""
        self.arguments = Text()
        self.signature = ""
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
        self._thoughts = Thoughts(provider)
        self._calls: list[_Call] = []
        self._slots: dict[JSON, int] = {}  # index on the wire → position in _calls
        self._finish = ""
        self._refused = False
        self._error: JSON = None
        self._cost: JSON = None

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
                    if choice.get("finish_reason"):
                        self._end(choice)
                    if choice.get("usage"):
                        self._count(choice["usage"], out)
            if data.get("usage"):
                self._count(data["usage"], out)
        return out

    def whole(self, body: JSON) -> None:
        """See `Assembler.whole`."""
        data = mapping(body)
        if data.get("error"):
            raise self._failed(data["error"])
        self._head(data)
        if data.get("usage"):
            self._count(data["usage"], [])
        choices = array(data.get("choices") or [])
        if not choices and (data.get("message") or data.get("msg")):
            raise self._failed(data)
        choice = mapping(choices[0])
        self._delta(mapping(choice["message"]), [], whole=True)
        self._end(choice)
        self.done = True

    def finish(self) -> Response:
        """See `Assembler.finish`. A body that ends without `[DONE]` is complete if it gave both the
        stop reason and the usage: nothing of the answer can be missing then."""
        if not self._finish or not (self.done or self.usage is not NO_USAGE):
            missing = "a finish_reason" if not self._finish else "[DONE]"
            raise incomplete(self._provider, f"it ended without {missing}", usage=self.usage)
        finish = self._finish.lower()
        if finish in _FAILED or _MALFORMED in finish:
            why = f"it stopped with {self._finish!r}"
            raise self._failed(self._error or {"code": "server_error", "message": why})
        extra: dict[str, JSON] = {}
        if finish not in _STOPS:
            extra["stop_reason"] = self._finish
        if isinstance(self._cost, int | float):
            extra["total_cost_usd"] = self._cost
        stop = self._stop()
        return self._response(self._content(cut=stop in CUTTING), stop, extra)

    def _end(self, choice: Mapping[str, JSON]) -> None:
        self._finish = string(choice.get("finish_reason") or "")
        self._error = choice.get("error")  # OpenRouter: why its reason is `error`

    def _stop(self) -> StopReason:
        stop = _STOPS.get(self._finish.lower(), StopReason.END_TURN)
        if stop in (StopReason.END_TURN, StopReason.TOOL_USE):
            stop = StopReason.TOOL_USE if self._calls else StopReason.END_TURN
        return StopReason.REFUSAL if self._refused else stop

    def _content(self, *, cut: bool) -> tuple[Block, ...]:
        content: list[Block] = []
        if (thoughts := self._thoughts.block()) is not None:
            content.append(thoughts)
        if text := str(self._text):
            content.append(TextBlock(text))
        for call in self._calls:
            last = call is self._calls[-1]
            made = tool_use(call.id, clean(call.name), str(call.arguments), cut=cut and last)
            if call.signature:
                made = ToolUse(made.id, made.name, made.input, made.raw, call.signature)
            content.append(made)
        return tuple(content)

    def _head(self, data: Mapping[str, JSON]) -> None:
        self._id = string(data.get("id") or "")
        self._model = string(data.get("model") or "")

    def _delta(self, delta: Mapping[str, JSON], out: list[Delta], *, whole: bool = False) -> None:
        """A delta, or the message of a non-streamed answer: the fields are the same."""
        content = delta.get("content")
        if isinstance(content, str):
            self._say(content, out)
        elif content:
            self._parts(array(content), out)
        thought = self._thoughts.take(delta)
        if thought:
            out.append(ThinkingDelta(thought))
        refusal = delta.get("refusal")
        if refusal:
            self._refused = True
            self._say(string(refusal), out)
        calls = delta.get("tool_calls")
        if calls:
            for at, call in enumerate(map(mapping, array(calls))):
                self._call({**call, "index": at} if whole else call, out)

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
        call.signature = call.signature or _signature(data)
        piece = call.arguments.add(text) if text else ""
        if fresh or piece:
            out.append(ToolInputDelta(number, piece, name if fresh else ""))

    def _slot(self, index: JSON, id: str, name: str, text: str) -> int:
        """The call that a piece belongs to. Some servers send no index, or the same one for all,
        and some of those no ids."""
        number = len(self._calls) - 1 if index is None else self._slots.get(index, -1)
        if number >= 0:
            if id and not name and id != self._calls[number].id:  # told apart by their ids alone
                named = [at for at, call in enumerate(self._calls) if call.id == id]
                number = named[0] if named else number
            call = self._calls[number]
            told = index is not None or (id and call.id)
            if not name or (told and not call.precedes(id, name, text)):
                call.id = call.id or id
                return number
        self._calls.append(_Call(id))
        self._slots[index] = len(self._calls) - 1
        return len(self._calls) - 1

    def _count(self, value: JSON, out: list[Delta]) -> None:
        """The wire's prompt tokens include cached tokens, which DeepSeek and Kimi tell in fields of
        their own; our input tokens do not. Its completion tokens include thoughts, except at some
        servers (xAI, Google): their total tells."""
        usage = mapping(value)
        prompt_details = usage.get("prompt_tokens_details")
        answer_details = usage.get("completion_tokens_details")
        prompt = prompt_details if isinstance(prompt_details, dict) else {}
        answer = answer_details if isinstance(answer_details, dict) else {}
        cached = usage.get("prompt_cache_hit_tokens") or usage.get("cached_tokens")
        read = count(prompt.get("cached_tokens") or cached)
        written = count(prompt.get("cache_write_tokens"))
        asked, said = count(usage.get("prompt_tokens")), count(usage.get("completion_tokens"))
        thought = count(answer.get("reasoning_tokens"))
        apart = count(usage.get("total_tokens")) - asked - said
        if apart > 0 and apart != read + written:  # else the prompt was counted without the cache
            thought = max(thought, apart)
            said += apart
        self._cost = usage.get("cost", self._cost)  # OpenRouter's, in dollars
        if asked or said or self.usage is NO_USAGE:
            self.usage = Usage(max(0, asked - read - written), said, written, read, thought)
            out.append(UsageDelta(self.usage))


def _signature(call: Mapping[str, JSON]) -> str:
    """The signature that Gemini gives a call, where Google sends it on this wire."""
    extra = call.get("extra_content")
    google = extra.get("google") if isinstance(extra, dict) else None
    return string(google.get("thought_signature") or "") if isinstance(google, dict) else ""
