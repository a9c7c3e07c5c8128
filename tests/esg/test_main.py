"""What steps find in `sys.modules["__main__"]`, where that is theirs: replays after edits end where
a plain process ends."""

from __future__ import annotations

import contextlib
import copyreg
import io
import linecache
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from lorimer.esg import StepExecutor
from lorimer.esg.execution.main import MainModule
from tests.esg.alike import picture, plain
from tests.esg.sessions import session_of

FOO = "class Foo:\n    v = {}\n    def __repr__(self):\n        return f'Foo {{self.v}}'"
FORK = """
import os
def child(f, *args):
    come, go = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.write(go, repr(f(*args)).encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    found = os.read(come, 1000).decode()
    os.close(come)
    os.close(go)
    return found
"""
POOL = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context('fork')) as pool:
    found = list(pool.map({}, [1, 2]))
del pool
print(found)
"""
COPIED = "class C:\n    def __init__(self, a):\n        self.a = a"
REDUCE = "import copyreg\ncopyreg.pickle(C, lambda c: (C, ({},)))"
SHOWN = "import pickle\nprint(pickle.loads(pickle.dumps(C(1))).a)"
CASES: dict[str, tuple[list[str], list[tuple[int, str]]]] = {
    "an instance that is pickled": (
        ["import pickle", FOO.format(1), "d = pickle.dumps(Foo())", "print(pickle.loads(d))"],
        [(1, FOO.format(2)), (2, "d = pickle.dumps([Foo()])"), (1, f"k = 1\n{FOO.format(3)}")],
    ),
    "a class of which only its name is in a text": (
        ["d = b'c__main__\\nFoo\\n.'", FOO.format(1), "import pickle\nprint(pickle.loads(d).v)"],
        [(1, FOO.format(2)), (1, f"{FOO.format(2)}\nFoo.v = 3")],
    ),
    "a class that is not there yet": (
        [
            "d = b'c__main__\\nFoo\\n.'\nk = 1",
            "import pickle\ntry:\n    print(pickle.loads(d).v)\nexcept AttributeError as error:\n"
            "    print('none')",
            FOO.format(1),
        ],
        [(0, f"d = b'c__main__\\nFoo\\n.'\n{FOO.format(4)}"), (0, "d = b'c__main__\\nFoo\\n.'")],
    ),
    "a pickle in a file, read after the class was edited": (
        [
            FOO.format(1),
            "import pickle\nwith open('foo', 'wb') as f:\n    pickle.dump(Foo(), f)\ndel f",
            "with open('foo', 'rb') as file:\n    found = pickle.load(file)\ndel file",
            "print(found)",
        ],
        [
            (0, FOO.format(2)),
            (1, "import pickle\nwith open('foo', 'wb') as f:\n    pickle.dump([Foo()], f)\ndel f"),
            (0, f"{FOO.format(2)}\nFoo.v = 3"),
        ],
    ),
    "a function that is pickled": (
        [
            "import pickle\nk = 1",
            "def f():\n    return k",
            "d = pickle.dumps(f)\ng = f",
            "print(pickle.loads(d)(), pickle.loads(d) is g)",
        ],
        [(0, "import pickle\nk = 2"), (1, "def f():\n    return k + 1")],
    ),
    "a class that was defined anew since": (
        [
            f"import pickle\n{FOO.format(1)}\nfoo = Foo()",
            FOO.format(2),
            "try:\n    print(pickle.dumps(foo))\nexcept pickle.PicklingError as error:\n"
            "    print('another')",
        ],
        [(1, "k = 1"), (1, FOO.format(3))],
    ),
    "what is set and read through the module": (
        [
            "import sys\nm = sys.modules['__main__']",
            "m.x = 1\nm.y = [1]",
            "m.y.append(m.x)",
            "print(x, m.x, m.y, y)",
        ],
        [(1, "m.x = 2\nm.y = []"), (2, "m.y = m.x"), (2, "pass"), (1, "x, y = 3, [4]")],
    ),
    "what is deleted through the module": (
        [
            "import __main__\nx = y = 1",
            "x = 2\ndel __main__.x",
            "def drop(names, name):\n    del names[name]\ny = 2\ndrop(__main__.__dict__, 'y')",
            "print(hasattr(__main__, 'x'), 'y' in globals(), 'x' in vars(__main__))",
        ],
        [
            (1, "pass"),
            (2, "pass"),
            (1, "__main__.__dict__.pop('x')"),
            (0, "import __main__\nx = [y := 1]"),
        ],
    ),
    "names that are not there": (
        ["k = 1", "import __main__\nprint(getattr(__main__, 'x', None), hasattr(__main__, 'z'))"],
        [(0, "x = 1"), (0, "x = 1\nz = 2"), (0, "z = 2")],
    ),
    "all names": (
        [
            "import __main__\nx = 1",
            "print([each for each in dir(__main__) if len(each) == 1])",
            "from __main__ import *\nprint({k for k in vars(__main__) if len(k) == 1})",
        ],
        [(0, "import __main__\ny = 1"), (0, "import __main__\nx = 2")],
    ),
    "imported from it": (
        ["x = [1]", "from __main__ import x as y\ny.append(2)", "print(x)"],
        [(0, "x = [3]"), (1, "from __main__ import x as y\ny.append(3)")],
    ),
    "a benchmark that imports": (
        [
            "n = 0\ndef f():\n    global n\n    n += 2",
            "import timeit\nt = timeit.timeit('f()', setup='from __main__ import f', number=2)\n"
            "del t",
            "print(n)",
        ],
        [(0, "n = 1\ndef f():\n    global n\n    n += 3")],
    ),
    "the part for programs": (
        ["x = 1", "if __name__ == '__main__':\n    import __main__\n    print(__main__.x)"],
        [(0, "x = 2"), (0, "x = 3\n__name__")],
    ),
    "annotations of a class that are texts": (
        [
            "import typing\nfrom typing import List, Optional",
            "class A:\n    v = 1",
            "class B:\n    a: 'A'\n    b: 'List[A]'\n    c: Optional['A']",
            "hints = typing.get_type_hints(B)\n"
            "print(hints['a'].v, hints['b'].__args__[0].v, hints['c'].__args__[0].v)\ndel hints",
        ],
        [(1, "class A:\n    v = 2"), (1, "class A:\n    v = 2\nList = Optional")],
    ),
    "annotations of a dataclass that are texts": (
        [
            "from dataclasses import dataclass, fields\nfrom typing import ClassVar as Only",
            "@dataclass\nclass P:\n    x: 'int' = 1\n    y: 'Only[int]' = 2",
            "print(P(), [each.name for each in fields(P)])",
        ],
        [
            (0, "from dataclasses import dataclass, fields\nOnly = list"),
            (1, "@dataclass\nclass P:\n    x: 'int' = 3\n    y: 'Only[int]' = 2"),
        ],
    ),
    "the source of a function": (
        ["def f():\n    return 1", "import inspect\nprint(inspect.getsource(f))"],
        [(0, "def f():\n    return 2")],
    ),
    "how objects are pickled": (
        [COPIED, REDUCE.format(2), SHOWN, "import copy\nprint(copy.copy(C(1)).a)"],
        [
            (1, REDUCE.format(3)),
            (1, "pass"),
            (1, "from copyreg import pickle\npickle(C, lambda c: (C, (4,)))"),
        ],
    ),
    "how objects are pickled, by another name": (
        [COPIED, "from copyreg import pickle as by", "by(C, lambda c: (C, (2,)))", SHOWN],
        [(2, "by(C, lambda c: (C, (3,)))"), (2, "pass")],
    ),
    "an enum, flags and a named tuple": (
        [
            "import enum, pickle\nfrom collections import namedtuple\nP = namedtuple('P', 'a')\n"
            "class E(enum.Enum):\n    A = 1\nclass F(enum.Flag):\n    B = 1\n    C = 2",
            "d = pickle.dumps((E.A, F.B, P(1)))",
            "print(pickle.loads(d), pickle.loads(d)[0] is E.A)",
        ],
        [
            (
                0,
                "import enum, pickle\nfrom collections import namedtuple\n"
                "P = namedtuple('P', 'b')\n"
                "class E(enum.Enum):\n    A = 1\n    Z = 2\nclass F(enum.Flag):\n    B = 1\n",
            )
        ],
    ),
    "a child that reads": (
        [FORK, "k = 1", "def f():\n    return k", "print(child(f))"],
        [(1, "k = 2"), (2, "def f():\n    return k * 10")],
    ),
    "a child that unpickles": (
        [
            FORK,
            FOO.format(1),
            "import pickle\nd = pickle.dumps(Foo())\nk = 1",
            "print(child(pickle.loads, d))",
        ],
        [(1, FOO.format(2)), (1, f"{FOO.format(2)}\nFoo.v = 5")],
    ),
    "a child that asks for a name that is not there": (
        [FORK, "k = 1", "import __main__\nprint(child(lambda: getattr(__main__, 'x', None)))"],
        [(1, "x = 1"), (1, "k = x = 2")],
    ),
    "a child that sets": (
        [FORK, "x = 1", "import __main__\nprint(child(setattr, __main__, 'x', 2))", "print(x)"],
        [(1, "x = 3")],
    ),
    "a child that needs what was changed later": (
        [FORK, "xs = [1]", "def f():\n    return xs", "print(child(f))", "xs.append(2)"],
        [(3, "print(child(f), 1)"), (4, "xs.append(3)"), (1, "xs = [4]")],
    ),
    "a child that moves an iterator that is gone": (
        [
            FORK,
            "it = iter([1, 2, 3].__iter__, 0)\nit = (n for n in [1, 2])",
            "def f():\n    return next(it)",
            "print(child(f), next(it))",
            "print(next(it))",
        ],
        [(3, "print(child(f))"), (1, "it = (n for n in [3, 4])")],
    ),
    "a pool": (
        [
            FOO.format(1),
            "k = 1",
            "def f(x):\n    Foo.w = x + k\n    return Foo(), Foo.w",
            POOL.format("f"),
        ],
        [(1, "k = 2"), (0, FOO.format(2)), (2, "def f(x):\n    return Foo.v, k")],
    ),
    "a pool that stays": (
        [
            "k = 1",
            "def f(x):\n    return x + k",
            "import multiprocessing\npool = multiprocessing.get_context('fork').Pool(1)",
            "print(pool.map(f, [1]))",
            "pool.terminate()\npool.join()",
        ],
        [(0, "k = 2"), (1, "def f(x):\n    return x - k")],
    ),
}


@pytest.fixture(autouse=True)
def main_of_steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "__main__", MainModule())
    reducers = {**copyreg.dispatch_table}
    yield
    copyreg.dispatch_table.clear()
    copyreg.dispatch_table.update(reducers)


def whole(sources: list[str], folder: Path) -> tuple[dict[str, str], list[str]]:
    """(name -> what it is like, what each step printed), in a module `__main__` of Python's own."""
    module, printed = ModuleType("__main__"), list[str]()
    kept, before, reducers = sys.modules["__main__"], os.getcwd(), {**copyreg.dispatch_table}
    sys.modules["__main__"] = module
    folder.mkdir(exist_ok=True)
    os.chdir(folder)
    try:
        for number, source in enumerate(sources):
            with contextlib.redirect_stdout(io.StringIO()) as out:
                name = f"<plain {number}>"
                linecache.cache[name] = (0, None, source.splitlines(True), name)
                exec(compile(source, name, "exec", dont_inherit=True), vars(module))
            printed.append(plain(out.getvalue()))
        return picture(vars(module)), printed
    finally:
        os.chdir(before)
        sys.modules["__main__"] = kept
        copyreg.dispatch_table.clear()
        copyreg.dispatch_table.update(reducers)


def check(session: StepExecutor, folder: Path) -> None:
    names, printed = whole([*map(session.graph.source, session.graph.steps)], folder)
    assert [plain(session.results[each].stdout) for each in session.graph.steps] == printed
    assert picture(session.namespace()) == names


@pytest.mark.parametrize("name", CASES)
def test_a_replay_ends_where_a_plain_process_ends(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own").mkdir()
    monkeypatch.chdir(tmp_path / "own")
    sources, edits = CASES[name]
    session = session_of(*sources)
    check(session, tmp_path / "plain")
    for place, source in [(0, sources[0]), *edits]:
        session.graph.edit_step(f"s{place}", source)
        session.replay()
        assert session.replay().ran == ()
        check(session, tmp_path / "plain")
    for step in session.graph.steps:
        session.graph.mark_stale(step)
        session.replay()
        check(session, tmp_path / "plain")


def test_what_a_failed_step_has_set_is_undone() -> None:
    session = session_of("import sys\nx, y, z = 1, [1], 2")
    source = "m = sys.modules['__main__']\nm.x = 3\nm.y.append(2)\nm.w = 4\ndel m.z"
    assert not session.execute("fails", f"{source}\n1 / 0").ok
    look = "(x, y, hasattr(sys.modules['__main__'], 'w'), dir(sys.modules['__main__'])[-4:])"
    assert session.execute("after", look).shown == "(1, [1], False, ['sys', 'x', 'y', 'z'])"
    session.graph.edit_step("fails", source)
    session.replay()
    assert session.results["after"].shown == "(3, [1, 2], True, ['sys', 'w', 'x', 'y'])"


def test_who_looks_a_name_up_reads_it_and_nothing_else() -> None:
    session = session_of(
        "import pickle",
        f"{FOO.format(1)}\nk = 1",
        "d = pickle.dumps(Foo())",
        "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: 'int' = 1",
        "import __main__\n__main__.n = 1",
        "pickle.loads(d)",
    )
    assert {*filter(str.isidentifier, session.results["s5"].reads)} == {"Foo", "d", "pickle"}
    assert "k" not in session.results["s3"].reads
    assert session.results["s4"].writes == ("__main__", "n")
    session.graph.edit_step("s1", f"{FOO.format(1)}\nk = 2")
    assert session.replay().ran == ("s1",)


def test_a_step_that_forks_reads_all_that_is_there() -> None:
    session = session_of(FORK, "k = 1", "def f():\n    return k", "print(child(f))", "z = 1")
    session.graph.edit_step("s4", "z = 2")
    assert session.replay().ran == ("s4",)
    session.graph.edit_step("s1", "k = 1\nother = 3")
    assert session.replay().ran == ("s1", "s3")


def test_a_fork_counts_where_main_is_not_that_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))
    session = session_of(FORK, "k = 1", "def f():\n    return k", "print(child(f))")
    session.graph.edit_step("s1", "k = 2")
    assert session.replay().ran == ("s1", "s3")
    assert session.results["s3"].stdout == "2\n"


def test_a_thread_that_forks_while_a_step_runs_is_not_lent_anything() -> None:
    """It may be the host's: values must not move under the step, nor an error be raised there."""
    session = session_of(FORK, "k = 1", "it = (n for n in [1, 2])", "next(it)")
    source = (
        "import threading\nfound = []\ndef work():\n    found.append(child(lambda: k))\n"
        "thread = threading.Thread(target=work)\nthread.start()\nthread.join()\ndel thread\n"
        "print(found)"
    )
    assert session.execute("s4", source).stdout == "['1']\n"
    assert "it" not in session.results["s4"].reads
    session.graph.edit_step("s1", "k = 2")
    assert session.replay().ran == ("s1", "s4")
    assert session.results["s4"].stdout == "['2']\n"


def test_the_module_is_a_module() -> None:
    session = session_of("import sys, types\nm = sys.modules['__main__']")
    told = "(m.__name__, isinstance(m, types.ModuleType), repr(m), m.__spec__, m.__doc__)"
    assert session.execute("told", told).shown == (
        "('__main__', True, \"<module '__main__'>\", None, None)"
    )
    failed = session.execute("missing", "m.nothing")
    assert failed.failure is not None
    assert failed.failure.message == "module '__main__' has no attribute 'nothing'"
    failed = session.execute("missing", "del m.nothing")
    assert failed.failure is not None
    assert failed.failure.type == "AttributeError"


NAMES = ("x", "y", "K")
PARTS = (
    "{0} = {2}",
    "M.{0} = {2}",
    "M.{0} = [M.__dict__.get('{1}')]",
    "class K:\n    v = {2}",
    "setattr(M, 'K', type('K', (), {{'v': {2}}}))",
    "d = b'c__main__\\nK\\n.'\ntry:\n    print(pickle.loads(d).v)\n"
    "except AttributeError:\n    print('none')",
    "if hasattr(M, '{0}'):\n    del M.{0}",
    "print(M.__dict__.pop('{0}', None).__class__.__name__)",
    "print(getattr(M, '{0}', None).__class__, hasattr(M, '{1}'))",
    "print(getattr(getattr(M, '{0}', None), 'v', repr(M.__dict__.get('y'))[:9]))",
    "print([each for each in dir(M) if each in 'xyK'])",
    "print(child(lambda: hasattr(M, '{0}') and str(M.{0})[:9]))",
    "def f():\n    return getattr(M, '{0}', 0).__class__.__name__",
    "print(pickle.loads(pickle.dumps(M.__dict__.get('f', len))) is M.__dict__.get('f', len))",
    "if 'f' in vars(M):\n    print(child(f), f())",
)


def part(dice: random.Random) -> str:
    return dice.choice(PARTS).format(*dice.choices(NAMES, k=2), dice.randrange(3))


@pytest.mark.parametrize("seed", range(300 if os.environ.get("LORIMER_CAMPAIGN") else 6))
def test_random_replays_end_where_a_plain_process_ends(seed: int, tmp_path: Path) -> None:
    dice = random.Random(seed)
    session = StepExecutor()
    session.execute("first", f"import pickle\nimport __main__ as M\n{FORK}")
    for number in range(8):
        result = session.execute(f"s{number}", part(dice))
        assert result.ok, result.failure
    check(session, tmp_path)
    for _ in range(6):
        place = f"s{dice.randrange(8)}"
        match dice.randrange(4):
            case 0:
                session.graph.mark_stale(place)
            case 1:
                session.graph.move_step(place, after="s4" if place != "s4" else "first")
            case _:
                session.graph.edit_step(place, part(dice))
        assert session.replay().ok
        check(session, tmp_path)
