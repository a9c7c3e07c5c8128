"""`lorimer permissions`, the files of rules, and the mode of a run."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from lorimer.cli import places, policy_files
from lorimer.cli.fail import Fault
from lorimer.testing.fake_server import FakeLLMServer
from lorimer.testing.fake_turn import Turn
from lorimer.tools.policy.modes import Mode
from tests.cli.support import by_turn, call, invoke

DONE = Turn(text="done")


def user_rules(text: str) -> None:
    path = policy_files.user_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def project_rules(here: Path, text: str) -> None:
    (here / ".lorimer").mkdir(exist_ok=True)
    (here / ".lorimer" / "permissions.toml").write_text(text)


def explained(*words: str) -> dict[str, object]:
    result = invoke("permissions", "explain", "--json", *words)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_explain_says_what_would_become_of_a_call() -> None:
    user_rules('allow = ["Bash(git log **)"]\ndeny = ["Bash(git push **)"]\n')
    assert explained("Bash(git log -3)")["decision"] == "allow"
    told = explained("Bash(git log && git push)")
    assert (told["decision"], told["code"], told["sources"]) == ("deny", "policy.rule", ["user"])
    assert explained("Write(a.txt)")["decision"] == "ask"
    assert explained("Write(a.txt)", "--permission-mode", "acceptEdits")["decision"] == "allow"
    assert explained("Write(a.txt)", "--permission-mode", "plan")["visible"] is False
    assert explained("Bash(git log -3)", "--tainted")["code"] == "policy.tainted"
    assert explained("Bash(make)", "--allow", "Bash(make)")["decision"] == "allow"
    plain = invoke("permissions", "explain", "Bash(git push)")
    assert plain.stdout.startswith("deny: user rule deny Bash(git push **)\n")
    assert "touches    command git push" in plain.stdout


@pytest.mark.parametrize(
    "words", [["Bsh(ls)"], ["Bash"], ["(x)"], ["Read(a)", "--permission-mode", "x"]]
)
def test_what_cannot_be_explained(words: list[str]) -> None:
    result = invoke("permissions", "explain", *words)
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) <= 2
    assert "Traceback" not in result.stderr


def test_examples_are_tried() -> None:
    rule = '[[rule]]\ndeny = "Bash(git push **)"\nreason = "releases go through CI"\n'
    user_rules(f'{rule}match = ["git push -f", "nice git push"]\nnot_match = ["git status"]\n')
    assert invoke("permissions", "test").stdout == "1 rule; every example holds\n"
    user_rules(f'{rule}match = ["git pull"]\n')
    result = invoke("permissions", "test")
    assert result.exit_code == 2
    assert "Bash(git push **) does not match its example 'git pull'" in result.stderr
    user_rules('[[rule]]\nallow = "Write(./src/**)"\nnot_match = ["src/a", "b"]\n')
    assert "matches its example 'src/a'" in invoke("permissions", "test").stderr


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("deny = [", "not valid TOML"),
        ('deni = ["Bash"]', "did you mean 'deny'"),
        ('deny = "Bash"', "list of texts"),
        ('deny = ["Bash("]', "is not a rule"),
        ('deny = ["@exce"]', "did you mean 'exec'"),
        ('allow = ["Bash(ls $(x))"]', "is not a pattern for commands"),
        ('deny = ["Write(/etc/x)"]', "has no anchor"),
        ('mode = "bypass"', "no file can set the mode bypass"),
        ('mode = "dontask"', "did you mean 'dontAsk'"),
        ("forbid_bypass = true", "only the operator's file"),
        ("forbid_bypass = 1", "has to be true or false"),
        ('[[rule]]\ndeny = "Bash"\nreason = 3', "reason has to be text"),
        ("rule = [3]", "has to be a table"),
        ('[[rule]]\ndeny = "Bash"\nallow = "Bash"', "needs one of"),
        ('[[rule]]\ndeny = "@net"\nmatch = ["x"]', "@net cannot have examples"),
        ('[[rule]]\ndeny = "Bash"\nwhy = "x"', "no field 'why'"),
        ("rule = 3", "list of tables"),
    ],
)
def test_a_file_that_cannot_be_read_stops_everything(text: str, told: str) -> None:
    user_rules(text)
    for words in (["permissions", "test"], ["permissions", "explain", "Read(a)"]):
        result = invoke(*words)
        assert result.exit_code == 2
        assert told in result.stderr
        assert "Traceback" not in result.stderr


def test_a_project_allows_only_what_somebody_has_trusted_as_it_is_now(own_place: Path) -> None:
    project_rules(
        own_place, 'allow = ["Bash(make **)", "Write(./out/**)"]\ndeny = ["Write(./src/**)"]\n'
    )
    assert explained("Write(out/a)")["decision"] == "ask"
    assert explained("Write(src/a)")["decision"] == "deny"  # needs no trust
    assert "its current text is not trusted" in invoke("permissions", "test").stderr
    shown = invoke("permissions", "trust", input="n\n")
    assert shown.exit_code != 0
    assert 'deny = ["Write(./src/**)"]' in shown.stdout
    assert explained("Write(out/a)")["decision"] == "ask"
    assert invoke("permissions", "trust", "--yes").exit_code == 0
    assert explained("Write(out/a)")["decision"] == "allow"
    assert os.stat(places.data_directory() / "trusted.json").st_mode & 0o077 == 0
    project_rules(own_place, 'allow = ["Bash(make **)", "Write(./**)"]\n')
    assert explained("Write(out/a)")["decision"] == "ask"


def test_a_project_cannot_set_the_mode(own_place: Path) -> None:
    project_rules(own_place, 'mode = "acceptEdits"\n')
    assert "a project cannot set the mode" in invoke("permissions", "test").stderr


def test_what_is_managed_binds_everybody(own_place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    managed = own_place / "managed.toml"
    managed.write_text('forbid_bypass = true\ndeny = ["WebFetch"]\nallow = ["Write(./a)"]\n')
    monkeypatch.setattr(policy_files, "MANAGED", managed)
    user_rules('allow = ["WebFetch"]\nmode = "acceptEdits"\n')
    told = explained("WebFetch(https://a.org/)", "--permission-mode", "bypass")
    assert (told["decision"], told["sources"]) == ("deny", ["managed"])
    found = policy_files.read_policy_files(own_place)
    with pytest.raises(Fault, match="forbidden by"):
        policy_files.mode_of("bypass", found, attended=True)
    assert policy_files.mode_of(None, found, attended=False) is Mode.ACCEPT_EDITS


def test_bypass_as_root_wants_to_be_said_twice(
    own_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = policy_files.read_policy_files(own_place)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(Fault, match="as root"):
        policy_files.mode_of("bypass", found, attended=True)
    monkeypatch.setenv("LORIMER_BYPASS_AS_ROOT", "1")
    assert policy_files.mode_of("bypass", found, attended=True) is Mode.BYPASS
    assert policy_files.mode_of(None, found, attended=True) is Mode.DEFAULT
    assert policy_files.mode_of(None, found, attended=False) is Mode.DONT_ASK


def ran(server: FakeLLMServer, *words: str) -> tuple[int, str]:
    result = invoke(
        "run", "do it", "-m", "anthropic:claude-sonnet-4-6", "--base-url", server.url, *words
    )
    return result.exit_code, result.stderr


def test_a_run_goes_by_the_files_and_the_mode(own_place: Path) -> None:
    write = call("Write", file_path="a.txt", content="x")
    with FakeLLMServer(by_turn(write, DONE)) as server:
        code, told = ran(server)
        assert "--allow" in told
        assert not (own_place / "a.txt").exists()
        user_rules('allow = ["Write(./*.txt)"]\n')
        code, told = ran(server)
        assert (code, (own_place / "a.txt").read_text()) == (0, "x")
        (own_place / "a.txt").unlink()
        user_rules('deny = ["Write(./*.txt)"]\n')
        code, told = ran(server, "--allow", "Write", "--permission-mode", "acceptEdits")
        assert not (own_place / "a.txt").exists()
        user_rules("")
        ran(server, "--permission-mode", "acceptEdits")
        assert (own_place / "a.txt").read_text() == "x"


def test_in_plan_mode_the_model_is_not_shown_what_changes_things(own_place: Path) -> None:
    write = call("Write", file_path="a.txt", content="x")
    with FakeLLMServer(by_turn(write, DONE)) as server:
        ran(server, "--allow", "Write", "--permission-mode", "plan")
        tools = server.requests[0].body["tools"]
        assert isinstance(tools, list)
        shown = [each["name"] for each in tools if isinstance(each, dict)]
        assert shown == ["Read", "Glob", "Grep", "Monitor", "WebFetch"]
        assert "exec.tool.unknown" in json.dumps(server.requests[1].body)
    assert not (own_place / "a.txt").exists()


def test_a_manifest_can_only_tighten(own_place: Path) -> None:
    made = own_place / "m.json"
    assert invoke("manifest", "new", "--tools", "Write", "-o", str(made)).exit_code == 0
    data = json.loads(made.read_text())
    for field, pattern, told in (
        ("allow", "Write", "permissions.allow: there is no such field"),
        ("deny", "Write(", "permissions.deny[0]: 'Write(' is not a rule"),
    ):
        made.write_text(json.dumps({**data, "permissions": {field: [pattern]}}))
        assert told in invoke("manifest", "validate", str(made)).output
    made.write_text(json.dumps({**data, "permissions": {"deny": ["Write(./a.txt)"]}}))
    assert invoke("manifest", "validate", str(made)).exit_code == 0
    writes = [call("Write", file_path=name, content="x") for name in ("a.txt", "b.txt")]
    with FakeLLMServer(by_turn(*writes, DONE)) as server:
        ran(server, "--manifest", str(made), "--allow", "Write")
    assert sorted(path.name for path in own_place.glob("*.txt")) == ["b.txt"]


def test_rules_of_another_program_are_printed_as_ours(own_place: Path) -> None:
    (own_place / "settings.json").write_text(
        '{"permissions": {"allow": ["Bash(git log:*)", "Bash(echo $X)", "Bash(a\\nnote: b)"],'
        ' "deny": ["Read(.env)"]},'
        ' "hooks": {"PreToolUse": [{"hooks": [{"type": "command", "command": "x"}]}]}}'
    )
    result = invoke("permissions", "import", "settings.json")
    assert result.exit_code == 0
    assert "note: hooks: not imported" in result.stderr
    assert "note: allow Bash(echo $X): not imported" in result.stderr
    assert r"note: allow Bash(a\nnote: b): not imported" in result.stderr
    user_rules(result.stdout)
    assert explained("Bash(git log -3)")["decision"] == "allow"
    assert explained("Read(a/.env)")["decision"] == "deny"
    (own_place / "rules.yaml").write_text("deny:\n- {tool: Bash, pattern: 'rm *'}\n")
    result = invoke("permissions", "import", "rules.yaml")
    assert '"Bash(rm **)"' in result.stdout


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.json", "{", "a.json: not valid JSON"),
        ("a.json", "{}", "neither permissions nor a list"),
        ("a.json", '{"allow": ["Ba sh"]}', "a.json: allow[0]: 'Ba sh' is not a rule"),
        ("a.txt", "x", "unknown kind of document"),
    ],
)
def test_what_cannot_be_imported(own_place: Path, name: str, text: str, told: str) -> None:
    (own_place / name).write_text(text)
    result = invoke("permissions", "import", name)
    assert (result.exit_code, result.stdout) == (2, "")
    assert told in result.stderr
    assert "Traceback" not in result.stderr


def test_a_tool_that_is_never_there_says_why() -> None:
    user_rules('[[rule]]\ndeny = "Write"\nreason = "not here"\n')
    told = explained("Write(a)")
    assert (told["visible"], told["hidden_by"]) == (False, "user rule deny Write: not here")
    result = invoke("permissions", "explain", "Write(a)")
    assert "The model is not even shown this tool: user rule deny Write: not here" in result.stdout


def test_a_rule_that_has_ended_is_not_in_force() -> None:
    rule = '[[rule]]\nallow = "Write(./a)"\nexpires = {}\nnot_match = ["b"]\n'
    user_rules(rule.format("2999-01-01"))
    assert explained("Write(a)")["decision"] == "allow"
    user_rules(rule.format("2001-01-01"))
    assert explained("Write(a)")["decision"] == "ask"


def test_explain_takes_the_mode_that_a_run_would_have() -> None:
    user_rules('mode = "acceptEdits"\n')
    told = explained("Write(a)")
    assert (told["decision"], told["mode"]) == ("allow", "acceptEdits")
    assert explained("Write(a)", "--permission-mode", "default")["decision"] == "ask"


def test_explain_takes_a_tool_without_a_subject_by_its_name() -> None:
    assert explained("TodoWrite")["decision"] == "allow"
    assert explained("TodoWrite()")["decision"] == "allow"


def test_what_a_project_wrote_moves_no_cursor_and_adds_no_line(own_place: Path) -> None:
    project_rules(
        own_place, '[[rule]]\nask = "Write(./a)"\nreason = "no\\u001b[2J\\nallow: rule"\n'
    )
    result = invoke("permissions", "explain", "Write(a)")
    assert result.stdout.startswith("ask: project rule ask Write(./a): no\\x1b[2J\\nallow: rule\n")
    assert "\x1b" not in result.stdout


def test_what_is_trusted_is_what_was_shown(
    own_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project_rules(own_place, 'allow = ["Write(./a)"]\n')

    def changed_meanwhile(text: str, *, default: bool) -> bool:
        project_rules(own_place, 'allow = ["Write(./a)", "Bash(make **)"]\n')
        return True

    monkeypatch.setattr("click.confirm", changed_meanwhile)
    assert invoke("permissions", "trust").exit_code == 0
    assert explained("Write(a)")["decision"] == "ask"
    project_rules(own_place, 'allow = ["Write(./a)"]\n')
    assert explained("Write(a)")["decision"] == "allow"


def test_nothing_of_what_is_to_be_trusted_is_hidden_or_off_the_screen(own_place: Path) -> None:
    rules = 'allow = ["Bash(make **)"]' + "\n" * 100 + 'deny = ["Write(./a\u3164)"]\n'
    project_rules(own_place, rules + "# more\n" * 40)
    shown = invoke("permissions", "trust", input="n\n").stdout
    assert "[100 ends of lines]" in shown
    assert "Write(./a\\u3164)" in shown
    assert "it begins further up]" in shown


def test_a_mode_that_is_none_is_told_with_its_file() -> None:
    user_rules("mode = 5\n")
    result = invoke("permissions", "test")
    assert result.exit_code == 2
    assert "permissions.toml: there is no permission mode '5'" in result.stderr


def test_a_rule_that_does_nothing_is_noted_where_it_would_have_held(own_place: Path) -> None:
    project_rules(own_place, 'deny = ["bash(rm **)", "mcp__hub__bash", "REPL"]\n')
    result = invoke("run", "-m", "scripted:obedient", "Hello")
    assert result.exit_code == 0, result.output
    assert (
        "rule deny bash(rm **): there is no shipped tool of this name; did you mean 'Bash'"
        in result.stderr
    )
    assert "hub" not in result.stderr


def test_a_rule_for_a_tool_that_is_nearly_there_is_noted() -> None:
    user_rules('deny = ["Wrte(./a)", "@net", "mcp:hub", "Publish"]\n')
    result = invoke("permissions", "test")
    assert (result.exit_code, result.stdout) == (0, "4 rules; every example holds\n")
    (note,) = result.stderr.splitlines()
    assert note.startswith(
        "note: user rule deny Wrte(./a): there is no shipped tool of this name; did you mean"
    )
    for words in ((), ("--json",)):
        result = invoke("permissions", "explain", "Write(./a)", *words)
        assert result.stderr.splitlines() == [note]
