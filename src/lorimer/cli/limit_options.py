"""The options of `run` and `chat` that limit what an agent may use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING

import click

from lorimer.cli.click_types import Dollars, Whole
from lorimer.cli.options import Span

if TYPE_CHECKING:
    from lorimer.cli.options import Command
    from lorimer.core.limits import Limits


@dataclass(frozen=True, slots=True)
class LimitOptions:
    """The values of the options; None: not given."""

    max_turns: int | None
    max_cost_usd: float | None
    allow_unpriced: bool
    timeout: float | None
    """Seconds."""

    def applied(self, limits: Limits) -> Limits:
        """An agent's limits, changed by the options. Raises Fault."""
        from lorimer.cli import agent

        return agent.limited(
            limits, self.max_turns, self.max_cost_usd, self.timeout, unpriced=self.allow_unpriced
        )


def limit_options(each: str, turns: str) -> Callable[[Command], Command]:
    """The options; the command gets them as `within`. Both words stand in the help: what is limited
    (` per answer`), and the turns of its presets."""

    def decorate(command: Command) -> Command:
        @wraps(command)
        def gathered(
            max_turns: int | None,
            max_cost_usd: float | None,
            allow_unpriced: bool,
            timeout: float | None,
            **others: object,
        ) -> int:
            within = LimitOptions(max_turns, max_cost_usd, allow_unpriced, timeout)
            return command(within=within, **others)

        decorated: Command = gathered
        for option in reversed(_options(each, turns)):
            decorated = option(decorated)
        return decorated

    return decorate


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
