"""Stages, slots and strategies: what a pipeline is made of, declared rather than registered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Generic,
    TypeVar,
    cast,
    overload,
)

from pydantic import BaseModel, ConfigDict

from lorimer.core.jsonable import JSON

if TYPE_CHECKING:
    from lorimer.core.bindings import Bindings
    from lorimer.core.manifest import EnvironmentManifest
    from lorimer.core.state import PipelineState

In = TypeVar("In")
Out = TypeVar("Out")


class Settings(BaseModel):
    """The configuration of something that declares only its fields: given values are validated,
    others have their defaults. Nothing is built before a value is given."""

    model_config = ConfigDict(extra="forbid", defer_build=True)


def configured(kind: type[BaseModel], given: Mapping[str, JSON]) -> BaseModel:
    """The configuration of this kind. Raises pydantic's ValidationError for a bad one."""
    plain = not given and issubclass(kind, Settings)
    if plain and not any(field.is_required() for field in kind.model_fields.values()):
        return kind.model_construct()
    return kind.model_validate(given)


class Strategy:
    """One way of doing the work of a stage's slot. Holds its configuration, never a run's state:
    one instance serves many runs at once."""

    name: ClassVar[str] = ""
    description: ClassVar[str] = ""
    Config: ClassVar[type[BaseModel] | None] = None
    """The schema of its configuration; None: `configure` receives the mapping unchanged."""

    # Any: subclasses declare `config: Config`, which no narrower type allows
    config: Any
    """The validated configuration, if there is a `Config`."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    def configure(self, config: Mapping[str, JSON]) -> None:
        """Receive the configuration, once, before the first run. Raises pydantic's ValidationError,
        or ConfigError with each of its `problems` as `field: reason`, for an invalid one."""
        if self.Config is not None:
            self.config = configured(self.Config, config)

    def bind(self, bindings: Bindings) -> None:
        """Receive the live objects it needs, once, after `configure`."""


S = TypeVar("S", bound=Strategy)


class Slot(Generic[S]):
    """A place in a stage for one strategy. A class attribute of the stage; on an instance it is the
    strategy itself.

    `known` maps the names that a manifest may use to `"module:Class"`; a module is imported when
    its strategy is chosen.
    """

    def __init__(self, protocol: type[S], *, default: str, known: Mapping[str, str]) -> None:
        self.protocol = protocol
        self.default: tuple[str, ...] = (default,)
        self.known = known
        self.name = ""

    chain: ClassVar[bool] = False

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Slot[S]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> S: ...

    def __get__(self, instance: object | None, owner: type) -> Slot[S] | S:
        # compile() puts the strategy into the instance's __dict__, which then wins over this
        if instance is None:
            return self
        raise AttributeError(f"{owner.__name__}.{self.name}: the stage was not compiled yet")


class Chain(Slot[S]):
    """A place for an ordered list of strategies; on an instance it is a tuple, possibly empty."""

    chain: ClassVar[bool] = True

    def __init__(
        self, protocol: type[S], *, default: tuple[str, ...] = (), known: Mapping[str, str]
    ) -> None:
        super().__init__(protocol, default="", known=known)
        self.default = default

    @overload  # type: ignore[override]
    def __get__(self, instance: None, owner: type) -> Chain[S]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> tuple[S, ...]: ...

    def __get__(self, instance: object | None, owner: type) -> Chain[S] | tuple[S, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        if instance is None:
            return self
        raise AttributeError(f"{owner.__name__}.{self.name}: the stage was not compiled yet")


class Stage(Generic[In, Out]):
    """One step of the pipeline. Subclass it, give it a name, an order and `execute`.

    A stage holds no state of a run: one instance serves many runs at once. It keeps what it finds
    out in the PipelineState.
    """

    name: ClassVar[str] = ""
    order: ClassVar[int] = 0
    """1 to 21: its position. A stage with another name than the built-in stage of that order runs
    right after it; one with the same name replaces it."""
    category: ClassVar[str] = ""
    every_call: ClassVar[bool] = False
    """For a setup stage (1 to 5): whether it runs again before every later model call."""
    Config: ClassVar[type[BaseModel] | None] = None
    """The schema of the stage's own configuration; None: it has none."""
    calls_tools: ClassVar[bool] = False
    """Whether it calls tools, so that a manifest may restrict which: `tool_binding`."""
    overrides: ClassVar[frozenset[str]] = frozenset()
    """Fields of the manifest's `model` that its `model_override` may override."""
    bypass_reason: ClassVar[str] = "its own condition for a bypass held"
    """Why `should_bypass` returns True, in words, for explanations."""
    bypass_path: ClassVar[str] = ""
    """What in the stage's entry decides that, such as `strategies.guards`; "": nothing."""

    config: Any  # as in Strategy
    _slots: ClassVar[Mapping[str, Slot[Strategy]]] = {}

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        cls._slots = {
            name: cast("Slot[Strategy]", value)
            for base in reversed(cls.__mro__)
            for name, value in vars(base).items()
            if isinstance(value, Slot)
        }

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.order} {self.name!r}>"

    def configure(self, config: Mapping[str, JSON]) -> None:
        """Receive the configuration, once, before the first run."""
        if self.Config is not None:
            self.config = configured(self.Config, config)

    def check(self, manifest: EnvironmentManifest) -> Iterable[str]:
        """Conflicts of its configuration with the rest of the manifest, each as `path: reason`.
        Called after `configure`."""
        return ()

    def bind(self, bindings: Bindings) -> None:
        """Receive the live objects it needs, once, after `configure`."""

    @property
    def remembers(self) -> bool:
        """Whether a pipeline with this stage keeps one conversation over its runs."""
        return False

    def should_bypass(self, state: PipelineState) -> bool:
        """Whether to skip the stage this time. Must be cheap and must change nothing."""
        return False

    async def execute(self, input: In, state: PipelineState) -> Out:
        """Do the work. `input` is what the previous stage returned."""
        raise TypeError(f"{type(self).__name__} has no execute method")

    @classmethod
    def slots(cls) -> Mapping[str, Slot[Strategy]]:
        """The declared slots and chains by name, in order of declaration."""
        return cls._slots


AnyStage = Stage[object, object]
