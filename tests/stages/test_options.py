"""What a stage or a strategy can be configured with changes what a run does."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from lorimer.core.memory import MemoryItem
from lorimer.core.request import Request
from lorimer.stages import catalogue
from tests.core.support import use
from tests.stages.contract import Effect, Seen, declared, play
from tests.stages.effects import (
    EFFECTS,
    asked_models,
    begun,
    budgets,
    counted,
    counting,
    patient,
    reflecting,
    refused,
    shown,
    with_agents,
)
from tests.stages.support import choose, configure

TESTS = Path(__file__).parents[1]


@dataclass(frozen=True)
class Option:
    """A field, with a value and another one that make a difference."""

    at: str
    """`stage.slot.strategy`, or a stage."""
    given: Mapping[str, Any]
    otherwise: Mapping[str, Any]
    effect: Effect
    """Shows with the one, and not with the other."""

    def seen(self, config: Mapping[str, Any]) -> Seen:
        counted.clear()
        if "." in self.at:
            stage, slot, name = self.at.split(".")
            chain = declared()[stage][slot].chain
            place = ([name], {name: dict(config)}) if chain else (name, dict(config))
            return play(self.effect, {stage: {slot: place}})
        change = self.effect.change

        def changed(manifest: Any) -> None:
            if change is not None:
                change(manifest)
            manifest.stages[self.at].config.update(config)

        return play(Effect(**{**vars(self.effect), "change": changed}), {})


def option(
    at: str,
    field: str,
    values: tuple[Any, Any],
    shows: Callable[[Seen], bool],
    *,
    config: Mapping[str, Any] | None = None,
    **effect: Any,
) -> Option:
    """The first of `values` has the effect, the second has not; `config` goes with both."""
    both = config or {}
    return Option(
        at,
        {**both, field: values[0]},
        {**both, field: values[1]},
        Effect(shows, **effect),
    )


SMALL = {"window": 1000}
TRUNCATE = choose("context", "compactor", "truncate", keep_last=4)
TALK: dict[str, Any] = {"inputs": ["alpha", "beta [keep]", "go on"], "change": TRUNCATE}


def talking(request: Request) -> Any:
    """Answers twice, then counts until it is too long."""
    return "so" if len(request.messages) < 4 else counting(request)


def recaps(seen: Seen) -> list[int]:
    """How long what the summariser was given is."""
    asked = [request for request in seen.requests if request.system.startswith("You keep")]
    return [len(request.messages[-1].text) for request in asked]


def summaries(seen: Seen, field: str) -> Any:
    return seen.told("summary.written")[-1][field]


FACTS = "It has 3 wheels. It has 4 doors. Ann Bell and Carl Dorn made it in Rome."
RULES = "summarize.summarizer.rule_based"
SUMMARISED = choose("summarize", "summarizer", "rule_based")
LOOKED = "memory.strategy.reflective"
THREE = json.dumps(
    {"insights": [{"text": f"sky {n}", "importance": 0.5, "always": False} for n in range(3)]}
)
OPTIONS = [
    option(
        *("context", "keep_share", (0.1, 0.9)),
        lambda seen: max(each.after for each in seen.result.receipts) < 400,
        replies=counting,
        config=SMALL,
        change=choose("context", "compactor", "truncate", keep_last=50),
    ),
    option(
        *("context", "pin_first", (True, False)),
        lambda seen: "alpha" in shown(seen),
        replies=talking,
        config={**SMALL, "pin_markers": []},
        **TALK,
    ),
    option(
        *("context", "pin_markers", (["[KEEP]", "[keep]"], [])),
        lambda seen: "beta [keep]" in shown(seen),
        replies=talking,
        config=SMALL,
        **TALK,
    ),
    option(
        *("context.strategy.progressive_disclosure", "max_lines", (1, 9)),
        lambda seen: "bravo" not in str(shown(seen)) and "delta" in str(shown(seen)),
        config={"recent_turns": 1, "summary_threshold": 2},
        inputs=["alpha", "bravo", "charlie", "delta", "echo"],
        replies=["so"] * 5,
    ),
    option(
        *("context.strategy.vector_search", "min_score", (1.0, 0.1)),
        lambda seen: shown(seen) == ["What is the deploy key?"],
        config={"recent_turns": 1},
        inputs=["Nice weather.", "The deploy key is 7391.", "What is the deploy key?"],
        replies=["1", "2", "3"],
    ),
    option(
        *("context.retriever.memory", "max_pinned", (0, 1)),
        lambda seen: "Call me Bob" not in seen.sent[-1].text,
        remembers=[MemoryItem("a", "Call me Bob.", pinned=True)],
        inputs=["What time is it?"],
    ),
    option(
        *("context.compactor.llm_summary", "max_input_chars", (1_000, 200_000)),
        lambda seen: 0 < max(recaps(seen)) < 1_600,
        config={"keep_recent": 4},
        replies=counting,
        change=configure("context", window=1200),
    ),
    option(
        *("guard.guards.permission", "allowed_tools", (["other"], [])),
        lambda seen: [spec.name for spec in seen.requests[0].tools] == ["other"],
    ),
    option(
        *("guard.guards.permission", "blocked_tools", (["other"], [])),
        lambda seen: "other" not in [spec.name for spec in seen.requests[0].tools],
    ),
    option(
        *("api.router.adaptive", "light_threshold_chars", (3, 800)),
        lambda seen: asked_models(seen) == ["small"],
        config={"balanced": "openai:s", "tools_promote_balanced": False},
        inputs=["longer"],
    ),
    option(
        *("api.router.adaptive", "thinking_promotes_heavy", (True, False)),
        lambda seen: asked_models(seen) == ["big"],
        config={"heavy": "google:b"},
        change=lambda manifest: setattr(manifest.model, "thinking_enabled", True),
    ),
    option(
        *("think.budget_planner.adaptive", "min_budget", (9_000, 2_000)),
        lambda seen: budgets(seen) == [9_000],
        config={"base_budget": 1_024, "tools_bonus": 0},
        change=lambda manifest: setattr(manifest.model, "thinking_enabled", True),
    ),
    option(
        *("tool_review.reviewers.sensitive", "phrases", (["Project X"], [])),
        refused("sensitive", "its arguments hold one of the phrases"),
        config={"action": "block"},
        replies=[[use("look", why="of project x")], "done"],
    ),
    option(
        *("tool_review.reviewers.destructive", "destructive_tools", (["look"], [])),
        refused("destructive", "look is one of the tools that cannot be undone"),
        config={"action": "block"},
        replies=[[use("look")], "done"],
    ),
    option(
        *("tool_review.reviewers.destructive", "command_fields", (["why"], ["command"])),
        refused("destructive", "it removes files recursively"),
        config={"action": "block"},
        replies=[[use("look", why="rm -rf build")], "done"],
    ),
    option(
        *("tool_review.reviewers.size", "block_chars", (400, 250_000)),
        refused("size", "its arguments have 500 characters, more than 400"),
        config={"action": "annotate", "max_chars": 300},
        replies=[[use("look", why="x" * 500)], "done"],
    ),
    option(
        *("evaluate.strategy.binary_classify", "easy_max_turns", (1, 2)),
        lambda seen: seen.code == "exec.loop.max_turns" and len(seen.requests) == 1,
        config={"needs_signal": True},
        replies=["half", "whole\n[COMPLETE]"],
        change=choose("parse", "signal_detector", "regex"),
    ),
    option(
        *("evaluate.strategy.binary_classify", "not_easy_max_turns", (1, 2)),
        lambda seen: seen.code == "exec.loop.max_turns" and len(seen.requests) == 1,
        replies=[[use("look")], "done"],
    ),
    option(
        *("agent.orchestrator.delegate", "max_delegations", (1, 4)),
        lambda seen: (
            begun(seen) == ["slow"] and "[1 more were not carried out" in seen.sent[-1].text
        ),
        replies=lambda request: (
            "did"
            if request.system.startswith("You are")
            else "[DELEGATE: slow: one]\n[DELEGATE: quick: two]"
            if len(request.messages) == 1
            else "end"
        ),
        change=with_agents,
    ),
    option(
        *(LOOKED, "max_insights", (2, 5)),
        lambda seen: {item.text for item in seen.remembered} == {"sky 0", "sky 1"},
        replies=lambda request: THREE if request.system.startswith("You decide") else "so",
        change=patient,
        remembers=(),
    ),
    option(
        *(LOOKED, "max_input_chars", (1_000, 100_000)),
        lambda seen: 0 < len(seen.requests[-1].messages[-1].text) < 2_000,
        replies=reflecting,
        inputs=["word " * 1_000],
        change=patient,
        remembers=(),
    ),
    option(
        *(RULES, "max_facts", (1, 5)), lambda s: len(summaries(s, "facts")) == 1, replies=[FACTS]
    ),
    option(
        *(RULES, "max_entities", (1, 8)),
        lambda seen: len(summaries(seen, "entities")) == 1,
        replies=[FACTS],
    ),
    option(
        *(RULES, "extra_tags", (["cars"], [])),
        lambda seen: list(summaries(seen, "tags")) == ["cars"],
        replies=[FACTS],
    ),
    option(
        *("summarize.importance.heuristic", "keywords", (["wheels"], ["important"])),
        lambda seen: summaries(seen, "importance") == "high",
        replies=[FACTS],
        change=SUMMARISED,
    ),
    option(
        *("summarize.importance.heuristic", "many_facts", (2, 9)),
        lambda seen: summaries(seen, "importance") == "high",
        config={"many_entities": 99},
        replies=[FACTS],
        change=SUMMARISED,
    ),
    option(
        *("summarize.importance.heuristic", "many_entities", (2, 99)),
        lambda seen: summaries(seen, "importance") == "high",
        config={"many_facts": 99},
        replies=[FACTS],
        change=SUMMARISED,
    ),
]


def named(each: Option) -> str:
    return f"{each.at}.{next(k for k in each.given if each.given[k] != each.otherwise[k])}"


@pytest.mark.parametrize("each", OPTIONS, ids=named)
def test_an_option_makes_a_difference(each: Option) -> None:
    assert each.effect.shows(each.seen(each.given))
    assert not each.effect.shows(each.seen(each.otherwise))


def fields_of(kind: type[BaseModel] | None) -> list[str]:
    declared_fields = {} if kind is None else kind.model_fields
    return [field.alias or name for name, field in declared_fields.items()]


def test_no_option_that_no_test_sets() -> None:
    said = "\n".join([path.read_text("utf-8") for path in TESTS.rglob("test_*.py")])
    said += str(list(EFFECTS.values()))
    known, unset = catalogue(), []
    for stage, slots in declared().items():
        kinds = {stage: known.stage(stage).Config}
        for slot in slots.values():
            for name in slot.known:
                kinds[f"{stage}.{slot.name}.{name}"] = known.strategy(stage, slot, name).Config
        unset += [
            f"{at}.{f}" for at, kind in kinds.items() for f in fields_of(kind) if f not in said
        ]
    assert unset == []
