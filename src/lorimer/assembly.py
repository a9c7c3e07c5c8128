"""What a pipeline is made of besides its manifest: the arguments that the host gives, checked, and
the toolset and credentials that they come to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, TypeAlias, TypedDict, cast, get_args

from pydantic import ValidationError

from lorimer.core import plugins
from lorimer.core.adhoc import AdHocTool
from lorimer.core.arguments import is_a, wrong
from lorimer.core.compile import Catalogue, check_document, overridden
from lorimer.core.errors import ConfigError, nearest
from lorimer.core.faults import invalid
from lorimer.core.journal import Journal
from lorimer.core.jsonable import JSON
from lorimer.core.limits import Limits
from lorimer.core.manifest import (
    EnvironmentManifest,
    PermissionsConfig,
    SubAgent,
    ToolBinding,
    ToolsConfig,
)
from lorimer.core.model import ModelResolver
from lorimer.core.subagents import faults, has_tasks, manifest_of, place_of
from lorimer.core.tool import Approver
from lorimer.core.world import SandboxMode, World
from lorimer.models.credentials import CredentialBundle, ProviderCredentials
from lorimer.models.registry import PROVIDERS
from lorimer.models.spec import chain, parse_spec
from lorimer.stages.catalogue import catalogue as shipped_catalogue
from lorimer.stages.s06_api import model_spec

if TYPE_CHECKING:
    from lorimer.tools.base import Tool
    from lorimer.tools.hooks import Hook
    from lorimer.tools.policy.people import Person
    from lorimer.tools.policy.rules import Rule
    from lorimer.tools.registry import ToolRegistry
    from lorimer.tools.toolset import Toolset

ToolSource: TypeAlias = "ToolRegistry | Iterable[Tool] | Tool"
"""Tools of the host's: giving them to a pipeline is the grant to run them."""

SomeLimits: TypeAlias = Limits | Mapping[str, JSON]
"""Limits instead of the manifest's, or changes to some of them."""


class RunOptions(TypedDict, total=False):
    """What an executor passes on to each `Pipeline`; all of it optional."""

    journal: Journal
    """Where runs are kept; a store of the process's memory by default."""
    world: World
    """Clock, ids, dice, network and processes; the real ones by default."""
    rules: Iterable[Rule | str]
    """What shipped tools may do without asking, e.g. `Bash(python analyse.py)`."""
    permission_mode: str
    """What becomes of calls that no rule is about: `plan default acceptEdits sandboxed dontAsk
    bypass`; see docs/security.md."""
    approver: Approver
    """Asks a person about the rest; without one it is refused."""
    author: Person
    """Who wrote the manifest, where that is not the host; see docs/security.md."""
    caller: Person
    """For whom it is run, with whose rights."""
    workspace: str | Path
    """The folder that shipped tools work in, and do not leave."""
    sandbox: SandboxMode
    """How programs that tools start are held: the best level that works here (`auto`, the
    default), L2 or not at all (`require`), or not (`off`). See docs/security.md."""
    network: bool | Iterable[str]
    """The hosts that those programs may reach, e.g. `["pypi.org", "*.pythonhosted.org"]`; True: all
    public ones. By default none. See docs/security.md."""
    hidden: Iterable[Path]
    """Files and folders that those programs cannot see, besides the journal's and where keys are
    kept by custom."""
    hooks: Iterable[Hook]
    """Functions and programs that are asked, or told, at fixed points; see docs/hooks.md."""
    bindings: Mapping[str, object]
    """Live objects that the manifest names."""
    variables: Mapping[str, str]
    """What `${NAME}` in the manifest stands for; the environment of the process is not asked."""
    owner: str
    """Who claims its conversations in the journal: a name no other process has. A fresh id by
    default."""
    secrets: Iterable[str]
    """Values that may stand in no fact, signal, file or log, besides the keys of providers and
    what variables hold whose names say that it is secret. See docs/security.md."""
    claim_s: float
    """Seconds after which another process may take a run over from one that does not answer any
    more; 30 by default. A live process renews its claim three times as often."""


def reusable(options: RunOptions) -> RunOptions:
    """As they can be given to one pipeline after the other: what can be read only once is kept, so
    that the second has the hooks, rules and secrets of the first. Raises ConfigError for an option
    that there is not, and for a journal that is a path."""
    for name in options:
        if name not in RunOptions.__annotations__:
            known = list(RunOptions.__annotations__)
            raise ConfigError(f"there is no option {name!r}{nearest(name, known)}")
    journal = options.get("journal")
    if is_a(journal, str, Path):
        raise wrong("journal", journal, "a journal", 'SQLiteJournal("runs.db")')
    kept = {
        name: tuple(value) if isinstance(value, Iterator) else value
        for name, value in cast("dict[str, Iterable[object]]", options).items()
    }
    return cast("RunOptions", kept)


class PipelineOptions(RunOptions, total=False):
    """What presets and builder pass on to `Pipeline`; all of it optional."""

    api_key: str
    """Of the model's provider; else its own environment variable."""
    base_url: str
    """Of the model's provider, or of a server that speaks its language."""
    credentials: CredentialBundle
    """Keys and base URLs of several providers."""
    models: ModelResolver
    """Instead of the shipped providers."""
    session_id: str
    """The conversation to go on with; a new one by default."""


def toolset_of(
    manifest: EnvironmentManifest,
    tools: ToolSource | None,
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
) -> Toolset | None:
    """The host's tools, and those that the manifest names; None: no tools at all. `agent` is who
    rules are about, unless it is the manifest; `before` the one in whose place it comes, with the
    same workspace; `known` are tools of the host's that its sub-agents may have, unless they are
    `tools`; `models` answer tools that ask one. Raises ConfigError, also for a tool that the
    manifest's author may not name."""
    if sandbox not in get_args(SandboxMode):
        raise ConfigError(
            f"sandbox is {sandbox!r}; it may be {', '.join(map(repr, get_args(SandboxMode)))}"
        )
    given = [rules] if isinstance(rules, str) else list(rules)
    named, described = manifest.tools.built_in, manifest.tools.ad_hoc
    late, external = manifest.tools.deferred, manifest.tools.external
    if tools is None and not (named or described or given or late or external or manifest.agents):
        return None
    from lorimer.tools.policy.people import Parties, check_author
    from lorimer.tools.shown import SEARCH
    from lorimer.tools.toolset import Toolset
    from lorimer.world.files import RootedFiles

    shipped = _built_in(named) + external_tools(external)
    at_work = [str(tool.name) for tool in shipped if tool.effects & {"read", "write", "exec"}]
    at_work += [each.name for each in described if each.kind == "script"]
    if at_work and workspace is None:
        raise ConfigError(
            f"the tools {', '.join(at_work)} work in a folder, and none was given",
            hint="Pass workspace=... when you build the pipeline.",
        )
    root = Path(workspace).resolve() if workspace is not None else None
    if root is not None and not root.is_dir():
        raise ConfigError(f"the workspace {str(root)!r} is no folder")
    registry = registry_of(tools)
    known = known or registry
    if manifest.tools.given is not None:
        registry = _given(manifest, registry)
    if late and SEARCH not in [*named, *registry.names]:
        shipped += _built_in([SEARCH])
    if shipped:
        registry = registry.copy()  # the host's own stays as it is
        check_author(shipped, author)
        for tool in shipped:
            registry.register(tool, granted=False)
    if described:
        registry = _with_adhoc(described, registry, variables)
    if manifest.agents:
        registry = _with_agents(manifest, registry, known)
    if root is None:
        files = None
    elif before is not None and before.files is not None:
        files = before.files
    else:
        files = RootedFiles([root])
    return Toolset(
        registry,
        rules=[*given, *manifest_rules(manifest.permissions)],
        mode=mode,
        approver=approver,
        files=files,
        sandbox=sandbox,
        network=network,
        hidden=hidden,
        agent=agent or manifest.metadata.name,
        parties=Parties(author, caller),
        deferred=_deferred(late, registry),
        binding=_binding(manifest, registry),
        models=models,
    )


def registry_of(tools: ToolSource | None) -> ToolRegistry:
    """The host's tools. Raises ConfigError."""
    from lorimer.tools.base import Tool
    from lorimer.tools.registry import ToolRegistry

    if isinstance(tools, Tool):
        tools = [tools]
    if not is_a(tools, Iterable, NoneType):
        raise wrong("tools", tools, "a list of tools or a ToolRegistry", "[my_tool]")
    return tools if isinstance(tools, ToolRegistry) else ToolRegistry(tools or ())


def _with_agents(
    manifest: EnvironmentManifest, registry: ToolRegistry, known: ToolRegistry
) -> ToolRegistry:
    from lorimer.tools.builtin.tasks import agent_tools

    registry = registry.copy()  # the host's own stays as it is
    given = manifest.tools.given
    agents = [
        each
        for each in manifest.agents
        if given is None or each.inputs is None or each.name in given
    ]
    hears = any(_hears(each, known) for each in manifest.agents)
    for tool in agent_tools(agents, tasks=has_tasks(manifest), hears=hears):
        registry.register(tool, granted=False)
    return registry


def _given(manifest: EnvironmentManifest, registry: ToolRegistry) -> ToolRegistry:
    """Those of the host's tools that the manifest names. Raises ConfigError."""
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


def _hears(agent: SubAgent, known: ToolRegistry) -> bool:
    """It may bring in words of strangers: it, or a sub-agent of its own, has a tool that does."""
    from lorimer.tools.builtin import CATALOGUE, GROUPS

    own = agent.manifest
    if own is None and agent.tools is None:
        return any(tool.untrusted for tool in known)
    named = [*(agent.tools or ()), *(own.tools.built_in if own is not None else ())]
    there = [tool for tool in map(known.get, named) if tool is not None]
    shipped = [name for name in named if name not in known and name in {*CATALOGUE, *GROUPS}]
    foreign = external_tools(own.tools.external) if own is not None else []
    if any(tool.untrusted for tool in [*there, *_built_in(shipped), *foreign]):
        return True
    return own is not None and (
        any(each.kind == "http" for each in own.tools.ad_hoc)
        or any(_hears(each, known) for each in own.agents)
    )


def _binding(manifest: EnvironmentManifest, registry: ToolRegistry) -> ToolBinding | None:
    """Which of its tools the agent may call. Raises ConfigError for a name that is none of them:
    what is misspelt would not be blocked. Those of MCP servers may come later."""
    entry = next((each for each in manifest.stages if each.active and each.name == "tool"), None)
    if entry is None or entry.tool_binding is None:
        return None
    named = [*(entry.tool_binding.allowed or ()), *entry.tool_binding.blocked]
    problems = [
        f"stages[{entry.order}].tool_binding: this agent has no tool {name!r}"
        f"{nearest(name, registry.names)}"
        for name in named
        if name not in registry and not name.startswith("mcp__")
    ]
    if problems:
        raise invalid(problems)
    return entry.tool_binding


def external_tools(names: Sequence[str]) -> list[Tool]:
    """What installed packages offer under these names. Raises ConfigError for a name that none
    does, and for a broken package."""
    if not names:
        return []
    from lorimer.tools.base import Tool

    found: list[Tool] = []
    for at, name in enumerate(names):
        where = f"tools.external[{at}]"
        try:
            offered = plugins.find(plugins.TOOLS, name)
            if offered is None:
                known = nearest(name, plugins.offered(plugins.TOOLS))
                raise ConfigError(f"no installed package offers a tool {name!r}{known}")
            tool = offered.make(Tool)
            if tool.name != offered.name:
                raise offered.broken(f"it calls itself {tool.name!r}")
        except ConfigError as error:
            raise invalid([f"{where}: {error}"]) from None
        found.append(tool)
    return found


def tools_part(manifest: EnvironmentManifest) -> tuple[object, ...]:
    """What of a manifest `toolset_of` reads."""
    bindings = [
        entry.tool_binding for entry in manifest.stages if entry.active and entry.tool_binding
    ]
    return (manifest.tools, manifest.permissions, manifest.agents, manifest.metadata.name, bindings)


def _deferred(names: Sequence[str], registry: ToolRegistry) -> list[str]:
    """Of the tools that there are. Raises ConfigError for a name that is none of theirs."""
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
    """What a manifest denies and asks for. Raises ConfigError."""
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


def limits_of(given: SomeLimits | None, limits: Limits) -> Limits:
    """Those of one run, of a pipeline with these. Raises ConfigError."""
    if given is None or isinstance(given, Limits):
        return given or limits
    if not is_a(given, Mapping):
        raise wrong("limits", given, "Limits or a mapping", '{"max_turns": 5}')
    return Limits.from_json({**limits.to_json(), **given})


def check_manifest(
    data: Mapping[str, JSON],
    catalogue: Catalogue | None = None,
    variables: Mapping[str, str] | None = None,
) -> list[str]:
    """Every fault of a manifest in its plain form, as `path: reason`; [] when it can be run.
    Whether a key is there, and what the host binds, is not looked at; its variables are, where
    they are given."""
    problems = check_document(data, catalogue or shipped_catalogue(), variables)
    tools = data.get("tools")
    if isinstance(tools, Mapping):
        problems.extend(_tool_faults(tools))
    permissions = data.get("permissions")
    if isinstance(permissions, Mapping):
        try:
            manifest_rules(PermissionsConfig.model_validate(permissions))
        except ValidationError:
            pass  # told already
        except ConfigError as error:
            problems.extend(error.problems)
    problems.extend(_agent_faults(data, catalogue))
    return problems


def _agent_faults(data: Mapping[str, JSON], catalogue: Catalogue | None) -> list[str]:
    """What is wrong with its sub-agents; which of their tools the host adds is not known here."""
    if not data.get("agents"):
        return []
    try:
        manifest = EnvironmentManifest.model_validate(data)
    except ValidationError:
        return []  # told already
    found = faults(manifest)
    if found:
        return found
    from lorimer.tools.builtin import CATALOGUE, GROUPS

    for at, agent in enumerate(manifest.agents):
        host = [name for name in agent.tools or () if name not in {*CATALOGUE, *GROUPS}]
        theirs, _ = manifest_of(manifest, agent, host)
        found += [place_of(agent, at) + one for one in check_manifest(theirs.to_dict(), catalogue)]
    return found


def _tool_faults(tools: Mapping[str, JSON]) -> list[str]:
    """What is wrong with the tools of a manifest; which others the host adds is not known here."""
    named = tools.get("built_in")
    try:
        names = [name for name in named if isinstance(name, str)] if isinstance(named, list) else []
        built_in = _built_in(names)
        said = ToolsConfig.model_validate(tools)
        built_in += external_tools(said.external)
        if said.ad_hoc:
            from lorimer.tools.adhoc import register_adhoc
            from lorimer.tools.registry import ToolRegistry

            register_adhoc(said.ad_hoc, ToolRegistry(built_in))
    except ValidationError:
        return []  # told already
    except ConfigError as error:
        return list(error.problems) or [f"tools.ad_hoc: {error}"]
    return []


def _with_adhoc(
    described: Sequence[AdHocTool], registry: ToolRegistry, variables: Mapping[str, str] | None
) -> ToolRegistry:
    from lorimer.tools.adhoc import check_steps, register_adhoc

    registry = registry.copy()  # the host's own stays as it is
    try:
        register_adhoc(described, registry, variables)
        check_steps(described, registry)
    except ConfigError as error:
        raise invalid([f"tools.ad_hoc: {error}"]) from None
    return registry


def _built_in(names: Sequence[str]) -> list[Tool]:
    from lorimer.tools.builtin import builtin_tools

    try:
        return builtin_tools(names)
    except ConfigError as error:
        raise invalid([f"tools.built_in: {error}"]) from None


def spec_of(manifest: EnvironmentManifest) -> str:
    """The model's spec, or a chain of them, with the provider that stage 6 names. Raises
    ConfigError when they disagree."""
    if "api" not in manifest.stages:
        return model_spec(manifest.model, "")
    entry = manifest.stages["api"]
    model = overridden(manifest.model, entry.model_override)
    return model_spec(model, str(entry.config.get("provider", "")))


def credentials_of(
    manifest: EnvironmentManifest, api_key: str, base_url: str
) -> CredentialBundle | None:
    if not api_key and not base_url:
        return None
    spec = parse_spec(chain(spec_of(manifest))[0], PROVIDERS)
    given = ProviderCredentials(api_key=api_key, base_url=base_url)
    return CredentialBundle({spec.provider: given})
