"""The ports to models: one call, and the resolver that finds who answers a spec."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

from lorimer.core.record import record
from lorimer.core.request import Delta, Request, Response, Usage
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


@record
class Capabilities:
    """What one model at one provider takes. What it does not take is left out of its requests and
    named in the answer's `extra["dropped"]`."""

    tools: bool = True
    tool_choice: bool = True
    """Says which tool has to be called, or that one has to be."""
    images: bool = True
    documents: bool = True
    thinking: bool = True
    """Reasons before it answers, within a budget or an effort."""
    output_schema: bool = True
    """Is held to a JSON schema by the provider."""
    stop_sequences: bool = True
    temperature: bool = True
    top_p: bool = True
    top_k: bool = True
    seed: bool = True
    cache_marks: bool = True
    """Takes marks of where a prompt can be cached."""


@runtime_checkable
class Capable(Protocol):
    """A model that tells what it takes; of others everything is assumed."""

    @property
    def capabilities(self) -> Capabilities:
        """Does not ask the provider."""
        ...


@record
class ImageLimits:
    """Which pictures a model takes, of those that are sent as data. 0: there is no such limit."""

    kinds: frozenset[str] = frozenset()
    """Media types; empty: any."""
    chars: int = 0
    """Characters of base64 of one."""
    side: int = 0
    """Pixels of its longer side."""
    count: int = 0
    """Pictures in one request."""
    total_chars: int = 0
    """Of all in one request together."""
    many: int = 0
    """From more than so many on, `many_side` holds in place of `side`."""
    many_side: int = 0


@runtime_checkable
class LimitsImages(Protocol):
    """A model that tells which pictures it takes; others are sent what there is."""

    @property
    def image_limits(self) -> ImageLimits | None:
        """Does not ask the provider. None: not known."""
        ...


@runtime_checkable
class KnowsSecrets(Protocol):
    """A resolver that knows which values are secret: keys, headers."""

    def secrets(self) -> Mapping[str, str]:
        """Value to the name that is shown in its place."""
        ...


@runtime_checkable
class CountsTokens(Protocol):
    """A model whose provider counts a prompt's tokens."""

    async def count_tokens(self, request: Request, *, world: World) -> int:
        """Tokens of the prompt, tools and system included. Raises APIError."""
        ...


@runtime_checkable
class ListsModels(Protocol):
    """A model whose provider tells which models it has."""

    async def list_models(self, *, world: World) -> list[str]:
        """Names, as the provider writes them. Raises APIError."""
        ...


@runtime_checkable
class KnowsWindow(Protocol):
    """A model that knows how much fits into one prompt."""

    @property
    def context_window(self) -> int | None:
        """Tokens; None: not known. Does not ask the provider."""
        ...


@record
class Target:
    """One of the models that a spec names, in the order in which they are asked."""

    spec: str
    """`provider:model`, with the effort where the spec says one. Unique in its chain: what facts
    and listeners call it."""
    model: Model
    effort: str = ""
    """As in `Request.effort`."""
    place: str = ""
    """`provider:model`, and behind a space the base URL where there is one: what can be down."""


@record
class ModelCall:
    """One attempt at a model, as sinks are told of it: failed and cancelled ones too."""

    run_id: str
    iteration: int
    """0-based."""
    attempt: int
    """From 1 within its iteration."""
    target: str
    """`Target.spec`."""
    model: str
    """That answered, as the provider names it; else that was asked."""
    usage: Usage
    """As the provider told; what a dead attempt had said and nobody had counted is estimated.
    Tokens read from a cache count, also when there are no others."""
    cost_nano: int
    """Nano-dollars."""
    duration_s: float
    """Of the attempt, on the run's monotonic clock; what listeners took is part of it."""
    code: str
    """Of its error; "": it answered."""


@runtime_checkable
class UsageSink(Protocol):
    """Is told what every attempt used, once each, when it is over. Nothing is told again when a
    resumed or replayed run answers from its journal."""

    def record_usage(self, call: ModelCall) -> None:
        """Called on the run's loop: be quick. What it raises is logged."""
        ...


@runtime_checkable
class TraceSink(Protocol):
    """Is told what every attempt asked and was answered: prompts and texts, so mind who reads it.
    Else as UsageSink."""

    def record_trace(self, call: ModelCall, request: Request, response: Response | None) -> None:
        """`response`: None if it failed. The messages of `request` go on growing: copy what is to
        be kept."""
        ...


class ModelResolver(Protocol):
    """Finds the Model for a spec such as `anthropic:claude-sonnet-4-6`. Shipped: `Models`."""

    def resolve(self, spec: str) -> Model:
        """Raises ConfigError for an unknown provider, naming the nearest, and for a missing key,
        naming the variable to set."""
        ...

    def targets(self, spec: str) -> Sequence[Target]:
        """The models of a chain `a,b,c`, in order; of a single spec that one. The same object
        again while nothing has changed. Raises ConfigError naming every part that cannot be
        used."""
        ...

    async def aclose(self) -> None:
        """Close the connections it opened."""
        ...
