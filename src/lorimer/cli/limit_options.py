"""The options of `run` and `chat` that limit what an agent may use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click

from lorimer.cli.click_types import Dollars, Whole
from lorimer.cli.options import Span, gathered, with_options

if TYPE_CHECKING:
    from lorimer.cli.options import Command
    from lorimer.core.limits import Limits


@dataclass(frozen=True, slots=True)
class LimitOptions:
    """The values of the options; None: not given."""

    max_turns: int | None
    max_cost_usd: float | None
    timeout: float | None
    """Seconds."""
    allow_unpriced: bool = False

    def applied(self, limits: Limits) -> Limits:
        """An agent's limits, replaced where an option is given."""
        if self.max_turns is not None:
            limits = replace(limits, max_turns=self.max_turns)
        if self.max_cost_usd is not None:
            limits = replace(limits, max_cost_usd=self.max_cost_usd)
        if self.allow_unpriced:
            limits = replace(limits, allow_unpriced=True)
        return limits if self.timeout is None else replace(limits, timeout_s=self.timeout)


def limit_options(each: str, turns: str) -> Callable[[Command], Command]:
    """The options; the command gets them as `within`. For their help texts: `each` says what each
    limit applies to (` per answer`), `turns` the turns of the presets."""

    options = with_options(*_options(each, turns))
    return lambda command: options(gathered("within", LimitOptions)(command))


def _options(each: str, turns: str) -> tuple[Callable[[Command], Command], ...]:
    return (
        click.option(
            "--max-turns",
            type=Whole(min=1),
            metavar="N",
            help=f"Most model calls{each}. Default: the agent's limit; {turns}.",
        ),
        click.option(
            "--max-cost-usd",
            type=Dollars(),
            metavar="USD",
            help=f"Most US dollars{each}. Default: the agent's limit; presets have none.",
        ),
        click.option(
            "--allow-unpriced",
            is_flag=True,
            help="Under a cost limit, also call models of unknown price; they count as free.",
        ),
        click.option(
            "--timeout",
            type=Span(),
            metavar="TIME",
            help=f"Time limit{each}: seconds, or 90s, 5m, 2h. Default: the agent's limit; 30m for a"
            " preset.",
        ),
    )
