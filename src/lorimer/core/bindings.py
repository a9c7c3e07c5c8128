"""Live objects for a manifest, which names them but never contains them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import field
from typing import Final, cast

from lorimer.core.errors import ConfigError, nearest
from lorimer.core.hooks import Hooks
from lorimer.core.jsonable import JSON
from lorimer.core.limits import Limits
from lorimer.core.manifest import ModelConfig
from lorimer.core.memory import Memory
from lorimer.core.model import ModelResolver
from lorimer.core.record import record
from lorimer.core.stage import AnyStage
from lorimer.core.tool import Approver, Toolbox

MEMORY: Final = "memory"
"""The name under which a memory is bound, unless the manifest gives another."""

ANSWER: Final = "output_schema"
"""The name under which hosts bind the types that they want answers of, as a tuple: each holds an
answer of its form to what no schema says. A manifest does not name it."""

_METHODS: Final = ("put", "search", "pinned", "remove")
"""Of a Memory."""


@record
class Bindings:
    """What the host passes to `compile`."""

    models: ModelResolver | None = None
    tools: Toolbox | None = None
    hooks: Hooks | None = None
    approver: Approver | None = None
    """Asks a person."""
    named: Mapping[str, object] = field(default_factory=dict[str, object])
    """Objects that a manifest refers to by name (callbacks, clients)."""
    variables: Mapping[str, str] = field(default_factory=dict[str, str])
    """Values of `${NAME}` in a manifest; others are not available."""
    limits: Limits = field(default_factory=Limits)
    """Set by compile() from the manifest."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """Set by compile() from the manifest, with the stage's overrides."""
    model_override: Mapping[str, JSON] = field(default_factory=dict[str, JSON])
    """Set by compile(): the stage's overrides of it."""
    stages: Mapping[str, AnyStage] = field(default_factory=dict[str, AnyStage])
    """Set by compile(): the other stages of the plan, by name."""

    def memory(self, name: str, where: str) -> Memory | None:
        """The memory bound to `name`; None: the usual name is not bound, so there is none. Raises
        ConfigError saying what is missing or wrong."""
        value = self.named.get(name)
        if value is None and name == MEMORY:
            return None
        # a class has the methods too
        if not isinstance(value, Memory) or isinstance(value, type):
            near = nearest(name, self.named) if value is None else ""
            kind = "class" if isinstance(value, type) else type(value).__name__
            what = "nothing" if value is None else f"no memory but a {kind}"
            lacks = [each for each in _METHODS if not hasattr(value, each)]
            if value is not None and 0 < len(lacks) < len(_METHODS):
                near = f"; it has no {', '.join(lacks)}"
            raise ConfigError(
                f"{where}: {what} is bound to the name {name!r}{near}",
                hint=f"Pass bindings={{{name!r}: SQLiteMemory(...)}} when you build the pipeline.",
            )
        return value

    def function(self, name: str, where: str) -> Callable[[JSON], Awaitable[object] | object]:
        """The function bound to `name`. Raises ConfigError saying what is missing or wrong."""
        value = self.named.get(name)
        if value is None:
            raise ConfigError(
                f"{where}: nothing is bound to the name {name!r}{nearest(name, self.named)}",
                hint=f"Pass bindings={{{name!r}: ...}} when you build the pipeline.",
            )
        if not callable(value):
            raise ConfigError(f"{where}: {name!r} is bound to a {type(value).__name__}")
        return cast("Callable[[JSON], Awaitable[object] | object]", value)
