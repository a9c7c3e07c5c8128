"""A step session behind messages: plain data in, plain data out, wherever it runs.

`runs.py` decides which steps run without being requested.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final

from lorimer.core.jsonable import JSON, clean, objects_of, texts_of
from lorimer.core.world import World
from lorimer.esg.agent.runs import MAX_CODE, Message, Runs
from lorimer.esg.agent.views import about, graph_text
from lorimer.esg.analysis.parsing import NO_PYTHON, fault_of, tree_of
from lorimer.esg.confined.recorded import changed
from lorimer.esg.diagnosis import diagnose, generate_patch
from lorimer.esg.graph.questions import StepError
from lorimer.esg.graph.steps import Status

MAX_TEXT: Final = 200_000
"""Characters of one output in an answer."""


class Desk:
    """One session. `tell` is called with events while an answer is being made: `{"event":
    "step.started", "step": ...}`. `printed` returns what programs started by a step have written.
    An answer has at most `most` characters of one output. Not thread-safe."""

    def __init__(
        self,
        tell: Callable[[Message], None],
        printed: Callable[[], str] = str,
        most: int = MAX_TEXT,
        world: World | None = None,
    ) -> None:
        self._tell = tell
        self._runs = Runs(tell, printed, most, world)
        self._session = self._runs.session
        self._touched = False
        """The request has begun to change the session."""

    def answer(self, request: Message) -> dict[str, JSON]:
        """Carry out a request. If that is impossible, the answer has `error`, and nothing was
        changed."""
        self._runs.begin()
        self._touched = False
        try:
            return self._answer(request)
        except StepError as error:
            return {"error": clean(error.message), "spoiled": self._touched}

    def _answer(self, request: Message) -> dict[str, JSON]:
        step = str(request.get("id") or "")
        code = str(request.get("code") or "")
        match request.get("op"):
            case "restore":
                return self._restore(objects_of(request.get("steps")))
            case "step":
                return self._add(step, code, request.get("after"))
            case "edit":
                return self._edit(step, code)
            case "replay":
                return self._replay(step, [*texts_of(request.get("again"))])
            case "diagnose":
                return self._diagnose(step, apply=request.get("apply") is True)
            case "graph":
                text = graph_text(self._session.graph, step, self._runs.outside)
                return {"text": clean(self._runs.relative(text))}
            case "about":
                words = str(request.get("words") or "")
                text = about(self._session.graph, self._runs.shown, words)
                return {"text": clean(text)}
            case other:
                raise StepError(f"a session cannot {other!r}")

    # ---------------------------------------------------------------- what is asked

    def _restore(self, steps: Iterable[Message]) -> dict[str, JSON]:
        """Become the session of these steps; none of them runs. What is already here of it
        stays."""
        graph, given, before = self._session.graph, 0, ""
        known = {str(each["id"]): each for each in steps}
        for step in [each for each in graph.steps if each not in known]:
            self._runs.forget(step)
        for step, each in known.items():
            self._runs.outside[step] = texts_of(each.get("outside"))
            if step not in graph:
                graph.add_step(step, str(each["code"]), after=before)
            elif graph.source(step) != each["code"]:
                code = str(each["code"])
                changed(self._session, step, partial(graph.edit_step, step, code))
            before = step
        if graph.steps != tuple(known):
            raise StepError("they come in another order")
        for step, each in known.items():
            if graph.status(step) is not Status.NEW or step in self._runs.shown:
                continue
            given += 1
            if each.get("state") == "ran":
                reads, makes = (
                    [*map(self._runs.absolute, texts_of(each.get(word)))]
                    for word in ("reads", "makes")
                )
                self._session.recall(step, reads, makes)
            elif each.get("state") == "failed":
                graph.failed(step)
        return {"given": given}

    def _add(self, step: str, code: str, after: JSON) -> dict[str, JSON]:
        graph = self._session.graph
        _parsed(code)
        if not step:
            number = len(graph) + 1
            while (step := f"s{number}") in graph:
                number += 1
        if step in graph:
            raise StepError(
                f"there is a step {step!r} already: change it with edit_step, or take another id"
            )
        graph.add_step(step, code, after=None if after is None else str(after))
        return self._run_stale({"step": step, "changed": "added"}, {step})

    def _edit(self, step: str, code: str) -> dict[str, JSON]:
        graph = self._session.graph
        if step in graph and not code.strip():
            self._runs.forget(step)
            return self._run_stale({"step": step, "changed": "deleted"}, set())
        graph.source(step)
        _parsed(code)
        stale = changed(self._session, step, lambda: graph.edit_step(step, code))
        self._say_stale(stale)
        return self._run_stale({"step": step, "changed": "edited"}, {step} if stale else set())

    def _replay(self, step: str, again: list[str]) -> dict[str, JSON]:
        graph = self._session.graph
        asked = {*again, *([step] if step else [])}
        for each in asked:
            graph.source(each)
        if step:
            self._say_stale(graph.mark_stale(step))
        failed = {each for each in graph.steps if graph.status(each) is Status.FAILED}
        return self._run_stale({"step": "", "changed": "replayed"}, asked | failed)

    def _diagnose(self, step: str, *, apply: bool) -> dict[str, JSON]:
        session, graph = self._session, self._session.graph
        graph.source(step)
        result = session.results.get(step)
        if graph.status(step) is Status.FAILED and (result is None or result.error is None):
            self._run_stale({}, {step})  # in a session that was restored
            result = session.results.get(step)
        if graph.status(step) is not Status.FAILED or result is None:
            state = graph.status(step).value
            raise StepError(f"step {step!r} has not failed (it is {state}): nothing to diagnose")
        if not apply:
            said = self._runs.failure_of(result, full=True)
            return {
                "step": "",
                "changed": "replayed",
                "runs": [*self._runs.told.values()],
                "report": said,
            }
        patch = generate_patch(diagnose(result, graph), graph)
        if not patch:
            raise StepError(f"there is no patch for {step!r}: {patch.reason}. Use edit_step.")
        if sum([len(graph.source(each)) for each in patch.hashes]) > MAX_CODE:
            raise StepError("the step is too long to be patched: use edit_step")
        self._runs.begin()
        self._runs.asked = {*patch.hashes, *(each.step for each in patch.moves), step}
        if not session.repair(patch, step):
            raise StepError(
                f"the patch was tried and taken back, for {step!r} did not run with it: use "
                f"edit_step. It was:\n{patch.diff}"
            )
        self._tell({"event": "step.patched", "step": step})
        texts: JSON = {each: graph.source(each) for each in patch.hashes}
        changed: dict[str, JSON] = {
            "step": step,
            "changed": "patched",
            "texts": texts,
            "moves": [[each.step, each.after] for each in patch.moves],
            "diff": patch.diff,
        }
        return self._run_stale(changed, set(), fresh=False)

    # ---------------------------------------------------------------- running

    def _run_stale(
        self, answer: dict[str, JSON], asked: set[str], *, fresh: bool = True
    ) -> dict[str, JSON]:
        """Run what is stale, and report what happened to the session."""
        graph = self._session.graph
        if fresh:
            self._runs.asked = asked
        self._touched = True
        others = self._runs.files_of_others()
        done = self._session.replay()
        told = self._runs.told
        if told:
            self._tell({"event": "step.replayed", "steps": [*told]})
        quiet = [each for each in graph.steps if each not in told]
        fine = sum([graph.status(each) is Status.FRESH for each in quiet])
        return {
            **answer,
            "runs": [*self._runs.told.values()],
            "held": self._runs.held(done),
            "failed": [each for each in done.failed if each not in told],
            "fresh": fine,
            "others": others,
        }

    def _say_stale(self, steps: Sequence[str]) -> None:
        if steps:
            self._tell({"event": "step.stale", "steps": [*steps]})


def _parsed(code: str) -> None:
    try:
        tree_of(code)
    except SyntaxError as error:
        line = (error.text or "").strip()
        place = f"line {error.lineno}: " if error.lineno else ""
        shown = f"\n    {line}" if line else ""
        raise StepError(
            f"the code is no Python, so nothing was changed or run. {place}{error.msg}{shown}\n"
            "Send all of the corrected code. Shell commands and notebook magics are not Python."
        ) from None
    except NO_PYTHON as error:
        why = fault_of(error)
        raise StepError(f"the code is no Python, so nothing was changed: {why}") from None
