"""Which texts are JSON: as the standard says (RFC 8259), and what becomes of the others as events
of every wire. The texts are our own, in the manner of the suites that test parsers."""

from __future__ import annotations

from typing import Final

import pytest

from lorimer.core.errors import APIError
from lorimer.models import ProviderCredentials
from lorimer.models.wires.sse import parse_json
from tests.models.support import WIRES, Wire
from tests.models.test_cuts import ASSEMBLERS

LETTERS: Final = [f"\\u{code:04x}" for code in (0, 0x1F, 0x20, 0x7F, 0xE9, 0x2028, 0xD83D, 0xDC00)]
JSON: Final = [
    *("null", "true", "false", "0", "-0", "1", "-1", "123456789012345678901234567890", "0.1"),
    *("1e5", "1E+5", "1e-5", "-0.0e-0", "0e0", "1.5e10", "-123.456E-7", '""', '"a"', '"\\""'),
    *('"\\\\"', '"\\/"', '"\\b\\f\\n\\r\\t"', '"é"', '"🦄"', '"\u2028"', '"\x7f"', '"\ufeff"'),
    *("[]", "[ ]", "[[]]", "[1]", "[1,2]", "[null,true]", '["a",{}]', "[[[[[[[[[[1]]]]]]]]]]"),
    *("{}", "{ }", '{"":0}', '{"a":1}', '{"a":1,"a":2}', '{"a":{"b":[{}]}}', '{"a" : 1 , "b":2}'),
    *(" 1", "1 ", "\t[]\r\n", "\n{}\n", '{"__proto__":1}', '{"a\\u0000":1}', "[" * 400 + "]" * 400),
    *(f'"{letter}"' for letter in LETTERS),
    *(f'["{letter}",{number}]' for letter in LETTERS for number in ("0", "-1.5e3", "1E40")),
]
NUMBERS: Final = "01 -01 1. .1 -.1 +1 1e 1e+ 1e- 1.e1 0x1 1_0 - -- 1a 1e1.5 ١ 1e999 -1e999".split()
WORDS: Final = "NaN Infinity -Infinity nan inf undefined None True TRUE nul truth a 'a' `a`".split()
STRINGS: Final = ('"', '"a', 'a"', '"\\"', '"\\x41"', '"\\u12"', '"\\u12g4"', '"\\U0041"', '"\\a"',
                  '"\n"', '"\t"', '"\x00"', '"\x1f"', '"a""b"', "'a'")  # fmt: skip
ARRAYS: Final = ("[", "]", "[1", "1]", "[1,", "[1,]", "[,1]", "[,]", "[1,,2]", "[1 2]", "[1;2]",
                 "[1]]", "[[1]", "(1)", "[1,\x0b2]", "[1\x00]", "[1:2]", "[a]",
                 "[1][2]")  # fmt: skip
OBJECTS: Final = ("{", "}", '{"a"', '{"a":', '{"a":1', '{"a":1,', '{"a":1,}', '{,"a":1}', '{"a" 1}',
                  '{"a":1 "b":2}', "{a:1}", "{'a':1}", '{1:1}', '{"a":1}}', '{{"a":1}}',
                  '{"a":1:2}',
                  '{"a"}', '{"a",1}', '{null:1}', '{"a":}', '{"a":1}#', '{"a":1}//', '/**/{}',
                  '{"a":/**/1}', '{"a":1}{}', '{"a":=1}', "<a/>", "a=1", "---\na: 1")  # fmt: skip
INSIDE: Final = [form % bad for form in ('[%s]', '{"a":%s}', '{"a":[1,{"b":%s}]}')
                 for bad in (*NUMBERS, *WORDS)]  # fmt: skip
DEEP: Final = ("[" * 100_000, '{"a":' * 100_000, "[" * 100_000 + "]" * 100_000)
NO_JSON: Final = ["", " ", "\n", "\ufeff{}", "\xa0{}", "\x0c1", "1 2", "true false",
                  *NUMBERS, *WORDS, *STRINGS, *ARRAYS, *OBJECTS, *INSIDE, *DEEP]  # fmt: skip


def test_there_are_enough() -> None:
    assert len(set(JSON)) > 80
    assert len(set(NO_JSON)) > 188


@pytest.mark.parametrize("text", JSON, ids=ascii)
def test_what_is_json(text: str) -> None:
    parse_json(text)


@pytest.mark.parametrize("text", NO_JSON, ids=lambda text: ascii(text)[:40])
def test_what_is_none(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any kind of it
        parse_json(text)


@pytest.mark.parametrize("wire", WIRES)
def test_as_an_event(wire: Wire) -> None:
    """Malformed: refused. Well-formed: an event that says nothing, or refused in order."""
    for text in NO_JSON:
        with pytest.raises(ValueError):  # noqa: PT011 - what `exchange` makes an error of
            ASSEMBLERS[wire](wire, ProviderCredentials()).read([("", text)])
    for text in JSON:
        answer = ASSEMBLERS[wire](wire, ProviderCredentials())
        try:
            answer.read([("", text)])
        except (TypeError, KeyError, ValueError):
            continue
        with pytest.raises(APIError):
            answer.finish()
