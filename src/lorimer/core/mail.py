"""What others may tell a run, from any process: `send` a text, `answer` a question, `change` its
manifest, `cancel`.

A message goes into the inbox of the run's stream and stays there until a fact of the run takes
it, so it is neither lost nor taken twice. A live run is told at once; one that is suspended finds
it when it is resumed. How a journal keeps messages: `journal/inbox.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal

from anyio import CancelScope

from lorimer.core.cancel import Reason
from lorimer.core.changed import Asked
from lorimer.core.context import RunContext, Safety
from lorimer.core.errors import (
    ExecutorErrorCode,
    JournalError,
    MutationError,
    PipelineError,
)
from lorimer.core.events import Event
from lorimer.core.hooks import Hooks, heard
from lorimer.core.journal import Journal, Post, RunRow
from lorimer.core.jsonable import JSON
from lorimer.core.messages import ImageBlock, message_from_json
from lorimer.core.record import record
from lorimer.core.redaction import logger, of_environment

if TYPE_CHECKING:
    from lorimer.core.state import PipelineState

MAX_TEXT_CHARS: Final = 100_000
"""Of a text that is sent to a run."""

_APPROVAL: Final = "approval:"

_log: Final = logger("lorimer.mail")


@record
class Question:
    """What a run asks a person: may this call run? Or, with `wants` "text", what a tool asks."""

    id: str
    """`<iteration>:<place of the call>`."""
    tool: str
    input: str
    """The arguments, as JSON."""
    reason: str
    """Why they are asked; of what a tool asks, the question."""
    wants: Literal["approval", "text"] = "approval"
    options: tuple[str, ...] = ()
    """Of a text: answers to choose from; any other is one too."""
    run: str = ""
    """The run that asks, where it is part of the one that was looked at."""

    @property
    def name(self) -> str:
        """What tells it from the others of a run and all below it."""
        return f"{self.run}:{self.id}" if self.run else self.id


# --- sending ---------------------------------------------------------------------------------


async def send(journal: Journal, run_id: str, text: str, *, id: str) -> bool:
    """Add a text to the conversation of an unfinished run, before its next model call.

    `id` names the message: sent again under the same id it changes nothing, and False is
    returned. A run that has its answer already goes on with it, within its limits. Raises
    PipelineError when there is no such run or it has ended, JournalError when nothing was kept.
    """
    if not text.strip() or len(text) > MAX_TEXT_CHARS:
        raise _wrong(f"A message to a run has 1 to {MAX_TEXT_CHARS} characters.")
    row = await _unfinished(journal, run_id)
    redactor = of_environment()
    if redactor is not None:  # it is kept as it is posted
        text = redactor.text(text)
    return await journal.post(row.stream, id, {"kind": "text", "run": row.run_id, "text": text})


async def answer(journal: Journal, run_id: str, answer: bool | str, *, question: str = "") -> bool:
    """Answer what a run asks: True or False whether a call may run, a text to what a tool asks.

    `question` may be left out when there is but one. The first answer counts: False says that
    there was one. Raises PipelineError when nothing is asked, or something else.
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
        message["text"] = answer
    else:
        wants = "a text" if about.wants == "text" else "yes or no"
        raise _wrong(f"Question {name} of run {row.run_id} wants {wants} for an answer.")
    return await journal.post(row.stream, f"answer {row.run_id} {about.id}", message)


async def cancel(journal: Journal, run_id: str) -> bool:
    """Ask whoever has the run to cancel it; False: that was asked before. A run that nobody has
    is not ended by this: see `Pipeline.abandon`."""
    row = await _unfinished(journal, run_id)
    message: dict[str, JSON] = {"kind": "cancel", "run": row.run_id}
    return await journal.post(row.stream, f"cancel {row.run_id}", message)


async def change(
    journal: Journal, run_id: str, changes: Sequence[Mapping[str, JSON]], *, id: str
) -> bool:
    """Ask an unfinished run to change its manifest, before its next model call. This run only, and
    no other of its pipeline; all of the changes are made, or none.

    `changes` are the JSON of `core/mutation.py`; `id` as in `send`. Whether they fit, and may be
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


async def questions(journal: Journal, row: RunRow) -> list[Question]:
    """What a run asks and nobody has answered; also runs that are part of it."""
    asked: dict[str, Question] = {}
    below: dict[str, None] = {}
    async for fact in journal.read(row.stream, row.first - 1):
        if fact.run_id != row.run_id:
            continue
        found = question_in(fact)
        if found is not None:
            asked[found.id] = found
        elif fact.type == "effect":
            asked.pop(_token(fact), None)
        elif fact.type == "child":
            below[str(fact.data.get("run"))] = None
    for post in await journal.posts(row.stream):
        asked.pop(str(post.message.get("question")), None)
    found = list(asked.values())
    for run_id in below:
        child = await journal.find_run(run_id)
        if child is not None and not child.status:
            theirs = await questions(journal, child)
            found += [replace(each, run=each.run or run_id) for each in theirs]
    return found


def question_in(fact: Event) -> Question | None:
    """The question that a fact puts."""
    asked = fact.data.get("question")
    if fact.type != "effect.intent" or not isinstance(asked, Mapping):
        return None
    tool, given, reason = asked.get("tool"), asked.get("input"), asked.get("reason")
    options = asked.get("options")
    return Question(
        _token(fact),
        str(tool),
        str(given),
        str(reason),
        "text" if asked.get("wants") == "text" else "approval",
        tuple(map(str, options)) if isinstance(options, list | tuple) else (),
    )


def _token(fact: Event) -> str:
    return f"{fact.iteration}:{str(fact.data.get('key')).removeprefix(_APPROVAL)}"


def _wrong(message: str) -> PipelineError:
    return PipelineError(message, code=ExecutorErrorCode.EXEC_INPUT_INVALID)


async def _unfinished(journal: Journal, run_id: str) -> RunRow:
    row = await journal.find_run(run_id)
    if row is None:
        raise PipelineError(
            f"There is no run {run_id!r} in this store.",
            code=ExecutorErrorCode.EXEC_RUN_UNKNOWN,
            hint="lorimer runs ls shows the runs there are.",
        )
    if row.status:
        raise PipelineError(
            f"Run {row.run_id} has ended ({row.status}); nobody would read it.",
            code=ExecutorErrorCode.EXEC_RUN_ENDED,
        )
    return row


@record
class Nudge:
    """What the program that runs a run shows to its model."""

    text: str
    images: tuple[ImageBlock, ...] = ()


# --- receiving -------------------------------------------------------------------------------


class Mail:
    """The messages to one live run, from the first look into its inbox on. Belongs to the run's
    task; owns the tasks that look."""

    __slots__ = (
        "_answers",
        "_closed",
        "_context",
        "_looking",
        "_mine",
        "_nudges",
        "_seen",
        "_texts",
        "_waiting",
    )

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._closed = False
        self._texts: list[Post] = []
        self._nudges: list[Nudge] = []
        self._answers: dict[str, Post] = {}
        self._waiting: dict[str, asyncio.Future[Post]] = {}
        self._seen: set[str] = set()
        self._mine: list[str] = []
        """Ids of answers and of a cancel; those of changes are with what is upcoming."""
        self._looking: asyncio.Task[None] | None = None

    @property
    def texts(self) -> bool:
        """There are texts that the model was not shown yet."""
        return bool(self._texts)

    @property
    def nudged(self) -> bool:
        """The program that runs it has something to show to the model."""
        return bool(self._nudges)

    def nudge(self, text: str, images: Sequence[ImageBlock] = ()) -> None:
        """Words and pictures of the program that runs it: shown to the model before its next call,
        if there is one. Unlike a text that is sent they keep no run going that has its answer, and
        are lost with the process until then."""
        self._nudges.append(Nudge(text[:MAX_TEXT_CHARS], tuple(images)))

    def look_soon(self) -> None:
        """Something may have come."""
        if self._closed:
            return
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(self.look_or_log())
        else:  # it may have read the inbox already
            self._looking.add_done_callback(lambda _: self.look_soon())

    async def look(self) -> None:
        """Read the inbox. Raises JournalError."""
        context = self._context
        for post in await context.journal.posts(context.stream):
            if post.id in self._seen:
                continue
            self._seen.add(post.id)
            kind, run = post.message.get("kind"), post.message.get("run")
            if kind == "text":
                self._texts.append(post)
            elif run != context.id:
                continue  # to a run that had ended: nobody takes it
            elif kind == "answer":
                self._mine.append(post.id)
                self._answered(post)
            elif kind == "change" and context.plan is not None:
                asked = post.message.get("changes")
                changes = asked if isinstance(asked, list | tuple) else ()
                context.upcoming = [*context.upcoming, Asked(changes, context.plan, post.id)]
            elif kind == "cancel":
                self._mine.append(post.id)
                context.cancel(Reason.CALLER)

    async def look_or_log(self) -> None:
        """`look`; a store that fails there fails the run soon enough."""
        try:
            await self.look()
        except JournalError as error:
            _log.warning("the inbox of %s cannot be read: %s", self._context.stream, error)

    def _answered(self, post: Post) -> None:
        name = str(post.message.get("question"))
        self._answers[name] = post
        waiting = self._waiting.pop(name, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(post)

    def answer(self, question: str) -> asyncio.Future[Post]:
        """The answer to a question, once there is one."""
        future: asyncio.Future[Post] = asyncio.get_running_loop().create_future()
        post = self._answers.get(question)
        if post is None:
            self._waiting[question] = future
        else:
            future.set_result(post)
        return future

    @property
    def spent(self) -> list[str]:
        """The ids of messages that are of no use once this run has ended."""
        asked = [each.post for each in self._context.upcoming if isinstance(each, Asked)]
        return [*self._mine, *asked]

    def take_texts(self) -> list[Post]:
        """All texts that have come; they are the caller's to record."""
        taken, self._texts = self._texts, []
        return taken

    def take_nudges(self) -> list[Nudge]:
        """As `take_texts`."""
        taken, self._nudges = self._nudges, []
        return taken

    async def close(self) -> None:
        """The run is over. Waits for a look that is under way, whoever cancels meanwhile."""
        self._closed = True
        cancelled: asyncio.CancelledError | None = None
        with CancelScope(shield=True):
            while self._looking is not None and not self._looking.done():
                try:
                    await asyncio.wait([self._looking])
                except asyncio.CancelledError as error:
                    cancelled = error
        if cancelled is not None:
            raise cancelled


def mail_of(run: RunContext) -> Mail:
    """The messages to a run."""
    if run.mail is None:
        run.mail = Mail(run)
    return run.mail


async def deliver(state: PipelineState, hooks: Hooks | None) -> None:
    """Add the texts that were sent to the run, and its nudges, to its conversation, as `hooks`
    leave them: what is recorded of this iteration, else all that have come. Journals `effect` under
    the key `inbox:`, in which `posts` names the messages taken, and `images` has pictures by the
    number of the text that they came with."""
    run = state.run
    mail = run.mail

    async def take() -> Mapping[str, JSON]:
        posts = mail.take_texts() if mail is not None else []
        nudges = mail.take_nudges() if mail is not None else []
        texts = [str(post.message.get("text", "")) for post in posts]
        shown = {str(len(texts) + at): each.images for at, each in enumerate(nudges) if each.images}
        images = {at: [image.to_json() for image in each] for at, each in shown.items()}
        data: dict[str, JSON] = {
            "texts": [*texts, *[each.text for each in nudges]],
            "posts": [post.id for post in posts],
        }
        return {**data, "images": images} if images else data

    data = await run.effect("inbox", "", take, request=b"", safety=Safety.READ_ONLY)
    texts, images = data.get("texts"), data.get("images")
    for at, text in enumerate(texts if isinstance(texts, list | tuple) else ()):
        if text:
            await heard(hooks, str(text), at, state)
        shown = images.get(str(at)) if isinstance(images, Mapping) else None
        if isinstance(shown, list | tuple):
            message = message_from_json({"role": "user", "content": shown})
            state.messages.append(message, clean=True)
