"""Edits of steps: ranges of their text, guarded by a hash of it, shown as a unified diff."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from lorimer.esg.analysis import BUILTINS, Analysis, analyse
from lorimer.esg.graph import ExecutionStateGraph
from lorimer.esg.questions import StepError


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace characters `start` to `end` of a step's text."""

    step: str
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Move:
    """Put a step right after another one; `after` is empty for before all."""

    step: str
    after: str


@dataclass(frozen=True, slots=True)
class PatchResult:
    """Edits that would mend a step, or none."""

    reason: str
    """What they mend, or why there are none."""
    edits: tuple[Edit, ...] = ()
    hashes: Mapping[str, str] = field(default_factory=dict[str, str])
    """Step -> hash of the text that its edits are for."""
    diff: str = ""
    """The same as a unified diff; a move is a line of its own before it."""
    moves: tuple[Move, ...] = ()
    """Steps that come elsewhere, one after the other."""

    def __bool__(self) -> bool:
        """There is something to apply."""
        return bool(self.edits or self.moves)

    def check(self, esg: ExecutionStateGraph) -> None:
        """Raises StepError when a step is not there, or not as it was when the patch was made."""
        for move in self.moves:
            for step in (move.step, move.after):
                if step and step not in esg:
                    raise StepError(f"there is no step {step!r} to move, or to move after")
        for step, expected in self.hashes.items():
            if hash_of(esg.source(step)) != expected:
                raise StepError(f"step {step!r} is not as it was when the patch was made")

    def apply(self, esg: ExecutionStateGraph) -> list[str]:
        """Edit and move the steps. Returns what is stale by that, in step order.

        Raises StepError as `check` does, and then changes nothing.
        """
        self.check(esg)
        stale = set[str]()
        for step in self.hashes:
            stale.update(esg.edit_step(step, patched(esg.source(step), self.edits, step)))
        for move in self.moves:
            stale.update(esg.move_step(move.step, after=move.after))
        return [step for step in esg.steps if step in stale]


def patch_of(
    edits: Sequence[Edit],
    reason: str,
    esg: ExecutionStateGraph,
    *,
    moves: Sequence[Move] = (),
    given: Collection[str] = (),
) -> PatchResult:
    """A patch of these edits; an empty one, with the reason, where it may not be applied.

    That is where edits overlap, where a step would be no Python by them, and where a step would
    read a name that no step before it makes, and had none such before. `given`: names that are
    there without a step.
    """
    steps = dict.fromkeys(edit.step for edit in edits)
    texts = {step: patched(esg.source(step), edits, step) for step in steps}
    diff = list[str]()
    told = dict[str, Analysis]()
    for step, new in texts.items():
        if _overlap([each for each in edits if each.step == step], len(esg.source(step))):
            return PatchResult(f"two edits of {step} overlap, or one is outside of its text")
        try:
            told[step] = analyse(new)
        except (SyntaxError, ValueError, RecursionError) as error:
            return PatchResult(f"{step} would be no Python: {error}")
        diff += difflib.unified_diff(_lines(esg.source(step)), _lines(new), step, step)
    lost = _lost(esg, told, given)
    if lost:
        return PatchResult(f"no step would make {', '.join(lost)}")
    hashes = {step: hash_of(esg.source(step)) for step in steps}
    moved = [f"move {each.step} after {each.after or '(nothing)'}\n" for each in moves]
    return PatchResult(reason, tuple(edits), hashes, "".join([*moved, *diff]), tuple(moves))


def _lost(
    esg: ExecutionStateGraph, told: Mapping[str, Analysis], given: Collection[str]
) -> list[str]:
    """Names that somebody would read and nobody make, and that are not like that now."""

    def made(name: str, step: str) -> bool:
        """Whether some step before this one would make it, or Python does."""
        if name in BUILTINS:
            return True
        for each in esg.steps:
            if each == step:
                return False
            writes = told[each].writes if each in told else esg.may_write(each)
            if name in writes or (each in told and told[each].writes_unknown):
                return True
        return False

    found = dict[str, None]()
    for step, new in told.items():
        before = esg.unresolved(step)
        outside = {name for name in given if not esg.last_writer(name)}
        for name in sorted(new.reads - before.keys() - outside):
            if not made(name, step):
                found[name] = None
        gone = esg.may_write(step) - new.writes if not new.writes_unknown else set[str]()
        for name, reader in esg.readers(step):
            reads = told[reader].reads if reader in told else {name}
            if name in gone and name in reads and not made(name, reader):
                found[name] = None
    return [*found]


def _overlap(edits: Sequence[Edit], size: int) -> bool:
    """Whether two ranges share a character, or one is none."""
    at = 0
    for each in sorted(edits, key=_start):
        if not at <= each.start <= each.end <= size:
            return True
        at = each.end
    return False


def patched(source: str, edits: Sequence[Edit], step: str) -> str:
    """The text of a step after its edits. Of two at one place the first comes first."""
    parts, at = list[str](), 0
    for edit in sorted((each for each in edits if each.step == step), key=_start):
        parts += [source[at : edit.start], edit.text]
        at = edit.end
    return "".join([*parts, source[at:]])


def hash_of(source: str) -> str:
    return blake2b(source.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def _start(edit: Edit) -> tuple[int, int]:
    return edit.start, edit.end


def _lines(text: str) -> list[str]:
    """With their ends; the last one always has one."""
    return [f"{line}\n" for line in text.removesuffix("\n").split("\n")]
