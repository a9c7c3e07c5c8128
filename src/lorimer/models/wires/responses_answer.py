"""OpenAI's response events, or its complete response, as the canonical answer.

What the provider's own tools did in between (none is requested) is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from lorimer.core.jsonable import JSON, clean, dumps
from lorimer.core.messages import Block, TextBlock, ThinkingBlock
from lorimer.core.request import (
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
from lorimer.models.wires.responses_request import ORIGIN
from lorimer.models.wires.shared import (
    CUTTING,
    Assembler,
    Text,
    array,
    count,
    mapping,
    shallow,
    string,
    tool_use,
)
from lorimer.models.wires.sse import Event, parse_json

_INCOMPLETE: Final[Mapping[str, StopReason]] = {
    "max_output_tokens": StopReason.MAX_TOKENS,
    "content_filter": StopReason.REFUSAL,
}
_ENDS: Final = frozenset({"completed", "incomplete", "failed", "cancelled"})
_PARTED: Final = "\n\n"
"""Between two parts of a summary."""


class _Item:
    """An output item under construction."""

    __slots__ = ("call", "id", "kind", "name", "over", "part", "phase", "seal", "text")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.text = Text()
        """Text, thinking, or the JSON of a call's arguments."""
        self.part: JSON = 0
        """Index of the summary part seen last."""
        self.id = ""
        """For a call, the id that its result refers to."""
        self.name = ""
        self.phase = ""
        """For a message."""
        self.call = 0
        """Index of the call in the answer."""
        self.seal = ""
        """The encrypted content of a completed thought."""
        self.over = False
        """Its own last event has come."""


class ResponsesAnswer(Assembler):
    """An `Assembler`; see `models.wires.shared`."""

    def __init__(self, provider: str, credentials: ProviderCredentials) -> None:
        super().__init__(provider, credentials)
        self._items: dict[JSON, _Item] = {}
        self._calls = 0
        self._stop = StopReason.END_TURN
        self._extra: dict[str, JSON] = {}
        self._refused = False

    def read(self, events: Iterable[Event]) -> Sequence[Delta]:
        """See `Assembler.read`. Unknown events, items and fields are skipped."""
        out: list[Delta] = []
        for _, text in events:
            data = mapping(parse_json(text))
            if "type" not in data and data.get("error"):  # a gateway's own
                raise self._failed(data["error"])
            match data["type"]:
                case "response.output_text.delta":
                    self._say(self._items[data["output_index"]], string(data["delta"]), out)
                case "response.function_call_arguments.delta":
                    self._argue(self._items[data["output_index"]], string(data["delta"]), out)
                case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
                    part = data.get("summary_index", data.get("content_index", 0))
                    self._think(self._items[data["output_index"]], part, string(data["delta"]), out)
                case "response.refusal.delta":
                    self._refused = True
                    self._say(self._items[data["output_index"]], string(data["delta"]), out)
                case "response.output_item.added":
                    self._begin(data["output_index"], mapping(data["item"]), out)
                case "response.output_item.done":
                    self._complete(data["output_index"], mapping(data["item"]), out)
                case "response.created":
                    self._start(mapping(data["response"]))
                case "response.completed" | "response.incomplete" | "response.failed":
                    response = mapping(data["response"])
                    self._end(response, string(response.get("status") or data["type"][9:]), out)
                    return out
                case "error":
                    raise self._failed(data.get("error") or data)
                case other:
                    string(other)
        return out

    def whole(self, body: JSON) -> None:
        """See `Assembler.whole`."""
        response = mapping(body)
        if "status" not in response and response.get("error"):
            raise self._failed(response["error"])
        self._end(response, string(response["status"]), [])

    def finish(self) -> Response:
        """See `Assembler.finish`."""
        if not self.done:
            why = "it ended without response.completed"
            raise incomplete(self._provider, why, usage=self.usage)
        stop = self._stop
        if stop is StopReason.END_TURN and self._calls:
            stop = StopReason.TOOL_USE
        if self._refused:
            stop = StopReason.REFUSAL
        return self._response(self._content(cut=stop in CUTTING), stop, self._extra)

    def _start(self, response: Mapping[str, JSON]) -> None:
        if self._id or self._items:
            raise ValueError("the response starts twice")
        self._head(response)

    def _head(self, response: Mapping[str, JSON]) -> None:
        self._id = string(response.get("id") or self._id)
        self._model = string(response.get("model") or self._model)

    def _end(self, response: Mapping[str, JSON], status: str, out: list[Delta]) -> None:
        if status not in _ENDS:
            raise ValueError(f"it is {status!r} at its end")
        self._head(response)
        self._count(response.get("usage"), out)
        if status in ("failed", "cancelled"):
            raise self._failed(response.get("error") or f"the response was {status}")
        if not self._items:  # not streamed, or by a server that streams no items
            for index, item in enumerate(array(response["output"])):
                self._begin(index, mapping(item), out)
                self._complete(index, mapping(item), out)
        if status == "completed" and not all(item.over for item in self._items.values()):
            raise ValueError("an item of it never ended")  # an incomplete call must not be run
        if status == "incomplete":
            details = response.get("incomplete_details")
            reason = details.get("reason") if isinstance(details, dict) else None
            self._stop = _INCOMPLETE.get(str(reason), StopReason.MAX_TOKENS)
            if str(reason) not in _INCOMPLETE:
                self._extra["stop_reason"] = shallow(reason)
        self.done = True

    def _begin(self, index: JSON, data: Mapping[str, JSON], out: list[Delta]) -> None:
        if index in self._items:
            raise ValueError(f"item {index} starts twice")
        item = self._items[index] = _Item(string(data["type"]))
        if item.kind == "function_call":
            item.name = string(data["name"])
            item.id = string(data.get("call_id") or "")
            item.call = self._calls
            self._calls += 1
            out.append(ToolInputDelta(item.call, "", item.name))
        elif item.kind == "reasoning":
            item.id = string(data.get("id") or "")

    def _complete(self, index: JSON, data: Mapping[str, JSON], out: list[Delta]) -> None:
        """The final version of the item counts, whatever its deltas were."""
        item = self._items[index]
        if item.over:
            return
        item.over = True
        heard = str(item.text)
        match item.kind:
            case "message":
                text = "".join([self._part(mapping(part)) for part in array(data["content"])])
                item.phase = string(data.get("phase") or "")
                if not heard:
                    self._say(item, text, out)
            case "function_call":
                arguments = data["arguments"]
                text = arguments if isinstance(arguments, str) else dumps(arguments)
                if not heard:
                    self._argue(item, text, out)
            case "reasoning":
                parts = array(data.get("summary") or data.get("content") or [])
                text = _PARTED.join([string(mapping(part)["text"]) for part in parts])
                if not heard:
                    self._think(item, item.part, text, out)
                if data.get("status") != "incomplete":
                    item.seal = string(data.get("encrypted_content") or "")
            case _:
                return
        if heard and text and heard != text:
            item.text = Text()
            item.text.add(text)

    def _part(self, part: Mapping[str, JSON]) -> str:
        """The text of a part of a message."""
        if part["type"] == "refusal":
            self._refused = True
            return string(part["refusal"])
        return string(part["text"]) if part["type"] == "output_text" else ""

    def _say(self, item: _Item, text: str, out: list[Delta]) -> None:
        if text and (piece := item.text.add(text)):
            out.append(TextDelta(piece))

    def _argue(self, item: _Item, text: str, out: list[Delta]) -> None:
        if text and (piece := item.text.add(text)) and item.kind == "function_call":
            out.append(ToolInputDelta(item.call, piece))

    def _think(self, item: _Item, part: JSON, text: str, out: list[Delta]) -> None:
        if part != item.part:
            item.part = part
            text = _PARTED + text if item.text.parts else text
        if text and (piece := item.text.add(text)):
            out.append(ThinkingDelta(piece))

    def _content(self, *, cut: bool) -> tuple[Block, ...]:
        content: list[Block] = []
        items = list(self._items.values())
        for item in items:
            text = str(item.text)
            match item.kind:
                case "message":
                    if text:
                        content.append(TextBlock(text, item.phase))
                case "function_call":
                    last = cut and item is items[-1]
                    content.append(tool_use(item.id, clean(item.name), text, cut=last))
                case "reasoning" if item.seal:
                    content.append(ThinkingBlock(text, item.seal, origin=ORIGIN, id=item.id))
                case "reasoning":
                    if text:
                        content.append(ThinkingBlock(text, origin=ORIGIN))
                case _:
                    # its thought may not be sent back without it
                    if content and isinstance(thought := content[-1], ThinkingBlock):
                        bare = ThinkingBlock(thought.text, origin=ORIGIN)
                        content[-1:] = [bare] if bare.text else []
        return tuple(content)

    def _count(self, value: JSON, out: list[Delta]) -> None:
        """The wire's input tokens include cached tokens; ours do not."""
        if not isinstance(value, dict):
            return
        asked, given = value.get("input_tokens_details"), value.get("output_tokens_details")
        prompt = asked if isinstance(asked, dict) else {}
        answer = given if isinstance(given, dict) else {}
        read = count(prompt.get("cached_tokens"))
        written = count(prompt.get("cache_write_tokens"))
        self.usage = Usage(
            max(0, count(value.get("input_tokens")) - read - written),
            count(value.get("output_tokens")),
            written,
            read,
            count(answer.get("reasoning_tokens")),
        )
        out.append(UsageDelta(self.usage))
