"""The step session of a conversation, as told by its calls and their results.

A result begins with lines of a fixed form: what happened to the graph, and what ran. They are for
the model, and they are also the record: folded in order, they give the steps, their order, and what
is known about them, in any process that has the conversation. Nothing is stored anywhere else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import unquote

from lorimer.core.jsonable import JSON
from lorimer.core.tool import PastCall

STEP: Final = "step"
EDIT: Final = "edit_step"
REPLAY: Final = "replay"
GRAPH: Final = "graph"
DIAGNOSE: Final = "diagnose"
CHANGES: Final = frozenset({STEP, EDIT, REPLAY, DIAGNOSE})
"""Tools whose calls make up the session."""

ID: Final = r"[A-Za-z_][\w.-]{0,59}"
_CHANGED: Final = re.compile(rf"step ({ID}): (added|edited|deleted|patched|nothing changed)")
_RAN: Final = re.compile(rf"([✓✗]) ({ID})(?: \d+ s)?(?: again)?((?: \| \w+ [^|]+)*)(?: \| .*)?")
_MOVED: Final = re.compile(rf"({ID}) comes (?:after ({ID})|before all) now")
_HELD: Final = re.compile(rf"- ({ID}(?:, {ID})*) not run: .*")
_REPLAYED: Final = "replayed"
_UNSAFE: Final = re.compile(r"[%,|\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Ran:
    """What is known about a step's last run."""

    ok: bool
    reads: tuple[str, ...] = ()
    makes: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    """Its effects on the outside, as text."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A step, as the conversation has it."""

    id: str
    code: str
    ran: Ran | None = None
    """None: it never ran, or not with its present code."""
    outside: tuple[str, ...] = ()
    """The effects on the outside of its last run, even if that was with other code."""

    def to_json(self) -> dict[str, JSON]:
        """The input for a session that begins with it."""
        ran = self.ran
        return {
            "id": self.id,
            "code": self.code,
            "state": "new" if ran is None else "ran" if ran.ok else "failed",
            "reads": [*ran.reads] if ran is not None else [],
            "makes": [*ran.makes] if ran is not None else [],
            "outside": [*self.outside],
        }


def changed_line(step: str, what: str) -> str:
    """The first line of a result: `step load: added`."""
    return f"step {step}: {what}" if step else _REPLAYED


def moved_line(step: str, after: str) -> str:
    """The line for a step that a patch has moved."""
    return f"{step} comes {f'after {after}' if after else 'before all'} now"


def ran_line(step: str, seconds: float, ran: Ran, *, again: bool, why: str = "") -> str:
    """The line for a step that ran; with its time, if that was at least a second."""
    took = f" {seconds:.0f} s" if seconds >= 1 else ""
    parts = [f"{'✓' if ran.ok else '✗'} {step}{took}{' again' if again else ''}"]
    for word, names in (("reads", ran.reads), ("makes", ran.makes), ("outside", ran.outside)):
        if names:
            parts.append(f"{word} {', '.join([_quoted(name) for name in names])}")
    return " | ".join([*parts, why.replace("\n", " ")] if why else parts)


def _quoted(name: str) -> str:
    return _UNSAFE.sub(lambda found: f"%{ord(found[0]):02X}", name)


def held_line(steps: Iterable[str], why: str) -> str:
    """The line for steps that did not run although they are not up to date."""
    return f"- {', '.join(steps)} not run: {' '.join(why.split())}"


def code_lines(step: str, code: str) -> list[str]:
    """Code that the session gave a step, for the model and for the record."""
    return [f"the code of {step} is now:", *[f"| {line}" for line in code.split("\n")]]


def effective(past: Iterable[PastCall]) -> list[PastCall]:
    """The calls that changed the session, according to their results."""
    return [call for call in past if call.use.name in CHANGES and _lines(call)]


def fold(past: Iterable[PastCall]) -> list[Recorded]:
    """The steps after these calls, in order."""
    steps: dict[str, Recorded] = {}
    order: list[str] = []
    for call in effective(past):
        lines = _lines(call)
        changed = _CHANGED.fullmatch(lines[0])
        if changed is not None:
            _change(steps, order, changed[1], changed[2], call.use.input)
            for line in lines[1:] if changed[2] == "patched" else ():
                _move(order, line)
        for step, code in _texts(lines).items():
            if step in steps:
                steps[step] = replace(steps[step], code=code, ran=None)
        for line in lines[1:]:
            _note(steps, line)
    return [steps[step] for step in order]


def _change(
    steps: dict[str, Recorded], order: list[str], step: str, what: str, given: Mapping[str, JSON]
) -> None:
    code, after = given.get("code"), str(given.get("after"))
    if what == "added" and step not in steps:
        steps[step] = Recorded(step, str(code))
        at = order.index(after) + 1 if after in order else 0 if after == "" else len(order)
        order.insert(at, step)
    elif what == "edited" and step in steps:
        steps[step] = replace(steps[step], code=str(code))
    elif what == "deleted" and step in steps:
        del steps[step]
        order.remove(step)


def _move(order: list[str], line: str) -> None:
    moved = _MOVED.fullmatch(line)
    if moved is None or moved[1] not in order or moved[1] == moved[2]:
        return
    step, after = moved[1], moved[2]
    order.remove(step)
    order.insert(order.index(after) + 1 if after in order else 0, step)


def _note(steps: dict[str, Recorded], line: str) -> None:
    ran, held = _RAN.fullmatch(line), _HELD.fullmatch(line)
    for step in held[1].split(", ") if held is not None else ():
        if step in steps:
            steps[step] = replace(steps[step], ran=None)
    if ran is None or ran[2] not in steps:
        return
    said: dict[str, tuple[str, ...]] = {}
    for part in ran[3].split(" | ")[1:]:
        word, _, names = part.partition(" ")
        said[word] = tuple([unquote(name) for name in names.split(", ")])
    known = Ran(
        ran[1] == "✓", said.get("reads", ()), said.get("makes", ()), said.get("outside", ())
    )
    steps[ran[2]] = replace(steps[ran[2]], ran=known, outside=known.outside)


def _texts(lines: list[str]) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    step = ""
    for line in lines:
        if line.startswith("the code of ") and line.endswith(" is now:"):
            step = line.removeprefix("the code of ").removesuffix(" is now:")
            found[step] = []
        elif step and line.startswith("| "):
            found[step].append(line.removeprefix("| "))
        else:
            step = ""
    return {step: "\n".join(text) for step, text in found.items()}


def _lines(call: PastCall) -> list[str]:
    """The record in a result: the lines before the first empty one; [] if there is none."""
    text = call.result.content
    if not isinstance(text, str):
        return []
    lines = text.partition("\n\n")[0].split("\n")
    first = lines[0]
    return lines if first == _REPLAYED or _CHANGED.fullmatch(first) else []
