"""Compares parts of values (parts.py): what the value's type, one of Python, numpy or pandas and
never a subclass, returns for a key, as a fingerprint of everything visible in it."""

# What numpy gives has no types here: it need not be installed.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

from __future__ import annotations

import contextlib
import io
import types
from collections.abc import Callable
from itertools import count
from typing import Any, Final

from lorimer.esg.analysis.parts import Path
from lorimer.esg.values import arrays
from lorimer.esg.values.content import MAIN, Content
from lorimer.esg.values.objects import kind_of
from lorimer.esg.values.part_kinds import fits
from lorimer.esg.values.prints import Printer
from lorimer.esg.values.store import Region

_MOST_OBJECTS: Final = 10_000
_MOST_BYTES: Final = 16 << 20
"""Limit on the arrays of one part: a larger part counts as the whole value."""


def look(value: Any, paths: tuple[Path, ...], owned: Callable[[object], bool]) -> str | None:
    """A fingerprint of these parts of a value. None: that is impossible.

    `owned`: an object belongs to the value; a part that shares it differs from a copy.
    """
    if not fits(value, paths):
        return None
    found = list[str]()
    for path in paths:
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # pandas warns of future changes
                part = path.of(value)
            told = _told(part, owned)
        except Exception:  # noqa: BLE001 - whatever it is: the run of the step tells it
            return None
        if told is None:
            return None
        found.append(told)
    return " ".join(found)


def _told(part: object, owned: Callable[[object], bool]) -> str | None:
    """A fingerprint of everything that a value leads to, wherever its memory is."""
    region = Region("part", "", [])
    places: dict[int, int] = {}
    contents, shares = list[Content](), list[bool]()
    left = _MOST_BYTES
    waiting: list[object] = [part]
    while waiting:
        value = waiting.pop()
        kind = kind_of(value)
        if kind.atom:
            continue
        if kind.inline:
            waiting += kind.take(value).parts
            continue
        if id(value) in places:
            continue
        if len(places) == _MOST_OBJECTS or _own(value):
            return None
        content, shared = kind.take(value), owned(value)
        if isinstance(kind, arrays.Array):
            array: Any = value
            left -= int(array.nbytes)
            if left < 0:
                return None
            content, base = arrays.apart(array)
            shared = shared or owned(base)
        if content.opaque:
            return None
        places[id(value)] = len(places)
        region.objects.append(value)  # so that none of their ids is used again
        contents.append(content)
        shares.append(shared)
        waiting += reversed(content.parts)

    def place(value: object) -> tuple[Region, int] | None:
        found = places.get(id(value))
        return None if found is None else (region, found)

    printer = Printer(place, count(), region)
    printer.value(part)
    for content in contents:
        printer.content(content)
    return printer.text() + "".join("01"[each] for each in shares)


def _own(value: object) -> bool:
    """It was defined by steps: it can look at more than it holds."""
    kind = type(value)
    return issubclass(kind, type | types.FunctionType) or kind.__module__ == MAIN
