"""Creates, finds, lists and deletes sessions."""

from __future__ import annotations

from lorimer.core.arguments import check_id, is_a, wrong
from lorimer.core.errors import ConfigError
from lorimer.pipeline import Pipeline
from lorimer.session.freshness import FreshnessPolicy
from lorimer.session.info import SessionInfo, remove, stored_session
from lorimer.session.session import Session


class SessionManager:
    """The sessions of one process; what they say is in their pipelines' journals.

    async with SessionManager() as manager:
        session = manager.create(pipeline)
        await session.run("My name is Alice.")
    """

    def __init__(self, *, freshness: FreshnessPolicy | None = None) -> None:
        self._policy = freshness or FreshnessPolicy()
        self._sessions: dict[str, Session] = {}

    def create(self, pipeline: Pipeline, session_id: str = "") -> Session:
        """A new session, with a new id unless one is given. If the journal has a session with the
        given id, the first run continues it; to know beforehand, use `open`.

        Raises ConfigError for a pipeline without memory, and for an id that is already held here.
        """
        _require_pipeline(pipeline)
        check_id("session_id", session_id, 'manager.create(pipeline, "alice")')
        if session_id in self._sessions:
            raise ConfigError(
                f"there is already a session {session_id!r} here",
                hint=f"Use it: manager.get({session_id!r}).",
            )
        return self._keep(pipeline, SessionInfo(session_id or pipeline.world.new_id("session")))

    async def open(self, pipeline: Pipeline, session_id: str) -> Session:
        """A session in the pipeline's journal, whichever process created it; the unique beginning
        of its id is enough. Opening it twice gives the same Session.

        Raises PipelineError `exec.run.unknown` when there is none, ConfigError as `create` does.
        Whether another process has it is only known when something is run.
        """
        _require_pipeline(pipeline)
        check_id("session_id", session_id, 'manager.create(pipeline, "alice")')
        info = await stored_session(pipeline.journal, session_id, pipeline.world, self._policy)
        held = self._sessions.get(info.session_id)
        return held or self._keep(pipeline, info)

    def _keep(self, pipeline: Pipeline, info: SessionInfo) -> Session:
        session = Session(pipeline, info, self._policy)
        self._sessions[info.session_id] = session
        return session

    def get(self, session_id: str) -> Session | None:
        """The session with that id, if it was created or opened here."""
        return self._sessions.get(session_id)

    def list_sessions(self) -> list[SessionInfo]:
        """The sessions created or opened here, in that order, as far as this process knows. For
        those in a journal: `stored_sessions`."""
        return [session.info for session in self._sessions.values()]

    def __len__(self) -> int:
        return len(self._sessions)

    def __contains__(self, session_id: object) -> bool:
        return session_id in self._sessions

    async def delete(self, session_id: str) -> bool:
        """Drop a session and remove everything that its journal has of it, irrevocably. Its Session
        starts no run any more (`exec.run.unknown`). Returns False if there is none with that id
        here.

        Raises PipelineError `exec.run.busy`, and changes nothing, while a run in it is live or can
        be resumed, or another process has it.
        """
        session = self._sessions.get(session_id)
        if session is None:
            return False
        await session.aclose()
        if await session.journal.runs(limit=1, stream=session_id):
            await remove(session.journal, session_id)
        session.retire()
        self._sessions.pop(session_id, None)  # unless it was forgotten meanwhile
        return True

    async def forget(self, session_id: str) -> bool:
        """Release a session and stop holding it here: for hosts with more sessions than memory. Its
        journal keeps everything, and `open` gives another Session for it; this one must no longer
        be used. Returns False if there is none with that id here.

        Raises PipelineError `exec.run.busy`, and changes nothing, while a run in it is live.
        """
        session = self._sessions.get(session_id)
        if session is None:
            return False
        session.require_free()
        del self._sessions[session_id]  # first: whoever opens it meanwhile gets another Session
        await session.aclose()
        return True

    def shut_down(self, within_s: float = 10.0) -> bool:
        """Suspend what is running in them, as `Session.shut_down` does: for a program that is to
        stop. Returns whether there was anything."""
        stopped = [session.shut_down(within_s) for session in self._sessions.values()]
        return any(stopped)

    async def aclose(self) -> None:
        """Release all conversations, each as `Session.aclose` does. Pipelines stay open."""
        for session in tuple(self._sessions.values()):  # others may come and go meanwhile
            await session.aclose()

    def __repr__(self) -> str:
        return f"<SessionManager: {len(self._sessions)} open>"

    async def __aenter__(self) -> SessionManager:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()


def _require_pipeline(pipeline: object) -> None:
    if not is_a(pipeline, Pipeline):
        raise wrong("pipeline", pipeline, "a Pipeline", "manager.create(PipelinePresets.chat())")
