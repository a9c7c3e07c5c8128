"""The port to child runs: runs that are part of another run. Shipped: `lorimer.session.children`.

A child has a stream of its own: the parent's fact `child` names it, and `parent` in its run.start
names the parent. It shares the parent's money (never more than is left), time, rules (never wider)
and end. That a child has ended is an effect of the parent; so a resumed parent reads the result of
an ended child from the child's journal, and resumes a child that had not ended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from lorimer.core.errors import ExecutorErrorCode, without_place
from lorimer.core.jsonable import JSON
from lorimer.core.messages import Message
from lorimer.core.record import record

RUNNING, WAITING = "running", "waiting"


@record
class ChildEnd:
    """How a child ended, or why it waits."""

    run_id: str
    agent: str
    status: str
    """The status of its run.end; `suspended` if it has none yet."""
    text: str = ""
    """Its last text, which may be incomplete."""
    code: ExecutorErrorCode | None = None
    message: str = ""
    usage: Mapping[str, JSON] | None = None
    cost_nano: int = 0
    """Cost of the child and everything below it."""


@record
class Task:
    """A child in the background."""

    id: str
    """What the model calls it: `t1`, `t2`, ..."""
    run_id: str
    agent: str
    input: str
    status: str
    """`running`, `waiting` (for a person), or the status of its run.end."""


def describe_end(end: ChildEnd) -> str:
    """The text that tells the model how a child ended."""
    if end.status == "ok":
        return end.text
    code = f" {end.code.value}" if end.code is not None else ""
    told = f"ERROR{code}: {end.agent} ended as {end.status}: {without_place(end.message)}"
    return f"{told}\nWhat it had said last:\n{end.text}" if end.text else told


class Children(Protocol):
    """The children of one run. All methods raise JournalError."""

    async def call(self, agent: str, prompt: JSON, key: str) -> ChildEnd:
        """Run a sub-agent until it ends; `prompt` is the input of its run. `key` identifies the
        call within its iteration: repeated under the same key, it is the same child.

        Journals `child`, and its cost as the effect `child:<key>`. Raises LimitError when no child
        may be started. If the caller is cancelled, so is the child; if the child waits for a
        person, the run is suspended.
        """
        ...

    async def transcript(self, end: ChildEnd) -> Sequence[Message]:
        """Everything that was said in a child that has ended."""
        ...

    async def begin(self, agent: str, prompt: str, key: str) -> Task:
        """Start a sub-agent in the background. Journals `child`. Raises as `call` does."""
        ...

    @property
    def busy(self) -> bool:
        """Whether there are children in the background whose end has not been reported to the
        run."""
        ...

    async def revive(self) -> None:
        """For a resumed run: resume the children in the background that had not ended."""
        ...

    async def tasks(self) -> Sequence[Task]:
        """All children started in the background, oldest first."""
        ...

    async def output(self, task: Task) -> str:
        """Everything the child has said so far, including the unfinished piece of an answer."""
        ...

    async def tell(self, task: Task, text: str, id: str) -> bool:
        """Send a child a text, which it sees before its next model call; once per `id`, see
        `core.mail.send`. False: it has ended."""
        ...

    async def stop(self, task: Task) -> None:
        """Cancel a child and wait until it has ended."""
        ...

    async def wait(self, timeout_s: float, task: Task | None = None) -> None:
        """Wait until one child in the background, or all of them, have ended or wait for a
        person."""
        ...

    @property
    def has_ended_tasks(self) -> bool:
        """Whether a child in the background has ended without this having been reported to the
        run."""
        ...

    def suspend_if_waiting(self) -> None:
        """The run has nothing else to do: if a child in the background waits for a person, the run
        is suspended until there is an answer."""
        ...

    def harvest(self) -> Mapping[str, JSON]:
        """How children ended whose end has not been reported to the run: `tasks`, each with `id`,
        `agent`, `status` and `text`; with their cost, for the effect that reports them."""
        ...
