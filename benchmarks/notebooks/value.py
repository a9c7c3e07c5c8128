"""What a value is, for the comparison. On purpose not the fingerprint that replay goes by: a fault
in that one must be seen here.

Left out, and so taken for equal: what is told by its type alone: figures and axes, iterators,
groupers, locks, files; names with two underscores; `__slotnames__`; the bodies of modules; what an
expression of sympy keeps that it was asked once (its hash, what is known of it).
"""

from __future__ import annotations

import contextlib
import pickle
import re
import sys
import types
from collections import deque
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any

_ADDRESS = re.compile(r"0x[0-9a-f]{6,}")
_BY_TYPE = ("matplotlib", "mpl_toolkits", "seaborn", "PIL", "IPython", "_io", "threading")
_ASKED = {"sympy": frozenset({"_mhash", "_assumptions"})}
_DEEP = 60
Seen = dict[int, tuple[int, object]]
"""Id -> the number of the object, and the object, so that no other gets its id meanwhile."""


def masked(text: str) -> str:
    """Without addresses of objects."""
    return _ADDRESS.sub("0x", text)


def of_names(names: Mapping[str, object]) -> dict[str, str]:
    """Name -> digest; and under `=` the names that are one and the same object that can change."""
    kept = {name: each for name, each in names.items() if not name.startswith("__")}
    found = {name: digest(each) for name, each in sorted(kept.items())}
    same = dict[int, list[str]]()
    for name, each in sorted(kept.items()):
        if _can_change(each):
            same.setdefault(id(each), []).append(name)
    return found | {"=": str(sorted(" ".join(each) for each in same.values() if len(each) > 1))}


def digest(value: object) -> str:
    """A digest of what a value is."""
    seen: Seen = {}
    hashed = blake2b(digest_size=8)
    for piece in _pieces(value, seen, 0):
        hashed.update(piece.encode("utf-8", "surrogatepass") if isinstance(piece, str) else piece)
        hashed.update(b"\0")
    return hashed.hexdigest()


def _can_change(value: object) -> bool:
    return type(value).__module__ != "builtins" or isinstance(value, list | dict | set | bytearray)


def _pieces(value: object, seen: Seen, deep: int) -> Iterator[str | bytes]:
    kind = type(value)
    module = kind.__module__.partition(".")[0]
    yield f"{kind.__module__}.{kind.__qualname__}"
    if kind in (int, float, complex, bool, str, type(None)):
        yield repr(value)
        return
    if isinstance(value, bytes | bytearray):
        yield bytes(value)
        return
    if isinstance(value, types.ModuleType):
        yield value.__name__
        return
    if module == "numpy" and any(base.__name__ == "number" for base in kind.__mro__):
        yield from _numpy(value, seen, deep)  # it never changes: which ones are one is no matter
        return
    if id(value) in seen or deep > _DEEP:
        yield f"again {seen.get(id(value), ('deep',))[0]}"
        return
    if module != "pandas" or hasattr(value, "_mgr"):  # which indexes are one nobody can see
        seen[id(value)] = len(seen), value
    if module in _BY_TYPE or hasattr(kind, "__next__") or _is_global_state(value):
        return
    if module == "pandas":
        yield from _pandas(value, seen, deep)
    elif module == "numpy" and hasattr(value, "dtype"):
        yield from _numpy(value, seen, deep)
    elif isinstance(value, types.FunctionType):
        yield from _code(value.__code__)
        for each in (value.__defaults__, value.__kwdefaults__):
            yield from _pieces(each, seen, deep + 1)
        for cell in value.__closure__ or ():
            with contextlib.suppress(ValueError):
                yield from _pieces(cell.cell_contents, seen, deep + 1)
    elif isinstance(value, type):
        yield f"{value.__module__}.{value.__qualname__}"
        if value.__module__ == "__main__":
            for name, each in sorted(vars(value).items()):
                if not name.startswith("__") or isinstance(each, types.FunctionType):
                    yield name
                    yield from _pieces(each, seen, deep + 1)
    elif isinstance(value, set | frozenset):
        yield from sorted(digest(each) for each in value)
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _pieces(key, seen, deep + 1)
            yield from _pieces(each, seen, deep + 1)
        yield from _fields(value, seen, deep)
    elif isinstance(value, list | tuple | deque):
        for each in value:
            yield from _pieces(each, seen, deep + 1)
        yield from _fields(value, seen, deep)
    elif hasattr(value, "__dict__") or hasattr(kind, "__slots__"):
        yield from _fields(value, seen, deep)
    else:
        with contextlib.suppress(Exception):
            yield pickle.dumps(value, protocol=5)


def _is_global_state(value: object) -> bool:
    """The generator that `numpy.random` draws from, or a method of it: no value of a name."""
    shared = getattr(sys.modules.get("numpy.random.mtrand"), "_rand", None)
    return shared is not None and (value is shared or getattr(value, "__self__", None) is shared)


def _fields(value: object, seen: Seen, deep: int) -> Iterator[str | bytes]:
    fields = dict[str, object](getattr(value, "__dict__", {}))
    for base in type(value).__mro__:
        slots = vars(base).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else tuple(slots):
            with contextlib.suppress(AttributeError):
                fields[name] = getattr(value, name)
    asked = _ASKED.get(type(value).__module__.partition(".")[0], frozenset())
    for name, each in sorted(fields.items()):
        if not name.startswith("__") and name not in asked:
            yield name
            yield from _pieces(each, seen, deep + 1)


def _code(code: types.CodeType) -> Iterator[str | bytes]:
    yield code.co_code
    yield repr((code.co_names, code.co_varnames))
    for each in code.co_consts:
        if isinstance(each, types.CodeType):
            yield from _code(each)
        else:
            yield repr(each) if not isinstance(each, frozenset) else str(sorted(map(repr, each)))


def _numpy(value: object, seen: Seen, deep: int) -> Iterator[str | bytes]:
    yield str(getattr(value, "dtype", ""))
    yield str(getattr(value, "shape", ""))
    if getattr(getattr(value, "dtype", None), "hasobject", False):
        yield from _pieces(value.tolist(), seen, deep + 1)  # pyright: ignore[reportAttributeAccessIssue]
    elif hasattr(value, "tobytes"):
        yield value.tobytes()


def _pandas(value: Any, seen: Seen, deep: int) -> Iterator[str | bytes]:
    """Frames, series, indexes and arrays by content, the rest (groupers, windows) by type.

    Not their pickles: these tell which texts are one object, which nobody can see.
    """
    if hasattr(value, "_mgr") and value.ndim == 2:
        yield from _pieces([str(value.dtypes.tolist()), value.attrs], seen, deep + 1)
        for part in (value.columns, value.index):
            yield from _pieces(part, seen, deep + 1)
        for at in range(value.shape[1]):
            yield from _pieces(value.iloc[:, at].tolist(), seen, deep + 1)
    elif hasattr(value, "dtype") and hasattr(value, "tolist"):
        yield str(value.dtype)
        yield from _pieces(value.tolist(), seen, deep + 1)
        for part in ("name", "names", "index", "freq"):
            if (each := getattr(value, part, None)) is not None:
                yield from _pieces(list(each) if part == "names" else each, seen, deep + 1)
    elif not hasattr(value, "aggregate") and not hasattr(value, "grouper"):
        yield masked(repr(value))
