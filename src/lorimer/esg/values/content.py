"""What one object holds, one level deep, and how it is put back into the same object.

Three sorts of value: *atoms* cannot change and hold nothing that can (numbers, text, what a library
defines); *inline* values cannot change but hold others (tuples, bound methods); *objects* can
change. An object's content is what a restore needs: putting it back leaves the object the same one,
so whoever refers to it, by whatever name or way, sees what is right.

What cannot be looked into without a risk (iterators, generators, files, locks) is *opaque*: its
content is never equal to another and cannot be put back. The garbage collector tells what it
refers to. No code of a value's class is run here, but for the pickles of extension types, which are
compared and never loaded.
"""

from __future__ import annotations

import gc
import types
import weakref
from collections.abc import Callable, Iterable
from operator import is_
from typing import Any, Final, NamedTuple, Protocol, cast

MAIN: Final = "__main__"
"""The module that steps run as: their classes are looked into, those of libraries are not."""
ATOMS: Final[frozenset[type]] = frozenset({int, float, complex, bool, str, bytes, type(None)})


class Opaque:
    """Stands for a content that nothing is known of: equal to itself alone."""


class Content(NamedTuple):
    """What an object holds."""

    kind: Kind
    extra: object
    """What is compared as a value: names, a length, the digest of a buffer."""
    parts: tuple[object, ...]
    """The values that it holds, compared by identity."""

    @property
    def opaque(self) -> bool:
        return type(self.extra) is Opaque

    def same(self, other: Content) -> bool:
        """Holds the very same."""
        mine, theirs = self.parts, other.parts
        return (
            len(mine) == len(theirs)
            and all(map(is_, mine, theirs))
            and self.kind is other.kind
            and self.extra == other.extra
        )


class Late(Protocol):
    """A part of a content that is told when somebody compares it: until then it is what the object
    holds."""

    def settle(self) -> None:
        """Tell it now: the object is about to be changed."""
        ...

    def doubt(self) -> None:
        """The object may have been changed: if it was not told before, it is never known."""
        ...


class Kind:
    """A sort of value. Stateless."""

    atom = False
    inline = False
    unordered = False
    hard = False
    """Its parts cannot be put into it."""
    tied = False
    """It knows who else looks at its memory, and what changes one of them in place may depend on
    that: `retie`."""
    lends = False
    """It may use the memory of arrays without telling: it is looked into when those are known."""
    hides = False
    """It may lead to objects that are no parts of it: `shut` knows them."""

    remembers = False
    """It may keep objects that it has made once to give them away, and that are no parts of it
    (`computed`) until somebody has changed or kept them: `holding`."""

    def take(self, value: Any, /) -> Content:
        """What it holds now."""
        raise NotImplementedError

    def put(self, value: Any, content: Content, /) -> bool:
        """Put a content back. False: that is not possible."""
        del value, content
        return False

    def keep(self, value: Any, content: Content, /) -> int:
        """Make sure that a content can be put back later: it is about to change. Bytes held."""
        del value, content
        return 0

    def retie(self, content: Content, newer: Content, /) -> bool:
        """Take from an equal content what ties its object to others and is not compared. False:
        there is nothing like that."""
        del content, newer
        return False

    def ties(self, content: Content, /) -> frozenset[int]:
        """The ids of what counts those who look at its memory, where it is `tied`."""
        del content
        return frozenset()

    def computed(self, value: Any, /) -> Iterable[object]:
        """Those objects, where it `remembers`."""
        del value
        return ()

    def holding(self, value: Any, wanted: Callable[[object], bool], /) -> Content:
        """What it holds now, the `wanted` ones of those objects among its parts."""
        del wanted
        return self.take(value)

    def shut(self, value: Any, there: Callable[[object], bool], /) -> None:
        """Let go of objects that it leads to unseen and that are not `there` yet."""
        del value, there

    def held(self, content: Content, /) -> int:
        """Bytes of the copy that `keep` has taken; 0 if there is none."""
        del content
        return 0

    def drop(self, content: Content, /) -> None:
        """Let that copy go."""
        del content

    def lost(self, content: Content, /) -> bool:
        """This content cannot be put back."""
        del content
        return False

    def late(self, content: Content, /) -> Late | None:
        """What of it is told only when it is asked for."""
        del content
        return None

    def give(self, value: Any, content: Content, /) -> None:
        """An object that holds this content and that nobody else has: the content may use it."""
        del value, content

    def size(self, content: Content, /) -> int:
        """Bytes that would have to be copied to keep it, beyond its parts."""
        del content
        return 0


class Seen(Kind):
    """What cannot change and is told by what can be seen of it."""

    atom = True

    def __init__(self, seen: Callable[[Any], object]) -> None:
        self._seen = seen

    def take(self, value: Any, /) -> Content:
        return Content(self, (type(value).__qualname__, self._seen(value)), ())


class Inline(Kind):
    inline = True

    def __init__(self, parts: Callable[[Any], tuple[object, ...]]) -> None:
        self._parts = parts

    def take(self, value: Any, /) -> Content:
        return Content(self, type(value).__name__, self._parts(value))


class _Unknown(Kind):
    hard = True

    def lost(self, content: Content, /) -> bool:
        return True

    def take(self, value: Any, /) -> Content:
        return unknown(value)


def unknown(value: object) -> Content:
    """The content of what cannot be looked into."""
    return Content(UNKNOWN, Opaque(), referents(value))


def referents(value: object) -> tuple[object, ...]:
    """What an object holds, as the garbage collector knows it; a weak reference what it is to."""
    found: list[object] = gc.get_referents(value)
    if isinstance(value, weakref.ref):
        found.append(cast("weakref.ref[object]", value)())
    return tuple(each for each in found if not isinstance(each, types.CodeType))


def home_of(kind: type[Any]) -> str:
    """The module that a class says it is from; empty where it says none."""
    home: object = getattr(kind, "__module__", None)
    return home if isinstance(home, str) else ""


def fields_of(value: object) -> dict[str, object] | None:
    """The attributes of an object: the very dict that keeps them; None where there is none."""
    try:
        fields: object = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return None
    return cast("dict[str, object]", fields) if isinstance(fields, dict) else None


def alike(one: object, other: tuple[object, ...]) -> bool:
    """The very same elements."""
    items = cast("tuple[object, ...]", one)
    return len(items) == len(other) and all(map(is_, items, other))


UNKNOWN: Final = _Unknown()
