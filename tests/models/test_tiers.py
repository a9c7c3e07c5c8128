"""Tiers, aliases and chains: what a name stands for, now and a little later."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorimer import PipelinePresets
from lorimer.core.cancel import Reason
from lorimer.core.errors import ConfigError
from lorimer.journal.sqlite.store import SQLiteJournal
from lorimer.models import AliasCycle, CredentialBundle, Models, ScriptedModel, Tiers
from lorimer.models.tiers import MAX_TARGETS
from lorimer.models.unasked import Unasked

TIERS = Tiers(
    {"fast": "haiku, openai:gpt-5-mini:low", "big": "opus"},
    {"haiku": "anthropic:claude-haiku-4-5", "opus": "anthropic:claude-opus-4-6", "any": "big,fast"},
)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("fast", ["anthropic:claude-haiku-4-5", "openai:gpt-5-mini:low"]),
        ("opus", ["anthropic:claude-opus-4-6"]),
        ("any", ["anthropic:claude-opus-4-6", "anthropic:claude-haiku-4-5",
                 "openai:gpt-5-mini:low"]),
        # anywhere in a chain; duplicates dropped, the first wins
        ("openai:gpt-5 ,haiku, fast", ["openai:gpt-5", "anthropic:claude-haiku-4-5",
                                       "openai:gpt-5-mini:low"]),
        # the effort of what is named holds where nothing nearer says one
        ("fast:high", ["anthropic:claude-haiku-4-5:high", "openai:gpt-5-mini:low"]),
        ("haiku:LOW", ["anthropic:claude-haiku-4-5:low"]),
        # a name with a provider is never an alias; tags and slashes stay as they are
        ("anthropic:haiku", ["anthropic:haiku"]),
        ("openai/fast", ["openai/fast"]),
        ("ollama:qwen3:cloud", ["ollama:qwen3:cloud"]),
        ("unknown", ["unknown"]),
        ("claude-haiku-4-5", ["claude-haiku-4-5"]),
    ],
)  # fmt: skip
def test_expansion(spec: str, expected: list[str]) -> None:
    assert TIERS.expand(spec) == expected


@pytest.mark.parametrize("spec", ["", " ", "a,,b", "a,", ",a"])
def test_nothing_between_commas(spec: str) -> None:
    with pytest.raises(ConfigError, match="names no model|between two commas"):
        TIERS.expand(spec)


@pytest.mark.parametrize(
    ("tiers", "aliases"),
    [
        ({"a": "b", "b": "x:y"}, {}),
        ({"a": "x:y, via", "b": "x:y"}, {"via": "b"}),
        ({"a": "b:low", "b": "x:y"}, {}),
    ],
)
def test_a_tier_that_names_a_tier_is_refused(
    tiers: dict[str, str], aliases: dict[str, str]
) -> None:
    with pytest.raises(ConfigError, match="the tier 'a' names the tier 'b'"):
        Tiers(tiers, aliases)


@pytest.mark.parametrize(
    ("aliases", "cycle"),
    [
        ({"a": "a"}, ("a", "a")),
        ({"a": "x:y,b", "b": "c:low", "c": "a"}, ("a", "b", "c", "a")),
    ],
)
def test_a_cycle_is_shown(aliases: dict[str, str], cycle: tuple[str, ...]) -> None:
    with pytest.raises(AliasCycle, match=" -> ".join(cycle)) as caught:
        Tiers(aliases=aliases)
    assert caught.value.cycle == cycle


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Tiers({"a b": "x:y", "t": "x,,y"}, {"t": "x:y", "low": "x:y", "l": "l"})
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "tiers.a b",
        "tiers.t",
        "aliases.t",
        "aliases.low",
        "aliases.l",
    ]


def test_what_blows_up_is_bounded() -> None:
    wide = {f"a{n}": f"a{n + 1},a{n + 1}:low" for n in range(20)} | {"a20": "x:y"}
    with pytest.raises(ConfigError, match="too many"):
        Tiers(aliases=wide)
    deep = {f"a{n}": f"a{n + 1}" for n in range(2000)}
    with pytest.raises(ConfigError, match="leads on and on"):
        Tiers(aliases=deep)
    with pytest.raises(ConfigError, match=f"at most {MAX_TARGETS}"):
        Tiers().expand(",".join(f"x:m{n}" for n in range(MAX_TARGETS + 1)))


def test_a_live_tier_is_kept_for_thirty_seconds() -> None:
    live = {"fast": "x:one"}
    asked: list[str] = []
    now = [100.0]

    def source(name: str) -> str | None:
        asked.append(name)
        return live.get(name)

    tiers = Tiers({"fast": "x:default", "big": "x:big"}, source=source, clock=lambda: now[0])
    assert asked == []
    assert tiers.expand("fast") == ["x:one"]
    live["fast"] = "x:two"
    now[0] += 29.9
    assert tiers.expand("fast") == ["x:one"]
    now[0] += 0.1
    assert tiers.expand("fast") == ["x:two"]
    live.clear()
    assert tiers.expand("fast") == ["x:two"]
    tiers.reload()
    assert tiers.expand("fast") == ["x:default"]
    assert tiers.expand("big") == ["x:big"]
    assert asked == ["fast", "fast", "fast", "big"]


def test_a_live_value_is_checked_when_used() -> None:
    tiers = Tiers({"other": "x:y"}, source={"fast": "other"}.get)
    with pytest.raises(ConfigError, match="names the tier 'other'"):
        tiers.expand("fast")


def test_models_resolve_names() -> None:
    one, two = ScriptedModel(["1"]), ScriptedModel(["2"])
    models = Models(
        CredentialBundle(env={}), providers={"one": one, "two": two}, tiers=Tiers({"t": "two:x"})
    )
    assert models.resolve("t") is two
    assert models.resolve("one:a, two:b") is one
    assert models.expand("t:low, one:a") == ["two:x:low", "one:a"]


names = st.sampled_from(["a", "b", "c", "d", "x:1", "x:2", "y/z:free"])
chains = st.lists(names, min_size=1, max_size=4).map(",".join)


@given(st.dictionaries(st.sampled_from("abcd"), chains), chains)
def test_any_aliases_expand_to_models_or_a_cycle(aliases: dict[str, str], chain: str) -> None:
    cycle: tuple[str, ...] = ()
    tiers = Tiers()
    try:
        tiers = Tiers(aliases=aliases)
    except AliasCycle as error:
        cycle = error.cycle
    if cycle:
        assert cycle[0] == cycle[-1]
        assert all(after in aliases[name].split(",") for name, after in pairwise(cycle))
        return
    found = tiers.expand(chain)
    assert not set(found) & set(aliases)
    assert len(set(found)) == len(found) >= 1
    assert tiers.expand(",".join(found)) == found


def test_a_name_that_becomes_a_tier() -> None:
    """What was taken for a model's name is not kept once the source knows it."""
    live: dict[str, str] = {}
    one, two = ScriptedModel(["1"]), ScriptedModel(["2"])
    models = Models(
        CredentialBundle(env={}),
        providers={"anthropic": one, "two": two},
        tiers=Tiers(source=live.get),
    )
    assert models.resolve("soon") is one
    live["soon"] = "two:x"
    models.reload()
    assert models.resolve("soon") is two


def test_a_run_keeps_to_what_its_tier_meant_when_it_began(tmp_path: Path) -> None:
    """Interrupted, resumed and replayed after the tier has come to stand for another model."""
    live = {"fast": "one:a"}

    async def go() -> None:
        journal = SQLiteJournal(tmp_path / "runs.db")
        one = ScriptedModel(lambda request: "the answer of one", name="a", latency_s=60)
        models = Models(
            CredentialBundle(env={}),
            providers={"one": one, "two": ScriptedModel(["the answer of two"] * 2)},
            tiers=Tiers(source=live.get, clock=lambda: 0.0),
        )
        first = PipelinePresets.minimal(model="fast", models=models, journal=journal)
        task = asyncio.ensure_future(first.run("hi", raise_on_error=False))
        while not one.calls:
            await asyncio.sleep(0.01)
        first.cancel(Reason.SHUTDOWN)
        begun = await task
        assert begun.status == "suspended"
        live["fast"] = "two:b"
        models.reload()
        one.latency_s = 0
        again = PipelinePresets.minimal(model="fast", models=models, journal=journal)
        resumed = await again.resume(begun.run_id)
        assert resumed.text == "the answer of one"
        replayed = await PipelinePresets.minimal(
            model="fast", models=Unasked(), journal=journal
        ).replay(begun.run_id)
        assert replayed.divergence is None
        assert replayed.result.text == "the answer of one"
        assert (await again.run("hi")).text == "the answer of two"
        await journal.close()

    asyncio.run(go())
