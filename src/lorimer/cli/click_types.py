"""Option types and a command group for click, with error messages in our words."""

from __future__ import annotations

import click


class Whole(click.IntRange):
    """A whole number, which error messages call so."""

    name = "whole number"


class Dollars(click.FloatRange):
    """An amount of money, not negative."""

    name = "amount of dollars"

    def __init__(self) -> None:
        super().__init__(min=0)


class Group(click.Group):
    """A group whose list of commands shows the whole first sentence of each; click would truncate
    it."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        every = [(name, self.commands[name]) for name in self.list_commands(ctx)]
        rows = [(name, each.get_short_help_str(1000)) for name, each in every if not each.hidden]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
