"""What is decided before a call: who may put a tool into an agent, who is shown it; and rules that
hold for some, in some modes, or until a day."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from lorimer.core.errors import ConfigError
from lorimer.core.manifest import EnvironmentManifest
from lorimer.models.registry import Models
from lorimer.models.scripted import ScriptedModel
from lorimer.pipeline import Pipeline
from lorimer.presets import preset_manifest
from lorimer.testing import SimulatedWorld, simulate
from lorimer.tools import Person, Rule, Tool, ToolContext, ToolInput, ToolRegistry, ToolResult
from lorimer.tools.permissions import Policy
from lorimer.tools.policy.modes import Action, Mode
from lorimer.tools.policy.people import Parties, check_author
from lorimer.tools.policy.sources import Source
from lorimer.tools.policy.when import When, moment
from lorimer.tools.rule_files import reading

ANA, BEN = Person("ana", frozenset({"admin"})), Person("ben")
DAY = 86_400.0


class Call(Tool):
    """One of a server's."""

    input_schema = {"type": "object", "properties": {"title": {"type": "string"}}}  # noqa: RUF012
    subject = "title"

    def __init__(self, name: str = "mcp__hub__create") -> None:
        self.name = name

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        return ToolResult("done")


def made(manifest: EnvironmentManifest, model: ScriptedModel, **options: object) -> Pipeline:
    manifest.model.model = "scripted:x"
    models = Models(providers={"scripted": model})
    return Pipeline(manifest, models=models, **options)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def rule(text: str, action: Action = Action.ALLOW, **more: object) -> Rule:
    return Rule.parse(text, pattern=True, action=action, source=Source.USER, **more)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def action(
    tool: Tool,
    rules: Sequence[Rule],
    *,
    mode: Mode = Mode.DEFAULT,
    agent: str = "",
    caller: Person | None = None,
    now: float | None = None,
    subject: str = "x",
) -> Action:
    registry = ToolRegistry()
    registry.register(tool, granted=False)
    (entry,) = registry.entries()
    policy = Policy(rules, mode, None, agent=agent, parties=Parties(caller=caller))
    policy.check([entry])
    return policy.decide(entry, {tool.subject: subject}, tainted=False, now=now).action


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "tool", "allows", "denies"),
    [
        ("mcp:hub/create", "mcp__hub__create", True, True),
        ("mcp:hub", "mcp__hub__create", True, True),
        ("mcp:hub/*", "mcp__hub__create", True, True),
        ("mcp:*/create", "mcp__hub__create", True, True),
        ("mcp:*", "mcp__hub__create", True, True),
        ("mcp:hub/create(y*)", "mcp__hub__create", False, False),
        ("mcp:hub/create(x*)", "mcp__hub__create", True, True),
        ("mcp:hub/delete", "mcp__hub__create", False, False),
        ("mcp:hu", "mcp__hub__create", False, False),
        ("mcp:hub", "mcp__hub__evil__create", False, True),  # whose is it?
        ("mcp:hub/create", "mcp__hub__evil__create", False, True),
        ("mcp:*", "Create", False, False),
        ("mcp:*", "mcp__hub", False, True),
        ("@send", "mcp__hub__create", False, True),  # it may do more than that
    ],
)
def test_tools_of_servers(text: str, tool: str, allows: bool, denies: bool) -> None:
    found = action(Call(tool), [rule(text)])
    assert (found is Action.ALLOW) is allows
    found = action(Call(tool), [rule(text, Action.DENY)])
    assert (found is Action.DENY) is denies


def test_a_star_is_about_all_and_allows_nothing() -> None:
    assert action(Call(), [rule("*", Action.DENY)], mode=Mode.BYPASS) is Action.DENY
    assert action(Call(), [rule("mcp:*"), rule("*", Action.ASK)]) is Action.ASK
    with pytest.raises(ConfigError, match="nothing allows everything"):
        rule("*")
    assert action(Call(), [Rule("*", pattern=True, source=Source.USER)]) is Action.ASK


@pytest.mark.parametrize(
    "text",
    ["mcp:", "mcp:a/b/c", "mcp:a__b", "mcp:a/*(x)", "mcp:a(x)", "*(x)", "@net(x)", "@nte", "a b"],
)
def test_what_names_no_tool(text: str) -> None:
    with pytest.raises(ConfigError):
        rule(text, Action.DENY)


# --- when ----------------------------------------------------------------------------------------


def test_a_rule_of_some_modes() -> None:
    rules = [rule("mcp:*", when=When(modes=frozenset({Mode.ACCEPT_EDITS})))]
    assert action(Call(), rules) is Action.ASK
    assert action(Call(), rules, mode=Mode.ACCEPT_EDITS) is Action.ALLOW
    denied = [rule("*", Action.DENY, when=When(modes=frozenset({Mode.BYPASS})))]
    assert action(Call(), denied) is Action.ASK
    assert action(Call(), denied, mode=Mode.BYPASS) is Action.DENY


def test_a_rule_for_some_callers() -> None:
    for names in ({"ana"}, {"@admin"}, {"zoe", "@admin"}):
        rules = [rule("mcp:*", when=When(callers=frozenset(names)))]
        assert action(Call(), rules, caller=ANA) is Action.ALLOW
        assert action(Call(), rules, caller=BEN) is Action.ASK
        assert action(Call(), rules) is Action.ASK  # nobody said who
    with pytest.raises(ConfigError, match="no @"):
        Person("@admin")


def test_what_allows_does_not_rest_on_what_an_agent_calls_itself() -> None:
    when = When(agents=frozenset({"reviewer"}))
    denied = [rule("mcp:*", Action.DENY, when=when)]
    assert action(Call(), denied, agent="reviewer") is Action.DENY
    assert action(Call(), denied, agent="other") is Action.ASK
    with pytest.raises(ConfigError, match="cannot rest on the name of an agent"):
        rule("mcp:*", when=when)


def test_a_rule_ends_on_its_day() -> None:
    for name, before, after in (
        (Action.ALLOW, Action.ALLOW, Action.ASK),
        (Action.DENY, Action.DENY, Action.ASK),
    ):
        rules = [rule("mcp:*", name, expires=DAY)]
        assert action(Call(), rules, now=DAY - 1) is before
        assert action(Call(), rules, now=DAY) is after
        assert action(Call(), rules) is Action.DENY  # nobody says what time it is


def test_the_end_of_a_rule_is_read_off_the_worlds_clock() -> None:
    async def main(world: SimulatedWorld) -> list[bool]:
        ends = world.time() + 3600
        model = ScriptedModel.obedient()
        registry = ToolRegistry()
        registry.register(Call(), granted=False)
        agent = made(
            preset_manifest("chat"),
            model,
            world=world,
            tools=registry,
            rules=[rule("mcp:*", expires=ends)],
        )
        refused: list[bool] = []
        async with agent:
            for _ in range(2):
                await agent.run('CALL mcp__hub__create {"title": "x"}')
                refused.append("access_denied" in str(model.requests[-1].messages))
                await world.sleep(4000)
        return refused

    assert simulate(main) == [False, True]


def test_what_a_file_says_of_when() -> None:
    said = reading.read(
        """
        [[rule]]
        allow = "mcp:hub/create"
        when = { mode = ["default", "acceptEdits"], caller = "@admin" }
        expires = 2027-01-31
        [[rule]]
        deny = "mcp:*"
        when = { agent = "reviewer" }
        expires = "2027-01-31T12:00:00+01:00"
        """,
        "rules.toml",
        Source.USER,
        lambda name: None,
    )
    first, second = said.rules
    assert first.when == When(
        frozenset({Mode.DEFAULT, Mode.ACCEPT_EDITS}), callers=frozenset({"@admin"})
    )
    assert (first.expires or 0) + 11 * 3600 == second.expires
    assert second.title == "user rule deny mcp:* in agent reviewer until 2027-01-31 11:00:00Z"
    assert first.title.endswith("in mode acceptEdits, default for @admin until 2027-01-31")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("when = 3", "rule 1: when has to be a table"),
        ('when = { mod = "plan" }', "did you mean 'mode'"),
        ('when = { mode = "dontask" }', "did you mean 'dontAsk'"),
        ("when = { caller = [] }", "a text or a list of texts"),
        ('when = { caller = [""] }', "a text or a list of texts"),
        ('expires = "soon"', "rule 1: expires: 'soon' is not a date"),
        ("expires = 2027-01-31T12:00:00", "a time with its zone"),
        ("expires = 3", "a date, or a time with its zone"),
        ('when = { agent = "x" }', "cannot rest on the name"),
    ],
)
def test_what_a_file_cannot_say_of_when(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        reading.read(
            f'[[rule]]\nallow = "Bash"\n{text}\n', "r.toml", Source.USER, lambda name: None
        )
    assert str(caught.value).startswith("r.toml: ")
    assert "\n" not in str(caught.value)


def test_a_hook_in_a_file_may_be_about_a_tool_that_is_not_shipped() -> None:
    for tool in ("orders_refund", "mcp__hub__create", "mcp__*"):
        text = f'[[hook]]\nevent = "PreToolUse"\nrun = ["true"]\ntools = ["{tool}"]\n'
        said = reading.read(text, "r.toml", Source.USER, lambda name: None)
        assert said.hooks[0].tools == (tool,)


def test_dates_of_text_and_of_toml_are_the_same() -> None:
    assert moment("1970-01-02", "x") == moment("1970-01-02T00:00:00Z", "x") == DAY


# --- the author, and whom an agent is shared with ------------------------------------------------


class Secret(Call):
    author_requires = "admin"
    callers = frozenset({"admin"})
    share_safe = True


def test_only_some_authors_put_a_tool_into_an_agent() -> None:
    tool = Secret("Secret")
    check_author([tool], ANA)
    check_author([Call()], None)
    for author in (BEN, None):
        with pytest.raises(ConfigError, match="with the role 'admin' puts Secret"):
            check_author([tool], author)


def shown(manifest: EnvironmentManifest, **who: Person) -> list[str]:
    model = ScriptedModel(["done"])
    made(manifest, model, workspace=".", **who).run_sync("hi")
    return [tool.name for tool in model.requests[0].tools]


def test_an_agent_that_others_run_keeps_what_is_safe_to_share() -> None:
    manifest = preset_manifest("agent")
    manifest.tools.built_in = ["Read", "Grep", "Bash", "Write"]
    assert shown(manifest) == shown(manifest, author=ANA, caller=ANA)
    assert shown(manifest, author=ANA, caller=BEN) == ["Read", "Grep"]
    assert shown(manifest, author=ANA) == ["Read", "Grep"]  # nobody said who runs it
    assert "Bash" in shown(manifest, caller=BEN)  # the host's own agent


def test_a_tool_for_some_callers_is_there_for_nobody_else() -> None:
    registry = ToolRegistry([Secret("Secret")])
    (entry,) = registry.entries()
    for caller, there in ((ANA, True), (BEN, False), (None, False)):
        policy = Policy([], Mode.BYPASS, None, parties=Parties(caller=caller))
        assert (policy.hidden(entry) == "") is there
    for author, there in ((ANA, True), (BEN, True), (None, True)):
        policy = Policy([], Mode.DEFAULT, None, parties=Parties(author, ANA))
        assert (policy.hidden(entry) == "") is there


def test_what_is_not_shared_is_unknown_when_it_is_called_by_name() -> None:
    model = ScriptedModel.obedient()
    agent = made(preset_manifest("chat"), model, tools=[Call()], author=ANA, caller=BEN)
    agent.run_sync('CALL mcp__hub__create {"title": "x"}')
    assert "exec.tool.unknown" in str(model.requests[-1].messages)
