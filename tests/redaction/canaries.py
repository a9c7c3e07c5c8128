"""Fifty secrets, each known in one way and leaked in another, and a run that leaks them all."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final
from urllib.parse import quote

from lorimer import CredentialBundle, ProviderCredentials
from lorimer.core.context import Safety
from lorimer.core.errors import APIError, ExecutorErrorCode, LorimerError, ToolExecutionError
from lorimer.core.events import Event
from lorimer.core.mail import send
from lorimer.core.messages import Message, TextBlock, ThinkingBlock, ToolUse
from lorimer.core.request import Request, TextDelta, ThinkingDelta, ToolInputDelta
from lorimer.core.stage import Stage
from lorimer.core.state import PipelineState
from lorimer.journal.export import export
from lorimer.journal.sqlite.store import SQLiteJournal
from lorimer.models import Models, ScriptedModel
from lorimer.models.recording import Recorder
from lorimer.models.redirected import Redirected
from lorimer.pipeline import Pipeline
from lorimer.presets import agent_manifest
from lorimer.stages.s06_api import Retry
from lorimer.stages.s21_yield import Formatter
from lorimer.tools import Rule, Tool, ToolContext, ToolInput, ToolResult
from lorimer.tools.policy.modes import Action

TABLE: Final[Mapping[str, tuple[str, str]]] = {
    # name: (how the process knows it, how it gets out)
    "text": ("env", "a tool's text"),
    "json": ("env", "a tool's data"),
    "json_key": ("env", "a key of a tool's data"),
    "blocks": ("env", "a tool's content blocks"),
    "second_line": ("env", "the end of a tool's text"),
    "twice": ("env", "a tool's text, twice in a row"),
    "tool_error": ("env", "an error that a tool raises"),
    "crash": ("env", "an exception that a tool raises"),
    "crash_cause": ("env", "the cause of such an exception"),
    "crash_group": ("env", "a group of exceptions"),
    "system_exit": ("env", "a SystemExit"),
    "progress": ("env", "a tool's progress"),
    "metadata": ("env", "a result's metadata"),
    "display": ("env", "a result's line for people"),
    "spill_head": ("env", "the head of a spilled result"),
    "spill_cut": ("env", "where a spilled result is cut"),
    "spill_blocks": ("env", "a long content block"),
    "effect": ("env", "an effect of a tool's own"),
    "effect_error": ("env", "an error of such an effect"),
    "base64_0": ("env", "base64"),
    "base64_1": ("env", "base64, one byte further"),
    "base64_2": ("env", "base64, two bytes further"),
    "base64_url": ("env", "base64 for URLs"),
    "hex": ("env", "hexadecimal"),
    "hex_upper": ("env", "hexadecimal in capitals"),
    "percent": ("env", "part of a URL"),
    "escaped": ("env", "JSON in a tool's text"),
    "file": ("env", "a file that is read"),
    "grep": ("env", "a file that is searched"),
    "command": ("env", "the output of a command"),
    "arguments": ("env", "the arguments of a call"),
    "raw_arguments": ("env", "arguments that are no JSON"),
    "tool_name": ("env", "the name of a tool that is not there"),
    "answer": ("env", "a model's answer"),
    "pieces": ("env", "pieces of a model's answer"),
    "thinking": ("env", "a model's reasoning"),
    "input_pieces": ("env", "pieces of arguments"),
    "api_error": ("env", "an error of a provider"),
    "api_partial": ("env", "an answer that broke off"),
    "task": ("env", "the task"),
    "message": ("env", "a message to the run"),
    "stage_message": ("env", "a message that a stage adds"),
    "output": ("env", "the output"),
    "handler": ("env", "an exception of a handler"),
    "rule": ("env", "a rule that denies"),
    "url_password": ("url", "a tool's text"),
    "api_key": ("key", "a tool's text"),
    "header": ("header", "an exception that a tool raises"),
    "host_file": ("variable", "a tool's text"),
    "declared": ("declared", "a spilled result"),
}

AGENT_STAGE = "adds_a_message"


def value_of(name: str) -> str:
    """Distinct, and with every character that some form of it has to change."""
    seed = base64.b64encode(name.encode() * 3).decode().rstrip("=")[:18]
    odd = '"\\ü' if name in ("escaped", "percent") else "+"
    odd += "" if name == "url_password" else "/"
    return f"cnry-{seed}{odd}{len(name)}Zq~{name[::-1]}"


def forms_of(name: str) -> list[bytes]:
    """What would be a leak."""
    value = value_of(name)
    raw = value.encode()
    found = {raw, raw.hex().encode(), raw.hex().upper().encode(), quote(value, safe="").encode()}
    for narrow in (True, False):  # JSON, and JSON in JSON
        once = json.dumps(value, ensure_ascii=narrow)[1:-1]
        found |= {once.encode(), json.dumps(once)[1:-1].encode()}
    for skipped in range(3):
        text = base64.b64encode(b"x" * skipped + raw)[4:-4]
        found |= {text, text.replace(b"+", b"-").replace(b"/", b"_")}
    found.add(raw[: len(raw) - 3])  # nearly all of it is as good
    return sorted(found)


def variable_of(name: str) -> str:
    """The variable that it is in, if it is in one."""
    return "ODD_NAME" if name == "host_file" else f"{name.upper()}_TOKEN"


def environment() -> dict[str, str]:
    found = {
        variable_of(name): value_of(name)
        for name, (known, _) in TABLE.items()
        if known in ("env", "variable")
    }
    return found | {"DATABASE_URL": f"postgres://me:{value_of('url_password')}@localhost/db"}


def shown_as(name: str) -> str:
    """What stands in its place."""
    known = TABLE[name][0]
    named = {"url": "DATABASE_URL", "key": "anthropic key", "header": "X-Api-Key"}
    named |= {"variable": "vendor key", "declared": "secret"}
    return f"[redacted:{named.get(known) or variable_of(name)}]"


class Leak(Tool):
    name = "leak"
    description = "Leaks."
    input_schema = {  # noqa: RUF012
        "type": "object",
        "properties": {"name": {"type": "string"}, "more": {}},
    }
    effects = frozenset({"read"})

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        name = input["name"]
        value = value_of(name)
        raw = value.encode()
        long = "word " * 12_000
        texts = {
            "second_line": f"first\nsecond {value}",
            "twice": f"{value}{value}",
            "base64_0": base64.b64encode(raw).decode(),
            "base64_1": base64.b64encode(b"x" + raw + b"yz").decode(),
            "base64_2": base64.b64encode(b"xy" + raw + b"z").decode(),
            "base64_url": base64.urlsafe_b64encode(raw).decode(),
            "hex": raw.hex(),
            "hex_upper": raw.hex().upper(),
            "percent": f"https://example.org/?q={quote(value, safe='')}",
            "escaped": json.dumps({"inside": value}),
            "spill_head": f"{value} {long}",
            "spill_cut": _around_the_cut(value, context.max_result_chars),
            "declared": f"{long} {value} {long}",
        }
        match name:
            case "json":
                return ToolResult({"a": [value]})
            case "json_key":
                return ToolResult({value: 1})
            case "blocks":
                return ToolResult([TextBlock("see"), TextBlock(value)])
            case "spill_blocks":
                return ToolResult([TextBlock(f"{long}{value}")])
            case "tool_error":
                raise ToolExecutionError(f"refused {value}")
            case "crash" | "header":
                raise RuntimeError(f"refused {value}")
            case "crash_cause":
                raise RuntimeError("refused") from ValueError(value)
            case "crash_group":
                raise ExceptionGroup("several", [ValueError(value)])
            case "system_exit":
                raise SystemExit(value)
            case "progress":
                context.progress(f"sending {value}")
            case "metadata":
                return ToolResult("done", metadata={"sent": value})
            case "display":
                return ToolResult("done", display=f"sent {value}")
            case "effect" | "effect_error":
                await _own_effect(name, value, context)
            case _:
                return ToolResult(texts.get(name, f"it is {value}"))
        return ToolResult("done")


def _around_the_cut(value: str, limit: int) -> str:
    """The secret lies over every place where a result of that limit may be cut."""
    size = len(value) + 1
    return " ".join([value] * (4 * limit // size))


async def _own_effect(name: str, value: str, context: ToolContext) -> None:
    async def call() -> Mapping[str, Any]:
        if name == "effect_error":
            raise ToolExecutionError(f"refused {value}")
        return {"sent": value}

    run = context.run
    assert run is not None
    try:
        await run.effect("own", name, call, request=name.encode(), safety=Safety.READ_ONLY)
    except LorimerError:
        pass


class Adds(Stage[object, object]):
    name, order = AGENT_STAGE, 1

    async def execute(self, input: object, state: PipelineState) -> object:
        state.messages.append(Message("user", (TextBlock(value_of("stage_message")),)))
        return input


class Again(Retry):
    name = "again"

    def delay_s(self, error: APIError, attempt: int, dice: Random) -> float | None:
        return 0.0


class Says(Formatter):
    name = "says"

    def format(self, state: PipelineState) -> object:
        return {"output": value_of("output")}


@dataclass
class Outcome:
    """What was written anywhere, by the name of the place."""

    sinks: dict[str, bytes] = field(default_factory=dict[str, bytes])
    replayed: str = ""
    resumed: str = ""
    seen: str = ""
    """All that the model was sent."""


def _script() -> list[Any]:
    """Every call of the table, a few a turn, and what a model says itself."""
    calls = [
        ToolUse(f"c{number}", "leak", {"name": name})
        for number, (name, (_, how)) in enumerate(TABLE.items())
        if name not in _BY_OTHERS
    ]
    turns: list[Any] = [calls[at : at + 8] for at in range(0, len(calls), 8)]
    pieces, more = value_of("pieces"), value_of("input_pieces")
    arguments = json.dumps({"name": "text", "more": more}, ensure_ascii=False)
    turns += [
        [
            ToolUse("f", "Read", {"file_path": "file.txt"}),
            ToolUse("g", "Grep", {"pattern": "cnry", "path": "grep.txt", "output_mode": "content"}),
            ToolUse("b", "Bash", {"command": "cat command.txt"}),
            ToolUse("r", "Bash", {"command": f"echo {value_of('rule')}"}),
        ],
        [
            ThinkingDelta("hm "),
            *[ThinkingDelta(letter) for letter in value_of("thinking")],
            ThinkingBlock(f"hm {value_of('thinking')}", "signed"),
            TextBlock(f"I know {value_of('answer')}"),
            ToolUse("a", "leak", {"name": "text", "more": value_of("arguments")}),
            ToolUse("w", "leak", {}, f'{{"name": {value_of("raw_arguments")}'),
            ToolUse("n", value_of("tool_name")[:60], {}),
        ],
        APIError(f"busy {value_of('api_error')}", code=ExecutorErrorCode.EXEC_API_RATE_LIMITED),
        [
            *[TextDelta(letter) for letter in f"so {pieces} it "],
            ToolInputDelta(0, "", "leak"),
            *[ToolInputDelta(0, letter) for letter in arguments],
            TextBlock(f"so {pieces} it "),
            ToolUse("p", "leak", {"name": "text", "more": more}),
        ],
        [
            TextDelta("so far "),
            TextDelta(value_of("api_partial")),
            APIError("lost", code=ExecutorErrorCode.EXEC_API_STREAM_INCOMPLETE),
        ],
        "the end",
    ]
    return turns


_BY_OTHERS: Final = frozenset(
    "file grep command rule arguments raw_arguments tool_name answer pieces thinking input_pieces"
    " api_error api_partial task message stage_message output handler".split()
)


def _broken(event: Event) -> None:
    raise RuntimeError(f"no room for {value_of('handler')}")


def pipeline(
    journal: SQLiteJournal, models: Any, workspace: Path, on: Callable[[Event], None]
) -> Pipeline:
    manifest = agent_manifest(model="scripted:any")
    manifest.tools.built_in = ["Read", "Grep", "Bash"]
    manifest.stages["api"].config["after_release"] = "continue"
    made = Pipeline(
        manifest,
        models=models,
        journal=journal,
        tools=[Leak()],
        workspace=workspace,
        permission_mode="acceptEdits",
        rules=[
            Rule.parse("Bash(cat command.txt)"),
            Rule.parse(f"Bash(echo {value_of('rule')})", action=Action.DENY),
        ],
        secrets=[value_of("declared")],
    )
    made.register_stage(Adds())
    made.swap_strategy("yield", "formatter", Says)
    made.swap_strategy("api", "retry", Again)
    made.on("*", on)
    made.on("iteration.end", _broken)
    return made


async def leak_all(place: Path) -> Outcome:
    """Everything, once; the environment has to be `environment()`."""
    outcome = Outcome()
    heard, recording = io.StringIO(), io.StringIO()
    logged = io.StringIO()
    handler = logging.StreamHandler(logged)
    handler.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))
    ours = logging.getLogger("lorimer")
    before = ours.level
    ours.addHandler(handler)
    ours.setLevel(logging.DEBUG)
    workspace = place / "work"
    workspace.mkdir()
    for name in ("file", "grep", "command"):
        (workspace / f"{name}.txt").write_text(f"it is {value_of(name)}\n")
    credentials = CredentialBundle(
        {
            "anthropic": ProviderCredentials(
                value_of("api_key"), default_headers={"X-Api-Key": value_of("header")}
            )
        }
    )
    model = ScriptedModel(_script(), record=True)
    models = Models(
        credentials,
        providers={"scripted": model, "vendor": Redirected("vendor", key_env="ODD_NAME")},
    )
    store = place / "runs.db"

    def listen(event: Event) -> None:
        data = {name: value for name, value in event.data.items() if name != "result"}
        heard.write(json.dumps([event.type, data, event.stage], ensure_ascii=False) + "\n")
        if event.type == "tool.call_start" and not sent:
            sent.append(asyncio.ensure_future(tell(event.run_id)))

    sent: list[asyncio.Future[bool]] = []

    async def tell(run_id: str) -> bool:
        return await send(journal, run_id, f"use {value_of('message')}", id="one")

    journal = SQLiteJournal(store)
    try:
        recorder = Recorder(models, lambda line: print(line, file=recording))
        made = pipeline(journal, recorder, workspace, listen)
        result = await made.run(f"use {value_of('task')}", raise_on_error=False)
        await asyncio.gather(*sent)
        outcome.sinks["result"] = json.dumps(result.to_json(), ensure_ascii=False).encode()
        if result.exception is not None:
            outcome.sinks["result"] += "".join(
                traceback.format_exception_only(result.exception)
            ).encode()
        outcome.sinks["facts"] = _plain(fact.to_json() for fact in result.events)
        outcome.seen = json.dumps(
            [_sent(request) for request in model.requests], ensure_ascii=False
        )
        replayed = await made.replay(result.run_id)
        outcome.replayed = str(replayed.divergence)
        lines = [line.encode() async for line in export(journal, result.run_id)]
        outcome.sinks["export"] = b"\n".join(lines)
        await made.aclose()
    finally:
        await journal.close()
        ours.removeHandler(handler)
        ours.setLevel(before)
    outcome.sinks["store"] = b"".join(
        [path.read_bytes() for path in sorted(place.glob("runs.db*"))]
    )
    outcome.sinks["spill"] = b"".join(
        [path.read_bytes() for path in sorted(workspace.glob(".lorimer/**/*")) if path.is_file()]
    )
    outcome.sinks["signals"] = heard.getvalue().encode()
    outcome.sinks["recording"] = recording.getvalue().encode()
    outcome.sinks["log"] = logged.getvalue().encode()
    return outcome


def _sent(request: Request) -> object:
    return [message.to_json() for message in request.messages]


def _bytes(line: object) -> bytes:
    return json.dumps(line, ensure_ascii=False).encode()


def _plain(rows: Iterable[object]) -> bytes:
    return b"\n".join([_bytes(row) for row in rows])
