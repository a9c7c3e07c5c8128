"""Builders of stage 3: a system prompt made of a persona."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from lorimer.core.stage import Settings
from lorimer.core.state import PipelineState
from lorimer.stages.s03_system import PromptBuilder

CHOSEN: Final = "persona"
"""In `state.shared`: the name of the persona from the next model call on."""


class Persona(Settings):
    """Who speaks."""

    name: str = ""
    about: str = ""
    """Who that is."""
    manner: list[str] = Field([])
    """How it speaks, each in a few words."""
    never: list[str] = Field([])
    """What it does not do."""

    def written(self) -> str:
        """As a system prompt."""
        parts: list[str] = []
        if self.name:
            parts.append(f"You are {self.name}.{f' {self.about}' if self.about else ''}")
        elif self.about:
            parts.append(self.about)
        for title, items in (("How you speak", self.manner), ("What you never do", self.never)):
            if items:
                parts.append("\n".join([f"{title}:", *[f"- {item}" for item in items]]))
        return "\n\n".join(parts)


class PersonaBuilder(PromptBuilder):
    """The persona, then the stage's own prompt."""

    name = "persona"
    description = "A persona, then the configured prompt."

    class Config(Persona):
        pass

    config: Config

    def build(self, prompt: str, state: PipelineState) -> str:
        return _with(self.config, prompt)


class DynamicPersonaBuilder(PromptBuilder):
    """One of several personas, then the stage's own prompt."""

    name = "dynamic_persona"
    description = "The persona that state.shared['persona'] names, else the default one."

    class Config(Settings):
        personas: dict[str, Persona] = Field(min_length=1)
        """Name to persona."""
        default: str = ""
        """The one where none is chosen, or one that there is not; none: the first."""

    config: Config

    def build(self, prompt: str, state: PipelineState) -> str:
        personas = self.config.personas
        for name in (str(state.shared.get(CHOSEN, "")), self.config.default):
            if name in personas:
                return _with(personas[name], prompt)
        return _with(next(iter(personas.values())), prompt)


def _with(persona: Persona, prompt: str) -> str:
    return "\n\n".join([part for part in (persona.written(), prompt) if part])
