"""Models that are named but never called: for replays, where there may be no key."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from lorimer.core.errors import APIError, ExecutorErrorCode
from lorimer.core.model import Target
from lorimer.core.request import Delta, Request, Response, Usage
from lorimer.core.world import World
from lorimer.models.registry import PROVIDERS
from lorimer.models.spec import ModelSpec, chain, parse_spec


class Unasked:
    """A `ModelResolver` that needs neither keys nor SDKs."""

    def __init__(self) -> None:
        self._targets: dict[str, tuple[Target, ...]] = {}

    def resolve(self, spec: str) -> UnaskedModel:
        """The model of that name. Raises ConfigError when the spec names no model."""
        return UnaskedModel(parse_spec(spec, PROVIDERS))

    def targets(self, spec: str) -> tuple[Target, ...]:
        """The models of a chain. Raises ConfigError when a part of it names no model."""
        targets = self._targets.get(spec)
        if targets is None:
            parsed = {str(one): one for one in [parse_spec(s, PROVIDERS) for s in chain(spec)]}
            targets = self._targets[spec] = tuple(
                [Target(name, UnaskedModel(one), one.effort) for name, one in parsed.items()]
            )
        return targets

    async def aclose(self) -> None:
        """Nothing to close."""


class UnaskedModel:
    """A model that is never called; implements `core.model.Model`."""

    def __init__(self, spec: ModelSpec) -> None:
        self.provider = spec.provider
        self.name = spec.model

    def price(self, usage: Usage, *, model: str = "") -> int | None:
        """Nothing: what was paid is recorded."""
        return 0

    async def stream(
        self, request: Request, *, world: World
    ) -> AsyncGenerator[Delta | Response, None]:
        """Raises APIError `exec.api.no_client`."""
        raise APIError(
            f"The model {self.name!r} is there to be replayed, not to be asked.",
            code=ExecutorErrorCode.EXEC_API_NO_CLIENT,
        )
        yield  # makes it a generator, like every model's stream
