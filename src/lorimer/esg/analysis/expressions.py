"""What expressions read, write and change in place."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from lorimer.esg.analysis import bindings as names
from lorimer.esg.analysis.mutators import AT_MOST_ONE, FIRST_ARGUMENT, METHODS
from lorimer.esg.analysis.parsing import parsed
from lorimer.esg.analysis.scopes import Frame, Late, Scopes

MAX_NESTED: Final = 20
"""`exec` in `exec` in ...: deeper levels are unknown."""
_LAZY: Final = sys.version_info >= (3, 14)
"""Annotations are evaluated on demand (PEP 649)."""
_AT_NAME: Final = re.compile(r"@([A-Za-z_]\w*)")


class Expressions(Scopes):
    """Walks expressions; `body` walks the statements of a function."""

    def body(self, statements: Iterable[ast.stmt]) -> bool:
        raise NotImplementedError

    def children(self, node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self.expr(child)

    def annotation(self, node: ast.expr | None) -> None:
        if node is None or self.future:
            return
        if not _LAZY:
            self.expr(node)
        elif self._class is not None:  # a decorator of the class may ask for it
            with self._lazily(self._class):
                self.expr(node)

    def expr(self, node: ast.expr) -> None:
        handler = _HANDLERS.get(type(node))
        if handler is None:
            self.children(node)
        else:
            handler(self, node)

    def name(self, node: ast.Name) -> None:
        self.load(node.id)

    def nothing(self, _node: ast.AST) -> None:
        """A constant, `pass`, `global`."""

    def binary(self, node: ast.BinOp) -> None:
        self.expr(node.left)
        self.expr(node.right)

    def compare(self, node: ast.Compare) -> None:
        self.expr(node.left)
        for each in node.comparators:
            self.expr(each)

    def sequence(self, node: ast.Tuple | ast.List) -> None:
        for each in node.elts:
            self.expr(each)

    def dictionary(self, node: ast.Dict) -> None:
        for key, value in zip(node.keys, node.values, strict=True):
            if key is not None:
                self.expr(key)
            self.expr(value)

    def text(self, node: ast.JoinedStr) -> None:
        for each in node.values:
            self.expr(each)

    def placeholder(self, node: ast.FormattedValue) -> None:
        self.expr(node.value)
        if node.format_spec is not None:
            self.expr(node.format_spec)

    def attribute(self, node: ast.Attribute) -> None:
        self.expr(node.value)

    def subscript(self, node: ast.Subscript) -> None:
        name = named_by_text(node)
        if name is not None:
            self.load(name)
            return
        self.expr(node.value)
        self.expr(node.slice)

    def walrus(self, node: ast.NamedExpr) -> None:
        self.expr(node.value)
        self.store(node.target.id)
        if self._frames and not self._late and self._frames[-1].kind is ast.comprehension:
            self.covered.discard(node.target.id)  # the loop may not run at all

    def maybe(self, node: ast.BoolOp | ast.IfExp) -> None:
        """The right-hand side may not be evaluated."""
        first, *others = (
            node.values if isinstance(node, ast.BoolOp) else [node.test, node.body, node.orelse]
        )
        self.expr(first)
        before = set(self.covered)
        for other in others:
            self.expr(other)
            if len(self.covered) != len(before):
                self.covered = set(before)

    def lambda_(self, node: ast.Lambda) -> None:
        late = self.function(node, node.args, [node.body])
        if self._late is None:
            if self._class is not None:
                self._class.add(late)
            self._use(late)

    def comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp) -> None:
        self._comprehend(node.generators, [node.elt])

    def dict_comprehension(self, node: ast.DictComp) -> None:
        self._comprehend(node.generators, [node.key, node.value])

    def _comprehend(
        self, generators: Sequence[ast.comprehension], elements: Sequence[ast.expr]
    ) -> None:
        self.expr(generators[0].iter)
        bound = {name for part in generators for name in names.targets(part.target)}
        self._frames.append(Frame(ast.comprehension, bound))
        for number, part in enumerate(generators):
            if number:
                self.expr(part.iter)
            if not isinstance(part.target, ast.Name):
                self._parts(part.target)
            for condition in part.ifs:
                self.expr(condition)
        for element in elements:
            self.expr(element)
        self._frames.pop()

    def _parts(self, target: ast.expr) -> None:
        """`for o.a in ...` changes o."""
        if isinstance(target, ast.Tuple | ast.List):
            for element in target.elts:
                self._parts(element)
        elif isinstance(target, ast.Attribute | ast.Subscript):
            self.children(target)
            self.mutate(target)

    def call(self, node: ast.Call) -> None:
        function = node.func
        self.expr(function)
        for argument in node.args:
            self.expr(argument)
        for keyword in node.keywords:
            self.expr(keyword.value)
            match keyword:
                case ast.keyword(arg="inplace", value=ast.Constant(value=True)):
                    self.mutate(function)
                case ast.keyword(arg="out", value=value):
                    self.mutate(value)
                case _:
                    pass
        if isinstance(function, ast.Attribute):
            self._method(function, node)
        elif isinstance(function, ast.Name):
            self._named(function.id, node)

    def _method(self, function: ast.Attribute, node: ast.Call) -> None:
        attribute = function.attr
        if attribute in METHODS and not (attribute in AT_MOST_ONE and len(node.args) > 1):
            self.mutate(function.value)
        elif attribute in FIRST_ARGUMENT and node.args:
            self.mutate(node.args[0])
        elif attribute in ("query", "eval") and node.args:
            text = node.args[0]
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                for name in _AT_NAME.findall(text.value):
                    self.load(name)

    def _named(self, function: str, node: ast.Call) -> None:
        if function in FIRST_ARGUMENT and node.args:
            self.mutate(node.args[0])
        elif function in ("exec", "eval") and node.args:
            if len(node.args) == 1 and not node.keywords:  # otherwise it has its own namespace
                self._run(node.args[0])
        elif function in ("globals", "locals", "vars", "dir") and not node.args:
            in_function = any(frame.kind is not ast.ClassDef for frame in self._frames)
            if function == "globals" or not in_function:
                self.unknown_reads = self.unknown_writes = True

    def _run(self, text: ast.expr) -> None:
        """`exec` and `eval` of a literal string; other texts are unknown."""
        if isinstance(text, ast.Constant) and isinstance(text.value, str):
            tree = parsed(text.value)
            if tree is None:
                return  # it will raise
            if self._nested < MAX_NESTED:
                self._nested += 1
                self.body(tree.body)
                self._nested -= 1
                return
        self.unknown_reads = self.unknown_writes = True

    # ------------------------------------------------------------- functions

    def function(
        self,
        node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda,
        arguments: ast.arguments,
        body: Sequence[ast.stmt] | Sequence[ast.expr],
        returns: ast.expr | None = None,
    ) -> Late:
        """Notes what the body will do, and walks what is evaluated at once."""
        for value in names.defaults(arguments):
            self.expr(value)
        late = self._late or Late()
        with self._type_parameters(node):
            self._signature(arguments, returns)
            own = names.bindings(body, arguments, walrus=self.walrus_used)
            covered, breaks = self.covered, self._breaks
            self.covered, self._breaks = set(), []
            with self._lazily(late):
                self._frames.append(Frame(ast.FunctionDef, own.local, own.of_module))
                for part in body:
                    if isinstance(part, ast.expr):
                        self.expr(part)
                    else:
                        self.body([part])
                self._frames.pop()
            self.covered, self._breaks = covered, breaks
        return late

    def _signature(self, arguments: ast.arguments, returns: ast.expr | None) -> None:
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        every += [each for each in (arguments.vararg, arguments.kwarg) if each is not None]
        for each in every:
            self.annotation(each.annotation)
        self.annotation(returns)

    def _keep(self, name: str, late: Late) -> None:
        """A function of the module waits under its name, a method under that of its class."""
        if self._late is not None:
            return
        self._defined += 1
        if self._class is not None:
            self._class.add(late)
        elif not self._frames:
            self._functions[name] = late

    @contextmanager
    def _type_parameters(self, node: ast.AST) -> Generator[None]:
        """PEP 695: `def f[T: bound]`. Nodes of Python 3.11 have none."""
        parameters: list[ast.AST] = getattr(node, "type_params", [])
        if not parameters:
            yield
            return
        bound = {str(getattr(parameter, "name", "")) for parameter in parameters}
        self._frames.append(Frame(ast.FunctionDef, bound))
        with self._lazily(self._late or Late()):
            for parameter in parameters:
                self.children(parameter)
        yield
        self._frames.pop()


def named_by_text(node: ast.expr) -> str | None:
    """The name in `globals()["name"]`."""
    match node:
        case ast.Subscript(
            value=ast.Call(func=ast.Name(id="globals"), args=[], keywords=[]),
            slice=ast.Constant(value=str() as name),
        ):
            return name
        case _:
            return None


def handlers(
    walker: type[Expressions], kinds: Mapping[str, str]
) -> dict[type[ast.AST], Callable[..., object]]:
    """Node class -> method of the walker. Classes missing in this Python are omitted."""
    return {
        getattr(ast, kind): getattr(walker, method)
        for kind, method in kinds.items()
        if hasattr(ast, kind)
    }


_HANDLERS: Final = handlers(
    Expressions,
    {
        "Name": "name",
        "Constant": "nothing",
        "BinOp": "binary",
        "Compare": "compare",
        "Tuple": "sequence",
        "List": "sequence",
        "Dict": "dictionary",
        "JoinedStr": "text",
        "FormattedValue": "placeholder",
        "Attribute": "attribute",
        "Subscript": "subscript",
        "NamedExpr": "walrus",
        "BoolOp": "maybe",
        "IfExp": "maybe",
        "Lambda": "lambda_",
        "ListComp": "comprehension",
        "SetComp": "comprehension",
        "GeneratorExp": "comprehension",
        "DictComp": "dict_comprehension",
        "Call": "call",
    },
)
