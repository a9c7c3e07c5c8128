"""`lorimer runs verify`."""

from __future__ import annotations

import shutil
from pathlib import Path

import apsw
import pytest

from tests.cli.support import in_terminal, invoke, lines, run_process
from tests.journal.stored.make import write


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kept") / "journal.db"
    write(path)
    return path


@pytest.fixture
def store(kept: Path, own_place: Path) -> Path:
    return Path(shutil.copy(kept, own_place / "kept.db"))


def test_a_good_store(store: Path) -> None:
    result = invoke("runs", "verify", "--all", "--store", "kept.db")
    assert (result.exit_code, result.stdout) == (0, "✓ 2 conversations: nothing is wrong\n")
    one = invoke("runs", "verify", "run_vek", "--store", "kept.db")
    assert (one.exit_code, one.stdout) == (0, "✓ run_vek: nothing is wrong\n")
    assert invoke("runs", "verify", "--all", "--json", "--store", "kept.db").stdout == ""


def test_a_terminal_is_shown_how_far_it_has_come(store: Path) -> None:
    db = apsw.Connection(str(store))
    db.execute("UPDATE runs SET cost=7 WHERE title='Hi'")
    db.close()
    words = ("runs", "verify", "--all", "--store", "kept.db")
    shown = in_terminal(*words, keys=[]).out
    assert "\r\x1b[K… checking conversation 1 of 2" in shown
    told = shown.index("list")  # of the finding
    assert shown.rindex("\r\x1b[K", 0, told) > shown.rindex("…", 0, told)  # it is wiped away
    assert run_process(*words).err == ""


def test_a_terminal_is_shown_no_number_of_one_alone(store: Path) -> None:
    shown = in_terminal("runs", "verify", "session_stored", "--store", "kept.db", keys=[]).out
    assert "\r\x1b[K… checking conversation\r\x1b[K" in shown


def test_no_name_is_no_conversation(store: Path) -> None:
    told = invoke("runs", "verify", "", "--store", "kept.db")
    assert (told.exit_code, told.stdout) == (2, "")
    assert "There is no run and no conversation ''" in told.stderr


def test_a_changed_store(store: Path) -> None:
    db = apsw.Connection(str(store))
    db.execute("UPDATE facts SET body=replace(body,'sent','lost')")
    db.execute("UPDATE runs SET cost=7 WHERE title='Hi'")
    db.close()
    result = invoke("runs", "verify", "session_stored", "--store", "kept.db")
    assert result.exit_code == 1
    first, second, last = result.stdout.splitlines()
    assert first.startswith("✗ session_stored #11  rows  its row is not as it was written")
    assert second.endswith("#17  list  the list of runs says cost_nano 7, its facts 810000")
    assert last == "✗ session_stored: 2 findings"
    found = lines(invoke("runs", "verify", "--all", "--json", "--store", "kept.db").stdout)
    assert [(f["in"], f["seq"], f["rule"]) for f in found] == [
        ("session_stored", 11, "rows"),
        ("session_stored", 17, "list"),
    ]


def test_wrong_words(store: Path) -> None:
    unknown = invoke("runs", "verify", "run_zzz", "--store", "kept.db")
    assert unknown.exit_code == 2
    assert "There is no run and no conversation 'run_zzz'" in unknown.stderr
    assert "hint: lorimer runs ls --store kept.db" in unknown.stderr
    assert invoke("runs", "verify", "run_a", "--all").exit_code == 2
    nothing = invoke("runs", "verify", "--store", "kept.db")
    assert nothing.exit_code == 2
    assert "hint: lorimer runs ls --store kept.db" in nothing.stderr
    wrong = invoke("runs", "verify", "--store", "kept.db", "--bad")
    assert "hint: lorimer runs verify --help" in wrong.stderr
    assert invoke("runs", "verify", "--all", "--store", "none.db").exit_code == 2


def test_a_damaged_run_is_listed_told_as_far_as_it_can_be_and_ended(store: Path) -> None:
    def damage(run: str, at: int) -> None:
        db = apsw.Connection(str(store))
        db.execute(
            "UPDATE facts SET body='[[' WHERE at=(SELECT stream << 32 | ? FROM runs "
            "WHERE run_id LIKE ?)",
            (at, f"{run}%"),
        )
        db.close()

    unfinished, alone = [
        str(row["run_id"])
        for row in lines(invoke("runs", "ls", "--json", "--store", "kept.db").stdout)
        if row["status"] in ("interrupted", "error")
    ]
    assert lines(invoke("runs", "show", unfinished, "--json", "--store", "kept.db").stdout)
    damage(unfinished, 25)
    damage(alone, 1)
    listed = lines(invoke("runs", "ls", "--json", "--store", "kept.db").stdout)
    assert [row["status"] for row in listed] == ["damaged", "ok", "error", "ok"]
    facts = invoke("runs", "show", unfinished, "--json", "--store", "kept.db")
    assert [fact["seq"] for fact in lines(facts.stdout)] == [22, 23, 24]
    assert (facts.exit_code, "fact 25 of" in facts.stderr) == (4, True)
    assert "lorimer runs verify --store kept.db --all" in facts.stderr
    for run in (unfinished, alone):
        shown = invoke("runs", "show", run, "--store", "kept.db")
        assert (shown.exit_code, "the rest of it is damaged" in shown.stdout) == (4, True)
    [session] = lines(invoke("sessions", "ls", "--json", "--store", "kept.db").stdout)
    assert (session["damaged"], session["runs"], session["iterations"]) == (True, 3, 4)
    ended = invoke("runs", "cancel", unfinished, "--store", "kept.db")
    assert ended.exit_code == 0, ended.stderr
    listed = lines(invoke("runs", "ls", "--json", "--store", "kept.db").stdout)
    assert (listed[0]["status"], listed[0]["held_usd"]) == ("cancelled", 0.0)
    assert listed[0]["total_cost_usd"], "as the ledger says"
