"""What agents may be made of, told from the declarations; and what of it one is made of."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import Field

from lorimer import ConfigError, Pipeline
from lorimer.core.introspect import introspect, introspect_stage
from lorimer.core.stage import Settings
from lorimer.presets import preset_manifest
from lorimer.stages.catalogue import CATALOGUE, catalogue
from lorimer.stages.s03_system import PromptBuilder
from tests.cli.support import invoke, lines
from tests.core.installed import install
from tests.core.test_plugins import CODE, OFFERS


def by_name(told: list[dict[str, Any]]) -> Mapping[str, dict[str, Any]]:
    return {stage["name"]: stage for stage in told}


def test_every_stage_slot_and_strategy_is_told_with_its_configuration() -> None:
    known = catalogue()
    told = introspect(known)
    assert [stage["name"] for stage in told] == list(CATALOGUE)
    for stage in told:
        slots: Any = stage["slots"]
        assert stage["about"]
        assert {name: list(slot["strategies"]) for name, slot in slots.items()} == {
            slot.name: list(slot.known) for slot in known.slots(str(stage["name"])).values()
        }
        for slot in slots.values():
            assert set(slot["default"]) <= set(slot["strategies"])
            assert all(strategy["about"] for strategy in slot["strategies"].values())
    api = by_name(told)["api"]
    assert api["required"] is True
    assert "temperature" in api["overrides"]
    assert api["config_schema"]["properties"]["stream"]["default"] is True
    backoff = api["slots"]["retry"]["strategies"]["exponential_backoff"]
    assert backoff["config_schema"]["properties"]["max_retries"]["minimum"] == 0
    assert [stage["name"] for stage in told if stage["calls_tools"]] == ["tool"]


def test_fields_are_told_with_what_is_written_beneath_them() -> None:
    class Base(Settings):
        loud: bool = False
        """Shout."""

    class Mine(PromptBuilder):
        name = "mine"

        class Config(Base):
            lines: int = Field(3, ge=1)
            """How many lines
            at most."""
            quiet: bool = Field(True, description="Whisper.")
            """Not this."""
            bare: str

    known = catalogue()
    known.add_strategy("system", "builder", "mine", Mine)
    builder: Any = by_name(introspect(known))["system"]["slots"]["builder"]
    fields = builder["strategies"]["mine"]["config_schema"]["properties"]
    assert {name: field.get("description") for name, field in fields.items()} == {
        "loud": "Shout.",
        "lines": "How many lines at most.",
        "quiet": "Whisper.",
        "bare": None,
    }


def test_fields_of_a_class_that_is_made_on_a_condition_are_told_too() -> None:
    try:
        raise ImportError
    except ImportError:

        class Mine(PromptBuilder):
            name = "mine"

            class Config(Settings):
                lines: int = 3
                """How many lines."""

    known = catalogue()
    known.add_strategy("system", "builder", "mine", Mine)
    told: Any = introspect_stage(known, "system")
    fields = told["slots"]["builder"]["strategies"]["mine"]["config_schema"]["properties"]
    assert fields["lines"]["description"] == "How many lines."


@pytest.mark.parametrize("module", ["nowhere", "without_a_file"])
def test_a_configuration_whose_source_nobody_has_is_told_without_words(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "without_a_file", ModuleType("without_a_file"))
    made: dict[str, Any] = {"__name__": module, "PromptBuilder": PromptBuilder}
    exec(
        "class Mine(PromptBuilder):\n    name = 'mine'\n"
        "    from lorimer.core.stage import Settings\n"
        "    class Config(Settings):\n        lines: int = 3\n        'How many.'\n",
        made,
    )
    known = catalogue()
    known.add_strategy("system", "builder", "mine", made["Mine"])
    told: Any = introspect_stage(known, "system")
    fields = told["slots"]["builder"]["strategies"]["mine"]["config_schema"]["properties"]
    assert "description" not in fields["lines"]


def test_what_is_active_now_is_told_and_follows_changes() -> None:
    class Mine(PromptBuilder):
        name = "mine"
        description = "Mine."

    pipeline = Pipeline(preset_manifest("chat", model="scripted:m"))
    pipeline.swap_strategy("system", "builder", Mine)
    pipeline.mutate(
        {"kind": "set_stage_active", "stage": "cache", "active": False},
        {"kind": "unbind_tool", "stage": "tool", "tool": "mcp__x__y"},
        {"kind": "swap_strategy", "stage": "guard", "slot": "guards", "strategy": []},
    )
    told = by_name(pipeline.introspect())
    assert (told["cache"]["active"], told["think"]["active"]) == (False, False)
    builder = told["system"]["slots"]["builder"]
    assert builder["current"] == ["mine"]
    assert builder["strategies"]["mine"] == {"about": "Mine.", "config_schema": None}
    assert told["tool"]["tool_binding"] == {"allowed": None, "blocked": ["mcp__x__y"]}
    assert told["guard"]["slots"]["guards"]["current"] == []
    assert "current" not in told["think"]["slots"]["processor"]


def test_what_a_package_has_broken_is_told_and_hides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offers = {**OFFERS, "lorimer.stages": {**OFFERS["lorimer.stages"], "gone": "acme_gone:X"}}
    install(tmp_path, monkeypatch, "acme-pirates", CODE, offers)
    told = by_name(introspect(catalogue()))
    assert "of the package acme-pirates 1.2 cannot be loaded" in told["gone"]["broken"]
    assert told["shout"]["order"] == 9
    assert told["api"]["implementations"] == ["acme", "phases"]
    builders = told["system"]["slots"]["builder"]["strategies"]
    assert "no powder" in builders["explodes"]["broken"]
    assert "about" in builders["pirate"]


def test_a_name_that_is_no_stage() -> None:
    with pytest.raises(ConfigError, match="no stage 'contxt'; did you mean 'context'"):
        introspect_stage(catalogue(), "contxt")


def test_the_command_line_tells_it() -> None:
    shown = invoke("manifest", "stages")
    assert shown.exit_code == 0
    for name in CATALOGUE:
        assert f" {name} " in shown.stdout
    one = invoke("manifest", "stages", "api")
    assert "max_retries: integer = 3" in one.stdout
    assert "simple_load" not in one.stdout
    assert "after_release: stop or restart or continue = stop" in one.stdout
    assert "window: integer or null" in invoke("manifest", "stages", "context").stdout
    [told] = lines(invoke("manifest", "stages", "api", "--output-format", "json").stdout)
    assert told == introspect_stage(catalogue(), "api")
    wrong = invoke("manifest", "stages", "apy")
    assert wrong.exit_code == 2
    assert "did you mean 'api'" in wrong.stderr
