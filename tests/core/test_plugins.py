"""Installed packages offer stages, strategies, tools, presets to manifests that name them."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorimer import ConfigError, ExecutorErrorCode, Pipeline
from lorimer.assembly import check_manifest
from lorimer.core.catalogue import Catalogue
from lorimer.environment import schema
from lorimer.presets import PipelinePresets, preset_manifest, preset_names
from lorimer.stages.catalogue import catalogue
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from tests.core.installed import install
from tests.core.support import make, use

CODE = """
from lorimer.core.stage import Stage
from lorimer.presets import agent_manifest
from lorimer.stages.s03_system import PromptBuilder
from lorimer.stages.s04_guard import Guard
from lorimer.stages.s06_api import APIStage
from lorimer.tools import Tool, ToolResult

class Pirate(PromptBuilder):
    name = "pirate"
    def build(self, prompt, state):
        return f"Arr! {prompt}"

class Shout(Stage):
    name, order, category = "shout", 9, "execution"
    async def execute(self, input, state):
        state.text = state.text.upper()
        return input

class Echoing(APIStage):
    async def execute(self, input, state):
        response = await super().execute(input, state)
        state.shared["by"] = "acme"
        return response

class Dig(Tool):
    name, description, effects = "dig", "Digs.", frozenset({"send"})
    async def execute(self, input, context):
        return ToolResult("gold")

def captain(*, model, system_prompt=""):
    manifest = agent_manifest(model=model, system_prompt=system_prompt)
    manifest.stages["system"].strategies["builder"] = "pirate"
    return manifest

class Explodes(PromptBuilder):
    name = "explodes"
    def __init__(self):
        raise RuntimeError("no powder")

class Later(PromptBuilder):
    name = "later"
    def configure(self, config):
        self.tide = int(config["tide"])

class Waits(Guard):
    name = "waits"
    async def check(self, state):
        return ""

class Words(Guard):
    name = "words"
    def configure(self, config):
        self.word = config.get("word", "")
    def check(self, state):
        return f"it says {self.word}" if self.word in state.messages[-1].text else ""

words = Words()

class Bound(Words):
    name = "bound"
    def __init__(self):
        self.rule = self.rules
    def rules(self, state):
        return super().check(state)
    def check(self, state):
        return self.rule(state)

class Stuck(Words):
    name = "stuck"
    def __getstate__(self):
        raise TypeError("it holds a connection")

stuck = Stuck()

def broke(spec, context):
    raise RuntimeError("no rum")

class Other(Stage):
    name, order = "other", 3
    async def execute(self, input, state):
        return input

def empty(*, model):
    return 7
"""

OFFERS = {
    "lorimer.stages": {"shout": ":Shout", "api.acme": ":Echoing", "system.odd": ":Other"},
    "lorimer.strategies": {
        "system.builder.pirate": ":Pirate",
        "system.builder.explodes": ":Explodes",
        "system.builder.wrong": ":Shout",
        "system.builder.gone": "acme_gone:X",
        "system.builder.later": ":Later",
        "guard.guards.waits": ":Waits",
        "guard.guards.words": ":words",
        "guard.guards.bound": ":Bound",
        "guard.guards.stuck": ":stuck",
    },
    "lorimer.tools": {"dig": ":Dig", "misnamed": ":Dig"},
    "lorimer.presets": {"captain": ":captain", "empty": ":empty"},
    "lorimer.providers": {"broke": ":broke"},
}


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "acme-pirates", CODE, OFFERS)


@pytest.mark.usefixtures("acme")
def test_a_manifest_names_what_a_package_offers() -> None:
    model = ScriptedModel(["hello"])

    async def main(world: SimulatedWorld) -> None:
        def change(manifest: object) -> None:
            from lorimer.core.manifest import EnvironmentManifest, StageEntry

            assert isinstance(manifest, EnvironmentManifest)
            manifest.stages["system"].strategies["builder"] = "pirate"
            manifest.stages["system"].config["prompt"] = "Be kind."
            manifest.stages["api"].implementation = "acme"
            manifest.stages.root.append(StageEntry(order=9, name="shout"))

        pipeline = make(world, model, change=change)
        assert (await pipeline.run("hi")).text == "HELLO"
        assert type(pipeline.plan.stages[5]).__name__ == "Echoing"

    simulate(main)
    assert model.requests[0].system == "Arr! Be kind."


@pytest.mark.usefixtures("acme")
def test_a_tool_of_a_package_is_granted_nothing() -> None:
    async def main(world: SimulatedWorld) -> None:
        def change(manifest: object) -> None:
            manifest.tools.external = ["dig"]  # type: ignore[attr-defined]

        refused = make(world, [[use("dig")], "done"], change=change)
        results = (await refused.run("dig")).steps
        assert [step.is_error for step in results] == [True]
        allowed = make(world, [[use("dig")], "done"], change=change, rules=["dig"])
        assert [step.content for step in (await allowed.run("dig")).steps] == ["gold"]

    simulate(main)


@pytest.mark.usefixtures("acme")
def test_a_preset_of_a_package() -> None:
    assert "captain" in preset_names()
    manifest = preset_manifest("captain", model="scripted:m", system_prompt="Sail.")
    assert manifest.stages["system"].strategies == {"builder": "pirate"}
    assert manifest.stages["system"].config == {"prompt": "Sail."}
    with pytest.raises(ConfigError, match=r"'empty' of the package acme-pirates 1\.2.*it makes 7"):
        preset_manifest("empty")
    with pytest.raises(ConfigError, match="there is no preset 'captian'; did you mean 'captain'"):
        preset_manifest("captian")


@pytest.mark.usefixtures("acme")
@pytest.mark.parametrize(
    ("builder", "why"),
    [
        ("explodes", "of the package acme-pirates 1.2 cannot be loaded: RuntimeError: no powder"),
        (
            "gone",
            "of the package acme-pirates 1.2 cannot be loaded: ModuleNotFoundError: No module",
        ),
        ("wrong", "no PromptBuilder"),
        ("pirat", "there is no strategy 'pirat'; did you mean 'pirate'?"),
    ],
)
def test_a_broken_package_is_named_in_one_coded_error(builder: str, why: str) -> None:
    manifest = preset_manifest("agent", model="scripted:m")
    manifest.stages["system"].strategies["builder"] = builder
    with pytest.raises(ConfigError) as caught:
        Pipeline(manifest)
    assert caught.value.code is ExecutorErrorCode.EXEC_PIPELINE_INVALID_MANIFEST
    (problem,) = caught.value.problems
    assert problem.startswith("stages[3].strategies.builder: ")
    assert why in problem
    assert check_manifest(manifest.to_dict()) == [problem]


@pytest.mark.usefixtures("acme")
def test_what_a_strategy_says_of_its_configuration_is_one_of_the_faults() -> None:
    manifest = preset_manifest("agent", model="scripted:m")
    manifest.stages["system"].strategies["builder"] = "later"
    manifest.stages["yield"].strategies["formatter"] = "lowd"
    first, second = check_manifest(manifest.to_dict())
    assert first.startswith("stages[3].strategy_configs.builder: KeyError: 'tide' (in Later.conf")
    assert second.startswith("stages[21].strategies.formatter: there is no strategy 'lowd'")


@pytest.mark.usefixtures("acme")
def test_a_strategy_of_a_package_has_the_methods_that_its_stage_calls() -> None:
    manifest = preset_manifest("agent", model="scripted:m")
    manifest.stages["guard"].strategies["guards"] = ["waits"]
    (problem,) = check_manifest(manifest.to_dict())
    assert "of the package acme-pirates 1.2 cannot be loaded: Waits.check must not be" in problem
    assert problem.endswith("Update that package, or uninstall it.")


@pytest.mark.usefixtures("acme")
def test_a_class_that_a_package_offers_is_made_and_not_copied() -> None:
    manifest = preset_manifest("agent", model="scripted:echo")
    manifest.stages["guard"].strategies["guards"] = ["bound"]
    manifest.stages["guard"].strategy_configs["guards"] = {"bound": {"word": "cat"}}
    result = Pipeline(manifest).run_sync("a cat", raise_on_error=False)
    assert result.error == "The guard 'bound' stopped the run: it says cat."


@pytest.mark.usefixtures("acme")
def test_an_object_that_cannot_be_copied_is_named() -> None:
    manifest = preset_manifest("agent", model="scripted:echo")
    manifest.stages["guard"].strategies["guards"] = ["stuck"]
    (problem,) = check_manifest(manifest.to_dict())
    assert "which cannot be copied: TypeError: it holds a connection" in problem


@pytest.mark.usefixtures("acme")
def test_an_object_that_a_package_offers_is_configured_for_each_agent() -> None:
    agents = []
    for word in ("cat", "dog"):
        manifest = preset_manifest("agent", model="scripted:echo")
        manifest.stages["guard"].strategies["guards"] = ["words"]
        manifest.stages["guard"].strategy_configs["guards"] = {"words": {"word": word}}
        agents.append(Pipeline(manifest))
    ended = [agent.run_sync("a cat", raise_on_error=False).status for agent in agents]
    assert ended == ["rejected", "ok"]


@pytest.mark.usefixtures("acme")
def test_a_broken_package_does_no_harm_to_the_schema() -> None:
    assert schema()["title"] == "Lorimer manifest"


@pytest.mark.usefixtures("acme")
def test_a_provider_that_fails_is_named() -> None:
    agent = PipelinePresets.minimal(model="broke:rum")
    result = agent.run_sync("hi", raise_on_error=False)
    assert result.code is ExecutorErrorCode.EXEC_API_NO_CLIENT
    assert "the provider 'broke' cannot make a model of 'rum': RuntimeError: no rum" in result.error


@pytest.mark.usefixtures("acme")
def test_an_implementation_is_no_stage() -> None:
    manifest = preset_manifest("agent", model="scripted:m").to_dict()
    manifest["stages"].append({"order": 6, "name": "api.acne"})  # type: ignore[union-attr]
    (problem,) = check_manifest(manifest)
    assert "api.acme" not in problem


@pytest.mark.usefixtures("acme")
@pytest.mark.parametrize(
    ("name", "why"),
    [
        (
            "misnamed",
            "'misnamed' of the package acme-pirates 1.2 cannot be loaded: it calls itself",
        ),
        ("digg", "no installed package offers a tool 'digg'; did you mean 'dig'?"),
    ],
)
def test_a_tool_that_cannot_be_had(name: str, why: str) -> None:
    manifest = preset_manifest("agent", model="scripted:m")
    manifest.tools.external = [name]
    with pytest.raises(ConfigError) as caught:
        Pipeline(manifest)
    (problem,) = caught.value.problems
    assert problem.startswith("tools.external[0]: ")
    assert why in problem
    assert check_manifest(manifest.to_dict()) == [problem]


@pytest.mark.usefixtures("acme")
def test_an_implementation_has_to_be_of_the_same_stage() -> None:
    manifest = preset_manifest("agent", model="scripted:m")
    manifest.stages["system"].implementation = "odd"
    manifest.stages["api"].implementation = "acne"
    with pytest.raises(ConfigError) as caught:
        Pipeline(manifest)
    assert caught.value.problems == (
        "stages[3].name: the stage calls itself 'other'",
        "stages[6].implementation: the 'api' stage has no implementation 'acne'; "
        "did you mean 'acme'? Known: acme, phases.",
    )


def test_two_packages_that_offer_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offers = {"lorimer.strategies": {"system.builder.same": ":Pirate"}}
    for name in ("acme-one", "acme-two"):
        (tmp_path / name).mkdir()
        install(tmp_path / name, monkeypatch, name, CODE, offers)
    manifest = preset_manifest("agent", model="scripted:m")
    manifest.stages["system"].strategies["builder"] = "same"
    with pytest.raises(ConfigError, match=r"offered by acme-one 1\.2 and by acme-two 1\.2"):
        Pipeline(manifest)


def test_a_host_gives_an_implementation_itself() -> None:
    from lorimer.stages.s06_api import APIStage

    class Own(APIStage):
        pass

    known = catalogue()
    known.add_stage("api", Own, implementation="own")
    manifest = preset_manifest("minimal", model="scripted:m")
    assert type(Pipeline(manifest, catalogue=known).plan.stages[1]) is APIStage
    manifest.stages["api"].implementation = "own"
    assert type(Pipeline(manifest, catalogue=known).plan.stages[1]) is Own
    assert known.implementations("api") == ["own", "phases"]


def test_what_is_shipped_is_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody pays for packages that are not used."""

    def never(**_: object) -> None:
        raise AssertionError("looked at installed packages")

    monkeypatch.setattr("importlib.metadata.entry_points", never)
    for name in ("minimal", "chat", "agent", "evaluator"):
        Pipeline(preset_manifest(name, model="scripted:m"))
    assert isinstance(catalogue(), Catalogue)


def test_the_vtuber_comes_with_a_package() -> None:
    with pytest.raises(ConfigError, match="comes with the package lorimer-vtuber") as caught:
        PipelinePresets.geny_vtuber(model="scripted:m")
    assert "examples/plugin" in caught.value.hint
