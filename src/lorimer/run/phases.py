"""A phase of an agent's work, as a host declares it. How phases run: `stages/s06_phases.py`; how
they appear in a manifest: `lowering.py`."""

from __future__ import annotations

from typing import ClassVar

from pydantic import ConfigDict

from lorimer.core.arguments import check_texts, each_of, is_a, wrong
from lorimer.core.record import record


@record
class Phase:
    """Plain data; what is left out is taken from the agent."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: str
    """The name by which later prompts refer to its output: letters, digits and _, but not `query`.
    Two phases may have the same name; then the later output counts."""
    prompt: str = ""
    """Its system prompt, after the executor's header and the agent's own. `{query}` stands for the
    run's input, `{name}` for the output of an earlier phase, `{{name}}` for the literal word in
    braces. Outputs are a model's words: whoever influenced that phase influences this one."""
    model: str = ""
    """A tier, a spec or a chain of them. If it cannot be used, the run gets a warning and the
    agent's model is used."""
    max_turns: int = 0
    """Most model calls; 0 or less: as many as the agent may make."""
    tools: tuple[str, ...] | None = None
    """Names of the agent's tools that it has; None: all. `skill__<name>` and `agent__<name>` are
    those it may delegate to."""
    optional: bool = False
    """If it fails, `fallback` is its output, and the run continues."""
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
        if self.tools is not None:  # most callers write a list, and one name alone is valid too
            tools = each_of("Phase.tools", self.tools, str, '["read"], its name')
            object.__setattr__(self, "tools", tools)
