"""Arguments of the wrong kind are told in words: most callers have no type checker."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from lorimer.core.errors import ConfigError


def is_a(value: object, *kinds: type) -> bool:
    """Whether it is, where its declared type says that it must be."""
    return isinstance(value, kinds)


def wrong(name: str, value: object, wanted: str, example: str) -> ConfigError:
    """`name` is what the caller calls it."""
    return ConfigError(
        f"{name} must be {wanted}, not {type(value).__name__}", hint=f"For instance: {example}"
    )


def each_of(name: str, values: object, kind: type, example: str) -> tuple[object, ...]:
    """A list, or another collection, of this kind, as a tuple; one alone is one. Raises
    ConfigError."""
    if isinstance(values, kind):
        return (values,)
    if is_a(values, str, bytes) or not isinstance(values, Iterable):
        raise wrong(name, values, f"a list, and each {_a(kind)}", example)
    found = tuple(cast("Iterable[object]", values))
    for value in found:
        if not isinstance(value, kind):
            raise wrong(f"each of {name}", value, _a(kind), example)
    return found


def check_port(name: str, port: object, kind: type, example: str) -> None:
    """It has the methods of a protocol. Raises ConfigError."""
    needed = [each for each, its in vars(kind).items() if callable(its) and each[0] != "_"]
    missing = [each for each in needed if not callable(getattr(port, each, None))]
    if isinstance(port, type) or missing:
        has = "is a class, not made yet" if isinstance(port, type) else f"has no {missing[0]}()"
        name_of = getattr(port, "__name__", "")
        what = repr(name_of) if name_of else _a(type(port))  # its text could hold a key
        raise ConfigError(
            f"{name} must be {_a(kind)}, and {what} {has}",
            hint=f"For instance: {example}",
        )


def _a(kind: type) -> str:
    name = "text" if kind is str else kind.__name__
    return name if kind is str else f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"
