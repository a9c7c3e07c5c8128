"""A module of one's own whose file has changed is loaded anew, and what has used it runs again."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lorimer.esg import StepExecutor
from tests.esg.sessions import session_of
from tests.quick import quick


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where modules lie; those that a test has loaded are let go."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    there = {*sys.modules}
    yield tmp_path
    for name in sys.modules.keys() - there:
        del sys.modules[name]


def printed(session: StepExecutor) -> list[str]:
    return [session.results[each].stdout.strip() for each in session.graph.steps]


@pytest.mark.parametrize(
    "steps",
    [
        ("import mine_a", "print(mine_a.f())"),
        ("from mine_a import f", "print(f())"),
        ("from mine_a import K\nk = K()", "print(k.f())"),
        ("import importlib, mine_a\nimportlib.reload(mine_a)", "print(mine_a.f())"),
        ("def g():\n    import mine_a\n    return mine_a.f()", "print(g())"),
        ("import mine_a", "import sys\nprint(sys.modules['mine_a'].f())"),
    ],
)
def test_a_file_that_somebody_edits(folder: Path, steps: tuple[str, ...]) -> None:
    text = "def f():\n    return 1\nclass K:\n    def f(self):\n        return f()\n"
    (folder / "mine_a.py").write_text(text)
    session = session_of("apart = 1", *steps)
    (folder / "mine_a.py").write_text(text.replace("1", "2"))  # within the second, of one size
    assert "s0" not in session.replay().ran
    assert printed(session) == ["", "", "2"]
    assert session.replay().ran == ()
    assert not any("__pycache__" in each for each in session.results["s1"].writes)


def test_a_module_that_a_step_has_loaded_once_more(folder: Path) -> None:
    write = "with open('mine_a.py', 'w') as file:\n    file.write('V = {}')\nimport mine_a"
    session = session_of(
        write.format(1),
        "print(mine_a.V)",
        "import sys\ndel sys.modules['mine_a']\nimport mine_a",
        "print(mine_a.V)",
    )
    session.graph.edit_step("s0", write.format(2))
    session.replay()
    assert printed(session) == ["", "2", "", "2"]


def test_a_file_that_a_step_writes(folder: Path) -> None:
    text = "items = []\ndef f():\n    items.append({})\n    return items"
    write = "with open('mine_a.py', 'w') as file:\n    file.write({!r})"
    session = session_of(
        write.format(text.format(1)), "import mine_a", "mine_a.f()", "print(mine_a.f())"
    )
    session.graph.edit_step("s0", write.format(text.format(2)))
    session.replay()
    assert printed(session)[3] == "[2, 2]"
    session.graph.edit_step("s2", "mine_a.f()\nmine_a.f()")
    session.replay()
    assert printed(session)[3] == "[2, 2, 2]"
    assert session.replay().ran == ()
    assert "module:mine_a.items" in session.results["s3"].writes, "and none of another that is gone"


def test_a_file_that_a_later_step_writes_again_is_as_it_is_at_its_place(folder: Path) -> None:
    text = "def f():\n    return {}"
    write = "with open('mine_a.py', 'w') as file:\n    file.write({!r})"
    session = session_of(
        write.format(text.format(1)),
        "import mine_a",
        "print(mine_a.f())",
        write.format(text.format(22)),
        "import importlib\nimportlib.reload(mine_a)\nprint(mine_a.f())",
        "print(mine_a.f())",
    )
    assert session.replay().ran == ()
    session.graph.edit_step("s1", "import mine_a\nmore = 1")
    assert session.replay().ran == ("s1",), "it is loaded already as it is there"
    for step in session.graph.steps:
        session.graph.mark_stale(step)
        session.replay()
        assert printed(session) == ["", "", "1", "", "22", "22"]


def test_modules_that_another_one_has_loaded(folder: Path) -> None:
    (folder / "mine_a.py").write_text("from mine_b import g\ndef f():\n    return g()")
    (folder / "mine_b.py").write_text("def g():\n    return 1")
    session = session_of("import mine_a", "import mine_a\nx = mine_a.f()", "print(x, mine_a.f())")
    for number, ran in (("2", "s0 s1 s2"), ("3", "s0 s1 s2")):
        (folder / "mine_b.py").write_text(f"def g():\n    return {number}")
        assert session.replay().ran == tuple(ran.split())
        assert printed(session)[2] == f"{number} {number}"
    session.graph.delete_step("s0")  # the one that loaded them
    assert session.replay().ran == ()
    (folder / "mine_b.py").write_text("def g():\n    return 4")
    assert session.replay().ran == ("s1", "s2")
    assert printed(session) == ["", "4 4"]


def test_a_module_of_a_package(folder: Path) -> None:
    (folder / "pack").mkdir()
    (folder / "pack" / "__init__.py").write_text("")
    (folder / "pack" / "part.py").write_text("v = 1")
    session = session_of("import pack", "from pack import part", "print(part.v)")
    (folder / "pack" / "part.py").write_text("v = 2")
    session.replay()
    assert printed(session)[2] == "2"


def test_modules_of_the_host_stay(folder: Path) -> None:
    (folder / "mine_a.py").write_text("v = 1")
    __import__("mine_a")
    module = sys.modules["mine_a"]
    session = session_of("import mine_a\nprint(mine_a.v)")
    (folder / "mine_a.py").write_text("v = 2")
    session.replay()
    assert sys.modules["mine_a"] is module


def test_a_module_whose_file_no_step_makes_any_more(folder: Path) -> None:
    write = "with open('mine_a.py', 'w') as file:\n    file.write('v = 1')"
    session = session_of(
        write,
        "import mine_a",
        "import os\nos.remove('mine_a.py')",
        "import mine_a\nprint(mine_a.v)",
    )
    session.graph.mark_stale("s3")
    assert session.replay().ran == ("s3",)
    assert session.results["s3"].stdout == "1\n"
    session.graph.edit_step("s0", "pass")
    session.graph.edit_step("s2", "pass")
    session.replay()
    failure = session.results["s1"].failure
    assert failure is not None
    assert failure.type == "ModuleNotFoundError"
    session.graph.edit_step("s0", write.replace("1", "2"))
    session.replay()
    assert session.results["s3"].stdout == "2\n"


def test_imports_that_load_nothing_cost_next_to_nothing(folder: Path) -> None:
    (folder / "mine_a.py").write_text("def f():\n    import json\n    return json\n")
    with quick():
        session = session_of("import mine_a\nfor _ in range(20_000): mine_a.f()\nmine_a.k = 1")
    assert session.results["s0"].ok


def test_a_step_that_writes_the_module_that_it_loads_loads_it_anew(folder: Path) -> None:
    write = "with open('mine_a.py', 'w') as file:\n    file.write('v = {}')\nimport mine_a"
    (folder / "mine_a.py").write_text("v = 1")  # as it was left by a session that is gone
    session = session_of(write.format(1), "print(mine_a.v)")
    for number in (2, 3, 1):
        session.graph.edit_step("s0", write.format(number))
        assert session.replay().ran == ("s0", "s1")
        assert printed(session)[1] == str(number)
