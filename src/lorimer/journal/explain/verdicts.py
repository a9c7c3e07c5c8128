"""Who or what allowed a call, refused it, or wanted a person asked: parsed from the wording of
facts, as written by `tools/permissions.py` and `tools/policy/`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from lorimer.core.errors import ExecutorErrorCode
from lorimer.core.events import Event
from lorimer.core.facts import STEP
from lorimer.core.jsonable import JSON
from lorimer.journal.explain.in_force import ManifestInForce
from lorimer.journal.explain.reason import Origin, sentence

_RULE: Final = re.compile(
    r"(?:managed|user|caller|session|project|manifest|hook) rule (?:deny|ask|allow) .+|rule .+",
    re.DOTALL,
)
"""As formatted by `Rule.title`."""
_OF_MANIFEST: Final = re.compile(r"manifest rule (deny|ask) (.+)", re.DOTALL)
_MODE: Final = re.compile(r"\bmode (\w+)")
_HOOK: Final = re.compile(r"the hook '([^']*)' wants")
_REVIEWER: Final = re.compile(r"the reviewer '([^']*)'")
_APPROVED: Final = "approved"
_PERSON: Final = "policy.person"
_NOBODY: Final = ", and nobody is there to ask"
_MAY: Final = "may "
_LINK: Final = " leads to "
"""In the description of each link in a call, after what requires the question."""
_BINDING: Final = "tool_binding"
_PERMISSION: Final = "permission"
_TOOLS: Final = "tools.built_in"

_code = ExecutorErrorCode
REFUSED: Final[Mapping[str, str]] = {
    _code.EXEC_TOOL_UNKNOWN.value: _TOOLS,
    _code.EXEC_TOOL_ACCESS_DENIED.value: _BINDING,
    _code.EXEC_TOOL_INVALID_INPUT.value: "",
    _code.EXEC_TOOL_NOT_RUN.value: "limits.max_calls_per_turn",
}
"""Results of calls that were not made, without a fact `decision`: by code, the setting in the
manifest that is responsible; "": the tool itself."""
STOPPED: Final[Mapping[str, str]] = {
    _code.EXEC_TOOL_TIMEOUT.value: "tool_timeout_s",
    _code.EXEC_LIMIT_TOOL_CALLS.value: "max_tool_calls",
    _code.EXEC_CHILD_DEPTH.value: "max_depth",
    _code.EXEC_CHILD_DESCENDANTS.value: "max_descendants",
    _code.EXEC_CHILD_ANCESTOR.value: "",
}
"""Results of calls that were started: by code, the limit that they reached; "": none, this always
applies."""


def allowing(by: str, fact: Event) -> tuple[str, Origin]:
    """Why a call was allowed, if its fact says by what."""
    key = str(fact.data.get("key")).removeprefix(f"{STEP}:")
    if by == _APPROVED:
        return "a person agreed", Origin("person", f"{fact.iteration}:{key}")
    if _RULE.fullmatch(by):
        return "a rule allows it", Origin("rule", by)
    mode = _MODE.search(by)
    if mode is not None:
        return "no rule applies to it, and the mode allows its effects", Origin("mode", mode[1])
    return by, Origin("mode", "sandboxed")


def plain(name: str, fact: Event, in_force: ManifestInForce) -> tuple[str, Origin]:
    """Why a call was allowed that needed no permission."""
    manifest = in_force.manifest
    if manifest is None:
        named = False
    else:
        tools = manifest.tools
        described = [each.name for each in tools.ad_hoc]
        named = bool(tools.built_in) or name in (*described, *tools.external)
    if fact.type in ("tool.result", "effect") and named:
        return "it only reads, and no rule forbids it", Origin("engine", "policy.read")
    why = "the program that runs the agent has registered it, and no rule forbids it"
    return why, Origin("caller", f"tool {name}")


def refusing(
    rule: str, reason: str, fact: Event, key: str, in_force: ManifestInForce
) -> tuple[str, Origin]:
    """Why a call was refused, and by whom or what."""
    mode, why = _MODE.search(rule), sentence(rule)
    if reason == _PERSON:
        return why, Origin("person", f"{fact.iteration}:{key}")
    if reason == "policy.review" or (not reason and _REVIEWER.match(rule)):
        return why, in_force.of_stage("tool_review", "strategies.reviewers")
    if _RULE.match(rule):
        title = rule.removesuffix(_NOBODY)
        by = _rule(title, in_force)
        if by.kind == "rule":  # whose name is sufficient
            why = "a rule refuses it" if title == rule else f"a rule wants it asked{_NOBODY}"
        return why, by
    if reason == "policy.mode" and mode is not None:
        return why, Origin("mode", mode[1])
    return why, Origin("engine", reason or "policy.rule")


def asking(reason: str, tool: str, in_force: ManifestInForce) -> Origin:
    """What requires a person to be asked."""
    if hook := _HOOK.search(reason):
        return Origin("hook", hook[1])
    if _REVIEWER.search(reason):
        return in_force.of_stage("tool_review", "strategies.reviewers")
    effects, _, said = reason.partition("; ")
    if not said or not effects.startswith(_MAY):  # the tool's own words
        return Origin("tool", tool)
    before, _, last = said.rpartition("; ")
    while before and _LINK in last:
        said, (before, _, last) = before, before.rpartition("; ")
    if _RULE.fullmatch(said):
        return _rule(said, in_force)
    return Origin("engine", "policy.tainted" if "strangers" in said else "policy.mode")


def _rule(title: str, in_force: ManifestInForce) -> Origin:
    """A rule: one of the manifest is at a path in it."""
    found = _OF_MANIFEST.fullmatch(title)
    if found is None:
        return Origin("rule", title)
    return in_force.item(f"permissions.{found[1]}", found[2])


def hiding(why: str, in_force: ManifestInForce) -> Origin:
    """What hides a tool from the model."""
    if _RULE.match(why):
        return _rule(why, in_force)
    mode = _MODE.search(why)
    return Origin("mode", mode[1]) if mode is not None else Origin("rule", why)


def not_made(code: str, why: str, name: str, in_force: ManifestInForce) -> Origin:
    """The origin of a call that was not made, and has no decision."""
    path = REFUSED[code]
    if not path:
        return Origin("tool", name)
    if path == _BINDING:
        return _outside(name, in_force)
    if path == _TOOLS or "has no tools" in why:
        return in_force.at(_TOOLS)
    return in_force.limit(path.removeprefix("limits."))


def _outside(name: str, in_force: ManifestInForce) -> Origin:
    """What prevents a tool from being called: stage 10's binding, or the guard with the same
    effect."""
    entry = in_force.entry("tool")
    binding = None if entry is None else entry.tool_binding
    guard = in_force.entry("guard")
    own = binding is not None and not binding.admits(name)
    if own or guard is None or _PERMISSION not in in_force.strategy("guard", "guards"):
        return in_force.of_stage("tool", _BINDING)
    config = guard.strategy_configs.get("guards", {}).get(_PERMISSION)
    blocked = config.get("blocked_tools") if isinstance(config, Mapping) else None
    field = "blocked_tools" if isinstance(blocked, list) and name in blocked else "allowed_tools"
    return in_force.of_stage("guard", f"strategy_configs.guards.{_PERMISSION}.{field}")


def words(content: JSON, code: str) -> str:
    """What the model was told about it."""
    text = content if isinstance(content, str) else ""
    return sentence(text.removeprefix(f"ERROR {code}:").strip().partition("\n")[0]) or code
