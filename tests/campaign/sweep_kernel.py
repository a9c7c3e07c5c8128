"""A process of the sweep that runs its agents with an executor: with tools, somebody to give work
to, and ports, each call of which is an operation too."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from lorimer.core.cancel import Reason
from lorimer.core.errors import LorimerError
from lorimer.core.journal import Journal
from lorimer.core.limits import Limits
from lorimer.core.manifest import EnvironmentManifest
from lorimer.core.result import PipelineResult
from lorimer.core.world import World
from lorimer.models import Models
from lorimer.run import (
    Executor,
    Invocation,
    Ports,
    RunHandle,
    RunnableAgent,
    RunResult,
    RunStep,
    SessionTools,
    ToolSession,
)
from lorimer.run.delivery import Artifact, Target
from lorimer.tools import ToolRegistry
from tests.campaign.seams import Seams

if TYPE_CHECKING:
    from tests.campaign.outside import Provider

TOOLS = ("look", "put", "change", "alone")
BOSS = RunnableAgent("boss", model="scripted:m", tools=TOOLS, agents=("worker", "chief"))
PALETTE = {
    "worker": RunnableAgent("worker", tools=TOOLS[:3]),
    "chief": RunnableAgent("chief", tools=("change",), agents=("worker",)),
}


class Host:
    """The program's ports."""

    def __init__(self, seams: Seams) -> None:
        self._seams = seams

    async def _at(self, what: str) -> None:
        await self._seams.at(f"port {what} begins")
        await self._seams.at(f"port {what} is done")

    async def skill(self, name: str) -> None:
        return None

    async def agent(self, name: str) -> RunnableAgent | None:
        await self._at("palette")
        return PALETTE.get(name)

    async def start(self, start: Any) -> Host:
        await self._at("audit.start")
        return self

    def step(self, step: Any) -> None: ...

    def tool(self, call: Any) -> None: ...

    def log(self, event: str, data: Any) -> None: ...

    async def close(self, end: Any) -> None:
        await self._at("audit.close")

    async def deliver(self, target: Target, output: str, artifacts: Sequence[Artifact]) -> str:
        await self._at("delivery")
        return "1"

    async def deliver_error(self, target: Target, error: LorimerError) -> None:
        await self._at("delivery")

    async def on_step(self, step: RunStep) -> None:
        await self._seams.at("listener hears a step")

    async def make(self, session: ToolSession) -> SessionTools:
        await self._at("session_tools")
        return Own(self)


class Own(SessionTools):
    def __init__(self, host: Host) -> None:
        self._host = host

    async def post_run(self, result: RunResult, messages: Any) -> Sequence[Artifact]:
        await self._host._at("post_run")
        return [Artifact("a.txt", "text/plain", b"a")]

    async def cleanup(self) -> None:
        await self._host._at("cleanup")


class Kernel:
    """What the sweep calls as it calls a pipeline."""

    def __init__(
        self,
        provider: Provider,
        tools: ToolRegistry,
        limits: Limits,
        journal: Journal,
        world: World,
        seams: Seams,
    ) -> None:
        host = Host(seams)
        given: Any = host
        self._executor = Executor(
            models=Models(providers={"scripted": provider}),
            tools=tools,
            limits=limits,
            journal=journal,
            world=world,
            tier="scripted:m",
            ports=Ports(palette=host, audit=given, delivery=given),
        )
        self._asked = Invocation(
            caller_id="ann",
            delivery=Target("mail", "ann"),
            on_step=host.on_step,
            session_tools=host.make,
        )
        self._handle: RunHandle | None = None
        self.plan = self
        self.converses = False
        self.limits = limits

    async def run(self, input: str, *, limits: Limits) -> PipelineResult:
        self._handle = self._executor.start(BOSS, input, self._asked)
        return _raised(await self._handle)

    async def resume(self, run_id: str) -> PipelineResult:
        return _raised(await self._executor.resume(BOSS, run_id, self._asked))

    def cancel(self, reason: Reason = Reason.CALLER) -> None:
        if self._handle is not None:
            self._handle.cancel(reason)

    async def aclose(self) -> None:
        await self._executor.aclose()


def _raised(result: RunResult) -> PipelineResult:
    if result.exception is not None:
        raise result.exception
    assert result.run is not None
    return result.run


@cache
def kernel_manifest(limits: Limits) -> EnvironmentManifest:
    """What its agent is lowered to, but for whom it gives work to."""
    return Executor(models=Models(), limits=limits).manifest(BOSS)
