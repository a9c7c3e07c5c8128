"""What is outside of the process and survives its death: the model's maker, what tools have done
to the world, whoever is asked. All of it notes what happens as marks, for the audit."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

from lorimer.core.context import Safety, short_hash
from lorimer.core.errors import APIError, ExecutorErrorCode, ToolExecutionError
from lorimer.core.journal import Journal
from lorimer.core.jsonable import canonical, dumps
from lorimer.core.mail import send
from lorimer.core.messages import TextBlock, ThinkingBlock, ToolUse
from lorimer.core.request import (
    Delta,
    Request,
    Response,
    StopReason,
    TextDelta,
    ToolInputDelta,
    Usage,
    UsageDelta,
)
from lorimer.core.world import World
from lorimer.testing.marks import MODEL, Mark
from lorimer.tools import Tool, ToolContext, ToolResult
from lorimer.tools.base import Check, ToolInput
from lorimer.tools.schema import compile_schema
from tests.campaign.seams import Seams, forever
from tests.campaign.vendors import refused

CODE = ExecutorErrorCode
SOME = Usage(20, 10)
NANO_IN, NANO_OUT = 3_000, 15_000
MAX_TOKENS = 200


@dataclass(frozen=True)
class Fault:
    """How one attempt goes wrong: `before` anything, `middle` or `end` of its stream, `silent`
    or `stall` for ever, or with an `odd` error."""

    kind: str
    code: ExecutorErrorCode = CODE.EXEC_API_SERVER_ERROR
    retry_after_s: float | None = None


@dataclass(frozen=True)
class Turn:
    """What the model says to one request, once it says it."""

    blocks: tuple[TextBlock | ThinkingBlock | ToolUse, ...]
    usage: Usage = SOME
    latency_s: float = 0.0
    delta_s: float = 0.0
    faults: tuple[Fault, ...] = ()
    stop: StopReason = StopReason.END_TURN


def the_end(at: int) -> Turn:
    """What it says when the script is over."""
    return Turn((TextBlock(f"the end, {at}"),), Usage(5, 5))


class Outside:
    """All that happened. `life` is that of the process that is running now."""

    def __init__(self) -> None:
        self.life = 0
        self.marks: list[Mark] = []
        self.told: list[Usage] = []
        """What each request of a model was told to have used."""
        self.refused: list[str] = []
        """Why a vendor would not have taken what its model was sent."""

    @property
    def used(self) -> Usage:
        return sum(self.told, Usage())

    def mark(self, edge: str, effect: str, life: int, request: bytes, safety: str = "") -> None:
        """Of what is no call of a tool or a model."""
        self.marks.append(Mark(edge, life, safety, key=short_hash(request), effect=effect))


class Provider:
    """The model's maker, as `core.model.Model`, for one life of the process. Answers by the state
    of the conversation alone."""

    provider = "scripted"
    name = "m"

    def __init__(
        self,
        turns: Sequence[Turn],
        outside: Outside,
        seams: Seams,
        below: Mapping[str, Sequence[Turn]] | None = None,
    ) -> None:
        """`below`: what is said to sub-agents, by the first words of their prompts."""
        self.turns = turns
        self._below = below or {}
        self._outside = outside
        self._life = outside.life
        self._seams = seams

    def price(self, usage: Usage, *, model: str = "") -> int | None:
        return (usage.total - usage.output_tokens) * NANO_IN + usage.output_tokens * NANO_OUT

    async def stream(self, request: Request, *, world: World) -> AsyncIterator[Delta | Response]:
        if why := refused(request.messages):
            self._outside.refused.append(why)
        await self._seams.at("model asked")
        told, marks = self._outside.told, self._outside.marks
        at = sum(message.role == "assistant" for message in request.messages)
        words = request.messages[0].text
        mark = Mark("begin", self._life, MODEL, iteration=at, effect=words)
        attempt = sum(one._replace(life=self._life) == mark for one in marks)
        marks.append(mark)
        told.append(Usage())
        mine = len(told) - 1
        turns = self._below.get(words, self.turns)
        turn = turns[at] if at < len(turns) else the_end(at)
        fault = turn.faults[attempt] if attempt < len(turn.faults) else None
        if turn.latency_s:
            await world.sleep(turn.latency_s)
        if fault is not None and fault.kind == "before":
            raise APIError("no", code=fault.code, retry_after_s=fault.retry_after_s)
        if fault is not None and fault.kind == "silent":
            await forever()
        await self._seams.at("model begins")
        begun = Usage(input_tokens=turn.usage.input_tokens)
        told[mine] = begun
        yield UsageDelta(begun)
        for number, delta in enumerate(deltas(turn)):
            if turn.delta_s:
                await world.sleep(turn.delta_s)
            await self._seams.at("model goes on")
            yield delta
            if number == 1 and fault is not None and fault.kind in ("middle", "odd"):
                if fault.kind == "odd":
                    raise ConnectionError("what no provider should raise")
                raise APIError("cut", code=fault.code, retry_after_s=fault.retry_after_s)
        if fault is not None and fault.kind == "stall":
            await forever()
        if fault is not None:
            return
        await self._seams.at("model ends")
        told[mine] = turn.usage
        yield Response(turn.blocks, turn.stop, turn.usage, self.name)


def deltas(turn: Turn) -> list[Delta]:
    out: list[Delta] = []
    for block in turn.blocks:
        if isinstance(block, TextBlock):
            out += [TextDelta(piece) for piece in (block.text[:3], block.text[3:])]
        elif isinstance(block, ToolUse):
            out.append(ToolInputDelta(0, dumps(block.input), block.name))
    return out


class Act(Tool):
    """A tool whose arguments say what it does: `n` is what for, `do` how, `s` for how long."""

    description = "does what it is told"
    input_schema = {  # noqa: RUF012
        "type": "object",
        "properties": {
            "n": {"type": "integer"},
            "do": {"type": "string"},
            "s": {"type": "number"},
        },
        "required": ["n"],
        "additionalProperties": False,
    }

    def __init__(
        self,
        name: str,
        effects: frozenset[str],
        outside: Outside,
        seams: Seams,
        *,
        journal: Journal | None = None,
        **flags: bool,
    ) -> None:
        self.name = name
        self._journal = journal
        self.effects = effects
        self.idempotent = flags.get("idempotent", False)
        self.concurrency_safe = flags.get("concurrency_safe", False)
        self._outside = outside
        self._life = outside.life
        self._seams = seams

    @property
    def safety(self) -> Safety:
        if self.effects <= {"read"}:
            return Safety.READ_ONLY
        return Safety.IDEMPOTENT if self.idempotent else Safety.UNSAFE

    def check(self) -> Check:
        return _checked()  # compiling the schema would take longer than all the rest

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        n, seconds = input["n"], input.get("s", 0.0)
        what = f"{self.name} {n}"
        if input.get("do") == "slow":
            await context.world.sleep(seconds)
        await self._seams.at(f"tool {what} begins")
        run, iteration, call = context.idempotency_key.rsplit("-", 2)
        mark = Mark("begin", self._life, self.safety.value, run, int(iteration), call)
        effect = f"{what} of {context.session_id}"
        self._outside.marks.append(mark._replace(key=context.idempotency_key, effect=effect))
        await self._seams.at(f"tool {what} has acted")
        match input.get("do"):
            case "first":
                await context.world.sleep(seconds)
            case "raise":
                await context.world.sleep(seconds)
                raise ValueError("broken")
            case "refuse":
                raise ToolExecutionError("not like this")
            case "error":
                return ToolResult(f"no {n}", is_error=True)
            case "hang":
                await forever()
            case "stubborn":
                for _ in range(5):
                    with suppress(asyncio.CancelledError):
                        await context.world.sleep(seconds + 1)
            case "cancelled":
                raise asyncio.CancelledError
            case "odd":
                return ToolResult({"n": n, "what": object, "nan": float("nan")})
            case "long":
                return ToolResult("a long line\n" * 30)
            case "mail":
                assert self._journal is not None
                await send(self._journal, context.run_id, "By the way.", id=f"mail {what}")
            case "chatty":
                for part in range(20):
                    context.progress(f"{part} of 20")
            case _:
                pass
        return ToolResult(what)


@cache
def _checked() -> Check:
    return compile_schema(Act.input_schema, "act")


def tools(outside: Outside, seams: Seams, journal: Journal | None = None) -> list[Act]:
    """One of each kind of safety, and one that has to run alone. `journal` is for mail."""
    look = Act("look", frozenset({"read"}), outside, seams, journal=journal, concurrency_safe=True)
    return [
        look,
        Act("put", frozenset({"write"}), outside, seams, idempotent=True, concurrency_safe=True),
        Act("change", frozenset({"write"}), outside, seams, concurrency_safe=True),
        Act("alone", frozenset({"write", "net"}), outside, seams),
    ]


class Person:
    """Agrees to everything, but to what is about the numbers in `no`."""

    def __init__(self, outside: Outside, seams: Seams, no: Sequence[int] = ()) -> None:
        self._outside = outside
        self._life = outside.life
        self._seams = seams
        self._no = no

    async def approve(self, tool: str, summary: str, reason: str) -> bool:
        await self._seams.at(f"person asked about {tool}")
        arguments = json.loads(summary)
        request = canonical({"name": tool, "input": arguments})
        self._outside.mark("approval", f"{tool} {summary}", self._life, request)
        await self._seams.at("person has answered")
        return arguments["n"] not in self._no
