"""Steps as tools of an agent: a session that the calls of a conversation make, and that is rebuilt
after an interruption.

`tools.py` has the tools, `record.py` what their calls tell, `session.py` where a session lives,
`desk.py` what it does, `runs.py` which steps run without being requested, `outside.py` their
effects besides files, `told.py` and `views.py` what a model reads.
"""

from lorimer.esg.agent.tools import trusted_steps

__all__ = ["trusted_steps"]
