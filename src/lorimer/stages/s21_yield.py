"""Stage 21, Yield: what the caller gets."""

from __future__ import annotations

import json
import re
from typing import Final, Literal
from unicodedata import category

from pydantic import Field

from lorimer.core.jsonable import plain
from lorimer.core.stage import Settings, Slot, Stage, Strategy
from lorimer.core.state import FEEDBACK, SCORE, PipelineState
from lorimer.journal.outcome import texts_said

SUBSTANTIVE: Final = 40
"""Minimum characters of a text that can replace an answer that only points back to it."""
POINTER: Final = 120
"""Maximum characters of an answer that only points back."""

_JUDGED: Final = (SCORE, FEEDBACK)
_WHERE: Final = r"(above|earlier|before|previously|(in )?(my|the) (previous|last|earlier) \w+)"
_SAID: Final = (
    r"(said|stated|mentioned|described|noted|shown|explained|written|listed|outlined|given|"
    r"provided|answered|posted|delivered|reported|summari[sz]ed)"
)
_IT: Final = (
    r"((the|my|full|final|complete) )*"
    r"(answer|report|results?|summary|response|reply|analysis|findings|details|output|list|plan)"
)
_BACK: Final = re.compile(
    r"\W*(done\W+|ok(ay)?\W+|yes\W+)?("
    rf"(please )?(see|refer to|check|read) ({_IT} )?{_WHERE}"
    rf"|(same |just )?as ((i|was|is|already) )*({_SAID} )?{_WHERE}"
    rf"|{_IT} (is|are|was|were|(has|have) been) (already )?({_SAID} )?{_WHERE}"
    rf"|(i have|(it|this|that) (is|was|has been)) (already )?{_SAID} ((it|this|that) )?{_WHERE}"
    r")\W*",
    re.IGNORECASE,
)


class Formatter(Strategy):
    """Makes the output."""

    def format(self, state: PipelineState) -> object:
        """`result.output`."""
        raise TypeError(f"{type(self).__name__} has no format method")


class DefaultFormatter(Formatter):
    """The parser's result, else the text."""

    name = "default"
    description = "The parsed value if there is one, else the text."

    def format(self, state: PipelineState) -> object:
        return state.text if state.output is None else state.output


class SubstantiveFormatter(DefaultFormatter):
    """The answer; if it is empty, or only points back, the one that it points to. A reply without
    any text is a failure of the provider, which is not handled here."""

    name = "substantive"
    description = (
        "As default; but where the last reply has no word, or only a few that point back (`see "
        "above`), the last text of the run that says something. No further call is made."
    )

    def format(self, state: PipelineState) -> object:
        if state.output is not None or not _points_back(state.text):
            return super().format(state)
        texts = [text for text in texts_said(state.run.facts) if len(text) >= SUBSTANTIVE]
        return next((text for text in reversed(texts) if not _points_back(text)), state.text)


def _points_back(text: str) -> bool:
    text = text.strip()
    if len(text) > POINTER:
        return False
    silent = all(category(each)[0] in "PZC" for each in text)  # punctuation and space
    return silent or _BACK.fullmatch(text) is not None


class StructuredFormatter(DefaultFormatter):
    """The answer with metadata."""

    name = "structured"
    description = (
        "A dict: text, output, model, iterations, usage, total_cost_usd; and, where stage 14 has "
        "judged it, evaluation_score and evaluation_feedback."
    )

    def format(self, state: PipelineState) -> object:
        return {
            "text": state.text,
            "output": super().format(state),
            "model": state.response.model if state.response is not None else "",
            "iterations": state.run.bounds.turns,
            "usage": state.usage.to_json(),
            "total_cost_usd": state.cost_usd,
            **{name: state.shared[name] for name in _JUDGED if name in state.shared},
        }


class MultiFormat(StructuredFormatter):
    """The answer in several forms at once."""

    name = "multi_format"
    description = "A dict with the answer as each of formats: text, structured, markdown."

    class Config(Settings):
        formats: list[Literal["text", "structured", "markdown"]] = Field(
            ["text", "structured", "markdown"], min_length=1
        )
        include_thinking: bool = False
        """`markdown` begins with the model's reasoning, as kept by stage 8."""

    config: Config

    def format(self, state: PipelineState) -> object:
        made = {
            "text": lambda: state.text,
            "structured": lambda: super(MultiFormat, self).format(state),
            "markdown": lambda: self._markdown(state),
        }
        return {name: made[name]() for name in self.config.formats}

    def _markdown(self, state: PipelineState) -> str:
        parts: list[str] = []
        if self.config.include_thinking and state.thinking:
            lines = "\n\n".join(state.thinking).splitlines()
            parts.append("\n".join([f"> {line}".rstrip() for line in lines]))
        parts.append(state.text)
        if state.output is not None and not isinstance(state.output, str):
            shown = json.dumps(plain(state.output), indent=2, ensure_ascii=False)
            parts.append(f"```json\n{shown}\n```")
        return "\n\n".join([part for part in parts if part])


class YieldStage(Stage[object, object]):
    """Fills `state.output` and returns it."""

    name = "yield"
    order = 21
    category = "egress"

    formatter = Slot(
        Formatter,
        default="default",
        known={
            "default": "lorimer.stages.s21_yield:DefaultFormatter",
            "multi_format": "lorimer.stages.s21_yield:MultiFormat",
            "substantive": "lorimer.stages.s21_yield:SubstantiveFormatter",
            "structured": "lorimer.stages.s21_yield:StructuredFormatter",
        },
    )

    async def execute(self, input: object, state: PipelineState) -> object:
        state.output = self.formatter.format(state)
        if state.run.wants("yield.complete"):
            state.run.signal("yield.complete", {"text_length": len(state.text)})
        return state.output
