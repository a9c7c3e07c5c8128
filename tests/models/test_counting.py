"""Tokens: counted by the provider, else estimated; and what is set aside for a call, which is never
too little."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorimer import Pipeline
from lorimer.core.history import History
from lorimer.core.jsonable import dumps
from lorimer.core.limits import Limits
from lorimer.core.manifest import EnvironmentManifest
from lorimer.core.messages import ImageBlock, Message, TextBlock, ToolUse, user_message
from lorimer.core.request import Request, Response, StopReason, ToolSpec, Usage
from lorimer.journal import MemoryJournal
from lorimer.journal.fold import Fold, fold
from lorimer.models import Models, Price, TokenCount, count_tokens
from lorimer.models.estimate import MAX_TARGETS, UNKNOWN, Calibration, estimate
from lorimer.presets import preset_manifest
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from tests.core.support import Do, use
from tests.models.support import NoWorld, Provider, Reply, models

SPACES = "Ein Text über nichts, 中文字符 and 1234567890 digits; "


def byte_tokens(request: Request) -> int:
    """The worst tokenizer there can be: every byte is a token."""
    texts = [request.system, *[dumps(tool.to_json()) for tool in request.tools]]
    for message in request.messages:
        for block in message.content:
            texts.append(dumps(block.to_json()))
    return sum([len(text.encode()) for text in texts])


def dear(*content: Any) -> ScriptedModel:
    """A model that counts each byte of a prompt as a token, and writes as many as it may."""

    def reply(block: Any) -> Callable[[Request], Response]:
        def answer(request: Request) -> Response:
            used = Usage(input_tokens=byte_tokens(request), output_tokens=request.max_tokens)
            stop = StopReason.TOOL_USE if isinstance(block, ToolUse) else StopReason.END_TURN
            return Response((block,), stop, used)

        return answer

    return ScriptedModel([reply(block) for block in content], price=Price(1_000, 1_000))


def texts() -> st.SearchStrategy[str]:
    blob = st.binary(max_size=600).map(lambda data: b64encode(data).decode())
    digits = st.integers(0, 10**300).map(str)
    some = st.one_of(st.text(max_size=300), blob, digits, st.just(SPACES))
    return st.tuples(some, st.integers(1, 300)).map(lambda pair: pair[0] * pair[1])


@settings(max_examples=60, deadline=None)
@given(st.lists(texts(), min_size=1, max_size=6), st.floats(0.1, 40.0), texts())
def test_no_text_and_no_tokenizer_passes_the_ceiling(
    results: list[str], dollars: float, prompt: str
) -> None:
    async def main(world: SimulatedWorld) -> None:
        model = dear(*[use("look", f"c{n}") for n in range(len(results))], TextBlock("done"))
        given_back = iter(results)
        manifest = preset_manifest("agent", model="scripted:x")
        manifest.model.max_tokens = 100
        pipeline = Pipeline(
            manifest,
            models=Models(providers={"scripted": model}),
            world=world,
            tools=[Do("look", lambda *_: next(given_back))],
        )
        limits = Limits(max_cost_usd=dollars)
        result = await pipeline.run(f"go {prompt}", limits=limits, raise_on_error=False)
        assert result.cost_nano <= dollars * 1e9
        assert result.status in ("ok", "budget_exceeded")

    simulate(main)


def test_what_was_counted_is_not_set_aside_by_its_bytes_again() -> None:
    async def main(world: SimulatedWorld) -> None:
        model = ScriptedModel(
            [[use("look", "c1")], [use("look", "c2")], "done", "more"],
            usage=Usage(input_tokens=2_000, output_tokens=10),
            price=Price(1, 0),
        )
        pipeline = Pipeline(
            preset_manifest("agent", model="scripted:x"),
            models=Models(providers={"scripted": model}),
            world=world,
            tools=[Do("look", lambda *_: "r" * 1000)],
        )
        limits = Limits(max_cost_usd=1.0)
        first = await pipeline.run("p" * 8_000, limits=limits)
        later = await pipeline.run("and now", limits=limits)
        reserved = [
            int(str(fact.data["reserve"])) // 1000
            for result in (first, later)
            for fact in result.events
            if fact.type == "model.intent"
        ]
        assert 8_000 < reserved[0] < 10_500
        assert all(3_000 < reserve < 3_400 for reserve in reserved[1:3])
        assert 2_000 < reserved[3] < 3_500  # of another run of the conversation

    simulate(main)


@pytest.mark.parametrize("estimated", [False, True])
def test_what_another_process_was_counted_is_known_where_the_same_is_asked(
    estimated: bool,
) -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)

        async def reserved(text: str, change: Callable[[EnvironmentManifest], None]) -> int:
            reply = Response(
                (TextBlock("done"),),
                usage=Usage(input_tokens=2_000, output_tokens=10),
                extra={"usage_estimated": True} if estimated else {},
            )
            manifest = preset_manifest("chat", model="scripted:x")
            change(manifest)
            async with Pipeline(
                manifest,
                models=Models(providers={"scripted": ScriptedModel([reply], price=Price(1, 0))}),
                world=world,
                journal=journal,
                session_id="one",
            ) as pipeline:
                result = await pipeline.run(text, limits=Limits(max_cost_usd=1.0))
            facts = [fact async for fact in journal.read("one")]
            told = fold(facts)
            assert Fold.load(told.dump()).counted == told.counted
            for cut in range(len(facts)):
                assert fold(facts[cut:], fold(facts[:cut])).counted == told.counted
            (intent,) = [fact for fact in result.events if fact.type == "model.intent"]
            return int(str(intent.data["reserve"])) // 1000

        def plain(manifest: EnvironmentManifest) -> None:
            manifest.model.temperature = 0.0

        def hotter(manifest: EnvironmentManifest) -> None:
            manifest.model.temperature = 0.5

        def other(manifest: EnvironmentManifest) -> None:
            manifest.model.temperature = 0.5
            manifest.stages["system"].config["prompt"] = "Be another one."

        assert await reserved("p" * 8_000, plain) > 8_000
        for change in (hotter, other, plain):  # what was asked otherwise may be another prompt
            assert await reserved("once more", change) > 8_000
            assert (await reserved("and now", change) < 3_000) is not estimated

    simulate(main)


def test_without_a_ceiling_nothing_is_kept() -> None:
    async def main(world: SimulatedWorld) -> None:
        model = ScriptedModel(["done"], price=Price(1, 1))
        pipeline = Pipeline(
            preset_manifest("chat", model="scripted:x"),
            models=Models(providers={"scripted": model}),
            world=world,
        )
        result = await pipeline.run("go")
        assert not any("reserve" in fact.data for fact in result.events)

    simulate(main)


# --- estimates ------------------------------------------------------------------------------------


def test_estimates_are_within_reason() -> None:
    def of(text: str) -> float:
        return estimate(Request("m", [user_message(text)]))

    english = "The quick brown fox jumps over the lazy dog, and nobody minds. " * 50
    assert 500 < of(english) < 1_200  # some 700 words
    assert of("中" * 1000) == pytest.approx(1_104)
    noise = b64encode(Random(1).randbytes(3_000)).decode()
    assert of(noise) > 2 * of(english[: len(noise)])
    assert of("7" * 1000) > of("seven " * 100)
    tool = ToolSpec("t", "What it does.", {"type": "object"})
    plain = Request("m", [user_message("x")])
    assert estimate(Request("m", [user_message("x")], "Be brief.", (tool,))) > estimate(plain) + 10
    picture = Message("user", (ImageBlock("image/png", "A" * 1_000_000),))
    assert estimate(Request("m", [picture])) < 3_000


@given(st.floats(0.3, 3.0), st.integers(0, 10_000))
def test_what_was_counted_puts_estimates_right(factor: float, seed: int) -> None:
    calibration, dice = Calibration(), Random(seed)
    assert calibration.of("here") == (1.0, UNKNOWN)
    for number in range(40):
        request = Request("m", History([user_message(SPACES * (1 + number))]))
        real = round(estimate(request) * factor * dice.uniform(0.97, 1.03))
        calibration.learn("here", request, Response((), usage=Usage(input_tokens=real)))
    ratio, error = calibration.of("here")
    assert ratio == pytest.approx(factor, rel=0.05)
    assert 0.03 <= error <= 0.25
    assert calibration.of("elsewhere") == (1.0, UNKNOWN)


def test_nothing_is_learnt_from_what_was_estimated_or_not_told() -> None:
    calibration = Calibration()
    request = Request("m", History([user_message(SPACES)]))
    guessed = Response((), usage=Usage(input_tokens=9_999), extra={"usage_estimated": True})
    for response in (guessed, Response(())):
        calibration.learn("here", request, response)
    assert calibration.of("here")[0] == 1.0


@pytest.mark.parametrize(("words", "learns"), [(10, True), (10_000, False)])
def test_where_much_is_known_only_short_conversations_teach_more(words: int, learns: bool) -> None:
    def counted(request: Request, factor: float) -> Response:
        return Response((), usage=Usage(input_tokens=round(estimate(request) * factor)))

    calibration = Calibration()
    short = Request("m", History([user_message("word " * 10)]))
    for _ in range(31):
        calibration.learn("here", short, counted(short, 1.5))
    before = calibration.of("here")[0]
    last = Request("m", History([user_message("word " * words)]))
    calibration.learn("here", last, counted(last, 3.0))
    assert (calibration.of("here")[0] > before) is learns


def test_the_calibration_is_bounded() -> None:
    calibration = Calibration()
    request = Request("m", History([user_message(SPACES)]))
    for number in range(MAX_TARGETS * 3):
        calibration.learn(f"{number}", request, Response((), usage=Usage(input_tokens=500)))
    assert len(calibration._targets) == MAX_TARGETS


def test_a_run_teaches_what_is_estimated_later() -> None:
    async def main(world: SimulatedWorld) -> tuple[TokenCount, TokenCount]:
        model = ScriptedModel(lambda _: "yes", usage=Usage(input_tokens=5_000, output_tokens=1))
        resolver = Models(providers={"scripted": model})
        text = SPACES * 100
        before = await count_tokens(text, model="scripted:x", models=resolver, world=world)
        pipeline = Pipeline(
            preset_manifest("minimal", model="scripted:x"), models=resolver, world=world
        )
        for _ in range(8):
            await pipeline.run(text)
        return before, await count_tokens(text, model="scripted:x", models=resolver, world=world)

    before, after = simulate(main)
    assert before.error == pytest.approx(before.tokens * UNKNOWN, abs=1)
    assert abs(after.tokens - 5_000) <= max(after.error, 50)
    assert after.error < before.error
    assert after.why == "its provider does not count"


# --- providers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "body", "path"),
    [
        ("anthropic:claude-haiku-4-5", {"input_tokens": 77}, "/v1/messages/count_tokens"),
        ("openai:gpt-5", {"input_tokens": 77}, "/v1/responses/input_tokens"),
        ("google:gemini-2.5-flash", {"totalTokens": 77}, ":countTokens"),
    ],
)
def test_the_provider_is_asked(spec: str, body: Any, path: str) -> None:
    provider = Provider(Reply.of(body))
    assert counted(provider, spec) == TokenCount(77, 0)
    assert provider.requests[0].url.path.endswith(path)
    assert "max_tokens" not in provider.sent
    assert "stream" not in provider.sent


@pytest.mark.parametrize(
    "reply",
    [
        Reply.of({"error": {"message": "no"}}, 404),
        *[Reply.of({"input_tokens": said}) for said in ("many", -5, True, 10**30)],
        Reply.of([]),
    ],
)
def test_what_it_does_not_say_is_estimated(reply: Reply) -> None:
    found = counted(Provider(reply), "anthropic:claude-haiku-4-5")
    assert found.tokens > 0
    assert found.error > 0
    assert "anthropic" in found.why


def counted(provider: Provider, spec: str) -> TokenCount:
    world = NoWorld(provider)

    async def go() -> TokenCount:
        resolver = models(world)
        try:
            return await count_tokens(
                "How long?", model=spec, models=resolver, system="Be.", world=world
            )
        finally:
            await resolver.aclose()

    return asyncio.run(go())


def test_an_error_of_another_kind_is_no_estimate() -> None:
    with pytest.raises(ValueError, match="nobody"):
        asyncio.run(count_tokens("x", model="nobody:x"))
