"""Permission rules of Claude Code's `settings.json`, as ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from lorimer.core.errors import ConfigError
from lorimer.core.jsonable import JSON
from lorimer.tools.policy.modes import Action
from lorimer.tools.rule_files.foreign_specs import (
    NONE,
    Meaning,
    command_meaning,
    host_meaning,
    path_meaning,
)
from lorimer.tools.rule_files.imported import ForeignRule, Imported
from lorimer.tools.rule_files.reading import Lookup

_TEXT: Final = re.compile(r"([A-Za-z0-9_*-]+)(?:\((.*)\))?", re.DOTALL)
_MCP: Final = re.compile(r"mcp__([A-Za-z0-9-]+(?:_[A-Za-z0-9-]+)*|\*)(?:__(.+))?")
_SAME: Final[Mapping[str, tuple[str, ...]]] = {
    "Read": ("Read", "Grep", "Glob"),
    "Edit": ("Edit", "Write", "NotebookEdit"),
    "MultiEdit": ("Edit",),
    "LS": ("Glob",),
    "Task": ("Agent",),
}
"""The tools that a rule of Claude Code's is about: all that do the same to files, or the one that
replaced it."""
_GONE: Final = frozenset({"MultiEdit", "LS", "Task"})
"""Tools that no longer exist there: rules that allow them have no effect."""
_PARAMETERS: Final = frozenset(
    "run_in_background timeout description dangerouslyDisableSandbox".split()
)
_PARAMETER: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*):[^/]*")
"""`Tool(param:value)`, for deny and ask only: a condition on another argument than the subject."""
_PATHS: Final = frozenset({"Read", "Edit", "Write", "MultiEdit", "NotebookEdit", "Glob", "LS"})
_OTHER_SETTINGS: Final = (
    ("hooks", "write each as a [[hook]] in the same file"),
    ("sandbox", "here the host hides files (hidden=) and opens the network (--network)"),
    ("deniedMcpServers", "write a deny rule mcp:NAME for each"),
    ("disabledMcpjsonServers", "write a deny rule mcp:NAME for each"),
)
"""Other settings of Claude Code that prevent something, and what to do about them here."""
_MODES: Final = frozenset({"default", "acceptEdits", "plan", "dontAsk"})


def add_claude_rule(text: str, action: Action, where: str, found: Imported, lookup: Lookup) -> None:
    """Import one rule. Raises ConfigError, naming `where`, if `text` has not the form of one."""
    read = _TEXT.fullmatch(text.strip())
    if read is None:
        raise ConfigError(f"{where}: {text!r} is not a rule: Tool or Tool(spec)")
    tool, spec = str(read[1]), read[2]
    rule = ForeignRule(f"{action.name.lower()} {text}", action, found, lookup)
    server = _MCP.fullmatch(tool)
    if "*" in tool or (server is not None and server[2] is None):
        _several_tools(tool, server, rule)
        return
    allows = action is Action.ALLOW
    if allows and tool in _GONE:
        rule.note("not imported; it had no effect there")
    elif not allows and spec is not None and _of_parameter(tool, spec):
        rule.add(_denied_with(tool), NONE)
    elif spec is None or (spec in ("*", "**") and not (allows and tool in _PATHS)):
        rule.add((tool,) if allows else _denied_with(tool), Meaning(None))
    elif tool == "Bash":
        rule.add((tool,), command_meaning(spec, action))
    elif tool == "WebFetch":
        rule.add((tool,), host_meaning(spec, action))
    elif tool in _PATHS:
        _paths(tool, spec, rule)
    else:
        rule.add((tool,), NONE)


def _denied_with(tool: str) -> tuple[str, ...]:
    """The tools that a deny or ask rule for `tool` is about."""
    tools = _SAME.get(tool, (tool,))
    return (*tools, "Unpack") if "Edit" in tools else tools


def _of_parameter(tool: str, spec: str) -> bool:
    named = _PARAMETER.fullmatch(spec)
    return named is not None and (tool in _PATHS or (tool == "Bash" and named[1] in _PARAMETERS))


def _paths(tool: str, spec: str, rule: ForeignRule) -> None:
    """A rule about files."""
    if tool not in _SAME:  # there, only rules for Read and Edit have an effect on files
        if rule.action is Action.ALLOW:
            rule.note("not imported; it had no effect there")
            return
        rule.note("had no effect there; here it has")
    if spec.startswith("!"):  # an exception to the rules before it
        if rule.action is not Action.ALLOW:
            rule.note("not imported, so stricter here: there are no exceptions to rules")
            return
        rule.note("stricter here: asks instead of allowing")
        spec, rule = spec[1:], replace(rule, action=Action.ASK)
    tools = _SAME.get(tool, (tool,)) if rule.action is Action.ALLOW else _denied_with(tool)
    if tool == "Read" and rule.action is Action.DENY:  # there too it prevents writing
        tools += _denied_with("Edit")
    rule.add(tools, path_meaning(spec, rule.action))
    if tool == "Read" and rule.action is not Action.ALLOW:
        rule.note("Grep in a folder above it, and commands, can still read it")


def _several_tools(tool: str, server: re.Match[str] | None, rule: ForeignRule) -> None:
    """A rule about all tools of a server, or all whose names match a pattern."""
    whole = server is not None and server[2] in (None, "*")
    if rule.action is Action.ALLOW and not (whole and server is not None and server[1] != "*"):
        rule.note("not imported; no rule here allows so many tools at once")
        return
    wide = f"mcp:{server[1]}" if server is not None else "*"
    if not whole and tool != "*":
        rule.note(f"stricter here: {wide}")
    rule.keep(wide)


def add_claude_settings(
    data: Mapping[str, JSON], permissions: Mapping[str, JSON], found: Imported
) -> None:
    """Import the mode, and note other settings that prevent something."""
    mode = permissions.get("defaultMode")
    if isinstance(mode, str) and mode in _MODES:
        found.mode = mode
    elif mode is not None:
        found.notes.append(f"defaultMode {mode}: not imported; no rule file can set this mode")
    if permissions.get("additionalDirectories"):
        found.notes.append("additionalDirectories: not imported; here the host opens workspaces")
    if permissions.get("disableBypassPermissionsMode"):
        found.notes.append(
            "disableBypassPermissionsMode: not imported; "
            "write forbid_bypass = true in the operator's file"
        )
    for name, instead in _OTHER_SETTINGS:
        if data.get(name):
            found.notes.append(f"{name}: not imported; {instead}")
