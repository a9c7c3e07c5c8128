"""Turns a recording of model calls into the script of a fake server, on any wire."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from lorimer.core.errors import APIError
from lorimer.core.messages import TextBlock, ThinkingBlock, ToolUse
from lorimer.core.request import Response, TextDelta, ThinkingDelta
from lorimer.models.recording import Call, read
from lorimer.testing.fake_turn import FakeUsage, ToolCall, Turn
from lorimer.testing.faults import Cut, Refuse, Status
from lorimer.world.plainfiles import read_lines

_BEFORE_THE_END: Final = -40
"""Cutting this many bytes off a stream always makes its last event incomplete."""


def recorded_turns(source: str | Path | Iterable[str]) -> list[Turn]:
    """The answers of a recording, in order, as turns: `FakeLLMServer(recorded_turns(F))`. `source`:
    see `ScriptedModel.from_recording`. Requests are not compared, because their format depends on
    the wire. Several texts of one answer become one. Raises ConfigError."""
    named = isinstance(source, str | Path)
    lines = read_lines(source) if named else source
    return [_turn(call) for call in read(lines, str(source) if named else "the recording")]


def _turn(call: Call) -> Turn:
    text = tuple([delta.text for delta in call.deltas if isinstance(delta, TextDelta)])
    thinking = tuple([delta.text for delta in call.deltas if isinstance(delta, ThinkingDelta)])
    if call.response is None:
        return _failed(call.error, text)
    return _answered(call.response, text, thinking)


def _answered(response: Response, text: tuple[str, ...], thinking: tuple[str, ...]) -> Turn:
    thoughts = [block for block in response.content if isinstance(block, ThinkingBlock)]
    thought = "".join([block.text for block in thoughts])
    usage = response.usage
    said = "".join([block.text for block in response.content if isinstance(block, TextBlock)])
    calls = [block for block in response.content if isinstance(block, ToolUse)]
    return Turn(
        text if "".join(text) == said else said,
        thinking if "".join(thinking) == thought else thought,
        tool_calls=tuple([ToolCall(one.id, one.name, one.input, one.raw or None) for one in calls]),
        stop=response.stop.value,
        usage=FakeUsage(
            usage.input_tokens,
            usage.output_tokens,
            usage.cache_read_input_tokens,
            usage.cache_creation_input_tokens,
            usage.reasoning_tokens,
        ),
        model=response.model or None,
    )


def _failed(error: APIError | None, text: tuple[str, ...]) -> Turn:
    if error is None or error.status is None:
        return Turn(text, faults=(Cut(_BEFORE_THE_END, "rst") if text else Refuse(),))
    headers = {} if error.retry_after_s is None else {"retry-after": f"{error.retry_after_s:g}"}
    return Turn(faults=(Status(error.status, str(error), headers),))
