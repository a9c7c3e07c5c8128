"""The definition of a rule: the errors that it handles, and a function that examines a case."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lorimer.esg.diagnosis.case import Case
from lorimer.esg.diagnosis.report import Finding


@dataclass(frozen=True, slots=True)
class Rule:
    """Returns findings for errors of these classes. It changes nothing and runs nothing."""

    errors: tuple[type[BaseException], ...]
    find: Callable[[Case], Iterator[Finding]]


def rule(*errors: type[BaseException]) -> Callable[[Callable[[Case], Iterator[Finding]]], Rule]:
    """Declare a function to be a rule for these errors."""
    return lambda find: Rule(errors, find)
