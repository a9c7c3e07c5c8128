"""The contents of Python's own containers, random generators and exceptions."""

from __future__ import annotations

import random
import types
from collections import defaultdict, deque
from functools import lru_cache
from itertools import chain
from typing import Any, Final, cast

from lorimer.esg.values.content import Content, Held, Kind, fields_of

_List = list[object]
_Deque = deque[object]
_Set = set[object]
_Dict = dict[object, object]


class List(Kind):
    def take(self, value: Any, /) -> Content:
        return Content(self, None, tuple(_List.__iter__(value)))

    def put(self, value: Any, content: Content, /) -> bool:
        _List.__setitem__(value, slice(None), content.parts)
        return True


class Deque(Kind):
    def take(self, value: Any, /) -> Content:
        return Content(self, value.maxlen, tuple(_Deque.__iter__(value)))

    def put(self, value: Any, content: Content, /) -> bool:
        _Deque.clear(value)
        _Deque.extend(value, content.parts)
        return True


class Dict(Kind):
    def __init__(self, base: type[dict[object, object]]) -> None:
        self._base = base

    def take(self, value: Any, /) -> Content:
        keys, values = (*self._base.keys(value),), self._base.values(value)
        more: tuple[object, ...] = (value.default_factory,) if self._base is defaultdict else ()
        if len(keys) < _Dict.__len__(value):  # an OrderedDict, given `__builtins__` by `exec`
            shown = set(keys)
            hidden = [each for each in _Dict.items(value) if each[0] not in shown]
            more = tuple(chain.from_iterable(hidden))
        return Content(self, len(keys), (*keys, *values, *more))

    def put(self, value: Any, content: Content, /) -> bool:
        count = cast("int", content.extra)
        self._base.clear(value)
        keys, values = content.parts[:count], content.parts[count : 2 * count]
        for key, each in zip(keys, values, strict=True):
            self._base.__setitem__(value, key, each)
        more = content.parts[2 * count :]
        if self._base is defaultdict:
            value.default_factory = more[0]
        else:
            _Dict.update(value, zip(more[::2], more[1::2], strict=True))
        return True


class Set(Kind):
    unordered = True

    def take(self, value: Any, /) -> Content:
        return Content(self, Held(_Set.copy(value)), tuple(_Set.__iter__(value)))

    def put(self, value: Any, content: Content, /) -> bool:
        held = cast("Held", content.extra).value
        wanted: Any = (
            held
            if set(map(id, cast("set[object]", held))) == {id(each) for each in content.parts}
            else content.parts
        )
        _Set.clear(value)
        _Set.update(value, wanted)
        return True


class Buffer(Kind):
    def take(self, value: Any, /) -> Content:
        return Content(self, bytes(value), ())

    def put(self, value: Any, content: Content, /) -> bool:
        try:
            value[:] = content.extra
        except BufferError:
            return False
        return True

    def size(self, content: Content, /) -> int:
        return len(cast("bytes", content.extra))


class Cell(Kind):
    """A variable of a function that inner functions use."""

    def take(self, value: Any, /) -> Content:
        try:
            return Content(self, True, (value.cell_contents,))
        except ValueError:
            return Content(self, False, ())

    def put(self, value: Any, content: Content, /) -> bool:
        if content.extra:
            value.cell_contents = content.parts[0]
        else:
            del value.cell_contents
        return True


class Dice(Kind):
    """A random generator."""

    def take(self, value: Any, /) -> Content:
        state = random.Random.getstate(value)
        fields = {k: v for k, v in (fields_of(value) or {}).items() if k != "gauss_next"}
        return Content(self, (state, *fields), (type(value), *fields.values()))

    def put(self, value: Any, content: Content, /) -> bool:
        state, *names = cast("tuple[Any, ...]", content.extra)
        random.Random.setstate(value, state)
        fields = fields_of(value)
        if fields is None:
            return True
        for name in fields.keys() - {"gauss_next"}:
            del fields[name]
        fields.update(zip(names, content.parts[1:], strict=True))
        return True


class Raised(Kind):
    """An exception, without its traceback."""

    def take(self, value: Any, /) -> Content:
        causes = (value.__cause__, value.__context__)
        own = [_held(each, value) for each in _members(_class(value))]
        return Content(self, None, (type(value), value.args, *causes, fields_of(value), *own))

    def put(self, value: Any, content: Content, /) -> bool:
        _, args, cause, context, fields, *own = content.parts
        value.args, value.__context__ = args, context
        if value.__cause__ is not cause:
            value.__cause__ = cause
        if fields_of(value) is not fields:
            value.__dict__ = fields
        try:
            for member, each in zip(_members(_class(value)), own, strict=True):
                if _held(member, value) is each:
                    continue
                if each is _UNSET:
                    member.__delete__(value)
                else:
                    member.__set__(value, each)
        except (AttributeError, TypeError):
            return False
        return True


_UNSET: Final = "(unset)"


@lru_cache(maxsize=512)
def _members(kind: type[BaseException]) -> tuple[types.MemberDescriptorType, ...]:
    """What exceptions of a class keep in addition to their attributes: `errno`, `value`, `name`."""
    every = [own for each in kind.__mro__ for own in vars(each).values()]
    return tuple(each for each in every if isinstance(each, types.MemberDescriptorType))


def _class(value: BaseException) -> type[BaseException]:
    return type(value)


def _held(member: types.MemberDescriptorType, value: BaseException) -> object:
    try:
        return member.__get__(value)
    except AttributeError:
        return _UNSET
