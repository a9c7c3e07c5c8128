"""What a namespace is like, told another way than the code under test does: values, and which
objects are the same one."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping
from functools import partial
from typing import Any


def picture(namespace: Mapping[str, object]) -> dict[str, str]:
    """Name -> text; objects are numbered by the first way that leads to them, over all names."""
    seen: dict[int, int] = {}
    kept: list[object] = []
    names = sorted(name for name in namespace if not name.startswith("__"))
    return {name: _text(namespace[name], seen, kept) for name in names}


def plain(text: str) -> str:
    """Without addresses, and the names of steps that code objects show."""
    text = re.sub('file "<step[^>"]*>"', 'file "<step>"', text)
    return re.sub("0x[0-9a-f]+", "0x", text)


def _text(value: Any, seen: dict[int, int], kept: list[object]) -> str:
    def inside(*values: object) -> str:
        return ", ".join(_text(each, seen, kept) for each in values)

    kind = type(value)
    if value is None or kind in (int, float, bool, str, bytes, range):
        return repr(value)
    if kind is tuple:
        return f"({inside(*value)})"
    if kind is frozenset:
        return f"frozenset({', '.join(sorted(inside(each) for each in value))})"
    if kind is slice:
        return f"slice({inside(value.start, value.stop, value.step)})"
    if kind is types.MappingProxyType:
        return f"proxy({inside(*((k, v) for k, v in value.items() if k[:2] != '__'))})"
    if kind is partial:
        return f"partial({inside(value.func, value.args, value.keywords, vars(value))})"
    if isinstance(value, types.ModuleType | types.BuiltinFunctionType):
        return plain(repr(value))
    if isinstance(value, type) and value.__module__ != "__main__":
        return repr(value)
    if kind is types.CodeType:  # compared as a value, like a tuple
        return f"code ({value.co_code!r}, {value.co_names})"
    if id(value) in seen:
        return f"<{seen[id(value)]}>"
    seen[id(value)] = len(seen)
    kept.append(value)
    head = f"<{seen[id(value)]}> {kind.__name__}"
    if isinstance(value, type):
        own = sorted((k, v) for k, v in vars(value).items() if not k.startswith("__"))
        init = vars(value).get("__init__")
        return f"{head} class {value.__name__} {[(k, inside(v)) for k, v in own]} {inside(init)}"
    if kind is types.FunctionType:
        cells = value.__closure__ or ()
        code = (value.__name__, value.__code__.co_code, value.__code__.co_names)
        consts = [each for each in value.__code__.co_consts if not isinstance(each, types.CodeType)]
        held = inside(value.__defaults__, value.__kwdefaults__, value.__dict__, *consts, *cells)
        return f"{head} {code} {held}"
    if kind is types.CellType:
        try:
            return f"{head} {inside(value.cell_contents)}"
        except ValueError:
            return f"{head} empty"
    if isinstance(value, dict):
        head += f" {{{', '.join(f'{inside(k)}: {inside(v)}' for k, v in value.items())}}}"
    elif isinstance(value, list):
        head += f" [{inside(*value)}]"
    elif isinstance(value, set):
        head += f" {{{', '.join(sorted(inside(each) for each in value))}}}"
    elif isinstance(value, bytearray):
        head += bytes(value).hex()
    elif kind is types.MethodType:
        head += inside(value.__func__, value.__self__)
    elif isinstance(value, BaseException):
        head += inside(value.args, value.__cause__)
    elif kind is type(iter([])):
        head += inside(*value.__reduce__()[1:])
    if kind.__module__ == "__main__":
        fields = [*getattr(value, "__dict__", {}).items()]
        for each in kind.__mro__:
            for name, slot in vars(each).items():
                if isinstance(slot, types.MemberDescriptorType) and hasattr(value, name):
                    fields.append((name, getattr(value, name)))
        head += f" of {inside(kind)} with {inside(*fields)}"
    return head
