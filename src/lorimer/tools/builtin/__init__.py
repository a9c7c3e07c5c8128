"""The tools that come with Lorimer, by name; loaded when asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, cast

from lorimer.core.catalogue import load
from lorimer.core.errors import ConfigError, nearest
from lorimer.tools.base import Tool

CATALOGUE: Final[Mapping[str, str]] = {
    "Read": "lorimer.tools.builtin.read:Read",
    "Write": "lorimer.tools.builtin.write:Write",
    "Edit": "lorimer.tools.builtin.edit:Edit",
    "Glob": "lorimer.tools.builtin.glob:Glob",
    "Grep": "lorimer.tools.builtin.grep:Grep",
    "Unpack": "lorimer.tools.builtin.unpack:Unpack",
    "Bash": "lorimer.tools.builtin.bash:Bash",
    "Monitor": "lorimer.tools.builtin.monitor:Monitor",
    "REPL": "lorimer.tools.builtin.repl:REPL",
    "step": "lorimer.esg.agent.tools:Step",
    "edit_step": "lorimer.esg.agent.tools:EditStep",
    "replay": "lorimer.esg.agent.tools:Replay",
    "graph": "lorimer.esg.agent.tools:Graph",
    "diagnose": "lorimer.esg.agent.tools:Diagnose",
    "EnterWorktree": "lorimer.tools.builtin.worktree:EnterWorktree",
    "ExitWorktree": "lorimer.tools.builtin.worktree:ExitWorktree",
    "WebFetch": "lorimer.tools.builtin.web_fetch:WebFetch",
    "WebSearch": "lorimer.tools.builtin.web_search:WebSearch",
    "TodoWrite": "lorimer.tools.builtin.todo_write:TodoWrite",
    "EnterPlanMode": "lorimer.tools.builtin.plan_mode:EnterPlanMode",
    "ExitPlanMode": "lorimer.tools.builtin.plan_mode:ExitPlanMode",
    "AskUserQuestion": "lorimer.tools.builtin.ask_user_question:AskUserQuestion",
    "ToolSearch": "lorimer.tools.builtin.tool_search:ToolSearch",
    "NotebookEdit": "lorimer.tools.builtin.notebook_edit:NotebookEdit",
    "think": "lorimer.tools.builtin.think:Think",
    "now": "lorimer.tools.builtin.now:Now",
    "cite": "lorimer.tools.builtin.cite:Cite",
    "classify": "lorimer.tools.builtin.classify:Classify",
    "extract_entities": "lorimer.tools.builtin.extract:ExtractEntities",
    "summarize": "lorimer.tools.builtin.summarize:Summarize",
    "run_status": "lorimer.tools.builtin.run_status:RunStatus",
    "recall": "lorimer.tools.builtin.recall:Recall",
    "kv_get": "lorimer.tools.builtin.kv:KvGet",
    "kv_set": "lorimer.tools.builtin.kv:KvSet",
    "kv_list": "lorimer.tools.builtin.kv:KvList",
    "kv_delete": "lorimer.tools.builtin.kv:KvDelete",
}
"""Name -> `"module:Class"`."""

GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "filesystem": ("Read", "Write", "Edit", "Glob", "Grep"),
    "readonly": ("Read", "Glob", "Grep"),
    "archives": ("Unpack",),
    "shell": ("Bash", "Monitor"),
    "python": ("REPL",),
    "steps": ("step", "edit_step", "replay", "graph", "diagnose"),
    "worktree": ("EnterWorktree", "ExitWorktree"),
    "web": ("WebFetch", "WebSearch"),
    "notebooks": ("NotebookEdit",),
    "planning": ("TodoWrite", "EnterPlanMode", "ExitPlanMode"),
    "asking": ("AskUserQuestion",),
    "searching": ("ToolSearch",),
    "basics": ("think", "now", "cite"),
    "meta": ("classify", "extract_entities", "summarize"),
    "bounds": ("run_status",),
    "history": ("recall",),
    "kv": ("kv_get", "kv_set", "kv_list", "kv_delete"),
    "*": tuple(CATALOGUE),
}
"""Names for several at once."""


def builtin_tools(names: Iterable[str]) -> list[Tool]:
    """The built-in tools of these names or groups, each once, in that order.

    Raises ConfigError for unknown names, all at once, telling the nearest ones.
    """
    wanted: dict[str, str] = {}
    unknown: list[str] = []
    for name in names:
        for each in GROUPS.get(name, (name,)):
            if each in CATALOGUE:
                wanted[each] = CATALOGUE[each]
            else:
                near = nearest(each, [*CATALOGUE, *GROUPS])
                unknown.append(f"there is no built-in tool {each!r}{near}")
    if unknown:
        head = f"{len(unknown)} names are wrong: " if len(unknown) > 1 else ""
        raise ConfigError(head + "; ".join(unknown), problems=tuple(unknown))
    return [_load(target) for target in wanted.values()]


def _load(target: str) -> Tool:
    return cast("type[Tool]", load(target))()
