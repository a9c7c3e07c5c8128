"""A confined session whose workers are lost at random ends as if none had been.

The workers are stand-ins in this process, so that thousands of deaths take seconds; real ones die
in `test_confined_kills.py`.
"""

from __future__ import annotations

import asyncio
import json
import os
import warnings
from ast import literal_eval
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from random import Random
from typing import cast

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lorimer.core.errors import ExecutorErrorCode
from lorimer.core.jsonable import JSON
from lorimer.esg.confined import ConfinedSteps, StepWorkers
from lorimer.esg.confined.requests import Message, Requests
from lorimer.esg.confined.worker import Death, Died, Worker
from tests.esg.alike import plain
from tests.esg.random_programs import BEGIN, begin_again, runs, step, whole

EXAMPLES = 3_000 if os.environ.get("LORIMER_CAMPAIGN") else 25
LOOK = """from tests.esg.alike import picture
names = {names!r}
tuple(picture({{k: v for k, v in globals().items() if k in names}}).items())"""


class Lost(BaseException):
    """The worker ends here."""


class StandIn:
    """Answers as a worker does, and dies when it is told to. Its heirs are made again."""

    def __init__(self, dice: Random) -> None:
        self.number = self.saved = 0
        self.dies = ""
        """How, at the next request: `gone` for good, or another takes over, the `heir` or a `new`
        one; `midway`, when some steps have run."""
        self._dice = dice
        self._answered: list[Message] = []
        self._begin()

    def _begin(self) -> None:
        begin_again()  # a new process has modules of its own
        self._told: Callable[[Message], None] = lambda event: None
        self._requests = Requests(lambda event: self._told(event), str, 100_000)

    async def settled(self) -> None:
        return None

    def close(self) -> None:
        self._answered.clear()

    async def ask(
        self,
        request: Message,
        tell: Callable[[Message], None],
        steps: Container[str],
        turns: int,
    ) -> Message:
        dies, self.dies = self.dies, ""
        if dies == "gone":
            raise EOFError
        if dies in ("heir", "new"):
            self.saved = self.saved if dies == "heir" else 0
            self._answered = self._answered[: self.saved]
            self.number = self.saved
            self._begin()
            for each in self._answered:
                self._requests.answer(each)
            code = ExecutorErrorCode.EXEC_STEP_CRASHED
            raise Died(Death(code, "it was killed", "", None, self.saved))
        left = self._dice.randint(1, 4) if dies else -1

        def told(event: Message) -> None:
            nonlocal left
            left -= event["event"] == "step.finished"
            if left == 0:
                raise Lost
            if not event.get("quiet"):
                tell(_sent(event))

        self._told = told
        try:
            answer = self._requests.answer(_sent(request))
        except Lost:
            raise EOFError from None
        self.number += 1
        self._answered.append(_sent(request))
        if self._dice.random() < 0.5:
            self.saved = self.number
        return _sent(answer)


class StandIns:
    """As `StepWorkers`."""

    isolation = None

    def __init__(self, dice: Random) -> None:
        self._dice = dice
        self.last = StandIn(dice)

    async def worker(self, session: str) -> Worker:
        self.last = StandIn(self._dice)
        return cast("Worker", self.last)

    def die(self) -> None:
        self.last.dies = self._dice.choice(("", "", "gone", "heir", "new", "midway"))


def _sent(message: Mapping[str, JSON]) -> dict[str, JSON]:
    found: dict[str, JSON] = json.loads(json.dumps(message))
    return found


@settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[*HealthCheck], print_blob=True
)
@given(st.randoms(use_true_random=False))
def test_a_session_that_loses_its_workers_ends_as_one_that_does_not(dice: Random) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the programs, about their own doings
        asyncio.run(_play(dice))


async def _play(dice: Random) -> None:
    workers = StandIns(dice)
    session = await ConfinedSteps.begin(cast("StepWorkers", workers))
    sources = [*BEGIN]
    for _ in range(dice.randint(3, 10)):
        source = step(dice)
        if runs([*sources, source]):
            sources.append(source)
    for number, source in enumerate(sources):
        workers.die()
        result = await session.execute(f"s{number}", source)
        assert result.ok, result.failure
    for number in range(3):
        workers.die()
        sources = await _edit(dice, session, sources, f"n{number}")
        workers.die()
        if dice.random() < 0.2:
            saved = json.loads(json.dumps(session.save()))
            session = await ConfinedSteps.open(cast("StepWorkers", workers), saved)
        done = await session.replay()
        assert done.ok, [session.results[each].failure for each in done.failed]
        names, printed = whole(sources)
        assert [plain(session.results[each].stdout) for each in session.steps] == printed
    workers.die()
    look = await session.execute("look", LOOK.format(names={*names}))
    assert look.ok, look.failure
    assert dict(literal_eval(look.shown)) == names


async def _edit(dice: Random, session: ConfinedSteps, sources: list[str], new: str) -> list[str]:
    place, source = dice.randrange(1, len(sources)), step(dice)
    each, before = session.steps[place], session.steps[place - 1]
    kind = dice.choice(("edit", "edit", "edit", "insert", "delete", "move", "rename"))
    edited = [*sources]
    if kind == "rename":
        await session.rename_step(each, new)
        return sources
    if kind == "insert":
        edited.insert(place, source)
    elif kind == "edit":
        edited[place] = source
    else:
        moved = edited.pop(place)
        if kind == "move":
            edited.append(moved)
    if not runs(edited):
        return sources
    match kind:
        case "insert":
            await session.add_step(new, source, after=before)
        case "edit":
            await session.edit_step(each, source)
        case "delete":
            await session.delete_step(each)
        case _ if each != session.steps[-1]:
            await session.move_step(each, after=session.steps[-1])
        case _:
            pass
    return edited


def _without_values(steps: list[str]) -> ConfinedSteps:
    """A session whose steps ran in a worker that is gone."""

    async def main() -> ConfinedSteps:
        workers = StandIns(Random(1))
        session = await ConfinedSteps.begin(cast("StepWorkers", workers))
        for number, source in enumerate(steps):
            assert (await session.execute(f"s{number}", source)).ok
        workers.last.dies = "gone"
        return session

    return asyncio.run(main())


def test_two_values_that_nobody_has_seen_are_not_the_same() -> None:
    session = _without_values(["e = 1", "e = 2", "print(e)", "e = 3"])

    async def main() -> None:
        assert await session.edit_step("s1", "other = 1") == ["s1", "s2"]
        assert "s2" in (await session.replay()).ran

    asyncio.run(main())
    assert session.results["s2"].stdout == "1\n"


def test_what_was_changed_in_place_by_a_name_that_is_another_now_is_changed_again() -> None:
    session = _without_values(["one = [1]", "held = [one]", "one.append(2)", "one = 0"])
    look = asyncio.run(session.execute("look", "held"))
    assert look.shown == "[[1, 2]]"


def test_what_was_changed_by_another_name_is_made_again_once() -> None:
    sources = ["one = [1]", "other = one", "other.append(2)", "other = 0", "print(one)"]
    ran = list[str]()

    def told(event: Message) -> None:
        if event["event"] == "step.started":
            ran.append(str(event["step"]))

    before, rows = Requests(lambda event: None, str, 100_000), list[Message]()
    for number, source in enumerate(sources):
        answer = before.answer({"op": "execute", "step": f"s{number}", "source": source})
        run = cast("Message", answer["result"])
        made = {"source": source, "ran": source, "state": "fresh"}
        rows.append({**made, **{each: run[each] for each in ("step", "reads", "writes")}})
    after = Requests(told, str, 100_000)
    after.answer({"op": "restore", "steps": [*rows]})
    again = after.answer({"op": "execute", "step": "s4", "source": "print(one, 1)"})
    assert cast("Message", again["result"])["stdout"] == "[1, 2] 1\n"
    assert sorted(ran) == sorted({*ran})


def test_a_process_that_takes_over_in_the_middle_of_a_restoration_gets_the_steps_of_now(
    tmp_path: Path,
) -> None:
    """It may have them in another order, and some that are gone."""

    async def main() -> None:
        async with StepWorkers(tmp_path) as workers:
            before = await ConfinedSteps.begin(workers)
            slow = "import time\ntime.sleep(0.2)\nx = 1"
            for step, code in (("x", slow), ("y", "y = x"), ("z", "x = 2"), ("p", "x, y")):
                await before.execute(step, code)
            await before.edit_step("x", "x = 3")
            session = await ConfinedSteps.open(workers, before.save())
            await session.add_step("n", "x += 4", after="x")
            await session.delete_step("z")
            await session.move_step("y", after="")
            await session.edit_step("y", "y = 5")
            await session.replay()
            await session.execute("crash", "import os\nos.abort()")
            await session.delete_step("crash")
            await session.edit_step("x", "x = 6")
            await session.replay()
            assert session.results["p"].shown == "(10, 5)"
            assert [*await session.status()] == ["y", "x", "n", "p"]

    asyncio.run(main())
