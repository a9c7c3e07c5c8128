"""One call of an executor: for whom, with what, and who is told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import field
from types import NoneType
from typing import TypeAlias

from lorimer.core.errors import ConfigError
from lorimer.core.jsonable import JSON, dumps, no_data
from lorimer.core.messages import ImageBlock
from lorimer.core.record import record
from lorimer.run.checking import FUNCTION, check, set_many
from lorimer.run.delivery import Target
from lorimer.run.inputs import InputFile
from lorimer.run.session_tools import SessionToolsFactory
from lorimer.run.steps import RunStep
from lorimer.tools.base import Tool

OnStep: TypeAlias = Callable[[RunStep], Awaitable[None] | None]


@record
class Invocation:
    """Every field may be left out."""

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
    delivery: Target | None = None
    """Where the answer goes, or the error."""
    priority: int = 0
    """Among this caller's runs in the executor's lane: higher first."""
    on_step: OnStep | None = None
    """Called when a tool call begins and when it has ended; may be async, and then is behind. What
    it raises is logged."""

    def __post_init__(self) -> None:
        """Raises ConfigError for a field of another type, and for inputs that are no plain data."""
        check(
            "Invocation",
            run_id=(self.run_id, str),
            caller_id=(self.caller_id, str),
            channel_id=(self.channel_id, str),
            parent_run_id=(self.parent_run_id, str),
            inputs=(self.inputs, Mapping),
            session_tools=(self.session_tools, (FUNCTION, NoneType)),
            delivery=(self.delivery, (Target, NoneType)),
            priority=(self.priority, int),
            on_step=(self.on_step, (FUNCTION, NoneType)),
        )
        set_many(self, ImageBlock, "images")
        set_many(self, InputFile, "input_files")
        set_many(self, Tool, "extra_tools")
        if self.inputs:
            try:
                dumps(self.inputs)
            except (TypeError, ValueError, RecursionError) as error:
                raise ConfigError(f"Invocation.inputs are no plain data: {error}") from None
