"""Classify a text with a small model."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Final

from pydantic import BaseModel

from lorimer.core.jsonable import JSON, dumps
from lorimer.tools.base import ToolContext, ToolInput, ToolResult
from lorimer.tools.builtin.meta import TEXT, TIER, MetaTool, cut

THRESHOLD: Final = 0.5

_SCHEMA: Final[dict[str, JSON]] = {
    "type": "object",
    "properties": {
        "text": TEXT,
        "categories": {
            "type": "array",
            "items": {"type": "string", "minLength": 1, "maxLength": 200},
            "minItems": 2,
            "maxItems": 50,
            "uniqueItems": True,
            "description": "Those to choose from",
        },
        "multi_label": {
            "type": "boolean",
            "description": "Several may hold at once (default false: one does)",
        },
        "instructions": {
            "type": "string",
            "maxLength": 2_000,
            "description": "What the categories mean",
        },
        "tier": TIER,
    },
    "required": ["text", "categories"],
    "additionalProperties": False,
}


class _Score(BaseModel):
    category: str
    score: float


class _Scores(BaseModel):
    scores: list[_Score]


class Classify(MetaTool):
    """Classifies a text with a small model: a score from 0 to 1 for each category; unless
    `multi_label`, the scores add up to 1. `label` is the best category, `labels` those with at
    least 0.5 (with `multi_label`) or the best one. Uses the tier `fast`, unless the host allows
    others."""

    name = "classify"
    description = (
        "Classify a text into categories that you give. A small model scores each of them from 0 "
        "to 1; with multi_label several may hold."
    )
    input_schema = _SCHEMA

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """See the class."""
        refused = self.refusal(input, context)
        if refused is not None:
            return refused
        categories: list[str] = input["categories"]
        several: bool = input.get("multi_label", False)
        text, shortened = cut(input["text"])
        how = (
            "how likely it holds, independently of the others"
            if several
            else "how likely it is the one that holds"
        )
        meaning = f" What they mean: {input['instructions']}" if input.get("instructions") else ""
        task = (
            f"Classify the text. Score every one of these categories from 0 to 1: {how}. "
            f"Categories, as JSON: {dumps(categories)}.{meaning}"
        )
        found = await self.ask(_Scores, task, text, input, context)
        scores = _normal(categories, found.scores, several=several)
        best = max(categories, key=lambda name: scores[name])
        label = best if scores[best] > 0 else None
        labels = [label] if label is not None else []
        if several:
            labels = [name for name in categories if scores[name] >= THRESHOLD]
        return ToolResult(
            {"label": label, "labels": labels, "scores": scores}
            | ({"text_was_cut": True} if shortened else {})
        )


def _normal(
    categories: Sequence[str], given: Sequence[_Score], *, several: bool
) -> dict[str, float]:
    """A score from 0 to 1 for every category, even if the model left it out or used another scale;
    invented categories are dropped."""
    names = {name.strip().casefold(): name for name in categories}
    scores = dict.fromkeys(categories, 0.0)
    for each in given:
        name = names.get(each.category.strip().casefold())
        if name is not None and isfinite(each.score) and each.score > 0:
            scores[name] = each.score
    top, total = max(scores.values()), sum(scores.values())
    if several:
        scale = 1.0 if top <= 1 else 10.0 if top <= 10 else 100.0 if top <= 100 else top
    else:
        scale = total or 1.0
    if not isfinite(scale):  # the scores are near the largest float
        scores, scale = {name: score / top for name, score in scores.items()}, 1.0
        scale = 1.0 if several else sum(scores.values())
    return {name: round(score / scale, 4) for name, score in scores.items()}
