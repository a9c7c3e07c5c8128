"""Test support for agents, and for implementations of providers, stores and tools."""

from lorimer.models.scripted import Answer, ScriptedModel
from lorimer.testing.fake_server import FakeLLMServer
from lorimer.testing.fake_turn import FakeUsage, SeenRequest, ToolCall, Turn
from lorimer.testing.kills import under_kills
from lorimer.testing.recorded_turns import recorded_turns
from lorimer.testing.simulated_failures import SimulatedCrash
from lorimer.testing.simulated_world import SimulatedWorld
from lorimer.testing.simulation import simulate, simulate_in

__all__ = [
    "Answer",
    "FakeLLMServer",
    "FakeUsage",
    "ScriptedModel",
    "SeenRequest",
    "SimulatedCrash",
    "SimulatedWorld",
    "ToolCall",
    "Turn",
    "recorded_turns",
    "simulate",
    "simulate_in",
    "under_kills",
]
