"""Base class of the vendors' models: context windows and prices, whatever the wire."""

from __future__ import annotations

from lorimer.core.request import Usage
from lorimer.models.credentials import ProviderCredentials
from lorimer.models.images import ImageLimits
from lorimer.models.registry import ProviderContext
from lorimer.models.spec import ModelSpec


class HostedModel:
    """A model at its vendor, or at a base URL with the vendor's API: its name, context window and
    prices. Subclasses add the wire.

    `credentials`: None: those of the provider. Raises ConfigError if there are none.
    """

    image_limits: ImageLimits | None = None

    def __init__(
        self,
        spec: ModelSpec,
        context: ProviderContext,
        credentials: ProviderCredentials | None = None,
    ) -> None:
        self.provider = spec.provider
        """The vendor, or the name under which another server is known."""
        self.name = spec.model
        self._effort = spec.effort
        self._context = context
        self._credentials = credentials or context.require(self.provider)

    @property
    def context_window(self) -> int | None:
        """Tokens, from the table of windows."""
        base_url = self._credentials.base_url
        return self._context.windows.tokens(self.provider, self.name, base_url=base_url)

    def price(self, usage: Usage, *, model: str = "") -> int | None:
        """Nano-dollars, from the price table."""
        return self._context.prices.nano(
            self.provider, self.name, usage, answered=model, base_url=self._credentials.base_url
        )
