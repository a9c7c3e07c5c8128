"""Edits of steps: ranges of their text, guarded by a hash of it, shown as a unified diff."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

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
class PatchResult:
    """Edits that would mend a step, or none."""

    reason: str
    """What they mend, or why there are none."""
    edits: tuple[Edit, ...] = ()
    hashes: Mapping[str, str] = field(default_factory=dict[str, str])
    """Step -> hash of the text that its edits are for."""
    diff: str = ""
    """The same as a unified diff."""

    def __bool__(self) -> bool:
        """There is something to apply."""
        return bool(self.edits)

    def apply(self, esg: ExecutionStateGraph) -> list[str]:
        """Edit the steps. Returns what is stale by that, in step order.

        Raises StepError, and changes nothing, when a step is no longer as it was.
        """
        texts = {step: patched(esg.source(step), self.edits, step) for step in self.hashes}
        for step, expected in self.hashes.items():
            if hash_of(esg.source(step)) != expected:
                raise StepError(f"step {step!r} is not as it was when the patch was made")
        stale = set[str]()
        for step, text in texts.items():
            stale.update(esg.edit_step(step, text))
        return [step for step in esg.steps if step in stale]


def patch_of(edits: Sequence[Edit], reason: str, esg: ExecutionStateGraph) -> PatchResult | None:
    """A patch of these edits; None if a step would be no Python by it."""
    steps = dict.fromkeys(edit.step for edit in edits)
    diff = list[str]()
    for step in steps:
        old = esg.source(step)
        new = patched(old, edits, step)
        try:
            ast.parse(new)
        except (SyntaxError, ValueError):
            return None
        before, after = (_ended(text).splitlines(keepends=True) for text in (old, new))
        diff += difflib.unified_diff(before, after, step, step)
    hashes = {step: hash_of(esg.source(step)) for step in steps}
    return PatchResult(reason, tuple(edits), hashes, "".join(diff))


def patched(source: str, edits: Sequence[Edit], step: str) -> str:
    """The text of a step after its edits."""
    for edit in sorted((each for each in edits if each.step == step), key=_start, reverse=True):
        source = source[: edit.start] + edit.text + source[edit.end :]
    return source


def hash_of(source: str) -> str:
    return blake2b(source.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def _start(edit: Edit) -> int:
    return edit.start


def _ended(text: str) -> str:
    return text if text.endswith("\n") else text + "\n"
