"""Permission rules of geny-executor's files, as ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from lorimer.core.errors import ConfigError
from lorimer.core.jsonable import JSON
from lorimer.tools.policy.modes import Action
from lorimer.tools.rule_files.foreign_specs import (
    Meaning,
    command_meaning,
    host_meaning,
    loose_path_meaning,
)
from lorimer.tools.rule_files.imported import ForeignRule, Imported
from lorimer.tools.rule_files.reading import Lookup

_FIELDS: Final = frozenset({"tool", "pattern", "reason"})
"""Of a rule."""


def add_geny_rule(
    entry: Mapping[str, JSON], action: Action, where: str, found: Imported, lookup: Lookup
) -> None:
    """Import one rule. Raises ConfigError, naming `where`, if `entry` has not the form of one."""
    tool, pattern, reason = entry.get("tool"), entry.get("pattern"), entry.get("reason")
    if not isinstance(tool, str) or not (tool == "*" or re.fullmatch(r"[A-Za-z0-9_-]+", tool)):
        raise ConfigError(f"{where}: tool has to be the name of a tool, or *")
    if pattern is not None and not isinstance(pattern, str):
        raise ConfigError(f"{where}: pattern has to be text")
    name = f"{action.name.lower()} {tool}" + (f"({pattern})" if pattern else "")
    rule = ForeignRule(name, action, found, lookup, reason if isinstance(reason, str) else "")
    unknown = ", ".join(sorted(entry.keys() - _FIELDS))
    if unknown:  # it may be what makes the rule narrow
        if action is Action.ALLOW:
            rule.note(f"not imported; the meaning of {unknown} is not known")
            return
        rule.note(f"imported without {unknown}, whose meaning is not known")
    about_all = pattern is None or pattern == "*"
    if tool == "*":
        _every_tool(about_all, rule)
    else:
        rule.add((tool,), Meaning(None) if about_all else _meaning(tool, str(pattern), rule))


def _every_tool(about_all: bool, rule: ForeignRule) -> None:
    if rule.action is Action.ALLOW:
        rule.note("not imported; no rule here allows everything")
        return
    if not about_all:
        rule.note("stricter here: every call of every tool")
    rule.keep("*")


def _meaning(tool: str, pattern: str, rule: ForeignRule) -> Meaning:
    known = rule.lookup(tool)
    if known is not None and known.commands:
        rule.note("patterns for commands had no effect there; here they have")
        return command_meaning(pattern, rule.action)
    if known is not None and known.urls:
        return host_meaning(f"domain:{pattern}", rule.action)
    if known is not None and known.paths:
        return loose_path_meaning(pattern, rule.action)
    return Meaning(pattern)


def add_geny_notes(permissions: Mapping[str, JSON], found: Imported) -> None:
    """Note what differs between geny's evaluation of rules and ours."""
    if str(permissions.get("default_posture", "allow")).strip().lower() == "allow":
        found.notes.append("calls without a rule ran there; here the mode decides them")
    actions = {rule.action for rule in found.rules}
    if Action.ALLOW in actions and len(actions) > 1:
        found.notes.append("the first rule won there; here deny beats ask, and ask beats allow")
    found.notes.append("the mode dontAsk allowed what it would ask about; here it refuses that")
