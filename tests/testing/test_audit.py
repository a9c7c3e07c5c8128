"""The audit finds each thing that is wrong with a run; `under_kills` shows what a tool does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from lorimer import tool
from lorimer.core.events import Event
from lorimer.core.journal import Balance
from lorimer.core.jsonable import JSON
from lorimer.testing import under_kills
from lorimer.testing.audit import UNKNOWN, Report, Seen, audit
from lorimer.testing.marks import Mark, MarkFile, read_marks
from lorimer.testing.recorded import Evidence
from lorimer.tools import NOT_DONE, NotDone, ToolContext, ToolResult

ASKED = Mark("begin", 0, "model", "r", 0, "0")
SENT = Mark("begin", 0, "unsafe", "r", 0, "0", "r-0-0", "send {}")
ASKED_AGAIN = Mark("begin", 1, "model", "r", 1, "0")


@dataclass
class Case:
    """One run, killed once: after its tool's result, in the middle of its second model call."""

    facts: list[Event]
    marks: list[Mark]
    recorded: int = 6
    """Facts that were there when the process was killed."""
    balance: Balance = Balance(0, 12)  # noqa: RUF009 - frozen

    def audit(self) -> Report:
        seen = Seen()
        seen.note(0, {"s": self.recorded})
        seen.note(1, {"s": 99})
        for seq, fact in enumerate(self.facts, 1):
            fact.seq = fact.seq or seq
        return audit([Evidence("r", "s", self.facts, self.balance)], self.marks, seen)


def fact(type: str, iteration: int = 0, **data: JSON) -> Event:
    return Event(type, data, "r", iteration)


def sound() -> Case:
    call = {"type": "tool_use", "id": "c", "name": "send", "input": {}}
    facts = [
        fact("run.start"),
        fact("model.intent", key="0"),
        fact("model.reply", key="0", content=[call], cost=5),
        fact("tool.intent", key="0"),
        fact("tool.result", key="0", content="sent"),
        fact("model.intent", 1, key="0"),
        fact("model.reply", 1, key="0", content=[], cost=7),
        fact("run.end", 1, status="ok", cost=12, usage={}),
    ]
    begun = [ASKED, SENT, replace_life(ASKED_AGAIN, 0), ASKED_AGAIN]
    ended = [mark._replace(edge="end") for mark in (ASKED, SENT, ASKED_AGAIN)]
    told = [Mark("accepted", 0, run="r"), Mark("over", 1, run="r")]
    return Case(facts, [*told, *begun, *ended])


def replace_life(mark: Mark, life: int) -> Mark:
    return mark._replace(life=life)


def without(index: int) -> Callable[[Case], None]:
    def change(case: Case) -> None:
        del case.facts[index]

    return change


def also(mark: Mark) -> Callable[[Case], None]:
    return lambda case: case.marks.append(mark)


def recorded(facts: int) -> Callable[[Case], None]:
    return lambda case: setattr(case, "recorded", facts)


def result(**data: JSON) -> Callable[[Case], None]:
    return lambda case: setattr(case.facts[4], "data", {"key": "0", **data})


def other_key(case: Case) -> None:
    case.marks.append(SENT._replace(life=1, key="r-0-0-again"))


def gap(case: Case) -> None:
    case.facts[-1].seq = 20


def test_a_sound_run_has_no_violations() -> None:
    report = sound().audit()
    assert report.violations == []
    assert report.total == 1
    assert report.effects == {"model": 2, "unsafe": 1}
    assert report.repeated == [replace_life(ASKED_AGAIN, 0)]
    report.require("no reason to")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (also(SENT._replace(life=1)), "unsafe, and begun by processes [0, 1]"),
        (also(SENT._replace(life=1)), "was recorded when process 0 died, and process 1 ran it"),
        (also(replace_life(ASKED, 1)), "was recorded when process 0 died, and process 1 ran it"),
        (also(SENT), "process 0 ran it 2 times"),
        (other_key, "not the same each time"),
        (recorded(4), "began it, and ('tool.result', 0, '0') was not in the journal"),
        (recorded(3), "began it, and ('tool.intent', 0, '0') was not in the journal"),
        (recorded(5), "began it, and ('model.intent', 1, '0') was not in the journal"),
        (recorded(0), "told that it was accepted; run.start was not there"),
        (also(Mark("over", 0, run="r")), "told that it was over; run.end was not there"),
        (recorded(4), "cut short, and told as"),
        (result(error=UNKNOWN), "told as unknown, and no process died in it"),
        (without(4), "made 1 calls and has results []"),
        (without(7), "it has 0 ends"),
        (lambda case: case.facts.append(fact("run.end", 2, cost=0)), "it has 2 ends"),
        (lambda case: case.facts.insert(5, fact("tool.result", key="0")), "is recorded twice"),
        (lambda case: setattr(case.facts[-1], "data", {"status": "error"}), "it ended as"),
        (lambda case: setattr(case, "balance", Balance(3, 12)), "3 nano-dollars stay reserved"),
        (lambda case: setattr(case, "balance", Balance(0, 5)), "its facts say 12"),
        (gap, "not numbered one after the other"),
        (also(SENT._replace(call="1")), "2 effects had the key r-0-0"),
        (also(Mark("begin", 0, run="other")), "the journal does not know it"),
    ],
)
def test_what_is_wrong_is_found(change: Callable[[Case], None], said: str) -> None:
    case = sound()
    change(case)
    report = case.audit()
    assert any(said in violation for violation in report.violations), report.violations
    with pytest.raises(AssertionError, match="where to look"):
        report.require("where to look")


def test_an_effect_that_is_made_again_needs_its_tool_to_say_that_it_was_not_done() -> None:
    again = SENT._replace(life=1)
    for outcome, sound_ in (("not_done", True), ("wanted", False)):
        case = sound()
        case.recorded = 4
        case.marks = [m for m in case.marks if m != replace_life(ASKED_AGAIN, 0)]
        case.marks += [again, again._replace(edge="end")]
        case.facts.insert(4, fact("effect", key="reconcile:0", outcome=outcome))
        assert (case.audit().violations == []) is sound_


def test_an_effect_cut_off_is_told_as_unknown() -> None:
    case = sound()
    result(error=UNKNOWN)(case)
    case.recorded = 4
    case.marks = [mark for mark in case.marks if mark != replace_life(ASKED_AGAIN, 0)]
    report = case.audit()
    assert (report.violations, report.unknown, report.never_begun) == ([], 1, 0)


def test_after_a_loss_of_power_only_what_was_synced_has_to_be_there() -> None:
    case = sound()
    case.recorded = 4
    result(error=UNKNOWN)(case)
    case.audit()  # numbers the facts
    seen = Seen()
    seen.note(0, {"s": 4})
    seen.note(1, {"s": 8})
    evidence = Evidence("r", "s", case.facts, case.balance)
    assert audit([evidence], case.marks, seen, power=True).violations == []
    seen = Seen()
    seen.note(0, {"s": 3})
    seen.note(1, {"s": 8})
    found = audit([evidence], case.marks, seen, power=True).violations
    assert any("('tool.intent', 0, '0') was not in the journal" in text for text in found)


def test_marks_of_two_processes_are_read_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "marks"
    first, second = MarkFile(path), MarkFile(path)
    marks = [SENT, SENT._replace(life=1, effect='send {"to":"Zoë\\n"}'), ASKED]
    for mark, file in zip(marks, (first, second, first), strict=True):
        file.append(mark)
    first.close()
    second.close()
    assert read_marks(path) == marks


# --- under_kills --------------------------------------------------------------------------------


class Outside:
    """What mails really went out."""

    def __init__(self, **declared: object) -> None:
        self.begun: list[str] = []

        @tool(**declared)  # type: ignore[call-overload]
        async def mail(to: str, context: ToolContext) -> str:
            """Send a mail."""
            await context.world.sleep(1)
            self.begun.append(context.idempotency_key)
            await context.world.sleep(1)
            return f"sent to {to}"

        self.tool = mail


INPUTS: list[dict[str, JSON]] = [{"to": "ann"}, {"to": "ben"}, {"to": "ann"}]


def test_an_idempotent_tool_is_called_again_with_the_same_key() -> None:
    outside = Outside(effects=["send"], idempotent=True)
    report = under_kills(outside.tool, INPUTS, kills=60)
    assert report.runs >= 20
    assert len(set(outside.begun)) == report.effects["idempotent"] == 3 * report.runs
    assert len(outside.begun) > len(set(outside.begun))
    edges = {mark.edge for mark in report.repeated if mark.safety == "idempotent"}
    assert edges == {"begin", "end"}


def test_an_unsafe_tool_is_never_called_again() -> None:
    outside = Outside(effects=["send"])
    report = under_kills(outside.tool, INPUTS, kills=60)
    assert len(set(outside.begun)) == len(outside.begun)
    assert report.unknown > report.never_begun > 0


@pytest.mark.parametrize("knows", [True, False])
def test_a_tool_that_can_look_up_what_became_of_a_call_is_asked(knows: bool) -> None:
    outbox: list[str] = []
    asked: list[str] = []

    async def look_up(key: str, input: object, context: ToolContext) -> ToolResult | NotDone:
        asked.append(key)
        await context.world.sleep(1)
        return ToolResult("sent, as the outbox says") if knows and key in outbox else NOT_DONE

    @tool(effects=["send"], reconcile=look_up)
    async def mail(to: str, context: ToolContext) -> str:
        """Send a mail."""
        await context.world.sleep(1)
        outbox.append(context.idempotency_key)
        await context.world.sleep(1)
        return f"sent to {to}"

    report = under_kills(mail, INPUTS, kills=60)
    assert asked
    assert report.unknown == 0
    assert len(set(outbox)) == report.effects["unsafe"] == 3 * report.runs
    assert (len(outbox) == len(set(outbox))) == knows, "one that says what is not so is found out"


def test_the_same_seed_kills_at_the_same_moments() -> None:
    first, second = (
        under_kills(Outside(effects=["read"]).tool, INPUTS, kills=20, seed=3) for _ in range(2)
    )
    assert first == second
    assert first != under_kills(Outside(effects=["read"]).tool, INPUTS, kills=20, seed=4)


def test_a_tool_that_is_not_what_it_says_is_found_out() -> None:
    """It declares that it only reads, so it is run again: the caller's own count shows it."""
    outside = Outside(effects=["read"])
    under_kills(outside.tool, INPUTS, kills=60)
    assert len(outside.begun) > len(set(outside.begun))


@pytest.mark.parametrize(("kills", "inputs"), [(0, INPUTS), (5, [])])
def test_there_must_be_something_to_do(kills: int, inputs: list[dict[str, JSON]]) -> None:
    with pytest.raises(ValueError, match="at least one kill and one input"):
        under_kills(Outside().tool, inputs, kills=kills)
