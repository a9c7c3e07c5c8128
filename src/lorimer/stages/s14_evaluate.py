"""Stage 14, Evaluate: is the answer good enough? Looks at final answers only."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from lorimer.core.messages import StopReason, user_message
from lorimer.core.stage import Settings, Slot, Stage, Strategy
from lorimer.core.state import Decision, PipelineState

_PAUSE: Final = StopReason.PAUSE


class Evaluation(Strategy):
    """Judges a final answer."""

    def judge(self, text: str, state: PipelineState) -> str:
        """What is wrong with the answer, as the model should be told; "" to accept it."""
        raise TypeError(f"{type(self).__name__} has no judge method")


class Accept(Evaluation):
    """Whatever the model says."""

    name = "accept"
    description = "Every answer is accepted."

    def judge(self, text: str, state: PipelineState) -> str:
        return ""


class Criteria(Evaluation):
    """Length and words that must occur."""

    name = "criteria"
    description = "The answer has min_chars to max_chars characters and contains must_contain."

    class Config(Settings):
        min_chars: int = Field(1, ge=0)
        max_chars: int | None = Field(None, ge=1)
        must_contain: list[str] = Field([])
        """Phrases, whatever their case."""

    config: Config

    def judge(self, text: str, state: PipelineState) -> str:
        if len(text) < self.config.min_chars:
            return f"The answer must have at least {self.config.min_chars} characters."
        if self.config.max_chars is not None and len(text) > self.config.max_chars:
            return f"The answer must have at most {self.config.max_chars} characters."
        folded = text.casefold()
        missing = [word for word in self.config.must_contain if word.casefold() not in folded]
        return f"The answer must mention: {', '.join(missing)}." if missing else ""


class EvaluateStage(Stage[object, object]):
    """Sends an answer that is not good enough back to the model, `max_retries` times; then the
    run ends in error. Bypassed while there are tool calls."""

    name = "evaluate"
    order = 14
    category = "decision"

    class Config(Settings):
        max_retries: int = Field(2, ge=0)
        """How often an answer may be sent back."""

    config: Config

    strategy = Slot(
        Evaluation,
        default="accept",
        known={
            "accept": "lorimer.stages.s14_evaluate:Accept",
            "criteria": "lorimer.stages.s14_evaluate:Criteria",
        },
    )

    def should_bypass(self, state: PipelineState) -> bool:
        response = state.response
        return bool(state.calls) or response is None or response.stop is _PAUSE

    async def execute(self, input: object, state: PipelineState) -> object:
        problem = self.strategy.judge(state.text, state)
        if problem:
            counted = state.shared.get("evaluate.retries", 0)
            tries = counted if isinstance(counted, int) else 0
            if tries >= self.config.max_retries:
                state.decision = Decision.ERROR
                state.reason = f"The answer was not accepted after {tries + 1} tries: {problem}"
            else:
                state.shared["evaluate.retries"] = tries + 1
                state.messages.append(user_message(problem), clean=True)
                state.decision, state.reason = Decision.CONTINUE, "evaluation"
        if state.run.wants("evaluate.complete"):
            state.run.signal(
                "evaluate.complete",
                {"strategy": self.strategy.name, "passed": not problem, "feedback": problem},
            )
        return input
