"""`lorimer steps`: a script as a graph, on the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.support import in_terminal, invoke

SCRIPT = """\
# %% load
rows = [3, 1, 2]
# %% scale
factor = 10
# %% sort
rows.sort()
# %% show
print([row * factor for row in rows])
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return path


def test_all_steps_run_in_order(script: Path) -> None:
    result = invoke("steps", "run", str(script))
    assert result.exit_code == 0
    marks = [line.split()[:2] for line in result.stdout.splitlines() if line.startswith("✓")]
    assert marks == [["✓", "load"], ["✓", "scale"], ["✓", "sort"], ["✓", "show"]]
    assert "[10, 20, 30]\n4 of 4 steps run" in result.stdout


def test_the_step_at_work_is_shown_where_a_line_can_be_changed(
    script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")  # which is about colours
    assert "\r\x1b[K… load\r\x1b[K" in in_terminal("steps", "run", str(script), keys=[]).out
    dumb = in_terminal("steps", "run", str(script), keys=[], term="dumb").out
    assert "✓ load" in dumb
    assert "…" not in dumb and "\x1b" not in dumb and "\r" not in dumb.replace("\r\n", "")


def test_a_page_that_cannot_be_written_is_told_before_anything_is_run(script: Path) -> None:
    result = invoke("steps", "run", str(script), "--html", "nowhere/page.html")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(
        "error: nowhere/page.html cannot be written: there is no folder"
    )


def test_what_steps_define_is_pickled_as_in_a_script(script: Path) -> None:
    script.write_text(
        "# %% define\nclass Point:\n    x = 3\n"
        "# %% keep\nimport pickle\nkept = pickle.dumps(Point())\n"
        "# %% read\nprint(pickle.loads(kept).x)\n"
    )
    own = sys.modules["__main__"]
    result = invoke("steps", "run", str(script))
    assert (result.exit_code, "3\n3 of 3 steps run" in result.stdout) == (0, True)
    assert sys.modules["__main__"] is own


def test_a_step_that_raises_is_explained(script: Path) -> None:
    script.write_text(SCRIPT + "# %% more\nprint(rowz)\n# %% last\nx = 1\n")
    result = invoke("steps", "run", str(script))
    assert result.exit_code == 1
    assert "NameError: name 'rowz' is not defined\n  'rowz' is probably 'rows'" in result.stdout
    assert "-print(rowz)\n+print(rows)" in result.stdout
    assert "✓ last" in result.stdout, "it does not need the one that failed"
    assert result.stdout.endswith("6 of 6 steps run, 1 failed\n")
    assert 'File "<step more>"' in result.stdout
    assert "lorimer" not in result.stdout, "no frames of ours"


def test_the_graph_is_shown_without_running_anything(script: Path) -> None:
    script.write_text(SCRIPT + "# %% bad\nraise SystemExit(wrong)\n")
    result = invoke("steps", "show", str(script))
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "load   rows",
        "scale  factor",
        "sort   rows    rows ← load",
        "show           factor ← scale · rows ← sort",
        "bad              nobody makes wrong",
    ]
    told = json.loads(invoke("steps", "show", str(script), "--json").stdout)
    assert ["load", "sort", ["rows"]] in told["edges"]


def test_a_step_is_explained_and_a_name_exported(script: Path) -> None:
    explained = invoke("steps", "explain", str(script), "sort")
    assert explained.stdout.splitlines() == [
        "sort",
        "  reads rows of load",
        "  makes rows for show",
    ]
    exported = invoke("steps", "export", str(script), "rows")
    assert exported.stdout == "# %% load\nrows = [3, 1, 2]\n\n# %% sort\nrows.sort()\n"


def test_only_names_that_nobody_gives_are_told_as_missing(script: Path) -> None:
    script.write_text(
        "# %% hi\nprint('hi')\n# %% lost\nprint(nobody, later)\n# %% after\nlater = 1\n"
    )
    assert invoke("steps", "explain", str(script), "hi").stdout == (
        "hi\n  reads nothing from other steps, and makes nothing\n"
    )
    assert invoke("steps", "explain", str(script), "lost").stdout.splitlines() == [
        "lost",
        "  reads later, which only after makes, behind it",
        "  reads nobody, which no step makes",
    ]
    book = script.with_suffix(".ipynb")
    book.write_text(json.dumps({"cells": [{"cell_type": "code", "source": "x = 1\ndisplay(x)"}]}))
    assert invoke("steps", "explain", str(book), "1").stdout == "1\n  makes x\n"


def test_a_notebook_is_run_too(tmp_path: Path) -> None:
    path = tmp_path / "n.ipynb"
    path.write_text(json.dumps({"cells": [{"cell_type": "code", "source": "print(6 * 7)"}]}))
    assert "42" in invoke("steps", "run", str(path)).stdout


def test_a_script_finds_its_name_and_arguments_as_python_gives_them(script: Path) -> None:
    script.write_text("# %% a\nimport sys\nprint(sys.argv, __file__)\n# %% b\nprint(__name__)\n")
    told = invoke("steps", "run", str(script)).stdout
    assert f"{[str(script)]} {script.resolve()}\n" in told
    assert "__main__" in told
    assert "__file__" not in invoke("steps", "show", str(script)).stdout


def test_a_notebook_displays_and_has_no_file(tmp_path: Path) -> None:
    path = tmp_path / "n.ipynb"
    cells = [{"cell_type": "code", "source": s} for s in ("display('a', [1])", "__file__")]
    path.write_text(json.dumps({"cells": cells}))
    told = invoke("steps", "run", str(path)).stdout
    assert "a\n[1]\n" in told
    assert "a step is in no file: it has no '__file__'" in told
    assert "nobody makes" not in invoke("steps", "show", str(path)).stdout


def test_no_frames_of_ours_are_shown_of_imports_that_fail(script: Path) -> None:
    script.write_text(
        "try:\n    import no_such_module\nexcept ImportError as e:\n    raise ValueError from e\n"
    )
    told = invoke("steps", "run", str(script)).stdout
    assert "ModuleNotFoundError" in told
    assert "The above exception was the direct cause" in told
    assert "loading.py" not in told


def test_a_name_that_only_a_later_step_makes_is_told_so(script: Path) -> None:
    script.write_text("# %% a\nprint(x)\n# %% b\nx = 1\n")
    assert "only b, behind it, makes x" in invoke("steps", "show", str(script)).stdout


def test_a_command_that_only_says_why_it_is_not_there_is_not_listed() -> None:
    listed = invoke("steps", "--help").stdout
    assert "explain" in listed
    assert "replay" not in listed


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["explain", "script.py", "shwo"], "there is no step 'shwo'; did you mean 'show'?"),
        (["export", "script.py", "nothing"], "has no step and no name 'nothing'"),
        (["export", "script.py", "facto"], "no name 'facto'; did you mean 'factor'?"),
        (["replay", "script.py", "--now"], "there is no option"),
        (["replay", "script.py"], "lorimer steps run FILE --watch"),
        (["run", "none.py"], "does not exist"),
        (["run", "broken.ipynb"], "broken.ipynb"),
        (["run", "list.ipynb"], "not a Jupyter notebook"),
    ],
)
def test_wrong_input_takes_a_line(
    words: list[str], told: str, script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(script.parent)
    (script.parent / "broken.ipynb").write_text("{")
    (script.parent / "list.ipynb").write_text("[]")
    result = invoke("steps", *words)
    assert result.exit_code == 2
    assert told in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="ends it by SIGINT")
def test_a_watched_file_runs_again_only_where_it_is_stale(script: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with out.open("w") as told:
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "lorimer", "steps", "run", str(script), "--watch"],
            stdout=told,
            stderr=subprocess.STDOUT,
            env={**os.environ, "NO_COLOR": "1"},
        )
        try:
            _wait(out, "watching")
            script.write_text(SCRIPT.replace("factor = 10", "factor = 100"))
            _wait(out, "2 of 4 steps run")
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(20)
    text = out.read_text()
    assert "[100, 200, 300]" in text
    assert text.count("✓ load") == text.count("✓ sort") == 1
    assert text.count("✓ scale") == text.count("✓ show") == 2
    assert "Traceback" not in text


def _wait(out: Path, text: str) -> None:
    for _ in range(400):
        if text in out.read_text():
            return
        time.sleep(0.05)
    raise AssertionError(out.read_text())


def test_columns_stay_in_line_beside_letters_of_two_columns(tmp_path: Path) -> None:
    path = tmp_path / "wide.py"
    path.write_text("# %% one\nn = 1\n# %% 中文\n数 = n\n", "utf-8")
    one, two = invoke("steps", "show", str(path)).stdout.splitlines()
    assert (one, two) == ("one   n", "中文  数  n ← one")
    told = invoke("steps", "edit", str(path), "one", "--code", "n = 2", "--dry-run").stdout
    assert "\n  one   its code" in told and "\n  中文  it reads" in told
