"""What holds of the permission engine whatever the rules: a state machine that adds rules of all
sources, changes modes, and decides calls. 200,000 steps in the campaign."""

from __future__ import annotations

import os
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from lorimer.tools import Rule, Tool, ToolContext, ToolInput, ToolRegistry, ToolResult
from lorimer.tools.builtin import builtin_tools
from lorimer.tools.policy.effects import Call, Place, call_of
from lorimer.tools.policy.engine import Rules, decide, hidden
from lorimer.tools.policy.modes import Action, Mode
from lorimer.tools.policy.sources import SOURCES, Source
from lorimer.tools.registry import Entry

FULL = os.environ.get("LORIMER_CAMPAIGN") == "1"
STEPS = 50
EXAMPLES = 4000 if FULL else 100

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


@cache
def entries() -> dict[str, tuple[Entry, Entry]]:
    """Each tool, as the host's own and as not."""
    tools = [*builtin_tools(["Write", "Read", "Bash"]), Get(), Own()]
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


rules = st.builds(
    lambda named, action, source, pattern: Rule.parse(
        named,
        pattern=pattern or named.startswith("@"),
        action=action if SOURCES[source].allow == "always" else min(action, Action.ASK),
        source=source,
    ),
    st.sampled_from([f"{tool}{spec}" for tool, specs in SPECS.items() for spec in specs]),
    st.sampled_from(Action),
    st.sampled_from(Source),
    st.booleans(),
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

    def loosened(self, call: Call, other: Rules, mode: Mode) -> bool:
        before = decide(call, self.rules, mode, tainted=self.tainted)
        after = decide(call, other, mode, tainted=self.tainted)
        return after.action > before.action or (
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
        args = {"tainted": self.tainted, "isolated": isolated}
        decision = decide(call, self.rules, mode, **args)
        assert decision == decide(call, Rules(self.rules.all, PLACE), mode, **args)
        backwards = decide(call, Rules(self.rules.all[::-1], PLACE), mode, **args)
        assert backwards.action is decision.action  # which of several rules is told may differ
        if decision.action is Action.ALLOW:
            assert decision.code in {"policy.granted", "policy.rule", "policy.mode"}
            assert not hidden(call.entry, self.rules, mode)
        if mode is Mode.DONT_ASK:
            assert decision.action is not Action.ASK

    @rule(call=calls)
    def modes_are_ordered(self, call: Call) -> None:
        found = [decide(call, self.rules, mode, tainted=self.tainted).action for mode in ORDERED]
        assert all(stricter <= looser for stricter, looser in pairwise(found)), found
        nobody = decide(call, self.rules, Mode.DONT_ASK, tainted=self.tainted)
        asked = decide(call, self.rules, Mode.DEFAULT, tainted=self.tainted)
        assert nobody.action is (Action.ALLOW if asked.action is Action.ALLOW else Action.DENY)

    @rule(call=calls, mode=modes)
    def strangers_do_not_loosen(self, call: Call, mode: Mode) -> None:
        clean = decide(call, self.rules, mode)
        assert decide(call, self.rules, mode, tainted=True).action <= clean.action

    @rule()
    def strangers_speak(self) -> None:
        self.tainted = True

    @rule(call=calls, mode=modes)
    def a_denial_is_the_last_word(self, call: Call, mode: Mode) -> None:
        bare = Rule.parse(call.entry.spec.name, action=Action.DENY, source=Source.HOOK)
        other = Rules([*self.rules.all, bare], PLACE)
        assert decide(call, other, mode).action is Action.DENY
        assert hidden(call.entry, other, mode)

    @invariant()
    def reading_in_the_workspace_needs_nobody(self) -> None:
        if not any(found.action is not Action.ALLOW for found in self.rules.all):
            call = call_named("Read", "a.txt", False)
            for mode in Mode:
                assert decide(call, self.rules, mode).action is Action.ALLOW


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
