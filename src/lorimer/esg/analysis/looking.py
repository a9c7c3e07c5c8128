"""Which steps only look at arrays. After those the content of an array need not be compared: a
digest costs as much as reading it all once.

The code of such a step computes with names, numbers, and functions and methods of numpy that write
to none of their arguments, and binds names; all that it gets are numpy itself, its arrays of
numbers, and scalars. Every other step may write; a wrong guess in that direction costs only time.
"""

from __future__ import annotations

import ast
import sys
from functools import lru_cache
from typing import Any, Final, cast

from lorimer.esg.analysis.parsing import parsed

_MODULE: Final = frozenset({"np", "numpy"})
"""Names used for numpy, and for nothing else."""
_ONE: Final = (
    "abs absolute arccos arccosh arcsin arcsinh arctan arctanh argwhere array asarray "
    "bincount cbrt ceil conj copy corrcoef cos cosh cov deg2rad degrees diag exp exp2 expm1 "
    "fabs flatnonzero floor gradient hstack identity isfinite isinf isnan log log10 log1p "
    "log2 logical_not negative nonzero ones_like positive rad2deg radians ravel reciprocal "
    "rint sign sin sinh sqrt square squeeze tan tanh trunc unique vstack zeros_like"
)
_TWO: Final = (
    "add all allclose any argmax argmin argsort around arctan2 array_equal average "
    "bitwise_and bitwise_or bitwise_xor concatenate convolve correlate count_nonzero cumprod "
    "cumsum diff digitize divide dot equal expand_dims eye flip float_power floor_divide fmax "
    "fmin fmod full full_like greater greater_equal histogram hypot inner isclose isin less "
    "less_equal logical_and logical_or logical_xor matmul max maximum mean median min minimum "
    "mod multiply nanmax nanmean nanmedian nanmin nanstd nansum nanvar not_equal ones outer "
    "percentile polyval power prod ptp quantile remainder repeat reshape roll round "
    "searchsorted sort stack std subtract sum tile transpose true_divide var zeros"
)
_THREE: Final = "arange clip geomspace interp linspace logspace polyfit where"
FUNCTIONS: Final = {
    name: number for number, names in enumerate((_ONE, _TWO, _THREE), 1) for name in names.split()
}
"""Functions of numpy -> number of positional arguments before one that may be written to."""
_OF_ARRAYS: Final = (
    "all any argmax argmin argsort astype copy cumprod cumsum dot flatten item max mean min "
    "nonzero prod ravel repeat round searchsorted squeeze std sum tolist trace var"
)
METHODS: Final = dict.fromkeys(_OF_ARRAYS.split(), 1) | {"reshape": 9, "transpose": 9}
"""The same for methods of arrays."""
_WRITTEN: Final = frozenset({None, "out", "like", "overwrite_input"})
"""Keyword arguments that are written to, or unknown (None: `**more`)."""
_BUILTINS: Final = frozenset({"abs", "bool", "complex", "float", "int", "len", "range"})
_ATTRIBUTES: Final = frozenset(
    {"T", "dtype", "imag", "itemsize", "nbytes", "ndim", "real", "shape", "size"}
)
_OF_MODULE: Final = frozenset(
    "bool_ complex128 e euler_gamma float32 float64 inf int16 int32 int64 int8 intp nan newaxis pi "
    "uint16 uint32 uint64 uint8".split()
)
_FORMS: Final = frozenset({
    ast.Module, ast.Assign, ast.AnnAssign, ast.Expr, ast.Pass, ast.Constant, ast.BinOp, ast.UnaryOp,
    ast.BoolOp, ast.Compare, ast.IfExp, ast.Tuple, ast.List, ast.Slice, ast.keyword, ast.Load,
    ast.Store, *ast.operator.__subclasses__(), *ast.unaryop.__subclasses__(),
    *ast.boolop.__subclasses__(), *ast.cmpop.__subclasses__(),
})  # fmt: skip
"""Harmless if their parts are."""
_SCALARS: Final = frozenset({bool, int, float, complex, str, type(None)})


class Looking:
    """For one run of a step: whether it can only have looked at what it got so far."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._harmless = True
        self._known: bool | None = None

    def lent(self, value: object) -> bool:
        """The step is about to get this value, or has set it in numpy. Returns whether it may write
        from now on, but could not before."""
        if not self._harmless or harmless(value):
            return False
        self._harmless = False
        return True

    @property
    def only(self) -> bool:
        """Whether it cannot have written to anything."""
        if self._known is None and self._harmless:
            self._known = only_looks(self._source) and not _calls_back()
        return self._harmless and self._known is True


def harmless(value: object) -> bool:
    """Whether computing with it runs no code but numpy's."""
    kind = type(value)
    if kind in _SCALARS:
        return True
    numpy: Any = sys.modules.get("numpy")
    if numpy is None:
        return False
    if kind is numpy.ndarray:
        return cast("str", cast("Any", value).dtype.kind) in "biufc"
    return value is numpy or (
        issubclass(kind, numpy.number | numpy.bool_) and kind.__module__ == "numpy"
    )


@lru_cache(maxsize=256)
def only_looks(source: str) -> bool:
    """Whether the code of a step writes to nothing it gets, provided that is harmless."""
    tree = parsed(source)
    return tree is not None and all(map(_is_harmless, ast.walk(tree)))


def _is_harmless(node: ast.AST) -> bool:
    if type(node) in _FORMS:  # nearly always
        return True
    match node:
        case ast.Name(id=name):
            return name not in _MODULE or isinstance(node.ctx, ast.Load)
        case ast.Attribute(value=of, attr=name, ctx=ast.Load()):
            # calls are checked separately
            if isinstance(of, ast.Name) and of.id in _MODULE:
                return name in FUNCTIONS or name in _OF_MODULE
            return name in METHODS or name in _ATTRIBUTES
        case ast.Subscript(ctx=ast.Load()):
            return True
        case ast.Call(func=ast.Name(id=name)):
            return name in _BUILTINS and _writes_nothing(node, 3)
        case ast.Call(func=ast.Attribute(value=ast.Name(id=of), attr=name)) if of in _MODULE:
            return _writes_nothing(node, FUNCTIONS.get(name, 0))
        case ast.Call(func=ast.Attribute(attr=name)):
            return name in METHODS and _writes_nothing(node, METHODS[name])
        case _:
            return False


def _writes_nothing(call: ast.Call, most: int) -> bool:
    """No argument, positional or keyword, is one that is written to."""
    starred = any(isinstance(each, ast.Starred) for each in call.args)
    named = {each.arg for each in call.keywords}
    return len(call.args) <= most and not starred and named.isdisjoint(_WRITTEN)


def _calls_back() -> bool:
    """Whether numpy calls other code when a number overflows or is printed."""
    numpy: Any = sys.modules.get("numpy")
    return numpy is None or bool(numpy.geterrcall() or numpy.get_printoptions()["formatter"])
