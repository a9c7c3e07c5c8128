"""The demo in three acts.

1. An agent works on real data, in its own process. 2. That process is killed with SIGKILL while its
model is answering, and another one resumes. 3. What was not repeated is counted: from the facts of
the journal, the requests that the model's server received, and what the analysis left on disk.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from shlex import quote
from typing import TYPE_CHECKING, Final

from lorimer.cli import agent, host
from lorimer.cli.demo.actor import CUT_TURN, actor
from lorimer.cli.demo.process import AgentProcess
from lorimer.cli.demo.proof import Proof, logged
from lorimer.cli.demo.show import Cast, Show
from lorimer.cli.demo.stage import Folder, describe_agent, lay_out
from lorimer.cli.fail import FAILED, INTERRUPTED, OK, Fault
from lorimer.cli.store import opened
from lorimer.core.errors import ExecutorErrorCode
from lorimer.core.events import Event
from lorimer.core.journal import RunRow
from lorimer.core.request import Usage
from lorimer.journal.recording import facts_of
from lorimer.testing.fake_server import FakeLLMServer
from lorimer.world import RealWorld

if TYPE_CHECKING:
    from lorimer.journal.sqlite.store import SQLiteJournal
    from lorimer.models.registry import Models

_POLL_S: Final = 0.05
_IN_FLIGHT_S: Final = 0.4
"""Seconds after the intent of a model call until its request is certainly in flight."""
_PACE_S: Final = 0.7


async def play(folder: Folder, cast: Cast, *, paced: bool) -> int:
    """Play the demo in a new folder; returns the exit code."""
    world = RealWorld()
    described = describe_agent(cast.model, priced=cast.priced)
    if cast.model is not None:  # report what is missing before anything is written
        known = host.read(None)
        models = agent.connect(described, cast.base_url, cast.api_key_env, world, known)
        try:
            if cast.priced:
                _check_prices(models, cast.model)
        finally:
            await models.aclose()
    elif find_spec("anthropic") is None:
        raise Fault(
            "the script is played to Anthropic's SDK, which is not installed",
            code=ExecutorErrorCode.EXEC_API_SDK_MISSING.value,
            hint="pip install 'lorimer[anthropic]'",
        )
    try:
        lay_out(folder, described)
    except OSError as error:
        raise Fault(
            f"cannot play in {folder.root}: {error.strerror}", hint="Name a folder: --dir DIR"
        ) from None
    with _server(cast, _PACE_S if paced else 0.0) as server:
        url = server.url if server is not None else cast.base_url
        show = Show(folder, cast, url, world, paced)
        async with opened(folder.journal, world) as journal:
            return await _Play(show, journal, server).run()


def _check_prices(models: Models, spec: str) -> None:
    """Raises Fault for a model of unknown price: the limit of one dollar could not be enforced."""
    for target in models.targets(spec):
        if target.model.price(Usage(output_tokens=1)) is None:
            raise Fault(
                f"the price of {target.model.name!r} is not known, so no limit of $1 could be kept",
                hint=f"Is the name right? Ask it: lorimer models check {quote(spec)}",
                code=ExecutorErrorCode.EXEC_API_UNPRICED.value,
            )


@contextmanager
def _server(cast: Cast, pause_s: float) -> Generator[FakeLLMServer | None]:
    """The server that plays the script; None if a real model is used."""
    if cast.model is not None:
        yield None
        return
    with FakeLLMServer(actor(pause_s)) as server:
        yield server


class _Play:
    """One demo."""

    def __init__(self, show: Show, journal: SQLiteJournal, server: FakeLLMServer | None) -> None:
        self._show = show
        self._journal = journal
        self._server = server
        self._world = show.world

    async def run(self) -> int:
        show = self._show
        show.opening()
        first = AgentProcess(show.first_command())
        try:
            row = await self._until_in_flight(first)
            if row is None:
                return await self._not_killed(first)
            await show.pause(1.2)
            first.kill()
        finally:
            first.stop()
        facts = await facts_of(self._journal, row)
        show.killed(first.pid, facts, row)
        await show.pause(2.5)
        second = AgentProcess(show.second_command(row))
        try:
            show.resuming(second.pid, row)
            while second.exit_code is None:
                await self._world.sleep(_POLL_S)
        finally:
            second.stop()
        if second.exit_code != OK:
            return _ended_early(second.exit_code)
        await show.pause(1.5)
        whole = await facts_of(self._journal, row)
        requests = [request.number for request in self._server.requests] if self._server else None
        proof = Proof.of(facts, whole, len(requests) if requests else None, show.folder.log)
        show.proof(proof)
        await show.pause(2.0)
        show.closing(row, whole)
        return OK if proof.holds else FAILED

    async def _until_in_flight(self, process: AgentProcess) -> RunRow | None:
        """Wait for the moment to kill: the result of the analysis is recorded, and the next request
        to the model is in flight. None: the agent ended before."""
        while process.exit_code is None:
            await self._world.sleep(_POLL_S)
            rows = await self._journal.runs(limit=1)
            if not rows:
                continue
            facts = await facts_of(self._journal, rows[0])
            if _in_flight(facts) and self._asked():
                await self._world.sleep(_IN_FLIGHT_S)
                again = await facts_of(self._journal, rows[0])
                if len(again) == len(facts) and process.exit_code is None:
                    return rows[0]
        return None

    def _asked(self) -> bool:
        return self._server is None or len(self._server.requests) > CUT_TURN

    async def _not_killed(self, process: AgentProcess) -> int:
        """The agent ended before the kill: real models, and people, may do anything."""
        code = process.exit_code
        rows = await self._journal.runs(limit=1)
        if code != OK or not rows:
            return _ended_early(code)
        self._show.was_too_quick()
        self._show.closing(rows[0], await facts_of(self._journal, rows[0]))
        return OK


def _ended_early(code: int | None) -> int:
    """The agent's own exit code; it has reported why itself."""
    return INTERRUPTED if code in (None, -2) else code if code > 0 else FAILED


def _in_flight(facts: Sequence[Event]) -> bool:
    """Whether the analysis has ended, and the last fact is a call to the model."""
    return bool(facts) and facts[-1].type == "model.intent" and logged(facts) > 0
