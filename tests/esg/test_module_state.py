"""What steps keep in modules and in classes of libraries is a dependency like a name."""

from __future__ import annotations

import builtins
import json
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest

from lorimer.esg import StepExecutor
from tests.esg.sessions import session_of

OWN = """\
counter = 0
items = []
settings = {"unit": "m"}

def count():
    global counter
    counter += 1
    return counter

def note(item):
    items.append(item)
    return list(items)
"""


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module of the user's, and libraries as they were."""
    (tmp_path / "helpers_of_mine.py").write_text(OWN)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    kept = [(each, {**vars(each)}) for each in (json, json.decoder, sys)]
    path, every, text = [*sys.path], {**sys.modules}, Fraction.__str__
    yield
    for module, before in kept:
        for name in vars(module).keys() - before.keys():
            delattr(module, name)
        vars(module).update(before)
    sys.path[:] = path
    for name in sys.modules.keys() - every.keys():
        del sys.modules[name]
    Fraction.__str__ = text
    for name in ("kept", "twice"):
        if name in vars(Fraction):
            delattr(Fraction, name)
        if name in vars(json.JSONDecoder):
            delattr(json.JSONDecoder, name)


def printed(session: StepExecutor) -> list[str]:
    return [session.results[each].stdout.strip() for each in session.graph.steps]


def edited(session: StepExecutor, step: str, source: str) -> tuple[str, ...]:
    session.graph.edit_step(step, source)
    replay = session.replay()
    assert replay.ok, [session.results[each].failure for each in replay.failed]
    assert session.replay().ran == ()
    return replay.ran


def test_an_attribute_that_a_step_adds_to_a_module_is_read_by_who_names_it() -> None:
    session = session_of("import json", "json.kept = 1", "print(json.kept)", "print('apart')")
    assert edited(session, "s1", "json.kept = 2") == ("s1", "s2")
    assert printed(session)[2] == "2"
    assert edited(session, "s1", "json.kept = 1 + 1") == ("s1",)


def test_an_object_kept_in_a_module_is_changed_through_it() -> None:
    session = session_of(
        "import json\na = [1]",
        "json.kept = a",
        "a.append(2)",
        "json.kept.append(3)",
        "print(a, json.kept is a)",
    )
    assert printed(session)[4] == "[1, 2, 3] True"
    edited(session, "s2", "a.append(20)")
    assert printed(session)[4] == "[1, 20, 3] True"
    edited(session, "s3", "json.kept.append(30)")
    assert printed(session)[4] == "[1, 20, 30] True"


def test_a_step_that_changes_an_attribute_finds_it_as_at_its_place() -> None:
    session = session_of(
        "import json\njson.kept = 1",
        "json.kept += 1",
        "json.kept *= 10",
        "print(json.kept)",
    )
    session.graph.mark_stale("s1")
    session.replay()
    assert printed(session)[3] == "20"
    edited(session, "s1", "json.kept += 2")
    assert printed(session)[3] == "30"
    session.graph.delete_step("s2")
    session.replay()
    assert printed(session) == ["", "", "3"]


@pytest.mark.parametrize(
    ("setting", "other"),
    [
        ("setattr(json, 'kept', 1)", "setattr(json, 'kept', 2)"),
        (
            "name = 'ke' + 'pt'\nsetattr(json, name, 1)",
            "name = 'ke' + 'pt'\nsetattr(json, name, 2)",
        ),
        ("vars(json)['kept'] = 1", "vars(json)['kept'] = 2"),
        ("json.__dict__.update(kept=1)", "json.__dict__.update(kept=2)"),
        ("def f(m):\n    m.kept = 1\nf(json)", "def f(m):\n    m.kept = 2\nf(json)"),
        ("exec('json.kept = 1')", "exec('json.kept = 2')"),
        ("text = 'json.kept = 1'\nexec(text)", "text = 'json.kept = 2'\nexec(text)"),
        ("import sys\nsys.modules['json'].kept = 1", "import sys\nsys.modules['json'].kept = 2"),
        ("x = [json]\nx[0].kept = 1", "x = [json]\nx[0].kept = 2"),
    ],
)
def test_every_way_to_set_it(setting: str, other: str) -> None:
    session = session_of("import json", setting, "print(json.kept)")
    edited(session, "s1", other)
    assert printed(session)[2] == "2"


@pytest.mark.parametrize(
    "reading", ["getattr(json, 'ke' + 'pt')", "vars(json)['kept']", "g()", "fs[0]()", "eval(text)"]
)
def test_every_way_to_read_it(reading: str) -> None:
    session = session_of(
        "import json\ntext = 'json.kept'\ndef g():\n    return json.kept\nfs = [lambda: json.kept]",
        "json.kept = 1",
        f"print({reading})",
    )
    edited(session, "s1", "json.kept = 2")
    assert printed(session)[2] == "2"


def test_what_the_library_has_itself_is_read_by_all_that_comes_later() -> None:
    session = session_of(
        "import json",
        "real = json.decoder.scanner",
        "json.dumps = lambda value: 'one'",
        "from json import dumps\nprint(dumps(1))",
        "print('apart')",
    )
    assert edited(session, "s2", "json.dumps = lambda value: 'two'") == ("s2", "s3", "s4")
    assert printed(session)[3] == "two"
    session.graph.delete_step("s2")
    session.replay()
    assert printed(session)[2] == "1"


def test_an_edit_that_begins_to_change_it_makes_all_later_stale() -> None:
    session = session_of(
        "from fractions import Fraction\nx = Fraction(1, 2)", "y = 1", "print(x)", "x"
    )
    edited(session, "s1", "Fraction.__str__ = lambda self: 'half'")
    assert printed(session)[2] == "half"
    edited(session, "s1", "y = 2")
    assert printed(session)[2] == "1/2"


def test_a_step_behind_one_that_comes_out_as_it_was_runs_again_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it names is as before, and what the library looks at for it is not."""
    monkeypatch.setattr(json.JSONEncoder, "item_separator", ", ")  # put back afterwards
    session = session_of("import json", "k = 1", "a = [1, 2]", "out = json.dumps(a)")
    session.graph.edit_step("s1", "json.JSONEncoder.item_separator = ';'")
    assert session.replay().ran == ("s1", "s2", "s3")
    assert session.namespace()["out"] == "[1;2]"
    assert session.replay().ran == ()


def test_what_a_step_has_just_set_is_not_taken_for_what_was_there_before() -> None:
    """The second line has its function looked into, and with that the module once more."""
    session = session_of(
        "import helpers_of_mine as m\ndef f():\n    return 1",
        "x = 1",
        "print(getattr(m, 'kept', None))",
    )
    edited(session, "s1", "m.kept = 3\nf.__defaults__ = ()")
    assert printed(session)[2] == "3"
    edited(session, "s1", "x = 2")
    assert printed(session)[2] == "None"


def test_attributes_of_classes_of_libraries() -> None:
    session = session_of(
        "from fractions import Fraction\nfrom json import JSONDecoder",
        "Fraction.twice = lambda self: self * 2",
        "print(Fraction(1, 3).twice())",
        "for kind in (Fraction, JSONDecoder):\n    kind.kept = 1",
        "print(JSONDecoder.kept)",
    )
    edited(session, "s1", "Fraction.twice = lambda self: self + self + 1")
    assert printed(session)[2] == "5/3"
    edited(session, "s3", "for kind in (Fraction, JSONDecoder):\n    kind.kept = 3")
    assert printed(session)[4] == "3"


def test_a_deleted_attribute() -> None:
    session = session_of(
        "import json\njson.kept = 1",
        "x = json.kept",
        "del json.kept",
        "print(hasattr(json, 'kept'))",
    )
    session.graph.mark_stale("s1")
    assert session.replay().ran[0] == "s1"
    assert session.namespace()["x"] == 1
    edited(session, "s2", "pass")
    assert printed(session)[3] == "True"


@pytest.mark.parametrize("delete", ["del h.counter", "del vars(h)['counter']"])
def test_an_attribute_of_the_module_itself_that_is_deleted_no_more(delete: str) -> None:
    session = session_of(
        "import helpers_of_mine as h", delete, "print(hasattr(h, 'counter'))", "print('apart')"
    )
    edited(session, "s1", "pass")
    assert printed(session)[2] == "True"
    session.graph.delete_step("s1")
    assert session.replay().ran == ()


def test_a_step_that_raises_leaves_modules_as_they_were() -> None:
    session = session_of("import json\njson.kept = [1]")
    assert not session.execute("bad", "json.kept.append(2)\njson.kept = 3\n1 / 0").ok
    session.graph.delete_step("bad")
    session.execute("show", "print(json.kept)")
    assert session.results["show"].stdout == "[1]\n"


def test_the_counter_of_a_module_that_the_step_itself_loads() -> None:
    session = session_of(
        "import helpers_of_mine\nhelpers_of_mine.counter += 1",
        "helpers_of_mine.counter += 1",
        "print(helpers_of_mine.counter)",
    )
    for step in ("s0", "s1"):
        session.graph.mark_stale(step)
        session.replay()
        assert printed(session)[2] == "2"
    edited(session, "s0", "import helpers_of_mine\nhelpers_of_mine.counter += 10")
    assert printed(session)[2] == "11"


def test_what_functions_of_a_module_of_ones_own_change_in_it() -> None:
    session = session_of(
        "import helpers_of_mine as mine",
        "mine.count()",
        "from helpers_of_mine import count",
        "count()",
        "print(mine.count())",
        "mine.note('a')",
        "mine.settings['unit'] = 'km'",
        "print(mine.note('b'), mine.settings)",
    )
    assert printed(session)[4] == "3"
    for step in ("s1", "s3", "s5"):
        session.graph.mark_stale(step)
        session.replay()
    assert printed(session)[4::3] == ["3", "['a', 'b'] {'unit': 'km'}"]
    edited(session, "s3", "count() + count()")
    edited(session, "s5", "mine.note('c')")
    assert printed(session)[4::3] == ["4", "['c', 'b'] {'unit': 'km'}"]


def test_containers_that_libraries_keep() -> None:
    session = session_of(
        "import sys\nsys.path.append('/nowhere/1')",
        "print(sys.path.count('/nowhere/1'), sys.path[-1])",
        "from sys import path as ways\nways.append('/nowhere/2')",
        "print(sys.path[-2:])",
    )
    session.graph.mark_stale("s0")
    session.replay()
    edited(session, "s0", "import sys\nsys.path.append('/nowhere/3')")
    assert printed(session)[1::2] == ["0 /nowhere/3", "['/nowhere/3', '/nowhere/2']"]


def test_modules_that_are_put_among_the_modules() -> None:
    session = session_of(
        "import sys, types",
        "sys.modules['made_up'] = types.SimpleNamespace(kept=1)",
        "import made_up\nprint(made_up.kept)",
        "del sys.modules['made_up']",
        "print('made_up' in sys.modules)",
    )
    edited(session, "s1", "sys.modules['made_up'] = types.SimpleNamespace(kept=2)")
    assert printed(session)[2::2] == ["2", "False"]


def test_two_sessions_in_one_process_do_not_meet() -> None:
    one = session_of("import json\njson.kept = 1", "print(json.kept)")
    other = session_of("import json\njson.kept = 2", "print(json.kept)")
    one.graph.mark_stale("s1")
    one.replay()
    assert printed(one)[1] == "1"
    assert printed(other)[1] == "2"


def test_a_module_made_by_hand_is_an_object_like_others() -> None:
    session = session_of(
        "import types\nm = types.ModuleType('m')\nm.kept = 1",
        "m.kept += 1",
        "print(m.kept)",
    )
    session.graph.mark_stale("s1")
    session.replay()
    assert printed(session)[2] == "2"
    edited(session, "s0", "import types\nm = types.ModuleType('m')\nm.kept = 5")
    assert printed(session)[2] == "6"


def test_an_import_function_that_a_step_has_kept_goes_on_working() -> None:
    sys.modules.pop("imaplib", None)  # what is not loaded yet: imports are looked at
    session = session_of("import imaplib\nload = __import__", "print(load('json').__name__)")
    assert printed(session) == ["", "json"]
    failed = session.execute("s2", "load('json')\n1 / 0")
    assert failed.failure is not None and failed.failure.type == "ZeroDivisionError"
    assert tuple(session.graph.steps) == ("s0", "s1", "s2"), "to undo a step is to undo no more"
    assert builtins.__import__("json") is json


def test_what_functions_of_a_module_of_ones_own_keep(tmp_path: Path) -> None:
    (tmp_path / "keepers_of_mine.py").write_text(
        "class K:\n    def f(self, x, seen=[]):\n        seen.append(x)\n        return seen\n"
        "def g(*, k={}):\n    k[len(k)] = 1\n    return k\n"
        "def h():\n    h.n += 1\n    return h.n\nh.n = 0\n"
        "def make():\n    n = 0\n    def up():\n        nonlocal n\n        n += 1\n"
        "        return n\n    def get():\n        return n\n    return up, get\nup, get = make()\n"
    )
    all_of_it = "m.K().f({0})\nm.g()\nm.h()\nm.up()"
    session = session_of(
        "import keepers_of_mine as m",
        all_of_it.format(1),
        "print(m.K().f(2), m.g(), m.h(), m.up(), m.get())",
    )
    assert printed(session)[2] == "[1, 2] {0: 1, 1: 1} 2 2 2"
    edited(session, "s1", f"{all_of_it.format(3)}\nm.h()\nm.up()\nm.g()")
    assert printed(session)[2] == "[3, 2] {0: 1, 1: 1, 2: 1} 3 3 3"
    session.graph.mark_stale("s2")
    session.replay()
    session.graph.delete_step("s1")
    session.replay()
    assert printed(session)[1] == "[2] {0: 1} 1 1 1"


@pytest.mark.parametrize(
    "setting",
    [
        "from unittest import mock\nmock.patch('json.dumps', lambda value: {0}).start()",
        "from unittest import mock\nmock.patch.object(json, 'dumps', lambda value: {0}).start()",
        "import functools\nfunctools.update_wrapper(json, lambda: {0}, ('__doc__',), ())\n"
        "json.dumps = lambda value: {0}",
    ],
)
def test_attributes_that_a_library_sets_for_a_step(setting: str) -> None:
    session = session_of("import json", setting.format(1), "print(json.dumps('x'))")
    edited(session, "s1", setting.format(2))
    assert printed(session)[2] == "2"
    edited(session, "s1", "pass")
    assert printed(session)[2] == '"x"'


@pytest.mark.parametrize(
    "moves",
    [
        "setattr(json, 'ke' + 'pt', json.twice)\ndelattr(json, 'tw' + 'ice')",
        "json.decoder.twice = json.twice\ndel json.twice",
    ],
    ids=["to another name", "to another owner"],
)
def test_an_attribute_that_moves_goes_back(moves: str) -> None:
    """The same value is there as often as before."""
    told = "print(*(hasattr(*each) for each in ((json, 'twice'), (json, 'kept'))))"
    other = "print(hasattr(json.decoder, 'twice'))"
    session = session_of("import json", "json.twice = [1]", moves, told, other)
    assert printed(session)[3].startswith("False")
    edited(session, "s2", "pass")
    assert printed(session)[3:] == ["True False", "False"]


def test_classes_that_have_no_hash_hinder_nobody() -> None:
    kind = "class M(type):\n    def __eq__(self, other):\n        return True\n"
    session = session_of(
        f"{kind}class A(metaclass=M):\n    pass\nclass B(metaclass=M):\n    pass",
        "import json\njson.kept = 1",
        "print(json.kept)",
    )
    edited(session, "s1", "import json\njson.kept = 2")
    assert printed(session)[2] == "2"


def test_accessors_of_pandas() -> None:
    pytest.importorskip("pandas")
    accessor = (
        "@pd.api.extensions.register_series_accessor('of_mine')\nclass A:\n"
        "    def __init__(self, series):\n        pass\n    def n(self):\n        return {0}"
    )
    session = session_of(
        "import pandas as pd", accessor.format(1), "print(pd.Series([1]).of_mine.n())"
    )
    edited(session, "s1", accessor.format(2))
    assert printed(session)[2] == "2"
    edited(session, "s2", "print(hasattr(pd.Series, 'of_mine'))")
    edited(session, "s1", "pass")
    assert printed(session)[2] == "False"


@pytest.mark.filterwarnings("ignore")
def test_which_warnings_are_shown() -> None:
    warn = "try:\n    warnings.warn('x')\n    print('no')\nexcept UserWarning:\n    print('yes')"
    session = session_of("import warnings\nx = 1", "warnings.simplefilter('error')", warn)
    assert printed(session)[2] == "yes"
    edited(session, "s1", "warnings.simplefilter('ignore')")
    assert printed(session)[2] == "no"
    aside = "with warnings.catch_warnings():\n    warnings.simplefilter('error')"
    edited(session, "s1", aside)
    assert printed(session)[2] == "no"
    session.graph.edit_step("s0", "import warnings\nx = 2")
    assert session.replay().ran == ("s0",)


def test_modules_are_as_after_all_steps_when_names_are_looked_at() -> None:
    session = session_of("import helpers_of_mine as m", "m.count()", "x = m.counter", "m.count()")
    session.graph.edit_step("s2", "x = m.counter + 1")
    session.replay()
    module = session.namespace()["m"]
    assert vars(module)["counter"] == 2  # type: ignore[arg-type]


def test_a_replay_leaves_nothing_for_the_next_one() -> None:
    """A step that ran before another one was put in front of it, which sets what all read."""
    session = session_of(
        "import helpers_of_mine as mm", "ns = {}\nexec('x = 8', ns)", "mm.note = lambda item: 3"
    )
    session.graph.add_step("new", "mm.note = lambda item: 5", after="s0")
    session.replay()
    assert session.replay().ran == ()


def test_a_step_that_fails_now_has_set_nothing_for_later_steps() -> None:
    session = session_of("import helpers_of_mine as mm\nx = 1", "mm.items.append(x)", "y = 2")
    session.graph.delete_step("s0")
    session.graph.edit_step("s2", "import helpers_of_mine\nprint(helpers_of_mine.items)")
    assert session.replay().failed == ("s1",)
    assert session.results["s2"].stdout == "[]\n"
