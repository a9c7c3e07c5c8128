"""Steps as tools of an agent: a session that the calls of a conversation make, and that is there
again after an interruption.

`tools.py` has the tools, `record.py` what is known from their calls, `session.py` where a session
lives, `desk.py` what it does, `runs.py` which steps run unasked, `outside.py` what they do besides,
`told.py` and `views.py` what a model reads.
"""

from lorimer.esg.agent.tools import trusted_steps

__all__ = ["trusted_steps"]
