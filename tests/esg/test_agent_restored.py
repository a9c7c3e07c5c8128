"""A step session that begins anew from the record of its calls ends where the first would have."""

from __future__ import annotations

import os
import warnings
from ast import literal_eval
from collections.abc import Mapping
from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lorimer.core.jsonable import JSON
from lorimer.core.messages import ToolResultBlock, ToolUse
from lorimer.core.tool import PastCall
from lorimer.esg.agent.desk import Desk
from lorimer.esg.agent.record import fold
from lorimer.esg.agent.session import Asked
from lorimer.esg.agent.told import told
from tests.esg.random_programs import BEGIN, runs, step, whole

EXAMPLES = 3_000 if os.environ.get("LORIMER_CAMPAIGN") else 25
TOOLS = {"step": "step", "edit": "edit_step"}
LOOK = "tuple(picture({k: v for k, v in globals().items() if k in names}).items())"
"""The last step: what all names are like, in its value."""


class Session:
    """Calls as an agent makes them, and sessions that come and go beneath."""

    def __init__(self) -> None:
        self.past: list[PastCall] = []
        self.desk = Desk(lambda message: None)

    def call(self, op: str, **input: JSON) -> Mapping[str, JSON]:
        answer = self.desk.answer({"op": op, **input})
        assert "error" not in answer, answer
        text = told(Asked(answer, 0, (), None), str(input.get("id") or ""))
        use = ToolUse(str(len(self.past)), TOOLS[op], input)
        self.past.append(PastCall(use, ToolResultBlock(use.id, text, False)))
        return answer

    def die(self) -> None:
        """Another process goes on."""
        self.desk = Desk(lambda message: None)
        steps: list[JSON] = [each.to_json() for each in fold(self.past)]
        answer = self.desk.answer({"op": "restore", "steps": steps})
        assert answer == {"given": len(steps)}


@settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[*HealthCheck], print_blob=True
)
@given(st.randoms(use_true_random=False))
def test_a_session_made_of_its_record_ends_as_one_that_never_ended(dice: Random) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the programs, about their own doings
        _play(dice)


def _play(dice: Random) -> None:
    sources = [*BEGIN]
    for _ in range(dice.randint(3, 12)):
        source = step(dice)
        if runs([*sources, source]):
            sources.append(source)
    session = Session()
    ids = [f"s{number}" for number in range(len(sources))]
    for each, source in zip(ids, sources, strict=True):
        session.call("step", id=each, code=source)
    for number in range(3):
        session.die()
        place, source = dice.randrange(1, len(sources)), step(dice)
        insert = dice.random() < 0.4
        edited = [*sources[:place], source, *sources[place + (not insert) :]]
        if not runs(edited):
            continue
        if insert:
            session.call("step", id=f"n{number}", code=source, after=ids[place - 1])
            ids.insert(place, f"n{number}")
        else:
            session.call("edit", id=ids[place], code=source)
        sources = edited
        if dice.random() < 0.5:
            session.die()
    names, _ = whole(sources)
    look = f"from tests.esg.alike import picture\nnames = {set(names)!r}\n{LOOK}"
    answer = session.call("step", id="look", code=look)
    ran = answer["runs"]
    assert isinstance(ran, list)
    last = next(run for run in ran if isinstance(run, Mapping) and run["step"] == "look")
    assert last["ok"] is True, last
    assert dict(literal_eval(str(last["value"]))) == names
