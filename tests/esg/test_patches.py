"""Patches: their three forms, there and back, and what is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorimer.esg import ExecutionStateGraph
from lorimer.esg.graph.questions import StepError
from lorimer.esg.patching.forms import Block, block_of, range_of, read_diff, unified
from lorimer.esg.patching.patches import Edit, Move, PatchResult, patch_of, read_patch
from tests.quick import quick

LINES = st.lists(
    st.sampled_from(
        [
            "x = 1", "", "    ", "# <<<<<<< SEARCH", "# =======", "#>>>>>>> REPLACE", "# --- s0",
            "# @@ -1 +1 @@", "y = '<<<<<<<'", "x = 2", "# step: s1", "# move: a after: b",
            "t = 'a\\u2028b\\x0c'", "# \r", "+1", "-1",
        ]
    ),
    max_size=8,
)  # fmt: skip
TEXTS = LINES.map("\n".join)
MARKS = ("<<<<<<< SEARCH", "=======", ">>>>>>> REPLACE")


def graph_of(*texts: str) -> ExecutionStateGraph:
    graph = ExecutionStateGraph()
    for number, text in enumerate(texts):
        graph.add_step(f"s{number}", text)
    return graph


def whole(graph: ExecutionStateGraph, step: str, new: str) -> PatchResult:
    return patch_of([Edit(step, 0, len(graph.source(step)), new)], "why", graph)


@given(old=TEXTS, new=TEXTS, other=TEXTS)
def test_row_55_every_form_of_a_patch_makes_the_same_texts(old: str, new: str, other: str) -> None:
    graph = graph_of(old, other)
    patch = whole(graph, "s0", new)
    if not patch or old == new:
        return
    for form in (patch.diff, patch.blocks, patch.as_json()):
        again = read_patch(form, graph, "why", given=("x", "y", "a", "b"))
        twin = graph_of(old, other)
        again.apply(twin)
        assert (twin.source("s0"), twin.source("s1")) == (new, other), form


@pytest.mark.parametrize("step", ["s 0", "--- s0", '"quoted"', "new\nline", "a after: b", " s"])
def test_row_55_any_id_of_a_step(step: str) -> None:
    graph = ExecutionStateGraph()
    graph.add_step(step, "x = 1")
    graph.add_step("next", "y = x")
    patch = patch_of([Edit(step, 4, 5, "2")], "", graph, moves=[])
    for form in (patch.diff, patch.blocks, patch.as_json()):
        assert read_patch(form, graph).edits, form
    moved = patch_of([], "", graph, moves=[Move(step, "")])
    for form in (moved.diff, moved.blocks, moved.as_json()):
        assert read_patch(form, graph).moves == (Move(step, ""),), form


def test_row_55_a_block_as_a_model_writes_it() -> None:
    graph = graph_of("total = 3", "x = 1\nprint(totl)  \ny = 2")
    answer = (
        "The name is misspelt.\n\nstep: s1\n<<<<<<< SEARCH\nprint(totl)\n=======\n"
        "print(total)\n>>>>>>> REPLACE\n"
    )
    patch = read_patch(answer, graph)
    patch.apply(graph)
    assert graph.source("s1") == "x = 1\nprint(total)\ny = 2"


@pytest.mark.parametrize(
    ("block", "why"),
    [
        ("step: s1\n<<<<<<< SEARCH\nz = 3\n=======\nz = 4\n>>>>>>> REPLACE", "no such lines"),
        ("step: s1\n<<<<<<< SEARCH\nx = 1\n=======\nx = 2\n>>>>>>> REPLACE", "2 times"),
        ("step: s9\n<<<<<<< SEARCH\nx = 1\n=======\nx = 2\n>>>>>>> REPLACE", "no step 's9'"),
        ("<<<<<<< SEARCH\nx = 1\n=======\nx = 2\n>>>>>>> REPLACE", "no 'step:"),
        ("step: s1\n<<<<<<< SEARCH\nx = 1\n=======\nx = 2", "does not end"),
        ("just words", "contains no patch"),
        ("--- s1\n+++ s1\n@@ -1 +1 @@\n-x = 9\n+x = 2\n", "not as the diff has it: line 1"),
        ("--- s1\n+++ s1\n@@ -3 +3 @@\n-x = 1\n+x = 2\n@@ -1 +1 @@\n-x = 1\n+x = 3\n",
         "not as the diff has it: line 1"),
        ("--- s1\n+++ s1\n@@ -9,0 +9 @@\n+z = 1\n", "not as the diff has it: line 9"),
        ("--- s1\n+++ s1\n@@ -0 +1 @@\n-x = 1\n+x = 2\n", "not as the diff has it: line 0"),
        ("--- s7\n+++ s7\n@@ -1 +1 @@\n-x = 9\n+x = 2\n", "a step 's7', which is not there"),
        ("{", "not a patch in JSON"),
        ('{"edits": [1], "moves": [], "hashes": {}}', "an edit has a step"),
        ('{"edits": [], "moves": [], "hashes": 3}', "'hashes' is not an object"),
        ('{"edits": [{"step": "s1", "start": 0, "end": 1, "text": ""}], "moves": [],'
         ' "hashes": {}}', "no hash of step 's1'"),
        ('{"edits": [], "moves": [], "hashes": {"s1": "00"}}', "not as it was"),
        ('{"edits": [], "moves": [{"step": "q", "after": ""}], "hashes": {}}', "no step 'q'"),
    ],
)  # fmt: skip
def test_row_55_what_does_not_fit_is_refused_with_the_reason(block: str, why: str) -> None:
    graph = graph_of("a = 1", "x = 1\ny = 2\nx = 1")
    with pytest.raises(StepError, match=why):
        read_patch(block, graph)
    assert graph.source("s1") == "x = 1\ny = 2\nx = 1"


def test_row_55_json_is_refused_when_the_step_was_edited_since() -> None:
    graph = graph_of("x = 1")
    form = whole(graph, "s0", "x = 2").as_json()
    assert json.loads(form)["edits"][0]["text"] == "x = 2"
    graph.edit_step("s0", "x = 3")
    with pytest.raises(StepError, match="not as it was"):
        read_patch(form, graph)


@pytest.mark.parametrize(
    ("new", "why"),
    [
        ("x = (", "s1 would be no Python"),
        ("x = nobody", "no step would make nobody"),
        ("y = 1", "no step would make x"),  # s2 reads it
    ],
)
def test_row_12_a_patch_after_which_the_graph_is_not_sound_is_refused(new: str, why: str) -> None:
    graph = graph_of("a = 1", "x = a", "print(x)")
    patch = whole(graph, "s1", new)
    assert not patch
    assert why in patch.reason


def test_row_12_edits_that_overlap_or_lie_outside_are_refused() -> None:
    graph = graph_of("abc = 1")
    both = [Edit("s0", 0, 3, "x"), Edit("s0", 2, 4, "y")]
    assert "overlap" in patch_of(both, "", graph).reason
    assert "outside" in patch_of([Edit("s0", 3, 99, "x")], "", graph).reason
    assert "outside" in patch_of([Edit("s0", -3, 2, "x")], "", graph).reason
    two = [Edit("s0", 0, 0, "b = 2\n"), Edit("s0", 0, 0, "c = 3\n")]
    patch = patch_of(two, "", graph)
    patch.apply(graph)
    assert graph.source("s0") == "b = 2\nc = 3\nabc = 1"


def test_row_12_a_name_that_was_given_counts_as_made() -> None:
    graph = graph_of("y = given_one")
    edit = Edit("s0", 4, 13, "other_one")
    assert not patch_of([edit], "", graph)
    assert patch_of([edit], "", graph, given=("other_one",))


def test_only_an_empty_step_is_found_by_an_empty_search() -> None:
    assert range_of(Block("s", "", "x = 1"), "") == (0, 0, "x = 1")
    for source in ("a = 1\n\nb = 2", "a = 1", "\n"):
        with pytest.raises(StepError):
            range_of(Block("s", "", "x = 1"), source)


def test_patches_of_texts_that_are_much_alike_take_no_minutes() -> None:
    blank = "\n" * 20_000
    with quick():
        made = block_of("s1", f"{blank}x = 1{blank}", f"{blank}x = 1{blank}\n")
        assert made.search.count("\n") > 10_000
        with pytest.raises(StepError, match="at least 2 times"):
            range_of(Block("s1", "\n" * 10_000, "x"), f"{blank}x = 1{blank}")
        with pytest.raises(StepError, match="no such lines"):
            range_of(Block("s1", "\n" * 10_000 + "y", "x"), f"{blank}x = 1{blank}")


def test_a_block_has_as_many_lines_as_it_needs() -> None:
    old = "a\nx\nb\nx\nc"
    assert block_of("s", old, "a\nx\nb\ny\nc") == Block("s", "b\nx\nc", "b\ny\nc")
    assert block_of("s", old, "a\nx\nB\nx\nc") == Block("s", "b", "B")
    assert block_of("s", old, "a\nx\nb\nx") == Block("s", "x\nc", "x")
    assert block_of("s", "", "a") == Block("s", "", "a")


def test_a_hunk_with_a_number_of_thousands_of_digits_is_none() -> None:
    assert dict(read_diff(f"--- s1\n+++ s1\n@@ -{'9' * 5000} +1 @@\n", {"s1": "x"})) == {"s1": "x"}


def test_a_long_text_whose_lines_were_all_swapped_is_told_in_no_time() -> None:
    old = "\n".join([f"x{n} = 1\ny{n} = 1" for n in range(20_000)])
    new = "\n".join([f"y{n} = 1\nx{n} = 1" for n in range(20_000)])
    with quick():
        diff = unified("s1", f"a\n{old}\nz", f"a\n{new}\nz")
    assert diff.startswith("--- s1\n+++ s1\n@@ -1,40002 +1,40002 @@\n a\n-x0 = 1\n")
    assert dict(read_diff(diff, {"s1": f"a\n{old}\nz"})) == {"s1": f"a\n{new}\nz"}


FEW_LINES = st.lists(st.sampled_from(["", "a", "b", "c"]), max_size=12).map("\n".join)


@given(FEW_LINES, FEW_LINES)
def test_every_diff_can_be_read(old: str, new: str) -> None:
    diff = unified("s1", old, new)
    assert bool(diff) == (old != new)
    assert dict(read_diff(diff, {"s1": old})) == ({"s1": new} if diff else {})
