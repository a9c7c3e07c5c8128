"""The runs of a session's steps: which may run without being requested, and what is reported about
each.

The following run only on request: a step that failed and has not changed; one that affected the
outside, if it would run only because its values are gone; and one that started programs or used the
network, if it would run only because of an edit elsewhere.
"""

from __future__ import annotations

import builtins
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from lorimer.core.jsonable import JSON, clean
from lorimer.core.world import World
from lorimer.esg.agent.outside import outside
from lorimer.esg.confined.recorded import changed, met, reads_of
from lorimer.esg.confined.requests import cut
from lorimer.esg.diagnosis import diagnose, generate_patch
from lorimer.esg.executor import Held, Replay, StepExecutor, StepResult
from lorimer.esg.graph.steps import Status
from lorimer.esg.resources import resources

MAX_CODE: Final = 20_000
"""Characters of code in an answer."""
_MAX_OTHER: Final = 4_000
"""For the output of a step that was not requested."""
_MAX_TRACEBACK: Final = 6_000
_WROTE: Final = "wrote "

Message = Mapping[str, JSON]


class Runs:
    """Holds the session, and observes it. `tell`, `printed` and `most` are those of `Desk`."""

    def __init__(
        self,
        tell: Callable[[Message], None],
        printed: Callable[[], str],
        most: int,
        world: World | None,
    ) -> None:
        self.session = StepExecutor(world=world, observer=self)
        self.outside: dict[str, tuple[str, ...]] = {}
        """The effects of each step on the outside, as text."""
        self.shown: dict[str, str] = {}
        """What the last run of each step showed."""
        self.asked: set[str] = set()
        """Steps that may run whatever their effects."""
        self.told: dict[str, dict[str, JSON]] = {}
        """The runs in this answer, by step, in the order of their last runs."""
        self._tell = tell
        self._printed = printed
        self._most = most
        self._folder = os.getcwd()
        self._route = outside()
        self._seen: dict[str, None] = {}

    def begin(self) -> None:
        """Start another answer."""
        self.told, self.asked = {}, set()

    def forget(self, step: str) -> None:
        """Delete a step."""
        changed(self.session, step, lambda: self.session.graph.delete_step(step))
        for kept in (self.outside, self.shown, self.session.results):
            kept.pop(step, None)

    def starting(self, step_id: str) -> None:
        """See `Observer`: hold back what must not run without being requested."""
        status, did = self.session.graph.status(step_id), self.outside.get(step_id, ())
        if step_id not in self.asked and step_id not in self.told:
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
        met(self.session, result.step_id)
        step, graph = result.step_id, self.session.graph
        printed = self._printed()
        shown = f"{result.stdout}{result.stderr}{printed}"
        made = graph.made(step)
        files = [each for each in made if each.startswith(resources.FILE)]
        did = tuple(
            [f"{_WROTE}{self.relative(each).removeprefix(resources.FILE)}" for each in files]
            + [clean(each) for each in self._seen]
        )
        if not result.ok:  # what it wrote is not known, nor what it would have done
            did = tuple(dict.fromkeys([*self.outside.get(step, ()), *did]))
        again = step not in self.asked and (step in self.shown or step in self.outside)
        before, now = self.shown.get(step), f"{shown}{result.shown}"
        self.outside[step], self.shown[step] = did, now
        most = self._most if step in self.asked else _MAX_OTHER
        told: dict[str, JSON] = {
            "step": step,
            "ok": result.ok,
            "seconds": round(result.seconds, 3),
            "again": again,
            "reads": [clean(self.relative(each)) for each in self._reads(result)],
            "makes": [clean(self.relative(each)) for each in result.writes],
            "outside": [*did],
            "same": None if before is None else before == now,
            "output": cut(shown, most),
            "value": cut(result.shown, most),
        }
        if result.failure is not None:
            told |= self.failure_of(result, full=False)
        self.told.pop(step, None)
        self.told[step] = told
        self._tell({"event": "step.finished", "step": step, "ok": result.ok})

    def failure_of(self, result: StepResult, *, full: bool) -> dict[str, JSON]:
        """Why a step failed. `full`: with all causes, and the code of the steps that it needs."""
        failure = result.failure
        assert failure is not None
        graph = self.session.graph
        report = diagnose(result, graph)
        patch = generate_patch(report, graph)
        told: dict[str, JSON] = {
            "failed": cut(f"{failure.type}: {failure.message}", 300),
            "line": failure.line,
            "traceback": cut(failure.traceback, _MAX_TRACEBACK),
            "causes": [cut(each, 500) for each in report.messages[: 8 if full else 2]],
            "patch": cut(patch.diff, _MAX_TRACEBACK),
        }
        if full:
            needed = graph.backward_slice(result.step_id)
            told["slice"] = cut(graph.script(needed), MAX_CODE)
        return told

    def held(self, done: Replay) -> list[JSON]:
        """Steps that did not run, by reason; those that failed before are listed separately."""
        graph = self.session.graph
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

    def files_of_others(self) -> list[JSON]:
        """Files that steps wrote and others have changed since: leave them as they are now."""
        graph, found = self.session.graph, list[JSON]()
        for step in graph.steps:
            for name, made in graph.made(step).items():
                if not name.startswith(resources.FILE) or graph.last_writer(name) != step:
                    continue
                now = resources.fingerprint(name)
                if now != made:
                    graph.accept(step, name, now)
                    found.append(self.relative(name).removeprefix(resources.FILE))
        return found

    # ---------------------------------------------------------------- names

    def _reads(self, result: StepResult) -> list[str]:
        """What a step has read, without Python's own names."""
        made = self.session.graph.makers(result.step_id)
        reads = reads_of(result, self.session)
        return [each for each in reads if each in made or not hasattr(builtins, each)]

    def relative(self, name: str) -> str:
        """Paths below the folder made relative; also within a text."""
        return name.replace(f"{resources.FILE}{self._folder}/", resources.FILE)

    def absolute(self, name: str) -> str:
        """The reverse."""
        path = name.removeprefix(resources.FILE)
        if path == name or path.startswith("/"):
            return name
        return f"{resources.FILE}{self._folder}/{path}"


def _held_why(step: str, did: Sequence[str], status: Status) -> str:
    because = "its values are gone" if status is Status.FRESH else "it is not up to date"
    return (
        f"{because}, but {step} touched the outside ({', '.join(did[:3])}): to run it once more "
        f'call replay with again=["{step}"]'
    )
