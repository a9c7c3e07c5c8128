"""Readable errors for arguments of the wrong type: most callers have no type checker."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from lorimer.core.errors import ConfigError


def is_a(value: object, *kinds: type) -> bool:
    """Checks a type that is declared already, so that type checkers do not consider it
    redundant."""
    return isinstance(value, kinds)


def wrong(name: str, value: object, wanted: str, example: str) -> ConfigError:
    """The error for a wrong argument; `name` is the caller's name for it."""
    return ConfigError(
        f"{name} must be {wanted}, not {type(value).__name__}", hint=f"For instance: {example}"
    )


def check_id(name: str, value: object, example: str) -> None:
    """Check that a value can be the id of something stored: text of whole characters, so no half of
    a surrogate pair. Raises ConfigError."""
    if not isinstance(value, str):  # a number is stored as its text, and would be two ids
        raise wrong(name, value, "text", example)
    if value != value.encode("utf-8", "replace").decode():
        raise ConfigError(
            f"{name} {value!r} contains half a character, which no store accepts",
            hint=f"For instance: {example}",
        )


def check_seconds(name: str, value: object) -> None:
    """Check that a value is a number of seconds; infinity is one. Raises ConfigError."""
    if not isinstance(value, int | float):
        raise wrong(name, value, "a number of seconds", f"{name}=60")
    if value != value:  # NaN, for which no wait is ever over
        raise ConfigError(f"{name} must be a number of seconds, not nan")


def check_texts(of: str, **fields: object) -> None:
    """Check that each field of an object is text; `of` names the object. Raises ConfigError."""
    for name, given in fields.items():
        if not is_a(given, str):
            raise wrong(f"{of}.{name}", given, "text", f'{name}="..."')


def each_of(name: str, values: object, kind: type, example: str) -> tuple[object, ...]:
    """A collection of this type as a tuple; a single value counts as a collection of one. Raises
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
    """Check that a value has the methods of a protocol. Raises ConfigError."""
    needed = [each for each, its in vars(kind).items() if callable(its) and each[0] != "_"]
    missing = [each for each in needed if not callable(getattr(port, each, None))]
    if isinstance(port, type) or missing:
        has = "is a class, not made yet" if isinstance(port, type) else f"has no {missing[0]}()"
        name_of = getattr(port, "__name__", "")
        what = repr(name_of) if name_of else _a(type(port))  # its repr could contain a key
        raise ConfigError(
            f"{name} must be {_a(kind)}, and {what} {has}",
            hint=f"For instance: {example}",
        )


def _a(kind: type) -> str:
    name = "text" if kind is str else kind.__name__
    return name if kind is str else f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"
