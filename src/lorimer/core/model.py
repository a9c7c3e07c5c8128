"""The ports to models: one call, and the resolver that finds who answers a spec."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from lorimer.core.messages import Delta, Request, Response, Usage
from lorimer.core.world import World


class Model(Protocol):
    """One way to reach models. Holds no state of a run; may be shared by many at once."""

    @property
    def provider(self) -> str:
        """`anthropic`, `openai`, `scripted`, ..."""
        ...

    @property
    def name(self) -> str:
        """The provider's own name of the model, put into each Request."""
        ...

    def stream(self, request: Request, *, world: World) -> AsyncIterator[Delta | Response]:
        """Deltas, then exactly one Response, last. Without `request.stream`: just the Response.

        The first item of a stream, be it an empty UsageDelta, comes as soon as the provider has
        answered: until then the connect time-out runs, afterwards the idle one.

        Raises APIError with the code of what went wrong; a stream that ends before the
        provider's own terminal event is `exec.api.stream_incomplete`, never an answer. Closing
        the iterator early ends the connection. Ids of calls may be missing or repeat themselves:
        a run gives such calls others.
        """
        ...

    def price(self, usage: Usage, *, model: str = "") -> int | None:
        """Nano-dollars for `usage`, by the model that answered; None: unknown, never 0."""
        ...


class ModelResolver(Protocol):
    """Finds the Model for a spec such as `anthropic:claude-sonnet-4-6`. Shipped: `Models`."""

    def resolve(self, spec: str) -> Model:
        """Raises ConfigError for an unknown provider, naming the nearest, and for a missing key,
        naming the variable to set."""
        ...

    async def aclose(self) -> None:
        """Close the connections it opened."""
        ...
