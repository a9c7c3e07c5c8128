"""Providers behind one port: specs, credentials, prices, wires."""

from lorimer.models.credentials import CredentialBundle, ProviderCredentials, Secret
from lorimer.models.pricing import Price, Prices
from lorimer.models.registry import Models, ProviderContext, ProviderFactory
from lorimer.models.scripted import ScriptedModel
from lorimer.models.spec import ModelSpec, parse_spec

__all__ = [
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
    "parse_spec",
]
