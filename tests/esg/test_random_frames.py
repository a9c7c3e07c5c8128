"""Replay equals a full re-execution, for random programs over frames, arrays and dicts of which
steps read parts. Skipped where numpy and pandas are not installed."""

from __future__ import annotations

import ast
import builtins
import contextlib
import io
import itertools
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lorimer.esg import StepExecutor
from lorimer.esg.values import arrays

numpy: Any = pytest.importorskip("numpy")
pandas: Any = pytest.importorskip("pandas")

EXAMPLES = 2_000 if os.environ.get("LORIMER_CAMPAIGN") else 20
BEGIN = (
    "import numpy as np\nimport pandas as pd\nfrom contextlib import suppress\n"
    "from argparse import Namespace",
    "f = pd.DataFrame({'a': [1, 2], 'b': [3, 4], 'c': ['x', 'y']})",
    "g = pd.DataFrame(np.arange(6).reshape(2, 3), columns=list('abc'))",
    "a = np.arange(6).reshape(2, 3)",
    "b = np.array([(1, 2), (3, 4)], dtype=[('n', 'i4'), ('m', 'i8')])",
    "d = {'k': 1, 'l': [1, 2], 'f': f}",
    "e = {'k': 2, 'l': [g, 3], 'f': g}",
    "class C:\n    def __init__(self, k, l, f):\n        self.k, self.l, self.f = k, l, f\n"
    "    def __repr__(self):\n        return f'C({self.k}, {self.l}, {self.f})'\n"
    "    def total(self):\n        return self.k + len(self.l)",
    "o = Namespace(k=1, l=[2, 3], f=f)",
    "p = C(4, [5, 6], g)",
    "u = 1\nv = [1]\nw = 2",
    "def h():\n    return f['a'].sum()",
)
KINDS = {"F": "fg", "A": "ab", "D": "de", "O": "op", "V": "uvw"}
"""Sort of value in a template -> names that it may stand for."""
NAMES = "".join(KINDS.values())
TEMPLATES = (
    # made and changed
    "F = pd.DataFrame({'a': [#, #], 'b': [#., #], 'c': ['x', 'y']})",
    "F = pd.DataFrame({'a': [#, 2], 'b': [3, #], 'c': [#, 5]})",
    "F = pd.DataFrame(np.arange(6).reshape(2, 3) * #, columns=list('abc'))",
    "F['b'] = F['a'] * #",
    "F['z'] = #",
    "F['z'] = F['a']",
    "F.loc[0, 'a'] = #",
    "F.iloc[0, 1] = #",
    "F['a'].iloc[1] = #",
    "F['b'].clip(upper=#, inplace=True)",
    "F.index = [#, 7]",
    "F.index.name = 'n#'",
    "F = F.sort_values('a')",
    "F = F.copy()",
    "F = F",
    "F.columns = ['a', 'b', 'q#']",
    "A = np.arange(#, # + 6).reshape(2, 3)",
    "A = np.array([(1, #), (#, 2)], dtype=[('n', 'i4'), ('m', 'i8')])",
    "A = np.array([[#, 2.5], [#, 3.5]])",
    "A[0, 1] = #",
    "A['m'] = #",
    "A[1] = #",
    "D = {'k': #, 'l': [#, #], 'f': F}",
    "D = {'k': A, 'l': [V, #], 'f': F}",
    "D['k'] = #",
    "D['l'].append(#)",
    "D['l'][0] = #",
    "D['f']['a'] = #",
    "exec('F.loc[1, \"b\"] = #')",
    "A.fill(#)",
    "F['a'].values.fill(#)",
    "O = Namespace(k=#, l=[#, #], f=F)",
    "O = C(#, [#, A], V)",
    "O.k = #",
    "O.l[0] = #",
    "O.f['a'] = #",
    "vars(O)['k'] = #",
    "O.g = C(A, O.k, #)",
    "O.g.f = #",
    # read in parts
    "V = O.k",
    "O.l",
    "print(O.l[0], O.k)",
    "V = O.f",
    "V = O.f['a'].sum()",
    "O.f.b.sum()",
    "V = [O.k, O.g.f]",
    "V = (lambda: O.k)()",
    "V = O.g.k",
    "V = O.k + O.total()",
    "V = O",
    "O",
    "V = F['a'].sum()",
    "V = int(F['b'].sum()) + int(F['a'].max())",
    "print(F['a'].tolist())",
    "F['a']",
    "F.a",
    "F.b.sum()",
    "F[['a', 'b']]",
    "F.shape",
    "F.index",
    "F.columns",
    "F.dtypes",
    "F.loc[0]",
    "F.iloc[1]",
    "F.at[0, 'b']",
    "F[:1]",
    "V = F['a'] + F['b']",
    "V = F['a'].mean(), F.shape[0]",
    "V = [x for x in F['c']]",
    "V = (lambda: F['a'].sum())()",
    "V = A[:, 0].sum()",
    "A[:, 1]",
    "A[0]",
    "A.shape",
    "V = A['n'].sum()",
    "A['m']",
    "V = D['k']",
    "D['k']",
    "V = sum(D['l'])",
    "print(D['l'][0])",
    "D['f']['a'].sum()",
    "print(len(D['l']), F['a'].sum())",
    # parts that stay, and ways round them
    "V = F['a']",
    "V = F[['a', 'b']]",
    "V = F[:1]",
    "V = F.iloc[0]",
    "V = F.loc[1]",
    "V = F.index",
    "V = F['a'].values",
    "V = A[0]",
    "V = A[:, 1]",
    "V = A['n']",
    "V = D['l']",
    "V = D['f']",
    "V = F\nV.loc[0, 'a'] = #",
    "V[0] = #",
    "V.iloc[0] = #",
    "V = [F, D]",
    "V[0]['a'] = #",
    "V = F['a'].values.base",
    "V = F['a'].sum() + globals()['F']['b'].sum()",
    "V = F['a'].sum() + eval('F').b.sum()",
    "def h():\n    return F['a'].sum()",
    "def h():\n    return F['b'].sum() + D['k']",
    "def h(x=F):\n    return x['b'].sum()",
    "V = h()",
    "V = F['a'].sum() + h()",
    "V = lambda: F['a'].sum()",
    "V = V()",
    "V = (F[n].sum() for n in 'ab')",
    "V = sum(V)",
    "V = globals\nprint(F['a'].sum(), V()['F']['b'].sum())",
    "V = globals",
    "print(F['a'].sum(), V()['F']['b'].sum())",
    "def h(x):\n    return x.base\nV = h(A['n'])",
    "V",
    "print(V)",
    "V = #",
    "F",
)
VIEWS = ("F[:#]", "F.head(#)", "F['a']", "F.iloc[:, :1]", "F", "A[:#]", "A[:, 1]", "A", "V", "F.T")
"""What a step may show last: often it looks at the memory of what the step has made or changed."""
MEMORY = ("V = F['a'].values", "V = F['a'].values.base")
"""From pandas 3 on these change with the frame or not, by whether anything else that lives looks at
its memory; what a session keeps lives (a limit that docs/esg.md tells)."""
COPIES = int(pandas.__version__.partition(".")[0]) >= 3
"""Which frames share memory is no part of what they are like: a write copies before it shows."""
if COPIES:
    TEMPLATES = tuple(each for each in TEMPLATES if each not in MEMORY)


@pytest.mark.parametrize("small", [arrays.SMALL, 0])
def test_a_replay_over_parts_ends_where_running_everything_again_ends(
    small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 0 every array is a large one: its digest is taken late, and copies are few."""
    monkeypatch.setattr(arrays, "SMALL", small)

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        suppress_health_check=[*HealthCheck],
        print_blob=True,
        phases=[Phase.explicit, Phase.reuse, Phase.generate],  # to make it smaller takes minutes
    )
    @given(st.randoms(use_true_random=False))
    def replays(dice: Random) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pandas, about what is to change
            _play(dice)

    replays()


def _play(dice: Random) -> None:
    sources = [*BEGIN]
    for _ in range(dice.randint(5, 20)):
        source = _statement(dice)
        if _whole([*sources, source]):
            sources.append(source)
    session = StepExecutor()
    for number, source in enumerate(sources):
        result = session.execute(str(number), source)
        assert result.ok, result.failure
    _equal(session, sources)
    for _ in range(6):
        edited, last = [*sources], dice.choice((len(BEGIN) - 1, len(sources)))
        place = dice.randrange(1, last)
        edited[place] = _edited(dice, edited[place])
        if not _whole(edited):
            continue
        sources = edited
        session.graph.edit_step(str(place), edited[place])
        replay = session.replay()
        assert replay.ok, [session.results[each].failure for each in replay.failed]
        _equal(session, sources)
        assert session.replay().ran == (), "nothing is stale after a replay"


def _statement(dice: Random) -> str:
    text = dice.choice(TEMPLATES)
    if "=" in text and dice.random() < 0.3:
        text = f"{text}\n{dice.choice(VIEWS)}"
    text = re.sub(r"\b[FADOV]\b", lambda found: dice.choice(KINDS[found[0]]), text)
    return re.sub("#", lambda _: str(dice.randint(0, 5)), text)


def _edited(dice: Random, source: str) -> str:
    """Another number in it, where there is one; else, and sometimes, another statement."""
    numbers = [*re.finditer(r"(?<![\w'])\d+", source)]
    if not numbers or dice.random() < 0.2:
        return _statement(dice)
    found = dice.choice(numbers)
    return source[: found.start()] + str(dice.randint(0, 5)) + source[found.end() :]


def _whole(sources: Sequence[str]) -> tuple[dict[str, str], list[str]] | None:
    """Every step in one plain namespace: what the names are like, and what each step printed and
    showed. None: one raises."""
    names: dict[str, object] = {"__builtins__": builtins, "__name__": "__main__"}
    told = list[str]()
    for source in sources:
        tree, out, shown = ast.parse(source), io.StringIO(), ""
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        try:
            with contextlib.redirect_stdout(out):
                exec(compile(tree, "<step>", "exec"), names)
                if isinstance(last, ast.Expr):
                    value = eval(compile(ast.Expression(last.value), "<step>", "eval"), names)
                    shown = "" if value is None else repr(value)
        except Exception:  # noqa: BLE001 - then it is not taken
            return None
        if not all(isinstance(name, str) for name in names):
            return None  # a session fails a step that leaves what is no name
        told.append(_plain(out.getvalue() + shown))
    return (_pictures(names), told) if names.keys() >= {*NAMES} else None


def _equal(session: StepExecutor, sources: list[str]) -> None:
    expected = _whole(sources)
    assert expected is not None
    results = [session.results[each] for each in session.graph.steps]
    assert [_plain(each.stdout + each.shown) for each in results] == expected[1]
    assert _pictures(session.namespace()) == expected[0]


def _plain(text: str) -> str:
    """Without addresses, and what `warnings` notes in a namespace."""
    text = re.sub(r", '__warningregistry__': {[^{}]*}", "", text)
    return re.sub("0x[0-9a-f]+", "0x", text)


def _pictures(names: Mapping[str, object]) -> dict[str, str]:
    kept = {name: names[name] for name in NAMES}
    found = {name: _picture(value, 5) for name, value in kept.items()}
    for (one, mine), (two, other) in itertools.combinations(kept.items(), 2):
        shares = any(
            x is y or numpy.shares_memory(x, y)
            for x in _arrays(mine)
            for y in _arrays(other)
            if x.dtype != object and y.dtype != object
        )
        found[f"{one}, {two}"] = f"{shares} {mine is other and _has_identity(mine)}"
    return found


def _has_identity(value: object) -> bool:
    """Not columns: a frame may keep what it gave. Nor numbers: they cannot change, so that an
    equal one takes the place of another."""
    if isinstance(value, numpy.generic):
        return isinstance(value, numpy.void)
    return not isinstance(value, pandas.Series | numpy.ndarray | int | float)


def _arrays(value: Any) -> list[Any]:
    if isinstance(value, pandas.DataFrame | pandas.Series):
        return [] if COPIES else [block.values for block in value._mgr.blocks]
    return [value] if isinstance(value, numpy.ndarray) else []


def _picture(value: Any, depth: int) -> str:
    """`depth`: what holds itself has no end."""
    if isinstance(value, pandas.DataFrame | pandas.Series):
        about = value.dtypes if isinstance(value, pandas.DataFrame) else (value.dtype, value.name)
        return f"{value.to_dict()} {about} {value.index} {value.flags.allows_duplicate_labels}"
    if isinstance(value, dict | list | tuple) and not depth:
        return "..."
    if isinstance(value, dict):
        if "__name__" in value:
            return "the namespace"
        return str({key: _picture(each, depth - 1) for key, each in value.items()})
    if isinstance(value, list | tuple):
        return str([_picture(each, depth - 1) for each in value])
    return _plain(f"{value!r} {getattr(value, 'dtype', '')}")
