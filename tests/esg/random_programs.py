"""Random programs with the traps of a shared namespace, and what running all of one gives."""

from __future__ import annotations

import contextlib
import io
import random
import re
from collections.abc import Sequence
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
)
BREAKING = (
    "@.append(#)\nraise ValueError",
    "1 / 0",
    "@ = [#]\n@[0] = #\nnothing",
    "@ = next(@)\n1 / 0",
)
"""Of steps that raise, having changed something."""


_FIRST = shelf.items
_BEGUN = {**shelf.__dict__}


def begin_again() -> None:
    """Modules are as no program has touched them."""
    _put({**_BEGUN}, [], MISSING)


def _put(shelved: dict[str, object], first: list[object], kept: object) -> None:
    shelf.__dict__.clear()
    shelf.__dict__.update(shelved)
    _FIRST[:] = first
    random.__dict__.pop("kept", None)
    if kept is not MISSING:
        random.__dict__["kept"] = kept


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
    """Without an error."""
    try:
        whole(steps)
    except Exception:  # noqa: BLE001 - then it is not taken
        return False
    return True


def whole(steps: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Run every step in one plain namespace: (name -> what it is like, what each step printed)."""
    state = random.getstate()
    there = {**shelf.__dict__}, [*_FIRST], random.__dict__.get("kept", MISSING)
    begin_again()
    namespace: dict[str, object] = {"__name__": "__main__"}
    printed = list[str]()
    try:
        for source in steps:
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(source, namespace)
            printed.append(plain(out.getvalue()))
        return picture(namespace), printed
    finally:
        random.setstate(state)
        _put(*there)
