"""Exceeded limits: recursion, memory, time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from lorimer.esg.diagnosis.case import Case
from lorimer.esg.diagnosis.report import Finding
from lorimer.esg.diagnosis.rule import rule


@rule(RecursionError)
def recursion(case: Case) -> Iterator[Finding]:
    """Which function of which step calls itself."""
    called = Counter((site.function, site.text.step) for site in case.sites if site.function)
    if not called:
        return
    (function, step), times = called.most_common(1)[0]
    others = sorted({name for (name, _), often in called.items() if often > 1} - {function})
    by = f" by way of {', '.join(others)}" if others else ""
    message = f"{function} of {step} calls itself{by}, {times} deep: nothing ends it"
    yield Finding("recursion", message, step, (), 0.95)


@rule(MemoryError)
def memory(case: Case) -> Iterator[Finding]:
    site = case.site
    line = site.text.lines[site.line - 1].strip() if site.line <= len(site.text.lines) else ""
    yield Finding("memory", f"there is no memory for: {line}", site.text.step, (), 0.9)


@rule(TimeoutError)
def time(case: Case) -> Iterator[Finding]:
    site = case.site
    line = site.text.lines[site.line - 1].strip() if site.line <= len(site.text.lines) else ""
    yield Finding(
        "time", f"it was in this line when the time was up: {line}", site.text.step, (), 0.9
    )


RULES: Final = (recursion, memory, time)
