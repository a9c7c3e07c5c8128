"""The values of all versions: names as they were bound, objects as they were.

Objects keep their identity through time. Connected objects made by one run are a *region*; what
they hold after a step that made or changed them is a *state* of the region. A region is a variable
like a name: a step reads the regions that it can reach and writes those that it changes, and the
version at a place is that of the last earlier step that wrote it. Before a step runs, every object
that it can reach is restored to its content at that place, so all ways to an object, including
names hidden by other steps, see the same. What cannot be restored (an iterator that has advanced)
is *lost*: the step that left it in that state has to run again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from types import FunctionType

from lorimer.esg.graph.steps import UNSEEN
from lorimer.esg.values import arrays
from lorimer.esg.values.content import Content, Late
from lorimer.esg.values.objects import kind_of
from lorimer.esg.values.prints import Printer


class Lost(BaseException):
    """A version is needed whose value is gone: `maker` has to run again first.

    Not an Exception, so that the running step does not catch it by mistake.
    """

    def __init__(self, name: str, maker: str) -> None:
        super().__init__(f"the value of {name!r} that {maker or 'the caller'} made is gone")
        self.name = name
        self.maker = maker


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """What the objects of a region hold, as one step left them."""

    contents: tuple[Content, ...]
    print: str
    refs: tuple[Region, ...]
    """Other regions that these contents lead to."""
    known: str
    """The fingerprint, without what is determined late. `print` is the same if there is nothing
    late, otherwise new for each state: whether two states are equal is determined by `alike`, on
    demand."""
    spoken: frozenset[str] = frozenset()
    """Names of functions among the contents."""

    def alike(self, other: State) -> bool:
        """Whether their objects hold the same."""
        if self.print == other.print or self.known != other.known:
            return self.print == other.print
        return self.late() == other.late()

    def late(self) -> list[Late]:
        """The late parts of these contents, in order."""
        found = (each.kind.late(each) for each in self.contents)
        return [each for each in found if each is not None]


@dataclass(slots=True, eq=False)
class Region:
    """Connected objects that one run made. `step` is empty for what was given to the session."""

    name: str
    """Its name in the graph: the name that led to it first, with a number."""
    step: str
    objects: list[object]
    states: dict[str, State] = field(default_factory=dict[str, State])
    live: State | None = None
    """What the objects hold now; None if unknown."""
    functions: tuple[FunctionType, ...] | None = None
    """The functions among the objects, once determined."""
    looks: dict[Region, None] = field(default_factory=dict["Region", None], repr=False)
    """Other regions whose memory its frames may use."""
    looked_at: dict[Region, None] = field(default_factory=dict["Region", None], repr=False)
    """Regions that have it in their `looks`."""

    @property
    def label(self) -> str:
        return self.name.partition("#")[0]

    def missing(self, maker: str, holder: str) -> str:
        """The step that has to run again if the state left by `maker` is missing: the maker itself,
        if it ran elsewhere; if the region was dissolved, the step that leads to it."""
        return maker if maker and self.states else holder


@dataclass(frozen=True, slots=True, eq=False)
class Version:
    """The value of a name as one step bound it."""

    name: str
    step: str
    value: object
    print: str
    regions: tuple[Region, ...]
    """The regions that the value leads to directly."""
    lost: bool = False
    """Its step ran elsewhere: the value is not here."""
    spoken: frozenset[str] = frozenset()
    """Names of functions that it is, or holds itself, and names that these use."""


class VersionStore:
    """(name, step) -> value, (region, step) -> state. One owner; not thread-safe."""

    def __init__(self) -> None:
        self._versions: dict[tuple[str, str], Version] = {}
        self._regions: dict[str, Region] = {}
        self._owners: dict[int, tuple[Region, int]] = {}
        self._wrote: dict[str, dict[Region, None]] = {}  # step -> regions of which it left states
        self.copied = 0
        """Upper bound on the bytes of copies of contents (budget.py)."""
        self._numbers = count()
        self._tokens = count()

    # ---------------------------------------------------------------- names

    def get(self, name: str, step: str) -> Version | None:
        """The version of a name that a step made."""
        return self._versions.get((name, step))

    def bind(self, name: str, step: str, value: object) -> Version:
        """A step has bound a name. All objects of the value belong to regions."""
        printer = Printer(self.owner, self._tokens)
        printer.value(value)
        spoken = frozenset(printer.spoken)
        version = Version(name, step, value, printer.text(), tuple(printer.refs), spoken=spoken)
        self._versions[name, step] = version
        return version

    def given(self, name: str) -> bool:
        """Whether it had a value before any step."""
        return (name, "") in self._versions

    def put_lost(self, name: str, step: str) -> None:
        """A step bound it elsewhere: the value is gone until the step runs here."""
        self._versions[name, step] = Version(name, step, None, UNSEEN, (), lost=True)

    def unbind(self, name: str, step: str) -> None:
        """The step does not bind this any more."""
        self._versions.pop((name, step), None)

    # ---------------------------------------------------------------- regions

    def regions(self) -> Mapping[str, Region]:
        """All regions by name."""
        return self._regions

    def owner(self, value: object) -> tuple[Region, int] | None:
        """The region of an object, and its index there; None if its region was dissolved."""
        return self._owners.get(id(value))

    def known(self, value: object) -> Region | None:
        """The region of an object, if it has one."""
        found = self._owners.get(id(value))
        return None if found is None else found[0]

    def found(self, label: str, step: str, objects: list[object]) -> Region:
        """A new region."""
        region = Region(f"{label}#{next(self._numbers)}", step, objects)
        self._regions[region.name] = region
        self._owners |= {id(each): (region, index) for index, each in enumerate(objects)}
        return region

    def state(self, region: Region, contents: Iterable[Content]) -> State:
        """A state with its fingerprint; `write` stores it."""
        contents = tuple(contents)
        printer = Printer(self.owner, self._tokens, region)
        for each in contents:
            printer.content(each)
        known = printer.text()
        own = f"{known}~{next(self._tokens)}" if printer.late else known
        return State(contents, own, tuple(printer.refs), known, frozenset(printer.spoken))

    def write(self, region: Region, step: str, state: State) -> State:
        """Record the state in which a step left a region. Returns it as stored: with the
        fingerprint of the step's previous state, if that is equal."""
        before = region.states.get(step)
        if before is not None and before.alike(state):
            state = replace(state, print=before.print)
        region.states[step] = state
        self._wrote.setdefault(step, {})[region] = None
        if state.refs and any(each.kind.tied for each in state.contents):
            for other in state.refs:
                region.looks[other] = other.looked_at[region] = None
        return state

    def wrote(self, step: str) -> list[Region]:
        """The regions of which a step left states."""
        return [*self._wrote.get(step, ())]

    def unwrite(self, region: Region, step: str) -> None:
        """The step does not write this region any more."""
        region.states.pop(step, None)
        self._wrote.get(step, {}).pop(region, None)

    def dissolve(self, region: Region) -> None:
        """The region is gone: its step has made other objects, or none."""
        for step in [*region.states]:
            self.unwrite(region, step)
        self._regions.pop(region.name, None)
        for other in region.looks:
            other.looked_at.pop(region, None)
        for other in region.looked_at:
            other.looks.pop(region, None)
        for each in region.objects:
            if self._owners.get(id(each), (None,))[0] is region:
                del self._owners[id(each)]

    def restore(self, region: Region, state: State) -> bool:
        """Restore the objects of a region to a state. False: it is lost."""
        live = region.live
        if live is state:
            return True
        if not can_be(region, state):
            return False
        if live is None:
            for late in [late for each in region.states.values() for late in each.late()]:
                late.settle()
        jobs = [
            (value, None if live is None else live.contents[index], new)
            for index, (value, new) in enumerate(zip(region.objects, state.contents, strict=True))
            if live is None or not _same(live.contents[index], new)
        ]
        for value, old, _ in jobs:
            if old is not None:
                self.copied += old.kind.keep(value, old)
        region.live = None
        done = [new.kind.put(value, new) for value, _, new in jobs]
        _forget_computed(region, state)
        if all(done):
            region.live = state
        return region.live is state

    def forget(self, step: str) -> None:
        """A step was deleted."""
        for name, by in [key for key in self._versions if key[1] == step]:
            self.unbind(name, by)
        for region in self.wrote(step):
            if region.step == step:
                self.dissolve(region)
            else:
                self.unwrite(region, step)

    def rename(self, old: str, new: str) -> None:
        """The id of a step has changed."""
        for name, by in [key for key in self._versions if key[1] == old]:
            version = self._versions.pop((name, by))
            self._versions[name, new] = replace(version, step=new)
        wrote = self._wrote.pop(old, None)
        for region in wrote or ():
            region.states[new] = region.states.pop(old)
            region.step = new if region.step == old else region.step
        if wrote is not None:
            self._wrote[new] = wrote


class Visit:
    """What one run gets. `maker` returns the last step that wrote a region before the step's place.

    `only_looks`: whether the step cannot have written to anything it got so far.
    """

    def __init__(
        self,
        store: VersionStore,
        maker: Callable[[str], str],
        only_looks: Callable[[], bool] = lambda: False,
    ) -> None:
        self.store = store
        self.entered: dict[Region, State] = {}
        """Regions that the step can reach, with their states at its place."""
        self._maker = maker
        self._only_looks = only_looks

    def at_place(self, region: Region) -> State | None:
        """A region's state at the step's place; None if it does not exist there."""
        return region.states.get(self._maker(region.name))

    def lend(self, version: Version, *, may_change: bool) -> object:
        """The value, with everything that it leads to restored to its state at the step's place.
        Raises Lost."""
        if version.lost:
            raise Lost(version.name, version.step)
        waiting = [(each, version.step) for each in reversed(version.regions)]
        while waiting:
            region, holder = waiting.pop()
            if region in self.entered:
                continue
            maker = self._maker(region.name)
            state = region.states.get(maker)
            if state is None:
                raise Lost(version.name, region.missing(maker, holder))
            if not self.store.restore(region, state):
                raise Lost(region.label, maker)
            for value, content in zip(region.objects, state.contents, strict=True):
                size = content.kind.size(content)
                if size and (may_change or size <= arrays.SMALL or not maker):
                    self.store.copied += content.kind.keep(value, content)
                late = content.kind.late(content) if size else None
                if late is not None and not self._only_looks():
                    late.settle()
                if content.kind.hides:
                    content.kind.shut(value, self._is_there)
            self.entered[region] = state
            waiting += [(each, maker) for each in reversed(state.refs)]
        return version.value

    def settle(self) -> None:
        """From now on the step may write to what it got."""
        for state in self.entered.values():
            for late in state.late():
                late.settle()
        for region in [*self.entered]:
            self.put_looking(region)

    def put_looking(self, region: Region) -> None:
        """Restore frames that share its memory to their state at the step's place, reached or not:
        pandas copies before a write if there are any, and those of other places use other memory.
        Raises Lost."""
        for each in [*region.looked_at]:
            state = None if each in self.entered else self.at_place(each)
            if state is not None and not self.store.restore(each, state):
                raise Lost(each.label, self._maker(each.name))

    def _is_there(self, value: object) -> bool:
        """Whether it exists at the step's place."""
        region = self.store.known(value)
        return region is None or self.at_place(region) is not None

    def opened_by(self) -> set[str]:
        """The steps that made the opaque objects it got, such as open files. Each of these is a
        region of its own."""
        return {region.step for region, state in self.entered.items() if state.contents[0].opaque}

    def reaches(self, version: Version, wanted: Mapping[Region, object]) -> bool:
        """Whether a value that the step got leads to one of these regions."""
        return not self.reached(version.regions).isdisjoint(wanted)

    def reached(self, regions: Iterable[Region]) -> set[Region]:
        """These regions and all that they lead to."""
        seen, waiting = set[Region](), [*regions]
        while waiting:
            region = waiting.pop()
            if region not in seen:
                seen.add(region)
                waiting += self.entered[region].refs if region in self.entered else ()
        return seen

    def changed(self, region: Region) -> list[Content] | None:
        """What its objects hold now, if that has changed; contents that are the same are reused."""
        if self._only_looks():
            return None
        now, other = list[Content](), False
        for value, old in zip(region.objects, self.entered[region].contents, strict=True):
            kind = kind_of(value)
            new = kind.take(value)
            same = new.same(old)
            if kind.remembers and not same:
                new = kind.holding(value, _among(old.parts))
                same = new.same(old)
            other |= not same
            now.append(old if same else new)
        return now if other else None

    def undo(self) -> None:
        """Restore what the step has changed, as far as possible."""
        for region, state in self.entered.items():
            now = self.changed(region)
            for value, old, new in zip(region.objects, state.contents, now or (), strict=False):
                if old is not new and (old.kind.lost(old) or not old.kind.put(value, old)):
                    region.live = None
            if now is not None:
                _forget_computed(region, state)


def gone(versions: Iterable[Version], maker: Callable[[str], str]) -> set[str]:
    """Steps that have to run again before these values can be used at a place; includes `""` if
    something was given to the session and cannot be made again. `maker`: as for `Visit`."""
    versions, seen = [*versions], set[Region]()
    found = {each.step for each in versions if each.lost}
    waiting = [(region, each.step) for each in versions for region in each.regions]
    while waiting:
        region, holder = waiting.pop()
        if region in seen:
            continue
        seen.add(region)
        by = maker(region.name)
        state = region.states.get(by)
        if state is None:
            found.add(region.missing(by, holder))
        elif not can_be(region, state):
            found.add(by)
        else:
            waiting += [(each, by) for each in state.refs]
    return found


def can_be(region: Region, state: State) -> bool:
    """Whether a state can be restored to the objects of its region, or is their present state."""
    live = region.live
    if live is state:
        return True
    return not any(
        new.kind.lost(new) and (live is None or not _same(live.contents[index], new))
        for index, new in enumerate(state.contents)
    )


def _forget_computed(region: Region, state: State) -> None:
    """Drop what objects of a region have computed from an earlier content."""
    for value, content in zip(region.objects, state.contents, strict=True):
        if content.kind.remembers and any(True for _ in content.kind.computed(value)):
            content.kind.put(value, content)


def _among(parts: tuple[object, ...]) -> Callable[[object], bool]:
    held = {id(each) for each in parts}
    return lambda value: id(value) in held


def _same(one: Content, other: Content) -> bool:
    return one is other or (other.kind.lost(other) and one.same(other))
