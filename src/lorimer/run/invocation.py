"""One call of an executor: for whom, with what, and who is told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import field
from types import NoneType
from typing import TypeAlias

from lorimer.core.arguments import check_port, each_of, is_a, wrong
from lorimer.core.errors import ConfigError
from lorimer.core.jsonable import JSON, dumps, no_data
from lorimer.core.messages import ImageBlock
from lorimer.core.record import record
from lorimer.run.agent import RunnableAgent
from lorimer.run.delivery import Target
from lorimer.run.fields import check_texts
from lorimer.run.inputs import InputFile
from lorimer.run.palette import Palette
from lorimer.run.session_tools import SessionToolsFactory
from lorimer.run.steps import RunStep
from lorimer.tools.base import Tool

OnStep: TypeAlias = Callable[[RunStep], Awaitable[None] | None]
OnText: TypeAlias = Callable[[str | None], None]


@record
class Invocation:
    """For whom an agent is run, with what, and who hears of it. Every field may be left out. Raises
    ConfigError for fields of the wrong kind."""

    run_id: str = ""
    """Of the run; none: a new one is made. No other run of the journal may have it."""
    caller_id: str = ""
    """On whose behalf; the same string for the same person."""
    channel_id: str = ""
    """Where the request came from, as the host names it."""
    parent_run_id: str = ""
    """The run that it belongs to in the host's eyes."""
    inputs: Mapping[str, JSON] = field(default_factory=no_data)
    """Named values beside the input: told to audits, and to the model as JSON after the input."""
    images: tuple[ImageBlock, ...] = ()
    """Shown with the input."""
    input_files: tuple[InputFile, ...] = ()
    """Read by the model by their ids; pictures among them are shown."""
    extra_tools: tuple[Tool, ...] = ()
    """Tools of this run alone, which it has besides those that its agent names."""
    session_tools: SessionToolsFactory | None = None
    """Makes more of them, which are told how it went and are ended with it."""
    palette: Palette | None = None
    """Whom its agent may give work to, instead of the executor's: where that is another for each
    caller."""
    delivery: Target | None = None
    """Where the answer goes, or the error."""
    priority: int = 0
    """Among this caller's runs in the executor's lane: higher first."""
    on_step: OnStep | None = None
    """Called when a tool call begins and when it has ended; may be async, and then is behind. What
    it raises is logged."""
    on_text: OnText | None = None
    """Called with each piece of text that the model says, in every turn and phase; with None where
    what was said of this answer does not hold, and it begins anew. At once, so it must not wait:
    a client that is slow, or gone, is the host's affair. What it raises is logged."""

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
                raise ConfigError(f"Invocation.inputs are no plain data: {error}") from None
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
    """The arguments of one call. Raises ConfigError."""
    check_agent(agent)
    if not is_a(input, str):
        raise wrong("input", input, "text", 'Invocation(inputs={"city": "Oslo"}) has named values')
    check_invocation(asked)


def check_invocation(asked: object) -> None:
    """Raises ConfigError."""
    if not is_a(asked, Invocation):
        raise wrong("invocation", asked, "an Invocation", 'Invocation(caller_id="ann")')
