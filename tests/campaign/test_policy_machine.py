"""What holds of the permission engine whatever the rules: a state machine that adds rules of all
sources, for some modes or until some time, lets time pass, changes modes, and decides calls.
More than 200,000 steps in the campaign."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from lorimer.tools import Rule, Tool, ToolContext, ToolInput, ToolRegistry, ToolResult
from lorimer.tools.builtin import builtin_tools
from lorimer.tools.policy.effects import Call, Place, call_of
from lorimer.tools.policy.engine import Decision, Rules, decide, hidden
from lorimer.tools.policy.modes import Action, Mode
from lorimer.tools.policy.sources import SOURCES, Source
from lorimer.tools.policy.when import When
from lorimer.tools.registry import Entry

FULL = os.environ.get("LORIMER_CAMPAIGN") == "1"
STEPS = 50
EXAMPLES = 5000 if FULL else 100

PLACE = Place("/work", ("/work",), "/home/me")
SPECS = {
    "Write": ["", "(./out/**)", "(a.txt)", "(**/*.md)", "(//etc/**)", "(~/x)", "(.git/config)"],
    "Read": ["", "(./secret/**)", "(a.txt)", "(**/.env)"],
    "Bash": ["", "(ls **)", "(git log **)", "(git push)", "(rm **)", "(ls; rm x)", "(* x)"],
    "Get": ["", "(a.org)", "(*.a.org)", "(*)", "(how=f*)"],
    "Own": ["", "(x)", "(how=f*)"],
    "@exec": [""],
    "@write": [""],
    "@net": [""],
    "@send": [""],
    "@read": [""],
    "mcp:hub": [""],
    "mcp:hub/create": ["", "(x)", "(how=f*)"],
    "mcp:*/create": [""],
    "mcp:*": [""],
    "*": [""],
}
CALLS = {
    "Write": ["a.txt", "out/x.md", "/etc/passwd", ".git/config", "out/../a.txt", "/home/me/x", "."],
    "Read": ["a.txt", "secret/x", "/etc/passwd", ".env"],
    "Bash": [
        "ls", "ls -l | head", "git log -3", "git push", "rm x", "ls; rm x", "ls $(rm x)",
        "ls > out/x", "ls > /etc/x", "cd out && ls > x", "ls x", "echo 'rm' x", "nice rm x",
    ],
    "Get": ["https://a.org/", "https://b.a.org/", "https://evil.org/", "nothing", "http://a.org\\@b"],
    "Own": ["x", "y"],
    "mcp__hub__create": ["x", "y"],
    "mcp__hub__evil__create": ["x"],
}  # fmt: skip


class Get(Tool):
    name = "Get"
    input_schema = {  # noqa: RUF012
        "type": "object",
        "properties": {"url": {"type": "string"}, "how": {"type": "string"}},
    }
    effects = frozenset({"net"})
    subject = "url"
    urls = frozenset({"url"})

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        return ToolResult("done")


class Own(Get):
    name = "Own"
    effects = frozenset({"send", "secret", "write"})
    urls = frozenset()


class Served(Own):
    """One of a server's."""

    def __init__(self, name: str) -> None:
        self.name = name


@cache
def entries() -> dict[str, tuple[Entry, Entry]]:
    """Each tool, as the host's own and as not."""
    served = [Served(name) for name in CALLS if name.startswith("mcp__")]
    tools = [*builtin_tools(["Write", "Read", "Bash"]), Get(), Own(), *served]
    found: dict[str, tuple[Entry, Entry]] = {}
    for tool in tools:
        pair: list[Entry] = []
        for granted in (False, True):
            registry = ToolRegistry()
            registry.register(tool, granted=granted)
            pair.extend(registry.entries())
        found[str(tool.name)] = (pair[0], pair[1])
    return found


@cache
def call_named(tool: str, text: str, granted: bool) -> Call:
    entry = entries()[tool][granted]
    return call_of(entry, {entry.tool.subject: text, "how": "fast"}, PLACE)


def made(
    named: str,
    action: Action,
    source: Source,
    pattern: bool,
    modes: frozenset[Mode],
    expires: float | None,
) -> Rule:
    tool = named.partition("(")[0]
    if tool == "*" or SOURCES[source].allow != "always":
        action = min(action, Action.ASK)
    wide = tool[0] == "@" or tool.startswith("mcp:") or tool == "*"
    return Rule.parse(
        named,
        pattern=pattern or wide,
        action=action,
        source=source,
        when=When(modes),
        expires=expires,
    )


rules = st.builds(
    made,
    st.sampled_from([f"{tool}{spec}" for tool, specs in SPECS.items() for spec in specs]),
    st.sampled_from(Action),
    st.sampled_from(Source),
    st.booleans(),
    st.just(frozenset[Mode]()) | st.frozensets(st.sampled_from(Mode), max_size=2),
    st.none() | st.sampled_from([1.0, 2.0, 3.0]),
)
calls = st.builds(
    lambda named, granted: call_named(*named, granted),
    st.sampled_from([(tool, text) for tool, texts in CALLS.items() for text in texts]),
    st.booleans(),
)
modes = st.sampled_from(Mode)
ORDERED = (Mode.PLAN, Mode.DEFAULT, Mode.BYPASS)


class Engine(RuleBasedStateMachine):
    @initialize(given=st.lists(rules, max_size=8))
    def begin(self, given: list[Rule]) -> None:
        self.rules = Rules(given, PLACE)
        self.tainted = False
        self.now = 0.0

    def decided(self, call: Call, rules: Rules, mode: Mode, *, isolated: bool = False) -> Decision:
        return decide(call, rules, mode, tainted=self.tainted, isolated=isolated, now=self.now)

    def loosened(self, call: Call, other: Rules, mode: Mode) -> bool:
        before, after = self.decided(call, self.rules, mode), self.decided(call, other, mode)
        return after.action > before.action or bool(
            hidden(call.entry, self.rules, mode) and not hidden(call.entry, other, mode)
        )

    @rule(more=rules, call=calls, mode=modes)
    def a_rule_is_added(self, more: Rule, call: Call, mode: Mode) -> None:
        other = Rules([*self.rules.all, more], PLACE)
        if more.action is not Action.ALLOW:  # all that an untrusted source can say
            assert not self.loosened(call, other, mode), (more, call, mode)
        self.rules = other

    @rule(call=calls, mode=modes, isolated=st.booleans())
    def a_call_is_made(self, call: Call, mode: Mode, isolated: bool) -> None:
        decision = self.decided(call, self.rules, mode, isolated=isolated)
        same = Rules(self.rules.all, PLACE)
        assert decision == self.decided(call, same, mode, isolated=isolated)
        assert self.rules.call(call.entry, call.input) == call  # also what it remembers of it
        backwards = self.decided(call, Rules(self.rules.all[::-1], PLACE), mode, isolated=isolated)
        assert backwards.action is decision.action  # which of several rules is told may differ
        if decision.action is Action.ALLOW:
            assert decision.code in {"policy.granted", "policy.rule", "policy.mode"}
            assert not hidden(call.entry, self.rules, mode)
        if mode is Mode.DONT_ASK:
            assert decision.action is not Action.ASK
        for told in decision.rules:
            assert told.expires is None or self.now < told.expires
            assert not told.when.modes or mode in told.when.modes

    @rule(call=calls)
    def modes_are_ordered(self, call: Call) -> None:
        every = Rules([found for found in self.rules.all if not found.when.modes], PLACE)
        found = [self.decided(call, every, mode).action for mode in ORDERED]
        assert all(stricter <= looser for stricter, looser in pairwise(found)), found
        nobody = self.decided(call, every, Mode.DONT_ASK)
        asked = self.decided(call, every, Mode.DEFAULT)
        assert nobody.action is (Action.ALLOW if asked.action is Action.ALLOW else Action.DENY)

    @rule(call=calls, mode=modes)
    def a_rule_that_does_not_hold_is_as_if_it_did_not_stand_there(
        self, call: Call, mode: Mode
    ) -> None:
        held = [
            replace(found, when=When(), expires=None)
            for found in self.rules.all
            if (found.expires is None or self.now < found.expires)
            and (not found.when.modes or mode in found.when.modes)
        ]
        assert (
            self.decided(call, Rules(held, PLACE), mode).action
            is self.decided(call, self.rules, mode).action
        )

    @rule(call=calls, mode=modes)
    def without_the_time_nothing_is_allowed_where_rules_end(self, call: Call, mode: Mode) -> None:
        if any(found.expires is not None for found in self.rules.all):
            decision = decide(call, self.rules, mode)
            assert (decision.action, decision.code) == (Action.DENY, "policy.undecided")

    @rule(call=calls, mode=modes)
    def strangers_do_not_loosen(self, call: Call, mode: Mode) -> None:
        clean = decide(call, self.rules, mode, now=self.now)
        tainted = decide(call, self.rules, mode, tainted=True, now=self.now)
        assert tainted.action <= clean.action

    @rule()
    def strangers_speak(self) -> None:
        self.tainted = True

    @rule()
    def time_passes(self) -> None:
        self.now += 1

    @rule(call=calls, mode=modes, name=st.sampled_from(["", "*"]))
    def a_denial_is_the_last_word(self, call: Call, mode: Mode, name: str) -> None:
        name = name or call.entry.spec.name
        bare = Rule.parse(name, pattern=True, action=Action.DENY, source=Source.HOOK)
        other = Rules([*self.rules.all, bare], PLACE)
        assert self.decided(call, other, mode).action is Action.DENY
        assert hidden(call.entry, other, mode)

    @rule(call=calls, mode=modes)
    def what_is_hidden_is_never_allowed(self, call: Call, mode: Mode) -> None:
        if hidden(call.entry, self.rules, mode):
            for now in (self.now, self.now + 10):
                later = decide(call, self.rules, mode, now=now)
                assert later.action is Action.DENY

    @invariant()
    def reading_in_the_workspace_needs_nobody(self) -> None:
        if not any(found.action is not Action.ALLOW for found in self.rules.all):
            call = call_named("Read", "a.txt", False)
            for mode in Mode:
                assert self.decided(call, self.rules, mode).action is Action.ALLOW


Engine.TestCase.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=not FULL,
)


@pytest.mark.timeout(0)
class TestEngine(Engine.TestCase):  # type: ignore[misc, name-defined]
    pass
