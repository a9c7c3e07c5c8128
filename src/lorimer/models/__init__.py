"""Providers behind one port: specs, credentials, prices, wires."""

from lorimer.models.compatible import Compatible
from lorimer.models.counting import TokenCount, count_tokens
from lorimer.models.credentials import CredentialBundle, ProviderCredentials, Secret
from lorimer.models.generate import (
    Partial,
    generate_as,
    generate_as_stream,
    generate_as_sync,
)
from lorimer.models.pricing import Price, Prices
from lorimer.models.recording import Recorder
from lorimer.models.registry import Models, ProviderContext, ProviderFactory
from lorimer.models.scripted import ScriptedModel
from lorimer.models.spec import ModelSpec, parse_spec
from lorimer.models.tiers import AliasCycle, Tiers
from lorimer.models.windows import Windows

ClientRegistry = Models
"""The name that users of geny-executor know; each is a registry of its own, none is shared."""

__all__ = [
    "AliasCycle",
    "ClientRegistry",
    "Compatible",
    "CredentialBundle",
    "ModelSpec",
    "Models",
    "Partial",
    "Price",
    "Prices",
    "ProviderContext",
    "ProviderCredentials",
    "ProviderFactory",
    "Recorder",
    "ScriptedModel",
    "Secret",
    "TokenCount",
    "count_tokens",
    "generate_as",
    "generate_as_stream",
    "generate_as_sync",
    "Tiers",
    "Windows",
    "parse_spec",
]
