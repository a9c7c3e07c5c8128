"""`lorimer runs diff`."""

from __future__ import annotations

from pathlib import Path

from lorimer.testing.fake_server import FakeLLMServer, Turn
from tests.cli.support import invoke, last_run, lines
from tests.cli.test_runs import finished


def answered(text: str) -> str:
    with FakeLLMServer([Turn(text=text)]) as server:
        assert invoke("run", "Tidy up\nthis folder", "--base-url", server.url).exit_code == 0
    return last_run()


def test_the_same_and_not_the_same(own_place: Path) -> None:
    one = finished()
    (own_place / "a.txt").unlink()
    two, other = finished(), answered("All is done.")
    same = invoke("runs", "diff", one[:12], two[:12])
    assert same.exit_code == 0
    assert same.stdout.splitlines()[-1] == "They are the same."
    different = invoke("runs", "diff", one, other)
    assert different.exit_code == 1
    shown = different.stdout.splitlines()
    assert shown[0].split() == [one[:12], other[:12]]
    assert shown[2].split() == ["turns", "3", "1"]
    text = "\n".join(shown)
    assert "turn 1 reply\n  - I use Write.\n  + All is done.\n" in text
    assert "turn 1 call 1\n  - Write\n  - file_path: a.txt\n  - content: first\n" in text
    assert "turn 1 end\n  - continue tool_calls\n  + complete end_turn\n" in text


def test_for_programs() -> None:
    one, other = answered("a"), answered("b")
    result = invoke("runs", "diff", one, other, "--json")
    assert result.exit_code == 1
    [found] = lines(result.stdout)
    assert found["differences"] == [
        {"iteration": 0, "kind": "reply", "key": "", "left": "a", "right": "b"}
    ]


def test_long_texts_are_cut_unless_asked_for() -> None:
    one, other = answered("a"), answered("\n".join(f"line {n}" for n in range(40)))
    assert "... 29 more lines (--full)" in invoke("runs", "diff", one, other).stdout
    assert "+ line 39" in invoke("runs", "diff", one, other, "--full").stdout


def test_a_run_that_is_not_there() -> None:
    result = invoke("runs", "diff", answered("a"), "run_zzz")
    assert result.exit_code == 2
    assert "there is no run 'run_zzz'" in result.stderr
