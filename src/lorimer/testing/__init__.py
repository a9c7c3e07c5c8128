"""For whoever tests agents, and for whoever writes a provider, store or tool."""

from lorimer.models.scripted import ScriptedModel
from lorimer.testing.fake_server import FakeLLMServer
from lorimer.testing.simulation import SimulatedWorld, simulate

__all__ = ["FakeLLMServer", "ScriptedModel", "SimulatedWorld", "simulate"]
