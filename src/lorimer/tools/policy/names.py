"""Which tools a rule applies to: the one with a name, those with an effect, those of an MCP server,
or all."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from lorimer.core.errors import ConfigError, close_to, nearest
from lorimer.tools.base import EFFECTS

ALL: Final = "*"
_MCP: Final = "mcp:"
_TOOL: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_OF_SERVER: Final = re.compile(r"mcp:(\*|[A-Za-z0-9_-]+)(?:/(\*|[A-Za-z0-9_-]+))?")


def is_wide(name: str) -> bool:
    """It may apply to several tools, by their names."""
    return name == ALL or name.startswith(_MCP)


def one_tool(name: str) -> bool:
    """It applies to one tool, so its parentheses may have contents."""
    if name.startswith(_MCP):
        _, _, tool = name.partition("/")
        return bool(tool) and ALL not in name
    return name != ALL and not name.startswith("@")


def check_name(name: str) -> None:
    """Raises ConfigError for an invalid name before the parentheses of a pattern."""
    if name.startswith("@"):
        if name[1:] not in EFFECTS:
            raise ConfigError(f"there is no effect {name[1:]!r}{nearest(name[1:], EFFECTS)}")
    elif name.startswith(_MCP):
        found = _OF_SERVER.fullmatch(name)
        if found is None or "__" in name:
            raise ConfigError(
                f"{name!r} names no tools of a server",
                hint="Write mcp:server, mcp:server/tool or mcp:*; with __ in a name, the tool's "
                "whole name: mcp__server__tool.",
            )
    elif name != ALL and _TOOL.fullmatch(name) is None:
        raise ConfigError(f"{name!r} is not the name of a tool")


def meant(name: str, tools: Iterable[str]) -> str:
    """`; did you mean 'Bash'?` for the name of no tool that is almost that of one: a rule about it
    would apply to nothing. "" for others: rules may be about tools that only other agents have."""
    known = sorted(set(tools))
    if name in known or name.startswith(_MCP) or not one_tool(name):
        return ""
    own = [each for each in known if each.casefold() == name.casefold()]
    close = " or ".join(map(repr, own or close_to(name, known)))
    return f"; did you mean {close}?" if close else ""


def names(wide: str, tool: str, *, surely: bool) -> bool:
    """Whether a wide name applies to the tool called `tool`: certainly (to allow), or possibly.

    Tools of servers are called `mcp__server__tool`. With further `__` the name is ambiguous, so it
    allows nothing; neither does `*` alone.
    """
    if wide == ALL:
        return not surely
    found = _OF_SERVER.fullmatch(wide)
    if found is None or not tool.startswith("mcp__"):
        return False
    server, own = found[1], found[2] or ALL
    parts = tool.split("__")
    if surely and len(parts) != 3:
        return False
    if server != ALL and not tool.startswith(f"mcp__{server}__"):
        return False
    if own == ALL:
        return True
    return parts[2:] == [own] if surely else tool.endswith(f"__{own}")
