"""The only place that removes secrets from what is stored or shown: facts, signals, spilled
results, recordings, log lines, error messages.

Secrets are values known to this process: of environment variables whose names say so, of the
credentials given to providers, and those declared by the host. They are removed where text enters a
run, before anything is recorded or shown, so that a replay sees exactly what the run saw; what is
recorded already is never changed.
"""

from __future__ import annotations

import base64
import logging
import os
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from typing import Final, TypeVar, cast
from urllib.parse import quote

from lorimer.core.errors import APIError, ConfigError, LorimerError
from lorimer.core.jsonable import JSON, dumps, utf8

T = TypeVar("T")

SHORTEST: Final = 8
"""Least length of a secret; removing shorter values would garble text and protect nothing."""

_NAMES: Final = re.compile(
    r"(api[_-]?key|token|secret|passw(or)?d|passphrase"
    r"|(^|[_-])(key|pass|pwd|pat|credential|authorization|cookie|auth))s?$",
    re.IGNORECASE,
)
_PASSWORD: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#\s]*?:([^/?#\s]+)@", re.IGNORECASE)
_LONG: Final = 20
_LINE: Final = 24
"""Least length of a line of a multi-line secret that counts on its own."""
_PATH_PART: Final = 32


def names_secret(name: str) -> bool:
    """Whether a variable or header of this name usually holds a secret."""
    return _NAMES.search(name) is not None


def veiled(value: JSON) -> JSON:
    """A value in which texts and numbers under the names of secrets, at any depth, are
    `[redacted]`. Under `key` or `keys`, which are usually names, only what looks like a secret is;
    numbers of tokens are counts."""
    if isinstance(value, Mapping):
        return {
            name: _struck(inner, name.lower()) if names_secret(name) else veiled(inner)
            for name, inner in value.items()
        }
    return [veiled(inner) for inner in value] if isinstance(value, list | tuple) else value


def _struck(value: JSON, name: str) -> JSON:
    if isinstance(value, Mapping):
        return {inner: _struck(each, name) for inner, each in value.items()}
    if isinstance(value, list | tuple):
        return [_struck(each, name) for each in value]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return value if name in ("key", "keys") and not is_secret(value) else "[redacted]"
    return value if name.endswith(("key", "keys", "token", "tokens")) else "[redacted]"


def is_secret(value: str) -> bool:
    """Whether a value can be a secret: not a word, a number, a path or a placeholder."""
    if len(value) < SHORTEST or value.isdecimal():
        return False
    if value.startswith(("/", "~/", "./")) and max(map(len, value.split("/"))) <= _PATH_PART:
        return False
    if len(value) >= _LONG:
        return len(set(value)) > 4
    return any(map(str.isdigit, value)) and any(map(str.isalpha, value))


def secrets_in(variables: Mapping[str, str]) -> dict[str, str]:
    """Secrets among variables or headers, value to name: recognized by the name, or as the password
    in a URL."""
    found: dict[str, str] = {}
    for name, text in variables.items():
        if "://" in text:
            inside = _PASSWORD.search(text)
            value = inside[1] if inside is not None else ""
        elif names_secret(name):
            scheme, space, rest = text.strip().partition(" ")
            value = rest.strip() if space and scheme.lower() in _SCHEMES else text.strip()
        else:
            continue
        if is_secret(value):
            found.setdefault(value, name)
    return found


_SCHEMES: Final = ("bearer", "basic", "token")


class Redactor:
    """Removes known values from text and plain data: each becomes `[redacted:NAME]`.

    A value without secrets is returned as the same object. Plain occurrences are found everywhere;
    `deep` also finds base64 (also broken into lines), hexadecimal, URL-encoded, escaped and quoted
    ones, as programs print them. Immutable.
    """

    __slots__ = (
        "_deep",
        "_deep_bytes",
        "_escaped",
        "_exact",
        "_exact_bytes",
        "_lined",
        "_lined_bytes",
        "_raw",
        "_shortest",
        "_values",
        "longest",
    )

    def __init__(self, secrets: Mapping[str, str]) -> None:
        """`secrets`: value to the name that is shown in its place. At least one."""
        forms: dict[str, str] = {}
        for value, name in secrets.items():
            for form in (value, *_lines(value)):
                forms.setdefault(form, f"[redacted:{name}]")
        self._values = dict(sorted(forms.items(), key=lambda item: len(item[0]), reverse=True))
        self._exact = _any_of(self._values)
        # as JSON writes them, with every escape
        self._exact_bytes = re.compile(_any_of(map(_in_json, self._values)).pattern.encode())
        self._deep = {
            form: shown for value, shown in self._values.items() for form in _encoded(value)
        }
        self._escaped = {
            form: shown for value, shown in self._values.items() for form in _escapes(value)
        }
        self._deep_bytes = tuple([_in_json(form).encode() for form in self._deep])
        self._lined = {
            form: shown for value, shown in self._values.items() for form in _in_base64(value)
        }
        self._lined_bytes = tuple([form.encode() for form in self._lined])
        self._raw = {
            form.encode("utf-8", "surrogatepass"): shown.encode()
            for form, shown in (*self._values.items(), *self._deep.items())
        }
        sizes = [len(form) for form in (*self._values, *self._deep)]
        sizes += [len(form) + len(form) // 16 + 2 for form in self._lined]
        self._shortest = min(sizes)
        self.longest = max(sizes)
        """Length of the longest pattern."""

    @staticmethod
    def of(*found: Mapping[str, str]) -> Redactor | None:
        """The redactor of all these values (value to name); the first name of a value counts. None:
        there are no secrets."""
        secrets: dict[str, str] = {}
        for some in found:
            for value, name in some.items():
                secrets.setdefault(value, name)
        return _made(tuple(secrets.items())) if secrets else None

    def text(self, text: str, *, deep: bool = True) -> str:
        """`text` without secrets."""
        if len(text) < self._shortest:
            return text
        if self._exact.search(text) is not None:
            text = self._exact.sub(lambda found: self._values[found[0]], text)
        if deep:
            for form, shown in self._deep.items():
                if form in text:
                    text = text.replace(form, shown)
            if "\n" in text:
                whole = text.replace("\r", "").replace("\n", "")
                for form, shown in self._lined.items():
                    if form in whole:
                        text = _in_lines(form).sub(shown, text)
        return text

    def json_text(self, text: str) -> str:
        """A piece of JSON, or of what should be JSON, without secrets, including escaped ones."""
        for form, shown in self._escaped.items():
            if form in text:
                text = text.replace(form, shown)
        return self.text(text, deep=False)

    def finds(self, body: bytes) -> bool:
        """Whether this JSON contains a secret."""
        return self._exact_bytes.search(body) is not None

    def json(self, data: T, *, deep: bool = False) -> T:
        """Plain data without secrets, including its keys."""
        body = utf8(cast("JSON", data))
        if body is not None:
            if len(body) < self._shortest:
                return data
            if not self.finds(body) and not (deep and self._has_form(body)):
                return data
        return cast("T", self._walk(cast("JSON", data), deep))

    def _has_form(self, body: bytes) -> bool:
        if any(form in body for form in self._deep_bytes):
            return True
        if b"\\n" not in body:
            return False
        whole = body.replace(b"\\r", b"").replace(b"\\n", b"")
        return any(form in whole for form in self._lined_bytes)

    def _walk(self, data: JSON, deep: bool) -> JSON:
        if isinstance(data, str):
            return self.text(data, deep=deep)
        if isinstance(data, Mapping):
            return {self.text(key, deep=deep): self._walk(item, deep) for key, item in data.items()}
        if isinstance(data, list | tuple):
            return [self._walk(item, deep) for item in data]
        return data

    def error(self, error: LorimerError) -> LorimerError:
        """The error itself, with secrets removed from its text. Its cause is left unchanged."""
        words = str(error)
        clean = self.text(words)
        if clean != words:
            error.args = (clean, *error.args[1:])
        error.hint = self.text(error.hint)
        error.__notes__ = [self.text(note) for note in error.__notes__]  # anyone may add notes
        if isinstance(error, APIError):
            error.partial = self.text(error.partial)
        elif isinstance(error, ConfigError):
            error.problems = tuple(map(self.text, error.problems))
        return error

    def raw(self, data: bytes) -> bytes:
        """Bytes without secrets, whatever their encoding."""
        for form, shown in self._raw.items():
            if form in data:
                data = data.replace(form, shown)
        if b"\n" in data:
            whole = data.replace(b"\r", b"").replace(b"\n", b"")
            for form, shown in self._lined.items():
                if form.encode() in whole:
                    data = re.sub(_in_lines(form).pattern.encode(), shown.encode(), data)
        return data

    def held_back(self, text: str, *, in_json: bool = False) -> int:
        """How many of the last characters may be the beginning of a secret that continues;
        `in_json`: also escaped as in JSON."""
        forms = (*self._values, *self._escaped) if in_json else self._values
        return max([_begun(text, form) for form in forms])

    def held_back_raw(self, data: bytes) -> int:
        """The same for bytes, in every form that `raw` finds."""
        text = data[-max(map(len, self._raw)) :].decode("latin-1")  # one character per byte
        return max([_begun(text, form.decode("latin-1")) for form in self._raw])


def _begun(data: str, form: str) -> int:
    """How much of `form`, but not all of it, `data` ends with."""
    start = max(0, len(data) - len(form) + 1)
    while (at := data.find(form[:1], start)) >= 0:
        size = len(data) - at
        if data[at:] == form[:size]:
            return size
        start = at + 1
    return 0


@lru_cache(maxsize=8)  # a pure function; a server makes a pipeline for every request
def _made(secrets: tuple[tuple[str, str], ...]) -> Redactor:
    return Redactor(dict(secrets))


def _any_of(texts: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join([re.escape(text) for text in texts]))


def _in_json(text: str) -> str:
    return (utf8(text) or dumps(text).encode()).decode()[1:-1]


def _in_ascii(text: str) -> str:
    return encode_basestring_ascii(text)[1:-1]


def _lines(value: str) -> list[str]:
    lines = [line.strip() for line in value.splitlines()]
    if len(lines) < 2:
        return []
    return [line for line in lines if len(line) >= _LINE and not line.startswith("-----")]


def _encoded(value: str) -> Iterable[str]:
    raw = value.encode("utf-8", "surrogatepass")
    yield raw.hex()
    yield raw.hex().upper()
    yield from _in_base64(value)
    quoted = [quote(value, safe=""), quote(value)]
    small = [_PERCENT.sub(lambda found: found[0].lower(), each) for each in quoted]
    others = dict.fromkeys([*quoted, *small])
    yield from [form for form in others if form != value]
    yield from _escapes(value)
    yield from [form for form in dict.fromkeys(_quoted(value)) if form != value]


def _quoted(value: str) -> list[str]:
    """As pages, Python and shells show it, and JSON within JSON."""
    page = value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    attribute = page.replace('"', "&quot;")
    both = repr(value + "\"'")[1:-4]  # beside quotes of both kinds
    return [
        *(page, attribute.replace("'", "&#x27;"), attribute.replace("'", "&#39;")),
        *(repr(value)[1:-1], both, repr(value.encode("utf-8", "surrogatepass"))[2:-1]),
        *(value.replace("'", "'\"'\"'"), value.replace("'", "'\\''")),
        *(_in_json(_in_json(value)), _in_ascii(_in_ascii(value))),
    ]


def _escapes(value: str) -> list[str]:
    """Its form in a JSON string, if that differs."""
    forms = [_in_json(value), _in_ascii(value), _in_json(value).replace("/", "\\/")]
    # as other libraries write JSON, so that it may be embedded in a page
    forms += [_MARKUP.sub(lambda found: f"\\u{ord(found[0]):04x}", _in_json(value))]
    forms += [_ODD.sub(lambda found: f"\\u{ord(found[0]):04X}", _in_ascii(value))]
    return [form for form in dict.fromkeys(forms) if form != value]


_PERCENT: Final = re.compile("%[0-9A-F]{2}")
_MARKUP: Final = re.compile("[&<>]")
_ODD: Final = re.compile("[&'+<>`]")


def _in_base64(value: str) -> Iterable[str]:
    raw = value.encode("utf-8", "surrogatepass")
    for skipped in range(3):
        # in base64 it depends on what precedes it, as do the first and last letter
        text = base64.b64encode(bytes(skipped) + raw).decode().rstrip("=")
        inner = text[(0, 2, 3)[skipped] : -1]
        yield inner
        if "+" in inner or "/" in inner:
            yield inner.replace("+", "-").replace("/", "_")


@lru_cache(maxsize=32)
def _in_lines(form: str) -> re.Pattern[str]:
    """Its form when programs break it into lines."""
    return re.compile(r"\r?\n?".join(map(re.escape, form)))


def of_environment(*more: Mapping[str, str]) -> Redactor | None:
    """The redactor for the environment of this process, and `more` (value to name)."""
    return Redactor.of(*more, secrets_in(os.environ))


# --- logs ----------------------------------------------------------------------------------------


class _Clean(logging.Filter):
    """Removes the secrets of the environment, and those of the record's `redactor`. Only for
    records that are emitted, so it need not be fast."""

    def filter(self, record: logging.LogRecord) -> bool:
        own: object = record.__dict__.pop("redactor", None)
        for redactor in (own, of_environment()):
            if isinstance(redactor, Redactor):
                _clean(record, redactor)
        return True


def _clean(record: logging.LogRecord, redactor: Redactor) -> None:
    said = record.getMessage()
    clean = redactor.text(said)
    if clean != said:
        record.msg, record.args = clean, ()
    trace = record.exc_text
    if trace is None and record.exc_info:
        trace = logging.Formatter().formatException(record.exc_info)
    if trace is not None and (clean := redactor.text(trace)) != trace:
        record.exc_text, record.exc_info = clean, None


def logger(name: str) -> logging.Logger:
    """The logger of that name, whose messages contain no secrets. For secrets that only one run
    knows, pass `extra={"redactor": ...}`."""
    found = logging.getLogger(name)
    if not any(isinstance(each, _Clean) for each in found.filters):
        found.addFilter(_Clean())
    return found
