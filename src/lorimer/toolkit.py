"""The tools of a pipeline: the host's, shipped ones, those of packages, those that its manifest
describes, and those that delegate to its sub-agents."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, get_args

from pydantic import ValidationError

from lorimer.core import plugins
from lorimer.core.adhoc import AdHocTool
from lorimer.core.arguments import is_a, wrong
from lorimer.core.errors import ConfigError, nearest
from lorimer.core.faults import invalid
from lorimer.core.manifest import (
    EnvironmentManifest,
    PermissionsConfig,
    StageEntry,
    SubAgent,
    ToolBinding,
)
from lorimer.core.model import ModelResolver
from lorimer.core.redaction import logger
from lorimer.core.subagents import has_tasks
from lorimer.core.tool import Approver
from lorimer.core.variables import replaced
from lorimer.core.world import SandboxMode

if TYPE_CHECKING:
    from lorimer.tools.base import Tool
    from lorimer.tools.policy.people import Person
    from lorimer.tools.policy.rules import Rule
    from lorimer.tools.registry import ToolRegistry
    from lorimer.tools.toolset import Toolset
    from lorimer.world.files import RootedFiles

_log = logger("lorimer.permissions")
_GUARDS: Final = "guards"
_PERMISSION: Final = "permission"
"""A guard of stage 4 that restricts the tools."""
_NO_VARIABLES: Final[Mapping[str, str]] = MappingProxyType({})


def toolset_of(
    manifest: EnvironmentManifest,
    tools: ToolRegistry | None,
    rules: Iterable[Rule | str],
    mode: str,
    approver: Approver | None,
    workspace: str | Path | None,
    sandbox: SandboxMode = "auto",
    *,
    network: bool | Iterable[str] = False,
    hidden: Iterable[Path] = (),
    author: Person | None = None,
    caller: Person | None = None,
    agent: str = "",
    before: Toolset | None = None,
    known: ToolRegistry | None = None,
    variables: Mapping[str, str] | None = None,
    models: ModelResolver | None = None,
    derived: bool = False,
) -> Toolset | None:
    """The host's tools and those that the manifest names; None: no tools at all. `agent` is the
    agent that rules apply to, by default the manifest's name; `before` is the toolset that this one
    replaces, with the same workspace; `known` are tools of the host's that sub-agents may have, by
    default `tools`; `models` serve tools that call a model; `derived`: the manifest was derived
    from another, and may name tools that only that one has. Raises ConfigError, also for a tool
    that the manifest's author may not name."""
    if sandbox not in get_args(SandboxMode):
        raise ConfigError(
            f"sandbox is {sandbox!r}; it may be {', '.join(map(repr, get_args(SandboxMode)))}"
        )
    if mode != "default":
        from lorimer.tools.policy.modes import Mode

        Mode.named(mode)  # also where there are no tools to judge calls of
    given, declared = _rules(rules), manifest.tools
    if tools is None and not (
        given
        or manifest.agents
        or declared.built_in
        or declared.ad_hoc
        or declared.deferred
        or declared.external
    ):
        return None
    from lorimer.tools.policy.people import Parties
    from lorimer.tools.registry import ToolRegistry
    from lorimer.tools.toolset import Toolset

    shipped = built_in(declared.built_in) + external_tools(declared.external)
    _require_workspace(shipped, declared.ad_hoc, workspace)
    files = _files_in(workspace, before)
    host = ToolRegistry(()) if tools is None else tools
    registry = _registry_of(manifest, host, known or host, shipped, author, variables)
    every = [*given, *manifest_rules(manifest.permissions)]
    if every and known is None:  # a sub-agent has its parent's rules, and not all of its tools
        _note_slips(every, registry)
    return Toolset(
        registry,
        rules=every,
        mode=mode,
        approver=approver,
        files=files,
        sandbox=sandbox,
        network=network,
        hidden=hidden,
        agent=agent or manifest.metadata.name,
        parties=Parties(author, caller),
        deferred=_deferred(declared.deferred, registry),
        binding=_binding(manifest, registry, variables or {}, derived=derived),
        models=models,
    )


def _registry_of(
    manifest: EnvironmentManifest,
    host: ToolRegistry,
    known: ToolRegistry,
    shipped: list[Tool],
    author: Person | None,
    variables: Mapping[str, str] | None,
) -> ToolRegistry:
    """The host's tools with all others that the manifest names or describes. `shipped` are those
    that are not the host's. Raises ConfigError."""
    from lorimer.tools.policy.people import check_author
    from lorimer.tools.shown import SEARCH

    registry, declared = host, manifest.tools
    if declared.given is not None:
        registry = _only_given(manifest, registry)
    if declared.deferred and SEARCH not in [*declared.built_in, *registry.names]:
        shipped = [*shipped, *built_in([SEARCH])]
    if shipped:
        registry = registry.copy()  # the host's registry is not modified
        check_author(shipped, author)
        for tool in shipped:
            registry.register(tool, granted=False)
    if declared.ad_hoc:
        registry = _with_adhoc(declared.ad_hoc, registry, variables)
    if manifest.agents:
        registry = _with_agents(manifest, registry, known)
    return registry


def _require_workspace(
    shipped: Iterable[Tool], described: Iterable[AdHocTool], workspace: str | Path | None
) -> None:
    """Raises ConfigError for tools that work in a folder when there is none."""
    at_work = [str(tool.name) for tool in shipped if tool.effects & {"read", "write", "exec"}]
    at_work += [each.name for each in described if each.kind == "script"]
    if at_work and workspace is None:
        raise ConfigError(
            f"the tools {', '.join(at_work)} work in a folder, and none was given",
            hint="Pass workspace=... when you build the pipeline.",
        )


def _files_in(workspace: str | Path | None, before: Toolset | None) -> RootedFiles | None:
    """The files of the workspace, taken from the toolset `before` if there is one. Raises
    ConfigError."""
    if workspace is None:
        return None
    root = Path(workspace).resolve()
    if not root.is_dir():
        raise ConfigError(f"the workspace {str(root)!r} is not a folder")
    if before is not None and before.files is not None:
        return before.files
    from lorimer.world.files import RootedFiles

    return RootedFiles([root])


def _rules(given: Iterable[Rule | str]) -> Sequence[Rule | str]:
    rules = [given] if isinstance(given, str) else list(given)
    if not rules:
        return rules
    from lorimer.tools.policy.rules import Rule

    for rule in rules:
        if not is_a(rule, Rule, str):
            raise wrong("each of rules", rule, "a Rule", '"Bash(python analyse.py)"')
    return rules


def _note_slips(rules: Iterable[Rule | str], registry: ToolRegistry) -> None:
    """Log which of the caller's rules are about no tool, but almost: nothing is denied by those."""
    from lorimer.tools.builtin import CATALOGUE
    from lorimer.tools.policy.names import meant
    from lorimer.tools.policy.sources import Source

    for rule in rules:
        if not isinstance(rule, str) and rule.source not in (Source.CALLER, Source.MANIFEST):
            continue  # whoever reads files of rules has told
        tool = rule.partition("(")[0] if isinstance(rule, str) else rule.tool
        if near := meant(tool, [*registry.names, *CATALOGUE]):
            _log.warning("rule %s: no tool is called so%s", rule, near)


def _with_agents(
    manifest: EnvironmentManifest, registry: ToolRegistry, known: ToolRegistry
) -> ToolRegistry:
    from lorimer.tools.builtin.tasks import agent_tools

    registry = registry.copy()  # the host's registry is not modified
    given = manifest.tools.given
    agents = [
        each
        for each in manifest.agents
        if given is None or each.inputs is None or each.name in given
    ]
    hears = any(_may_hear_strangers(each, known) for each in manifest.agents)
    for tool in agent_tools(agents, tasks=has_tasks(manifest), hears=hears):
        registry.register(tool, granted=False)
    return registry


def _only_given(manifest: EnvironmentManifest, registry: ToolRegistry) -> ToolRegistry:
    """The host's tools that the manifest names. Raises ConfigError."""
    wanted = manifest.tools.given or []
    own = {each.name for each in manifest.agents if each.inputs is not None}
    problems = [
        f"tools.given[{at}]: the host gives no tool {name!r}{nearest(name, registry.names)}"
        for at, name in enumerate(wanted)
        if name not in registry and name not in own
    ]
    if problems:
        raise invalid(problems)
    registry = registry.copy()
    for name in registry.names:
        if name not in wanted:
            registry.unregister(name)
    return registry


def _may_hear_strangers(agent: SubAgent, known: ToolRegistry) -> bool:
    """Whether a sub-agent may bring in untrusted content (docs/security.md): it, or one of its own
    sub-agents, has a tool that does."""
    from lorimer.tools.builtin import CATALOGUE, GROUPS

    own = agent.manifest
    if own is None and agent.tools is None:
        return any(tool.untrusted for tool in known)
    named = [*(agent.tools or ()), *(own.tools.built_in if own is not None else ())]
    there = [tool for tool in map(known.get, named) if tool is not None]
    shipped = [name for name in named if name not in known and name in {*CATALOGUE, *GROUPS}]
    foreign = external_tools(own.tools.external) if own is not None else []
    if any(tool.untrusted for tool in [*there, *built_in(shipped), *foreign]):
        return True
    return own is not None and (
        any(each.kind == "http" for each in own.tools.ad_hoc)
        or any(_may_hear_strangers(each, known) for each in own.agents)
    )


def _binding(
    manifest: EnvironmentManifest,
    registry: ToolRegistry,
    variables: Mapping[str, str],
    *,
    derived: bool,
) -> ToolBinding | None:
    """Which of its tools the agent may call: those that both stage 10 and the guard `permission`
    admit. Raises ConfigError for unknown names, because a misspelt one would not be blocked. Tools
    of MCP servers may come later; the guard may block shipped tools that the agent does not
    have."""
    entry = _entry(manifest, "tool")
    own = None if entry is None else entry.tool_binding
    problems = [] if own is None else _unknown_names(own, registry, "stages[10].tool_binding")
    guard = _guard(manifest, variables)
    if guard is not None and not derived:
        from lorimer.tools.builtin import CATALOGUE

        where = f"stages[4].strategy_configs.{_GUARDS}.{_PERMISSION}"
        problems += _unknown_names(guard, registry, where, CATALOGUE)
    if problems:
        raise invalid(problems)
    if own is None or guard is None:
        return own or guard
    allowed = [each.allowed for each in (own, guard) if each.allowed is not None]
    return ToolBinding(
        allowed=[n for n in allowed[0] if n in allowed[-1]] if allowed else None,
        blocked=[*own.blocked, *guard.blocked],
    )


def _unknown_names(
    binding: ToolBinding, registry: ToolRegistry, where: str, known: Collection[str] = ()
) -> list[str]:
    """One fault for each name in a binding that is not a tool."""
    return [
        f"{where}: this agent has no tool {name!r}{nearest(name, registry.names)}"
        for name in [*(binding.allowed or ()), *binding.blocked]
        if name not in registry and name not in known and not name.startswith("mcp__")
    ]


def _entry(manifest: EnvironmentManifest, name: str) -> StageEntry | None:
    return next((each for each in manifest.stages if each.active and each.name == name), None)


def _guard(
    manifest: EnvironmentManifest, variables: Mapping[str, str] = _NO_VARIABLES
) -> ToolBinding | None:
    """The tools that the guard `permission` admits; None: it is not chosen, or is configured
    wrongly, which is reported when the manifest is compiled."""
    entry = _entry(manifest, "guard")
    if entry is None or _PERMISSION not in entry.strategies.get(_GUARDS, ()):
        return None
    from lorimer.stages.s04_guard import Permission

    guard = Permission()
    given = entry.strategy_configs.get(_GUARDS, {}).get(_PERMISSION, {})
    config = replaced(given, variables)
    try:
        guard.configure(config if isinstance(config, Mapping) else {})
    except ValidationError:
        return None
    return guard.binding


def external_tools(names: Sequence[str]) -> list[Tool]:
    """What installed packages offer under these names. Raises ConfigError with all unknown names
    and all broken packages."""
    if not names:
        return []
    from lorimer.tools.base import Tool

    found: list[Tool] = []
    problems: list[str] = []
    for at, name in enumerate(names):
        try:
            offered = plugins.find(plugins.TOOLS, name)
            if offered is None:
                known = nearest(name, plugins.offered(plugins.TOOLS))
                raise ConfigError(f"no installed package offers a tool {name!r}{known}")
            tool = offered.make(Tool)
            if tool.name != offered.name:
                raise offered.broken(f"it calls itself {tool.name!r}")
        except ConfigError as error:
            problems.append(f"tools.external[{at}]: {error}")
        else:
            found.append(tool)
    if problems:
        raise invalid(problems)
    return found


def tools_part(manifest: EnvironmentManifest) -> tuple[object, ...]:
    """The parts of a manifest that `toolset_of` reads."""
    bindings = [
        entry.tool_binding for entry in manifest.stages if entry.active and entry.tool_binding
    ]
    own = (manifest.tools, manifest.permissions, manifest.agents, manifest.metadata.name)
    return (*own, bindings, _guard(manifest))


def _deferred(names: Sequence[str], registry: ToolRegistry) -> list[str]:
    """The names of the deferred tools. Raises ConfigError for an unknown name."""
    from lorimer.tools.builtin import GROUPS
    from lorimer.tools.shown import SEARCH

    found: list[str] = []
    for at, name in enumerate(names):
        there = [each for each in GROUPS.get(name, (name,)) if each in registry]
        if not there:
            problem = f"tools.deferred[{at}]: this agent has no tool {name!r}"
            raise invalid([problem + nearest(name, [*registry.names, *GROUPS])])
        found += [each for each in there if each != SEARCH]
    return found


def manifest_rules(said: PermissionsConfig) -> list[Rule]:
    """The rules of a manifest, which deny or ask. Raises ConfigError."""
    from lorimer.tools.policy.modes import Action
    from lorimer.tools.policy.rules import Rule
    from lorimer.tools.policy.sources import Source

    found: list[Rule] = []
    problems: list[str] = []
    for name, action, texts in (("deny", Action.DENY, said.deny), ("ask", Action.ASK, said.ask)):
        for at, text in enumerate(texts):
            try:
                found.append(Rule.parse(text, pattern=True, action=action, source=Source.MANIFEST))
            except ConfigError as error:
                problems.append(f"permissions.{name}[{at}]: {error}")
    if problems:
        raise invalid(problems)
    return found


def _with_adhoc(
    described: Sequence[AdHocTool], registry: ToolRegistry, variables: Mapping[str, str] | None
) -> ToolRegistry:
    from lorimer.tools.adhoc import check_steps, register_adhoc

    registry = registry.copy()  # the host's registry is not modified
    try:
        register_adhoc(described, registry, variables)
        check_steps(described, registry)
    except ConfigError as error:
        raise invalid([f"tools.ad_hoc: {error}"]) from None
    return registry


def built_in(names: Sequence[str]) -> list[Tool]:
    """Shipped tools, by name or group. Raises ConfigError."""
    from lorimer.tools.builtin import builtin_tools

    try:
        return builtin_tools(names)
    except ConfigError as error:
        raise invalid([f"tools.built_in: {problem}" for problem in error.problems]) from None
