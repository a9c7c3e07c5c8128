"""The conversation as it was in the middle of a run, for another run to continue from."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing

from lorimer.core.arguments import is_a, wrong
from lorimer.core.errors import ExecutorErrorCode, PipelineError
from lorimer.core.events import Event
from lorimer.core.history import History
from lorimer.core.journal import Journal
from lorimer.core.jsonable import JSON
from lorimer.core.record import record
from lorimer.core.wellformed import repaired
from lorimer.core.world import World
from lorimer.journal.conversation import Conversation, latest
from lorimer.journal.fold import Fold
from lorimer.journal.recording import Recording


def history_after(run: Recording, turns: int, *, prompted: bool) -> History:
    """All messages before the run, and its first `turns` turns with the results of their calls.
    `prompted`: an input comes next.

    Raises ConfigError when `turns` is not an integer; PipelineError `exec.input.invalid` when the
    run has fewer completed turns, and when the last of them is an answer and no input follows, so
    that there is nothing to do.
    """
    if not is_a(turns, int):
        raise wrong("after", turns, "a whole number", "after=3")
    made = turns_of(run)
    if not 1 <= turns <= made:
        raise PipelineError(
            f"Run {run.run_id} cannot be forked after turn {turns}: {made or 'none'} of its turns "
            f"{'is' if made == 1 else 'are'} over.",
            code=ExecutorErrorCode.EXEC_INPUT_INVALID,
            hint=f"lorimer runs show {run.run_id} shows its turns.",
        )
    fold = Fold()
    fold.messages, fold.receipt = list(run.history), run.receipt
    for fact in run.facts:
        if fact.iteration >= turns or fact.type == "run.end":
            break
        fold.apply(fact)
    fold.close()
    messages = repaired(fold.messages)
    if not prompted and messages[-1].role == "assistant":
        raise PipelineError(
            f"Turn {turns} of run {run.run_id} is an answer: there is nothing to do after it.",
            code=ExecutorErrorCode.EXEC_INPUT_INVALID,
            hint="Give the fork an input, or fork after an earlier turn.",
        )
    history = History(messages)
    history.adopt_receipt(fold.receipt)
    return history


@record
class ForkPoint:
    """Where a fork leaves a conversation: its history up to one of its facts."""

    history: History
    parent: Mapping[str, JSON]
    """The run and the iteration that the fact belongs to, in the form of `forked`."""
    last: bool
    """No fact comes after it."""


async def history_at(journal: Journal, stream: str, seq: int) -> ForkPoint:
    """All messages of a conversation up to its fact number `seq`; if a run was live then, with an
    answer to every call. Claims nothing. Raises PipelineError `exec.run.unknown` when the journal
    does not have it."""
    fold = await latest(journal, stream)
    if fold.seq > seq:
        fold = Fold()
    iteration, last = 0, True
    async with aclosing(journal.read(stream, fold.seq)) as facts:
        async for fact in facts:
            if (fact.seq or 0) > seq:
                last = False
                break
            fold.apply(fact)
            iteration = fact.iteration
    if fold.seq != seq:
        raise PipelineError(
            f"This journal does not hold fact {seq} of {stream!r}.",
            code=ExecutorErrorCode.EXEC_RUN_UNKNOWN,
            hint="It is another journal, or the conversation was deleted since.",
        )
    fold.close()
    run = fold.runs[-1].run_id if fold.runs else ""
    history = History(repaired(fold.messages))
    history.adopt_receipt(fold.receipt)
    return ForkPoint(history, {"run": run, "iteration": iteration}, last)


async def open_fork(
    journal: Journal,
    stream: str,
    owner: str,
    world: World,
    history: History,
    parent: JSON,
    claim_s: float,
) -> Conversation:
    """A new conversation that begins with the fact `forked`, which contains these messages. The
    first run's first fact, which comes next, is synced, and this with it."""
    now = world.monotonic()
    epoch = await journal.claim(stream, owner, claim_s)
    data: dict[str, JSON] = {
        "parent": parent,
        "messages": [message.to_json() for message in history],
    }
    if history.receipt is not None:
        data["compacted"] = history.receipt.to_json()
    fact = Event("forked", data, time=world.time())
    await journal.append(stream, epoch, [fact], sync=False)
    conversation = Conversation(journal, stream, world, epoch, claim_s, now)
    conversation.add([fact])
    conversation.history = history
    return conversation


def turns_of(run: Recording) -> int:
    """How many turns of a run are complete: the last turn of an unfinished run may not be."""
    begun = [fact.iteration + 1 for fact in run.facts if fact.type == "model.intent"]
    if run.end is not None:
        return max(begun, default=0)
    over = [fact.iteration + 1 for fact in run.facts if fact.type == "iteration.end"]
    return max([*over, *[number - 1 for number in begun]], default=0)
