"""What an editor says of programs that use Lorimer: nothing of right ones, and of wrong ones each
fault, before anything runs."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

import lorimer
from lorimer import PipelinePresets
from lorimer.core.result import STATUSES
from lorimer.session import SessionManager
from lorimer.tools import EFFECTS
from lorimer.tools.policy.modes import Mode, ModeName

PROGRAMS = Path(__file__).parent / "editors"
RED = "  # red"


def test_right_programs_are_clean_and_wrong_calls_are_red(tmp_path: Path) -> None:
    tool = shutil.which("basedpyright", path=str(Path(sys.executable).parent))
    assert tool is not None
    for program in PROGRAMS.glob("*.txt"):
        shutil.copy(program, tmp_path / f"{program.stem}.py")
    source = Path(lorimer.__file__).parent.parent
    settings = {"typeCheckingMode": "strict", "extraPaths": [str(source)], "pythonVersion": "3.11"}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    done = subprocess.run(
        [tool, "--outputjson", "--pythonpath", sys.executable, str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    found = json.loads(done.stdout)["generalDiagnostics"]
    red = {
        (Path(each["file"]).stem, each["range"]["start"]["line"]): each["message"]
        for each in found
        if each["severity"] == "error"
    }
    expected = {
        (program.stem, number)
        for program in PROGRAMS.glob("*.txt")
        for number, line in enumerate(program.read_text("utf-8").splitlines())
        if line.endswith(RED)
    }
    assert {at: why for at, why in red.items() if at not in expected} == {}
    assert expected - set(red) == set(), "these lines are wrong, and nobody says so"


def test_names_that_are_written_as_text_are_those_that_exist() -> None:
    assert get_args(ModeName) == tuple(mode.value for mode in Mode)
    assert {"ok", "suspended"} < set(STATUSES)
    assert {"read", "write"} < EFFECTS


@pytest.mark.parametrize(
    "module", ["", ".run", ".run.stores", ".journal", ".models", ".tools", ".session", ".testing"]
)
def test_what_completes_after_a_dot_is_all_that_is_public(module: str) -> None:
    opened = importlib.import_module(f"lorimer{module}")
    offered = {name for name in dir(opened) if not name.startswith("_")}
    assert set(opened.__all__) <= offered
    assert not {"TYPE_CHECKING", "import_module", "annotations"} & offered


def test_what_a_notebook_shows_of_a_pipeline_and_a_session() -> None:
    pipeline = PipelinePresets.chat(model="scripted:echo")
    assert repr(pipeline) == "<Pipeline 'chat': 12 stages, scripted:echo>"
    session = SessionManager().create(pipeline, "alice")
    assert repr(session) == f"<Session 'alice' of {pipeline!r}>"
