"""Guards round a tool call: what they may do, what becomes of one that fails, and on resume."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from lorimer.core.errors import ConfigError, JournalError
from lorimer.core.messages import ToolUse
from lorimer.core.world import Finished, ProcessLimits
from lorimer.testing.simulated_world import SimulatedWorld
from lorimer.testing.simulation import simulate
from lorimer.tools import NOT_DONE, Rule, ToolContext, ToolInput, ToolResult
from lorimer.tools.hooks import Answer, CommandHook, FunctionHook, Hook, HookEvent
from lorimer.tools.hooks.hookset import HookSet
from lorimer.tools.hooks.pinned import MAX_BYTES, MAX_FILES, digest_of
from lorimer.tools.policy.modes import Action
from tests.tools.support import Act, Bench, run, toolset

PRE, POST, FAILED = "PreToolUse", "PostToolUse", "PostToolFailure"


def hooks(*given: Hook) -> HookSet:
    return HookSet(given, {"cwd": "/w", "permission_mode": "default"})


def on(event: str, function: Callable[[dict[str, Any]], Any], **options: Any) -> FunctionHook:
    return FunctionHook(event, function, name=options.pop("name", "guard"), **options)


class Echo(Act):
    """Says what it was called with; counts."""

    input_schema = {  # noqa: RUF012
        "type": "object",
        "properties": {"x": {"type": "string"}},
        "required": ["x"],
        "additionalProperties": False,
    }

    def __init__(self, **attributes: Any) -> None:
        super().__init__(lambda i, c: ToolResult(f"got {i['x']}"), **attributes)


def once(
    *guards: Hook, x: object = "a", tools: Echo | None = None, **options: Any
) -> tuple[str, Bench, Echo]:
    """What the model is told of one call, and the run."""
    echo = tools or Echo()

    async def main() -> tuple[str, Bench]:
        bench = await Bench.make()
        made = toolset(echo, hooks=hooks(*guards), **options)
        block = await bench.call(made, "act", {"x": x})  # type: ignore[dict-item]
        return str(block.content), bench

    content, bench = run(main)
    return content, bench, echo


# --- what they are told --------------------------------------------------------------------------


def test_a_guard_is_told_what_is_about_to_happen() -> None:
    seen: list[dict[str, Any]] = []
    content, _, _ = once(on(PRE, seen.append), on(POST, seen.append))
    assert content == "got a"
    before, after = seen
    common = {
        "run_id": "r_test",
        "session_id": "s_test",
        "iteration": 0,
        "cwd": "/w",
        "permission_mode": "default",
        "tool_name": "act",
        "tool_use_id": "call_0",
        "tool_input": {"x": "a"},
    }
    assert before.pop("timestamp") > 0
    assert after.pop("timestamp") > 0
    assert before == {"event": "PreToolUse", **common}
    assert after == {"event": "PostToolUse", **common, "tool_output": "got a"}


def test_a_guard_cannot_change_a_call_but_by_its_answer() -> None:
    def spoil(told: dict[str, Any]) -> None:
        told["tool_input"]["x"] = "b"
        told["tool_name"] = "other"

    assert once(on(PRE, spoil), on(POST, spoil))[0] == "got a"


def test_hooks_are_about_some_tools() -> None:
    asked: list[str] = []
    guards = [
        on(PRE, lambda told: asked.append("act"), tools=["act"]),
        on(PRE, lambda told: asked.append("ac*"), tools=["ac*"]),
        on(PRE, lambda told: asked.append("other"), tools=["other", "mcp__*"]),
        on(PRE, lambda told: asked.append("all")),
    ]
    once(*guards)
    assert asked == ["act", "ac*", "all"]


# --- what they may do ----------------------------------------------------------------------------


def test_a_guard_blocks_a_call() -> None:
    content, bench, echo = once(on(PRE, lambda told: Answer("block", "not on Fridays")))
    assert content == (
        "ERROR exec.hook.blocked: The hook 'guard' refused this call of act: not on Fridays. "
        "Do not send it again unchanged."
    )
    assert echo.calls == 0
    assert bench.kinds == ["effect", "decision", "tool.result"]
    decision = bench.facts[1][1]
    assert (decision["tool"], decision["code"]) == ("act", "exec.hook.blocked")
    assert "'guard'" in decision["rule"]


def test_a_guard_changes_a_call() -> None:
    content, bench, _ = once(on(PRE, lambda told: Answer(change={"x": "b"})))
    assert content == "got b"
    assert bench.facts[0][1]["change"] == {"x": "b"}
    assert bench.facts[1][0] == "tool.intent"
    assert bench.facts[1][1]["hook"] == "guard"


def test_a_changed_call_is_checked_again() -> None:
    content, bench, echo = once(on(PRE, lambda told: Answer(change={"y": 1})))
    assert content.startswith(
        "ERROR exec.hook.failed: The hook 'guard' changed the call into one that does not fit: "
        "input must contain ['x']"
    )
    assert echo.calls == 0
    assert bench.kinds[-1] == "tool.result"


@pytest.mark.parametrize("granted", [True, False])
def test_a_changed_call_is_permitted_again(granted: bool) -> None:
    rules = [Rule("act"), Rule("act", {"x": "rm"}, action=Action.DENY)]
    options = {"rules": rules, "granted": granted}
    rewrite = on(PRE, lambda told: Answer(change={"x": "rm"}))
    content, _, echo = once(rewrite, **options)
    assert content.startswith("ERROR exec.tool.access_denied: ")
    assert "deny" in content
    assert echo.calls == 0
    assert once(on(PRE, lambda told: Answer(change={"x": "ls"})), **options)[0] == "got ls"


def test_what_rules_forbid_is_put_to_no_guard() -> None:
    asked: list[object] = []
    deny = Rule("act", {"x": "a"}, action=Action.DENY)
    content, bench, _ = once(on(PRE, asked.append), rules=[deny])
    assert content.startswith("ERROR exec.tool.access_denied: ")
    assert not asked
    assert bench.kinds == ["decision", "tool.result"]


class Person:
    """Answers what it is made with."""

    def __init__(self, *, agrees: bool) -> None:
        self.agrees = agrees
        self.asked: list[str] = []

    async def approve(self, tool: str, summary: str, reason: str) -> bool:
        self.asked.append(f"{tool} {summary}: {reason}")
        return self.agrees


@pytest.mark.parametrize("agrees", [True, False])
def test_a_guard_has_a_person_asked_about_what_is_allowed(agrees: bool) -> None:
    person = Person(agrees=agrees)
    guard = on(PRE, lambda told: Answer("ask", "it is late", change={"x": "b"}))
    content, bench, echo = once(guard, approver=person)
    assert person.asked == [
        'act {"x":"b"}: may exec, net, policy, read, secret, send, write; '
        "the hook 'guard' wants it to be asked: it is late"
    ]
    assert echo.calls == agrees
    assert content == "got b" if agrees else content.startswith("ERROR exec.tool.access_denied: ")
    assert ("decision" in bench.kinds) is not agrees


def test_where_nobody_is_there_what_is_to_be_asked_is_refused() -> None:
    ask = on(PRE, lambda told: Answer("ask"))
    for options in ({}, {"approver": Person(agrees=True), "mode": "dontAsk"}):
        content, _, echo = once(ask, **options)
        assert content.startswith("ERROR exec.tool.access_denied: ")
        assert "the hook 'guard' wants it to be asked" in content
        assert "nobody is there to ask" in content
        assert echo.calls == 0


class Saves(Act):
    """Names the path that it touches."""

    input_schema = {"type": "object", "properties": {"path": {"type": "string"}}}  # noqa: RUF012
    effects = frozenset({"write"})
    paths = frozenset({"path"})

    def __init__(self) -> None:
        super().__init__(lambda i, c: ToolResult("done"))


@pytest.mark.parametrize("leads", [False, True], ids=["as it was", "elsewhere"])
def test_what_a_guard_has_a_person_asked_about_is_approved_as_it_is(
    tmp_path: Path, leads: bool
) -> None:
    (tmp_path / "out").mkdir()

    class Slow(Person):
        async def approve(self, tool: str, summary: str, reason: str) -> bool:
            if leads:
                (tmp_path / "out").rmdir()
                (tmp_path / "out").symlink_to("/etc")
            return await super().approve(tool, summary, reason)

    async def main() -> None:
        tool, bench = Saves(), await Bench.make()
        guards = hooks(on(PRE, lambda told: Answer("ask")))
        made = toolset(
            tool, granted=True, approver=Slow(agrees=True), hooks=guards, working_dir=tmp_path
        )
        block = await bench.call(made, "act", {"path": "out/a"})
        assert (block.is_error, tool.calls) == (leads, not leads)
        asked = [data for kind, data in bench.facts if kind == "effect.intent"]
        assert [data.get("touches") for data in asked] == [[f"path {tmp_path}/out/a"]]
        reasons = [data["reason"] for kind, data in bench.facts if kind == "decision"]
        assert reasons == ["policy.changed"] * leads

    run(main)


@pytest.mark.parametrize("seconds", [1, 20])
def test_a_rule_that_ends_while_a_guard_is_asked_allows_nothing(seconds: float) -> None:
    async def main(world: SimulatedWorld) -> None:
        async def thinks(told: dict[str, Any]) -> None:
            await world.sleep(seconds)

        echo, bench = Echo(), await Bench.make(world=world)
        rules = [Rule.parse("act", expires=world.time() + 10)]
        made = toolset(echo, granted=False, rules=rules, hooks=hooks(on(PRE, thinks)))
        block = await bench.call(made, "act", {"x": "a"})
        assert (block.is_error, echo.calls) == (seconds > 10, seconds < 10)

    simulate(main)


@pytest.mark.parametrize("comes", [False, True])
def test_words_of_strangers_that_come_while_a_guard_is_asked_count(comes: bool) -> None:
    async def main() -> None:
        echo, bench = Echo(), await Bench.make()

        def reads(told: dict[str, Any]) -> None:
            if comes and bench.context.strangers is not None:
                bench.context.strangers.add("a page")  # as a call beside this one does

        made = toolset(echo, granted=False, rules=["act"], hooks=hooks(on(PRE, reads)))
        block = await bench.call(made, "act", {"x": "a"})
        assert (block.is_error, echo.calls) == (comes, not comes)

    run(main)


@pytest.mark.parametrize("leads", [False, True])
def test_a_link_that_comes_while_a_guard_is_asked_counts(tmp_path: Path, leads: bool) -> None:
    async def main() -> None:
        echo, bench = Echo(paths=frozenset({"x"}), subject="x"), await Bench.make()

        def links(told: dict[str, Any]) -> None:
            if leads:
                (tmp_path / "out").symlink_to(tmp_path / "kept")

        (tmp_path / "kept").mkdir()
        rules = [Rule.parse("act"), Rule.parse("act(kept/**)", pattern=True, action=Action.DENY)]
        guards = hooks(on(PRE, links))
        made = toolset(echo, granted=False, rules=rules, hooks=guards, working_dir=tmp_path)
        block = await bench.call(made, "act", {"x": "out/a"})
        assert (block.is_error, echo.calls) == (leads, not leads)

    run(main)


def test_a_guard_grants_nothing() -> None:
    said = on(PRE, lambda told: Answer(reason="by all means"))
    content, _, echo = once(said, granted=False, mode="dontAsk")
    assert content.startswith("ERROR exec.tool.access_denied: ")
    assert echo.calls == 0


def test_guards_add_to_what_the_model_is_told() -> None:
    before = on(PRE, lambda told: Answer(context="use x sparingly"))
    after = on(POST, lambda told: Answer(context="lint: fine"))
    content, bench, _ = once(before, after)
    assert content == "got a\n\nuse x sparingly\n\nlint: fine"
    assert bench.facts[-1][1]["content"] == content


def test_a_guard_changes_a_result() -> None:
    assert once(on(POST, lambda told: Answer(change=told["tool_output"].upper())))[0] == "GOT A"


def test_a_guard_withholds_a_result() -> None:
    content, bench, echo = once(on(POST, lambda told: Answer("block", "it holds a key")))
    assert content == (
        "ERROR exec.hook.blocked: act was run, and its result is withheld. The hook 'guard' "
        "refused to show its result: it holds a key. What it did stays done."
    )
    assert echo.calls == 1
    result = bench.facts[-1][1]
    assert "got a" not in str(result)
    assert result["is_error"] is True


def test_a_call_that_failed_has_a_point_of_its_own() -> None:
    def fail(input: ToolInput, context: ToolContext) -> ToolResult:
        raise ValueError("boom")

    echo = Echo()
    echo.act = fail
    asked: list[str] = []
    guards = [
        on(POST, lambda told: asked.append("post")),
        on(FAILED, lambda told: Answer(context=f"seen: {told['tool_output'][:20]}")),
    ]
    content, _, _ = once(*guards, tools=echo)
    assert content.endswith("ValueError: boom\n\nseen: ERROR exec.tool.cras")
    assert not asked


# --- several -------------------------------------------------------------------------------------


def test_each_guard_is_asked_about_what_the_one_before_made_of_it() -> None:
    seen: list[str] = []

    def more(told: dict[str, Any]) -> Answer:
        seen.append(told["tool_input"]["x"])
        return Answer(change={"x": told["tool_input"]["x"] + "!"}, context=f"c{len(seen)}")

    content, bench, _ = once(on(PRE, more, name="one"), on(PRE, more, name="two"))
    assert seen == ["a", "a!"]
    assert content == "got a!!\n\nc1\n\nc2"
    assert bench.kinds.count("effect") == 1
    assert bench.facts[0][1]["hook"] == "one, two"


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_strictest_answer_holds_in_any_order(order: Sequence[int]) -> None:
    said = [
        on(PRE, lambda told: Answer(change={"x": "b"}, context="fine"), name="changes"),
        on(PRE, lambda told: Answer("ask", "hm"), name="asks"),
        on(PRE, lambda told: Answer("block", "no"), name="blocks"),
    ]
    person = Person(agrees=True)
    content, _, echo = once(*[said[at] for at in order], approver=person)
    assert content.startswith("ERROR exec.hook.blocked: The hook 'blocks' refused")
    assert echo.calls == 0
    assert not person.asked
    content, _, _ = once(*[said[at] for at in order if at != 2], approver=person)
    assert content == "got b\n\nfine"
    assert len(person.asked) == 1
    assert "'asks'" in person.asked[0]


def test_after_a_block_nobody_is_asked() -> None:
    asked: list[object] = []
    once(on(PRE, lambda told: Answer("block", "no")), on(PRE, asked.append))
    assert not asked


# --- a function that fails -----------------------------------------------------------------------


def raising(error: BaseException) -> Callable[[dict[str, Any]], Any]:
    def guard(told: dict[str, Any]) -> None:
        raise error

    return guard


async def forever(told: dict[str, Any]) -> None:
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass


FAILING: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "raises": (raising(ValueError("boom")), "failed: ValueError: boom"),
    "exits": (raising(SystemExit(0)), "failed: SystemExit: 0"),
    "cancels": (raising(asyncio.CancelledError()), "failed: CancelledError"),
    "garbage": (lambda told: "block", "returned a str, neither an Answer nor None"),
    "true": (lambda told: True, "returned a bool, neither an Answer nor None"),
    "allows": (lambda told: Answer("allow"), "decided 'allow'; it may say 'block' or 'ask'"),  # type: ignore[arg-type]
    "long": (lambda told: Answer(context="x" * 50_001), "gave a context of more than 50,000"),
}


@pytest.mark.parametrize("how", FAILING)
@pytest.mark.parametrize("event", [PRE, POST])
def test_a_function_that_fails_lets_nothing_through(how: str, event: str) -> None:
    function, told = FAILING[how]
    content, bench, echo = once(on(event, function, name="bad"))
    assert "got a" not in content
    assert content.startswith("ERROR exec.hook.failed: ")
    assert f"The hook 'bad' ({event}) {told}" in content
    assert echo.calls == (event == POST)
    assert bench.facts[-1][1]["error"] == "exec.hook.failed"


@pytest.mark.parametrize(
    ("event", "answer", "told"),
    [
        (PRE, Answer(change="ls"), "changes the tool's input into something that is not an object"),
        (POST, Answer(change={"x": 1}), "changes the result into something that is not text"),
        (POST, Answer("ask"), "decided 'ask', which only PreToolUse can"),
        (POST, Answer(change="x" * 50_001), "changes it into more than 50,000 characters"),
    ],
    ids=["no object", "no text", "cannot ask", "too long"],
)
def test_an_answer_that_does_not_fit_the_point_fails(event: str, answer: Answer, told: str) -> None:
    content, _, _ = once(on(event, lambda _: answer))
    assert "exec.hook.failed" in content
    assert told in content


@pytest.mark.parametrize("event", [PRE, POST])
def test_a_guard_that_hangs_is_given_up(event: str) -> None:
    async def main(world: SimulatedWorld) -> tuple[str, float, int]:
        bench = await Bench.make(world=world)
        echo = Echo()
        tools = toolset(echo, hooks=hooks(on(event, forever, name="slow", timeout_s=7)))
        block = await bench.call(tools, "act", {"x": "a"})
        return str(block.content), world.monotonic(), echo.calls

    content, took, calls = simulate(main)
    assert content.startswith("ERROR exec.hook.timeout: ")
    assert f"The hook 'slow' ({event}) did not answer within 7 s" in content
    assert took == 7
    assert calls == (event == POST)


# --- a program -----------------------------------------------------------------------------------


def finished(output: bytes = b"", code: int = 0, errors: bytes = b"", size: int = 0) -> Finished:
    return Finished(code, output, size or len(output), False, 0.1, errors=errors)


def played(result: Finished | OSError | None) -> tuple[str, Echo, list[dict[str, Any]]]:
    """What the model is told when the guard is a program that ends so; None: it hangs."""
    echo = Echo()
    started: list[dict[str, Any]] = []

    async def spawn(
        argv: Sequence[str], *, cwd: Path, env: Any, stdin: bytes, limits: ProcessLimits
    ) -> Finished:
        started.append({"argv": argv, "cwd": cwd, "stdin": stdin, "env": env, "limits": limits})
        if result is None:
            await asyncio.sleep(10**6)
        if isinstance(result, OSError):
            raise result
        assert result is not None
        return result

    async def main(world: SimulatedWorld) -> str:
        bench = await Bench.make(world=world)
        guard = CommandHook(PRE, ["/hooks/check", "--strict"], Path("/hooks"), timeout_s=5)
        block = await bench.call(toolset(echo, hooks=hooks(guard)), "act", {"x": "a"})
        return str(block.content)

    return simulate(main, spawn=spawn), echo, started


def test_a_program_is_given_json_and_little_else() -> None:
    content, _, (started,) = played(finished())
    assert content == "got a"
    told = json.loads(started["stdin"])
    assert (told["event"], told["tool_input"]) == ("PreToolUse", {"x": "a"})
    assert started["argv"] == ("/hooks/check", "--strict")
    assert started["cwd"] == Path("/hooks")
    assert started["limits"] == ProcessLimits(5, 262_144, apart=True)
    assert set(started["env"]) <= {"PYTHONDONTWRITEBYTECODE"}


@pytest.mark.parametrize(
    ("result", "told"),
    [
        (finished(b" \n"), "got a"),
        (finished(b"{}"), "got a"),
        (finished(b'{"decision": "", "reason": "fine"}'), "got a"),
        (finished(b'{"change": {"x": "b"}, "context": "c"}'), "got b\n\nc"),
        (finished(b"{}", errors=b"a warning"), "got a"),
    ],
    ids=["nothing", "an object", "no decision", "a change", "words on stderr"],
)
def test_what_a_program_may_say(result: Finished, told: str) -> None:
    assert played(result)[0] == told


@pytest.mark.parametrize(
    ("result", "told"),
    [
        (finished(b'{"decision": "block", "reason": "no"}'), "refused this call of act: no."),
        (finished(code=2, errors=b"not\n on Fridays\n"), "of act: not on Fridays."),
        (finished(b"{}", code=2), "of act: it gave no reason."),
    ],
    ids=["by json", "by exit code", "without a reason"],
)
def test_a_program_blocks(result: Finished, told: str) -> None:
    content, echo, _ = played(result)
    assert content.startswith("ERROR exec.hook.blocked: The hook 'check --strict' ")
    assert told in content
    assert echo.calls == 0


@pytest.mark.parametrize(
    ("result", "told"),
    [
        (finished(b"{}", code=1), "ended with exit code 1"),
        (finished(code=1, errors=b"no such module"), "ended with exit code 1: no such module"),
        (finished(code=127), "ended with exit code 127"),
        (finished(code=-signal.SIGKILL), "was killed by signal 9"),
        (finished(b"all good"), "printed what is no JSON: 'all good'"),
        (finished(b"{} {}"), "printed what is no JSON"),
        (finished(b'{"decision": "block", "decision": ""}'), "'decision' stands there twice"),
        (finished(b'{"change": {"x": NaN}}'), "printed what is no JSON"),
        (finished(b"[" * 100_000), "printed what is no JSON"),
        (finished(b"\xff\xfe{}"), "printed what is no JSON"),
        (finished(b'"block"'), "which is not an object"),
        (finished(b'{"decison": "block"}'), "has no field 'decison' to say; did you mean"),
        (finished(b'{"decision": "approve"}'), "decided 'approve'"),
        (finished(b'{"decision": null}'), "decided None"),
        (finished(b'{"decision": ["block"]}'), "decided ['block']"),
        (finished(b'{"reason": 1}'), "is not text"),
        (finished(b'{"change": "ls"}'), "is not an object"),
        (finished(b'{"change": {"x": 1e999}}'), "is not plain JSON"),
        (finished(b"{" + b" " * 262_145 + b"}"), "printed 262,147 bytes, of 262,144 at most"),
        (FileNotFoundError(2, "No such file or directory"), "cannot be started: No such file"),
    ],
    ids=[
        *(
            "exit 1",
            "exit 1 with words",
            "exit 127",
            "killed",
            "text",
            "two objects",
            "a field twice",
            "nan",
        ),
        *("deep", "bytes", "a text", "a misspelt field", "approves", "null", "a list"),
        *("odd reason", "odd change", "a number beyond all", "too much", "is not there"),
    ],
)
def test_a_program_that_fails_lets_nothing_through(result: Finished | OSError, told: str) -> None:
    content, echo, _ = played(result)
    assert content.startswith("ERROR exec.hook.failed: The hook 'check --strict' (PreToolUse) ")
    assert told in content
    assert len(content) < 500
    assert echo.calls == 0


def test_a_program_that_hangs_is_given_up() -> None:
    content, echo, _ = played(None)
    assert content.startswith(
        "ERROR exec.hook.timeout: The hook 'check --strict' (PreToolUse) did not answer within 5 s."
    )
    assert echo.calls == 0


def real(tmp_path: Path, body: str, *, timeout_s: float = 20, **options: Any) -> tuple[str, Echo]:
    """What the model is told with a guard that is a real Python program."""
    program = tmp_path / "check.py"
    program.write_text(f"import json, os, sys, time\n{body}\n")
    argv = [sys.executable, "-I", str(program)]
    guard = CommandHook(PRE, argv, tmp_path, name="check", timeout_s=timeout_s, **options)
    content, _, echo = once(guard)
    return content, echo


def test_a_real_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-canary")
    content, _ = real(
        tmp_path,
        "told = json.load(sys.stdin)\n"
        "print('looking', file=sys.stderr)\n"
        "said = [told['tool_input']['x'], os.getcwd(), 'ANTHROPIC_API_KEY' in os.environ]\n"
        "print(json.dumps({'change': {'x': json.dumps(said)}}))",
    )
    assert json.loads(content.removeprefix("got ")) == ["a", str(tmp_path.resolve()), False]
    content, echo = real(tmp_path, "print('no', file=sys.stderr); sys.exit(2)")
    assert "refused this call of act: no." in content
    assert echo.calls == 0


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("os.kill(os.getpid(), 9)", "was killed by signal 9"),
        ("raise ValueError('boom')", "ended with exit code 1: Traceback"),
        ("x = b'x' * 1_000_000\nfor _ in range(100): os.write(1, x)", "printed 100,000,000 bytes"),
        ("x = b'x' * 1_000_000\nfor _ in range(100): os.write(2, x)\nsys.exit(1)", "exit code 1"),
        ("time.sleep(60)", "did not answer within 0.5 s"),
        ("os.fork() and os._exit(0)\ntime.sleep(60)", ""),
    ],
    ids=["killed", "raises", "prints 100 MB", "100 MB of errors", "hangs", "leaves a child"],
)
def test_a_real_program_that_fails(tmp_path: Path, body: str, told: str) -> None:
    began = time.monotonic()
    content, echo = real(tmp_path, body, timeout_s=0.5 if "within" in told else 20)
    assert time.monotonic() - began < 15
    if told:
        assert content.startswith("ERROR exec.hook.")
        assert told in content
        assert echo.calls == 0
    else:  # nothing was said against it
        assert content == "got a"
    assert len(content) < 3000


# --- a run that was interrupted ------------------------------------------------------------------


class Counted(Echo):
    """With a guard that counts how often it is asked."""

    def __init__(self, answer: Answer | None, event: str = PRE, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.asked = 0
        self.answer = answer
        self.guard = on(event, self._ask)

    def _ask(self, told: dict[str, Any]) -> Answer | None:
        self.asked += 1
        return self.answer

    async def told(self, bench: Bench, *, guarded: bool = True, **options: Any) -> str:
        tools = toolset(self, hooks=hooks(self.guard) if guarded else None, **options)
        return str((await bench.call(tools, "act", {"x": "a"})).content)


ANSWERS: dict[str, tuple[Answer | None, str]] = {
    "nothing": (None, "got a"),
    "changes": (Answer(change={"x": "b"}, context="c"), "got b\n\nc"),
    "blocks": (Answer("block", "no"), "ERROR exec.hook.blocked"),
}


@pytest.mark.parametrize("safety", ["read", "idempotent", "unsafe"])
@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("guarded", [True, False], ids=["with hooks", "without them"])
def test_a_recorded_answer_is_not_asked_for_again(answer: str, safety: str, guarded: bool) -> None:
    """From every prefix of the facts the model is told the same, and whoever answered is not
    asked again; nor is the answer forgotten where the hook is not there any more."""
    said, told = ANSWERS[answer]
    attributes: dict[str, Any] = {
        "read": {"effects": frozenset({"read"})},
        "idempotent": {"idempotent": True},
        "unsafe": {},
    }[safety]

    async def main() -> None:
        first = Counted(said, **attributes)
        bench = await Bench.make()
        whole = await first.told(bench)
        assert whole.startswith(told)
        facts = len(bench.kinds)
        assert first.asked == 1
        for upto in range(1, facts + 1):
            again = Counted(said, **attributes)
            resumed = await bench.again(upto)
            content = await again.told(resumed, guarded=guarded)
            assert again.asked == 0
            begun = resumed.kinds[:upto][-1] == "tool.intent"
            if begun and safety == "unsafe":
                assert "exec.tool.outcome_unknown" in content
            else:
                assert content == whole
            assert not resumed.context.replaying

    run(main)


@pytest.mark.parametrize("safety", ["read", "idempotent", "unsafe"])
def test_a_result_is_kept_while_guards_look_at_it(safety: str) -> None:
    """The process dies while a guard after the call is asked: the call is not made again, and its
    result is not unknown."""
    attributes: dict[str, Any] = {
        "read": {"effects": frozenset({"read"})},
        "idempotent": {"idempotent": True},
        "unsafe": {},
    }[safety]

    async def main() -> None:
        first = Counted(Answer(change="checked"), POST, **attributes)
        bench = await Bench.make()
        assert await first.told(bench) == "checked"
        at = bench.kinds.index("effect.intent") + 1
        for upto, asked in ((at, 1), (at + 1, 0), (at + 2, 0)):
            again = Counted(Answer(change="checked"), POST, **attributes)
            resumed = await bench.again(upto)
            assert await again.told(resumed) == "checked"
            assert (again.calls, again.asked) == (0, asked)
            assert resumed.kinds == bench.kinds
            assert not resumed.context.replaying

    run(main)


def test_an_interrupted_call_is_reconciled_as_it_was_changed() -> None:
    found: list[object] = []

    class Sure(Counted):
        async def reconcile(self, key: str, input: ToolInput, context: ToolContext) -> ToolResult:
            found.append(input["x"])
            return ToolResult("was done")

    async def main() -> None:
        bench = await Bench.make()
        await Sure(Answer(change={"x": "b"}, context="c")).told(bench)
        resumed = await bench.again(bench.kinds.index("tool.intent") + 1)
        again = Sure(None)
        assert await again.told(resumed) == "was done\n\nc"
        assert (found, again.calls, again.asked) == (["b"], 0, 0)

    run(main)


def test_an_interrupted_call_is_made_again_as_it_was_changed() -> None:
    class Undone(Counted):
        async def reconcile(self, key: str, input: ToolInput, context: ToolContext) -> Any:
            return NOT_DONE

    async def main() -> None:
        bench = await Bench.make()
        await Undone(Answer(change={"x": "b"})).told(bench)
        resumed = await bench.again(bench.kinds.index("tool.intent") + 1)
        again = Undone(None)
        assert await again.told(resumed) == "got b"
        assert (again.calls, again.asked) == (1, 0)
        assert not resumed.context.replaying

    run(main)


def test_a_store_that_fails_meanwhile_is_no_outcome_of_the_call() -> None:
    """Recorded as one, it would be raised again whenever the run is resumed."""

    async def main() -> None:
        first = Counted(Answer(change="checked"), POST)
        bench = await Bench.make()
        append = bench.journal.append

        async def fails(stream: str, epoch: int, facts: Any, **options: Any) -> int:
            if any(fact.type == "effect.intent" for fact in facts):
                raise JournalError("no room")
            return await append(stream, epoch, facts, **options)

        bench.journal.append = fails  # type: ignore[method-assign]
        with pytest.raises(JournalError, match="no room"):
            await first.told(bench)
        assert bench.kinds == ["tool.intent"]

    run(main)


def test_a_refusal_holds_although_the_process_died_over_it() -> None:
    async def main() -> None:
        bench = await Bench.make()
        await Counted(Answer("block", "no")).told(bench)
        for upto in (1, 2):
            again = Counted(None)
            resumed = await bench.again(upto)
            assert (await again.told(resumed)).startswith("ERROR exec.hook.blocked")
            assert (again.calls, again.asked) == (0, 0)

    run(main)


def test_what_a_guard_failed_at_is_recorded_too() -> None:
    async def main() -> None:
        bench = await Bench.make()
        tools = toolset(Echo(), hooks=hooks(on(PRE, raising(ValueError("boom")))))
        first = (await bench.call(tools, "act", {"x": "a"})).content
        for upto in (1, 2, 3):
            again = Counted(None)
            assert await again.told(await bench.again(upto)) == first
            assert (again.calls, again.asked) == (0, 0)

    run(main)


# --- what a folder of programs comes to ----------------------------------------------------------


def test_whatever_changes_in_a_pinned_folder_counts(tmp_path: Path) -> None:
    folder = tmp_path / "hooks"
    assert digest_of(folder) == ""
    (folder / "sub").mkdir(parents=True)
    seen = [digest_of(folder)]
    file = folder / "sub" / "a.py"
    changes: list[Callable[[], object]] = [
        lambda: file.write_bytes(b"one"),
        lambda: file.write_bytes(b"two"),
        lambda: file.chmod(0o755),
        lambda: file.rename(folder / "sub" / "b.py"),
        lambda: (folder / "sub").rename(folder / "other"),
        lambda: (folder / "c.py").write_bytes(b""),
    ]
    for change in changes:
        change()
        seen.append(digest_of(folder))
        assert digest_of(folder) == seen[-1] != ""
    assert len(set(seen)) == len(seen)


def test_a_folder_behind_a_link_cannot_be_trusted(tmp_path: Path) -> None:
    (tmp_path / "conf" / "hooks").mkdir(parents=True)
    (tmp_path / "conf" / "hooks" / "check").write_text("")
    (tmp_path / "settings").symlink_to("conf")
    (tmp_path / "programs").symlink_to("conf/hooks")
    assert digest_of(tmp_path / "conf" / "hooks") != ""
    assert digest_of(tmp_path / "settings" / "hooks") == digest_of(tmp_path / "programs") == ""


def test_a_folder_that_cannot_be_pinned(tmp_path: Path) -> None:
    file = tmp_path / "a"
    assert digest_of(tmp_path) != ""
    file.write_bytes(b"")
    assert digest_of(file) == ""
    for make in (
        lambda: file.symlink_to("/etc/hostname"),
        lambda: file.symlink_to("/etc"),
        lambda: file.symlink_to("nowhere"),
        lambda: os.mkfifo(file),
        lambda: file.write_bytes(bytes(MAX_BYTES + 1)),
    ):
        file.unlink()
        make()
        assert digest_of(tmp_path) == ""
    file.write_bytes(bytes(MAX_BYTES))
    assert digest_of(tmp_path) != ""
    (tmp_path / "b").write_bytes(b"x")
    assert digest_of(tmp_path) == ""
    file.write_bytes(b"")
    for number in range(MAX_FILES - 2):
        (tmp_path / str(number)).touch()
    assert digest_of(tmp_path) != ""
    (tmp_path / "one more").touch()
    assert digest_of(tmp_path) == ""


# --- what cannot be ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: on("PreTolUse", print), "no hook event 'PreTolUse'; did you mean 'PreToolUse'"),
        (lambda: FunctionHook(PRE, "check"), "a hook is a function, not str"),  # type: ignore[arg-type]
        (lambda: on(PRE, print, timeout_s=0), "it must be more than 0, at most 600"),
        (lambda: on(PRE, print, timeout_s=601), "it must be more than 0, at most 600"),
        (lambda: on("Stop", print, tools=["Bash"]), "names tools, and Stop is about none"),
        (lambda: CommandHook(PRE, [], Path("/")), "has no program to run"),
        (lambda: CommandHook(PRE, [""], Path("/")), "has no program to run"),
        (lambda: CommandHook(PRE, "ls -l", Path("/")), "argv must be a list of words, not str"),
    ],
    ids=[
        "event",
        "no function",
        "no time",
        "too much time",
        "tools",
        "no program",
        "empty",
        "line",
    ],
)
def test_hooks_that_cannot_be(make: Callable[[], Hook], told: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)):
        make()


@pytest.mark.parametrize("name", ["PreToolUse", "pre_tool_use", "PRE_TOOL_USE", "pretooluse"])
def test_events_have_the_names_that_people_know(name: str) -> None:
    assert HookEvent.named(name) is HookEvent.PRE_TOOL_USE


def test_a_guarded_call_runs_beside_no_other() -> None:
    echo = Echo(concurrency_safe=True)
    use = ToolUse("call_0", "act", {"x": "a"})
    assert toolset(echo).concurrency_safe(use)
    assert toolset(echo, hooks=hooks(on(POST, print))).concurrency_safe(use)
    assert not toolset(echo, hooks=hooks(on(PRE, print))).concurrency_safe(use)
    assert toolset(echo, hooks=hooks(on(PRE, print, tools=["other"]))).concurrency_safe(use)
