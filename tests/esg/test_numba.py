"""Sessions with functions and containers that numba has compiled, where it is installed."""

from __future__ import annotations

import pytest

from tests.esg.sessions import session_of

pytest.importorskip("numba")

PROGRAMS: dict[str, tuple[list[str], list[tuple[int, str]]]] = {
    "globals that are compiled in stay what they were": (
        [
            "from numba import njit",
            "k = 3",
            "@njit\ndef f(x):\n    return x * k",
            "y = f(2)",
            "k = k + 1",
            "out = (y, f(2), k)",
        ],
        [(1, "k = 5"), (2, "@njit\ndef f(x):\n    return x * k + 1"), (4, "k = k + 10")],
    ),
    "an argument that is changed in place": (
        [
            "import numpy as np\nfrom numba import njit",
            "@njit\ndef fill(a, v):\n    for i in range(a.size):\n        a[i] += v",
            "a = np.zeros(10)",
            "fill(a, 2.0)",
            "fill(a, 3.0)",
            "out = a.sum()",
        ],
        [(2, "a = np.ones(12)"), (3, "fill(a, 5.0)"), (4, "pass")],
    ),
    "a container of its own": (
        [
            "from numba.typed import List",
            "items = List()\nfor i in range(3): items.append(i)",
            "items.append(7)",
            "out = [*items]",
        ],
        [(1, "items = List()\nitems.append(4)"), (2, "items.append(9)"), (2, "items[0] = 50")],
    ),
    "a class": (
        [
            "from numba import float64\nfrom numba.experimental import jitclass",
            "@jitclass([('v', float64)])\nclass B:\n    def __init__(self, v):\n"
            "        self.v = v\n    def add(self, d):\n        self.v += d",
            "b = B(1.0)",
            "b.add(2.0)",
            "out = b.v",
        ],
        [(2, "b = B(10.0)"), (3, "b.add(3.0)")],
    ),
    "one that calls another": (
        [
            "from numba import njit\n@njit\ndef a(x):\n    return x + 1",
            "@njit\ndef b(x):\n    return a(x) * 2",
            "out = b(3)",
        ],
        [(0, "from numba import njit\n@njit\ndef a(x):\n    return x + 5"), (2, "out = b(4)")],
    ),
    "a function of numpy's kind": (
        [
            "import numpy as np\nfrom numba import vectorize",
            "c = 2.0",
            "@vectorize\ndef g(a, b):\n    return a * b + 1",
            "out = g(np.arange(4.0), c).tolist()",
        ],
        [(1, "c = 3.0"), (2, "@vectorize\ndef g(a, b):\n    return a * b + 2")],
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_replay_ends_where_plain_python_ends(name: str) -> None:
    program, edits = PROGRAMS[name]
    steps = [*program]
    session = session_of(*steps)
    for index, source in [*edits, *((index, program[index]) for index, _ in edits)]:
        steps[index] = source
        session.graph.edit_step(f"s{index}", source)
        replay = session.replay()
        plain: dict[str, object] = {"__name__": "__main__"}
        for step in steps:
            exec(step, plain)
        assert not replay.failed, (index, source)
        assert session.namespace()["out"] == plain["out"], (index, source)
