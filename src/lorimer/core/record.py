"""Records: immutable by type, cheap at run time and to define."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(cls: type[T]) -> type[T]:
    """A slotted dataclass that type checkers treat as frozen, equal and hashed by its fields.

    A dataclass that is frozen at run time too takes three times as long to create, and a model call
    creates a dozen. One that defines its own `__eq__`, `__hash__` and `__repr__` takes twice as
    long to define, and `import lorimer` defines sixty.
    """
    made = dataclass(slots=True, eq=False, repr=False)(cls)
    names = [each.name for each in fields(made) if each.compare]  # pyright: ignore[reportArgumentType]
    values = attrgetter(*names) if names else _nothing

    def equal(self: object, other: object) -> bool:
        return values(self) == values(other) if type(other) is made else NotImplemented

    def hashed(self: object) -> int:
        return hash(values(self))

    own = vars(cls)
    made.__eq__ = equal if "__eq__" not in own else made.__eq__
    made.__hash__ = hashed if not own.get("__hash__") else made.__hash__
    made.__repr__ = _shown if "__repr__" not in own else made.__repr__
    return made


def _nothing(_: object) -> None:
    """The values of a record without fields."""


def _shown(self: object) -> str:
    told = [each.name for each in fields(self) if each.repr]  # pyright: ignore[reportArgumentType]
    values = ", ".join([f"{name}={self.__getattribute__(name)!r}" for name in told])
    return f"{type(self).__qualname__}({values})"
