"""What rules allow is run: in a shell in which every program only notes that it was started.

A million strings made of the pieces that break such rules; whatever is allowed must start nothing
but what its rules name, with the words that the parser saw.
"""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

from lorimer.tools.shell.parse import parse
from lorimer.tools.shell.rules import CommandRule, CommandRules
from tests.seeds import fresh

FULL = os.environ.get("LORIMER_CAMPAIGN") == "1"
STRINGS = 1_000_000 if FULL else 20_000
BATCH = 120

RULES = [CommandRule.parse(text) for text in ("ls **", "git log **", "cat *", "echo **")]
NAMES = ("ls", "git", "cat", "echo", "rm", "env", "sudo", "a", "log", "x", "timeout", "nice", "sh")
PIECES = (
    *NAMES, *NAMES, "ls", "git log", "cat a", " ", " ", " ", " ", "\t", "\n", "'", '"', "\\", "`",
    "$", "(", ")", "{", "}", "{}", "[", "]", "*", "?", "~", "!", "^", "#", "%", "&", "&&", "|",
    "||", ";", ";;", "<", ">", ">>", "<<", "<<<", "2>&1", ">&", "&>", "2>", "=", "A=b", "LANG=C",
    "PATH=.", "$x", "$(", "${x}", "-c", "-e", "--output=o", "-", "--", ":", ",", "@", "/", "./",
    "..", "\r", "\x0b", "\u00a0", "\u2028", "é", "if", "then", "time", "function", "eval", "exec",
    ".", "[[", "1", "0", "5", "''", '""', "\\\n", "a b",
)  # fmt: skip

MARKER = """#!/bin/sh
printf '%s\\000' "${{0##*/}}" "$@" '\x01' >> '{log}'
"""
"""One write each: those of a pipeline run side by side."""


def strings(seed: int, count: int) -> list[str]:
    dice = random.Random(seed)
    out = []
    for _ in range(count):
        size = dice.randrange(1, 9)
        start = dice.choice(("", "ls", "ls ", "git log ", "cat ", "echo ", "nice ls", "timeout 1 "))
        out.append(start + "".join(dice.choices(PIECES, k=size)))
    return out


@pytest.fixture
def jail(tmp_path: Path) -> Path:
    programs = tmp_path / "bin"
    programs.mkdir()
    script = MARKER.format(log=tmp_path / "log")
    for name in {*NAMES, "python", "evil"}:
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)
    (tmp_path / "work").mkdir()
    return tmp_path


def started(jail: Path, text: str) -> list[list[str]]:
    """What a shell starts for this text, in order."""
    log = jail / "log"
    log.write_text("")
    subprocess.run(
        # `enable -n`: echo and the like are programs of the jail, and so they tell
        ["/bin/bash", "--noprofile", "--norc", "-c", f"enable -n echo\n{text}"],
        env={"PATH": str(jail / "bin")},
        cwd=jail / "work",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=30,
        check=False,
    )
    return [words.split("\0")[:-1] for words in log.read_text().split("\1\0")[:-1]]


def wrong(jail: Path, text: str) -> str:
    """What a shell did with an allowed text that the rules do not name; "" for nothing."""
    expected = [list(command.argv) for command in parse(text).commands]
    for words in started(jail, text):
        named = [list(argv) for argv in expected if argv and argv[0] == words[0]]
        if words not in named:
            return f"{text!r} started {words}, the parser saw {expected}"
    return ""


@pytest.mark.timeout(0)
@pytest.mark.parametrize("seed", [7, fresh()], ids=["fixed", "new"])
def test_what_is_allowed_starts_nothing_else(jail: Path, seed: int) -> None:
    print(f"seed {seed}")
    tried: set[str] = set()
    for text in strings(seed, STRINGS // 2):
        if text not in tried and not CommandRules(RULES).uncovered(text, parse(text)):
            tried.add(text)
    ran = sorted(tried) if FULL else sorted(tried)[:: max(1, len(tried) // BATCH)]
    print(f"{len(tried)} of {STRINGS // 2} strings allowed, {len(ran)} run")
    assert len(ran) > 100
    assert [found for text in ran if (found := wrong(jail, text))] == []


def test_the_oracle_sees(jail: Path) -> None:
    assert started(jail, "ls $(rm x); echo 'a b'") == [["rm", "x"], ["ls"], ["echo", "a b"]]
    assert wrong(jail, "ls $(rm x)")
