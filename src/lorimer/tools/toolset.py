"""The tools of one pipeline: `core.tool.Toolbox` on a registry, with the caller's rules."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lorimer.core.hooks import HookEvent, Hooks
from lorimer.core.jsonable import JSON
from lorimer.core.manifest import ToolBinding
from lorimer.core.messages import ToolResultBlock, ToolUse
from lorimer.core.request import ToolSpec
from lorimer.core.tool import Approver, PastCall
from lorimer.core.world import SandboxMode
from lorimer.tools.dispatch import dispatch
from lorimer.tools.early import Early
from lorimer.tools.encode import text_of
from lorimer.tools.permissions import Policy
from lorimer.tools.policy.modes import Mode
from lorimer.tools.policy.people import Parties
from lorimer.tools.policy.rules import Rule
from lorimer.tools.registry import Entry, ToolRegistry
from lorimer.tools.results import Spill
from lorimer.tools.shown import (
    AT_FIRST,
    ENTER_PLAN,
    EXIT_PLAN,
    SEARCH,
    Shown,
    look_back,
    shown,
)
from lorimer.tools.steps import Steps
from lorimer.tools.threads import Threads
from lorimer.world.sandbox.view import sandbox_for

if TYPE_CHECKING:
    from lorimer.core.context import RunContext
    from lorimer.core.model import ModelResolver
    from lorimer.core.state import PipelineState
    from lorimer.world.files import RootedFiles


_MAX_VIEWS: Final = 64
_MAX_LISTED: Final = 4_000
"""Most characters of the names of deferred tools in ToolSearch's description."""


class Toolset:
    """Tools, and the conditions under which they are called. May serve many runs at once.

    `files` are the files that tools may access (the caller opens and closes them); `working_dir` is
    where commands start and what paths in rules are relative to, by default the first root of
    `files`. Results that are too long for the model are stored by `spill`, by default in files in
    `.lorimer/results` below the working directory, or nowhere without `files`. `mode` decides calls
    that no rule covers: `policy/modes.py`. Raises ConfigError for an invalid rule and an unknown
    mode.

    Programs started by tools are sandboxed: only the working directory and the roots of `files` are
    writable for them; `hidden`, and the usual locations of keys, are invisible; they can reach the
    hosts in `network` (`lorimer.world.hosts`; True: all public ones). `sandbox` says how strictly;
    see `SandboxMode`. `hooks` are asked before and after calls.

    `agent` and `parties` decide which rules with `when` apply, and which tools exist at all.

    The model is not shown the tools in `deferred` until a ToolSearch has found them, and never
    those that `binding` excludes: calls of these are refused. Tools that call a model use one of
    `models`.
    """

    def __init__(
        self,
        registry: ToolRegistry,
        *,
        rules: Iterable[Rule | str] = (),
        mode: Mode | str = Mode.DEFAULT,
        approver: Approver | None = None,
        files: RootedFiles | None = None,
        working_dir: Path | str | None = None,
        spill: Spill | None = None,
        sandbox: SandboxMode = "auto",
        network: bool | Iterable[str] = False,
        hidden: Iterable[Path] = (),
        hooks: Hooks | None = None,
        agent: str = "",
        parties: Parties = Parties(),  # noqa: B008 - it is immutable
        deferred: Iterable[str] = (),
        binding: ToolBinding | None = None,
        models: ModelResolver | None = None,
    ) -> None:
        self.registry = registry
        self.models = models
        self.approver = approver
        self.hooks = hooks
        self.files = files
        if working_dir is None:
            self.working_dir = files.roots[0] if files is not None else None
        else:
            self.working_dir = Path(working_dir)
        folders = [] if self.working_dir is None else [self.working_dir]
        folders += files.roots if files is not None else ()
        self.sandbox = sandbox_for(sandbox, writable=folders, network=network, hidden=tuple(hidden))
        held = self.sandbox is not None and self.sandbox.at_least == "L2"  # else nothing starts
        self.base_policy = Policy(
            [Rule.parse(rule) if isinstance(rule, str) else rule for rule in rules],
            Mode.named(mode),
            self.working_dir,
            files.roots if files is not None else (),
            isolated=held and self.sandbox is not None and not self.sandbox.hosts,
            agent=agent,
            parties=parties,
        )
        """The host's policy; for the one in force in a run see `policy_in`."""
        self.base_policy.check(registry.entries())
        self.threads = Threads()
        self.spill = spill
        self.strangers: frozenset[str] = frozenset()
        """Tools whose results are untrusted content."""
        self._callable: dict[str, Entry] = {}
        self.recalled: frozenset[str] = frozenset()
        """Tools whose earlier calls are needed: see `Tool.recalls`."""
        self._polling: frozenset[str] = frozenset()
        self.deferred = frozenset(deferred)
        self._binding = binding
        self._special = self.deferred | {ENTER_PLAN, EXIT_PLAN}
        """Tools that the model cannot call at all times."""
        self.deferred_specs: tuple[ToolSpec, ...] = ()
        """The deferred tools among the existing ones."""
        self._planning = self.base_policy.planning()
        self._views: dict[Shown, tuple[ToolSpec, ...]] = {}
        self._latest: tuple[Shown | None, tuple[ToolSpec, ...]] = (None, ())
        """A cache: the last view that was requested is usually the next one too."""
        self._version = -1
        self._seen: tuple[list[PastCall], int, Shown] = ([], 0, AT_FIRST)
        """A cache: the last result for the calls of a run."""

    def specs(self, state: PipelineState) -> tuple[ToolSpec, ...]:
        """The tools that the model is shown: all except those it may never call, those that plan
        mode forbids, and deferred ones that were not found. The same tuple until one of these
        changes."""
        self._look_back(state)
        view = self._view(state.run)
        latest, specs = self._latest
        if view is latest:
            return specs
        specs = self._views.get(view)
        if specs is None:
            if len(self._views) >= _MAX_VIEWS:  # one for each order in which tools were found
                self._views.clear()
            specs = self._views[view] = self._specs(view)
        self._latest = (view, specs)
        return specs

    def _specs(self, view: Shown) -> tuple[ToolSpec, ...]:
        policy = self._planning if view.planning else self.base_policy
        there = {
            each.spec.name: each for each in self.registry.entries() if self._admits(each, policy)
        }
        if self.base_policy.mode is Mode.PLAN:  # the host's mode cannot be changed from here
            there.pop(ENTER_PLAN, None)
            there.pop(EXIT_PLAN, None)
        if not self.deferred_specs:
            there.pop(SEARCH, None)
        first = [each.spec for name, each in there.items() if name not in self.deferred]
        found = [there[name].spec for name in view.loaded if name in self.deferred & there.keys()]
        names = ", ".join([spec.name for spec in self.deferred_specs])[:_MAX_LISTED]
        return tuple(
            [
                replace(spec, description=f"{spec.description} They are: {names}.")
                if spec.name == SEARCH
                else spec
                for spec in [*first, *found]
            ]
        )

    def _admits(self, entry: Entry, policy: Policy) -> bool:
        return policy.visible(entry) and self.bound(entry.spec.name)

    def bound(self, name: str) -> bool:
        """Whether the binding of the stage that calls tools admits this one."""
        return self._binding is None or self._binding.admits(name)

    def names(self) -> list[str]:
        """The tools that the model may have."""
        self._refresh()
        return list(self._callable)

    def callable(self, name: str) -> Entry | None:
        """A tool that the model may have, by name; None: it may not, or there is none."""
        self._refresh()
        return self._callable.get(name)

    def withheld(self, name: str) -> str:
        """Why the model may not have a tool of this name: a rule, or the mode; "": there is no such
        tool, or the model may have it."""
        entry = self.registry.entry(name)
        return "" if entry is None else self.base_policy.hidden(entry)

    def _refresh(self) -> None:
        if self._version == self.registry.version:
            return
        self._version = self.registry.version
        self._views, self._latest = {}, (None, ())
        entries = self.registry.entries()
        self._callable = {
            each.spec.name: each for each in entries if self._admits(each, self.base_policy)
        }
        self.strangers = frozenset([each.spec.name for each in entries if each.tool.untrusted])
        self.deferred_specs = tuple(
            [each.spec for name, each in self._callable.items() if name in self.deferred]
        )
        recalled = {name for each in entries for name in each.tool.recalls}
        if ENTER_PLAN in self.registry:
            recalled.update((ENTER_PLAN, EXIT_PLAN))
        if self.deferred_specs:
            recalled.add(SEARCH)
        self.recalled = frozenset(recalled)
        self._polling = frozenset([each.spec.name for each in entries if each.tool.polling])

    def _look_back(self, state: PipelineState) -> None:
        """Restore the state from earlier calls, once per run."""
        self._refresh()
        if state.run.past_calls is None:
            looked = look_back(state.messages, self.recalled) if self.recalled else ()
            state.run.past_calls = list(looked)

    def _view(self, run: RunContext) -> Shown:
        called = run.past_calls
        if not called:
            return AT_FIRST
        of, count, view = self._seen
        if of is not called or count != len(called):
            view = shown(called)
            self._seen = (called, len(called), view)
        return view

    def policy_in(self, run: RunContext) -> Policy:
        """The policy in force at this point of a run."""
        if not run.past_calls:
            return self.base_policy
        view = self._view(run)
        policy = self._planning if view.planning else self.base_policy
        return policy.within(view.folders[-1]) if view.folders else policy

    def planning(self, run: RunContext) -> bool:
        """Whether plan mode is on at this point of a run."""
        policy = self.policy_in(run)
        return policy.plans or policy.mode is Mode.PLAN

    async def call(
        self, name: str, input: Mapping[str, JSON], key: str, state: PipelineState
    ) -> ToolResultBlock:
        """A call that a stage makes; see `core.tool.Toolbox`."""
        self._remember(state)
        result = await Steps(self, key, state.run)(name, dict(input))
        content = result.content
        text = content if isinstance(content, str) else text_of(content)
        return ToolResultBlock(key, text, result.is_error)

    def folder_in(self, run: RunContext) -> str:
        """The worktree in which calls start at this point of a run, relative to the working
        directory; "": in the working directory itself."""
        folders = self._view(run).folders if run.past_calls else ()
        return folders[-1] if folders else ""

    def unavailable(self, entry: Entry, run: RunContext) -> str:
        """Why the model cannot call a tool that it has at this point; "": it can."""
        name = entry.spec.name
        if name not in self._special:
            return ""
        if name in (ENTER_PLAN, EXIT_PLAN) and self.base_policy.mode is Mode.PLAN:
            return "plan mode was set by whoever runs this: you cannot begin or end it."
        if name == EXIT_PLAN and not entry.tool.approval:
            return f"{name} is a tool that asks nobody: it cannot end plan mode."
        if name == EXIT_PLAN and not self._view(run).planning:
            return f"plan mode is not on: {ENTER_PLAN} begins it."
        if name in self.deferred and name not in self._view(run).loaded:
            return f"{name} is not loaded: call {SEARCH} with the query 'select:{name}' first."
        return ""

    @property
    def polling(self) -> frozenset[str]:
        """Tools that are called repeatedly on purpose."""
        self._refresh()
        return self._polling

    def concurrency_safe(self, use: ToolUse) -> bool:
        """Whether this call may run in parallel; not if a person might be asked about it."""
        entry = self.registry.entry(use.name)
        if entry is None or not entry.concurrency_safe or entry.asks:
            return False
        if self.hooks is not None and self.hooks.guards(HookEvent.PRE_TOOL_USE, use.name):
            return False  # a hook may change it, or have a person asked about it
        return self.approver is None or self.base_policy.needs_no_decision(entry)

    def early(self, state: PipelineState) -> Early:
        """The early calls of the next reply; see `lorimer.tools.early`."""
        self._look_back(state)
        early = state.run.owned.own(Early, lambda: Early(self, state))
        early.tools = self  # the run may have had other tools before
        early.anew()
        return early

    def dispatch(
        self, use: ToolUse, index: int, state: PipelineState
    ) -> Awaitable[ToolResultBlock]:
        """Validate, permit, record, execute; see `lorimer.tools.dispatch`."""
        run = state.run
        if run.past_calls is None or run.strangers is None:
            self._remember(state)
        return dispatch(self, use, index, run)

    def _remember(self, state: PipelineState) -> None:
        """Called once per run: the earlier calls, and which untrusted content they brought in."""
        self._look_back(state)
        run = state.run
        if run.strangers is None:
            run.strangers = _heard(self.strangers, state) if self.strangers else set()


def _heard(strangers: frozenset[str], state: PipelineState) -> set[str]:
    """The tools with untrusted results that were called. Calls of the current reply do not count:
    they have no result yet."""
    messages = state.messages
    answered = len(messages) - (bool(messages) and messages[-1].role == "assistant")
    return {
        block.name
        for message in islice(messages, answered)
        for block in message.content
        if isinstance(block, ToolUse) and block.name in strangers
    }
