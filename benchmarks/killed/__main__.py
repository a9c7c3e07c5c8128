"""`python -m benchmarks.killed`: kill the same agent on each framework, and count what is
repeated. `make peers` makes the environments first. See benchmarks/README.md."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from benchmarks.killed.contenders import CONTENDERS, ROOT, Contender
from benchmarks.killed.count import Count, count
from benchmarks.killed.kills import Moments, Story, play
from benchmarks.killed.table import markdown, plain


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0: all contenders ran, and Lorimer kept what it promises; 1 otherwise."""
    options = _options(arguments)
    chosen = [one for one in CONTENDERS if not options.only or one.name in options.only]
    for contender in chosen:
        if contender.missing(options.environments):
            print(f"{contender.name} has no environment: make peers", file=sys.stderr)
            return 1
    columns = [(contender, _measure(contender, options)) for contender in chosen]
    _tell("")
    print(markdown(columns) if options.markdown else plain(columns))
    print(f"\n{options.turns} turns a run, {options.pause_ms:g} ms a call, seed {options.seed}:")
    for versions in dict.fromkeys(one.versions(options.environments) for one in chosen):
        print(f"- {versions}")
    for contender, counted in columns:
        for trouble in counted.troubles:
            print(f"\n{contender.name}, {contender.setting}: {trouble}", file=sys.stderr)
    return 0 if all(_kept(*column) for column in columns) else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.killed", description=__doc__)
    names = list(dict.fromkeys(contender.name for contender in CONTENDERS))
    parser.add_argument("--kills", type=int, default=25, help="of each contender; default 25")
    parser.add_argument("--turns", type=int, default=20, help="of each run; default 20")
    parser.add_argument("--seed", type=int, default=1, help="of the moments to kill at; default 1")
    parser.add_argument(
        "--pause-ms", type=float, default=5.0, help="that model and tool take; default 5"
    )
    parser.add_argument("--only", action="append", choices=names, help="may be given twice")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--environments", type=Path, default=ROOT / ".peers", help="their folder")
    return parser.parse_args(arguments)


def _measure(contender: Contender, options: argparse.Namespace) -> Count:
    """Runs until there were enough kills; each contender has the same moments."""
    stories: list[Story] = []
    killed = 0
    pause_s = options.pause_ms / 1_000
    with TemporaryDirectory(prefix="lorimer-killed-") as all_runs:
        while killed < options.kills and len(stories) < options.kills + 1:
            _tell(f"{contender.name}, {contender.setting}: {killed} of {options.kills} kills")
            folder = Path(all_runs, str(len(stories)))
            folder.mkdir()
            command = contender.command(options.environments, folder, options.turns, pause_s)
            moments = Moments(
                most_marks=3 * options.turns // 2,  # a run makes four a turn
                most_delay_s=2 * pause_s + 0.002,  # into the call, or beyond it
                most_kills=options.kills - killed,
                dice=Random(f"{options.seed}/{len(stories)}"),
            )
            story = play(command, contender.environ(), folder, moments)
            stories.append(story)
            killed += len(story.kills)
        return count(stories, options.turns)


def _kept(contender: Contender, counted: Count) -> bool:
    """Of a peer: that it ran. Of ours: what docs/durability.md promises."""
    if contender.environment:
        return counted.kills > 0
    repeats = counted.model_settled + counted.tool_settled
    if contender.variant == "unsafe":
        repeats += counted.tool_ended + counted.tool_cut
    return counted.right == counted.runs and not repeats


def _tell(what: str) -> None:
    if os.isatty(2):
        print(f"\r\x1b[K{what}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
