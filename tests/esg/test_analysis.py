"""Rows 1, 16, 17, 19, 25 and 30 of the features: what the text of a step tells."""

from __future__ import annotations

import os
import shutil
import subprocess
import warnings
from pathlib import Path

import pytest

from lorimer.esg import ExecutionStateGraph, get_reads, get_writes
from lorimer.esg.analysis.text import BUILTINS, analyse
from tests.esg.programs import EVERY, PROGRAMS, Program, annotated


@pytest.mark.parametrize("program", [*PROGRAMS, *annotated()], ids=lambda each: each.name)
def test_row_16_17_19_25_a_program_reads_and_writes_exactly_that(program: Program) -> None:
    told = analyse(program.source)
    assert sorted(told.reads - BUILTINS) == program.reads.split()
    assert sorted(told.writes) == program.writes.split()
    assert (told.reads_unknown or told.writes_unknown) is program.unknown
    assert told.kills <= told.writes


def test_there_are_150_programs_with_names_of_their_own() -> None:
    assert len(EVERY) >= 150
    assert len({each.name for each in EVERY}) == len(EVERY)
    assert len({each.source for each in EVERY}) >= len(EVERY) - 1


def test_row_1_the_examples_of_the_seed() -> None:
    assert get_reads("z = y * 2") == {"y"}
    assert get_writes("x = 5; y = x + 3") == {"x", "y"}


def test_what_only_may_be_written_is_no_kill() -> None:
    assert analyse("if c:\n    x = 1\ny = 2\nd[k] = 3").kills == {"y"}


def test_text_that_is_no_python_says_where() -> None:
    with pytest.raises(SyntaxError) as raised:
        get_reads("x = 1\ny = (")
    assert raised.value.lineno == 2


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14"])
def test_other_interpreters_agree(version: str) -> None:
    """The analysis needs the standard library alone, so any Python that is here can be asked."""
    python = _interpreter(version)
    if python is None:
        pytest.skip(f"there is no Python {version} here")
    root = Path(__file__).parents[2]
    script = (
        "from tests.esg.programs import PROGRAMS, annotated\n"
        "from lorimer.esg.analysis.text import BUILTINS, analyse\n"
        "every = [*PROGRAMS, *annotated()]\n"
        "for each in every:\n"
        "    told = analyse(each.source)\n"
        "    found = ' '.join(sorted(told.reads - BUILTINS)), ' '.join(sorted(told.writes))\n"
        "    assert found == (each.reads, each.writes), (each, found)\n"
        "print(len(every))\n"
    )
    done = subprocess.run(
        [python, "-c", _ALONE + script],
        env={"PYTHONPATH": str(root), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 150


_ALONE = (
    "import sys, types\n"  # the packages above it need what this interpreter has not installed
    "for name in ('lorimer', 'lorimer.esg'):\n"
    "    module = types.ModuleType(name)\n"
    "    module.__path__ = [f'{sys.path[1]}/src/' + name.replace('.', '/')]\n"
    "    sys.modules[name] = module\n"
)


def _interpreter(version: str) -> str | None:
    """One on the path, or of pyenv, that starts."""
    installed = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
    for python in [shutil.which(f"python{version}"), *map(str, installed)]:
        command = [python or "", "-c", "pass"]
        if python and not subprocess.run(command, capture_output=True, check=False).returncode:
            return python
    return None


@pytest.mark.parametrize("text", [r"x = '\d'", r"x = '\777'", r'x = b"\N"'])
def test_what_the_parser_warns_of_is_left_to_the_run(text: str) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert get_writes(text) == {"x"}
        graph = ExecutionStateGraph()
        graph.add_step("a", text)
        graph.edit_step("a", f"{text}  # again")
    assert not told
