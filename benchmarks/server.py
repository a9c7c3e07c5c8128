"""The provider of rows 6 and 7, in a process of its own so that its work is not counted:
`python -m benchmarks.server calls 10` or `... deltas 2000`.

Says its address, then answers each line on standard input with what it has heard so far.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping

from lorimer.testing import FakeLLMServer
from lorimer.testing.fake_server import SeenRequest, ToolCall, Turn


def script(kind: str, count: int) -> Callable[[SeenRequest], Turn]:
    """What it answers: `count` tool calls, or one answer in `count` deltas."""
    answer = Turn(text=tuple([f"word{number % 10} " for number in range(count)]))

    def play(request: SeenRequest) -> Turn:
        if kind == "deltas":
            return answer
        if request.wire == "responses":
            said, mark = request.body["input"], ("type", "function_call")
        elif request.wire == "google":
            said, mark = request.body["contents"], ("role", "model")
        else:
            said, mark = request.body["messages"], ("role", "assistant")
        assert isinstance(said, list)
        asked = sum(isinstance(one, Mapping) and mark in one.items() for one in said)
        if asked == count:
            return Turn(text="done")
        return Turn(tool_calls=(ToolCall(f"call_{asked}", "work", {"n": asked}),))

    return play


def heard(server: FakeLLMServer) -> dict[str, int]:
    """How many requests, and how many bytes of JSON in them."""
    size = sum(len(json.dumps(request.body)) for request in server.requests)
    return {"requests": len(server.requests), "bytes": size}


def main() -> None:
    """Serve until standard input ends."""
    with FakeLLMServer(script(sys.argv[1], int(sys.argv[2]))) as server:
        print(server.url, flush=True)
        for _ in sys.stdin:
            print(json.dumps(heard(server)), flush=True)


if __name__ == "__main__":
    main()
