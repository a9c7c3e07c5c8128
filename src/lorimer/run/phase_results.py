"""Executors and agents with phases: unusable models are replaced before the run, and the result
receives the steps and texts of all phases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from lorimer.core.errors import JournalError, LorimerError, PipelineError
from lorimer.core.facts import PHASE
from lorimer.core.journal import Journal
from lorimer.core.model import ModelResolver
from lorimer.core.redaction import logger
from lorimer.journal.family import children_in
from lorimer.journal.fold import Fold
from lorimer.journal.recording import recorded
from lorimer.run.agent import RunnableAgent
from lorimer.run.phases import Phase
from lorimer.run.result import RunResult
from lorimer.run.steps import steps_of

_log = logger("lorimer.run")


def usable(
    agent: RunnableAgent, models: ModelResolver, warn: Callable[[str], None]
) -> RunnableAgent:
    """The agent, with its own model for those phases whose model cannot be used."""
    if not any(phase.model for phase in agent.phases):
        return agent
    return replace(agent, phases=tuple([_usable(each, models, warn) for each in agent.phases]))


def _usable(phase: Phase, models: ModelResolver, warn: Callable[[str], None]) -> Phase:
    if not phase.model:
        return phase
    try:
        models.targets(phase.model)
    except LorimerError as error:
        why = (
            f"the model {phase.model!r} of the phase {phase.name!r} cannot be used, and the "
            f"agent's is: {error.message}"
        )
        _log.warning("%s", why)
        warn(why)
        return replace(phase, model="")
    return phase


async def gather(result: RunResult, journal: Journal) -> None:
    """Put the steps and the conversations of its phases, if it has any, into the result of a run,
    in order."""
    below = children_in(result.run.events if result.run else ())
    made: Sequence[str] = [each.run_id for each in below if each.key.startswith(PHASE)]
    for run_id in made:
        try:
            recording = await recorded(journal, run_id)
        except (JournalError, PipelineError) as error:  # it had not begun, or the store failed
            _log.warning("a phase of %s cannot be read: %s", result.run_id, error)
            continue
        fold = Fold()
        for fact in recording.facts:
            fold.apply(fact)
        fold.close()
        result.steps.extend(steps_of(recording.facts))
        result.messages += fold.messages
