"""Running steps and replaying them: the features by number, and the traps of a namespace."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from lorimer.esg import StepExecutor, diagnose, generate_patch
from lorimer.esg.diagnosis.summaries import summary
from lorimer.esg.graph.questions import StepError
from tests.esg.sessions import anew, session_of


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    state, folder, environment = random.getstate(), Path.cwd(), dict(os.environ)
    yield
    random.setstate(state)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)


class Trap(NamedTuple):
    """Steps, one edit, the steps that have to run again, and what comes of it."""

    name: str
    steps: tuple[str, ...]
    edit: tuple[int, str]
    runs: str
    gives: dict[str, object]


def _t(name: str, *steps: str, edit: tuple[int, str], runs: str, gives: dict[str, object]) -> Trap:
    return Trap(name, steps, edit, runs, gives)


TRAPS = (
    _t(
        "row 14 redefinition",
        "x = 5",
        "x = x + 1",
        "y = x",
        "x = 0",
        edit=(0, "x = 7"),
        runs="0 1 2",
        gives={"x": 0, "y": 8},
    ),
    _t(
        "row 15 increment",
        "n = 1",
        "n += 1",
        "n += 10",
        edit=(1, "n += 2"),
        runs="1 2",
        gives={"n": 13},
    ),
    _t(
        "row 18 late globals",
        "def f():\n    return k * 2",
        "k = 1",
        "r = f()",
        "k = 5",
        "s = f()",
        edit=(1, "k = 3"),
        runs="1 2",
        gives={"r": 6, "s": 10},
    ),
    _t(
        "row 18 through two functions",
        "def g():\n    return k",
        "def f():\n    return g() + 1",
        "k = 1",
        "r = f()",
        edit=(0, "def g():\n    return k * 10"),
        runs="0 3",
        gives={"r": 11},
    ),
    _t(
        "row 20 changed in a function",
        "d = {'a': 1}",
        "def add(to, key):\n    to[key] = 1",
        "add(d, 'b')",
        "n = len(d)",
        edit=(2, "add(d, 'c'); add(d, 'e')"),
        runs="2 3",
        gives={"d": {"a": 1, "c": 1, "e": 1}, "n": 3},
    ),
    _t(
        "row 21 alias",
        "a = [1]",
        "b = a",
        "b.append(2)",
        "n = len(a)",
        edit=(2, "b.append(2); b.append(3)"),
        runs="2 3",
        gives={"a": [1, 2, 3], "b": [1, 2, 3], "n": 3},
    ),
    _t(
        "row 21 no alias any more",
        "a = [1]",
        "b = a",
        "b.append(2)",
        "n = len(a)",
        edit=(1, "b = list(a)"),
        runs="1 2 3",
        gives={"a": [1], "b": [1, 2], "n": 1},
    ),
    _t(
        "row 21 a new alias",
        "a = [1]",
        "b = [1]",
        "a.append(2)",
        edit=(1, "b = a"),
        runs="1",
        gives={"a": [1, 2], "b": [1, 2]},
    ),
    _t(
        "row 21 an equal object is not the same",
        "a = [1]",
        "b = a",
        "0",
        "a.append(2)",
        edit=(2, "a = [x for x in a]"),
        runs="2 3",
        gives={"a": [1, 2], "b": [1]},
    ),
    _t(
        "row 21 a hidden alias comes to light",
        "b = [1]",
        "def f(x=b):\n    return x",
        "f = 0",
        "b.append(2)",
        edit=(2, "c = 0"),
        runs="2",
        gives={"b": [1, 2], "c": 0},
    ),
    _t(
        "row 23 exec and eval",
        "a = 1",
        "exec('b = a + 1')",
        "c = eval('b * 2')",
        edit=(0, "a = 5"),
        runs="0 1 2",
        gives={"b": 6, "c": 12},
    ),
    _t(
        "row 23 the whole namespace",
        "a = 1",
        "names = sorted(k for k in globals() if len(k) == 1)",
        edit=(0, "z = 1"),
        runs="0 1",
        gives={"names": ["z"]},
    ),
    _t(
        "row 26 global",
        "def f():\n    global k\n    k = 7",
        "k = 1",
        "f()",
        "r = k",
        edit=(0, "def f():\n    global k\n    k = 8"),
        runs="0 2 3",
        gives={"k": 8, "r": 8},
    ),
    _t(
        "row 19 deleted",
        "x = 1",
        "y = x",
        "del x",
        "z = 'x' in globals()",
        edit=(0, "x = 2"),
        runs="0 1 2 3",
        gives={"y": 2, "z": False},
    ),
    _t(
        "row 40 iterator",
        "xs = [1, 2, 3]",
        "it = iter(xs)",
        "a = next(it)",
        "b = next(it)",
        edit=(3, "b = next(it) * 10"),
        runs="1 2 3",
        gives={"a": 1, "b": 20},
    ),
    _t(
        "row 40 generator over a global",
        "k = 2",
        "g = (x * k for x in [1, 2])",
        "a = next(g)",
        "k = 3",
        "b = next(g)",
        edit=(2, "a = -next(g)"),
        runs="1 2 4",
        gives={"a": -2, "b": 6},
    ),
    _t(
        "closure that counts",
        "def make():\n    n = [0]\n    def inc():\n        n[0] += 1\n        return n[0]\n"
        "    return inc",
        "c = make()",
        "a = c()",
        "b = c()",
        edit=(3, "b = c() * 10"),
        runs="3",
        gives={"a": 1, "b": 20},
    ),
    _t(
        "class body",
        "k = 2",
        "class A:\n    m = k\n    n = [m for _ in range(2)] if False else m",
        "v = A().m",
        edit=(0, "k = 3"),
        runs="0 1 2",
        gives={"v": 3},
    ),
    _t(
        "method reads a global",
        "n = 5",
        "class A:\n    def g(self):\n        return n",
        "a = A()",
        "v = a.g()",
        edit=(0, "n = 6"),
        runs="0 3",
        gives={"v": 6},
    ),
    _t(
        "class attribute set later",
        "class A:\n    v = 1",
        "a = A()",
        "A.v = 2",
        "r = a.v",
        edit=(2, "A.v = 3"),
        runs="2 3",
        gives={"r": 3},
    ),
    _t(
        "default argument keeps its object",
        "def f(x, to=[]):\n    to.append(x)\n    return len(to)",
        "a = f(1)",
        "b = f(2)",
        edit=(2, "b = f(2) * 10"),
        runs="2",
        gives={"a": 1, "b": 20},
    ),
    _t(
        "object with a cycle",
        "a = []",
        "a.append(a)",
        "n = len(a)",
        edit=(1, "a.append(a); a.append(1)"),
        runs="1 2",
        gives={"n": 2},
    ),
    _t(
        "a name that only may be written",
        "c = False",
        "x = 1",
        "if c:\n    x = 2",
        "y = x",
        edit=(0, "c = True"),
        runs="0 2 3",
        gives={"x": 2, "y": 2},
    ),
    _t(
        "row 29 early cut-off",
        "x = 4",
        "y = x % 2",
        "z = y",
        edit=(0, "x = 6"),
        runs="0 1",
        gives={"x": 6, "y": 0, "z": 0},
    ),
    _t(
        "row 31 writes another name",
        "a = b = 1",
        "a = 2",
        "c = a + b",
        edit=(1, "b = 5"),
        runs="1 2",
        gives={"a": 1, "b": 5, "c": 6},
    ),
    _t(
        "row 35 random numbers",
        "import random",
        "random.seed(1)",
        "a = random.randint(0, 10**9)",
        "b = random.randint(0, 10**9)",
        edit=(2, "a = None"),
        runs="2 3",
        gives={"a": None, "b": random.Random(1).randint(0, 10**9)},
    ),
    _t(
        "row 36 environment",
        "import os",
        "os.environ['LORIMER_TEST_STEP'] = 'a'",
        "v = os.environ.get('LORIMER_TEST_STEP')",
        edit=(1, "os.environ['LORIMER_TEST_STEP'] = 'b'"),
        runs="1 2",
        gives={"v": "b"},
    ),
    _t(
        "an object is displayed",
        "xs = [3, 1]",
        "xs",
        "xs.sort()",
        "xs",
        edit=(2, "xs.append(0)"),
        runs="2 3",
        gives={"xs": [3, 1, 0]},
    ),
)


@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.name)
def test_trap(trap: Trap) -> None:
    session = session_of(*trap.steps)
    place, source = trap.edit
    session.graph.edit_step(f"s{place}", source)
    replay = session.replay()
    assert replay.ok
    assert sorted({*replay.ran}) == [f"s{number}" for number in trap.runs.split()]
    names = session.namespace()
    assert {name: names[name] for name in trap.gives} == trap.gives


def test_row_9_what_a_step_gives() -> None:
    session = StepExecutor({"given": 2})
    result = session.execute("s0", "import sys\nx = given * 2\nprint('out')\nx + 1")
    assert (result.step_id, result.ok, result.value, result.shown) == ("s0", True, 5, "5")
    assert (result.stdout, result.stderr) == ("out\n", "")
    assert {name: result.namespace[name] for name in ("given", "x")} == {"given": 2, "x": 4}
    assert result.writes == ("sys", "x")
    assert "given" in result.reads


def test_row_10_two_sessions_share_nothing() -> None:
    one, other = session_of("x = 1"), session_of("x = 2")
    assert one.execute("more", "x += 1").namespace["x"] == 2
    assert other.namespace() == {"x": 2}


def test_row_13_two_replays_give_the_same() -> None:
    session = session_of("import random", "random.seed(3)", "a = [random.random() for _ in 'ab']")
    first = session.namespace()["a"]
    session.graph.mark_stale("s2")
    session.replay()
    assert session.namespace()["a"] == first


@pytest.mark.parametrize(
    "made",
    [
        "d = {'k': 1, 'l': [2], 'n': n}\nsame = d",
        "d = {'k': 1, 'l': [2], 'n': 0}\nsame = d\n#\nd['n'] = n",
    ],
    ids=["anew", "inplace"],
)
@pytest.mark.parametrize(
    ("reader", "runs"),
    [
        ("y = d['k'] + 1", False),
        ("d['k'], d['l'][0]", False),
        ("(lambda: d['k'])()", False),
        ("y = d['n']", True),
        ("y = len(d)", True),
        ("y = d['k'] + h()", True),
        ("y = d['k'] + sum(f()[1:])", True),
        ("y = d['k'] + g()['d']['n']", True),
        ("y = d['k'] + eval('d')['n']", True),
        ("y = d['l']", True),
        ("d['l'].append(d['k'])", True),
        ("y = d['k'] + same['n']", True),
        ("y = d['k'] + same.get('n')", True),
        ("y = sum(d['k'] for _ in range(200))", True),
    ],
    ids=lambda value: str(value).replace(" ", ""),
)
def test_row_29_a_step_that_uses_other_parts_of_a_value_does_not_run(
    reader: str, runs: bool, made: str
) -> None:
    session = session_of(
        "n = 1",
        *made.split("#\n"),
        "g = globals\ndef h():\n    return d['n']",
        "def f():\n    return [d['k'], d['n']]",
        reader,
    )
    last = session.graph.steps[-1]
    for number in (2, 3):
        session.graph.edit_step("s0", f"n = {number}")
        assert (last in session.replay().ran) is runs
        assert session.replay().ran == ()
        plain = anew(session)
        assert session.namespace().get("y") == plain.get("y")
        assert session.namespace()["d"] == plain["d"]
    session.graph.edit_step("s0", "n = 9")
    session.graph.edit_step("s1", "d = {'k': 7, 'l': [8], 'n': 4}\nsame = d")
    assert last in session.replay().ran


OWN = """
class C:
    def __init__(self, k, l, n):
        self.k, self.l, self.n = k, l, n
    def __repr__(self):
        return 'C'
    def total(self):
        return self.k + self.n
    both = property(total)
"""
ASKED = "C.__getattribute__ = lambda o, x: object.__getattribute__(o, {'k': 'n'}.get(x, x))"
COMPUTED = "C.l = property(lambda o: o.n, lambda o, value: None)"


@pytest.mark.parametrize(
    "made",
    [
        "o = C(k=1, l=[2], n=n)\nsame = o",
        "o = C(k=1, l=[2], n=0)\nsame = o\n#\no.n = n",
        "o = C(k=1, l=[2], n=0)\nsame = o\n#\nvars(o)['n'] = n",
    ],
    ids=["anew", "inplace", "aside"],
)
@pytest.mark.parametrize(
    ("given", "reader", "runs"),
    [
        (given, reader, runs)
        for given in ("from argparse import Namespace as C", OWN)
        for reader, runs in (
            ("y = o.k + 1", False),
            ("o.k, o.l[0]", False),
            ("(lambda: o.k)()", False),
            ("y = o.n", True),
            ("y = o.k, o", True),
            ("y = o.l", True),
            ("o.l.append(o.k)", True),
            ("y = o.k + same.n", True),
            ("y = o.k + getattr(same, 'n')", True),
            ("y = o.k + vars(o)['n']", True),
            ("y = o.k + o.__dict__['n']", True),
        )
    ]
    + [
        (OWN, "y = o.total()", True),
        (OWN, "y = o.k + o.both", True),
        (OWN + ASKED, "y = o.k", True),
        (OWN + COMPUTED, "y = o.l", True),
    ],
    ids=lambda value: str(value).replace(" ", "")[-24:],
)
def test_row_29_a_step_that_uses_other_attributes_of_an_object_does_not_run(
    given: str, reader: str, runs: bool, made: str
) -> None:
    session = session_of("n = 1", given, *made.split("#\n"), reader)
    last = session.graph.steps[-1]
    for number in (2, 3):
        session.graph.edit_step("s0", f"n = {number}")
        assert (last in session.replay().ran) is runs
        assert session.replay().ran == ()
        assert str(session.namespace().get("y")) == str(anew(session).get("y"))
    session.graph.edit_step("s0", "n = 9")
    session.graph.edit_step("s2", session.graph.source("s2").replace("k=1, l=[2]", "k=5, l=[6]"))
    assert last in session.replay().ran


def test_row_27_the_last_line_awaits_a_task_that_the_step_began() -> None:
    session = session_of("import asyncio\nasync def f(x):\n    return x")
    result = session.execute("s1", "k = 2\ntask = asyncio.create_task(f(k))\nawait task")
    assert result.shown == "2", result.failure


ENDS = {
    "import asyncio\nxs.append(2)\nraise asyncio.CancelledError": "CancelledError",
    "xs.append(2)\nraise GeneratorExit": "GeneratorExit",
    "xs.append(2)\nclass E(Exception):\n    def __str__(self):\n        return 1 / 0\nraise E": "E",
    "import sys\nxs.append(2)\nsys.setrecursionlimit(150)": "RecursionError",
}


@pytest.mark.parametrize("code", ENDS)
def test_row_33_whatever_ends_a_step_leaves_the_session_as_it_was(code: str) -> None:
    session = session_of("xs = [1]")
    result = session.execute("s1", code)
    assert result.failure is not None
    assert result.failure.type == ENDS[code]
    assert ENDS[code] in str(diagnose(result, session.graph))
    assert session.namespace() == {"xs": [1]}
    assert sys.getrecursionlimit() > 500


def test_row_27_top_level_await() -> None:
    session = session_of("import asyncio", "async def f():\n    return 4", "x = await f()")
    assert session.namespace()["x"] == 4

    async def inside() -> object:
        return session.execute("s3", "await asyncio.sleep(0)\ny = await f() + x").namespace["y"]

    assert asyncio.run(inside()) == 8


def test_row_28_magics_are_refused() -> None:
    result = StepExecutor().execute("s0", "%matplotlib inline\nx = 1")
    assert result.failure is not None
    assert (result.failure.type, result.failure.line) == ("SyntaxError", 1)


@pytest.mark.parametrize(
    "source", ["a " + "{" * 5_000, "x = " + "-" * 100_000 + "1", "x = " + "1+" * 50_000 + "1", "\0"]
)
def test_what_the_parser_gives_up_at_is_a_step_that_failed(source: str) -> None:
    session = session_of("x = 1")
    result = session.execute("s1", source)
    assert not result.ok
    assert session.graph.get_node("s1")["error"]
    assert not generate_patch(diagnose(result, session.graph), session.graph)
    assert session.execute("s2", "y = x").ok


@pytest.mark.parametrize("annotated", [
    "list[A]", "A | None", "dict[str, list[A]]", "List[A]", "Optional[A]", "Callable[[A], T]", "T",
])  # fmt: skip
def test_row_37_a_class_in_an_annotation_has_no_step_run_again(annotated: str) -> None:
    session = session_of(
        "from dataclasses import dataclass\nfrom typing import Callable, List, Optional, TypeVar\n"
        "class A:\n    v = 1\nT = TypeVar('T')",
        f"@dataclass\nclass B:\n    xs: {annotated}\ndef f(x: {annotated}):\n    return B(x)",
        "k = 1",
        "n = f(k).xs",
        "m = f(2).xs",
    )
    session.graph.edit_step("s2", "k = 3")
    assert session.replay().ran == ("s2", "s3")


def test_row_37_types_that_two_steps_name_do_not_tie_them() -> None:
    """`typing` gives both the same one."""
    session = session_of(
        "from typing import Optional, Tuple",
        "def f() -> Optional[Tuple[str, int]]:\n    return 0",
        "def g() -> Optional[Tuple[str, int]]:\n    return 1",
    )
    session.graph.edit_step("s1", "def f() -> Optional[Tuple[str, int]]:\n    return 2")
    assert session.replay().ran == ("s1",)


@pytest.mark.parametrize("star", ["from math import *\n{}", "exec('pi, e = 3.14159, ' + str({}))"])
def test_row_37_an_edited_step_that_may_bind_anything_is_judged_by_what_it_binds(star: str) -> None:
    session = session_of(
        "y = 1", star.format(1), "a = pi * 2", "b = y + 1", "c = sorted(globals())"
    )
    session.graph.edit_step("s1", star.format(2))
    session.replay()
    session.graph.edit_step("s1", star.format(2) + "\ny = 5")
    assert "s3" in session.replay().ran
    assert session.namespace()["b"] == 6
    session.graph.edit_step("s1", star.format(2))
    assert "s3" in session.replay().ran
    assert session.namespace()["b"] == 2
    session.graph.edit_step("s1", f"{star.format(2)}\n3")
    ran = session.replay().ran
    assert ran[0] == "s1"
    assert not {"s2", "s3"} & {*ran}


def test_row_37_to_look_at_an_object_with_a_lock_changes_nothing() -> None:
    session = session_of(
        "import threading\nclass C:\n    def __init__(self):\n        self.n = 0\n"
        "        self.lock = threading.Lock()\n"
        "    def told(self, k):\n        with self.lock:\n"
        "            return self.n + k",
        "c = C()",
        "k = 1",
        "a = c.told(k)",
        "b = c.told(2)",
    )
    session.graph.edit_step("s2", "k = 3")
    assert session.replay().ran == ("s2", "s3")


def test_a_step_before_one_that_puts_another_for_an_object_with_a_lock_can_run_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As `importlib.reload(logging)` does."""
    monkeypatch.setattr(logging, "lastResort", logging.lastResort)  # as it is afterwards
    session = session_of(
        "import logging\nlevel = logging.lastResort.level",
        "logging.lastResort = logging.Handler(7)",
    )
    for source in ("logging.lastResort.level + 1", "(logging.lastResort.name, 2)"):
        session.graph.edit_step("s0", f"import logging\nlevel = {source}")
        assert session.replay().ran == ("s0",)
    assert session.namespace()["level"] == (None, 2)


def test_row_32_steps_put_in_taken_out_and_moved() -> None:
    session = session_of("x = 1", "y = x", "x = 10", "z = x + y")
    session.graph.add_step("new", "x = 5", after="s0")
    assert session.replay().ran == ("new", "s1", "s3")
    assert session.namespace()["z"] == 15
    session.graph.move_step("new", after="s2")
    session.replay()
    assert {n: session.namespace()[n] for n in "xyz"} == {"x": 5, "y": 1, "z": 6}
    session.graph.delete_step("new")
    assert session.replay().ran == ("s3",)
    assert session.namespace()["z"] == 11


def test_row_32_the_order_of_the_globals_is_that_of_the_steps() -> None:
    session = StepExecutor({"g": 0, "h": 0})
    for step, source in {"a": "a = 1", "b": "b = 2", "d": "del g", "g": "g = h = 3"}.items():
        session.execute(step, source)
    session.execute("show", "print(*(k for k in globals() if len(k) == 1))")
    assert session.results["show"].stdout == "h a b g\n"
    session.graph.move_step("a", after="b")
    session.replay()
    assert session.results["show"].stdout == "h b a g\n"
    session.graph.add_step("c", "c = 4", after="")
    assert session.replay().ran == ("c", "show")
    assert session.results["show"].stdout == "h c b a g\n"


def test_row_33_a_step_that_raises_leaves_everything_as_it_was() -> None:
    session = session_of("xs = [1]", "n = len(xs)")
    result = session.execute("s2", "xs.append(2)\nnew = 1\nxs.append(1 / 0)")
    assert result.failure is not None
    assert (result.failure.type, result.failure.line) == ("ZeroDivisionError", 3)
    assert 'File "<step s2>", line 3' in result.failure.traceback
    assert "xs.append(1 / 0)" in result.failure.traceback
    assert session.namespace() == {"xs": [1], "n": 1}
    session.execute("s3", "m = 1")
    assert session.graph.get_node("s2")["status"] == "failed"


def test_row_33_what_looks_at_all_names_deletes_none_that_a_failed_step_holds_back() -> None:
    session = StepExecutor()
    session.execute("make", "x = [1]")
    session.execute("bad", "x += nothing")
    session.execute("look", "names = sorted(globals())")
    assert session.namespace()["x"] == [1]


def test_row_33_what_needs_it_is_blocked_until_it_is_mended() -> None:
    session = session_of("x = 1", "y = x", "z = y", "w = 1")
    session.graph.edit_step("s1", "y = x / 0")
    replay = session.replay()
    assert (replay.ran, replay.failed, replay.blocked) == (("s1",), ("s1",), ("s2",))
    assert not replay.ok
    session.graph.edit_step("s1", "y = x + 1")
    assert session.replay().ran == ("s1", "s2")
    assert session.namespace()["z"] == 2


def test_a_step_that_asks_to_end_the_process_is_a_failed_step() -> None:
    result = StepExecutor().execute("s0", "import sys\nsys.exit(3)")
    assert result.failure is not None
    assert result.failure.type == "SystemExit"


def test_row_34_a_file_that_changes_outside(tmp_path: Path) -> None:
    path = tmp_path / "data.txt"
    path.write_text("one")
    session = session_of(
        f"from pathlib import Path\np = Path({str(path)!r})", "t = p.read_text()", "n = 1"
    )
    assert session.replay().ran == ()
    path.write_text("two")
    assert session.replay().ran == ("s1",)
    assert session.namespace()["t"] == "two"


def test_row_34_a_file_that_steps_write(tmp_path: Path) -> None:
    path = str(tmp_path / "f")
    session = session_of(
        f"def put(text):\n    with open({path!r}, 'w') as f:\n        f.write(text)",
        "put('a')",
        f"with open({path!r}) as f:\n    first = f.read()",
        "put('b')",
        f"with open({path!r}) as f:\n    second = f.read()",
    )
    session.graph.edit_step("s2", f"with open({path!r}) as f:\n    first = f.read() * 2")
    replay = session.replay()
    assert session.namespace()["first"] == "aa", "as it was at its place, not as it is now"
    assert replay.ran == ("s2",), "the file is put back, nobody writes it again"
    assert Path(path).read_text() == "b", "and in the end it is as its last writer left it"
    assert session.namespace()["second"] == "b"


def test_row_36_the_folder(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_text(name)
    session = session_of(
        "import os",
        f"os.chdir({str(tmp_path / 'one')!r})",
        "with open('f') as f:\n    t = f.read()",
    )
    assert session.namespace()["t"] == "one"
    session.graph.edit_step("s1", f"os.chdir({str(tmp_path / 'two')!r})")
    session.replay()
    assert session.namespace()["t"] == "two"


def test_row_37_what_a_skipped_step_printed_is_kept() -> None:
    session = session_of("x = 1", "print('seen')\n'shown'", "print(x)")
    session.graph.edit_step("s0", "x = 2")
    session.replay()
    assert [session.results[each].stdout for each in session.graph.steps] == ["", "seen\n", "2\n"]
    assert session.results["s1"].shown == "'shown'"


def test_row_37_what_was_shown_is_what_it_was_like_then() -> None:
    session = session_of("xs = [1]", "xs", "xs.append(2)")
    assert session.results["s1"].shown == "[1]"
    assert session.execute("s3", "None").shown == ""


def test_what_a_step_prints_is_bounded() -> None:
    result = StepExecutor().execute("s0", "for _ in range(40):\n    print('x' * 100_000)")
    assert len(result.stdout) < 1.1 * 2**20
    assert result.stdout.endswith("more characters were not kept]")


def test_a_given_object_that_cannot_be_had_again_is_told() -> None:
    session = StepExecutor({"it": iter([1, 2, 3])})
    session.execute("s0", "a = next(it)")
    session.graph.edit_step("s0", "a = -next(it)")
    with pytest.raises(StepError, match="'it' as it was given"):
        session.replay()


@pytest.mark.parametrize("value", [1, [1]])
def test_a_given_name_that_no_step_deletes_any_more_is_there_again(value: object) -> None:
    session = StepExecutor({"x": value})
    session.execute("s0", "del x")
    session.execute("s1", "print('x' in globals())")
    session.execute("s2", "try:\n    print(x)\nexcept NameError:\n    print('gone')")
    session.graph.edit_step("s0", "pass")
    assert session.replay().ran == ("s0", "s1", "s2")
    assert [session.results[each].stdout for each in ("s1", "s2")] == ["True\n", f"{value}\n"]


def test_a_step_that_makes_other_values_each_time_settles() -> None:
    session = session_of("import itertools, time", "t = time.perf_counter()", "u = t")
    session.graph.mark_stale("s1")
    assert session.replay().ran == ("s1", "s2")
    assert session.namespace()["u"] == session.namespace()["t"]


def test_a_look_at_values_runs_their_makers_and_nothing_else() -> None:
    session = session_of("print(1)")
    for number in range(30):
        session.graph.add_step(f"x{number}", f"x{number} = [{number}]")
        session.recall(f"x{number}", [], [f"x{number}"])
    assert not session.execute("bad", "1 / 0").ok
    session.graph.edit_step("s0", "print(2)")
    before = dict(session.results)
    assert session.namespace() == {f"x{number}": [number] for number in range(30)}
    assert session.results["bad"] is before["bad"], "it has failed, and stays so"
    assert session.results["s0"] is before["s0"], "nobody has asked for a replay"
    assert session.replay().ran == ("s0", "bad")


@pytest.mark.parametrize(
    ("state", "told"), [("new", "has not run"), ("failed", "has failed"), ("blocked", "needs one")]
)
def test_a_name_whose_maker_has_not_run_is_told(state: str, told: str) -> None:
    session = session_of("k = 1")
    session.graph.add_step("a", "x = k" if state == "new" else "x = k\n1 / 0")
    if state != "new":
        session.graph.add_step("b", "y = x")
        session.replay()
    name = "y" if state == "blocked" else "x"
    failure = session.execute("c", f"print({name})").failure
    assert failure is not None
    maker = "b" if state == "blocked" else "a"
    expected = f"name {name!r} is not defined (step {maker!r}, which makes it, {told}"
    assert failure.message.startswith(expected)
    session.graph.edit_step("a", "x = k")
    assert session.replay().ok


def test_the_values_of_a_place_are_those_of_the_place() -> None:
    session = session_of("x = [1]", "x.append(2)", "x = 0")
    assert [session.namespace(after=step) for step in session.graph.steps] == [
        {"x": [1]},
        {"x": [1, 2]},
        {"x": 0},
    ]


def test_a_failed_step_that_reached_an_iterator_keeps_no_other_from_running() -> None:
    """Whatever runs again, the failed step takes the iterator away from the one behind it."""
    session = session_of("xs = [iter([1, 2])]", "put = xs.append", "zs = iter([xs, 2])")
    session.graph.add_step("bad", "put.nothing", after="s1")
    assert session.replay().failed == ("bad",)
    session.graph.edit_step("s2", "zs = iter([xs, 3])")
    assert session.replay().failed == ("bad",)
    names = session.namespace()
    assert [*names["zs"]] == [names["xs"], 3]  # type: ignore[misc]
    session.graph.delete_step("bad")
    assert session.replay().ok


def test_values_after_a_step_that_there_is_not_are_refused() -> None:
    session = session_of("x = 1")
    with pytest.raises(StepError, match="no step 's7'"):
        session.namespace("s7")


@pytest.mark.parametrize(
    "source",
    [
        "print(1)\nglobals()[0] = 3",
        "globals().update({('a', 1): 2})",
        "dict.__setitem__(vars(), None, 5)",
        "globals()['x#0'] = 3",
        "globals()['file:x'] = 3",
    ],
)
def test_what_is_put_into_the_namespace_under_no_name_fails_the_step(source: str) -> None:
    session = StepExecutor()
    session.execute("a", "x = [1]")
    failed = session.execute("b", f"x.append(2)\n{source}")
    assert failed.failure is not None
    assert failed.failure.type == "TypeError"
    assert "it is no name" in failed.failure.message
    session.graph.edit_step("b", "x.append(2)")
    assert session.replay().ok
    after = session.execute("c", "print(x, sorted(map(str, globals())))")
    assert after.stdout == "[1, 2] ['__builtins__', '__name__', 'x']\n"


def test_a_key_that_is_not_there_is_a_key_error_as_everywhere() -> None:
    session = StepExecutor()
    failed = session.execute("a", "globals()['nope']").failure
    assert failed is not None
    assert (failed.type, failed.traceback.splitlines()[-1]) == ("KeyError", "KeyError: 'nope'")
    assert "lorimer" not in failed.traceback
    caught = (
        "try:\n    globals()[0]\nexcept KeyError as error:\n    print(type(error), 0 in vars())"
    )
    assert session.execute("b", caught).stdout == "<class 'KeyError'> False\n"


def test_an_ordered_dict_that_code_ran_in_is_put_back_as_it_was() -> None:
    """`exec` puts `__builtins__` into it where its own methods do not see it."""
    session = StepExecutor()
    session.execute("make", "import collections\nspace = collections.OrderedDict(k=1, n=2)")
    session.execute("run", "exec('def g():\\n    return len(str(k))', space)")
    session.execute("change", "space['k'] = 100")
    session.execute("call", "print(list(space), len(space), space['g']())")
    session.graph.edit_step("change", "space['k'] = 10")
    assert session.replay().ok
    assert session.results["call"].stdout == "['k', 'n', 'g'] 4 2\n"


def test_row_37_what_keeps_a_stream_writes_to_the_step_that_runs() -> None:
    session = session_of(
        "import logging, sys\nhandler = logging.StreamHandler(sys.stdout)\nerror = sys.stderr",
        "logger = logging.Logger('of-this-test')\nlogger.addHandler(handler)",
        "logger.warning('first')",
        "logger.warning('second')\nprint('third', file=error)",
        "k = 1",
    )
    assert [session.results[f"s{n}"].stdout for n in range(4)] == ["", "", "first\n", "second\n"]
    assert session.results["s3"].stderr == "third\n"
    session.graph.edit_step("s0", session.graph.source("s0").replace("stderr", "stdout"))
    session.replay()
    assert session.results["s3"].stdout == "second\nthird\n"
    assert "s4" not in session.replay().ran


@pytest.mark.parametrize("again", [(), ("engine.begin()\nitems.index(5)", "print(total())")])
def test_failed_steps_that_moved_on_what_others_use_end_no_replay(again: tuple[str, ...]) -> None:
    engine = (
        "class Engine:\n    def __init__(self):\n        self.rows = iter(range(9))\n"
        "    def begin(self):\n        return next(self.rows)\n"
        "engine = Engine()\nmeta = [iter([])]"
    )
    fails, total = "engine.begin()\nitems.index(5)", "def total():\n    return engine.begin()"
    sources = (engine, "items = [meta]", fails, total, "print(total())", *again)
    session = StepExecutor()
    for number, source in enumerate(sources):
        session.execute(str(number), source)
    for _ in range(2):
        replay = session.replay()
        assert replay.failed == (("2", "5") if again else ("2",))
        assert max(map(replay.ran.count, session.graph.steps)) < 10
        printed = [session.results[step].stdout for step in session.graph.steps if step in "46"]
        assert printed == (["0\n", "1\n"] if again else ["0\n"])
        session.graph.edit_step("0", f"{engine}\nmore = 1")


def test_who_uses_a_model_of_pydantic_does_not_change_it() -> None:
    session = session_of(
        "from pydantic import BaseModel, Field, TypeAdapter\n"
        "class Item(BaseModel):\n    price: float = Field(gt=0)",
        "i = Item(price=1)",
        "j = TypeAdapter(list[Item]).validate_python([{'price': 2}])",
        "x = [i.price, j[0].price, Item.model_validate_json('{\"price\": 4}').price]",
    )
    session.graph.edit_step("s1", "i = Item(price=3)")
    assert session.replay().ran == ("s1", "s3")
    assert session.namespace()["x"] == [3.0, 2.0, 4.0]
    session.graph.edit_step("s0", session.graph.source("s0").replace("gt=0", "gt=3"))
    session.replay()
    assert session.results["s1"].failure is not None
    session.graph.edit_step("s1", "i = Item(price=5)")
    assert session.results["s2"].failure is not None


PROXIES = (
    "import weakref\nclass Node:\n    v = 1\ndef gone():\n    return weakref.proxy(Node())",
    "node = Node()\np = weakref.proxy(node)\ndead = gone()\nheld = {'dead': dead}",
    "p.v = 2",
    "x = node.v",
    "try:\n    dead.v\nexcept ReferenceError:\n    y = 'gone'",
    "other = dead\nheld['other'] = other",
    "z = held['dead'] is dead, len(held)",
)


def test_row_21_a_weak_proxy_stands_for_its_object_or_for_none() -> None:
    session = session_of(*PROXIES)
    for source in ("p.v = 3", "pass", "p.v = 2"):
        session.graph.edit_step("s2", source)
        assert session.replay().ok
        names = session.namespace()
        assert names["x"] == anew(session)["x"]
        assert (names["y"], names["z"]) == ("gone", (True, 2))
    told = summary(session.namespace()["dead"])
    assert told == "ProxyType"
