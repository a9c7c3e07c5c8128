"""What a pipeline consists of besides its manifest: the host's arguments, validated, and the model
and credentials that follow from them; also, what is wrong with a manifest. For the tools see
`toolkit.py`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, TypeAlias, TypedDict, cast

from pydantic import ValidationError

from lorimer.core.arguments import check_port, each_of, is_a, wrong
from lorimer.core.catalogue import Catalogue
from lorimer.core.compile import check_document, overridden
from lorimer.core.errors import ConfigError, nearest
from lorimer.core.journal import Journal
from lorimer.core.jsonable import JSON, items_of
from lorimer.core.limits import Limits
from lorimer.core.manifest import EnvironmentManifest, PermissionsConfig, ToolsConfig
from lorimer.core.model import ModelResolver
from lorimer.core.redaction import SHORTEST
from lorimer.core.subagents import faults, manifest_of, place_of
from lorimer.core.tool import Approver
from lorimer.core.world import SandboxMode, World
from lorimer.models.credentials import CredentialBundle, ProviderCredentials
from lorimer.models.registry import PROVIDERS
from lorimer.models.spec import chain, parse_spec
from lorimer.stages.catalogue import catalogue as shipped_catalogue
from lorimer.stages.s06_api import model_spec
from lorimer.toolkit import built_in, external_tools, manifest_rules

if TYPE_CHECKING:
    from lorimer.tools.base import Tool
    from lorimer.tools.hooks import Hook
    from lorimer.tools.policy.modes import ModeName
    from lorimer.tools.policy.people import Person
    from lorimer.tools.policy.rules import Rule
    from lorimer.tools.registry import ToolRegistry

ToolSource: TypeAlias = "ToolRegistry | Iterable[Tool] | Tool"
"""Tools of the host's. Passing a tool to a pipeline is what permits its calls."""

SomeLimits: TypeAlias = Limits | Mapping[str, JSON]
"""Limits that replace the manifest's, or changes to some of them."""


class RunOptions(TypedDict, total=False):
    """Options that an executor passes on to each `Pipeline`; all optional."""

    journal: Journal
    """Where runs are stored; by default in memory."""
    world: World
    """Clock, ids, dice, network and processes; by default the real ones."""
    rules: Iterable[Rule | str]
    """Rules for what shipped tools may do without asking, e.g. `Bash(python analyse.py)`."""
    permission_mode: ModeName
    """How calls are decided that no rule covers: `plan default acceptEdits sandboxed dontAsk
    bypass`; see docs/security.md."""
    approver: Approver
    """Asks a person about all other calls; without one they are refused."""
    author: Person
    """Who wrote the manifest, if not the host; see docs/security.md."""
    caller: Person
    """On whose behalf, and with whose rights, it runs."""
    workspace: str | Path
    """The folder that shipped tools work in and cannot leave."""
    sandbox: SandboxMode
    """How programs started by tools are isolated: at the best level that works here (`auto`, the
    default), at L2 or not at all (`require`), or without a sandbox (`off`). See
    docs/security.md."""
    network: bool | Iterable[str]
    """The hosts that those programs may reach, e.g. `["pypi.org", "*.pythonhosted.org"]`; True: all
    public ones. None by default. See docs/security.md."""
    hidden: Iterable[Path]
    """Files and folders hidden from those programs, in addition to the journal's and the usual
    locations of keys."""
    hooks: Iterable[Hook]
    """Functions and programs that are asked or notified at fixed points; see docs/hooks.md."""
    bindings: Mapping[str, object]
    """Live objects that the manifest names."""
    variables: Mapping[str, str]
    """Values of `${NAME}` in the manifest; the process environment is not used."""
    owner: str
    """The owner of its claims in the journal: a name that no other process has. By default a new
    id."""
    secrets: Iterable[str]
    """Values that must not appear in any fact, signal, file or log, in addition to the keys of
    providers and variables whose names say that they are secret. See docs/security.md."""
    claim_s: float
    """Seconds after which another process may take over a run whose process does not respond; 30 by
    default. A live process renews its claim three times as often."""


def reusable(options: RunOptions) -> RunOptions:
    """The options in a form that can be given to several pipelines: iterators are read once, so
    that the second pipeline has the hooks, rules and secrets of the first. Raises ConfigError for
    an unknown option, a path as journal, and an invalid world or approver."""
    for name in options:
        if name not in RunOptions.__annotations__:
            known = list(RunOptions.__annotations__)
            raise ConfigError(f"there is no option {name!r}{nearest(name, known)}")
    check_parts(options.get("journal"), options.get("world"), options.get("approver"))
    kept = {
        name: tuple(value) if isinstance(value, Iterator) else value
        for name, value in cast("dict[str, Iterable[object]]", options).items()
    }
    return cast("RunOptions", kept)


class PipelineOptions(RunOptions, total=False):
    """Options that presets and builder pass on to `Pipeline`; all optional."""

    api_key: str
    """Key of the model's provider; by default from its environment variable."""
    base_url: str
    """Base URL of the model's provider, or of a compatible server."""
    credentials: CredentialBundle
    """Keys and base URLs of several providers."""
    models: ModelResolver
    """Used instead of the shipped providers."""
    session_id: str
    """The conversation to continue; by default a new one."""


def check_parts(
    journal: Journal | None,
    world: World | None,
    approver: Approver | None,
    models: ModelResolver | None = None,
    credentials: CredentialBundle | None = None,
    variables: Mapping[str, str] | None = None,
) -> None:
    """Validates arguments that are used much later, perhaps after a call was paid for. Raises
    ConfigError."""
    if is_a(journal, str, Path):
        raise wrong("journal", journal, "a journal", 'SQLiteJournal("runs.db")')
    if world is not None:
        check_port("world", world, World, "RealWorld()")
    if approver is not None:
        check_port("approver", approver, Approver, "approver=AskLater()")
    if models is not None:
        check_port("models", models, ModelResolver, 'Models(providers={"mine": model})')
    if credentials is not None and not is_a(credentials, CredentialBundle):
        example = 'CredentialBundle({"openai": ProviderCredentials(key)})'
        raise wrong("credentials", credentials, "a CredentialBundle", example)
    for name, value in (variables or {}).items():
        if not is_a(value, str):
            raise wrong(f"variables[{name!r}]", value, "text", 'variables={"PORT": "8080"}')


def check_people(author: Person | None, caller: Person | None) -> None:
    """Who wrote an agent, and on whose behalf it runs. Raises ConfigError."""
    if author is None and caller is None:
        return
    from lorimer.tools.policy.people import Person as Known

    for name, person in (("author", author), ("caller", caller)):
        if person is not None and not is_a(person, Known):
            raise wrong(name, person, "a Person", f'{name}=Person("ann")')


def hosts_of(given: Iterable[str]) -> list[str]:
    """The hosts that commands may reach. Raises ConfigError."""
    found = each_of("network", given, str, 'network=["pypi.org"]')
    return [str(each) for each in found]


def paths_of(given: Iterable[Path]) -> list[Path]:
    """One memory, or several by name."""
    if isinstance(given, str | Path):
        return [Path(given)]
    return [Path(each) for each in given]


def hooks_of(given: Iterable[Hook]) -> list[Hook]:
    """The hooks, in order. Raises ConfigError."""
    if is_a(given, tuple) and not given:
        return []
    from lorimer.tools.hooks.hook import Hook as Known

    found = each_of("hooks", given, Known, 'FunctionHook("PreToolUse", my_guard)')
    return cast("list[Hook]", list(found))


def secrets_declared(secrets: Iterable[str]) -> dict[str, str]:
    """Secret value to the name that is shown in its place. Raises ConfigError."""
    given = [secrets] if isinstance(secrets, str) else list(secrets)
    if any(not is_a(one, str) or len(one) < SHORTEST for one in given):
        raise ConfigError(f"secrets: each has to be a text of {SHORTEST} characters or more")
    return dict.fromkeys(given, "secret")


def registry_of(tools: ToolSource | None) -> ToolRegistry:
    """The host's tools. Raises ConfigError."""
    from lorimer.tools.base import Tool
    from lorimer.tools.registry import ToolRegistry

    if isinstance(tools, Tool):
        tools = [tools]
    if not is_a(tools, Iterable, NoneType) or is_a(tools, str):
        shipped = "; shipped ones go by name in built_in" if is_a(tools, str) else ""
        raise wrong("tools", tools, "a list of tools or a ToolRegistry", f"[my_tool]{shipped}")
    return tools if isinstance(tools, ToolRegistry) else ToolRegistry(tools or ())


def limits_of(given: SomeLimits | None, limits: Limits) -> Limits:
    """The limits of one run of a pipeline with these limits. Raises ConfigError."""
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
    """Every fault of a manifest given as plain data, as `path: reason`; [] if it can be run. Keys
    and bindings of the host are not checked; variables are, if they are given."""
    problems = check_document(data, catalogue or shipped_catalogue(), variables)
    tools = data.get("tools")
    if isinstance(tools, Mapping):
        problems.extend(_tool_faults(tools))
    permissions = data.get("permissions")
    if isinstance(permissions, Mapping):
        try:
            fields = PermissionsConfig.model_fields
            known = {name: permissions[name] for name in fields if name in permissions}
            manifest_rules(PermissionsConfig.model_validate(known))
        except ValidationError:
            pass  # reported already
        except ConfigError as error:
            problems.extend(error.problems)
    problems.extend(_agent_faults(data, catalogue, problems))
    return problems


def _agent_faults(
    data: Mapping[str, JSON], catalogue: Catalogue | None, known: list[str]
) -> list[str]:
    """Faults of its sub-agents, without those that one has from its parent, which are `known`;
    tools added by the host are not known here."""
    if not data.get("agents"):
        return []
    try:
        manifest = EnvironmentManifest.model_validate(data)
    except ValidationError:
        return []  # reported already
    found = faults(manifest)
    if found:
        return found
    from lorimer.tools.builtin import CATALOGUE, GROUPS

    for at, agent in enumerate(manifest.agents):
        host = [name for name in agent.tools or () if name not in {*CATALOGUE, *GROUPS}]
        theirs, _ = manifest_of(manifest, agent, host)
        own = check_manifest(theirs.to_dict(), catalogue)
        inherited = known if agent.manifest is None else ()
        found += [place_of(agent, at) + fault for fault in own if fault not in inherited]
    return found


def _tool_faults(tools: Mapping[str, JSON]) -> list[str]:
    """Faults of a manifest's tools; tools added by the host are not known here."""
    names = [each for each in items_of(tools.get("built_in")) if isinstance(each, str)]
    problems: list[str] = []
    there: list[Tool] = []
    try:
        there += built_in(names)
    except ConfigError as error:
        problems += error.problems
    try:
        said = ToolsConfig.model_validate(tools)
        there += external_tools(said.external)
    except ValidationError:
        return problems  # its own have been reported already
    except ConfigError as error:
        problems += error.problems
    else:
        if said.ad_hoc and not problems:  # sub-agents may call each other
            from lorimer.tools.adhoc import register_adhoc
            from lorimer.tools.registry import ToolRegistry

            try:
                register_adhoc(said.ad_hoc, ToolRegistry(there))
            except ConfigError as error:
                problems += error.problems or [f"tools.ad_hoc: {error}"]
    return problems


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
