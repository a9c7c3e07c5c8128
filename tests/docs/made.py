"""Parts of pages that are made from the code, so that they cannot be wrong.

`LORIMER_WRITE_DOCS=1 pytest tests/docs` writes them into the pages; without it the tests compare.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields
from importlib import import_module
from itertools import groupby
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import click
from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, RootModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from lorimer import Pipeline, PipelinePresets
from lorimer.assembly import PipelineOptions, RunOptions
from lorimer.cli.app import lorimer
from lorimer.core import adhoc
from lorimer.core import manifest as manifest_module
from lorimer.core.events import Event
from lorimer.core.field_notes import Notes
from lorimer.core.limits import Limits
from lorimer.core.messages import TextBlock, ToolUse
from lorimer.core.stage import Slot, Stage, Strategy
from lorimer.models import Models
from lorimer.stages.catalogue import CATALOGUE
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from lorimer.tools import EFFECTS, Tool, builtin_tools, tool
from lorimer.tools.builtin import CATALOGUE as BUILT_IN
from lorimer.tools.builtin import GROUPS

# --- the manifest ----------------------------------------------------------------------------

PARTS = {
    "`metadata`": manifest_module.Metadata,
    "`model`": manifest_module.ModelConfig,
    "`tools`": manifest_module.ToolsConfig,
    "`tools.ad_hoc[]` of kind `http`": adhoc.HttpTool,
    "`tools.ad_hoc[]` of kind `script`": adhoc.ScriptTool,
    "`tools.ad_hoc[]` of kind `template`": adhoc.TemplateTool,
    "`tools.ad_hoc[]` of kind `composite`": adhoc.CompositeTool,
    "`steps[]` of a composite": adhoc.CompositeStep,
    "`permissions`": manifest_module.PermissionsConfig,
    "`agents[]`": manifest_module.SubAgent,
    "`stages[]`": manifest_module.StageEntry,
}


def manifest_fields() -> str:
    """A table for every part of a manifest: field, type, default, meaning."""
    manifest_module.SubAgent.model_rebuild()  # it names the whole, and knows it only then
    tables = [f"### {name}\n\n{_model_table(part)}" for name, part in PARTS.items()]
    tables.insert(2, f"### `limits`\n\n{_limits_table()}")
    return "\n\n".join(tables)


def _model_table(model: type[BaseModel]) -> str:
    notes = Notes().of(model)
    rows = [
        (f"`{name}`", _type(info.annotation, info.metadata), _default(info), notes.get(name, ""))
        for name, info in model.model_fields.items()
    ]
    return _table(("Field", "Type", "Default", "Meaning"), rows)


def _limits_table() -> str:
    hints, notes = get_type_hints(Limits), Notes().of(Limits)
    rows = [
        (f"`{f.name}`", _type(hints[f.name]), _value(f.default), notes.get(f.name, ""))
        for f in fields(Limits)
    ]
    assert all(f.default is not MISSING for f in fields(Limits))
    return _table(("Field", "Type", "Default", "Meaning"), rows)


def shipped_tools() -> str:
    """The built-in tools and the groups they are in."""
    rows = []
    for name in BUILT_IN:
        tool = builtin_tools([name])[0]
        groups = ", ".join(f"`{group}`" for group, names in GROUPS.items() if name in names)
        effects = "all" if tool.effects == EFFECTS else " ".join(sorted(tool.effects))
        effects += ", idempotent" if tool.idempotent else ""
        rows.append((f"`{name}`", _inputs(tool), effects or "none", groups, _sentence(type(tool))))
    return _table(("Tool", "Inputs", "Effects", "Groups", "Does"), rows)


def _inputs(tool: Tool) -> str:
    schema = tool.input_schema
    required = schema.get("required", ())
    return " ".join(f"`{name}`{'*' * (name in required)}" for name in schema["properties"])


# --- options ---------------------------------------------------------------------------------

TAKERS: Mapping[str, Callable[..., object]] = {
    "`Pipeline`": Pipeline.__init__,
    "`from_manifest`": Pipeline.from_manifest,
    "`minimal`": PipelinePresets.minimal,
    "`chat`": PipelinePresets.chat,
    "`agent`": PipelinePresets.agent,
    "`evaluator`": PipelinePresets.evaluator,
    "`coding`": PipelinePresets.coding,
}
OF_MANIFESTS = ("`Pipeline`", "`from_manifest`")
"""Those that are given one; the others are presets, which write it."""

OWN_OPTIONS = {
    "tools": "Tools of your own, for the model to call. Passing them is the grant to run them.",
    "catalogue": "Stages and strategies that a manifest may name, instead of the shipped ones.",
    "model": "Which model: `provider:model`, or a bare name.",
    "model_settings": "How it answers: `max_tokens`, `temperature`, `stop_sequences` and the other "
    "fields of [`model`](manifest.md#model).",
    "system_prompt": "What the model is told before the conversation.",
    "max_turns": "Model calls of one run at most, with their tool calls.",
    "built_in": "Names of shipped tools, or of groups of them; they need a `workspace`.",
    "output_schema": "The answer is data of this form, in `result.output`: a BaseModel, dataclass "
    "or TypedDict, or the JSON Schema of an object; see docs/models.md.",
    "criteria": "What an answer is judged by: name to what is looked for.",
    "judge": "Which model judges; by default the one that answers.",
    "pass_threshold": "The score, from 0 to 1, from which on an answer is accepted.",
    "max_retries": "How often an answer is sent back; after that it counts as it is.",
    "base_url": "Where the model's provider is, if not at its vendor's address.",
    "credentials": "Keys and addresses, by provider; instead of `api_key` and `base_url`.",
    "world": "Clock, ids, dice, HTTP and processes; the real ones by default.",
}
"""What options mean for which `PipelineOptions` has no string."""


SHARED = (PipelineOptions, RunOptions)
"""Where the options are written; the first has them all."""


def options() -> str:
    """What a pipeline may be given, with those that take it."""
    notes = {**OWN_OPTIONS, **Notes().of(PipelineOptions), **Notes().of(RunOptions)}
    written = {name: each for each in SHARED for name in inspect.get_annotations(each)}
    shared = list(PipelineOptions.__annotations__)
    kinds = {name: _source(written[name], name) for name in shared}
    takers: dict[str, list[str]] = {name: [] for name in shared}
    for taker, function in TAKERS.items():
        for name, parameter in inspect.signature(function).parameters.items():
            if parameter.kind is parameter.VAR_KEYWORD:
                for option in shared:
                    takers[option].append(taker)
            elif parameter.kind is parameter.KEYWORD_ONLY:
                takers.setdefault(name, []).append(taker)
                kinds.setdefault(name, str(parameter.annotation).removesuffix(" | None"))
    assert set(OWN_OPTIONS) <= set(takers), "a meaning is told of an option that is not there"
    rows = [(f"`{name}`", f"`{kinds[name]}`", _who(by), notes[name]) for name, by in takers.items()]
    return _table(("Option", "Type", "Taken by", "Meaning"), rows)


def _source(kind: type, name: str) -> str:
    """The type of an attribute, as it is written."""
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(body, ast.ClassDef)
    return next(
        ast.unparse(item.annotation)
        for item in body.body
        if isinstance(item, ast.AnnAssign) and ast.unparse(item.target) == name
    )


def _who(takers: list[str]) -> str:
    of_presets = takers[0] not in OF_MANIFESTS
    whom = [taker for taker in TAKERS if not (of_presets and taker in OF_MANIFESTS)]
    others = [taker for taker in whom if taker not in takers]
    if len(others) > 2:
        return ", ".join(takers)
    every = "all presets" if of_presets else "all"
    return f"{every} but {', '.join(others)}" if others else every


# --- commands --------------------------------------------------------------------------------


def commands() -> str:
    """Every command that is listed, with what it takes and the first sentence of its help."""
    return _table(("Command", "Does"), _commands(lorimer, ["lorimer"]))


def _commands(command: click.Command, path: list[str]) -> Iterable[tuple[str, str]]:
    context = click.Context(command)
    if not isinstance(command, click.Group):
        pieces = [one for one in command.collect_usage_pieces(context) if one != "[OPTIONS]"]
        yield f"`{' '.join([*path, *pieces])}`", command.get_short_help_str(1000)
        return
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        if not found.hidden:
            yield from _commands(found, [*path, name])


# --- stages ----------------------------------------------------------------------------------


def stages() -> str:
    """Every stage with its configuration, slots, strategies and theirs."""
    return "\n\n".join(_stage(name, order, target) for name, (order, target) in CATALOGUE.items())


def _stage(name: str, order: int, target: str) -> str:
    kind: type[Stage[object, object]] = _load(target)
    often = " Runs before every model call." if kind.every_call else ""
    parts = [f"### {order} `{name}`\n\n{_sentence(kind)}{often}"]
    if kind.Config is not None and kind.Config.model_fields:
        parts.append(f"Its own `config`:\n\n{_config_table(kind.Config)}")
    slots = kind.slots()
    if slots:
        rows = [row for slot in slots.values() for row in _strategies(slot)]
        parts.append(_table(("Slot", "Strategy", "Does", "Configuration"), rows))
    return "\n\n".join(parts)


def _strategies(slot: Slot[Strategy]) -> Iterable[tuple[str, ...]]:
    label = f"`{slot.name}`" + (" (list)" if slot.chain else "")
    for name, target in slot.known.items():
        kind: type[Strategy] = _load(target)
        assert kind.name == name, f"{target} calls itself {kind.name!r}, the slot {name!r}"
        chosen = " (default)" if name in slot.default else ""
        yield label, f"`{name}`{chosen}", kind.description, _config_cell(kind.Config)


def _config_table(model: type[BaseModel]) -> str:
    notes = Notes().of(model)
    rows = [
        (f"`{name}`", _type(info.annotation, info.metadata), _default(info), notes.get(name, ""))
        for name, info in model.model_fields.items()
    ]
    return _table(("Field", "Type", "Default", "Meaning"), rows)


def _config_cell(model: type[BaseModel] | None) -> str:
    if model is None:
        return ""
    notes = Notes().of(model)
    cells: list[str] = []
    for name, info in model.model_fields.items():
        required = info.default is PydanticUndefined and info.default_factory is None
        default = "required" if required else f"= {_default(info)}"
        note = f": {notes[name]}" if name in notes else ""
        cells.append(
            f"`{info.alias or name}` {_type(info.annotation, info.metadata)} {default}"
            f"{note.rstrip('.')}"
        )
    return "<br>".join(cells)


def _load(target: str) -> Any:
    module, _, name = target.partition(":")
    return vars(import_module(module))[name]


# --- events ----------------------------------------------------------------------------------


def event_order() -> str:
    """The events of a run with one tool call, stage by stage; `#n` is a fact's number."""

    @tool(effects=["write"])
    async def note(text: str) -> str:
        return f"noted {text}"

    async def run(world: SimulatedWorld) -> list[Event]:
        replies = [
            [TextBlock("I write it down."), ToolUse("call_1", "note", {"text": "milk"})],
            "It is noted.",
        ]
        model = ScriptedModel(replies)
        pipeline = PipelinePresets.agent(
            model="scripted:m",
            models=Models(providers={"scripted": model}),
            tools=[note],
            world=world,
        )
        return [event async for event in pipeline.run_stream("Note: milk.")]

    lines: list[str] = []
    inside = False
    for (kind, stage, seq), same in groupby(
        simulate(run), key=lambda event: (event.type, event.stage, event.seq)
    ):
        many = " ..." if len(list(same)) > 1 else ""
        match kind:
            case "stage.enter":
                lines.append(f"{stage:<9}")
                inside = True
            case "stage.exit":
                inside = False
            case "stage.bypass":
                lines.append(f"{stage:<9} (bypassed)")
            case _:
                if not inside:
                    lines.append(" " * 9)
                lines[-1] += f" {kind}{many}" if seq is None else f" {kind} #{seq}"
    return "```text\n" + "\n".join(lines) + "\n```"


# --- how things are told ---------------------------------------------------------------------


def _sentence(kind: type) -> str:
    text = " ".join((inspect.getdoc(kind) or "").split())
    assert text, f"{kind.__name__} has no docstring"
    return text


def _type(hint: object, bounds: Iterable[object] = ()) -> str:
    limits = list(bounds)
    text = _plain(hint, limits)
    said = [sign for bound in limits if (sign := _bound(bound))]
    return f"{text}, {' and '.join(said)}" if said else text


def _bound(bound: object) -> str:
    match bound:
        case Ge():
            return f"at least {bound.ge}"
        case Gt():
            return f"more than {bound.gt}"
        case Le():
            return f"at most {bound.le}"
        case Lt():
            return f"less than {bound.lt}"
        case _:
            return ""


def _plain(hint: object, bounds: list[object]) -> str:
    origin, args = get_origin(hint), get_args(hint)
    if hasattr(hint, "__metadata__"):
        for item in hint.__metadata__:  # type: ignore[attr-defined]
            bounds.extend(item.metadata if isinstance(item, FieldInfo) else [item])
        return _plain(args[0], bounds)
    if origin in (Union, types.UnionType):
        return " or ".join(_plain(arg, bounds) for arg in args)
    if origin is Literal:
        return " or ".join(f"`{arg!r}`" for arg in args)
    if origin is list:
        return f"list of {_plain(args[0], bounds)}"
    if origin is dict:
        return f"mapping of {_plain(args[1], bounds)}"
    if hint is type(None):
        return "nothing"
    if hint is adhoc.CompositeStep:
        return "steps"
    if isinstance(hint, type) and hint.__module__ == adhoc.__name__:
        return f"`{hint.model_fields['kind'].annotation.__args__[0]}`"
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return _shape(hint)
    name = getattr(hint, "__name__", "") or str(hint)
    return {"str": "text", "int": "whole number", "float": "number", "bool": "true or false"}.get(
        name, "any JSON value"
    )


def _shape(model: type[BaseModel]) -> str:
    """A small model as `{type, text, title}`."""
    assert not issubclass(model, RootModel)
    kinds = [
        get_args(info.annotation) for name, info in model.model_fields.items() if name == "type"
    ]
    names = [name for name in model.model_fields if name != "type"]
    head = [f"type: {kinds[0][0]}"] if kinds else []
    return "`{" + ", ".join([*head, *names]) + "}`"


def _default(info: FieldInfo) -> str:
    if info.default_factory is not None:
        return _value(info.default_factory())  # type: ignore[call-arg]
    return "" if info.default is PydanticUndefined else _value(info.default)


def _value(value: object) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case str():
            return f"`{value}`" if value else '`""`'
        case int() | float():
            return f"{value:,}"
        case _:
            return f"`{value}`"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("\n", " ").replace("|", "\\|") for cell in line) + " |"
        for line in lines
    )
