"""Checks of what a host gives: most callers have no type checker."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeAlias, cast

from lorimer.assembly import is_a
from lorimer.core.errors import ConfigError

Kinds: TypeAlias = "type | tuple[type, ...]"

FUNCTION: Final = cast("type", Callable)
"""Of what can be called."""


def check(of: str, **given: tuple[object, Kinds]) -> None:
    """Raises ConfigError for the first value that is none of its kinds, by its name."""
    for name, (value, kinds) in given.items():
        if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool):
            raise _wrong(f"{of}.{name}", value, kinds)


def set_many(of: object, kind: type, *names: str) -> None:
    """Have these fields of a record be tuples: most callers write a list, and one alone is one.
    Raises ConfigError for what is something else, or holds it."""
    for name in names:
        given: object = object.__getattribute__(of, name)
        if is_a(given, kind):
            given = (given,)
        if not isinstance(given, Iterable):
            raise _wrong(f"{type(of).__name__}.{name}", given, kind)
        found = tuple(cast("Iterable[object]", given))
        for at, each in enumerate(found):
            if not isinstance(each, kind):
                raise _wrong(f"{type(of).__name__}.{name}[{at}]", each, kind)
        object.__setattr__(of, name, found)


def _wrong(name: str, value: object, kinds: Kinds) -> ConfigError:
    wanted = kinds if isinstance(kinds, tuple) else (kinds,)
    told = " or ".join([each.__name__ for each in wanted if each is not type(None)])
    return ConfigError(f"{name} must be {told}, not {type(value).__name__}")
