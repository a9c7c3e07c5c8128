"""Files as steps: what is a cell, and what an edit of the file is for the graph."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorimer.esg import ExecutionStateGraph
from lorimer.esg.graph.questions import StepError
from lorimer.esg.notebooks.cells import Cell, load, magics, of_notebook, of_script
from tests.quick import quick


def test_row_58_a_script_in_the_percent_format() -> None:
    text = "a = 1\n\n# %% second\nb = a\n# %% [markdown]\n# words\n#%%\n\n# %% third\n\nc = b\n"
    assert of_script(text) == [Cell("", "a = 1"), Cell("second", "b = a"), Cell("third", "c = b")]
    assert of_script("x = 1\ny = 2\n") == [Cell("", "x = 1\ny = 2")]
    assert of_script("") == []


def test_row_58_a_notebook() -> None:
    notebook = {
        "cells": [
            {"cell_type": "markdown", "source": "# words"},
            {"cell_type": "code", "source": ["a = 1\n", "b = a"]},
            {"cell_type": "code", "source": "c = b"},
            {"cell_type": "code", "source": ""},
        ]
    }
    assert of_notebook(notebook) == [Cell("", "a = 1\nb = a"), Cell("", "c = b")]
    with pytest.raises(StepError, match="Jupyter notebook of format 3"):
        of_notebook({"worksheets": []})


def test_a_file_that_was_edited_keeps_the_steps_that_are_the_same() -> None:
    graph = ExecutionStateGraph()
    load(graph, of_script("# %% a\nx = 1\n# %%\ny = x\n# %% c\nz = y"))
    assert graph.steps == ("a", "2", "c")
    for step in graph.steps:
        node = graph.get_node(step)
        reads, writes = ({name: name for name in node[key]} for key in ("reads", "writes"))
        graph.observe(step, reads, writes, kills=writes.keys())
    load(graph, of_script("# %% a\nx = 1\n# %% new\nw = 1\n# %%\ny = x\n# %% c\nz = y + 1"))
    assert graph.steps == ("a", "new", "2", "c")
    assert graph.stale() == ["new", "c"]


@given(st.lists(st.lists(st.sampled_from(["a = 1", "b = a", "c = b", "a = c"]), max_size=6)))
def test_after_any_edits_the_steps_are_those_of_the_file(files: list[list[str]]) -> None:
    graph = ExecutionStateGraph()
    for sources in files:
        load(graph, [Cell("", source) for source in sources])
        assert [graph.source(step) for step in graph.steps] == sources


def test_the_second_of_a_title_is_called_the_second() -> None:
    graph = ExecutionStateGraph()
    load(graph, of_script("# %% a\n1\n# %%\n2\n# %% plot\n3\n# %% plot\n4\n# %% plot\n5\n"))
    assert graph.steps == ("a", "2", "plot", "plot 2", "plot 3")


def test_steps_have_the_titles_that_their_cells_have_now() -> None:
    graph = ExecutionStateGraph()
    load(graph, of_script("# %% load\nx = 1\n# %% slow\ny = 2\n# %% show\nprint(x)\n"))
    for step in graph.steps:
        graph.record_output(step, {})
    load(graph, of_script("# %% load\nx = 1\n# %% show\nprint(x, x)\n"))
    assert (graph.steps, graph.stale()) == (("load", "show"), ["show"])
    load(graph, of_script("# %% read\nx = 1\n# %%\nprint(x, x)\n"))
    assert (graph.steps, graph.stale()) == (("read", "show"), ["show"])


def test_files_made_to_be_slow_are_not() -> None:
    wide = " " * 500_000
    with quick():
        assert of_script(f"# %% a{wide}b\nx = 1") == [Cell(f"a{wide}b", "x = 1")]
        assert magics(f"{wide}a{wide}= !\n%time") == [0, 1]
        assert magics(f"{wide}a{wide}\n!ls") == [1]


@pytest.mark.parametrize("title", ["", "t"])
def test_thousands_of_cells_that_are_alike_are_read_in_no_time(title: str) -> None:
    alike = [Cell(title, "x = 1") for _ in range(15_000)]
    graph = ExecutionStateGraph()
    with quick():
        load(graph, alike)
        load(graph, [*alike[:-1], Cell(title, "y = 1")])
    assert graph.source(graph.steps[-1]) == "y = 1"
    assert len(graph) == len(alike)
    if title:
        assert graph.steps[-1] == "t 15000"
