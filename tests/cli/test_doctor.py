"""`lorimer doctor`: what works, and what to do about the rest."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest

from tests.cli.support import invoke, lines

ROOT = Path(__file__).parents[2]


@pytest.fixture
def no_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told of other things does not wait for every level to be tried."""
    monkeypatch.setattr("lorimer.cli.doctor._sandbox", lambda: iter(()))


def test_all_is_well_without_a_key() -> None:
    result = invoke("doctor")
    assert result.exit_code == 0, result.stdout
    for name in ("python", "packages", "anthropic", "openai", "google", "sqlite", "store", "bash"):
        assert f" {name} " in result.stdout
    assert "ANTHROPIC_API_KEY is not set" in result.stdout
    assert "or without any: lorimer demo" in result.stdout


@pytest.mark.usefixtures("no_sandbox")
def test_all_that_can_be_installed_is_looked_at() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = {
        name: said for name, said in project["optional-dependencies"].items() if name != "all"
    }
    told = invoke("doctor").stdout
    for title, wanted in {"packages": project["dependencies"], **extras}.items():
        [line] = [line for line in told.splitlines() if f" {title} " in line[:14]]
        named = {part.split()[0] for part in line[16:].removeprefix("missing: ").split(", ")}
        known = {re.split("[<>=]", one)[0] for one in wanted}
        assert named == known or ("missing: " in line and named < known), title


@pytest.mark.usefixtures("no_sandbox")
def test_keys_are_named_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-not-to-be-shown")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://me:p4ssw0rd@localhost:8000/v1")
    result = invoke("doctor")
    assert "ANTHROPIC_API_KEY is set (anthropic)" in result.stdout
    assert "OPENAI_BASE_URL=http://***@localhost:8000/v1" in result.stdout
    assert "sk-not" not in result.output
    assert "p4ssw0rd" not in result.output
    assert "GEMINI_API_KEY is not set (google)" in result.stdout
    monkeypatch.setenv("GOOGLE_API_KEY", "sk-not-to-be-shown")
    assert "GOOGLE_API_KEY is set (google)" in invoke("doctor").stdout


@pytest.mark.usefixtures("no_sandbox")
def test_which_wire_of_openai_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "LORIMER_OPENAI_API" not in invoke("doctor").stdout
    monkeypatch.setenv("LORIMER_OPENAI_API", "chat")
    told = invoke("doctor").stdout
    assert "OPENAI_API_KEY is not set (openai), LORIMER_OPENAI_API=chat" in told
    assert "no wire" not in told
    monkeypatch.setenv("LORIMER_OPENAI_API", "soap")
    told = invoke("doctor")
    assert "OpenAI has no wire 'soap'" in told.stdout
    assert "Set LORIMER_OPENAI_API to responses or chat" in told.stdout


@pytest.mark.usefixtures("no_sandbox")
def test_a_broken_store_is_told_and_ends_with_1(own_place: Path) -> None:
    (own_place / "broken.db").write_bytes(b"not a database, but long enough to be one" * 100)
    result = invoke("doctor", "--store", "broken.db")
    assert result.exit_code == 1
    assert "✗ store" in result.stdout
    assert "1 of these has to be fixed first." in result.stdout
    as_json = invoke("doctor", "--store", "broken.db", "--json")
    assert as_json.exit_code == 1
    [store] = [each for each in lines(as_json.stdout) if each["state"] == "bad"]
    assert store["what"] == "store" and "not a SQLite database" in str(store["found"])


def test_a_sandbox_that_is_required_and_missing_is_told_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lorimer.world.sandbox.bubblewrap.found", lambda *_: None)
    result = invoke("run", "--sandbox", "require", "-m", "scripted:obedient", "hi")
    assert result.exit_code == 2
    assert "Sandbox level L2 is required and does not work here" in result.stderr
    assert "--sandbox auto" in result.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="sandboxes are for Linux")
def test_every_level_is_tried() -> None:
    result = invoke("doctor")
    assert "of 12 probes held" in result.stdout
    assert "outlives a kill -9 of ours" in result.stdout
    findings = lines(invoke("doctor", "--json").stdout)
    assert all(each["what"] and each["found"] for each in findings)
    [sandbox] = [each for each in findings if each["what"] == "sandbox"]
    held = sandbox["held"]
    assert isinstance(held, dict)
    assert len(held) == 12
    assert all(
        isinstance(levels, dict) and levels["L0"] in (True, False) for levels in held.values()
    )


@pytest.mark.usefixtures("no_sandbox")
def test_a_store_where_none_can_be_made(own_place: Path) -> None:
    (own_place / "notes").write_text("no folder", "utf-8")
    result = invoke("doctor", "--store", "notes/runs.db")
    assert result.exit_code == 1
    assert "notes is not a folder" in result.stdout
