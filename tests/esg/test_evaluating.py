"""`eval` and `exec` in functions of steps: what they find, and who depends on whom by that."""

from __future__ import annotations

import pytest

from lorimer.esg import StepExecutor

DISPLAY = """
class display:
    def __init__(self, *args): self.args = args
    def __repr__(self): return '; '.join(repr(eval(each)) for each in self.args)
"""


def session_of(**steps: str) -> StepExecutor:
    session = StepExecutor()
    for step, source in steps.items():
        result = session.execute(step, source)
        assert result.ok, result.failure
    return session


def test_row_23_a_method_that_evaluates_reads_what_the_text_names() -> None:
    session = session_of(
        display=DISPLAY,
        a="a = [1]",
        b="b = [2]",
        show_a="display('a', 'len(a)', '[x for x in a]')",
        show_b="display('b')",
    )
    assert session.results["show_a"].shown == "[1]; 1; [1]"
    session.graph.edit_step("b", "b = [3]")
    assert session.replay().ran == ("b", "show_b")
    assert session.results["show_b"].shown == "[3]"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("return eval('  g + 1')", "6"),
        ("g = 1; return eval('g + 1')", "2"),
        ("return eval('g + h', {'h': 1, 'g': 2})", "3"),
        ("return eval('g + h', globals(), {'h': 1})", "6"),
        ("return eval(compile('g', 'x', 'eval'))", "5"),
        ("return eval('(lambda: g)()')", "5"),
        ("return eval(\"eval('g')\")", "5"),
        ("exec('global k; k = g + 2'); return k", "7"),
        ("found = {}; exec('class C:\\n    x = g', globals(), found); return found['C'].x", "5"),
        ("exec('y = g'); return eval('other(g)')", "10"),
        ("return sorted(n for n in globals() if n in ('eval', 'g'))", "['g']"),
        ("import builtins; return builtins.eval('g')", "5"),
        ("return [eval('g') for _ in 'a'][0]", "5"),
    ],
    ids=range(13),
)
def test_what_they_find_is_what_python_s_own_find(body: str, told: str) -> None:
    session = session_of(
        g="g = 5", other="def other(x): return x * 2", f=f"def f():\n    {body}", call="f()"
    )
    assert session.results["call"].shown == told
    session.graph.edit_step("g", "g = 6")
    session.replay()
    plain: dict[str, object] = {}
    exec(f"g = 6\ndef other(x): return x * 2\ndef f():\n    {body}", plain)
    assert session.results["call"].shown == repr(plain["f"]())  # pyright: ignore[reportCallIssue]


def test_an_error_within_shows_no_frame_of_ours() -> None:
    session = session_of(f="def f(): return eval('1 / zero')", zero="zero = 0")
    failure = session.execute("call", "f()").failure
    assert failure is not None and failure.type == "ZeroDivisionError"
    assert "evaluating" not in failure.traceback and 'File "<string>"' in failure.traceback
