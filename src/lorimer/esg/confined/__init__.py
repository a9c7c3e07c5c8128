"""Steps that run confined: in a worker that is forked from a preloaded zygote.

`session.py` is what a program uses, `worker.py` the other end of it; in the sandbox `zygote.py`
forks `keeper.py`, which forks `serving.py`, which runs `requests.py`. `hold.py`: what holds it.
"""

from lorimer.esg.confined.session import ConfinedReplay, ConfinedResult, ConfinedSteps
from lorimer.esg.confined.worker import StepLimits, StepWorkers, WorkerError

__all__ = [
    "ConfinedReplay",
    "ConfinedResult",
    "ConfinedSteps",
    "StepLimits",
    "StepWorkers",
    "WorkerError",
]
