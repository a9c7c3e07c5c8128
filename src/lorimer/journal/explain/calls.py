"""What happened to the calls of a reply: allowed, refused, asked about, stopped, repeated; and what
hooks decided."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from lorimer.core.errors import ExecutorErrorCode
from lorimer.core.events import Event
from lorimer.core.fact_data import uses_in
from lorimer.core.jsonable import JSON, dumps, fields_of
from lorimer.journal.explain.in_force import ManifestInForce
from lorimer.journal.explain.reason import Explanation, Origin, because, sentence
from lorimer.journal.explain.verdicts import (
    REFUSED,
    STOPPED,
    allowing,
    asking,
    hiding,
    not_made,
    plain,
    refusing,
    words,
)

_ABOUT_CHARS: Final = 200
_STEP_KEY: Final = re.compile(r"\w+s[0-9]+$")
"""The key of a call made by another call, or by a stage."""
_code = ExecutorErrorCode
_AGAIN: Final[Mapping[str, tuple[str, str]]] = {
    "not_done": ("tool", "its tool says that it did not take effect"),
    "not_begun": ("engine", "it had not begun before the interruption"),
    "wanted": ("person", "a person wants it made again"),
}
_POINTS: Final[Mapping[str, str]] = {
    "UserPromptSubmit": "the input",
    "PreToolUse": "the call",
    "PostToolUse": "the result",
    "PostToolFailure": "the result",
    "Stop": "the end of the run",
}


class Calls:
    """The calls of a run, in order."""

    def __init__(self) -> None:
        self._uses: Sequence[Mapping[str, JSON]] = ()
        self._decided: set[str] = set()
        """Calls of this turn whose permission was already reported."""
        self._hooks: dict[str, str] = {}
        """By position of the call, "" for none: the hook that decided last."""
        self.unanswered = False
        """In this turn a person was asked to accept something, and nobody answered in time."""

    def begin(self, content: JSON) -> None:
        """A reply has come."""
        self._uses = uses_in(content)
        self._decided.clear()
        self._hooks.clear()
        self.unanswered = False

    def hook(self, key: str = "") -> str:
        """The hook that decided about this call."""
        return self._hooks.get(key, "")

    def name(self, key: str, fact: Event) -> str:
        """The tool of a call."""
        told = fact.data.get("tool")
        if isinstance(told, str):
            return told
        return str(self._uses[int(key)].get("name")) if self._is_use(key) else "a call"

    def made(self, key: str) -> str:
        """The tool with which the model itself made this call; "": a stage made it."""
        first = re.match(r"[0-9]*", key)
        own = first[0] if first is not None else ""
        return str(self._uses[int(own)].get("name")) if self._is_use(own) else ""

    def _is_use(self, key: str) -> bool:
        return key.isdecimal() and int(key) < len(self._uses)

    def _about(self, key: str) -> str:
        if not self._is_use(key):
            return ""
        use = self._uses[int(key)]
        return str(use.get("raw") or dumps(use.get("input")))[:_ABOUT_CHARS]

    def take(self, fact: Event, in_force: ManifestInForce) -> Iterator[Explanation]:
        """Process the next fact about a call."""
        key = str(fact.data.get("key", ""))
        kind, _, rest = key.partition(":")
        match fact.type, kind:
            case "tool.intent", _:
                yield self._allowed(fact, key, in_force)
            case "tool.result", _:
                yield from self._result(fact, key, in_force)
            case "decision", _:
                yield self._refused(fact, key, in_force)
            case "effect.intent", "step":
                yield self._allowed(fact, rest, in_force)
            case "effect", "step":
                yield from self._result(fact, rest, in_force)
            case "effect.intent", "approval" | "again" | "question":
                yield self._asks(fact, kind, rest, in_force)
            case "effect", "approval" | "again" | "question":
                yield self._said(fact, kind, rest, in_force)
            case "effect", "reconcile":
                yield self._made_again(fact, rest)
            case "effect", "hook":
                yield from self._hooked(fact, rest)
            case _:
                pass

    # --- whether a call is made --------------------------------------------------------------

    def _allowed(self, fact: Event, key: str, in_force: ManifestInForce) -> Explanation:
        self._decided.add(key)
        name = self.name(key, fact)
        by = fact.data.get("decision")
        if isinstance(by, str) and by:
            why, origin = allowing(by, fact)
        else:
            why, origin = plain(name, fact, in_force)
        what, about = f"allowed {name}", self._about(key)
        if isinstance(fact.data.get("hook"), str):
            what += ", as the hook has changed it"
        return because(fact, "tool", what, why, origin, key=key, about=about)

    def _refused(self, fact: Event, key: str, in_force: ManifestInForce) -> Explanation:
        self._decided.add(key)
        data = fact.data
        rule, reason = str(data.get("rule")), str(data.get("reason") or "")
        if str(data.get("code")).startswith("exec.hook."):
            why, origin = sentence(rule), Origin("hook", self.hook(key) or "that failed")
        else:
            why, origin = refusing(rule, reason, fact, key, in_force)
        what, about = f"refused {self.name(key, fact)}", self._about(key)
        return because(fact, "tool", what, why, origin, key=key, about=about)

    def _result(self, fact: Event, key: str, in_force: ManifestInForce) -> Iterator[Explanation]:
        data, name, about = fact.data, self.name(key, fact), self._about(key)
        code = str(data.get("error", ""))
        refused = code in REFUSED and key not in self._decided
        if refused:
            self._decided.add(key)
            why = words(data.get("content"), code)
            origin = not_made(code, why, name, in_force)
            if code == _code.EXEC_TOOL_UNKNOWN.value and isinstance(data.get("decision"), str):
                hidden = str(data["decision"])
                why = f"the model is not shown it: {sentence(hidden)}"
                origin = hiding(hidden, in_force)
            yield because(fact, "tool", f"refused {name}", why, origin, key=key, about=about)
            return
        if key not in self._decided and code != _code.EXEC_TOOL_OUTCOME_UNKNOWN.value:
            yield self._allowed(fact, key, in_force)
        if code in STOPPED:
            limit = STOPPED[code]
            origin = in_force.limit(limit) if limit else Origin("engine", code)
            why = words(data.get("content"), code)
            yield because(fact, "tool", f"stopped {name}", why, origin, key=key, about=about)
        elif code == _code.EXEC_TOOL_OUTCOME_UNKNOWN.value:
            why = "it was begun before an interruption, and may have taken effect"
            origin = Origin("engine", code)
            what = f"did not make {name} again"
            yield because(fact, "tool", what, why, origin, key=key, about=about)

    def _made_again(self, fact: Event, key: str) -> Explanation:
        kind, why = _AGAIN.get(str(fact.data.get("outcome")), _AGAIN["not_begun"])
        name = self.name(key, fact)
        origin = Origin("engine", _code.EXEC_TOOL_OUTCOME_UNKNOWN.value)
        if kind == "tool":
            origin = Origin("tool", name)
        elif kind == "person":
            origin = Origin("person", f"{fact.iteration}:{key}")
        about = self._about(key)
        return because(fact, "tool", f"made {name} again", why, origin, key=key, about=about)

    # --- people and hooks --------------------------------------------------------------------

    def _asks(self, fact: Event, kind: str, key: str, in_force: ManifestInForce) -> Explanation:
        data = fields_of(fact.data.get("question"))
        tool, reason = str(data.get("tool", "a call")), sentence(str(data.get("reason", "")))
        call, about = key.partition(":")[0], self._about(key.partition(":")[0])
        if kind == "question":
            what, why, origin = "asked a person", f"{tool} asks: {reason}", Origin("tool", tool)
        elif kind == "again":
            code = _code.EXEC_TOOL_OUTCOME_UNKNOWN.value
            what, why = f"asked a person whether to make {tool} again", f"it {reason}"
            origin = Origin("engine", code)
        elif call.isdecimal() or _STEP_KEY.match(call):
            what, why = f"asked a person about {tool}", reason
            origin = asking(reason, tool, in_force)
        else:
            what, why = f"asked a person about {tool}", reason
            origin = in_force.of_stage("hitl", "strategies.requester")
        return because(fact, "person", what, why or what, origin, key=call, about=about)

    def _said(self, fact: Event, kind: str, key: str, in_force: ManifestInForce) -> Explanation:
        data, call = fact.data, key.partition(":")[0]
        named = call if kind == "approval" else f"{kind}:{key}"
        origin = Origin("person", f"{fact.iteration}:{named}")
        if kind == "question":
            given = isinstance(data.get("answer"), str)
            what = "a person answered" if given else "nobody answered"
            why = "the tool has asked" if given else "the time for an answer had run out"
        else:
            yes = data.get("approved") is True
            what = f"a person said {'yes' if yes else 'no'}"
            why = sentence(str(data.get("why") or "")) or "the answer to the previous question"
            if data.get("late") is True:
                what, why = "nobody answered", "the time for an answer had run out"
                origin = in_force.of_stage("hitl", "strategies.timeout")
                self.unanswered = True
        return because(fact, "person", what, why, origin, key=call, about=self._about(call))

    def _hooked(self, fact: Event, rest: str) -> Iterator[Explanation]:
        data = fact.data
        point, _, key = rest.partition(":")
        hook = str(data.get("hook") or "")
        error = data.get("error")
        self._hooks[key] = hook
        about = _POINTS.get(point, point)
        if isinstance(error, Mapping):
            said, why = f"a hook failed at {about}", sentence(str(error.get("message")))
            hook = hook or "that failed"
            self._hooks[key] = hook
        else:
            said, why = _verdict(data, hook, about), sentence(str(data.get("reason") or ""))
        if said:
            why = why or f"it was asked at {point}, and gave no reason"
            origin = Origin("hook", hook or point)
            yield because(fact, "hook", said, why, origin, key=key, about=self._about(key))


def _verdict(data: Mapping[str, JSON], hook: str, about: str) -> str:
    match data.get("decision"):
        case "block":
            return f"the hook {hook} refused {about}"
        case "ask":
            return f"the hook {hook} wants a person asked about {about}"
        case _ if "change" in data:
            return f"the hook {hook} changed {about}"
        case _ if "context" in data:
            return f"the hook {hook} added text for the model"
        case _:
            return ""
