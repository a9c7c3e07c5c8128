"""Watches a run for its critic (`port.py`), and carries out its decisions. The means for that are
the engine's: `core/raised.py`, the inbox (`core/mailbox.py`), `core/cancel.py`.

The watcher is a task of the run: it ends before the run's last fact is written. The run's limits
apply regardless, so nothing that a critic does or fails to do makes a run endless.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Final

from lorimer.core.arguments import is_a
from lorimer.core.context import RunContext
from lorimer.core.errors import JournalError
from lorimer.core.limits import Limits
from lorimer.core.mailbox import mail_of
from lorimer.core.raised import raise_limits
from lorimer.core.redaction import logger
from lorimer.core.request import NO_USAGE
from lorimer.run.agent import RunnableAgent
from lorimer.run.bounded import bounded
from lorimer.run.critic.port import Critic, Decision, Seen, Supervised, Supervision

CEILING_S: Final = 24 * 3600.0
"""Maximum duration of a run with a critic, unless its own `timeout_s` is longer."""
MOST_TURNS: Final = 100_000
"""Maximum turns of such a run."""
LOOK_S: Final = 30.0
"""Seconds that a critic has for one review."""
_WHY_CHARS: Final = 500

_log: Final = logger("lorimer.run")


def is_watched(critic: Critic | None, agent: RunnableAgent) -> bool:
    """Whether runs of this agent have a critic."""
    return critic is not None and agent.critic


def ceiling(limits: Limits) -> Limits:
    """The limits of a watched agent, far above those its runs begin with."""
    return replace(limits, timeout_s=max(CEILING_S, limits.timeout_s))


def unlimited(limits: Limits) -> Limits:
    """The limits of child runs that may use all that their parent has: never more than that."""
    return replace(ceiling(limits), max_turns=MOST_TURNS, max_cost_usd=None)


class Watch:
    """The watch of a critic over one run."""

    __slots__ = ("_by", "_ceiling_s", "_phased", "_soft_s", "_warnings", "limits")

    def __init__(
        self,
        critic: Critic,
        agent: RunnableAgent,
        limits: Limits,
        run_id: str,
        caller_id: str,
        warnings: list[str],
    ) -> None:
        """`limits`: those of the agent without a critic. `warnings` collects failures, for the
        run's result."""
        self.limits = limits
        """The limits that the run begins with."""
        self._warnings = warnings
        self._by: Supervision | None = None
        self._phased = bool(agent.phases)
        self._soft_s = soft_s = limits.timeout_s
        self._ceiling_s = ceiling(limits).timeout_s
        run = Supervised(run_id, agent.name, caller_id, soft_s, self._ceiling_s)
        try:
            by = critic.supervise(run)
            if by is not None:
                limit_s = float(by.limit_s)
                limit_s = min(limit_s, self._ceiling_s) if limit_s > soft_s else soft_s
                self.limits, self._by = replace(limits, timeout_s=limit_s), by
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - a port's fault
            self.failed(error)

    @asynccontextmanager
    async def during(self, run: RunContext) -> AsyncGenerator[None, None]:
        """Watch a run that is about to begin, until it ends."""
        if self._by is None:
            yield
            return
        run.bounds.most_s = self._ceiling_s
        watcher = run.owned.own(_Watcher, lambda: _Watcher(self, run))
        try:
            yield
        finally:  # ended by the run, unless it never got that far
            await watcher.end()

    async def watch(self, run: RunContext) -> None:
        """Review it repeatedly."""
        every = min(max(self._soft_s / 20, 0.05), 5.0)
        clock = run.world.monotonic
        marks: object = None
        since = clock()
        while True:
            await run.world.sleep(every)
            if run.replaying or not run.facts:
                since = clock()
                continue
            now = _progress(run)
            if now != marks or any(each.asking for each in _all(run)):
                marks, since = now, clock()
            at_work = self._at_work(run)
            decision = await self._look(_observation(run, at_work, clock() - since))
            if decision is not None and not run.over:
                try:
                    await self._carry_out(decision, run, at_work)
                except JournalError:
                    return  # that ends the run
                except Exception as error:  # noqa: BLE001 - what it decided was no decision
                    self.failed(error)

    async def _look(self, seen: Seen) -> Decision | None:
        if self._by is None:
            return None
        failed: list[str] = []
        decision = await bounded("the critic", partial(_called, self._by, seen), LOOK_S, failed)
        self._warn(failed)
        return decision

    async def _carry_out(self, decision: Decision, run: RunContext, at_work: RunContext) -> None:
        """`at_work`: what the critic saw at work; it may have ended since."""
        if decision.kill:
            run.cancellation.kill(str(decision.kill)[:_WHY_CHARS])
            return
        most = at_work.bounds.limits.max_turns
        turns = max(min(int(decision.raise_turns), MOST_TURNS), 0)
        turns = max(min(most + turns, MOST_TURNS), most)
        more_s = float(decision.extend_s)
        if at_work is not run:
            await raise_limits(at_work, max_turns=turns)
        await raise_limits(
            run,
            max_turns=turns if at_work is run else 0,
            timeout_s=run.bounds.limits.timeout_s + more_s if more_s > 0 else 0.0,
        )
        if decision.nudge:
            for each in _all(run):
                if not each.below:
                    mail_of(each).nudge(f"[Note from the program that runs you: {decision.nudge}]")

    def _at_work(self, run: RunContext) -> RunContext:
        """The run whose turns count: of one with phases, the current phase."""
        return next(iter(run.below), run) if self._phased else run

    def failed(self, error: BaseException) -> None:
        """A port failed, which is not the run's fault."""
        told = f"the critic failed: {type(error).__name__}: {error}"
        _log.warning("%s", told)
        self._warn([told])

    def _warn(self, told: Sequence[str]) -> None:
        # once, however often it occurred
        self._warnings += [each for each in told if each not in self._warnings]


class _Watcher:
    """The task of a watch. Owned by the run: see `core.owned.Owned`."""

    def __init__(self, watch: Watch, run: RunContext) -> None:
        loop = asyncio.get_running_loop()
        self._watch = watch
        self._task = loop.create_task(watch.watch(run), name=f"critic of {run.id}")

    async def end(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled() and (error := self._task.exception()) is not None:
            self._watch.failed(error)


async def _called(by: Supervision, seen: Seen) -> Decision | None:
    decision = await by.look(seen)
    if decision is not None and not is_a(decision, Decision):
        raise TypeError(f"it returned a {type(decision).__name__}, not a Decision")
    return decision


def _all(run: RunContext) -> Iterator[RunContext]:
    """The run and its live child runs."""
    yield run
    for each in run.below:
        yield from _all(each)


def _progress(run: RunContext) -> object:
    """A value that changes whenever something was done."""
    return [
        (each.id, len(each.facts), each.alarm.pending())
        for each in _all(run)
        if each.facts and not each.replaying
    ]


def _observation(run: RunContext, at_work: RunContext, idle_s: float) -> Seen:
    bounds, turns = run.bounds, at_work.bounds
    return Seen(
        run.id,
        bounds.used_s(run.world.monotonic()),
        idle_s,
        bounds.limits.timeout_s,
        bounds.limits.timeout_s - bounds.given.timeout_s,
        turns.turns,
        turns.limits.max_turns,
        sum([each.spend.usage for each in _all(run)], NO_USAGE),
        sum([each.spend.nano for each in _all(run)]),
        at_work.messages,
    )
