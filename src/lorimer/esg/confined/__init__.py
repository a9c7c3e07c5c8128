"""Steps that run confined, in a worker forked from a preloaded zygote.

`session.py` is the public interface, `known.py` what it needs to begin a session again;
`workers.py` starts workers, `worker.py` talks to one and `told.py` reads what it says. In the
sandbox `zygote.py` forks `keeper.py`, which forks `serving.py`, which runs `requests.py`. `hold.py`
restricts the session's processes. `recorded.py`: steps that ran elsewhere.
"""

from lorimer.esg.confined.session import ConfinedSteps
from lorimer.esg.confined.told import ConfinedReplay, ConfinedResult
from lorimer.esg.confined.worker import WorkerError
from lorimer.esg.confined.workers import StepLimits, StepWorkers

__all__ = [
    "ConfinedReplay",
    "ConfinedResult",
    "ConfinedSteps",
    "StepLimits",
    "StepWorkers",
    "WorkerError",
]
