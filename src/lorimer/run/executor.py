"""Runs agents of a host: each within bounds, and each to one result, whatever happens.

The order of a run: lower the agent to a manifest, begin a run of it, tell whoever listens. What
happens in the run is the engine's (`core/engine.py`); there is no second loop here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Mapping, Sequence
from typing import Final, Unpack

from lorimer.assembly import RunOptions, ToolSource, is_a, registry_of, wrong
from lorimer.core.ancestry import Ancestry, descended
from lorimer.core.cancel import Reason
from lorimer.core.engine import status_of
from lorimer.core.errors import ConfigError, ExecutorErrorCode, LorimerError, PipelineError
from lorimer.core.jsonable import JSON, dumps
from lorimer.core.limits import Limits
from lorimer.core.manifest import EnvironmentManifest
from lorimer.core.model import ModelResolver
from lorimer.core.result import PipelineResult
from lorimer.journal.memory import MemoryJournal
from lorimer.live import Run
from lorimer.pipeline import Pipeline
from lorimer.run.agent import RunnableAgent
from lorimer.run.invocation import Invocation
from lorimer.run.lowering import DEFAULTS, limits_of, manifest_of
from lorimer.run.observing import Observers
from lorimer.run.palette import Delegate, reachable
from lorimer.run.ports import Ports
from lorimer.run.result import RunResult
from lorimer.run.steps import steps_of
from lorimer.world.real import RealWorld

FALLBACK_TIER: Final = "fast"
"""Of an agent that names no model."""
KEPT: Final = 256
"""Compiled agents that an executor keeps."""


class RunHandle:
    """A run that goes on. `await handle` gives its result."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.task: asyncio.Task[RunResult]
        self.run: Run | None = None
        """None: it is being prepared, or is over."""
        self.stopped: Reason | None = None

    def cancel(self, reason: Reason = Reason.CALLER) -> None:
        """Stop it: its result says `cancelled`. The first reason counts."""
        self.stopped = self.stopped or reason
        if self.run is not None:
            self.run.context.cancel(self.stopped)

    def __await__(self) -> Generator[object, None, RunResult]:
        return self.wait().__await__()

    async def wait(self) -> RunResult:
        """Its result. When the waiting task is cancelled so is the run; CancelledError is raised
        when that has ended, its last fact written and its ports told."""
        interrupted: asyncio.CancelledError | None = None
        while not self.task.done():
            try:
                await asyncio.wait([self.task])
            except asyncio.CancelledError as error:
                interrupted = error
                self.cancel()
        if interrupted is not None:
            raise interrupted
        return self.task.result()


class Executor:
    """Runs agents, as many at once as are asked for; safe to share.

    models: who answers, by tier, spec or chain. tools: the host's, of which agents name those that
    they have. limits: of each run, where its agent says nothing. ports: what the host plugs in.
    system_header: what every system prompt begins with. tier: the model of agents that name none.
    The rest is as for a Pipeline (journal, world, rules, workspace, ...).

    Raises ConfigError at once for what is missing or wrong.
    """

    def __init__(
        self,
        *,
        models: ModelResolver | None = None,
        tools: ToolSource | None = None,
        limits: Limits = DEFAULTS,
        ports: Ports | None = None,
        system_header: str = "",
        tier: str = FALLBACK_TIER,
        **options: Unpack[RunOptions],
    ) -> None:
        if models is None:
            raise ConfigError(
                "an executor needs models", hint="Executor(models=Models(tiers=Tiers({...})))"
            )
        if not is_a(limits, Limits):
            raise wrong("limits", limits, "Limits", "Limits(max_turns=20)")
        self.models = models
        self.world = options.get("world") or RealWorld()
        self.journal = options.get("journal") or MemoryJournal(self.world)
        self.limits = limits
        self.ports = ports or Ports()
        self._header = system_header
        self._tier = tier
        self._tools = registry_of(tools)
        self._options: RunOptions = {**options, "journal": self.journal, "world": self.world}
        self._pipelines: dict[str, tuple[Pipeline, Observers]] = {}

    async def run(
        self,
        agent: RunnableAgent,
        input: str = "",
        invocation: Invocation | None = None,
    ) -> RunResult:
        """Run an agent to its end. Never raises for what happens in the run: the result says it.
        Cancelling the caller cancels the run, waits until it has ended, and raises
        CancelledError."""
        return await self.start(agent, input, invocation)

    def start(
        self, agent: RunnableAgent, input: str = "", invocation: Invocation | None = None
    ) -> RunHandle:
        """Begin a run in a task of its own, which the handle owns."""
        asked = invocation or Invocation()
        handle = RunHandle(asked.run_id or self.world.new_id("run"))
        loop = asyncio.get_running_loop()
        handle.task = loop.create_task(self._whole(handle, agent, input, asked), name=handle.run_id)
        return handle

    def manifest(
        self, agent: RunnableAgent, delegates: Sequence[Delegate] = ()
    ) -> EnvironmentManifest:
        """What an agent is lowered to; with `delegates`, whom it reaches by the palette."""
        host = self._tools.names
        return manifest_of(agent, self._tier, self.limits, self._header, host, delegates)

    async def aclose(self) -> None:
        """Close connections. The journal stays open: it belongs to whoever made it."""
        await self.models.aclose()

    async def __aenter__(self) -> Executor:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    # --- one run -----------------------------------------------------------------------------

    async def _whole(
        self, handle: RunHandle, agent: RunnableAgent, input: str, asked: Invocation
    ) -> RunResult:
        try:
            return await self._run(handle, agent, input, asked)
        except LorimerError as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - a coded error of it: every run has a result
            failure = _uncoded(error)
        return RunResult(handle.run_id, status_of(failure), exception=failure)

    async def _run(
        self, handle: RunHandle, agent: RunnableAgent, input: str, asked: Invocation
    ) -> RunResult:
        line = descended(handle.run_id, agent.name, limits_of(agent, self.limits))
        delegates = reachable(agent, self.ports.palette, self.limits.cleanup_s)
        pipeline, observers = self._compiled(agent, await delegates)
        told = _told(agent, asked, line)
        run = await pipeline.begin(_input(input, asked), run_id=handle.run_id, told=told)
        if handle.stopped is not None:
            run.context.cancel(handle.stopped)
        handle.run = run
        try:
            async with observers.of(handle.run_id, asked.on_step):
                ended = await run.here()
        finally:
            handle.run = None
        return _result(ended)

    def _compiled(
        self, agent: RunnableAgent, delegates: Sequence[Delegate]
    ) -> tuple[Pipeline, Observers]:
        """Raises ConfigError, naming the tier where that is what cannot be used."""
        model = agent.model or self._tier
        try:
            self.models.targets(model)
        except LorimerError as error:
            raise ConfigError(
                f"the model {model!r} of the agent {agent.name!r} cannot be used: {error.message}",
                code=error.code,
                hint=error.hint,
                cause=error,
            ) from None
        manifest = self.manifest(agent, delegates)
        named = {*agent.tools, *[name for each in delegates for name in each.agent.tools]}
        key = f"{manifest.digest} {' '.join(sorted(named))}"
        found = self._pipelines.get(key)
        if found is None:
            tools = self._tools.copy()
            for name in self._tools.names:
                if name not in named:
                    tools.unregister(name)
            given = tools if tools.names else None
            pipeline = Pipeline(manifest, tools=given, models=self.models, **self._options)
            found = self._pipelines[key] = (pipeline, Observers(pipeline))
            if len(self._pipelines) > KEPT:
                del self._pipelines[next(iter(self._pipelines))]
        return found


def _input(text: str, asked: Invocation) -> JSON:
    if asked.inputs:
        text = f"{text}\n\nInputs:\n{dumps(asked.inputs)}".strip()
    if not asked.images:
        return text
    return {"text": text, "images": [image.to_json() for image in asked.images]}


def _told(agent: RunnableAgent, asked: Invocation, line: Ancestry) -> Mapping[str, JSON]:
    told: dict[str, JSON] = {
        "agent": agent.name,
        "caller": asked.caller_id,
        "channel": asked.channel_id,
        "parent": asked.parent_run_id or line.parent,
        "inputs": dict(asked.inputs),
    }
    return {name: value for name, value in told.items() if value}


def _result(run: PipelineResult) -> RunResult:
    return RunResult(
        run.run_id,
        run.status,
        run.output if isinstance(run.output, str) else run.text,
        list(steps_of(run.events)),
        run.usage,
        run.cost_nano,
        run.exception,
        run.messages,
        run,
    )


def _uncoded(error: Exception) -> LorimerError:
    return PipelineError(
        f"The run failed: {type(error).__name__}: {error}",
        code=ExecutorErrorCode.EXEC_STAGE_FAILED,
        cause=error,
    )
