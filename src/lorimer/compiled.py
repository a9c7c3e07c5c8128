"""A manifest and live objects, compiled to a plan. How it is changed: `mutable.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from lorimer.assembly import spec_of
from lorimer.core.bindings import Bindings
from lorimer.core.catalogue import Catalogue
from lorimer.core.compile import compile as compile_manifest
from lorimer.core.errors import ConfigError, MutationError
from lorimer.core.hooks import Hooks
from lorimer.core.introspect import introspect
from lorimer.core.jsonable import JSON
from lorimer.core.manifest import EnvironmentManifest
from lorimer.core.plan import Plan
from lorimer.core.variables import with_variables
from lorimer.models.registry import Models
from lorimer.toolkit import tools_part

if TYPE_CHECKING:
    from lorimer.tools.toolset import Toolset


class CompiledManifest:
    """A manifest with the plan that was compiled from it."""

    def __init__(
        self,
        manifest: EnvironmentManifest,
        catalogue: Catalogue,
        bindings: Bindings,
    ) -> None:
        """Raises ConfigError naming every fault of the manifest. `catalogue` belongs to this from
        now on."""
        self.manifest = manifest
        self._catalogue = catalogue
        self._bindings = bindings
        self._earlier: dict[str, EnvironmentManifest] = {}
        """The manifests that it had before, by hash."""
        self._plan = self._compile(manifest, bindings)

    @property
    def plan(self) -> Plan:
        """What runs: compiled again whenever the manifest is changed through this pipeline."""
        return self._plan

    @property
    def catalogue(self) -> Catalogue:
        """What the names of its stages and strategies mean: also those that the host registered."""
        return self._catalogue

    def plan_of(self, digest: str) -> Plan:
        """The plan of the manifest of this hash, where that was this pipeline's; else the present
        one."""
        manifest = self._earlier.get(digest)
        return self._plan if manifest is None else self._plan_for(manifest)[0]

    @property
    def model_spec(self) -> str:
        """Whom it asks: a spec, or a chain of them, with the variables in their places."""
        return spec_of(with_variables(self.manifest, self._bindings.variables))

    @property
    def has_changed(self) -> bool:
        """Its manifest is another than it was made with."""
        return bool(self._earlier)

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
                f"a {type(models).__name__} cannot be told what models can do",
                hint="Tell the Models that it asks: models.configure_capabilities(...)",
            )
        for one in [target] if target else models.expand(self.model_spec):
            spec = one if target else str(models.parse(one))
            models.configure_capabilities(spec, **able)

    def _plan_for(self, manifest: EnvironmentManifest) -> tuple[Plan, Bindings]:
        """The plan of another manifest, and what it was compiled with. Raises MutationError."""
        try:
            bindings = self._bindings
            if tools_part(manifest) != tools_part(self.manifest):
                bindings = replace(bindings, tools=self._tools_for(manifest))
            return self._compile(manifest, bindings), bindings
        except MutationError:
            raise
        except ConfigError as error:
            raise MutationError(str(error), hint=error.hint, problems=error.problems) from error

    def _compile(self, manifest: EnvironmentManifest, bindings: Bindings) -> Plan:
        def with_changes(changes: Sequence[JSON]) -> Plan:
            from lorimer.core import mutation  # only who changes something pays for it

            return self._plan_for(mutation.apply_json(manifest, changes, self._catalogue))[0]

        def with_requested_changes(changes: Sequence[JSON]) -> Plan:
            after = with_changes(changes)
            self._require_live_change(plan, after)
            return after

        plan = compile_manifest(manifest, self._catalogue, bindings)
        return replace(
            plan, with_changes=with_changes, with_requested_changes=with_requested_changes
        )

    def _require_live_change(self, before: Plan, after: Plan) -> None:
        """Raises ConfigError when a live run may not be changed so, for somebody who asks for
        it."""

    def _tools_for(self, manifest: EnvironmentManifest) -> Toolset | None:
        """The tools of another manifest. Raises ConfigError."""
        raise MutationError("the tools of this agent cannot be changed")

    def _set_hooks(self, hooks: Hooks) -> None:
        """Have these asked in runs that begin later."""
        self._bindings = replace(self._bindings, hooks=hooks)
        self._plan = replace(self._plan, hooks=hooks)

    def introspect(self) -> list[dict[str, JSON]]:
        """Every stage that it may have, whether it has it, and what may be in its slots, and is:
        see `lorimer.core.introspect`. Loads all of them: some 100 ms."""
        return introspect(self._catalogue, self.manifest)

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
