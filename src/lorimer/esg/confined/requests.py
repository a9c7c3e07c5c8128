"""The requests to a session in a worker: the methods of `StepExecutor`, as plain data.

Runs in the worker; the other side is `session.py`. Values do not leave the worker, only texts about
them, none longer than `most` characters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from typing import Final, cast

from lorimer.core.jsonable import JSON, clean
from lorimer.esg.confined.recorded import changed, met, reads_of
from lorimer.esg.diagnosis import diagnose, generate_patch
from lorimer.esg.executor import Held, StepExecutor, StepResult
from lorimer.esg.graph.questions import StepError
from lorimer.esg.graph.steps import Status
from lorimer.esg.patching.patches import Edit, Move, PatchResult
from lorimer.esg.resources.resources import FILE
from lorimer.world.real import RealWorld

Message = Mapping[str, JSON]

_ENDED: Final = "it ended the worker when it ran"
_NOT_FRESH: Final = (Status.STALE, Status.BLOCKED)
_SHOWN: Final = 2_000
"""Characters of each value when all are listed."""


class Requests:
    """One session; see `Answers` in `serving.py`."""

    def __init__(
        self, tell: Callable[[Message], None], printed: Callable[[], str], most: int
    ) -> None:
        self._tell = tell
        self._printed = printed
        self._most = most
        self._held: set[str] = set()
        self._asked = ""
        """The step that was requested to run, even if it is held."""
        self._executed = ""
        """The step whose result is the answer."""
        self._has_run = False
        """Whether that step has run."""
        self._steps = StepExecutor(world=RealWorld(), observer=self)

    def answer(self, request: Message) -> dict[str, JSON]:
        """Carry out a request. If that is impossible, the answer has `error`, and nothing was
        changed."""
        self._held = {str(each) for each in _list(request.get("held"))}
        self._asked = self._executed = ""
        self._has_run = False
        answer: dict[str, JSON]
        try:
            answer = {"result": self._answer(request)}
        except StepError as error:
            answer = {"error": self._cut(error.message)}
        graph = self._steps.graph
        stale = [each for each in graph.stale() if graph.status(each) in _NOT_FRESH]
        return {**answer, "stale": [*stale]}

    def _answer(self, request: Message) -> JSON:
        steps, graph = self._steps, self._steps.graph
        step, source = str(request.get("step") or ""), str(request.get("source") or "")
        match request.get("op"):
            case "execute":
                self._asked = self._executed = step
                return self._told(self._execute(step, source))
            case "replay":
                return self._replay()
            case "repair":
                self._asked = step
                return steps.repair(_patch(request), step)
            case "add":
                after, before = request.get("after"), {*graph.stale()}
                graph.add_step(step, source, after=None if after is None else str(after))
                return [each for each in graph.stale() if each not in before]
            case "edit":
                return [*changed(steps, step, lambda: graph.edit_step(step, source))]
            case "delete":
                return [*changed(steps, step, lambda: graph.delete_step(step))]
            case "move":
                after = str(request.get("after") or "")
                return [*changed(steps, step, lambda: graph.move_step(step, after=after))]
            case "rename":
                graph.rename_step(step, source)
                return []
            case "mark":
                return [*graph.mark_stale(step)]
            case "fail":
                if step in graph:
                    changed(steps, step, lambda: graph.edit_step(step, source))
                else:
                    graph.add_step(step, source)
                return [*graph.failed(step)]
            case "restore":
                rows = _list(request.get("steps"))
                return self._restore([cast("dict[str, JSON]", row) for row in rows])
            case "plan":
                return [[each.step, [*each.reasons], each.seconds] for each in graph.plan()]
            case "status":
                return {each: graph.status(each).value for each in graph.steps}
            case "explain":
                return self._cut(graph.explain(step))
            case "why_stale":
                return [*graph.why_stale(step)]
            case "lineage":
                return [[*each] for each in graph.lineage(source)]
            case "edges":
                return [[one, other, [*names]] for one, other, names in graph.edges()]
            case "script":
                return graph.script(graph.backward_slice(source))
            case "diagnose":
                return self._diagnose(step)
            case "names":
                return self._names(step or None)
            case other:
                raise StepError(f"a session cannot {other!r}")

    # ---------------------------------------------------------------- observer

    def starting(self, step_id: str) -> None:
        """See `Observer`."""
        if step_id in self._held and step_id != self._asked:
            raise Held(step_id, _ENDED)
        self._tell({"event": "step.started", "step": step_id})

    def finished(self, result: StepResult) -> None:
        """See `Observer`."""
        met(self._steps, result.step_id)
        quiet = result.step_id == self._executed
        self._has_run |= quiet
        told = None if quiet else {**self._told(result), "source": result.source}
        self._tell(
            {
                "event": "step.finished",
                "step": result.step_id,
                "quiet": quiet,
                "lasting": any(each.startswith(FILE) for each in result.writes),
                "result": told,
            }
        )

    # ---------------------------------------------------------------- answers

    def _execute(self, step: str, source: str) -> StepResult:
        """Run a step. It may turn out not to have run because it needs values that are gone: then
        all of them are made, and it is tried again."""
        graph = self._steps.graph
        if step in graph:
            changed(self._steps, step, lambda: graph.edit_step(step, source))
        for _ in range(len(graph) + 1):
            with suppress(KeyError):
                self._steps.execute(step, source)
            if self._has_run:
                return self._steps.results[step]
            self._make_before(step)
        raise StepError(f"step {step!r} needs values that do not last: start a new session")

    def _make_before(self, step: str) -> None:
        """Run the earlier steps that ran elsewhere and not here yet."""
        graph = self._steps.graph
        for each in graph.steps[: graph.steps.index(step)]:
            ran = graph.status(each) in (Status.FRESH, Status.STALE)
            if ran and each not in self._steps.results:
                with suppress(KeyError):
                    self._steps.execute(each, graph.source(each))

    def _replay(self) -> JSON:
        done = self._steps.replay()
        return {
            "ran": [*done.ran],
            "failed": [*done.failed],
            "blocked": [*done.blocked],
            "held": {each: self._cut(held.message) for each, held in done.held.items()},
        }

    def _restore(self, rows: list[dict[str, JSON]]) -> JSON:
        """Begin with steps that ran elsewhere: none runs here until its values are needed."""
        graph, ran = self._steps.graph, list[dict[str, JSON]]()
        order = [str(row["step"]) for row in rows]
        for step in {*graph.steps} - {*order}:  # the process that took over may have others
            changed(self._steps, step, partial(graph.delete_step, step))
        before = ""
        for step, row in zip(order, rows, strict=True):
            if row["ran"] is not None and step not in graph:
                graph.add_step(step, str(row["ran"]), after=before)
                ran.append(row)
            before = step if step in graph else before
        failed = {str(row["step"]) for row in ran if row["state"] == "failed"}
        for row in ran:
            if row["step"] not in failed:
                reads, writes = (map(str, _list(row[each])) for each in ("reads", "writes"))
                self._steps.recall(str(row["step"]), reads, writes)
        for step in failed:
            graph.failed(step)
        if any(row["ran"] != row["source"] for row in rows):
            self._held |= failed
            self._values()  # values that cannot be made again once the code is different
        for step, row in zip(order, rows, strict=True):
            if row["state"] == "stale" and step in graph:
                graph.mark_stale(step)
        for number, (step, row) in enumerate(zip(order, rows, strict=True)):
            source, before = str(row["source"]), order[number - 1] if number else ""
            if step not in graph:
                graph.add_step(step, source, after=before)
            elif graph.source(step) != source:
                changed(self._steps, step, partial(graph.edit_step, step, source))
            if graph.steps[number] != step:
                changed(self._steps, step, partial(graph.move_step, step, after=before))
        return None

    def _told(self, result: StepResult) -> dict[str, JSON]:
        failure = result.failure
        return {
            "step": result.step_id,
            "stdout": self._cut(result.stdout + self._printed()),
            "stderr": self._cut(result.stderr),
            "shown": self._cut(result.shown),
            "type": self._cut(type(result.value).__name__),
            "failure": None
            if failure is None
            else {
                name: self._cut(each) if isinstance(each, str) else each
                for name, each in asdict(failure).items()
            },
            "reads": [self._cut(each) for each in reads_of(result, self._steps)],
            "writes": [self._cut(each) for each in result.writes],
            "seconds": result.seconds,
        }

    def _diagnose(self, step: str) -> JSON:
        self._steps.graph.source(step)
        result = self._steps.results.get(step)
        if result is None:
            return {"error": "", "findings": [], "patch": None}
        report = diagnose(result, self._steps.graph)
        patch = generate_patch(report, self._steps.graph)
        findings: list[JSON] = [cast("JSON", asdict(each)) for each in report.findings]
        return {
            "error": self._cut(report.error),
            "findings": findings,
            "patch": cast("JSON", asdict(patch)),
        }

    def _values(self, after: str | None = None) -> dict[str, object]:
        """All values: one call makes only some of them again."""
        found = self._steps.namespace(after)
        while len(more := self._steps.namespace(after)) > len(found):
            found = more
        return more

    def _names(self, after: str | None) -> JSON:
        found = self._values(after)
        return {
            self._cut(name): [type(value).__name__, _shown(value)] for name, value in found.items()
        }

    def _cut(self, text: str) -> str:
        return cut(text, self._most)


def cut(text: str, most: int) -> str:
    """The beginning and the end of a text that is too long, in valid Unicode."""
    text = clean(text)
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half:,} characters left out ...]\n{text[-half:]}"


def _shown(value: object) -> str:
    try:
        return cut(repr(value), _SHOWN)
    except Exception as error:  # noqa: BLE001 - a class of the steps': told instead
        return f"<{type(value).__name__}, whose repr raises {type(error).__name__}>"


def _patch(request: Message) -> PatchResult:
    edits = [cast("tuple[str, int, int, str]", each) for each in _list(request.get("edits"))]
    hashes = cast("dict[str, str]", request.get("hashes"))
    moves = [cast("tuple[str, str]", each) for each in _list(request.get("moves"))]
    return PatchResult(
        "",
        tuple([Edit(*each) for each in edits]),
        hashes,
        moves=tuple([Move(*each) for each in moves]),
    )


def _list(value: JSON) -> list[JSON]:
    return list(value) if isinstance(value, list) else []
