"""A step session behind messages: plain data in, plain data out, wherever it runs.

Decides which steps may run without being asked for: not one that failed and is as it was; not one
that touched the outside, when it would run only because its values are gone; and not one that
started programs or spoke to somebody, when it would run only because of an edit elsewhere.
"""

from __future__ import annotations

import ast
import builtins
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, cast

from lorimer.core.jsonable import JSON, clean
from lorimer.core.world import World
from lorimer.esg import resources
from lorimer.esg.agent.outside import outside
from lorimer.esg.agent.views import about, graph_text
from lorimer.esg.diagnosis import diagnose, generate_patch
from lorimer.esg.executor import Held, Replay, StepExecutor, StepResult
from lorimer.esg.questions import StepError
from lorimer.esg.steps import Status

MAX_TEXT: Final = 200_000
"""Characters of one output in an answer."""
_MAX_OTHER: Final = 4_000
"""Of a step that nobody asked for."""
_MAX_TRACEBACK: Final = 6_000
_MAX_PATCHED: Final = 20_000
_WROTE: Final = "wrote "

Message = Mapping[str, JSON]


class Desk:
    """One session. `tell` is told of what happens while an answer is being made:
    `{"event": "step.started", "step": ...}`. `printed` gives what programs that a step started
    have written. Of one output an answer has at most `most` characters. Not for several threads."""

    def __init__(
        self,
        tell: Callable[[Message], None],
        printed: Callable[[], str] = str,
        most: int = MAX_TEXT,
        world: World | None = None,
    ) -> None:
        self._tell = tell
        self._printed = printed
        self._most = most
        self._session = StepExecutor(world=world, observer=self)
        self._folder = os.getcwd()
        self._route = outside()
        self._outside: dict[str, tuple[str, ...]] = {}
        self._shown: dict[str, str] = {}
        """What the last run of each step showed."""
        self._seen: dict[str, None] = {}
        self._touched = False
        """What was asked has begun to change the session."""
        self._asked: set[str] = set()
        self._runs: dict[str, dict[str, JSON]] = {}
        """Of this answer, by step, in the order of the last runs."""

    def answer(self, request: Message) -> dict[str, JSON]:
        """Do what is asked. What cannot be is an answer with `error`, and changed nothing."""
        self._runs, self._asked, self._touched = {}, set(), False
        try:
            return self._answer(request)
        except StepError as error:
            return {"error": clean(error.message), "spoiled": self._touched}

    def _answer(self, request: Message) -> dict[str, JSON]:
        step = str(request.get("id") or "")
        code = str(request.get("code") or "")
        match request.get("op"):
            case "restore":
                return self._restore(_objects(request.get("steps")))
            case "step":
                return self._add(step, code, request.get("after"))
            case "edit":
                return self._edit(step, code)
            case "replay":
                return self._replay(step, [str(each) for each in _list(request.get("again"))])
            case "diagnose":
                return self._diagnose(step, apply=request.get("apply") is True)
            case "graph":
                text = graph_text(self._session.graph, step, self._outside)
                return {"text": clean(self._relative(text))}
            case "about":
                words = str(request.get("words") or "")
                text = about(self._session.graph, self._shown, words)
                return {"text": clean(text)}
            case other:
                raise StepError(f"a session cannot {other!r}")

    # ---------------------------------------------------------------- what is asked

    def _restore(self, steps: Iterable[Message]) -> dict[str, JSON]:
        """Be the session of these steps; none of them runs. What is here of it already stays."""
        graph, given, before = self._session.graph, 0, ""
        known = {str(each["id"]): each for each in steps}
        for step in [each for each in graph.steps if each not in known]:
            self._forget(step)
        for step, each in known.items():
            self._outside[step] = tuple(map(str, _list(each.get("outside"))))
            if step not in graph:
                graph.add_step(step, str(each["code"]), after=before)
            elif graph.source(step) != each["code"]:
                graph.edit_step(step, str(each["code"]))
            before = step
        if graph.steps != tuple(known):
            raise StepError("they come in another order")
        for step, each in known.items():
            if graph.status(step) is not Status.NEW or step in self._shown:
                continue
            given += 1
            if each.get("state") == "ran":
                reads, makes = (
                    [self._absolute(str(name)) for name in _list(each.get(word))]
                    for word in ("reads", "makes")
                )
                self._session.recall(step, reads, makes)
            elif each.get("state") == "failed":
                graph.failed(step)
        return {"given": given}

    def _forget(self, step: str) -> None:
        self._session.graph.delete_step(step)
        for kept in (self._outside, self._shown, self._session.results):
            kept.pop(step, None)

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
            self._forget(step)
            return self._run_stale({"step": step, "changed": "deleted"}, set())
        graph.source(step)
        _parsed(code)
        stale = graph.edit_step(step, code)
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
            self._run_stale({}, {step})  # in a session that has been restored
            result = session.results.get(step)
        if graph.status(step) is not Status.FAILED or result is None:
            state = graph.status(step).value
            raise StepError(f"step {step!r} has not failed (it is {state}): nothing to diagnose")
        if not apply:
            said = self._told_failure(result, full=True)
            return {"step": "", "changed": "replayed", "runs": self._told_runs(), "report": said}
        patch = generate_patch(diagnose(result, graph), graph)
        if not patch:
            raise StepError(f"there is no patch for {step!r}: {patch.reason}. Use edit_step.")
        if sum([len(graph.source(each)) for each in patch.hashes]) > _MAX_PATCHED:
            raise StepError("the step is too long to be patched: use edit_step")
        self._asked = {*patch.hashes, step}
        self._runs = {}
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
            "diff": patch.diff,
        }
        return self._run_stale(changed, set(), fresh=False)

    # ---------------------------------------------------------------- running

    def _run_stale(
        self, answer: dict[str, JSON], asked: set[str], *, fresh: bool = True
    ) -> dict[str, JSON]:
        """Run what is stale, and tell what became of the session."""
        graph = self._session.graph
        if fresh:
            self._asked = asked
        self._touched = True
        others = self._files_of_others()
        done = self._session.replay()
        if self._runs:
            self._tell({"event": "step.replayed", "steps": [*self._runs]})
        quiet = [each for each in graph.steps if each not in self._runs]
        fine = sum([graph.status(each) is Status.FRESH for each in quiet])
        return {
            **answer,
            "runs": self._told_runs(),
            "held": self._told_held(done),
            "failed": [each for each in done.failed if each not in self._runs],
            "fresh": fine,
            "others": others,
        }

    def _told_held(self, done: Replay) -> list[JSON]:
        """Steps that did not run, by the reason; those that failed before are told apart."""
        graph = self._session.graph
        told: dict[str, list[JSON]] = {}
        for step in graph.steps:
            if step in done.blocked:
                told.setdefault("a step that it needs failed", []).append(step)
            elif step in done.held and graph.status(step) is not Status.FAILED:
                back = done.held[step]
                failed = graph.status(back.step_id) is Status.FAILED
                why = f"{back.step_id} failed" if failed else clean(back.message)
                told.setdefault(why, []).append(step)
        return [[why, steps] for why, steps in told.items()]

    def _told_runs(self) -> list[JSON]:
        return [*self._runs.values()]

    def _say_stale(self, steps: Sequence[str]) -> None:
        if steps:
            self._tell({"event": "step.stale", "steps": [*steps]})

    def _files_of_others(self) -> list[JSON]:
        """Files that steps wrote and that others have changed since stay as they are now."""
        graph, found = self._session.graph, list[JSON]()
        for step in graph.steps:
            for name, made in graph.made(step).items():
                if not name.startswith(resources.FILE) or graph.last_writer(name) != step:
                    continue
                now = resources.fingerprint(name)
                if now != made:
                    graph.accept(step, name, now)
                    found.append(self._relative(name).removeprefix(resources.FILE))
        return found

    def starting(self, step_id: str) -> None:
        """See `Observer`: hold back what must not run without being asked for."""
        status, did = self._session.graph.status(step_id), self._outside.get(step_id, ())
        if step_id not in self._asked and step_id not in self._runs:
            if status is Status.FAILED:
                raise Held(step_id, f"{step_id} failed, and is as it was")
            spoke = [each for each in did if not each.startswith(_WROTE)]
            if spoke if status is Status.STALE else did:
                raise Held(step_id, _held_why(step_id, did, status))
        self._tell({"event": "step.started", "step": step_id})
        self._seen = {}
        self._route(self._seen)

    def finished(self, result: StepResult) -> None:
        """See `Observer`."""
        self._route(None)
        step, graph = result.step_id, self._session.graph
        printed = self._printed()
        shown = f"{result.stdout}{result.stderr}{printed}"
        made = graph.made(step)
        files = [each for each in made if each.startswith(resources.FILE)]
        did = tuple(
            [f"{_WROTE}{self._relative(each).removeprefix(resources.FILE)}" for each in files]
            + [clean(each) for each in self._seen]
        )
        again = step not in self._asked and (step in self._shown or step in self._outside)
        before, now = self._shown.get(step), f"{shown}{result.shown}"
        self._outside[step], self._shown[step] = did, now
        most = self._most if step in self._asked else _MAX_OTHER
        told: dict[str, JSON] = {
            "step": step,
            "ok": result.ok,
            "seconds": round(result.seconds, 3),
            "again": again,
            "reads": [clean(self._relative(each)) for each in self._reads(result)],
            "makes": [clean(self._relative(each)) for each in result.writes],
            "outside": [*did],
            "same": None if before is None else before == now,
            "output": cut(shown, most),
            "value": cut(result.shown, most),
        }
        if result.failure is not None:
            told |= self._told_failure(result, full=False)
        self._runs.pop(step, None)
        self._runs[step] = told
        self._tell({"event": "step.finished", "step": step, "ok": result.ok})

    def _told_failure(self, result: StepResult, *, full: bool) -> dict[str, JSON]:
        failure = result.failure
        assert failure is not None
        graph = self._session.graph
        report = diagnose(result, graph)
        patch = generate_patch(report, graph)
        told: dict[str, JSON] = {
            "failed": cut(f"{failure.type}: {failure.message}", 300),
            "line": failure.line,
            "traceback": cut(failure.traceback, _MAX_TRACEBACK),
            "causes": [cut(each.message, 500) for each in report.findings[: 8 if full else 2]],
            "patch": cut(patch.diff, _MAX_TRACEBACK),
        }
        if full:
            needed = graph.backward_slice(result.step_id)
            told["slice"] = cut(graph.script(needed), _MAX_PATCHED)
        return told

    # ---------------------------------------------------------------- names

    def _reads(self, result: StepResult) -> list[str]:
        """What a step has read, without Python's own names."""
        made = self._session.graph.makers(result.step_id)
        return [each for each in result.reads if each in made or not hasattr(builtins, each)]

    def _relative(self, name: str) -> str:
        """A file beneath the folder without it; in a text too."""
        return name.replace(f"{resources.FILE}{self._folder}/", resources.FILE)

    def _absolute(self, name: str) -> str:
        path = name.removeprefix(resources.FILE)
        if path == name or path.startswith("/"):
            return name
        return f"{resources.FILE}{self._folder}/{path}"


def cut(text: str, most: int) -> str:
    """The beginning and the end of a text that is too long."""
    text = clean(text)
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half:,} characters left out ...]\n{text[-half:]}"


def _held_why(step: str, did: Sequence[str], status: Status) -> str:
    because = "its values are gone" if status is Status.FRESH else "it is not up to date"
    return (
        f"{because}, but {step} touched the outside ({', '.join(did[:3])}): to run it once more "
        f'call replay with again=["{step}"]'
    )


def _parsed(code: str) -> None:
    try:
        ast.parse(code)
    except SyntaxError as error:
        line = (error.text or "").strip()
        place = f"line {error.lineno}: " if error.lineno else ""
        shown = f"\n    {line}" if line else ""
        raise StepError(
            f"the code is no Python, so nothing was changed or run. {place}{error.msg}{shown}\n"
            "Send all of the corrected code. Shell commands and notebook magics are not Python."
        ) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise StepError(f"the code is no Python, so nothing was changed: {error}") from None


def _list(value: JSON) -> list[JSON]:
    return list(cast("Sequence[JSON]", value)) if isinstance(value, list | tuple) else []


def _objects(value: JSON) -> list[Message]:
    return [each for each in _list(value) if isinstance(each, Mapping)]
