"""Stage 3, System: the system prompt and the tools the model is shown."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import Field

from lorimer.core.bindings import Bindings
from lorimer.core.stage import Settings, Slot, Stage, Strategy
from lorimer.core.state import PipelineState
from lorimer.core.tool import Toolbox


class PromptBuilder(Strategy):
    """Writes the system prompt."""

    def build(self, prompt: str, state: PipelineState) -> str:
        """The system prompt, from the stage's own `prompt`."""
        raise TypeError(f"{type(self).__name__} has no build method")


class StaticBuilder(PromptBuilder):
    """The prompt as it is."""

    name = "static"
    description = "The configured prompt, unchanged."

    def build(self, prompt: str, state: PipelineState) -> str:
        return prompt


class _Block(Settings):
    pass


class TextPart(_Block):
    """A section of text with an optional heading."""

    type: Literal["text"]
    text: str
    title: str = ""


class DatePart(_Block):
    """The date of the run, UTC. Only the day, so that prompt caches stay warm."""

    type: Literal["date"]


class ComposableBuilder(PromptBuilder):
    """The prompt followed by blocks."""

    name = "composable"
    description = "The configured prompt, then blocks of text and the date."

    class Config(Settings):
        blocks: list[Annotated[TextPart | DatePart, Field(discriminator="type")]] = Field([])

    config: Config

    def build(self, prompt: str, state: PipelineState) -> str:
        parts = [prompt] if prompt else []
        for block in self.config.blocks:
            if isinstance(block, DatePart):
                day = datetime.fromtimestamp(state.run.now, UTC).date()
                parts.append(f"Today is {day.isoformat()}.")
            else:
                parts.append(f"# {block.title}\n{block.text}" if block.title else block.text)
        return "\n\n".join(parts)


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
        },
    )

    def bind(self, bindings: Bindings) -> None:
        self._tools: Toolbox | None = bindings.tools

    async def execute(self, input: object, state: PipelineState) -> object:
        state.system = self.builder.build(self.config.prompt, state)
        if self._tools is not None:
            state.tools = self._tools.specs(state)
        if state.run.wants("system.built"):
            state.run.signal(
                "system.built",
                {"prompt_length": len(state.system), "tools_count": len(state.tools)},
            )
        return input
