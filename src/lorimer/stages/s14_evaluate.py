"""Stage 14, Evaluate: is the answer good enough? Only final answers are evaluated."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from lorimer.core.errors import ExecutorErrorCode, StageError
from lorimer.core.jsonable import JSON
from lorimer.core.messages import user_message
from lorimer.core.request import StopReason
from lorimer.core.stage import Settings, Slot, Stage
from lorimer.core.state import FEEDBACK, SCORE, Decision, PipelineState
from lorimer.stages.s14_strategies import Evaluation, Judgement, Scorer

_PAUSE: Final = StopReason.PAUSE
_ROUNDING: Final = 1e-9
"""Weights that add up to 1 may give a mean of 1.0000000000000002."""
_CONFIG: Final = "stages[14].strategy_configs.strategy"
_RETRIES: Final = "evaluate.retries"


class EvaluateStage(Stage[object, object]):
    """Evaluates an answer, and sends one that is not good enough back to the model, up to
    `max_retries` times; after that, `on_failure` decides. Bypassed while there are tool calls."""

    name = "evaluate"
    order = 14
    category = "decision"
    bypass_reason = "the reply is not a final answer: it calls tools, or was paused"
    overrides = frozenset({"model", "max_tokens", "temperature"})

    class Config(Settings):
        max_retries: int = Field(2, ge=0)
        """How often an answer may be sent back."""
        pass_threshold: float = Field(1.0, ge=0, le=1)
        """The minimum score of an accepted answer."""
        on_failure: Literal["error", "accept", "ask"] = "error"
        """What happens when the last answer is not accepted: the run ends with an error, the answer
        is accepted anyway, or stage 15 asks a person."""

    config: Config

    strategy = Slot(
        Evaluation,
        default="accept",
        known={
            "accept": "lorimer.stages.s14_strategies:Accept",
            "criteria": "lorimer.stages.s14_strategies:Criteria",
            "structured_output": "lorimer.stages.s14_strategies:StructuredOutput",
            "signal_based": "lorimer.stages.s14_strategies:SignalBased",
            "agent_evaluation": "lorimer.stages.s14_strategies:AgentEvaluation",
            "binary_classify": "lorimer.stages.s14_strategies:BinaryClassify",
            "evaluation_chain": "lorimer.stages.s14_strategies:EvaluationChain",
        },
    )
    scorer = Slot(
        Scorer,
        default="minimum",
        known={
            "minimum": "lorimer.stages.s14_strategies:Minimum",
            "weighted": "lorimer.stages.s14_strategies:Weighted",
        },
    )

    def should_bypass(self, state: PipelineState) -> bool:
        response = state.response
        if response is None or response.stop is _PAUSE:
            return True
        return bool(state.calls) and not self.strategy.every_reply

    async def execute(self, input: object, state: PipelineState) -> object:
        if self.strategy.every_reply:
            self.strategy.look(state, _CONFIG)
            if state.calls:
                return input
        said = await self.strategy.judge(state.text, state)
        score = self.scorer.score(said.marks) if said.marks else 1.0
        if not -_ROUNDING <= score <= 1 + _ROUNDING:  # also NaN
            raise ValueError(
                f"the scorer {self.scorer.name!r} returned {score!r} for the marks "
                f"{dict(said.marks)!r} of {self.strategy.name!r}: scores are from 0 to 1"
            )
        passed = score >= self.config.pass_threshold and not said.hopeless
        if said.marks:
            state.shared[SCORE], state.shared[FEEDBACK] = score, said.feedback
        if not passed:
            self._failed(said, state)
        if state.run.wants("evaluate.complete"):
            told: dict[str, JSON] = {
                "strategy": self.strategy.name,
                "passed": passed,
                "feedback": said.feedback,
                "score": score,
                "marks": dict(said.marks),
            }
            state.run.signal("evaluate.complete", told)
        return input

    def _failed(self, said: Judgement, state: PipelineState) -> None:
        counted = state.shared.get(_RETRIES, 0)
        tries = counted if isinstance(counted, int) else 0
        if tries < self.config.max_retries and not said.hopeless:
            state.shared[_RETRIES] = tries + 1
            feedback = said.feedback or "The answer is not good enough. Make it better."
            state.messages.append(user_message(feedback))
            state.decision, state.reason = Decision.CONTINUE, "evaluation"
            return
        made = f"{tries + 1} tries" if tries else "1 try"
        why = f"The answer was not accepted after {made}"
        why += f": {said.feedback}" if said.feedback else "."
        if self.config.on_failure == "error":
            state.decision, state.reason = Decision.ERROR, why
            state.failure = StageError(
                why,
                code=ExecutorErrorCode.EXEC_API_OUTPUT_INVALID,
                hint="Make the prompt clearer, raise max_retries of stage 14, or use a stronger "
                "model.",
                stage_name=self.name,
                stage_order=self.order,
            )
        elif self.config.on_failure == "ask":
            state.shared["hitl_request"] = {
                "subject": "the answer",
                "text": state.text,
                "reason": why,
            }
