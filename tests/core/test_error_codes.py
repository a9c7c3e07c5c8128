"""Error codes are an interface: their strings, their categories, and that they arrive."""

from __future__ import annotations

import pytest

from lorimer import APIError, ErrorCategory, ExecutorErrorCode
from lorimer.core.errors import (
    ConfigError,
    GuardRejectError,
    HookError,
    JournalError,
    LimitError,
    LorimerError,
    MemoryFailed,
    MutationError,
    MutationLocked,
    PipelineError,
    RunCancelled,
    StageError,
    StoreFailed,
    ToolExecutionError,
    error_from_json,
    nearest,
)
from lorimer.core.events import Event
from lorimer.core.limits import Limits
from lorimer.core.request import Request
from lorimer.core.stage import Stage
from lorimer.core.state import PipelineState
from lorimer.models.pricing import Price
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from tests.core.support import make, only
from tests.quick import quick

SEED_CODES = """
    exec.api.auth.invalid_key exec.api.auth.expired exec.api.rate_limited exec.api.timeout
    exec.api.network exec.api.token_limit exec.api.bad_request exec.api.server_error
    exec.api.terminal exec.api.unknown exec.api.no_client exec.api.stream_incomplete
    exec.api.retry_exhausted
    exec.cli.binary_not_found exec.cli.auth_failed exec.cli.timeout exec.cli.protocol_error
    exec.cli.permission_denied exec.cli.exited
    exec.pipeline.not_initialized exec.pipeline.invalid_manifest
    exec.stage.failed exec.stage.guard_rejected
    exec.tool.unknown exec.tool.invalid_input exec.tool.access_denied exec.tool.crashed
    exec.tool.transport
    exec.mutation.invalid exec.mutation.locked
    exec.mcp.connect_failed exec.mcp.initialize_failed exec.mcp.list_tools_failed
    exec.mcp.sdk_missing
    exec.unknown
""".split()

OUR_CODES = """
    exec.api.refused exec.api.unpriced exec.api.sdk_missing
    exec.api.empty exec.api.unavailable exec.api.output_invalid
    exec.tool.timeout exec.tool.not_run exec.tool.outcome_unknown exec.tool.out_of_memory
    exec.hitl.rejected
    exec.loop.identical exec.loop.alternating exec.loop.no_progress exec.loop.error_streak
    exec.loop.max_turns exec.limit.timeout exec.limit.cost exec.limit.tool_calls
    exec.budget.exceeded exec.budget.undecided
    exec.limit.queue
    exec.run.cancelled exec.run.killed exec.run.busy exec.run.shutdown exec.run.waiting
    exec.run.unknown exec.run.ended
    exec.child.depth exec.child.descendants exec.child.ancestor exec.child.part
    exec.input.invalid
    exec.journal.conflict exec.journal.diverged exec.journal.failed exec.journal.version
exec.sandbox.missing exec.store.failed exec.agent.unknown exec.agent.denied exec.agent.changed
exec.memory.failed exec.hook.blocked exec.hook.failed exec.hook.timeout exec.step.invalid
exec.step.timeout exec.step.crashed exec.step.out_of_memory
""".split()

RECOVERABLE = """
    rate_limited timeout network server_error cli_timeout cli_protocol_error
""".split()

FATAL = "auth bad_request cli_not_found cli_auth_failed cli_permission_denied".split()

CATEGORIES_OF_THE_SEED = {
    "exec.api.auth.invalid_key": "auth",
    "exec.api.auth.expired": "auth",
    "exec.api.rate_limited": "rate_limited",
    "exec.api.timeout": "timeout",
    "exec.api.network": "network",
    "exec.api.token_limit": "token_limit",
    "exec.api.bad_request": "bad_request",
    "exec.api.server_error": "server_error",
    "exec.api.terminal": "terminal",
    "exec.api.unknown": "unknown",
    "exec.api.no_client": "bad_request",
    "exec.api.stream_incomplete": "network",
    "exec.api.retry_exhausted": "unknown",
    "exec.cli.binary_not_found": "cli_not_found",
    "exec.cli.auth_failed": "cli_auth_failed",
    "exec.cli.timeout": "cli_timeout",
    "exec.cli.protocol_error": "cli_protocol_error",
    "exec.cli.permission_denied": "cli_permission_denied",
}


def test_the_seeds_35_codes_keep_their_strings() -> None:
    assert len(SEED_CODES) == len(set(SEED_CODES)) == 35
    assert [code.value for code in ExecutorErrorCode][:35] == SEED_CODES


def test_a_code_is_neither_lost_nor_renamed() -> None:
    known = {code.value for code in ExecutorErrorCode}
    assert set(OUR_CODES) <= known
    assert known - set(SEED_CODES) - set(OUR_CODES) == set(), "pin new codes here too"


@pytest.mark.parametrize("code", ExecutorErrorCode)
def test_a_members_name_is_its_code_in_capitals(code: ExecutorErrorCode) -> None:
    assert code.name == code.value.upper().replace(".", "_")
    assert str(code) == code.value
    assert ExecutorErrorCode(code.value) is code


@pytest.mark.parametrize("code", ExecutorErrorCode)
def test_every_code_has_a_category(code: ExecutorErrorCode) -> None:
    unknown = {"exec.api.unknown", "exec.api.retry_exhausted", "exec.unknown"}
    assert (code.category is ErrorCategory.UNKNOWN) == (code.value in unknown)
    assert code.is_recoverable is code.category.is_recoverable


def test_the_seeds_categories_are_kept() -> None:
    assert {code: ExecutorErrorCode(code).category.value for code in CATEGORIES_OF_THE_SEED} == (
        CATEGORIES_OF_THE_SEED
    )


@pytest.mark.parametrize("category", ErrorCategory)
def test_what_can_be_tried_again_and_what_needs_a_person(category: ErrorCategory) -> None:
    assert category.is_recoverable is (category.value in RECOVERABLE)
    assert category.is_fatal is (category.value in FATAL)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (LorimerError("x"), "exec.unknown"),
        (PipelineError("x"), "exec.pipeline.not_initialized"),
        (ConfigError("x"), "exec.pipeline.invalid_manifest"),
        (StageError("x"), "exec.stage.failed"),
        (GuardRejectError("x"), "exec.stage.guard_rejected"),
        (APIError("x"), "exec.api.unknown"),
        (ToolExecutionError("x"), "exec.tool.crashed"),
        (LimitError("x"), "exec.limit.timeout"),
        (HookError("x"), "exec.hook.failed"),
        (MemoryFailed("x"), "exec.memory.failed"),
        (RunCancelled("x"), "exec.run.cancelled"),
        (JournalError("x"), "exec.journal.failed"),
        (StoreFailed("x"), "exec.store.failed"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, LorimerError) else "",
)
def test_every_exception_has_a_code_of_its_own(error: LorimerError, code: str) -> None:
    assert error.code.value == code
    assert error.category is error.code.category
    assert error.message == "x"
    assert error.result is None


@pytest.mark.parametrize("code", ExecutorErrorCode)
def test_an_error_read_back_has_the_same_code_on_the_class_it_belongs_to(
    code: ExecutorErrorCode,
) -> None:
    plain = {"code": code.value, "message": "what happened", "hint": "do this"}
    error = error_from_json(plain)
    assert error.code is code
    assert error.to_json() == plain
    classes = {"api": APIError, "tool": ToolExecutionError, "sandbox": ToolExecutionError}
    classes |= {
        "cli": APIError,
        "input": StageError,
        "pipeline": ConfigError,
        "mutation": MutationError,
        "child": LimitError,
        "limit": LimitError,
        "budget": LimitError,
        "loop": LimitError,
        "hook": HookError,
        "hitl": StageError,
        "journal": JournalError,
        "memory": MemoryFailed,
        "store": StoreFailed,
        "agent": ConfigError,
        "stage": StageError,
    }
    classes |= {"run": PipelineError, "exec.stage.guard_rejected": GuardRejectError}
    classes |= dict.fromkeys(("exec.pipeline.not_initialized", "exec.child.part"), PipelineError)
    classes |= {"exec.mutation.locked": MutationLocked}
    stopped = ("cancelled", "killed", "shutdown", "waiting")
    classes |= {f"exec.run.{name}": RunCancelled for name in stopped}
    kind = classes.get(code.value) or classes.get(code.value.split(".")[1], LorimerError)
    assert type(error) is kind


def test_an_api_error_keeps_status_and_wait() -> None:
    error = APIError(
        "slow down",
        code=ExecutorErrorCode.EXEC_API_RATE_LIMITED,
        status=429,
        retry_after_s=1.5,
        hint="wait",
    )
    again = error_from_json(error.to_json())
    assert isinstance(again, APIError)
    assert (again.status, again.status_code, again.retry_after_s) == (429, 429, 1.5)
    assert again.to_json() == error.to_json()


@pytest.mark.parametrize("code", [None, "", "exec.from.the.future", 3])
def test_a_code_from_a_newer_version_is_read_as_unknown(code: str | int | None) -> None:
    error = error_from_json({"code": code, "message": "m"})
    assert error.code is ExecutorErrorCode.EXEC_UNKNOWN
    assert str(error) == "m"


def test_nearest_names_come_first_and_all_are_listed() -> None:
    assert nearest("chta", ["chat", "agent"]) == "; did you mean 'chat'? Known: agent, chat."
    assert nearest("zzz", ["chat", "agent"]) == ". Known: agent, chat."
    assert nearest("x", []) == ""


def test_long_names_are_not_compared() -> None:
    names = ["ab" * 90 + str(number) for number in range(20_000)]
    with quick():
        assert "did you mean" not in nearest("ab" * 90 + "x", names)
    assert "did you mean 'abx'?" in nearest("ab", ["abx", *names])


# --- codes arrive where they are looked for ---------------------------------------------------


async def _seen(world: SimulatedWorld, *replies: object) -> list[Event]:
    pipeline = make(world, list(replies))
    seen: list[Event] = []
    pipeline.on("*", seen.append)
    await pipeline.run("go", raise_on_error=False)
    return seen


def test_pipeline_error_and_stage_error_carry_the_real_code_not_that_of_a_wrapper() -> None:
    async def main(world: SimulatedWorld) -> None:
        refused = APIError("no such key", code=ExecutorErrorCode.EXEC_API_AUTH_INVALID_KEY)
        seen = await _seen(world, refused)
        for kind in ("stage.error", "pipeline.error"):
            data = only(seen, kind)
            assert data["code"] == "exec.api.auth.invalid_key"
            assert data["error"] == "no such key"
            assert data["exception_type"] == "lorimer.core.errors.APIError"
        assert next(event for event in seen if event.type == "stage.error").stage == "api"
        assert only(seen, "run.end")["code"] == "exec.api.auth.invalid_key"

    simulate(main)


def test_api_retry_carries_the_code_plain_and_streamed() -> None:
    async def main(world: SimulatedWorld) -> None:
        overloaded = APIError("busy", code=ExecutorErrorCode.EXEC_API_SERVER_ERROR)
        seen = await _seen(world, overloaded, "fine")
        data = only(seen, "api.retry")
        assert (data["code"], data["category"], data["attempt"]) == (
            "exec.api.server_error",
            "server_error",
            1,
        )
        streamed = make(world, [overloaded, "fine"])
        again = [event async for event in streamed.run_stream("go")]
        assert only(again, "api.retry")["code"] == "exec.api.server_error"

    simulate(main)


class Broken(Stage[object, object]):
    name = "broken"
    order = 8

    async def execute(self, input: object, state: PipelineState) -> object:
        raise ZeroDivisionError("by zero")


class BadBypass(Broken):
    def should_bypass(self, state: PipelineState) -> bool:
        raise KeyError("nothing there")


@pytest.mark.parametrize(
    ("stage", "says"), [(Broken(), "ZeroDivisionError: by zero"), (BadBypass(), "KeyError")]
)
def test_what_a_stage_raises_becomes_a_coded_error_with_its_cause(
    stage: Stage[object, object], says: str
) -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, ["hello"])
        pipeline.register_stage(stage)
        seen: list[Event] = []
        pipeline.on("*", seen.append)
        with pytest.raises(StageError, match=says) as caught:
            await pipeline.run("go")
        error = caught.value
        assert (error.stage_name, error.stage_order) == ("broken", 8)
        assert isinstance(error.__cause__, ZeroDivisionError | KeyError)
        assert error.result is not None
        assert error.result.status == "error"
        assert error.result.text == "hello"
        assert error.result.code is ExecutorErrorCode.EXEC_STAGE_FAILED
        assert only(seen, "stage.error")["code"] == "exec.stage.failed"
        assert only(seen, "pipeline.error")["code"] == "exec.stage.failed"
        assert only(error.result.events, "run.end")["code"] == "exec.stage.failed"

    simulate(main)


@pytest.mark.parametrize(
    ("fails", "limits", "status"),
    [
        (False, None, "ok"),
        (True, None, "error"),
        (False, Limits(max_cost_usd=0.0), "budget_exceeded"),
    ],
)
def test_the_error_is_on_exception_result_and_terminal_event_alike(
    fails: bool, limits: Limits | None, status: str
) -> None:
    def answer(request: Request) -> str:
        if fails:
            raise APIError("x", code=ExecutorErrorCode.EXEC_API_BAD_REQUEST, hint="mend it")
        return "fine"

    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, ScriptedModel(answer, price=Price(1, 1)))
        result = await pipeline.run("go", limits=limits, raise_on_error=False)
        events = [event async for event in pipeline.run_stream("go", limits=limits)]
        last = events[-1]
        end = only(result.events, "run.end")
        assert result.status == end["status"] == last.data["status"] == status
        assert result.success is (status == "ok")
        if result.exception is None:
            assert (result.code, result.error, last.type) == (None, "", "pipeline.complete")
            assert "code" not in end
            assert "error" not in result.to_json()
        else:
            assert result.code is not None
            assert end["code"] == last.data["code"] == result.code.value
            assert end["message"] == last.data["error"] == result.error
            assert result.to_json()["error"] == result.exception.to_json()
            assert result.exception.result is result
            assert last.type == "pipeline.error"

    simulate(main)
