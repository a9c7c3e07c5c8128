"""What a host writes wrongly is told where it is written, in words: most have no type checker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from lorimer.core.errors import ConfigError
from lorimer.core.purse import Purse
from lorimer.models import CredentialBundle, Models
from lorimer.run import (
    AgentLibrary,
    AllBudgets,
    Artifact,
    AuditLog,
    CallerBudgets,
    Executor,
    ExtendOnce,
    FixedPalette,
    FolderInputFiles,
    IdleCritic,
    Invocation,
    Lane,
    Listed,
    Phase,
    Ports,
    RunnableAgent,
    SavedAgent,
    Skill,
    Target,
    read_builtins,
)
from lorimer.run.stores import MemoryAgents, MemoryAudit
from lorimer.tools import Person
from tests.run.support import executor_of
from tests.run.test_executor import Work

pytestmark = pytest.mark.anyio

X: Any = None  # so that type checkers let it pass
WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "models": (lambda: Executor(models=X or "gpt-5"), "ModelResolver, and text has no resolve"),
    "option": (lambda: executor_of([], jornal=1), "no option 'jornal'; did you mean 'journal'"),
    "ports": (lambda: executor_of([], ports={}), "ports must be Ports, not dict"),
    "lane": (lambda: executor_of([], lane=3), "lane must be a Lane, not int"),
    "port": (
        lambda: Ports(budget=X or 5),
        "Ports.budget must be a Budget, and an int has no admit",
    ),
    "class": (lambda: Ports(critic=X or IdleCritic), "'IdleCritic' is a class, not made yet"),
    "store": (lambda: AuditLog(X or "a.db"), "store must be an AuditStore, and text has"),
    "tool": (lambda: RunnableAgent(tools=X or [Work()]), "must be text, not Work"),
    "phase": (lambda: RunnableAgent(phases=X or 3), "a list, and each a Phase"),
    "turns": (
        lambda: RunnableAgent(max_turns=X or "3"),
        "max_turns must be a whole number",
    ),
    "name": (lambda: RunnableAgent(X or 3), "RunnableAgent.name must be text, not int"),
    "caller": (lambda: Invocation(caller_id=X or 42), "caller_id must be text, not int"),
    "image": (lambda: Invocation(images=X or [b""]), "must be an ImageBlock, not bytes"),
    "target": (lambda: Invocation(delivery=X or "42"), "delivery must be a Target, not str"),
    "on_step": (lambda: Invocation(on_step=X or 5), "on_step must be a function, not int"),
    "cap": (lambda: Lane("x", X or "2"), "the cap of 'x' must be a whole number, not str"),
    "policy": (lambda: IdleCritic(X or ExtendOnce(X)), "policy must be a class, or a function of"),
    "seconds": (lambda: RunnableAgent(timeout_s=float("nan")), "timeout_s is not a number"),
    "world": (lambda: executor_of([], world=3), "world must be a World, and an int has no time"),
    "approver": (
        lambda: executor_of([], approver=3),
        "must be an Approver, and an int has no approve",
    ),
    "mode": (lambda: executor_of([], permission_mode="yolo"), "there is no permission mode 'yolo'"),
    "rule": (lambda: executor_of([], rules=["Bash("]), "'Bash(' is not a rule"),
    "no rule": (lambda: executor_of([], rules=[3]), "each of rules must be a Rule, not int"),
    "workspace": (lambda: executor_of([], workspace="/no/such"), "'/no/such' is not a folder"),
    "sandbox": (lambda: executor_of([], sandbox="L9"), "sandbox is 'L9'; it may be"),
    "channel": (lambda: Target("channel", X or 42), "Target.id must be text, not int"),
    "artifact": (lambda: Artifact("a", "b", X or "c"), "Artifact.data must be bytes, not str"),
    "phase turns": (lambda: Phase("a", max_turns=X or "3"), "Phase.max_turns must be a whole"),
    "phase tools": (lambda: Phase("a", tools=X or 3), "Phase.tools must be a list, and each text"),
    "max queued": (lambda: Lane("x", max_queued=X or "5"), "max_queued must be a whole number"),
    "level": (lambda: Lane("x", level=X or "1"), "level must be a whole number, not str"),
    "lane and key": (lambda: Lane("x", X or "2", per_key={"x": 1}), "must be a whole number"),
    "phase name": (lambda: Phase(X or 3), "Phase.name must be text, not int"),
    "skill": (lambda: Skill(X or "helper"), "Skill.agent must be a RunnableAgent, not str"),
    "admins": (lambda: Listed(admins=X or 3), "admins must be a list, and each text"),
    "groups": (lambda: Listed(groups=X or ["ann"]), "groups must be a mapping, not list"),
    "per caller": (lambda: CallerBudgets(usd=1, per_caller=X or ["ann"]), "must be a mapping"),
    "a caller": (lambda: CallerBudgets(usd=1, per_caller=X or {3: 1.0}), "text, not int"),
    "budgets": (lambda: AllBudgets(X or 5), "a budget must be a Budget, and an int has no admit"),
    "inputs of a skill": (
        lambda: Skill(RunnableAgent(), X or "a place"),
        "Skill.inputs must be a JSON Schema",
    ),
    "lane name": (lambda: Lane(X or 4), "lane: its name must be text, not int"),
    "multiplier": (lambda: IdleCritic(multiplier=X or "x"), "must be a number, not str"),
    "key": (lambda: AuditLog(MemoryAudit(), key=X or "a" * 20), "key must be bytes, not str"),
    "agents store": (lambda: AgentLibrary(X or "a.db"), "store must be a SavedStore, and text has"),
    "folder": (lambda: FolderInputFiles(X or "inputs"), "files must be RootedFiles, not str"),
    "documents": (lambda: read_builtins(X or "a.yaml"), "must be a mapping of names to texts"),
    "person": (lambda: Person(X or 3), "Person.name must be text, not int"),
    "manifest": (lambda: executor_of([]).manifest(X or "guide"), "agent must be a RunnableAgent"),
    "window": (lambda: CallerBudgets(usd=1, window=X or 7), "window must be a timedelta, not int"),
    "purse": (lambda: Purse(X or 3, 5), "the name of a budget must be text, not int"),
    "purse's window": (lambda: Purse("a:b", 5, X or "7d"), "its window must be a number of sec"),
    "agents": (lambda: FixedPalette(agents=X or ["a"]), "each of agents must be a RunnableAgent"),
}


def test_one_name_is_a_list_of_one() -> None:
    async def main() -> None:
        people = Listed(admins="ann", groups={"staff": "ben"})
        assert await people.is_admin("ann")
        assert not await people.is_admin("a")
        assert await people.groups("ben") == ["staff"]

    asyncio.run(main())


async def test_what_is_gone_on_with_by_a_wrong_invocation_is_told() -> None:
    for go_on in (executor_of([]).resume, executor_of([]).finish):
        with pytest.raises(ConfigError, match="invocation must be an Invocation, not dict"):
            await go_on(RunnableAgent(), "run_1", X or {"caller_id": "ann"})
        with pytest.raises(ConfigError, match="run_id is empty"):
            await go_on(RunnableAgent(), "")


async def test_a_tool_that_nobody_has_is_told_with_those_of_the_host() -> None:
    result = await executor_of([], tools=[Work()]).run(RunnableAgent(tools=("wrok",)), "go")
    assert result.error.startswith(
        "the agent 'agent' names the tool 'wrok', which neither this executor nor Lorimer has; "
        "did you mean 'work'?"
    )


async def test_a_library_asks_for_an_agent_and_a_person() -> None:
    library = AgentLibrary(MemoryAgents(), threads=False)
    with pytest.raises(ConfigError, match="agent must be a SavedAgent, not dict"):
        await library.save(X or {"name": "poet"}, Person("ann"))
    for asked in (library.save(SavedAgent(name="poet"), X or "ann"), library.list(X or "ann")):
        with pytest.raises(ConfigError, match="by must be a Person, not str"):
            await asked
    with pytest.raises(ConfigError, match="by must be a Person, not str"):
        await library.get("poet", X or "ann")


@pytest.mark.parametrize("what", WRONG)
def test_an_argument_of_the_wrong_kind_is_told_at_once(what: str) -> None:
    make, words = WRONG[what]
    with pytest.raises(ConfigError) as caught:
        make()
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (("guide",), "agent must be a RunnableAgent, not str"),
        ((RunnableAgent(), {"q": 1}), "input must be text, not dict"),
        ((RunnableAgent(), "hi", "ann"), "invocation must be an Invocation, not str"),
    ],
    ids=["agent", "input", "invocation"],
)
async def test_so_is_one_of_a_call_and_nothing_is_run(asked: Any, words: str) -> None:
    executor = executor_of(["never"])
    for call in (executor.run, executor.start):
        with pytest.raises(ConfigError, match=words):
            await call(*asked)
    assert not await executor.journal.runs()


async def test_an_agent_without_a_model_on_a_host_without_the_tier_is_told_of_tiers() -> None:
    key = CredentialBundle(env={"ANTHROPIC_API_KEY": "sk-ant-not-a-key"})
    result = await Executor(models=Models(key)).run(RunnableAgent("guide"), "hi")
    assert result.status == "error"
    assert "the model 'fast' of the agent 'guide' cannot be used: there is no such" in result.error
    assert isinstance(result.exception, ConfigError)
    assert "Tiers({'fast'" in result.exception.hint
