"""The Execution State Graph: agent-written code, re-executed only where it is stale."""

from lorimer.esg.analysis import get_reads, get_writes
from lorimer.esg.executor import StepExecutor, StepResult
from lorimer.esg.graph import ExecutionStateGraph, infer_edges

__all__ = [
    "ExecutionStateGraph",
    "StepExecutor",
    "StepResult",
    "get_reads",
    "get_writes",
    "infer_edges",
]
