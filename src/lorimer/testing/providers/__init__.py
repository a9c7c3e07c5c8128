"""A conformance kit for implementations of a provider: what every Model has to do, case by case.

    SUBJECT = Subject(lambda url, key: MyModel(url + "/v1", key), wire="openai")

    @pytest.mark.parametrize("case", CASES, ids=str)
    def test_my_provider(case):
        case.run(SUBJECT)

Without pytest: `print(check(SUBJECT))`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from lorimer.testing.providers import answers, calls, conversations, failures, streams, waiting
from lorimer.testing.providers.case import Case, NotApplicable, Outcome, Report, Subject, run

__all__ = ["CASES", "Case", "NotApplicable", "Outcome", "Report", "Subject", "check"]

CASES: Final[tuple[Case, ...]] = (
    *answers.CASES,
    *calls.CASES,
    *conversations.CASES,
    *streams.CASES,
    *failures.CASES,
    *waiting.CASES,
)
"""All cases, in groups. The names are stable: `Subject.lacks` and test reports use them."""


def check(subject: Subject, cases: Sequence[Case] = CASES) -> Report:
    """Run the cases, one after the other, and report. Takes about a minute; runs its own event
    loops, so call it from synchronous code."""
    return run(subject, cases)
