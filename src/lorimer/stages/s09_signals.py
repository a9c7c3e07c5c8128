"""Stage 9, signal detectors: what the model says about its own work, if it was asked to. No word of
an answer decides anything unless a manifest enables it here and defines its consequences
(`signal_based` of stage 14, `early_stop_on` of stage 16)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final, cast

from lorimer.core.jsonable import JSON
from lorimer.core.stage import Strategy

FENCE: Final = re.compile(r"\A\s*```(?:json)?[^\S\n]*+\n(.*?)```\s*\Z", re.DOTALL)
"""A text that consists of one fenced block."""

_MARKER: Final = re.compile(
    r"^[ \t]*\[(CONTINUE|COMPLETE|TASK_COMPLETE|BLOCKED|ERROR|DELEGATE)"
    r"(?::[ \t]*+([^\]\n]{0,500}))?\][ \t]*$",
    re.IGNORECASE | re.MULTILINE,
)
_NAMES: Final[Mapping[str, str]] = {"task_complete": "complete"}
_KNOWN: Final = frozenset({"continue", "complete", "blocked", "error", "delegate"})
_NONE: Final[tuple[str, str]] = ("", "")


class SignalDetector(Strategy):
    """Finds a signal in a reply."""

    def detect(self, text: str) -> tuple[str, str]:
        """`continue`, `complete`, `blocked`, `error` or `delegate`, and a detail; "": none."""
        raise TypeError(f"{type(self).__name__} has no detect method")


class Ignore(SignalDetector):
    """Words have no effect."""

    name = "none"
    description = "Words in a reply have no effect."

    def detect(self, text: str) -> tuple[str, str]:
        return _NONE


class Markers(SignalDetector):
    """A marker on a line of its own; the last one counts."""

    name = "regex"
    description = "[COMPLETE], [CONTINUE], [BLOCKED: why], [ERROR: why] on a line of its own."

    def detect(self, text: str) -> tuple[str, str]:
        found = _MARKER.findall(text) if "[" in text else ()
        if not found:
            return _NONE
        word, detail = map(str, found[-1])
        name = word.casefold()
        return _NAMES.get(name, name), detail.strip()


class Structured(SignalDetector):
    """A reply that is a JSON object."""

    name = "structured"
    description = "A reply that is a JSON object with signal (or status) and detail (or reason)."

    def detect(self, text: str) -> tuple[str, str]:
        fenced = FENCE.match(text)
        try:
            value = cast("JSON", json.loads(fenced.group(1) if fenced else text))
        except (ValueError, RecursionError):
            return _NONE
        if not isinstance(value, Mapping):
            return _NONE
        word = str(value.get("signal", value.get("status", ""))).casefold()
        name = _NAMES.get(word, word)
        if name not in _KNOWN:
            return _NONE
        detail = str(value.get("detail", value.get("reason", "")))
        return name, detail[:500]


class Hybrid(SignalDetector):
    """Either of the two."""

    name = "hybrid"
    description = "Like structured; if that finds nothing, like regex."

    def detect(self, text: str) -> tuple[str, str]:
        found = Structured().detect(text)
        return found if found[0] else Markers().detect(text)
