"""The effect of every strategy: see `contract.py`. A new strategy gets its row here."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lorimer.core.errors import APIError, ExecutorErrorCode
from lorimer.core.limits import Limits
from lorimer.core.manifest import EnvironmentManifest, SubAgent
from lorimer.core.memory import MemoryItem
from lorimer.core.messages import ImageBlock, TextBlock, ThinkingBlock, ToolUse
from lorimer.core.request import Request, Response, StopReason, Usage
from tests.core.support import use
from tests.stages.contract import Effect, Key, Seen
from tests.stages.support import choose, configure

CODE = ExecutorErrorCode
ROUND = [use("look")]
REPORT = "The bridge holds 40 tonnes, and its third pillar has a crack."
POINTS_BACK = [[TextBlock(REPORT), use("look")], "See above."]


def all_of(
    *changes: Callable[[EnvironmentManifest], None],
) -> Callable[[EnvironmentManifest], None]:
    def change(manifest: EnvironmentManifest) -> None:
        for each in changes:
            each(manifest)

    return change


def says(text: str) -> Callable[[Seen], bool]:
    """The error of the run."""
    return lambda seen: text in seen.result.error


def shared(seen: Seen, name: str) -> Any:
    return seen.state.shared.get(name) if seen.state is not None else None


def marks(seen: Seen) -> tuple[bool, bool]:
    cache = seen.requests[-1].cache
    return cache.system, cache.message is not None


def notes(seen: Seen, guard: str) -> bool:
    """The guard has told the model, and then stopped the run."""
    acts = [told["action"] for told in seen.told("loop.guard") if told["guard"] == guard]
    noted = [m for m in seen.sent if m.text.startswith("[Note from the program")]
    return acts == ["warn", "stop"] and bool(noted) and seen.code == f"exec.loop.{guard}"


PROMPT = configure("system", prompt="Be brief.")
THINK = [ThinkingBlock("a plan"), ThinkingBlock("a SECRET plan"), *ROUND]
ONLY_GUARD = Limits(max_turns=14)

INPUT: Mapping[Key, Effect] = {
    ("input", "validator", "default"): Effect(
        lambda seen: [result.status for result in seen.results] == ["ok", "error"],
        config={"max_length": 5},
        inputs=["bad", "123456"],
        replies=["done", "done"],
    ),
    ("input", "validator", "strict"): Effect(
        says("blocked phrase 'bad'"), config={"blocked_patterns": ["bad"]}, inputs=["bad"]
    ),
    ("input", "validator", "passthrough"): Effect(
        lambda seen: bool(seen.requests) and seen.sent[0].text == "[\n  1\n]",
        inputs=[[1]],
        change=choose("input", "normalizer", "json"),
        clashes=frozenset({"normalizer.default", "normalizer.multimodal"}),
    ),
    ("input", "validator", "schema"): Effect(
        says("does not fit its schema"),
        config={"schema": {"properties": {"text": {"maxLength": 3}}}},
        inputs=[{"text": "xxxx"}],
    ),
    ("input", "normalizer", "json"): Effect(
        lambda seen: bool(seen.requests) and '"n": 1' in seen.sent[-1].text,
        inputs=[{"text": "x", "n": 1}],
    ),
    ("input", "normalizer", "default"): Effect(
        says("choose the 'multimodal' normalizer"),
        inputs=[{"text": "x", "images": [{"url": "u"}]}],
    ),
    ("input", "normalizer", "multimodal"): Effect(
        lambda seen: bool(seen.requests) and isinstance(seen.sent[-1].content[0], ImageBlock),
        inputs=[{"text": "x", "images": [{"url": "u"}]}],
    ),
}


def shown(seen: Seen) -> list[str]:
    """What the last request held, but for what stands behind the conversation."""
    behind = "[From the program, not from the user:]"
    return [m.text for m in seen.sent if not m.text.startswith(behind)]


TEA = [MemoryItem("a", "Bob drinks black tea."), MemoryItem("b", "Eve has a cat.")]


def counting(request: Request) -> Any:
    """Counts ten times; asked for a recap, writes one."""
    if request.system.startswith("You keep"):
        return json.dumps({"recap": "It counts.", "facts": ["number 7391"]})
    counted.append(1)
    return "done" if len(counted) % 11 == 0 else [use("count", f"c{len(counted)}", why="x" * 400)]


counted: list[int] = []


def compacting(rule: str, shows: Callable[[Seen], bool], **config: Any) -> Effect:
    """A run that is too long for a window of 1,000 tokens: compacted by this rule alone."""

    def rules(seen: Seen) -> set[object]:
        return {f.data["rule"] for f in seen.result.events if f.type == "compacted"}

    def fresh(manifest: EnvironmentManifest) -> None:
        counted.clear()
        configure("context", window=1000)(manifest)

    return Effect(
        lambda seen: rules(seen) == ({rule} if rule else set()) and shows(seen),
        replies=counting,
        change=fresh,
        config=config,
    )


BEFORE: Mapping[Key, Effect] = {
    ("context", "strategy", "simple_load"): Effect(
        lambda seen: shown(seen) == ["a", "1", "b", "2", "c"],
        replies=["1", "2", "3"],
        inputs=["a", "b", "c"],
    ),
    ("context", "strategy", "hybrid"): Effect(
        lambda seen: shown(seen) == ["a", "c"],
        replies=["1", "2", "3"],
        inputs=["a", "b", "c"],
        config={"max_recent_turns": 1},
    ),
    ("context", "strategy", "progressive_disclosure"): Effect(
        lambda seen: [text[-4:] for text in shown(seen)] == ["a", "3: b", "c"],
        replies=["1", "2", "3"],
        inputs=["a", "b", "c"],
        config={"recent_turns": 1, "summary_threshold": 2},
    ),
    ("context", "strategy", "vector_search"): Effect(
        lambda seen: shown(seen) == ["The deploy key is 7391.", "What is the deploy key?"],
        replies=["1", "2", "3"],
        inputs=["Nice weather today.", "The deploy key is 7391.", "What is the deploy key?"],
        config={"recent_turns": 1},
    ),
    ("context", "retriever", "none"): Effect(
        lambda seen: [m.text for m in seen.sent] == ["Which tea?"],
        inputs=["Which tea?"],
        remembers=TEA,
    ),
    ("context", "retriever", "static"): Effect(
        lambda seen: seen.sent[-1].text.endswith("\n\nCall me Bob."),
        config={"texts": ["Call me Bob."]},
    ),
    ("context", "retriever", "memory"): Effect(
        lambda seen: (
            seen.sent[0].text == "Which tea?"
            and seen.sent[-1].text.endswith("- (no date) Bob drinks black tea.")
        ),
        inputs=["Which tea?"],
        remembers=TEA,
    ),
    ("context", "compactor", "none"): compacting("", lambda seen: len(shown(seen)) == 21),
    ("context", "compactor", "truncate"): compacting(
        "truncate", lambda seen: seen.sent[1].text.endswith("any more.]"), keep_last=4
    ),
    ("context", "compactor", "sliding_window"): replace(
        compacting("sliding_window", lambda seen: len(shown(seen)) <= 8, window_size=4, slack=2),
        change=lambda _: counted.clear(),  # the window is far from full
    ),
    ("context", "compactor", "summary"): compacting(
        "summary", lambda seen: "Called count(" in seen.sent[1].text, keep_recent=4
    ),
    ("context", "compactor", "llm_summary"): compacting(
        "llm_summary", lambda seen: "- number 7391" in seen.sent[1].text, keep_recent=4
    ),
    ("system", "builder", "static"): Effect(
        lambda seen: seen.requests[-1].system == "Be brief.",
        change=PROMPT,
        inputs=[{"text": "x", "system": "No lies."}],
    ),
    ("system", "builder", "composable"): Effect(
        lambda seen: seen.requests[-1].system == "Be brief.\n\n# Rules\nNo lies.",
        change=PROMPT,
        config={"blocks": [{"type": "text", "title": "Rules", "text": "No lies."}]},
    ),
    ("system", "builder", "given"): Effect(
        lambda seen: seen.requests[-1].system == "Be brief.\n\nNo lies.",
        change=PROMPT,
        inputs=[{"text": "x", "system": "No lies."}],
    ),
    ("guard", "guards", "token_budget"): Effect(
        says("The guard 'token_budget' stopped the run"),
        config={"context_window": 1000, "min_remaining_tokens": 500},
        inputs=["word " * 800],
    ),
    ("guard", "guards", "cost_budget"): Effect(
        says("The guard 'cost_budget' stopped the run"),
        config={"max_cost_usd": 0.0001},
        replies=[ROUND, ROUND, "done"],
    ),
    ("guard", "guards", "iteration"): Effect(
        says("The guard 'iteration' stopped the run"),
        config={"max_iterations": 3},
        replies=[Response((use("look"),), StopReason.TOOL_USE)] * 4,
    ),
    ("guard", "guards", "permission"): Effect(
        lambda seen: (
            "look" not in [spec.name for spec in seen.requests[0].tools]
            and [step.is_error for step in seen.result.steps] == [True, False]
            and "this agent may not call look" in str(seen.result.steps[0].content)
        ),
        replies=[[use("look"), use("other")], "done"],
        config={"blocked_tools": ["look"]},
    ),
    ("cache", "strategy", "no_cache"): Effect(
        lambda seen: marks(seen) == (False, False), change=PROMPT
    ),
    ("cache", "strategy", "system_cache"): Effect(
        lambda seen: marks(seen) == (True, False), change=PROMPT
    ),
    ("cache", "strategy", "aggressive_cache"): Effect(
        lambda seen: marks(seen) == (True, True), change=PROMPT
    ),
}

LIMITED = APIError("slow down", code=CODE.EXEC_API_RATE_LIMITED)


def signals(seen: Seen) -> list[object]:
    """What the replies were found to say of themselves."""
    return [told["signal"] for told in seen.told("parse.complete")]


LONG = "word " * 2_000


def routed(request: Request) -> str:
    return "done"


def asked_models(seen: Seen) -> list[object]:
    """Who answered, in order."""
    return [
        fact.data.get("model")
        for result in seen.results
        for fact in result.events
        if fact.type == "model.reply"
    ]


def budgets(seen: Seen) -> list[int | None]:
    return [request.thinking_tokens for request in seen.requests]


def thinking(manifest: EnvironmentManifest) -> None:
    manifest.model.thinking_enabled = True


CALL: Mapping[Key, Effect] = {
    ("api", "retry", "exponential_backoff"): Effect(
        lambda seen: seen.result.text == "done" and 3.0 <= seen.took_s <= 3.4,
        replies=[LIMITED, LIMITED, "done"],
    ),
    ("api", "retry", "rate_limit_aware"): Effect(
        lambda seen: seen.result.text == "done" and seen.took_s == 14.0,
        replies=[LIMITED, LIMITED, "done"],
        config={"fallback_delay_s": 7.0},
    ),
    ("api", "router", "passthrough"): Effect(
        lambda seen: asked_models(seen) == ["scripted"] * 3,
        replies=routed,
        inputs=["short", LONG[:2_000], LONG],
    ),
    ("api", "router", "adaptive"): Effect(
        lambda seen: asked_models(seen) == ["scripted", "small", "big"],
        replies=routed,
        inputs=["short", LONG[:2_000], LONG],
        config={
            "balanced": "openai:s",
            "heavy": "google:b",
            "heavy_threshold_chars": 5000,
            "tools_promote_balanced": False,
        },
    ),
    ("think", "budget_planner", "static"): Effect(
        lambda seen: budgets(seen) == [10_000, 10_000],
        replies=[[ThinkingBlock("a plan"), use("fail")], "done"],
        change=thinking,
    ),
    ("think", "budget_planner", "adaptive"): Effect(
        lambda seen: budgets(seen) == [6_000, 9_000],
        replies=[[ThinkingBlock("a plan"), use("fail")], "done"],
        change=thinking,
        config={"base_budget": 5_000, "tools_bonus": 1_000, "reflection_bonus": 3_000},
    ),
    ("api", "retry", "no_retry"): Effect(
        lambda seen: seen.code == "exec.api.rate_limited" and len(seen.requests) == 1,
        replies=[LIMITED, "done"],
    ),
    ("token", "calculator", "unified_pricing"): Effect(
        lambda seen: round(seen.result.total_cost_usd * 1e6) == 110
    ),
    ("token", "calculator", "custom_pricing"): Effect(
        lambda seen: round(seen.result.total_cost_usd * 1e6) == 220,
        config={"input_per_million": 2.0, "output_per_million": 2.0},
    ),
    ("token", "tracker", "default"): Effect(
        lambda seen: bool(seen.told("token.tracked")) and shared(seen, "token_breakdown") is None
    ),
    ("token", "tracker", "detailed"): Effect(
        lambda seen: len(shared(seen, "token_breakdown") or ()) == 2, replies=[ROUND, "done"]
    ),
    ("think", "processor", "store"): Effect(
        lambda seen: seen.state is not None and seen.state.thinking == ["a plan", "a SECRET plan"],
        replies=[THINK, "done"],
    ),
    ("think", "processor", "filter"): Effect(
        lambda seen: seen.state is not None and seen.state.thinking == ["a plan"],
        replies=[THINK, "done"],
        config={"exclude_patterns": ["secret"]},
    ),
    ("parse", "signal_detector", "none"): Effect(
        lambda seen: signals(seen) == ["", ""],
        replies=["Well.\n[BLOCKED: no key]", '{"signal": "complete"}'],
        inputs=["a", "b"],
    ),
    ("parse", "signal_detector", "regex"): Effect(
        lambda seen: signals(seen) == ["blocked", ""],
        replies=["Well.\n[BLOCKED: no key]", '{"signal": "complete"}'],
        inputs=["a", "b"],
    ),
    ("parse", "signal_detector", "structured"): Effect(
        lambda seen: signals(seen) == ["", "complete"],
        replies=["Well.\n[BLOCKED: no key]", '{"signal": "complete"}'],
        inputs=["a", "b"],
    ),
    ("parse", "signal_detector", "hybrid"): Effect(
        lambda seen: signals(seen) == ["blocked", "complete"],
        replies=["Well.\n[BLOCKED: no key]", '{"signal": "complete"}'],
        inputs=["a", "b"],
    ),
    ("parse", "parser", "default"): Effect(
        lambda seen: seen.result.output == '{"a": 1}', replies=['{"a": 1}']
    ),
    ("parse", "parser", "structured_output"): Effect(
        lambda seen: seen.result.output == {"a": 1}, replies=['{"a": 1}']
    ),
}

SIDE_BY_SIDE = [[use("slow"), use("quick"), use("rude")], "done"]

TOOLS: Mapping[Key, Effect] = {
    ("tool", "executor", "sequential"): Effect(
        lambda seen: seen.took_s == 8.0 and seen.order[:2] == ["+slow", "-slow"],
        replies=SIDE_BY_SIDE,
    ),
    ("tool", "executor", "streaming"): Effect(
        lambda seen: seen.took_s == 8.0 and seen.order == ["+peek", "-peek"],
        replies=[[use("peek"), TextBlock("one two three four five six")], "done"],
        model={"delta_s": 1.0, "chunk": 5},
    ),
    ("tool", "executor", "parallel"): Effect(
        lambda seen: seen.took_s == 5.0 and seen.order[:3] == ["+slow", "+quick", "+rude"],
        replies=SIDE_BY_SIDE,
    ),
    ("tool", "executor", "partition"): Effect(
        lambda seen: seen.took_s == 12.0 and seen.order[:2] == ["+peek", "+quick"],
        replies=[[use("peek"), use("quick"), use("rude"), TextBlock("end")], "done"],
        model={"delta_s": 1.0},
    ),
}


def refused(reviewer: str, reason: str) -> Callable[[Seen], bool]:
    """The reviewer refused the call, which was not made."""
    says = f"the reviewer '{reviewer}' refused this call of look: {reason}"
    return lambda seen: says in str(seen.result.steps[0].content)


def reviewing(name: str, reason: str, input: Mapping[str, Any], **config: Any) -> Effect:
    return Effect(
        refused(name, reason),
        replies=[[use("look", **input)], "done"],
        config={"action": "block", **config},
    )


REVIEW: Mapping[Key, Effect] = {
    ("tool_review", "reviewers", "schema"): reviewing(
        "schema", "why must be given", {"why": ""}, required_fields={"look": ["why"]}
    ),
    ("tool_review", "reviewers", "sensitive"): reviewing(
        "sensitive", "its arguments hold an AWS key", {"why": "x", "at": "AKIAABCDEFGHIJKLMNOP"}
    ),
    ("tool_review", "reviewers", "destructive"): reviewing(
        "destructive", "it removes files recursively", {"why": "x", "command": "rm -rf build"}
    ),
    ("tool_review", "reviewers", "network"): reviewing(
        "network",
        "the host 'evil.test' is not one of allowed_hosts",
        {"why": "x", "url": "https://good.test@evil.test/"},
        network_tools=["look"],
        allowed_hosts=["good.test"],
    ),
    ("tool_review", "reviewers", "size"): reviewing(
        "size", "its arguments have 301 characters", {"why": "x" * 301}, max_chars=300
    ),
}


class Agrees:
    """An approver."""

    async def approve(self, tool: str, summary: str, reason: str) -> bool:
        return True


def asked(seen: Seen) -> list[Mapping[str, Any]]:
    """The answers of people that are recorded."""
    return [f.data for f in seen.result.events if f.data.get("key") == "approval:hitl"]


ANSWERS = configure("hitl", answers=True)
ASK_NOBODY_HERE = frozenset({"requester.null", "requester.approver", "requester.callback"})


def waiting(shows: Callable[[Seen], bool], **config: Any) -> Effect:
    change = all_of(ANSWERS, choose("hitl", "requester", "pipeline_resume"))
    return Effect(shows, change=change, config=config, clashes=ASK_NOBODY_HERE)


PEOPLE: Mapping[Key, Effect] = {
    ("hitl", "requester", "null"): Effect(
        lambda seen: (
            seen.result.status == "ok"
            and shared(seen, "hitl_last_decision") == "approve"
            and not asked(seen)
        ),
        change=ANSWERS,
    ),
    ("hitl", "requester", "approver"): Effect(
        lambda seen: (
            asked(seen)[-1:] != [] and asked(seen)[-1].get("approved") is True and not seen.said
        ),
        change=ANSWERS,
        options={"approver": Agrees()},
    ),
    ("hitl", "requester", "callback"): Effect(
        lambda seen: any(isinstance(said, dict) and said["text"] == "done" for said in seen.said),
        change=ANSWERS,
        config={"target": "agree"},
    ),
    ("hitl", "requester", "pipeline_resume"): Effect(
        lambda seen: seen.result.status == "suspended",
        change=ANSWERS,
        clashes=frozenset({"timeout.auto_reject", "timeout.auto_approve"}),
    ),
    ("hitl", "timeout", "indefinite"): waiting(lambda seen: seen.result.status == "suspended"),
    ("hitl", "timeout", "auto_reject"): waiting(
        lambda seen: seen.code == "exec.hitl.rejected" and seen.took_s == 30.0, timeout_s=30.0
    ),
    ("hitl", "timeout", "auto_approve"): waiting(
        lambda seen: seen.result.status == "ok" and seen.took_s == 45.0, timeout_s=45.0
    ),
}


def marked(request: Request) -> str:
    """Answers, and judges answers."""
    if not request.system.startswith("You judge"):
        return "better" if "Say more." in request.messages[-1].text else "short"
    asked = request.messages[-1].text
    score = 1 if '"better"' in asked else 0.2
    marks = [{"criterion": "answer", "score": score}]
    return json.dumps({"marks": marks, "feedback": "Say more."})


def feedback(seen: Seen) -> list[str]:
    """What the model was told about its answers."""
    return [m.text for m in seen.result.messages[1:] if m.role == "user"]


TWO_MARKS = choose("evaluate", "strategy", "criteria", min_chars=1, must_contain=["yes", "now"])
OTHER_STRATEGIES = frozenset(
    f"strategy.{name}"
    for name in (
        *("accept", "criteria", "signal_based", "agent_evaluation", "binary_classify"),
        *("evaluation_chain", "structured_output"),
    )
)

DECIDE: Mapping[Key, Effect] = {
    ("evaluate", "strategy", "accept"): Effect(
        lambda seen: (seen.result.status, seen.result.text) == ("ok", "no"),
        replies=[ROUND, ROUND, "no", "yes!"],
    ),
    ("evaluate", "strategy", "criteria"): Effect(
        lambda seen: (
            seen.result.text == "yes!" and "must have at least 4 characters" in seen.sent[-1].text
        ),
        replies=["no", "yes!"],
        config={"min_chars": 4},
    ),
    ("evaluate", "strategy", "structured_output"): Effect(
        lambda seen: seen.result.output == {"a": 1} and "is no object" in seen.sent[-1].text,
        replies=["[1]", '{"a": 1}'],
        change=choose("parse", "parser", "structured_output", schema={"required": ["a"]}),
    ),
    ("evaluate", "strategy", "signal_based"): Effect(
        lambda seen: seen.result.text == "[COMPLETE]" and feedback(seen) == ["Go on."] * 2,
        replies=["half of it, and more\n[CONTINUE]", "nearly\n[CONTINUE]", "[COMPLETE]"],
        change=choose("parse", "signal_detector", "regex"),
        config={"needs_signal": True},
    ),
    ("evaluate", "strategy", "agent_evaluation"): Effect(
        lambda seen: seen.result.text == "better" and feedback(seen) == ["Say more."],
        replies=marked,
    ),
    ("evaluate", "strategy", "binary_classify"): Effect(
        lambda seen: seen.code == "exec.loop.max_turns" and len(seen.requests) == 2,
        replies=[ROUND, ROUND, "done"],
        config={"not_easy_max_turns": 2},
    ),
    ("evaluate", "strategy", "evaluation_chain"): Effect(
        lambda seen: (
            feedback(seen)
            == [
                "The answer must mention: yes.",
                "The answer must have at most 5 characters.",
            ]
        ),
        replies=["no", "yes, yes, yes", "yes"],
        config={
            "evaluators": [
                {"strategy": "criteria", "config": {"must_contain": ["yes"]}},
                {"strategy": "criteria", "config": {"max_chars": 5}},
            ]
        },
    ),
    ("evaluate", "scorer", "minimum"): Effect(
        lambda seen: [told["score"] for told in seen.told("evaluate.complete")] == [0.5, 1.0],
        replies=["yes", "yes, now"],
        change=TWO_MARKS,
        clashes=OTHER_STRATEGIES,
    ),
    ("evaluate", "scorer", "weighted"): Effect(
        lambda seen: [told["score"] for told in seen.told("evaluate.complete")] == [0.875, 1.0],
        replies=["yes", "yes, now"],
        change=TWO_MARKS,
        config={"weights": {"min_chars": 3, "must_contain": 1}},
        clashes=OTHER_STRATEGIES,
    ),
    ("loop", "controller", "standard"): Effect(
        lambda seen: seen.reasons == ["tool_calls", "tool_calls", "controller_max_turns"],
        replies=[[use("count")]] * 4,
        config={"max_turns": 3},
        limits=Limits(max_cost_usd=0.02),
    ),
    ("loop", "controller", "single_turn"): Effect(
        lambda seen: seen.reasons == ["single_turn"], replies=[[use("count")], "done"]
    ),
    ("loop", "controller", "budget_aware"): Effect(
        lambda seen: seen.reasons[-1] == "cost_threshold" and seen.result.status == "ok",
        replies=[[use("count")]] * 4,
        config={"cost_threshold_ratio": 0.01},
        limits=Limits(max_cost_usd=0.02),
    ),
    ("loop", "controller", "multi_dim_budget"): Effect(
        lambda seen: (
            seen.reasons == ["wrap_up:tokens", "budget:tokens"]
            and "come to an end" in seen.sent[-1].text
        ),
        replies=[Response((use("count"),), StopReason.TOOL_USE, Usage(2000, 100))] * 4,
        config={"max_tokens": 4000, "warn_ratio": 0.5, "dimensions": ["cost", "tokens"]},
    ),
    ("loop", "guards", "identical"): Effect(
        lambda seen: notes(seen, "identical"),
        replies=[ROUND] * 20,
        limits=ONLY_GUARD,
        clashes=frozenset({"controller.single_turn", "controller.standard"}),
    ),
    ("loop", "guards", "alternating"): Effect(
        lambda seen: notes(seen, "alternating"),
        replies=[ROUND, [use("other")]] * 10,
        limits=ONLY_GUARD,
        clashes=frozenset({"controller.single_turn", "controller.standard"}),
    ),
    ("loop", "guards", "no_progress"): Effect(
        lambda seen: notes(seen, "no_progress"),
        replies=[[use("look", n=n)] for n in (1, 2, 3, 4, 2, 1, 4, 3, 3, 1, 2, 4, 1, 3)],
        limits=ONLY_GUARD,
        clashes=frozenset({"controller.single_turn", "controller.standard"}),
    ),
    ("loop", "guards", "error_streak"): Effect(
        lambda seen: notes(seen, "error_streak"),
        replies=[[use("fail")]] * 14,
        limits=ONLY_GUARD,
        clashes=frozenset({"controller.single_turn", "controller.standard"}),
    ),
}


def with_agents(manifest: EnvironmentManifest) -> None:
    """Sub-agents whose system prompt says who they are."""
    manifest.agents = [
        SubAgent(name=name, description=f"It is {name}.", prompt=f"You are {name}.")
        for name in ("slow", "quick", "judge")
    ]


GIVEN = "[DELEGATE: slow: one]\n[DELEGATE: quick: two]"


def begun(seen: Seen) -> list[object]:
    """The sub-agents that were begun, in order; of tasks what they are called."""
    return [told["task"] or told["agent"] for told in seen.told("subagent.spawned")]


def order(seen: Seen) -> list[str]:
    """What sub-agents went through."""
    return [
        f"{'+' if event.type == 'subagent.spawned' else '-'}{event.data['agent']}"
        for event in seen.signals
        if event.type.startswith("subagent.")
    ]


def by_system(**replies: Sequence[Any]) -> Callable[[Request], Any]:
    """A script for each agent; `main` for the run's own."""

    def reply(request: Request) -> Any:
        name = request.system.removeprefix("You are ").removesuffix(".")
        before = [m for m in request.messages if m.role == "assistant"]
        return replies[name if name in replies else "main"][len(before)]

    return reply


def marking(request: Request) -> str:
    """Answers; as `judge`, finds that only the second answer will do."""
    if request.system == "You are judge.":
        return "score: 0.9" if "two" in request.messages[-1].text else "score: 0.2"
    return ["one", "two", "three"][len([m for m in request.messages if m.role == "assistant"])]


def working(orchestrator: str = "delegate", **config: Any) -> Any:
    return all_of(with_agents, choose("agent", "orchestrator", orchestrator, **config))


def task_of(agent: str) -> ToolUse:
    return use("TaskCreate", subagent_type=agent, prompt="p")


def told_of(seen: Seen) -> list[str]:
    """The heads of what the model was told of tasks."""
    return [m.text.partition("\n")[0] for m in seen.sent if m.text.startswith("[Task t")]


CHILDREN: Mapping[Key, Effect] = {
    ("agent", "orchestrator", "single_agent"): Effect(
        lambda seen: begun(seen) == [] and len(seen.requests) == 1,
        replies=by_system(main=[GIVEN, "done", "done"], slow=["s"] * 3, quick=["q"] * 3),
        change=with_agents,
        config={},
    ),
    ("agent", "orchestrator", "delegate"): Effect(
        lambda seen: begun(seen) in (["slow", "quick"], ["t1", "t2"]) and seen.result.text == "end",
        replies=by_system(main=[GIVEN, "end", "end", "end"], slow=["s"] * 3, quick=["q"] * 3),
        change=with_agents,
    ),
    ("agent", "orchestrator", "evaluator"): Effect(
        lambda seen: begun(seen) == ["judge", "judge"] and seen.result.text == "two",
        replies=marking,
        change=with_agents,
        config={"agent": "judge"},
        clashes=frozenset({"dispatch.background"}),
    ),
    ("agent", "dispatch", "serial"): Effect(
        lambda seen: order(seen) == ["+slow", "-slow", "+quick", "-quick"],
        replies=by_system(main=[GIVEN, "done", "done"], slow=["s"], quick=["q"]),
        change=working(),
        clashes=frozenset({"orchestrator.single_agent", "orchestrator.evaluator"}),
    ),
    ("agent", "dispatch", "parallel"): Effect(
        lambda seen: order(seen)[:2] == ["+slow", "+quick"] and begun(seen) == ["slow", "quick"],
        replies=by_system(main=[GIVEN, "done", "done"], slow=["s"], quick=["q"]),
        change=working(),
        clashes=frozenset({"orchestrator.single_agent", "orchestrator.evaluator"}),
    ),
    ("agent", "dispatch", "background"): Effect(
        lambda seen: begun(seen) == ["t1", "t2"],
        replies=by_system(main=[GIVEN, "done", "done", "done"], slow=["s"], quick=["q"]),
        change=working(),
        clashes=frozenset({"orchestrator.single_agent", "orchestrator.evaluator"}),
    ),
    ("task_registry", "policy", "eager_wait"): Effect(
        lambda seen: (
            told_of(seen) == ["[Task t1 of slow has ended: ok]", "[Task t2 of quick has ended: ok]"]
        ),
        replies=by_system(
            main=[[task_of("slow"), task_of("quick")], "so", "done"],
            slow=[[use("slow")], "s"],
            quick=["q"],
        ),
        change=with_agents,
    ),
    ("task_registry", "policy", "timed_wait"): Effect(
        lambda seen: told_of(seen)[-1:] == ["[Task t1 of slow has ended: cancelled]"],
        replies=by_system(main=[[task_of("slow")], "so", "done"], slow=[[use("slow")], "s"]),
        config={"timeout_seconds": 2.0},
        change=with_agents,
    ),
    ("task_registry", "policy", "fire_and_forget"): Effect(
        lambda seen: seen.result.text == "so" and begun(seen) == ["t1"],
        replies=by_system(main=[[task_of("slow")], "so", "done"], slow=[[use("slow")], "s"]),
        change=with_agents,
    ),
}


def emitting(name: str) -> Mapping[str, Any]:
    return {"target": name}


SKY = ["The sky is blue."]


def reflecting(request: Request) -> str:
    """Answers; asked to look back, has one insight."""
    if not request.system.startswith("You decide"):
        return SKY[0]
    insight = {"text": "Bob likes the sky.", "importance": 0.9, "always": True}
    return json.dumps({"insights": [insight]})


def patient(manifest: EnvironmentManifest) -> None:
    """As a strategy of stage 18 needs it that asks a model."""
    manifest.limits = replace(manifest.limits, cleanup_s=60.0)


AFTER: Mapping[Key, Effect] = {
    ("emit", "emitters", "text"): Effect(lambda seen: "done" in seen.said, config=emitting("one")),
    ("emit", "emitters", "record"): Effect(
        lambda seen: any(isinstance(said, dict) and said["text"] == "done" for said in seen.said),
        config=emitting("two"),
    ),
    ("memory", "strategy", "no_memory"): Effect(
        lambda seen: not seen.remembered,
        replies=SKY,
        inputs=["What colour?"],
        change=patient,
        remembers=(),
    ),
    ("memory", "strategy", "append_only"): Effect(
        lambda seen: (
            [item.text for item in seen.remembered]
            == ["Asked: What colour?\nAnswered: The sky is blue."]
        ),
        replies=reflecting,
        inputs=["What colour?"],
        change=patient,
        remembers=(),
    ),
    ("memory", "strategy", "reflective"): Effect(
        lambda seen: (
            [(item.text, item.pinned) for item in seen.remembered] == [("Bob likes the sky.", True)]
        ),
        replies=reflecting,
        inputs=["What colour?"],
        change=patient,
        remembers=(),
    ),
    ("summarize", "summarizer", "no_summary"): Effect(
        lambda seen: not seen.told("summary.written"), replies=SKY
    ),
    ("summarize", "summarizer", "rule_based"): Effect(
        lambda seen: [told["text"] for told in seen.told("summary.written")] == SKY,
        replies=SKY,
        config={"max_sentences": 1},
    ),
    ("summarize", "importance", "fixed"): Effect(
        lambda seen: [told["importance"] for told in seen.told("summary.written")] == ["critical"],
        replies=SKY,
        change=choose("summarize", "summarizer", "rule_based"),
        config={"grade": "critical"},
        clashes=frozenset({"summarizer.no_summary"}),
    ),
    ("summarize", "importance", "heuristic"): Effect(
        lambda seen: [told["importance"] for told in seen.told("summary.written")] == ["high"],
        replies=SKY,
        inputs=["Remember: what colour?"],
        change=choose("summarize", "summarizer", "rule_based"),
        clashes=frozenset({"summarizer.no_summary"}),
    ),
    ("persist", "cadence", "on_growth"): Effect(
        lambda seen: [told["facts"] for told in seen.told("checkpoint.due")] == [3, 8],
        replies=["a", "b", "c", "d"],
        inputs=["1", "2", "3", "4"],
        config={"min_facts": 2, "ratio": 1.0},
    ),
    ("persist", "cadence", "every_n_facts"): Effect(
        lambda seen: [told["facts"] for told in seen.told("checkpoint.due")] == [8, 8],
        replies=["a", "b", "c", "d"],
        inputs=["1", "2", "3", "4"],
        config={"n": 8},
    ),
    ("persist", "cadence", "every_turn"): Effect(
        lambda seen: len(seen.told("checkpoint.due")) == 2, replies=["a", "b"], inputs=["1", "2"]
    ),
    ("persist", "cadence", "every_n_turns"): Effect(
        lambda seen: [told["facts"] for told in seen.told("checkpoint.due")] == [13],
        replies=["a", "b", "c", "d"],
        inputs=["1", "2", "3", "4"],
        config={"n": 3},
    ),
    ("persist", "cadence", "on_significant"): Effect(
        lambda seen: [told["facts"] for told in seen.told("checkpoint.due")] == [7],
        replies=[ROUND, "a", "b", "c", "d"],
        inputs=["1", "2", "3", "4"],
        config={"kinds": ["tool.result"]},
    ),
    ("yield", "formatter", "default"): Effect(
        lambda seen: seen.result.output == "See above.", replies=POINTS_BACK
    ),
    ("yield", "formatter", "substantive"): Effect(
        lambda seen: seen.result.output == REPORT, replies=POINTS_BACK
    ),
    ("yield", "formatter", "multi_format"): Effect(
        lambda seen: seen.result.output == {"markdown": "> a plan\n\ndone", "text": "done"},
        replies=[[ThinkingBlock("a plan"), TextBlock("done")]],
        config={"formats": ["markdown", "text"], "include_thinking": True},
    ),
    ("yield", "formatter", "structured"): Effect(
        lambda seen: isinstance(seen.result.output, dict) and "usage" in seen.result.output
    ),
}

EFFECTS: dict[Key, Effect] = {
    **INPUT,
    **BEFORE,
    **CALL,
    **TOOLS,
    **REVIEW,
    **PEOPLE,
    **DECIDE,
    **CHILDREN,
    **AFTER,
}
