"""Providers behind one port: specs, credentials, prices, wires."""

from lorimer.models.compatible import Compatible
from lorimer.models.credentials import CredentialBundle, ProviderCredentials, Secret
from lorimer.models.pricing import Price, Prices
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
    "Price",
    "Prices",
    "ProviderContext",
    "ProviderCredentials",
    "ProviderFactory",
    "ScriptedModel",
    "Secret",
    "Tiers",
    "Windows",
    "parse_spec",
]
