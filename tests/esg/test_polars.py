"""What polars' frames, series and expressions are like for replay. Skipped where polars is not
installed."""

from __future__ import annotations

from typing import Any

import pytest

from lorimer.esg import StepExecutor
from tests.esg.sessions import anew, session_of

polars: Any = pytest.importorskip("polars")

LIBRARIES = "import datetime as dt\nimport decimal\nimport polars as pl"
VALUES = {
    "numbers": ("pl.DataFrame({'a': [1, None]})", "pl.DataFrame({'a': [1, 2]})"),
    "zeros": ("pl.Series([0.0])", "pl.Series([-0.0])"),
    "texts": ("pl.Series(['x', 'y' * 30])", "pl.Series(['x', 'z' * 30])"),
    "a name": ("pl.Series('a', [1])", "pl.Series('b', [1])"),
    "a type": ("pl.Series([1])", "pl.Series([1], dtype=pl.Int32)"),
    "sortedness": ("pl.Series([1, 2])", "pl.Series([1, 2]).set_sorted()"),
    "pieces": (
        "pl.Series([1, 2])",
        "pl.concat([pl.Series([1]), pl.Series([2])], rechunk=False)",
    ),
    "an enum": (
        "pl.Series(['a'], dtype=pl.Enum(['a', 'b']))",
        "pl.Series(['a'], dtype=pl.Enum(['a', 'c']))",
    ),
    "categories": (
        "pl.Series(['a', 'b'], dtype=pl.Categorical)",
        "pl.Series(['b', 'a'], dtype=pl.Categorical)",
    ),
    "a zone": (
        "pl.Series([dt.datetime(2020, 1, 1)]).dt.replace_time_zone('UTC')",
        "pl.Series([dt.datetime(2020, 1, 1)]).dt.replace_time_zone('Europe/Rome')",
    ),
    "nested": ("pl.Series([[1], [2, 3], None])", "pl.Series([[1], [2, 4], None])"),
    "records": ("pl.Series([{'a': 'x'}])", "pl.Series([{'a': 'y'}])"),
    "decimals": ("pl.Series([decimal.Decimal('1.5')])", "pl.Series([decimal.Decimal('1.50')])"),
    "empty": ("pl.DataFrame({'a': []})", "pl.DataFrame()"),
    "an expression": ("pl.col('a') + 1", "pl.col('a') + 2"),
}


@pytest.mark.parametrize("kind", list(VALUES))
def test_an_equal_value_is_the_same_and_another_is_not(kind: str) -> None:
    one, other = VALUES[kind]
    session = session_of(LIBRARIES, "k = 1", f"v = {one} if k < 5 else {other}", "shown = repr(v)")
    session.graph.edit_step("s1", "k = 2")
    assert session.replay().ran == ("s1", "s2")
    session.graph.edit_step("s1", "k = 7")
    assert session.replay().ran == ("s1", "s2", "s3")
    assert session.namespace()["shown"] == repr(session.namespace()["v"])


def test_only_what_is_stale_runs() -> None:
    session = session_of(
        "import polars as pl",
        "k = 3",
        "df = pl.DataFrame({'a': [1, 2, k], 'b': ['x', 'y', 'z']})",
        "g = df.group_by('b').agg(pl.col('a').sum()).sort('b')",
        "n = df.height",
        "h = df.filter(pl.col('a') > 1)",
        "out = (g.to_dicts(), n, h.rows())",
        "t = df['a'].sum()",
    )
    edits: list[tuple[str, str, tuple[str, ...]]] = [
        ("s4", "n = df.height + 1", ("s4", "s6")),
        ("s5", "h = df.filter(pl.col('a') > 2)", ("s5", "s6")),
        ("s5", "h = df.filter(pl.col('a') >= 3)", ("s5",)),
        ("s7", "t = df['a'].max()", ("s7",)),
        ("s1", "k = 1 + 2", ("s1",)),
        ("s1", "k = 4", ("s1", "s2", "s3", "s4", "s5", "s6", "s7")),
    ]
    for step, source, ran in edits:
        session.graph.edit_step(step, source)
        assert session.replay().ran == ran, source
    assert session.namespace()["out"] == anew(session)["out"]


CHANGES = {
    "an item": ("df[0, 'a'] = 9", "df[1, 'a'] = 7"),
    "a column put in": (
        "df.insert_column(0, pl.Series('n', [1, 2, 3]))",
        "df.insert_column(1, pl.Series('m', ['x', 'y', None]))",
    ),
    "a column put in another's place": (
        "df.replace_column(0, pl.Series('a', [7, 8, 9]))",
        "df.replace_column(0, pl.Series('a', [7.5, 8, 9]))",
    ),
    "rows": ("df.extend(df.head(1))", "df.extend(df.head(2))"),
    "a column taken out": ("gone = df.drop_in_place('b')", "gone = df.drop_in_place('a')"),
    "names": ("df.columns = ['a', 'c']", "df.columns = ['c', 'b']"),
    "another that is it": ("e = df\ne[0, 'a'] = 9", "e = df\ne[0, 'a'] = 8"),
    "inside a list": ("held[0][0, 'a'] = 9", "held[0].extend(df)"),
    "in an object": ("box.df[0, 'a'] = 9", "del box.df"),
    "in a function": ("change()", "change()\nchange()"),
    "a series: an item": ("s[0] = 9", "s[1] = 9"),
    "a series: at its end": ("s.append(pl.Series('a', [9]))", "s.extend(pl.Series('a', [8]))"),
    "a series: its order": ("s.sort(in_place=True)", "s.sort(descending=True, in_place=True)"),
    "an attribute of it": ("df.tag = [1]", "df.tag = [2]"),
    "an attribute that is changed": ("df.tag = [1]\ndf.tag.append(2)", "pass"),
    "what a namespace leads to": ("texts = s.str\ns.append(pl.Series('a', [4]))", "texts = s.str"),
    "what two frames lead to": (
        "two = pl.DataFrame._from_pydf(df._df)\ntwo.drop_in_place('b')",
        "two = pl.DataFrame._from_pydf(df._df)",
    ),
}
SHOWN = (
    "out = (df.to_dict(as_series=False), df.schema, df.flags, s.to_list(), s.flags, s.name,"
    " s.n_chunks(), vars(df).get('tag'), old.rows(), view.tolist(), lazy.collect().rows(),"
    " ('two' in globals() and two.columns), 'texts' in globals() and len(texts._s.to_list()))"
)


@pytest.mark.parametrize("name", CHANGES)
def test_after_a_change_in_place_a_replay_ends_where_plain_python_ends(name: str) -> None:
    change, other = CHANGES[name]
    session = session_of(
        "import polars as pl\nclass Box: pass",
        "df = pl.DataFrame({'a': [3, 1, 2], 'b': ['x', None, 'z']})",
        "s = df['a']\nview = s.to_numpy()\nold = df.clone()\nlazy = df.lazy()",
        "held = [df]\nbox = Box()\nbox.df = df\n"
        "def change(df=df):\n    df[0, 'a'] = df[0, 'a'] + 1",
        "before = df.rows()",
        change,
        SHOWN,
    )
    assert session.namespace()["out"] == anew(session)["out"]
    for step, source in (
        ("s5", other),
        ("s4", "before = (df.rows(), df.columns)"),
        ("s5", "pass"),
        ("s5", change),
        ("s1", "df = pl.DataFrame({'a': [5, 6, 4], 'b': ['q', None, 'z']})"),
        ("s6", f"{SHOWN}\nlast = 1"),
    ):
        session.graph.edit_step(step, source)
        assert not session.replay().failed, source
        plain, now = anew(session), session.namespace()
        assert now["out"] == plain["out"], source
        assert now["before"] == plain["before"], source


def test_a_change_in_place_is_taken_back_without_its_maker() -> None:
    session = session_of(
        "import polars as pl",
        "df = pl.DataFrame({'a': [1, 2, 3]})",
        "n = df['a'].sum()",
        "df[0, 'a'] = 9",
        "m = df['a'].sum()",
    )
    session.graph.edit_step("s2", "n = df['a'].max()")
    assert session.replay().ran == ("s2",)
    session.graph.edit_step("s3", "df[0, 'a'] = 8")
    assert session.replay().ran == ("s3", "s4")
    found = session.namespace()
    assert (found["n"], found["m"]) == (3, 13)


def test_copies_beyond_the_limit_are_made_again() -> None:
    session = StepExecutor(snapshot_bytes=1000)
    for step, source in (
        ("s0", "import polars as pl"),
        ("s1", "df = pl.DataFrame({'a': range(1000)})"),
        ("s2", "n = df['a'].sum()"),
        ("s3", "df[0, 'a'] = 9"),
        ("s4", "df[1, 'a'] = 9"),
        ("s5", "m = df['a'].sum()"),
    ):
        assert session.execute(step, source).ok
    for step, source in (("s2", "n = df['a'].max()"), ("s4", "df[1, 'a'] = 7")):
        session.graph.edit_step(step, source)
        assert not session.replay().failed
        plain, now = anew(session), session.namespace()
        assert (now["n"], now["m"]) == (plain["n"], plain["m"])


@pytest.mark.parametrize(("most", "ran"), [(2**20, ("s2",)), (1000, ("s1", "s2"))])
def test_what_a_change_leaves_behind_counts_as_a_copy(most: int, ran: tuple[str, ...]) -> None:
    session = StepExecutor(snapshot_bytes=most)
    for step, source in (
        ("s0", "import polars as pl"),
        ("s1", "df = pl.DataFrame({'a': range(10_000)})"),
        ("s2", "n = df['a'].sum()"),
        ("s3", "df.insert_column(0, pl.Series('b', range(10_000)))\nm = df.width"),
    ):
        assert session.execute(step, source).ok
    session.graph.edit_step("s2", "n = df['a'].max()")
    assert session.replay().ran == ran
    found = session.namespace()
    assert (found["n"], found["m"], found["df"].columns) == (9999, 2, ["b", "a"])


@pytest.mark.filterwarnings("ignore")
def test_an_expression_with_a_function_is_made_again() -> None:
    session = session_of(
        "import polars as pl\ndf = pl.DataFrame({'a': [1, 2]})",
        "def counting():\n    n = 0\n    def f(s):\n        nonlocal n\n        n += 1\n"
        "        return s + n\n    return f",
        "e = pl.col('a').map_batches(counting(), return_dtype=pl.Int64)",
        "one = df.select(e).rows()",
        "two = df.select(e).rows()",
    )
    session.graph.edit_step("s4", "two = df.select(e).rows()[::-1]")
    assert not session.replay().failed
    assert session.namespace()["two"] == anew(session)["two"]


def test_a_column_of_objects_is_made_again() -> None:
    session = session_of(
        "import polars as pl",
        "class Box:\n    def __init__(self): self.n = 1",
        "df = pl.DataFrame({'a': pl.Series([Box()], dtype=pl.Object)})",
        "df[0, 'a'].n += 1",
        "out = df[0, 'a'].n",
    )
    session.graph.edit_step("s3", "df[0, 'a'].n += 5")
    assert not session.replay().failed
    assert session.namespace()["out"] == 6


@pytest.mark.parametrize(
    "made",
    [
        "df = pl.DataFrame({'a': x})",
        "df = pl.DataFrame({'b': x[1:], 'a': x[:-1]})",
        "df = pl.Series('a', x).to_frame()",
        "df = pl.DataFrame({'a': np.zeros(3)})\ndf.insert_column(1, pl.Series('b', x[:3]))",
        "import pandas as pd\ndf = pl.from_pandas(pd.DataFrame({'a': x}, copy=False))",
        "import pyarrow as pa\ndf = pl.from_arrow(pa.table({'a': x}))",
    ],
)
@pytest.mark.parametrize("together", [False, True])
def test_a_frame_in_the_memory_of_an_array(made: str, together: bool) -> None:
    pytest.importorskip("numpy")
    for each in ("pandas", "pyarrow"):
        if each in made:
            pytest.importorskip(each)
    first = "x = np.zeros(5)"
    steps = [f"{first}\n{made}", "pass"] if together else [first, made]
    session = session_of(
        "import numpy as np\nimport polars as pl",
        *steps,
        "before = df.rows()",
        "x[:] = 1",
        "after = df.rows()",
    )
    for step, source in (
        ("s3", "before = df.rows()[::-1]"),
        ("s4", "x[:] = 5"),
        ("s5", "after = df.rows()[::-1]"),
        ("s4", "pass"),
        ("s4", "x[0] = 7"),
        ("s1", steps[0].replace("zeros(5)", "ones(4)")),
    ):
        session.graph.edit_step(step, source)
        assert not session.replay().failed, source
        plain, now = anew(session), session.namespace()
        assert now["before"] == plain["before"], source
        assert now["after"] == plain["after"], source
