"""Parts of core that look at texts: differences, outlines, likeness."""

from __future__ import annotations

from difflib import SequenceMatcher, unified_diff
from random import Random

import pytest

from lorimer.core.excerpt import Selection, excerpt
from lorimer.core.history import History
from lorimer.core.linediff import opcodes, unified
from lorimer.core.messages import ImageBlock, Message, TextBlock, ThinkingBlock, user_message
from lorimer.core.outline import told_text
from lorimer.core.receipt import Receipt
from lorimer.core.vectors import POSTINGS, Vectors
from tests.seeds import fresh


@pytest.mark.parametrize("seed", [1, fresh()], ids=["1", "fresh"])
def test_a_difference_is_told_as_the_standard_library_tells_it(seed: int) -> None:
    dice = Random(seed)
    before = [str(number) for number in range(100)]
    after = [line for line in before if dice.random() < 0.9]
    after[5:5] = ["one", "two"]
    after[60] = "other"
    wanted = unified_diff(before, after, "a", "a", lineterm="")
    ours = list(unified(before, after, "a", end=""))
    assert ours[:2] == list(wanted)[:2]
    assert sum(line.startswith("@@") for line in ours) > 1
    kept = [line[1:] for line in ours if line[0] == "-" and line != "--- a"]
    added = [line[1:] for line in ours if line[0] == "+" and line != "+++ a"]
    assert set(before) - set(after) <= set(kept)
    assert {"one", "two", "other"} <= set(added)
    assert (
        list(opcodes(before[:9], after[:9]))
        == SequenceMatcher(None, before[:9], after[:9]).get_opcodes()
    )


def test_two_texts_too_long_to_compare_are_one_replaced_by_the_other() -> None:
    before = ["same", *[f"old {number}" for number in range(10_000)], "end"]
    after = ["same", *[f"new {number}" for number in range(10_000)], "end"]
    assert list(opcodes(before, after)) == [
        ("equal", 0, 1, 0, 1),
        ("replace", 1, 10_001, 1, 10_001),
        ("equal", 10_001, 10_002, 10_001, 10_002),
    ]


def test_what_a_message_says_without_what_it_thought() -> None:
    message = Message("assistant", (ThinkingBlock("hm"), TextBlock("yes")))
    assert told_text(message) == "yes"
    shown = user_message("look")
    shown = Message("user", (*shown.content, ImageBlock("image/png", "aGk=")))
    assert told_text(shown) == "look\n[a image]"


def test_a_search_among_earlier_texts_finds_no_later_one() -> None:
    texts = Vectors()
    for text in ("deploy the server", "eat apples", "deployment of servers"):
        texts.add(text)
    assert sorted(texts.search("deploy server", 5)) == [0, 2]
    assert texts.search("deploy server", 5, before=2) == [0]


def test_a_text_whose_place_newer_ones_have_taken_is_removed_without_a_trace() -> None:
    texts = Vectors()
    old = texts.add("deploy the server")
    for number in range(POSTINGS + 1):
        texts.add(f"server {number}")
    texts.remove(old, "deploy the server")
    assert old not in texts.search("deploy the server", POSTINGS + 2)
    assert len(texts.search("server", POSTINGS + 2)) == POSTINGS


def test_what_shows_all_of_a_conversation_is_the_conversation() -> None:
    history = History([user_message("one"), user_message("two")])
    assert excerpt(history, Selection(0)) is history
    assert [message.text for message in excerpt(history, Selection(1))] == ["two"]


def test_a_picture_that_is_forgotten_is_not_looked_for() -> None:
    history = History([user_message("one")])
    history.append(Message("user", (ImageBlock("image/png", "aGk="),)))
    assert history.pictured == [1]
    history.truncate(1)
    assert history.pictured == []


def test_what_a_compaction_hid_is_shown_again_where_a_part_of_it_is_dropped() -> None:
    history = History([user_message(text) for text in ("one", "two", "three", "four")])
    digest = history.digest_at(3)
    assert digest is not None
    receipt = Receipt("window", 0, 3, (), (), "recap", digest.hex(), 9, 3)
    history.adopt_receipt(receipt)
    history.truncate(3)
    assert history.receipt is receipt
    history.truncate(2)
    assert history.receipt is None
