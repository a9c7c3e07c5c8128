"""`${NAME}` in a manifest: put in late, by the host's leave, and written nowhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import pytest

from lorimer import ConfigError, EnvironmentManifest, Pipeline
from lorimer.assembly import check_manifest
from lorimer.core.messages import ToolUse
from lorimer.core.request import Request
from lorimer.journal import SQLiteJournal
from lorimer.models.registry import Models
from lorimer.presets import agent_manifest
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate

KEY = "shop-1234-abcdef-98765"


def prompted(prompt: str, **tools: Any) -> dict[str, Any]:
    manifest = agent_manifest(model="scripted:m", system_prompt=prompt)
    return {**manifest.to_dict(), **({"tools": tools} if tools else {})}


def sent(document: dict[str, Any], variables: dict[str, str]) -> str:
    """The system prompt that the model gets."""
    model = ScriptedModel(["hi"])

    async def main(world: SimulatedWorld) -> None:
        models = Models(providers={"scripted": model})
        pipeline = Pipeline.from_manifest(document, models=models, world=world, variables=variables)
        assert pipeline.plan.digest == EnvironmentManifest.from_dict(document).digest
        result = await pipeline.run("go")
        start = result.events[0].data
        stored = await pipeline.journal.get(str(start["manifest"]))
        assert stored == EnvironmentManifest.from_dict(document).to_bytes()

    simulate(main)
    return model.requests[0].system


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        ("You are in ${CITY}.", "You are in Bonn."),
        ("${CITY}${CITY}", "BonnBonn"),
        ("Write $${CITY}", "Write ${CITY}"),
        ("$CITY ${city} ${} {CITY}", "$CITY ${city} ${} {CITY}"),
        ("${ODD}", "${CITY}"),  # a value is not looked through again
    ],
)
def test_a_reference_is_put_in_when_the_plan_is_made(prompt: str, says: str) -> None:
    assert sent(prompted(prompt), {"CITY": "Bonn", "ODD": "${CITY}"}) == says


def test_what_is_missing_is_named_with_every_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CITY", "Bonn")  # is not asked: a manifest may be a stranger's
    document = prompted("${CITY} and ${LAND}")
    assert check_manifest(document) == []
    with pytest.raises(ConfigError) as caught:
        Pipeline.from_manifest(document, models=Models(), variables={"LAND": "x"})
    assert list(caught.value.problems) == [
        "stages[3].config.prompt: nothing is given for ${CITY}; "
        "pass variables={'CITY': ...}, or --env"
    ]
    with pytest.raises(ConfigError, match="nothing is given for"):
        Pipeline(EnvironmentManifest.from_dict(document), models=Models())


def test_a_value_is_checked_as_if_it_stood_there_and_not_shown() -> None:
    document = prompted("")
    document["stages"][1]["strategies"] = {"strategy": "hybrid"}
    document["stages"][1]["strategy_configs"] = {"strategy": {"max_recent_turns": "${LAST_KEY}"}}
    assert check_manifest(document) == []
    assert check_manifest(document, variables={"LAST_KEY": "7"}) == []
    [fault] = check_manifest(document, variables={"LAST_KEY": KEY})
    assert fault.startswith("stages[2].strategy_configs.strategy.max_recent_turns: input should")
    with pytest.raises(ConfigError) as caught:
        Pipeline.from_manifest(document, models=Models(), variables={"LAST_KEY": KEY})
    assert KEY not in str(caught.value)


def test_only_what_a_variable_may_change_is_left_open() -> None:
    document = prompted("${CITY}")
    document["stages"][2]["config"]["colour"] = 1
    document["stages"][2]["strategies"] = {"builder": "nonesuch"}
    assert [fault.partition(": ")[0] for fault in check_manifest(document)] == [
        "stages[3].config.colour",
        "stages[3].strategies.builder",
    ]


def asked(document: dict[str, Any], variables: dict[str, str]) -> Request:
    """What the model is asked, and that neither manifest nor facts hold a value."""
    model, other = ScriptedModel(["hi"]), ScriptedModel([])

    async def main(world: SimulatedWorld) -> None:
        models = Models(providers={"scripted": other, "wanted": model})
        async with Pipeline.from_manifest(
            document, models=models, world=world, variables=variables
        ) as pipeline:
            result = await pipeline.run("go")
            stored = await pipeline.journal.get(str(result.events[0].data["manifest"]))
            assert stored == EnvironmentManifest.from_dict(document).to_bytes()
            assert (await pipeline.replay(result.run_id)).divergence is None

    simulate(main)
    return model.requests[0]


def test_texts_of_the_model_take_variables() -> None:
    document = prompted("")
    document["model"] = {
        "model": "${WHO}:m",
        "stop_sequences": ["${END}", "$${END}"],
        "output_schema": {"type": "object", "description": "of ${END}"},
    }
    assert check_manifest(document) == []
    request = asked(document, {"WHO": "wanted", "END": "##"})
    assert request.stop_sequences == ("##", "${END}")
    assert request.output is not None
    assert request.output.schema["description"] == "of ##"
    [first, *_] = check_manifest(document, variables={"END": "##"})
    assert first.startswith("model.model: nothing is given for ${WHO}; pass")


def test_what_a_stage_overrides_of_the_model_takes_numbers_too() -> None:
    document = prompted("")
    [api] = [entry for entry in document["stages"] if entry["name"] == "api"]
    api["model_override"] = {"model": "${MODEL}", "max_tokens": "${MOST}"}
    assert check_manifest(document) == []
    assert asked(document, {"MODEL": "wanted:m", "MOST": "77"}).max_tokens == 77
    [fault] = check_manifest(document, variables={"MODEL": "scripted:big", "MOST": KEY})
    assert fault.startswith("stages[6].model_override.max_tokens: input should be")
    assert KEY not in fault
    faults = check_manifest(document, variables={"MODEL": "a,,b", "MOST": "1"})
    assert [each.partition(": ")[0] for each in faults] == ["stages[6].model_override.model"]


def test_a_key_and_capabilities_go_to_whom_a_variable_names() -> None:
    document = prompted("")
    document["model"] = {"model": "${MODEL}"}
    pipeline = Pipeline.from_manifest(
        document, api_key="key-of-openai", variables={"MODEL": "gpt-5-mini"}
    )
    assert pipeline.model_spec == "gpt-5-mini"
    models = pipeline.models
    assert isinstance(models, Models)
    assert models.targets("openai:gpt-5-mini")
    pipeline.configure_capabilities(images=False)


def test_sub_agents_take_variables_and_what_they_miss_is_named() -> None:
    document = prompted("")
    document["agents"] = [
        {"name": "aide", "description": "Helps.", "prompt": "In ${CITY}.", "model": "${MODEL}"}
    ]
    with pytest.raises(ConfigError) as caught:
        Pipeline.from_manifest(document, models=Models())
    assert [problem.partition(": ")[0] for problem in caught.value.problems] == [
        "agents[aide].prompt",
        "agents[aide].model",
    ]
    Pipeline.from_manifest(
        document, models=Models(), variables={"CITY": "Bonn", "MODEL": "scripted:m"}
    )


WEATHER = {
    "kind": "http",
    "name": "weather",
    "parameters": {"city": {"type": "string"}},
    "url": "https://weather.example.org/v1/{city}?key=${WEATHER}",
    "headers": {"authorization": "Bearer ${WEATHER}", "x-id": "${WEATHER}"},
}


def weather(seen: list[httpx2.Request], path: Path, variables: dict[str, str]) -> list[Any]:
    """Everything that is kept or told of a run that calls the tool, whose server says it back."""

    def handle(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        if request.url.host == "weather.example.org":
            return httpx2.Response(302, headers={"location": "https://other.example.org/"})
        return httpx2.Response(200, text=f"sunny {KEY}")

    async def main(world: SimulatedWorld) -> list[Any]:
        call = [ToolUse("t1", "weather", {"city": "{x}${WEATHER}"})]
        model = ScriptedModel([call, "done"])
        async with SQLiteJournal(path, world=world, threads=False) as journal:
            pipeline = Pipeline.from_manifest(
                prompted("", ad_hoc=[WEATHER]),
                models=Models(providers={"scripted": model}),
                world=world,
                journal=journal,
                rules=["weather"],
                variables=variables,
            )
            told: list[Any] = []
            pipeline.on("*", told.append)
            result = await pipeline.run("go")
            return [*told, *result.events, *model.requests, *result.steps]

    return simulate(main, transport=httpx2.MockTransport(handle))


def test_a_value_that_is_no_secret_is_shown_though_a_tool_sends_it(tmp_path: Path) -> None:
    seen: list[httpx2.Request] = []
    told = weather(seen, tmp_path / "runs.db", {"WEATHER": "short"})
    assert seen[0].headers["authorization"] == "Bearer short"
    assert "[redacted:WEATHER]" not in str(told)


def test_a_key_goes_to_the_place_that_the_manifest_names_and_nowhere_else(tmp_path: Path) -> None:
    seen: list[httpx2.Request] = []
    told = weather(seen, tmp_path / "runs.db", {"WEATHER": KEY})
    first, second = seen
    assert first.headers["authorization"] == f"Bearer {KEY}"
    assert first.url.path == "/v1/{x}${WEATHER}"  # the model cannot ask for it
    assert first.url.query == f"key={KEY}".encode()
    assert "authorization" not in second.headers
    assert "x-id" not in second.headers
    assert KEY not in str(told)
    assert "[redacted:WEATHER]" in str(told)
    for file in tmp_path.iterdir():
        assert KEY.encode() not in file.read_bytes(), file


@pytest.mark.parametrize("text", ["Bearer sk-live-0123456789abcdef", "sk-live-0123456789abcdef"])
def test_a_key_that_stands_in_a_manifest_is_refused(text: str) -> None:
    tool = {**WEATHER, "headers": {"authorization": text}}
    [fault] = check_manifest(prompted("", ad_hoc=[tool]))
    assert "headers.authorization: a key does not belong in a manifest; write ${NAME}" in fault
    assert "sk-live" not in fault
