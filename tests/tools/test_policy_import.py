"""Rules imported from other programs mean the same here or are stricter, and notes tell what
differs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorimer.cli.policy_files import shipped
from lorimer.core.errors import ConfigError
from lorimer.core.jsonable import JSON
from lorimer.tools import Tool, ToolRegistry
from lorimer.tools.builtin import builtin_tools
from lorimer.tools.policy.effects import Place, call_of
from lorimer.tools.policy.engine import Rules, decide
from lorimer.tools.policy.modes import Action, Mode
from lorimer.tools.policy.sources import Source
from lorimer.tools.rule_files.foreign import Imported, import_rules
from lorimer.tools.rule_files.reading import check, read

PLACE = Place("/work", ("/work",), "/home/me")


def imported(action: str, *texts: JSON) -> Imported:
    return import_rules({"permissions": {action: list(texts)}}, "settings.json", shipped)


def decided(found: Imported, tool: str, **input: JSON) -> str:
    """By the rules as they are read from what was written."""
    said = read(found.to_toml("x"), "r.toml", Source.USER, shipped)
    check(said.rules, shipped, "r.toml")
    registry = ToolRegistry()
    registry.register(builtin_tools([tool])[0], granted=False)
    (entry,) = registry.entries()
    decision = decide(call_of(entry, input, PLACE), Rules(said.rules, PLACE), Mode.DEFAULT)
    return decision.action.name.lower()


@pytest.mark.parametrize(
    ("rule", "command", "allowed"),
    [
        ("Bash(npm run test:*)", "npm run test -- --fast", True),
        ("Bash(npm run test:*)", "npm run tests", False),
        ("Bash(git log *)", "git log", True),
        ("Bash(git log *)", "git log -3", True),
        ("Bash(git log*)", "git log -3", True),
        ("Bash(git log*)", "git logs", False),
        ("Bash(ls)", "ls", True),
        ("Bash(ls)", "ls -l", False),
        ("Bash(git log:*)", "git log && rm x", False),
        ("Bash(git * main)", "git show main", True),
        ("Bash(git * main)", "git push --force main", False),
        ("Bash(python:*)", "python -c 'x'", False),
        ("Bash(echo $HOME)", "echo $HOME", False),
        ("Bash", "anything", True),
        ("Bash(*)", "anything", True),
        ("Bash(:*)", "anything", True),
        ("Bash( :*)", "anything", False),
        ("Bash( *)", "anything", False),
    ],
)
def test_commands_that_are_allowed(rule: str, command: str, allowed: bool) -> None:
    assert (decided(imported("allow", rule), "Bash", command=command) == "allow") is allowed


@pytest.mark.parametrize(
    ("rule", "command"),
    [
        ("Bash(git push:*)", "git push -f"),
        ("Bash(git push*)", "git pushy"),
        ("Bash(git push*)", "git push origin"),
        ("Bash(git * --force)", "git push origin main --force"),
        ("Bash(* --force)", "git push --force"),
        ("Bash(git pu*sh --force)", "git pull me sh --force"),
        ("Bash(git pu*sh --force)", "git push --force"),
        ("Bash(curl * | bash)", "curl https://x.org/a | bash"),
        ("Bash(echo $HOME)", "echo $HOME"),
        ("Bash(rm -rf /)", "rm -rf /"),
        ("Bash(run_in_background:true)", "ls"),  # by another argument than the command
    ],
)
@pytest.mark.parametrize("action", ["deny", "ask"])
def test_commands_that_are_not(rule: str, command: str, action: str) -> None:
    assert decided(imported(action, rule), "Bash", command=command) == action
    assert decided(imported(action, rule), "Bash", command=f"true; {command}") == action


@pytest.mark.parametrize(
    ("rule", "tool", "path"),
    [
        ("Read(.env)", "Read", ".env"),
        ("Read(.env)", "Read", "a/b/.env"),
        ("Read(**/.env)", "Read", "a/b/.env"),
        ("Read(./secrets/**)", "Read", "secrets/a/b"),
        ("Read(secrets)", "Read", "x/secrets/a"),
        ("Read(secrets/)", "Read", "secrets/a"),
        ("Read(src/*.key)", "Read", "src/a.key"),
        ("Read(//etc/passwd)", "Read", "/etc/passwd"),
        ("Read(~/.ssh/**)", "Read", "/home/me/.ssh/id"),
        ("Read(/config)", "Read", "config/x"),
        ("Read([ab].txt)", "Read", "a.txt"),
        ("Edit(src/**)", "Edit", "src/a.py"),
        ("Edit(src/**)", "Write", "src/a.py"),
        ("Write(*.key)", "Write", "a/b.key"),
        ("MultiEdit(src/**)", "Edit", "src/a.py"),
        ("*", "Read", "a"),
        ("Read(secrets/**)", "Read", "a/secrets/b"),  # there too, to deny it is meant anywhere
        ("Edit(./src/**)", "Write", "a/src/b"),
        ("Read(.env)", "Write", "a/.env"),  # nor can be written what cannot be read
        ("Read(.env)", "NotebookEdit", ".env"),
        ("Edit", "Write", "a"),
        ("Edit(**)", "Write", "a"),
        ("Edit(*)", "NotebookEdit", "a"),
        ("Read(.)", "Read", "a"),
        ("Read(~)", "Read", "a"),
        ("Read(a//b)", "Read", "a/b"),
        ("Edit(replace_all:true)", "Edit", "a"),
    ],
)
def test_paths_that_are_denied(rule: str, tool: str, path: str) -> None:
    assert decided(imported("deny", rule), tool, file_path=path) == "deny"


def test_an_exception_makes_nothing_wider() -> None:
    found = imported("allow", "Edit(src/**)", "Edit(!src/secret/**)")
    assert decided(found, "Edit", file_path="src/a") == "allow"
    assert decided(found, "Edit", file_path="src/secret/a") == "ask"
    found = imported("deny", "Edit(src/**)", "Edit(!src/a)")
    assert decided(found, "Edit", file_path="src/a") == "deny"
    assert decided(found, "Edit", file_path="b") == "ask"
    assert "there are no exceptions to rules" in found.notes[-1]


def test_what_denies_tools_by_old_names_or_of_ours() -> None:
    assert str(next(iter(imported("deny", "Task").rules))) == "Agent"
    found = imported("deny", "Edit(secrets/**)")
    assert decided(found, "Unpack", archive="a.zip", into="x/secrets/y") == "deny"
    assert decided(imported("deny", "Read"), "Grep", pattern="x") == "deny"


def test_reading_denied_is_searching_denied_too() -> None:
    found = imported("deny", "Read(./secrets/**)")
    assert decided(found, "Grep", path="secrets", pattern="x") == "deny"
    assert decided(found, "Grep", path="src", pattern="x") == "allow"
    assert any("commands, can still read it" in note for note in found.notes)


@pytest.mark.parametrize(
    ("rule", "tool", "path", "allowed"),
    [
        ("Edit(src/**)", "Edit", "src/a/b.py", True),
        ("Edit(src/**)", "Write", "src/a.py", True),
        ("Edit(src/**)", "Edit", "other/src/a.py", False),
        ("Edit(*.md)", "Edit", "docs/a.md", True),
        ("Edit(*.md)", "Edit", "/etc/a.md", False),
        ("Write(docs/**)", "Write", "docs/a.md", False),  # it had no effect there
        ("Edit", "Edit", "a", True),
        ("Edit([ab].md)", "Edit", "a.md", False),
        ("Edit(../x)", "Edit", "../x", False),
        ("Edit(**)", "Edit", "a/b", True),
        ("Edit(*)", "Edit", "a/b", True),
        ("Edit(**)", "Edit", "/elsewhere/a", False),
        ("MultiEdit", "Edit", "a", False),  # nothing is called so any more
        ("MultiEdit(src/**)", "Edit", "src/a", False),
    ],
)
def test_paths_that_are_allowed(rule: str, tool: str, path: str, allowed: bool) -> None:
    assert (decided(imported("allow", rule), tool, file_path=path) == "allow") is allowed


def test_hosts() -> None:
    found = imported("allow", "WebFetch(domain:docs.rs)")
    assert decided(found, "WebFetch", url="https://docs.rs/x") == "allow"
    assert decided(found, "WebFetch", url="https://a.docs.rs/") == "ask"
    found = imported("deny", "WebFetch(domain:evil.org)")
    for url in ("https://evil.org/", "https://a.evil.org/"):
        assert decided(found, "WebFetch", url=url) == "deny"
    assert decided(imported("deny", "WebFetch(x y)"), "WebFetch", url="https://a.org/") == "deny"


@pytest.mark.parametrize(
    ("action", "rule", "ours"),
    [
        ("allow", "mcp__github", ["mcp:github"]),
        ("allow", "mcp__github__*", ["mcp:github"]),
        ("allow", "mcp__github__get_issue", ["mcp__github__get_issue"]),
        ("deny", "mcp__github__get_*", ["mcp:github"]),
        ("allow", "mcp__github__get_*", []),
        ("allow", "mcp__*", []),
        ("deny", "mcp__*", ["mcp:*"]),
        ("allow", "*", []),
        ("deny", "*", ["*"]),
        ("allow", "Task(x)", []),
        ("deny", "Task(x)", ["Task"]),
        ("ask", "WebSearch", ["WebSearch"]),
    ],
)
def test_tools_by_their_names(action: str, rule: str, ours: list[str]) -> None:
    found = imported(action, rule)
    assert [str(each) for each in found.rules] == ours
    if not ours or ours[0] in ("Task", "mcp:*") or rule.endswith("get_*"):
        assert len(found.notes) == (rule != "mcp__*" or action == "allow")


def test_modes_and_what_else_stands_there() -> None:
    data: dict[str, JSON] = {
        "model": "x",
        "permissions": {"allow": ["Read"], "defaultMode": "acceptEdits", "deny": None},
    }
    assert 'mode = "acceptEdits"' in import_rules(data, "s.json", shipped).to_toml("s.json")
    for mode in ("bypassPermissions", "auto"):
        found = import_rules({"permissions": {"defaultMode": mode}}, "s.json", shipped)
        assert (found.mode, len(found.notes)) == ("", 1)
    data = {
        "permissions": {"additionalDirectories": ["x"], "disableBypassPermissionsMode": "disable"}
    }
    assert len(import_rules(data, "s.json", shipped).notes) == 2
    for name in ("hooks", "sandbox", "deniedMcpServers", "disabledMcpjsonServers"):
        notes = import_rules({"permissions": {}, name: {"x": 1}}, "s.json", shipped).notes
        assert [note.startswith(f"{name}: not imported") for note in notes] == [True]


def test_what_is_broken_allows_nothing_and_denies_more() -> None:
    found = import_rules(
        {"permissions": {"defaultMode": ["plan"], "allow": ["Edit()"]}}, "x", shipped
    )
    assert (found.mode, list(found.rules)) == ("", [])
    assert "defaultMode ['plan']: not imported" in found.notes[1]
    assert [str(rule) for rule in imported("deny", "Edit( )").rules] == [
        "Edit", "Write", "NotebookEdit", "Unpack"
    ]  # fmt: skip


def geny(**lists: JSON) -> Imported:
    return import_rules(lists, "permissions.yaml", shipped)


def test_a_rule_of_geny_with_an_unknown_field_allows_nothing() -> None:
    slip: JSON = {"tool": "Bash", "patt0ern": "git *"}
    found = geny(allow=[slip], deny=[slip])
    assert [(str(rule), rule.action) for rule in found.rules] == [("Bash", Action.DENY)]
    assert [note for note in found.notes if "patt0ern" in note] == [
        "deny Bash: imported without patt0ern, whose meaning is not known",
        "allow Bash: not imported; the meaning of patt0ern is not known",
    ]


def test_rules_of_geny() -> None:
    found = geny(
        allow=[
            {"tool": "Bash", "pattern": "git log *", "reason": "for CI"},
            {"tool": "Read", "pattern": "*"},
            {"tool": "Edit", "pattern": "src/*"},
            {"tool": "*"},
        ],
        deny=[{"tool": "Bash", "pattern": "rm -rf *"}, {"tool": "Write", "pattern": "/etc/*"}],
        ask=[{"tool": "Edit", "pattern": "*.key"}, {"tool": "WebFetch", "pattern": "evil.org"}],
    )
    assert decided(found, "Bash", command="git log -3") == "allow"
    assert decided(found, "Bash", command="rm -rf x") == "deny"
    assert decided(found, "Write", file_path="/etc/a/b") == "deny"
    assert decided(found, "Edit", file_path="src/a.py") == "ask"  # *.key goes over folders there
    assert decided(found, "WebFetch", url="https://evil.org") == "ask"
    assert 'reason = "for CI"' in found.to_toml("x")
    told = "\n".join(found.notes)
    for what in ("had no effect there", "without a rule ran there", "first rule won"):
        assert what in told
    assert "not imported; no rule here allows everything" in told
    closed = geny(deny=[{"tool": "Bash"}], default_posture="deny")
    assert len(closed.notes) == 1 and "without a rule" not in closed.notes[0]
    every = geny(deny=[{"tool": "*", "pattern": "x"}])
    assert (
        [str(rule) for rule in every.rules]
        == ["*"]
        == [str(rule) for rule in geny(deny=[{"tool": "*"}]).rules]
    )
    assert "stricter here: every call of every tool" in every.notes[0]
    any_character = geny(deny=[{"tool": "Write", "pattern": "/srv/a?b"}])  # a slash, too
    assert decided(any_character, "Write", file_path="/srv/a/b") == "deny"


@pytest.mark.parametrize(
    ("pattern", "path", "denied"),
    [
        ("/etc/passwd", "/etc/passwd", True),
        ("/etc/passwd", "/etc/passwd2", False),
        ("**/*.key", "a/b/c.key", True),
        ("~/x*", "/home/me/xy", True),
        ("~/x*", "/home/you/xy", False),
        ("[ab]", "anything", True),  # without an equivalent, more is denied
        (" ", "anything", True),
    ],
)
def test_paths_that_geny_denies(pattern: str, path: str, denied: bool) -> None:
    found = geny(deny=[{"tool": "Write", "pattern": pattern}])
    assert (decided(found, "Write", file_path=path) == "deny") is denied
    allowing = geny(allow=[{"tool": "Write", "pattern": pattern}])
    if not denied or pattern in (" ", "[ab]"):
        assert decided(allowing, "Write", file_path=path) != "allow"


def test_what_geny_says_of_tools_without_a_command_a_path_or_a_url() -> None:
    found = geny(deny=[{"tool": "TodoWrite", "pattern": "x"}, {"tool": "theirs", "pattern": "x"}])
    assert [str(rule) for rule in found.rules] == ["TodoWrite", "theirs"]
    assert [note.endswith(f"every call of {tool}") for note, tool in zip(
        found.notes, ("TodoWrite", "theirs"), strict=False
    )] == [True, True]  # fmt: skip


def test_a_name_that_no_tool_can_have_is_reported_as_not_imported() -> None:
    for found in (imported("deny", "a" * 65), geny(deny=[{"tool": "a" * 65}])):
        assert list(found.rules) == []
        assert found.notes[0].endswith(": not imported: no tool can have this name here")


def test_of_tools_that_a_rule_stands_for_only_those_that_are_here_are_named() -> None:
    def only_edit(name: str) -> Tool | None:
        return shipped(name) if name == "Edit" else None

    found = import_rules({"permissions": {"deny": ["Edit"]}}, "s.json", only_edit)
    assert [str(rule) for rule in found.rules] == ["Edit"]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({}, "neither permissions nor a list"),
        ({"permissions": 3}, "has to be a table"),
        ({"allow": "Bash"}, "allow has to be a list"),
        ({"deny": [3]}, r"deny\[0\] is not a rule"),
        ({"permissions": {"ask": ["Ba sh"]}}, r"ask\[0\]: 'Ba sh' is not a rule"),
        ({"allow": [{"pattern": "x"}]}, "tool has to be the name of a tool"),
        ({"allow": [{"tool": "Bash", "pattern": 5}]}, "pattern has to be text"),
        ({"allow": [{"tool": "Bash", "pattern": ["ls"]}]}, "pattern has to be text"),
    ],
)
def test_what_is_no_list_of_rules(data: dict[str, JSON], told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        import_rules(data, "s.json", shipped)
    assert str(caught.value).startswith("s.json")


specs = st.text("ab*?/.~:[]{}$| -\"'\\\x7f\n\u00e9", max_size=10)


@given(
    st.sampled_from(["Bash", "Read", "Edit", "Write", "WebFetch", "Task", "mcp__x__y"]),
    specs | specs.map("domain:{}".format),
    st.sampled_from(["allow", "ask", "deny"]),
)
def test_whatever_a_rule_says_nothing_is_lost_that_denies(
    tool: str, spec: str, action: str
) -> None:
    found = imported(action, f"{tool}({spec})")
    said = read(found.to_toml(f"{spec}.json"), "r.toml", Source.USER, shipped)
    check(said.rules, shipped, "r.toml")
    assert sorted(map(str, found.rules)) == sorted(map(str, said.rules))
    if action == "allow":
        assert said.rules or found.notes
    else:
        assert any(rule.action is Action[action.upper()] for rule in said.rules)
