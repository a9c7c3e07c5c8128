"""The Execution State Graph: agent-written code, re-executed only where it is stale."""

from lorimer.esg.analysis.text import get_reads, get_writes
from lorimer.esg.diagnosis import DiagnosisReport, diagnose, generate_patch
from lorimer.esg.execution.results import StepResult
from lorimer.esg.executor import StepExecutor
from lorimer.esg.graph.graph import ExecutionStateGraph, infer_edges
from lorimer.esg.patching.patches import PatchResult

__all__ = [
    "DiagnosisReport",
    "ExecutionStateGraph",
    "PatchResult",
    "StepExecutor",
    "StepResult",
    "diagnose",
    "generate_patch",
    "get_reads",
    "get_writes",
    "infer_edges",
]
