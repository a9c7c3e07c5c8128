"""What a run has left: the names that it bound, the objects that it made or changed.

New objects become regions. If the step ran before and made the same, the old objects are kept and
the new ones dropped, so that steps which used the old ones need not run again (early cut-off).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import cast

from lorimer.esg.values.content import ATOMS, Content, alike
from lorimer.esg.values.objects import kind_of
from lorimer.esg.values.store import Region, State, Version, Visit, can_be


@dataclass(slots=True)
class _Fresh:
    """An object that no earlier run has left."""

    value: object
    content: Content
    label: str


@dataclass(slots=True)
class Left:
    """The result of a commit."""

    bound: dict[str, Version] = field(default_factory=dict[str, Version])
    read: dict[str, str] = field(default_factory=dict[str, str])
    """Region -> its fingerprint at the step's place, for all that it could reach."""
    made: dict[str, str] = field(default_factory=dict[str, str])
    """New region -> its fingerprint."""
    changed: dict[Region, State] = field(default_factory=dict[Region, State])
    shared: set[Region] = field(default_factory=set[Region])
    """Regions whose memory a frame now shares that did not before. Steps that write to it later
    have to run again, because pandas then copies."""
    displaced: set[str] = field(default_factory=set[str])
    """Later steps that turned out to share regions with this one: they have to run again."""


class Commit:
    """Records what one run has left."""

    def __init__(self, visit: Visit, step: str) -> None:
        self._visit = visit
        self._store = visit.store
        self._step = step
        self._fresh: dict[int, _Fresh] = {}
        self._edges: list[tuple[int, int]] = []
        self._shares: list[tuple[int, Region]] = []
        self._looks: dict[Region, set[int]] = {}
        """Changed region -> what its frames hold now."""
        self._pinned: list[tuple[int | None, int]] = []
        self._now: dict[Region, list[Content]] = {}
        self._waiting = [*visit.entered]
        self._last: list[tuple[object, int | None, bool, str]] = []
        """Values that may use the memory of arrays, and where they were found. They are handled
        last."""
        self._apart: Set[int] = frozenset()
        """New objects reachable only from the value that is kept apart."""
        self._left = Left()

    def take(self, bound: Mapping[str, object], *, apart: str = "") -> Left:
        """`bound`: the names that the step has bound to values other than those it got.

        `apart`: one of them, which no step can read. New objects reachable only from it form their
        own region, so that readers of the others are not affected. It is not kept if it leads to
        objects that are replaced by those of the last run.
        """
        for name in sorted(bound.keys() - {apart}):
            self._walk(bound[name], name)
        self._walk_waiting()
        self._hold_computed()
        if apart:
            self._walk_apart(bound[apart], apart)
            self._walk_waiting()
        regions = [self._found(group) for group in self._groups()]
        before = self._ties()
        swaps = self._adopt(regions)
        self._left.shared = self._looked_at(regions, before)
        if self._let_go(regions, swaps):
            bound = {name: value for name, value in bound.items() if name != apart}
            self._store.unbind(apart, self._step)
        self._write(bound, regions, swaps)
        return self._left

    def _walk_apart(self, value: object, label: str) -> None:
        others = {*self._fresh}
        self._walk(value, label)
        while self._last:
            self._walk_last()
        found = self._fresh.keys() - others
        if not any(self._fresh[key].content.opaque for key in found):
            self._apart = found

    def _walk_waiting(self) -> None:
        while self._waiting or self._last:
            if not self._waiting:
                self._walk_last()
                continue
            region = self._waiting.pop(0)
            now = self._visit.changed(region)
            if now is None:
                region.live = self._visit.entered[region]
                continue
            self._now[region] = now
            for old, new in zip(self._visit.entered[region].contents, now, strict=True):
                if old is not new:
                    self._walk_parts(new, region.label)
                    if new.kind.tied:
                        self._looks.setdefault(region, set()).update(map(id, new.parts))

    def _hold_computed(self) -> None:
        """What an object has computed, caches to return again, and has passed to others that stay,
        is a part of it: whoever has it may change it."""
        for fresh in [each for each in self._fresh.values() if each.content.kind.remembers]:
            before, fresh.content = fresh.content, self._holding(fresh.value, fresh.content)
            if fresh.content is not before:
                parts = [(each, id(fresh.value), False) for each in fresh.content.parts]
                self._follow([*parts], fresh.label)
        for region, state in [*self._visit.entered.items()]:
            if not any(each.kind.remembers for each in state.contents):
                continue
            now = self._now.get(region, [*state.contents])
            held = list(map(self._holding, region.objects, now))
            if not alike(now, held):
                self._now[region] = held

    def _holding(self, value: object, content: Content) -> Content:
        if not content.kind.remembers or not any(map(self._stays, content.kind.computed(value))):
            return content
        holding = content.kind.holding(value, self._stays)
        return content if holding.same(content) else holding

    def _stays(self, value: object) -> bool:
        """It is part of what the step left, or of what it got."""
        return id(value) in self._fresh or self._store.known(value) in self._visit.entered

    def _ties(self) -> set[int]:
        """Identifies how frames made by the last run were counted as sharing memory."""
        regions = (each for each in self._store.wrote(self._step) if each.step == self._step)
        contents = (each for region in regions for each in region.states[self._step].contents)
        return {tie for each in contents if each.kind.tied for tie in each.kind.ties(each)}

    def _looked_at(
        self, made: Iterable[tuple[Region, list[Content]]], before: set[int]
    ) -> set[Region]:
        """Regions with memory newly shared with a frame, where none of the last run (`before`: its
        ties) was counted."""
        new = {id(each) for region, _ in made for each in region.objects}
        frames = {
            key
            for key, each in self._fresh.items()
            if each.content.kind.tied
            and key in new
            and not before.issuperset(each.content.kind.ties(each.content))
        }
        return self._behind({to for by, to in self._edges if by in frames})

    def _behind(self, held: set[int]) -> set[Region]:
        """Regions whose memory these arrays and indexes of frames use."""
        held = held | {to for by, to in self._edges if by in held}
        return {region for by, region in self._shares if by in held}

    def give(self, name: str, value: object) -> set[str]:
        """Record a value that existed before any step, in addition to those given already. Returns
        steps that turned out to share regions with it: they have to run again."""
        self._walk(value, name)
        while self._last:
            self._walk_last()
        for region, contents in [self._found(group) for group in self._groups()]:
            region.live = self._store.write(region, self._step, self._store.state(region, contents))
        self._store.bind(name, self._step, value)
        return self._left.displaced

    # ---------------------------------------------------------------- what there is

    def _walk(self, value: object, label: str, *, pinned: bool = False) -> None:
        """Find the objects that a value leads to; known objects are not followed.

        `pinned`: it is in a position where no other object can be put.
        """
        parent: int | None = None
        self._follow([(value, parent, pinned)], label)

    def _walk_last(self) -> None:
        last, self._last = self._last, []
        for value, parent, pinned, label in last:
            self._follow([(value, parent, pinned)], label, last=True)

    def _follow(
        self, waiting: list[tuple[object, int | None, bool]], label: str, *, last: bool = False
    ) -> None:
        while waiting:
            value, parent, pinned = waiting.pop()
            if type(value) in ATOMS:
                continue
            kind = kind_of(value)
            if kind.atom:
                continue
            if kind.inline:
                pinned = pinned or type(value) is not tuple
                waiting += [(each, parent, pinned) for each in reversed(kind.take(value).parts)]
                continue
            if kind.lends and not last:
                self._last.append((value, parent, pinned, label))
                continue
            key = id(value)
            if pinned:
                self._pinned.append((parent, key))
            if key not in self._fresh:
                region = self._store.known(value)
                if region is not None and self._met(region):
                    if parent is not None:
                        self._shares.append((parent, region))
                    continue
                content = kind.take(value)
                self._fresh[key] = _Fresh(value, content, label)
                if kind.remembers:
                    self._pinned += [(key, id(each)) for each in kind.computed(value)]
                hard = content.kind.hard
                waiting += [
                    (each, key, hard) for each in reversed(content.parts) if type(each) not in ATOMS
                ]
            if parent is not None:
                self._edges.append((parent, key))

    def _walk_parts(self, content: Content, label: str) -> None:
        for each in content.parts:
            if type(each) not in ATOMS:
                self._walk(each, label, pinned=content.kind.hard)

    def _met(self, region: Region) -> bool:
        """Whether an object's region exists at the step's place; if so, it counts as read."""
        if region in self._visit.entered:
            return True
        state = self._visit.at_place(region)
        if state is None:
            if region.step != self._step:
                self._left.displaced.add(region.step)
            self._store.dissolve(region)
            return False
        for late in state.late():  # the step did not get it, so it may have changed it unseen
            late.doubt()
        self._visit.entered[region] = state
        self._waiting.append(region)
        return True

    def _groups(self) -> list[list[_Fresh]]:
        """New objects grouped by connection; opaque ones are alone. Those that are apart come
        last."""
        root = {key: key for key in self._fresh}

        def top(key: int) -> int:
            while root[key] != key:
                root[key] = root[root[key]]
                key = root[key]
            return key

        opaque = {key for key, each in self._fresh.items() if each.content.opaque}
        for one, other in self._edges:
            if one not in opaque and other not in opaque and one not in self._apart:
                root[top(other)] = top(one)
        groups: dict[int, list[_Fresh]] = {}
        for key, each in self._fresh.items():
            if key not in self._apart:
                groups.setdefault(top(key), []).append(each)
        apart = [each for key, each in self._fresh.items() if key in self._apart]
        return [*groups.values(), apart] if apart else [*groups.values()]

    def _found(self, group: list[_Fresh]) -> tuple[Region, list[Content]]:
        region = self._store.found(group[0].label, self._step, [each.value for each in group])
        return region, [each.content for each in group]

    # ---------------------------------------------------------------- the same as before

    def _adopt(self, regions: list[tuple[Region, list[Content]]]) -> dict[int, object]:
        """Objects equal to those of the last run: id -> the old object."""
        old: dict[tuple[str, str], list[Region]] = {}  # the label, and what is known immediately
        for region in self._store.wrote(self._step):
            if region.step == self._step:
                key = (region.label, region.states[self._step].known)
                old.setdefault(key, []).append(region)
        swaps: dict[int, object] = {}
        for region, mine in [*regions] if old else ():
            contents = _all_swapped(mine, swaps) if self._stands_apart(region) else mine
            if contents is None:
                continue
            state = self._store.state(region, contents)
            candidates = old.get((region.label, state.known), [])
            twin = next((e for e in candidates if e.states[self._step].alike(state)), None)
            own = set(map(id, region.objects))
            others = self._apart | own
            if twin is None or any(to in own and by not in others for by, to in self._pinned):
                continue  # the old object cannot be put there
            if self._gave_away(twin):
                continue
            if self._revive(twin, region, contents):
                self._retie(twin, contents)
                candidates.remove(twin)
                swaps |= dict(zip(map(id, region.objects), twin.objects, strict=True))
                self._left.made[twin.name] = twin.states[self._step].print
                self._store.dissolve(region)
                regions.remove((region, mine))
        for each in old.values():
            for region in each:
                self._store.dissolve(region)
        return swaps

    def _gave_away(self, old: Region) -> bool:
        """Whether objects of the last run lead, unseen, to others that it has left: those may have
        been changed since, and would be found changed."""
        for value in old.objects:
            kind = kind_of(value)
            for each in kind.computed(value) if kind.remembers else ():
                region = self._store.known(each)
                if region is not None and region is not old and region.step == self._step:
                    return True
        return False

    def _stands_apart(self, region: Region) -> bool:
        return id(region.objects[0]) in self._apart

    def _let_go(
        self, regions: list[tuple[Region, list[Content]]], swaps: Mapping[int, object]
    ) -> bool:
        """Drop the value that is kept apart if it leads to objects that were replaced. Returns
        whether it was dropped."""
        region, contents = regions[-1] if regions else (None, [])
        if region is None or not self._stands_apart(region):
            return False
        again = _all_swapped(contents, swaps)
        if again is not None and alike(again, contents):
            return False
        self._store.dissolve(region)
        regions.pop()
        return True

    def _revive(self, old: Region, new: Region, contents: list[Content]) -> bool:
        """Make sure that the old objects can be what they were, with the help of the new ones."""
        state = old.states[self._step]
        if can_be(old, state):
            return True
        swaps = dict(zip(map(id, new.objects), old.objects, strict=True))
        again = _all_swapped(contents, swaps)
        if again is None:
            return False
        for value, content in zip(new.objects, contents, strict=True):
            content.kind.give(value, content)
        if any(each.kind.lost(each) for each in again):
            return False
        self._store.write(old, self._step, replace(state, contents=tuple(again)))
        return True

    def _retie(self, old: Region, contents: list[Content]) -> None:
        """Put the old objects in place of the new ones even where that is not compared: pandas
        counts the users of a memory, and copies it before a write."""
        state = old.states[self._step]
        for value, mine, new in zip(old.objects, state.contents, contents, strict=True):
            if mine.kind.retie(mine, new) and old.live is state:
                mine.kind.put(value, mine)

    # ---------------------------------------------------------------- writing it down

    def _write(
        self,
        bound: Mapping[str, object],
        regions: Iterable[tuple[Region, list[Content]]],
        swaps: Mapping[int, object],
    ) -> None:
        store, left = self._store, self._left
        for region, contents in regions:
            region.live = state = store.write(region, self._step, store.state(region, contents))
            left.made[region.name] = state.print
        for region, now in self._now.items():
            self._change(region, now, swaps)
        for region, state in self._visit.entered.items():
            left.read[region.name] = state.print
        for region in store.wrote(self._step):
            if region.step != self._step and region not in left.changed:
                store.unwrite(region, self._step)
        for name, value in bound.items():
            left.bound[name] = store.bind(name, self._step, swap(value, swaps))

    def _change(self, region: Region, now: list[Content], swaps: Mapping[int, object]) -> None:
        before = self._visit.entered[region]
        contents, moved = list[Content](), list[tuple[object, Content]]()
        for value, content in zip(region.objects, now, strict=True):
            other = swapped(content, swaps) or content
            contents.append(other)
            if other is not content:
                moved.append((value, other))
        done = [content.kind.put(value, content) for value, content in moved]
        state = self._store.state(region, contents)
        if state.alike(before):
            for mine, new in zip(before.contents, contents, strict=True):
                mine.kind.retie(mine, new)
            region.live = before if all(done) else None
            return
        for value, mine, new in zip(region.objects, before.contents, contents, strict=True):
            if mine is not new and mine.kind.lends and not mine.kind.lost(mine):
                self._store.copied += mine.kind.keep(value, mine)  # it has it: that counts now
        last = region.states.get(self._step)
        state = self._store.write(region, self._step, state)
        region.live = state if all(done) else None
        self._left.changed[region] = state
        if last is None or last.print != state.print:
            self._left.shared |= self._behind(self._looks.get(region, set())) - {region}


def swap(value: object, swaps: Mapping[int, object]) -> object:
    """A value with some objects replaced."""
    if not swaps or type(value) in ATOMS:
        return value
    if type(value) is tuple:
        items = cast("tuple[object, ...]", value)
        other = tuple(swap(each, swaps) for each in items)
        return items if alike(items, other) else other
    return swaps.get(id(value), value)


def swapped(content: Content, swaps: Mapping[int, object]) -> Content | None:
    """A content with some objects replaced; the same one if it contains none of them. None: they
    are in positions where they cannot be replaced."""
    parts = tuple(swap(each, swaps) for each in content.parts)
    if alike(content.parts, parts):
        inner = (each for each in content.parts if type(each) not in ATOMS)
        return None if swaps and any(_hidden(each, swaps) for each in inner) else content
    return content._replace(parts=parts)


def _all_swapped(contents: Sequence[Content], swaps: Mapping[int, object]) -> list[Content] | None:
    found = [swapped(each, swaps) for each in contents] if swaps else [*contents]
    return None if None in found else cast("list[Content]", found)


def _hidden(value: object, swaps: Mapping[int, object]) -> bool:
    kind = kind_of(value)
    return kind.inline and any(
        id(each) in swaps or _hidden(each, swaps) for each in kind.take(value).parts
    )
