"""What the model of the documentation says: plausible answers, over real HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from lorimer.testing import FakeLLMServer
from lorimer.testing.fake_turn import SeenRequest, ToolCall, Turn
from lorimer.testing.faults import Status

SAYS: Mapping[str, str] = {
    "capital of France": "Paris.",
    "My name is Alice": "Hello, Alice.",
    "What is my name": "Alice.",
    "How many bolts": "There are 240 bolts.",
    "And nuts": "There are 75 nuts.",
    "Send the report": "The report is on its way.",
    "Write milk down": "It is written down.",
    "Invite Ann": "Ann is invited.",
    "Look at notes.md": "There is milk to be bought.",
}
"""Words of a question to its answer."""

CALLS: Mapping[str, Mapping[str, Mapping[str, object]]] = {
    "How many bolts": {"stock": {"article": "bolt"}},
    "And nuts": {"stock": {"article": "nut"}},
    "Invite Ann": {"invite": {"who": "Ann"}},
    "Write milk down": {"Write": {"file_path": "list.txt", "content": "milk"}},
    "Send the report": {"send": {"to": "ann@example.org", "text": "All is well."}},
    "note": {"note": {"text": "milk"}},
    "Look": {"Read": {"file_path": "notes.md"}},
}
"""Words of a question to the call made for it, if the tool is there."""


def provider() -> FakeLLMServer:
    """A server that answers whatever the pages ask."""
    return FakeLLMServer(answer)


def answer(request: SeenRequest) -> Turn:
    """A call first if one fits, then the answer."""
    messages = cast("list[dict[str, Any]]", request.body["messages"])
    asked = next(_text(m) for m in reversed(messages) if m["role"] == "user" and _text(m))
    if "wrong key" in asked:
        return Turn(faults=(Status(401),))
    if messages[-1]["role"] == "user" and _text(messages[-1]):
        tools = {
            _name(tool) for tool in cast("list[dict[str, Any]]", request.body.get("tools", []))
        }
        for words, calls in CALLS.items():
            wanted = {name: given for name, given in calls.items() if name in tools}
            if words in asked and wanted:
                return Turn(
                    tool_calls=tuple(
                        ToolCall(f"call_{request.number}_{name}", name, cast("Any", given))
                        for name, given in wanted.items()
                    )
                )
    return Turn(next((text for words, text in SAYS.items() if words in asked), "Done."))


def _name(tool: Mapping[str, Any]) -> str:
    return str(tool.get("name") or tool["function"]["name"])


def _text(message: Mapping[str, Any]) -> str:
    content = message["content"]
    if isinstance(content, str):
        return content if message["role"] == "user" else ""
    return " ".join(block["text"] for block in content if block["type"] == "text")
