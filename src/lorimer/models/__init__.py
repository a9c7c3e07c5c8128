"""Providers behind one port: specs, credentials, prices, wires."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
    from lorimer.models.redirected import Redirected
    from lorimer.models.registry import Models, ProviderContext, ProviderFactory
    from lorimer.models.registry import Models as ClientRegistry
    from lorimer.models.scripted import ScriptedModel
    from lorimer.models.spec import ModelSpec, parse_spec
    from lorimer.models.tiers import AliasCycle, Tiers
    from lorimer.models.windows import Windows

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
    "Redirected",
    "ScriptedModel",
    "Secret",
    "Tiers",
    "Windows",
    "TokenCount",
    "count_tokens",
    "generate_as",
    "generate_as_stream",
    "generate_as_sync",
    "parse_spec",
]

_HOMES = {
    "compatible": ("Compatible",),
    "counting": ("TokenCount", "count_tokens"),
    "credentials": ("CredentialBundle", "ProviderCredentials", "Secret"),
    "generate": ("Partial", "generate_as", "generate_as_stream", "generate_as_sync"),
    "pricing": ("Price", "Prices"),
    "recording": ("Recorder",),
    "redirected": ("Redirected",),
    "registry": ("Models", "ProviderContext", "ProviderFactory"),
    "scripted": ("ScriptedModel",),
    "spec": ("ModelSpec", "parse_spec"),
    "tiers": ("AliasCycle", "Tiers"),
    "windows": ("Windows",),
}


def __getattr__(name: str) -> object:
    """Names are imported when they are first used, as in `lorimer` itself."""
    # the name that users of geny-executor know; every registry is separate, nothing is shared
    wanted = "Models" if name == "ClientRegistry" else name
    for home, names in _HOMES.items():
        if wanted in names:
            value: object = vars(import_module(f"lorimer.models.{home}"))[wanted]
            globals()[name] = value
            return value
    raise AttributeError(f"module 'lorimer.models' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
