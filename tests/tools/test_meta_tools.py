"""classify, extract_entities, summarize: one typed question to a small model, within bounds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorimer import Pipeline
from lorimer.core.messages import ToolResultBlock, ToolUse
from lorimer.core.result import PipelineResult
from lorimer.models import Models
from lorimer.models.tiers import Tiers
from lorimer.presets import preset_manifest
from lorimer.run.inputs import InMemoryInputFiles, InputFile, ReadInput, stage
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from lorimer.tools import Tool, ToolRegistry
from lorimer.tools.builtin.classify import Classify, _normal, _Score  # pyright: ignore[reportPrivateUsage]
from lorimer.tools.builtin.extract import ExtractEntities
from lorimer.tools.builtin.meta import MAX_TEXT, NAMES
from lorimer.tools.builtin.summarize import Summarize
from tests.core.support import held

TEXT = "Ann paid 1,200 EUR on Monday."


def use(name: str, id: str = "1", **input: Any) -> list[ToolUse]:
    return [ToolUse(id, name, input)]


def scores(**given: Any) -> str:
    return json.dumps({"scores": [{"category": k, "score": v} for k, v in given.items()]})


class Case:
    """An agent that calls tools as scripted, and a small model that answers them."""

    def __init__(
        self,
        world: SimulatedWorld,
        calls: list[list[ToolUse]],
        answers: Any,
        *,
        tools: list[Tool] | None = None,
        tiers: Tiers | None = None,
        built_in: Sequence[str] = sorted(NAMES),
        **options: Any,
    ) -> None:
        self.model = ScriptedModel([*calls, "done"])
        self.small = ScriptedModel(answers)
        models = Models(
            providers={"big": self.model, "small": self.small},
            tiers=Tiers({"fast": "small:m"}) if tiers is None else tiers,
        )
        manifest = preset_manifest("agent", model="big:m")
        registry = ToolRegistry()
        if tools is None:
            manifest.tools.built_in = list(built_in)
        for tool in tools or ():
            registry.register(tool)
        self.pipeline = Pipeline(manifest, tools=registry, models=models, world=world, **options)

    async def run(self) -> list[Any]:
        """What the model was told of each call: data, or the text of an error."""
        result = await self.pipeline.run("go")
        assert result.status == "ok", result.exception
        return told(result)


def told(result: PipelineResult) -> list[Any]:
    blocks = [
        block
        for message in result.messages
        for block in message.content
        if isinstance(block, ToolResultBlock)
    ]
    return [
        str(block.content) if block.is_error else json.loads(str(block.content)) for block in blocks
    ]


def test_row_62_classify_scores_all_categories_and_names_the_best() -> None:
    async def main(world: SimulatedWorld) -> None:
        call = use("classify", text=TEXT, categories=["sport", "money", "law"])
        case = Case(world, [call], [scores(Money="6", sport=2, weather=9)])
        (said,) = await case.run()
        assert said == {
            "label": "money",
            "labels": ["money"],
            "scores": {"sport": 0.25, "money": 0.75, "law": 0.0},
        }
        prompt = case.small.requests[0].messages[0].text
        assert prompt.endswith(f'The text, as JSON: "{TEXT}"')
        assert '["sport","money","law"]' in prompt

    simulate(main)


def test_row_62_several_labels_may_hold() -> None:
    async def main(world: SimulatedWorld) -> None:
        call = use("classify", text=TEXT, categories=["a", "b", "c"], multi_label=True)
        (said,) = await Case(world, [call], [scores(a=90, b=50, c=-3)]).run()
        assert said == {
            "label": "a",
            "labels": ["a", "b"],
            "scores": {"a": 0.9, "b": 0.5, "c": 0.0},
        }

    simulate(main)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.floats()), max_size=8), st.booleans())
def test_row_62_scores_are_from_0_to_1_whatever_the_model_says(
    given_: list[tuple[str, float]], several: bool
) -> None:
    said = [_Score(category=name, score=score) for name, score in given_]
    found = _normal(["a", "b", "c"], said, several=several)
    assert list(found) == ["a", "b", "c"]
    assert all(0 <= score <= 1 for score in found.values())
    if not several and any(found.values()):
        assert abs(sum(found.values()) - 1) < 0.001


def test_row_62_extract_entities_gives_an_object_of_the_declared_types() -> None:
    fields = [
        {"name": "who"},
        {"name": "amount", "type": "number", "description": "What was paid"},
        {"name": "json", "type": "integer"},
        {"name": "paid", "type": "boolean"},
        {"name": "all", "type": "integers"},
        {"name": "when", "type": "string"},
    ]
    answer = {
        "who": "Ann",
        "amount": "1,200 EUR",
        "json": "42",
        "paid": "yes",
        "all": ["1", 2],
        "when": None,
    }

    async def main(world: SimulatedWorld) -> None:
        call = use("extract_entities", text=TEXT, fields=fields)
        case = Case(world, [call], [json.dumps(answer)])
        (said,) = await case.run()
        assert said == {
            "entities": {
                "who": "Ann",
                "amount": 1200.0,
                "json": 42,
                "paid": True,
                "all": [1, 2],
                "when": None,
            }
        }
        output = case.small.requests[0].output
        assert output is not None
        assert list(output.schema["properties"]) == list(answer)  # type: ignore[call-overload,arg-type]

    simulate(main)


@pytest.mark.parametrize(
    ("text", "value"),
    [("42", 42), (" 7 kg", 7), ("€ 1 000", 1000), ("-5%", -5), ("1,234,567", 1_234_567)],
)
def test_a_number_in_words_of_which_there_is_no_doubt_is_one(text: str, value: int) -> None:
    async def main(world: SimulatedWorld) -> None:
        call = use("extract_entities", text=TEXT, fields=[{"name": "n", "type": "integer"}])
        assert await Case(world, [call], [json.dumps({"n": text})]).run() == [
            {"entities": {"n": value}}
        ]

    simulate(main)


@pytest.mark.parametrize("text", ["1,5", "1.234,50", "2024-01-05", "about 3 or 4", "many"])
def test_another_one_is_asked_for_again(text: str) -> None:
    async def main(world: SimulatedWorld) -> None:
        call = use("extract_entities", text=TEXT, fields=[{"name": "n", "type": "integer"}])
        case = Case(world, [call], [json.dumps({"n": text}), '{"n": 5}'])
        assert await case.run() == [{"entities": {"n": 5}}]
        assert case.small.calls == 2

    simulate(main)


def test_row_62_malformed_twice_is_a_failure_that_the_model_is_told() -> None:
    async def main(world: SimulatedWorld) -> None:
        call = use("summarize", text=TEXT)
        case = Case(world, [call], ["No.", "Never."])
        (said,) = await case.run()
        assert said.startswith("ERROR exec.api.output_invalid: ")
        assert case.small.calls == 2

    simulate(main)


def test_row_62_summarize_takes_one_source() -> None:
    async def main(world: SimulatedWorld) -> None:
        calls = [
            use("summarize", "1", text=TEXT, max_words=20, focus="money"),
            use("summarize", "2", text=TEXT, file_id="file_1"),
            use("summarize", "3"),
            use("summarize", "4", text="x" * (MAX_TEXT + 1)),
        ]
        case = Case(world, calls, ['{"summary": "Ann paid."}'] * 2)
        said = await case.run()
        assert said == [
            {"summary": "Ann paid."},
            "input: give exactly one of text, file_id and file_path.",
            "input: give exactly one of text, file_id and file_path.",
            {"summary": "Ann paid.", "text_was_cut": True},
        ]
        prompt = case.small.requests[0].messages[0].text
        assert "at most 20 words" in prompt
        assert "It is to be about: money" in prompt

    simulate(main)


def test_row_62_a_staged_file_is_summed_up_by_its_id_without_passing_the_agent(
    tmp_path: Path,
) -> None:
    text = "\n".join([f"line {n} of the report" for n in range(6_000)])
    (tmp_path / "report.txt").write_text(text)

    async def main(world: SimulatedWorld) -> None:
        port = InMemoryInputFiles()
        staged = await stage(port, "r1", [InputFile("a.txt", text.encode())])
        calls = [
            use("summarize", "1", file_id="file_1"),
            use("summarize", "2", file_id="file_9"),
            use("summarize", "3", file_path="report.txt"),
        ]
        reader = ReadInput(port)
        reader.lend("r1", staged.files)
        manifest_tools: list[Tool] = [Summarize(), reader]
        case = Case(world, calls, ['{"summary": "Lines."}'] * 2, tools=manifest_tools)
        run = await case.pipeline.begin("go", run_id="r1")
        result = await run.execute()
        said = told(result)
        assert said[0] == {"summary": "Lines."}
        assert said[1] == "There is no file 'file_9', but: file_1."
        assert "exec.tool.unknown" in said[2]
        asked = case.small.requests[0].messages[0].text
        assert json.dumps(text)[1:-1] in asked
        assert not any("line 7 of" in message.text for message in result.messages)

    simulate(main)


def test_a_file_of_the_workspace_is_summed_up_where_the_agent_may_read_it(tmp_path: Path) -> None:
    (tmp_path / "report.txt").write_text("\n".join([f"line {n}" for n in range(5_000)]))
    calls = [
        use("summarize", "1", file_path="report.txt"),
        use("summarize", "2", file_path="../other.txt"),
    ]

    async def main(world: SimulatedWorld) -> None:
        names = ["Read", "summarize"]
        answers = ['{"summary": "Lines."}']
        case = Case(world, calls, answers, built_in=names, workspace=tmp_path, rules=["Read"])
        said = await case.run()
        assert said[0] == {"summary": "Lines."}
        assert "exec.tool.access_denied" in said[1]
        asked = case.small.requests[0].messages[0].text
        assert [f"\\t{line}\\n" in asked for line in ("line 0", "line 2000", "line 4998")] == [
            True
        ] * 3
        assert "go on with" not in asked

    simulate(main)


def test_row_62_a_tier_that_is_not_allowed_is_not_asked() -> None:
    async def main(world: SimulatedWorld) -> None:
        tiers = Tiers({"fast": "small:m", "smart": "small:x"})
        calls = [use("summarize", "1", text=TEXT, tier="smart"), use("summarize", "2", text=TEXT)]
        case = Case(world, calls, ['{"summary": "A."}'], tiers=tiers)
        said = await case.run()
        assert said[0] == "tier_not_allowed: 'smart' may not be asked here, but fast."
        assert said[1] == {"summary": "A."}
        assert [each.model for each in case.small.requests] == ["scripted"]
        allowed = Case(
            world, calls, ['{"summary": "A."}'] * 2, tiers=tiers, tools=[Summarize(["smart"])]
        )
        assert (await allowed.run())[0] == {"summary": "A."}

    simulate(main)


def test_a_tier_that_the_host_does_not_have_is_not_taken_for_a_model() -> None:
    async def main(world: SimulatedWorld) -> None:
        case = Case(world, [use("summarize", text=TEXT)], [], tiers=Tiers())
        (said,) = await case.run()
        assert "there is no tier 'fast' here" in said
        assert case.small.calls == 0

    simulate(main)


def test_row_62_a_run_may_ask_so_often_and_a_resumed_one_no_more() -> None:
    async def main(world: SimulatedWorld) -> None:
        tools: list[Tool] = [Summarize(max_calls=3), Classify(max_calls=3), ExtractEntities()]
        answers = [
            '{"summary": "A."}',
            scores(a=1, b=0),
            '{"summary": "B."}',
            '{"summary": "C."}',
        ]
        calls = [
            [
                *use("summarize", "1", text=TEXT),
                *use("classify", "2", text=TEXT, categories=["a", "b"]),
            ],
            use("summarize", "3", text=TEXT + "!"),
            use("summarize", "4", text=TEXT),
            use("classify", "5", text=TEXT, categories=["a", "b"]),
        ]
        case = Case(world, calls, answers, tools=tools)
        result = await case.pipeline.run("go")
        spent = "call_budget_spent: classify, extract_entities, summarize may be called 3 times"
        assert [spent in str(each) for each in told(result)] == [False] * 3 + [True] * 2
        assert case.small.calls == 3
        places = [n for n, fact in enumerate(result.events) if fact.type == "tool.result"]
        for upto in (places[1], places[2] + 1):
            journal = await held(world, result.events[:upto], result.session_id)
            began = sum(fact.type == "model.reply" for fact in result.events[:upto])
            again = Case(world, calls[began:], answers[2:], tools=tools, journal=journal)
            resumed = await again.pipeline.resume(result.run_id)
            assert [spent in str(each) for each in told(resumed)] == [False] * 3 + [True] * 2

    simulate(main)


def test_the_answers_are_journalled_paid_for_and_not_asked_for_again() -> None:
    async def main(world: SimulatedWorld) -> None:
        call = use("summarize", text=TEXT)
        case = Case(world, [call], ['{"summary": "A."}'])
        result = await case.pipeline.run("go")
        assert result.usage.input_tokens == 30  # two replies of the agent, one of the small model
        at = next(n for n, fact in enumerate(result.events) if fact.type == "tool.result")
        journal = await held(world, result.events[:at], result.session_id)
        again = Case(world, [], [], journal=journal)
        resumed = await again.pipeline.resume(result.run_id)
        assert told(resumed) == [{"summary": "A."}]
        assert again.small.calls == 0

    simulate(main)


def test_secrets_do_not_reach_the_small_model() -> None:
    async def main(world: SimulatedWorld) -> None:
        secret = "hunter2-hunter2-x9"
        call = use("summarize", text=f"the key is {secret}", focus=f"not {secret}")
        case = Case(world, [call], ['{"summary": "A key."}'], secrets=[secret])
        await case.run()
        prompt = case.small.requests[0].messages[0].text
        assert secret not in prompt
        assert prompt.count("[redacted") == 2

    simulate(main)
