"""An agent as a host describes it. How it becomes a manifest: `lowering.py`."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import field
from math import isnan
from typing import Final, TypeAlias

from pydantic import JsonValue

from lorimer.core.arguments import check_texts, each_of, is_a, wrong
from lorimer.core.errors import ConfigError
from lorimer.core.jsonable import dumps
from lorimer.core.record import record
from lorimer.run.phases import Phase

Schema: TypeAlias = type[object] | Mapping[str, JsonValue]
"""A type, or the JSON Schema of an object."""

_NO_NAME: Final = "agent"


@record
class RunnableAgent:
    """What to run. Plain data; the executor provides what is left out. Raises ConfigError for
    fields of the wrong type."""

    name: str = _NO_NAME
    prompt: str = ""
    """The system prompt, after the executor's header."""
    model: str = ""
    """A tier, a spec or a chain of them; none: the executor's fallback tier."""
    max_turns: int = 0
    """Model calls; 0 or less: the executor's limit."""
    timeout_s: float = 0.0
    """Seconds per run; 0 or less: the executor's limit. With a critic: the time after which the run
    is first reviewed."""
    tools: tuple[str, ...] = ()
    """Names of tools: the executor's or built-in ones. Without any tools and delegates, a run is
    one model call."""
    skills: tuple[str, ...] = ()
    """Names of skills in the executor's palette: each is a tool `skill__<name>`."""
    agents: tuple[str, ...] = ()
    """Names of agents in the executor's palette: each is a tool `agent__<name>`."""
    description: str = ""
    """What it is good for: shown to agents that may delegate to it."""
    critic: bool = False
    """Its runs are supervised by the executor's critic, if there is one."""
    phases: tuple[Phase, ...] = ()
    """Phases, executed in order, each with a prompt of its own added to that of the agent; the
    answer of the last one is the answer."""
    output_schema: type[object] | Mapping[str, JsonValue] | None = field(
        default=None, compare=False
    )
    """The answer is data of this form, in `result.structured_output`: a BaseModel, a dataclass, a
    TypedDict, or the JSON Schema of an object. An answer that does not fit is sent back to the
    model with the reason, at most twice; then the run ends with an error. None: the answer is
    text."""
    max_tokens: int = 0
    """Maximum per answer; 0 or less: the default of manifests. It determines how much of a budget a
    call reserves."""
    subject: str = ""
    """The id under which the host stores it, for journal and audit; "": its name."""
    version: int = 0
    """Its version, also for journal and audit; 0: none."""
    form: str = field(default="", init=False, repr=False)
    """The schema of its answer as JSON text, so that equal agents compare equal; "": text."""

    answer: type[object] | None = field(default=None, init=False, repr=False)
    """The type of its answer, if one was given: it checks more than a schema expresses."""

    @property
    def own_name(self) -> str:
        """Its name; "": none was given."""
        return self.name if self.name != _NO_NAME else ""

    @property
    def who(self) -> Hashable:
        """What distinguishes it from other running agents: its name, if it has one."""
        return self.own_name or self

    def __post_init__(self) -> None:
        for name in ("tools", "skills", "agents"):
            given = each_of(f"RunnableAgent.{name}", getattr(self, name), str, '["read"], its name')
            object.__setattr__(self, name, given)
        phases = each_of("RunnableAgent.phases", self.phases, Phase, '[Phase("a", "Write it.")]')
        object.__setattr__(self, "phases", phases)
        check_texts(
            "RunnableAgent",
            name=self.name,
            prompt=self.prompt,
            model=self.model,
            description=self.description,
            subject=self.subject,
        )
        for name in ("max_turns", "max_tokens", "version"):
            given = getattr(self, name)
            if not is_a(given, int):
                raise wrong(f"RunnableAgent.{name}", given, "a whole number", f"{name}=20")
        if not is_a(self.timeout_s, int, float):
            raise wrong("RunnableAgent.timeout_s", self.timeout_s, "a number", "timeout_s=20")
        if isnan(self.timeout_s):
            raise ConfigError("RunnableAgent.timeout_s is not a number", hint="timeout_s=20")
        if self.output_schema is not None:
            object.__setattr__(self, "form", _form(self.output_schema))
        if isinstance(self.output_schema, type):
            object.__setattr__(self, "answer", self.output_schema)


def _form(wanted: Schema) -> str:
    """Raises ConfigError for a type that does not describe an object, or cannot be checked."""
    from lorimer.models.typed import object_schema  # only where it is used
    from lorimer.tools.schema import compile_schema

    schema = object_schema(wanted)
    compile_schema(schema, "RunnableAgent.output_schema")
    return dumps(schema)
