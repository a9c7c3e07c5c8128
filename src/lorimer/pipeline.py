"""The façade: a manifest with live objects, ready to run."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from math import inf
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, TypeAlias, TypedDict, TypeVar, Unpack, overload

from lorimer.core.bindings import Bindings
from lorimer.core.bus import Bus, Handler, Tap
from lorimer.core.cancel import Reason
from lorimer.core.compile import Catalogue, check_document
from lorimer.core.compile import compile as compile_manifest
from lorimer.core.errors import ConfigError, ExecutorErrorCode, PipelineError, nearest
from lorimer.core.events import Event
from lorimer.core.journal import Journal
from lorimer.core.jsonable import JSON
from lorimer.core.limits import Limits
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
from lorimer.core.tool import Approver
from lorimer.core.world import World
from lorimer.journal.conversation import CLAIM_S
from lorimer.journal.memory import MemoryJournal
from lorimer.journal.recording import Recording, recorded
from lorimer.launch import Launcher
from lorimer.models.credentials import CredentialBundle, ProviderCredentials
from lorimer.models.registry import PROVIDERS, Models
from lorimer.models.spec import chain, parse_spec
from lorimer.stages.catalogue import catalogue as shipped_catalogue
from lorimer.stages.s06_api import model_spec
from lorimer.world.real import RealWorld

if TYPE_CHECKING:
    from lorimer.journal.replay import Replayed
    from lorimer.tools.base import Tool
    from lorimer.tools.permissions import Rule
    from lorimer.tools.registry import ToolRegistry
    from lorimer.tools.toolset import Toolset

SomeLimits: TypeAlias = Limits | Mapping[str, JSON]
"""Limits instead of the manifest's, or changes to some of them."""

ToolSource: TypeAlias = "ToolRegistry | Iterable[Tool] | Tool"
"""Tools of the host's: giving them to a pipeline is the grant to run them."""

H = TypeVar("H", bound=Handler)


class PipelineOptions(TypedDict, total=False):
    """What presets and builder pass on to `Pipeline`; all of it optional."""

    api_key: str
    """Of the model's provider; else its own environment variable."""
    base_url: str
    """Of the model's provider, or of a server that speaks its language."""
    credentials: CredentialBundle
    """Keys and base URLs of several providers."""
    models: ModelResolver
    """Instead of the shipped providers."""
    journal: Journal
    """Where runs are kept; a store of the process's memory by default."""
    world: World
    """Clock, ids, dice, network and processes; the real ones by default."""
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
    claim_s: float
    """Seconds after which another process may take a run over from one that does not answer any
    more; 30 by default. A live process renews its claim three times as often."""


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
        claim_s: float = CLAIM_S,
        catalogue: Catalogue | None = None,
    ) -> None:
        if not _is(manifest, EnvironmentManifest):
            raise _wrong("manifest", manifest, "an EnvironmentManifest", "Pipeline.from_manifest")
        if _is(journal, str, Path):
            raise _wrong("journal", journal, "a journal", "SQLiteJournal(path)")
        if not _is(claim_s, int, float) or not 0 < claim_s < inf:
            raise ConfigError(f"claim_s must be more than 0 s, and finite, not {claim_s!r}")
        self.manifest = manifest
        self.world = world or RealWorld()
        self.journal = journal or MemoryJournal(self.world)
        self._models = models or Models(
            credentials=credentials or _credentials(manifest, api_key, base_url), world=self.world
        )
        self._toolset = self._tools(tools, rules, approver, workspace)
        self._named = dict(bindings or {})
        self._catalogue = (catalogue or shipped_catalogue()).copy()
        self._plan = self._compile(manifest)
        if session_id and not self._plan.converses:
            raise ConfigError(
                "session_id was given, and this pipeline remembers nothing",
                hint="Give it a context stage that is not stateless, as the chat preset has.",
            )
        self._bus = Bus()
        self._launcher = Launcher(
            self.journal,
            self.world,
            self._bus,
            session_id=session_id,
            owner=owner or self.world.new_id("owner"),
            claim_s=claim_s,
        )

    # --- construction --------------------------------------------------------------------

    @classmethod
    def from_manifest(
        cls,
        manifest: EnvironmentManifest | Mapping[str, JSON] | str | Path,
        *,
        tools: ToolSource | None = None,
        catalogue: Catalogue | None = None,
        **options: Unpack[PipelineOptions],
    ) -> Pipeline:
        """From a manifest, its plain form, or its file. Raises ConfigError naming path and
        reason of every error at once."""
        if isinstance(manifest, str | Path):
            manifest = read_document(manifest)
        if not _is(manifest, EnvironmentManifest, Mapping):
            raise _wrong(
                "manifest",
                manifest,
                "a manifest, a mapping or a file",
                'from_manifest("agent.yaml")',
            )
        if not isinstance(manifest, EnvironmentManifest):
            problems = check_manifest(manifest, catalogue)
            if problems:
                raise invalid(problems)
            manifest = EnvironmentManifest.from_dict(manifest)
        return cls(manifest, tools=tools, catalogue=catalogue, **options)

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
        if not _is(stage, Stage):
            raise _wrong("stage", stage, "an instance of a Stage", "register_stage(MyStage())")
        if not inspect.iscoroutinefunction(stage.execute):
            raise ConfigError(
                f"{type(stage).__name__}.execute must be async: async def execute(...)"
            )
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
        strategy: str | type[Strategy] | list[str | type[Strategy]],
        config: Mapping[str, JSON] | None = None,
    ) -> None:
        """Put another strategy into a slot: a shipped one by name, or a class of your own. A slot
        that holds a chain takes a list, or one for a chain of one; `config` then maps a strategy
        to its configuration, or configures the only one.

        Raises ConfigError and changes nothing when that does not fit.
        """
        entries = [entry.model_copy(deep=True) for entry in self.manifest.stages]
        entry = next((entry for entry in entries if entry.name == stage), None)
        if entry is None:
            known = [entry.name for entry in entries]
            raise ConfigError(f"this pipeline has no {stage!r} stage{nearest(stage, known)}")
        several = isinstance(strategy, list)
        given = strategy if several else [strategy]
        names = [self._named_strategy(stage, slot, item) for item in given]
        declared = self._catalogue.stage(stage).slots().get(slot)
        chain = declared is not None and declared.chain
        entry.strategies[slot] = names if chain or several else names[0]
        entry.strategy_configs.pop(slot, None)
        if config:
            settings = {names[0]: config} if chain and not several else config
            entry.strategy_configs[slot] = dict(settings)  # pyright: ignore[reportArgumentType]
        self._change(entries)

    def _named_strategy(self, stage: str, slot: str, strategy: str | type[Strategy]) -> str:
        if isinstance(strategy, str):
            return strategy
        if not (_is(strategy, type) and Strategy in strategy.__mro__):
            raise _wrong(
                "strategy", strategy, "a name or a subclass of Strategy", "class Mine(Strategy)"
            )
        name = strategy.name or strategy.__name__
        self._catalogue.add_strategy(stage, slot, name, strategy)
        return name

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
        self,
        input: JSON,
        *,
        limits: SomeLimits | None = None,
        raise_on_error: bool = True,
    ) -> PipelineResult:
        """Run to the end. `limits` hold for this run: a mapping changes some of the manifest's
        (`{"max_cost_usd": 0.5}`), Limits replace them all.

        Raises the typed error when the run did not end well; it carries the partial `result`.
        With `raise_on_error=False` the result is returned either way. Cancelling the caller
        ends the run, journals that, and then raises CancelledError.
        """
        run = await self._launcher.start(self._plan, input, self._limits(limits), None)
        return _outcome(await run.here(), raise_on_error)

    def run_sync(
        self,
        input: JSON,
        *,
        limits: SomeLimits | None = None,
        raise_on_error: bool = True,
    ) -> PipelineResult:
        """`run` for programs without an event loop. Raises PipelineError inside of one."""
        if _in_a_loop():
            raise PipelineError(
                "run_sync was called where an event loop is running, as in a notebook.",
                code=ExecutorErrorCode.EXEC_RUN_BUSY,
                hint="Use: result = await pipeline.run(...)",
            )

        async def main() -> PipelineResult:
            try:
                return await self.run(input, limits=limits, raise_on_error=raise_on_error)
            finally:
                await self._models.aclose()

        return asyncio.run(main())

    async def run_stream(
        self, input: JSON, *, limits: SomeLimits | None = None
    ) -> AsyncGenerator[Event, None]:
        """Run, yielding every event; the last one is `pipeline.complete` or `pipeline.error`,
        whose `data["result"]` is the result. A slow reader slows the run. Leaving the loop
        early ends the run and its spending."""
        tap = Tap()
        run = await self._launcher.start(self._plan, input, self._limits(limits), tap)
        async with aclosing(run.events(tap)) as events:
            async for event in events:
                yield event

    async def resume(
        self,
        run_id: str,
        *,
        wait_s: float = 0.0,
        raise_on_error: bool = True,
    ) -> PipelineResult:
        """Go on with a run that was interrupted: what its journal holds is not done again. When
        its owner died without giving it back, the claim has to run out first: `wait_s` is how
        many seconds to wait for that at most.

        Raises PipelineError when there is no such run or it has ended, ConfigError when this
        pipeline is not the one that began it, JournalError when another process has it.
        """
        run = await self._launcher.resume(self._plan, run_id, None, wait_s=wait_s)
        return _outcome(await run.here(), raise_on_error)

    async def resume_stream(
        self, run_id: str, *, wait_s: float = 0.0
    ) -> AsyncGenerator[Event, None]:
        """`resume`, yielding the events of what is new."""
        tap = Tap()
        run = await self._launcher.resume(self._plan, run_id, tap, wait_s=wait_s)
        async with aclosing(run.events(tap)) as events:
            async for event in events:
                yield event

    async def replay(self, run: str | Recording) -> Replayed:
        """Run a recorded run again from its facts alone: no model and no tool is called, nothing
        is written. Says the first thing that this pipeline would do otherwise than is recorded.

        `run` is an id, or the beginning of one, in this pipeline's journal; or what `read_export`
        gave. The run may be unfinished: then it is replayed as far as it is recorded. Raises
        PipelineError when there is no such run.
        """
        from lorimer.journal.replay import replay

        return await replay(
            self._plan, await recorded(self.journal, run) if isinstance(run, str) else run
        )

    async def fork(
        self,
        run: str | Recording,
        *,
        after: int,
        input: JSON = None,
        limits: SomeLimits | None = None,
        raise_on_error: bool = True,
    ) -> PipelineResult:
        """Go on from the middle of a run, with this pipeline, in a conversation of its own: with
        all that was said until the run's turn number `after` (from 1), results of calls included,
        and nothing of it done again. The run itself stays as it is.

        With an `input`, that comes next; without one, this pipeline's model is asked in place of
        the one that was asked then. `run` is as in `replay`. Raises PipelineError when there is no
        such run, when it has not so many turns, or when turn `after` is an answer and there is no
        input.
        """
        parent = await recorded(self.journal, run) if isinstance(run, str) else run
        forked = await self._launcher.fork(self._plan, parent, after, input, self._limits(limits))
        return _outcome(await forked.here(), raise_on_error)

    async def abandon(self, run_id: str) -> None:
        """Give an interrupted run up: it ends as cancelled, and its conversation can go on
        without it. Raises PipelineError when there is no such run, or it has ended."""
        await self._launcher.abandon(run_id)

    def cancel(self, reason: Reason = Reason.CALLER) -> bool:
        """Stop what this pipeline is running, from the event loop that it runs in. The run ends
        as cancelled; with Reason.SHUTDOWN it is suspended, and can be resumed. Returns whether
        there was one."""
        live = self._launcher.live
        for context in live:
            context.cancel(reason)
        return bool(live)

    def shut_down(self, within_s: float = 10.0) -> bool:
        """Suspend what this pipeline is running: it begins nothing new, calls of tools under way
        that change something have `within_s` seconds to end, and `resume` goes on later. Returns
        whether there was one."""
        live = self._launcher.live
        for context in live:
            context.drain(within_s)
        return bool(live)

    async def aclose(self) -> None:
        """Close connections and give the conversation back. The journal stays open: it belongs
        to whoever made it."""
        await self._launcher.release()
        await self._models.aclose()

    async def __aenter__(self) -> Pipeline:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    # --- inside --------------------------------------------------------------------------

    def _limits(self, given: Limits | Mapping[str, JSON] | None) -> Limits:
        limits = self._plan.limits
        if given is None or isinstance(given, Limits):
            return given or limits
        if not _is(given, Mapping):
            raise _wrong("limits", given, "Limits or a mapping", '{"max_turns": 5}')
        return Limits.from_json({**limits.to_json(), **given})

    def _tools(
        self,
        tools: ToolSource | None,
        rules: Iterable[Rule | str],
        approver: Approver | None,
        workspace: str | Path | None,
    ) -> Toolset | None:
        given = [rules] if isinstance(rules, str) else list(rules)
        named = self.manifest.tools.built_in
        if tools is None and not named and not given:
            return None
        from lorimer.tools.base import Tool
        from lorimer.tools.registry import ToolRegistry
        from lorimer.tools.toolset import Toolset
        from lorimer.world.files import RootedFiles

        if named and workspace is None:
            raise ConfigError(
                f"the tools {', '.join(named)} work in a folder, and none was given",
                hint="Pass workspace=... when you build the pipeline.",
            )
        root = Path(workspace).resolve() if workspace is not None else None
        if root is not None and not root.is_dir():
            raise ConfigError(f"the workspace {str(root)!r} is no folder")
        if isinstance(tools, Tool):
            tools = [tools]
        if not _is(tools, Iterable, NoneType):
            raise _wrong("tools", tools, "a list of tools or a ToolRegistry", "[my_tool]")
        registry = tools if isinstance(tools, ToolRegistry) else ToolRegistry(tools or ())
        if named:
            registry = registry.copy()  # the host's own stays as it is
            for tool in _built_in(named):
                registry.register(tool, granted=False)
        return Toolset(
            registry,
            rules=given,
            approver=approver,
            files=RootedFiles([root]) if root is not None else None,
        )


def _is(value: object, *kinds: type) -> bool:
    """For arguments: most callers have no type checker."""
    return isinstance(value, kinds)


def _wrong(name: str, value: object, wanted: str, example: str) -> ConfigError:
    return ConfigError(
        f"{name} must be {wanted}, not {type(value).__name__}", hint=f"For instance: {example}"
    )


def _outcome(result: PipelineResult, raise_on_error: bool) -> PipelineResult:
    if raise_on_error and result.exception is not None:
        raise result.exception
    return result


def check_manifest(data: Mapping[str, JSON], catalogue: Catalogue | None = None) -> list[str]:
    """Every fault of a manifest in its plain form, as `path: reason`; [] when it can be run.
    Whether a key is there, and what the host binds, is not looked at."""
    problems = check_document(data, catalogue or shipped_catalogue())
    tools = data.get("tools")
    named = tools.get("built_in") if isinstance(tools, Mapping) else None
    if isinstance(named, list):
        try:
            _built_in([name for name in named if isinstance(name, str)])
        except ConfigError as error:
            problems.extend(error.problems)
    return problems


def _built_in(names: Sequence[str]) -> list[Tool]:
    from lorimer.tools.builtin import builtin_tools

    try:
        return builtin_tools(names)
    except ConfigError as error:
        raise invalid([f"tools.built_in: {error}"]) from None


def _in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _credentials(
    manifest: EnvironmentManifest, api_key: str, base_url: str
) -> CredentialBundle | None:
    if not api_key and not base_url:
        return None
    provider = ""
    if "api" in manifest.stages:
        provider = str(manifest.stages["api"].config.get("provider", ""))
    spec = parse_spec(chain(model_spec(manifest.model, provider))[0], PROVIDERS)
    given = ProviderCredentials(api_key=api_key, base_url=base_url)
    return CredentialBundle({spec.provider: given})
