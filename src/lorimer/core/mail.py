"""Messages to a run from any process: `send` a text, `answer` a question, `change` its manifest,
`cancel` it. A run is identified by its full id.

A message goes into the inbox of the run's stream and stays there until a fact of the run takes it,
so it is neither lost nor taken twice. A live run is notified at once; a suspended one finds the
message when it is resumed: see `mailbox.py`. How a journal stores messages:
`journal/sqlite/inbox.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Final, Literal

from lorimer.core.arguments import is_a
from lorimer.core.errors import (
    ExecutorErrorCode,
    JournalError,
    MutationError,
    PipelineError,
)
from lorimer.core.events import Event
from lorimer.core.journal import Journal, RunRow, find
from lorimer.core.jsonable import JSON, clean, texts_of
from lorimer.core.record import record
from lorimer.core.redaction import of_environment

MAX_TEXT_CHARS: Final = 100_000
"""Most characters of a text that is sent to a run."""

_APPROVAL: Final = "approval:"


@record
class Question:
    """A question of a run to a person: may this call be made? With `wants` "text": a question of a
    tool."""

    id: str
    """`<iteration>:<index of the call>`."""
    tool: str
    input: str
    """The arguments, as JSON."""
    reason: str
    """Why the person is asked; for a tool's question, the question itself."""
    wants: Literal["approval", "text"] = "approval"
    options: tuple[str, ...] = ()
    """Suggested answers to a question for text; any other text is valid too."""
    run: str = ""
    """The run that asks, if it is a child of the one that was asked about."""

    @property
    def name(self) -> str:
        """Identifies it among the questions of a run and all its descendants."""
        return f"{self.run}:{self.id}" if self.run else self.id


async def send(journal: Journal, run_id: str, text: str, *, id: str) -> bool:
    """Add a text to the conversation of an unfinished run, before its next model call.

    `id` identifies the message: sent again under the same id it changes nothing, and False is
    returned. A run that has its answer already continues, within its limits. Raises PipelineError
    when there is no such run or it has ended, JournalError when the message could not be stored.
    """
    if not is_a(text, str) or not text.strip() or len(text) > MAX_TEXT_CHARS:
        raise _wrong(f"A message to a run has 1 to {MAX_TEXT_CHARS} characters.")
    row = await _unfinished(journal, run_id)
    redactor = of_environment()
    if redactor is not None:  # it is stored as it is posted
        text = redactor.text(text)
    message: dict[str, JSON] = {"kind": "text", "run": row.run_id, "text": clean(text)}
    return await journal.post(row.stream, id, message)


async def answer(journal: Journal, run_id: str, answer: bool | str, *, question: str = "") -> bool:
    """Answer a question of a run: True or False to whether a call may be made, a text to a tool's
    question.

    `question` may be omitted when there is only one. The first answer counts: False means that
    there was one already. Raises PipelineError when nothing is asked, or something else.
    """
    row = await _unfinished(journal, run_id)
    asked = {each.name: each for each in await questions(journal, row)}
    known = list(asked)
    if not known or (question and question not in known) or (not question and len(known) > 1):
        asks = f"asks {', '.join(known)}" if known else "asks nothing"
        raise PipelineError(
            f"Run {row.run_id} {asks}{f', not {question!r}' if question else ''}.",
            code=ExecutorErrorCode.EXEC_INPUT_INVALID,
            hint=f"lorimer runs show {row.run_id}",
        )
    name = question or known[0]
    about = asked[name]
    if about.run:
        row = await _unfinished(journal, about.run)
    message: dict[str, JSON] = {"kind": "answer", "run": row.run_id, "question": about.id}
    if isinstance(answer, bool) and about.wants == "approval":
        message["approved"] = answer
    elif isinstance(answer, str) and about.wants == "text":
        if not answer.strip() or len(answer) > MAX_TEXT_CHARS:
            raise _wrong(f"An answer has 1 to {MAX_TEXT_CHARS} characters.")
        message["text"] = clean(answer)
    else:
        wants = "a text" if about.wants == "text" else "yes or no (True or False)"
        raise _wrong(f"Question {name} of run {row.run_id} wants {wants} for an answer.")
    return await journal.post(row.stream, f"answer {row.run_id} {about.id}", message)


async def cancel(journal: Journal, run_id: str) -> bool:
    """Ask whichever process executes the run to cancel it; False: that was requested before. A run
    that no process executes is not ended by this: see `Pipeline.abandon`."""
    row = await _unfinished(journal, run_id)
    message: dict[str, JSON] = {"kind": "cancel", "run": row.run_id}
    return await journal.post(row.stream, f"cancel {row.run_id}", message)


async def change(
    journal: Journal, run_id: str, changes: Sequence[Mapping[str, JSON]], *, id: str
) -> bool:
    """Ask an unfinished run to change its manifest, before its next model call. This run only, and
    no other of its pipeline; all of the changes are made, or none.

    `changes` are the JSON of `core/mutation`; `id` as in `send`. Whether they fit, and may be
    made there, the run says in its fact `mutated`: see `taken`. Raises MutationError for what is no
    change or holds a secret, PipelineError and JournalError as `send` does.
    """
    from lorimer.core import mutation  # only who changes something pays for it

    if not changes:
        raise MutationError("there is nothing to change")
    made: list[JSON] = [mutation.plain(mutation.read(each)) for each in changes]
    redactor = of_environment()
    if redactor is not None and redactor.json(made, deep=True) != made:
        raise MutationError(
            "a change holds a secret",
            hint="A run records its changes; name a variable instead: ${NAME}",
        )
    row = await _unfinished(journal, run_id)
    message: dict[str, JSON] = {"kind": "change", "run": row.run_id, "changes": made}
    return await journal.post(row.stream, id, message)


async def taken(journal: Journal, row: RunRow, id: str) -> Event | None:
    """The fact by which a run has taken a message; None: it has not yet."""
    async with aclosing(journal.read(row.stream, row.first - 1)) as facts:
        async for fact in facts:
            posts = fact.data.get("posts") if fact.run_id == row.run_id else None
            if isinstance(posts, list | tuple) and id in posts:
                return fact
    return None


async def questions(journal: Journal, run: RunRow | str) -> list[Question]:
    """The unanswered questions of a run, given by its row or its id, and of its child runs, each
    once, whatever facts written by others say; those of damaged child runs are left out. A run that
    has ended has none. Raises PipelineError if there is no such run."""
    row = run if isinstance(run, RunRow) else await find(journal, run, whole=True)
    found: list[Question] = []
    known = {row.run_id}
    waiting = [] if row.status else [row]
    while waiting:
        at = waiting.pop()
        try:
            asked, below = await _asked(journal, at)
        except JournalError:
            if at is row or not await journal.check(at.stream):
                raise
            continue  # a damaged child: nothing that it asks can be answered
        found += asked if at is row else [replace(each, run=at.run_id) for each in asked]
        for run_id in reversed([each for each in below if each not in known]):
            known.add(run_id)
            child = await journal.find_run(run_id)
            if child is not None and not child.status:
                waiting.append(child)
    return found


async def _asked(journal: Journal, row: RunRow) -> tuple[list[Question], list[str]]:
    """The questions of a run itself, and the child runs that it has started."""
    asked: dict[str, Question] = {}
    below: dict[str, None] = {}
    async for fact in journal.read(row.stream, row.first - 1):
        if fact.run_id != row.run_id:  # it has ended since, and another has begun
            continue
        found = question_in(fact)
        if found is not None:
            asked[found.id] = found
        elif fact.type == "effect":
            asked.pop(_token(fact), None)
        elif fact.type == "child":
            below[str(fact.data.get("run"))] = None
    for post in await journal.posts(row.stream):
        if post.message.get("run") == row.run_id:  # not to a run given up after it was answered
            asked.pop(str(post.message.get("question")), None)
    return list(asked.values()), list(below)


def question_in(fact: Event) -> Question | None:
    """The question in a fact."""
    asked = fact.data.get("question")
    if fact.type != "effect.intent" or not isinstance(asked, Mapping):
        return None
    tool, given, reason = asked.get("tool"), asked.get("input"), asked.get("reason")
    return Question(
        _token(fact),
        str(tool),
        str(given),
        str(reason),
        "text" if asked.get("wants") == "text" else "approval",
        texts_of(asked.get("options")),
    )


def _token(fact: Event) -> str:
    return f"{fact.iteration}:{str(fact.data.get('key')).removeprefix(_APPROVAL)}"


def _wrong(message: str) -> PipelineError:
    return PipelineError(message, code=ExecutorErrorCode.EXEC_INPUT_INVALID)


async def _unfinished(journal: Journal, run_id: str) -> RunRow:
    row = await find(journal, run_id, whole=True)  # a message to one run is not for another
    if row.status:
        raise PipelineError(
            f"Run {row.run_id} has ended ({row.status}); nobody would read it.",
            code=ExecutorErrorCode.EXEC_RUN_ENDED,
            hint=f"lorimer runs show {row.run_id} tells how it ended.",
        )
    return row
