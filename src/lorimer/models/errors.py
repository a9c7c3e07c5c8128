"""Maps failures of providers (HTTP statuses, error events, network errors) to APIError.

Which codes are retried is decided in `core/errors.py`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

import httpx2

from lorimer.core.errors import APIError, ExecutorErrorCode, reason_of
from lorimer.core.jsonable import JSON, clean, dumps, objects_of
from lorimer.core.request import NO_USAGE, Usage
from lorimer.models.credentials import FIRST, VARIABLES, ProviderCredentials, redact_url
from lorimer.models.wires.sse import parse_json

NETWORK_ERRORS: Final = (httpx2.HTTPError, httpx2.StreamError, OSError)
"""Raised by a connection. The SDKs let some of them through."""

TRY_LATER: Final = "Try again later; the provider's status page may say more."
CHECK_MODEL: Final = "Check the model's name."
CHECK_URL: Final = "Check the base URL."
"""Hints that a table or a command line can make more specific."""
MAX_RETRY_AFTER_S: Final = 3600.0
_MESSAGE_CHARS: Final = 600
_READ_CHARS: Final = 10_000
"""How much of a message is examined: providers' error messages are short."""

_NUMBER: Final = re.compile(r"[0-9]+(\.[0-9]+)?", re.ASCII)
_TOO_LONG: Final = re.compile(
    r"prompt is too long|context[ _]length|context window|maximum context"
    r"|too many (input |prompt )?tokens(?!, please wait)|input is too long"
    r"|exceeds? the (model'?s )?max\w* .*tokens"
    r"|input length and `?max_tokens`? exceed"
    r"|prompt too long; exceeded"  # Ollama
    r"|available context size"  # llama.cpp
    r"|n_keep \(\d+\) ?>= n_ctx|keep the first \d+ tokens when"  # LM Studio
    r"|longer than the maximum model length"  # vLLM
    r"|max_tokens must be at least 1, got -"  # vLLM: the prompt alone is too long
    r"|exceeded model token limit"  # Kimi
    r"|maximum prompt length is"  # xAI
    r"|prompt exceeds max length"  # Z.ai
    r"|range of input length should be"  # Qwen
    r"|prompt token count of \d+ exceeds"  # GitHub
    r"|tokens \+ `?max_new_tokens`? must be <=",  # text-generation-inference
    re.IGNORECASE,
)
_TOO_FAST: Final = re.compile(r"input or output tokens must be reduced", re.I)
"""OpenAI: the prompt alone is more than may be sent in a minute, so waiting does not help."""
_NO_MONEY: Final = re.compile(
    r"credit balance is too low|exceeded your current quota|insufficient (credits|balance)", re.I
)
_FLAGGED: Final = re.compile(
    r"content management policy|input was flagged|content exists risk|violates usage guidelines",
    re.I,
)
"""How a filter rejects a prompt: Azure, OpenRouter, DeepSeek, xAI."""
_NO_QUOTA: Final = re.compile(r"\blimit: 0\b|credits are depleted", re.I)
"""From Google, whose messages say quota for rate limits too."""
_NOT_HERE: Final = re.compile(
    r"country, region, or territory not supported|location is not supported|request not allowed",
    re.I,
)
"""The vendor does not serve the region that the request comes from: OpenAI, Google, Anthropic."""
_NO_MODEL: Final = re.compile(r"\bmodels?[^/\w]|\bmodels/\S+ is not found", re.I)
"""How a provider says, with 404, that it does not have a model; must not match a path that contains
the word."""
_BAD_MODEL: Final = re.compile(r"not a valid model|invalid model|model name format", re.I)
"""The same with 400: OpenRouter, Mistral, Google."""
_DELAY: Final = re.compile(r"([0-9]{1,6}(?:\.[0-9]+)?)s", re.ASCII)
_AGAIN: Final = re.compile(
    r"(?:try again|retry) in (?:([0-9]{1,2})m)?(?:([0-9]{1,6}(?:\.[0-9]{1,9})?)(m?)s)?\b",
    re.ASCII | re.I,
)
"""A delay in words: from OpenAI and Groq behind gateways that drop their headers."""

_Code = ExecutorErrorCode

_BY_KIND: Final[Mapping[str, ExecutorErrorCode]] = {
    "context_length_exceeded": _Code.EXEC_API_TOKEN_LIMIT,
    "exceed_context_size_error": _Code.EXEC_API_TOKEN_LIMIT,
    "request_too_large": _Code.EXEC_API_TOKEN_LIMIT,
    "insufficient_quota": _Code.EXEC_API_TERMINAL,
    "unsupported_country_region_territory": _Code.EXEC_API_TERMINAL,
    "billing_hard_limit_reached": _Code.EXEC_API_TERMINAL,
    "billing_error": _Code.EXEC_API_TERMINAL,
    "exceeded_current_quota_error": _Code.EXEC_API_TERMINAL,  # Kimi
    "content_filter": _Code.EXEC_API_REFUSED,  # Azure, Kimi
    "data_inspection_failed": _Code.EXEC_API_REFUSED,  # Qwen
    # Groq: the model made a mistake, and its output is lost; asking again may help
    "tool_use_failed": _Code.EXEC_API_SERVER_ERROR,
    "json_validate_failed": _Code.EXEC_API_SERVER_ERROR,
    "authentication_error": _Code.EXEC_API_AUTH_INVALID_KEY,
    "permission_error": _Code.EXEC_API_AUTH_INVALID_KEY,
    "invalid_api_key": _Code.EXEC_API_AUTH_INVALID_KEY,
    "rate_limit_error": _Code.EXEC_API_RATE_LIMITED,
    "rate_limit_exceeded": _Code.EXEC_API_RATE_LIMITED,
    "timeout_error": _Code.EXEC_API_TIMEOUT,
    "overloaded_error": _Code.EXEC_API_SERVER_ERROR,
    "api_error": _Code.EXEC_API_SERVER_ERROR,
    "server_error": _Code.EXEC_API_SERVER_ERROR,
    "internal_server_error": _Code.EXEC_API_SERVER_ERROR,
    "invalid_request_error": _Code.EXEC_API_BAD_REQUEST,
    "not_found_error": _Code.EXEC_API_BAD_REQUEST,
    **dict.fromkeys(
        (
            "invalid_prompt data_residency_mismatch bio_policy misalignment_policy_violation"
            " invalid_image invalid_image_format invalid_base64_image invalid_image_url"
            " image_too_large image_too_small image_parse_error image_content_policy_violation"
            " invalid_image_mode image_file_too_large unsupported_image_media_type"
            " empty_image_file image_file_not_found"
        ).split(),
        _Code.EXEC_API_BAD_REQUEST,
    ),
    # Google's, which are gRPC's.
    "UNAUTHENTICATED": _Code.EXEC_API_AUTH_INVALID_KEY,
    "PERMISSION_DENIED": _Code.EXEC_API_AUTH_INVALID_KEY,
    "RESOURCE_EXHAUSTED": _Code.EXEC_API_RATE_LIMITED,
    "INVALID_ARGUMENT": _Code.EXEC_API_BAD_REQUEST,
    "FAILED_PRECONDITION": _Code.EXEC_API_BAD_REQUEST,
    "NOT_FOUND": _Code.EXEC_API_BAD_REQUEST,
    "DEADLINE_EXCEEDED": _Code.EXEC_API_SERVER_ERROR,
    "UNAVAILABLE": _Code.EXEC_API_SERVER_ERROR,
    "INTERNAL": _Code.EXEC_API_SERVER_ERROR,
    "CANCELLED": _Code.EXEC_API_SERVER_ERROR,
}
"""Used where there is no status: for an error in the middle of a stream."""

_SURE: Final = frozenset(
    (_Code.EXEC_API_TOKEN_LIMIT, _Code.EXEC_API_TERMINAL, _Code.EXEC_API_REFUSED)
)
_SURE_KINDS: Final = frozenset(("tool_use_failed", "json_validate_failed"))
"""Codes and kinds that are more specific than the status."""

_TOOL: Final = re.compile(r"\btools\.([0-9]{1,4})\.")

_BY_STATUS: Final[Mapping[int, ExecutorErrorCode]] = {
    401: _Code.EXEC_API_AUTH_INVALID_KEY,
    402: _Code.EXEC_API_TERMINAL,
    403: _Code.EXEC_API_AUTH_INVALID_KEY,
    408: _Code.EXEC_API_TIMEOUT,
    409: _Code.EXEC_API_SERVER_ERROR,  # a lock that the vendor could not get: both SDKs retry it
    413: _Code.EXEC_API_TOKEN_LIMIT,
    425: _Code.EXEC_API_SERVER_ERROR,
    429: _Code.EXEC_API_RATE_LIMITED,
    499: _Code.EXEC_API_SERVER_ERROR,  # Google gave up; the client had not disconnected
}


def status_error(
    provider: str,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: float,
    credentials: ProviderCredentials,
    url: str = "",
    tools: JSON = None,
) -> APIError:
    """The error for a response whose status is not 2xx. `now`: seconds since the epoch. `url`: the
    URL requested, reported if the base URL seems wrong. `tools`: those that were sent; if the
    provider reports one by its number, its name is added."""
    error = _error_in(body.decode("utf-8", "replace"))
    kinds, message = _parts(error)
    code = _status_code(status, kinds, message)
    wait = retry_after(headers, now)
    if 300 <= status < 400:
        message = "a redirect, which is not followed: the base URL is wrong"
    shown = _short(credentials.redact(message)) + _tool_named(message, tools)
    hint = _hint(code, provider, message, status, keyless=credentials.is_keyless)
    told = hint == CHECK_URL and bool(credentials.base_url)
    place = credentials.redact(redact_url(url.partition("?")[0])) if told else ""
    return APIError(
        f"{provider} answered {status}"
        + (f" at {place}" if place else "")
        + (f": {shown}" if shown else ""),
        code=code,
        hint=hint,
        status=status,
        retry_after_s=_retry_delay(error, message) if wait is None else wait,
    )


def refused(
    provider: str,
    response: httpx2.Response,
    credentials: ProviderCredentials,
    now: float,
    tools: JSON = None,
) -> APIError:
    """See `status_error`; the body of the response has been read."""
    return status_error(
        provider,
        response.status_code,
        response.headers,
        response.content,
        now=now,
        credentials=credentials,
        url=str(response.url),
        tools=tools,
    )


def event_error(
    provider: str, error: JSON, *, usage: Usage, credentials: ProviderCredentials
) -> APIError:
    """The error for one that a provider reports within an answer that began well."""
    kinds, message = _parts(error)
    code = _refined(kinds, message) or next(
        (_BY_KIND[kind] for kind in kinds if kind in _BY_KIND), None
    )
    if code is None and not kinds and _TOO_LONG.search(message):
        code = _Code.EXEC_API_TOKEN_LIMIT  # LM Studio reports it like this, without a code
    if code is None:
        # Gateways send a bare status as `code`.
        status = next((int(kind) for kind in kinds if re.fullmatch(r"[45][0-9]{2}", kind)), 500)
        code = _status_code(status, kinds, message)
    shown = _short(credentials.redact(message)) or "no reason given"
    return APIError(
        f"{provider} broke off its answer: {shown}",
        code=code,
        hint=_hint(code, provider, message),
        retry_after_s=_retry_delay(error, message),
        usage=usage if usage is not NO_USAGE else None,
    )


def network_error(
    provider: str, cause: BaseException, credentials: ProviderCredentials
) -> APIError:
    """The error for a connection that gave no answer: no route, unknown host, TLS failure,
    reset."""
    why = _short(credentials.redact(reason_of(cause)))
    return APIError(
        f"{provider} could not be reached: {why}",
        code=_Code.EXEC_API_NETWORK,
        hint=f"Check the network, and the base URL.{_proxy_unused()}",
        cause=cause,
    )


def _proxy_unused() -> str:
    """A note that the proxy in the environment is not used, contrary to what other programs do."""
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"):
        if os.environ.get(name) or os.environ.get(name.lower()):
            return (
                f" {name} is set: proxies are asked only by a pipeline with "
                "world=RealWorld(proxies_from_environment=True)."
            )
    return ""


def incomplete(
    provider: str, why: str, *, usage: Usage = NO_USAGE, cause: BaseException | None = None
) -> APIError:
    """The error for an answer that began but did not end."""
    return APIError(
        f"the answer of {provider} is incomplete: {why}",
        code=_Code.EXEC_API_STREAM_INCOMPLETE,
        hint=TRY_LATER,
        usage=usage if usage is not NO_USAGE else None,
        cause=cause,
    )


def _error_in(body: str) -> JSON:
    """The error in a body. Known shapes: `{"error": {...}}`, the same in an array, `{"error":
    "..."}`, `{"message": ...}`, `{"detail": ...}`, and text that is not JSON."""
    try:
        value = parse_json(body)
    except ValueError:
        # a proxy's HTML page is of no use
        return "" if body.lstrip().startswith("<") else body
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, Mapping) and value.get("error"):
        value = value["error"]
    return value


def _parts(error: JSON) -> tuple[list[str], str]:
    """The error's own names (type, code), and its message, with those of the provider behind a
    gateway that only passes them on (OpenRouter)."""
    kinds, message = _said(error)
    metadata = error.get("metadata") if isinstance(error, Mapping) else None
    raw = metadata.get("raw") if isinstance(metadata, Mapping) else None
    if raw:
        more, behind = _said(_error_in(raw) if isinstance(raw, str) else raw)
        kinds, message = kinds + more, ": ".join(filter(None, (message, behind)))
    return kinds, message[:_READ_CHARS]


def _said(error: JSON) -> tuple[list[str], str]:
    if isinstance(error, str):
        return [], error
    if not isinstance(error, Mapping):
        return [], ""
    kinds = [str(error[key]) for key in ("code", "type", "status") if error.get(key)]
    for detail in _details(error):
        if isinstance(reason := detail.get("reason"), str):
            kinds.insert(0, reason)  # more specific than the status
        if "PerDay" in dumps(detail.get("violations", "")):
            kinds.insert(0, "insufficient_quota")  # a daily quota: a retry does not help
    message = error.get("message") or error.get("detail") or error.get("msg") or ""
    return kinds, message if isinstance(message, str) else str(message)


def _details(error: JSON) -> list[Mapping[str, JSON]]:
    """Google's error details: ErrorInfo, QuotaFailure, RetryInfo and others."""
    details = error.get("details") if isinstance(error, Mapping) else None
    return objects_of(details)


def _retry_delay(error: JSON, message: str) -> float | None:
    """The delay in seconds that the body asks for (Google's RetryInfo, or words), if it makes
    sense."""
    for detail in _details(error):
        match = _DELAY.fullmatch(str(detail.get("retryDelay", "")))
        if match is not None and float(match[1]) <= MAX_RETRY_AFTER_S:
            return float(match[1])
    words = _AGAIN.search(message)
    if words is None or not any(words.groups()):
        return None
    seconds = float(words[2] or 0) / (1000 if words[3] else 1)
    wait = 60 * float(words[1] or 0) + seconds
    return wait if wait <= MAX_RETRY_AFTER_S else None


def _refined(kinds: list[str], message: str) -> ExecutorErrorCode | None:
    """The code, where the body is more specific than the status."""
    for kind in kinds:
        code = _BY_KIND.get(kind)
        if code in _SURE or kind in _SURE_KINDS:
            return code
    if "API_KEY_INVALID" in kinds:
        expired = "expired" in message.lower()
        return _Code.EXEC_API_AUTH_EXPIRED if expired else _Code.EXEC_API_AUTH_INVALID_KEY
    none_left = _NO_QUOTA if "RESOURCE_EXHAUSTED" in kinds else _NO_MONEY
    if none_left.search(message) or _NOT_HERE.search(message):
        return _Code.EXEC_API_TERMINAL
    if _TOO_FAST.search(message):
        return _Code.EXEC_API_TOKEN_LIMIT
    return _Code.EXEC_API_REFUSED if _FLAGGED.search(message) else None


def _status_code(status: int, kinds: list[str], message: str) -> ExecutorErrorCode:
    refined = _refined(kinds, message)
    if refined is not None:
        return refined
    # 500: servers that pass on failures of the inference engine
    if status in (400, 422, 500) and _TOO_LONG.search(message):
        return _Code.EXEC_API_TOKEN_LIMIT
    if status < 500:
        if status == 401 and "expired" in message.lower():
            return _Code.EXEC_API_AUTH_EXPIRED
        return _BY_STATUS.get(status, _Code.EXEC_API_BAD_REQUEST)
    return _Code.EXEC_API_SERVER_ERROR


def _hint(
    code: ExecutorErrorCode, provider: str, message: str, status: int = 0, *, keyless: bool = False
) -> str:
    variable = " or ".join(
        filter(None, (VARIABLES.get(provider, ("",))[0], FIRST.get(provider, "")))
    )
    match code:
        case _Code.EXEC_API_AUTH_INVALID_KEY if variable and keyless:
            return f"No key was sent: set {variable}; beside base_url=..., pass api_key=... too."
        case _Code.EXEC_API_AUTH_INVALID_KEY | _Code.EXEC_API_AUTH_EXPIRED if variable:
            return f"Check {variable} and what the key may use."
        case _Code.EXEC_API_TERMINAL if _NOT_HERE.search(message):
            return "The vendor does not serve this country or network: use another provider."
        case _Code.EXEC_API_TERMINAL:
            return "Check the account's plan and billing."
        case _Code.EXEC_API_TOKEN_LIMIT:
            return "Compact the conversation or use a model with a larger window."
        case _Code.EXEC_API_RATE_LIMITED:
            return "Wait a little and try again."
        case _Code.EXEC_API_TIMEOUT | _Code.EXEC_API_SERVER_ERROR:
            return TRY_LATER
        case _Code.EXEC_API_REFUSED:
            return "Ask in other words, or ask another model."
        case _ if (status == 404 and _NO_MODEL.search(message)) or (
            status == 400 and _BAD_MODEL.search(message)
        ):
            return CHECK_MODEL
        case _ if status in (404, 405) or 300 <= status < 400:
            return CHECK_URL
        case _:
            return ""


def _tool_named(message: str, tools: JSON) -> str:
    at = _TOOL.search(message)
    if at is None or not isinstance(tools, list) or int(at[1]) >= len(tools):
        return ""
    tool = tools[int(at[1])]
    name = tool.get("name") if isinstance(tool, Mapping) else None
    return f" (tools.{at[1]} is {name!r})" if isinstance(name, str) else ""


def _short(text: str) -> str:
    text = clean(" ".join(text.split()))
    return text if len(text) <= _MESSAGE_CHARS else text[:_MESSAGE_CHARS] + "..."


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """The delay in seconds that the provider asks for: `retry-after-ms`, else `retry-after`
    (seconds, or an HTTP date relative to `now`). None: none, or nothing sensible (a past date, more
    than an hour, not a number)."""
    lowered = {name.lower(): value.strip() for name, value in headers.items()}
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = lowered.get(name, "")
        wait: float | None = None
        if _NUMBER.fullmatch(value):
            wait = float(value) * scale
        elif value and scale == 1.0:
            wait = _until(value, now)
        if wait is not None and 0 <= wait <= MAX_RETRY_AFTER_S:
            return wait
    return None


def _until(date: str, now: float) -> float | None:
    try:
        when = parsedate_to_datetime(date)
        if when.tzinfo is None:
            when = when.replace(tzinfo=UTC)
        return when.timestamp() - now
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
