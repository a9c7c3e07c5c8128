"""Where the money of a run went: each call with a cost, who was paid, and what for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, TypeAlias

from lorimer.core.catalogue import Catalogue
from lorimer.core.events import Event
from lorimer.core.fact_data import nano_of, usage_of
from lorimer.core.facts import ABANDONED, ASIDE
from lorimer.core.jsonable import JSON
from lorimer.core.record import record
from lorimer.core.request import Usage
from lorimer.journal.explain.in_force import ManifestInForce
from lorimer.journal.explain.models import ModelCalls
from lorimer.journal.family import children_in
from lorimer.journal.recording import Recording

What: TypeAlias = Literal["reply", "failed attempt", "cut off", "besides", "sub-agent", "other"]


@record
class Cost:
    """One item that was paid for."""

    seq: int
    """The fact that records it."""
    iteration: int
    """0-based."""
    what: What
    """`reply`: an answer of the model; `failed attempt`: one without a result; `cut off`: a call
    that was cancelled half-way; `besides`: a model call made by a tool or a stage; `sub-agent`: the
    spending of all descendants of this run; `other`: an effect of a host's."""
    who: str
    """The model that answered, or that was called; the sub-agents; or the caller of `besides`."""
    usage: Usage
    nano: int
    """Nano-dollars; 0 if the price is unknown."""

    def to_json(self) -> dict[str, JSON]:
        """Plain form, for other programs."""
        return {
            "seq": self.seq,
            "iteration": self.iteration,
            "what": self.what,
            "who": self.who,
            "usage": self.usage.to_json(),
            "total_cost_usd": self.nano / 1e9,
        }


def costs(run: Recording, catalogue: Catalogue) -> list[Cost]:
    """What a run was charged for, in order; the sum is exactly its cost. Reservations are not
    included. `catalogue`: see `explain`; does not raise."""
    return list(_costs(run, catalogue))


def _costs(run: Recording, catalogue: Catalogue) -> Iterator[Cost]:
    in_force = ManifestInForce(run.manifest, catalogue, run.facts[0].data)
    asking = ModelCalls(run.facts)
    agents = {each.run_id: each.agent for each in children_in(run.facts)}
    for fact in run.facts:
        data, key = fact.data, str(fact.data.get("key", ""))
        if fact.type in ("model.intent", "model.reply") or key.startswith("models:"):
            list(asking.take(fact, in_force))  # it tracks who was called
        usage, nano = usage_of(data), nano_of(data)
        if fact.type == "run.end" or not (nano or usage.total):
            continue
        what, who = _named(fact, key, asking.asked, agents)
        yield Cost(fact.seq or 0, fact.iteration, what, who, usage, nano)


def _named(fact: Event, key: str, asked: str, agents: Mapping[str, str]) -> tuple[What, str]:
    data, kind = fact.data, key.partition(":")[0]
    runs = data.get("runs")
    if fact.type == "model.reply":
        model = str(data.get("model") or asked)
        return ("failed attempt", asked) if "error" in data else ("reply", model)
    if isinstance(runs, list | tuple):
        names = [agents.get(str(run), str(run)) for run in runs]
        return "sub-agent", ", ".join(dict.fromkeys(names))
    if key.startswith(ABANDONED):
        return "cut off", asked
    if kind == ASIDE:
        purpose = key.partition(":")[2].rpartition(".")[0].rpartition(".")[0]
        return "besides", str(data.get("model") or purpose or asked)
    return "other", kind or fact.type
