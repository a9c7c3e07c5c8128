"""One call of an executor: the caller, the inputs, and who is notified."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import field
from types import NoneType
from typing import TypeAlias

from lorimer.core.arguments import check_port, check_texts, each_of, is_a, wrong
from lorimer.core.errors import ConfigError
from lorimer.core.jsonable import JSON, dumps, no_data
from lorimer.core.messages import ImageBlock
from lorimer.core.record import record
from lorimer.run.agent import RunnableAgent
from lorimer.run.delivery import Target
from lorimer.run.inputs import InputFile
from lorimer.run.palette import Palette
from lorimer.run.session_tools import SessionToolsFactory
from lorimer.run.steps import RunStep
from lorimer.tools.base import Tool

OnStep: TypeAlias = Callable[[RunStep], Awaitable[None] | None]
OnText: TypeAlias = Callable[[str | None], None]


@record
class Invocation:
    """For whom an agent is run, with what inputs, and who is notified. All fields are optional.
    Raises ConfigError for fields of the wrong type."""

    run_id: str = ""
    """The id of the run; "": a new one is made. No other run in the journal may have it."""
    caller_id: str = ""
    """The person on whose behalf it runs; the same string for the same person."""
    channel_id: str = ""
    """Where the request came from, in the host's own terms."""
    parent_run_id: str = ""
    """The parent run from the host's point of view."""
    inputs: Mapping[str, JSON] = field(default_factory=no_data)
    """Named values in addition to the input: passed to audits, and to the model as JSON after the
    input."""
    images: tuple[ImageBlock, ...] = ()
    """Shown together with the input."""
    input_files: tuple[InputFile, ...] = ()
    """Files that the model reads by id; images among them are shown."""
    extra_tools: tuple[Tool, ...] = ()
    """Tools of this run only, in addition to those that its agent names."""
    session_tools: SessionToolsFactory | None = None
    """Creates further tools, which are given the result of the run and closed with it."""
    palette: Palette | None = None
    """What its agent may delegate to, instead of the executor's palette: for palettes that depend
    on the caller."""
    delivery: Target | None = None
    """Where the answer, or the error, is sent."""
    priority: int = 0
    """Relative to this caller's other runs in the executor's lane: higher first."""
    on_step: OnStep | None = None
    """Called when a tool call begins and when it ends; may be async, and then lags behind. Its
    exceptions are logged."""
    on_text: OnText | None = None
    """Called with each piece of text from the model, in every turn and phase; with None when what
    was streamed of this answer is void, and it starts over. Called synchronously, so it must not
    block: clients that are slow or gone are up to the host. Its exceptions are logged."""

    def __post_init__(self) -> None:
        check_texts(
            "Invocation",
            run_id=self.run_id,
            caller_id=self.caller_id,
            channel_id=self.channel_id,
            parent_run_id=self.parent_run_id,
        )
        if not is_a(self.inputs, Mapping):
            raise wrong("Invocation.inputs", self.inputs, "a mapping", '{"city": "Oslo"}')
        for name, kind, example in (
            ("images", ImageBlock, "[ImageBlock(type, base64)]"),
            ("input_files", InputFile, "[InputFile(name, data)]"),
            ("extra_tools", Tool, "[f], where f has @tool"),
        ):
            given = each_of(f"Invocation.{name}", getattr(self, name), kind, example)
            object.__setattr__(self, name, given)
        if self.inputs:
            try:
                dumps(self.inputs)
            except (TypeError, ValueError, RecursionError) as error:
                raise ConfigError(f"Invocation.inputs are not plain data: {error}") from None
        if self.palette is not None:
            check_port("Invocation.palette", self.palette, Palette, "FixedPalette([agent])")
        if not is_a(self.delivery, Target, NoneType):
            raise wrong("Invocation.delivery", self.delivery, "a Target", 'Target("channel", "42")')
        if not is_a(self.priority, int):
            raise wrong("Invocation.priority", self.priority, "a whole number", "priority=1")
        for name in ("session_tools", "on_step", "on_text"):
            if (given := getattr(self, name)) is not None and not callable(given):
                raise wrong(f"Invocation.{name}", given, "a function", f"{name}=my_function")


def check_agent(agent: object) -> None:
    """Raises ConfigError."""
    if not is_a(agent, RunnableAgent):
        raise wrong("agent", agent, "a RunnableAgent", 'RunnableAgent("guide", prompt="...")')


def check_asked(agent: object, input: object, asked: object) -> None:
    """Check the arguments of one call. Raises ConfigError."""
    check_agent(agent)
    if not is_a(input, str):
        raise wrong("input", input, "text", 'Invocation(inputs={"city": "Oslo"}) has named values')
    check_invocation(asked)


def check_invocation(asked: object) -> None:
    """Raises ConfigError."""
    if not is_a(asked, Invocation):
        raise wrong("invocation", asked, "an Invocation", 'Invocation(caller_id="ann")')
