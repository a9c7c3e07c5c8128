"""Programs and edits after which a replay has to end where plain Python ends: traps of which each
was a mistake once, or might be."""

from __future__ import annotations

import contextlib
import io

import pytest

from tests.esg.alike import picture, plain
from tests.esg.sessions import session_of

ENUM = "import enum\nclass E(enum.Enum):\n    A = 1\n    def m(self):\n        return "
CLASS_BODY = "x = 1\ndef f():\n    class Q:\n        v = x\n    return Q.v\n"
SPACE = "space = {'x': 1}\nexec('def g():\\n    return x', space)\ng = space['g']"
CLASS = "class K:\n    v = 1\n    def m(self): ..."
LISTED = "print(list(vars(K)))"
LOCKED = (
    "import threading\nclass C:\n    def __init__(self):\n        self.lock = threading.Lock()\n"
    "        self.again = threading.RLock()\n        self.n = 0\n"
    "    def add(self, k):\n        with self.lock, self.again:\n            self.n += k"
)
WEAK = "import weakref\nclass O:\n    n = 1\no = O()\n"
SHOW_WEAK = "print({key: (each.n, each is o) for key, each in w.items()}, len(w))"
CASES: dict[str, tuple[list[str], list[tuple[int, str]]]] = {
    "an attribute of a partial": (
        ["from functools import partial\np = partial(print, 1)", "p.n = 2", "print(p.n)"],
        [(1, "p.n = 3"), (0, "from functools import partial\np = partial(print, 2)")],
    ),
    "types with parameters": (
        [
            "from typing import Annotated, List, TypeVar, get_args\nclass A:\n    v = 1",
            "P = List[A]\nQ = A | None\nR = dict[str, A]\nS = Annotated[int, [1]]\n"
            "T = TypeVar('T', bound=A)",
            "A.v = 2\nS.__metadata__[0].append(2)",
            "print(P, Q, R, S, T, [get_args(each)[-1] for each in (P, R, S)])\n"
            "print(get_args(P)[0].v, get_args(Q)[0].v, List[A] is P, T.__bound__.v)",
        ],
        [
            (2, "A.v = 3\nS.__metadata__[0].append(3)"),
            (0, "from typing import Annotated, List, TypeVar, get_args\nclass A:\n    v = 5"),
            (
                1,
                "P = List[A]\nQ = A | int\nR = tuple[A]\nS = Annotated[str, []]\n"
                "T = TypeVar('T', bound=A, covariant=True)",
            ),
            (2, "pass"),
        ],
    ),
    "an object with a lock": (
        [LOCKED, "c = C()", "k = 1", "print(c.n)", "c.add(k)", "print(c.n)"],
        [(2, "k = 2"), (3, "print(c.n, 1)"), (4, "c.add(7)"), (1, "c = C()\nc.add(3)")],
    ),
    "a lock that a step leaves locked": (
        [
            "import threading\nlock = threading.Lock()",
            "print(lock.locked())",
            "lock.acquire()",
            "print(lock.locked())",
        ],
        [(1, "print(lock.locked(), 1)"), (2, "pass"), (2, "lock.acquire()"), (3, "lock.release()")],
    ),
    "a queue": (
        ["import queue\nq = queue.Queue()", "q.put(1)", "q.put(2)", "print(q.get(), q.qsize())"],
        [(1, "pass"), (2, "q.put(3)\nq.put(4)"), (1, "q.put(5)"), (3, "print(q.qsize())")],
    ),
    "a dict with weak values, beside what holds one": (
        [f"{WEAK}w = weakref.WeakValueDictionary({{'o': o}})", "o.n = 2", SHOW_WEAK, "w['p'] = o"],
        [
            (0, f"{WEAK}w = weakref.WeakValueDictionary({{'o': o}})\nk = 1"),
            (1, "o.n = 3"),
            (2, f"{SHOW_WEAK}\n1"),
            (3, "w.pop('o', 0)"),
            (0, f"{WEAK}w = weakref.WeakValueDictionary({{'q': o}})".replace("n = 1", "n = 5")),
        ],
    ),
    "a dict with weak values, made by a later step": (
        [WEAK, "w = weakref.WeakValueDictionary({'o': o})", "o.n = 2", SHOW_WEAK, "w['p'] = o"],
        [
            (1, "w = weakref.WeakValueDictionary({'o': o})\nk = 1"),
            (2, "o.n = 3"),
            (0, WEAK.replace("n = 1", "n = 5")),
            (4, "pass"),
            (3, f"{SHOW_WEAK}\n1"),
        ],
    ),
    "a dict with weak keys, and a set": (
        [
            f"{WEAK}w = weakref.WeakKeyDictionary({{o: 1}})\ns = weakref.WeakSet([o])",
            "o.n = 2",
            "print([(k.n, v) for k, v in w.items()], [each.n for each in s], o in s)",
            "w[o] += 1\ns.discard(o)",
        ],
        [
            (0, f"{WEAK}s = weakref.WeakSet([o])\nw = weakref.WeakKeyDictionary({{o: 2}})"),
            (1, "o.n = 3"),
            (3, "del w[o]"),
            (1, "o.n = 3\ns.clear()"),
        ],
    ),
    "weak references, and what is called in the end": (
        [
            f"{WEAK}w = weakref.ref(o)\nf = weakref.finalize(o, len, 'end')",
            "o.n = 2",
            "print(w().n, w() is o, f.alive)",
            "print(f.detach()[0] is o)",
            "print(f.alive)",
        ],
        [
            (1, "o.n = 3"),
            (3, "pass"),
            (0, f"{WEAK}w = weakref.ref(o, repr)\nf = weakref.finalize(o, len, 'x')"),
            (3, "f.detach()"),
            (2, "print(w().n)"),
        ],
    ),
    "what a slice holds": (
        ["xs = [1]\ns = slice(xs, None)", "xs.append(2)", "print(s)"],
        [(1, "xs.append(3)")],
    ),
    "a class seen through vars": (
        ["class K:\n    v = 1", "p = vars(K)", "K.v = 5", "print(p['v'])"],
        [(2, "K.v = 6"), (0, "class K:\n    v = 2"), (2, "pass")],
    ),
    "a subclass seen through vars": (
        ["class A:\n    v = 0\nclass K(A):\n    v = 1", "p = vars(K)", "K.v = 5", "print(p['v'])"],
        [(2, "K.v = 6"), (2, "A.v = 6")],
    ),
    "the order of a class: deleted": (
        [f"{CLASS}\n    w = 2", LISTED, "del K.v", LISTED],
        [(2, "del K.w"), (2, "pass"), (2, "del K.v, K.m"), (1, f"{LISTED}\nprint(1)")],
    ),
    "the order of a class: set again": (
        ["class K:\n    'doc'\n    v = 1\n    w = 2", LISTED, "w = K.w\ndel K.w\nK.w = w", LISTED],
        [(2, "pass"), (2, "v = K.v\ndel K.v\nK.v = v"), (1, f"{LISTED}\nprint(1)")],
    ),
    "the order of a class: a base, slots and special methods": (
        [
            "class A:\n    __slots__ = ('a', 'b')\n    def __len__(self):\n        return 3\n"
            "class K(A):\n    __hash__ = None\n    v = 1",
            f"{LISTED}\nprint(list(vars(A)), len(K()))",
            "del A.__len__, A.a",
            f"{LISTED}\nprint(list(vars(A)), hasattr(K(), 'a'))",
        ],
        [(2, "pass"), (2, "del K.__hash__"), (1, f"{LISTED}\nprint(list(vars(A)), len(K()))\n1")],
    ),
    "a dict seen through a proxy": (
        ["import types\nd = {'a': 1}", "p = types.MappingProxyType(d)", "d['a'] = 2", "print(p)"],
        [(2, "d['b'] = 6"), (2, "pass")],
    ),
    "the number of an error": (
        ["e = OSError(2, 'x')", "e.errno = 5", "print(e.errno)"],
        [(1, "e.errno = 6"), (1, "pass"), (0, "e = OSError(3, 'x')")],
    ),
    "the value of a StopIteration": (
        ["e = StopIteration([1])", "e.value.append(5)", "e.value = [7]", "print(e.value)"],
        [(2, "pass"), (1, "e.value.append(6)")],
    ),
    "a slot of an error of one's own": (
        [
            "class E(Exception):\n    __slots__ = ('a', 'b')\ne = E()",
            "e.a = 1",
            "print(e.a, hasattr(e, 'b'))",
        ],
        [(1, "e.a = 2"), (1, "e.a = e.b = 2"), (1, "e.a = 3")],
    ),
    "the method of an enum": (
        [f"{ENUM}1", "y = E.A", "ys = [y]", "print(ys[0].m(), y is E.A)"],
        [(0, f"{ENUM}2"), (0, f"{ENUM}2\n    B = 2"), (2, "ys = [y, 1]")],
    ),
    "an attribute of a member": (
        [f"{ENUM}1\ne = E.A", "e.n = 3", "print(E.A.n)"],
        [(1, "e.n = 4"), (0, f"{ENUM}1\n    B = 2\ne = E.B\nE.A.n = 0")],
    ),
    "flags that are made when they are asked for": (
        [
            "import enum\nclass E(enum.Flag):\n    A = 1\n    B = 2",
            "x = E.A | E.B",
            "print(x is E.A | E.B, E(3) is x, x.value)",
        ],
        [(0, "import enum\nclass E(enum.Flag):\n    A = 1\n    B = 4\n    C = 2"), (1, "x = E(3)")],
    ),
    "members as keys": (
        [
            "import enum\nclass E(enum.IntEnum):\n    A = 1\n    B = 2",
            "d = {E.A: 1}\ns = {E.A, E.B}",
            "d[E.B] = 3\ns.discard(E.A)",
            "print(d, sorted(s), E.A in d, 2 in d)",
        ],
        [(2, "d[E.B] = 4"), (0, "import enum\nclass E(enum.IntEnum):\n    A = 1\n    B = 5")],
    ),
    "a function that has globals of its own": (
        [SPACE, "space['x'] = 2", "print(g())"],
        [(1, "space['x'] = 3"), (1, "g.__globals__['x'] = 4"), (1, "pass")],
    ),
    "globals of its own that nothing else leads to": (
        [f"{SPACE}\ndel space", "g.__globals__['x'] = 2", "print(g())"],
        [(1, "g.__globals__['x'] = 3"), (1, "pass")],
    ),
    "what a step adds to a class": (
        ["class K: ...", "print(hasattr(K, 'v'))", "K.v = 5", "print(K.v)"],
        [(1, "print(vars(K).get('v'))"), (2, "K.v = 6")],
    ),
    "a function in the place of a library's, under its name": (
        [
            "import functools, textwrap\nkept = textwrap.shorten\nx = 1",
            "@functools.wraps(textwrap.shorten)\n"
            "def f():\n    class Q:\n        v = x\n    return Q.v\n"
            "textwrap.shorten = f",
            "print(textwrap.shorten())",
            "x = 2",
            "print(f(), textwrap.shorten())",
            "textwrap.shorten = kept\ndel f, kept",
        ],
        [(3, "x = 3"), (0, "import functools, textwrap\nkept = textwrap.shorten\nx = 4")],
    ),
    "a set of an object that is made anew, but the same": (
        ["class O: ...\ns = set()", "o = O()\ns.add(o)", "print(o in s, len(s))"],
        [(1, "o = O()\ns.add(o)\nn = 1"), (2, "print(o in s, len(s), 1)")],
    ),
    "the documentation of a class": (
        ["class K:\n    'one'", "print(K.__doc__)"],
        [(0, "class K:\n    'two'"), (0, "class K:\n    pass")],
    ),
    "annotations of a class": (
        ["class K:\n    x: int", "print(K.__annotations__)"],
        [(0, "class K:\n    x: str")],
    ),
    "annotations of a function": (
        ["def f(a: int) -> str: ...", "import inspect\nprint(inspect.signature(f))"],
        [(0, "def f(a: str) -> str: ..."), (0, "def f(a) -> str: ..."), (0, "def f(a): ...")],
    ),
    "annotations that a step changes": (
        ["def f(a: 1): ...", "f.__annotations__['a'] = 2", "print(f.__annotations__)"],
        [(1, "f.__annotations__['a'] = 3"), (1, "f.__annotations__ = {}"), (1, "pass")],
    ),
    "names and documentation that a step gives": (
        [
            "def f(): 'one'\nclass K: ...",
            "f.__doc__, f.__name__, K.__name__ = 'two', 'g', 'L'",
            "print(f.__doc__, f.__name__, K.__name__)",
        ],
        [(1, "f.__doc__, K.__qualname__ = 'three', 'M'"), (1, "pass")],
    ),
    "keys, values and items of the globals": (
        [
            "x = 1",
            "fs = [lambda: sorted(k for k in globals().keys() if len(k) == 1)]",
            "print(fs[0](), len({**globals()}.keys() & {'x', 'y', 'fs'}))",
        ],
        [(0, "y = 1"), (0, "x = y = 1")],
    ),
    "the order of the globals": (
        [
            "b = 1",
            "a = 2\ndef f():\n    return [k for k in globals() if len(k) == 1]",
            "del b",
            "b = 4",
            "print(a, f())",
            "print([k for k in globals() if len(k) == 1])",
        ],
        [(2, "pass"), (0, "c = b = 1"), (0, "b = c = 1"), (3, "c = b = 3"), (2, "del b, c")],
    ),
    "the globals by another name": (
        [
            "x = 1\nseen = []",
            "import builtins\nlook = vars(builtins)['glo' + 'bals']",
            "seen += sorted(k for k in look().keys() if len(k) == 1)",
            "seen += sorted(k for k in look() if len(k) == 1)",
            "print(seen)",
            "print(\"'y': 1\" in repr(look()), [k for k in reversed(look()) if len(k) == 1])",
        ],
        [(0, "y = 1\nseen = []"), (0, "x = y = 1\nseen = []")],
    ),
}
WAYS = {
    "list": ("fs = [f]\ndel f", "fs[0]()"),
    "attribute": ("class O: ...\no = O()\no.f = f\ndel f", "o.f()"),
    "property": ("class O:\n    p = property(lambda self, f=f: f())\no = O()\ndel f", "o.p"),
    "static": ("class O:\n    s = staticmethod(f)\ndel f", "O.s()"),
    "inherited": (
        "class A:\n    m = lambda self, f=f: f()\nclass O(A): ...\no = O()\ndel f, A",
        "o.m()",
    ),
    "bound": ("class O:\n    m = lambda self, f=f: f()\nb = O().m\ndel f, O", "b()"),
    "partial": ("import functools\np = functools.partial(f)\ndel f", "p()"),
    "cached": ("import functools\np = functools.lru_cache(f)\ndel f", "p()"),
    "decorated twice": (
        "def d(g):\n    return lambda: g()\nf = d(d(d(f)))",
        "f()",
    ),
    "default": ("def g(h=f):\n    return h()\ndel f", "g()"),
    "dict": ("d = {'k': {'f': f}}\ndel f", "d['k']['f']()"),
}
for way, (keep, call) in WAYS.items():
    CASES[f"a class body in a function: {way}"] = (
        [CLASS_BODY + keep, f"print({call})", "x = 3", f"print({call})"],
        [(2, "x = 4"), (0, CLASS_BODY.replace("1", "2") + keep), (1, f"print({call}, 1)")],
    )
    deletes = "x = 1\ndef f():\n    global x\n    del x\n"
    CASES[f"a function that deletes a name: {way}"] = (
        [deletes + keep, call, "print('x' in globals())"],
        [(1, "pass"), (1, f"x = 2\n{call}")],
    )


@pytest.mark.parametrize("name", CASES)
def test_a_replay_ends_where_plain_python_ends(name: str) -> None:
    sources, edits = CASES[name]
    session = session_of(*sources)
    names, printed = whole(sources)
    for place, source in [(0, sources[0]), *edits]:
        sources = [*sources[:place], source, *sources[place + 1 :]]
        session.graph.edit_step(f"s{place}", source)
        session.replay()
        assert session.replay().ran == ()
        names, printed = whole(sources)
        assert [plain(each.stdout) for each in session.results.values()] == printed
        assert picture(session.namespace()) == names
    for step in session.graph.steps:
        session.graph.mark_stale(step)
        session.replay()
        assert [plain(each.stdout) for each in session.results.values()] == printed
        assert picture(session.namespace()) == names


def whole(sources: list[str]) -> tuple[dict[str, str], list[str]]:
    """(name -> what it is like, what each step printed), in one plain namespace."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    printed = list[str]()
    for source in sources:
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(compile(source, "step", "exec", dont_inherit=True), namespace)
        printed.append(plain(out.getvalue()))
    return picture(namespace), printed
