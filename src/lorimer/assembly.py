"""What a pipeline is made of besides its manifest: the arguments that the host gives, checked, and
the model and credentials that they come to; and what is wrong with a manifest. The tools that they
come to: `toolkit.py`."""

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
from lorimer.core.jsonable import JSON
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
    from lorimer.tools.policy.people import Person
    from lorimer.tools.policy.rules import Rule
    from lorimer.tools.registry import ToolRegistry

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
    that there is not, for a journal that is a path, and for a world or an approver that is none."""
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


def check_parts(
    journal: Journal | None,
    world: World | None,
    approver: Approver | None,
    models: ModelResolver | None = None,
    credentials: CredentialBundle | None = None,
    variables: Mapping[str, str] | None = None,
) -> None:
    """What is used long after it was given, perhaps when a call was paid. Raises ConfigError."""
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
    """Who wrote an agent, and for whom it is run. Raises ConfigError."""
    if author is None and caller is None:
        return
    from lorimer.tools.policy.people import Person as Known

    for name, person in (("author", author), ("caller", caller)):
        if person is not None and not is_a(person, Known):
            raise wrong(name, person, "a Person", f'{name}=Person("ann")')


def hosts_of(given: Iterable[str]) -> list[str]:
    """Those that commands may reach. Raises ConfigError."""
    found = each_of("network", given, str, 'network=["pypi.org"]')
    return [str(each) for each in found]


def paths_of(given: Iterable[Path]) -> list[Path]:
    """Of one, or of several."""
    if isinstance(given, str | Path):
        return [Path(given)]
    return [Path(each) for each in given]


def hooks_of(given: Iterable[Hook]) -> list[Hook]:
    """In their order. Raises ConfigError."""
    if is_a(given, tuple) and not given:
        return []
    from lorimer.tools.hooks.hook import Hook as Known

    found = each_of("hooks", given, Known, 'FunctionHook("PreToolUse", my_guard)')
    return cast("list[Hook]", list(found))


def secrets_declared(secrets: Iterable[str]) -> dict[str, str]:
    """Value to the name that is shown in its place. Raises ConfigError."""
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
    names = [name for name in named if isinstance(name, str)] if isinstance(named, list) else []
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
        return problems  # its own are told already
    except ConfigError as error:
        problems += error.problems
    else:
        if said.ad_hoc and not problems:  # they may call the others
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
