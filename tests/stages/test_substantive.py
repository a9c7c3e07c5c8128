"""Stage 21: an answer that says nothing, or only points back. Row 25."""

from __future__ import annotations

from typing import Any

import pytest

from lorimer.core.errors import ExecutorErrorCode
from lorimer.core.messages import TextBlock
from tests.run.support import WORKER, executor_of, model_of, use
from tests.run.test_executor import Work

pytestmark = pytest.mark.anyio

REPORT = "The bridge holds 40 tonnes; its third pillar has a crack of two millimetres."

WEAK = (
    "See above.",
    "see above",
    "(See above)",
    "Please see the report above.",
    "Please refer to my previous message.",
    "As stated above.",
    "As I already mentioned earlier.",
    "Same as above.",
    "Done. See above.",
    "The answer is given above.",
    "The full report was provided above.",
    "My findings are above.",
    "I have already answered above.",
)
REAL = (
    "Above.",
    "Ten metres above.",
    "They are above.",
    "It is above.",
    "42",
    "Yes.",
    "Done.",
    "No, the temperature is above 40 degrees.",
    "Above all: repair the third pillar.",
    "It was never seen before 1990.",
    "See chapter 3.",
    "Read the manual before use.",
    "The pillar, as described above, has to be repaired in spring, before the floods.",
    "40 tonnes",
    "\U0001f44d",
    "\u2713",
)


async def answer(last: str, first: str = REPORT) -> tuple[str, str, int]:
    model = model_of([[TextBlock(first), *use()], last])
    result = await executor_of(model, tools=[Work()]).run(WORKER, "Does it hold?")
    assert result.run is not None
    return result.output, result.run.text, len(model.requests)


@pytest.mark.parametrize("last", WEAK)
async def test_row_25_an_answer_that_points_back_is_what_it_points_to(last: str) -> None:
    assert await answer(last) == (REPORT, last, 2)


@pytest.mark.parametrize("last", REAL)
async def test_row_25_a_short_real_answer_is_kept(last: str) -> None:
    assert await answer(last) == (last, last, 2)


async def test_row_25_where_nothing_was_said_before_the_answer_stays() -> None:
    assert (await answer("See above.", "Let me look."))[0] == "See above."


@pytest.mark.parametrize("last", ["...", "\u2014", "*"])
async def test_row_25_an_answer_without_a_word_is_no_answer(last: str) -> None:
    assert await answer(last) == (REPORT, last, 2)


async def test_row_25_an_empty_answer_is_asked_for_once_more_and_leaves_the_report() -> None:
    # that it is a failure of the provider is decided below: `models/pull.py`
    def reply(request: Any) -> Any:
        return [TextBlock(REPORT), *use()] if len(request.messages) == 1 else ""

    result = await executor_of(reply, tools=[Work()]).run(WORKER, "Does it hold?")
    assert (result.code, result.output) == (ExecutorErrorCode.EXEC_API_EMPTY, REPORT)


async def test_row_25_the_latest_of_several_counts_and_it_is_kept_with_the_run() -> None:
    newer = REPORT.replace("40", "35")
    replies = [[TextBlock(REPORT), *use()], [TextBlock(newer), *use(n=1)], "As stated above."]
    executor = executor_of(replies, tools=[Work()])
    result = await executor.run(WORKER, "Does it hold?")
    assert result.output == newer
    assert result.run is not None
    assert result.run.events[-1].data["output"] == newer
