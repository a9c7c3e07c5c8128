"""The tools of one pipeline: `core.tool.Toolbox` on a registry, with the caller's rules."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from lorimer.core.messages import ToolResultBlock, ToolSpec, ToolUse
from lorimer.core.tool import Approver
from lorimer.core.world import SandboxMode
from lorimer.tools.dispatch import dispatch
from lorimer.tools.permissions import Rule, needs_no_rule
from lorimer.tools.registry import ToolRegistry
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
    files in `.lorimer/results` beneath the working directory, or nowhere without `files`.

    Programs that tools start are sandboxed: only the working directory and the roots of `files`
    are writable for them, `hidden` and where keys are kept by custom is not there, and there is
    no network without `network`. `sandbox` says how strictly; see `SandboxMode`.
    """

    def __init__(
        self,
        registry: ToolRegistry,
        *,
        rules: Iterable[Rule | str] = (),
        approver: Approver | None = None,
        files: RootedFiles | None = None,
        working_dir: Path | str | None = None,
        spill: Spill | None = None,
        sandbox: SandboxMode = "auto",
        network: bool = False,
        hidden: Iterable[Path] = (),
    ) -> None:
        self.registry = registry
        self.rules = tuple([Rule.parse(rule) if isinstance(rule, str) else rule for rule in rules])
        self.approver = approver
        self.files = files
        if working_dir is None:
            self.working_dir = files.roots[0] if files is not None else None
        else:
            self.working_dir = Path(working_dir)
        folders = [] if self.working_dir is None else [self.working_dir]
        folders += files.roots if files is not None else ()
        self.sandbox = sandbox_for(sandbox, writable=folders, network=network, hidden=tuple(hidden))
        self.threads = Threads()
        self.spill = spill
        self._specs: tuple[ToolSpec, ...] = ()
        self._version = -1

    def specs(self) -> tuple[ToolSpec, ...]:
        """What the model is shown. The same tuple until the registry changes."""
        if self._version != self.registry.version:
            self._version = self.registry.version
            self._specs = self.registry.specs()
        return self._specs

    def concurrency_safe(self, use: ToolUse) -> bool:
        """This call may run beside its neighbours; not one that a person might be asked about."""
        entry = self.registry.entry(use.name)
        if entry is None or not entry.concurrency_safe:
            return False
        return self.approver is None or needs_no_rule(entry)

    async def dispatch(self, use: ToolUse, index: int, state: PipelineState) -> ToolResultBlock:
        """Validate, permit, record, run; see `lorimer.tools.dispatch`."""
        return await dispatch(self, use, index, state.run)
