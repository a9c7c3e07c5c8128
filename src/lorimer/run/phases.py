"""A phase of an agent's work, as a host says it. How phases run: `stages/s06_phases.py`; what they
come to in a manifest: `lowering.py`."""

from __future__ import annotations

from typing import ClassVar

from pydantic import ConfigDict

from lorimer.core.arguments import each_of, is_a, wrong
from lorimer.core.record import record
from lorimer.run.fields import check_texts


@record
class Phase:
    """Plain data; what is left out is the agent's."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: str
    """What later prompts call its output: a word of letters, digits and _, but not `query`. Two
    phases may have the same; then the later output counts."""
    prompt: str = ""
    """Its system prompt, after the executor's header and the agent's own. `{query}` stands for what
    the run was asked, `{name}` for the output of an earlier phase, `{{name}}` for the word in
    braces. Outputs are words of models: who has steered one of them speaks here too."""
    model: str = ""
    """A tier, a spec or a chain of them. One that cannot be used costs the run a warning, and the
    agent's is used."""
    max_turns: int = 0
    """Model calls; 0 or less: as many as the agent may make."""
    tools: tuple[str, ...] | None = None
    """Which of the agent's tools it has, by name; None: all. `skill__<name>` and `agent__<name>`
    are those to whom it may give work."""
    optional: bool = False
    """When it fails, `fallback` is its output, and the run goes on."""
    fallback: str = ""
    bare: bool = False
    """It is one model call, without tools."""

    def __post_init__(self) -> None:
        """Raises ConfigError for a field of another type."""
        check_texts(
            "Phase", name=self.name, prompt=self.prompt, model=self.model, fallback=self.fallback
        )
        if not is_a(self.max_turns, int):
            raise wrong("Phase.max_turns", self.max_turns, "a whole number", "max_turns=8")
        if self.tools is not None:  # most callers write a list, and one name is one
            tools = each_of("Phase.tools", self.tools, str, '["read"], its name')
            object.__setattr__(self, "tools", tools)
