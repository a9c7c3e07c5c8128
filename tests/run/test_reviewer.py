"""examples/reviewer: what it says of a diff, and what it never says."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lorimer import APIError, ExecutorErrorCode, LimitError, Limits
from lorimer.core.request import Request
from lorimer.models import Models, Price
from lorimer.testing import FakeLLMServer, ScriptedModel, SimulatedWorld, simulate
from lorimer.testing.fake_server import SeenRequest, Turn

REVIEWER = Path(__file__).parents[2] / "examples" / "reviewer"
DIFF = "diff --git a/app.py b/app.py\n@@ -1 +1 @@\n-old\n+new\n"
LENSES = ("correctness", "security", "tests")
CODE = ExecutorErrorCode
DOLLAR = Limits(max_cost_usd=1.0)
# Neither a store nor a port of the kernel nor a pipeline: a reviewer needs none of them.
BATTERIES = """
    import sys
    light = {"lorimer.run", "lorimer.run.fanout"}
    above = ("pipeline", "builder", "stages", "session", "esg", "memory", "tools", "environment")
    for name in sorted(sys.modules):
        heavy = name.startswith("lorimer.run") and name not in light
        heavy |= name.split(".")[:1] == ["lorimer"] and name.split(".")[1:2] in [[a] for a in above]
        heavy |= name.startswith(("lorimer.journal.", "lorimer.cli.app", "sqlite3", "apsw"))
        if heavy:
            print("battery:", name)
"""


def answer(*severities: str) -> str:
    return json.dumps(
        {
            "findings": [
                {"severity": each, "file": "app.py", "line": 7, "problem": f"a {each} thing"}
                for each in severities
            ]
        }
    )


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """The example's own modules."""
    monkeypatch.syspath_prepend(str(REVIEWER))
    import reporting  # pyright: ignore[reportMissingImports]
    import reviewing  # pyright: ignore[reportMissingImports]

    return reviewing, reporting


def lens_of(text: str) -> str:
    return next(
        lens
        for lens, sign in zip(LENSES, ("for bugs", "for ways in", "for behaviour"), strict=True)
        if sign in text
    )


def test_row_5_two_models_and_three_lenses_on_the_command_line_without_a_battery() -> None:
    def play(request: SeenRequest) -> Turn:
        asked = json.dumps(request.body["messages"])
        assert "+new" in asked
        lens = lens_of(asked)
        if "mini" in request.body["model"]:
            return Turn(text=answer("minor", "blocker") if lens == "security" else answer())
        return Turn(text=answer())

    with FakeLLMServer(play) as server:
        code = f"import runpy; runpy.run_path({str(REVIEWER / 'main.py')!r}, run_name='__main__')"
        ends = "\n".join(line[4:] for line in BATTERIES.splitlines())
        whole = f"try:\n    {code}\nfinally:\n" + "\n".join(
            f"    {line}" for line in ends.splitlines()
        )
        done = subprocess.run(
            [
                *(sys.executable, "-c", f"import sys; sys.path[0] = {str(REVIEWER)!r}\n{whole}"),
                *("--models", "openai:gpt-4.1-mini,openai:gpt-4.1-nano"),
            ],
            input=DIFF,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={
                "OPENAI_API_KEY": "k",
                "OPENAI_BASE_URL": f"{server.url}/v1",
                "PYTHONPATH": ":".join(sys.path),
            },
        )
    assert done.returncode == 1, done.stderr
    assert done.stdout.splitlines()[:9] == [
        "## openai:gpt-4.1-mini: blocker",
        "",
        "- blocker: app.py:7: a blocker thing",
        "- minor: app.py:7: a minor thing",
        "",
        "## openai:gpt-4.1-nano: clean",
        "",
        "",
        f"{'':32}{'correctness':>20}{'security':>20}{'tests':>20}",
    ]
    assert "6 cells: 6 answered, 0 failed, 0 cancelled, 0 not run; $0.0" in done.stdout
    assert "battery:" not in done.stdout
    assert "[6/6]" in done.stderr
    assert "openai:gpt-4.1-mini security: 2 found" in done.stderr


def test_a_diff_of_files_in_another_encoding_is_read() -> None:
    done = subprocess.run(
        [sys.executable, str(REVIEWER / "main.py"), "--models", "scripted:echo"],
        input=DIFF.encode() + b"+caf\xe9\n",
        capture_output=True,
        timeout=60,
        check=False,
        env={"PYTHONPATH": ":".join(sys.path), "PYTHONIOENCODING": "utf-8:strict"},
    )
    assert (done.returncode, b"Traceback" in done.stderr) == (3, False), done.stderr


def played(
    parts: tuple[Any, Any],
    one: Callable[[Request], Any],
    two: Callable[[Request], Any] = lambda _: answer(),
    *,
    limits: Limits | None = None,
    latency_s: float = 10.0,
    cancel_at: float | None = None,
    late: bool = False,
    **options: Any,
) -> Any:
    """The job, of two models at two providers, after it was worked on under virtual time."""
    reviewing, _ = parts
    job = reviewing.job_of(DIFF, ["one:m", "two:m"], LENSES, 1000, 4)
    scripted = {
        name: ScriptedModel(
            replies, provider=name, name="m", latency_s=latency_s, price=Price(1.0, 1.0)
        )
        for name, replies in (("one", one), ("two", two))
    }

    async def main(world: SimulatedWorld) -> None:
        models = Models(providers=scripted, usage_sink=job)
        task = asyncio.create_task(
            reviewing.review(job, models, limits or DOLLAR, world=world, **options)
        )
        if cancel_at is not None:
            await world.sleep(cancel_at)
            task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() is (cancel_at is not None)
        if late:
            with pytest.raises(LimitError, match="time limit"):
                await task
        elif cancel_at is None:
            await task

    simulate(main)
    return job


def failing(lens: str, error: Exception) -> Callable[[Request], Any]:
    return lambda request: error if lens_of(request.messages[-1].text) == lens else answer()


def test_a_cell_that_failed_is_never_clean(parts: tuple[Any, Any]) -> None:
    error = APIError("no such model", code=CODE.EXEC_API_BAD_REQUEST)
    job = played(parts, failing("security", error))
    text = parts[1].report(job)
    assert "## one:m: incomplete\n" in text
    assert "- no answer: security, part 1: no such model [exec.api.bad_request]" in text
    assert "## two:m: clean\n" in text
    row = next(line for line in text.splitlines() if line.startswith("one:m"))
    assert row.split() == ["one:m", "clean", "incomplete", "clean"]
    assert "6 cells: 5 answered, 1 failed, 0 cancelled, 0 not run" in text
    assert parts[1].exit_code(job) == 3


def test_what_was_found_leads_though_parts_are_missing(parts: tuple[Any, Any]) -> None:
    error = APIError("down", code=CODE.EXEC_API_BAD_REQUEST)
    one = failing("tests", error)
    job = played(parts, one, lambda _: answer("minor", "major"))
    text = parts[1].report(job)
    assert text.index("## one:m: incomplete") < text.index("## two:m: major\n")
    assert text.index("major: app.py") < text.index("minor: app.py")
    assert parts[1].exit_code(job) == 1


def test_only_minor_findings_are_no_failure(parts: tuple[Any, Any]) -> None:
    assert parts[1].exit_code(played(parts, lambda _: answer("minor"))) == 0


def test_a_cell_has_its_own_time(parts: tuple[Any, Any]) -> None:
    job = played(parts, lambda _: answer(), latency_s=10.0, cell_timeout_s=9.0)
    assert parts[1].report(job).count("part 1: not in time") == 6
    assert parts[1].exit_code(job) == 3


def test_caps_of_providers_hold(parts: tuple[Any, Any]) -> None:
    running = {"one": 0, "two": 0}
    most = dict(running)

    def counted(name: str) -> Callable[[Request], Any]:
        def reply(_: Request) -> str:
            running[name] += 1
            most[name] = max(most[name], running[name])
            asyncio.get_running_loop().call_later(
                9.9, lambda: running.update({name: running[name] - 1})
            )
            return answer()

        return reply

    played(parts, counted("one"), counted("two"), max_concurrent=4, per_provider={"one": 1})
    assert most == {"one": 1, "two": 2}


def test_cancelled_cells_and_cells_that_never_began_are_counted(parts: tuple[Any, Any]) -> None:
    job = played(parts, lambda _: answer(), cancel_at=15.0, max_concurrent=2)
    text = parts[1].report(job)
    assert "6 cells: 2 answered, 0 failed, 2 cancelled, 2 not run" in text
    assert "## one:m: incomplete" in text
    assert ": cancelled\n" in text
    assert ": not run\n" in text


def test_all_cells_together_never_cost_more_than_the_budget(parts: tuple[Any, Any]) -> None:
    # 8,192 tokens of an answer and the prompt are set aside: $0.0087 a call
    job = played(parts, lambda _: answer(), limits=Limits(max_cost_usd=0.02), max_concurrent=4)
    ends = sorted(outcome.status for outcome in job.outcomes.values())
    assert "error" in ends
    assert "ok" in ends
    failed = [outcome.error for outcome in job.outcomes.values() if outcome.error]
    assert {error.code for error in failed if isinstance(error, LimitError)} == {
        CODE.EXEC_LIMIT_COST
    }
    assert 0 < job.spent_nano <= 20_000_000
    assert "of $0.0200 are spent" in parts[1].report(job)


def test_when_the_time_of_all_is_over_what_is_there_is_told(parts: tuple[Any, Any]) -> None:
    limits = Limits(timeout_s=15.0)
    job = played(parts, lambda _: answer("major"), limits=limits, late=True, max_concurrent=2)
    text = parts[1].report(job)
    assert "## one:m: major, incomplete" in text
    assert "6 cells: 2 answered, 0 failed, 2 cancelled, 2 not run" in text


def test_a_long_diff_is_cut_into_pages_and_the_rest_is_told(parts: tuple[Any, Any]) -> None:
    reviewing, reporting = parts
    files = [f"diff --git a/{n} b/{n}\n" + f"+line of {n}\n" * 30 for n in "abcd"]
    job = reviewing.job_of("".join(files), ["one:m"], ["tests"], 600, 2)
    assert [len(page) <= 600 for page in job.pages] == [True, True]
    assert job.pages[0] == files[0]
    assert job.pages[1] == files[1]
    assert job.left_out == len(files[2]) + len(files[3])
    assert len(job.cells) == 2
    assert f"The last {job.left_out:,} characters" in reporting.report(job)
    long = reviewing.job_of(files[0], ["one:m"], ["tests"], 100, 99)
    assert len(long.pages) > 3
    assert all(page.startswith("diff --git a/a b/a\n") for page in long.pages)
    assert "".join(page.removeprefix("diff --git a/a b/a\n") for page in long.pages) in files[0]
    assert sum(page.count("+line") for page in long.pages) == 30


def test_what_a_model_says_cannot_move_the_cursor(parts: tuple[Any, Any]) -> None:
    nasty = answer("minor").replace("a minor thing", "\\u001b[2Jgone\\n## two:m: clean")
    text = parts[1].report(played(parts, lambda _: nasty))
    assert "\x1b" not in text
    assert text.count("\n## two:m") == 1
