"""Expressions of sympy: they cannot change, whatever they are asked."""

from __future__ import annotations

import pytest

from lorimer.esg import StepExecutor
from tests.esg.sessions import session_of

SYMBOLS = "from sympy import *\nx, y = symbols('x y')"


def _ran(session: StepExecutor, step: str, source: str) -> tuple[str, ...]:
    session.graph.edit_step(step, source)
    replay = session.replay()
    assert replay.ok
    return replay.ran


@pytest.mark.parametrize("nothing", ["None", "3"])
def test_row_20_a_class_that_is_from_nowhere(nothing: str) -> None:
    session = session_of(
        f"class A:\n    k = 1\nA.__module__ = {nothing}", "a = A()", "a.k", "[a][0].k"
    )
    assert session.results["s3"].shown == "1"


@pytest.mark.loads("sympy")
def test_row_20_an_expression_is_not_changed_by_what_it_is_asked() -> None:
    session = session_of(
        SYMBOLS,
        "e = (x + y) ** 3",
        "hash(e), e.is_real, pi.is_real, x.is_positive",
        "g = e.expand()",
        "simplify(g - e), limit(sin(x) / x, x, 0)",
        "len(g.args)",
    )
    assert _ran(session, "s2", "e.is_positive, pi.is_rational, hash(e)") == ("s2",)
    assert _ran(session, "s4", "factor(g)") == ("s4",)
    assert session.results["s4"].shown == "(x + y)**3"
    assert _ran(session, "s1", "e = (y + x) * (x + y) ** 2") == ("s1",)
    assert _ran(session, "s1", "e = (x + y) ** 2") == ("s1", "s2", "s3", "s4", "s5")
    assert session.results["s5"].shown == "3"


@pytest.mark.loads("sympy")
def test_row_20_what_is_assumed_of_a_symbol_belongs_to_it() -> None:
    session = session_of(SYMBOLS, "f = Function('f')", "sqrt(x ** 2)", "f(y).is_positive")
    ran = _ran(
        session, "s0", "from sympy import *\nx = symbols('x', positive=True)\ny = symbols('y')"
    )
    assert ran == ("s0", "s2")
    assert session.results["s2"].shown == "x"
    assert _ran(session, "s1", "f = Function('f', positive=True)") == ("s1", "s3")
    assert session.results["s3"].shown == "True"


@pytest.mark.loads("sympy")
def test_row_20_a_function_of_one_s_own_belongs_to_its_expressions() -> None:
    own = "class my(Function):\n    def fdiff(self, n=1):\n        return {}(self.args[0])"
    session = session_of(SYMBOLS, own.format("cos"), "m = 2 * my(x)", "m.diff(x)", "y + 1")
    assert _ran(session, "s1", own.format("sin")) == ("s1", "s2", "s3")
    assert session.results["s3"].shown == "2*sin(x)"


@pytest.mark.loads("sympy")
def test_row_20_a_matrix_can_change_and_its_elements_cannot() -> None:
    session = session_of(
        SYMBOLS, "A = Matrix([[1, x], [y, 2]])", "A.det()", "A[0, 0] = 5", "A.trace()", "x * y"
    )
    assert _ran(session, "s3", "A[0, 0] = 6") == ("s3", "s4")
    assert session.results["s4"].shown == "8"
    assert session.results["s2"].shown == "-x*y + 2"


@pytest.mark.loads("sympy")
def test_row_20_deep_and_shared_expressions_are_told_once() -> None:
    session = session_of(
        SYMBOLS,
        "e = x\nfor _ in range(300):\n    e = Add(Mul(e, e, evaluate=False), 1, evaluate=False)",
        "d = e",
        "y",
    )
    assert _ran(session, "s3", "y + 1") == ("s3",)
    assert _ran(session, "s0", SYMBOLS.replace("x y", "z y")) == ("s0", "s1", "s2")
