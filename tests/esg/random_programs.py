"""Random programs with the traps of a shared namespace, and what running all of one gives."""

from __future__ import annotations

import contextlib
import io
import random
import re
import types
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from tests.esg import shelf
from tests.esg.alike import picture, plain

NAMES = "abcde"
MISSING = object()
BEGIN = (
    "import random\nrandom.seed(0)",
    *(f"{name} = {number}" for number, name in enumerate(NAMES)),
    "def f():\n    return a",
    "class K:\n    v = 1\n    def m(self):\n        return b",
)
TEMPLATES = (
    "@ = #",
    "@ = @ + #",
    "@ = [#, #]",
    "@ = @",
    "@.append(#)",
    "@ += @",
    "@ += #",
    "del @",
    "@ = f()",
    "def f():\n    return @",
    "def f():\n    global a\n    a = #\n    return @",
    "def f(x=@):\n    return x",
    "def f():\n    @ = #\n    return @",
    "print(@)",
    "@ = iter([#, #, #])",
    "@ = next(@)",
    "@ = (x * # for x in [#, #])",
    "if # > 2:\n    @ = #",
    "@ = random.random()",
    "random.seed(#)",
    "class K:\n    v = @\n    def m(self):\n        return @",
    "@ = K()",
    "@ = @.m()",
    "K.v = #",
    "@ = @.v",
    "@.n = #",
    "@ = [@, @]",
    "@[0] = @",
    "@ = {'k': @}",
    "@['k'] = #",
    "exec('@ = #')",
    "@ = eval('@')",
    "@ = [x for x in @]",
    "@ = list(@)",
    "try:\n    @ = @ + @\nexcept Exception:\n    @ = #",
    "@ = lambda: @",
    "@ = @()",
    "@",
    "globals()['@'] = #",
    "print(sorted(k for k in globals() if len(k) == 1))",
    "@ = '@' in globals()",
    "for @ in range(#):\n    @ = #",
    "@ = [[k for k in range(#)] for k in range(@)]",
    "with contextlib.suppress(Exception):\n    @ = @[#]",
    # iterators and generators
    "@ = iter(@)",
    "@ = zip(@, @)",
    "@ = enumerate(@)",
    "def f():\n    yield @\n    yield @",
    "def f():\n    while True:\n        @.append(#)\n        yield len(@)",
    "@ = f()\n@ = next(@)",
    "@ = list(@), @",
    "@ = map(f, @)",
    "@ = (y for y in @)",
    "@ = [@, iter([#, #])]",
    "@ = next(@[1])",
    # closures over names and cells
    "def f(x=[]):\n    x.append(#)\n    return x",
    "def f(*, x={}):\n    x[#] = @\n    return x",
    "def make():\n    n = [#]\n    def inc():\n        n.append(@)\n        return n\n"
    "    return inc\n@ = make()",
    "def make():\n    n = #\n    def inc():\n        nonlocal n\n        n += 1\n"
    "        return n\n    def get():\n        return n\n    return inc, get\n@, @ = make()",
    "@ = lambda x=@: x",
    "@ = [lambda: @, lambda: @]",
    "@ = @[#]()",
    "f.n = @",
    "@ = f.n",
    "f.__defaults__ = (@,)",
    # functions that change what is global
    "def f():\n    @.append(#)\n    return @",
    "def f():\n    global @\n    @ = [@, #]\n    return @",
    "def f():\n    del globals()['@']\n    return 0",
    "def f(x=@):\n    x.append(x)\n    return #",
    # nested containers
    "@ = (@, [@])",
    "@ = @[1]",
    "@[1].append(@)",
    "@ = [@] * 2",
    "@ = {'k': [@], 'l': @}",
    "@['k'].append(#)",
    "@ = @['k']",
    "@ = {@: @}",
    "@ = {#, #}",
    "@.add(#)",
    "@.discard(#)",
    "@.clear()",
    "@.pop()",
    "@.reverse()",
    "@[:] = @",
    "@ = @.copy()",
    "@.update(@)",
    "@ = @.append",
    "@(#)",
    "@ = __import__('collections').deque([@, #], maxlen=3)",
    "@ = __import__('collections').defaultdict(list)\n@[#].append(@)",
    "@ = bytearray(b'ab')\n@ += b'c'",
    "@ = __import__('functools').partial(f, @)",
    "@ = __import__('copy').deepcopy(@)",
    "@ is @",
    "print(@ is @)",
    # classes
    "class K:\n    xs = []\n    def add(self, x):\n        self.xs.append(x)\n"
    "        return self.xs",
    "class K:\n    __slots__ = ('n', 'm')",
    "class K(list):\n    pass",
    "class L(K):\n    w = @",
    "@ = K()\n@ = [@, K]",
    "K.xs.append(#)",
    "K.xs = @",
    "@ = @.add(@)",
    "K.m = lambda self: @",
    "del K.v",
    "K.k = K()",
    "@ = K.k",
    "@ = L()",
    "@ = @.w",
    "@ = type(@)",
    "@ = vars(@)",
    "@.__dict__['n'] = #",
    "@.__class__ = K",
    "@ = @.n",
    # modules
    "m.kept = @",
    "@ = m.kept",
    "@ = [m.kept, @]",
    "m.kept.append(#)",
    "m.kept += @",
    "del m.kept",
    "print(getattr(m, 'kept', None))",
    "setattr(m, 'kept', @)",
    "def f():\n    m.kept = @\n    return m.total",
    "m.total += #",
    "m.count()\nprint(m.total)",
    "@ = m.note(@)",
    "m.note(#)\n@ = m.items",
    "print(len(m.items), m.total)",
    "m.items = @",
    "m.items.append(@)",
    "@ = m.count",
    "random.kept = @",
    "@ = random.kept",
    "@ = [m, random]",
    "@ = @[#].kept",
    "@[#].kept = @",
    # random numbers
    "@ = random.Random(#)",
    "@ = @.random()",
    "@ = [#, #, #]\nrandom.shuffle(@)",
    # errors that are caught
    "try:\n    @.append(#)\n    @.nothing\nexcept AttributeError as error:\n    @ = str(error)",
    "try:\n    @[0] = #\n    raise KeyError(@)\nexcept Exception as error:\n    @ = error.args",
    # enums, proxies, annotations
    "import enum\nclass E(enum.Enum):\n    A = #\n    B = '@'\n    def m(self):\n"
    "        return [@, #]",
    "@ = E.A",
    "@ = E.B",
    "E.A.n = @",
    "@ = [E.A, E.B]",
    "@ = {E.A: @}",
    "@ = E(#)",
    "@ = vars(K)",
    "@ = [k for k in vars(K) if k != '__slotnames__']",
    "@ = K.v\ndel K.v\nK.v = @",
    "@ = __import__('types').MappingProxyType(@)",
    "@ = @['v']",
    "class K:\n    '@'\n    v: '#' = @\n    def m(self, x: '@' = #):\n        return @",
    "@ = K.__doc__",
    "@ = K.__annotations__",
    "@ = K.m.__annotations__",
    "K.__doc__ = '@'",
    "f.__doc__ = '#'",
    "@ = f.__doc__",
    "K.__name__ = '@#'",
    "@ = K.__name__",
    # functions that other objects lead to
    "@ = [f]",
    "@ = {'k': f}",
    "@.n = f",
    "K.p = property(lambda self: f())",
    "@ = @.p",
    "K.s = staticmethod(f)",
    "@ = @.s()",
    "K.c = classmethod(lambda cls: [cls, @])",
    "@ = @.c()",
    "@ = __import__('functools').lru_cache(f)",
    "@ = @['k']()",
    "@ = @.n()",
    "def f():\n    class Q:\n        v = @\n    return Q.v",
    "def f():\n    global @\n    @ = #\n    del @",
    "def f():\n    return sorted(k for k in globals().keys() if len(k) == 1)",
    "def f():\n    return sorted(k for k, v in globals().items() if v is @)",
    "def f():\n    return sorted({**globals()}.keys() & {'a', 'b', 'c', 'd', 'e'})",
    "def f():\n    return eval('@')",
    "def f():\n    exec('@ = #', globals())\n    return @",
    "@ = #\nf()",
    "def deco(g):\n    def w(*a):\n        @.append(#)\n        return g(*a)\n    return w\n"
    "@deco\ndef f():\n    return @",
    "def f(*, x=@):\n    return [x, @]",
    # functions with globals of their own
    "@ = {'x': @}\nexec('def g():\\n    return x', @)",
    "@ = @['g']",
    "@['x'] = #",
    # exceptions, partials, slices
    "@ = OSError(#, '@')",
    "@.errno = #",
    "@ = @.errno",
    "@ = StopIteration(@)",
    "@ = @.value",
    "@.value = #",
    "try:\n    f(#, #, #)\nexcept TypeError as error:\n    @ = error.args",
    "try:\n    raise ValueError(@) from KeyError(#)\nexcept ValueError as error:\n"
    "    error.__traceback__ = None\n    error.__cause__.__traceback__ = None\n    @ = error",
    "@ = @.__cause__",
    "@.args = (@,)",
    "@.add_note('@')",
    "@ = slice(@, #)",
    "@ = @.start",
    "@ = __import__('functools').partial(f)\n@.n = @",
    # descriptors, dataclasses, metaclasses
    "class D:\n    def __get__(self, one, kind):\n        return @\n"
    "    def __set__(self, one, value):\n        @.append(value)\nclass K:\n    d = D()\n"
    "    v = #",
    "@ = @.d",
    "@.d = #",
    "class K:\n    v = #\n    def __getattr__(self, name):\n        return [name, @]",
    "@ = @.unknown",
    "class K:\n    v = #\n    def __setattr__(self, name, value):\n"
    "        self.__dict__[name] = [value, @]",
    "from dataclasses import dataclass, field\n@dataclass\nclass K:\n    v: int = #\n"
    "    xs: list = field(default_factory=list)\n    def m(self):\n        return self.xs",
    "@.xs.append(@)",
    "class M(type):\n    every = []\n    def __new__(meta, name, bases, space):\n"
    "        meta.every.append(name)\n"
    "        return super().__new__(meta, name, bases, space)\nclass K(metaclass=M):\n"
    "    v = @",
    "@ = K.every",
    "class K:\n    kept = []\n    v = #\n    def __init_subclass__(cls):\n"
    "        K.kept.append(cls)",
    "class L(K):\n    w = #",
    "class K:\n    v = @\n    def __enter__(self):\n        @.append(#)\n"
    "        return self\n    def __exit__(self, *error):\n        @.append(#)\n"
    "        return True",
    "with @ as @:\n    @ = #\n    @[#]",
    "import contextlib\n@contextlib.contextmanager\ndef c():\n    @.append(#)\n    yield @\n"
    "    @.append(#)",
    "with c() as @:\n    pass",
    # scopes and newer syntax
    "if (@ := #) > 2:\n    @ = @",
    "@ = [(@ := x) for x in (#, #)]",
    "match @:\n    case [x, *_]:\n        @ = x\n    case {'k': x}:\n        @ = [x]\n"
    "    case K(v=x):\n        @ = x\n    case _:\n        @ = #",
    "@, *@ = [@, #, @]",
    "for @ in (@, #):\n    if @ == #:\n        break\nelse:\n    @ = #",
    "try:\n    @ = @[#]\nexcept Exception:\n    @ = #\nelse:\n    @ = @\nfinally:\n    @ = [@]",
    "import asyncio\nasync def co():\n    await asyncio.sleep(0)\n    @.append(#)\n"
    "    return @\n@ = asyncio.run(co())",
    "@ = (lambda *a, **k: [a, k, @])(#, x=@)",
    "def f():\n    n = @\n    return (lambda: n)",
    "@ = f()()",
    "del @, @",
    "@ = sorted(k for k in vars() if len(k) == 1)",
    "@ = __import__('contextvars').ContextVar('x', default=@)",
    "@.set(#)",
    "@ = @.get()",
    "@ = __import__('itertools').islice(__import__('itertools').count(#), 4)",
    "@ = __import__('itertools').chain([@, #], @)",
    "@ = __import__('io').StringIO('ab')",
    "@.write('c')",
    "@ = @.getvalue()",
    "@ = __import__('types').SimpleNamespace(n=@, xs=[#])",
    "@ = __import__('collections').OrderedDict(k=@, n=#)",
    "@.move_to_end('k')",
    "@ = __import__('collections').Counter([#, #])",
    "@ = __import__('collections').ChainMap({}, {'k': @})",
    "@ = __import__('array').array('i', [#, #])",
    "@ = memoryview(bytearray(b'abc'))",
    "@[0] = 65",
    "@ = __import__('weakref').ref(K)",
    "@ = f.__code__",
    "f.__code__ = (lambda: [@, #]).__code__",
    "f.__kwdefaults__ = {'x': @}",
    "getattr(m, 'to' + 'tal')",
    "setattr(m, 'ke' + 'pt', @)",
    "for name in ('kept', 'total'):\n    setattr(m, name, #)",
    "from tests.esg.shelf import *",
    "from tests.esg.shelf import total as @",
    "from tests.esg.shelf import items as @",
    "vars(m)['kept'] = @",
    "m.default(@)",
    "@ = m.default(#)",
    "@ = m.up()",
    "@ = [m.count, m.up]",
    "@ = m.Thing(@)",
    "@ = m.Thing.every",
    "@.bump()",
    "m.Thing.more = @",
)
BREAKING = (
    "@.append(#)\nraise ValueError",
    "1 / 0",
    "@ = [#]\n@[0] = #\nnothing",
    "@ = next(@)\n1 / 0",
)
"""Of steps that raise, having changed something."""


_LISTS = (shelf.items, shelf.default.__defaults__[0], shelf.Thing.every)
_CELL = shelf.up.__closure__[0]
_CLASS = {**vars(shelf.Thing)}
_FUNCTIONS = [each for each in vars(shelf).values() if isinstance(each, types.FunctionType)]


@dataclass
class Shelf:
    """What modules hold that programs change."""

    module: dict[str, object]
    lists: list[list[object]]
    cell: object = 0
    thing: dict[str, object] = field(default_factory=dict[str, object])
    kept: object = MISSING
    attributes: list[dict[str, object]] = field(default_factory=list[dict[str, object]])
    """Of each function."""

    @classmethod
    def now(cls) -> Shelf:
        more = {name: each for name, each in vars(shelf.Thing).items() if name not in _CLASS}
        kept = random.__dict__.get("kept", MISSING)
        lists = [[*each] for each in _LISTS]
        attributes = [{**each.__dict__} for each in _FUNCTIONS]
        return cls({**shelf.__dict__}, lists, _CELL.cell_contents, more, kept, attributes)

    def put(self) -> None:
        shelf.__dict__.clear()
        shelf.__dict__.update(self.module)
        for each, held in zip(_LISTS, self.lists, strict=True):
            each[:] = held
        _CELL.cell_contents = self.cell
        for name in vars(shelf.Thing).keys() - _CLASS.keys():
            delattr(shelf.Thing, name)
        for name, value in self.thing.items():
            setattr(shelf.Thing, name, value)
        random.__dict__.pop("kept", None)
        if self.kept is not MISSING:
            random.__dict__["kept"] = self.kept
        for function, attributes in zip(_FUNCTIONS, self.attributes, strict=True):
            function.__dict__.clear()
            function.__dict__.update(attributes)


_BEGUN = Shelf.now()


def begin_again() -> None:
    """Modules are as no program has touched them."""
    _BEGUN.put()


def statement(dice: Random) -> str:
    text = dice.choice(TEMPLATES)
    text = re.sub("@", lambda _: dice.choice(NAMES), text)
    text = re.sub("#", lambda _: str(dice.randint(0, 5)), text)
    return text.replace("contextlib.", "__import__('contextlib').")


def step(dice: Random) -> str:
    """One statement or two."""
    return "\n".join(statement(dice) for _ in range(dice.choice((1, 1, 2))))


def breaking(dice: Random) -> str:
    """A step that raises."""
    text = re.sub("@", lambda _: dice.choice(NAMES), dice.choice(BREAKING))
    return re.sub("#", lambda _: str(dice.randint(0, 5)), text)


def runs(steps: Sequence[str]) -> bool:
    """Without an error, and within the limits that docs/esg.md tells."""
    try:
        whole(steps)
    except Exception:  # noqa: BLE001 - then it is not taken
        return False
    return True


def whole(steps: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Run every step in one plain namespace: (name -> what it is like, what each step printed)."""
    state = random.getstate()
    there = Shelf.now()
    begin_again()
    namespace: dict[str, object] = {"__name__": "__main__"}
    printed = list[str]()
    try:
        for source in steps:
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(source, "<step>", "exec", dont_inherit=True), namespace)
            printed.append(plain(out.getvalue()))
        if any(each.__dict__ for each in _FUNCTIONS):
            raise ValueError("attributes of functions of modules are not tracked: docs/esg.md")
        return picture(namespace), printed
    finally:
        random.setstate(state)
        there.put()
