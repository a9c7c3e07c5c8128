"""`${NAME}` in a manifest: put in late, by the host's leave, and written nowhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import pytest

from lorimer import ConfigError, EnvironmentManifest, Pipeline
from lorimer.assembly import check_manifest
from lorimer.core.messages import ToolUse
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
