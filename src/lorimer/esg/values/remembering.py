"""Objects that cache what they have computed and return the same object again: indexes of pandas.

What is cached is no part of the object, until somebody has changed it or keeps it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

from lorimer.esg.values.content import ATOMS, Content, fields_of
from lorimer.esg.values.definitions import Partly


class Remembering(Partly):
    """An object of which some attributes do not count, and some of these are dicts of computed
    objects that others may change. One of these counts once it differs from what would be computed
    anew."""

    remembers = True

    def computed(self, value: Any, /) -> Iterable[object]:
        return [each for cache in self._caches(value).values() for each in cache.values()]

    def take(self, value: Any, /) -> Content:
        return self.holding(value, lambda _: False)

    def holding(self, value: Any, wanted: Callable[[object], bool], /) -> Content:
        own = super().take(value)
        more = dict[str, object]()
        for attribute, cache in self._caches(value).items():
            for name, each in [*cache.items()]:
                if self._can_change(each) and self._counts(value, cache, name, wanted):
                    more[f"{attribute}.{name}"] = each
        if not more or own.opaque:
            return own
        *names, extra = cast("tuple[object, ...]", own.extra)
        known, order = len(names) + 1, sorted(more)
        parts = (*own.parts[:known], *(more[name] for name in order), *own.parts[known:])
        return Content(self, (*names, *order, extra), parts)

    def put_attributes(self, value: Any, wanted: dict[str, object], /) -> None:
        for attribute, cache in self._caches(value).items():  # computed from the previous content
            cache.clear()
            for name in [each for each in wanted if each.startswith(f"{attribute}.")]:
                cache[name.removeprefix(f"{attribute}.")] = wanted.pop(name)
        super().put_attributes(value, wanted)

    def _caches(self, value: object) -> dict[str, dict[str, object]]:
        fields = fields_of(value) or {}
        return {
            name: cast("dict[str, object]", fields[name])
            for name in self._hidden.intersection(fields)
            if isinstance(fields[name], dict)
        }

    def _can_change(self, value: object) -> bool:
        """It is of this kind itself, or a list of such."""
        if isinstance(value, list):
            return any(map(self._can_change, cast("list[object]", value)))
        has_fields = type(value).__dictoffset__  # otherwise getting them takes longer than all this
        return bool(has_fields) and not self._hidden.isdisjoint(fields_of(value) or ())

    def _counts(
        self, value: object, cache: dict[str, object], name: str, wanted: Callable[[object], bool]
    ) -> bool:
        """What is cached under this name is wanted, or differs from what would be computed. What is
        the same object each time is kept elsewhere in this one."""
        kept = cache.pop(name)
        try:
            new: object = getattr(value, name, None)
            return new is not kept and (wanted(kept) or not self._like(kept, new))
        finally:
            cache[name] = kept

    def _like(self, one: object, other: object) -> bool:
        if type(one) is not type(other):
            return False
        if isinstance(one, list):
            pairs = zip(cast("list[object]", one), cast("list[object]", other), strict=False)
            return all(self._like(mine, new) for mine, new in pairs)
        mine, new = self.attributes(one), self.attributes(other)
        return mine.keys() == new.keys() and all(
            type(mine[name]) is type(new[name])
            and (type(mine[name]) not in ATOMS or mine[name] == new[name])
            for name in mine
        )
