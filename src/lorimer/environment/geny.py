"""Converts manifests of geny-executor, versions 2.0 and 3.0, and reports what was not carried
over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, cast

from pydantic import ValidationError

from lorimer.core.catalogue import Catalogue
from lorimer.core.errors import ConfigError
from lorimer.core.faults import problems_of
from lorimer.core.jsonable import JSON, fields_of, items_of, no_data, texts_of
from lorimer.core.limits import Limits
from lorimer.core.manifest import EnvironmentManifest, ModelConfig, SubAgent
from lorimer.core.record import record
from lorimer.core.redaction import names_secret
from lorimer.core.stage import AnyStage, Slot, Strategy
from lorimer.environment.geny_names import (
    DEFAULTS,
    DIMENSIONS,
    NOT_HERE,
    SAME,
    SETTINGS,
    SLOTS,
    STRATEGIES,
)
from lorimer.stages.catalogue import catalogue as shipped
from lorimer.tools.builtin import CATALOGUE as TOOLS
from lorimer.tools.builtin import GROUPS

VERSIONS: Final = ("2.0", "3.0")

_UNKNOWN: Final = "nothing here is called so"


@record
class Note:
    """Something that was not carried over, or has another meaning here."""

    path: str
    """Its path in the source."""
    reason: str
    carried: bool = False
    """It was carried over, but is not exactly the same."""

    def __str__(self) -> str:
        return f"{self.path}: {'' if self.carried else 'not imported: '}{self.reason}"


def is_geny(data: Mapping[str, JSON]) -> bool:
    """Whether a document declares itself as one of theirs."""
    return data.get("version") in ("1.0", *VERSIONS)


def from_geny(data: Mapping[str, JSON]) -> tuple[EnvironmentManifest, list[Note]]:
    """The manifest, and a note for everything that is not in it unchanged, by path. Keys are
    neither carried over nor shown. Raises ConfigError for another version, and for a document that
    is not one of theirs."""
    version = data.get("version")
    if version not in VERSIONS:
        raise ConfigError(
            f"version: {version!r} cannot be carried over; only {' and '.join(VERSIONS)} can",
            hint="Load and save it with geny-executor 2, which writes 2.0 or 3.0.",
        )
    return _Import(data, shipped()).manifest()


class _Import:
    """The conversion of one document."""

    def __init__(self, data: Mapping[str, JSON], known: Catalogue) -> None:
        self._data = data
        self._known = known
        self._notes: dict[Note, None] = {}
        self._limits: dict[str, JSON] = {}
        entries = data.get("stages")
        self._entries: dict[JSON, Mapping[str, JSON]] = {}
        """The first of each order."""
        for each in map(fields_of, items_of(entries)):
            if isinstance(order := each.get("order"), int):
                self._entries.setdefault(order, each)

    def manifest(self) -> tuple[EnvironmentManifest, list[Note]]:
        data = self._data
        made: dict[str, JSON] = {"version": "1"}
        made["metadata"] = self._metadata(fields_of(data.get("metadata")))
        model = self._model(fields_of(data.get("model")))
        single = self._pipeline(fields_of(data.get("pipeline")))
        stages = list(self._stages(data.get("stages")))
        if single:
            self._limits["max_turns"] = 1
        self._limits = dict(self._fitting("limits", self._limits))
        made |= {"model": model, "limits": self._limits, "stages": stages}
        made["tools"] = self._tools(fields_of(data.get("tools")))
        if agents := self._agents(data.get("subagents")):
            made["agents"] = agents
        for name, value in data.items():
            if name not in _PARTS:
                self._lost(name, value)
        return EnvironmentManifest.from_dict(made), list(self._notes)

    # --- the parts -------------------------------------------------------------------------------

    def _metadata(self, said: Mapping[str, JSON]) -> dict[str, JSON]:
        kept: dict[str, JSON] = {}
        for name, value in said.items():
            if name in ("name", "description", "author", "base_preset"):
                kept[name] = str(value or "")
            elif name == "tags" and isinstance(value, list):
                kept[name] = [str(tag) for tag in value]
            else:
                self._lost(f"metadata.{name}", value)
        return kept

    def _model(self, said: Mapping[str, JSON]) -> dict[str, JSON]:
        given = dict(said)
        kind = given.pop("thinking_type", "enabled")
        if kind == "disabled":
            given["thinking_enabled"] = False
        elif kind not in ("enabled", None):
            self._lost("model.thinking_type", kind)
        given = {name: value for name, value in given.items() if value is not None}
        for name in [name for name in given if name not in ModelConfig.model_fields]:
            self._lost(f"model.{name}", given.pop(name))
        while True:
            try:
                ModelConfig.model_validate(given)
            except ValidationError as error:
                for item in error.errors(include_url=False):
                    name = str(item["loc"][0])
                    given.pop(name, None)
                    self._note(f"model.{name}", item["msg"].lower())
            else:
                return cast("dict[str, JSON]", given)

    def _pipeline(self, said: Mapping[str, JSON]) -> bool:
        """Convert its limits; returns whether it makes a single turn."""
        for name, value in said.items():
            path = f"pipeline.{name}"
            match name:
                case "max_iterations":
                    self._limits["max_turns"] = value
                case "cost_budget_usd" if value is not None:
                    self._limits["max_cost_usd"] = value
                    self._note(path, "held before every call here, not after it", carried=True)
                case "context_window_budget" if value not in (None, 200_000):
                    self._note(path, "the guard token_budget has it: context_window")
                case "stream" if value is False:
                    self._note(path, "set stages[6].config.stream instead")
                case "name" | "model" | "stream" | "single_turn" | "context_window_budget":
                    pass  # also stated elsewhere, or the default
                case _:
                    self._lost(path, value)
        return said.get("single_turn") is True

    def _tools(self, said: Mapping[str, JSON]) -> dict[str, JSON]:
        named = texts_of(said.get("built_in"))
        kept: list[JSON] = []
        for name in named:
            if name == "*":
                kept.extend(TOOLS)
            elif name in TOOLS or name in GROUPS:
                kept.append(name)
            else:
                self._note(f"tools.built_in[{name}]", "there is no such tool here")
        for name, value in said.items():
            if name != "built_in":
                self._lost(f"tools.{name}", value)
        return {"built_in": list(dict.fromkeys(map(str, kept)))} if kept else {}

    # --- stages ----------------------------------------------------------------------------------

    def _stages(self, entries: JSON) -> Iterator[dict[str, JSON]]:
        here = {self._known.order(name): name for name in self._known.names}
        for entry in items_of(entries):
            said = fields_of(entry)
            order = said.get("order")
            where = f"stages[{order}]"
            active = said.get("active", True) is not False
            if not isinstance(order, int) or order not in here:
                if active:
                    self._note(f"{where} ({said.get('name')})", "there is no such stage here")
                continue
            stage = self._known.stage(here[order])
            made: dict[str, JSON] = {"order": order, "name": stage.name}
            if not active:
                made["active"] = False
            strategies, configs = self._slots(stage, said, where, active=active)
            if strategies:
                made["strategies"] = strategies
            if configs:
                made["strategy_configs"] = configs
            if config := self._config(stage, fields_of(said.get("config")), where):
                made["config"] = config
            made |= self._own(stage, said, where)
            for name, value in said.items():
                if name not in _ENTRY and (name, value) != ("artifact", "default"):
                    reason = NOT_HERE.get(f"stages[].{name}", "has no place here")
                    self._lost(f"{where}.{name}", value, reason)
            yield made

    def _own(self, stage: AnyStage, said: Mapping[str, JSON], where: str) -> dict[str, JSON]:
        """Which tools it may call, and which model it uses."""
        made: dict[str, JSON] = {}
        binding = {
            name: list(texts_of(value))
            for name, value in fields_of(said.get("tool_binding")).items()
            if name in ("allowed", "blocked") and isinstance(value, list)
        }
        if binding and stage.calls_tools:
            made["tool_binding"] = binding
            self._note(
                f"{where}.tool_binding", "the model is told of a call outside of it", carried=True
            )
        elif said.get("tool_binding"):
            self._note(f"{where}.tool_binding", "this stage calls no tools, or it says nothing")
        override: dict[str, JSON] = {}
        for name, value in fields_of(said.get("model_override")).items():
            if name in stage.overrides and value is not None:
                override[name] = value
            else:
                self._lost(f"{where}.model_override.{name}", value, "not another in this stage")
        if override:
            made["model_override"] = override
        return made

    def _agents(self, entries: JSON) -> list[JSON]:
        """Sub-agents that are fully defined."""
        kept: list[JSON] = []
        for at, entry in enumerate(items_of(entries)):
            said = fields_of(entry)
            path = f"subagents[{said.get('agent_type', at)}]"
            if said.get("manifest") or said.get("env_id"):
                self._note(path, "carry its own manifest over, and put it into agents")
                continue
            override, provider = said.get("model_override"), said.get("provider")
            named = fields_of(override).get("model") if isinstance(override, Mapping) else override
            agent: dict[str, JSON] = {
                "name": str(said.get("agent_type", "")),
                "description": str(said.get("description") or said.get("agent_type", "")),
            }
            if isinstance(named, str) and named:
                agent["model"] = f"{provider}:{named}" if provider else named
            if isinstance(said.get("allowed_tools"), list):
                agent["tools"] = list(texts_of(said.get("allowed_tools")))
            try:
                SubAgent.model_validate(agent)
            except ValidationError as error:
                for problem in problems_of(error, path):
                    self._note(path, problem.partition(": ")[2])
            else:
                kept.append(agent)
        return kept

    def _slots(
        self, stage: AnyStage, said: Mapping[str, JSON], where: str, *, active: bool
    ) -> tuple[dict[str, JSON], dict[str, JSON]]:
        chosen = dict(fields_of(said.get("strategies")))
        provider = chosen.pop("provider", None)
        if stage.name == "api" and isinstance(provider, str) and provider:
            self._note(f"{where}.strategies.provider", "is in config here", carried=True)
        given = fields_of(said.get("strategy_configs"))
        chains = fields_of(said.get("chain_order"))
        slots = stage.slots()
        strategies: dict[str, JSON] = {}
        configs: dict[str, JSON] = {}
        for slot, usual in DEFAULTS.items():
            if slot[0] == stage.name and active:
                chosen.setdefault(slot[1], usual)
        for there, impl in [*chosen.items(), *chains.items()]:
            name = SLOTS.get((stage.name, there), there)
            slot = slots.get(name)
            path = f"{where}.{'chain_order' if there in chains else 'strategies'}.{there}"
            own = fields_of(given.get(there))
            if slot is None or slot.chain != isinstance(impl, list):
                self._no_slot(stage.name, name, impl, path)
            elif slot.chain:
                kept = self._chain(stage, slot, texts_of(impl), own, where)
                strategies[name] = list(kept)
                if settings := {each: config for each, config in kept.items() if config}:
                    configs[name] = settings
                if kept and stage.name in ("guard", "tool_review"):
                    self._note(path, "had no effect there; here it is in force", carried=True)
            else:
                found = self._strategy(stage, slot, str(impl), own, where, path)
                if found is not None:
                    strategies[name] = found[0]
                    if found[1]:
                        configs[name] = found[1]
        for name in given:
            if name not in {**chosen, **chains}:
                self._lost(f"{where}.strategy_configs.{name}", given[name])
        return strategies, configs

    def _no_slot(self, stage: str, slot: str, impl: JSON, path: str) -> None:
        for each in texts_of(impl) if isinstance(impl, list) else [str(impl)]:
            if (stage, slot, each) not in SAME:
                reason = NOT_HERE.get(f"{stage}.{slot}.{each}", _UNKNOWN)
                self._note(f"{path} = {each}", reason)

    def _chain(
        self,
        stage: AnyStage,
        slot: Slot[Strategy],
        names: Sequence[str],
        given: Mapping[str, JSON],
        where: str,
    ) -> dict[str, JSON]:
        """Strategy → configuration, in order."""
        kept: dict[str, JSON] = {}
        for name in names:
            path = f"{where}.chain_order.{slot.name}[{name}]"
            found = self._strategy(stage, slot, name, fields_of(given.get(name)), where, path)
            if found is not None:
                kept[found[0]] = found[1]
        return kept

    def _strategy(
        self,
        stage: AnyStage,
        slot: Slot[Strategy],
        impl: str,
        given: Mapping[str, JSON],
        where: str,
        path: str,
    ) -> tuple[str, dict[str, JSON]] | None:
        """The strategy's name here with its configuration; None: it is not carried over."""
        reason = NOT_HERE.get(f"{stage.name}.{slot.name}.{impl}")
        name = STRATEGIES.get((stage.name, slot.name, impl), impl)
        if name not in slot.known:
            if (stage.name, slot.name, impl) not in SAME:
                self._note(f"{path} = {impl}", reason or _UNKNOWN)
            return None
        if reason is not None:
            self._note(f"{path} = {impl}", reason)
            return None
        strategy = self._known.strategy(stage.name, slot, name)
        at = f"{stage.name}.{name if slot.chain else slot.name}"
        config = {SETTINGS.get((at, key), key): value for key, value in given.items()}
        if "dimensions" in config:
            config["dimensions"] = [
                DIMENSIONS.get(each, each) for each in texts_of(config["dimensions"])
            ]
        settings = path.replace(".strategies.", ".strategy_configs.")
        if slot.chain:
            settings = f"{where}.strategy_configs.{slot.name}.{impl}"
        if stage.name == "guard":
            config = self._from_limits(name, config)
        if stage.name == "think" and name == "static" and "budget_tokens" in config:
            self._note(f"{settings}.budget_tokens", "is in model.thinking_budget_tokens here")
            del config["budget_tokens"]
        kept = self._accepted(strategy, config, settings)
        return None if kept is None else (name, kept)

    def _from_limits(self, name: str, config: dict[str, JSON]) -> dict[str, JSON]:
        """A guard that takes the pipeline's own limits gets them explicitly."""
        for guard, field, limit in (
            ("cost_budget", "max_cost_usd", "max_cost_usd"),
            ("iteration", "max_iterations", "max_turns"),
        ):
            if name == guard and config.get(field) is None and limit in self._limits:
                config = {**config, field: self._limits[limit]}
        return config

    def _config(
        self, stage: AnyStage, given: Mapping[str, JSON], where: str
    ) -> dict[str, JSON] | None:
        config = dict(given)
        if stage.name == "api":
            provider = fields_of(self._entries.get(6, no_data()).get("strategies")).get("provider")
            if provider and not config.get("provider"):
                config["provider"] = provider
            config = {name: config[name] for name in config if config[name] is not None}
            seconds = config.pop("timeout_ms", 0)
            if isinstance(seconds, int) and seconds > 0:
                self._limits["model_timeout_s"] = seconds / 1000
        if stage.name == "loop":
            turns = config.pop("max_turns", 0)
            most = self._limits.get("max_turns")
            if isinstance(turns, int) and turns > 0:
                self._limits["max_turns"] = min(turns, most) if isinstance(most, int) else turns
        if stage.name == "tool" and "max_concurrency" in config:
            self._limits["max_parallel_tools"] = config.pop("max_concurrency")
        return self._accepted(stage, config, f"{where}.config", stage.name)

    def _accepted(
        self, kind: AnyStage | Strategy, config: dict[str, JSON], where: str, stage: str = ""
    ) -> dict[str, JSON] | None:
        """The part of a configuration that is accepted here; the rest is noted. None: a required
        part is missing."""
        names = _fields(kind)
        kept = dict(config)
        for name in [name for name in kept if name not in names]:
            self._lost(
                f"{where}.{name}", kept.pop(name), NOT_HERE.get(f"{stage}.config.{name}", "")
            )
        while True:
            try:
                kind.configure(kept)
            except ValidationError as error:
                wrong = {str(item["loc"][0]) for item in error.errors() if item["loc"]}
                for told in problems_of(error, where, kind.Config):
                    path, _, reason = told.partition(": ")
                    self._note(path, reason)
                if not wrong & set(kept):
                    return None
                kept = {name: value for name, value in kept.items() if name not in wrong}
            except ConfigError as error:
                self._note(where, error.message)
                return None
            else:
                return kept

    # --- notes -----------------------------------------------------------------------------------

    def _fitting(self, part: str, limits: Mapping[str, JSON]) -> Iterator[tuple[str, JSON]]:
        for name, value in limits.items():
            try:
                Limits.from_json({name: value})
            except ConfigError as error:
                for problem in error.problems:
                    self._note(f"{part}.{name}", problem.partition(": ")[2])
            else:
                yield name, value

    def _lost(self, path: str, value: JSON, reason: str = "") -> None:
        """Add a note, unless the value was empty. Values are not shown: they may be keys."""
        if value is None or value == "" or value == [] or value == {}:
            return
        field = path.rpartition(".")[2]
        secret = "a key does not belong in a manifest; it is taken from the environment"
        hidden = isinstance(value, str) and names_secret(field)
        known = reason or NOT_HERE.get(path) or (secret if hidden else _UNKNOWN)
        self._note(path, known)

    def _note(self, path: str, reason: str, *, carried: bool = False) -> None:
        self._notes[Note(path, reason, carried)] = None


_PARTS: Final = ("version", "metadata", "model", "pipeline", "stages", "tools", "subagents")
_ENTRY: Final = (
    *("order", "name", "active", "strategies", "strategy_configs", "config", "chain_order"),
    *("tool_binding", "model_override"),
)


def _fields(kind: AnyStage | Strategy) -> list[str]:
    if kind.Config is None:
        return []
    return [field.alias or name for name, field in kind.Config.model_fields.items()]
