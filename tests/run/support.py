"""Executors on a scripted model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lorimer.core.messages import ToolUse
from lorimer.core.request import Usage
from lorimer.models import Models
from lorimer.models.pricing import Price
from lorimer.run import Executor, RunnableAgent
from lorimer.testing import ScriptedModel

WORKER = RunnableAgent("worker", prompt="You work.", tools=("work",))


def use(tool: str = "work", id: str = "", **input: Any) -> list[ToolUse]:
    """A reply that calls a tool."""
    return [ToolUse(id or f"{tool}_{len(input)}", tool, input)]


def model_of(replies: Sequence[Any] | Any, **options: Any) -> ScriptedModel:
    return ScriptedModel(replies, **{"usage": Usage(100, 10), "price": Price(1.0, 1.0), **options})


def executor_of(replies: Sequence[Any] | Any, **options: Any) -> Executor:
    """Its fallback tier is the scripted model."""
    model = replies if isinstance(replies, ScriptedModel) else model_of(replies)
    return Executor(models=Models(providers={"scripted": model}), tier="scripted:x", **options)
