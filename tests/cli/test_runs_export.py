"""`lorimer runs export`."""

from __future__ import annotations

import stat
from pathlib import Path

from lorimer.journal.export import read_export
from lorimer.journal.verify import verify_recording
from tests.cli.support import invoke, lines
from tests.cli.test_runs import finished


def test_a_run_on_stdout_and_in_a_file(own_place: Path) -> None:
    run = finished()
    shown = invoke("runs", "export", run[:10])
    assert shown.exit_code == 0
    head, *facts = lines(shown.stdout)
    assert (head["run_id"], head["format"]) == (run, 1)
    assert facts == lines(invoke("runs", "show", run, "--json").stdout)
    assert invoke("runs", "export", run, "-o", "run.jsonl").stdout == ""
    path = own_place / "run.jsonl"
    assert path.read_text("utf-8") == shown.stdout
    assert stat.S_IMODE(path.stat().st_mode) == 0o600, "what a run has seen is its owner's"
    [again] = read_export(shown.stdout.splitlines())
    assert verify_recording(again) == []


def test_its_session_is_the_same_where_it_is_alone() -> None:
    run = finished()
    one, whole = (invoke("runs", "export", run, *words).stdout for words in ((), ("--session",)))
    assert read_export(one.splitlines()) == read_export(whole.splitlines())


def test_nothing_is_left_of_an_export_that_failed(own_place: Path) -> None:
    finished()
    (own_place / "run.jsonl").write_text("older")
    result = invoke("runs", "export", "run_zzz", "-o", "run.jsonl")
    assert result.exit_code == 2
    assert "there is no run 'run_zzz'" in result.stderr
    assert [path.name for path in own_place.iterdir() if "jsonl" in path.name] == ["run.jsonl"]
    assert (own_place / "run.jsonl").read_text() == "older"
    nowhere = invoke("runs", "export", "run_zzz", "-o", "no/such/place.jsonl")
    assert nowhere.exit_code != 0
    assert "no/such" in nowhere.stderr
