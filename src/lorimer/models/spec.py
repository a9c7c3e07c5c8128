"""Model specs: short strings that name a model, and its vendor when no provider is given.

`chain` splits `a,b,c`; a single spec is one model.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Literal, TypeAlias, cast

from lorimer.core.errors import ConfigError
from lorimer.core.record import record

Effort: TypeAlias = Literal["", "low", "medium", "high"]

DEFAULT_PROVIDER: Final = "anthropic"
EFFORTS: Final = ("low", "medium", "high")
VENDORS: Final = (
    ("claude", "anthropic"),
    ("gpt-", "openai"),
    ("chatgpt", "openai"),
    ("ft:gpt-", "openai"),
    ("ft:o", "openai"),
    ("o1", "openai"),
    ("o3", "openai"),
    ("o4", "openai"),
    ("gemini", "google"),
)
"""First letters of a bare model name, and its vendor."""


@record
class ModelSpec:
    """A parsed spec."""

    provider: str
    """Lower case; not necessarily registered."""
    model: str
    """The provider's own name for the model, verbatim."""
    effort: Effort = ""

    def is_guess(self, text: str) -> bool:
        """Whether `text`, from which this was parsed, names neither a provider nor a vendor's
        model, so that it may just as well be a tier or an alias."""
        rest = text.strip().lower()
        named = rest.startswith((f"{self.provider}:", f"{self.provider}/"))
        return not named and not any(rest.startswith(prefix) for prefix, _ in VENDORS)

    def __str__(self) -> str:
        tail = f":{self.effort}" if self.effort else ""
        return f"{self.provider}:{self.model}{tail}"


def vendor_of(model: str) -> str:
    """The provider of a model given without one."""
    name = model.lower()
    return next((who for prefix, who in VENDORS if name.startswith(prefix)), DEFAULT_PROVIDER)


def parse_spec(text: str, known: Collection[str]) -> ModelSpec:
    """Parse `provider:model`, `provider/model` (if that provider is in `known`) or a bare model,
    each with an optional final `:low`, `:medium` or `:high`.

    Raises ConfigError when no model is named. Checking that the provider exists is up to the
    caller.
    """
    rest = text.strip()
    head, colon, tail = rest.rpartition(":")
    effort: Effort = ""
    if colon and tail.lower() in EFFORTS:
        rest, effort = head, cast("Effort", tail.lower())
    provider, model = _split(rest, known)
    if not model or not provider:
        raise ConfigError(
            f"the model spec {text!r} names no {'model' if provider else 'provider'}",
            hint="Write e.g. anthropic:claude-sonnet-4-6.",
        )
    return ModelSpec(provider, model, effort)


def chain(text: str) -> list[str]:
    """The specs between the commas, in order, without duplicates.

    Raises ConfigError if nothing stands between two commas.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) > 1 and not all(parts):
        raise ConfigError(
            f"the chain {text!r} has nothing between two commas",
            hint="Write e.g. anthropic:claude-sonnet-4-6,openai:gpt-5.",
        )
    return list(dict.fromkeys(parts))


def _split(rest: str, known: Collection[str]) -> tuple[str, str]:
    left, slash, right = rest.partition("/")
    if slash and left.lower() in known:
        return left.lower(), right.strip()
    left, colon, right = rest.partition(":")
    left = left.strip()
    # `ft:gpt-4o:acme::id` is one OpenAI model name, and `meta/llama:free` has no provider.
    if colon and left.lower() != "ft" and "/" not in left:
        return left.lower(), right.strip()
    if rest.lower() in known:
        return rest.lower(), ""
    return vendor_of(rest), rest
