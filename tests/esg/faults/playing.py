"""Plays a planted fault: finds the cause, mends it, and compares with the program without it."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from lorimer.esg import StepExecutor, StepResult, diagnose
from lorimer.esg.diagnosis import patches
from lorimer.esg.graph.steps import Status
from tests.esg.faults.plants import Fault, Plant, Steps

ROUNDS = 3
"""Errors that one fault may raise one after the other."""
Outputs = dict[str, tuple[str, str]]


@dataclass
class Played:
    """What came of one fault."""

    fault: Fault
    program: str
    error: str
    told: str
    right: bool
    """The first finding names the cause, the step and the words."""
    ran: bool
    """After patches that the session kept, all steps run."""
    same: bool
    """And print what the program without the fault prints."""
    broke: int
    """Steps that ran, and after a patch that was kept do not, or are not right any more."""
    milliseconds: float
    """CPU of the slowest diagnosis."""


@contextlib.contextmanager
def folder() -> Iterator[None]:
    """A folder of its own to run in."""
    before = Path.cwd()
    with TemporaryDirectory() as path:
        os.chdir(path)
        try:
            yield
        finally:
            os.chdir(before)


class Hung(BaseException):
    """A fault by which the program never ends: another one is drawn."""


@contextlib.contextmanager
def ended(seconds: float = 1.0) -> Iterator[None]:
    """Raises Hung in what takes longer. In the main thread."""

    def ring(*_: object) -> None:
        raise Hung

    before = signal.signal(signal.SIGVTALRM, ring)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def numbered(texts: Iterable[str]) -> Steps:
    return tuple((f"s{number}", text) for number, text in enumerate(texts))


def outputs(session: StepExecutor) -> Outputs:
    return {
        step: (result.stdout, result.shown)
        for step, result in session.results.items()
        if result.ok and step in session.graph
    }


def started(steps: Steps, only: str = "") -> StepExecutor:
    session = StepExecutor()
    for step, text in steps:
        session.graph.add_step(step, text)
    if not only:
        session.replay()
    return session


def failing(session: StepExecutor) -> StepResult | None:
    """The first step that has failed."""
    for step in session.graph.steps:
        if session.graph.status(step) is Status.FAILED:
            return session.results[step]
    return None


def played(program: str, fault: Fault, wanted: Outputs) -> Played | None:
    """None: the fault does no harm that shows."""
    if fault.before:
        session = started(fault.before)
        for step, text in fault.steps:
            session.graph.edit_step(step, text)
        session.replay()
    else:
        session = started(fault.steps, fault.only if fault.category == "maker not run" else "")
    result = failing(session)
    if fault.only:
        result = session.execute(fault.only, session.graph.source(fault.only))
        if result.ok:
            return None
    if result is None:
        return None
    begun = time.process_time()
    report = diagnose(result, session.graph)
    slowest = time.process_time() - begun
    cause = report.cause
    right = (
        cause is not None
        and cause.rule in fault.rules
        and cause.step in fault.evidence
        and all(word in str(report).splitlines()[1] for word in fault.words)
    )
    broke = 0
    for _ in range(ROUNDS):
        session.replay()  # what only had to run again
        again = failing(session)
        if again is None:
            break
        begun = time.process_time()
        found = diagnose(again, session.graph)
        slowest = max(slowest, time.process_time() - begun)
        before = outputs(session)
        kept = False
        for patch in patches(found, session.graph):
            if session.repair(patch, again.step_id, timeout_s=2):
                kept = True
                after = outputs(session)
                broke += sum(
                    after.get(step) != shown and (step not in after or shown == wanted.get(step))
                    for step, shown in before.items()
                )
                break
        if not kept:
            break
    ran = not session.graph.stale()
    shown = outputs(session)
    same = ran and all(shown.get(step) == each for step, each in wanted.items())
    told = str(report).splitlines()
    return Played(
        fault,
        program,
        told[0],
        told[1] if len(told) > 1 else "",
        right,
        ran,
        same,
        broke,
        slowest * 1000,
    )


def campaign(
    programs: Mapping[str, tuple[str, ...]],
    categories: Mapping[str, Plant],
    count: int,
    seed: int,
) -> list[Played]:
    """So many faults of each category, spread over the programs."""
    done = list[Played]()
    wanted = dict[str, Outputs]()
    for program, texts in programs.items():
        with folder():
            session = started(numbered(texts))
            assert not session.graph.stale(), program
            wanted[program] = outputs(session)
    for category, plant in categories.items():
        dice = Random(f"{seed}/{category}")
        order = [*programs]
        dice.shuffle(order)
        faults = {name: plant(numbered(programs[name]), dice) for name in order}
        found = 0
        while found < count and faults:
            for name in [*faults]:
                one = next(faults[name], None)
                if one is None:
                    del faults[name]
                    continue
                with folder(), warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of coroutines and of escapes: it is broken
                    try:
                        with ended():
                            result = played(name, one, wanted[name])
                    except Hung:
                        result = None
                    if category == "coroutine not awaited":
                        gc.collect()  # Python's words about it are for nobody
                if result is not None:
                    done.append(result)
                    found += 1
                if found == count:
                    break
    return done


def table(done: list[Played]) -> str:
    """By category: faults, right cause first, repaired, ran with other output."""
    lines = [f"{'category':32}{'faults':>7}{'right':>7}{'mended':>8}{'other output':>14}"]
    rows = dict[str, list[Played]]()
    for each in done:
        rows.setdefault(each.fault.category, []).append(each)
    for category, of in [*rows.items(), ("all", done)]:
        right, same = sum(e.right for e in of), sum(e.same for e in of)
        other = sum(e.ran and not e.same for e in of)
        lines.append(f"{category:32}{len(of):7}{right:7}{same:8}{other:14}")
    return "\n".join(lines)
