"""Steps that run confined: in a worker that is forked from a preloaded zygote.

`session.py` is what a program uses, `known.py` what it can begin a session anew with; `workers.py`
starts what it asks, `worker.py` talks to it and `told.py` reads what it says. In the sandbox
`zygote.py` forks `keeper.py`, that `serving.py`, which runs `requests.py`. `hold.py`: what holds
it. `recorded.py`: steps that ran elsewhere.
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
