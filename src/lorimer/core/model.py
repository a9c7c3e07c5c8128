"""The ports to models: one call, and the resolver that finds the models of a spec."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

from lorimer.core.record import record
from lorimer.core.request import Delta, Request, Response, Usage
from lorimer.core.world import World


class Model(Protocol):
    """One way to call a model. Holds no state of a run, so many runs may share it."""

    @property
    def provider(self) -> str:
        """`anthropic`, `openai`, `scripted`, ..."""
        ...

    @property
    def name(self) -> str:
        """The provider's own name of the model; used in each Request."""
        ...

    def stream(self, request: Request, *, world: World) -> AsyncIterator[Delta | Response]:
        """Yields deltas, then exactly one Response, last. Without `request.stream`: only the
        Response.

        The first item of a stream, even an empty UsageDelta, is yielded as soon as the provider has
        responded: until then the connect timeout applies, afterwards the idle timeout.

        Raises APIError with the code of the failure; a stream that ends before the provider's own
        terminal event is `exec.api.stream_incomplete`, never an answer. Closing the iterator early
        closes the connection. Call ids may be missing or repeated: a run replaces such ids.
        """
        ...

    def price(self, usage: Usage, *, model: str = "") -> int | None:
        """Nano-dollars for `usage`, by the model that answered; None: unknown, never 0."""
        ...


@record
class Capabilities:
    """What one model at one provider supports. Unsupported parts are left out of its requests and
    listed in the answer's `extra["dropped"]`."""

    tools: bool = True
    tool_choice: bool = True
    """Can be forced to call a tool, or a particular one."""
    images: bool = True
    documents: bool = True
    thinking: bool = True
    """Reasons before it answers, within a budget or at an effort."""
    output_schema: bool = True
    """The provider enforces a JSON schema."""
    stop_sequences: bool = True
    temperature: bool = True
    top_p: bool = True
    top_k: bool = True
    seed: bool = True
    cache_marks: bool = True
    """Accepts markers of where a prompt can be cached."""


@runtime_checkable
class Capable(Protocol):
    """A model that declares what it supports; others are assumed to support everything."""

    @property
    def capabilities(self) -> Capabilities:
        """Does not ask the provider."""
        ...


def capabilities_of(model: Model) -> Capabilities:
    """What a model supports: everything, unless it declares something else."""
    return model.capabilities if isinstance(model, Capable) else Capabilities()


@record
class ImageLimits:
    """Which images a model accepts, of those that are sent as data. 0: no such limit."""

    kinds: frozenset[str] = frozenset()
    """Media types; empty: any."""
    chars: int = 0
    """Characters of base64 in one image."""
    side: int = 0
    """Pixels of the longer side."""
    count: int = 0
    """Images in one request."""
    total_chars: int = 0
    """Characters of base64 in all images of one request."""
    many: int = 0
    """With more than this many images, `many_side` applies instead of `side`."""
    many_side: int = 0


@runtime_checkable
class LimitsImages(Protocol):
    """A model that declares which images it accepts; to others, images are sent unchanged."""

    @property
    def image_limits(self) -> ImageLimits | None:
        """Does not ask the provider. None: unknown."""
        ...


@runtime_checkable
class KnowsSecrets(Protocol):
    """A resolver that knows which values are secret: keys, headers."""

    def secrets(self) -> Mapping[str, str]:
        """Secret value to the name that is shown in its place."""
        ...


@runtime_checkable
class CountsTokens(Protocol):
    """A model whose provider counts the tokens of a prompt."""

    async def count_tokens(self, request: Request, *, world: World) -> int:
        """Tokens of the prompt, including tools and system prompt. Raises APIError."""
        ...


@runtime_checkable
class ListsModels(Protocol):
    """A model whose provider lists its models."""

    async def list_models(self, *, world: World) -> list[str]:
        """Names, as the provider writes them. Raises APIError."""
        ...


@runtime_checkable
class KnowsWindow(Protocol):
    """A model that knows its context window."""

    @property
    def context_window(self) -> int | None:
        """Tokens; None: unknown. Does not ask the provider."""
        ...


@record
class Target:
    """One of the models that a spec names, in the order in which they are tried."""

    spec: str
    """`provider:model`, with the effort if the spec has one. Unique in its chain; the name that
    facts and listeners use."""
    model: Model
    effort: str = ""
    """As in `Request.effort`."""
    place: str = ""
    """`provider:model`, followed by a space and the base URL if there is one: the unit that can be
    down."""


@record
class ModelCall:
    """One attempt at a model, as sinks receive it; also failed and cancelled ones."""

    run_id: str
    iteration: int
    """0-based."""
    attempt: int
    """From 1 within its iteration."""
    target: str
    """`Target.spec`."""
    model: str
    """The model that answered, as the provider names it; else the requested one."""
    usage: Usage
    """As reported by the provider; for a failed attempt, the uncounted part is estimated. Tokens
    read from a cache are included."""
    cost_nano: int
    """Nano-dollars."""
    duration_s: float
    """Duration of the attempt on the run's monotonic clock; includes time spent by listeners."""
    code: str
    """Code of the error; "" if it answered."""


@runtime_checkable
class UsageSink(Protocol):
    """Receives the usage of every attempt, once each, when it is over. Nothing is reported again
    when a resumed or replayed run answers from its journal."""

    def record_usage(self, call: ModelCall) -> None:
        """Called on the run's loop, so it has to be quick. Exceptions are logged."""
        ...


@runtime_checkable
class TraceSink(Protocol):
    """Receives the request and answer of every attempt: prompts and texts, so consider who can read
    them. Otherwise as UsageSink."""

    def record_trace(self, call: ModelCall, request: Request, response: Response | None) -> None:
        """`response`: None if it failed. The messages of `request` keep growing: copy what is to be
        stored."""
        ...


class ModelResolver(Protocol):
    """Finds the Model for a spec such as `anthropic:claude-sonnet-4-6`. Shipped: `Models`."""

    def resolve(self, spec: str) -> Model:
        """Raises ConfigError for an unknown provider, naming the nearest, and for a missing key,
        naming the variable to set."""
        ...

    def targets(self, spec: str) -> Sequence[Target]:
        """The models of a chain `a,b,c`, in order; for a single spec, that one. Returns the same
        object as long as nothing has changed. Raises ConfigError naming every part that cannot be
        used."""
        ...

    async def aclose(self) -> None:
        """Close the connections it opened."""
        ...
