"""Each battery is there for who wants it: left out it is off, and each has a form that needs
nothing set up."""

from __future__ import annotations

import pytest

from lorimer.models import Models
from lorimer.run import AgentLibrary, AuditLog, Executor, Invocation, Ports, SavedAgent
from lorimer.run.stores import MemoryAgents, MemoryAudit
from lorimer.testing import ScriptedModel
from lorimer.tools.policy.people import Person

pytestmark = pytest.mark.anyio


def executor(ports: Ports | None = None) -> Executor:
    models = Models(providers={"scripted": ScriptedModel(["hi"])})
    return Executor(models=models, tier="scripted:x", ports=ports)


async def test_row_82_batteries_are_opt_in_and_each_ships_a_default() -> None:
    ann = Person("ann")
    library = AgentLibrary(MemoryAgents())
    saved = await library.save(SavedAgent(name="guide", prompt="You guide."), ann)
    bare = await executor().run(saved.to_runnable(), "hello")
    assert (bare.status, bare.output, bare.warnings) == ("ok", "hi", [])
    log = AuditLog(MemoryAudit())
    ports = Ports(audit=log)
    result = await executor(ports).run(saved.to_runnable(), "hello", Invocation(caller_id="bob"))
    (run,) = await log.runs(subject=saved.id)
    assert (run.start.run_id, run.start.caller_id) == (result.run_id, "bob")
    assert run.close is not None and (run.close.status, run.close.output) == ("ok", "hi")
    await log.close()
