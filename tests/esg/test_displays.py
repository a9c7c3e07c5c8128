"""Figures and rich values: recorded with the step that shows them, and closed behind it."""

from __future__ import annotations

import base64
import sys
from types import ModuleType

import pytest

from lorimer.esg import StepExecutor
from lorimer.esg.execution.displays import MAX_BYTES


class Figure:
    """As much of a figure of matplotlib as is asked of one."""

    def __init__(self) -> None:
        self.lines: list[object] = []

    def savefig(self, file: object, *, format: str, dpi: int, bbox_inches: str) -> None:
        file.write(f"{format} {self.lines}".encode())  # pyright: ignore[reportAttributeAccessIssue]


class Pyplot(ModuleType):
    """As much of pyplot."""

    def __init__(self) -> None:
        super().__init__("matplotlib.pyplot")
        self.figures: dict[int, Figure] = {}

    def plot(self, *values: object) -> None:
        number = max(self.figures, default=0)
        self.figures.setdefault(number or 1, Figure()).lines += values

    def figure(self, number: int) -> Figure:
        return self.figures[number]

    def get_fignums(self) -> list[int]:
        return sorted(self.figures)

    def close(self, number: int) -> None:
        del self.figures[number]


@pytest.fixture
def pyplot(monkeypatch: pytest.MonkeyPatch) -> Pyplot:
    made = Pyplot()
    monkeypatch.setitem(sys.modules, "matplotlib", ModuleType("matplotlib"))
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", made)
    return made


def _shown(session: StepExecutor, step: str) -> list[str]:
    return [
        base64.b64decode(each.data).decode() if each.kind == "image/png" else each.data
        for each in session.results[step].displays
    ]


def test_row_37_a_figure_belongs_to_the_step_that_draws_it(pyplot: Pyplot) -> None:
    session = StepExecutor()
    plot = "from matplotlib import pyplot\npyplot.plot(*xs)"
    for step, source in {"xs": "xs = [1, 2]", "k": "k = 5", "plot": plot, "other": "k + 1"}.items():
        session.execute(step, source)
    assert _shown(session, "plot") == ["png [1, 2]"]
    assert _shown(session, "other") == [], "the figure was closed"
    assert not pyplot.figures
    session.graph.edit_step("k", "k = 6")
    assert session.replay().ran == ("k", "other")
    assert _shown(session, "plot") == ["png [1, 2]"], "of a step that did not run: as it was"
    session.graph.edit_step("xs", "xs = [3]")
    session.replay()
    assert _shown(session, "plot") == ["png [3]"]


def test_a_figure_that_was_open_before_is_left_alone(pyplot: Pyplot) -> None:
    pyplot.plot("mine")
    session = StepExecutor()
    session.execute("a", "x = 1")
    session.execute("b", "1 / 0")
    assert pyplot.get_fignums() == [1]
    assert _shown(session, "a") == []


def test_a_step_that_raises_leaves_no_figure_open(pyplot: Pyplot) -> None:
    session = StepExecutor()
    session.execute("a", "from matplotlib import pyplot\npyplot.plot(1)\nboom")
    assert not pyplot.figures


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("def _repr_html_(self): return '<b>x</b>'", ["<b>x</b>"]),
        ("def _repr_png_(self): return b'png'", ["png"]),
        ("def _repr_html_(self): return None", []),
        ("def _repr_html_(self): raise KeyError('k')", ["[_repr_html_ raised KeyError: 'k']"]),
        (f"def _repr_html_(self): return 'x' * {MAX_BYTES + 1}", ["[1 more: over 4 MiB]"]),
    ],
    ids=["html", "png", "nothing", "raises", "too much"],
)
def test_row_37_a_value_shows_itself(body: str, told: list[str]) -> None:
    session = StepExecutor()
    session.execute("class", f"class Rich:\n    {body}\n    def __repr__(self): return 'plain'")
    result = session.execute("show", "Rich()")
    assert result.ok and result.shown == "plain"
    assert _shown(session, "show") == told
    assert _shown(session, "class") == [] and session.execute("is", "Rich").displays == ()


@pytest.mark.loads("matplotlib")
def test_matplotlib_itself() -> None:
    import matplotlib

    matplotlib.use("agg")
    session = StepExecutor()
    session.execute("plot", "import matplotlib.pyplot as plt\nplt.plot([1, 2])")
    (shown,) = session.results["plot"].displays
    assert base64.b64decode(shown.data).startswith(b"\x89PNG")
    session.execute("again", "fig, ax = plt.subplots()\nax.plot([3])\nfig")
    assert [each.kind for each in session.results["again"].displays] == ["image/png"]
