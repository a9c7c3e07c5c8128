"""How a live run receives messages (`mail.py`): its inbox is read when something may have arrived,
and messages wait until the run takes them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from anyio import CancelScope

from lorimer.core.cancel import Reason
from lorimer.core.context import RunContext, Safety
from lorimer.core.errors import JournalError
from lorimer.core.hooks import Hooks, add_guarded_text
from lorimer.core.journal import Post
from lorimer.core.jsonable import JSON, items_of
from lorimer.core.mail import MAX_TEXT_CHARS
from lorimer.core.messages import ImageBlock, message_from_json
from lorimer.core.pending_changes import RequestedChange
from lorimer.core.record import record
from lorimer.core.redaction import logger

if TYPE_CHECKING:
    from lorimer.core.state import PipelineState

_log: Final = logger("lorimer.mail")
_AGAIN_S: Final = 1.0


@record
class Nudge:
    """Something that the host program wants to show the model."""

    text: str
    images: tuple[ImageBlock, ...] = ()


class Mail:
    """The messages to one live run, from the first time its inbox is read. Belongs to the run's
    task; owns the tasks that read the inbox."""

    __slots__ = (
        "_again",
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
        """Ids of answers and of a cancel request; those of changes are with the pending changes."""
        self._looking: asyncio.Task[None] | None = None
        self._again: asyncio.TimerHandle | None = None
        """The next attempt to read the inbox, after one that failed."""

    @property
    def texts(self) -> bool:
        """Whether there are texts that the model has not been shown."""
        return bool(self._texts)

    @property
    def nudged(self) -> bool:
        """Whether the host program has something to show the model."""
        return bool(self._nudges)

    def nudge(self, text: str, images: Sequence[ImageBlock] = ()) -> None:
        """Text and images from the host program, shown to the model before its next call, if there
        is one. Unlike a sent text, they do not keep a run going that has its answer, and are lost
        if the process dies first."""
        self._nudges.append(Nudge(text[:MAX_TEXT_CHARS], tuple(images)))

    def look_soon(self) -> None:
        """Something may have arrived."""
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
                changes = items_of(post.message.get("changes"))
                context.pending_changes = [
                    *context.pending_changes,
                    RequestedChange(changes, context.plan, post.id),
                ]
            elif kind == "cancel":
                self._mine.append(post.id)
                context.cancel(Reason.CALLER)

    async def look_or_log(self) -> None:
        """`look`, repeated later if the inbox cannot be read: a store that recovers does not
        announce what arrived meanwhile."""
        try:
            await self.look()
        except JournalError as error:
            _log.warning("the inbox of %s cannot be read: %s", self._context.stream, error)
            if self._again is None and not self._closed:
                self._again = asyncio.get_running_loop().call_later(_AGAIN_S, self._look_again)

    def _look_again(self) -> None:
        self._again = None
        self.look_soon()

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
    def obsolete(self) -> list[str]:
        """The ids of messages that are no longer needed once this run has ended."""
        asked = [
            each.post for each in self._context.pending_changes if isinstance(each, RequestedChange)
        ]
        return [*self._mine, *asked]

    def take_texts(self) -> list[Post]:
        """All texts that have arrived; the caller has to record them."""
        taken, self._texts = self._texts, []
        return taken

    def take_nudges(self) -> list[Nudge]:
        """As `take_texts`."""
        taken, self._nudges = self._nudges, []
        return taken

    async def close(self) -> None:
        """The run is over. Waits for a read in progress, even if cancelled meanwhile."""
        self._closed = True
        if self._again is not None:
            self._again.cancel()
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
    """Add the texts sent to the run, and its nudges, to its conversation, with the changes of
    `hooks`: those recorded for this iteration, else all that have arrived. Journals `effect` under
    the key `inbox:`, in which `posts` lists the messages taken, and `images` has the images by the
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
    for at, text in enumerate(items_of(texts)):
        if text:
            await add_guarded_text(hooks, str(text), at, state)
        shown = images.get(str(at)) if isinstance(images, Mapping) else None
        if isinstance(shown, list | tuple):
            message = message_from_json({"role": "user", "content": shown})
            state.messages.append(message, clean=True)
