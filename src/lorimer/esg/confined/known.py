"""What is known about a session outside its worker: enough to begin it again, here or elsewhere."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from lorimer.core.jsonable import JSON
from lorimer.esg.confined import told as heard
from lorimer.esg.confined.told import ConfinedResult
from lorimer.esg.confined.worker import Death
from lorimer.esg.execution.running import Failure
from lorimer.esg.graph.questions import StepError

MAX_SOURCE: Final = 1_000_000
"""Limit on the code of a step, in characters."""
_FORMAT: Final = 1
_ENDED: Final = "StepEnded"
"""The class of failure of a step that ended its worker."""


class Known:
    """The steps of a session, in order, and how their last runs ended."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.results: dict[str, ConfinedResult] = {}
        """The result of the last run of each step."""
        self.deadly: dict[str, ConfinedResult] = {}
        """Steps that ended their worker when they ran: they run again only on request."""
        self._stale: set[str] = set()
        """Steps that were not up to date when the worker last answered."""
        self._since: list[str] = []
        """Steps that have run since then, in order."""

    # ---------------------------------------------------------------- changes

    def put(self, step: str, source: str, after: str | None = None) -> None:
        """A step was added, or has this code now. `after`: its place; None: unchanged, or last."""
        self.texts[step] = source
        if after is not None:
            self.move(step, after)

    def move(self, step: str, after: str) -> None:
        """It is now right after that one (`""`: before all)."""
        order = [each for each in self.texts if each != step]
        order.insert(order.index(after) + 1 if after else 0, step)
        self.texts = {each: self.texts[each] for each in order}

    def drop(self, step: str) -> None:
        """It was deleted."""
        del self.texts[step]
        self.results.pop(step, None)
        self.deadly.pop(step, None)

    def rename(self, old: str, new: str) -> None:
        """Its id has changed."""
        self.texts = {new if each == old else each: text for each, text in self.texts.items()}
        for kept in (self.results, self.deadly):
            if old in kept:
                kept[new] = replace(kept.pop(old), step_id=new)

    def ran(self, result: ConfinedResult) -> None:
        """A step has run as part of another request."""
        self.results[result.step_id] = result
        self._since.append(result.step_id)

    def answered(self, stale: Iterable[str]) -> None:
        """The worker has answered: these are not up to date."""
        self._stale = {*stale}
        self._since.clear()

    def ended(self, step: str, death: Death) -> ConfinedResult:
        """A step has ended its worker. Returns its result."""
        failure = Failure(_ENDED, death.why, death.line, "")
        result = ConfinedResult(step, self.texts.get(step, ""), failure=failure, code=death.code)
        self.deadly[step] = result
        return result

    @contextmanager
    def allowed(self, step: str) -> Generator[None]:
        """A step that ended its worker may run; if the block raises, it may not again."""
        before = self.deadly.pop(step, None)
        try:
            yield
        except BaseException:
            if before is not None:
                self.deadly.setdefault(step, before)
            raise

    # ---------------------------------------------------------------- all of it

    def rows(self) -> list[JSON]:
        """What a new worker begins with."""
        return [
            {
                "step": step,
                "source": source,
                "ran": None if ran is None else ran.source,
                "state": state,
                "reads": [] if ran is None else [*ran.reads],
                "writes": [] if ran is None else [*ran.writes],
            }
            for step, source, ran, state in self._states()
        ]

    def to_json(self) -> dict[str, JSON]:
        """The input of `read`."""
        return {
            "format": _FORMAT,
            "steps": [
                {
                    "step": step,
                    "source": source,
                    "ran": None if ran is None else heard.to_json(ran),
                    "stale": state == "stale",
                }
                for step, source, ran, state in self._states()
            ],
        }

    @classmethod
    def read(cls, saved: Mapping[str, JSON]) -> Known:
        """The session from `to_json`. Raises StepError if `saved` is not a saved session."""
        rows = saved.get("steps")
        if saved.get("format") != _FORMAT or not isinstance(rows, list):
            raise StepError(f"this is not a saved session of steps (format {_FORMAT})")
        known = cls()
        for row in heard.dicts(rows):
            step, source, ran = row.get("step"), row.get("source"), row.get("ran")
            if not isinstance(step, str) or not isinstance(source, str) or step in known.texts:
                raise StepError("a step of this saved session has no id or code, or occurs twice")
            fits(source)
            known.texts[step] = source
            if row.get("stale") is True:
                known._stale.add(step)
            if isinstance(ran, dict):
                result = heard.result(ran, step, str(ran.get("source")))
                known.results[step] = result
                if result.failure is not None and result.failure.type == _ENDED:
                    known.deadly[step] = result
        return known

    def _states(self) -> Iterator[tuple[str, str, ConfinedResult | None, str]]:
        """Each step, in order: its code, its last run, and its status as far as known outside.

        If an earlier step ran after it did, it may be stale, so it counts as stale.
        """
        latest = 0
        when = {step: number for number, step in enumerate(self._since, 1)}
        for step, source in self.texts.items():
            ran = self.deadly.get(step) or self.results.get(step)
            number = when.get(step, 0)
            if ran is None:
                state = "new"
            elif not ran.ok:
                state = "failed"
            elif number < latest or (step in self._stale and not number):
                state = "stale"
            else:
                state = "fresh"
            latest = max(latest, number)
            yield step, source, ran, state


def fits(source: str) -> None:
    """Raises StepError for code that is too long."""
    if len(source) > MAX_SOURCE:
        raise StepError(f"a step cannot be longer than {MAX_SOURCE} characters")
