"""Who may do what: the caller's grant, the caller's rules, a person; else no."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorimer.core.cancel import Reason, Stopped
from lorimer.core.errors import ConfigError, JournalError
from lorimer.core.jsonable import JSON
from lorimer.core.messages import ToolResultBlock, ToolUse
from lorimer.testing import SimulatedWorld, simulate
from lorimer.tools import AskLater, Rule, Tool, ToolContext, ToolInput, ToolResult
from lorimer.tools.policy.modes import Action, Mode
from lorimer.world.files import RootedFiles
from tests.tools.support import Bench, going_on, run, toolset


class Shell(Tool):
    name = "Shell"
    input_schema = {  # noqa: RUF012
        "type": "object",
        "properties": {"command": {"type": "string"}, "limit": {"type": "integer"}},
        "required": ["command"],
    }
    effects = frozenset({"exec", "net"})
    subject = "command"

    def __init__(self) -> None:
        self.ran: list[str] = []

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        self.ran.append(input["command"])
        return ToolResult("done")


class Save(Shell):
    name = "Save"
    input_schema = {"type": "object", "properties": {"file_path": {"type": "string"}}}  # noqa: RUF012
    effects = frozenset({"write"})
    subject = "file_path"
    paths = frozenset({"file_path"})

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        self.ran.append(input["file_path"])
        return ToolResult("done")


class Load(Save):
    name = "Load"
    input_schema = {"type": "object", "properties": {"path": {}}}  # noqa: RUF012
    effects = frozenset({"read"})
    paths = frozenset({"path"})

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        self.ran.append(input["path"])
        return ToolResult("done")


class Person:
    def __init__(self, answer: object) -> None:
        self.answer = answer
        self.asked: list[tuple[str, str, str]] = []

    async def approve(self, tool: str, summary: str, reason: str) -> bool:
        self.asked.append((tool, summary, reason))
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer  # type: ignore[return-value]  # pyright: ignore[reportReturnType]


def attempt(
    tool: Tool, input: Mapping[str, JSON], **options: Any
) -> tuple[ToolResultBlock, list[tuple[str, dict[str, Any]]]]:
    async def main() -> tuple[ToolResultBlock, list[tuple[str, dict[str, Any]]]]:
        bench = await Bench.make()
        return await bench.call(toolset(tool, **options), tool.name, input), bench.facts

    return run(main)


# --- rules ---------------------------------------------------------------------------------------

names = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)


@given(names, st.none() | st.text())
def test_rules_survive_being_written_down(name: str, subject: str | None) -> None:
    rule = Rule(name, None if subject is None else {"": subject})
    assert Rule.parse(str(rule)) == rule


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("Bash", Rule("Bash")),
        ("Bash()", Rule("Bash", {"": ""})),
        ("Bash(python analyse.py)", Rule("Bash", {"": "python analyse.py"})),
        ("Bash(echo (a) > b)", Rule("Bash", {"": "echo (a) > b"})),
        ("Write(report.md)", Rule("Write", {"": "report.md"})),
        ("mcp__github__create_issue", Rule("mcp__github__create_issue")),
    ],
)
def test_rules_of_the_command_line(text: str, rule: Rule) -> None:
    assert Rule.parse(text) == rule
    assert str(rule) == text


@pytest.mark.parametrize(
    "text", ["", "Bash(", "Bash)", "Bash(a", "Ba sh", " Bash", "(x)", "*", "Bash(a)b"]
)
def test_what_is_no_rule(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a rule"):
        Rule.parse(text)


@pytest.mark.parametrize(
    ("rule", "input", "allowed"),
    [
        ("Shell", {"command": "anything"}, True),
        ("Shell(make)", {"command": "make"}, True),
        ("Shell(make)", {"command": "make", "limit": 3}, True),
        ("Shell(make)", {"command": "make "}, False),
        ("Shell(make)", {"command": "make; rm -rf /"}, False),
        ("Shell(make*)", {"command": "make x"}, False),
        ("shell", {"command": "make"}, False),
        ("Other(make)", {"command": "make"}, False),
        (Rule("Shell", {"limit": "3"}), {"command": "make", "limit": 3}, True),
        (Rule("Shell", {"limit": "3"}), {"command": "make", "limit": 4}, False),
        (Rule("Shell", {"limit": "3"}), {"command": "make"}, False),
        (Rule("Shell", {"limit": "3"}), {"command": "make", "limit": 10**5000}, False),
        (Rule("Shell", {"other": "3"}), {"command": "make"}, False),
        (Rule("Shell", {"": "make *"}, pattern=True), {"command": "make x"}, True),
        (Rule("Shell", {"": "make *"}, pattern=True), {"command": "Make x"}, False),
    ],
)
def test_what_a_rule_allows(rule: Rule | str, input: dict[str, JSON], allowed: bool) -> None:
    block, _ = attempt(Shell(), input, granted=False, rules=[rule])
    assert block.is_error is not allowed


@pytest.mark.parametrize(
    ("rule", "path", "allowed"),
    [
        ("Save(report.md)", "report.md", True),
        ("Save(report.md)", "./report.md", True),
        ("Save(report.md)", "/project/report.md", True),
        ("Save(/project/report.md)", "report.md", True),
        ("Save(report.md)", "/work-evil/report.md", False),
        ("Save(report.md)", "/else/report.md", False),
        ("Save(report.md)", "sub/../report.md", False),
        ("Save(sub/../report.md)", "sub/../report.md", True),
        (Rule("Save", {"": "out/*"}, pattern=True), "out/a.md", True),
        (Rule("Save", {"": "out/*"}, pattern=True), "/project/out/a.md", True),
        (Rule("Save", {"": "out/*"}, pattern=True), "out/../report.md", False),
        (Rule("Save", {"": "out/*"}, pattern=True), "other/a.md", False),
    ],
)
def test_paths_in_rules_are_relative_to_the_working_directory(
    rule: Rule | str, path: str, allowed: bool
) -> None:
    block, _ = attempt(
        Save(), {"file_path": path}, granted=False, rules=[rule], working_dir=Path("/project")
    )
    assert block.is_error is not allowed


# --- verdicts ------------------------------------------------------------------------------------


def test_what_the_host_registered_is_granted_and_leaves_no_trace() -> None:
    tool = Shell()
    block, facts = attempt(tool, {"command": "make"})
    assert not block.is_error
    assert [kind for kind, _ in facts] == ["tool.intent", "tool.result"]
    assert "decision" not in facts[0][1]


def test_reading_needs_no_rule() -> None:
    class Look(Shell):
        name = "Look"
        effects = frozenset({"read"})

    block, facts = attempt(Look(), {"command": "x"}, granted=False)
    assert not block.is_error
    assert [kind for kind, _ in facts] == ["tool.result"]


def test_what_nobody_granted_is_refused_with_the_rule_that_would_allow_it() -> None:
    tool = Shell()
    block, facts = attempt(tool, {"command": "python analyse.py"}, granted=False)
    assert tool.ran == []
    assert str(block.content).startswith("ERROR exec.tool.access_denied: Shell may exec, net")
    assert "'Shell(python analyse.py)' would allow it" in str(block.content)
    assert facts[0] == (
        "decision",
        {
            "key": "0",
            "tool": "Shell",
            "code": "exec.tool.access_denied",
            "rule": "no rule allows it and nobody is there to ask",
            "reason": "policy.nobody",
        },
    )
    assert facts[1][0] == "tool.result"
    assert facts[1][1]["error"] == "exec.tool.access_denied"


def test_an_allow_by_rule_is_told_in_the_intent() -> None:
    _, facts = attempt(Shell(), {"command": "make"}, granted=False, rules=["Shell(make)"])
    assert facts[0][0] == "tool.intent"
    assert facts[0][1]["decision"] == "rule Shell(make)"
    assert facts[0][1]["effects"] == "exec net"


def test_a_person_may_allow_it_once() -> None:
    person = Person(True)
    _, facts = attempt(Shell(), {"command": "make"}, granted=False, approver=person)
    assert person.asked == [
        ("Shell", '{"command":"make"}', "may exec, net; no rule of yours covers it")
    ]
    kinds = [kind for kind, _ in facts]
    assert kinds == ["effect.intent", "effect", "tool.intent", "tool.result"]
    assert facts[0][1]["question"] == {
        "tool": "Shell",
        "input": '{"command":"make"}',
        "reason": "may exec, net; no rule of yours covers it",
    }
    assert facts[1][1]["approved"] is True
    assert facts[2][1]["decision"] == "approved"


def test_a_call_that_is_too_long_to_be_shown_says_so_at_its_end() -> None:
    """Whoever is asked, here or from another process, is not to take a part for the whole."""
    person = Person(False)
    command = "echo " + "x" * 120_000 + "; rm y"
    _, facts = attempt(Shell(), {"command": command}, granted=False, approver=person)
    intent = next(data for kind, data in facts if kind == "effect.intent")
    shown = str(intent["question"]["input"])
    assert len(shown) == 100_000
    assert shown.endswith("x [cut here: the call is longer than what can be shown]")


@pytest.mark.parametrize("answer", [False, None, "yes", 1, RuntimeError("no terminal")])
def test_anything_but_a_yes_is_a_no(answer: object) -> None:
    tool = Shell()
    block, facts = attempt(tool, {"command": "make"}, granted=False, approver=Person(answer))
    assert tool.ran == []
    assert block.is_error
    assert [kind for kind, _ in facts] == ["effect.intent", "effect", "decision", "tool.result"]


def test_the_end_of_the_run_ends_the_question() -> None:
    class Slow(Person):
        async def approve(self, tool: str, summary: str, reason: str) -> bool:
            await asyncio.sleep(60)
            return True

    async def main() -> None:
        tool = Shell()
        bench = await Bench.make()
        asyncio.get_running_loop().call_later(0.02, bench.context.cancel, Reason.CALLER)
        with going_on(bench.context):
            await bench.call(
                toolset(tool, granted=False, approver=Slow(True)), "Shell", {"command": "make"}
            )
        assert tool.ran == []
        assert bench.kinds == ["effect.intent"]  # the question was put

    run(main)


def test_a_long_call_is_refused_with_a_short_remedy() -> None:
    block, _ = attempt(Shell(), {"command": "x" * 5000}, granted=False)
    assert "'Shell' would allow it" in str(block.content)


def test_a_rule_spares_the_question() -> None:
    person = Person(False)
    block, _ = attempt(
        Shell(), {"command": "make"}, granted=False, approver=person, rules=["Shell"]
    )
    assert not block.is_error
    assert person.asked == []


def test_a_call_that_may_need_a_person_does_not_run_beside_others() -> None:
    class Both(Shell):
        name = "Both"
        concurrency_safe = True

    use = ToolUse("1", "Both", {})
    assert toolset(Both(), granted=False).concurrency_safe(use)
    assert not toolset(Both(), granted=False, approver=Person(True)).concurrency_safe(use)
    assert toolset(Both(), approver=Person(True)).concurrency_safe(use)


def test_a_resumed_run_does_not_ask_again() -> None:
    async def main() -> None:
        tool, person = Shell(), Person(True)
        bench = await Bench.make()
        tools = toolset(tool, granted=False, approver=person)
        await bench.call(tools, "Shell", {"command": "make"})
        resumed = await bench.again(2)  # question and answer, and then the process died
        assert resumed.kinds == ["effect.intent", "effect"]
        block = await resumed.call(tools, "Shell", {"command": "make"})
        assert not block.is_error
        assert len(person.asked) == 1
        assert len(tool.ran) == 2
        assert not resumed.context.replaying

    run(main)


def test_a_refusal_stays_one_when_the_run_is_resumed_with_other_rules() -> None:
    async def main() -> None:
        tool = Shell()
        bench = await Bench.make()
        refused = await bench.call(
            toolset(tool, granted=False, approver=Person(False)), "Shell", {"command": "make"}
        )
        resumed = await bench.again()
        block = await resumed.call(
            toolset(tool, granted=False, rules=["Shell"]), "Shell", {"command": "make"}
        )
        assert block == refused
        assert tool.ran == []
        assert not resumed.context.replaying
        assert len(resumed.facts) == 4

    run(main)


def test_a_refusal_cut_short_stays_one() -> None:
    async def main() -> None:
        tool = Shell()
        bench = await Bench.make()
        await bench.call(
            toolset(tool, granted=False, approver=Person(False)), "Shell", {"command": "make"}
        )
        resumed = await bench.again(3)  # question, answer and decision, not yet the result
        assert resumed.kinds == ["effect.intent", "effect", "decision"]
        block = await resumed.call(
            toolset(tool, granted=False, rules=["Shell"]), "Shell", {"command": "make"}
        )
        assert block.is_error
        assert tool.ran == []
        assert resumed.kinds == ["effect.intent", "effect", "decision", "tool.result"]
        assert not resumed.context.replaying

    run(main)


def test_a_rule_given_after_the_question_was_put_spares_it() -> None:
    async def main() -> None:
        tool, person = Shell(), Person(True)
        bench = await Bench.make()
        await bench.call(
            toolset(tool, granted=False, approver=person), "Shell", {"command": "make"}
        )
        resumed = await bench.again(1)  # the question only
        block = await resumed.call(
            toolset(tool, granted=False, rules=["Shell"], approver=person),
            "Shell",
            {"command": "make"},
        )
        assert not block.is_error
        assert len(person.asked) == 1
        assert not resumed.context.replaying

    run(main)


def test_an_answer_holds_against_a_rule_given_later() -> None:
    async def main() -> None:
        tool = Shell()
        bench = await Bench.make()
        person = Person(False)
        tools = toolset(tool, granted=False, approver=person)
        await bench.call(tools, "Shell", {"command": "make"})
        resumed = await bench.again(2)  # question and answer, not yet the decision
        tools = toolset(tool, granted=False, rules=["Shell"], approver=person)
        block = await resumed.call(tools, "Shell", {"command": "make"})
        assert block.is_error
        assert tool.ran == []

    run(main)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["Shell", "Save"]), st.sampled_from(["make", "x", "a.md", "/etc/x"])
        ),
        min_size=1,
        max_size=6,
    ),
    st.lists(
        st.builds(
            lambda text, action: Rule.parse(text, pattern=True, action=action),
            st.sampled_from(["Shell", "Shell(make)", "Save", "Save(./*.md)", "@exec", "@write"]),
            st.sampled_from(Action),
        ),
        max_size=4,
    ),
    st.sampled_from(Mode),
    st.none() | st.booleans(),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_what_runs_was_allowed_and_the_journal_says_by_what(
    calls: list[tuple[str, str]],
    rules: list[Rule],
    mode: Mode,
    answer: bool | None,
    granted: bool,
) -> None:
    async def main() -> None:
        bench = await Bench.make()
        shell, save = Shell(), Save()
        person = None if answer is None else Person(answer)
        tools = toolset(
            shell,
            save,
            granted=granted,
            rules=rules,
            mode=mode,
            approver=person,
            working_dir="/project",
        )
        done = 0
        for index, (name, text) in enumerate(calls):
            field = "command" if name == "Shell" else "file_path"
            await bench.call(tools, name, {field: text}, index=index)
            ran = len(shell.ran) + len(save.ran) > done
            done = len(shell.ran) + len(save.ran)
            facts = [data for kind, data in bench.facts if data.get("key") == str(index)]
            kinds = [kind for kind, data in bench.facts if data.get("key") == str(index)]
            begun = [data for data in facts if "effects" in data]
            assert ran == bool(begun)
            if ran:
                assert granted or begun[0]["decision"]
                assert "decision" not in kinds
            else:
                assert "decision" in kinds or facts[-1]["error"] == "exec.tool.unknown"

    run(main)


def deny(text: str) -> Rule:
    return Rule.parse(text, action=Action.DENY)


def test_a_person_is_not_asked_about_what_is_denied() -> None:
    tool, person = Shell(), Person(True)
    block, facts = attempt(
        tool, {"command": "make"}, granted=False, approver=person, rules=[deny("Shell(make)")]
    )
    assert (block.is_error, tool.ran, person.asked) == (True, [], [])
    assert (facts[0][0], facts[0][1]["reason"]) == ("decision", "policy.rule")


def test_a_denial_given_after_the_approval_binds() -> None:
    async def main() -> None:
        tool, person = Shell(), Person(True)
        bench = await Bench.make()
        tools = toolset(tool, granted=False, approver=person)
        await bench.call(tools, "Shell", {"command": "make"})
        resumed = await bench.again(2)  # question and answer, and then the process died
        tools = toolset(tool, granted=False, approver=person, rules=[deny("Shell(make)")])
        block = await resumed.call(tools, "Shell", {"command": "make"})
        assert block.is_error
        assert len(tool.ran) == 1
        assert not resumed.context.replaying

    run(main)


def test_an_approval_is_for_the_very_call() -> None:
    async def main() -> None:
        tool, person = Shell(), Person(True)
        bench = await Bench.make()
        tools = toolset(tool, granted=False, approver=person)
        await bench.call(tools, "Shell", {"command": "make"}, index=0)
        person.answer = False
        again = await bench.call(tools, "Shell", {"command": "make"}, index=1)
        assert again.is_error  # once
        assert (len(tool.ran), len(person.asked)) == (1, 2)

    run(main)


def test_where_nobody_is_an_answer_that_was_asked_for_before_still_counts() -> None:
    async def main() -> None:
        tool, person = Shell(), Person(True)
        bench = await Bench.make()
        tools = toolset(tool, granted=False, approver=person)
        await bench.call(tools, "Shell", {"command": "make"})
        resumed = await bench.again(2)
        tools = toolset(tool, granted=False, mode="dontAsk")
        block = await resumed.call(tools, "Shell", {"command": "make"})
        assert not block.is_error
        fresh = await Bench.make()
        assert (await fresh.call(tools, "Shell", {"command": "make"})).is_error

    run(main)


@pytest.mark.parametrize(
    ("sandbox", "network", "runs"),
    [("require", False, True), ("require", True, False), ("auto", False, False)],
)
def test_commands_run_unasked_only_where_a_sandbox_is_sure_to_hold_them(
    sandbox: str, network: bool, runs: bool
) -> None:
    class Line(Shell):
        name = "Line"
        commands = frozenset({"command"})
        confined = True

    tool = Line()
    attempt(
        tool,
        {"command": "make"},
        granted=False,
        mode="sandboxed",
        sandbox=sandbox,
        network=network,
        working_dir="/project",
    )
    assert bool(tool.ran) is runs


# --- an approval is for one call -----------------------------------------------------------------


class Answers(Person):
    """Says yes, after something has happened meanwhile."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        super().__init__(True)
        self.meanwhile = meanwhile

    async def approve(self, tool: str, summary: str, reason: str) -> bool:
        self.meanwhile()
        return await super().approve(tool, summary, reason)


def test_what_leads_elsewhere_by_now_was_not_approved(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / ".git").mkdir()

    def swap() -> None:
        (tmp_path / "out").rmdir()
        (tmp_path / "out").symlink_to(tmp_path / ".git")

    tool = Save()
    block, facts = attempt(
        tool,
        {"file_path": "out/config"},
        granted=False,
        approver=Answers(swap),
        working_dir=tmp_path,
    )
    assert (block.is_error, tool.ran) == (True, [])
    assert "has changed since it was asked about" in str(block.content)
    assert facts[0][1]["touches"] == [f"path {tmp_path}/out/config"]
    assert (facts[2][0], facts[2][1]["reason"]) == ("decision", "policy.changed")


def test_whoever_is_asked_is_told_where_links_lead(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "notes.md").symlink_to(".git/config")
    person = Person(False)
    options = {"granted": False, "approver": person, "working_dir": tmp_path}
    attempt(Save(), {"file_path": "notes.md"}, **options)
    attempt(Save(), {"file_path": "other.md"}, **options)
    command = Line()
    attempt(command, {"command": "date > notes.md"}, **options)
    led = f"no rule of yours covers it; notes.md leads to {tmp_path}/.git/config"
    reasons = [reason for _, _, reason in person.asked]
    assert reasons == [f"may write; {led}", "may write; no rule of yours covers it", reasons[2]]
    assert reasons[2].endswith(led)


def test_a_rule_that_names_a_file_does_not_name_what_a_link_leads_to(tmp_path: Path) -> None:
    """Somebody's repository may come with links where files are expected."""
    (tmp_path / ".git").mkdir()
    (tmp_path / "report.md").symlink_to(".git/config")
    for rule in ("Save(report.md)", Rule("Save", {"file_path": "report.md"})):
        for mode in ("default", "acceptEdits", "dontAsk"):
            tool = Save()
            options = {"granted": False, "rules": [rule], "mode": mode, "working_dir": tmp_path}
            block, _ = attempt(tool, {"file_path": "report.md"}, **options)
            assert (block.is_error, tool.ran) == (True, [])
            assert "would allow it" not in str(block.content)
            attempt(tool, {"file_path": str(tmp_path / ".git/config")}, **options)
            assert tool.ran == []
    command = Line()
    options = {"granted": False, "rules": ["Line(date > report.md)"], "working_dir": tmp_path}
    attempt(command, {"command": "date > report.md"}, **options)
    assert command.ran == []
    (tmp_path / "report.md").unlink()
    attempt(command, {"command": "date > report.md"}, **options)
    assert command.ran == ["date > report.md"]


@pytest.mark.parametrize("roots", [True, False])
@pytest.mark.parametrize("mode", ["dontAsk", "plan", "acceptEdits"])
def test_what_reads_by_itself_is_decided_about_wherever_its_paths_lead(
    mode: str, roots: bool, tmp_path: Path
) -> None:
    """A tool of a package grants itself nothing, and no opened roots hold it."""
    work, other = tmp_path / "work", tmp_path / "other"
    work.mkdir()
    other.mkdir()
    (work / "led").symlink_to(other)
    tool = Load()
    outside: list[JSON] = [str(other), "led", "../other", ["a", str(other)], ["led/x"]]
    for path in (*outside, "a", ["a", "b"]):
        files = RootedFiles([work]) if roots else None
        options = {"granted": False, "mode": mode, "files": files, "working_dir": work}
        block, _ = attempt(tool, {"path": path}, **options)
        assert block.is_error is (path in outside), path
    assert tool.ran == ["a", ["a", "b"]]


def test_nor_when_the_run_is_resumed(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()

    async def main() -> None:
        tool = Save()
        bench = await Bench.make()
        tools = toolset(tool, granted=False, approver=Person(True), working_dir=tmp_path)
        await bench.call(tools, "Save", {"file_path": "out/a"})
        resumed = await bench.again(2)  # question and answer, and then the process died
        (tmp_path / "out").rmdir()
        (tmp_path / "out").symlink_to("/etc")
        block = await resumed.call(tools, "Save", {"file_path": "out/a"})
        assert block.is_error
        assert tool.ran == ["out/a"]
        assert not resumed.context.replaying

    run(main)


class Line(Shell):
    """A shell that says so: what it opens counts."""

    name = "Line"
    commands = frozenset({"command"})


def test_an_older_answer_lifts_no_rule_about_a_file_that_the_command_opens(
    tmp_path: Path,
) -> None:
    """Not even where nobody is there by now, and so the call would be refused anyway."""

    async def main() -> None:
        tool, line = Line(), {"command": "make > secret"}
        bench = await Bench.make()
        first = toolset(tool, granted=False, approver=Person(True), working_dir=tmp_path)
        assert not (await bench.call(first, "Line", line)).is_error
        resumed = await bench.again(2)  # question and answer, and then the process died
        deny = [Rule.parse("Write(./secret)", pattern=True, action=Action.DENY)]
        options = {"rules": deny, "working_dir": tmp_path, "approver": Person(True)}
        later = toolset(tool, granted=False, mode="dontAsk", **options)
        assert (await resumed.call(later, "Line", line)).is_error
        assert tool.ran == ["make > secret"]
        assert resumed.facts[-2][1]["reason"] == "policy.rule"

    run(main)


@pytest.mark.parametrize("mode", list(Mode))
def test_plan_mode_hides_and_refuses_at_least_what_the_mode_and_plan_do(mode: Mode) -> None:
    """As the model begins it: of both the stricter, and a refusal that no answer lifts."""
    found = [toolset(Shell(), Save(), granted=False, mode=each) for each in (mode, Mode.PLAN)]
    usual, planned = [made.base_policy for made in found]
    both = usual.planning()
    for entry in found[0].registry.entries():
        assert usual.hidden(entry) == ("" if mode is not Mode.PLAN else planned.hidden(entry))
        assert both.hidden(entry) == (usual.hidden(entry) or planned.hidden(entry))
        sent = {entry.tool.subject: "a"}
        actions = [each.decide(entry, sent, tainted=False).action for each in (usual, planned)]
        said = both.decide(entry, sent, tainted=False)
        assert said.action is min(actions)
        assert said.code == "policy.mode"


def test_a_rule_that_ends_while_a_person_thinks_is_not_what_they_approved() -> None:
    async def main(world: SimulatedWorld) -> None:
        tool = Shell()
        soon = world.time() + 10
        rules = [
            Rule.parse("Shell", action=Action.ASK),
            Rule.parse("Shell", action=Action.DENY, expires=soon),
        ]
        bench = await Bench.make(world=world)
        person = Person(True)
        tools = toolset(tool, granted=False, approver=person, rules=rules)
        assert (await bench.call(tools, "Shell", {"command": "make"})).is_error
        await world.sleep(20)
        assert not (await bench.call(tools, "Shell", {"command": "make"}, index=1)).is_error
        assert len(person.asked) == 1

    simulate(main)


@pytest.mark.parametrize("other", [{"command": "rm x"}, {"command": "make", "limit": 1}])
def test_an_approval_is_of_no_use_to_other_arguments(other: dict[str, JSON]) -> None:
    async def main() -> None:
        tool, person = Shell(), Person(True)
        bench = await Bench.make()
        tools = toolset(tool, granted=False, approver=person)
        await bench.call(tools, "Shell", {"command": "make"})
        resumed = await bench.again(2)
        with pytest.raises(JournalError, match="not the one that was recorded"):
            await resumed.call(tools, "Shell", other)
        assert tool.ran == ["make"]

    run(main)


def test_nor_to_another_tool_with_the_same_arguments() -> None:
    class Other(Shell):
        name = "Other"

    async def main() -> None:
        tool, other = Shell(), Other()
        bench = await Bench.make()
        tools = toolset(tool, other, granted=False, approver=Person(True))
        await bench.call(tools, "Shell", {"command": "make"})
        resumed = await bench.again(2)
        with pytest.raises(JournalError, match="not the one that was recorded"):
            await resumed.call(tools, "Other", {"command": "make"})
        assert other.ran == []

    run(main)


def test_nor_to_another_turn_or_run() -> None:
    async def main() -> None:
        tool, person = Shell(), Person(True)
        bench = await Bench.make()
        tools = toolset(tool, granted=False, approver=person)
        await bench.call(tools, "Shell", {"command": "make"})
        person.answer = False
        bench.context.begin_iteration(1)
        assert (await bench.call(tools, "Shell", {"command": "make"})).is_error
        other = await Bench.make()
        assert (await other.call(tools, "Shell", {"command": "make"})).is_error
        assert (tool.ran, len(person.asked)) == (["make"], 3)

    run(main)


def test_an_answer_from_elsewhere_is_for_its_question_only() -> None:
    async def main() -> None:
        tool = Shell()
        bench = await Bench.make()
        journal, context = bench.journal, bench.context
        for question, ran in (("0:0", ["make"]), ("9:9", ["make"])):
            message: dict[str, JSON] = {
                "kind": "answer",
                "run": context.id,
                "question": question,
                "approved": True,
            }
            await journal.post(context.stream, f"answer {question}", message)
            with going_on(context):
                tools = toolset(tool, granted=False, approver=AskLater())
                index = 0 if question == "0:0" else 1
                try:
                    await bench.call(tools, "Shell", {"command": "make"}, index=index)
                except Stopped:
                    assert question == "9:9"
            assert tool.ran == ran

    run(main)
