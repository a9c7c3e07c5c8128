"""Files are versioned as names are: a step finds them as they are at its place."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from lorimer.esg import StepExecutor
from tests.esg.sessions import NUMPY, session_of

HANDLE = ("f = open('x', 'w')", "f.write('a')", "f.close()", "print(open('x').read())")
APPENDED = (
    "with open('x', 'w') as f:\n    _ = f.write('a')",
    "with open('x', 'a') as f:\n    _ = f.write('b')",
    "with open('x') as f:\n    print(f.read())",
    "with open('x', 'a') as f:\n    _ = f.write('c')",
    "with open('x') as f:\n    print(f.read())",
)
REMOVED = (
    "import os\nos.remove('given')",
    "try:\n    print(open('given').read())\nexcept FileNotFoundError:\n    print('gone')",
)
DATABASE = (
    "import sqlite3\nk = 1",
    "c = sqlite3.connect('x.db')\nc.execute('create table t (a)')\nc.commit()",
    "c.execute('insert into t values (?)', (k,))\nc.commit()",
    "c.close()",
    "with sqlite3.connect('x.db') as d:\n    print(d.execute('select a from t').fetchall())\n"
    "d.close()",
)
EXCLUSIVE = (
    "k = 1",
    "with open('x', 'x') as f:\n    _ = f.write(str(k))",
    "with open('x') as f:\n    print(f.read())",
)


def _steps(sources: tuple[str, ...]) -> StepExecutor:
    session = StepExecutor()
    for number, source in enumerate(sources):
        result = session.execute(str(number), source)
        assert result.ok, result.failure
    return session


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize(
    ("sources", "step", "source", "ran", "printed"),
    [
        pytest.param(HANDLE, 1, "f.write('b')", "0123", {3: "b"}, id="row 34 a handle"),
        pytest.param(
            APPENDED, 1, APPENDED[1].replace("b", "B"), "1234", {2: "aB", 4: "aBc"},
            id="row 34 appended to",
        ),
        pytest.param(
            APPENDED, 2, APPENDED[2].replace("read()", "read() * 2"), "2", {2: "abab", 4: "abc"},
            id="row 34 read in between",
        ),
        pytest.param(
            DATABASE, 0, "import sqlite3\nk = 2", "01234", {4: "[(2,)]"}, id="row 34 a database"
        ),
        pytest.param(REMOVED, 0, "pass", "01", {1: "here"}, id="row 34 not removed any more"),
        pytest.param(EXCLUSIVE, 0, "k = 2", "012", {2: "2"}, id="row 34 made anew"),
    ],
)  # fmt: skip
def test_a_step_finds_a_file_as_it_is_at_its_place(
    sources: tuple[str, ...],
    step: int,
    source: str,
    ran: str,
    printed: dict[int, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("given").write_text("here", encoding="utf-8")
    session = _steps(sources)
    for _ in range(2):  # also when it was put back already
        session.graph.edit_step(str(step), source)
        assert set(session.replay().ran) <= {*ran}
        for number, text in printed.items():
            assert session.results[str(number)].stdout == f"{text}\n"
        before = sources[step]
        session.graph.edit_step(str(step), before)
        assert session.replay().ok
    assert session.replay().ran == ()


def test_row_34_what_somebody_else_has_written_is_left_alone(here: Path) -> None:
    session = _steps(APPENDED[:3])
    Path("x").write_text("mine", encoding="utf-8")
    session.graph.edit_step("2", "pass")
    session.graph.edit_step("0", "pass")
    session.graph.edit_step("1", "pass")
    session.replay()
    assert Path("x").read_text(encoding="utf-8") == "mine"


def test_row_34_a_file_that_cannot_be_put_back_leaves_nothing_beside_it(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = session_of(
        "with open('x', 'w') as f:\n    f.write('a')",
        "with open('x', 'a') as f:\n    f.write('b')",
    )

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copymode", refuse)
    session.graph.edit_step("s1", "with open('x', 'a') as f:\n    f.write('c')")
    session.replay()
    assert [each.name for each in here.iterdir()] == ["x"]


@pytest.mark.skipif(not NUMPY, reason="without numpy")
def test_row_34_a_file_that_is_mapped_into_memory_is_written_by_who_can_reach_it(
    here: Path,
) -> None:
    session = session_of(
        "import numpy as np",
        "np.save('a.npy', np.array([1, 2]))",
        "b = np.load('a.npy')",
        "m = np.load('a.npy', mmap_mode='r+')",
        "m[0] = 5",
        "c = np.load('a.npy')",
    )
    session.graph.edit_step("s1", "np.save('a.npy', np.array([3, 4]))")
    session.replay()
    names = session.namespace()
    assert [[*map(int, names[each])] for each in "bcm"] == [[3, 4], [5, 4], [5, 4]]  # type: ignore[call-overload]
    session.graph.edit_step("s3", "m = np.load('a.npy', mmap_mode='r')")
    session.graph.edit_step("s4", "print(m)")
    session.replay()
    session.graph.edit_step("s1", "np.save('other.npy', np.array([3, 4]))")
    session.replay()
    assert [session.graph.status(f"s{each}") for each in (1, 2, 3)] == ["fresh", "failed", "failed"]
    assert session.results["s1"].writes == (f"file:{here}/other.npy",)


def test_row_34_a_tree_of_files_that_a_step_removes(here: Path) -> None:
    (here / "tree").mkdir()
    (here / "tree" / "x").write_text("1")
    session = session_of(
        "import shutil\nk = 1",
        "with open('tree/x') as f:\n    print(f.read(), k)",
        "shutil.rmtree('tree')",
    )
    session.graph.edit_step("s0", "import shutil\nk = 2")
    session.replay()
    assert session.results["s1"].stdout == "1 2\n"
    assert not (here / "tree" / "x").exists()
    session.graph.edit_step("s2", "pass")
    session.replay()
    assert session.execute("s3", "with open('tree/x') as f:\n    print(f.read())").stdout == "1\n"


def test_row_33_a_step_that_failed_finds_files_as_they_were(here: Path) -> None:
    (here / "given").write_text("a")
    session = session_of("k = 0")
    code = (
        "for name, mode in (('given', 'a'), ('new', 'x')):\n"
        "    with open(name, mode) as f:\n        f.write('b')\ndel f"
    )
    for _ in range(2):
        failure = session.execute("s1", f"{code}\n1 / k").failure
        assert failure is not None
        assert failure.type == "ZeroDivisionError"
        assert (here / "given").read_text() == "ab"
    assert session.execute("s1", code).ok
    assert [(here / each).read_text() for each in ("given", "new")] == ["ab", "b"]


def test_row_34_a_link_is_where_it_leads_to_at_a_place(here: Path) -> None:
    read = "from pathlib import Path\n{} = Path('now').read_text()"
    session = session_of(
        "import os\nfor n in (1, 2):\n    with open(f'v{n}', 'w') as f:\n        f.write(str(n))",
        "os.symlink('v1', 'now')",
        read.format("a"),
        "os.remove('now')\nos.symlink('v2', 'now')",
        read.format("b"),
        "with open('now', 'a') as f:\n    f.write('!')",
        read.format("c") + "\nd = Path('v2').read_text()\ndel f",
    )
    for _ in range(2):
        for step in session.graph.steps:
            session.graph.mark_stale(step)
            assert session.replay().ok
            assert [session.namespace()[name] for name in "abcd"] == ["1", "2", "2!", "2!"]
        session.graph.edit_step("s3", "pass")
        session.replay()
        assert [session.namespace()[name] for name in "abcd"] == ["1", "1", "1!", "2"]
        assert [Path(each).read_text() for each in ("now", "v1", "v2")] == ["1!", "1!", "2"]
        session.graph.edit_step("s3", "os.remove('now')\nos.symlink('v2', 'now')")
        session.replay()


BEGINS = {
    "if os.path.exists('x'): os.remove('x')": "import os\nk = {}\n",
    "try: os.remove('x')\nexcept FileNotFoundError: pass": "import os\nk = {}\n",
    "Path('x').unlink(missing_ok=True)": "from pathlib import Path\nk = {}\n",
    "if os.path.exists('y'): shutil.rmtree('y')\nos.makedirs('y')": "import os, shutil\nk = {}\n",
    "shutil.rmtree('y', ignore_errors=True)\nos.makedirs('y')": "import os, shutil\nk = {}\n",
}


@pytest.mark.parametrize("begins", BEGINS)
def test_row_34_a_step_that_begins_by_taking_away_what_is_there(
    begins: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = "y/x" if "'y'" in begins else "x"
    session = session_of(
        BEGINS[begins].format(1) + begins,
        f"with open('{place}', 'a') as f:\n    f.write(str(k))",
        f"with open('{place}') as f:\n    print(f.read())",
    )
    for number in (2, 3):
        session.graph.edit_step("s0", BEGINS[begins].format(number) + begins)
        assert session.replay().ok
        assert session.results["s2"].stdout == f"{number}\n"
    session.graph.edit_step("s1", f"with open('{place}', 'a') as f:\n    f.write(str(k) * 2)")
    session.replay()
    assert session.results["s2"].stdout == "33\n"


def test_row_34_a_step_that_asks_for_its_own_file_finds_none_when_it_runs_again(here: Path) -> None:
    session = session_of(
        "from pathlib import Path\nk = 1\npath = Path('cache')",
        "def load():\n    if not path.exists():\n        path.write_text(str(k))\n"
        "    return path.read_text()",
        "a = load()",
        "b = load()",
    )
    session.graph.edit_step("s0", "from pathlib import Path\nk = 2\npath = Path('cache')")
    assert session.replay().ok
    assert [session.namespace()[name] for name in "ab"] == ["2", "2"]


def test_row_34_what_a_step_closes_and_reads_it_has_written(here: Path) -> None:
    session = session_of(
        "f = open('x', 'w')",
        "print('a', file=f)",
        "print('b', file=f, flush=True)",
        "f.close()\nwith open('x') as g:\n    print(g.read())\ndel f, g",
    )
    for source, printed in (("print('c', file=f)", "a\nc\n"), ("pass", "a\n")):
        session.graph.edit_step("s2", source)
        assert session.replay().ok
        assert session.results["s3"].stdout == f"{printed}\n"


def test_row_34_a_folder_that_a_link_of_a_step_leads_to(here: Path) -> None:
    for name in ("v1", "v2"):
        (here / name).mkdir()
        (here / name / "x").write_text(name)
    read = "from pathlib import Path\n{} = Path('now/x').read_text()"
    session = session_of(
        "import os\nos.symlink('v1', 'now')",
        read.format("a"),
        "os.remove('now')\nos.symlink('v2', 'now')",
        read.format("b"),
    )
    session.graph.mark_stale("s1")
    session.replay()
    assert [session.namespace()[name] for name in "ab"] == ["v1", "v2"]
    session.graph.edit_step("s2", "pass")
    session.replay()
    assert [session.namespace()[name] for name in "ab"] == ["v1", "v1"]


OPEN_DATABASE = (
    "import sqlite3\nc = sqlite3.connect('x')\nc.execute('create table t (a)')\nc.commit()",
    "c.execute('insert into t values (1)')\nc.commit()",
    "print(len(open('x', 'rb').read()))",
    "c.execute('insert into t values (2)')\nc.commit()",
    "c.execute('insert into t values (3)')\nc.commit()\n"
    "print(c.execute('select a from t').fetchall())",
)
OPEN_HANDLE = (
    "f = open('x', 'w')",
    "f.write('a')\nf.flush()",
    "print(open('x').read())",
    "f.write('b')\nf.flush()",
    "f.write('c')\nf.flush()\nprint(open('x').read())",
)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize(
    ("sources", "printed"),
    [
        pytest.param(OPEN_DATABASE, "[(1,), (2,), (3,)]\n", id="row 34 a database"),
        pytest.param(OPEN_HANDLE, "abc\n", id="row 34 a handle"),
    ],
)
def test_what_was_opened_is_opened_anew_when_its_file_was_put_back(
    sources: tuple[str, ...], printed: str, here: Path
) -> None:
    session = _steps(sources[:-1])
    session.graph.edit_step("2", f"{sources[2]}  # and\n_ = 2")
    session.replay()  # step 2 has read the file as it was at its place
    result = session.execute("4", sources[-1])
    assert result.ok, result.failure
    assert result.stdout == printed
    del session, result
    gc.collect()  # here nobody minds that files were left open


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_row_34_a_handle_whose_file_a_blocked_step_has_written(here: Path) -> None:
    note = "def note(text):\n    f.write(text * 2)"
    show = "f.flush()\nprint(open('x').read())"
    session = _steps(("f = open('x', 'w+')", "f.write('a')", note, "note('b')", show))
    session.graph.delete_step("2")
    assert session.replay().blocked == ("4",)
    session.graph.add_step("2", note, after="1")
    session.replay()
    assert session.results["4"].stdout == "abb\n"
    del session
    gc.collect()


def test_row_34_a_step_that_looks_around_sees_no_file_of_later_steps(here: Path) -> None:
    session = session_of(
        "import os\nk = 1",
        "with open('x', 'wb') as f:\n    _ = f.write(bytes(9 * 2**20))",  # too large to be kept
        "with open('x', 'ab') as f:\n    _ = f.write(b'1')",
        "with open('y', 'w') as f:\n    _ = f.write('1')\ndel f",
    )
    for asks in ("os.path.exists('x')", "os.listdir()", "[*os.scandir('.')]"):
        session.graph.edit_step("s0", f"import os\nk = bool({asks})")
        assert session.replay().ok
        assert session.namespace()["k"] is False
        assert (here / "x").stat().st_size == 9 * 2**20 + 1
        assert (here / "y").read_text() == "1"


@pytest.mark.parametrize(
    "code", ["import a_module_in_no_other_step", "k = 2  # a walk through what exists"]
)
def test_row_34_a_step_that_asks_for_no_file_leaves_those_of_later_steps(
    code: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even one that is too large to be kept, and would have to be made again."""
    (here / "a_module_in_no_other_step.py").write_text("")
    monkeypatch.syspath_prepend(here)
    write = "with open('x', 'wb') as f:\n    _ = f.write(bytes(9 * 2**20))"
    session = session_of("k = 1", write)
    session.graph.edit_step("s0", code)
    assert session.replay().ran == ("s0",)


def test_row_34_a_file_that_a_step_makes_anew_if_it_is_not_there(here: Path) -> None:
    write = "import os\nwith open('x', 'a' if os.path.exists('x') else 'w') as f:\n    f.write('b')"
    session = session_of("k = 0", write)
    session.graph.edit_step("s0", "with open('x', 'w') as f:\n    f.write('a')")
    session.replay()
    assert (here / "x").read_text() == "ab"


def test_row_33_a_step_that_finds_no_file_leaves_that_of_a_later_step(here: Path) -> None:
    session = session_of("with open('x', 'w') as f:\n    f.write('a')", "open('x').close()")
    session.graph.move_step("s1", after="")
    for _ in range(2):
        assert session.replay().ran == ("s1",)
        assert (here / "x").read_text() == "a"


def test_row_34_what_programs_read_and_write(here: Path) -> None:
    copy = "import subprocess\n_ = subprocess.run(['cp', 'x', 'y'])"
    session = session_of(
        "with open('x', 'w') as f:\n    f.write('a')",
        copy,
        "with open('x', 'a') as f:\n    f.write('z')",
        "with open('y') as f:\n    print(f.read())",
    )
    for letter in "bc":
        write = f"with open('x', 'w') as f:\n    f.write('{letter}')"
        assert session.graph.edit_step("s0", write)
        assert session.replay().ok
        assert session.results["s3"].stdout == f"{letter}\n"
        assert (here / "x").read_text() == f"{letter}z"
        assert session.replay().ran == ()


SHARED_DATABASE = (
    "import sqlite3\nfrom contextlib import closing\nk = 1",
    "c = sqlite3.connect('x.db')\nc.execute('create table t (a)')\nc.commit()",
    "with closing(sqlite3.connect('x.db')) as d, d:\n"
    "    d.execute('insert into t values (?)', (k,))",
    "c.execute('update t set a = a + 10')\nc.commit()",
)


def _rows() -> list[int]:
    with closing(sqlite3.connect("x.db")) as database:
        return [each for (each,) in database.execute("select a from t")]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_row_34_a_database_with_two_connections(here: Path) -> None:
    session = _steps(SHARED_DATABASE)
    session.graph.mark_stale("1")
    assert session.replay().ran == ("1", "2", "3")
    assert _rows() == [11]
    session.graph.edit_step("0", SHARED_DATABASE[0].replace("1", "5"))
    session.replay()
    assert _rows() == [15]
    session.namespace()
    assert _rows() == [15]
    assert session.replay().ran == ()
    del session
    gc.collect()  # here nobody minds that files were left open


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_row_33_a_step_that_was_moved_before_what_it_needs_stops_no_other(here: Path) -> None:
    session = _steps(SHARED_DATABASE)
    session.graph.edit_step("1", f"{SHARED_DATABASE[1]}\nn = 1")
    session.graph.move_step("3", after="")
    assert session.replay().failed == ("3",)
    assert session.results["1"].ok
    session.graph.move_step("3", after="2")
    assert session.replay().ok
    assert _rows() == [11]
    del session
    gc.collect()  # here nobody minds that files were left open


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize(
    "sources",
    [
        (*SHARED_DATABASE[:3], "print(c.execute('select a from t').fetchone()[0])"),
        (
            "k = 1",
            "f = open('x', 'w+')",
            "with open('x', 'a') as g:\n    g.write(str(k))",
            "_ = f.seek(0)\nprint(f.read())",
        ),
    ],
)
def test_row_34_what_is_read_through_a_handle_of_an_earlier_step(
    sources: tuple[str, ...], here: Path
) -> None:
    session = _steps(sources)
    for k in "567":
        session.graph.edit_step("0", sources[0].replace("k = 1", f"k = {k}"))
        session.replay()
        assert session.results["3"].stdout == f"{k}\n"
    assert session.replay().ran == ()
    del session
    gc.collect()  # here nobody minds that files were left open
