"""Plain data: the only thing that crosses a journal, a wire or a process boundary."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from json import JSONEncoder, encoder, loads
from typing import TypeAlias, cast

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
    # what `made.encode` makes anew for each value, which takes longer than to encode a small one;
    # without markers a circle is a RecursionError
    text = encoder.encode_basestring
    pieces = make(None, made.default, text, None, ":", ",", sort_keys, False, False)
    return lambda value: "".join(pieces(value, 0))


_encode = _encoder(sort_keys=False)
_encode_sorted = _encoder(sort_keys=True)


def no_data() -> dict[str, JSON]:
    """An empty object, as a default: to call `dict[str, JSON]` takes three times as long."""
    return {}


def dumps(value: JSON) -> str:
    """Encode compactly, keys in the order given. Raises ValueError on NaN, TypeError on objects."""
    return _encode(value)


def canonical(value: JSON) -> bytes:
    """The one byte form of a value (sorted keys, no spaces): what hashes and comparisons use."""
    return _encode_sorted(value).encode("utf-8", "surrogatepass")


def plain(value: object) -> JSON:
    """A copy of a value, as a journal gives it back; None for what would come back as another."""
    try:
        copy = cast("JSON", loads(_encode(value)))
    except (TypeError, ValueError, RecursionError):
        return None
    return copy if copy == value else None


def texts_in(value: JSON) -> Iterator[str]:
    """All texts of a JSON value, but for the keys of objects."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from texts_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from texts_in(item)


def clean(text: str) -> str:
    """`text` with surrogate pairs joined and lone surrogates replaced, so that it can be encoded;
    the same object when it can be as it is.

    JSON may hold them as escapes, and a server may cut a pair in two.
    """
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def fingerprint(value: JSON) -> bytes:
    """Bytes to hash: equal for values built the same way, keys in the same order. A quarter of
    the time of `canonical`, to which it falls back for text that is not valid Unicode."""
    body = utf8(value)
    return canonical(value) if body is None else body


def utf8(value: JSON) -> bytes | None:
    """The value as JSON, keys in the order given; None for text that is not valid Unicode, such
    as half a surrogate pair."""
    try:
        return to_json(value)
    except PydanticSerializationError:
        return None
