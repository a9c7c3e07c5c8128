"""The model of the demo if there is no key: a script, played over real HTTP.

The figures in its report are not scripted: they come from the result of the analysis that really
ran.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from typing import Final
from zlib import crc32

from lorimer.core.fact_data import result_text
from lorimer.core.jsonable import JSON, dumps, objects_of
from lorimer.testing.fake_server import FakeUsage, SeenRequest, ToolCall, Turn
from lorimer.testing.faults import Hang, Pieces

MODEL: Final = "scripted-demo"
CUT_TURN: Final = 6
"""The answer after the analysis has run: the one that is in flight when the agent is killed."""

_FOR_EVER_S: Final = 600.0


def actor(pause_s: float) -> Callable[[SeenRequest], Turn]:
    """The script as a function of the conversation so far, so a request can be repeated.

    Each answer comes after `pause_s` seconds. The first request for answer `CUT_TURN` is never
    answered: it is in flight when the agent is killed.
    """
    asked: list[int] = []

    def answer(request: SeenRequest) -> Turn:
        messages = objects_of(request.body.get("messages"))
        number = sum(message.get("role") == "assistant" for message in messages)
        first = number not in asked
        asked.append(number)
        turn = _turn(number, messages)
        size = len(dumps(request.body))
        usage = FakeUsage(input_tokens=size // 4, output_tokens=max(len(_said(turn)) // 4, 1))
        if first and number == CUT_TURN:
            return replace(turn, usage=usage, faults=(Hang(after=3, seconds=_FOR_EVER_S),))
        slow = (Hang(seconds=pause_s), Pieces(delay_s=0.01)) if pause_s else ()
        return replace(turn, usage=usage, faults=slow)

    return answer


def _turn(number: int, messages: Sequence[Mapping[str, JSON]]) -> Turn:
    match number:
        case 0:
            return _call(
                "I'll look at what is here first.",
                ("Glob", {"pattern": "**/*"}),
                ("Read", {"file_path": "data/README.md"}),
            )
        case 1:
            return _call(
                "Two tables and their published totals. What do the tables look like?",
                ("Read", {"file_path": "data/population-2010.csv", "limit": 6}),
                ("Read", {"file_path": "data/population-2020.csv", "limit": 6}),
            )
        case 2:
            return _call(
                "The same columns in both. First the totals: do they match the published ones?",
                _step("read"),
            )
        case 3:
            return _call("They do. Now growth.", _step("growth"), _step("fastest"))
        case 4:
            return _call("The chart, and a line for the log.", _step("chart"), _step("log"))
        case 5:
            return _call(
                "The task wants the five fastest, and I printed three. I mend that one step.",
                ("edit_step", {"id": "fastest", "code": _text("fastest-five.txt")}),
            )
        case 6:
            return _call("What is left is the whole country.", _step("country"))
        case 7:
            return _call(
                "I write down what was found.",
                ("Write", {"file_path": "report.md", "content": _report(messages)}),
            )
        case _:
            return Turn(text=_closing(messages))


def _call(text: str, *calls: tuple[str, Mapping[str, JSON]]) -> Turn:
    """An answer that makes calls; their ids follow from their content."""
    made = [
        ToolCall(f"toolu_demo_{crc32(f'{name} {dumps(given)}'.encode()):08x}", name, given)
        for name, given in calls
    ]
    return Turn(text=text, tool_calls=tuple(made))


def _step(name: str) -> tuple[str, Mapping[str, JSON]]:
    return "step", {"id": name, "code": _text(f"{name}.txt")}


def _report(messages: Sequence[Mapping[str, JSON]]) -> str:
    """The report, with the figures that the analysis printed."""
    found = findings(_results(messages))
    return _text("report.md").format(
        rows=found.get("rows", "?"),
        country=found.get("whole country", "?"),
        fastest=found.get("fastest", "?"),
        shrank=found.get("shrank", "?"),
    )


def _closing(messages: Sequence[Mapping[str, JSON]]) -> str:
    found = findings(_results(messages))
    fastest = found.get("fastest", "?").split(",")[0]
    return (
        f"The states together grew by {found.get('whole country', '?')} from 2010 to 2020, "
        f"fastest of all {fastest}. Only these shrank: {found.get('shrank', '?')}. "
        "The report is in report.md, its chart in chart.svg."
    )


def findings(printed: str) -> dict[str, str]:
    """The last values that the analysis printed, by the word before the colon."""
    found: dict[str, str] = {}
    for line in printed.splitlines():
        name, colon, rest = line.partition(": ")
        if colon:
            found[name.strip()] = rest.strip()
        if "rows add up" in rest:
            found["rows"] = rest.split(" ", 1)[0]
    return found


def _results(messages: Sequence[Mapping[str, JSON]]) -> str:
    """The text of all tool results, in order."""
    blocks = [block for message in messages for block in objects_of(message.get("content"))]
    results = [block for block in blocks if block.get("type") == "tool_result"]
    return "\n".join([result_text(block.get("content")) for block in results])


def _said(turn: Turn) -> str:
    return f"{turn.text}{''.join([call.arguments for call in turn.tool_calls])}"


def _text(name: str) -> str:
    return files("lorimer.cli.demo").joinpath("script", name).read_text("utf-8")
