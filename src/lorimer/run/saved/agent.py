"""A saved agent: its identity, its settings, its owner and who may use it. Plain data; what may be
saved is decided in `checks.py`, storage and access in `library.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lorimer.core.errors import ConfigError
from lorimer.core.faults import problems_of
from lorimer.core.jsonable import JSON
from lorimer.core.manifest import Plain
from lorimer.run.agent import RunnableAgent
from lorimer.run.palette import Skill
from lorimer.run.phases import Phase
from lorimer.tools.policy.people import Person

Visibility: TypeAlias = Literal["private", "shared", "public"]
"""Who may run it in addition to its owner: nobody, those in `shared_with`, everybody."""

MAX_NAMES: Final = 200
"""Maximum entries of one list."""
MAX_PHASES: Final = 50

_Name: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,57}$")]
"""Short enough for a tool with this name: `skill__<name>`."""
_Names: TypeAlias = Annotated[tuple[str, ...], Field(max_length=MAX_NAMES)]
_Called: TypeAlias = Annotated[tuple[_Name, ...], Field(max_length=MAX_NAMES)]


class _Checked(type(BaseModel)):
    """Objects created in code get our error messages, as data that is read does."""

    if not TYPE_CHECKING:

        def __call__(cls, *args, **fields):
            try:
                return super().__call__(*args, **fields)
            except ValidationError as error:
                problems = tuple(problems_of(error, cls.__name__, cls))
                raise ConfigError("; ".join(problems), problems=problems) from None


class _Part(BaseModel, metaclass=_Checked):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)


class DeclaredInput(_Part):
    """One named input of the agent's runs."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
    type: Literal["string", "integer", "number", "boolean", "array", "object"] = "string"
    description: str = ""
    required: bool = True
    default: Plain = None
    """The value if it is not required and not given."""


class SavedAgent(_Part):
    """One version of a saved agent. Immutable: `model_copy(update=...)` makes another."""

    name: _Name
    owner: Annotated[str, Field(max_length=200)] = ""
    """The name of a person; "": built in, owned by the host."""
    description: Annotated[str, Field(max_length=2_000)] = ""
    """When to use it: the basis on which others choose to delegate to it."""
    prompt: Annotated[str, Field(max_length=200_000)] = ""
    model: Annotated[str, Field(max_length=1_000)] = ""
    """A tier, a spec or a chain of them; "": the executor's fallback tier."""
    max_turns: Annotated[int, Field(ge=0)] = 0
    """Model calls; 0: the executor's limit."""
    timeout_s: Annotated[float, Field(ge=0)] = 0.0
    """Seconds per run; 0: the executor's limit."""
    tools: _Names = ()
    """Names of tools."""
    skills: _Called = ()
    """Names of saved agents that it calls with their declared inputs."""
    agents: _Called = ()
    """Names of saved agents that it calls with a prompt."""
    phases: Annotated[tuple[Phase, ...], Field(max_length=MAX_PHASES)] = ()
    """Its phases, executed in order."""
    inputs: Annotated[tuple[DeclaredInput, ...], Field(max_length=MAX_NAMES)] = ()
    output_schema: dict[str, Plain] | None = None
    """JSON Schema of its answer, an object; null: the answer is text."""
    critic: bool = False
    """The host's critic may extend its runs."""
    visibility: Visibility = "private"
    shared_with: _Names = ()
    """People by name, roles as `@role`; only used if it is `shared`."""
    version: Annotated[int, Field(ge=0)] = 0
    """From 1, without gaps; 0: it was never saved. Set when saving."""
    saved_by: str = ""
    saved_at: float = 0.0
    """Wall clock, seconds."""

    @model_validator(mode="after")
    def _names_differ(self) -> SavedAgent:
        for what, names in (
            ("inputs", [each.name for each in self.inputs]),
            ("tools", self.tools),
            ("skills", self.skills),
            ("agents", self.agents),
        ):
            twice = {name for name in names if list(names).count(name) > 1}
            if twice:
                raise ValueError(f"{what} name {', '.join(sorted(twice))} twice")
        return self

    @model_validator(mode="after")
    def _phases_fit(self) -> SavedAgent:
        if self.phases:
            from lorimer.stages.s06_phases import faults  # only if there are any

            wrong = list(faults([(each.name, each.prompt) for each in self.phases]))
            if wrong:
                raise ValueError("; ".join([f"phases{fault}" for fault in wrong]))
        return self

    @model_validator(mode="after")
    def _form_can_be_checked(self) -> SavedAgent:
        if self.output_schema is not None:
            from lorimer.tools.schema import compile_schema  # only if there is one

            try:
                compile_schema(self.output_schema, "output_schema")
            except ConfigError as error:
                raise ValueError(error.message) from None
        return self

    @property
    def id(self) -> str:
        """`owner/name`; for one that is built in, `name`. Audits call it the subject."""
        return f"{self.owner}/{self.name}" if self.owner else self.name

    def is_for(self, person: Person) -> bool:
        """Whether that person may see and run it."""
        if not self.owner or self.owner == person.name or self.visibility == "public":
            return True
        return self.visibility == "shared" and person.is_one_of(frozenset(self.shared_with))

    def input_schema(self) -> dict[str, JSON]:
        """The JSON Schema of its declared inputs."""
        properties: dict[str, JSON] = {}
        for each in self.inputs:
            about: dict[str, JSON] = {"type": each.type}
            if each.description:
                about["description"] = each.description
            if not each.required and each.default is not None:
                about["default"] = each.default
            properties[each.name] = about
        return {
            "type": "object",
            "properties": properties,
            "required": [each.name for each in self.inputs if each.required],
            "additionalProperties": False,
        }

    def to_runnable(self) -> RunnableAgent:
        """The form that an executor runs."""
        return RunnableAgent(
            name=self.name,
            prompt=self.prompt,
            model=self.model,
            max_turns=self.max_turns,
            timeout_s=self.timeout_s,
            tools=self.tools,
            skills=self.skills,
            agents=self.agents,
            description=self.description,
            critic=self.critic,
            phases=self.phases,
            output_schema=self.output_schema,
            subject=self.id,
            version=self.version,
        )

    def to_skill(self) -> Skill:
        """The form that a palette gives to agents that call it with its declared inputs."""
        return Skill(self.to_runnable(), self.input_schema(), self.description)

    def to_json(self) -> dict[str, JSON]:
        """Plain form; lossless."""
        return self.model_dump(mode="json")

    @classmethod
    def from_json(cls, data: Mapping[str, JSON], where: str = "agent") -> SavedAgent:
        """The inverse of `to_json`, also for hand-written data. Raises ConfigError listing every
        fault, beginning with `where`."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            problems = tuple(problems_of(error, where, cls))
            raise ConfigError("; ".join(problems), problems=problems) from None
