"""The façade: a manifest with live objects, ready to run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypedDict, TypeVar, overload
from zlib import crc32

from lorimer.core import engine
from lorimer.core.bindings import Bindings
from lorimer.core.bus import Bus, Handler, Listeners, Tap
from lorimer.core.compile import Catalogue, check_document
from lorimer.core.compile import compile as compile_manifest
from lorimer.core.context import Reason, RunContext
from lorimer.core.errors import ConfigError, ExecutorErrorCode, PipelineError
from lorimer.core.events import Event
from lorimer.core.journal import Journal, RunRow
from lorimer.core.jsonable import JSON, canonical
from lorimer.core.limits import Bounds, Limits
from lorimer.core.manifest import (
    EnvironmentManifest,
    StageEntry,
    invalid,
    read_document,
)
from lorimer.core.model import ModelResolver
from lorimer.core.plan import Plan
from lorimer.core.result import PipelineResult
from lorimer.core.stage import AnyStage, Stage, Strategy
from lorimer.core.state import PipelineState
from lorimer.core.tool import Approver
from lorimer.core.world import World
from lorimer.journal.conversation import Conversation
from lorimer.journal.memory import MemoryJournal
from lorimer.models.credentials import CredentialBundle, ProviderCredentials
from lorimer.models.registry import PROVIDERS, Models
from lorimer.models.spec import parse_spec
from lorimer.stages.catalogue import catalogue as shipped_catalogue
from lorimer.stages.s06_api import model_spec
from lorimer.world.real import RealWorld

if TYPE_CHECKING:
    from lorimer.tools.base import Tool
    from lorimer.tools.permissions import Rule
    from lorimer.tools.registry import ToolRegistry
    from lorimer.tools.toolset import Toolset

ToolSource: TypeAlias = "ToolRegistry | Iterable[Tool]"
"""Tools of the host's: giving them to a pipeline is the grant to run them."""

H = TypeVar("H", bound=Handler)


class PipelineOptions(TypedDict, total=False):
    """What presets and builder pass on to `Pipeline`; all of it optional."""

    api_key: str
    """Of the model's provider; else its own environment variable."""
    base_url: str
    credentials: CredentialBundle
    models: ModelResolver
    """Instead of the shipped providers."""
    journal: Journal
    """Where runs are kept; a store of the process's memory by default."""
    world: World
    rules: Iterable[Rule | str]
    """What shipped tools may do without asking, e.g. `Bash(python analyse.py)`."""
    approver: Approver
    """Asks a person about the rest; without one it is refused."""
    workspace: str | Path
    """The folder that shipped tools work in, and do not leave."""
    bindings: Mapping[str, object]
    """Live objects that the manifest names."""
    session_id: str
    """The conversation to go on with; a new one by default."""
    owner: str
    """Who claims its conversations in the journal: a name no other process has. A fresh id by
    default."""


class Pipeline:
    """Runs one agent. One default conversation, if it has a Context stage; never two runs at
    once in it. Use `aclose()` or `async with` where connections should be closed early."""

    def __init__(
        self,
        manifest: EnvironmentManifest,
        *,
        tools: ToolSource | None = None,
        api_key: str = "",
        base_url: str = "",
        credentials: CredentialBundle | None = None,
        models: ModelResolver | None = None,
        journal: Journal | None = None,
        world: World | None = None,
        rules: Iterable[Rule | str] = (),
        approver: Approver | None = None,
        workspace: str | Path | None = None,
        bindings: Mapping[str, object] | None = None,
        session_id: str = "",
        owner: str = "",
        catalogue: Catalogue | None = None,
    ) -> None:
        self.manifest = manifest
        self.world = world or RealWorld()
        self.journal = journal or MemoryJournal(self.world)
        self._models = models or Models(
            credentials=credentials or _credentials(manifest, api_key, base_url), world=self.world
        )
        self._toolset = self._tools(tools, rules, approver, workspace)
        self._named = dict(bindings or {})
        self._catalogue = catalogue or shipped_catalogue()
        self._plan = self._compile(manifest)
        self._bus = Bus()
        self._owner = owner or self.world.new_id("owner")
        self._session_id = session_id
        """The stream of its conversation, once it has one."""
        self._resuming: set[str] = set()
        self._conversation: Conversation | None = None
        self._busy = False
        self._stored: set[str] = set()
        self._live: set[RunContext] = set()

    # --- construction --------------------------------------------------------------------

    @classmethod
    def from_manifest(
        cls,
        manifest: EnvironmentManifest | Mapping[str, JSON] | str | Path,
        *,
        tools: ToolSource | None = None,
        catalogue: Catalogue | None = None,
        credentials: CredentialBundle | None = None,
        journal: Journal | None = None,
        workspace: str | Path | None = None,
    ) -> Pipeline:
        """From a manifest, its plain form, or its file. Raises ConfigError naming path and
        reason of every error at once. For more options use the constructor."""
        if isinstance(manifest, str | Path):
            manifest = read_document(manifest)
        if not isinstance(manifest, EnvironmentManifest):
            problems = check_document(manifest, catalogue or shipped_catalogue())
            if problems:
                raise invalid(problems)
            manifest = EnvironmentManifest.from_dict(manifest)
        return cls(
            manifest,
            tools=tools,
            catalogue=catalogue,
            credentials=credentials,
            journal=journal,
            workspace=workspace,
        )

    @property
    def plan(self) -> Plan:
        """What runs: compiled again whenever the manifest is changed through this pipeline."""
        return self._plan

    def _compile(self, manifest: EnvironmentManifest) -> Plan:
        bindings = Bindings(models=self._models, tools=self._toolset, named=self._named)
        return compile_manifest(manifest, self._catalogue, bindings)

    def register_stage(self, stage: AnyStage | Stage[object, object]) -> None:
        """Add a stage of your own. One with the name of another replaces it; else it runs right
        after the built-in of its order. Raises ConfigError for a bad name or order."""
        name, order = stage.name, stage.order
        if not name or not 1 <= order <= 21:
            raise ConfigError(f"{type(stage).__name__} needs a name and an order from 1 to 21")
        self._catalogue.add_stage(name, lambda: stage)
        entries = [entry for entry in self.manifest.stages if entry.name != name]
        entries.append(StageEntry(order=order, name=name))
        entries.sort(key=lambda entry: entry.order)
        self._change(entries)

    def swap_strategy(
        self,
        stage: str,
        slot: str,
        strategy: str | type[Strategy],
        config: Mapping[str, JSON] | None = None,
    ) -> None:
        """Put another strategy into a slot: a shipped one by name, or a class of your own.
        Raises ConfigError and changes nothing when that does not fit."""
        if isinstance(strategy, type):
            name = strategy.name or strategy.__name__
            self._catalogue.add_strategy(stage, slot, name, strategy)
        else:
            name = strategy
        entries = [entry.model_copy(deep=True) for entry in self.manifest.stages]
        entry = next((entry for entry in entries if entry.name == stage), None)
        if entry is None:
            raise ConfigError(f"this pipeline has no {stage!r} stage")
        entry.strategies[slot] = name
        entry.strategy_configs.pop(slot, None)
        if config:
            entry.strategy_configs[slot] = dict(config)  # pyright: ignore[reportArgumentType]
        self._change(entries)

    def _change(self, entries: list[StageEntry]) -> None:
        stages = self.manifest.stages.model_copy(update={"root": entries})
        manifest = self.manifest.model_copy(update={"stages": stages})
        self._plan = self._compile(manifest)
        self.manifest = manifest

    def describe(self) -> list[dict[str, JSON]]:
        """The stages of the plan, in order, with the strategies in their slots."""
        return [
            {
                "order": stage.order,
                "name": stage.name,
                "category": stage.category,
                "every_call": stage.every_call,
                "strategies": {
                    name: [item.name for item in held] if slot.chain else held.name
                    for name, slot in stage.slots().items()
                    for held in (vars(stage)[name],)
                },
            }
            for stage in self.plan.stages
        ]

    # --- events --------------------------------------------------------------------------

    @overload
    def on(self, type: str) -> Callable[[H], H]: ...
    @overload
    def on(self, type: str, handler: Handler) -> Callable[[], None]: ...

    def on(
        self, type: str, handler: Handler | None = None
    ) -> Callable[[H], H] | Callable[[], None]:
        """Listen to an event type, a `prefix.*` or `*`: `@pipeline.on("stage.enter")`, or
        `stop = pipeline.on("stage.enter", function)`. Handlers may be async."""
        return self._bus.on(type) if handler is None else self._bus.on(type, handler)

    # --- running -------------------------------------------------------------------------

    async def run(
        self, input: JSON, *, limits: Limits | None = None, raise_on_error: bool = True
    ) -> PipelineResult:
        """Run to the end. `limits` replace those of the manifest for this run.

        Raises the typed error when the run did not end well; it carries the partial `result`.
        With `raise_on_error=False` the result is returned either way. Cancelling the caller
        ends the run, journals that, and then raises CancelledError.
        """
        run = await self._start(input, limits, None)
        return _outcome(await run.here(), raise_on_error)

    def run_sync(
        self, input: JSON, *, limits: Limits | None = None, raise_on_error: bool = True
    ) -> PipelineResult:
        """`run` for programs without an event loop."""

        async def main() -> PipelineResult:
            try:
                return await self.run(input, limits=limits, raise_on_error=raise_on_error)
            finally:
                await self._models.aclose()

        return asyncio.run(main())

    async def run_stream(
        self, input: JSON, *, limits: Limits | None = None
    ) -> AsyncGenerator[Event, None]:
        """Run, yielding every event; the last one is `pipeline.complete` or `pipeline.error`,
        whose `data["result"]` is the result. A slow reader slows the run. Leaving the loop
        early ends the run and its spending."""
        tap = Tap()
        run = await self._start(input, limits, tap)
        async with aclosing(run.events(tap)) as events:
            async for event in events:
                yield event

    async def resume(
        self,
        run_id: str,
        *,
        raise_on_error: bool = True,
    ) -> PipelineResult:
        """Go on with a run that was interrupted: what its journal holds is not done again.

        Raises PipelineError when there is no such run or it has ended, ConfigError when this
        pipeline is not the one that began it.
        """
        run = await self._resumed(run_id, None)
        return _outcome(await run.here(), raise_on_error)

    async def resume_stream(self, run_id: str) -> AsyncGenerator[Event, None]:
        """`resume`, yielding the events of what is new."""
        tap = Tap()
        run = await self._resumed(run_id, tap)
        async with aclosing(run.events(tap)) as events:
            async for event in events:
                yield event

    def cancel(self, reason: Reason = Reason.CALLER) -> bool:
        """Stop what this pipeline is running, from the event loop that it runs in. The run ends
        as cancelled; with Reason.SHUTDOWN it is suspended, and can be resumed. Returns whether
        there was one."""
        for context in tuple(self._live):
            context.cancel(reason)
        return bool(self._live)

    async def aclose(self) -> None:
        """Close connections and give the conversation back. The journal stays open: it belongs
        to whoever made it."""
        if self._conversation is not None and not self._busy:
            await self._conversation.release()
            self._conversation = None
        await self._models.aclose()

    async def __aenter__(self) -> Pipeline:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    # --- inside --------------------------------------------------------------------------

    async def _start(self, input: JSON, limits: Limits | None, tap: Tap | None) -> _Run:
        _must_be_plain(input)
        plan = self.plan
        shared = plan.converses
        if shared and self._busy:
            raise PipelineError(
                "This conversation is already in a run.",
                code=ExecutorErrorCode.EXEC_RUN_BUSY,
                hint="Wait for it, or use a pipeline or session of its own for a second one.",
            )
        self._busy = self._busy or shared
        try:
            run_id = self.world.new_id("run")
            conversation = await self._open(shared, run_id)
            await self._store(plan)
            bounds = Bounds(limits or plan.limits, self.world.monotonic())
            context = RunContext(
                id=run_id,
                stream=conversation.stream,
                epoch=conversation.epoch,
                seed=crc32(run_id.encode()),
                world=self.world,
                journal=self.journal,
                bounds=bounds,
                listeners=Listeners(self._bus, tap),
                position=conversation.seq,
                snapshot_at=conversation.snapshot_at,
            )
            return self._launch(plan, context, conversation, input, shared)
        except BaseException:
            self._busy = self._busy and not shared
            raise

    async def _resumed(self, run_id: str, tap: Tap | None) -> _Run:
        row = await self.journal.find_run(run_id)
        if row is None:
            raise PipelineError(
                f"There is no run {run_id!r} in this store.",
                code=ExecutorErrorCode.EXEC_RUN_UNKNOWN,
                hint="lorimer runs ls shows the runs there are.",
            )
        if row.status:
            raise PipelineError(
                f"Run {row.run_id} has ended ({row.status}); there is nothing to resume.",
                code=ExecutorErrorCode.EXEC_RUN_ENDED,
            )
        plan = self.plan
        shared = plan.converses
        if (shared and self._busy) or row.run_id in self._resuming:
            raise PipelineError(
                f"This pipeline is already running {row.run_id}, or its conversation.",
                code=ExecutorErrorCode.EXEC_RUN_BUSY,
            )
        self._busy = self._busy or shared
        self._resuming.add(row.run_id)
        try:
            return await self._reopened(row, plan, tap)
        except BaseException:
            self._busy = self._busy and not shared
            self._resuming.discard(row.run_id)
            raise

    async def _reopened(self, row: RunRow, plan: Plan, tap: Tap | None) -> _Run:
        conversation = await Conversation.open(self.journal, row.stream, self._owner, self.world)
        facts = conversation.unfinished
        start = facts[0].data
        if start.get("manifest") != plan.digest:
            await conversation.release()
            raise ConfigError(
                f"Run {row.run_id} was begun with another manifest than this pipeline's.",
                code=ExecutorErrorCode.EXEC_JOURNAL_DIVERGED,
                hint=f"lorimer runs resume {row.run_id} uses the one it was begun with.",
            )
        given = start.get("limits")
        limits = Limits.from_json(given) if isinstance(given, Mapping) else plan.limits
        used = max(fact.time for fact in facts) - facts[0].time
        seed = start.get("seed")
        context = RunContext(
            id=row.run_id,
            stream=conversation.stream,
            epoch=conversation.epoch,
            seed=seed if isinstance(seed, int) else 0,
            world=self.world,
            journal=self.journal,
            bounds=Bounds(limits, self.world.monotonic() - used),
            listeners=Listeners(self._bus, tap),
            recorded=facts,
            position=conversation.seq,
            snapshot_at=conversation.snapshot_at,
        )
        if plan.converses:
            self._conversation, self._session_id = conversation, conversation.stream
        return self._launch(plan, context, conversation, start.get("input"), plan.converses)

    def _launch(
        self,
        plan: Plan,
        context: RunContext,
        conversation: Conversation,
        input: JSON,
        shared: bool,
    ) -> _Run:
        async def main() -> PipelineResult:
            self._live.add(context)
            try:
                result = await engine.run(plan, PipelineState(context, conversation.history, input))
                conversation.add(context.facts[context.replayed :])
                if shared and context.cut_short:  # it has not seen all that is recorded
                    self._conversation = None
                if context.snapshot_due:
                    await conversation.snapshot()
                return result
            finally:
                self._live.discard(context)
                self._resuming.discard(context.id)
                if shared:
                    self._busy = False
                else:
                    await conversation.release()

        return _Run(context, main)

    async def _open(self, shared: bool, run_id: str) -> Conversation:
        if not shared:
            return await Conversation.open(self.journal, run_id, self._owner, self.world)
        if self._conversation is None:
            self._session_id = self._session_id or self.world.new_id("session")
            self._conversation = await Conversation.open(
                self.journal, self._session_id, self._owner, self.world
            )
        else:
            conversation, self._conversation = self._conversation, None
            await conversation.renew()  # when it was lost it is opened anew the next time
            self._conversation = conversation
        if self._conversation.unfinished:
            unfinished = self._conversation.unfinished[0].run_id
            self._conversation = None
            raise PipelineError(
                f"This conversation has an unfinished run, {unfinished}.",
                code=ExecutorErrorCode.EXEC_RUN_BUSY,
                hint=f"Resume it first: lorimer runs resume {unfinished}",
            )
        return self._conversation

    async def _store(self, plan: Plan) -> None:
        if plan.digest not in self._stored:
            await self.journal.put(plan.digest, plan.manifest.to_bytes())
            self._stored.add(plan.digest)

    def _tools(
        self,
        tools: ToolSource | None,
        rules: Iterable[Rule | str],
        approver: Approver | None,
        workspace: str | Path | None,
    ) -> Toolset | None:
        named = self.manifest.tools.built_in
        if tools is None and not named:
            return None
        from lorimer.tools.builtin import builtin_tools
        from lorimer.tools.registry import ToolRegistry
        from lorimer.tools.toolset import Toolset
        from lorimer.world.files import RootedFiles

        root = Path(workspace or ".").resolve() if named or workspace is not None else None
        registry = tools if isinstance(tools, ToolRegistry) else ToolRegistry(tools or ())
        if named:
            registry = ToolRegistry(registry)  # the host's own stays as it is
            for tool in builtin_tools(named):
                registry.register(tool, granted=False)
        return Toolset(
            registry,
            rules=rules,
            approver=approver,
            files=RootedFiles([root]) if root is not None else None,
        )


class _Run:
    """A run about to begin: in the caller's own task, or in one whose events are read."""

    __slots__ = ("_main", "context")

    def __init__(
        self, context: RunContext, main: Callable[[], Coroutine[None, None, PipelineResult]]
    ) -> None:
        self.context = context
        self._main = main

    async def here(self) -> PipelineResult:
        """Run it in this task. When the task is cancelled, the run ends, journals that, and
        CancelledError is raised."""
        result = await self._main()
        if self.context.interrupted is not None:
            raise self.context.interrupted
        return result

    async def events(self, tap: Tap) -> AsyncGenerator[Event, None]:
        """Run it in a task of its own and yield what happens. Leaving early ends the run, and
        waits until its last fact is written."""
        task = asyncio.get_running_loop().create_task(self._main(), name=self.context.id)
        task.add_done_callback(lambda _: tap.put(None))  # also when it ends in an exception
        try:
            while (event := await tap.get()) is not None:
                yield event
            await task
        finally:
            if not task.done():
                tap.abandon()
                self.context.cancel(Reason.CLOSED)
                while not task.done():
                    try:
                        await asyncio.wait([task])
                    except asyncio.CancelledError:
                        continue


def _outcome(result: PipelineResult, raise_on_error: bool) -> PipelineResult:
    if raise_on_error and result.exception is not None:
        raise result.exception
    return result


def _credentials(
    manifest: EnvironmentManifest, api_key: str, base_url: str
) -> CredentialBundle | None:
    if not api_key and not base_url:
        return None
    provider = ""
    if "api" in manifest.stages:
        provider = str(manifest.stages["api"].config.get("provider", ""))
    spec = parse_spec(model_spec(manifest.model, provider), PROVIDERS)
    given = ProviderCredentials(api_key=api_key, base_url=base_url)
    return CredentialBundle({spec.provider: given})


def _must_be_plain(input: JSON) -> None:
    if isinstance(input, str):
        return
    try:
        canonical(input)
    except (TypeError, ValueError, RecursionError) as error:
        raise PipelineError(
            f"The input cannot be recorded: {error}.",
            code=ExecutorErrorCode.EXEC_INPUT_INVALID,
            hint="Give text, or a mapping of plain data.",
        ) from None
