"""Sessions: conversations on a journal, many per pipeline."""

from lorimer.session.freshness import Freshness, FreshnessPolicy
from lorimer.session.info import SessionInfo, stored_sessions
from lorimer.session.manager import SessionManager
from lorimer.session.session import Session

__all__ = [
    "Freshness",
    "FreshnessPolicy",
    "Session",
    "SessionInfo",
    "SessionManager",
    "stored_sessions",
]
