"""Presets: functions that write manifests, and pipelines made from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final, Unpack

from pydantic import JsonValue

from lorimer.assembly import PipelineOptions, ToolSource
from lorimer.core import plugins
from lorimer.core.arguments import each_of, is_a, wrong
from lorimer.core.bindings import ANSWER
from lorimer.core.errors import ConfigError, nearest
from lorimer.core.manifest import (
    DEFAULT_MODEL,
    EnvironmentManifest,
    ModelSettings,
    StageEntries,
    StageEntry,
    ToolsConfig,
)
from lorimer.pipeline import Pipeline
from lorimer.stages.catalogue import CATALOGUE

MINIMAL: Final = ("input", "api", "parse", "yield")
CHAT: Final = (
    "input",
    "context",
    "system",
    "guard",
    "cache",
    "api",
    "token",
    "parse",
    "tool",
    "loop",
    "memory",
    "yield",
)
AGENT: Final = tuple(CATALOGUE)
VTUBER: Final = "geny_vtuber"
"""The preset of the example package."""

EVALUATOR: Final = ("input", "system", "api", "token", "parse", "evaluate", "yield")

CODING_PROMPT: Final = (
    "You work in a folder through tools, until the task is done. Look before you change anything, "
    "and use paths relative to the folder. Compute and analyse in steps (`step`): small ones, one "
    "purpose each, so that after an edit (`edit_step`) little runs again. Never repeat a step to "
    "see its value; end a new one with the name. When a step fails, mend the step at fault. Run "
    "the project's own programs and tests with Bash. A call that was refused stays refused. End "
    "with a short answer that says what you found or did."
)
"""The system prompt of the preset `coding`, unless another is given."""


def minimal_manifest(*, model: str = DEFAULT_MODEL) -> EnvironmentManifest:
    """Input, API, Parse, Yield: one question, one answer, no memory."""
    return _manifest("minimal", MINIMAL, model, "")


def chat_manifest(
    *, model: str = DEFAULT_MODEL, system_prompt: str = "", max_turns: int = 20
) -> EnvironmentManifest:
    """A conversation with memory of earlier runs, with tools and a memory store if given."""
    return _manifest("chat", CHAT, model, system_prompt, max_turns)


def agent_manifest(
    *,
    model: str = DEFAULT_MODEL,
    system_prompt: str = "",
    max_turns: int = 50,
    output_schema: type[object] | Mapping[str, JsonValue] | None = None,
) -> EnvironmentManifest:
    """All stages: an agent that works autonomously with tools. With an `output_schema` its answer
    is data of this form, and is returned to the model with the reason if it does not conform."""
    manifest = _manifest("agent", AGENT, model, system_prompt, max_turns)
    if output_schema is not None:
        answer_in_form(manifest, output_schema)
    manifest.stages["cache"].strategies["strategy"] = "aggressive_cache"
    # builds and test suites take time; for more than 2 minutes the model sets a timeout itself
    manifest.limits = replace(manifest.limits, tool_timeout_s=600.0)
    return manifest


def answer_in_form(
    manifest: EnvironmentManifest,
    schema: type[object] | Mapping[str, JsonValue],
    **evaluate: JsonValue,
) -> None:
    """Make an agent answer with data of this form: a BaseModel, a dataclass, a TypedDict, or the
    JSON Schema of an object. An invalid answer is returned to the model; how often, and how the run
    ends then, is decided by stage 14, whose settings are `evaluate`. Raises ConfigError for what
    does not describe an object, and for an agent that does not parse answers."""
    from lorimer.models.typed import object_schema  # imported only if one is wanted

    manifest.model.output_schema = object_schema(schema)
    manifest.stages["parse"].strategies["parser"] = "structured_output"
    if "evaluate" not in manifest.stages:
        entries = [*manifest.stages, StageEntry(order=CATALOGUE["evaluate"][0], name="evaluate")]
        manifest.stages = StageEntries(sorted(entries, key=lambda entry: entry.order))
    manifest.stages["evaluate"].strategies["strategy"] = "structured_output"
    manifest.stages["evaluate"].config.update(evaluate)


def evaluator_manifest(
    *,
    model: str = DEFAULT_MODEL,
    system_prompt: str = "",
    criteria: Mapping[str, str] | None = None,
    judge: str = "",
    pass_threshold: float = 0.7,
    max_retries: int = 2,
) -> EnvironmentManifest:
    """An answer that a model judges, improved until it is good enough: `criteria` maps names to
    what is judged; `judge` is the spec of the judging model, if it is a different one."""
    manifest = _manifest("evaluator", EVALUATOR, model, system_prompt, max_retries + 1)
    entry = manifest.stages["evaluate"]
    entry.config.update(max_retries=max_retries, pass_threshold=pass_threshold, on_failure="accept")
    entry.strategies["strategy"] = "agent_evaluation"
    settings: dict[str, JsonValue] = {}
    if criteria is not None and not is_a(criteria, Mapping):
        raise wrong("criteria", criteria, "a mapping", '{"clarity": "short sentences"}')
    if criteria:
        settings["criteria"] = dict(criteria)
    if judge:
        settings["model"] = judge
    if settings:
        entry.strategy_configs["strategy"] = settings
    manifest.stages["yield"].strategies["formatter"] = "structured"
    return manifest


def coding_manifest(
    *, model: str = DEFAULT_MODEL, system_prompt: str = "", max_turns: int = 50
) -> EnvironmentManifest:
    """An agent that works on files, runs programs, and computes in steps that depend on each other.
    Its tools need a workspace, and ask before they change something."""
    manifest = agent_manifest(
        model=model, system_prompt=system_prompt or CODING_PROMPT, max_turns=max_turns
    )
    manifest.metadata.name = manifest.metadata.base_preset = "coding"
    manifest.tools = ToolsConfig(built_in=["filesystem", "shell", "steps"])
    return manifest


PRESETS: Final[Mapping[str, Callable[..., EnvironmentManifest]]] = {
    "minimal": minimal_manifest,
    "chat": chat_manifest,
    "agent": agent_manifest,
    "evaluator": evaluator_manifest,
    "coding": coding_manifest,
}
"""Preset name to the function that writes its manifest."""


def _shipped(name: str) -> Callable[..., EnvironmentManifest] | None:
    return PRESETS.get(name)


def preset_names() -> list[str]:
    """The shipped presets, and those of installed packages."""
    return list(dict.fromkeys([*PRESETS, *plugins.offered(plugins.PRESETS)]))


def preset_manifest(
    name: str,
    *,
    model: str = DEFAULT_MODEL,
    model_settings: ModelSettings | None = None,
    **settings: JsonValue,
) -> EnvironmentManifest:
    """The manifest of a preset by name, shipped or from an installed package; `settings` are passed
    to the preset, `model_settings` become fields of its `model`. Raises ConfigError with the
    nearest names, and for a package whose preset is broken."""
    shipped = _shipped(name)
    if shipped is not None:
        return _tuned(shipped(model=model, **settings), model_settings)
    offered = plugins.find(plugins.PRESETS, name)
    if offered is None and name == VTUBER:
        raise ConfigError(
            f"the preset {VTUBER!r} comes with the package lorimer-vtuber, which is not installed",
            hint="It is the example of a plug-in: pip install ./examples/plugin",
        )
    if offered is None:
        raise ConfigError(f"there is no preset {name!r}{nearest(name, preset_names())}")
    if not callable(offered.value):
        raise offered.broken(f"it is {offered.value!r}, no function")
    try:
        made = offered.value(model=model, **settings)
    except ConfigError:
        raise
    except Exception as error:
        raise offered.broken(f"{type(error).__name__}: {error}", error) from error
    if not isinstance(made, EnvironmentManifest):
        raise offered.broken(f"it makes {made!r}, no EnvironmentManifest")
    return _tuned(made, model_settings)


class PipelinePresets:
    """Ready pipelines. Each accepts the options of `Pipeline` too. `model_settings` are fields of
    the manifest's `model`: `{"max_tokens": 500, "temperature": 0}`."""

    @staticmethod
    def minimal(
        *,
        model: str = DEFAULT_MODEL,
        model_settings: ModelSettings | None = None,
        **options: Unpack[PipelineOptions],
    ) -> Pipeline:
        """One question, one answer, one model call; no memory."""
        return Pipeline(_tuned(minimal_manifest(model=model), model_settings), **options)

    @staticmethod
    def chat(
        *,
        system_prompt: str = "",
        model: str = DEFAULT_MODEL,
        model_settings: ModelSettings | None = None,
        tools: ToolSource | None = None,
        max_turns: int = 20,
        **options: Unpack[PipelineOptions],
    ) -> Pipeline:
        """A conversation: every run remembers those before it."""
        manifest = chat_manifest(model=model, system_prompt=system_prompt, max_turns=max_turns)
        return Pipeline(_tuned(manifest, model_settings), tools=tools, **options)

    @staticmethod
    def agent(
        *,
        system_prompt: str = "",
        model: str = DEFAULT_MODEL,
        model_settings: ModelSettings | None = None,
        tools: ToolSource | None = None,
        built_in: str | Iterable[str] = (),
        max_turns: int = 50,
        output_schema: type[object] | Mapping[str, JsonValue] | None = None,
        **options: Unpack[PipelineOptions],
    ) -> Pipeline:
        """An agent with tools, in a conversation. `built_in` names shipped tools; those that change
        something ask first, or need rules. `output_schema`: the answer is data, in `result.output`;
        a BaseModel, a dataclass, a TypedDict, or the JSON Schema of an object. An invalid answer is
        returned to the model with the reason, at most twice; then the run ends in an error."""
        manifest = agent_manifest(
            model=model,
            system_prompt=system_prompt,
            max_turns=max_turns,
            output_schema=output_schema,
        )
        if built_in:
            named = each_of("built_in", built_in, str, '("Read", "Grep")')
            manifest.tools.built_in = [str(name) for name in named]
        if isinstance(output_schema, type):
            options["bindings"] = {**(options.get("bindings") or {}), ANSWER: (output_schema,)}
        return Pipeline(_tuned(manifest, model_settings), tools=tools, **options)

    @staticmethod
    def evaluator(
        *,
        system_prompt: str = "",
        model: str = DEFAULT_MODEL,
        model_settings: ModelSettings | None = None,
        criteria: Mapping[str, str] | None = None,
        judge: str = "",
        pass_threshold: float = 0.7,
        max_retries: int = 2,
        **options: Unpack[PipelineOptions],
    ) -> Pipeline:
        """Answers, lets a model judge the answer, and improves it until it reaches
        `pass_threshold`, at most `max_retries` times; the last answer counts in any case.
        `result.output` has the text with its `evaluation_score` (0 to 1) and
        `evaluation_feedback`."""
        manifest = evaluator_manifest(
            model=model,
            system_prompt=system_prompt,
            criteria=criteria,
            judge=judge,
            pass_threshold=pass_threshold,
            max_retries=max_retries,
        )
        return Pipeline(_tuned(manifest, model_settings), **options)

    @staticmethod
    def geny_vtuber(
        *,
        system_prompt: str = "",
        model: str = DEFAULT_MODEL,
        model_settings: ModelSettings | None = None,
        tools: ToolSource | None = None,
        max_turns: int = 50,
        **options: Unpack[PipelineOptions],
    ) -> Pipeline:
        """The agent with a persona, whose answers are turned into emotions and sentences to be
        spoken. The preset and its strategies come from a package: `examples/plugin`. Raises
        ConfigError if that is not installed."""
        manifest = preset_manifest(
            VTUBER, model=model, system_prompt=system_prompt, max_turns=max_turns
        )
        return Pipeline(_tuned(manifest, model_settings), tools=tools, **options)

    @staticmethod
    def coding(
        *,
        system_prompt: str = "",
        model: str = DEFAULT_MODEL,
        model_settings: ModelSettings | None = None,
        tools: ToolSource | None = None,
        max_turns: int = 50,
        **options: Unpack[PipelineOptions],
    ) -> Pipeline:
        """An agent that works on the files of its `workspace`, runs programs, and computes in steps
        that depend on each other (docs/esg.md). It asks before it changes or runs something, or
        needs rules; `permission_mode="sandboxed"` permits what runs in a sandbox."""
        manifest = coding_manifest(model=model, system_prompt=system_prompt, max_turns=max_turns)
        return Pipeline(_tuned(manifest, model_settings), tools=tools, **options)


def _tuned(manifest: EnvironmentManifest, settings: ModelSettings | None) -> EnvironmentManifest:
    """The manifest with these settings of its model."""
    if settings is None:
        return manifest
    if not is_a(settings, Mapping):
        raise wrong("model_settings", settings, "a mapping", '{"max_tokens": 500}')
    known = ModelSettings.__annotations__
    for name in settings:
        if name not in known:
            raise ConfigError(f"there is no model setting {name!r}{nearest(name, known)}")
    manifest.model = manifest.model.changed(settings)
    return manifest


def _manifest(
    preset: str,
    stages: tuple[str, ...],
    model: str,
    system_prompt: str,
    max_turns: int = 1,
) -> EnvironmentManifest:
    # as a whole: each part validated separately would build a validator of its own
    manifest = EnvironmentManifest.from_dict(
        {
            "metadata": {"name": preset, "base_preset": preset},
            "model": {"model": model},
            "limits": {"max_turns": max_turns},
            "stages": [{"order": CATALOGUE[name][0], "name": name} for name in stages],
        }
    )
    if system_prompt:
        manifest.stages["system"].config["prompt"] = system_prompt
    return manifest
