"""The public kit of cases, on every wire and provider that there is.

Of the cuts and of the broken events through the SDK a part, and all with LORIMER_CAMPAIGN=1 (`make
campaign`): `test_cuts` cuts at every byte, and breaks every event, without it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import pytest

from lorimer.core.messages import TextBlock
from lorimer.core.request import Delta, Request, Response, TextDelta, Usage
from lorimer.core.world import World
from lorimer.testing.providers import CASES, Case, Subject, check
from tests.models.subjects import SUBJECTS


def played(provider: str, case: Case) -> bool:
    """Of the long ones a part, each on two or three of the five providers."""
    if os.environ.get("LORIMER_CAMPAIGN"):
        return True
    mine = list(SUBJECTS).index(provider) % 2
    match case.check.__name__:
        case "an_event_that_makes_no_sense":
            return int(str(case.row[0])) % 2 == mine
        case "cut_anywhere":
            return case.row in (("clean", 0), ("reset", 0)) and (case.row[0] == "reset") == mine
        case _:
            return True


HERE = [(provider, case) for case in CASES for provider in SUBJECTS if played(provider, case)]


@pytest.mark.parametrize(("provider", "case"), HERE, ids=str)
def test_conformance(provider: str, case: Case) -> None:
    case.run(SUBJECTS[provider])


def test_there_are_many_cases_each_with_a_name_of_its_own_and_a_promise() -> None:
    assert len({case.name for case in CASES}) == len(CASES) > 400
    assert all(case.title.endswith(".") for case in CASES)
    for subject in SUBJECTS.values():
        known = {case.name.partition("[")[0] for case in CASES}
        assert set(subject.lacks) <= known


class Careless:
    """A provider that does nothing right."""

    provider = name = "careless"

    async def stream(self, request: Request, *, world: World) -> AsyncIterator[Delta | Response]:
        """The same words to everybody."""
        await asyncio.sleep(0)
        yield TextDelta("Done.")
        yield Response((TextBlock("Done."),))

    def price(self, usage: Usage, *, model: str = "") -> int | None:
        """Nothing."""
        return 0


def test_a_careless_provider_fails_and_the_report_says_how() -> None:
    lacks = {"calls": "it calls nothing"}
    subject = Subject(lambda url, key: Careless(), lacks=lacks)
    report = check(subject, [case for case in CASES if case.group in ("answer", "calls", "status")])
    assert len(report.skipped) == len([case for case in CASES if case.group == "calls"])
    failed = {outcome.case.name for outcome in report.failed}
    assert "status.the_prompt_is_too_long[streamed]" in failed
    assert "answer.nothing_at_all[streamed]" in failed
    assert f"{report.passed} passed, {len(failed)} failed" in str(report)
    assert "it calls nothing" in str(report)
    assert "AssertionError" in str(report)
