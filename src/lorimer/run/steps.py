"""The tool calls of a run, for people: one line each, live and in retrospect."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal

from lorimer.core.events import Event
from lorimer.core.fact_data import uses_of
from lorimer.core.jsonable import JSON, dumps, fields_of
from lorimer.core.record import record
from lorimer.core.redaction import names_secret, veiled

State = Literal["running", "complete", "error"]

MAX_SUMMARY: Final = 200
"""Characters."""
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


@record
class RunStep:
    """One tool call."""

    id: str
    """The call's id in the conversation."""
    kind: str
    """The tool's name."""
    summary: str
    """What it does, at most `MAX_SUMMARY` characters; arguments with names that suggest a secret
    are left out."""
    state: State
    """`error`: refused, or failed."""


def summary_of(tool: str, input: Mapping[str, JSON]) -> str:
    """`Bash command=ls`."""
    shown = [
        f"{name}={'***' if names_secret(str(name)) else _short(value)}"
        for name, value in input.items()
    ]
    text = " ".join([tool, *shown])
    if not text.isprintable():
        text = _CONTROL.sub(" ", text)
    return text if len(text) <= MAX_SUMMARY else text[: MAX_SUMMARY - 1] + "…"


def _short(value: JSON) -> str:
    if isinstance(value, str):
        return value[:MAX_SUMMARY]
    if type(value) is int:  # the most frequent other type
        return str(value)
    return dumps(veiled(value))[:MAX_SUMMARY]


def begun(event: Event) -> RunStep:
    """The step of a signal `tool.call_start`."""
    name = str(event.data.get("name"))
    summary = summary_of(name, fields_of(event.data.get("input")))
    return RunStep(str(event.data.get("tool_use_id")), name, summary, "running")


def steps_of(facts: Sequence[Event]) -> Iterator[RunStep]:
    """The steps in the facts of an ended run: one for each call, in order. A call without a result
    failed."""
    calls: list[Mapping[str, JSON]] = []
    ended: dict[int, bool] = {}
    for fact in facts:
        if fact.type == "model.reply":
            yield from _told(calls, ended)
            calls, ended = uses_of(fact.data), {}
        elif fact.type == "tool.result":
            data = fact.data  # for a packed fact it is built on each access
            ended[int(str(data["key"]))] = data.get("is_error") is True
    yield from _told(calls, ended)


def _told(calls: Sequence[Mapping[str, JSON]], ended: Mapping[int, bool]) -> Iterator[RunStep]:
    for at, call in enumerate(calls):
        name = str(call.get("name"))
        state: State = "error" if ended.get(at, True) else "complete"
        yield RunStep(
            str(call.get("id")), name, summary_of(name, fields_of(call.get("input"))), state
        )
