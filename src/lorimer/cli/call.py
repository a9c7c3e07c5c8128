"""The options of a `lorimer run` that a later `runs resume` needs, stored beside the manifest.

The manifest describes the agent, not the place where it runs. What is read from here permits
nothing: options that were stricter than usual stay in force; those that allowed more are only
shown, and have to be given again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from shlex import quote
from typing import Final, cast

from lorimer.cli.error_context import named_store
from lorimer.cli.text import short_id
from lorimer.core.journal import Journal
from lorimer.core.jsonable import JSON, canonical, texts_of
from lorimer.core.redaction import of_environment
from lorimer.models.credentials import redact_url

_STRICT_MODES: Final = ("plan", "dontAsk", "default")
"""The strictest first."""


@dataclass(frozen=True, slots=True)
class Call:
    """Where and with which options a run was started."""

    workspace: str = ""
    """Absolute path."""
    base_url: str = ""
    """Without user name and password."""
    rules: tuple[str, ...] = ()
    key_variable: str = ""
    """The name in `--api-key-env`; shown, never looked up."""
    models: str = ""
    """Absolute path of the host file that `--models` named."""
    sandbox: str = ""
    """The value of `--sandbox`; "": not given."""
    network: tuple[str, ...] = ()
    """The hosts that `--network` named."""
    mode: str = ""
    """The value of `--permission-mode`; "": not given."""
    env: tuple[str, ...] = ()
    """The names in `--env`; shown, never looked up."""

    @property
    def loosened(self) -> tuple[str, ...]:
        """The given options that allowed the run more."""
        words = [f"--allow {quote(rule)}" for rule in self.rules]
        if self.mode and self.mode not in _STRICT_MODES:
            words.append(f"--permission-mode {quote(self.mode)}")
        if self.network:
            words.append(f"--network {quote(','.join(self.network))}")
        if self.env:
            words.append(f"--env {quote(','.join(self.env))}")
        if self.sandbox == "off":
            words.append("--sandbox off")
        return tuple(words)

    @property
    def strict_mode(self) -> str:
        """The mode that the run was started with, if that is no looser than `default`; else ""."""
        return self.mode if self.mode in _STRICT_MODES else ""

    def resume_command(self, run_id: str) -> str:
        """The command that resumes that run, with all options that have to be given again."""
        words = list(self.loosened)
        if self.key_variable:
            words.append(f"--api-key-env {quote(self.key_variable)}")
        return " ".join([f"lorimer runs resume {short_id(run_id)}{named_store()}", *words])

    async def keep(self, journal: Journal, run_id: str) -> None:
        """Store it for that run. If one is stored already, that one counts."""
        redactor, rules = of_environment(), list(self.rules)
        data: dict[str, JSON] = {
            **asdict(self),
            "base_url": redact_url(self.base_url),
            "rules": rules if redactor is None else redactor.json(rules, deep=True),
        }
        await journal.put(_name(run_id), canonical(data))

    @classmethod
    async def of(cls, journal: Journal, run_id: str) -> Call:
        """The options of that run; empty if it was not started by a command line."""
        body = await journal.get(_name(run_id))
        try:
            data = cast("JSON", json.loads(body or b"{}"))
        except (ValueError, RecursionError):
            return cls()
        if not isinstance(data, Mapping):
            return cls()
        return cls(
            _text(data.get("workspace")),
            _text(data.get("base_url")),
            texts_of(data.get("rules")),
            _text(data.get("key_variable")),
            _text(data.get("models")),
            _text(data.get("sandbox")),
            texts_of(data.get("network")),
            _text(data.get("mode")),
            texts_of(data.get("env")),
        )


def _name(run_id: str) -> str:
    return f"call:{run_id}"


def _text(value: JSON) -> str:
    return value if isinstance(value, str) else ""
