"""Stage 11, Tool review: what reviewers found in the calls of a reply. They are called before a
call is made, by stage 10, on the single path of all calls (`tools/dispatch.py`), together with
rules, hooks and people; this stage reports their findings."""

from __future__ import annotations

from typing import Final

from lorimer.core.jsonable import JSON
from lorimer.core.stage import Chain, Stage
from lorimer.core.state import PipelineState
from lorimer.stages.s11_reviewers import CallReviewer

FLAGS: Final = "tool_review_flags"
_MAX_FLAGS: Final = 200


class ToolReviewStage(Stage[object, object]):
    """Reports the reviewers' findings for the calls of this turn, in `state.shared` and as signals.
    Bypassed if there are none. Calls that tools make of other tools are reviewed, but not
    reported."""

    name = "tool_review"
    order = 11
    category = "review"
    bypass_reason = "the reviewers found nothing in the calls of the reply"
    bypass_path = "strategies.reviewers"

    reviewers = Chain(
        CallReviewer,
        default=("sensitive", "destructive", "size"),
        known={
            "schema": "lorimer.stages.s11_reviewers:Schema",
            "sensitive": "lorimer.stages.s11_reviewers:Sensitive",
            "destructive": "lorimer.stages.s11_reviewers:Destructive",
            "network": "lorimer.stages.s11_reviewers:Network",
            "size": "lorimer.stages.s11_reviewers:Size",
        },
    )

    def should_bypass(self, state: PipelineState) -> bool:
        review = state.run.review
        return review is None or not review.findings

    async def execute(self, input: object, state: PipelineState) -> object:
        run = state.run
        if run.review is None:
            return input
        found, run.review.findings = run.review.findings, []
        found.sort(key=lambda each: each[0])  # calls may have run concurrently
        before = state.shared.get(FLAGS)
        flags: list[JSON] = list(before) if isinstance(before, list) else []
        for index, finding in found:
            call = state.calls[index]
            flag: dict[str, JSON] = {
                "tool_use_id": call.id,
                "tool": call.name,
                "reviewer": finding.reviewer,
                "action": finding.action,
                "reason": finding.reason,
            }
            flags.append({"iteration": state.iteration, **flag})
            run.signal("tool_review.flag", flag)
        state.shared[FLAGS] = flags[-_MAX_FLAGS:]
        return input
