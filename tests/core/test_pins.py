"""Which messages are pinned is known at a cost that depends on what is new, and still right after
the end of a conversation was replaced."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lorimer.core.history import History
from lorimer.core.messages import Message, TextBlock
from lorimer.core.pins import pins

MARKERS = ("[pin]", "[keep]")
MESSAGES = st.builds(
    lambda role, text: Message(role, (TextBlock(text),)),
    st.sampled_from(["user", "assistant"]),
    st.sampled_from(["yes", "[pin] alpha", "[keep] beta", "no"]),
)
CHANGES = st.one_of(MESSAGES, st.integers(0, 12))


def expected(history: History, end: int, first: bool) -> list[int]:
    return [
        index
        for index in range(end)
        if history[index].role == "user"
        and ((first and index == 0) or any(each in history[index].text for each in MARKERS))
    ]


@given(st.lists(CHANGES, max_size=30), st.booleans(), st.data())
def test_they_follow_what_is_added_and_replaced(
    changes: list[Message | int], first: bool, data: st.DataObject
) -> None:
    history = History()
    for change in changes:
        if isinstance(change, int):
            history.truncate(change)
        else:
            history.append(change)
        end = data.draw(st.integers(0, len(history)))
        known = pins(history, first, MARKERS)
        assert known.before(history, end) == expected(history, end, first)
