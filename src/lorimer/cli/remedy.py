"""What a person at a command line can do about an error of the library: the hint that names
options, where the library's own names fields and arguments."""

from __future__ import annotations

import os
from dataclasses import replace
from importlib import import_module

import click

from lorimer.cli import host
from lorimer.cli.agent import first
from lorimer.cli.call import Call
from lorimer.core.errors import APIError, ExecutorErrorCode, LorimerError
from lorimer.models import errors
from lorimer.models.credentials import VARIABLES, CredentialBundle, redact_url
from lorimer.models.hostfile import VENDORS
from lorimer.models.probe import advice
from lorimer.models.provider_info import provider_status
from lorimer.models.registry import PROVIDERS


def remedy(error: LorimerError, spec: str, call: Call) -> str:
    """The hint for an error of a run that asks the model `spec`; "" when there is none."""
    if error.code is ExecutorErrorCode.EXEC_API_UNPRICED:
        price = "give its price in a host file"
        if not _takes("--allow-unpriced"):  # the limits are those that the run began with
            return f"{price.capitalize()}, or take another model"
        return (
            "Add --allow-unpriced, and its calls count as free; or set no cost limit "
            f"(--max-cost-usd); or {price}"
        )
    known = host.read(call.models)
    provider = first(spec, known).provider
    held = provider_status(known.models(), provider)
    if provider in VENDORS and provider not in known.providers:
        key, address = VARIABLES[provider]
        url = redact_url(_url(provider, call))
        match error:
            case APIError(status=400 | 401, code=ExecutorErrorCode.EXEC_API_AUTH_INVALID_KEY) if (
                call.base_url and not call.key_variable
            ):
                if not os.environ.get(key):
                    return f"If it wants a key: export {key}=..., and add --api-key-env {key}"
                return (
                    "The key in the environment is not sent to --base-url; to send it, add "
                    f"--api-key-env {key}"
                )
            case APIError(hint=errors.CHECK_URL) if provider == "openai" and not url.endswith(
                "/v1"
            ):
                return f"Does the base URL end in /v1? It is {url}"
            case APIError(code=ExecutorErrorCode.EXEC_API_NETWORK):
                other = (
                    "" if call.base_url else f", or another address with --base-url or {address}"
                )
                return f"The address tried was {url}: check the network{other}"
            case _:
                held = replace(held, variable=call.key_variable or held.variable)
                if call.base_url:
                    held = replace(held, base_url=url)
    return advice(error, held) if isinstance(error, APIError) else error.hint


def _takes(option: str) -> bool:
    """Whether the running command has this option."""
    context = click.get_current_context(silent=True)
    return context is None or any(option in each.opts for each in context.command.params)


def _url(provider: str, call: Call) -> str:
    """Where the requests went."""
    if call.base_url:
        return call.base_url.strip().rstrip("/")
    known = CredentialBundle().get(provider)
    module = import_module(PROVIDERS[provider].partition(":")[0])
    return known.base_url if known is not None and known.base_url else module.OFFICIAL_URL
