"""Context windows: overrides first, then the data of genai-prices.

Used by compaction and `lorimer models ls`, for example.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from lorimer.core.errors import ConfigError, LorimerError
from lorimer.core.model import KnowsWindow, ModelResolver, Target
from lorimer.models.pricing import lookup

USUAL_WINDOW: Final = 200_000
"""Tokens; assumed where the window is unknown."""


SMALLEST_WINDOW: Final = 1_000
"""Tokens: less than the window of any usable model."""


class WindowRoom:
    """How much fits into a prompt to any model of a chain. Looked up once for each set of targets:
    asking an object whether it knows takes longer than the rest of a model call."""

    __slots__ = ("_models", "_targets", "_tokens")

    def __init__(self, models: ModelResolver | None) -> None:
        self._models = models
        self._targets: Sequence[Target] = ()
        self._tokens: int | None = None

    def of(self, spec: str) -> int | None:
        """Tokens; None if unknown, or if its models cannot be used at all, which is reported when
        they are called. Sends no requests."""
        if self._models is None or not spec:
            return None
        try:
            targets = self._models.targets(spec)
        except LorimerError:
            return None
        if targets is not self._targets:
            known = [t.model.context_window for t in targets if isinstance(t.model, KnowsWindow)]
            self._tokens = min([tokens for tokens in known if tokens], default=None)
            self._targets = targets
        return self._tokens


class Windows:
    """Context windows in tokens.

    `overrides` has the same keys as those of `Prices`: `provider:model`, the model alone,
    `provider:*`. Raises ConfigError for a window that is not a positive number.
    """

    def __init__(self, overrides: Mapping[str, int] | None = None) -> None:
        for name, tokens in (overrides or {}).items():
            if tokens <= 0:
                raise ConfigError(f"the context window of {name!r} is a number of tokens: {tokens}")
        self._overrides: Mapping[str, int] = MappingProxyType(dict(overrides or {}))
        self._found: dict[tuple[str, str, str], int | None] = {}

    def tokens(self, provider: str, model: str, *, base_url: str = "") -> int | None:
        """The window of a model; None if unknown. A self-hosted server may be configured for less
        than its model could take: give an override then."""
        key = (provider, model, base_url)
        if key not in self._found:
            self._found[key] = self._find(provider, model, base_url)
        return self._found[key]

    def _find(self, provider: str, model: str, base_url: str) -> int | None:
        for key in (f"{provider}:{model}", model, f"{provider}:*"):
            if key in self._overrides:
                return self._overrides[key]
        info = lookup(provider, model, base_url)
        return None if info is None else info.context_window
