"""Missing attributes, keys, columns and positions."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator, Mapping, Set
from typing import Final

from lorimer.esg.diagnosis.case import Case, root
from lorimer.esg.diagnosis.near import nearest
from lorimer.esg.diagnosis.report import Finding
from lorimer.esg.diagnosis.rule import rule
from lorimer.esg.diagnosis.texts import StepText
from lorimer.esg.diagnosis.values import UNKNOWN, keys_of, of_kind, size_of
from lorimer.esg.patching.patches import Edit

_SYNONYMS: Final[Mapping[str, tuple[str, ...]]] = {
    "push": ("append",),
    "add": ("append",),
    "append": ("add",),
    "concat": ("extend",),
    "trim": ("strip",),
    "toUpperCase": ("upper",),
    "toLowerCase": ("lower",),
    "uppercase": ("upper",),
    "lowercase": ("lower",),
    "contains": ("__contains__",),
    "has_key": ("__contains__",),
    "iteritems": ("items",),
    "itervalues": ("values",),
    "iterkeys": ("keys",),
    "indexOf": ("index",),
    "substring": ("__getitem__",),
    "startsWith": ("startswith",),
    "endsWith": ("endswith",),
}
"""Names of methods in other languages or classes."""
_LENGTH: Final = frozenset({"length", "size", "count_items"})
_ATTRIBUTE: Final = re.compile(r"has no attribute '(\w+)'")
_QUOTED: Final = re.compile(r"'([^']*)'")
_LISTED: Final = re.compile(r"\[(.*'.*)\]")


@rule(AttributeError)
def attribute(case: Case) -> Iterator[Finding]:
    """An attribute that the object does not have."""
    error = case.error
    if not isinstance(error, AttributeError):
        return
    found = _ATTRIBUTE.search(case.message)
    name = error.name or (found[1] if found else "")
    node = _attribute_node(case, name)
    owner: object = error.obj if error.obj is not None else UNKNOWN
    if owner is UNKNOWN and node is not None:
        owner = case.value(node.value)
    if not name or owner is None or owner is UNKNOWN or inspect.isawaitable(owner):
        return
    if found is None and inspect.getattr_static(owner, name, None) is not None:
        return  # it is there, and refuses: an accessor of pandas, a property that raises
    text = case.site.text
    told = of_kind(owner)
    if inspect.ismodule(owner):
        told = owner.__name__
    if node is not None and name in keys_of(owner) and not hasattr(owner, "columns"):
        edit = Edit(text.step, text.end(node.value), text.end(node), f"[{name!r}]")
        yield Finding("key_as_attribute", f"{name!r} is a key", text.step, (edit,), 0.95)
        return
    if node is not None and name in _LENGTH and hasattr(type(owner), "__len__"):
        edit = text.replace(node, f"len({text.of(node.value)})")
        yield Finding("other_language", f"the {name} of {told} is len()", text.step, (edit,), 0.9)
        return
    there = [each for each in dir(owner) if not each.startswith("_") or name.startswith("_")]
    meant, sure = nearest(name, there)
    also = next((each for each in _SYNONYMS.get(name, ()) if hasattr(type(owner), each)), "")
    if also == "add" and not issubclass(type(owner), Set):  # of a frame, it is arithmetic
        also = ""
    if also and not also.startswith("_"):
        meant, sure = also, 0.9
    method = _local_for_attribute(case, type(owner).__name__, name)
    if method is not None:
        yield method
        return
    if not meant:
        maker = case.maker(root(node)) if node is not None else ""
        message = f"{told} has no {name!r}" + (f"; {maker} made it" if maker else "")
        yield Finding("missing_attribute", message, maker or text.step, (), 0.4)
        return
    edits: tuple[Edit, ...] = ()
    if node is not None:
        edits = (Edit(text.step, text.end(node) - len(name), text.end(node), meant),)
    message = f"{told} has no {name!r}; it has {meant!r}"
    yield Finding("attribute_typo", message, text.step, edits, sure)


def _local_for_attribute(case: Case, kind: str, name: str) -> Finding | None:
    """A method of the class has `name = ...` instead of `self.name = ...`."""
    found = case.definition("__init__", kind)
    if found is None:
        return None
    text, function = found
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Store):
            message = f"__init__ of {kind} binds {name!r} for itself, not for self.{name}"
            return Finding(
                "missing_self", message, text.step, (text.replace(node, f"self.{name}"),), 0.96
            )
    return None


def _attribute_node(case: Case, name: str) -> ast.Attribute | None:
    for each in case.nodes():
        if isinstance(each, ast.Attribute) and each.attr == name:
            return each
    return None


@rule(KeyError, ValueError, IndexError)
def key(case: Case) -> Iterator[Finding]:
    """A key or column that is missing from the mapping: a similar one exists, or none."""
    wrong = _wrong_keys(case)
    if not wrong:
        return
    site = case.site
    where = site.text.statement(site.node) if site.node is not None else None
    tops = [site.node, where] if where is not None else [*site.text.in_line(site.line)]
    holders = [
        each
        for each in _holders(case, [top for top in tops if top is not None])
        if not set(wrong).issubset(each[1])  # else something else was asked: the rows of a frame
    ]
    if not holders:
        return
    for name in wrong:
        for holder, keys in holders:
            meant, sure = nearest(name, keys)
            if meant:
                yield _misspelt(case, holder, name, meant, sure)
                return
    holder, keys = holders[0]
    _, text = case.evidence(holder)
    shown = ", ".join(map(repr, keys[:8])) or "no text as a key"
    what = case.said(root(holder), text.step) if root(holder) else "it"
    message = f"{what.replace(chr(39), '')} has no {wrong[0]!r}; it has {shown}"
    yield Finding("missing_key", message, text.step, (), 0.6)


def _wrong_keys(case: Case) -> list[str]:
    """The missing keys according to the error; pandas gives them in prose."""
    error = case.error
    if not isinstance(error, KeyError):
        return []
    given: object = error.args[0] if error.args else None
    if not isinstance(given, str):
        return []
    listed = _LISTED.search(given)
    quoted = _QUOTED.findall(listed[1] if listed is not None else given)
    return quoted if quoted and " " in given else [given.removeprefix("Column not found: ")]


def _holders(case: Case, tops: list[ast.AST]) -> list[tuple[ast.expr, list[str]]]:
    """Expressions in there that have keys, with these; what is indexed comes first."""
    site = case.site
    nodes = [node for top in tops for node in ast.walk(top)]
    first = [node.value for node in nodes if isinstance(node, ast.Subscript)]
    then = [node for node in nodes if isinstance(node, ast.Name | ast.Attribute)]
    found = list[tuple[ast.expr, list[str]]]()
    for node in [*first, *then]:
        keys = keys_of(case.value(node, site))
        if keys:
            found.append((node, keys))
    return found


def _misspelt(case: Case, holder: ast.expr, wrong: str, meant: str, sure: float) -> Finding:
    """Whether the reader or the maker is wrong: the one changed since the step last succeeded."""
    site = case.site
    name, text = case.evidence(holder)
    what = f"{name or 'it'} of {text.step}" if text.step != site.text.step else name or "it"
    message = f"{what} has no {wrong!r}; it has {meant!r}"
    if case.known and case.esg.worked_with(case.step, case.result.source):
        for step in reversed(case.esg.get_ancestors(case.step)):
            edits = _dict_keys(case.text(step), meant, wrong)
            if edits and not _dict_keys(case.text(step), wrong, meant):
                told = f"{message}: {step} was changed since {case.step} last ran"
                return Finding("key_changed", told, step, edits, 0.97)
    edits = _constants(site.text, wrong, meant, site.line)
    if not edits:  # the key comes from somewhere else
        for each in case.names():
            held = case.value(each)
            if isinstance(held, str) and held == wrong:
                _, source = case.evidence(each)
                edits = _constants(source, wrong, meant)
                if edits:
                    return Finding("key_typo", message, source.step, edits, sure)
    return Finding("key_typo", message, text.step, edits, sure)


def _constants(text: StepText, old: str, new: str, line: int = 0) -> tuple[Edit, ...]:
    """String constants, from the statement of a line if there are some."""
    every = [
        node
        for node in ast.walk(text.tree)
        if isinstance(node, ast.Constant) and node.value == old and isinstance(node.value, str)
    ]
    keywords = [
        node for node in ast.walk(text.tree) if isinstance(node, ast.keyword) and node.arg == old
    ]
    here = [node for node in every if line and node.lineno == line]
    edits = [text.replace(node, _quoted(text.of(node), old, new)) for node in here or every]
    if not edits:
        edits = [
            Edit(text.step, text.start(node), text.start(node) + len(old), new) for node in keywords
        ]
    return tuple(edits)


def _dict_keys(text: StepText, old: str, new: str) -> tuple[Edit, ...]:
    """Keys of dict displays in the code."""
    return tuple(
        text.replace(key, _quoted(text.of(key), old, new))
        for node in ast.walk(text.tree)
        if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Constant) and key.value == old
    )


def _quoted(literal: str, old: str, new: str) -> str:
    """The literal as it was written, with another content."""
    return literal.replace(old, new) if old in literal else repr(new)


@rule(IndexError)
def position(case: Case) -> Iterator[Finding]:
    """A position past the end: the actual length, and a loop that goes one too far."""
    site = case.site
    for node in [each for each in case.nodes() if isinstance(each, ast.Subscript)]:
        owner, at = case.value(node.value), case.value(node.slice)
        size = size_of(owner)
        if size is None or not isinstance(at, int) or -size <= at < size:
            continue
        _, text = case.evidence(node.value)
        what = site.text.of(node.value)
        index = site.text.of(node.slice)
        told = f"{what}[{at}]" if index == str(at) else f"{what}[{at}], which is {what}[{index}]"
        message = f"there is no {told}: it has {size} elements"
        edits, sure = _off_by_one(case, node, size, at)
        step = site.text.step if edits else text.step
        yield Finding("index_range", message, step, edits, sure)
        return


def _off_by_one(
    case: Case, node: ast.Subscript, size: int, at: int
) -> tuple[tuple[Edit, ...], float]:
    text, index = case.site.text, node.slice
    if isinstance(index, ast.Constant) and at == size:
        return (text.replace(index, str(size - 1)),), 0.8
    used = {each.id for each in ast.walk(index) if isinstance(each, ast.Name)}
    for each in text.enclosing(node):
        loops = [(each.target, each.iter)] if isinstance(each, ast.For) else []
        loops += [(one.target, one.iter) for one in getattr(each, "generators", ())]
        for target, over in loops:
            if not (isinstance(target, ast.Name) and target.id in used):
                continue
            match over:
                case ast.Call(func=ast.Name(id="range"), args=args) if args:
                    stop = args[-1] if len(args) < 3 else args[1]
                    match stop:
                        case ast.BinOp(left=left, op=ast.Add(), right=ast.Constant(value=1)):
                            return (text.replace(stop, text.of(left)),), 0.9
                        case _:
                            pass
                case _:
                    pass
        if isinstance(each, ast.While) and isinstance(each.test, ast.Compare):
            test = each.test
            if isinstance(test.ops[0], ast.LtE) and at == size:
                start, end = text.end(test.left), text.start(test.comparators[0])
                return (Edit(text.step, start, end, " < "),), 0.9
    return (), 0.7


RULES: Final = (attribute, key, position)
