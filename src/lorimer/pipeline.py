"""The façade: a manifest with live objects, ready to run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping
from contextlib import aclosing
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, Unpack, overload

from lorimer.assembly import (
    PipelineOptions,
    SomeLimits,
    ToolSource,
    check_manifest,
    credentials_of,
    is_a,
    limits_of,
    toolset_of,
    wrong,
)
from lorimer.claims import Claims
from lorimer.compiled import Compiled
from lorimer.core.bindings import Bindings
from lorimer.core.bus import Bus, Handler, Tap
from lorimer.core.cancel import Reason
from lorimer.core.compile import Catalogue
from lorimer.core.errors import ConfigError, ExecutorErrorCode, PipelineError
from lorimer.core.events import Event
from lorimer.core.journal import Journal
from lorimer.core.jsonable import JSON
from lorimer.core.mail import answer
from lorimer.core.manifest import EnvironmentManifest, invalid, read_document
from lorimer.core.model import KnowsSecrets, ModelResolver
from lorimer.core.redaction import SHORTEST, Redactor, of_environment
from lorimer.core.result import PipelineResult
from lorimer.core.tool import Approver
from lorimer.core.world import SandboxMode, World
from lorimer.journal.conversation import CLAIM_S
from lorimer.journal.memory import MemoryJournal
from lorimer.journal.outcome import outcome
from lorimer.journal.recording import Recording, recorded
from lorimer.launch import Launcher
from lorimer.live import Run
from lorimer.models.credentials import CredentialBundle
from lorimer.models.registry import Models
from lorimer.stages.catalogue import catalogue as shipped_catalogue
from lorimer.world.real import RealWorld

if TYPE_CHECKING:
    from lorimer.journal.replay import Replayed
    from lorimer.tools.hooks import Hook
    from lorimer.tools.hooks.hook import Function
    from lorimer.tools.policy.people import Person
    from lorimer.tools.policy.rules import Rule

T = TypeVar("T")
H = TypeVar("H", bound=Handler)
F = TypeVar("F", bound="Function")


class Pipeline(Compiled):
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
        permission_mode: str = "default",
        approver: Approver | None = None,
        workspace: str | Path | None = None,
        sandbox: SandboxMode = "auto",
        network: bool | Iterable[str] = False,
        hooks: Iterable[Hook] = (),
        author: Person | None = None,
        caller: Person | None = None,
        bindings: Mapping[str, object] | None = None,
        session_id: str = "",
        owner: str = "",
        claim_s: float = CLAIM_S,
        secrets: Iterable[str] = (),
        catalogue: Catalogue | None = None,
    ) -> None:
        if not is_a(manifest, EnvironmentManifest):
            raise wrong("manifest", manifest, "an EnvironmentManifest", "Pipeline.from_manifest")
        if is_a(journal, str, Path):
            raise wrong("journal", journal, "a journal", "SQLiteJournal(path)")
        if not is_a(claim_s, int, float) or not 0 < claim_s < inf:
            raise ConfigError(f"claim_s must be more than 0 s, and finite, not {claim_s!r}")
        self.world = world or RealWorld()
        self.journal = journal or MemoryJournal(self.world)
        self._models = models or Models(
            credentials=credentials or credentials_of(manifest, api_key, base_url), world=self.world
        )
        toolset = toolset_of(
            manifest,
            tools,
            rules,
            permission_mode,
            approver,
            workspace,
            sandbox,
            network=network,
            hidden=getattr(self.journal, "files", ()),  # of a store in a file
            author=author,
            caller=caller,
        )
        live = Bindings(
            models=self._models, tools=toolset, approver=approver, named=dict(bindings or {})
        )
        super().__init__(manifest, (catalogue or shipped_catalogue()).copy(), live)
        if session_id and not self.plan.converses:
            raise ConfigError(
                "session_id was given, and this pipeline remembers nothing",
                hint="Give it a context stage that is not stateless, as the chat preset has.",
            )
        self._bus = Bus()
        owner = owner or self.world.new_id("owner")
        claims = Claims(
            self.journal, self.world, owner=owner, session_id=session_id, claim_s=claim_s
        )
        given = _declared(secrets)
        self._launcher = Launcher(
            self.journal, self.world, self._bus, claims, lambda: _known(given, self._models)
        )
        self._toolset = toolset
        self._hooks: list[Hook] = []
        self._about: dict[str, JSON] = {
            "cwd": str(Path(workspace or ".").resolve()),
            "permission_mode": permission_mode,
        }
        for each in hooks:
            self._add_hook(each)

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
        if not is_a(manifest, EnvironmentManifest, Mapping):
            raise wrong(
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

    def hook(
        self,
        event: str,
        *,
        tools: Iterable[str] = (),
        name: str = "",
        timeout_s: float = 30.0,
    ) -> Callable[[F], F]:
        """Have a function asked, or told, at a point of every run that begins later:
        `@pipeline.hook("PreToolUse", tools=["Bash"])`. It takes a dict, and at points where it is
        asked returns an Answer or None; it may be async. After the hooks that were there before.

        Raises ConfigError for an unknown point. See docs/hooks.md.
        """
        from lorimer.tools.hooks import FunctionHook

        def decorate(function: F) -> F:
            self._add_hook(
                FunctionHook(event, function, tools=tools, name=name, timeout_s=timeout_s)
            )
            return function

        return decorate

    def _add_hook(self, hook: Hook) -> None:
        from lorimer.tools.hooks.hookset import HookSet
        from lorimer.tools.hooks.observers import observe

        if not hook.event.guards:
            observe(hook, self._bus, self.world, self._about, self._hook_failed)
            return
        self._hooks.append(hook)
        guards = HookSet(self._hooks, self._about)
        self._guard(guards)
        if self._toolset is not None:
            self._toolset.hooks = guards

    def _hook_failed(self, run_id: str, data: Mapping[str, JSON]) -> bool:
        """Signal it. Whether somebody listens: after a run's last event nobody does."""
        for context in self._launcher.live:
            if context.id == run_id and context.wants("hook.failed"):
                context.signal("hook.failed", data)
                return True
        return False

    # --- running -------------------------------------------------------------------------

    async def run(
        self,
        input: JSON,
        *,
        limits: SomeLimits | None = None,
        wait_s: float = 0.0,
        raise_on_error: bool = True,
    ) -> PipelineResult:
        """Run to the end. `limits` hold for this run: a mapping changes some of the manifest's
        (`{"max_cost_usd": 0.5}`), Limits replace them all. When a process that died has the
        conversation, its claim has to run out first: `wait_s` is how many seconds to wait for that
        at most, and then JournalError says who has it, and until when.

        Raises the typed error when the run did not end well; it carries the partial `result`.
        With `raise_on_error=False` the result is returned either way. Cancelling the caller
        ends the run, journals that, and then raises CancelledError.
        """
        run = await self._start(input, limits, None, wait_s)
        return _outcome(await run.here(), raise_on_error)

    def run_sync(
        self,
        input: JSON,
        *,
        limits: SomeLimits | None = None,
        wait_s: float = 0.0,
        raise_on_error: bool = True,
    ) -> PipelineResult:
        """`run` for programs without an event loop. Raises PipelineError inside of one."""
        run = self.run(input, limits=limits, wait_s=wait_s, raise_on_error=raise_on_error)
        return self._sync("run", run)

    async def run_stream(
        self, input: JSON, *, limits: SomeLimits | None = None, wait_s: float = 0.0
    ) -> AsyncGenerator[Event, None]:
        """`run`, yielding every event; the last one is `pipeline.complete` or `pipeline.error`,
        whose `data["result"]` is the result. A slow reader slows the run. Leaving the loop
        early ends the run and its spending."""
        tap = Tap()
        run = await self._start(input, limits, tap, wait_s)
        async with aclosing(run.events(tap)) as events:
            async for event in events:
                yield event

    async def resume(
        self,
        run_id: str,
        decision: bool | str | None = None,
        *,
        question: str = "",
        wait_s: float = 0.0,
        raise_on_error: bool = True,
    ) -> PipelineResult:
        """Go on with a run that was interrupted: what its journal holds is not done again. When
        its owner died without giving it back, the claim has to run out first: `wait_s` is how
        many seconds to wait for that at most.

        `decision` answers what it waits for first, as `core.mail.answer` does: True or False, or a
        text to a question of a tool; `question` says to which, where there are several.

        Raises PipelineError when there is no such run or it has ended, ConfigError when this
        pipeline is not the one that began it, JournalError when another process has it.
        """
        if decision is not None:
            await answer(self.journal, run_id, decision, question=question)
        run = await self._launcher.resume(self.plan, run_id, None, wait_s=wait_s)
        return _outcome(await run.here(), raise_on_error)

    async def resume_stream(
        self, run_id: str, *, wait_s: float = 0.0
    ) -> AsyncGenerator[Event, None]:
        """`resume`, yielding the events of what is new."""
        tap = Tap()
        run = await self._launcher.resume(self.plan, run_id, tap, wait_s=wait_s)
        async with aclosing(run.events(tap)) as events:
            async for event in events:
                yield event

    async def result(self, run_id: str) -> PipelineResult:
        """What an ended run gave, as its facts tell it, whichever process and pipeline ran it:
        all that `run` returned. `run_id` may be the beginning of one. Of `output` only plain data
        is kept (else it is None), and of the error its class, code and message. Never raises that
        error. Costs about 10 us a fact.

        Raises PipelineError, with what to do about it, when there is no such run
        (`exec.run.unknown`), when it waits for an answer (`exec.run.waiting`), was suspended
        (`exec.run.shutdown`), or is unfinished (`exec.run.busy`).
        """
        return outcome(await recorded(self.journal, run_id))

    def result_sync(self, run_id: str) -> PipelineResult:
        """`result` for programs without an event loop. Raises PipelineError inside of one."""
        return self._sync("result", self.result(run_id))

    async def replay(self, run: str | Recording) -> Replayed:
        """Run a recorded run again from its facts alone: no model and no tool is called, nothing
        is written. Says the first thing that this pipeline would do otherwise than is recorded.

        `run` is an id, or the beginning of one, in this pipeline's journal; or what `read_export`
        gave. The run may be unfinished: then it is replayed as far as it is recorded. Raises
        PipelineError when there is no such run.
        """
        from lorimer.journal.replay import replay

        recording = await recorded(self.journal, run) if isinstance(run, str) else run
        return await replay(self.plan, recording, self._launcher.redactor)

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
        forked = await self._launcher.fork(
            self.plan, parent, after, input, limits_of(limits, self.plan.limits)
        )
        return _outcome(await forked.here(), raise_on_error)

    async def abandon(self, run_id: str, *, wait_s: float = 0.0) -> None:
        """Give an interrupted run up: it ends as cancelled, and its conversation can go on
        without it. `wait_s` is as in `resume`. Raises PipelineError when there is no such run, or
        it has ended, JournalError when another process has it."""
        await self._launcher.abandon(run_id, wait_s=wait_s)

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

    async def _start(
        self, input: JSON, limits: SomeLimits | None, tap: Tap | None, wait_s: float
    ) -> Run:
        return await self._launcher.start(
            self.plan, input, limits_of(limits, self.plan.limits), tap, wait_s=wait_s
        )

    def _sync(self, name: str, work: Coroutine[None, None, T]) -> T:
        """Do it in an event loop of its own. Raises PipelineError where there is one."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            work.close()
            raise PipelineError(
                f"{name}_sync was called where an event loop is running, as in a notebook.",
                code=ExecutorErrorCode.EXEC_RUN_BUSY,
                hint=f"Use: result = await pipeline.{name}(...)",
            )

        async def main() -> T:
            try:
                return await work
            finally:
                await self._models.aclose()

        return asyncio.run(main())


def _declared(secrets: Iterable[str]) -> dict[str, str]:
    given = [secrets] if isinstance(secrets, str) else list(secrets)
    if any(not is_a(one, str) or len(one) < SHORTEST for one in given):
        raise ConfigError(f"secrets: each has to be a text of {SHORTEST} characters or more")
    return dict.fromkeys(given, "secret")


def _known(given: Mapping[str, str], models: ModelResolver) -> Redactor | None:
    return of_environment(given, models.secrets() if isinstance(models, KnowsSecrets) else {})


def _outcome(result: PipelineResult, raise_on_error: bool) -> PipelineResult:
    if raise_on_error and result.exception is not None:
        raise result.exception
    return result
