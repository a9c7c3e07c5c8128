"""Plain data: the only thing that crosses a journal, a wire or a process boundary."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from json import JSONEncoder, encoder, loads
from typing import NoReturn, TypeAlias, cast

from pydantic_core import PydanticSerializationError, to_json

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"
"""Any JSON value. Read-only by type: recorded data is never changed in place."""


_Pieces: TypeAlias = Callable[[object, int], tuple[str, ...]]


def _encoder(*, sort_keys: bool) -> Callable[[object], str]:
    made = JSONEncoder(
        ensure_ascii=False, separators=(",", ":"), allow_nan=False, sort_keys=sort_keys
    )
    make = cast("Callable[..., _Pieces] | None", vars(encoder).get("c_make_encoder"))
    if make is None:  # pragma: no cover - another Python than CPython
        return made.encode
    # `made.encode` would create these for each value, which takes longer than encoding a small one.
    # Without its table of markers a circular value is a RecursionError.
    text = encoder.encode_basestring
    pieces = make(None, made.default, text, None, ":", ",", sort_keys, False, False)
    return lambda value: "".join(pieces(value, 0))


_encode = _encoder(sort_keys=False)
_encode_sorted = _encoder(sort_keys=True)


def no_data() -> dict[str, JSON]:
    """An empty object, as a default: calling `dict[str, JSON]` takes three times as long."""
    return {}


def dumps(value: JSON) -> str:
    """Encode compactly, with keys in the given order. Raises ValueError on NaN, TypeError on
    objects."""
    return _encode(value)


def canonical(value: JSON) -> bytes:
    """The canonical bytes of a value (sorted keys, no spaces), for hashes and comparisons."""
    return _encode_sorted(value).encode("utf-8", "surrogatepass")


def refuse_constant(name: str) -> NoReturn:
    """For `parse_constant` of Python's JSON parser, which accepts NaN and infinities. Raises
    ValueError."""
    raise ValueError(f"{name} is not JSON")


def plain(value: object) -> JSON:
    """A copy of a value as a journal would return it; None if that would differ from the value."""
    try:
        copy = cast("JSON", loads(_encode(value)))
    except (TypeError, ValueError, RecursionError):
        return None
    return copy if copy == value else None


def texts_in(value: JSON) -> Iterator[str]:
    """All texts in a JSON value, except the keys of objects."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from texts_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from texts_in(item)


def items_of(value: JSON) -> Sequence[JSON]:
    """The items of a list; none of any other value."""
    return value if isinstance(value, list | tuple) else ()


def fields_of(value: JSON) -> Mapping[str, JSON]:
    """The fields of an object; none of any other value."""
    return value if isinstance(value, Mapping) else no_data()


def objects_of(value: JSON) -> list[Mapping[str, JSON]]:
    """The objects in a list; none of any other value."""
    return [each for each in items_of(value) if isinstance(each, Mapping)]


def texts_of(value: JSON) -> tuple[str, ...]:
    """The items of a list as texts; none of any other value."""
    return tuple(map(str, items_of(value)))


def clean(text: str) -> str:
    """`text` with surrogate pairs joined and lone surrogates replaced, so that it can be encoded;
    the same object if nothing has to change.

    JSON may contain surrogates as escapes, and a server may cut a pair in two.
    """
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def fingerprint(value: JSON) -> bytes:
    """Bytes for hashing: equal for values built in the same way, with keys in the same order. Takes
    a quarter of the time of `canonical`, to which it falls back for text that is not valid
    Unicode."""
    body = utf8(value)
    return canonical(value) if body is None else body


def utf8(value: JSON) -> bytes | None:
    """The value as JSON, with keys in the given order; None for text that is not valid Unicode,
    such as half a surrogate pair."""
    try:
        return to_json(value)
    except PydanticSerializationError:
        return None
