"""What objects of a program say of themselves in a debugger, a log or a test's failure."""

from __future__ import annotations

from pathlib import Path

from lorimer import PipelineBuilder, PipelinePresets, tool
from lorimer.journal import MemoryJournal, SQLiteJournal
from lorimer.models import CredentialBundle, Models, ProviderCredentials
from lorimer.run import Executor, Lane
from lorimer.session import SessionManager
from lorimer.testing import ScriptedModel
from lorimer.tools import ToolRegistry


@tool(effects=["read"])
def look(text: str) -> str:
    """Look."""
    return text


def test_objects_say_what_they_are(tmp_path: Path) -> None:
    registry, manager = ToolRegistry(), SessionManager()
    registry.register(look)
    chat = PipelinePresets.chat(model="scripted:echo", tools=registry)
    manager.create(chat, "one")
    chat.run_sync("hi")
    key = CredentialBundle({"openai": ProviderCredentials("sk-secret-key")}, env={})
    models = Models(key, providers={"mine": ScriptedModel(["a"])})
    journal = SQLiteJournal(tmp_path / "runs.db")
    assert [
        repr(each)
        for each in (
            look,
            registry,
            manager,
            chat.journal,
            journal,
            models,
            Executor(models=models, journal=MemoryJournal()),
            Lane("desk", 4),
            PipelineBuilder("mine"),
            chat.plan.stages[1],
            getattr(chat.plan.stages[1], "strategy"),  # noqa: B009
        )
    ] == [
        "<FunctionTool 'look'>",
        "<ToolRegistry: look>",
        "<SessionManager: 1 open>",
        "<MemoryJournal: 1 runs>",
        f"<SQLiteJournal {str(tmp_path / 'runs.db')!r}>",
        "<Models: the shipped providers, mine>",
        "<Executor of <Models: the shipped providers, mine>, journal <MemoryJournal: 0 runs>>",
        "<Lane 'desk': 0 of 4 running, 0 queued>",
        "<PipelineBuilder 'mine': 5 stages>",
        "<ContextStage 2 'context'>",
        "<SimpleLoad 'simple_load'>",
    ]
