"""The values of all versions, kept apart although steps share and change objects.

A step is lent the object itself, not a copy. If it may change it (its text says so, or the object
is small) a copy of the object, and of everything that shares a part with it, is taken first. After
the step all that shares a part with what it touched is looked at again: a version whose object has
changed gets the copy back, or, without one, is *lost*; who needs it runs the step that made it.
So a wrong guess costs time, never a wrong value.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from typing import Final

from lorimer.esg.fingerprint import Seen, look

SMALL: Final = 64 * 1024
"""Bytes up to which a copy is taken whatever the text of the step says."""


class Lost(BaseException):
    """A version is needed whose value is gone: `maker` has to run again first.

    No Exception, so that the step that is running cannot catch it by mistake.
    """

    def __init__(self, name: str, maker: str) -> None:
        super().__init__(f"the value of {name!r} that {maker or 'the caller'} made is gone")
        self.name = name
        self.maker = maker


@dataclass(frozen=True, slots=True, eq=False)
class Spare:
    """Copies of versions that hang together, made together and lent to nobody."""

    copies: dict[Version, object]
    twins: dict[int, int]
    """Id of a part -> id of the part that was made for it."""


@dataclass(slots=True, eq=False)
class Version:
    """The value of a name as one step left it. `step` is empty for what the caller gave."""

    name: str
    step: str
    value: object
    seen: Seen
    own: frozenset[int] = frozenset()
    """Parts that the step made: those that nothing it was lent had."""
    lost: bool = False
    spare: Spare | None = None
    """What it was before a step was lent it."""


class VersionStore:
    """(name, step) -> value. One owner; not for several threads."""

    def __init__(self) -> None:
        self._versions: dict[tuple[str, str], Version] = {}
        self._holders: dict[int, dict[Version, None]] = {}  # id of a part -> who holds it
        self._tokens = count()

    def get(self, name: str, step: str) -> Version | None:
        """The version, lost or not."""
        return self._versions.get((name, step))

    def lend(self, name: str, step: str, *, may_change: bool) -> object:
        """The object itself. Raises Lost; KeyError for a version that never was."""
        version = self._versions[name, step]
        if version.lost:
            raise Lost(name, step)
        if version.seen.parts and (may_change or version.seen.size <= SMALL):
            self._spare(version)
        return version.value

    def look(self, value: object) -> Seen:
        """What a value is like now."""
        return look(value, lambda: str(next(self._tokens)))

    def put(
        self,
        name: str,
        step: str,
        value: object,
        *,
        seen: Seen | None = None,
        lent: Iterable[Version] = (),
    ) -> Version:
        """Keep what a step made out of what it was lent.

        If it made another object before, whoever holds a part of that is lost: it would no longer
        share what it has to share.
        """
        seen = seen or self.look(value)
        own = seen.parts.difference(*(each.seen.parts for each in lent))
        version = Version(name, step, value, seen, own)
        old = self._versions.get((name, step))
        self._versions[name, step] = version
        if old is not None:
            self._forget(old)
            for other in self._holding(old.own - seen.parts):
                self._lose(other)
        self._hold(version)
        return version

    def put_lost(self, name: str, step: str) -> None:
        """A step made it elsewhere: it is gone until the step runs here."""
        self._versions[name, step] = Version(name, step, None, self.look(None), lost=True)

    def sharers(self, version: Version) -> list[Version]:
        """Other versions that share a part with this one."""
        return self._sharing([version])

    def drop(self, name: str, step: str) -> None:
        """The step does not make this any more."""
        version = self._versions.pop((name, step), None)
        if version is not None:
            self._forget(version)

    def changed(self, touched: Iterable[Version]) -> list[tuple[Version, object, Seen]]:
        """Look again at all that shares a part with these: (version, object, what it is like now).

        The versions themselves have their old values back, or are lost.
        """
        touched = [version for version in touched if not version.lost]
        group = dict.fromkeys([*touched, *self._sharing(touched)])
        found = list[tuple[Version, object, Seen]]()
        for version in group:
            if not version.seen.parts:
                continue
            seen = self.look(version.value)
            if seen.digest != version.seen.digest:
                found.append((version, version.value, seen))
        for version, _, _ in found:
            self._forget(version)
            if version.spare is None:
                self._lose(version)
                continue
            version.value = version.spare.copies[version]
            version.seen = self.look(version.value)
            version.own = frozenset(version.spare.twins.get(part, 0) for part in version.own)
            self._hold(version)
        for version in group if found else ():
            version.spare = None
        return found

    # ---------------------------------------------------------------- inside

    def _sharing(self, versions: Iterable[Version]) -> list[Version]:
        """Other versions that hold a part of one of these."""
        given = dict.fromkeys(versions)
        parts = (part for version in given for part in version.seen.parts)
        return [version for version in self._holding(parts) if version not in given]

    def _holding(self, parts: Iterable[int]) -> list[Version]:
        found: dict[Version, None] = {}
        for part in parts:
            found.update(self._holders.get(part, {}))
        return [*found]

    def _spare(self, version: Version) -> None:
        """Copies of a version and of all that hangs together with it, made together."""
        group, waiting = {version: None}, [version]
        while waiting:
            new = [each for each in self._sharing([waiting.pop()]) if each not in group]
            group.update(dict.fromkeys(new))
            waiting += new
        if version.spare is not None and group.keys() <= version.spare.copies.keys():
            return
        if not all(each.seen.copyable for each in group):
            return
        memo: dict[int, object] = {}
        try:
            copies = {each: copy.deepcopy(each.value, memo) for each in group}
        except Exception:  # noqa: BLE001 - whatever a class raises, there is no copy
            return
        alike = all(self.look(copies[each]).digest == each.seen.digest for each in group)
        if alike:
            spare = Spare(copies, {part: id(twin) for part, twin in memo.items()})
            for each in group:
                each.spare = spare

    def _hold(self, version: Version) -> None:
        for part in version.seen.parts:
            self._holders.setdefault(part, {})[version] = None

    def _forget(self, version: Version) -> None:
        for part in version.seen.parts:
            holders = self._holders.get(part, {})
            holders.pop(version, None)
            if not holders:
                self._holders.pop(part, None)

    def _lose(self, version: Version) -> None:
        self._forget(version)
        version.lost, version.value, version.spare = True, None, None
