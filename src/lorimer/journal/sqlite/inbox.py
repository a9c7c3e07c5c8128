"""The inbox of a journal file: messages from any process to the writer of a stream, and the polling
that wakes the writer when another process has posted. The content of messages is not interpreted
here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from threading import Lock
from typing import Final, Protocol, TypeVar, cast

from lorimer.core.errors import JournalError
from lorimer.core.journal import Post
from lorimer.core.jsonable import JSON
from lorimer.core.redaction import logger
from lorimer.journal.codec import DAMAGE_HINT
from lorimer.journal.projection import MAX_POSTS, refuse_full, refuse_post
from lorimer.journal.sqlite.database import Database, Value, number, one
from lorimer.journal.sqlite.rows import data_version, whole
from lorimer.journal.wake import Watchers

T = TypeVar("T")

POLL_S: Final = 0.02
"""Seconds between checks for posts of other processes, while somebody is waiting."""

_log = logger("lorimer.journal")


def put(stream: str, id: str, body: str, time: int, db: Database) -> bool:
    """Store a message; False: its id is already known there."""
    row = one(db, "SELECT id FROM streams WHERE name=?", stream)
    if row is None:
        raise refuse_post(stream)
    number_ = whole(row[0])
    if one(db, "SELECT 1 FROM inbox WHERE stream=? AND id=?", number_, id) is not None:
        return False
    waiting = "SELECT count(*) FROM inbox WHERE stream=? AND body IS NOT NULL"
    if number(db, waiting, number_) >= MAX_POSTS:
        raise refuse_full(stream)
    db.execute("INSERT INTO inbox VALUES(NULL,?,?,?,?)", (number_, id, time, body))
    return True


def take(stream_id: int, ids: Sequence[str], db: Database) -> None:
    """Remove the messages that a fact has consumed; their ids stay, so that none is consumed
    twice."""
    for post_id in ids:
        db.execute("UPDATE inbox SET body=NULL WHERE stream=? AND id=?", (stream_id, post_id))


def waiting(stream: str, db: Database) -> list[Post]:
    """The messages not consumed yet, oldest first."""
    rows = db.execute(
        "SELECT inbox.id, body, at FROM inbox JOIN streams ON streams.id = stream "
        "WHERE name=? AND body IS NOT NULL ORDER BY seq",
        (stream,),
    )
    posts: list[Post] = []
    for post_id, body, at in list(rows):  # an error in the loop would hold an open cursor
        message = _parsed(str(body))
        if message is None:
            raise JournalError(f"message {post_id!r} to {stream!r} is damaged", hint=DAMAGE_HINT)
        posts.append(Post(str(post_id), message, whole(at) / 1e6))
    return posts


def damaged(stream_id: int, db: Database) -> list[str]:
    """What is wrong with the messages not consumed yet."""
    rows = db.execute(
        "SELECT seq, CAST(body AS BLOB) FROM inbox WHERE stream=? AND body IS NOT NULL",
        (stream_id,),
    )
    return [f"message {seq} to it is damaged" for seq, body in rows if _parsed(body) is None]


def _parsed(body: Value) -> Mapping[str, JSON] | None:
    try:
        message = cast("JSON", json.loads(body if isinstance(body, str | bytes) else ""))
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, Mapping) else None


class _Query(Protocol):
    def __call__(self, query: Callable[[Database], T], /) -> Awaitable[T]: ...


class _TryQuery(Protocol):
    def __call__(self, query: Callable[[Database], T], /) -> T | None: ...


class InboxPoller:
    """Notifies watchers of new posts: those of this process immediately, those of others by polling
    the file every POLL_S while there are watchers. Belongs to the journal. Event loops of several
    threads may watch: each polls for itself, with a timer that ends with its last watcher."""

    def __init__(self, query: _Query, try_query: _TryQuery | None) -> None:
        """`try_query` None: only posts of this process are noticed."""
        self._query = query
        self._try_query = try_query
        self._lock = Lock()
        """Held while a loop is added or removed."""
        self._loops: dict[asyncio.AbstractEventLoop, _LoopPoller] = {}

    def watch(self, stream: str, tell: Callable[[], None]) -> Callable[[], None]:
        """See Journal."""
        loop = asyncio.get_running_loop()
        poller = self._loops.get(loop)
        if poller is None:
            poller = _LoopPoller(loop, self._query, self._try_query)
            with self._lock:
                for other in [other for other in self._loops if other.is_closed()]:
                    del self._loops[other]
                self._loops[loop] = poller
        end = poller.watchers.add(stream, tell)

        def stop() -> None:
            end()
            if not poller.watchers:
                poller.close()
                with self._lock:
                    if self._loops.get(loop) is poller:
                        del self._loops[loop]

        return stop

    def tell(self, stream: str) -> None:
        """This process has posted to the stream."""
        with self._lock:
            everywhere = list(self._loops.values())
        for poller in everywhere:
            poller.watchers.tell(stream)

    def close(self) -> None:
        """End the timers. The result of a read in progress is still reported."""
        with self._lock:
            everywhere = list(self._loops.values())
        for poller in everywhere:
            poller.end()


class _LoopPoller:
    """Polls for one event loop.

    A poll asks SQLite on the loop's thread whether the file has changed, which takes 3 us; a
    thread would take 90, and longer to get its turn on a busy machine. A thread is used only when
    the connection is not free at that moment.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, query: _Query, try_query: _TryQuery | None
    ) -> None:
        self.watchers = Watchers()
        self._loop = loop
        self._query = query
        self._timer: asyncio.TimerHandle | None = None
        self._thread_poll: asyncio.Task[None] | None = None
        self._version: int | None = None
        """Version of the file at the last check; None: not checked yet."""
        self._seen = 0
        """The last post at that time."""
        self._failed = False
        self._ended = False
        if try_query is not None:
            self._timer = loop.call_later(POLL_S, self._poll, try_query)

    def end(self) -> None:
        """Stop polling; from any thread. The timer ends within POLL_S."""
        self._ended = True

    def close(self) -> None:
        """The same, from the loop's own thread; the timer ends immediately."""
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()

    def _poll(self, try_query: _TryQuery) -> None:
        if self._ended:
            return
        try:
            # the first check may find many posts
            found = try_query(self._changed) if self._version is not None else None
        except JournalError as error:
            self._fail(error)
        else:
            if found is None:
                self._thread_poll = asyncio.ensure_future(self._poll_in_thread(try_query))
                return
            self._take_in(*found)
        self._schedule(try_query)

    async def _poll_in_thread(self, try_query: _TryQuery) -> None:
        try:
            found = await self._query(self._changed)
        except JournalError as error:
            self._fail(error)
        else:
            self._take_in(*found)
        self._schedule(try_query)

    def _schedule(self, try_query: _TryQuery) -> None:
        if not self._ended:
            self._timer = self._loop.call_later(POLL_S, self._poll, try_query)

    def _take_in(self, version: int, seen: int, streams: Sequence[str]) -> None:
        self._version, self._seen, self._failed = version, seen, False
        for stream in streams:
            self.watchers.tell(stream)

    def _fail(self, error: JournalError) -> None:
        if not self._ended and not self._failed:  # otherwise closed meanwhile, or already reported
            self._failed = True
            _log.warning("posts of other processes are not noticed: %s", error)

    def _changed(self, db: Database) -> tuple[int, int, Sequence[str]]:
        """The file's version, the last post seen, and the streams posted to since the last check;
        at the first check all with a non-empty inbox."""
        version = data_version(db)
        if version == self._version:
            return version, self._seen, ()
        seen = self._seen if self._version is not None else 0
        rows = db.execute(
            "SELECT name, max(seq) FROM inbox JOIN streams ON streams.id = stream "
            "WHERE seq > ? AND body IS NOT NULL GROUP BY stream",
            (seen,),
        )
        found = [(str(name), whole(last)) for name, last in rows]
        return version, max([self._seen, *[last for _, last in found]]), [name for name, _ in found]
