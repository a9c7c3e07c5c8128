"""From a spec to a Model: the table of providers, and the HTTP clients they share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias
from weakref import WeakKeyDictionary

from lorimer.core.errors import ConfigError, ExecutorErrorCode, nearest
from lorimer.core.model import Model, ModelResolver, Target, TraceSink, UsageSink
from lorimer.core.world import World
from lorimer.models.credentials import CredentialBundle, ProviderCredentials, redact_url
from lorimer.models.estimate import Calibration
from lorimer.models.health import Health
from lorimer.models.pricing import Prices
from lorimer.models.sinks import Sinks
from lorimer.models.spec import ModelSpec, chain, parse_spec

if TYPE_CHECKING:
    import httpx2

PROVIDERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "anthropic": "lorimer.models.anthropic:AnthropicModel",
        "openai": "lorimer.models.openai:OpenAIModel",
        "google": "lorimer.models.google:GoogleModel",
        "scripted": "lorimer.models.scripted:scripted",
    }
)
"""Name → `module:factory`, imported when first used."""

PLANNED: Final = frozenset({"vllm", "claude_code_cli"})
SDKS: Final = frozenset({"anthropic", "google", "openai"})


class HttpPool:
    """One HTTP client per event loop and key (provider and base URL), made when first used.

    A client belongs to the loop it was made on: a program that calls `asyncio.run` again and
    again gets a new one each time.
    """

    def __init__(self, world: World | None = None) -> None:
        self._world = world
        self._clients: WeakKeyDictionary[
            asyncio.AbstractEventLoop, dict[tuple[str, str], httpx2.AsyncClient]
        ] = WeakKeyDictionary()

    def get(self, key: tuple[str, str], world: World) -> httpx2.AsyncClient:
        """The client for `key` on the running loop, from the pool's world, else from `world`."""
        clients = self._clients.setdefault(asyncio.get_running_loop(), {})
        client = clients.get(key)
        if client is None or client.is_closed:
            client = clients[key] = (self._world or world).http()
        return client

    async def aclose(self) -> None:
        """Close the running loop's clients. Those of a loop that is gone went with it."""
        clients = self._clients.pop(asyncio.get_running_loop(), {})
        for client in clients.values():
            await client.aclose()


@dataclass(frozen=True, slots=True)
class ProviderContext:
    """What a provider is made of, besides its spec."""

    credentials: CredentialBundle = field(default_factory=CredentialBundle)
    prices: Prices = field(default_factory=Prices)
    http: HttpPool = field(default_factory=HttpPool)

    def require(self, provider: str) -> ProviderCredentials:
        """Its credentials. Raises ConfigError naming the variable to set."""
        return self.credentials.require(provider)


ProviderFactory: TypeAlias = Callable[[ModelSpec, ProviderContext], Model]


class Models:
    """The shipped `ModelResolver`: one Model per spec, kept.

    credentials: keys; default: the vendors' environment variables, looked up at `resolve`.
    world: where HTTP clients come from; None: the world of the run that needs one first.
    prices: the price table; default: genai-prices alone.
    providers: more providers, or others under the shipped names: see `register`.
    health: which models are benched; default: its own, shared by all runs that use this object.
    usage_sink, trace_sink: are told of every attempt.
    """

    def __init__(
        self,
        credentials: CredentialBundle | None = None,
        world: World | None = None,
        prices: Prices | None = None,
        providers: Mapping[str, Model | ProviderFactory | str] | None = None,
        *,
        health: Health | None = None,
        usage_sink: UsageSink | None = None,
        trace_sink: TraceSink | None = None,
    ) -> None:
        self.health = health or Health()
        self.counts = Calibration()
        """How far estimates of tokens are off, by what the providers have counted."""
        sinks = Sinks(usage_sink, trace_sink)
        self.sinks = sinks if usage_sink is not None or trace_sink is not None else None
        """None: nobody is told."""
        self._context = ProviderContext(
            credentials or CredentialBundle(),
            prices or Prices(now=None if world is None else world.time),
            HttpPool(world),
        )
        self._providers: dict[str, Model | ProviderFactory | str] = dict(PROVIDERS)
        self._models: dict[str, Model] = {}
        self._targets: dict[str, tuple[Target, ...]] = {}
        for name, provider in (providers or {}).items():
            self.register(name, provider)

    @property
    def available(self) -> tuple[str, ...]:
        """The names of the registered providers, sorted."""
        return tuple(sorted(self._providers))

    def register(self, name: str, provider: Model | ProviderFactory | str) -> None:
        """Add or replace a provider: a Model that answers for every model name, a factory
        `(spec, context) -> Model`, or `"module:factory"`, imported when first used."""
        self._providers[name.lower()] = provider
        self._models.clear()
        self._targets.clear()

    def resolve(self, spec: str) -> Model:
        """The Model for `provider:model`, `provider/model` or a bare model name.

        Raises ConfigError: for an unknown provider, naming the nearest; for a missing key, naming
        the variable (`exec.api.no_client`); for a missing SDK (`exec.api.sdk_missing`).
        """
        model = self._models.get(spec)
        if model is None:
            parsed = parse_spec(spec, self._providers)
            model = self._models[spec] = self._make(parsed)
        return model

    def targets(self, spec: str) -> tuple[Target, ...]:
        """The models of a chain `a,b,c`, in order; of a single spec that one.

        Raises ConfigError as `resolve` does; of a chain it names every part that cannot be used.
        """
        targets = self._targets.get(spec)
        if targets is None:
            targets = self._targets[spec] = self._make_targets(chain(spec))
        return targets

    def _make_targets(self, specs: list[str]) -> tuple[Target, ...]:
        found: dict[str, Target] = {}
        faults: list[ConfigError] = []
        for spec in specs:
            try:
                parsed = parse_spec(spec, self._providers)
                model = self.resolve(spec)
                place = self._place(parsed)
                found.setdefault(str(parsed), Target(str(parsed), model, parsed.effort, place))
            except ConfigError as error:
                faults.append(error)
        if not faults:
            return tuple(found.values())
        if len(specs) == 1:
            raise faults[0]
        raise ConfigError(
            f"the chain {','.join(specs)!r} cannot be used: " + "; ".join(map(str, faults)),
            code=faults[0].code,
            hint=faults[0].hint,
            problems=tuple(map(str, faults)),
        )

    def _place(self, spec: ModelSpec) -> str:
        known = self._context.credentials.get(spec.provider)
        url = "" if known is None else known.base_url
        return f"{spec.provider}:{spec.model}" + (f" {redact_url(url)}" if url else "")

    async def aclose(self) -> None:
        """Close the HTTP clients of the running loop; they are made anew if needed again."""
        await self._context.http.aclose()

    def _make(self, spec: ModelSpec) -> Model:
        provider = self._providers.get(spec.provider)
        if provider is None:
            state = "is not built yet" if spec.provider in PLANNED else "is unknown"
            raise ConfigError(
                f"the provider {spec.provider!r} of the model {spec.model!r} {state}"
                f"{nearest(spec.provider, self._providers)}",
                code=ExecutorErrorCode.EXEC_API_NO_CLIENT,
            )
        if isinstance(provider, str):
            provider = _load(spec.provider, provider)
        return provider(spec, self._context) if callable(provider) else provider


def targets_of(model: str | Model, models: ModelResolver | None) -> Sequence[Target]:
    """Of a spec, or of a Model that needs none. Raises ConfigError."""
    if not isinstance(model, str):
        name = f"{model.provider}:{model.name}"
        return (Target(name, model, place=name),)
    if models is None:
        raise ConfigError(f"nobody is there to find the model {model!r}")
    return models.targets(model)


def _load(name: str, target: str) -> ProviderFactory:
    module, _, attribute = target.partition(":")
    try:
        factory: ProviderFactory = getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in SDKS:
            raise
        raise ConfigError(
            f"the provider {name!r} needs the {missing} SDK: install lorimer[{missing}]",
            code=ExecutorErrorCode.EXEC_API_SDK_MISSING,
            hint=f"pip install 'lorimer[{missing}]'",
            cause=error,
        ) from error
    return factory
