"""The time of a run: its deadline, what stops the clock, and how the run is stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lorimer.core.alarm import Alarm
from lorimer.core.cancel import Cancellation, Reason
from lorimer.core.facts import FactLog
from lorimer.core.waiting import Cancels

if TYPE_CHECKING:
    from lorimer.core.context import RunContext

_CLOCKS_DIFFER_S: Final = 0.001
"""The alarm follows the event loop's clock, the deadline the world's. Less time left than this can
be a mere difference between the clocks."""


class TimedRun(FactLog):
    """The part of a RunContext that watches the clock. RunContext sets its attributes: another
    `__init__` would cost every run a call."""

    __slots__ = ("_catching_up", "_deadline_passed", "above", "alarm", "cancellation")

    alarm: Alarm
    """The run's deadlines; set by `enter`."""
    cancellation: Cancellation
    """Whether and why the run is to stop."""
    above: RunContext | None
    """The parent run, if that is live in this process."""
    _catching_up: bool
    """The run was resumed and still answers from its journal: the time limit is not enforced
    yet."""
    _deadline_passed: bool
    """The deadline passed by the clock while a person was being asked, which does not count."""

    async def sleep(self, seconds: float) -> None:
        """Wait, but not while a resumed run answers from its journal."""
        if not self._recorded:
            await self.world.sleep(seconds)

    @property
    def reason(self) -> Reason | None:
        """Why the run was stopped; None: it was not."""
        return self.cancellation.reason

    def cancel(self, reason: Reason) -> None:
        """Stop the run; see `cancel.py`."""
        self.cancellation.cancel(reason)

    def drain(self, within_s: float, reason: Reason = Reason.SHUTDOWN) -> None:
        """Suspend the run; see `Cancellation.drain`."""
        self.cancellation.drain(reason, within_s)

    def enter(self) -> None:
        """The engine starts the run in this task, and its time limit begins. A resumed run has at
        least `cleanup_s` to answer from its journal, but calls nothing once its time is over."""
        left = self.bounds.deadline - self.world.monotonic()
        self._catching_up = bool(self.replayed)
        if self._catching_up:
            left = max(left, self.bounds.limits.cleanup_s)
        self.alarm = Alarm(left, self._time_over)
        self.cancellation.enter(self.alarm.loop)
        self.cancellation.begin()

    def wait(self) -> Cancels | None:
        """The run waits for the first time; see `Cancellation.watch`."""
        self.alarm.start()
        return self.cancellation.watch()

    def leave(self) -> None:
        """The engine has ended what it began with `enter`."""
        self.alarm.stop()
        self.cancellation.end()

    def _go_live(self) -> None:
        """Nothing recorded is left to answer from: from here on the time limit applies."""
        now = self.world.monotonic()
        self.bounds.check_time(now)
        if self._catching_up:
            self._catching_up = False
            self.alarm.move(self.bounds.deadline - now, self._time_over)

    def begin_question(self) -> None:
        """A person is being asked: until `end_question`, neither this run nor its ancestors use up
        time."""
        run: TimedRun | None = self
        while run is not None:
            if not run.asking:
                run.bounds.pause(run.world.monotonic())
            run.asking += 1
            if run is not self:
                run.record_time_used()
            run = run.above

    def end_question(self) -> None:
        """The question was answered or withdrawn."""
        run: TimedRun | None = self
        while run is not None:
            run.asking -= 1
            if not run.asking:
                now = run.world.monotonic()
                run.bounds.unpause(now)
                if run._deadline_passed:
                    run._deadline_passed = False
                    run.alarm.move(run.bounds.deadline - now, run._time_over)
            run = run.above

    def _time_over(self) -> None:
        if self.asking:
            self._deadline_passed = True  # `end_question` sets the alarm again
            return
        left = self.bounds.deadline - self.world.monotonic()
        if left > _CLOCKS_DIFFER_S and not self._catching_up:  # the limit was raised meanwhile
            self.alarm.move(left, self._time_over)
            return
        self.cancellation.cancel(Reason.TIMEOUT)
