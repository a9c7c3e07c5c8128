"""Sessions with numpy and pandas, as notebooks use them. Skipped where they are not installed."""

from __future__ import annotations

import pytest

from lorimer.esg import StepExecutor

pytest.importorskip("numpy")
pytest.importorskip("pandas")


def test_a_series_that_looks_at_a_frame_goes_on_doing_so() -> None:
    session = StepExecutor()
    sources = [
        "import pandas as pd\ndf = pd.DataFrame({'a': [1, 2]})",
        "s = df['a']",
        "k = 1",
        "df.loc[0, 'a'] = k",
        "(s.tolist(), df.a.tolist())",
    ]
    for number, source in enumerate(sources):
        session.execute(str(number), source)
    for k in (7, 8, 9):
        session.graph.edit_step("2", f"k = {k}")
        session.replay()
        assert session.results["4"].shown == f"([{k}, 2], [{k}, 2])"


def test_a_frame_with_lists_in_its_cells_is_not_copied() -> None:
    session = StepExecutor()
    sources = [
        "import pandas as pd\ndf = pd.DataFrame({'a': [[1], [2]]})",
        "k = 1",
        "df.loc[0, 'a'].append(k)",
        "df.a.tolist()",
    ]
    for number, source in enumerate(sources):
        session.execute(str(number), source)
    for k in (7, 8):
        session.graph.edit_step("1", f"k = {k}")
        session.replay()
        assert session.results["3"].shown == f"[[1, {k}], [2]]"


def test_an_equal_array_runs_no_reader() -> None:
    session = StepExecutor()
    sources = ["import numpy as np\nx = 4", "n = np.float64(x // 2)", "a = np.arange(n)", "a.sum()"]
    for number, source in enumerate(sources):
        session.execute(str(number), source)
    session.graph.edit_step("0", "import numpy as np\nx = 5")
    assert session.replay().ran == ("0", "1")
