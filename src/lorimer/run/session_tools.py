"""Tools that are created for a single run, with images that they show to its model, files that they
add to its answer, and their clean-up. Created and closed by `job_ports.py`."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from lorimer.core.arguments import is_a
from lorimer.core.context import RunContext
from lorimer.core.errors import ConfigError, ToolExecutionError
from lorimer.core.jsonable import JSON
from lorimer.core.mailbox import mail_of
from lorimer.core.messages import ImageBlock, Message
from lorimer.run.bounded import bounded
from lorimer.run.delivery import Artifact, artifacts_of
from lorimer.tools.base import Tool

if TYPE_CHECKING:
    from lorimer.run.result import RunResult

MAX_IMAGES: Final = 20
"""Maximum that wait to be shown."""


class ToolSession:
    """The run for which tools are created: the argument of their factory."""

    def __init__(
        self, run_id: str, caller_id: str, channel_id: str, inputs: Mapping[str, JSON]
    ) -> None:
        self.run_id = run_id
        self.caller_id = caller_id
        self.channel_id = channel_id
        self.inputs = inputs
        self._run: RunContext | None = None
        self._phases = False
        self._waiting = 0
        self._turn = ("", -1)

    def attach_images(self, *images: ImageBlock, text: str = "") -> None:
        """Show images to the model before its next call, with a text; recorded when they are shown.
        Only to be called from the event loop. Raises ToolExecutionError, which a tool passes on to
        the model, before the run is live and after its end, and for more than MAX_IMAGES in one
        turn."""
        run = self._run
        if run is not None and self._phases:  # the current phase; the run itself calls no model
            run = next(iter(run.below), None)
        if run is None:
            raise ToolExecutionError("there is no run that goes on to show pictures to")
        if any(not is_a(image, ImageBlock) for image in images):
            raise ToolExecutionError("attach_images takes ImageBlocks")
        turn = (run.id, run.bounds.turns)
        if turn != self._turn:
            self._turn, self._waiting = turn, 0
        if self._waiting + len(images) > MAX_IMAGES:
            raise ToolExecutionError(f"at most {MAX_IMAGES} pictures are shown at once")
        self._waiting += len(images)
        mail_of(run).nudge(text, images)

    def live(self, run: RunContext | None, *, phases: bool = False) -> None:
        """The run is live, with phases or not; None: it is over."""
        self._run = run
        self._phases = phases


class SessionTools:
    """The tools of one run. All parts are optional; what raises or hangs here after the run costs
    it a warning, not its result."""

    tools: Sequence[Tool] = ()

    async def post_run(self, result: RunResult, messages: Sequence[Message]) -> Sequence[Artifact]:
        """The run has ended, however (a suspended one has not): returns files to accompany its
        answer."""
        return ()

    async def cleanup(self) -> None:
        """Release everything. Called once, as the last one, however the run ended, even if it never
        began."""


SessionToolsFactory: TypeAlias = Callable[[ToolSession], SessionTools | Awaitable[SessionTools]]


class OwnTools:
    """The session tools of one run, from their creation to their end."""

    def __init__(self, session: ToolSession, within_s: float) -> None:
        """`within_s`: seconds for each call of the host's code."""
        self.session = session
        self._within_s = within_s
        self._made: SessionTools | None = None

    @property
    def tools(self) -> Sequence[Tool]:
        """Empty until they are created."""
        return self._made.tools if self._made is not None else ()

    async def make(self, factory: SessionToolsFactory) -> None:
        """Raises ConfigError if the factory fails, takes too long or returns something else."""

        async def ask() -> None:
            made = factory(self.session)
            given = await made if inspect.isawaitable(made) else made
            if not is_a(given, SessionTools):
                raise TypeError(f"it gave {given!r}, which is no SessionTools")
            self._made = given  # here, because the waiting task may be cancelled at this moment

        warnings: list[str] = []
        await bounded("session_tools", ask, self._within_s, warnings)
        if warnings:
            raise ConfigError(f"the tools of this run could not be made: {warnings[0]}")

    async def after(self, result: RunResult, warnings: list[str]) -> None:
        """The run has ended, or there was none: collect files for `result`, and close the tools."""
        made, within_s = self._made, self._within_s
        self.session.live(None)
        if made is None:
            return
        if result.run is not None and result.status != "suspended":
            ended = partial(made.post_run, result, result.messages)
            left = await bounded("session_tools.post_run", ended, within_s, warnings)
            result.artifacts += artifacts_of("session_tools.post_run", left, warnings)
        await bounded("session_tools.cleanup", made.cleanup, within_s, warnings)
