"""think, now, cite and kv_*: what a conversation keeps, without a store of its own."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorimer.core.manifest import EnvironmentManifest
from lorimer.core.messages import ToolResultBlock, ToolUse
from lorimer.core.result import PipelineResult
from lorimer.core.tool import PastCall
from lorimer.testing import SimulatedWorld, simulate
from lorimer.testing.simulated_world import EPOCH
from lorimer.tools import Tool, ToolContext, ToolInput, ToolResult
from lorimer.tools.builtin.cite import Cite
from lorimer.tools.builtin.kv import MAX_KEYS, kept
from tests.core.support import use
from tests.quick import quick
from tests.tools.planned import Replies, Script, agent, resumed_everywhere
from tests.tools.support import Bench, run, toolset


async def told(world: SimulatedWorld, built_in: list[str], *calls: ToolUse, **options: Any) -> Any:
    """What the model is told of these calls, one a turn."""
    model = Script([*[[call] for call in calls], "done"])
    result = await agent(world, model, built_in, **options).run("go")
    assert result.text == "done"
    return [model.told[at][0] for at in range(1, len(calls) + 1)]


# --- kv ------------------------------------------------------------------------------------------


def put(key: str, value: Any, id: str = "") -> ToolUse:
    return use("kv_set", id or f"put {key} {value}", key=key, value=value)


def get(key: str, id: str = "") -> ToolUse:
    return use("kv_get", id or f"get {key}", key=key)


def test_values_are_kept_read_listed_and_forgotten_wherever_the_process_dies() -> None:
    async def main(world: SimulatedWorld) -> None:
        replies: Replies = [
            [put("a", {"n": [1, None]}), put("b", "é"), get("a"), get("c")],
            [put("a", 2), use("kv_delete", key="b"), use("kv_delete", "again", key="b")],
            [get("a", "later"), get("b"), use("kv_list"), use("kv_list", "b", prefix="b")],
            "done",
        ]

        def check(result: PipelineResult, model: Script) -> None:
            assert result.text == "done"
            assert model.told[3] == [
                '{"found":true,"value":2}',
                '{"found":false}',
                "a (1 characters)",
                "Nothing is kept.",
            ]

        model = await resumed_everywhere(world, replies, ["kv"], check)
        assert model.told[1][2] == '{"found":true,"value":{"n":[1,null]}}'
        assert model.told[1][3] == '{"found":false}'
        assert model.told[2][1] == "Deleted 'b'; 1 keys are left."
        assert model.told[2][2].startswith("Nothing is kept under 'b'")

    simulate(main)


def test_they_are_there_in_later_runs_when_the_model_sees_the_calls_no_more() -> None:
    async def main(world: SimulatedWorld) -> None:
        def short(manifest: EnvironmentManifest) -> None:
            stage = manifest.stages["context"]
            stage.strategies["strategy"] = "hybrid"
            stage.strategy_configs["strategy"] = {"max_recent_turns": 1}

        seen: list[int] = []

        def play(request: Any) -> Any:
            seen.append(len(request.messages))
            return replies[len(seen) - 1]

        replies: Any = [[put("a", 1)], "one", "two", [get("a")], "three"]
        model = Script([])
        model._next = iter([play] * 5)  # pyright: ignore[reportPrivateUsage]
        pipeline = agent(world, model, ["kv"], preset="chat")
        for text in ("first", "second", "third"):
            last = await pipeline.run(text)
        assert last.steps[-1].content == '{"found":true,"value":1}'

    simulate(main)


def test_what_does_not_fit_is_told_and_changes_nothing() -> None:
    async def main(world: SimulatedWorld) -> None:
        found = await told(
            world,
            ["kv"],
            put("a", 1),
            put("a", "x" * 10_000, "long"),
            use("kv_set", "none", key="a"),
            use("kv_set", "empty", key="", value=1),
            get("a"),
        )
        assert found[1] == "input.value: it has 10,002 characters; at most 10,000 are kept."
        assert "input must contain ['value']" in found[2]
        assert "input.key must be longer" in found[3]
        assert found[4] == '{"found":true,"value":1}'

    simulate(main)


def test_there_is_room_for_so_many_keys() -> None:
    async def main(world: SimulatedWorld) -> None:
        many = [put(f"k{n}", n) for n in range(MAX_KEYS + 1)]
        batches = [many[at : at + 10] for at in range(0, len(many), 10)]
        model = Script([*batches, [put("k0", "new", "over")], "done"])
        await agent(world, model, ["kv"]).run("go")
        assert "there is no room for 'k200'" in model.told[len(batches)][-1]
        assert model.told[len(batches) + 1][0].startswith("Kept 'k0'")

    simulate(main)


KEYS = st.sampled_from("abc")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["kv_set", "kv_delete", "kv_get"]), KEYS, st.integers())))
def test_the_fold_is_a_dictionary(steps: list[tuple[str, str, int]]) -> None:
    model: dict[str, int] = {}
    calls: list[PastCall] = []
    for at, (name, key, value) in enumerate(steps):
        use_ = ToolUse(str(at), name, {"key": key, "value": value})
        calls.append(PastCall(use_, ToolResultBlock(str(at), "ok", False)))
        if name == "kv_set":
            model[key] = value
        elif name == "kv_delete":
            model.pop(key, None)
    assert kept(calls) == model


# --- think, now ----------------------------------------------------------------------------------


def test_a_thought_is_noted() -> None:
    async def main(world: SimulatedWorld) -> None:
        found = await told(
            world, ["think"], use("think", "a", thought="hm"), use("think", "b", though="hm")
        )
        assert found[0] == "Noted."
        assert "input must contain ['thought']" in found[1]

    simulate(main)


def test_the_time_is_that_of_the_world_and_the_same_after_a_resume() -> None:
    async def main(world: SimulatedWorld) -> None:
        began = datetime.fromtimestamp(EPOCH, UTC)

        def check(result: PipelineResult, model: Script) -> None:
            assert result.text == "done"

        replies: Replies = [[use("now"), use("now", "zone", timezone="Asia/Tokyo")], "done"]
        model = await resumed_everywhere(world, replies, ["now"], check)
        assert model.told[1] == [
            f"{began:%Y-%m-%d}T00:00:00+00:00 (Thursday, UTC)",
            f"{began:%Y-%m-%d}T09:00:00+09:00 (Thursday, Asia/Tokyo)",
        ]

    simulate(main)


@pytest.mark.parametrize("zone", ["Mars/Base", "../../etc/passwd", "", "Europe", "a\0b"])
def test_a_zone_that_is_none_is_told(zone: str) -> None:
    async def main(world: SimulatedWorld) -> None:
        [found] = await told(world, ["now"], use("now", timezone=zone))
        assert found.startswith("input.timezone: there is no time zone ")

    simulate(main)


# --- cite ----------------------------------------------------------------------------------------


class Pages(Tool):
    """In the place of the real one, which needs a network."""

    name = "WebFetch"
    input_schema = {"type": "object", "properties": {"url": {"type": "string"}}}  # noqa: RUF012
    effects = frozenset({"net"})

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        return ToolResult(
            f"[{input['url'].replace('short', 'long')}, status 200]\nThe  sky\nis blue.",
            "404" in input["url"],
        )


def fetch(url: str) -> ToolUse:
    return use("WebFetch", f"fetch {url}", url=url)


def cite(url: str, id: str = "", **more: Any) -> ToolUse:
    return use("cite", id or f"cite {url}", url=url, **more)


def test_what_was_read_is_cited_with_a_number_that_stays() -> None:
    async def main(world: SimulatedWorld) -> None:
        found = await told(
            world,
            ["cite"],
            fetch("https://a.example/x"),
            fetch("https://b.example/"),
            cite("https://b.example/", title="B"),
            cite("https://a.example/x#part", quote="sky is   blue"),
            cite("https://b.example/", "again"),
            tools=[Pages()],
        )
        assert found[2] == "[1] B, https://b.example/"
        assert found[3] == '[2] https://a.example/x: "sky is   blue"'
        assert found[4] == "[1] https://b.example/"

    simulate(main)


def test_a_page_is_cited_by_where_it_was_asked_for_or_was_found() -> None:
    async def main(world: SimulatedWorld) -> None:
        found = await told(
            world,
            ["cite"],
            fetch("https://a.example/short"),
            cite("https://a.example/long"),
            cite("https://a.example/short"),
            cite("http://["),
            tools=[Pages()],
        )
        assert found[1:3] == ["[1] https://a.example/long", "[2] https://a.example/short"]
        assert found[3].startswith("url_not_in_run_history: ")

    simulate(main)


def test_what_was_not_read_is_not_cited() -> None:
    async def main(world: SimulatedWorld) -> None:
        found = await told(
            world,
            ["cite"],
            cite("https://a.example/", "before"),
            fetch("https://a.example/404"),
            cite("https://a.example/404"),
            fetch("https://a.example/"),
            cite("https://a.example/other"),
            cite("https://a.example/", "wrong", quote="the sky is green"),
            cite("https://a.example/", "right"),
            tools=[Pages()],
        )
        for at in (0, 2, 4):
            assert found[at].startswith("url_not_in_run_history: ")
        assert found[5].startswith("quote_not_in_source: ")
        assert found[6] == "[1] https://a.example/"

    simulate(main)


def test_many_citations_of_many_long_pages_take_no_time() -> None:
    def fetched(number: int) -> PastCall:
        url = f"https://{number}.example/"
        text = f"[{url}, status 200, text/html]\n{'sky is blue ' * 4000}"
        return PastCall(ToolUse(url, "WebFetch", {"url": url}), ToolResultBlock(url, text, False))

    past = tuple([fetched(number) for number in range(300)])

    async def main() -> None:
        bench = await Bench.make()
        bench.context.past_calls = [*past]
        tools = toolset(Cite())
        for number in range(300):
            given: Any = {"url": f"https://{number}.example/", "quote": "blue sky is"}
            block = await bench.call(tools, "cite", given, index=number)
            assert not block.is_error

    with quick():
        run(main)
