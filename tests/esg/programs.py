"""Small programs and what they read from before and write: derived by hand from the language.

Builtins are left out of the reads. `missed`: what the text alone cannot tell, as (reads, writes)
that a run adds; such a row is exact only with the log of a run.
"""

from __future__ import annotations

import sys
from typing import NamedTuple


class Program(NamedTuple):
    name: str
    source: str
    reads: str
    writes: str
    since: tuple[int, int] = (3, 11)
    unknown: bool = False
    """The text says that it cannot tell."""


def _p(
    name: str,
    source: str,
    reads: str = "",
    writes: str = "",
    since: tuple[int, int] = (3, 11),
    unknown: bool = False,
) -> Program:
    return Program(name, source, reads, writes, since, unknown)


EVERY = (
    # ---------------------------------------------------------------- plain names
    _p("assign", "x = 5", "", "x"),
    _p("assign from", "z = y * 2", "y", "z"),
    _p("read own", "x = 5; y = x + 3", "", "x y"),
    _p("self update", "x = x + 1", "x", "x"),
    _p("swap", "a, b = b, a", "a b", "a b"),
    _p("augmented", "x += 1", "x", "x"),
    _p("augmented after assign", "x = 0\nx += y", "y", "x"),
    _p("chain", "a = b = c", "c", "a b"),
    _p("star unpack", "a, *b = c", "c", "a b"),
    _p("nested unpack", "(a, (b, [c, d])) = e", "e", "a b c d"),
    _p("expression only", "f(x)", "f x", ""),
    _p("bare name", "x", "x", ""),
    _p("builtin", "n = len(xs)", "xs", "n"),
    _p("shadow builtin", "list = [1]\nlist(x)", "x", "list"),
    _p("underscore", "_x = _y", "_y", "_x"),
    _p("empty", "", "", ""),
    _p("docstring", '"""x = y"""', "", ""),
    _p("comment", "# x = y", "", ""),
    _p("walrus", "(n := len(xs))\nprint(n)", "xs", "n"),
    _p("walrus maybe", "a and (n := 1)\nprint(n)", "a n", "n"),
    _p("walrus in condition", "if (n := f()) > 1:\n    print(n)", "f", "n"),
    _p("conditional expression", "y = a if c else b", "a b c", "y"),
    _p("conditional walrus", "y = (n := 1) if c else 0\nprint(n)", "c n", "n y"),
    _p("slice", "y = x[a:b:c]", "a b c x", "y"),
    _p("comparison chain", "r = a < b < c", "a b c", "r"),
    _p("f-string", 'print(f"{x:{w}} {y!r}")', "w x y", ""),
    _p("f-string nested", "print(f'{f'{x}'}')", "x", "", (3, 12)),
    _p("star arguments", "f(*a, **b)", "a b f", ""),
    _p("dict display", "d = {k: v, **o}", "k o v", "d"),
    # ---------------------------------------------------------------- deleting
    _p("del", "del x", "x", "x"),
    _p("del two", "del x, (y, z)", "x y z", "x y z"),
    _p("del then read", "del x\nx", "x", "x"),
    _p("assign, del, read", "x = 1\ndel x\nx", "", "x"),
    _p("del item", "del d[k]", "d k", "d"),
    _p("del attribute", "del o.a", "o", "o"),
    _p("del maybe", "if c:\n    del x\nprint(x)", "c x", "x"),
    # ---------------------------------------------------------------- changing in place
    _p("item", "d[k] = v", "d k v", "d"),
    _p("attribute", "o.a = v", "o v", "o"),
    _p("deep", "o.a[k].b = v", "k o v", "o"),
    _p("item augmented", "d[k] += v", "d k v", "d"),
    _p("attribute augmented", "o.n += 1", "o", "o"),
    _p("slice assign", "xs[1:3] = ys", "xs ys", "xs"),
    _p("item of own", "d = {}\nd[k] = v", "k v", "d"),
    _p("item of call", "f(x)[k] = v", "f k v x", ""),
    _p("append", "l.append(v)", "l v", "l"),
    _p("update", "d.update(e)", "d e", "d"),
    _p("sort", "xs.sort(key=f)", "f xs", "xs"),
    _p("inplace", "df.dropna(inplace=True)", "df", "df"),
    _p("not inplace", "e = df.dropna(inplace=False)", "df", "e"),
    _p("out", "np.add(a, b, out=c)", "a b c np", "c"),
    _p("setattr", "setattr(o, n, v)", "n o v", "o"),
    _p("shuffle", "random.shuffle(xs)", "random xs", "xs"),
    _p("heappush", "heapq.heappush(h, v)", "h heapq v", "h"),
    _p("next", "row = next(rows)", "rows", "row rows"),
    _p("alias", "b = a\nb.append(1)", "a", "a b"),
    _p("alias of alias", "b = a\nc = b\nc[0] = 1", "a", "a b c"),
    _p("alias augmented", "b = a\nb += [1]", "a", "a b"),
    _p("alias gone", "b = a\nb = []\nb.append(1)", "a", "b"),
    _p("for attribute", "for o.a in xs:\n    pass", "o xs", "o"),
    _p("for item", "for d[0] in xs:\n    pass", "d xs", "d"),
    _p("with item", "with f() as d[0]:\n    pass", "d f", "d"),
    _p("column", 'df["a"] = df["b"] * k', "df k", "df"),
    _p("iloc", "df.iloc[0, 1] = v", "df v", "df"),
    # ---------------------------------------------------------------- paths
    _p("if write", "if c:\n    x = 1\nprint(x)", "c x", "x"),
    _p("if both", "if c:\n    x = 1\nelse:\n    x = 2\nprint(x)", "c", "x"),
    _p("if raise", "if c:\n    x = 1\nelse:\n    raise E\nprint(x)", "E c", "x"),
    _p("elif", "if a:\n    x = 1\nelif b:\n    x = 2\nx", "a b x", "x"),
    _p("for write", "for i in xs:\n    y = i\nprint(y, i)", "i xs y", "i y"),
    _p("for carries", "for i in xs:\n    t = t + i", "t xs", "i t"),
    _p("for own", "t = 0\nfor i in xs:\n    t += i", "xs", "i t"),
    _p("for else", "for i in xs:\n    pass\nelse:\n    x = 1\nprint(x)", "xs", "i x"),
    _p(
        "for break else",
        "for i in xs:\n    if i:\n        break\nelse:\n    x = 1\nprint(x)",
        "x xs",
        "i x",
    ),
    _p("while", "while c:\n    x = 1\nprint(x)", "c x", "x"),
    _p("while true", "while True:\n    x = 1\n    if c:\n        break\nprint(x)", "c", "x"),
    _p(
        "while true early",
        "while True:\n    if c:\n        break\n    x = 1\nprint(x)",
        "c x",
        "x",
    ),
    _p("while true no end", "while True:\n    x = f()\nprint(y)", "f", "x"),
    _p("continue", "for i in xs:\n    if i:\n        continue\n    y = 1\ny", "xs y", "i y"),
    _p("try write", "try:\n    x = f()\nexcept E:\n    pass\nprint(x)", "E f x", "x"),
    _p("try both", "try:\n    x = f()\nexcept E:\n    x = 0\nprint(x)", "E f", "x"),
    _p("try raise", "try:\n    x = f()\nexcept E:\n    raise\nprint(x)", "E f", "x"),
    _p("try else", "try:\n    f()\nexcept E:\n    x = 0\nelse:\n    x = 1\nprint(x)", "E f", "x"),
    _p("finally", "try:\n    f()\nfinally:\n    x = 1\nprint(x)", "f", "x"),
    _p("finally reads", "try:\n    x = f()\nfinally:\n    print(x)", "f x", "x"),
    _p("except name", "try:\n    f()\nexcept E as e:\n    pass", "E f", "e"),
    _p("except name read", "try:\n    f()\nexcept E as e:\n    pass\nprint(e)", "E e f", "e"),
    _p("except star", "try:\n    f()\nexcept* E as e:\n    g(e)", "E f g", "e"),
    _p("with", "with open(p) as f:\n    x = f.read()\nprint(x)", "p", "f x"),
    _p("with two", "with a() as x, b(x) as y:\n    pass", "a b", "x y"),
    _p("suppress", "with suppress(E):\n    x = f()\nprint(x)", "E f suppress x", "x"),
    _p("match capture", "match v:\n    case [a, *b]:\n        print(a, b)", "v", "a b"),
    _p("match mapping", "match v:\n    case {'k': x, **r}:\n        print(x, r)", "v", "r x"),
    _p("match class", "match v:\n    case P(x=0, y=q):\n        pass", "P v", "q"),
    _p("match value", "match v:\n    case C.A:\n        x = 1", "C v", "x"),
    _p("match guard", "match v:\n    case n if n > k:\n        pass", "k v", "n"),
    _p(
        "match all", "match v:\n    case 1:\n        x = 1\n    case _:\n        x = 2\nx", "v", "x"
    ),
    _p("match some", "match v:\n    case 1:\n        x = 1\nx", "v x", "x"),
    _p("match or", "match v:\n    case 1 | 2 as n:\n        pass", "v", "n"),
    _p("assert", "assert x, m", "m x", ""),
    _p("raise", "raise E(x) from c", "E c x", ""),
    _p("after raise", "raise E\nx = y", "E", ""),
    # ---------------------------------------------------------------- functions
    _p("def", "def f():\n    return 1", "", "f"),
    _p("def body", "def f():\n    return k", "k", "f"),
    _p("def local", "def f(a):\n    b = a\n    return b", "", "f"),
    _p("def local later", "def f():\n    print(b)\n    b = 1", "", "f"),
    _p("def default", "def f(a=k, *, b=m):\n    pass", "k m", "f"),
    _p("def decorator", "@d(x)\ndef f():\n    pass", "d x", "f"),
    _p("def late global", "def f():\n    return k\nk = 1", "", "f k"),
    _p("call before", "def f():\n    return k\nf()\nk = 1", "k", "f k"),
    _p("call after", "def f():\n    return k\nk = 1\nf()", "", "f k"),
    _p(
        "call through", "def g():\n    return k\ndef f():\n    return g()\nf()\nk = 1", "k", "f g k"
    ),
    _p("passed before", "def f():\n    return k\nh(f)\nk = 1", "h k", "f k"),
    _p("global called", "def f():\n    global k\n    k = 1\nf()", "", "f k"),
    _p("global uncalled", "def f():\n    global k\n    k = 1", "", "f"),
    _p("global read", "def f():\n    global k\n    k += 1\nf()", "k", "f k"),
    _p("global changed", "def f():\n    d['a'] = 1\nf()", "d", "d f"),
    _p("nested", "def f():\n    def g():\n        return k\n    return g", "k", "f"),
    _p(
        "nested shadow",
        "def f():\n    k = 1\n    def g():\n        return k\n    return g",
        "",
        "f",
    ),
    _p(
        "nonlocal",
        "def f():\n    n = 0\n    def g():\n        nonlocal n\n        n += m",
        "m",
        "f",
    ),
    _p("inner shadow elsewhere", "def f():\n    def g():\n        k = 1\n    return k", "k", "f"),
    _p("recursion", "def f(n):\n    return f(n - 1)", "", "f"),
    _p("lambda", "f = lambda a: a + k", "k", "f"),
    _p("lambda late", "f = lambda: k\nk = 1", "", "f k"),
    _p("lambda passed", "ys = map(lambda x: x * k, xs)\nk = 1", "k xs", "k ys"),
    _p("lambda default", "f = lambda a=k: a", "k", "f"),
    _p("parameter hides", "def f(k):\n    return k\nf(x)", "x", "f"),
    _p("generator", "def f():\n    yield from xs", "xs", "f"),
    _p("async", "async def f():\n    await g()\nawait f()", "g", "f"),
    _p("await", "x = await f(y)", "f y", "x"),
    _p("async for", "async for r in rows():\n    x = r", "rows", "r x"),
    _p("async with", "async with s() as c:\n    x = c", "s", "c x"),
    _p("function attribute", "def f():\n    pass\nf.n = k", "k", "f"),
    _p("import in function", "def f():\n    import json\n    return json.dumps(x)", "x", "f"),
    _p(
        "except in function",
        "def f():\n    try:\n        pass\n    except E as e:\n        return e",
        "E",
        "f",
    ),
    _p("comprehension in function", "def f(xs):\n    return [x + k for x in xs]", "k", "f"),
    _p("walrus in function", "def f(xs):\n    [y := x for x in xs]\n    return y", "", "f"),
    # ---------------------------------------------------------------- comprehensions
    _p("list comprehension", "ys = [f(x) for x in xs if x > k]", "f k xs", "ys"),
    _p("own first iterable", "xs = [x for xs in xs for x in xs]", "xs", "xs"),
    _p("target hides", "ys = [x for x in x]", "x", "ys"),
    _p("two loops", "ys = [b for a in xs for b in a]", "xs", "ys"),
    _p("dict comprehension", "d = {k: v + m for k, v in e}", "e m", "d"),
    _p("set comprehension", "s = {g(x) for x in xs}", "g xs", "s"),
    _p("generator expression", "t = sum(x * k for x in xs)", "k xs", "t"),
    _p("nested comprehension", "ys = [[b + k for b in a] for a in xs]", "k xs", "ys"),
    _p("comprehension walrus", "[y := x for x in xs]\nprint(y)", "xs y", "y"),
    _p("comprehension after", "x = 1\nys = [x for x in xs]\nprint(x)", "xs", "x ys"),
    # ---------------------------------------------------------------- classes
    _p("class", "class A:\n    pass", "", "A"),
    _p("class bases", "class A(B, metaclass=M):\n    pass", "B M", "A"),
    _p("class attribute", "class A:\n    x = y", "y", "A"),
    _p("class same name", "class A:\n    x = x", "x", "A"),
    _p("class own", "class A:\n    x = 1\n    y = x", "", "A"),
    _p("class comprehension", "class A:\n    n = 3\n    ys = [n for _ in range(2)]", "n", "A"),
    _p("class first iterable", "class A:\n    xs = [1]\n    ys = [x for x in xs]", "", "A"),
    _p("method", "class A:\n    def m(self):\n        return k", "k", "A"),
    _p("method skips class", "class A:\n    k = 1\n    def m(self):\n        return k", "k", "A"),
    _p("method default", "class A:\n    k = 1\n    def m(self, a=k):\n        return a", "", "A"),
    _p("method late", "class A:\n    def m(self):\n        return k\nk = 1\nA().m()", "", "A k"),
    _p("method early", "class A:\n    def m(self):\n        return k\nA().m()\nk = 1", "k", "A k"),
    _p("method calls global", "class A:\n    def m(self):\n        return m()", "m", "A"),
    _p(
        "super", "class A(B):\n    def m(self):\n        return super().m() + __class__.n", "B", "A"
    ),
    _p("dataclass", "@dataclass\nclass A:\n    x: int = k", "dataclass k", "A"),
    _p("class global", "class A:\n    global g\n    g = 1", "", "A g"),
    _p(
        "class in function",
        "def f():\n    n = 1\n    class A:\n        m = n + k\n    return A",
        "k",
        "f",
    ),
    _p("class maybe", "class A:\n    if c:\n        x = 1\n    y = x", "c x", "A"),
    # ---------------------------------------------------------------- imports
    _p("import", "import a.b.c", "", "a"),
    _p("import as", "import a.b as c", "", "c"),
    _p("from", "from a import b, c as d", "", "b d"),
    _p("import maybe", "try:\n    import a\nexcept ImportError:\n    a = None\na", "", "a"),
    _p("import star", "from a import *", "", "", unknown=True),
    # ---------------------------------------------------------------- annotations
    _p("annotation only", "x: int", "", ""),
    _p("annotated", "x: int = y", "y", "x"),
    _p("annotated attribute", "o.a: int = y", "o y", "o"),
    _p("string annotation", "x: 'T' = y", "y", "x"),
    _p("future", "from __future__ import annotations\ndef f(a: T) -> U:\n    pass", "", "f"),
    _p("local annotation", "def f():\n    x: T = 1", "", "f"),
    # ---------------------------------------------------------------- text as code
    _p("exec", "exec('q = w + 1')\nq", "w", "q"),
    _p("eval", "v = eval('a + b')", "a b", "v"),
    _p("exec of a name", "exec(code)", "code", "", unknown=True),
    _p("exec in a dict", "exec('q = 1', d)", "d", ""),
    _p("globals item", "globals()['x'] = globals()['y']", "y", "x"),
    _p("globals", "g = globals()", "", "g", unknown=True),
    _p("locals in function", "def f():\n    return locals()", "", "f"),
    _p("query", "r = df.query('a > @t and b < @u')", "df t u", "r"),
    # ---------------------------------------------------------------- newer syntax
    _p("type parameter", "def f[T](a: T) -> list[T]:\n    return a", "", "f", (3, 12)),
    _p("type parameter class", "class A[T](B[T]):\n    x: T", "B", "A", (3, 12)),
    _p("type alias", "type X = list[Y]", "Y", "X", (3, 12)),
    _p("type alias generic", "type X[T] = dict[K, T]", "K", "X", (3, 12)),
    _p("type alias late", "type X = Y\nY = int", "", "X Y", (3, 12)),
    _p("except without brackets", "try:\n    f()\nexcept A, B:\n    pass", "A B f", "", (3, 14)),
)

PROGRAMS = tuple(each for each in EVERY if sys.version_info >= each.since)
"""Those that this Python can read."""


def annotated() -> tuple[Program, ...]:
    """Annotations that are evaluated at once before Python 3.14, and when asked for since then."""
    eager = sys.version_info < (3, 14)
    return (
        _p("annotation of a function", "def f(a: T) -> U:\n    pass", "T U" if eager else "", "f"),
        _p("annotation of a name", "x: T = 1", "T" if eager else "", "x"),
    )
