"""What the names in a manifest refer to: the stages and strategies that can be chosen.

The shipped ones: `stages/catalogue.py`. How a manifest becomes a plan with them: `compile.py`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from typing import cast

from lorimer.core import plugins
from lorimer.core.errors import ConfigError, nearest
from lorimer.core.stage import AnyStage, In, Out, Slot, Stage, Strategy


class Catalogue:
    """The stages and strategies that a manifest can name: shipped ones, and those that hosts add.

    A manifest cannot refer to code directly; only to what is registered here.
    """

    def __init__(
        self,
        stages: Mapping[str, tuple[int, str]],
        implementations: Mapping[tuple[str, str], str] | None = None,
    ) -> None:
        """`stages`: name to number and `module:Class`; `implementations`: stage name and name of an
        alternative implementation to `module:Class`."""
        self._known = dict(stages)
        self._others = dict(implementations or {})
        self._custom: dict[tuple[str, str], Callable[[], AnyStage]] = {}
        self._strategies: dict[tuple[str, str], dict[str, Callable[[], Strategy]]] = {}

    def copy(self) -> Catalogue:
        """An independent copy that one pipeline can add to."""
        twin = Catalogue(self._known, self._others)
        twin._custom.update(self._custom)
        twin._strategies.update({key: dict(value) for key, value in self._strategies.items()})
        return twin

    def without_own_stages(self) -> Catalogue:
        """A copy without the host's own stages, which are live objects of one pipeline."""
        twin = self.copy()
        twin._custom.clear()
        return twin

    @property
    def names(self) -> list[str]:
        """The names of all stages."""
        own = [name for name, implementation in self._custom if not implementation]
        return [*self._known, *(name for name in own if name not in self._known)]

    def order(self, name: str) -> int:
        """The order of a built-in stage; 0 for any other."""
        return self._known[name][0] if name in self._known else 0

    def path(self, order: int, name: str) -> str:
        """How messages refer to a stage's entry: `stages[6]`, or `stages[mine]` for a host's
        own."""
        return f"stages[{order}]" if self.order(name) == order else f"stages[{name}]"

    def add_stage(
        self, name: str, factory: Callable[[], Stage[In, Out]], *, implementation: str = ""
    ) -> None:
        """Register a stage of the host's, replacing one of the same name. With `implementation`, it
        is used only where a manifest chooses that implementation."""
        self._custom[name, implementation] = cast("Callable[[], AnyStage]", factory)

    def add_strategy(
        self, stage: str, slot: str, name: str, factory: Callable[[], Strategy]
    ) -> None:
        """Make a strategy of the host's available in a slot."""
        self._strategies.setdefault((stage, slot), {})[name] = factory

    def stage(self, name: str, implementation: str = "") -> AnyStage:
        """A new instance of a stage: the host's, else the shipped one, else an installed package's.
        Raises ConfigError for an unknown name (with the nearest known one) and for a broken
        package."""
        if (name, implementation) in self._custom:
            return self._custom[name, implementation]()
        if name in self._known and not implementation:
            return cast("AnyStage", load(self._known[name][1])())
        if (name, implementation) in self._others:
            return cast("AnyStage", load(self._others[name, implementation])())
        path = f"{name}.{implementation}" if implementation else name
        offered = plugins.find(plugins.STAGES, path)
        if offered is not None:
            return cast("AnyStage", offered.make_own(Stage))
        if implementation:
            known = self.implementations(name)
            raise ConfigError(
                f"the {name!r} stage has no implementation {implementation!r}"
                f"{nearest(implementation, known)}"
            )
        known = [*self.names, *plugins.offered_stages()]
        raise ConfigError(f"there is no stage {name!r}{nearest(name, known)}")

    def slots(self, stage: str, implementation: str = "") -> Mapping[str, Slot[Strategy]]:
        """The slots of a stage, by name. Raises ConfigError as `stage` does."""
        return self.stage(stage, implementation).slots()

    def implementations(self, name: str) -> list[str]:
        """The alternative implementations of a stage that a manifest may choose."""
        ours = (*self._custom, *self._others)
        own = [each for stage, each in ours if stage == name and each]
        return sorted({*own, *plugins.offered(plugins.STAGES, f"{name}.")})

    def strategy(self, stage: str, slot: Slot[Strategy], name: str) -> Strategy:
        """A new instance of a strategy: the host's, else the shipped one, else an installed
        package's. Raises ConfigError for an unknown name (with the nearest known one), for a
        strategy without the method that the stage calls, and for a broken package."""
        custom = self._strategies.get((stage, slot.name), {})
        if name in custom:
            return _checked_methods(custom[name](), slot)
        if name in slot.known:
            return cast("Strategy", load(slot.known[name])())
        offered = plugins.find(plugins.STRATEGIES, f"{stage}.{slot.name}.{name}")
        if offered is not None:
            made = offered.make_own(slot.protocol)
            try:
                return _checked_methods(made, slot)
            except ConfigError as error:
                raise offered.broken(str(error), error) from error
        known = self.strategies(stage, slot)
        raise ConfigError(f"there is no strategy {name!r}{nearest(name, known)}")

    def strategies(self, stage: str, slot: Slot[Strategy]) -> list[str]:
        """The names that can be chosen in a slot: shipped, added by the host, from installed
        packages."""
        own = self._strategies.get((stage, slot.name), {})
        offered = plugins.offered(plugins.STRATEGIES, f"{stage}.{slot.name}.")
        return list(dict.fromkeys([*slot.known, *own, *offered]))


def _checked_methods(strategy: Strategy, slot: Slot[Strategy]) -> Strategy:
    """Check a strategy that is not shipped, now that the stage that calls it is known. Raises
    ConfigError."""
    called = {
        name: inspect.iscoroutinefunction(method)
        for name, method in vars(slot.protocol).items()
        if inspect.isfunction(method) and name[0] != "_" and not hasattr(Strategy, name)
    }
    mine = type(strategy).__name__
    for name, is_async in called.items():
        method: object = getattr(strategy, name, None)
        if method is None and len(called) == 1:
            word = "async def" if is_async else "def"
            raise ConfigError(f"{mine} has no method {name}: the stage calls {word} {name}(...)")
        if not is_async and inspect.iscoroutinefunction(method):
            raise ConfigError(f"{mine}.{name} must not be async: def {name}(...)")
    return strategy


@cache
def load(path: str) -> type[object]:
    """The object at `module:Name`, imported."""
    module, _, name = path.partition(":")
    return cast("type[object]", vars(import_module(module))[name])
