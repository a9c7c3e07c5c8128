"""Decodes the text of a page, whose encoding is said in up to three places.

In the order of the WHATWG standards of encodings and HTML: a byte order mark, the header, the page
itself. As there, the name of an old encoding stands for a newer one that contains it, because pages
use its characters under the old name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

_SAID_WITHIN: Final = 4096
"""Bytes at the beginning of a page that may say its encoding."""
_META: Final = re.compile(rb"<meta\b[^<>]*?\bcharset\s*=\s*[\"']?\s*([\w:.-]{1,40})", re.IGNORECASE)
_XML: Final = re.compile(rb"<\?xml\b[^<>]*?\bencoding\s*=\s*[\"']([\w:.-]{1,40})")
_MARKS: Final = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))

_STANDS_FOR: Final[Mapping[str, str]] = MappingProxyType(
    {
        **dict.fromkeys("iso-8859-1 iso8859-1 latin-1 latin1 us-ascii ascii".split(), "cp1252"),
        "iso-8859-9": "cp1254",
        **dict.fromkeys("gb2312 gbk x-gbk gb_2312-80".split(), "gb18030"),
        **dict.fromkeys("shift_jis shift-jis sjis x-sjis windows-31j".split(), "cp932"),
        **dict.fromkeys("euc-kr ks_c_5601-1987 windows-949".split(), "cp949"),
        **dict.fromkeys("big5 x-x-big5".split(), "big5-hkscs"),
        **dict.fromkeys("tis-620 iso-8859-11".split(), "cp874"),
        "utf-16": "utf-16-le",
    }
)
_CHARSET: Final = re.compile(
    r"utf[-_]?(8|16|16-?[bl]e)|(us-)?ascii|iso[-_]?8859[-_][0-9]{1,2}|latin-?1|(windows-|cp)[0-9]{3,4}"
    r"|koi8-[rut]|macintosh|gb2312|gbk|gb18030|big5(-hkscs)?|euc-(jp|kr)|iso-2022-jp|shift[-_]jis"
)
"""Encodings of pages. Python knows more, such as punycode, which takes quadratic time."""


def decoded(body: bytes, parameters: str, *, marked: bool) -> str:
    """The text of a body with these parameters of its content type. `marked`: it is HTML or XML,
    which may say its encoding itself. UTF-8 if nothing else is said that is known."""
    for mark, name in _MARKS:
        if body.startswith(mark):
            return body[len(mark) :].decode(name, "replace")
    _, _, charset = parameters.lower().partition("charset=")
    charset = charset.split(";")[0].strip(" \"'")
    if not charset and marked:
        head = body[:_SAID_WITHIN]
        found = _XML.match(head) or _META.search(head)
        charset = found[1].decode("ascii", "replace").lower() if found else ""
        if charset.startswith("utf-16"):
            charset = ""  # nothing could have been read then
    charset = _STANDS_FOR.get(charset, charset)
    try:
        return body.decode(charset if _CHARSET.fullmatch(charset) else "utf-8", "replace")
    except (LookupError, ValueError):
        return body.decode("utf-8", "replace")
