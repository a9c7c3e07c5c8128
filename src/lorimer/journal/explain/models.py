"""Which model was called, and why: the manifest's, a tier's, a router's choice, the next of a
chain, a retry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lorimer.core.errors import ExecutorErrorCode
from lorimer.core.events import Event
from lorimer.core.jsonable import JSON, texts_of
from lorimer.journal.explain.in_force import ManifestInForce
from lorimer.journal.explain.reason import Explanation, Origin, because, sentence

_TOO_LONG = ExecutorErrorCode.EXEC_API_TOKEN_LIMIT.value


class ModelCalls:
    """The model calls of a run, in order."""

    def __init__(self, facts: Sequence[Event]) -> None:
        self._answered = {
            (fact.iteration, str(fact.data.get("key"))): str(fact.data.get("model") or "")
            for fact in facts
            if fact.type == "model.reply"
        }
        """Which model answered."""
        self._stands_for: dict[str, list[str]] = {}
        """The meaning of a tier or an alias when the run began."""
        self._iteration = -1
        self._attempts = 0
        self.asked = ""
        """The model that was called last."""
        self._failed: tuple[str, str] = ("", "")
        """Code and message of the previous attempt in this turn."""
        self._has_failed = False
        """Whether the last attempt failed."""

    def take(self, fact: Event, in_force: ManifestInForce) -> Iterator[Explanation]:
        """Process the next fact about a model."""
        data = fact.data
        if fact.type == "effect":
            yield from self._meant(fact)
        elif fact.type == "model.intent":
            if fact.iteration != self._iteration:
                self._iteration, self._attempts, self._failed = fact.iteration, 0, ("", "")
            yield self._asked(fact, in_force)
            self._attempts += 1
            self._has_failed = False
        elif isinstance(error := data.get("error"), Mapping):
            self._failed = str(error.get("code")), str(error.get("message"))
            self._has_failed = True
        else:
            self._has_failed = False

    def over(self, end: Event, in_force: ManifestInForce) -> Iterator[Explanation]:
        """The run has ended: why there was no further attempt."""
        if not self._has_failed or end.data.get("status") == "ok":
            return
        code, message = self._failed
        why = f"attempt {self._attempts} failed: {sentence(message)} ({code})"
        origin = in_force.of_stage("api", "strategies.retry")
        yield because(end, "retry", f"{self.asked} is not asked again", why, origin)

    def _meant(self, fact: Event) -> Iterator[Explanation]:
        spec = str(fact.data.get("key")).partition(":")[2]
        specs = list(texts_of(fact.data.get("specs")))
        self._stands_for[spec] = specs
        what = f"{spec} stands for {', '.join(specs) or 'nothing'}"
        why = "a name of the host's for models; the run keeps the meaning from its start"
        yield because(fact, "model", what, why, Origin("host", f"models: {spec}"))

    def _asked(self, fact: Event, in_force: ManifestInForce) -> Explanation:
        before, failed = self.asked, self._failed
        said, by = _said(in_force)
        first = (self._stands_for.get(said) or _chain(said))[0]
        routers = in_force.strategy("api", "router")
        routed = bool(routers) and routers != ["passthrough"]
        target = fact.data.get("target")
        if isinstance(target, str):
            self.asked = target
        elif routed:
            key = str(fact.data.get("key"))
            self.asked = self._answered.get((fact.iteration, key)) or "a model"
        else:
            self.asked = first
        if self._attempts:
            return self._again(fact, before, failed, in_force, by)
        if isinstance(target, str):
            why = "those before it in the chain have failed, and are cooling down"
            return because(fact, "failover", f"asked {self.asked}", why, by)
        if routed:
            why, by = _route(self.asked, routers[0], in_force)
        elif self._stands_for.get(said):
            why = f"{said} stands for it"
        elif first != said:
            why = "it is the first of the chain"
        else:
            why = "it is the agent's model"
        return because(fact, "model", f"asked {self.asked}", why, by)

    def _again(
        self,
        fact: Event,
        before: str,
        failed: tuple[str, str],
        in_force: ManifestInForce,
        by: Origin,
    ) -> Explanation:
        code, message = failed
        why = f"attempt {self._attempts} failed: {sentence(message)} ({code})"
        if not code:
            why = f"attempt {self._attempts} was interrupted"
        if isinstance(fact.data.get("target"), str) and self.asked != before:
            return because(fact, "failover", f"asked {self.asked} instead", why, by)
        if code == _TOO_LONG:
            what = f"asked {self.asked} again, with a shorter conversation"
            origin = in_force.of_stage("context", "strategies.compactor")
            return because(fact, "retry", what, why, origin)
        what = f"asked {self.asked} again"
        if fact.data.get("nudge"):
            what += ", and told to answer now"
        origin = in_force.of_stage("api", "strategies.retry")
        return because(fact, "retry", what, why, origin)


def _chain(spec: str) -> list[str]:
    return [part.strip() for part in spec.split(",")]


def _said(in_force: ManifestInForce) -> tuple[str, Origin]:
    """What the manifest says about the model that stage 6 calls, and where."""
    manifest, entry = in_force.manifest, in_force.entry("api")
    if manifest is None or entry is None:
        return "the agent's model", in_force.at("model.model")
    own = entry.model_override.get("model")
    if isinstance(own, str):
        return own, in_force.of_stage("api", "model_override.model")
    return manifest.model.model, in_force.at("model.model")


def _route(asked: str, router: str, in_force: ManifestInForce) -> tuple[str, Origin]:
    """Why a router chose this model."""
    entry = in_force.entry("api")
    config: Mapping[str, JSON] = {} if entry is None else entry.strategy_configs.get("router", {})
    named = [
        name
        for name, spec in config.items()
        if isinstance(spec, str) and spec and _names(spec, asked)
    ]
    if len(named) == 1:
        why = f"the router {router!r} chose {named[0]!r} for this call"
        return why, in_force.of_stage("api", f"strategy_configs.router.{named[0]}")
    why = f"the router {router!r} chose it for this call"
    return why, in_force.of_stage("api", "strategies.router")


def _names(spec: str, answered: str) -> bool:
    """Whether the model that answered is one of this chain; providers add dates to names."""
    names = [part.partition(":")[2].partition(":")[0] or part for part in _chain(spec)]
    return any(answered.startswith(name) for name in names)
