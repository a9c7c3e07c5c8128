"""Runs a contender's agent in a process of its own, kills it at seeded moments, starts it again,
and so on until it is done or beyond help."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from benchmarks.killed.work import answer_of, marks_of

STUCK_S: Final = 60.0
MOST_FAILURES: Final = 3
_POLL_S: Final = 0.0005


@dataclass(frozen=True)
class Moments:
    """When to kill: so many marks after the begin of a life, and so many seconds after that mark,
    both drawn evenly from 1 or 0 up to these."""

    most_marks: int
    most_delay_s: float
    most_kills: int
    """In this run."""
    dice: Random


@dataclass
class Story:
    """What became of one run."""

    folder: Path
    kills: list[int] = field(default_factory=list)
    """How many marks there were at each kill."""
    failures: int = 0
    """Lives that ended with an error of their own."""
    trouble: str = ""
    """Why it was given up, with the end of what the contender said; "" when it was not."""


def play(command: Sequence[str], environ: dict[str, str], folder: Path, moments: Moments) -> Story:
    """One run in `folder`, from its begin to its end."""
    story = Story(folder)
    while not answer_of(folder).exists():
        wait_for = moments.dice.randint(1, moments.most_marks)
        delay_s = moments.dice.uniform(0, moments.most_delay_s)
        with open(folder / "said", "ab") as said:
            process = subprocess.Popen(
                command, cwd=folder, env=environ, stdout=said, stderr=subprocess.STDOUT
            )
        try:
            if len(story.kills) < moments.most_kills:
                _until_marked(process, folder, wait_for)
                time.sleep(delay_s)
                process.kill()
            code = process.wait(STUCK_S)
        except subprocess.TimeoutExpired:
            story.trouble = f"made no progress in {STUCK_S:g} s: {_said(folder)}"
            return story
        finally:
            process.kill()
            process.wait()
        if code == -signal.SIGKILL:
            story.kills.append(len(_marks(folder)))
        elif code != 0:
            story.failures += 1
            if story.failures == MOST_FAILURES:
                story.trouble = f"ended {MOST_FAILURES} times with an error: {_said(folder)}"
                return story
    return story


def _until_marked(process: subprocess.Popen[bytes], folder: Path, marks: int) -> None:
    """Until it has made so many more marks, or has ended. Raises TimeoutExpired when neither
    comes."""
    wanted = len(_marks(folder)) + marks
    last, stuck_at = 0, time.monotonic() + STUCK_S
    while process.poll() is None:
        made = len(_marks(folder))
        if made >= wanted:
            return
        if made > last:
            last, stuck_at = made, time.monotonic() + STUCK_S
        if time.monotonic() > stuck_at:
            raise subprocess.TimeoutExpired(process.args, STUCK_S)
        time.sleep(_POLL_S)


def _marks(folder: Path) -> list[bytes]:
    path = marks_of(folder)
    return path.read_bytes().splitlines() if path.exists() else []


def _said(folder: Path) -> str:
    return (folder / "said").read_text(errors="replace")[-2_000:]
