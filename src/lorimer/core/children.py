"""The port to child runs: runs that are part of another. Shipped: `lorimer.session.children`.

A child has a stream of its own: the fact `child` in its parent's names it, `parent` in its
run.start its parent. It shares its parent's money (never more than is left), time, rules (never
wider) and end. That it has ended is an effect of its parent's; so a parent that is resumed takes
what an ended child said from that one's journal, and goes on with one that had not ended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from lorimer.core.errors import ExecutorErrorCode
from lorimer.core.jsonable import JSON
from lorimer.core.messages import Message
from lorimer.core.record import record

RUNNING, WAITING = "running", "waiting"


@record
class ChildEnd:
    """How a child came to its end, or to rest."""

    run_id: str
    agent: str
    status: str
    """Of its run.end; `suspended`: it has none yet."""
    text: str = ""
    """What it has said last, be it only a part."""
    code: ExecutorErrorCode | None = None
    message: str = ""
    usage: Mapping[str, JSON] | None = None
    cost_nano: int = 0
    """Of it and all below it."""


@record
class Task:
    """A child in the background."""

    id: str
    """What the model calls it: `t1`, `t2`, ..."""
    run_id: str
    agent: str
    input: str
    status: str
    """`running`, `waiting` (for a person), or that of its run.end."""


def describe_end(end: ChildEnd) -> str:
    """The text by which a model learns how a child has ended."""
    if end.status == "ok":
        return end.text
    code = f" {end.code.value}" if end.code is not None else ""
    told = f"ERROR{code}: {end.agent} ended as {end.status}: {end.message}"
    return f"{told}\nWhat it had said last:\n{end.text}" if end.text else told


class Children(Protocol):
    """The children of one run. All methods raise JournalError."""

    async def call(self, agent: str, prompt: JSON, key: str) -> ChildEnd:
        """Have a sub-agent work until its end; `prompt` is the input of its run. `key` names the
        call within its iteration: made again under it, it is the same child.

        Journals `child`, and as the effect `child:<key>` what it cost. Raises
        LimitError where it may not. When the caller is cancelled so is the child; when it waits
        for a person, the run is suspended.
        """
        ...

    async def transcript(self, end: ChildEnd) -> Sequence[Message]:
        """All that was said in a child that has ended."""
        ...

    async def begin(self, agent: str, prompt: str, key: str) -> Task:
        """Have a sub-agent work in the background. Journals `child`. Raises as `call`
        does."""
        ...

    @property
    def busy(self) -> bool:
        """There are children in the background of which the run was not told yet how they
        ended."""
        ...

    async def revive(self) -> None:
        """Of a resumed run: go on with those in the background that had not ended."""
        ...

    async def tasks(self) -> Sequence[Task]:
        """All that were begun in the background, oldest first."""
        ...

    async def output(self, task: Task) -> str:
        """All that it has said until now, the unfinished piece of an answer included."""
        ...

    async def tell(self, task: Task, text: str, id: str) -> bool:
        """Send it a text, which it sees before its next model call; once under one `id`, see
        `core.mail.send`. False: it has ended."""
        ...

    async def stop(self, task: Task) -> None:
        """Cancel it, and wait until it has ended."""
        ...

    async def wait(self, timeout_s: float, task: Task | None = None) -> None:
        """Wait until one in the background, or all of them, have ended or wait for a person."""
        ...

    @property
    def has_ended_tasks(self) -> bool:
        """One in the background has ended, and the run was not told yet."""
        ...

    def suspend_if_waiting(self) -> None:
        """The run has nothing else to do: when one in the background waits for a person, it is
        suspended until there is an answer."""
        ...

    def harvest(self) -> Mapping[str, JSON]:
        """How those came to their end of which the run was not told yet: `tasks`, each with `id`,
        `agent`, `status` and `text`; with what they cost, for the effect that tells of them."""
        ...
