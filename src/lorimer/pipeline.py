"""The façade: a manifest with live objects, ready to run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar, Unpack, cast, overload

from anyio import to_thread

from lorimer.assembly import (
    PipelineOptions,
    ToolSource,
    check_manifest,
    check_parts,
    check_people,
    credentials_of,
    hooks_of,
    hosts_of,
    paths_of,
    registry_of,
    secrets_declared,
)
from lorimer.core.arguments import check_id, is_a, wrong
from lorimer.core.bindings import Bindings
from lorimer.core.bus import Bus, Handler
from lorimer.core.catalogue import Catalogue, load
from lorimer.core.errors import ConfigError
from lorimer.core.faults import invalid
from lorimer.core.journal import Journal, KeptInFiles
from lorimer.core.jsonable import JSON
from lorimer.core.manifest import EnvironmentManifest, read_document
from lorimer.core.model import KnowsSecrets, ModelResolver
from lorimer.core.redaction import Redactor, of_environment
from lorimer.core.snapshot import Snapshot
from lorimer.core.tool import Approver
from lorimer.core.variables import secrets_of, with_variables
from lorimer.core.world import SandboxMode, World
from lorimer.journal.conversation import CLAIM_S
from lorimer.journal.memory import MemoryJournal
from lorimer.launch.claims import Claims, Owner
from lorimer.launch.launcher import ChildRunProvider, Launcher
from lorimer.launch.manifest_store import ManifestStore
from lorimer.models.credentials import CredentialBundle
from lorimer.models.registry import Models
from lorimer.mutable import MutableManifest
from lorimer.runner import Runner
from lorimer.stages.catalogue import catalogue as shipped_catalogue
from lorimer.toolkit import toolset_of
from lorimer.world.real import RealWorld

if TYPE_CHECKING:
    from lorimer.core.context import RunContext
    from lorimer.core.plan import Plan
    from lorimer.tools.hooks import Hook
    from lorimer.tools.hooks.hook import Function
    from lorimer.tools.policy.modes import ModeName
    from lorimer.tools.policy.people import Person
    from lorimer.tools.policy.rules import Rule
    from lorimer.tools.toolset import Toolset

_CHILD_RUNS: Final = "lorimer.session.children:ChildRuns"
"""Child runs: `core/children.py`. Named here like a stage, and imported only if a manifest has
sub-agents, because it depends on higher layers."""

T = TypeVar("T")
H = TypeVar("H", bound=Handler)
F = TypeVar("F", bound="Function")


class Pipeline(MutableManifest, Runner):
    """Runs one agent. Has one default conversation if it has a Context stage, in which two runs are
    never live at once. Use `aclose()` or `async with` to close connections early.

    Arguments and behaviour: docs/using.md. Raises ConfigError at once for a manifest that cannot be
    run, with every fault, and for arguments of the wrong type; models are not called before a run.
    """

    _name_in_code = "pipeline"

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
        permission_mode: ModeName = "default",
        approver: Approver | None = None,
        workspace: str | Path | None = None,
        sandbox: SandboxMode = "auto",
        network: bool | Iterable[str] = False,
        hidden: Iterable[Path] = (),
        hooks: Iterable[Hook] = (),
        author: Person | None = None,
        caller: Person | None = None,
        bindings: Mapping[str, object] | None = None,
        variables: Mapping[str, str] | None = None,
        session_id: str = "",
        owner: str = "",
        claim_s: float = CLAIM_S,
        secrets: Iterable[str] = (),
        catalogue: Catalogue | None = None,
    ) -> None:
        if not is_a(manifest, EnvironmentManifest):
            raise wrong("manifest", manifest, "an EnvironmentManifest", "Pipeline.from_manifest")
        check_parts(journal, world, approver, models, credentials, variables)
        check_people(author, caller)
        for name, text in (("session_id", session_id), ("owner", owner)):
            check_id(name, text, f'{name}="alice"')
        if not is_a(claim_s, int, float) or not 0 < claim_s < inf:
            raise ConfigError(f"claim_s must be more than 0 s, and finite, not {claim_s!r}")
        self.world = world or RealWorld()
        journal = journal or MemoryJournal(self.world)
        self._models = models or Models(
            credentials=credentials
            or credentials_of(with_variables(manifest, variables or {}), api_key, base_url),
            world=self.world,
        )
        self._host_tools = None if tools is None else registry_of(tools)
        self._make_toolset = partial(
            toolset_of,
            rules=[rules] if isinstance(rules, str) else list(rules),
            mode=permission_mode,
            approver=approver,
            workspace=workspace,
            sandbox=sandbox,
            network=network if isinstance(network, bool) else hosts_of(network),
            hidden=(
                *(journal.files if isinstance(journal, KeptInFiles) else ()),
                *paths_of(hidden),
            ),
            author=author,
            caller=caller,
            variables=variables,
            models=self._models,
        )
        toolset = self._make_toolset(manifest, self._host_tools)
        live = Bindings(
            models=self._models,
            tools=toolset,
            approver=approver,
            named=dict(bindings or {}),
            variables=dict(variables or {}),
        )
        super().__init__(manifest, (catalogue or shipped_catalogue()).copy(), live)
        if session_id and not self.plan.converses:
            raise ConfigError(
                "session_id was given, and this pipeline remembers nothing",
                hint="Give it a context stage that is not stateless, as the chat preset has.",
            )
        self._bus, self._child_bus = Bus(), Bus()
        claims = Claims(
            journal,
            self.world,
            self._bus,
            owner=Owner(self.world, owner),
            session_id=session_id,
            claim_s=claim_s,
        )
        given = {**secrets_declared(secrets), **secrets_of(manifest, live.variables)}
        self._claims = claims
        self._manifests = ManifestStore(journal, lambda: _redactor_of(given, self._models))
        self._launcher = Launcher(journal, self.world, self._bus, claims, self._manifests)
        self._prepare(manifest, live)
        self._hooks: list[Hook] = []
        self._about: dict[str, JSON] = {
            "cwd": str(Path(workspace or ".").resolve()),
            "permission_mode": permission_mode,
        }
        for each in hooks_of(hooks):
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
        """A pipeline from a manifest, its plain data, or its file. Raises ConfigError naming path
        and reason of every error at once."""
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
            problems = check_manifest(manifest, catalogue, options.get("variables"))
            if problems:
                raise invalid(problems)
            manifest = EnvironmentManifest.from_dict(manifest)
        return cls(manifest, tools=tools, catalogue=catalogue, **options)

    @classmethod
    async def from_manifest_async(
        cls,
        manifest: EnvironmentManifest | Mapping[str, JSON] | str | Path,
        *,
        tools: ToolSource | None = None,
        catalogue: Catalogue | None = None,
        **options: Unpack[PipelineOptions],
    ) -> Pipeline:
        """As `from_manifest`, within a running event loop: a file is read in a thread."""
        if isinstance(manifest, str | Path):
            manifest = await to_thread.run_sync(read_document, manifest)
        return cls.from_manifest(manifest, tools=tools, catalogue=catalogue, **options)

    @property
    def models(self) -> ModelResolver:
        """The models that answer."""
        return self._models

    def _prepare(self, manifest: EnvironmentManifest, bindings: Bindings) -> None:
        """Allow runs that begin later to have the manifest's sub-agents. Resumed runs keep the
        sub-agents that they began with, even if the manifest has none now."""
        if not manifest.agents and self._launcher.child_runs is None:
            return
        make = cast("Callable[..., ChildRunProvider]", load(_CHILD_RUNS))
        bus, claims = self._child_bus, self._claims.for_session("")
        launcher = Launcher(self.journal, self.world, bus, claims, self._manifests)
        terms = partial(self._make_toolset, agent=manifest.metadata.name)
        host = registry_of(self._host_tools)
        relatives = make(
            self._catalogue, bindings, host, terms, launcher, bus, self._require_live_change
        )
        relatives.check(manifest)
        self._launcher.child_runs = relatives

    def branch(self, session_id: str) -> Launcher:
        """The launcher of another conversation than the pipeline's own: for sessions, which a
        SessionManager creates."""
        return self._launcher.branch(session_id)

    async def restore(self, snapshot: Snapshot) -> None:
        """Return to a snapshot: to its manifest, as by `mutate`, and its position in the journal.
        The next run continues there: in the same conversation or, if that has grown since then, in
        a new one that begins with its messages up to that point.

        Raises PipelineError while a run is live (`exec.run.busy`), and when the journal does not
        have the conversation (`exec.run.unknown`); MutationError when the manifest is invalid here.
        Then nothing is changed.
        """
        from lorimer.core.mutation import restoring

        if not is_a(snapshot, Snapshot):
            raise wrong("snapshot", snapshot, "a Snapshot", "Snapshot.from_json(kept)")
        await self._launcher.check_place(snapshot.session_id, snapshot.seq)
        if snapshot.manifest != self.manifest:
            self.mutate(restoring(snapshot.manifest))
        await self._launcher.go_to(snapshot.session_id, snapshot.seq)

    # --- events --------------------------------------------------------------------------

    @overload
    def on(self, type: str) -> Callable[[H], H]: ...
    @overload
    def on(self, type: str, handler: Handler) -> Callable[[], None]: ...

    def on(
        self, type: str, handler: Handler | None = None
    ) -> Callable[[H], H] | Callable[[], None]:
        """Listen to an event type, a `prefix.*` or `*`: `@pipeline.on("stage.enter")`, or `stop =
        pipeline.on("stage.enter", function)`. Handlers may be async."""
        return self._bus.on(type) if handler is None else self._bus.on(type, handler)

    def on_below(self, type: str, handler: Handler) -> Callable[[], None]:
        """As `on`, for child runs of this pipeline's runs: those of its sub-agents."""
        return self._child_bus.on(type, handler)

    def hook(
        self,
        event: str,
        *,
        tools: Iterable[str] = (),
        name: str = "",
        timeout_s: float = 30.0,
    ) -> Callable[[F], F]:
        """Add a hook at a point of every run that begins later: `@pipeline.hook("PreToolUse",
        tools=["Bash"])`. The function receives a dict, and returns an Answer or None if it is asked
        rather than notified; it may be async. It runs after existing hooks.

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
        self._set_hooks(guards)
        toolset = self._toolset
        if toolset is not None:
            toolset.hooks = guards
        if self._launcher.child_runs is not None:
            self._launcher.child_runs.guard(guards)

    @property
    def _toolset(self) -> Toolset | None:
        """The current toolset, which changes with the manifest."""
        return cast("Toolset | None", self._bindings.tools)

    def _tools_for(self, manifest: EnvironmentManifest) -> Toolset | None:
        toolset = self._make_toolset(manifest, self._host_tools, before=self._toolset)
        if toolset is not None:
            toolset.hooks = self._bindings.hooks
        return toolset

    def _live_runs(self) -> Sequence[RunContext]:
        return self._launcher.live

    def _check_live(self, plan: Plan) -> None:
        self._manifests.refuse_secrets(plan.manifest.to_bytes())

    def _hook_failed(self, run_id: str, data: Mapping[str, JSON]) -> bool:
        """Send a signal, if anyone listens: after a run's last event no one does."""
        for context in self._launcher.live:
            if context.id == run_id and context.wants("hook.failed"):
                context.signal("hook.failed", data)
                return True
        return False

    async def aclose(self) -> None:
        """Wait for the end of the runs that somebody has stopped (`shut_down`, `cancel`), release
        the conversation, and close connections. A tool that calls this does not wait for its own
        run. The journal stays open: it belongs to whoever created it."""
        try:
            await self._launcher.stopped()
        finally:
            await self._launcher.release()
            await self._models.aclose()

    async def __aenter__(self) -> Pipeline:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()


def _redactor_of(given: Mapping[str, str], models: ModelResolver) -> Redactor | None:
    return of_environment(given, models.secrets() if isinstance(models, KnowsSecrets) else {})
