"""Turns the options of a command line into a manifest, models and rules. Every mistake in them is
found here, before anything runs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from lorimer import assembly
from lorimer.assembly import check_manifest
from lorimer.cli.error_context import remember_secrets
from lorimer.cli.fail import Fault, suggest
from lorimer.core.errors import ConfigError, ExecutorErrorCode
from lorimer.core.faults import invalid
from lorimer.core.manifest import EnvironmentManifest, read_document
from lorimer.core.variables import missing, with_variables
from lorimer.models.credentials import (
    LOCAL,
    NO_KEY,
    VARIABLES,
    CredentialBundle,
    ProviderCredentials,
)
from lorimer.models.hostfile import Host
from lorimer.models.registry import Models
from lorimer.models.spec import ModelSpec
from lorimer.presets import PRESETS, answer_in_form, preset_manifest, preset_names
from lorimer.tools.builtin import builtin_tools
from lorimer.tools.policy.rules import Rule
from lorimer.tools.schema import compile_schema

if TYPE_CHECKING:
    from pydantic import JsonValue

    from lorimer.core.jsonable import JSON
    from lorimer.core.world import World

AGENT_PROMPT: Final = (
    "You work in a folder on the user's computer, through tools, until the task is done. "
    "Look before you change anything. Use paths relative to the folder. "
    "A call that was refused stays refused: find another way, or say what you would need. "
    "End with a short answer that says what you found or did."
)
"""The system prompt of `lorimer run` with the preset `agent`, unless another is given."""


def preset(name: str) -> EnvironmentManifest:
    """A preset by name. Raises Fault for an unknown one, with the most similar name."""
    try:
        return preset_manifest(name)
    except ConfigError as error:
        raise Fault(str(error), hint=error.hint, code=error.code.value) from None


def load(path: Path) -> EnvironmentManifest:
    """Load a manifest's file. Raises ConfigError naming every error."""
    return EnvironmentManifest.from_dict(document(path))


def document(path: Path) -> Mapping[str, JSON]:
    """Load a manifest's file as plain data. Raises ConfigError naming every error."""
    data = read_document(path)
    if problems := check_manifest(data):
        raise ConfigError(f"{path}: {invalid(problems)}", problems=tuple(problems))
    return data


def described(file_or_preset: str) -> EnvironmentManifest:
    """The manifest of a preset or of a file. Raises Fault if it is neither."""
    if file_or_preset in PRESETS:
        return preset(file_or_preset)
    if Path(file_or_preset).exists():
        return load(Path(file_or_preset))
    names = preset_names()
    if file_or_preset in names:
        return preset(file_or_preset)
    raise Fault(
        f"{file_or_preset!r} is neither a file nor a preset"
        f"{suggest(file_or_preset, names) or '.'} Presets: {', '.join(names)}"
    )


def choose(
    manifest: EnvironmentManifest, model: str | None, provider: str | None, host: Host
) -> None:
    """Set the model of a manifest."""
    known = host.models().available()
    if provider and not model:
        raise Fault(
            "--provider needs --model: which model of that provider?", hint="Add --model NAME."
        )
    if provider and provider not in known:
        raise Fault(
            f"there is no provider {provider!r}{suggest(provider, known) or '.'} "
            f"Known: {', '.join(known)}"
        )
    if model is not None and not model.strip():
        raise Fault("the model is empty", hint="Write e.g. -m claude-sonnet-4-6.")
    if provider and model:
        named = model.partition(":")[0].strip().lower()
        if named in known and named != provider:
            raise Fault(f"--provider says {provider!r}, the model {model!r} says {named!r}")
        if named == provider:
            provider = None
    if model:
        manifest.model.model = f"{provider}:{model}" if provider else model


def instruct(manifest: EnvironmentManifest, prompt: str) -> None:
    """Set the system prompt of the agent."""
    if "system" not in manifest.stages:
        raise Fault("--system: this agent has no system stage", hint="Use --preset chat or agent.")
    manifest.stages["system"].config["prompt"] = prompt


def shape(manifest: EnvironmentManifest, path: Path) -> None:
    """Make the agent answer with an object of the JSON Schema in a file. Raises ConfigError if it
    is not a schema of an object, and Fault if the agent cannot."""
    option = "--output-schema"
    if "parse" not in manifest.stages:
        raise Fault(f"{option}: this agent has no parse stage to read answers")
    if "evaluate" in manifest.stages:
        judged = manifest.stages["evaluate"].strategies.get("strategy", "accept")
        if judged not in ("accept", "structured_output"):
            raise Fault(
                f"{option}: this agent's answers are evaluated in another way ({judged})",
                hint="Use --preset agent.",
            )
    schema = cast("dict[str, JsonValue]", {**read_document(path)})
    compile_schema(schema, f"{option}: {path}")
    answer_in_form(manifest, schema)


def equip(manifest: EnvironmentManifest, names: str) -> None:
    """Set the agent's shipped tools: names or groups, separated by commas. A group does not include
    tools that need something which is not configured here."""
    wanted = [name.strip() for name in names.split(",")] if names.strip() else []
    if "" in wanted:
        raise Fault(f"--tools: there is an empty name in {names!r}")
    if wanted and "tool" not in manifest.stages:
        raise Fault("--tools: this agent has no tool stage", hint="Use --preset chat or agent.")
    there = [tool for tool in builtin_tools(wanted) if tool.name in wanted or tool.configured()]
    manifest.tools.built_in = [str(tool.name) for tool in there]


def rules_for(texts: Iterable[str], manifest: EnvironmentManifest) -> list[Rule]:
    """The rules of `--allow`. Raises Fault for one that applies to none of the agent's tools."""
    names = [str(tool.name) for tool in builtin_tools(manifest.tools.built_in)]
    names += [tool.name for tool in manifest.tools.ad_hoc]
    rules: list[Rule] = []
    for text in texts:
        try:
            rule = Rule.parse(text)
        except ConfigError as error:
            raise Fault(f"--allow: {error}") from None
        if rule.tool not in names:
            known = f"It has: {', '.join(names)}" if names else "It has no tools"
            raise Fault(
                f"--allow {text}: this agent has no tool {rule.tool!r}"
                f"{suggest(rule.tool, names) or '.'} {known}"
            )
        rules.append(rule)
    return rules


def names(texts: Iterable[str]) -> tuple[str, ...]:
    """Names given one by one, or separated by commas."""
    return tuple([name.strip() for text in texts for name in text.split(",") if name.strip()])


def variables(texts: Iterable[str]) -> dict[str, str]:
    """The environment variables of these names, which a manifest may refer to. Raises Fault for one
    that is not set."""
    wanted = names(texts)
    if unset := [name for name in wanted if name not in os.environ]:
        raise Fault(
            f"--env {unset[0]}: this variable is not set",
            hint=f"export {unset[0]}=...",
            code=ExecutorErrorCode.EXEC_PIPELINE_INVALID_MANIFEST.value,
        )
    return {name: os.environ[name] for name in wanted}


def filled(manifest: EnvironmentManifest, env: Iterable[str]) -> EnvironmentManifest:
    """The manifest with these environment variables substituted, to know its model. Raises Fault if
    the model refers to a variable that was not given."""
    given = variables(env)
    for path, absent in missing(manifest, given).items():
        if path.startswith("model."):
            raise Fault(
                f"{path}: nothing is given for ${{{absent[0]}}}",
                hint=f"Add --env {absent[0]}.",
                code=ExecutorErrorCode.EXEC_PIPELINE_INVALID_MANIFEST.value,
            )
    return with_variables(manifest, given)


def spec_of(manifest: EnvironmentManifest, host: Host) -> ModelSpec:
    """The model of a manifest (the first, if it names several), with its provider. Raises
    ConfigError."""
    return first(assembly.spec_of(manifest), host)


def first(spec: str, host: Host) -> ModelSpec:
    """The model that a spec (also a chain, tier or alias) asks first. Raises ConfigError."""
    models = host.models()
    return models.parse(models.expand(spec)[0])


def connect(
    manifest: EnvironmentManifest,
    base_url: str | None,
    key_variable: str | None,
    world: World,
    host: Host,
    *,
    again: bool = False,
) -> Models:
    """The models of a run; `again`: of a run that is resumed or forked. Raises ConfigError or Fault
    for an unknown provider, a missing key or a missing SDK, so before the run starts.

    A key in the environment is sent only to the vendor's own address. To another address
    (`--base-url`) only the key that `--api-key-env` names is sent.
    """
    parsed = spec_of(manifest, host)
    given: dict[str, ProviderCredentials] = {}
    if key_variable is not None:
        key = os.environ.get(key_variable, "").strip()
        if not key:
            raise Fault(
                f"--api-key-env: the variable {key_variable} is not set, or is empty",
                hint=f"export {key_variable}=...",
                code=ExecutorErrorCode.EXEC_API_NO_CLIENT.value,
            )
        given[parsed.provider] = ProviderCredentials(key, base_url or "")
    elif base_url:
        given[parsed.provider] = ProviderCredentials(NO_KEY, base_url)
    bundle = CredentialBundle(given)
    models = host.models(bundle, world)
    remember_secrets(models.secrets())
    spec = assembly.spec_of(manifest)
    try:
        models.targets(spec)
    except ConfigError as error:
        text, *others = models.expand(spec)
        if others:
            raise Fault(str(error), hint=error.hint, code=error.code.value) from None
        provider = models.unknown_provider(text) or parsed.provider
        if provider in VARIABLES and provider not in {*LOCAL, *host.providers}:
            if not bundle.has(provider):
                guess = text if parsed.is_guess(text) else ""
                raise _no_key(provider, bundle, guess, again=again) from None
        elif provider not in models.available():
            hint = (
                "A server of your own that talks like OpenAI's: -m openai:NAME --base-url URL, or"
                " describe it in a host file: lorimer models ls"
            )
            raise Fault(str(error), hint=hint, code=error.code.value) from None
        raise
    return models


def _no_key(provider: str, bundle: CredentialBundle, guess: str, *, again: bool) -> Fault:
    """The error for a missing key. `guess`: the spec, if its provider was only guessed. `again`:
    the run is resumed or forked, so its model is that of the original run."""
    variable = VARIABLES[provider][0]
    others = [name for name in bundle.providers if name != provider]
    hint = f"export {variable}=..."
    if others:
        hint += f", or choose a model of {' or '.join(others)} with --model, whose key is set"
    else:
        hint += "; without any key: lorimer demo"
    if guess and again:
        hint = (
            f"If {guess!r} was a tier or an alias, name its host file: --models FILE; else {hint}"
        )
    elif guess:
        hint = f"If {guess!r} is a model of another one: -m PROVIDER:{guess}; else {hint}"
    return Fault(
        f"no API key for the provider {provider!r}: set {variable}",
        code=ExecutorErrorCode.EXEC_API_NO_CLIENT.value,
        hint=hint,
    )
