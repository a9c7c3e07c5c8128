"""The decision: deny > ask > allow over all sources, then the mode, then untrusted content.

`decide` is a pure function of the call, the rules, the mode and the taint; if deciding fails, the
call is refused. Who is asked, and what is recorded: `lorimer.tools.permissions`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final, assert_never

from lorimer.core.errors import ConfigError
from lorimer.core.jsonable import JSON
from lorimer.core.record import record
from lorimer.tools.base import ToolInput
from lorimer.tools.policy.effects import (
    EFFECT_OF,
    Call,
    CommandUse,
    HostUse,
    Kind,
    PathUse,
    Place,
    Resource,
    call_of,
    kinds_of,
    may_open_more,
    perhaps_redirected,
    redirected,
)
from lorimer.tools.policy.index import Side
from lorimer.tools.policy.modes import FORBIDDEN, TABLE, Action, Mode
from lorimer.tools.policy.names import names
from lorimer.tools.policy.rules import Bound, Rule, bind
from lorimer.tools.policy.sources import SOURCES, Source
from lorimer.tools.registry import Entry, ToolRegistry
from lorimer.tools.shell.parse import Command, Parsed, parse
from lorimer.tools.shell.rules import Memory

GRANTED: Final = "policy.granted"
"""The host registered the tool itself."""
BY_RULE: Final = "policy.rule"
BY_MODE: Final = "policy.mode"
TAINTED: Final = "policy.tainted"
"""The conversation contains untrusted content, and the call could carry out its instructions."""
BY_TOOL: Final = "policy.tool"
"""The tool requires a person's approval, whatever allows it."""
NOBODY: Final = "policy.nobody"
"""It would be asked, and the mode says that nobody can be asked."""
UNDECIDED: Final = "policy.undecided"
HOOK: Final = "policy.hook"
"""A hook requires a person's approval of a call that would be allowed."""
CHANGED: Final = "policy.changed"
"""It was approved, but by the time it runs it would touch something else."""

_RISKY: Final = frozenset({Kind.SEND, Kind.EXEC, Kind.SECRET, Kind.POLICY})
"""Effects that untrusted content must not trigger."""
_NAMED_ONLY: Final = frozenset({Kind.PROTECTED})


@record
class Decision:
    """The decision about a call, and its basis."""

    action: Action
    code: str
    rules: tuple[Rule, ...]
    """The rules that made the decision."""
    mode: Mode
    kinds: frozenset[Kind] = frozenset()
    """All effects of the call."""
    resources: tuple[Resource, ...] = ()
    why: str = ""
    """Explanation for people, if there is no rule."""

    @property
    def by(self) -> str:
        """The rule or the reason, in words."""
        if self.rules:
            return self.rules[0].title
        return self.why or f"mode {self.mode.value}"

    @property
    def sources(self) -> tuple[Source, ...]:
        """The sources of its rules, without duplicates."""
        return tuple(dict.fromkeys([rule.source for rule in self.rules]))

    @property
    def touches(self) -> list[str]:
        """What the call would touch, in words: links followed to where they lead."""
        return [told(resource) for resource in self.resources]

    def to_json(self) -> dict[str, JSON]:
        """For `lorimer permissions explain`."""
        return {
            "decision": self.action.name.lower(),
            "code": self.code,
            "rules": [rule.title for rule in self.rules],
            "sources": [source.value for source in self.sources],
            "mode": self.mode.value,
            "effects": sorted([kind.value for kind in self.kinds]),
            "resources": list(self.touches),
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
            read = [_command(command) for command in resource.parsed.commands]
            return f"command {resource.parsed.complex or ' ; '.join(read)}"
        case _:
            assert_never(resource)


def _command(command: Command) -> str:
    """Quoted, so that two commands are not one that has a `;` in a word."""
    from shlex import quote  # for people only

    words = [f"{name}={quote(value)}" for name, value in command.assignments]
    words += map(quote, command.argv)
    words += [f"{'>' if to.writes else '<'} {quote(to.path)}" for to in command.redirects]
    return " ".join(words)


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

    tightened: bool
    """There are rules to deny or to ask."""


class Rules:
    """Rules of all sources for the tools of one place. Immutable except for its caches; shared by
    runs."""

    def __init__(self, rules: Iterable[Rule], place: Place) -> None:
        self.place = place
        self.all = tuple(rules)
        self._about: dict[str, list[Rule]] = {}
        for rule in self.all:
            self._about.setdefault(rule.tool, []).append(rule)
        self._wide = [rule for rule in self.all if rule.wide]
        self._passing = [rule for rule in self.all if not rule.lasting]
        self._narrowed: dict[tuple[bool, ...], Rules] = {}
        self._tools: dict[str, ToolRules] = {}
        self._files: dict[str, Entry] = {}
        self._read: Memory[Parsed] = Memory()

    @property
    def lasting(self) -> bool:
        """No rule expires or depends on the mode."""
        return not self._passing

    def call(self, entry: Entry, input: ToolInput) -> Call:
        """`call_of` at this place."""
        return call_of(entry, input, self.place, self._parsed)

    def _parsed(self, text: str) -> Parsed:
        known = self._read.get(text)
        if known is None:
            known = self._read[text] = parse(text)
        return known

    def in_force(self, mode: Mode, now: float | None) -> Rules:
        """The rules that apply in a mode, at a time. Raises ValueError if one expires and `now` is
        None."""
        if not self._passing:
            return self
        held: list[bool] = []
        for rule in self._passing:
            if rule.expires is not None and now is None:
                raise ValueError("a rule has an end, and the time was not given")
            ended = rule.expires is not None and now is not None and now >= rule.expires
            held.append(not ended and (not rule.when.modes or mode in rule.when.modes))
        key = tuple(held)  # as many as there are modes, times ends: each comes once
        known = self._narrowed.get(key)
        if known is None:
            gone = {id(rule) for rule, holds in zip(self._passing, key, strict=True) if not holds}
            known = Rules([rule for rule in self.all if id(rule) not in gone], self.place)
            known._passing = []  # they hold as long as these are asked
            self._narrowed[key] = known
        return known

    def of(self, entry: Entry) -> ToolRules:
        """The rules about one tool, prepared once. A rule that does not fit the tool denies it,
        since its intent is unknown."""
        known = self._tools.get(entry.spec.name)
        if known is None or known.entry is not entry:
            known = self._tools[entry.spec.name] = self._ready(entry)
        return known

    def about(self, entry: Entry) -> list[Rule]:
        """The rules that name a tool, one of its effects, or its server."""
        name = entry.spec.name
        found = list(self._about.get(name, ()))
        found += [
            rule
            for rule in self._wide
            if names(rule.tool, name, surely=rule.action is Action.ALLOW)
        ]
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
            tightened=bool(bound[Action.DENY] or bound[Action.ASK]),
        )

    def file_tool(self, name: str) -> Entry:
        """The shipped `Read` or `Write`: files opened by a shell are decided as calls of it."""
        if name not in self._files:
            from lorimer.tools.builtin import builtin_tools

            registry = ToolRegistry()
            registry.register(builtin_tools([name])[0], granted=False)
            for entry in registry.entries():
                self._files[name] = entry
        return self._files[name]


def hidden(entry: Entry, rules: Rules, mode: Mode) -> str:
    """Why the model is not shown this tool; "" if it is: a rule denies all of its calls
    permanently, or it has an effect that the mode forbids. It is then also unknown when called by
    name."""
    for rule in rules.of(entry).deny.bare:
        if rule.expires is None and (not rule.when.modes or mode in rule.when.modes):
            return rule.title
    effects = sorted([effect for effect in entry.effects if Kind(effect) in FORBIDDEN[mode]])
    return _forbidden(mode, effects[0]) if effects else ""


def _forbidden(mode: Mode, what: str) -> str:
    return f"the permission mode {mode.value} forbids {what}"


def decide(
    call: Call,
    rules: Rules,
    mode: Mode,
    *,
    tainted: bool = False,
    isolated: bool = False,
    now: float | None = None,
) -> Decision:
    """Decide one call.

    `tainted`: the conversation contains untrusted content. `isolated`: what a command line starts
    is confined by a sandbox of level 2 without network. `now`: seconds since 1970, for rules that
    expire; if there are such rules and it is None, nothing is allowed. The same arguments give the
    same decision.
    """
    try:
        decision = _decide(call, rules.in_force(mode, now), mode, tainted, isolated)
    except Exception as error:  # noqa: BLE001 - failing to decide means no
        why = f"it could not be decided: {error}"
        return _said(call, mode, Action.DENY, UNDECIDED, why=why)
    if decision.resources is call.resources:
        return decision
    return replace(
        decision, kinds=call.kinds, resources=call.resources
    )  # what a shell opens did it


def _said(
    call: Call, mode: Mode, action: Action, code: str, rules: tuple[Rule, ...] = (), why: str = ""
) -> Decision:
    return Decision(action, code, rules, mode, call.kinds, call.resources, why)


def _decide(call: Call, rules: Rules, mode: Mode, tainted: bool, isolated: bool) -> Decision:
    about = rules.of(call.entry)
    denied = about.deny.possible(call)
    if denied:
        return _said(call, mode, Action.DENY, BY_RULE, denied)
    if not FORBIDDEN[mode].isdisjoint(call.kinds):
        what = min(FORBIDDEN[mode] & call.kinds)
        return _said(call, mode, Action.DENY, BY_MODE, why=_forbidden(mode, what))
    covering = () if call.entry.granted else about.allow.certain(call)
    exact = call.entry.granted or (len(covering) == 1 and covering[0].exact)
    decision = _unless_asked(call, about, _allowed(call, about, covering, exact, mode, isolated))
    for use in call.resources if call.entry.tool.commands else ():
        if isinstance(use, CommandUse):
            for opened in _opened(call, use, rules, mode, exact):
                decision = min(decision, opened, key=strictness)
            if ("<" in use.text or ">" in use.text) and may_open_more(use):
                for opened in _perhaps_opened(call, use, rules, mode):
                    decision = min(decision, opened, key=strictness)
    if (
        tainted
        and decision.action is Action.ALLOW
        and not exact
        and mode is not Mode.BYPASS
        and not _RISKY.isdisjoint(call.kinds)
    ):
        why = "words of strangers are in the conversation, and it could do what they say"
        decision = _said(call, mode, Action.ASK, TAINTED, why=why)
    if call.entry.tool.approval and decision.action is Action.ALLOW:
        decision = _said(call, mode, Action.ASK, BY_TOOL, why=call.entry.tool.approval)
    if mode is Mode.DONT_ASK and decision.action is Action.ASK:
        return _said(call, mode, Action.DENY, NOBODY, decision.rules, decision.why)
    return decision


def strictness(decision: Decision) -> tuple[int, bool]:
    """Smaller is stricter. A refusal because nobody can be asked would be lifted by an answer given
    earlier, so any other refusal is stricter."""
    return decision.action, decision.code == NOBODY


def _allowed(
    call: Call,
    about: ToolRules,
    covering: tuple[Rule, ...],
    exact: bool,
    mode: Mode,
    isolated: bool,
) -> Decision:
    """The combined result of allow rules and the mode."""
    if exact:
        code = GRANTED if call.entry.granted else BY_RULE
        return _said(call, mode, Action.ALLOW, code, covering)
    if covering:  # a path that decides what runs later wants to be named
        rest = call.kinds & _NAMED_ONLY
    elif not about.lifted:
        rest = call.kinds
    else:
        rest = frozenset(
            [
                kind
                for kind in call.kinds
                if kind is Kind.PROTECTED or EFFECT_OF[kind] not in about.lifted
            ]
        )
    if not rest:
        return _said(call, mode, Action.ALLOW, BY_RULE, covering or about.lifting)
    if mode is Mode.SANDBOXED and isolated and call.entry.tool.confined:
        return _said(call, mode, Action.ALLOW, BY_MODE, why="a sandbox holds it")
    table = TABLE[mode]
    action = min([table[kind] for kind in rest])
    if action is Action.ALLOW:
        return _said(call, mode, action, BY_MODE)
    code = NOBODY if mode is Mode.DONT_ASK else BY_MODE
    return _said(call, mode, action, code, why=_uncovered(call, about))


def _uncovered(call: Call, about: ToolRules) -> str:
    """For a command: which part of it no rule covers."""
    for use in call.resources:
        if isinstance(use, CommandUse) and not about.allow.empty:
            return about.allow.uncovered(use)
    return ""


def _unless_asked(call: Call, about: ToolRules, decision: Decision) -> Decision:
    """Apply ask rules to the decision so far."""
    mode = decision.mode
    if about.ask.empty:
        return decision
    asking = about.ask.possible(call)
    if mode is Mode.BYPASS:
        asking = tuple([rule for rule in asking if SOURCES[rule.source].final])
    if not asking or decision.action is Action.DENY:
        return decision
    return _said(call, mode, Action.ASK, BY_RULE, asking)


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
            yield _said(inner, mode, Action.DENY, BY_RULE, denied)
            continue
        covering = about.allow.certain(inner)
        said = (exact and not path.elsewhere) or (len(covering) == 1 and covering[0].exact)
        yield _unless_asked(inner, about, _allowed(inner, about, covering, said, mode, False))


def _perhaps_opened(call: Call, use: CommandUse, rules: Rules, mode: Mode) -> Iterable[Decision]:
    """What rules that name files deny, or ask about, of those that a shell might open for a line
    that is not understood, or that another shell gets."""
    about = {name: rules.of(rules.file_tool(name)) for name in ("Read", "Write")}
    sides = {
        name: [
            (action, side)
            for action, side in ((Action.DENY, each.deny), (Action.ASK, each.ask))
            if side.named
        ]
        for name, each in about.items()
    }
    if not any(sides.values()):
        return
    for name, path in perhaps_redirected(use, rules.place, call.folder):
        entry = rules.file_tool(name)
        inner = Call(entry, {path.argument: path.text}, entry.kinds, (path,))
        for action, side in sides[name]:
            named = [rule for rule in side.possible(inner) if rule.input is not None]
            if action is Action.ASK and mode is Mode.BYPASS:
                named = [rule for rule in named if SOURCES[rule.source].final]
            if named:
                yield _said(inner, mode, action, BY_RULE, tuple(named))
