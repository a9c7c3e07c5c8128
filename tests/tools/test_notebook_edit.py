"""NotebookEdit: cells are replaced, inserted and deleted, all or none, beneath the roots."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lorimer.core.result import PipelineResult
from lorimer.testing import SimulatedWorld, simulate
from lorimer.tools.builtin.notebook import Notebook
from tests.core.support import held, use
from tests.tools.planned import Script, agent


def cell(source: Any, kind: str = "code") -> dict[str, Any]:
    made: dict[str, Any] = {
        "cell_type": kind,
        "metadata": {"tags": ["é"]},
        "source": source,
    }
    if kind == "code":
        made = {"execution_count": 3, "outputs": [{"output_type": "stream"}], **made}
    return made


def book(*cells: dict[str, Any], minor: int = 5, **more: Any) -> str:
    given = [{**each, "id": f"c{at}"} if minor >= 5 else each for at, each in enumerate(cells)]
    whole = {"cells": given, "metadata": {"z": 1, "a": 2}, "nbformat": 4, **more}
    return json.dumps({**whole, "nbformat_minor": minor}, indent=1, ensure_ascii=False) + "\n"


PLAIN = book(cell(["a = 1\n", "b"]), cell(["# Title"], "markdown"), cell("print()"))


def edit(
    root: Path, *operations: dict[str, Any], text: str = PLAIN, **more: Any
) -> tuple[str, list[dict[str, Any]]]:
    """One call through a manifest: what the model is told, and the cells after it."""
    file = root / "n.ipynb"
    file.write_text(text, "utf-8")

    async def main(world: SimulatedWorld) -> str:
        given = {"file_path": "n.ipynb", "operations": list(operations), **more}
        model = Script([[use("NotebookEdit", **given)], "done"])
        options: Any = {"workspace": root, "rules": ["NotebookEdit"]}
        result = await agent(world, model, ["notebooks"], **options).run("go")
        assert result.text == "done"
        return model.told[1][0]

    told = simulate(main)
    return told, json.loads(file.read_text("utf-8"))["cells"]


def sources(cells: list[dict[str, Any]]) -> list[str]:
    return ["".join(each["source"]) for each in cells]


def test_an_id_that_two_cells_have_names_none(tmp_path: Path) -> None:
    twice = PLAIN.replace('"id": "c2"', '"id": "c0"')
    told, cells = edit(tmp_path, {"op": "delete", "cell_id": "c0"}, text=twice)
    assert "several cells are 'c0' (0, 2): give an index" in told
    assert len(cells) == 3


def test_the_ends_of_its_lines_stay_as_they_were(tmp_path: Path) -> None:
    (tmp_path / "n.ipynb").write_bytes(PLAIN.replace("\n", "\r\n").encode())
    whole = Notebook((tmp_path / "n.ipynb").read_bytes())
    assert whole.to_bytes() == PLAIN.replace("\n", "\r\n").encode()


def test_cells_are_replaced_inserted_and_deleted(tmp_path: Path) -> None:
    told, cells = edit(
        tmp_path,
        {"op": "replace", "index": 0, "source": "a = 2\nb = 3\n"},
        {"op": "insert", "index": 1, "source": "new", "cell_type": "markdown"},
        {"op": "delete", "index": 3},
        {"op": "insert", "source": "last"},
        {"op": "insert", "cell_id": "c1", "source": "after the title"},
    )
    assert sources(cells) == ["a = 2\nb = 3\n", "new", "# Title", "after the title", "last"]
    assert cells[0]["source"] == ["a = 2\n", "b = 3\n"]
    assert (cells[0]["outputs"], cells[0]["execution_count"]) == ([], None)
    assert cells[0]["metadata"] == {"tags": ["é"]}
    assert list(cells[1]) == ["cell_type", "id", "metadata", "source"]
    assert list(cells[4]) == [
        "cell_type",
        "execution_count",
        "id",
        "metadata",
        "outputs",
        "source",
    ]
    assert len({each["id"] for each in cells}) == 5
    assert told.split("\n")[:3] == [
        "n.ipynb has 5 cells now:",
        "replaced cell 0: a = 2…",
        f"inserted cell 1 (id {cells[1]['id']}): new",
    ]


def test_what_is_not_changed_stays_to_the_byte(tmp_path: Path) -> None:
    more = {"extra": {"deep": [1.5, None, "\u2028"]}}
    whole = json.loads(book(cell("x = 1"), cell(["y"], "raw"), **more))
    text = json.dumps(whole, indent=4, ensure_ascii=False)
    edit(tmp_path, {"op": "replace", "index": 0, "source": "x = 2"}, text=text)
    after = (tmp_path / "n.ipynb").read_text("utf-8")
    assert Notebook(after.encode()).to_bytes().decode() == after
    same = [line for line in after.splitlines() if line in text.splitlines()]
    assert len(after.splitlines()) - len(same) <= 4  # source, outputs, count


def test_a_cell_may_change_its_kind_and_old_notebooks_have_no_ids(tmp_path: Path) -> None:
    _, cells = edit(
        tmp_path,
        {"op": "replace", "index": 0, "source": "words", "cell_type": "markdown"},
        {"op": "insert", "index": 0, "source": ""},
        text=book(cell("x"), minor=4),
    )
    assert cells[1] == {"cell_type": "markdown", "metadata": {"tags": ["é"]}, "source": "words"}
    assert "id" not in cells[0]
    assert cells[0]["source"] == []


@pytest.mark.parametrize(
    ("operation", "why"),
    [
        ({"op": "replace", "index": 3, "source": "x"}, "operations[1].index: there is no cell 3"),
        ({"op": "delete", "cell_id": "no"}, "operations[1].cell_id: there is no cell 'no'"),
        ({"op": "delete"}, "operations[1]: it needs index or cell_id"),
        ({"op": "delete", "index": 0, "cell_id": "c0"}, "operations[1]: it needs index or"),
        ({"op": "delete", "index": 0, "source": "x"}, "operations[1].source: a delete has none"),
        ({"op": "insert", "index": 9, "source": "x"}, "operations[1].index: 9 is beyond the end"),
        ({"op": "insert", "index": 0}, "operations[1].source: insert needs it"),
        ({"op": "rename"}, "input.operations[1].op must be one of"),
        ({"op": "delete", "index": -1}, "input.operations[1].index must be bigger"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value.values())),
)
def test_an_operation_that_cannot_be_made_changes_nothing(
    tmp_path: Path, operation: dict[str, Any], why: str
) -> None:
    told, cells = edit(tmp_path, {"op": "delete", "index": 2}, operation)
    assert why in told
    assert len(cells) == 3
    assert (tmp_path / "n.ipynb").read_text("utf-8") == PLAIN


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    told, cells = edit(tmp_path, {"op": "delete", "index": 0}, save=False)
    assert told == "Not saved:\ndeleted cell 0"
    assert len(cells) == 3


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ("[]", "it is not a JSON object"),
        ('{"nbformat": 3, "cells": []}', "its nbformat is 3, not 4"),
        ('{"nbformat": 4}', "it has no list of cells"),
        ('{"nbformat": 4, "cells": [1]}', "it has no list of cells"),
    ],
    ids=["broken", "deep", "list", "old", "none", "odd"],
)
def test_what_is_no_notebook_is_told(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "n.ipynb"

    async def main(world: SimulatedWorld) -> None:
        file.write_text(text)
        one = {"op": "insert", "source": "x"}
        calls = [
            use("NotebookEdit", "a", file_path="n.ipynb", operations=[one]),
            use("NotebookEdit", "b", file_path="../n.ipynb", operations=[one]),
            use("NotebookEdit", "c", file_path="missing.ipynb", operations=[one]),
        ]
        model = Script([calls, "done"])
        options: Any = {"workspace": tmp_path, "permission_mode": "bypass"}
        await agent(world, model, ["notebooks"], **options).run("go")
        assert why in model.told[1][0]
        assert "exec.tool.access_denied" in model.told[1][1]
        assert "No such file" in model.told[1][2]
        assert file.read_text() == text

    simulate(main)


INSERT = {"op": "insert", "index": 0, "source": "new"}
DELETE = {"op": "delete", "cell_id": "c0"}
REPLACE = {"op": "replace", "index": 0, "source": "new"}


@pytest.mark.parametrize("happened", [True, False], ids=["done", "not-done"])
@pytest.mark.parametrize(
    ("operation", "sure"),
    [(INSERT, True), (DELETE, True), (REPLACE, False)],
    ids=["insert", "delete", "replace"],
)
def test_a_call_that_was_cut_off_is_made_once(
    tmp_path: Path, operation: dict[str, Any], sure: bool, happened: bool
) -> None:
    file = tmp_path / "n.ipynb"

    async def main(world: SimulatedWorld) -> None:
        async def result_of(journal: Any, run_id: str = "") -> tuple[PipelineResult, str]:
            given = {"file_path": "n.ipynb", "operations": [operation]}
            model = Script([[use("NotebookEdit", **given)], "done"])
            options: Any = {"workspace": tmp_path, "rules": ["NotebookEdit"], "journal": journal}
            pipeline = agent(world, model, ["notebooks"], **options)
            result = await (pipeline.resume(run_id) if run_id else pipeline.run("go"))
            return result, model.told[1][0]

        file.write_text(PLAIN)
        whole, _ = await result_of(None)
        once = file.read_text()
        if not happened:
            file.write_text(PLAIN)
        begun = [fact.type for fact in whole.events].index("tool.intent") + 1
        journal = await held(world, whole.events[:begun], whole.session_id)
        _, told = await result_of(journal, whole.run_id)
        if sure:
            assert file.read_text() == once
            assert ("before an interruption" in told) == happened
        else:
            assert "exec.tool.outcome_unknown" in told

    simulate(main)
