"""Edits of steps: ranges of their code, guarded by a hash of it, shown as a unified diff."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import blake2b

from lorimer.core.jsonable import JSON
from lorimer.esg.analysis.parsing import NO_PYTHON, fault_of
from lorimer.esg.analysis.text import BUILTINS, Analysis, analyse
from lorimer.esg.graph.graph import ExecutionStateGraph
from lorimer.esg.graph.questions import StepError
from lorimer.esg.patching.forms import (
    Block,
    block_of,
    blocks_text,
    move_line,
    range_of,
    read_blocks,
    read_diff,
    read_moves,
    unified,
)


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace characters `start` to `end` of a step's code."""

    step: str
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Move:
    """Move a step right after another one; an empty `after`: before all."""

    step: str
    after: str


@dataclass(frozen=True, slots=True)
class PatchResult:
    """Edits that would fix a step, or none."""

    reason: str
    """What they fix, or why there are none."""
    edits: tuple[Edit, ...] = ()
    hashes: Mapping[str, str] = field(default_factory=dict[str, str])
    """Step -> hash of the code that its edits are for."""
    diff: str = ""
    """The same as a unified diff; each move is a line before it."""
    moves: tuple[Move, ...] = ()
    """Steps that are moved, one after the other."""
    blocks: str = ""
    """The same as search/replace blocks, the form that models write best."""

    def __bool__(self) -> bool:
        """Whether there is something to apply."""
        return bool(self.edits or self.moves)

    def as_json(self) -> str:
        """The same as JSON, with the hashes. `read_patch` reads all three forms."""
        data = {
            "reason": self.reason,
            "edits": [asdict(each) for each in self.edits],
            "moves": [asdict(each) for each in self.moves],
            "hashes": dict(self.hashes),
        }
        return json.dumps(data, ensure_ascii=False)

    def check(self, esg: ExecutionStateGraph) -> None:
        """Raises StepError if a step does not exist, or has changed since the patch was made."""
        for move in self.moves:
            for step in (move.step, move.after):
                if step and step not in esg:
                    raise StepError(f"there is no step {step!r} to move, or to move after")
        for step, expected in self.hashes.items():
            if hash_of(esg.source(step)) != expected:
                raise StepError(f"step {step!r} is not as it was when the patch was made")

    def apply(self, esg: ExecutionStateGraph) -> list[str]:
        """Edit and move the steps. Returns what becomes stale, in step order.

        Raises StepError like `check`, and then changes nothing.
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
    """A patch of these edits; an empty one, with the reason, if it may not be applied.

    This is the case if edits overlap, if a step would not be Python after them, or if a step would
    read a name that no earlier step makes, unless it does so already. `given`: names that exist
    without a step that makes them.
    """
    steps = dict.fromkeys(edit.step for edit in edits)
    texts = {step: patched(esg.source(step), edits, step) for step in steps}
    diff, blocks = list[str](), list[Block]()
    told = dict[str, Analysis]()
    for step, new in texts.items():
        if _overlap([each for each in edits if each.step == step], len(esg.source(step))):
            return PatchResult(f"two edits of {step} overlap, or one is outside of its text")
        try:
            told[step] = analyse(new)
        except NO_PYTHON as error:
            return PatchResult(f"{step} would be no Python: {fault_of(error)}")
        diff.append(unified(step, esg.source(step), new))
        blocks.append(block_of(step, esg.source(step), new))
    lost = _lost(esg, told, given)
    if lost:
        return PatchResult(f"no step would make {', '.join(lost)}")
    hashes = {step: hash_of(esg.source(step)) for step in steps}
    moved = [f"{move_line(each)}\n" for each in moves]
    return PatchResult(
        reason,
        tuple(edits),
        hashes,
        "".join([*moved, *diff]),
        tuple(moves),
        blocks_text(blocks, moves),
    )


def read_patch(
    text: str, esg: ExecutionStateGraph, reason: str = "", *, given: Collection[str] = ()
) -> PatchResult:
    """A patch from one of its forms: a unified diff, search/replace blocks, or JSON.

    `reason` and `given`: as for `patch_of`, whose checks apply; JSON contains its own reason.
    Raises StepError for text that is none of these, or does not fit the steps as they are.
    """
    if text.lstrip().startswith("{"):
        return _of_json(text, esg, given)
    moves = [Move(step, after) for step, after in read_moves(text)]
    edits = list[Edit]()
    for block in read_blocks(text):
        edits.append(Edit(block.step, *range_of(block, _source(esg, block.step))))
    if not edits:
        sources = {step: esg.source(step) for step in esg.steps}
        for step, new in read_diff(text, sources):
            edits.append(Edit(step, 0, len(sources[step]), new))
    if not edits and not moves:
        raise StepError("this contains no patch: no block, no diff, no move")
    for move in moves:
        for step in (move.step, *filter(None, [move.after])):
            _source(esg, step)
    return patch_of(edits, reason, esg, moves=moves, given=given)


def _of_json(text: str, esg: ExecutionStateGraph, given: Collection[str]) -> PatchResult:
    try:
        data: JSON = json.loads(text)
        edits, moves = [*_edits(_list(data, "edits"))], [*_moves(_list(data, "moves"))]
        hashes = {str(step): str(digest) for step, digest in _items(_field(data, "hashes"))}
    except (ValueError, TypeError) as error:
        raise StepError(f"this is not a patch in JSON: {error}") from None
    for edit in edits:
        if edit.step not in hashes:
            raise StepError(f"there is no hash of step {edit.step!r}")
    PatchResult("", tuple(edits), hashes, moves=tuple(moves)).check(esg)
    reason = _field(data, "reason")
    reason = reason if isinstance(reason, str) else ""
    return patch_of(edits, reason, esg, moves=moves, given=given)


def _field(data: JSON, name: str) -> JSON:
    if not isinstance(data, Mapping):
        raise TypeError("it is not an object")
    return data.get(name)


def _list(data: JSON, name: str) -> Sequence[JSON]:
    found = _field(data, name)
    if not isinstance(found, list | tuple):
        raise TypeError(f"{name!r} is not a list")
    return found


def _items(data: JSON) -> Iterable[tuple[str, JSON]]:
    if not isinstance(data, Mapping):
        raise TypeError("'hashes' is not an object")
    return data.items()


def _edits(given: Sequence[JSON]) -> Iterator[Edit]:
    for each in given:
        match each:
            case {"step": str(step), "start": int(start), "end": int(end), "text": str(text)}:
                yield Edit(step, start, end, text)
            case _:
                raise TypeError("an edit has a step, a start, an end and a text")


def _moves(given: Sequence[JSON]) -> Iterator[Move]:
    for each in given:
        match each:
            case {"step": str(step), "after": str(after)}:
                yield Move(step, after)
            case _:
                raise TypeError("a move has a step and what it comes after")


def _source(esg: ExecutionStateGraph, step: str) -> str:
    """Raises StepError if it does not exist."""
    return esg.source(step)


def _lost(
    esg: ExecutionStateGraph, told: Mapping[str, Analysis], given: Collection[str]
) -> list[str]:
    """Names that a step would read and no step make, and for which that is new."""

    def made(name: str, step: str) -> bool:
        """Whether an earlier step would make it, or it is a builtin."""
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
    """Whether two ranges share a character, or one is invalid."""
    at = 0
    for each in sorted(edits, key=_start):
        if not at <= each.start <= each.end <= size:
            return True
        at = each.end
    return False


def patched(source: str, edits: Sequence[Edit], step: str) -> str:
    """The code of a step after its edits. Of two at one position the first comes first."""
    parts, at = list[str](), 0
    for edit in sorted((each for each in edits if each.step == step), key=_start):
        parts += [source[at : edit.start], edit.text]
        at = edit.end
    return "".join([*parts, source[at:]])


def hash_of(source: str) -> str:
    return blake2b(source.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def _start(edit: Edit) -> tuple[int, int]:
    return edit.start, edit.end
