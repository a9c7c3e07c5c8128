"""The permission engine: rules, sources, modes, what a call touches, and one decision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lorimer import PipelinePresets
from lorimer import tool as as_tool
from lorimer.cli.policy_files import shipped
from lorimer.core.errors import ConfigError
from lorimer.core.jsonable import JSON, dumps
from lorimer.tools import Rule, Tool, ToolContext, ToolInput, ToolRegistry, ToolResult
from lorimer.tools.builtin import builtin_tools
from lorimer.tools.policy.effects import Place, call_of, host_use, path_use
from lorimer.tools.policy.engine import Decision, Rules, decide, hidden
from lorimer.tools.policy.modes import Action, Mode
from lorimer.tools.policy.rules import bind
from lorimer.tools.policy.sources import Source
from lorimer.tools.rule_files.reading import read

ALLOW, ASK, DENY = Action.ALLOW, Action.ASK, Action.DENY


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


class Mail(Get):
    name = "Mail"
    effects = frozenset({"send"})
    subject = "how"
    urls = frozenset()


class Pack(Get):
    name = "Pack"
    input_schema = {  # noqa: RUF012
        "type": "object",
        "properties": {
            "files": {"type": "array"},
            "into": {"type": "string"},
            "how": {"type": "string"},
        },
    }
    effects = frozenset({"write"})
    subject = "files"
    paths = frozenset({"files", "into"})
    urls = frozenset()


class Anything(Mail):
    name = "Anything"
    effects = Tool.effects


def rule(text: str, action: Action = ALLOW, source: Source = Source.USER, **more: Any) -> Rule:
    return Rule.parse(text, pattern=True, action=action, source=source, **more)


class World:
    """The shipped tools and some others in a workspace, with what links lead out of it."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.workspace = base / "work"
        self.workspace.mkdir()
        (self.workspace / "out").mkdir()
        (base / "else").mkdir()
        (self.workspace / "leads_out").symlink_to(base / "else")
        (self.workspace / "out" / "back").symlink_to(self.workspace)
        self.registry = ToolRegistry()
        for tool in (*builtin_tools(["*"]), Get(), Mail(), Pack(), Anything()):
            if tool.name not in self.registry:
                self.registry.register(tool, granted=False)
        self.place = Place.of(self.workspace)

    def decide(
        self,
        tool: str,
        subject: JSON,
        rules: Sequence[Rule] = (),
        mode: Mode = Mode.DEFAULT,
        **how: bool,
    ) -> Decision:
        entry = self.registry.entry(tool)
        assert entry is not None
        call = call_of(entry, {entry.tool.subject: subject}, self.place)
        return decide(call, Rules(rules, self.place), mode, **how)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# --- the table of modes --------------------------------------------------------------------------

CASES = {
    "read inside": ("Read", "a.txt"),
    "read outside": ("Read", "/etc/hostname"),
    "write inside": ("Write", "a.txt"),
    "write outside": ("Write", "/etc/hostname"),
    "exec": ("Bash", "make"),
    "net": ("Get", "https://example.org/"),
    "send": ("Mail", "x"),
    "everything": ("Anything", "x"),
    "protected": ("Write", ".git/hooks/pre-commit"),
}


@pytest.mark.parametrize(
    ("what", "expected"),
    [  # plan default acceptEdits sandboxed dontAsk bypass
        ("read inside", "allow allow allow allow allow allow"),
        ("read outside", "deny ask ask ask deny allow"),
        ("write inside", "deny ask allow allow deny allow"),
        ("write outside", "deny ask ask ask deny allow"),
        ("exec", "deny ask ask ask deny allow"),
        ("net", "ask ask ask ask deny allow"),
        ("send", "deny ask ask ask deny allow"),
        ("everything", "deny ask ask ask deny ask"),
        ("protected", "deny ask ask ask deny ask"),
    ],
)
def test_what_no_rule_is_about_follows_the_table(world: World, what: str, expected: str) -> None:
    tool, subject = CASES[what]
    found = [world.decide(tool, subject, mode=mode) for mode in Mode]
    assert " ".join([decision.action.name.lower() for decision in found]) == expected
    assert {decision.code for decision in found} <= {"policy.mode", "policy.nobody", "policy.rule"}


def test_a_sandbox_is_what_lets_commands_run_in_the_mode_of_that_name(world: World) -> None:
    for mode in Mode:
        held = world.decide("Bash", "make", mode=mode, isolated=True)
        free = world.decide("Bash", "make", mode=mode)
        assert held.action is (ALLOW if mode is Mode.SANDBOXED else free.action)
    written = world.decide("Bash", "make > /etc/x", mode=Mode.SANDBOXED, isolated=True)
    assert written.action is ASK
    other = world.decide("Anything", "x", mode=Mode.SANDBOXED, isolated=True)
    assert other.action is ASK


def test_an_unknown_mode_is_told() -> None:
    with pytest.raises(ConfigError, match="did you mean 'dontAsk'"):
        Mode.named("dontask")


# --- deny > ask > allow --------------------------------------------------------------------------


@pytest.mark.parametrize("source", list(Source))
@pytest.mark.parametrize("mode", list(Mode))
def test_a_denial_of_any_source_binds_in_every_mode(
    world: World, source: Source, mode: Mode
) -> None:
    rules = [rule("Write"), rule("Write(./**)", DENY, source), Rule.parse("Write(a.txt)")]
    decision = world.decide("Write", "a.txt", rules, mode)
    assert decision.action is DENY
    assert decision.code == "policy.rule"
    assert decision.sources == (source,)


def test_asking_beats_allowing_and_becomes_no_where_nobody_is(world: World) -> None:
    rules = [rule("Write"), rule("Write(./secret/**)", ASK)]
    assert world.decide("Write", "a.txt", rules).action is ALLOW
    assert world.decide("Write", "secret/a.txt", rules).action is ASK
    nobody = world.decide("Write", "secret/a.txt", rules, Mode.DONT_ASK)
    assert (nobody.action, nobody.code) == (DENY, "policy.nobody")


def test_asking_does_not_loosen_what_the_mode_denies(world: World) -> None:
    assert world.decide("Write", "a.txt", [rule("Write", ASK)], Mode.PLAN).action is DENY


def test_in_bypass_only_managed_asking_stays(world: World) -> None:
    assert world.decide("Bash", "make", [rule("Bash", ASK)], Mode.BYPASS).action is ALLOW
    managed = rule("Bash", ASK, Source.MANAGED)
    assert world.decide("Bash", "make", [managed], Mode.BYPASS).action is ASK


def test_a_plan_is_not_carried_out_whatever_rules_allow(world: World) -> None:
    decision = world.decide("Write", "a.txt", [rule("Write")], Mode.PLAN)
    assert decision.action is DENY
    assert decision.by == "the permission mode plan forbids write"


def test_what_the_host_registered_is_granted_until_somebody_tightens(tmp_path: Path) -> None:
    registry = ToolRegistry([Mail()])
    entry = registry.entry("Mail")
    assert entry is not None
    place = Place.of(tmp_path)
    call = call_of(entry, {"how": "x"}, place)
    assert decide(call, Rules([], place), Mode.DONT_ASK).code == "policy.granted"
    assert decide(call, Rules([], place), Mode.PLAN).action is DENY
    tightened = Rules([rule("Mail", ASK, Source.MANIFEST)], place)
    assert decide(call, tightened, Mode.DEFAULT).action is ASK
    denied = Rules([rule("@send", DENY, Source.MANIFEST)], place)
    assert decide(call, denied, Mode.BYPASS).action is DENY


def test_what_wants_a_person_to_agree_asks_whoever_allows_it(tmp_path: Path) -> None:
    class Order(Mail):
        approval = "orders something"

    entry = ToolRegistry([Order()]).entry("Mail")
    assert entry is not None
    place = Place.of(tmp_path)
    call = call_of(entry, {"how": "x"}, place)
    for rules in ([], [rule("Mail")], [Rule.parse("Mail(x)")]):
        for mode in Mode:
            found = decide(call, Rules(rules, place), mode)
            if mode in (Mode.PLAN, Mode.DONT_ASK):
                assert found.action is DENY
            else:
                assert (found.action, found.code) == (ASK, "policy.tool")
                assert found.by == "orders something"


def test_what_wants_a_person_is_still_denied_what_a_rule_denies(tmp_path: Path) -> None:
    class Build(Mail):
        effects = frozenset({"exec"})
        subject = "command"
        commands = frozenset({"command"})
        approval = "builds something"

    entry = ToolRegistry([Build()]).entry("Mail")
    assert entry is not None
    place = Place.of(tmp_path)
    rules = Rules([rule("Mail(make **)"), rule("Write(./secret)", DENY)], place)
    for command, action in (("make x", ASK), ("make x > secret", DENY)):
        call = call_of(entry, {"command": command}, place)
        assert decide(call, rules, Mode.DEFAULT).action is action


def test_of_several_commands_each_has_to_be_covered(tmp_path: Path) -> None:
    class Shells(Mail):
        effects = frozenset({"exec"})
        subject = "all"
        commands = frozenset({"all"})

    registry, place = ToolRegistry(), Place.of(tmp_path)
    registry.register(Shells(), granted=False)
    entry = registry.entry("Mail")
    assert entry is not None
    rules = Rules([rule("Mail(ls **)"), rule("Mail(cat **)")], place)
    for commands, action in (("ls a", "cat b"), ALLOW), (("ls a", "rm b"), ASK):
        call = call_of(entry, {"all": list(commands)}, place)
        assert decide(call, rules, Mode.DEFAULT).action is action


@pytest.mark.parametrize(
    "command",
    [
        'echo "$X" > .env', "echo `date` >> .env", "echo x >| .env", "echo x &> .env",
        "{ echo; } > .env", "F=.env; echo $X > $F", 'D=sub; echo $X > "$D/.env"',
        "cd sub; echo $X > ../.env", "bash -c 'echo x > .env'", 'sh -c "echo > \\".env\\""',
        'echo $X > "my file"', "echo $X > my\\ file", "cd sub && echo $X > key", "echo $X > ~/.env",
        "cat $X < .env", "echo $(cat <.env)", "echo x <> .env", "echo $X > back/sub/key",
        "cd sub; cd a; cd ..; echo $X > key", "echo $X" + " > a" * 40_000,
        "D=sub; cd $D; echo $X > key", "cd none; cd sub; echo $X > key", "echo $X > $PWD/.env",
        "cd a; cd a; cd ../../sub; echo $X > key", 'cat < "$HOME/.env"', "cat < ${HOME}/.env",
        "cd $HOME; cat < x/.env", "cat < {.env,}", "F=.env; cat < ${F:-x}", "csh -c 'cat <.env'",
        "trap 'cat <.env' EXIT", "echo $X > 4",
        "".join([f"cd a{number}; " for number in range(40)]) + "cd sub; echo $X > key",
        "cd a; " * 8000 + "echo $X > x",
        "echo $X" + "".join([f" >f{number}" for number in range(6000)]),
    ],
)  # fmt: skip
def test_what_a_shell_may_open_is_denied_in_a_line_that_is_not_understood(
    world: World, command: str
) -> None:
    (world.workspace / "back").symlink_to(world.workspace)
    denied = [rule(f"{tool}(**/.env)", DENY) for tool in ("Write", "Read")]
    denied += [rule(f"Write(./{name})", DENY) for name in ("my file", "sub/key", "4")]
    found = world.decide("Bash", command, [*denied, Rule.parse(f"Bash({command})")], Mode.BYPASS)
    assert found.action is DENY
    asked = [replace(each, action=ASK) for each in denied]
    for mode, action in ((Mode.ACCEPT_EDITS, ASK), (Mode.DONT_ASK, DENY), (Mode.BYPASS, ALLOW)):
        told = world.decide("Bash", command, [*asked, Rule.parse(f"Bash({command})")], mode)
        assert told.action is action
    final = [replace(each, source=Source.MANAGED) for each in asked]
    assert world.decide("Bash", command, final, Mode.BYPASS).action is ASK


@pytest.mark.parametrize(
    "command",
    [
        'echo "$X" > out.txt', 'echo "$X" 2>/dev/null', "make 2>&1 | tee $X",
        "cat <<EOF\n.env\nEOF",
        "cat .env $X", "grep '>' $X", "make $X >&- 3>&4-", "echo ${X:-a,b} > c", "cat $X <{a,b}",
        "".join([f"cd a{number}; make $X > log; cd ..; " for number in range(20)]),
        "for ((i = 0; i < 3; i++)); do echo $i; done", "diff <(ls) a",
    ],
)  # fmt: skip
def test_other_lines_that_are_not_understood_stay_as_they_were(world: World, command: str) -> None:
    denied = [rule(f"{tool}(**/.env)", DENY) for tool in ("Write", "Read")]
    denied += [rule("Write(./4)", DENY), rule("Write(./-)", DENY), rule("Bash(rm **)", DENY)]
    denied += [rule("Write", DENY)]  # that is about files of which it is certain
    assert world.decide("Bash", command, denied, Mode.BYPASS).action is ALLOW


def test_a_literal_rule_is_about_the_subject_whatever_it_looks_like(world: World) -> None:
    literal = Rule.parse("Mail(url=x)")
    assert world.decide("Mail", "url=x", [literal]).action is ALLOW
    assert world.decide("Mail", "x", [literal]).action is ASK


def test_another_tool_of_the_same_name_is_decided_anew(world: World) -> None:
    class Reader(Mail):
        subject = "url"

    rules = Rules([Rule.parse("Mail(x)")], world.place)
    one, other = [ToolRegistry() for _ in range(2)]
    one.register(Mail(), granted=False)
    other.register(Reader(), granted=False)
    found = [
        decide(call_of(entry, {"how": "x"}, world.place), rules, Mode.DEFAULT).action
        for registry in (one, other, one)
        for entry in registry.entries()
    ]
    assert found == [ALLOW, ASK, ALLOW]


def test_rules_of_effects(world: World) -> None:
    lifted = world.decide("Get", "https://a.org/", [rule("@net")])
    assert (lifted.action, lifted.rules) == (ALLOW, (rule("@net"),))
    assert world.decide("Bash", "ls", [rule("@net", DENY)]).action is DENY  # it may use it
    assert world.decide("Write", "a", [rule("@net", DENY)]).action is ASK
    assert world.decide("Bash", "ls", [rule("@exec")]).action is ASK  # it may do more than that
    assert world.decide("Write", ".git/config", [rule("@write")]).action is ASK


def test_a_protected_path_wants_to_be_named(world: World) -> None:
    for mode in (Mode.DEFAULT, Mode.ACCEPT_EDITS, Mode.BYPASS):
        assert world.decide("Write", ".git/config", [rule("Write")], mode).action is ASK
    for path in (
        *(".GIT/config", "sub/.bashrc", ".lorimer/permissions.toml", "x/.vscode/a.json"),
        *(".zed/tasks.json", ".kiro/settings/mcp.json", "a/.gdbinit", ".PDBRC"),
    ):
        assert world.decide("Write", path, [rule("Write(./**)")]).action is ASK, path
    for path in ("/.git/config", "/x/.ssh/config"):  # not below a root
        assert world.decide("Write", path, [rule("Write(//**)")]).action is ASK, path
    assert world.decide("Write", "/x/y", [rule("Write(//**)")]).action is ALLOW
    named = [Rule.parse("Write(.git/config)")]
    assert world.decide("Write", ".git/config", named).action is ALLOW


SPELLED = (  # by some file system the same as .git, .ssh or a folder that rules are about
    *(".git./x", ".git . /x", "GIT~1/x", ".git::$INDEX_ALLOCATION/x"),
    *(".g\u200cit/x", ".Git\ufeff/x", ".\u017fsh/x", "a/.ba\u017fhrc"),
)


@pytest.mark.parametrize("path", SPELLED, ids=range(len(SPELLED)))
def test_however_a_file_system_lets_it_be_spelled(world: World, path: str) -> None:
    assert world.decide("Write", path, mode=Mode.ACCEPT_EDITS).action is ASK
    for text in (".git../x", "..git/x", "git/x", "git~/x", "a:b"):
        protected = text == ".git../x"
        found = world.decide("Write", text, mode=Mode.ACCEPT_EDITS).action
        assert found is (ASK if protected else ALLOW), text


@pytest.mark.parametrize("path", ["cafe\u0301/a", "CAF\u00c9/a", "caf\u00e9./a", "caf\u00e9/a"])
def test_a_rule_that_denies_is_about_every_spelling(world: World, path: str) -> None:
    denied = [rule("Write(./caf\u00e9/**)", DENY), rule("Write(./x/**)", DENY)]
    assert world.decide("Write", path, denied, Mode.ACCEPT_EDITS).action is DENY
    assert world.decide("Write", path, denied[:1], Mode.ACCEPT_EDITS).action is DENY
    ends = [rule("Write(./*.)", DENY)]
    assert world.decide("Write", "a.", ends, Mode.ACCEPT_EDITS).action is DENY
    allowed = [rule("Write(./caf\u00e9/**)")]
    spelled = path == "caf\u00e9/a"
    assert world.decide("Write", path, allowed).action is (ALLOW if spelled else ASK)


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        (".config/lorimer/permissions.toml", True),
        (".CONFIG/Lorimer/models.toml", True),
        (".local/share/lorimer/trusted.json", True),
        ("told/lorimer/permissions.toml", True),
        (".config", True),
        (".kube/config", True),
        (".config/fish/config.fish", True),
        ("dots/lorimer/permissions.toml", True),
        (".config/else/a.toml", False),
        ("lorimer/a.py", False),
    ],
)
def test_where_a_home_is_the_workspace_its_settings_are_protected(
    world: World, monkeypatch: pytest.MonkeyPatch, path: str, asked: bool
) -> None:
    home = world.workspace
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "told"))
    (home / ".config").mkdir()
    (home / "dots" / "lorimer").mkdir(parents=True)
    (home / "told").symlink_to(home / "dots")
    world.place = Place.of(home)
    said = world.decide("Write", path, mode=Mode.ACCEPT_EDITS)
    assert said.action is (ASK if asked else ALLOW)


# --- specs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "path", "fits"),
    [
        ("./out/*", "out/a.md", True),
        ("out/*", "out/a.md", True),
        ("./out/*", "out/sub/a.md", False),
        ("./out/**", "out/sub/a.md", True),
        ("./out/**", "out", True),
        ("./out/**", "output/a.md", False),
        ("./out/**", "other/a.md", False),
        ("./out/**", "out/../a.md", False),
        ("./out/**", "leads_out/a.md", False),
        ("./leads_out/**", "leads_out/a.md", False),
        ("./out/**", "out/back/a.md", False),
        ("./**", "out/back/a.md", True),
        ("**/*.md", "out/x/a.md", True),
        ("**/*.md", "/anywhere/a.md", True),
        ("./**/test_*.py", "a/b/test_x.py", True),
        ("./**/test_*.py", "test_x.py", True),
        ("./**/test_*.py", "a/atest_x.py", False),
        ("./a/**/b/**/c.txt", "a/x/b/c.txt", True),
        ("./a/**/b/**/c.txt", "a/b/b/y/c.txt", True),
        ("./a/**/b/**/c.txt", "a/x/c.txt", False),
        ("./a?.txt", "ab.txt", True),
        ("./a?.txt", "a/.txt", False),
        ("./A.txt", "a.txt", False),
        ("//etc/**", "/etc/x", True),
        ("//etc/**", "etc/x", False),
        ("./*a*b*", "xaybz", True),
        ("./*a*b*", "xbya", False),
        ("./[ab].txt", "a.txt", False),
        ("./[ab].txt", "[ab].txt", True),
    ],
)
def test_paths(world: World, spec: str, path: str, fits: bool) -> None:
    decision = world.decide("Write", path, [rule(f"Write({spec})")])
    assert (decision.action is ALLOW) is fits


@pytest.mark.parametrize(
    ("files", "action"),
    [
        (["out/a", "out/b"], ALLOW),
        (["out/a", "b"], ASK),
        (["b", "out/a"], ASK),
        (["out/a", "lib/b"], ASK),  # one rule has to cover all of them
        (["out/a", "secret/b"], DENY),
        (["out/a", "out/../secret/b"], DENY),
        (["out/a", "b\0"], DENY),
        (["out/a", "out/back/c"], ASK),
        ([], ASK),
    ],
)
def test_of_several_paths_each_counts(world: World, files: list[JSON], action: Action) -> None:
    rules = [rule("Pack(./out/**)"), rule("Pack(./lib/**)"), rule("Pack(./secret/**)", DENY)]
    assert world.decide("Pack", files, rules).action is action


def test_of_several_paths_one_that_cannot_be_known_is_not_covered(world: World) -> None:
    for files in (["out/a", "b\0"], ["b\0", "out/a"]):
        found = world.decide("Pack", files, [rule("Pack(./out/**)")])
        assert (found.action, found.code) == (ASK, "policy.mode")


@pytest.mark.parametrize(
    ("files", "how", "action"),
    [
        (["secret/a"], "fast", DENY),
        (["out/a", "SECRET/a"], "fast", DENY),
        (["out/a", "b\0"], "fast", DENY),
        (["secret/a"], "slow", ASK),
        (["a"], "fast", ASK),
        (["out/a"], "fast", ALLOW),
        (["out/a", "out/b"], "fast", ALLOW),
        (["out/a"], "slow", ASK),
        (["out/a", "out/back/c"], "fast", ASK),
        (["out/x/../a"], "fast", ASK),
        ([], "fast", ASK),
    ],
)
def test_patterns_of_several_arguments(
    world: World, files: list[JSON], how: str, action: Action
) -> None:
    rules = [
        Rule("Pack", {"files": f"./{folder}/**", "how": "f*"}, pattern=True, action=said)
        for folder, said in (("out", ALLOW), ("secret", DENY))
    ]
    entry = world.registry.entry("Pack")
    assert entry is not None
    call = call_of(entry, {"files": files, "how": how}, world.place)
    assert decide(call, Rules(rules, world.place), Mode.DEFAULT).action is action


def test_a_folder_whose_name_begins_as_the_workspaces_is_outside(world: World) -> None:
    other = world.base / "workshop" / "a"
    assert world.decide("Write", str(other), mode=Mode.ACCEPT_EDITS).action is ASK
    assert world.decide("Write", "../workshop/a", mode=Mode.ACCEPT_EDITS).action is ASK
    inside = str(world.workspace / "a")
    assert world.decide("Write", inside, mode=Mode.ACCEPT_EDITS).action is ALLOW
    assert world.decide("Write", str(other), [rule("Write(./**)")]).action is ASK


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (None, "null"),
        (3, "3"),
        (-1.5, "-1.5"),
        (2**70, str(2**70)),
        (["x", 1], None),
    ],
)
def test_other_values_are_compared_as_json(world: World, value: JSON, text: str | None) -> None:
    entry = world.registry.entry("Mail")
    assert entry is not None
    call = call_of(entry, {"how": value}, world.place)
    literal = Rule("Mail", {"how": dumps(value) if text is None else text})
    assert decide(call, Rules([literal], world.place), Mode.DEFAULT).action is ALLOW
    other = Rule("Mail", {"how": str(value) + "x"})
    assert decide(call, Rules([other], world.place), Mode.DEFAULT).action is ASK


def test_what_leads_to_an_allowed_file_is_not_it(world: World) -> None:
    entry = world.registry.entry("Write")
    assert entry is not None
    said = {"file_path": "b/c", "content": "x"}
    for path, action, denies in (
        ("b/c", ALLOW, DENY),
        ("./b//c", ALLOW, DENY),
        ("out/back/b/c", ASK, DENY),
        ("b/d", ASK, ASK),
    ):
        call = call_of(entry, {"file_path": path, "content": "x"}, world.place)
        for wanted, sort in ((action, ALLOW), (denies, DENY)):
            rules = Rules([Rule("Write", said, action=sort)], world.place)
            assert decide(call, rules, Mode.DEFAULT).action is wanted, (path, sort)


def test_a_pattern_is_about_one_argument(world: World) -> None:
    entry = world.registry.entry("Pack")
    assert entry is not None
    rules = Rules([rule("Pack(./lib/**)"), rule("Pack(into=./secret/**)", DENY)], world.place)
    for files, into, action in (
        ("lib/a", "out/a", ALLOW),
        ("secret/a", "lib/a", ASK),
        ("lib/a", "secret/a", DENY),
    ):
        call = call_of(entry, {"files": [files], "into": into}, world.place)
        assert decide(call, rules, Mode.DEFAULT).action is action


def test_paths_of_the_home(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(world.base))
    world.place = Place.of(world.workspace)
    path = str(world.base / "notes" / "a.md")
    assert world.decide("Write", path, [rule("Write(~/notes/**)")]).action is ALLOW


@pytest.mark.parametrize(
    "path",
    [
        "secret/a",
        "./secret/a",
        "SECRET/a",
        "out/../secret/a",
        "out/back/secret/a",
        "secret",
        "secret/../secret/a",
        "a\0b",
    ],
)
def test_a_denied_path_is_denied_however_it_is_spelled(world: World, path: str) -> None:
    rules = [rule("Write"), rule("Write(./secret/**)", DENY)]
    assert world.decide("Write", path, rules).action is DENY
    literal = Rule.parse("Write(secret)", action=DENY)
    assert world.decide("Write", "./secret", [rule("Write"), literal]).action is DENY


@pytest.mark.parametrize(
    ("spec", "url", "fits"),
    [
        ("example.org", "https://example.org/a", True),
        ("example.org", "https://EXAMPLE.org./a", True),
        ("example.org", "https://evil.org/example.org", False),
        ("example.org", "https://example.org.evil.org/", False),
        ("example.org", "https://www.example.org/", False),
        ("*.example.org", "https://www.example.org/", True),
        ("*.example.org", "https://example.org/", False),
        ("*.example.org", "https://wwwexample.org/", False),
        ("example.org:8443", "https://example.org:8443/", True),
        ("example.org:8443", "https://example.org/", False),
        ("example.org:443", "https://example.org/", True),
        ("*", "http://x.y/", True),
        ("*", "file:///etc/passwd", False),
        ("example.org", "https://example.org\\@evil.org/", False),
        ("example.org", "https://evil.org@example.org/", True),
    ],
)
def test_hosts(world: World, spec: str, url: str, fits: bool) -> None:
    assert (world.decide("Get", url, [rule(f"Get({spec})")]).action is ALLOW) is fits


def test_a_url_that_cannot_be_read_is_denied_by_any_denial(world: World) -> None:
    rules = [rule("Get"), rule("Get(evil.org)", DENY)]
    assert world.decide("Get", "https://evil.org/", rules).action is DENY
    assert world.decide("Get", "https://evil.org\\@a.org/", rules).action is DENY
    assert world.decide("Get", "https://good.org/", rules).action is ALLOW


def test_other_arguments(world: World) -> None:
    entry = world.registry.entry("Get")
    assert entry is not None
    call = call_of(entry, {"url": "https://a.org/", "how": "fast"}, world.place)
    for spec, action in (("how=f*", ALLOW), ("how=slow", ASK), ("what=f*", ASK)):
        found = decide(call, Rules([rule(f"Get({spec})")], world.place), Mode.DEFAULT)
        assert found.action is (action if spec != "what=f*" else DENY), spec  # no host


@pytest.mark.parametrize(
    ("command", "action"),
    [
        ("git log", ALLOW),
        ("git log --oneline -3", ALLOW),
        ("git log | head -3", ALLOW),
        ("git log && head -3 x", ALLOW),
        ("git log; rm x", ASK),
        ("git log $(rm x)", ASK),
        ("git log > a.txt", ASK),
        ("git log --output=x", ASK),
        ("git push", DENY),
        ("git log && git push origin", DENY),
        ("true; 'gi't \"push\"", DENY),
        ("$(git push)", DENY),
        ("/usr/bin/git push", DENY),
    ],
)
def test_commands(world: World, command: str, action: Action) -> None:
    rules = [rule("Bash(git log **)"), rule("Bash(head **)"), rule("Bash(git push **)", DENY)]
    assert world.decide("Bash", command, rules).action is action


@pytest.mark.parametrize(
    ("command", "action"),
    [
        ("ls > out/list", ALLOW),
        ("ls > list", ASK),
        ("ls > /etc/list", ASK),
        ("ls > out/back/list", ASK),
        ("ls > secret/list", DENY),
        ("ls < secret/list", ASK),
        ("ls < hidden", DENY),
        ("cd out && ls > list", DENY),  # nobody can say where it goes
        ("cd out && ls > /etc/list", ASK),
        ("ls > .git/config", ASK),
    ],
)
def test_what_a_shell_writes_and_reads_is_a_call_too(
    world: World, command: str, action: Action
) -> None:
    rules = [
        rule("Bash(ls **)"),
        rule("Bash(cd **)"),
        rule("Write(./out/**)"),
        rule("Write(./secret/**)", DENY),
        rule("Read(./secret/**)", ASK),
        rule("Read(./hidden)", DENY),
    ]
    assert world.decide("Bash", command, rules).action is action


def test_a_path_that_nobody_can_say_may_be_any(world: World) -> None:
    rules = [rule("Bash(cd **)"), rule("Bash(ls **)"), rule("Read(./secret/**)", ASK)]
    found = world.decide("Bash", "cd out && ls < a", rules)
    assert (found.action, found.rules) == (ASK, (rules[2],))


def test_a_command_allowed_word_for_word_may_be_anything(world: World) -> None:
    text = "echo $(date) > /tmp/x"
    assert world.decide("Bash", text, [Rule.parse(f"Bash({text})")]).action is ALLOW
    denied = [Rule.parse(f"Bash({text})"), rule("Write(//tmp/**)", DENY)]
    assert world.decide("Bash", text, denied).action is DENY
    simple = [Rule.parse("Bash(echo a > /tmp/x)"), *denied]
    assert world.decide("Bash", "echo a > /tmp/x", simple).action is DENY
    assert world.decide("Bash", f"{text} ", [Rule.parse(f"Bash({text})")]).action is ASK


# --- taint ---------------------------------------------------------------------------------------


def test_words_of_strangers_take_risky_calls_one_step_further(world: World) -> None:
    rules = [rule("Bash(ls **)"), rule("Mail"), rule("Write"), Rule.parse("Bash(make all)")]
    for tool, subject in (("Mail", "x"), ("Bash", "ls -l")):
        assert world.decide(tool, subject, rules).action is ALLOW
        assert world.decide(tool, subject, rules, tainted=True).code == "policy.tainted"
        assert world.decide(tool, subject, rules, tainted=True).action is ASK
        assert world.decide(tool, subject, rules, Mode.DONT_ASK, tainted=True).action is DENY
    assert world.decide("Write", "a.txt", rules, tainted=True).action is ALLOW
    exact = world.decide("Bash", "make all", rules, tainted=True)
    assert exact.action is ALLOW


# --- visibility ----------------------------------------------------------------------------------


def test_what_may_never_be_called_is_not_shown(world: World) -> None:
    def shown(rules: Sequence[Rule], mode: Mode = Mode.DEFAULT) -> set[str]:
        ready = Rules(rules, world.place)
        return {
            each.spec.name for each in world.registry.entries() if not hidden(each, ready, mode)
        }

    everything = {"Read", "Write", "Edit", "Glob", "Grep", "Bash", "Get", "Mail", "Anything"}
    assert shown([]) >= everything
    assert "Bash" not in shown([rule("Bash", DENY)])
    assert "Bash" in shown([rule("Bash(rm **)", DENY)])
    assert shown([rule("@net", DENY)]) & everything == everything - {"Get", "Bash", "Anything"}
    assert shown([rule("Write")], Mode.PLAN) & everything == {"Read", "Glob", "Grep", "Get"}


# --- what cannot be decided ----------------------------------------------------------------------


@pytest.mark.parametrize("action", list(Action))
def test_a_rule_that_cannot_be_used_denies_its_tool(world: World, action: Action) -> None:
    for text in (
        "Write(/etc)",
        "Write(file_pth=./a)",
        "Write(./a/../b)",
        "Write(./a**b)",
        "Bash(ls $(x))",
        "Bash(**)",
    ):
        tool = text.partition("(")[0]
        decision = world.decide(tool, "a", [rule(tool), rule(text, action)], Mode.BYPASS)
        assert decision.action is DENY, text
        assert "cannot be used" in decision.by


def test_a_path_with_an_equals_sign_has_an_anchor(world: World) -> None:
    decision = world.decide("Write", "a=b", [rule("Write"), rule("Write(a=*)", DENY)])
    assert "Write has no argument 'a'" in decision.by
    for spec in ("./a=*", "file_path=a=*"):
        assert world.decide("Write", "a=b", [rule(f"Write({spec})")]).action is ALLOW


def test_a_failure_while_deciding_means_no(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Any:
        raise RuntimeError("no")

    monkeypatch.setattr(Rules, "of", broken)
    decision = world.decide("Read", "a.txt", mode=Mode.BYPASS)
    assert (decision.action, decision.code) == (DENY, "policy.undecided")


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("echo 'x ; rm y'", "command echo 'x ; rm y'"),
        ("echo x ; rm y", "command echo x ; rm y"),
        ("LANG=C ls 'a  b' > '/x y'", "command LANG=C ls 'a  b' > '/x y'"),
    ],
)
def test_a_command_is_told_as_the_words_that_it_is(world: World, command: str, told: str) -> None:
    assert next(iter(world.decide("Bash", command).touches)) == told


def test_a_decision_says_all_that_it_rests_on(world: World) -> None:
    told = rule("Bash(git push **)", DENY, Source.PROJECT, reason="releases go through CI")
    decision = world.decide("Bash", "git push > log", [told])
    assert decision.to_json() == {
        "decision": "deny",
        "code": "policy.rule",
        "rules": ["project rule deny Bash(git push **): releases go through CI"],
        "sources": ["project"],
        "mode": "default",
        "effects": ["exec", "net", "read", "secret", "send", "write outside"],
        "resources": ["command git push > log"],
        "why": "",
    }


# --- files of rules, and what a tool has to have for a rule --------------------------------------


class Still(Mail):
    name = "Still"
    subject = ""


@pytest.mark.parametrize(
    ("text", "source", "told"),
    [
        ('allow = ["Bash(ls)"]', Source.MANIFEST, "a manifest can only deny and ask"),
        ('allow = ["Bash(ls)"]', Source.HOOK, "a hook can only deny and ask"),
        (
            'allow = ["Bash(ls **)"]',
            Source.SESSION,
            "can only allow single calls, spelled out word for word",
        ),
        (
            'allow = ["Bash"]',
            Source.SESSION,
            "can only allow single calls, spelled out word for word",
        ),
    ],
)
def test_a_file_says_no_more_than_its_source_may(text: str, source: Source, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        read(text, "here", source, shipped)
    assert read(text.replace("allow", "deny"), "here", source, shipped).rules


@pytest.mark.parametrize(
    ("tool", "spec", "told"),
    [
        ("Still", "x", "has no subject that a rule could be about"),
        ("Bash", "ls [", "is not a pattern for commands"),
    ],
)
def test_a_rule_that_its_tool_cannot_have(world: World, tool: str, spec: str, told: str) -> None:
    world.registry.register(Still(), granted=False)
    entry = world.registry.entry(tool)
    assert entry is not None
    with pytest.raises(ConfigError, match=told):
        bind(rule(f"{tool}({spec})"), entry, world.place)


def test_without_a_workspace_a_relative_pattern_is_none(world: World) -> None:
    entry = world.registry.entry("Read")
    assert entry is not None
    with pytest.raises(ConfigError, match="there is no working directory"):
        bind(rule("Read(src/**)"), entry, Place.of(None))
    bind(rule("Read(//src/**)"), entry, Place.of(None))


def test_a_pattern_over_a_command_stands_alone(world: World) -> None:
    entry = world.registry.entry("Bash")
    assert entry is not None
    both = replace(rule("Bash(ls)"), input={"": "ls", "timeout": "5"})
    with pytest.raises(ConfigError, match="a pattern over a command stands alone"):
        bind(both, entry, world.place)


def test_a_name_that_no_tool_can_have() -> None:
    with pytest.raises(ConfigError, match="'a/b' is not the name of a tool"):
        Rule.parse("a/b(c)", pattern=True)


def test_an_argument_that_is_not_given_is_neither_denied_nor_allowed(world: World) -> None:
    mail = world.registry.entry("Mail")
    pack = world.registry.entry("Pack")
    assert mail is not None and pack is not None
    exact = Rule(tool="Mail", input={"how": "x"}, action=DENY, source=Source.USER)
    rules = Rules([exact, rule("Mail(how=y*)", DENY)], world.place)
    assert decide(call_of(mail, {}, world.place), rules, Mode.DEFAULT).action is ASK
    assert decide(call_of(mail, {"how": "yes"}, world.place), rules, Mode.DEFAULT).action is DENY
    path = Rule(tool="Pack", input={"into": "a", "how": "x"}, action=DENY, source=Source.USER)
    rules = Rules([path], world.place)
    for given, action in (({}, ASK), ({"how": "x"}, ASK), ({"how": "x", "into": "a"}, DENY)):
        assert decide(call_of(pack, given, world.place), rules, Mode.DEFAULT).action is action


def test_of_several_rules_the_operators_is_told(world: World) -> None:
    user, managed = rule("Mail(x*)", DENY), rule("Mail(*x)", DENY, Source.MANAGED)
    for rules in ([user, managed], [managed, user]):
        assert world.decide("Mail", "xx", rules).rules[0].source is Source.MANAGED
    bare = rule("Mail", DENY)
    assert world.decide("Mail", "xx", [bare, managed]).rules[0].source is Source.MANAGED


def test_a_workspace_that_has_another_name_is_the_same(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "named").symlink_to("real")
    named = tmp_path / "named"
    place = Place.of(named)
    for path in (f"{named}/a", f"{tmp_path}/real/a", "a", f"/{named}/a", f"//{named}/../named/a"):
        assert path_use("p", path, place).forms == (f"{tmp_path}/real/a",)
    assert path_use("p", str(named), place).forms == (f"{tmp_path}/real",)
    assert path_use("p", f"{named}x", place).forms == (f"{named}x",)


@pytest.mark.parametrize("url", ["http://[::1", "http://a:b/", "http://a:99999/"])
def test_a_url_that_is_none_has_no_host(world: World, url: str) -> None:
    assert host_use("url", url).host == ""
    allowed = [rule("Get(*)"), rule("Get(a)")]
    assert world.decide("Get", url, allowed).action is ASK
    assert world.decide("Get", url, [rule("Get(b)", DENY)]).action is DENY


class Runs(Get):
    """Runs a command on a file."""

    name = "Runs"
    input_schema = {  # noqa: RUF012
        "type": "object",
        "properties": {"command": {"type": "string"}, "file": {"type": "string"}},
    }
    effects = frozenset({"exec"})
    subject = "command"
    commands = frozenset({"command"})
    paths = frozenset({"file"})
    urls = frozenset()


@pytest.mark.parametrize(
    ("spec", "denies"),
    [
        ("Runs", ["git log", "git log -1", "git push", "git push; git log -1"]),
        ("Runs(git log *)", ["git log -1", "git push; git log -1"]),
    ],
)
def test_an_index_of_rules_says_what_each_rule_says(
    world: World, spec: str, denies: list[str]
) -> None:
    world.registry.register(Runs(), granted=False)
    entry = world.registry.entry("Runs")
    assert entry is not None
    denied = rule(spec, DENY)
    for command in ("git log", "git log -1", "git push", "git push; git log -1"):
        call = call_of(entry, {"command": command, "file": "a.txt"}, world.place)
        found = decide(call, Rules([denied], world.place), Mode.DEFAULT)
        assert (found.action is DENY) == (command in denies)
        assert bind(denied, entry, world.place).fits(call, False) == (command in denies)


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        (Rule.parse("Bahs(rm **)", pattern=True, action=Action.DENY), "did you mean 'Bash'?"),
        (Rule.parse("bash", action=Action.ASK), "did you mean 'Bash'?"),
        ("stok", "did you mean 'stock'?"),
        ("stock", ""),
        ("Write(a)", ""),
        ("Publish", ""),
        (Rule.parse("@net", pattern=True, action=Action.DENY), ""),
        (Rule.parse("mcp:bash", pattern=True, action=Action.DENY), ""),
        (Rule.parse("Bahs", action=Action.DENY, source=Source.USER), ""),  # told where it was read
    ],
    ids=str,
)
def test_a_rule_about_almost_a_tool_is_noted(
    rule: Rule | str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    @as_tool(effects=["read"])
    def stock(article: str) -> int:
        """How many there are."""
        return 1

    PipelinePresets.agent(model="scripted:echo", tools=[stock], rules=[rule])
    assert (told in caplog.text) if told else not caplog.text
