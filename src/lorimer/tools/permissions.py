"""Whether a call may run. The policy decides (`policy/engine.py`); where it says "ask", a person
does. Failing to decide means no.

Of a tool's declarations only one is trusted: that it only reads. So whoever registers third-party
tools should declare no effects for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lorimer.core.jsonable import JSON, clean
from lorimer.core.record import record
from lorimer.core.tool import Approver
from lorimer.tools.asking import AskLater, ask
from lorimer.tools.base import ToolInput
from lorimer.tools.policy.below import denied_paths
from lorimer.tools.policy.effects import Place, led
from lorimer.tools.policy.engine import (
    CHANGED,
    HOOK,
    NOBODY,
    Decision,
    Rules,
    decide,
    hidden,
    strictness,
)
from lorimer.tools.policy.modes import Action, Mode
from lorimer.tools.policy.people import Parties
from lorimer.tools.policy.rules import Rule, bind, text_of_argument
from lorimer.tools.registry import Entry

if TYPE_CHECKING:
    from lorimer.core.context import RunContext

_MAX_SUGGESTION: Final = 300
UNCOVERED: Final = "no rule allows it and nobody is there to ask"
BY_PERSON: Final = "policy.person"
_NO_PERSON: Final = "a person has to agree and nobody is there to ask"


@record
class Verdict:
    """Whether a call may run, and what decided that."""

    allowed: bool
    by: str = ""
    """`rule ...` or `approved`; "" for a plain allow. For a refusal: who or what refused."""
    remedy: str = ""
    """The rule that would allow a refused call; "": none would."""
    code: str = ""
    """For a refusal: the reason code of `policy/engine.py`."""


PLAIN_ALLOW: Final = Verdict(True)


class Policy:
    """The rules and the mode of one toolset. Immutable; shared by runs."""

    def __init__(
        self,
        rules: Iterable[Rule],
        mode: Mode,
        working_dir: Path | None,
        roots: Sequence[Path] = (),
        *,
        isolated: bool = False,
        agent: str = "",
        parties: Parties = Parties(),  # noqa: B008 - it is immutable
    ) -> None:
        held = [rule for rule in rules if rule.when.concerns(agent, parties.caller)]
        self.rules = Rules(held, Place.of(working_dir, roots))
        self.parties = parties
        self.mode = mode
        self.isolated = isolated
        self._hidden: dict[str, tuple[Entry, str]] = {}
        self.plans = False
        """Whether plan mode is on as well: then the stricter of the two modes decides."""
        self._folder = ""
        self._rooted = bool(roots)
        """If roots are open, they confine what tools read, and say more clearly why a path is
        refused."""

    def planning(self) -> Policy:
        """The same policy, additionally without anything that the mode `plan` forbids."""
        other = copy(self)
        other.plans = True
        other._hidden = {}
        return other

    def check(self, entries: Iterable[Entry]) -> None:
        """Raises ConfigError for a rule that does not apply to the tool it names."""
        for entry in entries:
            for rule in self.rules.about(entry):
                bind(rule, entry, self.rules.place)

    def hidden(self, entry: Entry) -> str:
        """Why the model is not shown this tool and may not call it; "": it may."""
        known = self._hidden.get(entry.spec.name)
        if known is None or known[0] is not entry:  # called for every tool call
            why = self.parties.withheld(entry.tool) or hidden(entry, self.rules, self.mode)
            if self.plans:
                why = why or hidden(entry, self.rules, Mode.PLAN)
            known = self._hidden[entry.spec.name] = (entry, why)
        return known[1]

    def visible(self, entry: Entry) -> bool:
        """Whether the model is shown this tool and may call it."""
        return not self.hidden(entry)

    def lasts(self, entry: Entry) -> bool:
        """Whether decisions on this tool depend neither on the time nor on the content of the
        disk."""
        tool = entry.tool
        return self.rules.lasting and not (tool.paths or tool.urls or tool.commands)

    def needs_no_decision(self, entry: Entry) -> bool:
        """Whether no rule restricts the tool, and either the host added it, or it only reads what
        tools may read anyway."""
        if self.rules.of(entry).tightened or entry.tool.approval:
            return False
        if self.plans and not self.visible(entry):
            return False
        if entry.granted:
            return True
        tool = entry.tool
        return entry.effects <= {"read"} and (not tool.paths or (self._rooted and tool.rooted))

    def decide(
        self, entry: Entry, input: ToolInput, *, tainted: bool, now: float | None = None
    ) -> Decision:
        """See `policy.engine.decide`."""
        call = self.rules.call(entry, input)
        call = replace(call, folder=self._folder) if self._folder else call
        rules, isolated = self.rules, self.isolated
        said = decide(call, rules, self.mode, tainted=tainted, isolated=isolated, now=now)
        if not self.plans:
            return said
        planned = decide(call, rules, Mode.PLAN, tainted=tainted, isolated=isolated, now=now)
        if strictness(planned) >= strictness(said):
            return said
        why = f"{planned.why or 'plan mode is on'}; ExitPlanMode ends it"
        return replace(planned, why=why)

    def denied_below(
        self, entry: Entry, input: ToolInput, now: Callable[[], float]
    ) -> Callable[[str], bool] | None:
        """See `ToolContext.denied`. For a tool whose arguments name paths."""
        if not self.rules.of(entry).tightened:
            return None
        rules = self.rules.in_force(self.mode, None if self.rules.lasting else now())
        return denied_paths(entry, input, rules, self.mode)

    def within(self, folder: str) -> Policy:
        """The same policy for calls whose commands start in a folder below the workspace. Their
        other paths have to be absolute already."""
        if self._folder == folder:
            return self
        other = copy(self)
        other._folder = folder
        return other

    def links(self, entry: Entry, input: ToolInput) -> list[str]:
        """Where links among the paths of a call lead, in words."""
        call = self.rules.call(entry, input)
        return led(call.resources, self.rules.place, self._folder)

    def where(self, entry: Entry, input: ToolInput) -> list[str]:
        """In words, what the arguments of a call do not say: in which folder it starts programs, if
        not in the workspace, and where links lead."""
        starts = self._folder if "exec" in entry.effects else ""
        return [*([f"in {clean(starts)}"] if starts else []), *self.links(entry, input)]

    def suggestion(self, entry: Entry, input: ToolInput) -> str:
        """The narrowest rule that would allow this call, as text; "": none that names it would,
        because a link in it leads elsewhere."""
        name, subject = entry.spec.name, entry.tool.subject
        if self.links(entry, input):
            return ""
        if not subject or subject not in input:
            return name
        text = text_of_argument(entry, subject, input[subject], self.rules.place)
        return f"{name}({text})" if len(text) <= _MAX_SUGGESTION else name


def decided(policy: Policy, entry: Entry, input: ToolInput, run: RunContext) -> Decision:
    """The policy's decision on a call at this point of a run."""
    return policy.decide(entry, input, tainted=bool(run.strangers), now=run.world.time())


async def permit(
    entry: Entry,
    input: ToolInput,
    key: str,
    *,
    policy: Policy,
    approver: Approver | None,
    run: RunContext,
    decision: Decision | None = None,
    wanted: str = "",
) -> Verdict:
    """Decide a call that needs a decision. A person's answer is recorded (effect `approval`), so a
    resumed run does not ask again; but a recorded answer does not override a rule that now denies
    the call, nor approve a call that now affects something else.

    `decision` is the policy's, if it was just asked. `wanted`: why a person is to be asked even if
    the policy allows the call; as always, the mode `dontAsk` refuses instead.
    """
    if decision is None:
        decision = decided(policy, entry, input, run)
    if wanted and decision.action is Action.ALLOW:
        action = Action.DENY if policy.mode is Mode.DONT_ASK else Action.ASK
        code = NOBODY if action is Action.DENY else HOOK
        decision = replace(decision, action=action, code=code, rules=(), why="")
    nobody = decision.code == NOBODY
    if decision.action is Action.DENY and not nobody:
        return Verdict(False, decision.by, "", decision.code)
    answered = run.recorded("effect", f"approval:{key}") is not None
    if decision.action is Action.ALLOW and not answered:
        return PLAIN_ALLOW if entry.granted else Verdict(True, decision.by)
    own = entry.tool.approval
    remedy = "" if wanted or own else policy.suggestion(entry, input)
    before = run.recorded("effect.intent", f"approval:{key}")
    if (approver is None or nobody) and before is None:
        why = wanted or (decision.rules[0].title if decision.rules else "")
        by = f"{why}, and nobody is there to ask" if why else _NO_PERSON if own else UNCOVERED
        return Verdict(False, by, "" if decision.rules else remedy, NOBODY)
    who = AskLater() if nobody or approver is None else approver
    touches: JSON = decision.touches if before is None else before.data.get("touches")
    reason = "; ".join([_why(entry, decision, wanted), *policy.where(entry, input)])
    said_no = await ask(who, entry, input, key, reason, decision.touches, run)
    if said_no:
        return Verdict(False, said_no, remedy, BY_PERSON)
    by_now = decided(policy, entry, input, run)
    if by_now.action is Action.DENY and by_now.code != NOBODY:
        return Verdict(False, by_now.by, "", by_now.code)
    if isinstance(touches, list | tuple) and list(touches) != by_now.touches:
        return Verdict(False, "what it touches has changed since it was asked about", "", CHANGED)
    return Verdict(True, "approved")


def _why(entry: Entry, decision: Decision, wanted: str) -> str:
    """Why a person is asked, in words."""
    if entry.tool.approval and not wanted:
        return entry.tool.approval
    effects = may(entry)
    if wanted:
        return f"{effects}; {wanted}"
    if decision.rules:
        return f"{effects}; {decision.rules[0].title}"
    return f"{effects}; {decision.why or 'no rule of yours covers it'}"


def may(entry: Entry) -> str:
    """What a tool may do, in words."""
    return f"may {', '.join(sorted(entry.effects)) or 'change nothing'}"
