"""The preset of this package."""

from __future__ import annotations

from lorimer.core.manifest import DEFAULT_MODEL, EnvironmentManifest
from lorimer.presets import agent_manifest


def geny_vtuber(
    *, model: str = DEFAULT_MODEL, system_prompt: str = "", max_turns: int = 50
) -> EnvironmentManifest:
    """The agent with a persona, whose answers go on to the names `avatar` and `voice`."""
    manifest = agent_manifest(model=model, system_prompt=system_prompt, max_turns=max_turns)
    manifest.metadata.name = manifest.metadata.base_preset = "geny_vtuber"
    system, emit = manifest.stages["system"], manifest.stages["emit"]
    system.strategies["builder"] = "persona"
    system.strategy_configs["builder"] = {
        "name": "Geny",
        "about": "You stream live, and talk with your audience.",
        "manner": ["lively, warm, in short sentences", "no lists, no markup: you are heard"],
        "never": ["reading out code or addresses"],
    }
    emit.strategies["emitters"] = ["vtuber", "tts"]
    emit.strategy_configs["emitters"] = {
        "vtuber": {"target": "avatar"},
        "tts": {"target": "voice"},
    }
    return manifest
