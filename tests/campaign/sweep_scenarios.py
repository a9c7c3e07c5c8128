"""The runs that the sweep plays: each a small record of what the model says and what the program
around it does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from lorimer.core.context import Safety
from lorimer.core.errors import ExecutorErrorCode
from lorimer.core.jsonable import JSON
from lorimer.core.limits import Limits
from lorimer.core.manifest import EnvironmentManifest, SubAgent
from lorimer.core.messages import TextBlock, ThinkingBlock, ToolUse
from lorimer.core.request import StopReason, Usage
from lorimer.core.stage import Stage
from lorimer.core.state import PipelineState
from lorimer.presets import preset_manifest
from lorimer.testing.fake_turn import seal
from tests.campaign.outside import MAX_TOKENS, Fault, Outside, Turn
from tests.campaign.seams import Seams
from tests.campaign.sweep_kernel import kernel_manifest

CODE = ExecutorErrorCode
Change = Callable[[EnvironmentManifest], None]


@dataclass(frozen=True, eq=False)
class Scenario:
    """One program, to be played again and again."""

    name: str
    turns: tuple[Turn, ...] = ()
    preset: str = "agent"
    inputs: tuple[tuple[str, ...], ...] = (("go",),)
    """What is asked, one after the other; for each pipeline, side by side."""
    limits: Limits = Limits(max_cost_usd=1.0)
    """Of the runs with these inputs."""
    cuts: tuple[tuple[str, str], ...] = ()
    """Earlier lives of the process: each ends so (a kind of strike), at the operation called so."""
    stream: bool = False
    leave: str = ""
    """The kind of event at which the reader of a stream goes away."""
    listener: str = ""
    """A pattern of events that an async handler hears."""
    change: Change | None = None
    ask: tuple[str, ...] = ()
    """Tools that a person has to agree to."""
    no: tuple[int, ...] = ()
    """The numbers of the calls that the person refuses."""
    later: bool = False
    """Nobody is there to ask: the run is suspended until somebody has answered."""
    files: bool = False
    """The tools have a folder to work in."""
    custom: bool = False
    """There is a stage with an unsafe effect of its own."""
    emit: bool = False
    """The answer is handed to somebody."""
    empty: bool = False
    """There is no file before the first run."""
    hooked: bool = False
    """Hooks are asked at every point, and change what they are asked about."""
    kernel: bool = False
    """An executor runs it, with ports: see `sweep_kernel.py`."""
    below: tuple[tuple[str, tuple[Turn, ...]], ...] = ()
    """What the model says to sub-agents, by what they are given to do; no two the same."""


def call(tool: str, n: int, do: str = "quick", s: float | None = None) -> ToolUse:
    arguments: dict[str, JSON] = {"n": n, "do": do}
    if s is not None:
        arguments["s"] = s
    return ToolUse(f"call_{n}", tool, arguments)


def give(agent: str, prompt: str, tool: str = "Agent") -> ToolUse:
    return ToolUse(f"call_{prompt}", tool, {"subagent_type": agent, "prompt": prompt})


def hand(agent: str, prompt: str) -> ToolUse:
    return ToolUse(f"call_{prompt}", f"agent__{agent}", {"prompt": prompt})


def says(text: str, *faults: Fault, stop: StopReason = StopReason.END_TURN) -> Turn:
    return Turn((TextBlock(text),), faults=faults, stop=stop)


def calls(*uses: ToolUse, faults: tuple[Fault, ...] = (), stop: StopReason | None = None) -> Turn:
    return Turn((TextBlock("Let me see."), *uses), faults=faults, stop=stop or StopReason.TOOL_USE)


@cache
def manifest(scenario: Scenario) -> EnvironmentManifest:
    if scenario.kernel:
        return kernel_manifest(scenario.limits)
    made = preset_manifest(scenario.preset, model="scripted:m")
    made.model.max_tokens = MAX_TOKENS
    made.stages["api"].strategy_configs["retry"] = {"max_retries": 3}
    if scenario.emit:
        emit = made.stages["emit"]
        emit.strategies["emitters"] = ["text"]
        emit.strategy_configs["emitters"] = {"text": {"target": "hand_over"}}
    if scenario.change is not None:
        scenario.change(made)
    return made


class Post(Stage[object, object]):
    """Tells the outside once a run, and not again when nobody knows whether it did."""

    name, order = "post", 3

    def __init__(self, outside: Outside, seams: Seams) -> None:
        self._outside = outside
        self._life = outside.life
        self._seams = seams

    async def execute(self, input: object, state: PipelineState) -> object:
        run, request = state.run, f"post of {state.run.id}".encode()

        async def post() -> dict[str, JSON]:
            await self._seams.at("stage begins")
            self._outside.mark("begin", request.decode(), self._life, request, Safety.UNSAFE.value)
            await self._seams.at("stage has acted")
            return {"posted": True}

        await run.effect("post", "now", post, request=request, safety=Safety.UNSAFE)
        return input


def _every_fact(manifest: EnvironmentManifest) -> None:
    manifest.stages["persist"].strategies["cadence"] = "every_n_facts"
    manifest.stages["persist"].strategy_configs["cadence"] = {"n": 1}


def _stateless(manifest: EnvironmentManifest) -> None:
    manifest.stages["context"].config["stateless"] = True


def _sequential(manifest: EnvironmentManifest) -> None:
    manifest.stages["tool"].strategies["executor"] = "sequential"


def _agents(manifest: EnvironmentManifest) -> None:
    manifest.agents = [
        SubAgent(name="worker", description="Works.", tools=["look", "put", "change"]),
        SubAgent(name="chief", description="Gives work.", tools=["Agent", "change"]),
    ]


LOOP = (calls(call("look", 1)), calls(call("change", 2)), calls(call("put", 3)), says("done"))
ONE_CHANGE = (calls(call("change", 1)), says("done"))
BUSY = Fault("before", CODE.EXEC_API_RATE_LIMITED, 7.5)
BROKEN = Fault("before", CODE.EXEC_API_SERVER_ERROR)
ACTED = "tool change 2 has acted"

SCENARIOS = (
    Scenario("plain answer", (says("hello"),)),
    Scenario("plain answer, new file", (says("hello"),), empty=True),
    Scenario("minimal preset", (says("hello"),), preset="minimal"),
    Scenario("thinking", (Turn((ThinkingBlock("hm", seal("hm")), call("look", 1))), says("so"))),
    Scenario("tool loop", LOOP),
    Scenario("tool loop, chat preset", LOOP, preset="chat"),
    Scenario(
        "reads side by side", (calls(call("look", 1), call("look", 2, "first", 1)), says("."))
    ),
    Scenario("idempotent side by side", (calls(call("put", 1), call("put", 2)), says("done"))),
    Scenario(
        "unsafe side by side", (calls(call("change", 1, "first", 2), call("change", 2)), says("."))
    ),
    Scenario(
        "all kinds in one reply",
        (calls(call("look", 1), call("put", 2), call("change", 3), call("alone", 4)), says(".")),
    ),
    Scenario(
        "one after the other",
        (calls(call("change", 1), call("put", 2)), says(".")),
        change=_sequential,
    ),
    Scenario(
        "more calls than allowed",
        (calls(call("change", 1), call("look", 2), call("put", 3)), says(".")),
        limits=Limits(max_calls_per_turn=2),
    ),
    Scenario(
        "too many calls in all",
        (calls(call("look", 1), call("change", 2)), says(".")),
        limits=Limits(max_tool_calls=1),
    ),
    Scenario("refused call", ONE_CHANGE, ask=("change",), no=(1,)),
    Scenario("approved call", ONE_CHANGE, ask=("change",)),
    Scenario(
        "approved and refused in one reply",
        (calls(call("put", 1), call("change", 2), call("look", 3)), says("done")),
        ask=("put", "change"),
        no=(2,),
    ),
    Scenario(
        "unknown tool, bad arguments",
        (calls(ToolUse("a", "nonesuch", {}), ToolUse("b", "look", {}, raw='{"n": 1')), says(".")),
    ),
    Scenario(
        "failing tool", (calls(call("change", 1, "raise", 1), call("put", 2, "error")), says("."))
    ),
    Scenario(
        "hanging tool",
        (calls(call("change", 1, "hang")), says("so be it")),
        limits=Limits(tool_timeout_s=5),
    ),
    Scenario(
        "stubborn tool", (calls(call("change", 1, "stubborn", 1), call("look", 2)), says("."))
    ),
    Scenario("retries", (says("hello", BUSY, BROKEN),)),
    Scenario("retries used up", (says("hello", *[BROKEN] * 9),)),
    Scenario("stream cut", (says("hello there", Fault("middle")),)),
    Scenario(
        "stream cut before its end", (calls(call("change", 1), faults=(Fault("end"),)), says("."))
    ),
    Scenario("silent model", (says("hello", Fault("silent")),), limits=Limits(connect_timeout_s=2)),
    Scenario(
        "fatal error",
        (calls(call("put", 1)), says(".", Fault("before", CODE.EXEC_API_AUTH_INVALID_KEY))),
    ),
    Scenario("refusal", (says("I will not.", stop=StopReason.REFUSAL),)),
    Scenario("pause", (says("wait", stop=StopReason.PAUSE), says("done"))),
    Scenario(
        "cut at max_tokens", (calls(call("change", 1), stop=StopReason.MAX_TOKENS), says("."))
    ),
    Scenario("turn limit", LOOP, limits=Limits(max_turns=2)),
    Scenario(
        "cost ceiling",
        (
            Turn((call("change", 1),), Usage(60, 190)),
            Turn((call("put", 2),), Usage(60, 190)),
            says("."),
        ),
        limits=Limits(max_cost_usd=0.0065),
    ),
    Scenario(
        "run time-out in a tool",
        (calls(call("change", 1, "first", 60)), says(".")),
        limits=Limits(timeout_s=5),
    ),
    Scenario("run time-out in a retry", (says("hello", BUSY),), limits=Limits(timeout_s=8)),
    Scenario("long tool, claim prolonged", (calls(call("change", 1, "first", 45)), says("."))),
    Scenario(
        "chat of two runs",
        (calls(call("change", 1)), says("one"), calls(call("put", 2)), says("two")),
        inputs=(("first", "second"),),
    ),
    Scenario("stateless", ONE_CHANGE, inputs=(("first", "second"),), change=_stateless),
    Scenario("two pipelines", LOOP[:2] + LOOP[3:], inputs=(("here",), ("there",))),
    Scenario(
        "two runs of two pipelines",
        (calls(call("put", 1)), says("one"), says("two")),
        inputs=(("here", "and here"), ("there", "and there")),
    ),
    Scenario("resumed after a kill", LOOP, cuts=(("kill", ACTED),)),
    Scenario("resumed after a loss of power", LOOP, cuts=(("power", ACTED),)),
    Scenario("resumed after a shutdown", LOOP, cuts=(("shutdown", ACTED),)),
    Scenario("resumed twice", LOOP, cuts=(("kill", ACTED), ("shutdown", "tool put 3 begins"))),
    Scenario("resumed in a retry", (says("hello", BUSY),), cuts=(("kill", "sleep 7.5"),)),
    Scenario(
        "resumed at an approval",
        ONE_CHANGE,
        ask=("change",),
        cuts=(("kill", "person has answered"),),
    ),
    Scenario("resumed by a stream", LOOP, cuts=(("kill", ACTED),), stream=True),
    Scenario(
        "snapshot at the end",
        (calls(call("look", 1)), says("one"), says("two")),
        inputs=(("first", "second"),),
        change=_every_fact,
    ),
    Scenario(
        "snapshot, resumed", LOOP, change=_every_fact, cuts=(("kill", "tool put 3 has acted"),)
    ),
    Scenario(
        "long results in files",
        (calls(call("look", 1, "long"), call("put", 2, "long")), says(".")),
        limits=Limits(max_result_chars=60),
        files=True,
    ),
    Scenario("stage with an effect of its own", (calls(call("put", 1)), says(".")), custom=True),
    Scenario("message sent meanwhile", (calls(call("look", 1, "mail")), says("."), says("oh"))),
    Scenario(
        "message sent at the end", (calls(call("look", 1), call("look", 2, "mail")), says("."))
    ),
    Scenario("answered later", ONE_CHANGE, ask=("change",), later=True),
    Scenario(
        "two answered later",
        (calls(call("put", 1)), calls(call("change", 2)), says("done")),
        ask=("put", "change"),
        later=True,
    ),
    Scenario("answer handed over", (says("hello"),), emit=True),
    Scenario("streamed", (calls(call("change", 1, "chatty")), says("hello there")), stream=True),
    Scenario(
        "stream left in the text",
        (says("hello there"), says("more")),
        stream=True,
        leave="text.delta",
    ),
    Scenario(
        "stream left in a tool",
        (calls(call("change", 1)), says(".")),
        stream=True,
        leave="tool.intent",
    ),
    Scenario("hooks", LOOP, hooked=True),
    Scenario(
        "hooks, resumed", LOOP, hooked=True, cuts=(("kill", "hook PostToolUse has answered"),)
    ),
    Scenario("hooks and a person", ONE_CHANGE, hooked=True, ask=("change",)),
    Scenario("hooks, and a message", (calls(call("look", 1, "mail")), says(".")), hooked=True),
    Scenario(
        "a child",
        (calls(give("worker", "dig")), says("done")),
        change=_agents,
        below=(("dig", (calls(call("change", 1)), says("dug"))),),
    ),
    Scenario(
        "children side by side, and of children",
        (calls(give("worker", "dig"), give("chief", "lead")), says("done")),
        change=_agents,
        below=(
            ("dig", (calls(call("put", 1)), says("dug"))),
            ("lead", (calls(call("change", 2), give("worker", "carry")), says("led"))),
            ("carry", (calls(call("change", 3, "first", 2)), says("carried"))),
        ),
    ),
    Scenario(
        "a child in the background",
        (
            calls(give("worker", "dig", "TaskCreate")),
            calls(call("change", 1)),
            says("so"),
            says("done"),
        ),
        change=_agents,
        below=(("dig", (calls(call("change", 2, "first", 3)), says("dug"))),),
    ),
    Scenario(
        "children, resumed after a kill",
        (calls(give("worker", "dig"), give("worker", "carry", "TaskCreate")), says("so")),
        change=_agents,
        cuts=(("kill", "tool change 1 has acted"),),
        below=(
            ("dig", (calls(call("change", 1)), says("dug"))),
            ("carry", (calls(call("put", 2, "first", 5)), says("carried"))),
        ),
    ),
    Scenario(
        "children and a ceiling",
        (calls(give("worker", "dig"), give("worker", "carry")), says("so")),
        change=_agents,
        limits=Limits(max_cost_usd=0.02),
        below=(
            ("dig", (calls(call("look", 1)), calls(call("look", 3)), says("dug"))),
            ("carry", (calls(call("look", 2)), calls(call("look", 4)), says("carried"))),
        ),
    ),
    Scenario("executor", (calls(call("change", 1)), says("done")), kernel=True),
    Scenario("executor, resumed", LOOP, kernel=True, cuts=(("kill", ACTED),)),
    Scenario(
        "executor and delegates",
        (calls(hand("worker", "dig"), hand("chief", "lead")), says("done")),
        kernel=True,
        below=(
            ("dig", (calls(call("put", 1)), says("dug"))),
            ("lead", (calls(call("change", 2), hand("worker", "carry")), says("led"))),
            ("carry", (calls(call("look", 3)), says("carried"))),
        ),
    ),
    Scenario("listener", (calls(call("look", 1)), says(".")), listener="stage.*"),
    Scenario("listener to facts", (calls(call("change", 1)), says(".")), listener="*"),
)
