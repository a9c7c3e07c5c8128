"""A real run becomes a script: for a ScriptedModel, and for a fake server on any wire."""

from __future__ import annotations

import json
import stat
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from lorimer import Pipeline
from lorimer.core.errors import APIError, ConfigError, ExecutorErrorCode
from lorimer.core.messages import TextBlock, ThinkingBlock, user_message
from lorimer.core.request import Request, TextDelta, ThinkingDelta, ToolInputDelta, Usage
from lorimer.core.result import PipelineResult
from lorimer.models import Models, Recorder
from lorimer.models.recording import read
from lorimer.presets import preset_manifest
from lorimer.testing import (
    FakeLLMServer,
    ScriptedModel,
    SimulatedWorld,
    ToolCall,
    Turn,
    recorded_turns,
    simulate,
)
from lorimer.testing.faults import Cut, Status
from tests.cli.support import invoke, lines
from tests.core.support import Do, use
from tests.models.chains import cut, down
from tests.models.support import WIRES, Wire, spec
from tests.models.test_live import bundle

CODE = ExecutorErrorCode
USED = Usage(input_tokens=50, output_tokens=9, cache_read_input_tokens=3)


def script() -> list[Any]:
    return [
        down(CODE.EXEC_API_RATE_LIMITED, status=429, retry_after_s=2.0),
        [ThinkingBlock("Hm."), TextBlock("I look."), use("look", "", at="a")],
        cut("It br", usage=Usage(input_tokens=7)),
        [ThinkingDelta("so"), TextDelta("It "), TextDelta("works."), TextBlock("It works.")],
    ]


def pipeline(world: SimulatedWorld, models: Any, *, tools: str = "look", text: str = "") -> Any:
    manifest = preset_manifest("agent", model="scripted:x")
    if text:
        manifest.stages["system"].config["prompt"] = text
    return Pipeline(manifest, models=models, world=world, tools=[Do(tools)])


async def recorded(world: SimulatedWorld) -> tuple[PipelineResult, list[str]]:
    out: list[str] = []
    model = ScriptedModel(script(), usage=USED, name="real")
    models = Recorder(Models(providers={"scripted": model}), out.append)
    made = pipeline(world, models)
    return await made.run("go"), out


async def played(world: SimulatedWorld, out: list[str], ask: str = "go", **change: Any) -> Any:
    check = change.pop("check", True)
    model = ScriptedModel.from_recording(out, check=check)
    made = pipeline(world, Models(providers={"scripted": model}), **change)
    return await made.run(ask, raise_on_error=False)


def test_the_run_goes_as_it_went() -> None:
    async def main(world: SimulatedWorld) -> None:
        first, out = await recorded(world)
        again = await played(world, out)
        assert (again.status, again.text, again.usage) == ("ok", first.text, first.usage)
        replies = [
            [{k: v for k, v in f.data.items() if k != "hash"} for f in result.events if wanted(f)]
            for result in (first, again)
        ]
        assert "rate_limited" in json.dumps(replies[0])
        assert _without_ids(replies[0]) == _without_ids(replies[1])

    def wanted(fact: Any) -> bool:
        return fact.type == "model.reply"

    simulate(main)


def _without_ids(facts: list[Any]) -> list[Any]:
    for fact in facts:
        for block in fact.get("content", ()):
            block.pop("id", None)
    return facts


def test_deltas_come_in_the_pieces_in_which_they_came() -> None:
    async def main(world: SimulatedWorld) -> None:
        _, out = await recorded(world)
        calls = read(out)
        assert [call.error is None for call in calls] == [False, True, False, True]
        said = [delta.text for delta in calls[-1].deltas if isinstance(delta, TextDelta)]
        assert "".join(said).endswith("It works.")
        assert calls[2].error is not None
        assert calls[2].error.usage == Usage(input_tokens=7)
        assert {(call.provider, call.model) for call in calls} == {("scripted", "real")}
        pieces = [each for each in calls[1].deltas if isinstance(each, ToolInputDelta)]
        assert {each.name for each in pieces if each.name} == {"look"}
        assert json.loads("".join(each.partial_json for each in pieces)) == {"at": "a"}

    simulate(main)


def test_a_call_that_its_reader_left_is_told_as_cut_off() -> None:
    async def main(world: SimulatedWorld) -> None:
        out: list[str] = []
        model = ScriptedModel(["said in pieces"])
        models = Recorder(Models(providers={"scripted": model}), out.append)
        stream = models.resolve("scripted:x").stream(
            Request("x", [user_message("go")]), world=world
        )
        assert isinstance(stream, AsyncGenerator)
        await anext(stream)
        await stream.aclose()
        [call] = read(out)
        assert call.response is None
        assert call.error is not None
        assert call.error.code is CODE.EXEC_API_TIMEOUT
        assert "cut off" in str(call.error)

    simulate(main)


def test_a_conversation_that_began_anew_is_told_whole() -> None:
    async def main(world: SimulatedWorld) -> None:
        out: list[str] = []
        model = ScriptedModel(["one", "two", "three"])
        models = Recorder(Models(providers={"scripted": model}), out.append)
        for text in ("a", "b"):
            await pipeline(world, models).run(text)
        calls = read(out)
        assert [len(call.asked["messages"]) for call in calls] == [1, 1]  # type: ignore[arg-type]
        assert calls[0].asked["messages"] != calls[1].asked["messages"]

    simulate(main)


@pytest.mark.parametrize(
    ("ask", "change", "what"),
    [
        ("another", {}, "request 1 .* its message 1 \\(user\\) is another one: another"),
        ("go", {"text": "Be rude."}, "request 1 .* its system is another one: Be rude."),
        ("go", {"tools": "watch"}, "request 1 .* its tool 'look' is not there"),
    ],
)
def test_another_request_is_refused_with_the_first_difference(
    ask: str, change: Any, what: str
) -> None:
    async def main(world: SimulatedWorld) -> None:
        _, out = await recorded(world)
        result = await played(world, out, ask, **change)
        assert result.code is CODE.EXEC_API_TERMINAL
        with pytest.raises(APIError, match=what):
            raise result.exception
        assert (await played(world, out, "another", check=False)).text == "It works."

    simulate(main)


def test_nothing_of_the_prompt_is_in_it_and_it_grows_with_what_is_new() -> None:
    async def main(world: SimulatedWorld) -> None:
        out: list[str] = []
        calls = [[use("look", f"c{n}", x=n)] for n in range(40)]
        model = ScriptedModel([*calls, "done"])
        models = Recorder(Models(providers={"scripted": model}), out.append)
        await pipeline(world, models, text="a secret").run("the secret prompt")
        assert "secret" not in "".join(out)
        assert len(out[-1]) < 1.2 * len(out[3])
        assert (await played(world, out, "the secret prompt", text="a secret")).text == "done"

    simulate(main)


HEAD = '{"format":"lorimer-recording","version":1}'
ASKED = '{"same":0,"messages":[]}'


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ([], "is not a recording"),
        (["{}"], "is not a recording"),
        (["nonsense"], "is not a recording"),
        (['{"format":"lorimer-recording","version":9}'], "version 9; this is 1"),
        (['{"format":"lorimer-recording","version":1}', "[]", "{}"], "line 2 .* no JSON object"),
        (['{"format":"lorimer-recording","version":1}', "{}"], "line 2 .* no 'asked'"),
        (["[" * 100_000], "is not a recording"),
        *(
            ([HEAD, f'{{"asked":{asked},{rest}}}'], f"line 2 .* {why}")
            for asked, rest, why in (
                ('{"messages":[]}', '"error":{}', "does not say how many messages"),
                ('{"same":0,"messages":"x"}', '"error":{}', "no list of 'messages'"),
                (ASKED, '"deltas":[]', "no 'error'"),
                (ASKED, '"error":{"code":"exec.loop.max_turns"}', "is not an error of a model"),
                (ASKED, '"error":{"code":"exec.api.timeout"},"deltas":[7]', "neither text nor"),
                (ASKED, '"error":{"code":"exec.api.timeout"},"deltas":[{}]', "needs its index"),
            )
        ),
        (['{"format":"lorimer-recording","version":1}', "[" * 100_000, "{}"], "line 2 .* no JSON"),
    ],
)
def test_what_is_no_recording_is_refused(text: list[str], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        ScriptedModel.from_recording(text)


def test_a_last_line_that_was_cut_off_is_left_out() -> None:
    async def main(world: SimulatedWorld) -> None:
        _, out = await recorded(world)
        assert len(read([*out[:-1], out[-1][:50]])) == len(out) - 2

    simulate(main)


TURNS = [
    Turn(faults=(Status(529, headers={"retry-after": "0"}),)),
    Turn(("I ", "look."), tool_calls=(ToolCall("toolu_1", "Glob", {"pattern": "*"}),)),
    Turn(("Brok", "en"), faults=(Cut(-30),)),
    Turn(("It ", "is ", "done.")),
]


@pytest.mark.parametrize("wire", [wire for wire in WIRES if wire != "openai"])
def test_what_one_provider_said_is_served_on_each_wire(wire: Wire, tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    store = ["--store", str(tmp_path / "store.sqlite"), "--output-format", "json", "-q"]
    options = ["--workspace", str(tmp_path), *store, "--tools", "Glob"]
    with FakeLLMServer(TURNS) as server:
        words = ["-m", "anthropic:claude-haiku-4-5", "--base-url", server.url]
        done = invoke("run", *options, *words, "--record", str(file), "look round")
    assert done.exit_code == 0, done.output
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with FakeLLMServer(recorded_turns(file)) as server:
        models = Models(bundle(server))
        manifest = preset_manifest("agent", model=spec(wire))
        manifest.stages["api"].strategy_configs["retry"] = {"base_delay_s": 0.0}
        again = Pipeline(manifest, models=models, tools=[Do("Glob")]).run_sync("look round")
    assert again.text == "It is done."
    assert len(server.requests) == 4


def test_the_command_line_records_and_plays(tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    (tmp_path / "work").mkdir()
    store = ["--store", str(tmp_path / "store.sqlite"), "--output-format", "json", "-q"]
    options = ["--workspace", str(tmp_path / "work"), *store]
    with FakeLLMServer(TURNS) as server:
        words = ["-m", "anthropic:claude-haiku-4-5", "--base-url", server.url]
        done = invoke("run", *options, *words, "--record", str(file), "look round")
    assert done.exit_code == 0, done.output
    again = invoke("run", *options, "-m", f"scripted:{file}", "look round")
    assert again.exit_code == 0, again.output
    assert lines(again.stdout)[-1]["text"] == "It is done."
    run = str(lines(again.stdout)[-1]["run_id"])
    replayed = invoke("runs", "replay", run, *store[:2])
    assert replayed.exit_code == 0, replayed.output
    other = invoke("run", *options, "-m", f"scripted:{file}", "look elsewhere")
    assert other.exit_code == 1
    assert "is not the one that was recorded" in other.output


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["-m", "scripted:nowhere.jsonl", "go"], "nowhere.jsonl cannot be read"),
        (["-m", "scripted:echo", "--record", "x.txt", "go"], "is to be named .jsonl"),
        (["-m", "scripted:echo", "--record", "no/such/x.jsonl", "go"], "cannot be written"),
    ],
)
def test_wrong_files_are_told_in_one_line(words: list[str], why: str, tmp_path: Path) -> None:
    result = invoke("run", "--store", str(tmp_path / "s.sqlite"), *words)
    assert result.exit_code == 2, result.output
    assert why in result.output
    assert "Traceback" not in result.output
