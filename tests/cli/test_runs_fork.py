"""`lorimer runs fork`."""

from __future__ import annotations

import os
from pathlib import Path

from lorimer.testing.fake_server import FakeLLMServer, Turn
from tests.cli.support import invoke, last_run, lines
from tests.cli.test_runs import finished


def forked(*words: str) -> tuple[str, FakeLLMServer]:
    """Fork a finished run; the run, and what the model's server was asked."""
    run = finished()
    with FakeLLMServer([Turn(text="Done otherwise.")]) as server:
        result = invoke("runs", "fork", run[:12], *words, "--base-url", server.url)
        assert result.exit_code == 0, result.stderr
        assert result.stdout == "Done otherwise.\n"
    return run, server


def test_the_model_is_asked_again_after_that_turn(own_place: Path) -> None:
    run, server = forked("--after", "1", "-m", "claude-opus-4-6")
    written = (own_place / "a.txt").stat().st_mtime_ns
    [request] = server.requests
    assert request.body["model"] == "claude-opus-4-6"
    messages = request.body["messages"]
    assert isinstance(messages, list)
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert (own_place / "a.txt").stat().st_mtime_ns == written
    fork = last_run()
    shown = invoke("runs", "show", fork).stdout
    assert f"  forked of {run} after turn 1" in shown
    assert "  task   Tidy up this folder" in shown
    assert invoke("runs", "verify", "--all").exit_code == 0
    assert invoke("runs", "replay", fork).exit_code == 0
    head, first, *_ = lines(invoke("runs", "export", fork).stdout)
    assert len(head["messages"]) == 3  # type: ignore[arg-type]
    assert first["data"]["parent"] == {"run": run, "iteration": 0}  # type: ignore[index, call-overload]


def test_with_a_prompt_it_goes_on_with_that() -> None:
    _, server = forked("--after", "3", "And now tidy the rest.")
    messages = server.requests[0].body["messages"]
    assert isinstance(messages, list)
    assert len(messages) == 7
    assert "And now tidy the rest." in str(messages[-1])


def test_what_cannot_be_forked(own_place: Path) -> None:
    run = finished()
    answer = invoke("runs", "fork", run, "--after", "3", "--base-url", "http://127.0.0.1:9")
    assert answer.exit_code == 2
    assert "Turn 3 of run" in answer.stderr
    assert "there is nothing to do after it" in answer.stderr
    late = invoke("runs", "fork", run, "--after", "9", "x", "--base-url", "http://127.0.0.1:9")
    assert "cannot be forked after turn 9: 3 of its turns are over" in late.stderr
    assert f"hint: lorimer runs show {run} shows its turns." in late.stderr
    store = os.environ["LORIMER_STORE"]
    words = ("--after", "9", "x", "--base-url", "http://127.0.0.1:9", "--store", store)
    late = invoke("runs", "fork", run, *words)
    assert f"hint: lorimer runs show --store {store} {run} shows its turns." in late.stderr
    assert invoke("runs", "fork", "run_zzz", "--after", "1").exit_code == 2
    assert invoke("runs", "fork", run).exit_code == 2
    assert last_run() == run, "nothing was begun"


def test_the_hint_for_an_unknown_price_names_no_option_that_it_does_not_take() -> None:
    run = finished()
    Path("limited.yaml").write_text(
        "model: {model: 'openai:mine'}\nlimits: {max_cost_usd: 1}\nstages:\n"
        "  - {order: 1, name: input}\n  - {order: 2, name: context}\n  - {order: 6, name: api}\n"
        "  - {order: 9, name: parse}\n  - {order: 21, name: yield}\n"
    )
    words = ("--after", "1", "x", "--manifest", "limited.yaml", "--base-url", "http://127.0.0.1:9")
    told = invoke("runs", "fork", run, *words).stderr
    assert "exec.api.unpriced" in told
    assert "hint: Give its price in a host file, or take another model" in told
