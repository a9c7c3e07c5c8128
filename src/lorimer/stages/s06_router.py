"""Stage 6, routers: which model is called. What happens when it fails: `models/failover.py`."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from lorimer.core.jsonable import JSON
from lorimer.core.stage import Settings, Strategy
from lorimer.core.state import PipelineState
from lorimer.models.registry import PROVIDERS
from lorimer.models.spec import chain, parse_spec


class Router(Strategy):
    """Chooses the model of each call."""

    def route(self, state: PipelineState, *, thinks: bool) -> str:
        """A spec or a chain of them; "": the manifest's. Must be fast and deterministic for a given
        state: the choice is not recorded. `thinks`: the call has a thinking budget."""
        raise TypeError(f"{type(self).__name__} has no route method")


class Passthrough(Router):
    """The manifest's model."""

    name = "passthrough"
    description = "The model of the manifest."

    def route(self, state: PipelineState, *, thinks: bool) -> str:
        return ""


class Adaptive(Router):
    """A light model for short conversations, a heavy one for long ones."""

    name = "adaptive"
    description = "One of three models, by the length of the conversation."

    class Config(Settings):
        """A model that is not given is the manifest's. Switching models loses the provider's prompt
        cache."""

        light: str = ""
        """Spec of the model for conversations of up to light_threshold_chars."""
        balanced: str = ""
        """Spec for those in between."""
        heavy: str = ""
        """Spec for heavy_threshold_chars and more."""
        light_threshold_chars: int = Field(800, ge=0)
        """Characters of the conversation and the system prompt."""
        heavy_threshold_chars: int = Field(12_000, ge=0)
        thinking_promotes_heavy: bool = True
        """A call with a thinking budget goes to `heavy`."""
        tools_promote_balanced: bool = True
        """A call with tools goes to `balanced` or `heavy`."""

    config: Config

    def configure(self, config: Mapping[str, JSON]) -> None:
        super().configure(config)
        for given in (self.config.light, self.config.balanced, self.config.heavy):
            for spec in chain(given) if given else ():
                parse_spec(spec, PROVIDERS)

    def route(self, state: PipelineState, *, thinks: bool) -> str:
        config = self.config
        size = state.context_size + len(state.system)
        if size >= config.heavy_threshold_chars or (thinks and config.thinking_promotes_heavy):
            return config.heavy
        if size > config.light_threshold_chars or (state.tools and config.tools_promote_balanced):
            return config.balanced
        return config.light
