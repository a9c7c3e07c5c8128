"""One rule: `deny`, `ask` or `allow` of `Tool`, `Tool(spec)`, `@effect` or `mcp:server/tool`; and
what a spec means for the tool that it applies to.

To allow, a spec has to match for certain: a path as spelled and with links followed, a host that
can be parsed, a command of which every part is covered. To deny or ask, a possible match is enough.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import translate
from pathlib import PurePosixPath
from posixpath import normpath
from typing import Final, TypeAlias
from unicodedata import normalize

from lorimer.core.errors import ConfigError, nearest
from lorimer.core.jsonable import JSON, dumps
from lorimer.core.record import record
from lorimer.tools.encode import plain
from lorimer.tools.policy.effects import Call, CommandUse, HostUse, PathUse, Place
from lorimer.tools.policy.modes import Action
from lorimer.tools.policy.names import check_name, is_wide, one_tool
from lorimer.tools.policy.sources import Source
from lorimer.tools.policy.when import ALWAYS, When, dated
from lorimer.tools.registry import Entry
from lorimer.tools.shell.rules import CommandRule
from lorimer.world.spellings import spellings

_RULE: Final = re.compile(r"([A-Za-z0-9_-]{1,64})(?:\((.*)\))?", re.DOTALL)
_PATTERN: Final = re.compile(r"([^()\s]+)(?:\((.*)\))?", re.DOTALL)
_NAMED: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_HOST: Final = re.compile(r"(\*|(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*)(?::([0-9]{1,5}))?")

Fits: TypeAlias = Callable[[Call, bool], bool]
"""Whether a spec matches a call. The second argument: for certain (True), or possibly (False)."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule about calls of one tool, or with one effect.

    `input` maps arguments to required values, where the key "" is the tool's subject (the command
    of Bash, the path of Write); other arguments may have any value. None: every call. Values are
    compared literally, paths relative to the working directory; allowing a path does not allow
    where a link there leads.

    With `pattern` they are patterns. For a command: literal words, `*` for one word, `**` at the
    end for any number of further words (`git log **`). For a path: `*` and `?` within a name, `**`
    across folders, beginning with `./` (the working directory, the default), `~/`, `//` (the root)
    or `**/` (anywhere). For a URL: a host, `*.example.org`, optionally with `:port`. For anything
    else: `*`, `?`, `[...]`. `Tool(argument=...)` is about that argument. Instead of a tool, a
    pattern may name an effect (`@net`), tools of an MCP server (`mcp:server/tool`, `mcp:server`),
    or, to deny or ask, all (`*`).

    Raises ConfigError for an allow rule that depends on the name of an agent.
    """

    tool: str
    input: Mapping[str, str] | None = field(default=None, hash=False)
    pattern: bool = False
    action: Action = Action.ALLOW
    source: Source = Source.CALLER
    reason: str = ""
    """Shown with a refusal or a question."""
    when: When = ALWAYS
    expires: float | None = None
    """Seconds since 1970, on the world's clock; from then on the rule is ignored."""

    def __post_init__(self) -> None:
        if self.when.agents and self.action is Action.ALLOW:
            raise ConfigError(
                f"{self}: a rule that allows cannot rest on the name of an agent",
                hint="An agent's name is its own word. Deny and ask may name agents.",
            )

    @classmethod
    def parse(
        cls,
        text: str,
        *,
        pattern: bool = False,
        action: Action = Action.ALLOW,
        source: Source = Source.CALLER,
        reason: str = "",
        when: When = ALWAYS,
        expires: float | None = None,
    ) -> Rule:
        """From `Tool` or `Tool(spec)`, e.g. `Bash(python analyse.py)`, `Write(report.md)`; with
        `pattern` also `@effect`, `mcp:server/tool` and `*`.

        The part in parentheses is literal, including spaces and `*`, unless `pattern`. Raises
        ConfigError.
        """
        found = (_PATTERN if pattern else _RULE).fullmatch(text)
        if found is None:
            raise ConfigError(
                f"{text!r} is not a rule: write Tool or Tool(subject), e.g. Bash(python x.py)"
            )
        name, subject = str(found[1]), found[2]
        if pattern:
            check_name(name)
        if subject is not None and not one_tool(name):
            raise ConfigError(f"{text!r}: {name} is about several tools, so it stands alone")
        if name == "*" and action is Action.ALLOW:
            raise ConfigError(
                "'*' may deny or ask; nothing allows everything",
                hint="For one run, in a place made for it: --permission-mode bypass.",
            )
        named = None if subject is None else {"": str(subject)}
        return cls(name, named, pattern, action, source, reason, when, expires)

    def __str__(self) -> str:
        if self.input is None:
            return self.tool
        inner = ", ".join([f"{k}={v}" if k else v for k, v in self.input.items()])
        return f"{self.tool}({inner})"

    @property
    def effect(self) -> str:
        """The effect that it applies to; "" if it names a tool."""
        return self.tool[1:] if self.tool.startswith("@") else ""

    @property
    def wide(self) -> bool:
        """It may apply to several tools, by their names."""
        return is_wide(self.tool)

    @property
    def lasting(self) -> bool:
        """It applies in every mode and does not expire."""
        return self.expires is None and not self.when.modes

    @property
    def exact(self) -> bool:
        """It gives the subject of its calls literally."""
        return self.input is not None and not self.pattern and "" in self.input

    @property
    def title(self) -> str:
        """Its text in facts and for the model."""
        if self.action is Action.ALLOW and self.source is Source.CALLER:
            return f"rule {self}"
        when = f" {self.when}" if self.when is not ALWAYS else ""
        until = f" until {dated(self.expires)}" if self.expires is not None else ""
        why = f": {self.reason}" if self.reason else ""
        return f"{self.source.value} rule {self.action.name.lower()} {self}{when}{until}{why}"


@record
class Bound:
    """A rule as it applies to one tool."""

    rule: Rule
    fits: Fits
    command: CommandRule | None = None
    """A pattern for commands: several of them may cover one line together."""
    path: tuple[str, str] | None = None
    """A pattern for paths: the argument, and the regular expression for whole absolute paths."""
    literal: tuple[str, str] | None = None
    """The one argument that it applies to, and its required value (see `text_of_argument`)."""


def bind(rule: Rule, entry: Entry, place: Place) -> Bound:
    """What a rule for this tool, or for one of its effects, means for it. Raises ConfigError for an
    invalid spec."""
    if rule.input is None:
        return Bound(rule, _always)
    tests: list[Fits] = []
    for name, wanted in rule.input.items():
        argument, value = name or entry.tool.subject, wanted
        if rule.pattern and not name:
            named = _NAMED.fullmatch(wanted)
            if named is not None and named[1] in _properties(entry):
                argument, value = named[1], named[2]
            elif named is not None and argument in entry.tool.paths:  # it would fit no path
                raise ConfigError(
                    f"{entry.spec.name} has no argument {named[1]!r}"
                    f"{nearest(named[1], _properties(entry))}",
                    hint=f"A path that begins so is written ./{wanted}",
                )
        if rule.pattern and argument in entry.tool.commands:
            if len(rule.input) > 1:
                raise ConfigError(f"{rule}: a pattern over a command stands alone")
            command = CommandRule.parse(value)
            return Bound(rule, _command_fits(command), command)
        alone = len(rule.input) == 1
        if rule.pattern and argument in entry.tool.paths:
            pattern = _path_pattern(value, place)
            tests.append(_path_fits(argument, pattern))
            if alone:
                return Bound(rule, tests[0], path=(argument, pattern))
            continue
        tests.append(_test(entry, argument, value, rule.pattern, place))
        if alone:
            own = relative(value, place) if argument in entry.tool.paths else value
            return Bound(rule, tests[0], literal=None if rule.pattern else (argument, own))
    return Bound(rule, lambda call, surely: all(test(call, surely) for test in tests))


def _always(call: Call, surely: bool) -> bool:
    return True


def _command_fits(command: CommandRule) -> Fits:
    # to allow, all patterns of a tool are asked together: `engine`
    def fits(call: Call, surely: bool) -> bool:
        return not surely and any(
            command.forbids(use.text, use.parsed)
            for use in call.resources
            if isinstance(use, CommandUse)
        )

    return fits


def _test(entry: Entry, argument: str, wanted: str, pattern: bool, place: Place) -> Fits:
    if not argument:
        raise ConfigError(f"{entry.spec.name} has no subject that a rule could be about")
    if pattern and argument in entry.tool.urls:
        return _host_fits(argument, wanted)
    if argument in entry.tool.paths:
        return _literal_path(entry, argument, wanted, place)
    test = re.compile(translate(wanted)).match if pattern else wanted.__eq__

    def fits(call: Call, surely: bool) -> bool:
        if argument not in call.input:
            return False
        return bool(test(text_of_argument(entry, argument, call.input[argument], place)))

    return fits


def _literal_path(entry: Entry, argument: str, wanted: str, place: Place) -> Fits:
    own = relative(wanted, place)

    def fits(call: Call, surely: bool) -> bool:
        if argument not in call.input:
            return False
        uses = paths_of(call, argument)
        if text_of_argument(entry, argument, call.input[argument], place) == own:
            return not surely or not any(use.elsewhere for use in uses)
        if surely:
            return False
        return any(relative(form, place) == own for use in uses for form in use.forms)

    return fits


def _path_fits(argument: str, text: str) -> Fits:
    pattern, loose = re.compile(text), loosely(text)

    def fits(call: Call, surely: bool) -> bool:
        uses = paths_of(call, argument)
        if surely:
            return bool(uses) and all(
                use.forms and not use.climbs and all(map(pattern.fullmatch, use.forms))
                for use in uses
            )
        return any(
            not use.forms
            or any(loose.fullmatch(each) for form in use.forms for each in spellings(form))
            for use in uses
        )

    return fits


def loosely(text: str) -> re.Pattern[str]:
    """A pattern for paths, applied to the `spellings` of one."""
    return re.compile(text.lower() if text.isascii() else normalize("NFC", text.casefold()))


def paths_of(call: Call, argument: str) -> list[PathUse]:
    """The paths in one argument."""
    return [use for use in call.resources if isinstance(use, PathUse) and use.argument == argument]


def _path_pattern(text: str, place: Place) -> str:
    """A path pattern, anchored, as a regular expression for absolute paths. No letter in it changes
    meaning with case, so it may be lower-cased as a whole."""
    if text.startswith("~/"):
        base, rest = place.home, text[2:]
    elif text.startswith("//"):
        base, rest = "", place.canonical(text[1:])
    elif text.startswith("**/"):
        base, rest = "", text
    elif text.startswith(("/", "~")):
        raise ConfigError(
            f"{text!r} has no anchor", hint="Begin a path with ./ or ~/, or // for the root."
        )
    else:
        base, rest = place.workspace, text.removeprefix("./")
        if not base:
            raise ConfigError(f"{text!r} is relative, and there is no working directory")
    if ".." in rest.split("/"):
        raise ConfigError(f"{text!r}: a pattern of paths has no `..`")
    blocks: list[list[str]] = [[]]
    for name in rest.split("/"):
        if name == "**":
            blocks.append([])
        elif "**" in name:
            raise ConfigError(f"{text!r}: ** stands between slashes")
        elif name:
            blocks[-1].append(name)
    spelled = ["".join(["/" + _name(name) for name in block]) for block in blocks]
    return re.escape(base) + _joined(spelled)


def _joined(blocks: Sequence[str]) -> str:
    """Blocks of folders with any folders between them. Each is searched once, from the left: the
    first match is as good as any later one, so there is no backtracking."""
    if len(blocks) == 1:
        return blocks[0]
    first, *middle, last = blocks
    found = [f"(?>(?:/[^/]*)*?{block}(?![^/]))" for block in middle if block]
    return first + ("(?![^/])" if first else "") + "".join(found) + "(?:/[^/]*)*" + last


def _name(text: str) -> str:
    """One name with `*` and `?`; stars likewise."""
    pieces = [re.escape(piece).replace(r"\?", "[^/]") for piece in re.split(r"\*+", text)]
    if len(pieces) == 1:
        return pieces[0]
    first, *middle, last = pieces
    return first + "".join([f"(?>[^/]*?{piece})" for piece in middle]) + "[^/]*" + last


def _host_fits(argument: str, text: str) -> Fits:
    found = _HOST.fullmatch(text.lower())
    if found is None:
        raise ConfigError(
            f"{text!r} is not a host", hint="Write example.org, *.example.org or example.org:8443."
        )
    name, port = found[1], int(found[2]) if found[2] else None

    def one(use: HostUse) -> bool:
        if port is not None and use.port != port:
            return False
        if name.startswith("*"):
            return name == "*" or use.host.endswith(name[1:])
        return use.host == name

    def fits(call: Call, surely: bool) -> bool:
        uses = [
            use for use in call.resources if isinstance(use, HostUse) and use.argument == argument
        ]
        if surely:
            return bool(uses) and all(use.host and one(use) for use in uses)
        return any(not use.host or one(use) for use in uses)

    return fits


def _properties(entry: Entry) -> Mapping[str, object]:
    found = entry.spec.input_schema.get("properties")
    return found if isinstance(found, Mapping) else {}


def relative(path: str, place: Place) -> str:
    """A path for comparison: relative to the workspace if it is below it. A path with `..` is not
    changed, because its meaning depends on links."""
    workspace = place.workspace
    if ".." in path and ".." in PurePosixPath(path).parts:
        return path
    path = place.canonical(normpath(path))
    if workspace and path.startswith(f"{workspace}/"):
        return path[len(workspace) + 1 :]
    return "." if workspace and path == workspace else path


def text_of_argument(entry: Entry, argument: str, value: JSON, place: Place) -> str:
    """An argument as rules name it."""
    if isinstance(value, str):
        text = value
    elif type(value) is int and abs(value) < 2**63:  # as JSON, but in a tenth of the time
        text = str(value)
    else:
        text = dumps(plain(value))
    return relative(text, place) if argument in entry.tool.paths else text
