"""One conversation of a pipeline that may have many."""

from __future__ import annotations

from lorimer.core.catalogue import Catalogue
from lorimer.core.errors import ConfigError
from lorimer.core.messages import Message
from lorimer.core.plan import Plan
from lorimer.pipeline import Pipeline
from lorimer.runner import Runner
from lorimer.session.freshness import Freshness, FreshnessPolicy
from lorimer.session.info import SessionInfo, info_of, stored_session


class Session(Runner):
    """One conversation: `run`, `run_sync`, `run_stream`, `resume` and so on are those of a
    pipeline, within this conversation. Created by a SessionManager. It remembers from run to run
    and, in a journal that is a file, from process to process; listeners, tools and models are the
    pipeline's. Two runs are never live in it at once; runs of different sessions run
    concurrently."""

    _name_in_code = "session"

    def __init__(self, pipeline: Pipeline, info: SessionInfo, freshness: FreshnessPolicy) -> None:
        """Raises ConfigError for a pipeline without memory."""
        if not pipeline.plan.converses:
            raise ConfigError(
                "this pipeline remembers nothing, so it has no sessions",
                hint="Give it a context stage that is not stateless, as the chat preset has.",
            )
        self.pipeline = pipeline
        self.session_id = info.session_id
        self._policy = freshness
        self._known = info
        self._launcher = pipeline.branch(info.session_id)
        self._models = pipeline.models

    def __repr__(self) -> str:
        return f"<Session {self.session_id!r} of {self.pipeline!r}>"

    @property
    def plan(self) -> Plan:
        """The pipeline's, in its current state."""
        return self.pipeline.plan

    def plan_of(self, digest: str) -> Plan:
        """As the pipeline's."""
        return self.pipeline.plan_of(digest)

    @property
    def catalogue(self) -> Catalogue:
        """As the pipeline's."""
        return self.pipeline.catalogue

    @property
    def has_changed(self) -> bool:
        """As the pipeline's."""
        return self.pipeline.has_changed

    @property
    def info(self) -> SessionInfo:
        """As far as this process knows: messages of other processes are not counted."""
        open_now = self._launcher.conversation
        known, now = self._known, self.pipeline.world.time()
        if open_now is not None:
            first = open_now.unfinished[0].run_id if open_now.unfinished else ""
            known = info_of(
                self.session_id,
                open_now.sums,
                len(open_now.history),
                self._policy,
                now,
                title=known.title,
                unfinished=first,
            )
            self._known = known
        return known

    async def refresh(self) -> SessionInfo:
        """Its info as the journal has it now, including messages of other processes."""
        self._known = await stored_session(
            self.journal, self.session_id, self.pipeline.world, self._policy
        )
        return self._known

    @property
    def freshness(self) -> Freshness:
        """Its current state."""
        info = self.info
        return self._policy.of(
            messages=info.message_count,
            began=info.began,
            last_used=info.last_used,
            now=self.pipeline.world.time(),
        )

    @property
    def messages(self) -> tuple[Message, ...]:
        """The messages, as far as this process knows; () before its first run here."""
        open_now = self._launcher.conversation
        return () if open_now is None else tuple(open_now.history)

    async def aclose(self) -> None:
        """Wait for the end of a run that somebody has stopped, as `Pipeline.aclose` does, and
        release the conversation, so that another process need not wait for it. It can be used
        again; connections are the pipeline's."""
        await self._launcher.stopped()
        self._known = self.info
        await self._launcher.release()

    def require_free(self) -> None:
        """Raises PipelineError `exec.run.busy` while a run in it is live here."""
        self._launcher.require_free()

    def retire(self) -> None:
        """It was deleted, as its manager reports: no run begins in it any more."""
        self._launcher.retire()

    async def __aenter__(self) -> Session:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()
