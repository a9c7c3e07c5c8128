"""A manifest and live objects, compiled to a plan; and compiled anew when its host changes it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace

from lorimer.assembly import is_a, spec_of, wrong
from lorimer.core.bindings import Bindings
from lorimer.core.compile import Catalogue
from lorimer.core.compile import compile as compile_manifest
from lorimer.core.errors import ConfigError, nearest
from lorimer.core.hooks import Hooks
from lorimer.core.jsonable import JSON
from lorimer.core.manifest import EnvironmentManifest, StageEntry
from lorimer.core.plan import Plan
from lorimer.core.stage import AnyStage, Stage, Strategy
from lorimer.models.registry import Models


class Compiled:
    """What a pipeline runs. Changes hold for runs that begin later."""

    def __init__(
        self, manifest: EnvironmentManifest, catalogue: Catalogue, bindings: Bindings
    ) -> None:
        """Raises ConfigError naming every fault of the manifest. `catalogue` belongs to this from
        now on."""
        self.manifest = manifest
        self._catalogue = catalogue
        self._bindings = bindings
        self._plan = compile_manifest(manifest, catalogue, bindings)

    @property
    def plan(self) -> Plan:
        """What runs: compiled again whenever the manifest is changed through this pipeline."""
        return self._plan

    def register_stage(self, stage: AnyStage | Stage[object, object]) -> None:
        """Add a stage of your own. One with the name of another replaces it; else it runs right
        after the built-in of its order. Raises ConfigError for a bad name or order."""
        if not is_a(stage, Stage):
            raise wrong("stage", stage, "an instance of a Stage", "register_stage(MyStage())")
        if not inspect.iscoroutinefunction(stage.execute):
            raise ConfigError(
                f"{type(stage).__name__}.execute must be async: async def execute(...)"
            )
        name, order = stage.name, stage.order
        if not name or not 1 <= order <= 21:
            raise ConfigError(f"{type(stage).__name__} needs a name and an order from 1 to 21")
        self._catalogue.add_stage(name, lambda: stage)
        entries = [entry for entry in self.manifest.stages if entry.name != name]
        entries.append(StageEntry(order=order, name=name))
        entries.sort(key=lambda entry: entry.order)
        self._change(entries)

    def swap_strategy(
        self,
        stage: str,
        slot: str,
        strategy: str | type[Strategy] | list[str | type[Strategy]],
        config: Mapping[str, JSON] | None = None,
    ) -> None:
        """Put another strategy into a slot: a shipped one by name, or a class of your own. A slot
        that holds a chain takes a list, or one for a chain of one; `config` then maps a strategy
        to its configuration, or configures the only one.

        Raises ConfigError and changes nothing when that does not fit.
        """
        entries = [entry.model_copy(deep=True) for entry in self.manifest.stages]
        entry = next((entry for entry in entries if entry.name == stage), None)
        if entry is None:
            known = [entry.name for entry in entries]
            raise ConfigError(f"this pipeline has no {stage!r} stage{nearest(stage, known)}")
        several = isinstance(strategy, list)
        given = strategy if several else [strategy]
        names = [self._named_strategy(stage, slot, item) for item in given]
        declared = self._catalogue.stage(stage).slots().get(slot)
        chain = declared is not None and declared.chain
        entry.strategies[slot] = names if chain or several else names[0]
        entry.strategy_configs.pop(slot, None)
        if config:
            settings = {names[0]: config} if chain and not several else config
            entry.strategy_configs[slot] = dict(settings)  # pyright: ignore[reportArgumentType]
        self._change(entries)

    def configure_capabilities(self, target: str = "", **able: bool) -> None:
        """Say what models can and cannot, as `Models.configure_capabilities` does: of a provider
        or a spec; without `target`, of every model that this pipeline asks. Holds from the next
        model call on, and for whoever else uses the same Models.

        Raises ConfigError for an unknown capability or provider, and for models that the host
        brought which are no Models.
        """
        models = self._bindings.models
        if not isinstance(models, Models):
            raise ConfigError(
                f"what models can is not told to a {type(models).__name__}",
                hint="Tell the Models that it asks: models.configure_capabilities(...)",
            )
        for one in [target] if target else models.expand(spec_of(self.manifest)):
            spec = one if target else str(models.parse(one))
            models.configure_capabilities(spec, **able)

    def _named_strategy(self, stage: str, slot: str, strategy: str | type[Strategy]) -> str:
        if isinstance(strategy, str):
            return strategy
        if not (is_a(strategy, type) and Strategy in strategy.__mro__):
            raise wrong(
                "strategy", strategy, "a name or a subclass of Strategy", "class Mine(Strategy)"
            )
        name = strategy.name or strategy.__name__
        self._catalogue.add_strategy(stage, slot, name, strategy)
        return name

    def _change(self, entries: list[StageEntry]) -> None:
        stages = self.manifest.stages.model_copy(update={"root": entries})
        manifest = self.manifest.model_copy(update={"stages": stages})
        self._plan = compile_manifest(manifest, self._catalogue, self._bindings)
        self.manifest = manifest

    def _guard(self, hooks: Hooks) -> None:
        """Have these asked in runs that begin later."""
        self._bindings = replace(self._bindings, hooks=hooks)
        self._plan = replace(self._plan, hooks=hooks)

    def describe(self) -> list[dict[str, JSON]]:
        """The stages of the plan, in order, with the strategies in their slots."""
        return [
            {
                "order": stage.order,
                "name": stage.name,
                "category": stage.category,
                "every_call": stage.every_call,
                "strategies": {
                    name: [item.name for item in held] if slot.chain else held.name
                    for name, slot in stage.slots().items()
                    for held in (vars(stage)[name],)
                },
            }
            for stage in self.plan.stages
        ]
