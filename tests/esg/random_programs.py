"""Random programs with the traps of a shared namespace, and what running all of one gives."""

from __future__ import annotations

import contextlib
import io
import random
import re
from collections.abc import Sequence
from random import Random

from tests.esg.alike import picture, plain

NAMES = "abcde"
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
)


def statement(dice: Random) -> str:
    text = dice.choice(TEMPLATES)
    text = re.sub("@", lambda _: dice.choice(NAMES), text)
    text = re.sub("#", lambda _: str(dice.randint(0, 5)), text)
    return text.replace("contextlib.", "__import__('contextlib').")


def step(dice: Random) -> str:
    """One statement or two."""
    return "\n".join(statement(dice) for _ in range(dice.choice((1, 1, 2))))


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
    namespace: dict[str, object] = {"__name__": "__main__"}
    printed = list[str]()
    try:
        for source in steps:
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(source, namespace)
            printed.append(plain(out.getvalue()))
    finally:
        random.setstate(state)
    return picture(namespace), printed
