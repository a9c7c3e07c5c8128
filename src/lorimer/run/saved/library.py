"""Saved agents of many people: who may see and who may change which, and all versions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from lorimer.core.arguments import check_port, is_a, wrong
from lorimer.core.errors import ConfigError, ExecutorErrorCode, nearest
from lorimer.core.world import World
from lorimer.run.agent import RunnableAgent
from lorimer.run.identity import ADMIN
from lorimer.run.palette import Palette, Skill
from lorimer.run.saved.agent import SavedAgent, Visibility
from lorimer.run.saved.checks import check
from lorimer.tools.policy.people import Person
from lorimer.tools.registry import ToolRegistry
from lorimer.tools.threads import StoreThread
from lorimer.world.real import RealWorld

if TYPE_CHECKING:
    from lorimer.models import Models

T = TypeVar("T")

_VERSIONS: Final = 10_000
"""Most versions among which that of an earlier time is looked for."""
_TRIES: Final = 100
"""Attempts at a change that conflicts with concurrent ones: each time one of those succeeds."""


class SavedStore(Protocol):
    """Where saved agents are stored, by owner and name. Every method blocks, may be called from any
    thread, and raises StoreFailed. Shipped: `lorimer.run.stores`."""

    @property
    def files(self) -> Sequence[Path]:
        """The files that hold them, if any."""
        ...

    def put(self, agent: SavedAgent) -> bool:
        """Make it the current version and keep it among the versions, if the current one directly
        precedes it (0: there is none); False: it does not, and nothing is changed."""
        ...

    def delete(self, owner: str, name: str) -> bool:
        """Delete it with all versions. False: there was none."""
        ...

    def get(self, owner: str, name: str, version: int | None = None) -> SavedAgent | None:
        """The current version, or the given one; None: there is none."""
        ...

    def versions(self, owner: str, name: str, limit: int) -> Sequence[SavedAgent]:
        """Newest first."""
        ...

    def visible(self, person: Person, limit: int) -> Sequence[SavedAgent]:
        """The current versions of those that the person may use (`SavedAgent.is_for`), by owner and
        name."""
        ...

    def close(self) -> None:
        """Release resources. The store is reopened on the next use."""
        ...


class AgentLibrary:
    """Saves and finds agents. Every call is on behalf of a person; agents that the person may not
    see appear as unknown.

    tools, models: what saved agents are checked against (`checks.py`). builtins: those of the host
    (`builtins.py`), which everybody can see and nobody can change.
    threads: False works inline, for simulations.
    """

    def __init__(
        self,
        store: SavedStore,
        *,
        tools: ToolRegistry | None = None,
        models: Models | None = None,
        builtins: Mapping[str, SavedAgent] | None = None,
        world: World | None = None,
        threads: bool = True,
    ) -> None:
        check_port("store", store, SavedStore, 'SQLiteAgents("agents.db")')
        self._store = store
        self._tools = tools or ToolRegistry()
        self._models = models
        self._builtins = dict(builtins or {})
        self._world = world or RealWorld()
        self._thread = StoreThread(self._world, threads=threads)

    @property
    def files(self) -> Sequence[Path]:
        """The files of the store, which tools must not see. An executor hides them from the runs of
        agents that find others there (`palette`)."""
        return self._store.files

    async def save(self, agent: SavedAgent, by: Person, *, expect: int | None = None) -> SavedAgent:
        """Save the next version. An agent without an owner becomes the person's own; only an admin
        saves what somebody else owns.

        expect: the version that it was made from (0: there was none); if another was saved since,
        nothing is saved. Raises ConfigError: `exec.agent.denied`, `exec.agent.changed`, or what is
        wrong with it.
        """
        if not is_a(agent, SavedAgent):
            raise wrong("agent", agent, "a SavedAgent", 'SavedAgent(name="poet")')
        _check_person(by)
        owner = agent.owner or by.name
        return await self._save(owner, agent.name, by, lambda _: agent, expect)

    async def share(
        self, which: str, visibility: Visibility, by: Person, *, shared_with: Sequence[str] = ()
    ) -> SavedAgent:
        """Change who else may run it, as a new version. Nothing else in it changes, whatever is
        saved at the same time. Raises ConfigError as `save` does, or `exec.agent.unknown`."""
        now = {"visibility": visibility, "shared_with": [*shared_with]}

        def shared(there: SavedAgent | None) -> SavedAgent:
            if there is None:
                raise _unknown(which)
            return SavedAgent.from_json({**there.to_json(), **now}, there.id)

        return await self._save(*_parts(which, by), by, shared)

    async def restore(self, which: str, version: int, by: Person) -> SavedAgent:
        """Save that version again, as the newest; who may run it does not change. Raises
        ConfigError as `share` does."""
        owner, name = _parts(which, by)
        old = await self.get(f"{owner}/{name}", by, version=version)

        def restored(there: SavedAgent | None) -> SavedAgent:
            if there is None:
                raise _unknown(which)
            kept = {"visibility": there.visibility, "shared_with": there.shared_with}
            return old.model_copy(update=kept)

        return await self._save(owner, name, by, restored)

    async def delete(self, which: str, by: Person) -> None:
        """Delete it with all versions. If the name is used again later, versions begin at 1. Raises
        ConfigError: `exec.agent.denied`, `exec.agent.unknown`."""
        owner, name = _parts(which, by)
        _only_theirs(owner, by)
        if not await self._thread.run(lambda: self._store.delete(owner, name)):
            raise _unknown(which)

    async def get(self, which: str, by: Person, *, version: int | None = None) -> SavedAgent:
        """`owner/name`, or a name: the person's own, else the host's; `/name`: the host's. Raises
        ConfigError `exec.agent.unknown` for one that does not exist, or that the person may not
        see."""
        owner, name = _parts(which, by)
        found = await self._thread.run(lambda: self._store.get(owner, name)) if owner else None
        if found is None and not which.rpartition("/")[0]:
            found = self._builtins.get(name)
        if found is None or not _is_theirs(found, by):
            raise _unknown(which, [each.name for each in await self.list(by)])
        if version is None or version == found.version:
            return found
        old = await self._thread.run(lambda: self._store.get(owner, name, version))
        if old is None or not found.owner or not _is_theirs(old, by):
            raise _unknown(f"{found.id} of version {version}")
        return old

    async def versions(self, which: str, by: Person, *, limit: int = 100) -> list[SavedAgent]:
        """Every version that the person may see, newest first: sharing a later version does not
        reveal those that were private when saved. Raises ConfigError `exec.agent.unknown`."""
        found = await self.get(which, by)
        if not found.owner:
            return [found]
        kept = await self._thread.run(lambda: self._store.versions(found.owner, found.name, limit))
        return [each for each in kept if _is_theirs(each, by)]

    async def list(self, by: Person, *, limit: int = 1_000) -> list[SavedAgent]:
        """All that the person may run: the host's by name, then saved ones, by owner and name."""
        _check_person(by)
        saved = await self._thread.run(lambda: self._store.visible(by, limit))
        return [*sorted(self._builtins.values(), key=lambda each: each.name), *saved]

    def palette(self, agent: SavedAgent, by: Person, *, at: float | None = None) -> Palette:
        """What the names in an agent refer to when that person runs it: agents of its owner that
        the person may run too, else the host's; never the person's own, which it does not mean.
        Agents of the host among them refer to the host's: a run in which one name would refer to
        two agents is an error.

        at: wall clock, seconds: in the versions of that time. A run that is resumed needs those of
        the time when it began (its row in the journal has it).
        """
        _check_person(by)
        if not is_a(at, int, float, NoneType):
            raise wrong("at", at, "a time in seconds", "at=row.started")
        get = self.get if at is None else partial(self._get_at, at)
        return _Palette(get, self.files, agent, by)

    async def close(self) -> None:
        """Close the store."""
        await self._thread.run(self._store.close)

    async def _get_at(self, at: float, which: str, by: Person) -> SavedAgent:
        """As `get`: the version of that time."""
        found = await self.get(which, by)
        if found.saved_at <= at:
            return found
        owner, name = found.owner, found.name
        kept = await self._thread.run(lambda: self._store.versions(owner, name, _VERSIONS))
        then = next((each for each in kept if each.saved_at <= at), None)
        if then is None or not _is_theirs(then, by):
            raise _unknown(f"{found.id} of that time")
        return then

    async def _save(
        self,
        owner: str,
        name: str,
        by: Person,
        to: Callable[[SavedAgent | None], SavedAgent],
        expect: int | None = None,
    ) -> SavedAgent:
        _only_theirs(owner, by)
        for _ in range(_TRIES):
            there = await self._thread.run(lambda: self._store.get(owner, name))
            version = there.version if there is not None else 0
            if expect is not None and expect != version:
                break
            data = to(there).to_json()
            data.update(owner=owner, version=version + 1, saved_by=by.name)
            made = SavedAgent.from_json({**data, "saved_at": self._world.time()}, name)
            check(made, by, self._tools, self._models)
            if await self._thread.run(partial(self._store.put, made)):
                return made
        raise _refused(
            ExecutorErrorCode.EXEC_AGENT_CHANGED,
            f"{owner}/{name} was saved by somebody else in the meantime",
            "Read it again, and make your change to that.",
        )


class _Palette:
    """What names refer to in an agent, and in those that it reaches, for one person."""

    def __init__(
        self,
        get: Callable[[str, Person], Awaitable[SavedAgent]],
        files: Sequence[Path],
        agent: SavedAgent,
        by: Person,
    ) -> None:
        """`get`: as `AgentLibrary.get`. `files`: the library's."""
        self._from_library = get
        self.files = files
        self._owner = agent.owner
        self._by = by
        self._named_by = dict.fromkeys(_named(agent), agent)
        """Which agent named it first: determines whether its owner's, or the host's, is meant."""

    async def skill(self, name: str) -> Skill | None:
        found = await self._find(name)
        return found and found.to_skill()

    async def agent(self, name: str) -> RunnableAgent | None:
        found = await self._find(name)
        return found and found.to_runnable()

    async def _find(self, name: str) -> SavedAgent | None:
        by = self._named_by.get(name)
        owner = self._owner if by is None else by.owner
        found = await self._get(f"{owner}/{name}") or await self._get(f"/{name}")
        if found is None:
            return None
        for each in _named(found):
            first = self._named_by.setdefault(each, found)
            if first.owner != found.owner and await self._get(f"{self._owner}/{each}"):
                raise ConfigError(
                    f"{first.id} and {found.id} each name the agent {each!r}, and do not mean the "
                    f"same: it is there of {self._owner}, and perhaps of the host",
                    hint=f"Save {self._owner}/{each} under another name.",
                )
        return found

    async def _get(self, which: str) -> SavedAgent | None:
        try:
            return await self._from_library(which, self._by)
        except ConfigError as error:
            if error.code is not ExecutorErrorCode.EXEC_AGENT_UNKNOWN:
                raise
            return None


def _named(agent: SavedAgent) -> Iterable[str]:
    return (*agent.skills, *agent.agents)


def _is_theirs(agent: SavedAgent, by: Person) -> bool:
    """Whether the person may see and run it."""
    return agent.is_for(by) or ADMIN in by.roles


def _parts(which: str, by: Person) -> tuple[str, str]:
    _check_person(by)
    owner, slash, name = which.rpartition("/")
    return (owner, name) if slash else (by.name, name)


def _check_person(by: object) -> None:
    if not is_a(by, Person):
        raise wrong("by", by, "a Person", 'Person("ann")')


def _only_theirs(owner: str, by: Person) -> None:
    # the same message whether the agent exists or not
    if not owner or (owner != by.name and ADMIN not in by.roles):
        raise _refused(
            ExecutorErrorCode.EXEC_AGENT_DENIED,
            f"{by.name} may not change agents of {owner or 'the host'}",
            "Save a copy of your own.",
        )


def _unknown(which: str, known: Iterable[str] = ()) -> ConfigError:
    near = nearest(which, known)
    return _refused(ExecutorErrorCode.EXEC_AGENT_UNKNOWN, f"there is no saved agent {which}{near}")


def _refused(code: ExecutorErrorCode, what: str, hint: str = "") -> ConfigError:
    return ConfigError(what, code=code, hint=hint)
