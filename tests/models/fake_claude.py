"""A `claude` program of our own: keeps how it was called, and says what it was told to."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorimer.models import CredentialBundle, Models
from lorimer.models.credentials import ProviderCredentials

_PROGRAM = """#!{python} -IS
import json, os, sys, time
here = os.path.dirname(os.path.abspath(__file__))
called = {{"argv": sys.argv[1:], "cwd": os.getcwd(), "env": dict(os.environ)}}
called["stdin"] = sys.stdin.read()
with open(here + "/called", "w") as file:
    json.dump(called, file)
play = json.load(open(here + "/play"))
sys.stderr.write(play["stderr"])
for line in play["lines"]:
    if line == "HANG":
        if os.fork() == 0:
            os.setsid()
        open(here + "/hangs", "a").write("%d\\n" % os.getpid())
        time.sleep(600)
    sys.stdout.write(line + play["end"])
    sys.stdout.flush()
sys.exit(play["code"])
"""


@dataclass
class FakeClaude:
    """In a folder of its own."""

    folder: Path

    def __post_init__(self) -> None:
        self.program = self.folder / "claude"
        self.program.write_text(_PROGRAM.format(python=sys.executable))
        self.program.chmod(0o755)

    def say(
        self, lines: Sequence[Any], *, code: int = 0, stderr: str = "", end: str = "\n"
    ) -> None:
        """What it writes; a text is a line as it is, `HANG` waits for ever, with a child."""
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        play = {"lines": texts, "code": code, "stderr": stderr, "end": end}
        (self.folder / "play").write_text(json.dumps(play))

    @property
    def called(self) -> dict[str, Any]:
        """`argv`, `cwd`, `env` and `stdin` of its last call."""
        return json.loads((self.folder / "called").read_text())

    def option(self, name: str) -> str:
        """The word behind an option."""
        argv = self.called["argv"]
        return argv[argv.index(name) + 1]

    @property
    def asked(self) -> list[dict[str, Any]]:
        """The content of the one message that it was given."""
        (line,) = self.called["stdin"].splitlines()
        told = json.loads(line)
        assert told["type"] == told["message"]["role"] == "user"
        return told["message"]["content"]

    def models(
        self, env: Mapping[str, str] | None = None, given: ProviderCredentials | None = None
    ) -> Models:
        """Models that find it by its variable."""
        own = {} if given is None else {"claude_code_cli": given}
        return Models(
            CredentialBundle(own, env={"CLAUDE_CODE_BINARY": str(self.program), **(env or {})})
        )


def event(type: str, **data: Any) -> dict[str, Any]:
    """One of Anthropic's events, as the program passes it on."""
    return {"type": "stream_event", "event": {"type": type, **data}, "session_id": "s"}


INIT = {
    "type": "system",
    "subtype": "init",
    "session_id": "s",
    "model": "claude-sonnet-4-6",
    "tools": [],
    "mcp_servers": [],
    "permissionMode": "default",
    "apiKeySource": "none",
}
USAGE = {"input_tokens": 12, "output_tokens": 7, "cache_read_input_tokens": 3}


def message(*blocks: dict[str, Any], id: str = "msg_1") -> dict[str, Any]:
    """A whole message; the program writes one for each block."""
    return {
        "type": "assistant",
        "message": {
            "id": id,
            "type": "message",
            "role": "assistant",
            "model": "claude-sonnet-4-6",
            "content": list(blocks),
            "stop_reason": None,
            "usage": {"input_tokens": 12, "output_tokens": 1},
        },
    }


def result(text: str = "", **data: Any) -> dict[str, Any]:
    """The last line."""
    return {
        "type": "result",
        "subtype": "success",
        "is_error": False,
        "result": text,
        "num_turns": 1,
        "total_cost_usd": 0.0125,
        "usage": USAGE,
        "permission_denials": [],
        **data,
    }


def streamed(*texts: str, thinking: str = "", stop: str = "end_turn") -> list[dict[str, Any]]:
    """The lines of a good answer."""
    start = {"id": "msg_1", "model": "claude-sonnet-4-6", "usage": {"input_tokens": 12}}
    lines = [INIT, event("message_start", message=start)]
    index = 0
    if thinking:
        block = {"type": "thinking", "thinking": "", "signature": ""}
        lines.append(event("content_block_start", index=0, content_block=block))
        delta = {"type": "thinking_delta", "thinking": thinking}
        lines.append(event("content_block_delta", index=0, delta=delta))
        delta = {"type": "signature_delta", "signature": "sealed"}
        lines.append(event("content_block_delta", index=0, delta=delta))
        lines.append(event("content_block_stop", index=0))
        index = 1
    block = {"type": "text", "text": ""}
    lines.append(event("content_block_start", index=index, content_block=block))
    for text in texts:
        delta = {"type": "text_delta", "text": text}
        lines.append(event("content_block_delta", index=index, delta=delta))
    lines.append(message({"type": "text", "text": "".join(texts)}))
    lines.append(event("content_block_stop", index=index))
    lines.append(event("message_delta", delta={"stop_reason": stop}, usage={"output_tokens": 7}))
    lines.append(event("message_stop"))
    lines.append(result("".join(texts)))
    return lines
