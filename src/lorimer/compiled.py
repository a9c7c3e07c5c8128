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
        """Raises ConfigError naming every fault of the manifest. Takes ownership of `catalogue`."""
        self.manifest = manifest
        self._catalogue = catalogue
        self._bindings = bindings
        self._earlier: dict[str, EnvironmentManifest] = {}
        """Earlier manifests, by hash."""
        self._plan = self._compile(manifest, bindings)

    def __repr__(self) -> str:
        stages, spec = len(self._plan.stages), spec_of(self.manifest)
        return f"<{type(self).__name__} {self.manifest.metadata.name!r}: {stages} stages, {spec}>"

    @property
    def plan(self) -> Plan:
        """The plan that runs, compiled again whenever the manifest is changed through this
        pipeline."""
        return self._plan

    @property
    def catalogue(self) -> Catalogue:
        """The stages and strategies that the manifest can name, including those registered by the
        host."""
        return self._catalogue

    def plan_of(self, digest: str) -> Plan:
        """The plan of this pipeline's manifest with this hash; else the current plan."""
        manifest = self._earlier.get(digest)
        return self._plan if manifest is None else self._plan_for(manifest)[0]

    @property
    def model_spec(self) -> str:
        """The models it calls: a spec, or a chain of them, with variables replaced."""
        return spec_of(with_variables(self.manifest, self._bindings.variables))

    @property
    def has_changed(self) -> bool:
        """Whether its manifest has changed since it was made."""
        return bool(self._earlier)

    def configure_capabilities(self, target: str = "", **able: bool) -> None:
        """Declare what models support, as `Models.configure_capabilities` does: for a provider or a
        spec; without `target`, for every model that this pipeline calls. Takes effect with the next
        model call, also for others that use the same Models.

        Raises ConfigError for an unknown capability or provider, and if the host's models are not a
        Models.
        """
        models = self._bindings.models
        if not isinstance(models, Models):
            raise ConfigError(
                f"a {type(models).__name__} does not accept declarations of capabilities",
                hint="Tell the Models that it asks: models.configure_capabilities(...)",
            )
        for one in [target] if target else models.expand(self.model_spec):
            spec = one if target else str(models.parse(one))
            models.configure_capabilities(spec, **able)

    def _plan_for(self, manifest: EnvironmentManifest) -> tuple[Plan, Bindings]:
        """The plan of another manifest, and the bindings it was compiled with. Raises
        MutationError."""
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
        # a copy: the caller may go on to change theirs, and facts refer to this one by its hash
        manifest = manifest.model_copy(deep=True)

        def with_changes(changes: Sequence[JSON]) -> Plan:
            from lorimer.core import mutation  # imported only when something is changed

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
        """Raises ConfigError when a live run may not be changed in this way at somebody's
        request."""

    def _tools_for(self, manifest: EnvironmentManifest) -> Toolset | None:
        """The tools of another manifest. Raises ConfigError."""
        raise MutationError("the tools of this agent cannot be changed")

    def _set_hooks(self, hooks: Hooks) -> None:
        """Use these hooks in runs that begin later."""
        self._bindings = replace(self._bindings, hooks=hooks)
        self._plan = replace(self._plan, hooks=hooks)

    def introspect(self) -> list[dict[str, JSON]]:
        """Every stage it may have, whether it has it, and the possible and current content of its
        slots: see `lorimer.core.introspect`. Imports all of them, which takes some 100 ms."""
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
