"""Reviews a diff: several models, each through several lenses, side by side within one budget.

    git diff main | python examples/reviewer/main.py --models claude-sonnet-4-6,openai:gpt-5

Exit codes: 0 nothing above minor; 1 something above it; 2 wrong input; 3 parts of the review are
missing, and nothing above minor is in the rest; 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence

from reporting import exit_code, reason, report
from reviewing import LENSES, Cell, Job, Review, job_of, review

from lorimer import ConfigError, LimitError, Limits
from lorimer.cli.text import visible
from lorimer.models import Models
from lorimer.run import Outcome

PAGE_CHARS = 60_000


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Review the diff on standard input.")
    parser.add_argument("--models", required=True, help="whom to ask: provider:model,...")
    parser.add_argument("--lenses", default=",".join(LENSES), help="of these")
    parser.add_argument("--max-cost-usd", type=float, default=1.0, help="of all together")
    parser.add_argument("--allow-unpriced", action="store_true", help="as free, e.g. local models")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds for one answer")
    parser.add_argument("--total-timeout", type=float, default=1800.0, help="seconds for all")
    parser.add_argument("--max-concurrent", type=int, default=4, help="answers at once")
    parser.add_argument("--caps", type=caps, default={}, help="of providers: openai=3,ollama=1")
    parser.add_argument("--max-pages", type=int, default=4, help=f"of {PAGE_CHARS} characters")
    given = parser.parse_args(argv)
    given.models = list(dict.fromkeys(given.models.split(",")))
    given.lenses = list(dict.fromkeys(given.lenses.split(",")))
    unknown = sorted(set(given.lenses) - set(LENSES))
    if unknown:
        parser.error(f"no lens {', '.join(unknown)}; known: {', '.join(LENSES)}")
    least = min(given.timeout, given.total_timeout, given.max_pages, given.max_concurrent)
    if not (least > 0 and 0 <= given.max_cost_usd < 1e6):
        parser.error("times, pages and answers at once are above 0; money is 0 to a million")
    return given


def caps(text: str) -> dict[str, int]:
    found = {name: int(cap) for name, _, cap in [part.partition("=") for part in text.split(",")]}
    if min(found.values()) < 1:
        raise ValueError
    return found


async def work(job: Job, given: argparse.Namespace) -> None:
    def tell(cell: Cell, outcome: Outcome[Review]) -> None:
        value = outcome.value
        said = reason(outcome) if value is None else f"{len(value.findings)} found"
        line = f"[{len(job.outcomes)}/{len(job.cells)}] {cell.model} {cell.lens}: {said}"
        print(visible(line), file=sys.stderr)

    models = Models(usage_sink=job)
    try:
        await review(
            job,
            models,
            Limits(
                timeout_s=given.total_timeout,
                max_cost_usd=given.max_cost_usd,
                allow_unpriced=given.allow_unpriced,
            ),
            max_concurrent=given.max_concurrent,
            per_provider=given.caps,
            cell_timeout_s=given.timeout,
            tell=tell,
        )
    finally:
        await models.aclose()


def main(argv: Sequence[str] | None = None) -> int:
    given = arguments(argv)
    diff = sys.stdin.buffer.read().decode("utf-8", "replace")  # of files in any encoding
    if not diff.strip():
        print("Nothing on standard input. Try: git diff main | ...", file=sys.stderr)
        return 2
    job = job_of(diff, given.models, given.lenses, PAGE_CHARS, given.max_pages)
    stopped = 0
    try:
        asyncio.run(work(job, given))
    except ConfigError as error:
        print(f"{error} [{error.code.value}] {error.hint}", file=sys.stderr)
        return 2
    except LimitError as error:
        print(f"{error} [{error.code.value}]", file=sys.stderr)
    except KeyboardInterrupt:
        stopped = 130
    print(report(job))
    return stopped or exit_code(job)


if __name__ == "__main__":
    sys.exit(main())
