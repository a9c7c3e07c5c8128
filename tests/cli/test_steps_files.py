"""`lorimer steps`: files that it writes. Scripts, notebooks, marimo notebooks, pages."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from lorimer.cli.fail import Fault
from lorimer.cli.steps.file import write
from tests.cli.support import invoke

SCRIPT = """\
# words before
# %% imports
import math
# %% load

rows = [3, 1, 2]   # three

# %% [markdown]
# some *words*
# %% scale
factor = 10
# %% show
print([row * factor for row in rows], math.pi)"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return path


# ---------------------------------------------------------------- edit


def test_what_would_run_again_is_told_in_columns(script: Path) -> None:
    script.write_text("# %% a\nx = 1\n# %% longer\nprint(x)\n")
    told = invoke("steps", "edit", str(script), "a", "--code", "x = 2", "--dry-run").stdout
    assert "\n  a       its code was edited\n  longer  it reads 'x', which a makes" in told


def test_an_edit_tells_what_would_run_and_keeps_all_other_text(script: Path) -> None:
    script.chmod(0o640)
    result = invoke("steps", "edit", str(script), "load", "--code", "rows = [1]\nmore = 2")
    assert result.exit_code == 0
    assert "-rows = [3, 1, 2]   # three\n+rows = [1]\n+more = 2\n" in result.stdout
    assert "2 steps of 5 would run again, judging by their code:" in result.stdout
    assert "load  its code was edited" in result.stdout
    assert "show  it reads 'rows', which load makes again" in result.stdout
    expected = SCRIPT.replace("rows = [3, 1, 2]   # three", "rows = [1]\nmore = 2")
    assert script.read_text() == expected
    assert script.stat().st_mode & 0o777 == 0o640
    assert not [each for each in script.parent.iterdir() if "script.py." in each.name]


def test_the_last_step_keeps_its_end_and_windows_keeps_its_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "w.py"
    path.write_bytes(b"# %% a\r\nx = 1\r\n# %% b\r\ny = x")
    assert invoke("steps", "edit", str(path), "a", "--code", "x = 2\nz = 3").exit_code == 0
    assert invoke("steps", "edit", str(path), "b", "--code", "-", input="y = z\n").exit_code == 0
    assert path.read_bytes() == b"# %% a\r\nx = 2\r\nz = 3\r\n# %% b\r\ny = z"


def test_a_byte_order_mark_and_odd_line_ends_in_a_text_stay(tmp_path: Path) -> None:
    path = tmp_path / "w.py"
    odd = "y = 'one\u2028line\x0c'"
    path.write_text(f"\ufeff# %% a\nx = 1\n# %% b\n{odd}\n# %% c\nprint(len(y), x)\n")
    assert "9 1\n3 of 3" in invoke("steps", "run", str(path)).stdout
    assert invoke("steps", "edit", str(path), "c", "--code", "z = y").exit_code == 0
    assert path.read_text() == f"\ufeff# %% a\nx = 1\n# %% b\n{odd}\n# %% c\nz = y\n"
    book = tmp_path / "w.ipynb"
    book.write_text('\ufeff{"cells": [{"cell_type": "code", "source": "x = 1"}]}\n')
    assert invoke("steps", "edit", str(book), "1", "--code", "x = 2").exit_code == 0
    assert book.read_text() == '\ufeff{"cells": [{"cell_type": "code", "source": "x = 2"}]}\n'


def test_a_dry_run_writes_nothing(script: Path) -> None:
    result = invoke("steps", "edit", str(script), "scale", "--code", "factor = x", "--dry-run")
    assert result.exit_code == 0
    assert "scale reads x, which no step makes" in result.stdout
    assert script.read_text() == SCRIPT


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("factor = (", "is not valid Python: line 1"),
        ("factor = " + "-" * 100_000 + "1", "is not valid Python: it is nested too deep"),
        ("a = 1\n# %% new\nb = 2", "would start another step"),
        ("\n", "would be empty"),
    ],
)
def test_a_text_that_cannot_be_a_step_is_refused(code: str, told: str, script: Path) -> None:
    result = invoke("steps", "edit", str(script), "scale", "--code", code)
    assert result.exit_code == 2
    assert told in result.stderr
    assert script.read_text() == SCRIPT


def test_the_same_text_is_no_edit(script: Path) -> None:
    result = invoke("steps", "edit", str(script), "scale", "--code", "factor = 10\n")
    assert (result.exit_code, result.stdout) == (0, "nothing changed\n")


@pytest.mark.parametrize("indent", [1, 2, None])
def test_a_notebook_is_edited_in_its_own_layout(indent: int | None, tmp_path: Path) -> None:
    path = tmp_path / "n.ipynb"
    code = {"cell_type": "code", "metadata": {"é": 1}, "outputs": [{"x": [1]}]}
    whole = {
        "cells": [
            {"cell_type": "markdown", "source": "# words"},
            {**code, "source": ["a = 1\n", "b = 2"]},
            {**code, "source": "c = a"},
        ],
        "nbformat": 4,
    }
    path.write_text(json.dumps(whole, indent=indent, ensure_ascii=False) + "\n")
    assert invoke("steps", "edit", str(path), "2", "--code", "c = a\nd = b").exit_code == 0
    assert invoke("steps", "edit", str(path), "1", "--code", "a = 5\nb = 6").exit_code == 0
    whole["cells"][1]["source"] = ["a = 5\n", "b = 6"]  # pyright: ignore[reportArgumentType, reportIndexIssue]
    whole["cells"][2]["source"] = "c = a\nd = b"  # pyright: ignore[reportArgumentType, reportIndexIssue]
    assert path.read_text() == json.dumps(whole, indent=indent, ensure_ascii=False) + "\n"


# ---------------------------------------------------------------- convert


def test_row_58_a_script_is_a_notebook_and_a_script_again(script: Path, tmp_path: Path) -> None:
    notebook, back = tmp_path / "n.ipynb", tmp_path / "back.py"
    assert invoke("steps", "convert", str(script), str(notebook)).exit_code == 0
    cells = json.loads(notebook.read_text())["cells"]
    kinds = ["code", "code", "code", "markdown", "code", "code"]
    assert [each["cell_type"] for each in cells] == kinds
    assert cells[3]["source"] == ["some *words*"]
    assert cells[2]["metadata"] == {"title": "load"}
    assert invoke("steps", "convert", str(notebook), str(back)).exit_code == 0
    again = tmp_path / "again.ipynb"
    assert invoke("steps", "convert", str(back), str(again)).exit_code == 0
    assert again.read_text() == notebook.read_text()
    assert "# %% [markdown]\n# some *words*\n" in back.read_text()


def test_row_58_a_marimo_notebook_there_and_back(script: Path, tmp_path: Path) -> None:
    made, back = tmp_path / "m.py", tmp_path / "back.py"
    assert invoke("steps", "convert", str(script), str(made), "--marimo").exit_code == 0
    text = made.read_text()
    compile(text, "m.py", "exec")
    assert "@app.cell\ndef show(factor, math, rows):\n    print(" in text
    assert "    return (rows,)\n" in text
    assert invoke("steps", "convert", str(made), str(back)).exit_code == 0
    told = invoke("steps", "run", str(made)).stdout
    assert "[30, 10, 20] 3.14159" in told
    assert "# %% load\nrows = [3, 1, 2]   # three\n" in back.read_text()
    assert "# %% [markdown]\n# some *words*\n" in back.read_text()
    assert "marimo" not in back.read_text()


def test_a_cell_of_marimo_may_await_and_have_lines_within_strings(tmp_path: Path) -> None:
    path, made, back = (tmp_path / name for name in ("s.py", "m.py", "back.py"))
    path.write_text("# %% a\ntext = '''x\n  y\nz'''\nimport asyncio\nawait asyncio.sleep(0)\n")
    assert invoke("steps", "convert", str(path), str(made), "--marimo").exit_code == 0
    compile(made.read_text(), "m.py", "exec")
    assert invoke("steps", "convert", str(made), str(back)).exit_code == 0
    assert back.read_text() == path.read_text()


def test_cells_of_marimo_come_in_an_order_that_runs(tmp_path: Path) -> None:
    path = tmp_path / "m.py"
    path.write_text(
        "import marimo\napp = marimo.App(width='full')\n\n"
        "@app.cell(hide_code=True)\ndef _(x):\n    print(x + 1)\n    return\n\n"
        "@app.cell\ndef _():\n    x = '''a\n  b'''\n    x = len(x)\n    return (x,)\n"
    )
    assert "6" in invoke("steps", "run", str(path)).stdout.split("\n")


def test_what_marimo_cannot_say_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.py"
    path.write_text("# %% load\nrows = [2, 1]\n# %% sort\nrows.sort()\n")
    result = invoke("steps", "convert", str(path), str(tmp_path / "m.py"), "--marimo")
    assert result.exit_code == 2
    assert "'rows' is made or changed by load, sort" in result.stderr
    assert not (tmp_path / "m.py").exists()


@pytest.mark.parametrize(
    ("out", "told"), [("x.txt", "has to end in .py or .ipynb"), ("script.py", "already exists")]
)
def test_a_place_that_does_not_do(
    out: str, told: str, script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(script.parent)
    result = invoke("steps", "convert", "script.py", out)
    assert result.exit_code == 2
    assert told in result.stderr


def test_row_28_magics_are_told_or_left_out(tmp_path: Path) -> None:
    path, made, back = tmp_path / "n.ipynb", tmp_path / "n.py", tmp_path / "back.ipynb"
    sources = [
        "%matplotlib inline\nx = 6 * 7",
        "%%bash\nls | wc\necho",
        "if x:\n    !ls\nprint(x)",
        "y = 5 \\\n% x  # !no",
    ]
    cells = [{"cell_type": "code", "source": each} for each in sources]
    path.write_text(json.dumps({"cells": cells}))
    told = invoke("steps", "run", str(path))
    assert told.exit_code == 1
    assert "notebook magics are not Python (1, 2, 3): --no-magics leaves them out" in told.stderr
    done = invoke("steps", "run", str(path), "--no-magics")
    assert done.exit_code == 0
    assert "\n42\n" in done.stdout
    assert invoke("steps", "convert", str(path), str(made)).exit_code == 0
    assert "# magic: %matplotlib inline\nx = 6 * 7" in made.read_text()
    assert invoke("steps", "convert", str(made), str(back)).exit_code == 0
    found = ["".join(each["source"]) for each in json.loads(back.read_text())["cells"]]
    assert found == sources


# ---------------------------------------------------------------- pages


def test_a_page_of_a_run_has_its_outputs_and_state(script: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    script.write_text(SCRIPT + "\n# %% bad\nrowz\n# %% <b>\n'<script>alert(1)</script>'")
    assert invoke("steps", "run", str(script), "--html", str(out)).exit_code == 1
    page = out.read_text()
    assert "[30, 10, 20] 3.14159" in page
    assert "NameError" in page and 'class="failed"' in page
    sums = page.partition("<header>")[2].partition("</p>")[0]
    assert '<a href="#s5"><span class="failed"><span class="mark">✗</span> 1 failed' in sums
    assert sums.endswith(" in all"), "how long the steps took together"
    assert "alert(1)" in page and "<script>alert" not in page and "<b>" not in page
    assert "http://" not in page and "https://" not in page
    assert invoke("steps", "show", str(script), "--html", str(out)).exit_code == 0
    assert "3.14159" not in out.read_text()


_CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.skipif(_CHROMIUM is None, reason="no Chromium here")
def test_a_browser_runs_the_page_and_nothing_of_the_session_s(tmp_path: Path) -> None:
    script, out = tmp_path / "s.py", tmp_path / "page.html"
    script.write_text(
        "# %% rich\n"
        "class Rich:\n"
        "    def _repr_html_(self):\n"
        "        return '<p>rich</p><script>parent.document.title = \"taken\"</script>'\n"
        "    def __repr__(self): return 'plain'\n"
        "Rich()\n"
        "# %% evil\n"
        "print('</pre><script>document.title = \"taken\"</script>')\n"
        "# %% use\nRich\n"
    )
    assert invoke("steps", "run", str(script), "--html", str(out)).exit_code == 0
    probe = "<script>document.title = 'taken'</script>"
    page = out.read_text()
    assert page.count("script-src '") == 1
    out.write_text(page.replace("</body>", probe + "</body>"))  # refused too, by the policy
    words = [str(_CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    words += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=2000"]
    done = subprocess.run(
        [*words, f"{out.as_uri()}#s2"], capture_output=True, text=True, timeout=60, check=False
    )
    assert "<title>s.py</title>" in done.stdout, done.stderr[-500:]
    assert 'style="height' in done.stdout, "the page's own script has fitted the frame"
    here = re.findall(r'<a href="#(s\d+)"[^>]* aria-current="true"', done.stdout)
    assert here == ["s2"], "the list of steps goes along with the step at hand"


def test_a_page_that_cannot_be_written_is_told_by_its_name(script: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.mkdir()
    with pytest.raises(Fault, match=r"^\S*page\.html cannot be written: "):
        write(page, "text")
    assert not [each for each in tmp_path.iterdir() if each.name.startswith(".page")]


def test_magics_hide_nothing_of_the_graph_and_stay_in_an_edited_notebook(tmp_path: Path) -> None:
    path = tmp_path / "n.ipynb"
    sources = ["%matplotlib inline\nx = 1", "files = !ls\ny = x", "print(y)"]
    cells = [{"cell_type": "code", "source": source} for source in sources]
    path.write_text(json.dumps({"cells": cells}))
    shown = invoke("steps", "show", str(path)).stdout
    assert "no Python" not in shown
    assert "x ← 1" in shown
    assert "y = x" in invoke("steps", "export", str(path), "y").stdout
    told = invoke("steps", "edit", str(path), "1", "--code", "%matplotlib inline\nx = 2").stdout
    assert "3 steps of 3 would run again" in told
    assert "-x = 1\n+x = 2" in told
    written = [cell["source"] for cell in json.loads(path.read_text())["cells"]]
    assert written == ["%matplotlib inline\nx = 2", *sources[1:]]


@pytest.mark.parametrize(
    ("notebook", "told"),
    [
        ({"metadata": {"kernelspec": {"language": "julia"}}, "cells": []}, "notebook is in julia"),
        ({"metadata": {"language_info": {"name": "R"}}, "cells": []}, "notebook is in R"),
        ({"nbformat": 3, "worksheets": []}, "jupyter nbconvert --to notebook"),
    ],
)
def test_a_notebook_of_another_language_or_format_is_refused(
    notebook: object, told: str, tmp_path: Path
) -> None:
    path = tmp_path / "n.ipynb"
    path.write_text(json.dumps(notebook))
    for command in (["run"], ["show"], ["convert", "n.py"]):
        result = invoke("steps", command[0], str(path), *(str(tmp_path / n) for n in command[1:]))
        assert result.exit_code == 2
        assert told in result.stderr
    assert path.read_text() == json.dumps(notebook)
    assert not (tmp_path / "n.py").exists()


def test_a_notebook_that_is_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "n.ipynb"
    path.write_text("[" * 100_000)
    result = invoke("steps", "show", str(path))
    assert result.exit_code == 2
    assert f"{path}: this is not a Jupyter notebook: it is nested too deeply" in result.stderr
