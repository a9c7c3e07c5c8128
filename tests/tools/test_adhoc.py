"""Tools that a manifest describes: they do what it says, and it grants them nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorimer import EnvironmentManifest, Limits, Pipeline, PipelinePresets, tool
from lorimer.assembly import check_manifest
from lorimer.core.adhoc import CompositeTool
from lorimer.core.errors import ConfigError
from lorimer.core.mail import answer
from lorimer.core.messages import ToolUse
from lorimer.journal.memory import MemoryJournal
from lorimer.models.registry import Models
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from lorimer.tools import AskLater, Tool, ToolRegistry, Toolset
from lorimer.tools.adhoc import register_adhoc
from lorimer.tools.adhoc.fill import filled, filled_json
from lorimer.tools.builtin import builtin_tools
from lorimer.tools.hooks import Answer, FunctionHook
from lorimer.tools.hooks.hookset import HookSet
from lorimer.tools.policy.rules import Rule
from lorimer.world.files import RootedFiles
from lorimer.world.real import RealWorld
from tests.tools.support import Bench, run
from tests.world.levels import needs

TEXT = {"type": "string"}


def described(*tools: dict[str, Any]) -> list[Any]:
    made = EnvironmentManifest.from_dict({"tools": {"ad_hoc": list(tools)}})
    return made.tools.ad_hoc


def toolset(*tools: dict[str, Any], others: tuple[Tool, ...] = (), **options: Any) -> Toolset:
    registry = ToolRegistry(others)
    register_adhoc(described(*tools), registry)
    return Toolset(registry, **options)


GREET = {
    "kind": "template",
    "name": "greet",
    "description": "A greeting.",
    "parameters": {"who": TEXT, "mood": TEXT},
    "required": ["who"],
    "template": "Dear {who}, {mood}{who.upper} {0} {{who}} {who!r} {}",
}


# --- templates


def test_a_template_is_filled_in_one_pass_and_nobody_is_asked() -> None:
    async def main() -> None:
        bench = await Bench.make()
        tools = toolset(GREET, mode="dontAsk")
        block = await bench.call(tools, "greet", {"who": "{mood}{who.__class__}", "mood": "x"})
        assert block.content == (
            "Dear {mood}{who.__class__}, x{who.upper} {0} {{mood}{who.__class__}} {who!r} {}"
        )
        left_out = await bench.call(tools, "greet", {"who": "A"}, index=1)
        assert str(left_out.content).startswith("Dear A, {who.upper}")
        wrong = await bench.call(tools, "greet", {"mood": "A"}, index=2)
        assert "exec.tool.invalid_input" in str(wrong.content)
        assert bench.kinds == ["tool.result"] * 3  # read-only: no intent

    run(main)


SSTI = [
    "{who.__class__.__mro__}",
    "{who[0]}",
    "{who!r:>9}",
    "{{7*7}}",
    "${7*7}",
    "{% for x in y %}",
    "%(who)s",
    "$who",
    "<%= 7*7 %>",
    "#{7*7}",
    "\\{who\\}",
]


@pytest.mark.parametrize("text", SSTI, ids=range(len(SSTI)))
def test_nothing_but_a_name_in_braces_means_anything(text: str) -> None:
    assert filled(text, {"x": "49"}) == text
    assert filled("{x}", {"x": text, "who": "leak"}) == text


@given(st.text(), st.text())
def test_what_is_filled_in_is_not_read_again(before: str, value: str) -> None:
    assert filled("{x}|{y}", {"x": value, "y": before}) == f"{value}|{before}"


def test_values_keep_their_types_where_they_stand_alone() -> None:
    form: Any = {"n": "{n}", "list": ["{n}", "{none}", "n={n}"], "none": "{none}", "{n}": True}
    assert filled_json(form, {"n": 3}) == {"n": 3, "list": [3, "n=3"], "{n}": True}


# --- http


def answering(seen: list[httpx2.Request], **answers: Any) -> httpx2.MockTransport:
    def handle(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(**{"status_code": 200, **answers})

    return httpx2.MockTransport(handle)


def asked(
    tool: dict[str, Any], arguments: dict[str, Any], **answers: Any
) -> tuple[str, list[httpx2.Request]]:
    seen: list[httpx2.Request] = []

    async def main(world: SimulatedWorld) -> str:
        bench = await Bench.make(world=world)
        tools = toolset(tool, rules=[tool["name"]])
        return str((await bench.call(tools, tool["name"], arguments)).content)

    return str(simulate(main, transport=answering(seen, **answers))), seen


HTTP = {
    "kind": "http",
    "name": "order",
    "parameters": {"id": TEXT, "count": {"type": "integer"}, "note": TEXT},
    "required": ["id"],
    "url": "https://api.example.org/v1/orders/{id}?note={note}",
}


def test_values_in_a_url_stay_one_piece_of_it() -> None:
    content, (request,) = asked(HTTP, {"id": "a/../b?x=1#y", "note": "é &=%"}, text="fine")
    assert content == "[status 200]\nfine"
    assert str(request.url) == (
        "https://api.example.org/v1/orders/a%2F..%2Fb%3Fx%3D1%23y?note=%C3%A9%20%26%3D%25"
    )
    content, seen = asked(HTTP, {"id": ".."})
    assert "'..' cannot be part of the URL" in content
    assert seen == []
    two = {**HTTP, "url": "https://api.example.org/v1/{id}{note}/x"}
    content, seen = asked(two, {"id": ".", "note": "."})
    assert "'..' cannot be part of the URL" in content
    assert seen == []


def test_a_body_is_json_with_values_of_their_types() -> None:
    tool = {
        **HTTP,
        "method": "POST",
        "headers": {"x-note": "{note}"},
        "body": {"count": "{count}", "text": "n: {count}"},
        "result": "items.1.name",
    }
    answer = {"items": [{}, {"name": "found"}]}
    content, (request,) = asked(tool, {"id": "7", "count": 2, "note": "n"}, json=answer)
    assert content == "found"
    assert json.loads(request.content) == {"count": 2, "text": "n: 2"}
    assert request.headers["content-type"] == "application/json"
    assert request.headers["x-note"] == "n"
    content, seen = asked(tool, {"id": "7", "note": "a\r\nhost: evil"})
    assert "the header x-note would not be plain text" in content
    assert seen == []
    assert "the answer has no 'items.1.name'" in asked(tool, {"id": "7"}, json=[])[0]
    assert "the answer is no JSON" in asked(tool, {"id": "7"}, text="<")[0]


def test_an_answer_is_read_in_its_own_encoding() -> None:
    kind = {"content-type": "text/plain; charset=Shift_JIS"}
    content, _ = asked(HTTP, {"id": "7"}, content="日本".encode("cp932"), headers=kind)
    assert content == "[status 200]\n日本"
    content, _ = asked({**HTTP, "result": "a"}, {"id": "7"}, content=b'\xef\xbb\xbf{"a": 1}')
    assert content == "1"


def test_a_redirect_carries_nothing_elsewhere() -> None:
    away = {"status_code": 307, "headers": {"location": "https://evil.example/"}}
    content, seen = asked({**HTTP, "method": "POST", "body": "secret"}, {"id": "1"}, **away)
    assert content.startswith("[status 307]")
    assert [request.url.host for request in seen] == ["api.example.org"]
    _, seen = asked(HTTP, {"id": "1"}, **away)
    assert len(seen) == 6


@pytest.mark.parametrize(
    "url",
    [
        "https://a.org:99/" + "x" * 170 + "?key=${API_KEY}",
        "https://a.org/?key=${API_KEY}&x=" + "x" * 3000,
        "https://a.org/${API_KEY}/`",
    ],
)
def test_errors_show_no_url_with_values_of_variables(url: str) -> None:
    """Not even half of one, which nobody would know for a secret."""

    async def main() -> None:
        registry = ToolRegistry()
        tool = {"kind": "http", "name": "ask", "url": url}
        register_adhoc(described(tool), registry, {"API_KEY": "canary-" + "q7" * 20})
        bench = await Bench.make()
        block = await bench.call(Toolset(registry, mode="bypass"), "ask", {})
        assert block.is_error
        assert "canary" not in str(block.content)
        assert "a.org" in str(block.content)

    run(main)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/", "http://169.254.169.254/", "http://[::1]/", "https://h:22/x"]
)
def test_only_public_places_are_reached(url: str) -> None:
    tool = {"kind": "http", "name": "inside", "url": url}
    content, seen = asked(tool, {})
    assert content.startswith("ERROR exec.tool.access_denied")
    assert seen == []


@pytest.mark.parametrize(
    ("kind", "mode", "runs"),
    [
        ("GET", "default", False),
        ("POST", "acceptEdits", False),
        ("GET", "bypass", True),
        ("script", "acceptEdits", False),
        ("script", "dontAsk", False),
        ("composite", "dontAsk", False),
        ("template", "dontAsk", True),
    ],
)
def test_a_manifest_grants_nothing(tmp_path: Path, kind: str, mode: str, runs: bool) -> None:
    tools: dict[str, dict[str, Any]] = {
        "GET": {"kind": "http", "name": "t", "url": "https://h.example"},
        "POST": {"kind": "http", "name": "t", "url": "https://h.example", "method": "POST"},
        "script": {"kind": "script", "name": "t", "script": "def execute(input): return 1"},
        "composite": {"kind": "composite", "name": "t", "steps": [{"tool": "u"}]},
        "template": {"kind": "template", "name": "t", "template": "x"},
    }
    other = {"kind": "script", "name": "u", "script": "def execute(input): return 1"}

    async def main(world: SimulatedWorld) -> bool:
        bench = await Bench.make(world=world)
        used = toolset(tools[kind], other, mode=mode, working_dir=tmp_path, sandbox="off")
        block = await bench.call(used, "t")
        assert block.is_error or "ERROR" not in str(block.content)
        return not block.is_error

    assert simulate(main, transport=answering([])) is runs


# --- scripts


def scripted(
    root: Path, script: str, arguments: dict[str, Any], **options: Any
) -> tuple[str, bool]:
    async def main() -> tuple[str, bool]:
        bench = await Bench.make()
        tool = {"kind": "script", "name": "s", "parameters": {"x": {}}, "script": script}
        with RootedFiles([root]) as files:
            tools = toolset({**tool, "required": []}, rules=["s"], files=files, **options)
            block = await bench.call(tools, "s", arguments)
        return str(block.content), block.is_error

    return run(main)


@pytest.mark.parametrize(
    ("script", "told", "fails"),
    [
        ("def execute(input): return input['x'] * 2", "[1, 1]\n[exit code 0]", False),
        ("async def execute(input):\n print('so')\n return 'é'", "so\né\n[exit code 0]", False),
        ("def execute(input): pass", "[exit code 0]", False),
        ("def execute(input): return 1 / 0", "ZeroDivisionError: division by zero\n[exit", True),
        ("x = (", "SyntaxError", True),
        ("x = 1", "the script defines no function execute(input)\n[exit code 1]", True),
    ],
)
def test_a_script_runs_in_its_own_process(
    tmp_path: Path, script: str, told: str, fails: bool
) -> None:
    content, is_error = scripted(tmp_path, script, {"x": [1]})
    assert told in content
    assert "script_worker" not in content
    assert is_error is fails


def test_a_script_is_sandboxed_and_never_in_this_process(tmp_path: Path) -> None:
    needs("L2")
    code = "import os\ndef execute(input): return str(os.getppid()) + open('/usr/x', 'w').name"
    content, is_error = scripted(tmp_path, code, {}, sandbox="require")
    assert "Read-only file system" in content
    assert is_error
    pid = "import os\ndef execute(input): return os.getpid()"
    assert str(os.getpid()) not in scripted(tmp_path, pid, {})[0].split()


# --- composites


@tool(effects=["write"])
async def save(text: str) -> str:
    """Save a text."""
    SAVED.append(text)
    if text == "bad":
        raise ValueError("no")
    return f"saved {len(SAVED)}"


SAVED: list[str] = []


@pytest.fixture(autouse=True)
def _empty() -> None:
    SAVED.clear()


TWICE = {
    "kind": "composite",
    "name": "twice",
    "parameters": {"text": TEXT},
    "steps": [
        {"tool": "save", "input": {"text": "{text}"}, "save": "first"},
        {"tool": "save", "input": {"text": "after {first}"}, "save": "second"},
    ],
    "result": "{first}, {second}",
}


def ungranted(*tools: Tool) -> ToolRegistry:
    registry = ToolRegistry()
    for each in tools:
        registry.register(each, granted=False)
    return registry


def composed(tools: list[dict[str, Any]], registry: ToolRegistry, **options: Any) -> Toolset:
    register_adhoc(described(*tools), registry)
    return Toolset(registry, **options)


def test_steps_follow_one_another_and_are_recorded() -> None:
    async def main() -> None:
        bench = await Bench.make()
        tools = composed([TWICE], ToolRegistry([save]))
        block = await bench.call(tools, "twice", {"text": "a"})
        assert block.content == "saved 1, saved 2"
        assert SAVED == ["a", "after saved 1"]
        keys = [(kind, data["key"]) for kind, data in bench.facts]
        assert keys == [
            ("effect.intent", "step:0s0"),
            ("effect", "step:0s0"),
            ("effect.intent", "step:0s1"),
            ("effect", "step:0s1"),
            ("tool.result", "0"),
        ]
        assert bench.context.bounds.tool_calls == 3

    run(main)


def test_the_first_that_fails_ends_it() -> None:
    async def main() -> None:
        bench = await Bench.make()
        tools = composed([TWICE], ToolRegistry([save]))
        block = await bench.call(tools, "twice", {"text": "bad"})
        assert str(block.content).startswith("step 1 of 2, save, failed: ERROR exec.tool.crashed")
        assert block.is_error
        assert SAVED == ["bad"]

    run(main)


def test_each_step_is_decided_about() -> None:
    async def main() -> None:
        bench = await Bench.make()
        tools = composed([TWICE], ungranted(save), rules=[Rule.parse("save(text=a)", pattern=True)])
        block = await bench.call(tools, "twice", {"text": "b"})
        assert "step 1 of 2, save, failed: ERROR exec.tool.access_denied" in str(block.content)
        assert SAVED == []
        (decision,) = [data for kind, data in bench.facts if kind == "decision"]
        assert decision["tool"] == "save"
        assert decision["key"] == "0s0"

    run(main)


@pytest.mark.parametrize("cut", range(6))
def test_resumed_anywhere_no_step_is_made_twice(cut: int) -> None:
    async def main() -> None:
        bench = await Bench.make()
        tools = composed([TWICE], ToolRegistry([save]))
        whole = (await bench.call(tools, "twice", {"text": "a"})).content
        SAVED.clear()
        after = await bench.again(cut)
        block = await after.call(tools, "twice", {"text": "a"})
        unsure = cut in (1, 3)  # begun, and no result
        assert ("exec.tool.outcome_unknown" in str(block.content)) is unsure
        if not unsure:
            assert str(block.content).startswith(str(whole)[:5])
        assert len(SAVED) == {0: 2, 2: 1}.get(cut, 0)
        assert not after.context.replaying
        assert after.context.bounds.tool_calls == {1: 2}.get(cut, 3)

    run(main)


def test_the_limit_of_calls_holds_for_steps() -> None:
    async def main() -> None:
        bench = await Bench.make(limits=Limits(max_tool_calls=2))
        tools = composed([TWICE], ToolRegistry([save]))
        block = await bench.call(tools, "twice", {"text": "a"})
        assert "exec.limit.tool_calls" in str(block.content)
        assert SAVED == ["a"]

    run(main)


def test_a_person_answers_for_a_step_from_elsewhere() -> None:
    async def main() -> None:
        world = RealWorld()
        journal = MemoryJournal(world)
        use = ToolUse("c1", "twice", {"text": "a"})
        made = PipelinePresets.agent().manifest.to_dict()
        made["tools"] = {"ad_hoc": [TWICE, {**GREET, "name": "hi"}]}
        registry = ungranted(save)

        def pipeline() -> Pipeline:
            return Pipeline(
                EnvironmentManifest.from_dict(made),
                tools=registry,
                rules=[Rule.parse("save(text=a)", pattern=True)],
                approver=AskLater(),
                models=Models(
                    providers={"anthropic": ScriptedModel([[use], "done"], provider="anthropic")}
                ),
                journal=journal,
            )

        first = pipeline()
        waiting = await first.run("go", raise_on_error=False)
        assert waiting.status == "suspended"
        assert SAVED == ["a"]
        await answer(journal, waiting.run_id, True, question="0:0s1")
        done = await first.resume(waiting.run_id)
        assert done.text == "done"
        assert SAVED == ["a", "after saved 1"]
        assert done.steps[0].content == "saved 1, saved 2"

    run(main)


def test_what_strangers_say_in_a_step_counts() -> None:
    page = {"kind": "http", "name": "page", "url": "https://h.example/"}
    both = {"kind": "composite", "name": "both", "steps": [{"tool": "page"}]}

    async def main(world: SimulatedWorld) -> None:
        bench = await Bench.make(world=world)
        tools = toolset(both, page, rules=["page"])
        assert not (await bench.call(tools, "both")).is_error
        assert bench.context.strangers == {"page", "both"}

    simulate(main, transport=answering([], text="x"))


# --- what is wrong


@pytest.mark.parametrize(
    ("tool", "fault"),
    [
        ({**GREET, "template": "{whom}"}, "{whom} is neither a parameter nor what a step saves"),
        ({**GREET, "required": ["x"]}, "required: there is no parameter 'x'"),
        ({**GREET, "name": "a b"}, "tools.ad_hoc[0].name: "),
        ({**GREET, "kind": "shell"}, "tools.ad_hoc[0].kind: there is no 'shell'"),
        ({**GREET, "effects": ["read"]}, "there is no such field"),
        ({**HTTP, "url": "https://{id}.example.org/"}, "url: must begin with http"),
        ({**HTTP, "url": "https://a.org{id}/"}, "url: must begin with http"),
        ({**HTTP, "url": "https://a@b.org/"}, "url: must begin with http"),
        ({**HTTP, "url": "file:///etc/passwd"}, "url: must begin with http"),
        ({**HTTP, "headers": {"Host": "x"}}, ".headers.Host: may not be set by a manifest"),
        ({"kind": "script", "name": "s", "script": "x" * 10_001}, "at most 10000 characters"),
        ({**TWICE, "steps": []}, "at least 1 item"),
        (
            {**TWICE, "steps": TWICE["steps"][::-1]},
            "step 1 uses {first}, which only a later step saves",
        ),  # type: ignore[index]
        (
            {**TWICE, "steps": [TWICE["steps"][0], *TWICE["steps"]]},
            "step 2 saves 'first', which is taken",
        ),  # type: ignore[misc]
        ({**GREET, "parameters": {"who": {"type": "no"}, "mood": {}}}, "tools.ad_hoc: "),
        ({**GREET, "name": "Read"}, "there is already a tool named 'Read'"),
    ],
    ids=range(16),
)
def test_faults_are_told_with_their_place(tool: dict[str, Any], fault: str) -> None:
    manifest = PipelinePresets.agent().manifest.to_dict()
    manifest["tools"] = {"built_in": ["Read"], "ad_hoc": [tool]}
    assert fault in "; ".join(check_manifest(manifest))


def test_steps_that_cannot_be_are_told_when_the_pipeline_is_made() -> None:
    manifest = PipelinePresets.agent().manifest.to_dict()
    again = {"kind": "composite", "name": "again", "steps": [{"tool": "twice"}]}
    for tools, told in (
        ([TWICE], "'twice' calls 'save', which does not exist"),
        ([{**again, "name": "twice"}], "'twice' calls 'twice', which calls others itself"),
        ([{"kind": "script", "name": "s", "script": "x"}], "the tools s work in a folder"),
    ):
        manifest["tools"] = {"ad_hoc": tools}
        with pytest.raises(ConfigError, match=told):
            Pipeline(EnvironmentManifest.from_dict(manifest))
    assert CompositeTool.model_validate(again).steps[0].tool == "twice"


def test_it_is_part_of_the_manifest_and_of_its_digest() -> None:
    made = EnvironmentManifest.from_dict({"tools": {"ad_hoc": [GREET, HTTP, TWICE]}})
    again = EnvironmentManifest.from_dict(made.to_dict())
    assert again.digest == made.digest
    assert again.tools.ad_hoc == made.tools.ad_hoc
    assert made.digest != EnvironmentManifest.from_dict({"tools": {"ad_hoc": [GREET]}}).digest


def test_guards_see_steps_and_change_them() -> None:
    def guard(told: dict[str, Any]) -> Answer:
        text = told["tool_input"]["text"]
        if text == "a":
            return Answer(change={"text": "changed"})
        return Answer(decision="block", reason="enough")

    async def main() -> None:
        hook = FunctionHook("PreToolUse", guard, name="g", tools="save")
        hooks = HookSet([hook], {"cwd": "/w", "permission_mode": "default"})
        bench = await Bench.make()
        tools = composed([TWICE], ToolRegistry([save]), hooks=hooks)
        block = await bench.call(tools, "twice", {"text": "a"})
        assert SAVED == ["changed"]
        assert "step 2 of 2, save, failed: ERROR exec.hook.blocked" in str(block.content)
        for cut in range(len(bench.context.facts) + 1):
            SAVED.clear()
            after = await bench.again(cut)
            again = await after.call(tools, "twice", {"text": "a"})
            assert again.is_error
            assert not after.context.replaying
            assert SAVED in ([], ["changed"])

    run(main)


@pytest.mark.parametrize("name", ["EnterPlanMode", "kv_set", "AskUserQuestion", "EnterWorktree"])
def test_what_is_kept_with_the_conversation_is_for_the_model(tmp_path: Path, name: str) -> None:
    arguments: dict[str, dict[str, Any]] = {
        "kv_set": {"key": "a", "value": 1},
        "AskUserQuestion": {"question": "so?"},
        "EnterWorktree": {"branch": "b"},
    }
    step = {"tool": name, "input": arguments.get(name, {})}

    async def main() -> None:
        bench = await Bench.make()
        registry = ToolRegistry(builtin_tools(["planning", "kv", "asking", "worktree"]))
        tool = {"kind": "composite", "name": "c", "steps": [step]}
        tools = composed([tool], registry, working_dir=tmp_path)
        block = await bench.call(tools, "c")
        assert f"{name} is for the model alone" in str(block.content)

    run(main)
