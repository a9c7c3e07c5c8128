"""Tools that a manifest describes itself, as data. What they do: `lorimer.tools.adhoc`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    model_validator,
)

from lorimer.core.jsonable import texts_in
from lorimer.core.redaction import is_secret, names_secret

MAX_TOOLS: Final = 100
MAX_SCRIPT_CHARS: Final = 10_000
MAX_STEPS: Final = 20

PLACE: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]{0,63})\}")
"""A placeholder for a value in a text: `{name}`. No attributes, indexes or formats; braces around
anything else are plain text."""

VARIABLE: Final = re.compile(r"\$\{([A-Z][A-Z0-9_]{0,99})\}")
"""A placeholder for a variable of the host's, in a text of an `http` tool."""

_ORIGIN: Final = re.compile(r"https?://[^/?#{}@\s]+[/?#]|https?://[^/?#{}@\s]+\Z")


def _free(name: str) -> str:
    if name.lower() in ("host", "content-length", "transfer-encoding", "connection"):
        raise ValueError("may not be set by a manifest")
    return name


_Name: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
_Header: TypeAlias = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$"), AfterValidator(_free)
]
_Text: TypeAlias = Annotated[str, StringConstraints(max_length=20_000)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_assignment=True, defer_build=True)


class _Tool(_Part):
    name: _Name
    """Name of the tool."""
    description: _Text = ""
    """What the model reads to decide whether to call it."""
    parameters: dict[str, JsonValue] = {}
    """JSON Schema of each argument, by name."""
    required: list[str] | None = None
    """Required arguments; null: all of them."""

    def texts(self) -> Iterator[str]:
        """All texts with placeholders."""
        yield from ()

    def extra_names(self) -> set[str]:
        """Names with values, in addition to the arguments."""
        return set()

    @model_validator(mode="after")
    def _places_have_values(self) -> _Tool:
        known = {*self.parameters, *self.extra_names()}
        for name in self.required or ():
            if name not in self.parameters:
                raise ValueError(f"required: there is no parameter {name!r}")
        for text in self.texts():
            for name in places(text):
                if name not in known:
                    raise ValueError(f"{{{name}}} is neither a parameter nor what a step saves")
        return self


class HttpTool(_Tool):
    """One request to an address on the public internet that the manifest gives."""

    kind: Literal["http"]
    """Kind of the tool."""
    url: _Text
    """Scheme and host are fixed; `{name}` may be used in what follows, and is percent-encoded."""
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    """Redirects are followed for GET and HEAD only."""
    headers: dict[_Header, str] = {}
    """Headers; `{name}` and `${NAME}` are replaced. Keys do not belong here: use a variable."""
    body: JsonValue = None
    """Sent as JSON, or as text if it is a string. `{name}` alone is replaced by the value
    itself."""
    result: str = ""
    """The part of a JSON answer to return: names and numbers separated by dots; null: all of it."""
    timeout_s: Annotated[float, Field(gt=0, le=600)] = 30.0
    """Timeout in seconds."""

    def texts(self) -> Iterator[str]:
        """See `_Tool`."""
        for text in (self.url, *self.headers.values(), *texts_in(self.body)):
            yield VARIABLE.sub("", text)

    def variables(self) -> list[str]:
        """The names in `${NAME}`."""
        texts = (self.url, *self.headers.values(), *texts_in(self.body))
        return [name for text in texts for name in VARIABLE.findall(text)]

    @model_validator(mode="after")
    def _origin_is_literal(self) -> HttpTool:
        if not _ORIGIN.match(self.url):
            raise ValueError("url: must begin with http:// or https:// and a host, as they are")
        for name, text in self.headers.items():
            rest = PLACE.sub("", VARIABLE.sub("", text))
            if names_secret(name) and is_secret(rest.split(" ")[-1]):
                raise ValueError(
                    f"headers.{name}: a key does not belong in a manifest; write ${{NAME}}, and"
                    " have the host hand in the variable"
                )
        return self


class ScriptTool(_Tool):
    """Python code that defines `execute(input)`, run in a process of its own, in the host's
    sandbox."""

    kind: Literal["script"]
    """Kind of the tool."""
    script: Annotated[str, StringConstraints(min_length=1, max_length=MAX_SCRIPT_CHARS)]
    """The code. The return value of `execute` and everything printed are returned."""
    timeout_s: Annotated[float, Field(gt=0, le=600)] = 60.0
    """Timeout in seconds."""


class TemplateTool(_Tool):
    """A text with the arguments filled in."""

    kind: Literal["template"]
    """Kind of the tool."""
    template: _Text
    """`{name}` is replaced by an argument."""

    def texts(self) -> Iterator[str]:
        """See `_Tool`."""
        yield self.template


class CompositeStep(_Part):
    """One call of another tool."""

    tool: _Name
    """Name of the tool."""
    input: dict[str, JsonValue] = {}
    """Its arguments. `{name}` is replaced by an argument, or by the result of an earlier step."""
    save: Annotated[str, StringConstraints(pattern=r"^([A-Za-z_][A-Za-z0-9_]{0,63})?$")] = ""
    """The name under which later steps can use its result."""


class CompositeTool(_Tool):
    """A sequence of calls of other tools, each permitted separately; ends at the first failure."""

    kind: Literal["composite"]
    """Kind of the tool."""
    steps: Annotated[list[CompositeStep], Field(min_length=1, max_length=MAX_STEPS)]
    """The steps, in order."""
    result: str = ""
    """The text that is returned; null: the result of the last step."""

    def texts(self) -> Iterator[str]:
        """See `_Tool`."""
        for step in self.steps:
            yield from texts_in(step.input)
        yield self.result

    def extra_names(self) -> set[str]:
        """See `_Tool`."""
        return {step.save for step in self.steps if step.save}

    @model_validator(mode="after")
    def _steps_come_before(self) -> CompositeTool:
        known = set(self.parameters)
        for number, step in enumerate(self.steps, 1):
            late = [n for text in texts_in(step.input) for n in places(text) if n not in known]
            if late:
                raise ValueError(
                    f"steps: step {number} uses {{{late[0]}}}, which only a later step saves"
                )
            if step.save in known:
                raise ValueError(f"steps: step {number} saves {step.save!r}, which is taken")
            known |= {step.save} - {""}
        return self


AdHocTool: TypeAlias = Annotated[
    HttpTool | ScriptTool | TemplateTool | CompositeTool, Field(discriminator="kind")
]


def places(text: str) -> list[str]:
    """The names of the placeholders in a text."""
    return PLACE.findall(text)
