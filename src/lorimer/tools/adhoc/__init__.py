"""Tools that a manifest describes. That grants nothing: their effects follow from their kind, never
from what they declare, and rules, the mode or a person decide each call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from lorimer.core.adhoc import AdHocTool, CompositeTool, HttpTool, ScriptTool, TemplateTool
from lorimer.core.errors import ConfigError, nearest
from lorimer.tools.adhoc.composite import Composite
from lorimer.tools.adhoc.http import Http
from lorimer.tools.adhoc.script import Script
from lorimer.tools.adhoc.template import Template
from lorimer.tools.registry import ToolRegistry


def register_adhoc(
    described: Sequence[AdHocTool],
    registry: ToolRegistry,
    variables: Mapping[str, str] | None = None,
) -> None:
    """Add the tools that a manifest describes, those that call others last. They may refer to
    `variables`. Raises ConfigError for a name that is taken, and for an unusable schema."""
    for each in described:
        match each:
            case HttpTool():
                registry.register(Http(each, variables), granted=False)
            case ScriptTool():
                registry.register(Script(each), granted=False)
            case TemplateTool():
                registry.register(Template(each), granted=False)
            case CompositeTool():
                pass
    for each in described:
        if isinstance(each, CompositeTool):
            registry.register(Composite(each, registry), granted=False)


def check_steps(described: Iterable[AdHocTool], registry: ToolRegistry) -> None:
    """Raises ConfigError for a step that calls a tool which does not exist or calls others
    itself."""
    for each in described:
        for step in each.steps if isinstance(each, CompositeTool) else ():
            tool = registry.get(step.tool)
            if tool is None:
                known = nearest(step.tool, registry.names)
                raise ConfigError(f"{each.name!r} calls {step.tool!r}, which does not exist{known}")
            if isinstance(tool, Composite):
                raise ConfigError(f"{each.name!r} calls {step.tool!r}, which calls others itself")
