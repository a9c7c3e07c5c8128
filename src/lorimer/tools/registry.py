"""The registered tools, each with what a call needs, prepared once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from lorimer.core.context import Safety
from lorimer.core.errors import ConfigError, nearest
from lorimer.core.jsonable import JSON
from lorimer.core.request import ToolSpec
from lorimer.core.told_schema import told_schema
from lorimer.tools.base import EFFECTS, Check, Tool, declared
from lorimer.tools.policy.effects import Kind, kinds_without_paths
from lorimer.tools.schema import plain_schema

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Entry:
    """One tool in the form that dispatch uses."""

    tool: Tool
    spec: ToolSpec
    check: Check
    granted: bool
    """It was registered by the host's own code: no rule is needed."""
    safety: Safety
    intent: dict[str, JSON]
    """Additional data for its intents."""
    effects: frozenset[str]
    kinds: frozenset[Kind]
    """Its effects as the policy counts them, for calls that name no path."""
    timeout_s: float | None
    max_result_chars: int | None
    concurrency_safe: bool
    asks: bool
    """It may have a question for a person."""


class ToolRegistry:
    """Tools by name, in order of registration."""

    def __init__(self, tools: Iterable[Tool] = ()) -> None:
        self._entries: dict[str, Entry] = {}
        self.version = 0
        """Incremented with every change."""
        for tool in tools:
            self.register(tool)

    def register(self, tool: Tool, *, replace: bool = False, granted: bool = True) -> None:
        """Add a tool.

        Registering a tool permits its calls. Whoever registers on behalf of something else (a
        manifest, a skill, an MCP configuration) passes `granted=False`, and rules or a person
        decide. Raises ConfigError for an invalid name, invalid effects, an unusable schema, and a
        name that is taken, unless `replace`.
        """
        entry = _entry(tool, granted)
        if entry.spec.name in self._entries and not replace:
            raise ConfigError(
                f"there is already a tool named {entry.spec.name!r}",
                hint="Give it another name, or register it with replace=True.",
            )
        self._entries[entry.spec.name] = entry
        self.version += 1

    def unregister(self, name: str) -> None:
        """Remove a tool; live calls continue. Raises ConfigError if there is none."""
        if name not in self._entries:
            raise ConfigError(f"there is no tool named {name!r}{nearest(name, self._entries)}")
        del self._entries[name]
        self.version += 1

    def copy(self) -> ToolRegistry:
        """Another registry with the same tools, each permitted as here."""
        other = ToolRegistry()
        other._entries = dict(self._entries)
        return other

    def get(self, name: str) -> Tool | None:
        """The tool of that name, or None."""
        entry = self._entries.get(name)
        return entry.tool if entry is not None else None

    def entry(self, name: str) -> Entry | None:
        """The prepared tool of that name, or None."""
        return self._entries.get(name)

    def entries(self) -> list[Entry]:
        """All of them, in order of registration."""
        return list(self._entries.values())

    def __repr__(self) -> str:
        return f"<ToolRegistry: {', '.join(self._entries)}>"

    @property
    def names(self) -> list[str]:
        """In order of registration."""
        return list(self._entries)

    def specs(self) -> tuple[ToolSpec, ...]:
        """What the model is shown of each tool."""
        return tuple([entry.spec for entry in self._entries.values()])

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[Tool]:
        return iter([entry.tool for entry in self._entries.values()])

    def __len__(self) -> int:
        return len(self._entries)


def _entry(tool: Tool, granted: bool) -> Entry:
    if not isinstance(tool, Tool):  # pyright: ignore[reportUnnecessaryIsInstance] - most callers have no type checker
        if isinstance(tool, type) and issubclass(tool, Tool):
            raise ConfigError(
                f"{tool.__name__} is a class, not a tool", hint=f"Make one: {tool.__name__}()."
            )
        raise ConfigError(
            f"{tool!r} is not a tool: subclass lorimer.tools.Tool, or decorate a function with "
            "@tool",
            hint="Shipped tools go by name in built_in." if isinstance(tool, str) else "",
        )
    name: object = getattr(tool, "name", None)
    description: object = tool.description
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(f"a tool's name is 1 to 64 of A-Z a-z 0-9 _ -, not {name!r}")
    if not isinstance(description, str):
        raise ConfigError(f"tool {name!r}: its description must be a string")
    effects = declared(name, tool.effects)
    if tool.timeout_s is not None and not tool.timeout_s > 0:
        raise ConfigError(f"tool {name!r}: timeout_s must be more than 0")
    if tool.max_result_chars is not None and tool.max_result_chars < 1:
        raise ConfigError(f"tool {name!r}: max_result_chars must be at least 1")
    intent: dict[str, JSON] = {
        "effects": "all" if effects == EFFECTS else " ".join(sorted(effects))
    }
    if effects <= {"read"}:
        safety = Safety.READ_ONLY
    elif tool.idempotent:
        safety = Safety.IDEMPOTENT
        intent["idempotent"] = True
    else:
        safety = Safety.UNSAFE
    schema, more = told_schema(plain_schema(tool.input_schema, f"tool {name!r}: input_schema"))
    return Entry(
        tool=tool,
        spec=ToolSpec(name, f"{description}\n\n{more}".strip() if more else description, schema),
        check=tool.check(),
        granted=granted,
        safety=safety,
        intent=intent,
        effects=effects,
        kinds=kinds_without_paths(effects, commands=bool(tool.commands or tool.confined)),
        timeout_s=tool.timeout_s,
        max_result_chars=tool.max_result_chars,
        concurrency_safe=bool(tool.concurrency_safe),
        asks=type(tool).question is not Tool.question,
    )
