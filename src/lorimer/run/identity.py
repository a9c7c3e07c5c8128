"""Who is calling: the roles and groups of a caller, as known to the host."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import NoneType
from typing import Final, Protocol

from lorimer.core.arguments import each_of, is_a, wrong
from lorimer.core.redaction import logger
from lorimer.tools.policy.people import Person

ADMIN: Final = "admin"
"""The role of callers for whom `Identity.is_admin` is true: `author_requires` and `callers` of
tools refer to it by this name, rules as `@admin`."""

_log = logger("lorimer.run")


class Identity(Protocol):
    """Looks up callers by the ids in invocations. May be called concurrently."""

    async def is_admin(self, caller_id: str) -> bool:
        """Whether the caller is an admin."""
        ...

    async def groups(self, caller_id: str) -> Iterable[str]:
        """The groups that the caller is a member of: each is a role."""
        ...


class Listed:
    """A fixed list of people: `admins`, and the members of each group."""

    def __init__(
        self, admins: Iterable[str] = (), groups: Mapping[str, Iterable[str]] | None = None
    ) -> None:
        """Raises ConfigError for names that are not text, or groups that are not a mapping."""
        self._admins = _listed("admins", admins)
        if not is_a(groups, Mapping, NoneType):
            raise wrong("groups", groups, "a mapping", '{"staff": ["ann"]}')
        self._groups = {
            name: _listed(f"groups[{name!r}]", members) for name, members in (groups or {}).items()
        }

    async def is_admin(self, caller_id: str) -> bool:
        """Whether the caller is among the `admins`."""
        return caller_id in self._admins

    async def groups(self, caller_id: str) -> list[str]:
        """The groups that list the caller."""
        return [name for name, members in self._groups.items() if caller_id in members]


def _listed(name: str, people: Iterable[str]) -> frozenset[str]:
    return frozenset([str(one) for one in each_of(name, people, str, '["ann"]')])


async def person(identity: Identity | None, caller_id: str) -> Person | None:
    """A caller as permissions see it (`Parties.caller`); None: a run without a caller, or one whose
    id is not a valid name of a person.

    Without an Identity there are no admins and no group members. A failed lookup counts as no: the
    port's exception is logged. A group never makes an admin, whatever its name.
    """
    if not caller_id or caller_id.startswith("@"):
        return None
    roles = set[str]()
    if identity is not None:
        try:
            roles.update([group for group in await identity.groups(caller_id) if group != ADMIN])
        except Exception:  # noqa: BLE001 - code of the host; to fail means no
            _log.warning("the groups of caller %r cannot be read", caller_id, exc_info=True)
        try:
            if await identity.is_admin(caller_id) is True:
                roles.add(ADMIN)
        except Exception:  # noqa: BLE001 - as above
            _log.warning("whether %r is an admin cannot be read", caller_id, exc_info=True)
    return Person(caller_id, frozenset(roles))
