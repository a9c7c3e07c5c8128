"""What `compile` makes of a manifest: immutable, shared by all runs of a pipeline."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Generic, TypeAlias

from lorimer.core.errors import MutationError
from lorimer.core.hooks import Hooks
from lorimer.core.jsonable import JSON
from lorimer.core.limits import Limits
from lorimer.core.manifest import EnvironmentManifest
from lorimer.core.record import record
from lorimer.core.stage import AnyStage, Stage

if TYPE_CHECKING:
    from lorimer.core.state import PipelineState


Execute: TypeAlias = "Callable[[object, PipelineState], Awaitable[object]]"
Bypass: TypeAlias = "Callable[[PipelineState], bool]"
Step: TypeAlias = "tuple[str, Execute, Bypass | None]"
"""A stage as the engine runs it: name, `execute`, and `should_bypass` if it has one. Attributes are
looked up once; a plain tuple is unpacked in half the time."""


def step_of(stage: AnyStage) -> Step:
    """The step of a stage."""
    plain = "should_bypass" not in {name for kind in _own(stage) for name in vars(kind)}
    return stage.name, stage.execute, None if plain else stage.should_bypass


def _own(stage: AnyStage) -> list[type]:
    """The classes of a stage other than Stage itself."""
    return [kind for kind in type(stage).__mro__ if kind not in (Stage, Generic, object)]


def _unchangeable(changes: Sequence[JSON]) -> Plan:
    raise MutationError("this plan cannot be changed")


@record
class Plan:
    """The stages to run, in order, and the limits that apply."""

    manifest: EnvironmentManifest
    digest: str
    """Hash of the manifest, by which facts refer to it."""
    limits: Limits
    stages: tuple[AnyStage, ...]
    """All stages, in order."""
    setup: tuple[Step, ...]
    """Stages 1 to 5, once, before the first model call."""
    recurring: tuple[Step, ...]
    """The setup stages that run again before every later call."""
    loop: tuple[Step, ...]
    """Stages 6 to 16."""
    surface: tuple[Step, ...]
    """Stages 17 to 21, once, when the loop has ended normally."""
    converses: bool
    """Whether its runs share one conversation: one of its stages remembers."""
    hooks: Hooks | None = None
    with_changes: Callable[[Sequence[JSON]], Plan] = _unchangeable
    """The plan with changes of the manifest, given as JSON. Raises MutationError, always for a plan
    that cannot be changed."""
    with_requested_changes: Callable[[Sequence[JSON]], Plan] = _unchangeable
    """As `with_changes`, when a live run is asked for it: also raises MutationError for what is
    locked and for what a run cannot change while it is live."""
