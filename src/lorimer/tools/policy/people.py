"""Who wrote an agent, who runs it, and what follows for its tools before any call is made.

The author stage: may this person put the tool into an agent. The share stage: an agent that is run
by someone else keeps only tools that are safe to share, and runs with the rights of that caller.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from lorimer.core.arguments import is_a, wrong
from lorimer.core.errors import ConfigError
from lorimer.core.record import record

if TYPE_CHECKING:
    from lorimer.tools.base import Tool


@record
class Person:
    """A person, as known to the host. The name identifies one person to the host, and does not
    begin with `@`, which marks roles."""

    name: str
    roles: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if not is_a(self.name, str):
            raise wrong("Person.name", self.name, "text", 'Person("ann")')
        if not self.name or self.name.startswith("@"):
            raise ConfigError(f"a person's name is not empty and begins with no @: {self.name!r}")

    def is_one_of(self, names: frozenset[str]) -> bool:
        """Whether the name is listed, or one of the roles, as `@role`."""
        return self.name in names or any(f"@{role}" in names for role in self.roles)


@record
class Parties:
    """The author and the caller of an agent's runs. None: not given by the host."""

    author: Person | None = None
    caller: Person | None = None

    @property
    def shared(self) -> bool:
        """Whether someone other than the author runs it; an unknown caller counts as another."""
        if self.author is None:
            return False
        return self.caller is None or self.caller.name != self.author.name

    def withheld(self, tool: Tool) -> str:
        """Why this tool is unavailable to the caller; "" if it is available."""
        if tool.callers and (self.caller is None or self.caller.roles.isdisjoint(tool.callers)):
            return f"it is there for {', '.join(sorted(tool.callers))} only"
        if self.shared and not _may_be_shared(tool):
            return "the agent is run by another than its author, and it is not safe to share"
        return ""


def check_author(tools: Iterable[Tool], author: Person | None) -> None:
    """Raises ConfigError for a tool that the author of an agent may not put into it."""
    for tool in tools:
        wanted = tool.author_requires
        if wanted and (author is None or wanted not in author.roles):
            who = f"{author.name} does not have" if author is not None else "nobody said who has it"
            raise ConfigError(
                f"only an author with the role {wanted!r} puts {tool.name} into an agent, and "
                f"{who if author is None else who + ' it'}",
                hint="Pass author=Person(name, roles) of whoever wrote the agent.",
            )


def check_share(tools: Iterable[Tool]) -> None:
    """Raises ConfigError for tools that an agent run by others may not have."""
    unsafe = [tool.name for tool in tools if not _may_be_shared(tool)]
    if unsafe:
        raise ConfigError(
            f"an agent that others may run holds tools that are not safe to share: "
            f"{', '.join(unsafe)}",
            hint="Take them out, or keep the agent private.",
        )


def _may_be_shared(tool: Tool) -> bool:
    return tool.share_safe or not tool.effects
