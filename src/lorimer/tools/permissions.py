"""May this call run? The caller's grant, the caller's rules, or a person; else no.

Of what a tool says about itself only one thing is believed: that it does nothing but read. So
whoever registers tools of others declares no effects for them. Failing to decide means no.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from posixpath import normpath
from typing import TYPE_CHECKING, Final

from lorimer.core.errors import ConfigError
from lorimer.core.jsonable import JSON, dumps
from lorimer.core.tool import Approver
from lorimer.tools.asking import AskLater, ask
from lorimer.tools.base import ToolInput
from lorimer.tools.encode import plain
from lorimer.tools.registry import Entry

if TYPE_CHECKING:
    from lorimer.core.context import RunContext

_RULE: Final = re.compile(r"([A-Za-z0-9_-]{1,64})(?:\((.*)\))?", re.DOTALL)
_MAX_SUGGESTION: Final = 300


@dataclass(frozen=True, slots=True)
class Rule:
    """Allows calls of one tool.

    `input` maps arguments to what they must be, the key "" standing for the tool's subject (the
    command of Bash, the path of Write); arguments it does not name may be anything. None: every
    call. Values are compared as they are, paths relative to the working directory; with
    `pattern` they are shell patterns (`*`, `?`, `[...]`; `*` also matches `/`, never `..`). A
    pattern over the command of Bash allows whatever a shell makes of it.
    """

    tool: str
    input: Mapping[str, str] | None = field(default=None, hash=False)
    pattern: bool = False

    @classmethod
    def parse(cls, text: str, *, pattern: bool = False) -> Rule:
        """From `Tool` or `Tool(subject)`, e.g. `Bash(python analyse.py)`, `Write(report.md)`.

        What is between the parentheses is taken literally, spaces and `*` included, unless
        `pattern`. Raises ConfigError.
        """
        found = _RULE.fullmatch(text)
        if found is None:
            raise ConfigError(
                f"{text!r} is not a rule: write Tool or Tool(subject), e.g. Bash(python x.py)"
            )
        subject: str | None = found[2]
        return cls(found[1], None if subject is None else {"": subject}, pattern)

    def __str__(self) -> str:
        if self.input is None:
            return self.tool
        inner = ", ".join([f"{k}={v}" if k else v for k, v in self.input.items()])
        return f"{self.tool}({inner})"

    def allows(self, entry: Entry, input: ToolInput, working_dir: Path | None) -> bool:
        """This call is one of those that the rule is about."""
        if self.tool != entry.spec.name:
            return False
        for name, wanted in (self.input or {}).items():
            argument = name or entry.tool.subject
            if not argument or argument not in input:
                return False
            actual = _as_text(entry, argument, input[argument], working_dir)
            pattern = self.pattern
            if argument in entry.tool.paths:
                wanted = relative(wanted, working_dir)
                pattern = pattern and ".." not in PurePosixPath(actual).parts
            if actual != wanted and not (pattern and fnmatchcase(actual, wanted)):
                return False
        return True


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a call may run, and by what."""

    allowed: bool
    by: str = ""
    """`rule ...` or `approved`; "" for a plain allow. Of a refusal: who or what said no."""
    remedy: str = ""
    """The rule that would allow a refused call."""


PLAIN_ALLOW: Final = Verdict(True)


def needs_no_rule(entry: Entry) -> bool:
    """The caller put the tool here, or it only reads what is open to tools anyway."""
    return entry.granted or entry.effects <= {"read"}


async def permit(
    entry: Entry,
    input: ToolInput,
    key: str,
    *,
    rules: Sequence[Rule],
    approver: Approver | None,
    working_dir: Path | None,
    run: RunContext,
) -> Verdict:
    """Decide one call of a tool that needs a rule. A person's answer is recorded (effect
    `approval`), so that a resumed run does not ask again."""
    if run.recorded("effect", f"approval:{key}") is None:  # else somebody has answered
        for rule in rules:
            if rule.allows(entry, input, working_dir):
                return Verdict(True, f"rule {rule}")
    remedy = suggestion(entry, input, working_dir)
    asked = run.recorded("effect.intent", f"approval:{key}") is not None
    if approver is None and not asked:
        return Verdict(False, "no rule allows it and nobody is there to ask", remedy)
    said_no = await ask(approver or AskLater(), entry, input, key, run)
    return Verdict(False, said_no, remedy) if said_no else Verdict(True, "approved")


def suggestion(entry: Entry, input: ToolInput, working_dir: Path | None) -> str:
    """The narrowest rule that would allow this call, as text."""
    name, subject = entry.spec.name, entry.tool.subject
    if not subject or subject not in input:
        return name
    text = _as_text(entry, subject, input[subject], working_dir)
    return f"{name}({text})" if len(text) <= _MAX_SUGGESTION else name


def relative(path: str, working_dir: Path | None) -> str:
    """A path for comparison: relative to the working directory where it is beneath it. One with
    `..` stays as it is, because what it means depends on links."""
    if ".." in PurePosixPath(path).parts:
        return path
    path = normpath(path)
    if working_dir is not None and PurePosixPath(path).is_relative_to(working_dir.as_posix()):
        return PurePosixPath(path).relative_to(working_dir.as_posix()).as_posix()
    return path


def _as_text(entry: Entry, argument: str, value: JSON, working_dir: Path | None) -> str:
    text = value if isinstance(value, str) else dumps(plain(value))
    return relative(text, working_dir) if argument in entry.tool.paths else text
