"""What numpy's and pandas' values are like for replay. Skipped where they are not installed."""

from __future__ import annotations

import copy
from itertools import count

import pytest

from lorimer.esg import StepExecutor
from lorimer.esg.fingerprint import Seen, look

numpy = pytest.importorskip("numpy")
pandas = pytest.importorskip("pandas")

VALUES = {
    "frame": "pd.DataFrame({'a': [1, 2], 'name': ['x', 'y']})",
    "times": "pd.DataFrame({'t': pd.date_range('2020', periods=3, tz='UTC')})",
    "categories": "pd.Series(['a', 'b'], dtype='category')",
    "nullable": "pd.Series([1, None], dtype='Int64')",
    "cut": "pd.cut([1, 2, 3], 2)",
    "levels": "pd.MultiIndex.from_product([[1, 2], ['a', 'b']])",
    "labels": "pd.Series([1, 2], index=['columns', 'index'])",
    "periods": "pd.period_range('2020', periods=2)",
    "sparse": "pd.Series(pd.arrays.SparseArray([0, 0, 1]))",
    "empty": "np.zeros((0, 2))",
    "masked": "np.ma.array([1, 2], mask=[0, 1])",
    "record": "np.array([(1, 'a')], dtype=[('n', 'i4'), ('s', 'O')])",
    "matrix": "np.matrix([1, 2])",
}
OTHERS = {
    "frame": "pd.DataFrame({'a': [1, 3], 'name': ['x', 'y']})",
    "times": "pd.DataFrame({'t': pd.date_range('2020', periods=3, tz='CET')})",
    "categories": "pd.Series(['a', 'b'], dtype=pd.CategoricalDtype(['b', 'a']))",
    "nullable": "pd.Series([1, 0], dtype='Int64')",
    "cut": "pd.cut([1, 3, 3], 2)",
    "levels": "pd.MultiIndex.from_product([[1, 2], ['a', 'b']], names=['x', 'y'])",
    "labels": "pd.Series([1, 2], index=['columns', 'i'])",
    "periods": "pd.period_range('2021', periods=2)",
    "sparse": "pd.Series(pd.arrays.SparseArray([0, 1, 0]))",
    "empty": "np.zeros((2, 0))",
    "masked": "np.ma.array([1, 2], mask=[1, 0])",
    "record": "np.array([(1, 'b')], dtype=[('n', 'i4'), ('s', 'O')])",
    "matrix": "np.array([[1, 2]])",
}


def seen(value: object) -> Seen:
    tokens = count()
    return look(value, lambda: str(next(tokens)))


def made(text: str) -> object:
    return eval(text, {"pd": pandas, "np": numpy})


@pytest.mark.parametrize("kind", list(VALUES))
def test_a_fingerprint_covers_the_content_and_nothing_else(kind: str) -> None:
    value = made(VALUES[kind])
    first = seen(value)
    assert not first.opaque and first.parts
    assert seen(made(VALUES[kind])).digest == first.digest == seen(copy.deepcopy(value)).digest
    repr(value)  # fills caches
    assert seen(value).digest == first.digest
    assert seen(made(OTHERS[kind])).digest != first.digest


def test_what_cannot_change_has_no_parts() -> None:
    for text in (
        "np.float64(1)",
        "np.dtype('f8')",
        "pd.Timestamp('2020')",
        "pd.NaT",
        "np.bool_(1)",
    ):
        assert not seen(made(text)).parts, text
    assert not seen(numpy.random.mtrand._rand).parts, "a resource, no value"


def test_two_frames_that_share_nothing_have_no_part_in_common() -> None:
    both = [made("pd.DataFrame({'name': ['a', 'b'], 'n': [1, 2]}, index=[5, 6])") for _ in "ab"]
    first, second = (seen(each).parts for each in both)
    assert not first & second, "lists made for the look are no parts"


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
