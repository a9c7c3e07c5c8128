"""What came to a run from outside: who started it and with which limits, who pays for it, what was
sent to it, and which limits its supervisor raised."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from lorimer.core.events import Event
from lorimer.core.jsonable import dumps, items_of, objects_of
from lorimer.journal.explain.in_force import ManifestInForce
from lorimer.journal.explain.reason import Explanation, Origin, because

SUPERVISOR: Final = Origin("supervisor", "critic")
_RAISED: Final = frozenset({"max_turns", "timeout_s"})


def of_start(fact: Event, in_force: ManifestInForce) -> Iterator[Explanation]:
    """Who started it, and with what settings."""
    data, parent = fact.data, fact.data.get("parent")
    invoked = data.get("invocation")
    why, origin = "somebody gave the agent an input", Origin("caller", "run")
    if isinstance(parent, Mapping):
        run, agent = str(parent.get("run")), parent.get("agent")
        if agent is not None:
            why, origin = f"its parent gave it work as {agent}", Origin("parent", run)
        else:
            why, origin = f"somebody forked {run}", Origin("caller", "fork")
    elif isinstance(invoked, Mapping):
        agent, version = invoked.get("agent") or "an agent", invoked.get("version")
        of = f", version {version}" if version else ""
        why = f"an executor was told to run {agent}{of}"
        origin = Origin("caller", str(invoked.get("caller") or "run"))
    yield because(fact, "start", "begun", why, origin)
    for path, value in in_force.given_limits().items():
        origin = in_force.given_limit(path)
        why = "what its parent has left" if origin.kind == "parent" else "given with this run"
        yield because(fact, "limit", f"{path} is {dumps(value)}", why, origin)
    for purse in objects_of(data.get("budgets")):
        name, ceiling = str(purse.get("name")), purse.get("ceiling")
        most = (
            f"${ceiling / 1e9:f}".rstrip("0").rstrip(".")
            if isinstance(ceiling, int)
            else "an unknown sum"
        )
        what = f"charged to {name}, of which {most} may be spent"
        yield because(fact, "limit", what, "a shared budget pays for it", Origin("budget", name))


def of_raise(fact: Event) -> Explanation:
    """Which of its limits a supervisor raised."""
    raised = {name: value for name, value in fact.data.items() if name in _RAISED}
    what = ", ".join([f"limits.{name} is {dumps(value)} now" for name, value in raised.items()])
    why = "its supervisor extended the run"
    return because(fact, "limit", what or "raised a limit", why, SUPERVISOR)


def raised_by(fact: Event) -> frozenset[str]:
    """The limits that were raised according to this fact."""
    return _RAISED & fact.data.keys()


def of_message(fact: Event) -> Iterator[Explanation]:
    """The additional texts that the model was given; those without a post are its supervisor's."""
    texts, posts = len(items_of(fact.data.get("texts"))), len(items_of(fact.data.get("posts")))
    if posts:
        what = f"gave the model {posts} text{'s' * (posts > 1)}"
        yield because(
            fact, "message", what, "somebody sent the run a message", Origin("caller", "send")
        )
    if texts > posts:
        what = f"gave the model {texts - posts} text{'s' * (texts - posts > 1)} of its supervisor"
        yield because(fact, "message", what, "its supervisor steers it", SUPERVISOR)
