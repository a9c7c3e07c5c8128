"""Stage 11, reviewers: checks of calls before they are made."""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from pydantic import Field

from lorimer.core.review import Action, Call, Finding
from lorimer.core.stage import Settings, Strategy


class CallReviewer(Strategy):
    """Reviews each call before it is made."""

    class Config(Settings):
        action: Action = "annotate"
        """What happens to a call with a finding: `annotate` reports it to the host, `ask` has a
        person decide, `block` refuses it."""

    config: Config

    def reason(self, call: Call) -> str:
        """The finding in a call, in words; "": none."""
        raise TypeError(f"{type(self).__name__} has no reason method")

    def find(self, call: Call) -> Finding | None:
        """The finding in a call. Must be fast, and deterministic."""
        reason = self.reason(call)
        return Finding(self.name, self.config.action, reason) if reason else None


class Schema(CallReviewer):
    """Required fields in addition to those of a tool's own schema."""

    name = "schema"
    description = "Calls in which one of required_fields is missing or empty."

    class Config(CallReviewer.Config):
        required_fields: dict[str, list[str]] = Field({})
        """Tool to the names of fields that must be present and not empty."""

    config: Config  # pyright: ignore[reportIncompatibleVariableOverride]

    def reason(self, call: Call) -> str:
        wanted = self.config.required_fields.get(call.tool, ())
        missing = [name for name in wanted if call.input.get(name) in (None, "", [], {})]
        return f"{', '.join(missing)} must be given" if missing else ""


class _Pattern(NamedTuple):
    """A pattern to search for in a text."""

    what: str
    hints: tuple[str, ...]
    """In lower case: a text without any of these does not match."""
    regex: re.Pattern[str]

    def found(self, text: str, lower: str) -> bool:
        for hint in self.hints:
            if hint in lower:
                return self.regex.search(text) is not None
        return False


_SECRETS: Final = (
    _Pattern(
        "a private key", ("private key",), re.compile(r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----")
    ),
    _Pattern("an AWS key", ("akia", "asia"), re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b")),
    _Pattern("a bearer token", ("bearer",), re.compile(r"\bBearer\s[A-Za-z0-9._~+/=-]{20}")),
    _Pattern(
        "a key",
        ("sk-", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "xox"),
        re.compile(r"\b(?:sk-[A-Za-z0-9_-]{20}|gh[pousr]_[A-Za-z0-9]{30}|xox[abprs]-\w{10})"),
    ),
    _Pattern(
        "what looks like a password or key",
        ("key", "secret", "token", "passw"),
        re.compile(
            r"\b(?:api[_-]?key|secret|access[_-]?token|passw(?:or)?d)[\"']?[ \t]{0,4}[:=]"
            r"[ \t]{0,4}[\"']?[^\s\"'$<{]{12}",
            re.IGNORECASE,
        ),
    ),
)
_SHORTEST: Final = 15
"""Length of the shortest text in which any of them can match."""


class Sensitive(CallReviewer):
    """Keys and passwords among the arguments."""

    name = "sensitive"
    description = "Calls that contain a key, a token, a password, or one of phrases."

    class Config(CallReviewer.Config):
        phrases: list[str] = Field([])
        """Phrases of your own that no call should contain, ignoring case."""

    config: Config  # pyright: ignore[reportIncompatibleVariableOverride]

    def reason(self, call: Call) -> str:
        for text in call.texts:
            if len(text) >= _SHORTEST:
                lower = text.lower()
                for pattern in _SECRETS:
                    if pattern.found(text, lower):
                        return f"its arguments hold {pattern.what}"
            if self.config.phrases:
                folded = text.casefold()
                if any(phrase.casefold() in folded for phrase in self.config.phrases):
                    return "its arguments hold one of the phrases"
        return ""


_DESTROYS: Final = (
    _Pattern(
        "removes files recursively", ("rm",), re.compile(r"\brm[ \t]+(?:-\w+[ \t]+)*-\w*[rR]")
    ),
    _Pattern(
        "overwrites what others pushed",
        ("push",),
        re.compile(r"\bgit[ \t]+push\b[^\n;|&]{0,200}(?:--force|-f\b)"),
    ),
    _Pattern(
        "drops uncommitted work",
        ("git",),
        re.compile(r"\bgit[ \t]+(?:reset[ \t]+--hard|clean[ \t]+-\w*f)"),
    ),
    _Pattern(
        "writes to a disk as a whole",
        ("mkfs", "of=/dev/"),
        re.compile(r"\bmkfs\b|\bdd\b[^\n;|&]{0,200}\bof=/dev/"),
    ),
    _Pattern(
        "drops a table or a database",
        ("drop", "truncate"),
        re.compile(r"\b(?:drop|truncate)\s{1,4}(?:table|database|schema)\b", re.IGNORECASE),
    ),
    _Pattern(
        "stops the machine",
        ("shutdown", "reboot", "poweroff", "halt"),
        re.compile(r"\b(?:shutdown|reboot|poweroff|halt)\b(?=[ \t]*(?:-|now|$))"),
    ),
    _Pattern(
        "tears down what runs",
        ("terraform", "kubectl"),
        re.compile(r"\b(?:terraform[ \t]+destroy|kubectl[ \t]+delete)\b"),
    ),
)


class Destructive(CallReviewer):
    """Irreversible actions."""

    name = "destructive"
    description = (
        "Calls of destructive_tools, and commands that cannot be undone (rm -r, DROP TABLE)."
    )

    class Config(CallReviewer.Config):
        destructive_tools: list[str] = Field([])
        """Tools whose calls always count as destructive."""
        command_fields: list[str] = Field(["command", "script", "query", "sql", "code"])
        """Arguments that contain commands."""

    config: Config  # pyright: ignore[reportIncompatibleVariableOverride]

    def reason(self, call: Call) -> str:
        config = self.config
        if call.tool in config.destructive_tools:
            return f"{call.tool} is one of the tools that cannot be undone"
        for field in config.command_fields if call.texts else ():
            text = call.input.get(field)
            if isinstance(text, str):
                lower = text.lower()
                for pattern in _DESTROYS:
                    if pattern.found(text, lower):
                        return f"it {pattern.what}"
        return ""


_URL: Final = re.compile(r"\b(?:https?|wss?|ftp)://[^\s\"'<>|;)\]}]{1,2000}", re.IGNORECASE)


class Network(CallReviewer):
    """Addresses that are not on the list of allowed hosts."""

    name = "network"
    description = "Calls that name a URL of a host that is not one of allowed_hosts."

    class Config(CallReviewer.Config):
        network_tools: list[str] = Field(["WebFetch", "WebSearch", "Bash"])
        """Tools whose calls are checked."""
        allowed_hosts: list[str] = Field([])
        """`docs.example.org`, or `*.example.org` for all its subdomains."""

    config: Config  # pyright: ignore[reportIncompatibleVariableOverride]

    def reason(self, call: Call) -> str:
        if call.tool not in self.config.network_tools:
            return ""
        for text in call.texts:
            for url in _URL.findall(text) if "://" in text else ():
                host = _host(url)
                if not self._allowed(host):
                    return f"the host {host or url[:100]!r} is not one of allowed_hosts"
        return ""

    def _allowed(self, host: str) -> bool:
        for allowed in self.config.allowed_hosts:
            if host == allowed.lower():
                return True
            if allowed.startswith("*.") and host.endswith(allowed[1:].lower()):
                return True
        return False


def _host(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return ""


class Size(CallReviewer):
    """Arguments that are too long to be intended."""

    name = "size"
    description = "Calls with arguments longer than max_chars; much longer ones are refused."

    class Config(CallReviewer.Config):
        max_chars: int = Field(50_000, ge=1)
        """Characters of all texts in a call."""
        block_chars: int = Field(250_000, ge=1)
        """From this length on a call is refused, whatever `action` is."""

    config: Config  # pyright: ignore[reportIncompatibleVariableOverride]

    def find(self, call: Call) -> Finding | None:
        count, config = sum(map(len, call.texts)), self.config
        if count >= config.block_chars:
            return Finding(self.name, "block", _long(count, config.block_chars))
        if count <= config.max_chars:
            return None
        return Finding(self.name, config.action, _long(count, config.max_chars))


def _long(count: int, limit: int) -> str:
    return f"its arguments have {count:,} characters, more than {limit:,}"
