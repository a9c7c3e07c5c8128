"""The tools of one pipeline: `core.tool.Toolbox` on a registry, with the caller's rules."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from lorimer.core.messages import ToolResultBlock, ToolSpec, ToolUse
from lorimer.core.tool import Approver
from lorimer.core.world import SandboxMode
from lorimer.tools.dispatch import dispatch
from lorimer.tools.permissions import Policy
from lorimer.tools.policy.modes import Mode
from lorimer.tools.policy.rules import Rule
from lorimer.tools.registry import Entry, ToolRegistry
from lorimer.tools.results import Spill
from lorimer.tools.threads import Threads
from lorimer.world.sandbox.view import sandbox_for

if TYPE_CHECKING:
    from lorimer.core.state import PipelineState
    from lorimer.world.files import RootedFiles


class Toolset:
    """Tools, and on what terms they are called. May serve many runs at once.

    `files` are the files that tools may touch (the caller opened them and closes them);
    `working_dir` is where commands start, and what paths in rules are relative to; left out, it
    is the first root of `files`. Results too long for the model go to `spill`; left out, to
    files in `.lorimer/results` beneath the working directory, or nowhere without `files`. `mode`
    is what becomes of calls that no rule is about: `policy/modes.py`. Raises ConfigError for a
    rule that cannot be, and for an unknown mode.

    Programs that tools start are sandboxed: only the working directory and the roots of `files`
    are writable for them, `hidden` and where keys are kept by custom is not there, and there is
    no network without `network`. `sandbox` says how strictly; see `SandboxMode`.
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
        network: bool = False,
        hidden: Iterable[Path] = (),
    ) -> None:
        self.registry = registry
        self.approver = approver
        self.files = files
        if working_dir is None:
            self.working_dir = files.roots[0] if files is not None else None
        else:
            self.working_dir = Path(working_dir)
        folders = [] if self.working_dir is None else [self.working_dir]
        folders += files.roots if files is not None else ()
        self.sandbox = sandbox_for(sandbox, writable=folders, network=network, hidden=tuple(hidden))
        held = self.sandbox is not None and self.sandbox.at_least == "L2"  # else nothing starts
        self.policy = Policy(
            [Rule.parse(rule) if isinstance(rule, str) else rule for rule in rules],
            Mode.named(mode) if isinstance(mode, str) else mode,
            self.working_dir,
            files.roots if files is not None else (),
            isolated=held and not network,
        )
        self.policy.check(registry.entries())
        self.threads = Threads()
        self.spill = spill
        self.strangers: frozenset[str] = frozenset()
        """Tools whose results are words of strangers."""
        self.callable: dict[str, Entry] = {}
        """The tools that the model is shown, by name: it may call no others."""
        self._shown: tuple[ToolSpec, ...] = ()
        self._version = -1

    def specs(self) -> tuple[ToolSpec, ...]:
        """What the model is shown: all but what it may never call. The same tuple until the
        registry changes."""
        if self._version != self.registry.version:
            self._version = self.registry.version
            entries = self.registry.entries()
            shown = [each for each in entries if self.policy.visible(each)]
            self._shown = tuple([each.spec for each in shown])
            self.callable = {each.spec.name: each for each in shown}
            self.strangers = frozenset([each.spec.name for each in entries if each.tool.untrusted])
        return self._shown

    def names(self) -> list[str]:
        """Of the tools that the model is shown."""
        return [spec.name for spec in self.specs()]

    def concurrency_safe(self, use: ToolUse) -> bool:
        """This call may run beside its neighbours; not one that a person might be asked about."""
        entry = self.registry.entry(use.name)
        if entry is None or not entry.concurrency_safe:
            return False
        return self.approver is None or self.policy.needs_no_decision(entry, dict(use.input))

    async def dispatch(self, use: ToolUse, index: int, state: PipelineState) -> ToolResultBlock:
        """Validate, permit, record, run; see `lorimer.tools.dispatch`."""
        self.specs()
        run = state.run
        if run.strangers is None:  # once a run: what earlier ones brought in
            run.strangers = _heard(self.strangers, state) if self.strangers else set()
        return await dispatch(self, use, index, run)


def _heard(strangers: frozenset[str], state: PipelineState) -> set[str]:
    return {
        block.name
        for message in state.messages
        for block in message.content
        if isinstance(block, ToolUse) and block.name in strangers
    }
