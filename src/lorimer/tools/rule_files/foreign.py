"""Lists of rules written for others, as ours: Claude Code's `settings.json`, geny's files.

What is carried means what it says there, or is stricter: an `allow` that cannot be said here is
left out, a `deny` or `ask` that cannot is made wider, and for each there is a note.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from lorimer.core.errors import ConfigError
from lorimer.core.jsonable import JSON
from lorimer.tools.policy.modes import Action
from lorimer.tools.policy.rules import Rule
from lorimer.tools.rule_files.foreign_specs import (
    NONE,
    Meaning,
    command_meaning,
    host_meaning,
    loose_path_meaning,
    path_meaning,
)
from lorimer.tools.rule_files.reading import Lookup, check

_ACTIONS: Final = (("deny", Action.DENY), ("ask", Action.ASK), ("allow", Action.ALLOW))
_TEXT: Final = re.compile(r"([A-Za-z0-9_*-]+)(?:\((.*)\))?", re.DOTALL)
_MCP: Final = re.compile(r"mcp__([A-Za-z0-9-]+(?:_[A-Za-z0-9-]+)*|\*)(?:__(.+))?")
_SAME: Final[Mapping[str, tuple[str, ...]]] = {
    "Read": ("Read", "Grep", "Glob"),
    "Edit": ("Edit", "Write", "NotebookEdit"),
    "MultiEdit": ("Edit",),
    "LS": ("Glob",),
    "Task": ("Agent",),
}
"""Tools that one of Claude Code's rules stands for: those that do the same to files, or have the
name by now. `_all` has more, for what is not to be."""
_GONE: Final = frozenset({"MultiEdit", "LS", "Task"})
"""Names that nothing has any more: what they allow, nothing here is."""
_PARAMETERS: Final = frozenset(
    "run_in_background timeout description dangerouslyDisableSandbox".split()
)
_PARAMETER: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*):[^/]*")
"""`Tool(param:value)`: to deny or to ask, by another argument than the one that rules are about."""
_PATHS: Final = frozenset({"Read", "Edit", "Write", "MultiEdit", "NotebookEdit", "Glob", "LS"})
_BESIDE: Final = (
    ("hooks", "a hook here is a [[hook]] of the same file"),
    ("sandbox", "what it hides and which hosts it lets through, the host says: hidden=, --network"),
    ("deniedMcpServers", "deny mcp:NAME here"),
    ("disabledMcpjsonServers", "deny mcp:NAME here"),
)
"""What else of Claude Code's settings keeps something from happening."""
_OF_GENY: Final = frozenset({"tool", "pattern", "reason"})
"""What a rule of geny says."""
_MODES: Final = frozenset({"default", "acceptEdits", "plan", "dontAsk"})


@dataclass(slots=True)
class Imported:
    """Rules as ours, and what a person should know of them."""

    rules: dict[Rule, None] = field(default_factory=dict)
    """In order, each once."""
    notes: list[str] = field(default_factory=list)
    mode: str = ""

    def to_toml(self, where: str) -> str:
        """A file of rules."""
        lines = [f"# From {_quoted(where)}"]
        if self.mode:
            lines.append(f'mode = "{self.mode}"')
        for name, action in _ACTIONS:
            plain = [str(r) for r in self.rules if r.action is action and not r.reason]
            if plain:
                lines += [f"{name} = [", *[f"    {_quoted(text)}," for text in plain], "]"]
        for rule in self.rules:
            if rule.reason:
                name = rule.action.name.lower()
                lines += ["", "[[rule]]", f"{name} = {_quoted(str(rule))}"]
                lines.append(f"reason = {_quoted(rule.reason)}")
        return "\n".join(lines) + "\n"


def carried(data: Mapping[str, JSON], where: str, lookup: Lookup) -> Imported:
    """The rules of a document, whichever of the two it is. Raises ConfigError for one that is
    neither, or whose lists hold something else than rules."""
    said = data.get("permissions", data)
    if not isinstance(said, Mapping):
        raise ConfigError(f"{where}: permissions has to be a table")
    if "permissions" not in data and not any(name in data for name, _ in _ACTIONS):
        raise ConfigError(f"{where} has neither permissions nor a list allow, ask or deny")
    found = Imported()
    geny = False
    for name, action in _ACTIONS:
        entries = said.get(name)
        if entries is None:
            continue
        if not isinstance(entries, Sequence) or isinstance(entries, str):
            raise ConfigError(f"{where}: {name} has to be a list")
        for at, entry in enumerate(entries):
            if isinstance(entry, str):
                _claude(entry, action, f"{where}: {name}[{at}]", found, lookup)
            elif isinstance(entry, Mapping):
                geny = True
                _geny(entry, action, f"{where}: {name}[{at}]", found, lookup)
            else:
                raise ConfigError(f"{where}: {name}[{at}] is not a rule")
    if geny:
        _geny_notes(said, found)
    else:
        _claude_notes(said, found)
        found.notes += [f"{name}: not carried; {why}" for name, why in _BESIDE if data.get(name)]
    return found


def _claude(text: str, action: Action, where: str, found: Imported, lookup: Lookup) -> None:
    read = _TEXT.fullmatch(text.strip())
    if read is None:
        raise ConfigError(f"{where}: {text!r} is not a rule: Tool or Tool(spec)")
    tool, spec = str(read[1]), read[2]
    told = f"{action.name.lower()} {text}"
    server = _MCP.fullmatch(tool)
    if tool == "*" or "*" in tool or (server is not None and server[2] is None):
        _named(tool, server, action, told, found)
        return
    allows = action is Action.ALLOW
    if allows and tool in _GONE:
        found.notes.append(f"{told}: not carried; it had no effect there")
    elif not allows and spec is not None and _of_parameter(tool, spec):
        _add(found, _all(tool), NONE, action, told, "", lookup)
    elif spec is None or (spec in ("*", "**") and not (allows and tool in _PATHS)):
        tools = (tool,) if allows else _all(tool)
        _add(found, tools, Meaning(None), action, told, "", lookup)
    elif tool == "Bash":
        _add(found, (tool,), command_meaning(spec, action), action, told, "", lookup)
    elif tool == "WebFetch":
        _add(found, (tool,), host_meaning(spec, action), action, told, "", lookup)
    elif tool in _PATHS:
        _paths(tool, spec, action, told, found, lookup)
    else:
        _add(found, (tool,), NONE, action, told, "", lookup)


def _all(tool: str) -> tuple[str, ...]:
    """The tools that a rule to deny or ask stands for."""
    tools = _SAME.get(tool, (tool,))
    return (*tools, "Unpack") if "Edit" in tools else tools


def _of_parameter(tool: str, spec: str) -> bool:
    named = _PARAMETER.fullmatch(spec)
    return named is not None and (tool in _PATHS or (tool == "Bash" and named[1] in _PARAMETERS))


def _paths(
    tool: str, spec: str, action: Action, told: str, found: Imported, lookup: Lookup
) -> None:
    """A rule about files."""
    if tool not in _SAME:  # only rules of Read and Edit are looked at there
        if action is Action.ALLOW:
            found.notes.append(f"{told}: not carried; it had no effect there")
            return
        found.notes.append(f"{told}: had no effect there; here it is in force")
    if spec.startswith("!"):  # an exception from the rules before it
        if action is not Action.ALLOW:
            found.notes.append(f"{told}: stricter here: not carried, so nothing is excepted")
            return
        found.notes.append(f"{told}: stricter here: asked about")
        spec, action = spec[1:], Action.ASK
    tools = _SAME.get(tool, (tool,)) if action is Action.ALLOW else _all(tool)
    if tool == "Read" and action is Action.DENY:  # there too it keeps from writing
        tools += _all("Edit")
    _add(found, tools, path_meaning(spec, action), action, told, "", lookup)
    if tool == "Read" and action is not Action.ALLOW:
        found.notes.append(f"{told}: Grep of a folder above it, and commands, still see it")


def _named(
    tool: str, server: re.Match[str] | None, action: Action, told: str, found: Imported
) -> None:
    """A rule about several tools, by their names."""
    whole = server is not None and server[2] in (None, "*")
    if action is Action.ALLOW and not (whole and server is not None and server[1] != "*"):
        found.notes.append(f"{told}: not carried; nothing allows so much at once here")
        return
    wide = f"mcp:{server[1]}" if server is not None else "*"
    if not whole and tool != "*":
        found.notes.append(f"{told}: stricter here: {wide}")
    _keep(found, wide, action, "")


def _geny(
    entry: Mapping[str, JSON], action: Action, where: str, found: Imported, lookup: Lookup
) -> None:
    tool, pattern, reason = entry.get("tool"), entry.get("pattern"), entry.get("reason")
    if not isinstance(tool, str) or not (tool == "*" or re.fullmatch(r"[A-Za-z0-9_-]+", tool)):
        raise ConfigError(f"{where}: a rule names its tool")
    if pattern is not None and not isinstance(pattern, str):
        raise ConfigError(f"{where}: the pattern of a rule is text")
    why = reason if isinstance(reason, str) else ""
    told = (
        f"{action.name.lower()} {tool}({pattern})" if pattern else f"{action.name.lower()} {tool}"
    )
    unknown = ", ".join(sorted(entry.keys() - _OF_GENY))
    if unknown:  # which may be all that makes it narrow
        if action is Action.ALLOW:
            found.notes.append(f"{told}: not carried; what {unknown} means is not known")
            return
        found.notes.append(f"{told}: carried without {unknown}, which is not known")
    if tool == "*":
        if action is Action.ALLOW:
            found.notes.append(f"{told}: not carried; nothing allows everything here")
        else:
            if pattern not in (None, "*"):
                found.notes.append(f"{told}: stricter here: every call of every tool")
            _keep(found, "*", action, why)
        return
    if pattern is None or pattern == "*":
        _add(found, (tool,), Meaning(None), action, told, why, lookup)
        return
    known = lookup(tool)
    if known is not None and known.commands:
        found.notes.append(f"{told}: patterns of commands had no effect there; here they have")
        meaning = command_meaning(pattern, action)
    elif known is not None and known.urls:
        meaning = host_meaning(f"domain:{pattern}", action)
    elif known is not None and known.paths:
        meaning = loose_path_meaning(pattern, action)
    else:
        meaning = Meaning(pattern)
    _add(found, (tool,), meaning, action, told, why, lookup)


def _add(
    found: Imported,
    tools: Iterable[str],
    meaning: Meaning,
    action: Action,
    told: str,
    reason: str,
    lookup: Lookup,
) -> None:
    """What a rule comes to for each tool that it stands for; for those that are not here only if it
    is about all of their calls."""
    note = meaning.note
    wider: list[str] = []
    for at, name in enumerate(tools):
        tool = lookup(name)
        if tool is None and at:
            continue
        texts = [name if spec is None else f"{name}({spec})" for spec in meaning.specs]
        if tool is not None and name in ("Grep", "Glob") and meaning.specs != (None,):
            texts = [f"{name}(path={spec})" for spec in meaning.specs]
        exact = meaning.exact and (tool is not None or meaning.specs == (None,))
        if exact:
            rules = [_rule(text, action, reason) for text in texts]
            try:
                check([rule for rule in rules if rule is not None], lookup, "")
            except ConfigError:
                exact = False
            exact = exact and None not in rules
        if exact:
            for text in texts:
                _keep(found, text, action, reason)
        elif action is Action.ALLOW:
            note = "not carried: it cannot be said here"
        elif _keep(found, name, action, reason):
            wider.append(name)
        else:
            note = "not carried: no tool has such a name here"
    if wider:
        note = f"stricter here: every call of {' and '.join(wider)}"
    if note:
        found.notes.append(f"{told}: {note}")


def _rule(text: str, action: Action, reason: str) -> Rule | None:
    try:
        return Rule.parse(text, pattern=True, action=action, reason=reason)
    except ConfigError:
        return None


def _keep(found: Imported, text: str, action: Action, reason: str) -> bool:
    """Whether it is a rule."""
    rule = _rule(text, action, reason)
    if rule is None:
        return False
    found.rules[rule] = None
    return True


def _claude_notes(said: Mapping[str, JSON], found: Imported) -> None:
    mode = said.get("defaultMode")
    if isinstance(mode, str) and mode in _MODES:
        found.mode = mode
    elif mode is not None:
        found.notes.append(f"defaultMode {mode}: not carried; no file sets such a mode here")
    if said.get("additionalDirectories"):
        found.notes.append("additionalDirectories: not carried; the host opens a workspace")
    if said.get("disableBypassPermissionsMode"):
        found.notes.append(
            "disableBypassPermissionsMode: not carried; the operator's file says forbid_bypass"
        )


def _geny_notes(said: Mapping[str, JSON], found: Imported) -> None:
    if str(said.get("default_posture", "allow")).strip().lower() == "allow":
        found.notes.append("what no rule is about ran there; here it follows the mode")
    actions = {rule.action for rule in found.rules}
    if Action.ALLOW in actions and len(actions) > 1:
        found.notes.append("the first rule won there; here deny beats ask, and ask beats allow")
    found.notes.append("the mode dontAsk allowed there what would be asked; here it refuses it")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")
