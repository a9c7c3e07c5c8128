"""No secret in what the command line prints, writes or keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorimer.testing.fake_server import FakeLLMServer, Turn
from lorimer.testing.faults import Status
from tests.cli.support import by_turn, call, invoke, listed

KEY = "sk-ant-cnry-4Qx7TzB1v9fJ2k"
TOKEN = "ghp_cnry16C7e42F292c6912E7710c"
ODD = "cnry-of-an-odd-name-81tR"


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("GH_TOKEN", TOKEN)
    monkeypatch.setenv("ODD_NAME", ODD)


def kept(place: Path, *but: str) -> bytes:
    """Every byte of every file beneath `place`."""
    files = [path for path in place.rglob("*") if path.is_file() and path.name not in but]
    return b"".join([path.read_bytes() for path in files])


def test_a_run_its_recording_and_its_export(own_place: Path) -> None:
    (own_place / "notes.txt").write_text(f"{TOKEN} and {ODD}\n")
    said = f"It is {TOKEN}, with {ODD}."
    script = by_turn(call("Read", file_path="notes.txt"), Turn(text=tuple(said)))
    with FakeLLMServer(script) as server:
        words = [
            "run",
            f"read notes.txt with {TOKEN}",
            "--base-url",
            server.url,
            "--record",
            "r.jsonl",
        ]
        words += [
            "--api-key-env",
            "ODD_NAME",
            "--allow",
            f"Bash(echo {TOKEN})",
            "--tools",
            "Read,Bash",
        ]
        words += ["--output-format", "stream-json", "--include-partial-messages"]
        run = invoke(*words)
        assert run.exit_code == 0, run.stderr
        assert ODD in str(server.requests[0].headers), "to the provider it goes"
        assert TOKEN not in str([request.body for request in server.requests])
    run_id = str(listed()[0]["run_id"])
    shown = [run.stdout, run.stderr]
    for command in (("show", run_id), ("export", run_id), ("ls",), ("replay", run_id)):
        shown.append(invoke("runs", *command).output)
    everything = "\n".join(shown).encode() + kept(own_place, "notes.txt")
    for secret in (KEY, TOKEN, ODD):
        assert secret.encode() not in everything
    for name in ("GH_TOKEN", "anthropic key"):
        assert f"[redacted:{name}]".encode() in everything
        assert f"[redacted:{name}]".encode() in (own_place / "r.jsonl").read_bytes()


@pytest.mark.parametrize("debug", [(), ("--debug",)], ids=["plain", "debug"])
@pytest.mark.parametrize("secret", [TOKEN, KEY])
def test_errors_and_tracebacks(secret: str, debug: tuple[str, ...]) -> None:
    done = invoke(*debug, "run", "hi", "--preset", f"no-{secret}")
    assert done.exit_code == 2
    assert secret not in done.output and "[redacted:" in done.output
    assert ("Traceback" in done.output) is bool(debug)


def test_an_error_of_the_provider_that_repeats_the_key(own_place: Path) -> None:
    turn = Turn(text="x", faults=(Status(401, message=f"bad key {ODD} {TOKEN}"),))
    with FakeLLMServer(lambda _: turn) as server:
        words = ("run", "hi", "--base-url", server.url, "--api-key-env", "ODD_NAME", "--debug")
        done = invoke(*words)
    assert done.exit_code != 0
    everything = done.output.encode() + kept(own_place)
    assert ODD.encode() not in everything and TOKEN.encode() not in everything
