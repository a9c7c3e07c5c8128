"""Faults that are put into programs at places that a seed draws, by category.

What is planted tells what is right: the rules that may name it, the step where it sits, and words
that a person would have to be told. Nothing here knows how the diagnosis works.
"""

from __future__ import annotations

import ast
import builtins
import keyword
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Final

KEYWORDS: Final = "return|for|if|else|def|class|import|from|while|with"
SELF: Final = r"(?<=[ (=])(?P<a>self\.)\w+(?! =)|(?<=\()(?P<b>self(, )?)(?=\w|\))"
Steps = tuple[tuple[str, str], ...]
"""(id, text), in order."""


@dataclass(frozen=True)
class Fault:
    """A program with one fault."""

    category: str
    steps: Steps
    rules: frozenset[str]
    """The names that the right cause may have."""
    evidence: frozenset[str]
    """The steps that may be named: where it sits, or who made what is concerned."""
    words: tuple[str, ...] = ()
    """Each of these has to be told."""
    before: Steps = ()
    """The program as it ran well before the fault came, if it did."""
    only: str = ""
    """The step that is executed, and no other before it."""


@dataclass(frozen=True)
class Place:
    """A node of a step's text."""

    step: int
    text: str
    node: ast.AST
    parents: Mapping[ast.AST, ast.AST] = field(repr=False)

    def span(self, node: ast.AST | None = None) -> tuple[int, int]:
        node = node or self.node
        lines = self.text.splitlines(keepends=True)
        before = [0]
        for line in lines:
            before.append(before[-1] + len(line))
        start = before[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]
        end = before[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]
        return start, end

    def put(self, start: int, end: int, new: str) -> str:
        return self.text[:start] + new + self.text[end:]


def places(steps: Steps, kind: type[ast.AST] | tuple[type[ast.AST], ...]) -> list[Place]:
    found = list[Place]()
    for number, (_, text) in enumerate(steps):
        tree = ast.parse(text)
        parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        found += [Place(number, text, n, parents) for n in ast.walk(tree) if isinstance(n, kind)]
    return found


def misspelt(word: str, dice: Random) -> str:
    """As people and models misspell: a letter lost, doubled, swapped or another."""
    while True:
        at = dice.randrange(len(word))
        kind = dice.randrange(4)
        if kind == 0:
            new = word[:at] + word[at + 1 :]
        elif kind == 1:
            new = word[:at] + word[at] + word[at:]
        elif kind == 2 and at + 1 < len(word):
            new = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        else:
            new = word[:at] + dice.choice("aeiorstn") + word[at + 1 :]
        if new != word and new.isidentifier() and not keyword.iskeyword(new):
            return new


def changed(steps: Steps, number: int, text: str) -> Steps:
    return tuple((sid, text if i == number else old) for i, (sid, old) in enumerate(steps))


def put_in(steps: Steps, number: int, text: str) -> Steps:
    return (*steps[:number], ("planted", text), *steps[number:])


def bound_names(steps: Steps) -> dict[str, int]:
    """Names of the module -> the first step that binds them."""
    found: dict[str, int] = {}
    for number, (_, text) in enumerate(steps):
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.setdefault(node.name, number)
            elif isinstance(node, ast.Import | ast.ImportFrom):
                for alias in node.names:
                    found.setdefault(alias.asname or alias.name, number)
            elif isinstance(node, ast.Assign):
                for each in ast.walk(node):
                    if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store):
                        found.setdefault(each.id, number)
    return found


def makers_of(steps: Steps, place: Place) -> frozenset[str]:
    """The step of a place, and all before it: who made what it reads."""
    return frozenset(sid for sid, _ in steps[: place.step + 1])


Plant = Callable[[Steps, Random], Iterator[Fault]]
"""Gives faults at places in the order that the dice say; those that do no harm are skipped."""


Pick = Callable[[Place], tuple[int, int] | None]
"""The range of a word that can be misspelt at a place."""


def shuffled(found: list[Place], dice: Random) -> list[Place]:
    dice.shuffle(found)
    return found


def spelling(
    category: str, rules: set[str], pick: Callable[[Place], tuple[int, int] | None]
) -> Plant:
    """Misspell the word at a range."""

    def plant(steps: Steps, dice: Random) -> Iterator[Fault]:
        for place in shuffled(places(steps, ast.AST), dice):
            span = pick(place)
            if span is None:
                continue
            word = place.text[span[0] : span[1]]
            if len(word) < 3:
                continue
            new = place.put(*span, misspelt(word, dice))
            evidence = makers_of(steps, place)
            yield Fault(
                category, changed(steps, place.step, new), frozenset(rules), evidence, (word,)
            )

    return plant


def _name(place: Place) -> tuple[int, int] | None:
    node = place.node
    own = isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    if own and not hasattr(builtins, node.id) and node.id not in sys.stdlib_module_names:
        return place.span()
    return None


def _builtin(place: Place) -> tuple[int, int] | None:
    node = place.node
    if isinstance(node, ast.Name) and hasattr(builtins, node.id) and node.id.islower():
        return place.span()
    return None


def _attribute(place: Place) -> tuple[int, int] | None:
    node = place.node
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
        _, end = place.span()
        return end - len(node.attr), end
    return None


def _key(place: Place) -> tuple[int, int] | None:
    node, holder = place.node, place.parents.get(place.node)
    if (
        isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and isinstance(holder, ast.Subscript)
        and holder.slice is node
        and isinstance(holder.ctx, ast.Load)
    ):
        start, end = place.span()
        return start + 1, end - 1
    return None


def _column(place: Place) -> tuple[int, int] | None:
    node, holder = place.node, place.parents.get(place.node)
    named = isinstance(holder, ast.Call) and isinstance(holder.func, ast.Attribute)
    text = isinstance(node, ast.Constant) and isinstance(node.value, str)
    if text and named and holder.func.attr in ("groupby", "sort_values", "merge"):
        start, end = place.span()
        return start + 1, end - 1
    return None


def _module(place: Place) -> tuple[int, int] | None:
    node = place.node
    if isinstance(node, ast.Import):
        start, _ = place.span(node.names[0])
        return start, start + len(node.names[0].name)
    if isinstance(node, ast.ImportFrom) and node.module:
        start, _ = place.span()
        return start + 5, start + 5 + len(node.module)
    return None


def _member(place: Place) -> tuple[int, int] | None:
    holder = place.parents.get(place.node)
    if isinstance(place.node, ast.alias) and isinstance(holder, ast.ImportFrom):
        return place.span()
    return None


def _argument(place: Place) -> tuple[int, int] | None:
    holder = place.parents.get(place.node)
    if isinstance(place.node, ast.keyword) and place.node.arg and isinstance(holder, ast.Call):
        start, _ = place.span()
        return start, start + len(place.node.arg)
    return None


def _file(place: Place) -> tuple[int, int] | None:
    node = place.node
    text = node.value if isinstance(node, ast.Constant) else None
    if isinstance(text, str) and re.fullmatch(r"[\w/]+\.\w+", text):
        start, end = place.span()
        inside = place.text[start + 1 : end - 1]
        at = start + 1 + inside.rfind("/") + 1
        return at, at + len(inside.rpartition("/")[2].partition(".")[0])
    return None


def deleted(steps: Steps, dice: Random) -> Iterator[Fault]:
    for place in shuffled(places(steps, ast.Name), dice):
        name, first = place.node.id, bound_names(steps)  # type: ignore[attr-defined]
        if name in first and first[name] < place.step:
            at = dice.randrange(first[name] + 1, place.step + 1)
            yield Fault(
                "deleted name",
                put_in(steps, at, f"del {name}"),
                frozenset({"deleted"}),
                frozenset({"planted"}),
                (name,),
            )


def later(steps: Steps, dice: Random) -> Iterator[Fault]:
    """The step that makes a name comes after the one that reads it."""
    for place in shuffled(places(steps, ast.Name), dice):
        name, first = place.node.id, bound_names(steps)  # type: ignore[attr-defined]
        maker = first.get(name, place.step)
        if maker == place.step - 1:
            moved = [*steps]
            moved[maker], moved[place.step] = moved[place.step], moved[maker]
            yield Fault(
                "later name",
                tuple(moved),
                frozenset({"made_later"}),
                frozenset({steps[maker][0]}),
            )


def no_import(steps: Steps, dice: Random) -> Iterator[Fault]:
    for place in shuffled(places(steps, (ast.Import, ast.ImportFrom)), dice):
        start, end = place.span()
        text = place.put(start, min(end + 1, len(place.text)), "").strip("\n") or "pass"
        names = [alias.asname or alias.name for alias in place.node.names]  # type: ignore[attr-defined]
        for name in names[:1]:
            yield Fault(
                "missing import",
                changed(steps, place.step, text),
                frozenset({"missing_import"}),
                frozenset(sid for sid, _ in steps),
                () if len(names) > 1 else (name,),
            )


def in_place(steps: Steps, dice: Random) -> Iterator[Fault]:
    """`xs = sorted(ys)` becomes `xs = ys.sort()`, and `xs.append(1)` `xs = xs.append(1)`."""
    for place in shuffled(places(steps, (ast.Assign, ast.Expr)), dice):
        node = place.node
        match node:
            case ast.Assign(
                targets=[ast.Name(id=name)],
                value=ast.Call(
                    func=ast.Name(id="sorted"), args=[ast.Name(id=given)], keywords=keywords
                ),
            ):
                start, end = place.span(node.value)
                more = ", ".join(place.text[slice(*place.span(each))] for each in keywords)
                text = place.put(start, end, f"{given}.sort({more})")
            case ast.Expr(
                value=ast.Call(
                    func=ast.Attribute(value=ast.Name(id=name), attr="append" | "rotate" | "add")
                )
            ):
                start, _ = place.span()
                text = place.put(start, start, f"{name} = ")
            case _:
                continue
        yield Fault(
            "None from a change in place",
            changed(steps, place.step, text),
            frozenset({"none_from_in_place"}),
            frozenset({steps[place.step][0]}),
            (name,),
        )


def no_return(steps: Steps, dice: Random) -> Iterator[Fault]:
    for place in shuffled(places(steps, ast.Return), dice):
        function = place.parents.get(place.node)
        while function is not None and not isinstance(
            function, ast.FunctionDef | ast.AsyncFunctionDef
        ):
            function = place.parents.get(function)
        if function is None or function.body[-1] is not place.node:
            continue
        start, _ = place.span()
        text = place.put(start, start + len("return "), "")
        yield Fault(
            "no return",
            changed(steps, place.step, text),
            frozenset({"no_return", "none_on_some_way"}),
            frozenset({steps[place.step][0]}),
            (function.name,),
        )


def no_await(steps: Steps, dice: Random) -> Iterator[Fault]:
    for place in shuffled(places(steps, ast.Await), dice):
        start, _ = place.span()
        text = place.put(start, start + len("await "), "")
        yield Fault(
            "coroutine not awaited",
            changed(steps, place.step, text),
            frozenset({"not_awaited"}),
            frozenset({steps[place.step][0]}),
        )


def _own_calls(steps: Steps) -> list[tuple[Place, ast.Call]]:
    own = {
        node.name
        for _, text in steps
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    found = list[tuple[Place, ast.Call]]()
    for place in places(steps, ast.Call):
        node = place.node
        assert isinstance(node, ast.Call)
        called = node.func.id if isinstance(node.func, ast.Name) else ""
        called = node.func.attr if isinstance(node.func, ast.Attribute) else called
        if called in own and node.args:
            found.append((place, node))
    return found


def too_few(steps: Steps, dice: Random) -> Iterator[Fault]:
    calls = _own_calls(steps)
    dice.shuffle(calls)
    for place, call in calls:
        if call.keywords or not call.args:
            continue
        start, end = place.span(call.args[-1])
        start = place.span(call.args[-2])[1] if len(call.args) > 1 else start
        yield Fault(
            "argument missing",
            changed(steps, place.step, place.put(start, end, "")),
            frozenset({"missing_argument"}),
            makers_of(steps, place),
        )


def too_many(steps: Steps, dice: Random) -> Iterator[Fault]:
    calls = _own_calls(steps)
    dice.shuffle(calls)
    for place, call in calls:
        _, end = place.span(call.args[-1])
        more = ", ".join(["0"] * (5 - len(call.args)))
        yield Fault(
            "argument too many",
            changed(steps, place.step, place.put(end, end, f", {more}")),
            frozenset({"too_many_arguments"}),
            makers_of(steps, place),
        )


def unpacking(steps: Steps, dice: Random) -> Iterator[Fault]:
    """A name too few or too many."""
    for place in shuffled(places(steps, ast.Tuple), dice):
        node = place.node
        assert isinstance(node, ast.Tuple)
        if not isinstance(node.ctx, ast.Store) or any(
            isinstance(each, ast.Starred) for each in node.elts
        ):
            continue
        end = place.span(node.elts[-1])[1]
        if dice.random() < 0.5 and len(node.elts) > 2:
            text = place.put(place.span(node.elts[-2])[1], end, "")
        else:
            text = place.put(end, end, ", extra")
        yield Fault(
            "unpacking",
            changed(steps, place.step, text),
            frozenset({"unpack_count"}),
            makers_of(steps, place),
        )


def no_pairs(steps: Steps, dice: Random) -> Iterator[Fault]:
    """`.items()` or `enumerate` forgotten."""
    for place in shuffled(places(steps, (ast.For, ast.comprehension)), dice):
        node = place.node
        assert isinstance(node, ast.For | ast.comprehension)
        match node.iter:
            case ast.Call(func=ast.Attribute(value=value, attr="items")):
                new = place.text[slice(*place.span(value))]
            case ast.Call(func=ast.Name(id="enumerate"), args=[value, *_]):
                new = place.text[slice(*place.span(value))]
            case _:
                continue
        yield Fault(
            "pairs forgotten",
            changed(steps, place.step, place.put(*place.span(node.iter), new)),
            frozenset({"items_of_dict", "enumerate", "unpack_count"}),
            makers_of(steps, place),
        )


def one_too_far(steps: Steps, dice: Random) -> Iterator[Fault]:
    for place in shuffled(places(steps, ast.Call), dice):
        match place.node:
            case ast.Call(func=ast.Name(id="range"), args=[*_, last]):
                end = place.span(last)[1]
                yield Fault(
                    "index range",
                    changed(steps, place.step, place.put(end, end, " + 1")),
                    frozenset({"index_range"}),
                    makers_of(steps, place),
                )
            case _:
                continue


def position(steps: Steps, dice: Random) -> Iterator[Fault]:
    for place in shuffled(places(steps, ast.Subscript), dice):
        node = place.node
        assert isinstance(node, ast.Subscript)
        if isinstance(node.slice, ast.Constant | ast.UnaryOp) and isinstance(node.ctx, ast.Load):
            start, end = place.span(node.slice)
            if place.text[start:end].lstrip("-").isdigit():
                yield Fault(
                    "index",
                    changed(steps, place.step, place.put(start, end, "25")),
                    frozenset({"index_range", "missing_key"}),
                    makers_of(steps, place),
                    ("25",),
                )


def no_conversion(steps: Steps, dice: Random) -> Iterator[Fault]:
    """`str(n)`, `int(text)` or `float(text)` forgotten."""
    for place in shuffled(places(steps, ast.Call), dice):
        match place.node:
            case ast.Call(func=ast.Name(id="str" | "int" | "float"), args=[value], keywords=[]):
                new = place.text[slice(*place.span(value))]
                yield Fault(
                    "str for a number",
                    changed(steps, place.step, place.put(*place.span(), new)),
                    frozenset({"type_mismatch", "join_of_others"}),
                    frozenset(sid for sid, _ in steps[: place.step + 2]),
                )
            case _:
                continue


def _cut(category: str, rule: str, pattern: str, new: str = "") -> Plant:
    """Take out what a pattern finds in a line."""

    def plant(steps: Steps, dice: Random) -> Iterator[Fault]:
        found = [
            (number, each)
            for number, (_, text) in enumerate(steps)
            for each in re.finditer(pattern, text, re.MULTILINE)
        ]
        dice.shuffle(found)
        for number, each in found:
            text = steps[number][1]
            at, to = each.span("cut")
            try:
                ast.parse(text[:at] + new + text[to:])
            except SyntaxError:
                here = frozenset({steps[number][0]})
                broken = changed(steps, number, text[:at] + new + text[to:])
                yield Fault(category, broken, frozenset({rule}), here)

    return plant


def misspelt_keyword(steps: Steps, dice: Random) -> Iterator[Fault]:
    found = [
        (number, each)
        for number, (_, text) in enumerate(steps)
        for each in re.finditer(
            r"^ *(return|for|if|else|def|class|import|from|while|with)\b", text, re.M
        )
    ]
    dice.shuffle(found)
    for number, each in found:
        text, word = steps[number][1], each[1]
        new = misspelt(word, dice)
        try:
            ast.parse(text[: each.start(1)] + new + text[each.end(1) :])
        except SyntaxError:
            broken = changed(steps, number, text[: each.start(1)] + new + text[each.end(1) :])
            here = frozenset({steps[number][0]})
            yield Fault("misspelt keyword", broken, frozenset({"keyword_typo"}), here, (word,))


def hidden_builtin(steps: Steps, dice: Random) -> Iterator[Fault]:
    for place in shuffled(places(steps, ast.Call), dice):
        match place.node:
            case ast.Call(func=ast.Name(id=name)) if hasattr(builtins, name):
                values = {"list": "[1, 2]", "str": "'text'", "max": "10", "sum": "0"}
                text = f"{name} = {values.get(name, '3')}"
                yield Fault(
                    "hidden builtin",
                    put_in(steps, place.step, text),
                    frozenset({"shadowed"}),
                    frozenset({"planted"}),
                    (name,),
                )
            case _:
                continue


def hidden_module(steps: Steps, dice: Random) -> Iterator[Fault]:
    for place in shuffled(places(steps, ast.Attribute), dice):
        match place.node:
            case ast.Attribute(value=ast.Name(id=name)) if name in sys.stdlib_module_names:
                yield Fault(
                    "hidden module",
                    put_in(steps, place.step, f"{name} = 'text'"),
                    frozenset({"shadowed", "overwritten"}),
                    frozenset({"planted"}),
                    (name,),
                )
            case _:
                continue


def overwritten(steps: Steps, dice: Random) -> Iterator[Fault]:
    """A step in between gives the name to something else, and goes on with it."""
    for place in shuffled(places(steps, ast.Name), dice):
        name, first = place.node.id, bound_names(steps)  # type: ignore[attr-defined]
        if name in first and first[name] < place.step:
            maker = steps[first[name]][1]
            if re.search(rf"^{name} = [\[{{]|^{name} = (list|sorted|dict|Counter)\(", maker, re.M):
                text = f"{name} = len({name})\nprint('size', {name})"
                yield Fault(
                    "overwritten by another type",
                    put_in(steps, place.step, text),
                    frozenset({"overwritten"}),
                    frozenset({"planted"}),
                    (name,),
                )


def failed_maker(steps: Steps, dice: Random) -> Iterator[Fault]:
    """The step that makes a name fails (a misspelt name in it); then a reader of it is run."""
    for place in shuffled(places(steps, ast.Name), dice):
        name, first = place.node.id, bound_names(steps)  # type: ignore[attr-defined]
        maker = first.get(name, place.step)
        if maker >= place.step:
            continue
        text = steps[maker][1]
        calls = re.search(r"\b(print|sorted|len|list|str|sum)\(", text)
        if calls is not None:
            broken = text[: calls.start(1)] + misspelt(calls[1], dice) + text[calls.end(1) :]
            yield Fault(
                "maker failed",
                changed(steps, maker, broken),
                frozenset({"producer_failed"}),
                frozenset({steps[maker][0]}),
                only=steps[place.step][0],
            )


def stale_maker(steps: Steps, dice: Random) -> Iterator[Fault]:
    """A step is run alone: what it needs was never made."""
    for place in shuffled(places(steps, ast.Name), dice):
        name, first = place.node.id, bound_names(steps)  # type: ignore[attr-defined]
        if first.get(name, place.step) < place.step:
            yield Fault(
                "maker not run",
                steps,
                frozenset({"producer_stale"}),
                frozenset(sid for sid, _ in steps[: place.step]),
                before=(),
                only=steps[place.step][0],
            )


def package(steps: Steps, dice: Random) -> Iterator[Fault]:
    at = dice.randrange(len(steps))
    module, name = dice.choice(
        [("sklearn", "scikit-learn"), ("cv2", "opencv-python"), ("bs4", "beautifulsoup4"),
         ("seaborn", "seaborn"), ("torch", "torch"), ("skimage", "scikit-image")]
    )  # fmt: skip
    text = f"import {module}\n" + steps[at][1]
    yield Fault(
        "missing package",
        changed(steps, at, text),
        frozenset({"missing_package"}),
        frozenset({steps[at][0]}),
        (name,),
    )


def renamed(steps: Steps, dice: Random) -> Iterator[Fault]:
    """It ran well; then the step that makes a name was edited to call it otherwise."""
    for place in shuffled(places(steps, ast.Name), dice):
        name, first = place.node.id, bound_names(steps)  # type: ignore[attr-defined]
        maker = first.get(name, place.step)
        if maker < place.step and re.search(rf"^{name} = ", steps[maker][1], re.M):
            text = steps[maker][1]
            here = [each for each in places(steps, ast.Name) if each.step == maker]
            for each in sorted(here, key=lambda each: each.span(), reverse=True):
                if each.node.id == name:  # type: ignore[attr-defined]
                    start, end = each.span()
                    text = f"{text[:start]}the_{name}_made{text[end:]}"
            yield Fault(
                "renamed since",
                changed(steps, maker, text),
                frozenset({"renamed"}),
                frozenset({steps[maker][0]}),
                (f"the_{name}_made",),
                before=steps,
            )


def key_since(steps: Steps, dice: Random) -> Iterator[Fault]:
    """It ran well; then a key was misspelt where the mapping is made."""
    for place in shuffled(places(steps, ast.Dict), dice):
        node = place.node
        assert isinstance(node, ast.Dict)
        keys = [k for k in node.keys if isinstance(k, ast.Constant) and isinstance(k.value, str)]
        if not keys:
            continue
        key = dice.choice(keys)
        word = str(key.value)
        new = misspelt(word, dice) if len(word) > 2 else word
        text = re.sub(rf"'{word}':", f"'{new}':", place.text)
        yield Fault(
            "key changed since",
            changed(steps, place.step, text),
            frozenset({"key_changed"}),
            frozenset({steps[place.step][0]}),
            (word,),
            before=steps,
        )


def recursion(steps: Steps, dice: Random) -> Iterator[Fault]:
    for place in shuffled(places(steps, ast.FunctionDef), dice):
        node = place.node
        assert isinstance(node, ast.FunctionDef)
        if any(isinstance(each, ast.Name) and each.id == node.name for each in ast.walk(node)):
            for each in ast.walk(node):
                if isinstance(each, ast.Compare):
                    text = place.put(*place.span(each), "False")
                    if isinstance(each.ops[0], ast.NotIn):
                        text = place.put(*place.span(each), "True")
                    yield Fault(
                        "endless recursion",
                        changed(steps, place.step, text),
                        frozenset({"recursion"}),
                        frozenset({steps[place.step][0]}),
                        (node.name,),
                    )


def constants(steps: Steps, dice: Random) -> Iterator[Fault]:
    for place in shuffled(places(steps, ast.Constant), dice):
        value = place.node.value  # type: ignore[attr-defined]
        if isinstance(value, bool):
            yield Fault(
                "constant of another language",
                changed(steps, place.step, place.put(*place.span(), str(value).lower())),
                frozenset({"other_language", "name_typo"}),
                frozenset({steps[place.step][0]}),
                (str(value),),
            )


def no_quotes(steps: Steps, dice: Random) -> Iterator[Fault]:
    for place in shuffled(places(steps, ast.Constant), dice):
        span = _key(place)
        if span is not None:
            start, end = place.span()
            key = place.text[slice(*span)]
            if key.isidentifier() and key not in bound_names(steps):
                yield Fault(
                    "key without quotes",
                    changed(steps, place.step, place.put(start, end, key)),
                    frozenset({"missing_quotes"}),
                    makers_of(steps, place),
                    (key,),
                )


def no_self(steps: Steps, dice: Random) -> Iterator[Fault]:
    found = [
        (number, each)
        for number, (_, text) in enumerate(steps)
        for each in re.finditer(
            r"(?<=[ (=])(?P<a>self\.)\w+(?! =)|(?<=\()(?P<b>self(, )?)(?=\w|\))", text
        )
    ]
    dice.shuffle(found)
    for number, each in found:
        start, end = each.span("a") if each["a"] else each.span("b")
        text = steps[number][1][:start] + steps[number][1][end:]
        yield Fault(
            "self forgotten",
            changed(steps, number, text),
            frozenset({"missing_self"}),
            frozenset(sid for sid, _ in steps),
        )


def brackets(steps: Steps, dice: Random) -> Iterator[Fault]:
    """`xs(0)` for `xs[0]`, and `d.items` for `d.items()`."""
    for place in shuffled(places(steps, (ast.Subscript, ast.Call)), dice):
        match place.node:
            case ast.Subscript(value=ast.Name() as value, slice=index, ctx=ast.Load()) if (
                not isinstance(index, ast.Slice | ast.Tuple)
            ):
                start, end = place.span(value)[1], place.span()[1]
                inner = place.text[slice(*place.span(index))]
                text, rule = place.put(start, end, f"({inner})"), "called_not_indexed"
            case ast.Call(func=ast.Attribute() as function, args=[], keywords=[]):
                text, rule = place.put(place.span(function)[1], place.span()[1], ""), "not_called"
            case _:
                continue
        yield Fault(
            "brackets of a call",
            changed(steps, place.step, text),
            frozenset({rule}),
            makers_of(steps, place),
        )


CATEGORIES: Final[Mapping[str, Plant]] = {
    "misspelt name": spelling("misspelt name", {"name_typo"}, _name),
    "misspelt builtin": spelling("misspelt builtin", {"name_typo"}, _builtin),
    "misspelt attribute": spelling("misspelt attribute", {"attribute_typo"}, _attribute),
    "misspelt key": spelling("misspelt key", {"key_typo"}, _key),
    "misspelt module": spelling("misspelt module", {"module_typo"}, _module),
    "misspelt member": spelling("misspelt member", {"member_typo"}, _member),
    "misspelt argument": spelling("misspelt argument", {"argument_typo"}, _argument),
    "misspelt file": spelling("misspelt file", {"file_typo"}, _file),
    "deleted name": deleted,
    "later name": later,
    "missing import": no_import,
    "None from a change in place": in_place,
    "no return": no_return,
    "coroutine not awaited": no_await,
    "argument missing": too_few,
    "argument too many": too_many,
    "unpacking": unpacking,
    "pairs forgotten": no_pairs,
    "index range": one_too_far,
    "index": position,
    "str for a number": no_conversion,
    "missing colon": _cut("missing colon", "missing_colon", r"(?P<cut>:)$"),
    "missing bracket": _cut("missing bracket", "open_bracket", r"(?P<cut>[)\]}])"),
    "indentation": _cut("indentation", "indentation", r"(?<=\n)(?P<cut> +)(?=\S)"),
    "missing quote": _cut("missing quote", "open_quote", r"(?P<cut>')"),
    "missing comma": _cut("missing comma", "missing_comma", r"(?P<cut>,)"),
    "misspelt keyword": misspelt_keyword,
    "hidden builtin": hidden_builtin,
    "hidden module": hidden_module,
    "overwritten by another type": overwritten,
    "maker failed": failed_maker,
    "maker not run": stale_maker,
    "missing package": package,
    "renamed since": renamed,
    "key changed since": key_since,
    "endless recursion": recursion,
    "constant of another language": constants,
    "key without quotes": no_quotes,
    "self forgotten": no_self,
    "brackets of a call": brackets,
}
FRAME_CATEGORIES: Final[Mapping[str, Plant]] = {
    "misspelt column": spelling("misspelt column", {"key_typo"}, _column),
    **{
        name: CATEGORIES[name]
        for name in (
            "misspelt name", "misspelt attribute", "misspelt key", "misspelt argument",
            "missing import", "deleted name", "str for a number", "overwritten by another type",
            "no return", "unpacking",
        )
    },
}  # fmt: skip
