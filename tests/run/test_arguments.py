"""What a host writes wrongly is told where it is written, in words: most have no type checker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lorimer.core.errors import ConfigError
from lorimer.models import CredentialBundle, Models
from lorimer.run import (
    AuditLog,
    CallerBudgets,
    Executor,
    FixedPalette,
    IdleCritic,
    Invocation,
    Ports,
    RunnableAgent,
)
from tests.run.support import executor_of
from tests.run.test_executor import Work

pytestmark = pytest.mark.anyio

X: Any = None  # so that type checkers let it pass
WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "models": (lambda: Executor(models=X or "gpt-5"), "ModelResolver, and 'gpt-5' has no resolve"),
    "option": (lambda: executor_of([], jornal=1), "no option 'jornal'; did you mean 'journal'"),
    "ports": (lambda: executor_of([], ports={}), "ports must be Ports, not dict"),
    "lane": (lambda: executor_of([], lane=3), "lane must be a Lane, not int"),
    "port": (lambda: Ports(budget=X or 5), "Ports.budget must be a Budget, and 5 has no admit"),
    "class": (lambda: Ports(critic=X or IdleCritic), "'IdleCritic' is a class, not made yet"),
    "store": (lambda: AuditLog(X or "a.db"), "store must be an AuditStore, and 'a.db'"),
    "tool": (lambda: RunnableAgent(tools=X or [Work()]), "must be text, not Work"),
    "phase": (lambda: RunnableAgent(phases=X or 3), "a list, and each a Phase"),
    "turns": (lambda: RunnableAgent(max_turns=X or "3"), "max_turns must be a number, not str"),
    "name": (lambda: RunnableAgent(X or 3), "RunnableAgent.name must be text, not int"),
    "caller": (lambda: Invocation(caller_id=X or 42), "caller_id must be text, not int"),
    "image": (lambda: Invocation(images=X or [b""]), "must be an ImageBlock, not bytes"),
    "target": (lambda: Invocation(delivery=X or "42"), "delivery must be a Target, not str"),
    "on_step": (lambda: Invocation(on_step=X or 5), "on_step must be a function, not int"),
    "window": (lambda: CallerBudgets(usd=1, window=X or 7), "window must be a timedelta, not int"),
    "agents": (lambda: FixedPalette(agents=X or ["a"]), "each of agents must be a RunnableAgent"),
}


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
