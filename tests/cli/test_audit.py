"""`lorimer audit`."""

from __future__ import annotations

import json
from pathlib import Path

import apsw
import pytest

from lorimer.core.request import Usage
from lorimer.run.audit.log import AuditLog
from lorimer.run.audit.port import AuditClose, AuditStart, AuditTool
from lorimer.run.stores.sqlite_audit import SQLiteAudit
from lorimer.testing import SimulatedWorld, simulate
from tests.cli.support import invoke, lines

KEY = "a key that is long enough"


@pytest.fixture
def kept(own_place: Path) -> Path:
    path = own_place / "audit.db"

    async def main(world: SimulatedWorld) -> None:
        log = AuditLog(SQLiteAudit(path), key=KEY.encode(), world=world, threads=False)
        for run, caller, parent in (("r1", "bob", ""), ("r2", "eve", "r1"), ("r3", "bob", "r2")):
            begun = await log.start(AuditStart(run, "a", "reviewer", caller, parent_run_id=parent))
            begun.tool(AuditTool("c", "search", {"query": "\x1b[31mships"}))
            if run != "r3":
                await begun.close(AuditClose("ok", "fine", 1, 2.0, Usage(5, 5), 1_500_000))
        await log.close()

    simulate(main)
    return path


def test_runs_are_listed_and_shown(kept: Path) -> None:
    listed = invoke("audit", "ls", "audit.db")
    assert listed.exit_code == 0
    r3, r2, r1 = listed.stdout.splitlines()
    assert r3.startswith("r3  ") and r3.endswith("reviewer for bob  no end")
    assert r1.endswith("reviewer for bob  ok (2.0 s, 1 call, $0.0015)")
    bobs = lines(invoke("audit", "ls", "audit.db", "--caller", "bob", "--json").stdout)
    assert [each["run_id"] for each in bobs] == ["r3", "r1"] and bobs[0]["close"] is None
    assert "eve" in r2
    assert invoke("audit", "ls", "audit.db", "--unfinished").stdout.splitlines() == [r3]

    shown = invoke("audit", "show", "audit.db", "r2")
    assert shown.exit_code == 0 and "\x1b[31m" not in shown.stdout
    assert [line.split()[2] for line in shown.stdout.splitlines()[:3]] == ["start", "tool", "close"]
    assert shown.stdout.splitlines()[3:] == ["part of r1  reviewer", "began r3  reviewer"]
    kinds = [
        each["kind"] for each in lines(invoke("audit", "show", "audit.db", "r3", "--json").stdout)
    ]
    assert kinds == ["start", "tool"]


@pytest.mark.parametrize(
    "number",
    ["1e999", "-1e999", f"1{'0' * 400}", "1" * 5_000],
    ids=["infinite", "minus", "no float", "no int"],
)
@pytest.mark.parametrize("place", ["$.time", "$.data.time", "$.data.runtime_s", "$.data.cost_nano"])
def test_a_record_with_a_number_that_is_none_hides_no_other(
    kept: Path, number: str, place: str
) -> None:
    db = apsw.Connection(str(kept))
    db.execute("UPDATE audit SET body = json_set(body, ?, json(?))", (place, number))
    db.close()
    for words in (["ls"], ["show"]):
        run = ["r2"] * (words == ["show"])
        for form in ([], ["--json"]):
            told = invoke("audit", *words, "audit.db", *run, *form)
            assert told.exit_code in (0, 2), told.stderr
            assert "unexpected" not in told.stderr


def test_a_log_is_verified_with_its_key_and_from_a_head_on(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIT_KEY", KEY)
    words = ("audit", "verify", "audit.db", "--key-env", "AUDIT_KEY")
    good = invoke(*words)
    told, head = good.stdout.splitlines()
    assert (good.exit_code, told) == (0, "✓ 8 records: nothing is wrong")
    assert invoke(*words, "--head", head.split()[1]).exit_code == 0
    as_json = json.loads(invoke(*words, "--json").stdout)
    assert as_json == {"ok": True, "records": 8, "bad": None, "what": "", "head": head.split()[1]}
    db = apsw.Connection(str(kept))
    db.execute("UPDATE audit SET body = replace(body, 'fine', 'grim') WHERE seq = 3")
    db.close()
    bad = invoke(*words)
    as_json = invoke(*words, "--json")
    assert (as_json.exit_code, json.loads(as_json.stdout)["bad"]) == (1, 3)
    assert (bad.exit_code, bad.stdout) == (1, "✗ record 3 was changed, or is another\n")
    unkeyed = invoke("audit", "verify", "audit.db")
    assert "another key" in unkeyed.stdout and "--key-env" in unkeyed.stderr
    assert "--key-env" not in bad.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["ls", "nothing.db"], 2, "does not exist"),
        (["show", "audit.db", "r9"], 2, "nothing is recorded of a run 'r9'"),
        (["verify", "audit.db", "--key-env", "NOT_SET"], 2, "NOT_SET is not set"),
        (["verify", "audit.db", "--head", "x"], 2, "not a head of an audit"),
        (["ls", "other.db"], 4, "not a store of the kernel"),
        (["ls", "text"], 4, "not a SQLite database"),
    ],
    ids=["no file", "no run", "no key", "not a head", "other", "text"],
)
def test_what_is_wrong_is_said_in_a_line(
    kept: Path, words: list[str], code: int, said: str
) -> None:
    db = apsw.Connection(str(kept.with_name("other.db")))
    db.execute("CREATE TABLE mine(x)")
    db.close()
    kept.with_name("text").write_text("no database, " * 100)
    result = invoke("audit", *words)
    assert result.exit_code == code and said in result.stderr
    assert "Traceback" not in result.stderr
