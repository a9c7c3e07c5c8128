"""What a host may plug into an executor. Each port is documented with its default
implementation."""

from __future__ import annotations

from typing import Final

from lorimer.core.arguments import check_port
from lorimer.core.record import record
from lorimer.run.attachments import Attachments
from lorimer.run.audit.port import Audit
from lorimer.run.budget import Budget
from lorimer.run.config import Config
from lorimer.run.critic.port import Critic
from lorimer.run.delivery import Delivery
from lorimer.run.identity import Identity
from lorimer.run.inputs import InputFiles
from lorimer.run.palette import Palette


@record
class Ports:
    """What a host plugs into an executor. Each is optional: without it, its feature is off. A port
    that raises or hangs costs a run a warning, never its result (except for the budget); each call
    has `limits.cleanup_s` seconds."""

    audit: Audit | None = None
    """Is notified of each run, including those of agents that are given work. Shipped:
    `AuditLog`."""
    attachments: Attachments | None = None
    """Where tools park files for the answer; those of sub-agents accompany the answer of the root
    run."""
    budget: Budget | None = None
    """Who pays for a run; a run that it refuses, or cannot decide about, is not run. Shipped:
    `CallerBudgets`, `TotalBudget`, `AllBudgets`."""
    config: Config | None = None
    """Settings that may change at runtime: `run.max_turns`, `run.timeout_s` and `run.max_cost_usd`
    override the executor's limits, `lanes.<name>.max_concurrent` the cap of its lane. Shipped:
    `EnvironmentConfig`."""
    critic: Critic | None = None
    """Supervises long runs of agents that ask for it. Shipped: `IdleCritic`."""
    delivery: Delivery | None = None
    """Posts answers and errors to an invocation's `delivery`. Shipped: `Stdout`, `Discard`."""
    input_files: InputFiles | None = None
    """Stores the files of invocations. Shipped: `InMemoryInputFiles`, `FolderInputFiles`. Without
    it files other than images are left out."""
    identity: Identity | None = None
    """Knows the roles of callers. Shipped: `Listed`. Without it nobody has any."""
    palette: Palette | None = None
    """Finds the skills and agents that agents may delegate to. Shipped: `FixedPalette`. Without it
    there is no delegation; if it fails, an agent that names some ends with an error."""

    def __post_init__(self) -> None:
        for name, kind, example in _PORTS:
            if (port := getattr(self, name)) is not None:
                check_port(f"Ports.{name}", port, kind, example)


_PORTS: Final = (
    ("audit", Audit, "AuditLog(SQLiteAudit(path))"),
    ("attachments", Attachments, "Attachments()"),
    ("budget", Budget, "CallerBudgets(usd=5)"),
    ("config", Config, "EnvironmentConfig()"),
    ("critic", Critic, "IdleCritic()"),
    ("delivery", Delivery, "Stdout()"),
    ("input_files", InputFiles, "InMemoryInputFiles()"),
    ("identity", Identity, 'Listed(admins=["ann"])'),
    ("palette", Palette, "FixedPalette(agents=[...])"),
)
