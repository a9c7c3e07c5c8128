"""Stage 3, System: the system prompt and the tools shown to the model."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Final, Literal

from pydantic import Field

from lorimer.core.bindings import Bindings
from lorimer.core.context import Safety
from lorimer.core.jsonable import JSON
from lorimer.core.stage import Settings, Slot, Stage, Strategy
from lorimer.core.state import PipelineState
from lorimer.core.tool import Toolbox


class PromptBuilder(Strategy):
    """Builds the system prompt."""

    def build(self, prompt: str, state: PipelineState) -> str | Awaitable[str]:
        """The system prompt, from the stage's own `prompt`; may be awaitable. Whatever changes from
        call to call belongs into `state.volatile`, so that providers can cache the rest. External
        requests have to go through `state.run.effect`."""
        raise TypeError(f"{type(self).__name__} has no build method")


class StaticBuilder(PromptBuilder):
    """The prompt, unchanged."""

    name = "static"
    description = "The configured prompt, unchanged."

    def build(self, prompt: str, state: PipelineState) -> str:
        return prompt


class GivenBuilder(PromptBuilder):
    """The prompt, followed by the input's `system`. Only for trusted input: for a run that is part
    of another one, such as a phase."""

    name = "given"
    description = "The configured prompt, then the `system` of an input that another run gave."

    def build(self, prompt: str, state: PipelineState) -> str:
        given = state.input.get("system") if isinstance(state.input, Mapping) else ""
        return "\n\n".join([part for part in (prompt, str(given or "")) if part])


class _Block(Settings):
    pass


class TextPart(_Block):
    """A section of text with an optional heading: a role, rules, examples."""

    type: Literal["text"]
    text: str
    title: str = ""
    volatile: bool = False
    """After the conversation, instead of in the system prompt."""


class DatePart(_Block):
    """The date of the run, UTC. Only the day, so that prompt caches stay warm."""

    type: Literal["date"]


class ClockPart(_Block):
    """Date and time of the model call, UTC, to the minute: after the conversation."""

    type: Literal["clock"]


class BoundPart(_Block):
    """The result of a function of the host's, called before each model call: a mood, a persona, the
    state of something. It is called with `{run_id, iteration, input}`, may be async, and is
    recorded, so that a resumed run gets the same."""

    type: Literal["bound"]
    target: str
    """The name under which the host bound it."""
    title: str = ""
    volatile: bool = True
    """After the conversation; false: in the system prompt, for what seldom changes."""


class ComposableBuilder(PromptBuilder):
    """The prompt followed by blocks."""

    name = "composable"
    description = (
        "The configured prompt, then blocks: text, date, time, the result of a host's function."
    )

    class Config(Settings):
        blocks: list[
            Annotated[TextPart | DatePart | ClockPart | BoundPart, Field(discriminator="type")]
        ] = Field([])

    config: Config

    def bind(self, bindings: Bindings) -> None:
        where = "stages[3].strategy_configs.builder.blocks"
        self._bound = {
            at: bindings.function(block.target, f"{where}[{at}].target")
            for at, block in enumerate(self.config.blocks)
            if isinstance(block, BoundPart)
        }

    def build(self, prompt: str, state: PipelineState) -> str | Awaitable[str]:
        if self._bound:
            return self._asking(prompt, state)
        return self._built(prompt, state, {})

    async def _asking(self, prompt: str, state: PipelineState) -> str:
        told = {at: await self._ask(at, state) for at in self._bound}
        return self._built(prompt, state, told)

    def _built(self, prompt: str, state: PipelineState, told: Mapping[int, str]) -> str:
        lasting, passing = ([prompt] if prompt else []), list[str]()
        for at, block in enumerate(self.config.blocks):
            match block:
                case TextPart():
                    part = _titled(block.title, block.text)
                    (passing if block.volatile else lasting).append(part)
                case DatePart():
                    day = datetime.fromtimestamp(state.run.now, UTC).date()
                    lasting.append(f"Today is {day.isoformat()}.")
                case ClockPart():
                    now = datetime.fromtimestamp(state.run.now, UTC)
                    passing.append(f"It is {now:%Y-%m-%d %H:%M} UTC, a {now:%A}.")
                case BoundPart():
                    part = _titled(block.title, told[at]) if told[at] else ""
                    (passing if block.volatile else lasting).append(part)
        if passing:
            state.volatile["system"] = "\n\n".join([part for part in passing if part])
        return "\n\n".join([part for part in lasting if part])

    async def _ask(self, at: int, state: PipelineState) -> str:
        run, function = state.run, self._bound[at]
        asked: JSON = {"run_id": run.id, "iteration": state.iteration, "input": state.input}

        async def ask() -> Mapping[str, JSON]:
            said = function(asked)
            if inspect.isawaitable(said):
                said = await said
            return {"text": str(said)[:MAX_BOUND]}

        request = str(at).encode()
        data = await run.effect("system", str(at), ask, request=request, safety=Safety.READ_ONLY)
        return str(data.get("text", ""))


MAX_BOUND: Final = 20_000
"""Maximum characters of a bound function's result; the rest is cut off."""


def _titled(title: str, text: str) -> str:
    return f"# {title}\n{text}" if title else text


class SystemStage(Stage[object, object]):
    """Fills `state.system` and `state.tools` before every model call."""

    name = "system"
    order = 3
    category = "ingress"
    every_call = True

    class Config(Settings):
        prompt: str = ""
        """The system prompt."""

    config: Config

    builder = Slot(
        PromptBuilder,
        default="static",
        known={
            "static": "lorimer.stages.s03_system:StaticBuilder",
            "composable": "lorimer.stages.s03_system:ComposableBuilder",
            "given": "lorimer.stages.s03_system:GivenBuilder",
        },
    )

    def bind(self, bindings: Bindings) -> None:
        self._tools: Toolbox | None = bindings.tools

    async def execute(self, input: object, state: PipelineState) -> object:
        built = self.builder.build(self.config.prompt, state)
        state.system = built if isinstance(built, str) else await built
        if self._tools is not None:
            state.tools = self._tools.specs(state)
        if state.run.wants("system.built"):
            state.run.signal(
                "system.built",
                {"prompt_length": len(state.system), "tools_count": len(state.tools)},
            )
        return input
