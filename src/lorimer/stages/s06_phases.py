"""Stage 6, API, alternative implementation: instead of a model call, sub-agents work one after the
other, each as a phase of the run. How they run: `core/children.py`; how a host declares them:
`run/phases.py`.

A completed phase is recorded, so a resumed run does not repeat it, and continues with the one that
was interrupted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final

from pydantic import Field

from lorimer.core.children import ChildEnd
from lorimer.core.context import Safety
from lorimer.core.errors import (
    ExecutorErrorCode,
    LimitError,
    LorimerError,
    StageError,
    error_from_json,
    nearest,
)
from lorimer.core.facts import PHASE
from lorimer.core.jsonable import JSON, canonical
from lorimer.core.manifest import EnvironmentManifest
from lorimer.core.messages import Message, TextBlock, ToolResultBlock
from lorimer.core.request import Response
from lorimer.core.stage import Settings, Stage
from lorimer.core.state import PipelineState

QUERY: Final = "query"
"""In a prompt: the input of the run."""
MAX_TAIL: Final = 8_000
"""Characters that are salvaged from a phase that ran out of turns."""

_STOPPED: Final = ("cancelled", "timeout", "killed", "budget_exceeded")
"""Endings of a phase that end the run in the same way, even for an optional phase."""
_NOT_BEGUN: Final = (
    ExecutorErrorCode.EXEC_CHILD_ANCESTOR,
    ExecutorErrorCode.EXEC_CHILD_DEPTH,
    ExecutorErrorCode.EXEC_CHILD_DESCENDANTS,
)
"""Why a phase may not begin, which is a failure like any other."""
_OUTPUTS: Final = "phases"
"""In `state.shared`: the outputs of phases."""
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,49}")
_NAMES: Final = re.compile(r"\{\{([A-Za-z_]\w*)\}\}|\{([A-Za-z_]\w*)\}", re.ASCII)


class Phase(Settings):
    """One phase."""

    name: str
    """The name by which later prompts refer to its output."""
    agent: str
    """The sub-agent that executes it."""
    prompt: str = ""
    """Its system prompt, appended to that of the sub-agent. `{query}` stands for the run's input,
    `{name}` for the output of an earlier phase, `{{name}}` for the literal word in braces."""
    optional: bool = False
    """If it fails, `fallback` is its output, and the run continues."""
    fallback: str = ""


class PhasesStage(Stage[object, object]):
    """Runs sub-agents one after the other; the answer of the last one is the answer."""

    name = "api"
    order = 6
    category = "execution"

    class Config(Settings):
        phases: list[Phase] = Field(min_length=1, max_length=50)

    config: Config

    def check(self, manifest: EnvironmentManifest) -> Iterable[str]:
        agents = [agent.name for agent in manifest.agents]
        where = f"stages[{self.order}].config.phases"
        for at, phase in enumerate(self.config.phases):
            if phase.agent not in agents:
                who = nearest(phase.agent, agents)
                yield f"{where}[{at}].agent: there is no sub-agent {phase.agent!r}{who}"
        named = [(phase.name, phase.prompt) for phase in self.config.phases]
        yield from [f"{where}{fault}" for fault in faults(named)]

    async def execute(self, input: object, state: PipelineState) -> object:
        phases = list(enumerate(self.config.phases))
        told = state.shared.get(_OUTPUTS)
        outputs: dict[str, str] = {}
        if isinstance(told, Mapping):
            outputs = {name: str(text) for name, text in told.items()}
        given = _given(state)
        if state.iteration:  # a hook or a person asks for more: of the phase that answered
            phases = phases[-1:]
        for at, phase in phases:
            values = {**outputs, QUERY: str(given.get("text", ""))}
            asked = {**given, "system": filled(phase.prompt, values)}
            data = await state.run.effect(
                PHASE,
                str(at),
                partial(_work, phase, asked, f"{PHASE}{at}", state),
                request=canonical({"agent": phase.agent, "input": asked}),
                safety=Safety.READ_ONLY,
            )
            state.text = outputs[phase.name] = str(data.get("output", ""))
        state.shared[_OUTPUTS] = dict(outputs)
        state.response = Response((TextBlock(state.text),) if state.text else ())
        return input


async def _work(
    phase: Phase, asked: Mapping[str, JSON], key: str, state: PipelineState
) -> Mapping[str, JSON]:
    """Run one phase; returns its fact. Raises whatever ends the run."""
    children = state.run.children
    if children is None:
        raise StageError("Nobody runs sub-agents here.", stage_name=PhasesStage.name, stage_order=6)
    try:
        end = await children.call(phase.agent, asked, key)
    except LimitError as error:
        if not phase.optional or error.code not in _NOT_BEGUN:
            raise
        end = ChildEnd("", phase.agent, "error", code=error.code, message=error.message)
    told: dict[str, JSON] = {"name": phase.name, "status": end.status}
    if end.status == "ok":
        return {**told, "output": end.text}
    if end.code is not None:
        told["code"] = end.code.value
    if end.status not in _STOPPED:
        if phase.optional:
            return {**told, "output": phase.fallback, "instead": "fallback"}
        if end.code is ExecutorErrorCode.EXEC_LOOP_MAX_TURNS:
            tail = tail_of(await children.transcript(end))
            return {**told, "output": tail, "instead": "salvaged"}
    raise _failure(phase, end)


def _failure(phase: Phase, end: ChildEnd) -> LorimerError:
    code = (end.code or ExecutorErrorCode.EXEC_STAGE_FAILED).value
    return error_from_json(
        {"code": code, "message": f"The phase {phase.name!r} ended as {end.status}: {end.message}"}
    )


def _given(state: PipelineState) -> dict[str, JSON]:
    """The input as given to a phase, followed by later messages."""
    asked = state.input
    given: dict[str, JSON] = dict(asked) if isinstance(asked, Mapping) else {"text": asked}
    if state.iteration and state.messages:
        given["text"] = f"{given.get('text', '')}\n\n{state.messages[-1].text}"
    return given


def faults(phases: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Faults in the names and prompts of phases, as `[index].field: reason`."""
    known = [QUERY]
    for at, (name, prompt) in enumerate(phases):
        if name == QUERY:
            yield f"[{at}].name: {QUERY!r} is reserved for the run's input"
        elif not _NAME.fullmatch(name):
            yield f"[{at}].name: {name!r} is not a word of letters, digits and _"
        for each in names_in(prompt):
            if each not in known:
                yield (
                    f"[{at}].prompt: {{{each}}} is not an earlier phase{nearest(each, known)} "
                    f"Write {{{{{each}}}}} for the word in braces"
                )
        known.append(name)


def names_in(prompt: str) -> list[str]:
    """The names in braces in a prompt, in order."""
    return [found[2] for found in _NAMES.finditer(prompt) if found[2]]


def filled(prompt: str, values: Mapping[str, str]) -> str:
    """A prompt with its names replaced by values. Values are inserted unchanged: names in them, and
    other uses of braces, are kept. Raises KeyError for a name without a value."""
    return _NAMES.sub(lambda found: values[found[2]] if found[2] else f"{{{found[1]}}}", prompt)


def tail_of(messages: Sequence[Message]) -> str:
    """The last messages and results, at most `MAX_TAIL` characters."""
    parts: list[str] = []
    left = MAX_TAIL
    texts = [text for message in messages[1:] for text in _texts(message)]  # the first is the task
    for text in reversed(texts):
        if left > 0:
            parts.append(text[-left:])
            left -= len(parts[-1])
    return "\n\n".join(reversed(parts))


def _texts(message: Message) -> Iterator[str]:
    for block in message.content:
        parts: Sequence[object] = (block,)
        if isinstance(block, ToolResultBlock):
            content = block.content
            parts = (TextBlock(content),) if isinstance(content, str) else content
        yield from [p.text for p in parts if isinstance(p, TextBlock) and p.text.strip()]
