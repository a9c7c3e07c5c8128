"""Rule files: what they may contain, and what each source may say in them. The hooks in them are
read by `lorimer.tools.hooks.files`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from lorimer.core.documents import parse
from lorimer.core.errors import ConfigError, nearest
from lorimer.core.jsonable import JSON
from lorimer.tools.base import Tool
from lorimer.tools.builtin import CATALOGUE
from lorimer.tools.hooks.command import CommandHook
from lorimer.tools.hooks.files import checked_texts, hooks_in
from lorimer.tools.policy.effects import Place, call_of
from lorimer.tools.policy.index import Side
from lorimer.tools.policy.modes import Action, Mode
from lorimer.tools.policy.rules import Rule, bind
from lorimer.tools.policy.sources import SOURCES, Source
from lorimer.tools.policy.when import ALWAYS, When, moment, when_of
from lorimer.tools.registry import Entry, ToolRegistry

_ACTIONS: Final[Mapping[str, Action]] = {
    "deny": Action.DENY,
    "ask": Action.ASK,
    "allow": Action.ALLOW,
}
_SOMEWHERE: Final = Place("/workspace", ("/workspace",), "/home/you")
"""The workspace in which examples are checked: they only need relative paths."""
_FIELDS: Final = (*_ACTIONS, "rule", "hook", "mode", "forbid_bypass")
_RULE_FIELDS: Final = (*_ACTIONS, "reason", "when", "expires", "match", "not_match")

Lookup: TypeAlias = Callable[[str], Tool | None]
"""The tool of a name, or None if it is not known."""


@dataclass(frozen=True, slots=True)
class Said:
    """The contents of one file."""

    rules: tuple[Rule, ...] = ()
    mode: Mode | None = None
    forbids_bypass: bool = False
    untrusted: tuple[Rule, ...] = ()
    """Allow rules that are not in force because the file is not trusted."""
    hooks: tuple[CommandHook, ...] = ()
    """Also those of an untrusted file: the caller must not run them."""


def read(text: str, where: str, source: Source, lookup: Lookup, *, trusted: bool = True) -> Said:
    """Read a rule file, TOML, and check every example. `where` names the file in errors.

    Raises ConfigError for anything that is not understood, for an example that contradicts its
    rule, and for what this source may not say.
    """
    data: Mapping[str, JSON] = parse(text, ".toml", where) if text.strip() else {}
    for name in data:
        if name not in _FIELDS:
            raise ConfigError(f"{where}: there is no field {name!r}{nearest(name, _FIELDS)}")
    rules = _rules(data, where, source, lookup)
    allowed = tuple([rule for rule in rules if rule.action is Action.ALLOW])
    _check_allowed(allowed, where, source)
    held_back = SOURCES[source].allow == "trusted" and not trusted
    return Said(
        tuple([rule for rule in rules if not held_back or rule.action is not Action.ALLOW]),
        _mode(data, where, source),
        _forbids_bypass(data, where, source),
        allowed if held_back else (),
        hooks_in(data.get("hook", []), where, source, tuple(CATALOGUE)),
    )


def _rules(data: Mapping[str, JSON], where: str, source: Source, lookup: Lookup) -> list[Rule]:
    rules: list[Rule] = []
    for name, action in _ACTIONS.items():
        texts = checked_texts(data.get(name, []), f"{where}: {name}")
        places = [f"{where}: {name}[{at}]" for at in range(len(texts))]
        rules += [
            _rule(text, place, action, source) for text, place in zip(texts, places, strict=True)
        ]
    tables = data.get("rule", [])
    if not isinstance(tables, Sequence) or isinstance(tables, str):
        raise ConfigError(f"{where}: rule has to be a list of tables, [[rule]]")
    rules.extend(
        [_table(each, f"{where}: rule {at}", source, lookup) for at, each in enumerate(tables, 1)]
    )
    return rules


def _check_allowed(allowed: Sequence[Rule], where: str, source: Source) -> None:
    may_allow = SOURCES[source].allow
    if allowed and may_allow == "never":
        raise ConfigError(
            f"{where}: allows {allowed[0]}, but a {source.value} can only deny and ask"
        )
    if may_allow == "exact" and not all(rule.exact for rule in allowed):
        raise ConfigError(
            f"{where}: a {source.value} can only allow single calls, spelled out word for word"
        )


def _mode(data: Mapping[str, JSON], where: str, source: Source) -> Mode | None:
    name = data.get("mode")
    if name is None:
        return None
    if not SOURCES[source].mode:
        raise ConfigError(f"{where}: a {source.value} cannot set the mode")
    try:
        mode = Mode.named(str(name))
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}", hint=error.hint) from None
    if mode is Mode.BYPASS:
        raise ConfigError(
            f"{where}: no file can set the mode bypass", hint="Use --permission-mode bypass."
        )
    return mode


def _forbids_bypass(data: Mapping[str, JSON], where: str, source: Source) -> bool:
    given = data.get("forbid_bypass", False)
    if not isinstance(given, bool):
        raise ConfigError(f"{where}: forbid_bypass has to be true or false")
    if given and source is not Source.MANAGED:
        raise ConfigError(f"{where}: only the operator's file can set forbid_bypass")
    return given


def _rule(
    text: str,
    where: str,
    action: Action,
    source: Source,
    reason: str = "",
    when: When = ALWAYS,
    expires: float | None = None,
) -> Rule:
    try:
        return Rule.parse(
            text,
            pattern=True,
            action=action,
            source=source,
            reason=reason,
            when=when,
            expires=expires,
        )
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}", hint=error.hint) from None


def _table(table: JSON, where: str, source: Source, lookup: Lookup) -> Rule:
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where} has to be a table")
    for name in table:
        if name not in _RULE_FIELDS:
            raise ConfigError(f"{where}: there is no field {name!r}{nearest(name, _RULE_FIELDS)}")
    said = [name for name in _ACTIONS if name in table]
    if len(said) != 1 or not isinstance(table[said[0]], str):
        raise ConfigError(
            f"{where} needs one of {', '.join(_ACTIONS)}: exactly one, a rule as text"
        )
    text, reason = str(table[said[0]]), table.get("reason", "")
    if not isinstance(reason, str):
        raise ConfigError(f"{where}: reason has to be text")
    when = when_of(table["when"], f"{where}: when") if "when" in table else ALWAYS
    expires = moment(table["expires"], f"{where}: expires") if "expires" in table else None
    rule = _rule(text, where, _ACTIONS[said[0]], source, reason, when, expires)
    for name, wanted in (("match", True), ("not_match", False)):
        for example in checked_texts(table.get(name, []), f"{where}: {name}"):
            if _fits(rule, example, where, lookup) is not wanted:
                what = "does not match" if wanted else "matches"
                raise ConfigError(f"{where}: {rule} {what} its example {example!r}")
    return rule


def _entry(tool: Tool) -> Entry:
    registry = ToolRegistry()
    registry.register(tool, granted=False)
    return registry.entries()[0]


def _fits(rule: Rule, example: str, where: str, lookup: Lookup) -> bool:
    """Whether a rule applies to a call whose subject argument is `example`."""
    tool = lookup(rule.tool)
    if tool is None or not tool.subject:
        raise ConfigError(
            f"{where}: {rule} cannot have examples",
            hint="match and not_match need a shipped tool such as Bash or Read, by its name.",
        )
    entry = _entry(tool)
    call = call_of(entry, {tool.subject: example}, _SOMEWHERE)
    side = Side([bind(rule, entry, _SOMEWHERE)], entry, _SOMEWHERE)
    return bool(side.certain(call) if rule.action is Action.ALLOW else side.possible(call))


def check(rules: Iterable[Rule], lookup: Lookup, where: str) -> None:
    """Raises ConfigError for a rule that does not fit its tool."""
    for rule in rules:
        tool = lookup(rule.tool)
        if tool is None:
            continue
        try:
            bind(rule, _entry(tool), _SOMEWHERE)
        except ConfigError as error:
            raise ConfigError(f"{where}: {rule}: {error}", hint=error.hint) from None
