"""Steps that only look at arrays: what they are lent is not compared. Those that write are told."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from lorimer.esg.analysis.looking import FUNCTIONS, METHODS, only_looks
from lorimer.esg.values import quick
from tests.esg.sessions import natively, session_of

np: Any = pytest.importorskip("numpy")

BEGIN = "import numpy as np\na = np.arange(20_000.0)[::-1].copy()\nb = np.zeros(20_000)\nk = 3"

LOOKS = [
    "c = np.sort(np.sin(a) * k)",
    "c = a[a > k].mean() + float(a[-1]) - len(b)",
    "c, d = np.histogram(a, bins=k)",
    "c = np.where(a > 1, a, b)[::2].T\nd = c if k else (c, [c, -c ** 2])",
    "c: object = a.reshape(100, 200).sum(axis=0).astype(np.float32)",
    "np.percentile(a, [5, 95]) / np.pi",
]
WRITES = [
    "np.sin(a, a)",
    "np.sin(a, out=a)",
    "np.add(a, 1, a)",
    "np.sin(*[a, a])",
    "np.sin(a, **{'out': a})",
    "np.clip(a, 2, k, a)",
    "np.round(a / 7, 0, a)",
    "np.cumsum(a, 0, None, a)",
    "np.median(a, overwrite_input=True)",
    "np.copyto(a, 1)",
    "np.add.at(a, 0, 5)",
    "np.random.default_rng(0).shuffle(a)",
    "(f := np.copyto)(a, 1)",
    "c = np.add\nc(a, 1, a)",
    "a.sort()",
    "a.T.sort()",
    "a.fill(1)",
    "a.clip(2, k, a)",
    "np.sqrt(b, b)\na.conj(a)\na.cumsum(0, None, a)",
    "c = a\nc += 1",
    "c = np.asarray(a)\nc[0] = 7",
    "a[:] = 1",
    "a.flat = 1",
    "a.shape = (100, 200)",
    "for c in a.reshape(100, 200):\n    c.sort()",
    "[c.sort() for c in a.reshape(100, 200)]",
    "(lambda: a.sort())()",
    "def f():\n    a.sort()\nf()",
    "b = (k, a.sort())",
    "with np.errstate(all='ignore'):\n    a -= 1",
    "del a",
    "np = a\nnp.sort()",
]
HIDDEN = {
    "a function": ("def g(x):\n    a.sort()\n    return x", "c = g(k) + a[0]"),
    "a function named as one of Python's": (
        "def abs(x):\n    a.sort()\n    return x",
        "c = abs(a)",
    ),
    "a number of one's own": (
        "class K(float):\n    def __mul__(self, x):\n        a.sort()\n        return x\nk = K(3)",
        "c = k * 2 + a[0]",
    ),
    "lent before what writes": (
        "class K:\n    def __radd__(self, x):\n        a.sort()\n        return x\nz = K()",
        "c = a[0] + z",
    ),
    "numpy, patched": ("np.sin = np.ndarray.sort", "c = np.sin(a)"),
    "an array of objects": (
        "class K:\n    def __add__(self, x):\n        a.sort()\n        return x\n"
        "z = np.array([K()])",
        "c = z + 1 + a[0]",
    ),
}


CALLED_BACK = {
    "when a number overflows": (
        "np.seterrcall(lambda kind, flag: a.sort())\nold = np.seterr(all='call')",
        "c = a / b",
    ),
    "when a number is shown": (
        "def shown(x):\n    a.sort()\n    return str(x)\n"
        "np.set_printoptions(formatter={'float': shown})",
        "a[:2]",
    ),
}


@pytest.fixture
def digests(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the large arrays that were read to tell what they hold."""
    found = list[int]()
    real = quick.digest

    def counted(array: Any) -> bytes:
        if array.nbytes > 64 * 1024:
            found.append(array.nbytes)
        return real(array)

    monkeypatch.setattr(quick, "digest", counted)
    return found


@pytest.mark.parametrize("source", LOOKS)
def test_what_a_step_only_looks_at_is_not_read_again(source: str, digests: list[int]) -> None:
    last = "e = a.sum() + k"
    session = session_of(BEGIN, source, last)
    assert digests == []
    session.graph.edit_step("s0", BEGIN.replace("k = 3", "k = 4"))
    assert session.replay().ran[0] == "s0"
    assert session.namespace()["e"] == natively([session.graph.source("s0"), last])["e"]


@pytest.mark.parametrize("source", [*WRITES, *(each for _, each in HIDDEN.values())])
def test_by_its_text_alone_none_of_those_that_write_only_looks(source: str) -> None:
    assert not only_looks(source) or source in {each for _, each in HIDDEN.values()}


END = "total = 0 if 'a' not in globals() else (a.shape, float(a.ravel()[:7].sum()), float(a.sum()))"


@pytest.mark.filterwarnings("ignore:Setting the shape:DeprecationWarning")  # since NumPy 2.5
@pytest.mark.parametrize("source", WRITES)
def test_what_a_step_writes_is_seen(source: str) -> None:
    _is_sound(BEGIN, "pass", source, END)


@pytest.mark.parametrize("hidden", HIDDEN)
def test_what_a_step_writes_by_what_it_is_lent_is_seen(hidden: str) -> None:
    before, source = HIDDEN[hidden]
    original = np.sin
    try:
        _is_sound(BEGIN, before, source, END)
    finally:
        np.sin = original


@pytest.mark.parametrize("when", CALLED_BACK)
def test_what_numpy_calls_may_write(when: str) -> None:
    before, source = CALLED_BACK[when]
    assert only_looks(source)
    options, errors, call = np.get_printoptions(), np.geterr(), np.geterrcall()
    try:
        session = session_of(BEGIN, before, source, "total = float(a[0])")
    finally:
        np.set_printoptions(**options)
        np.seterr(**errors)
        np.seterrcall(call)
    assert "a" in session.results["s2"].writes
    assert session.namespace()["total"] == 0.0


def _is_sound(*sources: str) -> None:
    """As in one namespace, also after the step that writes has been edited away and put back."""
    session = session_of(*sources)
    assert session.namespace()["total"] == natively(sources)["total"]
    session.graph.edit_step("s2", "m = 1")
    assert session.replay().ok
    assert session.namespace()["total"] == natively([*sources[:2], "m = 1", sources[3]])["total"]
    session.graph.edit_step("s2", sources[2])
    assert session.replay().ok
    assert session.namespace()["total"] == natively(sources)["total"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_with_so_many_arguments_writes_to_none(name: str) -> None:
    """Whatever they are: arrays of any type that might be written to."""
    function = getattr(np, name)
    for kind in (float, int, bool, complex):
        for count in range(1, FUNCTIONS[name] + 1):
            _writes_nothing(lambda *each: function(*each), kind, count)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_method_with_so_many_arguments_writes_to_nothing(name: str) -> None:
    for kind in (float, int, bool, complex):
        for count in range(1, min(METHODS[name], 4) + 2):
            _writes_nothing(lambda first, *more: getattr(first, name)(*more), kind, count)


def _writes_nothing(call: Any, kind: type, count: int) -> None:
    for shape in ((6,), (2, 3), (3, 3), (1,), ()):
        given = [np.array(np.arange(9, 0, -1)[: int(np.prod(shape))].reshape(shape), dtype=kind)
                 for _ in range(count)]  # fmt: skip
        before = [each.tobytes() for each in given]
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                call(*given)
            except (TypeError, ValueError, IndexError, OverflowError, np.linalg.LinAlgError):
                pass
        assert [each.tobytes() for each in given] == before
