"""Stage 19, strategies: rule-based summaries, and the importance of a run."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final, Literal

from pydantic import Field

from lorimer.core.outline import shortened_line
from lorimer.core.stage import Settings
from lorimer.core.state import PipelineState
from lorimer.stages.s19_summarize import Importance, RunSummary, Summarizer

_SENTENCE: Final = re.compile(r"(?<=[.!?])\s+|\n+")
_FACT: Final = re.compile(r"\d|://|[\w-]+/[\w./-]+|`[^`]+`")
_ENTITY: Final = re.compile(
    r"https?://[^\s)>\"']+|`([^`\n]{2,60})`|\b[A-Z][\w-]{2,}(?:\s[A-Z][\w-]{2,}){0,3}"
)
_LINE_CHARS: Final = 300
_MAX_CHARS: Final = 20_000
"""Maximum characters of an answer that are examined."""


class NoSummary(Summarizer):
    """None."""

    name = "no_summary"
    description = "No summaries."
    absent = True

    async def summarize(self, state: PipelineState) -> RunSummary | None:
        return None


class RuleBased(Summarizer):
    """The first sentences of the answer, sentences with figures, paths or code, and names. Calls no
    model."""

    name = "rule_based"
    description = "First sentences of the answer, facts and names in it, found by rules."

    class Config(Settings):
        max_sentences: int = Field(3, ge=1)
        max_facts: int = Field(5, ge=0)
        max_entities: int = Field(8, ge=0)
        extra_tags: list[str] = Field([])
        """Added to every summary."""

    config: Config

    async def summarize(self, state: PipelineState) -> RunSummary | None:
        config = self.config
        text = state.text[:_MAX_CHARS]
        said = [shortened_line(part, _LINE_CHARS) for part in _SENTENCE.split(text)]
        sentences = [line.lstrip("-*# ") for line in said if line.strip("-*# ")]
        if not sentences:
            return None
        facts = [line for line in sentences if _FACT.search(line)]
        names = Counter([(found[1] or found[0]).strip(".,") for found in _ENTITY.finditer(text)])
        return RunSummary(
            " ".join(sentences[: config.max_sentences]),
            tuple(dict.fromkeys(facts))[: config.max_facts],
            tuple([name for name, _ in names.most_common(config.max_entities)]),
            tuple(config.extra_tags),
        )


class Fixed(Importance):
    """Always the same."""

    name = "fixed"
    description = "Every run has this importance."

    class Config(Settings):
        grade: Literal["low", "medium", "high", "critical"] = "medium"

    config: Config

    def grade(self, summary: RunSummary, state: PipelineState) -> str:
        return self.config.grade


class Heuristic(Importance):
    """Judged by what was said and done."""

    name = "heuristic"
    description = "critical: a call was refused; high: keywords, many facts or names; else less."

    class Config(Settings):
        keywords: list[str] = Field(
            ["important", "remember", "always", "never", "deadline", "decision", "must not"]
        )
        """Words in the question or the answer, ignoring case."""
        many_facts: int = Field(4, ge=1)
        many_entities: int = Field(6, ge=1)

    config: Config

    def grade(self, summary: RunSummary, state: PipelineState) -> str:
        config = self.config
        if any(fact.type == "decision" for fact in state.run.facts):
            return "critical"
        began = state.began
        asked = state.messages[began].text if began < len(state.messages) else ""
        said = f"{asked}\n{state.text}".casefold()
        if (
            any(word.casefold() in said for word in config.keywords)
            or len(summary.facts) >= config.many_facts
            or len(summary.entities) >= config.many_entities
        ):
            return "high"
        return "medium" if summary.facts or summary.entities else "low"
