"""The decision: deny > ask > allow over all sources, then the mode, then what strangers said.

`decide` is a pure function of the call, the rules, the mode and the taint; what fails to be decided
is refused. Who is asked, and what is recorded: `lorimer.tools.permissions`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from lorimer.core.errors import ConfigError
from lorimer.core.jsonable import JSON
from lorimer.core.record import record
from lorimer.tools.policy.effects import (
    EFFECT_OF,
    Call,
    CommandUse,
    HostUse,
    Kind,
    PathUse,
    Place,
    Resource,
    kinds_of,
    redirected,
)
from lorimer.tools.policy.index import Side
from lorimer.tools.policy.modes import TABLE, Action, Mode, forbids
from lorimer.tools.policy.rules import Bound, Rule, bind
from lorimer.tools.policy.sources import SOURCES, Source
from lorimer.tools.registry import Entry, ToolRegistry

GRANTED: Final = "policy.granted"
"""The host registered the tool itself."""
BY_RULE: Final = "policy.rule"
BY_MODE: Final = "policy.mode"
TAINTED: Final = "policy.tainted"
"""Words of strangers are in the conversation, and the call could carry out what they say."""
BY_TOOL: Final = "policy.tool"
"""The tool wants a person to agree, whoever allows it."""
NOBODY: Final = "policy.nobody"
"""It would be asked, and the mode says that nobody is there."""
UNDECIDED: Final = "policy.undecided"
HOOK: Final = "policy.hook"
"""A hook wants a person to be asked about what would be allowed."""

_RISKY: Final = frozenset({Kind.SEND, Kind.EXEC, Kind.SECRET, Kind.POLICY})
"""What text of strangers must not set off."""


@record
class Decision:
    """What becomes of a call, and by what."""

    action: Action
    code: str
    rules: tuple[Rule, ...]
    """Those that made it."""
    mode: Mode
    kinds: frozenset[Kind] = frozenset()
    """All effects of the call."""
    resources: tuple[Resource, ...] = ()
    why: str = ""
    """For people, where no rule says it."""

    @property
    def by(self) -> str:
        """The rule or the reason, in words."""
        if self.rules:
            return self.rules[0].title
        return self.why or f"mode {self.mode.value}"

    @property
    def sources(self) -> tuple[Source, ...]:
        """Of its rules, each once."""
        return tuple(dict.fromkeys([rule.source for rule in self.rules]))

    def to_json(self) -> dict[str, JSON]:
        """For `lorimer permissions explain`."""
        return {
            "decision": self.action.name.lower(),
            "code": self.code,
            "rules": [rule.title for rule in self.rules],
            "sources": [source.value for source in self.sources],
            "mode": self.mode.value,
            "effects": sorted([kind.value for kind in self.kinds]),
            "resources": [told(resource) for resource in self.resources],
            "why": self.why,
        }


def told(resource: Resource) -> str:
    """In words, for people."""
    match resource:
        case PathUse():
            return f"path {resource.forms[-1] if resource.forms else resource.text}"
        case HostUse():
            return f"host {resource.host or '(cannot be read)'}:{resource.port}"
        case CommandUse():
            read = [" ".join(command.argv) for command in resource.parsed.commands]
            return f"command {resource.parsed.complex or ' ; '.join(read)}"


@record
class ToolRules:
    """The rules about one tool."""

    entry: Entry
    deny: Side
    ask: Side
    allow: Side
    lifted: frozenset[str]
    """Effects that are allowed as such."""
    lifting: tuple[Rule, ...]

    @property
    def tightened(self) -> bool:
        """There are rules to deny or to ask."""
        return not (self.deny.empty and self.ask.empty)


class Rules:
    """Rules of all sources over the tools of one place. Immutable but for what it has made ready;
    shared by runs."""

    def __init__(self, rules: Iterable[Rule], place: Place) -> None:
        self.place = place
        self.all = tuple(rules)
        self._about: dict[str, list[Rule]] = {}
        for rule in self.all:
            self._about.setdefault(rule.tool, []).append(rule)
        self._tools: dict[str, ToolRules] = {}
        self._files: dict[str, Entry] = {}

    def of(self, entry: Entry) -> ToolRules:
        """Those about one tool, made ready once. A rule that cannot be about it denies it: nobody
        can say what was meant."""
        known = self._tools.get(entry.spec.name)
        if known is None or known.entry is not entry:
            known = self._tools[entry.spec.name] = self._ready(entry)
        return known

    def about(self, entry: Entry) -> list[Rule]:
        """Those that name a tool, or one of its effects."""
        found = list(self._about.get(entry.spec.name, ()))
        for effect in sorted(entry.effects):
            found.extend(self._about.get(f"@{effect}", ()))
        return found

    def _ready(self, entry: Entry) -> ToolRules:
        about = self.about(entry)
        lifting = [rule for rule in about if rule.effect and rule.action is Action.ALLOW]
        bound: dict[Action, list[Bound]] = {action: [] for action in Action}
        for rule in about:
            if rule in lifting:
                continue
            try:
                bound[rule.action].append(bind(rule, entry, self.place))
            except ConfigError as error:
                broken = replace(rule, action=Action.DENY, reason=f"it cannot be used: {error}")
                bound[Action.DENY].append(Bound(broken, lambda call, surely: True))
        return ToolRules(
            entry,
            Side(bound[Action.DENY], entry, self.place),
            Side(bound[Action.ASK], entry, self.place),
            Side(bound[Action.ALLOW], entry, self.place),
            frozenset([rule.effect for rule in lifting]),
            tuple(lifting),
        )

    def file_tool(self, name: str) -> Entry:
        """The shipped `Read` or `Write`: what a shell opens is decided as a call of it."""
        if name not in self._files:
            from lorimer.tools.builtin import builtin_tools

            registry = ToolRegistry()
            registry.register(builtin_tools([name])[0], granted=False)
            for entry in registry.entries():
                self._files[name] = entry
        return self._files[name]


def visible(entry: Entry, rules: Rules, mode: Mode) -> bool:
    """The model is shown this tool: no rule denies all of its calls, and it has no effect that the
    mode forbids. One that is not is unknown also when it is called by name."""
    return not rules.of(entry).deny.bare and not any(
        forbids(mode, Kind(effect)) for effect in entry.effects
    )


def decide(
    call: Call, rules: Rules, mode: Mode, *, tainted: bool = False, isolated: bool = False
) -> Decision:
    """Decide one call.

    `tainted`: words of strangers are in the conversation. `isolated`: what a command line starts
    is held by a sandbox of level 2 without network. The same arguments give the same decision.
    """
    try:
        decision = _decide(call, rules, mode, tainted, isolated)
    except Exception as error:  # noqa: BLE001 - failing to decide means no
        why = f"it could not be decided: {error}"
        decision = Decision(Action.DENY, UNDECIDED, (), mode, why=why)
    return Decision(
        decision.action,
        decision.code,
        decision.rules,
        mode,
        call.kinds,
        call.resources,
        decision.why,
    )


def _decide(call: Call, rules: Rules, mode: Mode, tainted: bool, isolated: bool) -> Decision:
    about = rules.of(call.entry)
    denied = about.deny.possible(call)
    if denied:
        return Decision(Action.DENY, BY_RULE, denied, mode)
    for kind in call.kinds:
        if forbids(mode, kind):
            why = f"the permission mode {mode.value} forbids {kind.value}"
            return Decision(Action.DENY, BY_MODE, (), mode, why=why)
    covering = () if call.entry.granted else about.allow.certain(call)
    exact = call.entry.granted or any(rule.exact for rule in covering)
    decision = _unless_asked(call, about, _allowed(call, about, covering, exact, mode, isolated))
    for use in call.resources:
        if isinstance(use, CommandUse):
            for opened in _opened(call, use, rules, mode, exact):
                decision = min(decision, opened, key=_strictness)
    if (
        tainted
        and decision.action is Action.ALLOW
        and not exact
        and mode is not Mode.BYPASS
        and not _RISKY.isdisjoint(call.kinds)
    ):
        why = "words of strangers are in the conversation, and it could do what they say"
        decision = Decision(Action.ASK, TAINTED, (), mode, why=why)
    if call.entry.tool.approval and decision.action is Action.ALLOW:
        decision = Decision(Action.ASK, BY_TOOL, (), mode, why=call.entry.tool.approval)
    if mode is Mode.DONT_ASK and decision.action is Action.ASK:
        return Decision(Action.DENY, NOBODY, decision.rules, mode, why=decision.why)
    return decision


def _strictness(decision: Decision) -> int:
    return decision.action


def _allowed(
    call: Call,
    about: ToolRules,
    covering: tuple[Rule, ...],
    exact: bool,
    mode: Mode,
    isolated: bool,
) -> Decision:
    """What allow rules and the mode come to."""
    if exact:
        code = GRANTED if call.entry.granted else BY_RULE
        return Decision(Action.ALLOW, code, covering, mode)
    if covering:  # a path that decides what runs later wants to be named
        rest = call.kinds & {Kind.PROTECTED}
    else:
        rest = frozenset(
            [
                kind
                for kind in call.kinds
                if kind is Kind.PROTECTED or EFFECT_OF[kind] not in about.lifted
            ]
        )
    if not rest:
        return Decision(Action.ALLOW, BY_RULE, covering or about.lifting, mode)
    if mode is Mode.SANDBOXED and isolated and call.entry.tool.confined:
        return Decision(Action.ALLOW, BY_MODE, (), mode, why="a sandbox holds it")
    table = TABLE[mode]
    action = min([table[kind] for kind in rest])
    if action is Action.ALLOW:
        return Decision(action, BY_MODE, (), mode)
    if mode is Mode.DONT_ASK:
        return Decision(action, NOBODY, (), mode, why=_uncovered(call, about))
    return Decision(action, BY_MODE, (), mode, why=_uncovered(call, about))


def _uncovered(call: Call, about: ToolRules) -> str:
    """Of a command: which part of it no rule covers."""
    for use in call.resources:
        if isinstance(use, CommandUse) and not about.allow.empty:
            return about.allow.uncovered(use)
    return ""


def _unless_asked(call: Call, about: ToolRules, decision: Decision) -> Decision:
    """Rules to ask, over what else was decided."""
    mode = decision.mode
    asking = about.ask.possible(call) if not about.ask.empty else ()
    if mode is Mode.BYPASS:
        asking = tuple([rule for rule in asking if SOURCES[rule.source].final])
    if not asking or decision.action is Action.DENY:
        return decision
    return Decision(Action.ASK, BY_RULE, asking, mode)


def _opened(
    call: Call, use: CommandUse, rules: Rules, mode: Mode, exact: bool
) -> Iterable[Decision]:
    """The files that the shell opens for a command line, each as a call of `Read` or `Write`."""
    for name, path in redirected(use, rules.place, call.folder):
        entry = rules.file_tool(name)
        kinds = kinds_of(entry.effects, [path], rules.place)
        inner = Call(entry, {path.argument: path.text}, kinds, (path,))
        about = rules.of(entry)
        denied = about.deny.possible(inner)
        if denied:
            yield Decision(Action.DENY, BY_RULE, denied, mode)
            continue
        covering = about.allow.certain(inner)
        said = exact or any(rule.exact for rule in covering)
        yield _unless_asked(inner, about, _allowed(inner, about, covering, said, mode, False))
