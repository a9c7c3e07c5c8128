"""What names in geny-executor's manifests are called here, and which have no equivalent. Tables
only, used by `geny.py`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

SLOTS: Final[Mapping[tuple[str, str], str]] = MappingProxyType(
    {("persist", "frequency"): "cadence"}
)
"""Stage and slot there to the slot here, where they differ."""

STRATEGIES: Final[Mapping[tuple[str, str, str], str]] = MappingProxyType(
    {
        ("context", "retriever", "null"): "none",
        ("token", "calculator", "anthropic_pricing"): "unified_pricing",
        ("think", "processor", "passthrough"): "store",
        ("think", "processor", "extract_and_store"): "store",
        ("agent", "orchestrator", "subagent_type"): "delegate",
        ("evaluate", "strategy", "criteria_based"): "criteria",
        ("evaluate", "scorer", "no_scorer"): "minimum",
        ("memory", "strategy", "structured_reflective"): "reflective",
        ("yield", "formatter", "streaming"): "default",
    }
)
"""Stage, slot here and strategy there → strategy here, where they differ."""

DEFAULTS: Final[Mapping[tuple[str, str], str]] = MappingProxyType(
    {
        ("cache", "strategy"): "no_cache",
        ("parse", "signal_detector"): "regex",
        ("tool", "executor"): "sequential",
        ("evaluate", "strategy"): "signal_based",
    }
)
"""What a slot there contains by default, where the default here is another one."""

SAME: Final = frozenset(
    {
        ("api", "tool_loop", "pipeline"),
        ("tool", "router", "registry"),
        ("context", "replay", "none"),
        ("task_registry", "registry", "in_memory"),
        ("memory", "persistence", "null"),
        ("persist", "persister", "no_persist"),
    }
)
"""Choices that have no effect there, or are always active here: nothing is lost without them."""

SETTINGS: Final[Mapping[tuple[str, str], str]] = MappingProxyType(
    {
        ("api.retry", "base_delay"): "base_delay_s",
        ("api.retry", "max_delay"): "max_delay_s",
        ("api.retry", "fallback_delay"): "fallback_delay_s",
        ("hitl.timeout", "timeout_seconds"): "timeout_s",
        ("loop.controller", "max_cost_usd"): "max_cost_usd",
        ("tool_review.sensitive", "patterns"): "phrases",
        ("tool_review.size", "warn_threshold_bytes"): "max_chars",
    }
)
"""Settings of strategies there → those here, where they differ."""

DIMENSIONS: Final[Mapping[str, str]] = MappingProxyType({"iteration": "turns"})

NOT_HERE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "stages[].artifact": "stages have one form here; vendors are distinguished by the model",
        "stages[].chain_order": "there is no such chain here",
        "guard.config.max_chain_length": "a chain may have any length",
        "guard.config.fail_fast": "the first guard that says no decides",
        "cache.config.cache_prefix": "what is cached is the provider's prefix",
        "api.config.base_url": "say it when it is run (--base-url, base_url=), or in a host file",
        "api.config.timeout_ms": "the limit of a model call is in limits.model_timeout_s",
        "system.config.template_vars": "variables are handed in when it is run: ${NAME}",
        "system.config.volatile_placement": "what changes is always put after the cached prefix",
        "context.config.prune_over_tokens": "a compactor does that",
        "api.tool_loop.internal": "tool rounds are stages here, and bounded like all others",
        "context.replay.turn_window": "the journal has the conversation; `strategy` says what is "
        "shown of it",
        "system.builder.dynamic_persona": "comes with a plug-in",
        "system.builder.mutable": "any prompt is changed by a mutation: update_stage_config",
        "memory.persistence.file": "the journal keeps conversations; it is chosen when it is run",
        "memory.persistence.in_memory": "the journal keeps conversations",
        "persist.persister.file": "the journal keeps conversations; it is chosen when it is run",
        "emit.emitters.text": "name the function that it calls: {text: {target: NAME}}",
        "emit.emitters.callback": "bind a function, and name it in `record`: {target: NAME}",
        "emit.emitters.vtuber": "comes with a plug-in",
        "emit.emitters.tts": "comes with a plug-in",
        "loop.config.repeat_stop_after": "the chain `guards` does that",
        "loop.config.turn_soft_input_tokens": "the guard token_budget and limits do that",
        "loop.config.turn_hard_input_tokens": "the guard token_budget and limits do that",
        "pipeline.artifacts": "stages have one form here; vendors are distinguished by the model",
        "pipeline.metadata": "free data has no place in a manifest",
        "pipeline.api_key": "a key does not belong in a manifest; it is taken from the environment",
        "pipeline.base_url": "say it when it is run (--base-url, base_url=), or in a host file",
        "model.thinking_type": "only on and off are distinguished: thinking_enabled",
        "model.thinking_display": "what is shown is the program's business",
        "tools.adhoc": "it had no effect there; describe these tools in tools.ad_hoc",
        "tools.scope": "it had no effect there",
        "tools.external": "hand these tools in when it is run: tools=[...]",
        "tools.mcp_servers": "configure MCP servers where it is run",
        "tools.core_overrides": "the shipped tools are as they are",
        "host_selections": "hooks, skills and permissions are the host's",
        "memory": "a memory is handed in when it is run",
        "metadata.id": "a manifest is named by its file and its hash",
        "metadata.created_at": "a file has its own times",
        "metadata.updated_at": "a file has its own times",
    }
)
"""Why something is not carried over, by its path."""
