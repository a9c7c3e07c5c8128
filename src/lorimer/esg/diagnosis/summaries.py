"""A value in one line, for a model or a person: its type, size, keys and beginning.

No code of the value's class runs, except `shape` and `keys` of arrays and frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Final, cast
from weakref import ProxyTypes

from lorimer.esg.diagnosis.values import keys_of, size_of

MOST: Final = 200
"""Characters of a summary."""
_FEW: Final = 5
_DEPTH: Final = 2


def summary(value: object) -> str:
    """`list of 3: ['Ulm', 'Bonn', 'Kiel']`, `DataFrame (4, 2), keys 'city', 'amount'`."""
    kind = type(value).__name__
    if type(value) in ProxyTypes:  # it stands for another object, or for one that is gone
        return kind
    text = kind
    size = size_of(value)
    shape = None if isinstance(value, type) else getattr(value, "shape", None)
    if isinstance(value, type):
        text = f"class {value.__name__}"
    elif callable(value):
        text = f"{kind} {getattr(value, '__name__', '')}".rstrip()
    elif isinstance(shape, tuple):
        keys = ", ".join(map(repr, keys_of(value)[:20]))
        text = f"{kind} {shape}" + (f", keys {keys}" if keys else "")
    elif size is not None and not isinstance(value, str | bytes):
        text = f"{kind} of {size}: {_shown(value, _DEPTH)}"
    elif type(value) in _PLAIN:
        text = f"{kind}: {_shown(value, 0)}"
    elif (own := _attributes(value)) is not None:
        text = f"{kind} with {', '.join(own) or 'no attributes'}"
    return text if len(text) <= MOST else text[: MOST - 3] + "..."


_PLAIN: Final = (int, float, complex, bool, str, bytes, type(None))


def _shown(value: object, depth: int) -> str:
    """Like `repr`, but only for Python's own types."""
    if type(value) in _PLAIN:
        text = repr(value[:80] if isinstance(value, str | bytes) else value)
        return text[:80]
    if depth and type(value) is dict:
        held = cast("Mapping[object, object]", value)
        items = islice(held.items(), _FEW)
        inside = [f"{_shown(k, 0)}: {_shown(v, depth - 1)}" for k, v in items]
        return f"{{{', '.join(inside)}{_more(held)}}}"
    if depth and type(value) in (list, tuple, set, frozenset):
        items = islice(cast("Iterable[object]", value), _FEW)
        return f"[{', '.join([_shown(each, depth - 1) for each in items])}{_more(value)}]"
    return f"<{type(value).__name__}>"


def _more(value: object) -> str:
    return ", ..." if (size_of(value) or 0) > _FEW else ""


def _attributes(value: object) -> list[str] | None:
    own: object = getattr(value, "__dict__", None)
    if type(own) is not dict:
        return None
    return [name for name in islice(cast("dict[object, object]", own), 20) if isinstance(name, str)]
