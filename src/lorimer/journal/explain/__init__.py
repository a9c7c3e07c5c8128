"""Why a recorded run went as it did: every decision in it with a reason, and with the path in the
manifest, the rule, the limit or the person that made it.

Derived from the facts and from the manifest with which the run began; nothing is called or run.
Parts: the manifest in force (`in_force.py`), the models that were called (`models.py`), calls,
people and hooks (`calls.py`, `verdicts.py`), phases (`phases.py`), ends of turns and runs
(`ends.py`), what comes to a run from outside (`external.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from lorimer.core.catalogue import Catalogue
from lorimer.core.events import Event
from lorimer.core.facts import PHASE
from lorimer.core.jsonable import JSON, dumps, items_of, objects_of
from lorimer.core.manifest import StageEntry
from lorimer.core.raised import RAISED
from lorimer.core.stage import AnyStage, Stage
from lorimer.journal.explain import ends, external, phases
from lorimer.journal.explain.calls import Calls
from lorimer.journal.explain.in_force import ManifestInForce
from lorimer.journal.explain.models import ModelCalls
from lorimer.journal.explain.reason import KINDS, Explanation, Kind, Origin, because
from lorimer.journal.recording import Recording

_NOTHING: Final = frozenset({"no_summary"})
"""Strategies with which a stage after the last turn is bypassed."""

__all__ = ["KINDS", "Explanation", "Kind", "Origin", "explain"]


def explain(run: Recording, catalogue: Catalogue) -> list[Explanation]:
    """The decisions of a run, in order. `catalogue` resolves the names of its stages: that of the
    pipeline that ran it (`await pipeline.explain(run_id)` uses it), else
    `lorimer.stages.catalogue.catalogue()`; stages unknown to it are not explained.

    Also works for unfinished runs, as far as they are recorded. Takes about 40 us per fact. Does
    not raise for malformed facts: `verify` reports those.
    """
    return list(_Reader(run, catalogue).read())


class _Reader:
    def __init__(self, run: Recording, catalogue: Catalogue) -> None:
        self._facts = run.facts
        self._in_force = ManifestInForce(run.manifest, catalogue, run.facts[0].data)
        self._model_calls = ModelCalls(run.facts)
        self._calls = Calls()
        self._turn: tuple[str, Origin] | None = None
        """Why the last turn was the last."""
        learnt = any(fact.data.get("key") == "memory:learnt" for fact in run.facts)
        self._traces = {"memory": learnt or None, "persist": run.durable}
        """Whether stages after the last turn were entered, where something else shows it."""

    def read(self) -> Iterator[Explanation]:
        for fact in self._facts:
            if "used_s" in fact.data and fact.type != "run.start":
                why = "somebody resumed it after an interruption"
                yield because(fact, "resume", "went on", why, Origin("caller", "resume"))
            yield from self._explain(fact)

    def _explain(self, fact: Event) -> Iterator[Explanation]:
        in_force, data = self._in_force, fact.data
        match fact.type:
            case "run.start":
                yield from external.of_start(fact, in_force)
                yield from self._left_out(fact)
            case "model.intent" | "model.reply":
                if fact.type == "model.reply" and "error" not in data:
                    self._calls.begin(data.get("content"))
                yield from self._model_calls.take(fact, in_force)
            case "effect" if str(data.get("key")).startswith("models:"):
                yield from self._model_calls.take(fact, in_force)
            case "effect" if str(data.get("key")).startswith(f"{PHASE}:"):
                yield from phases.of_phase(fact, in_force)
            case "effect" if str(data.get("key")).startswith(RAISED):
                self._in_force = in_force.with_raised(external.raised_by(fact))
                yield external.of_raise(fact)
            case "effect" if data.get("key") == "inbox:":
                yield from external.of_message(fact)
            case "mutated":
                yield from self._changed(fact)
            case "compacted":
                yield _compacted(fact, in_force)
            case "child":
                yield self._child(fact)
            case "iteration.end":
                yield from self._stages(fact)
                what, why, origin = ends.of_turn(
                    fact, in_force, self._calls.hook(), unanswered=self._calls.unanswered
                )
                self._turn = (why, origin)
                yield because(fact, "turn", what, why, origin)
            case "run.suspended":
                why, origin = ends.suspended(fact)
                yield because(fact, "suspended", "stopped without an end", why, origin)
            case "run.end":
                yield from self._ended(fact)
            case _:
                yield from self._calls.take(fact, in_force)

    # --- begin and end -----------------------------------------------------------------------

    def _left_out(self, fact: Event) -> Iterator[Explanation]:
        for entry in self._in_force.inactive:
            origin = self._in_force.at(f"{self._in_force.path(entry)}.active")
            why = "the manifest says that it is not active"
            yield because(fact, "stage", f"left out {entry.name}", why, origin)

    def _changed(self, fact: Event) -> Iterator[Explanation]:
        changes = objects_of(fact.data.get("changes"))
        who = "the program that runs the agent"
        if fact.data.get("posts"):
            who = f"a message to the run, or {who},"
        for change in changes:
            rest: dict[str, JSON] = {n: v for n, v in change.items() if n != "kind"}
            what = f"changed the manifest: {change.get('kind')} {dumps(rest)}"
            why = f"{who} changed it while the run was live"
            yield because(fact, "change", what, why, Origin("caller", str(change.get("kind"))))
        for each in objects_of(fact.data.get("refused")):
            code, what = str(each.get("code")), "refused a change of the manifest"
            yield because(fact, "change", what, str(each.get("why")), Origin("caller", code))
        self._in_force = self._in_force.after(changes)
        yield from self._left_out(fact)

    def _child(self, fact: Event) -> Explanation:
        data, in_force = fact.data, self._in_force
        agent, key = str(data.get("agent")), str(data.get("key"))
        tool = self._calls.made(key)
        phase = phases.phase_of(key, in_force)
        if phase is not None:
            why, origin = phase
        elif tool:
            why, origin = f"the model called {tool}", in_force.at("agents")
            names = [each.name for each in in_force.manifest.agents] if in_force.manifest else []
            if agent in names:
                origin = in_force.at(f"agents[{names.index(agent)}]")
        else:
            why = "the orchestrator gave it work after this reply"
            origin = in_force.of_stage("agent", "strategies.orchestrator")
        return because(fact, "child", f"begun {agent} as {data.get('run')}", why, origin, key=key)

    def _ended(self, fact: Event) -> Iterator[Explanation]:
        yield from self._model_calls.over(fact, self._in_force)
        status = str(fact.data.get("status"))
        if status == "ok":
            yield from [self._surfaced(fact, entry) for entry in self._in_force.surface]
        why, origin = ends.of_run(
            fact,
            self._in_force,
            turn=self._turn,
            asked=self._model_calls.asked,
            hook=self._calls.hook(),
            unanswered=self._calls.unanswered,
        )
        yield because(fact, "end", f"ended {status}", why, origin)

    # --- stages ------------------------------------------------------------------------------

    def _stages(self, fact: Event) -> Iterator[Explanation]:
        taken = items_of(fact.data.get("times"))
        entries = self._in_force.turn(len(taken), first=fact.iteration == 0)
        for entry, time in zip(entries, taken, strict=False):
            yield self._bypassed(fact, entry) if time is None else self._entered(fact, entry)

    def _entered(self, fact: Event, entry: StageEntry) -> Explanation:
        origin = self._in_force.at(self._in_force.path(entry))
        if entry.order > 5:
            why = "it is active in every turn" if entry.order < 17 else "every good end comes by it"
        else:
            why = "it prepares the run" if fact.iteration == 0 else "it prepares every model call"
        return because(fact, "stage", f"entered {entry.name}", why, origin)

    def _bypassed(self, fact: Event, entry: StageEntry) -> Explanation:
        stage, path = self._in_force.stage(entry.name), self._in_force.path(entry)
        why, below = Stage.bypass_reason, ""
        if stage is not None:
            why, below = stage.bypass_reason, stage.bypass_path
        origin = self._in_force.at(f"{path}.{below}" if below else path)
        return because(fact, "stage", f"bypassed {entry.name}", why, origin)

    def _surfaced(self, fact: Event, entry: StageEntry) -> Explanation:
        """For a stage after the last turn, whose time no fact has: the manifest shows whether it
        was bypassed; otherwise its traces do."""
        stage = self._in_force.stage(entry.name)
        known = self._traces.get(entry.name)
        if known is not None:
            return self._entered(fact, entry) if known else self._bypassed(fact, entry)
        if stage is None or type(stage).should_bypass is not AnyStage.should_bypass:
            slot = "" if stage is None else stage.bypass_path.removeprefix("strategies.")
            if not slot:
                return self._perhaps(fact, entry, stage)
            if set(self._in_force.strategy(entry.name, slot)) <= _NOTHING:
                return self._bypassed(fact, entry)
        return self._entered(fact, entry)

    def _perhaps(self, fact: Event, entry: StageEntry, stage: AnyStage | None) -> Explanation:
        origin = self._in_force.at(self._in_force.path(entry))
        held = Stage.bypass_reason if stage is None else stage.bypass_reason
        why = f"no fact shows whether it was bypassed, which happens when {held}"
        return because(fact, "stage", f"came to {entry.name}", why, origin)


def _compacted(fact: Event, in_force: ManifestInForce) -> Explanation:
    data = fact.data
    what = f"took messages out of view: {data.get('before')} to {data.get('after')} tokens"
    why = f"the conversation was longer than {data.get('rule')} allows"
    if str(data.get("key", "0")) != "0":
        why = "the provider said that the conversation is too long"
    if data.get("error"):
        why += f"; its summariser failed ({data.get('error')}), so a rule without a model was used"
    return because(
        fact, "compaction", what, why, in_force.of_stage("context", "strategies.compactor")
    )
