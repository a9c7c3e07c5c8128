"""States that code sets to what they are already: nobody sees by that that it depends on them.

Replays are compared with running everything again.
"""

from __future__ import annotations

import builtins
import decimal
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.esg.sessions import NUMPY, anew, session_of

BEGIN = "import random, os, functools\nrandom.seed({0})\nos.environ['MODE'] = '{0}'\nmakes = '{0}'"
WAYS = {
    "a method": (
        "class Model:\n    def __init__(self):\n        random.seed(1)\n"
        "        os.environ['MODE'] = '1'",
        "model = Model()",
    ),
    "a function in a function": (
        "def begin():\n    def again():\n        random.seed(1)\n        os.environ['MODE'] = '1'\n"
        "    again()",
        "begin()",
    ),
    "another name": ("again = random.seed", "again(1)"),
    "a partial": ("again = functools.partial(random.seed, 1)", "again()"),
    "a function in a list": (
        "def again():\n    random.seed(1)\n    os.environ['MODE'] = '1'\nhooks = [again]",
        "[hook() for hook in hooks]",
    ),
    "a library's function in a list": ("hooks = [random.seed]", "hooks[0](1)"),
    "a default": ("begin = lambda again=random.seed: again(1)", "begin()"),
    "a module": ("import esg_begins as begins", "begins.Begin().now()"),
    "a function of a module": ("from esg_begins import now", "now()"),
}
MODULE = """
import os, random
def now():
    _again(1)
def _again(number):
    random.seed(number)
    os.environ["MODE"] = str(number)
class Begin:
    def now(self):
        _again(1)
"""


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "esg_begins.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("MODE", "0")
    monkeypatch.chdir(tmp_path)
    state, depth = random.getstate(), sys.getrecursionlimit()
    yield
    random.setstate(state)
    sys.setrecursionlimit(depth)


@pytest.mark.parametrize("way", WAYS)
def test_row_35_who_may_set_a_state_depends_on_it(way: str) -> None:
    defines, sets = WAYS[way]
    session = session_of(BEGIN.format(1), defines, sets, "x = random.random(), os.environ['MODE']")
    for number in (2, 1, 3):
        session.graph.edit_step("s0", BEGIN.format(number))
        session.replay()
        assert session.namespace()["x"] == anew(session)["x"]


def test_row_36_after_a_replay_the_process_is_as_the_last_step_left_it(tmp_path: Path) -> None:
    session = session_of(
        f"import os\nos.chdir({str(tmp_path)!r})\nos.environ['MODE'] = '1'",
        "k = 1",
        "os.environ['MODE'] = '2'\nos.makedirs('in', exist_ok=True)\nos.chdir('in')",
    )
    session.graph.edit_step("s1", "k = os.environ['MODE'], os.getcwd()")
    assert session.replay().ran == ("s1",)
    assert session.namespace()["k"] == ("1", str(tmp_path))
    assert (os.environ["MODE"], Path.cwd()) == ("2", tmp_path / "in")
    session.execute("s1", "k = os.environ['MODE'] * 2")
    assert os.environ["MODE"] == "2"


SETTINGS = {
    "numpy's ways with errors": (
        "import numpy as np\na = np.array([1.0, 0.0])",
        "np.seterr(divide='{0}')",
        "try:\n    x = str(1 / a)\nexcept FloatingPointError as error:\n    x = str(error)",
        ("raise", "ignore"),
    ),
    "the context of decimal": (
        "from decimal import Decimal, getcontext\na = Decimal(1)",
        "getcontext().prec = {0}",
        "x = str(a / 7)",
        ("5", "9"),
    ),
    "a context that a step keeps": (
        "import decimal\na, context = decimal.Decimal(1), decimal.getcontext()",
        "context.prec = {0}",
        "x = str(a / 7)",
        ("5", "9"),
    ),
    "the locale": (
        "import locale, time",
        "locale.setlocale(locale.LC_CTYPE, '{0}')",
        "x = locale.setlocale(locale.LC_CTYPE)",
        ("C", "C.UTF-8"),
    ),
}


IN_A_NEW_PROCESS = """
from lorimer.esg import StepExecutor
session = StepExecutor()
session.execute("begin", {0!r})
session.execute("show", {1!r})
for source in ({2!r}, {0!r}):
    session.graph.edit_step("begin", source)
    session.replay()
    print(session.results["show"].stdout.strip())
"""


@pytest.mark.parametrize(
    ("library", "sets", "shows", "told"),
    [
        ("numpy", ".set_printoptions(precision=3)", "print(l.array([1 / 3]))", "0.33333333 0.333"),
        ("numpy", ".seterr(divide='ignore')", "print([l.geterr()['divide']])", "'warn' 'ignore'"),
        (
            "sklearn",
            ".set_config(transform_output='pandas')",
            "print([l.get_config()['transform_output']])",
            "'default' 'pandas'",
        ),
    ],
)
def test_row_36_what_a_library_was_set_to_by_the_step_that_loaded_it(
    library: str, sets: str, shows: str, told: str
) -> None:
    pytest.importorskip(library)
    begin = f"import {library} as l"
    code = IN_A_NEW_PROCESS.format(f"{begin}\nl{sets}", shows, begin)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [f"[{each}]" for each in told.split()]


def test_row_36_how_scikit_learn_works_is_read_by_who_comes_later() -> None:
    sklearn = pytest.importorskip("sklearn")
    session = session_of(
        "import sklearn\nfrom sklearn.preprocessing import StandardScaler",
        "k = 1",
        "s = StandardScaler(with_mean=True)",
        "t = type(s.fit_transform([[1.0], [2.0]])).__name__",
    )
    try:
        session.graph.edit_step("s1", "sklearn.set_config(transform_output='pandas')")
        session.replay()
        assert session.namespace()["t"] == "DataFrame"
        session.graph.edit_step("s1", "sklearn.set_config(transform_output='default')")
        session.replay()
        assert session.namespace()["t"] == "ndarray"
    finally:
        sklearn.set_config(transform_output="default")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("setting", SETTINGS)
def test_row_36_who_comes_after_it_reads_a_setting(setting: str) -> None:
    if "numpy" in setting and not NUMPY:
        pytest.skip("without numpy")
    begin, sets, reads, values = SETTINGS[setting]
    session = session_of(begin, "k = 1", reads, "k = 2", reads.replace("x =", "y ="))
    initial = session.namespace()["x"]
    found = set[object]()
    for value in (*values, values[0]):
        session.graph.edit_step("s1", sets.format(value))
        session.replay()
        names = session.namespace()
        assert names["x"] == names["y"]
        found.add(names["x"])
        session.graph.edit_step("s3", sets.format(values[0]))
        session.replay()
        assert session.namespace()["x"] == names["x"]
        session.graph.edit_step("s3", "k = 2")
        session.replay()
        assert session.namespace()["y"] == names["x"]
    assert len(found) == 2
    session.graph.edit_step("s1", "k = 1")
    session.replay()
    assert session.namespace()["x"] == session.namespace()["y"] == initial


FOLDER, ENVIRONMENT = (
    "os.makedirs('{0}', exist_ok=True)\nos.chdir('{0}')",
    "os.environ['MODE'] = '{0}'",
)
UNSAID = {
    "Path.cwd": (FOLDER, "from pathlib import Path\nx = Path.cwd().name"),
    "abspath": (FOLDER, "x = os.path.abspath('f').split('/')[-2]"),
    "a program in a folder": (
        FOLDER,
        "import subprocess\nx = subprocess.run(['pwd'], stdout=-1).stdout.split(b'/')[-1]",
    ),
    "expandvars": (ENVIRONMENT, "x = os.path.expandvars('$MODE')"),
    "a program": (ENVIRONMENT, "import subprocess as sp\nx = sp.getoutput('echo $MODE')"),
    "how deep calls may go": (
        "sys.setrecursionlimit({0}00)",
        "def deep(n):\n    return deep(n - 1) if n else 0\n"
        "try:\n    x = deep(400)\nexcept RecursionError:\n    x = None",
    ),
}


@pytest.mark.parametrize("way", UNSAID)
def test_row_36_a_state_that_a_library_reads_for_a_step(way: str, tmp_path: Path) -> None:
    sets, reads = UNSAID[way]
    begin = f"import os, sys\nos.chdir({str(tmp_path)!r})\n{sets}"
    session = session_of(begin.format(3), reads)
    for number in (9, 3, 8):
        session.graph.edit_step("s0", begin.format(number))
        session.replay()
        assert session.namespace()["x"] == anew(session)["x"]


def test_row_32_a_step_that_comes_behind_one_that_sets_what_all_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(builtins, "sum", sum)
    monkeypatch.setattr(decimal.getcontext(), "prec", 28)
    session = session_of(
        "from decimal import Decimal, getcontext\nimport builtins\na = Decimal(1)\nk = 1",
        "x = str(a / 7)",
        "y = repr(sum([1]))",
        "getcontext().prec = 5\nbuiltins.sum = lambda xs: 'mine'",
        "builtins.sum = max",
    )
    session.graph.move_step("s1", after="s3")
    session.graph.move_step("s2", after="s3")
    session.replay()
    assert [session.namespace()[name] for name in "xy"] == ["0.14286", "'mine'"]
    session.graph.move_step("s3", after="s1")
    session.replay()
    names = session.namespace()
    assert (len(names["x"]), names["y"]) == (30, "1")  # type: ignore[arg-type]
    session.graph.edit_step("s0", session.graph.source("s0") + "\ngetcontext().prec = 4")
    session.replay()
    assert session.namespace()["x"] == "0.1429"
    assert session.replay().ran == ()


def test_row_20_an_object_of_an_extension_that_has_no_dict() -> None:
    session = session_of(
        "import hashlib\nh = hashlib.sha256(b'a')", "h.update(b'b')", "x = h.hexdigest()"
    )
    for source in ("h.update(b'c')", "pass"):
        session.graph.edit_step("s1", source)
        session.replay()
        assert session.namespace()["x"] == anew(session)["x"]
    session.graph.mark_stale("s1")
    session.replay()
    assert session.namespace()["x"] == anew(session)["x"]


def install(name: str, text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library for one test, in a folder that counts as one of libraries."""
    library = folder / "site-packages"
    library.mkdir()
    (library / f"{name}.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(library))
    monkeypatch.setitem(sys.modules, name, None)  # so that it is gone at the end
    monkeypatch.delitem(sys.modules, name)


POLARS = """
import json, os
from contextvars import ContextVar

hidden = ContextVar("hidden", default="mixed")  # as what its Rust keeps, and nobody sees

class Config:
    @classmethod
    def state(cls, if_set=False):
        return {"set_fmt_float": hidden.get()}

    @classmethod
    def load(cls, text):
        hidden.set(json.loads(text)["direct"]["set_fmt_float"])

    set_fmt_float = staticmethod(hidden.set)

    @staticmethod
    def set_tbl_rows(n):
        os.environ["POLARS_FMT_MAX_ROWS"] = str(n)

class DataFrame:
    def __repr__(self):
        return f"{os.environ.get('POLARS_FMT_MAX_ROWS')} rows, {hidden.get()}"
"""
"""What of polars counts here: its frames are shown as `Config` says."""


@pytest.mark.parametrize(
    ("sets", "shown"),
    [
        ("pl.Config.set_tbl_rows({})", ["{} rows, mixed", "None rows, mixed"]),
        ("_ = pl.Config.set_fmt_float('{}')", ["None rows, {}", "None rows, mixed"]),
        ("os.environ['POLARS_FMT_MAX_ROWS'] = '{}'", ["{} rows, mixed", "None rows, mixed"]),
    ],
)
def test_row_36_the_configuration_of_polars(
    sets: str, shown: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("polars", POLARS, tmp_path, monkeypatch)
    monkeypatch.setenv("POLARS_FMT_MAX_ROWS", "")
    monkeypatch.delenv("POLARS_FMT_MAX_ROWS")
    session = session_of(
        "import os, polars as pl\nframe = pl.DataFrame()", sets.format(1), "print(frame)", "frame"
    )
    for number in (2, 1, 3):
        session.graph.edit_step("s1", sets.format(number))
        session.replay()
        assert session.results["s2"].stdout == shown[0].format(number) + "\n"
        assert session.results["s3"].shown == shown[0].format(number)
    session.graph.move_step("s1", after="s3")
    session.replay()
    assert session.results["s2"].stdout == shown[1] + "\n"
    assert session.results["s3"].shown == shown[1]
    session.graph.delete_step("s1")
    session.graph.edit_step("s0", session.graph.source("s0") + "\n" + sets.format(4))
    session.replay()
    assert session.results["s2"].stdout == shown[0].format(4) + "\n"


DUCKDB = """
import re, sys

def sql(text):
    space = sys._getframe(1).f_globals  # as C code looks there, past what a subclass says
    found = [dict.get(space, name) for name in re.findall(r"from (\\w+)", text)]
    if None in found:
        raise LookupError(text)
    return found
"""


@pytest.mark.parametrize(
    "reads",
    [
        "x = duckdb.sql('select * from rows')",
        "query = 'select * from rows'\nx = duckdb.sql(query)",
        "x = duckdb.sql(text)",
        "def ask(limit):\n    return duckdb.sql(f'select * from rows limit {limit}')\nx = ask(3)",
    ],
)
def test_row_23_a_text_that_names_what_a_library_finds_for_itself(
    reads: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("duckdb", DUCKDB, tmp_path, monkeypatch)
    session = session_of(
        "text = 'select * from rows'", "rows = [1]", f"import duckdb\n{reads}", "y = 1"
    )
    assert session.namespace()["x"] == [[1]]
    session.graph.edit_step("s1", "rows = [2]")
    assert session.replay().ran == ("s1", "s2")
    assert session.namespace()["x"] == [[2]]


def test_values_that_are_made_again_leave_states_as_the_last_step_left_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decimal.getcontext(), "prec", 28)
    session = session_of("import decimal\nit = iter([1, 2])", "decimal.getcontext().prec = 4")
    assert session.execute("s2", "next(it)\n1 / 0").failure is not None
    assert [*session.namespace()["it"]] == [1, 2]  # pyright: ignore
    assert decimal.getcontext().prec == 4
