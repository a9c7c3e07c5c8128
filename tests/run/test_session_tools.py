"""Tools of one run: given with the call, or made for it. Row 55."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from lorimer.core.cancel import Reason
from lorimer.core.errors import ExecutorErrorCode
from lorimer.core.messages import ImageBlock, Message, ToolUse
from lorimer.core.request import Request
from lorimer.core.world import World
from lorimer.pipeline import Pipeline
from lorimer.run import (
    Executor,
    InMemoryInputFiles,
    InputFile,
    Invocation,
    Ports,
    RunnableAgent,
    RunResult,
    SessionTools,
    ToolSession,
    pipelines,
)
from lorimer.run.delivery import Artifact, Target
from lorimer.testing import simulate
from lorimer.tools import Tool, ToolContext, ToolInput, ToolResult, tool
from tests.run.support import executor_of, model_of, use

pytestmark = pytest.mark.anyio

AGENT = RunnableAgent("painter", prompt="You paint.")
PICTURE = ImageBlock("image/png", "aGk=")
LONG_S = 10_000.0


class Paint(Tool):
    name = "paint"
    description = "Paint."
    input_schema = {"type": "object"}  # noqa: RUF012
    effects = frozenset({"read"})

    def __init__(self, session: ToolSession, wait_s: float = 0.0) -> None:
        self.session = session
        self.wait_s = wait_s

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        await context.world.sleep(self.wait_s)
        self.session.attach_images(PICTURE, text="Your picture:")
        return ToolResult("painted")


class Studio(SessionTools):
    """Counts what it is told."""

    def __init__(
        self, session: ToolSession, tools: Sequence[Any], world: World | None = None
    ) -> None:
        self.session = session
        self.tools = tools
        self.world = world
        self.told: list[str] = []

    fault = ("", "")
    """Where it misbehaves, and how."""

    async def _at(self, place: str) -> Any:
        self.told.append(place)
        if self.fault[0] == place:
            if self.fault[1] == "raises":
                raise RuntimeError("broken studio")
            if self.fault[1] == "hangs":
                assert self.world is not None
                await self.world.sleep(LONG_S)
            return "nonsense"
        return None

    async def post_run(self, result: RunResult, messages: Sequence[Message]) -> Sequence[Artifact]:
        said = await self._at("post_run")
        return said or [Artifact("picture.png", "image/png", f"{len(messages)}".encode())]

    async def cleanup(self) -> None:
        await self._at("cleanup")


def studio(
    made: list[Studio],
    fault: tuple[str, str] = ("", ""),
    wait_s: float = 0.0,
    world: World | None = None,
) -> Invocation:
    def make(session: ToolSession) -> SessionTools:
        made.append(Studio(session, [Paint(session, wait_s)], world))
        made[-1].fault = fault
        return made[-1]

    return Invocation(caller_id="ann", session_tools=make)


async def test_row_55_tools_that_are_given_with_a_call_are_there_for_that_run_alone() -> None:
    @tool(effects=["read"])
    async def extra() -> str:
        """Extra."""
        return "more"

    model = model_of([use("extra"), "end", "alone"])
    executor = executor_of(model)
    first = await executor.run(AGENT, "go", Invocation(extra_tools=(extra,)))
    assert [(step.kind, step.state) for step in first.steps] == [("extra", "complete")]
    assert (await executor.run(AGENT, "go")).output == "alone"
    assert model.requests[-1].tools == ()


async def test_an_extra_tool_with_the_name_of_another_is_an_error() -> None:
    @tool(effects=["read"])
    async def extra() -> str:
        """Extra."""
        return ""

    given = Invocation(extra_tools=(extra,))
    result = await executor_of(["x"], tools=[extra]).run(
        RunnableAgent(tools=("extra",)), "go", given
    )
    assert (result.status, "extra" in result.error) == ("error", True)


async def test_row_55_session_tools_are_made_for_each_run_and_told_its_end() -> None:
    made: list[Studio] = []
    executor = executor_of([use("paint"), "done"])
    result = await executor.run(AGENT, "go", studio(made))
    (one,) = made
    assert (one.session.run_id, one.session.caller_id) == (result.run_id, "ann")
    assert one.told == ["post_run", "cleanup"]
    assert (result.status, result.artifacts) == ("ok", [Artifact("picture.png", "image/png", b"6")])
    assert result.warnings == []


async def test_row_55_attached_pictures_are_shown_before_the_next_call_and_recorded() -> None:
    model = model_of([use("paint"), "done"])
    executor = executor_of(model)
    result = await executor.run(AGENT, "go", studio([]))
    *_, said, shown = model.requests[1].messages
    assert (said.text, shown.content) == ("Your picture:", (PICTURE,))
    assert result.run is not None
    (fact,) = [fact for fact in result.run.events if fact.data.get("key") == "inbox:"]
    assert fact.data["images"] == {"0": [PICTURE.to_json()]}


def test_row_55_recorded_pictures_are_shown_again_when_the_run_is_resumed() -> None:
    async def main(world: World) -> tuple[RunResult, list[Request]]:
        def reply(request: Request) -> Any:
            shown = sum(message.content == (PICTURE,) for message in request.messages)
            return "done" if shown == 2 else use("paint", id=f"p{shown}", n=shown)

        model = model_of(reply)
        executor = executor_of(model, world=world)
        made: list[Studio] = []
        handle = executor.start(AGENT, "go", studio(made, wait_s=1.0))
        while len(model.requests) < 2:
            await world.sleep(0.5)
        handle.cancel(Reason.SHUTDOWN)
        assert (await handle).status == "suspended"
        assert made[0].told == ["cleanup"]
        result = await executor.resume(AGENT, handle.run_id, studio(made))
        return result, model.requests

    result, requests = simulate(main)
    assert (result.status, result.output) == ("ok", "done")
    assert [message.content == (PICTURE,) for message in requests[-1].messages].count(True) == 2
    assert requests[-1].messages[: len(requests[-2].messages)] == requests[-2].messages


async def test_pictures_are_refused_before_the_run_and_after_it_and_when_too_many() -> None:
    sessions: list[ToolSession] = []

    class Early(SessionTools):
        def __init__(self, session: ToolSession) -> None:
            sessions.append(session)
            session.attach_images(PICTURE)

    result = await executor_of(["x"]).run(AGENT, "go", Invocation(session_tools=Early))
    assert result.status == "error"
    assert "no run that goes on" in result.error

    class Many(SessionTools):
        def __init__(self, session: ToolSession) -> None:
            sessions.append(session)

            @tool(effects=["read"])
            async def many() -> str:
                """Many."""
                session.attach_images(*[PICTURE] * 15)
                session.attach_images(*[PICTURE] * 15)
                return ""

            self.tools = [many]

    model = model_of([use("many"), "end"])
    run = (await executor_of(model).run(AGENT, "go", Invocation(session_tools=Many))).run
    assert run is not None
    assert "at most 20 pictures" in str(run.steps[0].content)
    with pytest.raises(Exception, match="no run that goes on"):
        sessions[-1].attach_images(PICTURE)


@pytest.mark.parametrize("how", ["raises", "hangs", "lies"])
@pytest.mark.parametrize("place", ["post_run", "cleanup"])
def test_row_55_what_misbehaves_after_a_run_costs_it_a_warning(place: str, how: str) -> None:
    async def main(world: World) -> RunResult:
        executor = executor_of([use("paint"), "done"], world=world)
        result = await executor.run(AGENT, "go", studio(made, (place, how), world=world))
        assert len(asyncio.all_tasks()) == 1
        assert world.monotonic() < 25
        return result

    made: list[Studio] = []
    result = simulate(main)
    assert (result.status, result.output) == ("ok", "done")
    assert made[0].told == ["post_run", "cleanup"]
    quiet = (place, how) == ("cleanup", "lies")
    assert [warning.split()[0] for warning in result.warnings] == (
        [] if quiet else [f"session_tools.{place}"]
    )


@pytest.mark.parametrize("how", ["raises", "hangs", "lies"])
def test_tools_that_cannot_be_made_end_the_run_with_an_error(how: str) -> None:
    async def main(world: World) -> RunResult:
        async def make(session: ToolSession) -> Any:
            if how == "raises":
                raise RuntimeError("no paint")
            if how == "hangs":
                await world.sleep(LONG_S)
            return "a tool"

        executor = executor_of(["x"], world=world)
        result = await executor.run(AGENT, "go", Invocation(session_tools=make))
        assert len(asyncio.all_tasks()) == 1
        return result

    result = simulate(main)
    assert (result.status, result.code) == (
        "error",
        ExecutorErrorCode.EXEC_PIPELINE_INVALID_MANIFEST,
    )
    assert result.run is None


@pytest.mark.parametrize("way", ["cancelled", "timeout", "error", "refused", "task"])
def test_row_55_cleanup_runs_however_the_run_ends(way: str) -> None:
    async def main(world: World) -> str:
        replies: Any = [use("paint"), RuntimeError("broken") if way == "error" else "end"]
        wait_s = 1000.0 if way in ("cancelled", "timeout", "task") else 0.0
        executor = executor_of(replies, world=world)
        agent = RunnableAgent(model="nowhere:x") if way == "refused" else AGENT
        handle = executor.start(agent, "go", studio(made, wait_s=wait_s))
        await world.sleep(5.0)
        if way == "cancelled":
            handle.cancel()
        if way == "task":
            handle.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await handle
            return "task"
        return (await handle).status

    made: list[Studio] = []
    status = simulate(main)
    assert status == ("error" if way == "refused" else way)
    (one,) = made
    told = ["cleanup"] if way == "refused" else ["post_run", "cleanup"]
    assert one.told == told


async def test_files_of_session_tools_are_delivered() -> None:
    posted: list[Any] = []

    class Box:
        async def deliver(self, target: Target, output: str, artifacts: Sequence[Artifact]) -> str:
            posted.extend([output, *[each.name for each in artifacts]])
            return "1"

        async def deliver_error(self, target: Target, error: Exception) -> None:
            posted.append(error)

    executor = executor_of(["done"], ports=Ports(delivery=Box()))
    asked = studio([])
    given = Invocation(session_tools=asked.session_tools, delivery=Target("mail", "ann"))
    await executor.run(AGENT, "go", given)
    assert posted == ["done", "picture.png"]


async def test_runs_with_tools_of_their_own_share_nothing() -> None:
    made: list[Studio] = []
    model = model_of(lambda r: "done" if len(r.messages) > 1 else use("paint"))
    executor: Executor = executor_of(model)
    results = await asyncio.gather(*[executor.run(AGENT, "go", studio(made)) for _ in range(5)])
    assert {result.status for result in results} == {"ok"}
    assert {one.session.run_id for one in made} == {result.run_id for result in results}


async def test_runs_with_the_same_tools_of_their_own_share_a_pipeline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[str] = []

    class Counted(Pipeline):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            made.append(self.manifest.metadata.name)

    monkeypatch.setattr(pipelines, "Pipeline", Counted)

    @tool(effects=[])
    async def stamp() -> str:
        """Stamp."""
        return "stamped"

    def reply(request: Request) -> object:
        return use("stamp") if len(request.messages) == 1 else request.messages[-1].text or "x"

    executor = executor_of(reply)
    asked = Invocation(extra_tools=(stamp,))
    for _ in range(3):
        result = await executor.run(AGENT, "go", asked)
        assert [(each.kind, each.state) for each in result.steps] == [("stamp", "complete")]
    assert made == ["painter"]
    result = await executor.run(AGENT, "go")  # who is not given it does not have it
    assert [each.state for each in result.steps] == ["error"]
    assert len(made) == 2
    for count in range(pipelines.KEPT_WITH_TOOLS + 5):
        copied = tool(effects=[], name="stamp")(stamp.function)
        await executor.run(AGENT, "go", Invocation(extra_tools=(copied,)))
        assert len(made) == count + 3
    assert len(executor._pipelines._made_with) == pipelines.KEPT_WITH_TOOLS


async def test_session_tools_that_come_again_share_a_pipeline_and_new_ones_are_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Pipeline] = []

    class Counted(Pipeline):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            made.append(self)

    monkeypatch.setattr(pipelines, "Pipeline", Counted)

    @tool(effects=[])
    async def stamp() -> str:
        """Stamp."""
        return "stamped"

    def given(*tools: Tool) -> Invocation:
        def factory(session: ToolSession) -> SessionTools:
            own = SessionTools()
            own.tools = tools
            return own

        return Invocation(session_tools=factory)

    def reply(request: Request) -> object:
        return use("stamp") if len(request.messages) == 1 else request.messages[-1].text or "x"

    executor = executor_of(reply)
    for _ in range(5):  # of the first nobody knows that there will be others
        result = await executor.run(AGENT, "go", given(stamp))
        assert [(each.kind, each.state) for each in result.steps] == [("stamp", "complete")]
    assert len(made) == 2
    kept = len(executor._pipelines._made_with)
    fresh = [tool(effects=[], name="stamp")(stamp.function) for _ in range(3)]
    for each in fresh:
        await executor.run(AGENT, "go", given(each))
    assert (len(made), len(executor._pipelines._made_with)) == (5, kept)
    await executor.run(AGENT, "go", given(fresh[0]))
    assert len(made) == 6


def test_runs_at_once_with_files_share_a_pipeline_and_read_only_their_own() -> None:
    async def main(world: World) -> None:
        def reply(request: Request) -> object:
            said = request.messages[-1]
            if len(request.messages) == 1:
                return [ToolUse("c1", "read_input", {"id": "file_1"})]
            return str(said.content[0].to_json()["content"])

        files = InMemoryInputFiles()
        model = model_of(reply, latency_s=1.0)
        executor = executor_of(model, world=world, ports=Ports(input_files=files))
        asked = [
            Invocation(input_files=(InputFile("a.txt", f"secret {who}".encode()),))
            for who in ("ann", "ben")
        ]
        results = await asyncio.gather(*[executor.run(AGENT, "go", each) for each in asked])
        assert [each.output for each in results] == ["secret ann", "secret ben"]
        assert len(executor._pipelines._made_with) == 1

    simulate(main)
