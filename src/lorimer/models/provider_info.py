"""Status of providers, and limits and prices of models, without any requests: for tables, checks
and hints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lorimer.core.errors import ConfigError
from lorimer.core.model import Capabilities
from lorimer.core.request import Usage
from lorimer.models.compatible import PROFILES, Compatible
from lorimer.models.credentials import CLAUDE_CODE, VARIABLES, VERTEX, redact_url
from lorimer.models.redirected import Redirected
from lorimer.models.registry import PROVIDERS, Models
from lorimer.models.spec import ModelSpec

_SAMPLE: Final = 1000
"""Tokens: few enough for the first tier of any price."""


@dataclass(frozen=True, slots=True)
class ProviderStatus:
    """Whether a provider can be used, and what is missing."""

    provider: str
    ready: bool
    """Nothing is missing as far as can be told offline: key, address, SDK, package."""
    variable: str = ""
    """The variable that holds its key; "": it has none."""
    base_url: str = ""
    """Without user name and password; "": the vendor's own."""
    why: str = ""
    """What is missing, if it is not ready."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What is known about one model. Prices are US dollars per million tokens."""

    spec: str
    status: ProviderStatus
    input_price: float | None
    """None: unknown; the same for `output_price`."""
    output_price: float | None
    window: int | None
    """Tokens; None: unknown."""
    capabilities: Capabilities | None
    """None: the provider is not ready."""


def provider_status(models: Models, name: str) -> ProviderStatus:
    """The status of a provider. Does not import an SDK, send a request, or raise for a broken
    configuration: `why` describes it."""
    bundle = models.context.credentials
    variable = VARIABLES.get(name, ("", ""))[0]
    try:
        provider = models.find(name)
        if isinstance(provider, str) and provider == PROVIDERS.get(name):
            if name == CLAUDE_CODE:
                from lorimer.models.claude_code import program_of  # imports httpx2, as below

                program_of(bundle)
            if name == VERTEX:
                from lorimer.models.vertex import TOKEN, shown

                return ProviderStatus(name, True, TOKEN, shown(bundle))
            provider = PROFILES.get(name)
            if provider is None:
                known = bundle.require(name) if name in VARIABLES else None
                return ProviderStatus(
                    name, True, variable, redact_url(known.base_url if known else "")
                )
        if isinstance(provider, Compatible | Redirected):
            variable = provider.variable
            known = provider.reach(bundle)
            if isinstance(provider, Redirected) and not known.api_key:
                known = bundle.require(name)
            return ProviderStatus(name, True, variable, redact_url(known.base_url))
        models.get(name)
    except ConfigError as error:
        return ProviderStatus(name, False, variable, "", str(error))
    return ProviderStatus(name, True)


def model_info(models: Models, spec: str) -> ModelInfo:
    """What is known about the model of one spec. Raises ConfigError when the spec names no
    model."""
    parsed = models.parse(spec)
    held = provider_status(models, parsed.provider)
    prices, windows = models.context.prices, models.context.windows
    base_url = held.base_url

    def dollars(usage: Usage) -> float | None:
        nano = prices.nano(parsed.provider, parsed.model, usage, base_url=base_url)
        return None if nano is None else nano / 1e9 * (1_000_000 / _SAMPLE)

    return ModelInfo(
        spec,
        held,
        dollars(Usage(input_tokens=_SAMPLE)),
        dollars(Usage(output_tokens=_SAMPLE)),
        windows.tokens(parsed.provider, parsed.model, base_url=base_url),
        _capabilities(models, parsed) if held.ready else None,
    )


def _capabilities(models: Models, spec: ModelSpec) -> Capabilities | None:
    provider = models.find(spec.provider)
    profile = PROFILES.get(spec.provider) if isinstance(provider, str) else provider
    assumed = profile.capabilities if isinstance(profile, Compatible) else Capabilities()
    if profile is None and spec.provider == CLAUDE_CODE:
        from lorimer.models.claude_code import ABLE

        assumed = ABLE
    return models.able(spec, assumed)
