"""What one object holds, one level deep, and how it is put back into the same object.

There are three sorts of values: *atoms* cannot change and hold nothing that can (numbers, text,
what a library defines); *inline* values cannot change but hold others (tuples, bound methods);
*objects* can change. An object's content is what is needed to restore it. Restoring keeps the
object's identity, so everything that refers to it, by whatever name or way, sees the right state.

What cannot be inspected safely (iterators, generators, files, locks) is *opaque*: its content never
equals another and cannot be put back. The garbage collector tells what it refers to. No code of a
value's class runs here, except for pickling extension types; the pickles are compared and never
loaded.
"""

from __future__ import annotations

import gc
import types
import weakref
from collections.abc import Callable, Iterable, Sequence
from operator import is_
from typing import Any, Final, NamedTuple, Protocol, cast

MAIN: Final = "__main__"
"""The module that steps run as: classes from it are inspected, those of libraries are not."""
ATOMS: Final[frozenset[type]] = frozenset({int, float, complex, bool, str, bytes, type(None)})


class OfSession:
    """Base of the session's own objects that steps can reach: they are the same in every run."""

    __slots__ = ()


class OfSteps(OfSession):
    """Base of what holds the names that steps see: their globals, and the module `__main__`."""

    __slots__ = ()


class Opaque:
    """Stands for unknown content: equal only to itself."""


class Held:
    """A value that `Content` carries along and does not compare."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Held)

    __hash__ = None  # pyright: ignore[reportAssignmentType]


class Content(NamedTuple):
    """What an object holds."""

    kind: Kind
    extra: object
    """Compared as a value: names, a length, the digest of a buffer."""
    parts: tuple[object, ...]
    """The values that it holds, compared by identity."""

    @property
    def opaque(self) -> bool:
        return type(self.extra) is Opaque

    def same(self, other: Content) -> bool:
        """Holds the same elements, by identity, and equal `extra`."""
        mine, theirs = self.parts, other.parts
        return (
            len(mine) == len(theirs)
            and all(map(is_, mine, theirs))
            and self.kind is other.kind
            and self.extra == other.extra
        )


class Late(Protocol):
    """A part of a content that is determined when it is compared: until then it is whatever the
    object holds."""

    def settle(self) -> None:
        """Determine it now: the object is about to be changed."""
        ...

    def doubt(self) -> None:
        """The object may have been changed: if it was not determined before, it stays unknown."""
        ...


class Kind:
    """The kind of a value. Stateless."""

    atom = False
    inline = False
    unordered = False
    hard = False
    """Its parts cannot be put into it."""
    tied = False
    """It knows which others use its memory, and the effect of changing one of them in place may
    depend on that: `retie`."""
    lends = False
    """It may use the memory of arrays without notice: it is inspected once those are known."""
    hides = False
    """It may lead to objects that are not parts of it: `shut` knows them."""

    remembers = False
    """It may cache objects that it returns, which are not parts of it (`computed`) until somebody
    has changed or kept them: `holding`."""

    def take(self, value: Any, /) -> Content:
        """Its present content."""
        raise NotImplementedError

    def put(self, value: Any, content: Content, /) -> bool:
        """Put a content back. False: that is impossible."""
        del value, content
        return False

    def keep(self, value: Any, content: Content, /) -> int:
        """Make sure that a content can be put back later, because it is about to change. Returns
        the bytes used."""
        del value, content
        return 0

    def retie(self, content: Content, newer: Content, /) -> bool:
        """Take over from an equal content what links its object to others and is not compared.
        False: there is nothing like that."""
        del content, newer
        return False

    def ties(self, content: Content, /) -> frozenset[int]:
        """The ids of the counters of who uses its memory, if it is `tied`."""
        del content
        return frozenset()

    def computed(self, value: Any, /) -> Iterable[object]:
        """The cached objects, if it `remembers`."""
        del value
        return ()

    def holding(self, value: Any, wanted: Callable[[object], bool], /) -> Content:
        """Its present content, with those of the cached objects that are `wanted` among its
        parts."""
        del wanted
        return self.take(value)

    def shut(self, value: Any, there: Callable[[object], bool], /) -> None:
        """Drop objects that it leads to unseen and that are not `there` yet."""
        del value, there

    def held(self, content: Content, /) -> int:
        """Bytes of the copy taken by `keep`; 0 if there is none."""
        del content
        return 0

    def drop(self, content: Content, /) -> None:
        """Drop that copy."""
        del content

    def lost(self, content: Content, /) -> bool:
        """Whether this content cannot be put back any more."""
        del content
        return False

    def late(self, content: Content, /) -> Late | None:
        """The part of it that is determined only on demand."""
        del content
        return None

    def give(self, value: Any, content: Content, /) -> None:
        """An object that holds this content and that nobody else has: the content may use it."""
        del value, content

    def size(self, content: Content, /) -> int:
        """Bytes to be copied to keep it, without its parts."""
        del content
        return 0


class Rigid(Kind):
    """Nothing can be put into its objects: a content is there as long as they hold it."""

    hard = True

    def put(self, value: Any, content: Content, /) -> bool:
        return content.same(self.take(value))


class Fleeting(Kind):
    """Its objects cannot be put back to what they were."""

    hard = True

    def lost(self, content: Content, /) -> bool:
        return True


class Seen(Kind):
    """A value that cannot change and is identified by what is visible of it."""

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


class _Unknown(Fleeting):
    def take(self, value: Any, /) -> Content:
        return unknown(value)


def unknown(value: object) -> Content:
    """The content of something that cannot be inspected."""
    return Content(UNKNOWN, Opaque(), referents(value))


def referents(value: object) -> tuple[object, ...]:
    """What an object refers to, as the garbage collector knows it; for a weak reference its
    target."""
    found: list[object] = gc.get_referents(value)
    if isinstance(value, weakref.ref):
        found.append(cast("weakref.ref[object]", value)())
    return tuple(each for each in found if not isinstance(each, types.CodeType))


def home_of(kind: type[Any]) -> str:
    """The module that a class says it is from; empty if it says none."""
    home: object = getattr(kind, "__module__", None)
    return home if isinstance(home, str) else ""


def fields_of(value: object) -> dict[str, object] | None:
    """The attributes of an object: the dict itself; None if there is none."""
    try:
        fields: object = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return None
    return cast("dict[str, object]", fields) if isinstance(fields, dict) else None


def alike(one: Sequence[object], other: Sequence[object]) -> bool:
    """The same elements, by identity."""
    return len(one) == len(other) and all(map(is_, one, other))


UNKNOWN: Final = _Unknown()
