"""Values, as far as they can be inspected without running code of their classes."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Final, cast

UNKNOWN: Final = object()
"""The value of an expression that cannot be evaluated."""
_LOOKED_AT: Final = 1000
"""Elements of a container that are inspected."""


def attribute_of(owner: object, name: str) -> object:
    """An attribute, without running code of the owner's class."""
    found: object = inspect.getattr_static(owner, name, UNKNOWN)
    if isinstance(found, staticmethod | classmethod):
        return cast("object", found.__func__)
    return UNKNOWN if isinstance(found, property) else found


def of_kind(value: object) -> str:
    """`a list`, `an int`, `None`: for messages."""
    if value is None:
        return "None"
    kind = type(value).__name__
    return f"{'an' if kind[:1].lower() in 'aeio' else 'a'} {kind}"


def item_of(owner: object, index: object) -> object:
    """An item of one of Python's own containers."""
    if type(owner) not in (list, tuple, dict, str) or type(index) not in (int, str):
        return UNKNOWN
    try:
        return cast("Mapping[object, object]", owner)[index]
    except (KeyError, IndexError, TypeError):
        return UNKNOWN


def elements(value: object) -> Sequence[object]:
    """The first elements of a list or tuple; none for anything else."""
    if isinstance(value, list | tuple):
        return [*islice(cast("Iterable[object]", value), _LOOKED_AT)]
    return ()


def first(value: object) -> object:
    """One element of a container, or a value of a dict; UNKNOWN if there is none."""
    if isinstance(value, dict):
        return next(iter(cast("Mapping[object, object]", value).values()), UNKNOWN)
    if isinstance(value, list | tuple | set | frozenset | deque):
        return next(iter(cast("Iterable[object]", value)), UNKNOWN)
    return UNKNOWN


def size_of(value: object) -> int | None:
    """The number of elements in one of Python's own containers; None for anything else."""
    if isinstance(value, list | tuple | str | dict | set | frozenset | bytes | deque):
        return len(cast("Sequence[object]", value))
    return None


def keys_of(value: object) -> list[str]:
    """The string keys of a mapping, the columns of a frame, or those of the first of many."""
    if isinstance(value, list | tuple):
        value = first(cast("object", value))
    keys = None if isinstance(value, type) else getattr(value, "keys", None)
    if not callable(keys):
        return []
    try:
        found = cast("Callable[[], Iterable[object]]", keys)()
        return [each for each in islice(found, _LOOKED_AT) if isinstance(each, str)]
    except TypeError:  # its keys are of another kind
        return []
