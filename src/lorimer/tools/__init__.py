"""Tools: what they are, which exist, and the only path of calls to them."""

from lorimer.core.errors import ToolExecutionError
from lorimer.core.tool import TextQuestion
from lorimer.tools.asking import AskLater
from lorimer.tools.base import (
    EFFECTS,
    NOT_DONE,
    Effect,
    NotDone,
    Tool,
    ToolContext,
    ToolInput,
    ToolResult,
)
from lorimer.tools.builtin import builtin_tools
from lorimer.tools.decorator import FunctionTool, tool
from lorimer.tools.policy.people import Person
from lorimer.tools.policy.rules import Rule
from lorimer.tools.registry import ToolRegistry
from lorimer.tools.toolset import Toolset

__all__ = [
    "EFFECTS",
    "NOT_DONE",
    "AskLater",
    "Effect",
    "FunctionTool",
    "NotDone",
    "Person",
    "Rule",
    "TextQuestion",
    "Tool",
    "ToolContext",
    "ToolExecutionError",
    "ToolInput",
    "ToolRegistry",
    "ToolResult",
    "Toolset",
    "builtin_tools",
    "tool",
]
