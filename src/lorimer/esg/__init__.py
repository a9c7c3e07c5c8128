"""The Execution State Graph: agent-written code, re-executed only where it is stale."""

from lorimer.esg.analysis import get_reads, get_writes

__all__ = ["get_reads", "get_writes"]
