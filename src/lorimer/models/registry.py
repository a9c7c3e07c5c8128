"""From a spec to a Model: the table of providers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import field, replace
from importlib import import_module
from pathlib import Path
from types import MappingProxyType, NoneType
from typing import Final, TypeAlias

from lorimer.core.arguments import check_port, is_a, wrong
from lorimer.core.errors import (
    ConfigError,
    ExecutorErrorCode,
    LorimerError,
    nearest,
    raised_in,
)
from lorimer.core.model import (
    Capabilities,
    Model,
    ModelResolver,
    Target,
    TraceSink,
    UsageSink,
    capabilities_of,
)
from lorimer.core.record import record
from lorimer.core.world import World
from lorimer.models import discovery
from lorimer.models.compatible import Compatible
from lorimer.models.credentials import CredentialBundle, ProviderCredentials, redact_url
from lorimer.models.estimate import Calibration
from lorimer.models.fitting import Fitted, changes
from lorimer.models.health import Health
from lorimer.models.pool import HttpPool
from lorimer.models.pricing import Prices
from lorimer.models.redirected import Redirected
from lorimer.models.sinks import Sinks
from lorimer.models.spec import ModelSpec, parse_spec
from lorimer.models.tiers import Tiers
from lorimer.models.windows import Windows

PROVIDERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "anthropic": "lorimer.models.anthropic:AnthropicModel",
        "openai": "lorimer.models.openai:OpenAIModel",
        "google": "lorimer.models.google:GoogleModel",
        "vllm": "lorimer.models.compatible:vllm",
        "ollama": "lorimer.models.compatible:ollama",
        "lmstudio": "lorimer.models.compatible:lmstudio",
        "llamacpp": "lorimer.models.compatible:llamacpp",
        "openrouter": "lorimer.models.compatible:openrouter",
        "vertex": "lorimer.models.vertex:vertex",
        "claude_code_cli": "lorimer.models.claude_code:claude_code_cli",
        "scripted": "lorimer.models.scripted:scripted",
    }
)
"""Name → `module:factory`, imported when first used."""

SDKS: Final = frozenset({"anthropic", "google", "openai"})


@record
class ProviderContext:
    """What a provider factory gets besides the spec."""

    credentials: CredentialBundle = field(default_factory=CredentialBundle)
    prices: Prices = field(default_factory=Prices)
    http: HttpPool = field(default_factory=HttpPool)
    windows: Windows = field(default_factory=Windows)

    def with_credentials(self, credentials: CredentialBundle) -> ProviderContext:
        """A copy with other credentials."""
        return replace(self, credentials=credentials)

    def require(self, provider: str) -> ProviderCredentials:
        """The provider's credentials. Raises ConfigError naming the variable to set."""
        return self.credentials.require(provider)


ProviderFactory: TypeAlias = Callable[[ModelSpec, ProviderContext], Model]


class Models:
    """The built-in `ModelResolver`: makes one Model per spec and keeps it.

    credentials: keys; default: the vendors' environment variables, looked up at `resolve`.
    world: where HTTP clients come from; None: the world of the first run that needs one.
    prices: the price table; default: genai-prices alone.
    providers: additional providers, or replacements for built-in names: see `register`.
    tiers: what the names of tiers and aliases mean; default: none are defined.
    windows: context windows; default: genai-prices alone.
    health: which models are benched; default: one of its own, shared by all runs that use this
    object.
    usage_sink, trace_sink: notified of every attempt.
    """

    def __init__(
        self,
        credentials: CredentialBundle | None = None,
        world: World | None = None,
        prices: Prices | None = None,
        providers: Mapping[str, Model | ProviderFactory | str] | None = None,
        *,
        tiers: Tiers | None = None,
        windows: Windows | None = None,
        health: Health | None = None,
        usage_sink: UsageSink | None = None,
        trace_sink: TraceSink | None = None,
    ) -> None:
        self.health = health or Health()
        self.counts = Calibration()
        """How far token estimates are off, learnt from the providers' counts."""
        sinks = Sinks(usage_sink, trace_sink)
        self.sinks = sinks if usage_sink is not None or trace_sink is not None else None
        """None: there are no sinks."""
        self.context: Final = ProviderContext(
            credentials or CredentialBundle(),
            prices or Prices(now=None if world is None else world.time),
            HttpPool(world),
            windows or Windows(),
        )
        self.tiers = tiers or Tiers()
        self._providers: dict[str, Model | ProviderFactory | str] = dict(PROVIDERS)
        self._able: dict[str, dict[str, bool]] = {}
        self._models: dict[str, Model] = {}
        self._targets: dict[str, tuple[Target, ...]] = {}
        if not is_a(providers, Mapping, NoneType):
            raise wrong("providers", providers, "a mapping", 'providers={"mine": model}')
        for name, provider in (providers or {}).items():
            self.register(name, provider)

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        *,
        credentials: CredentialBundle | None = None,
        world: World | None = None,
        providers: Mapping[str, Model | ProviderFactory | str] | None = None,
        health: Health | None = None,
        usage_sink: UsageSink | None = None,
        trace_sink: TraceSink | None = None,
    ) -> Models:
        """Build from a host file: tiers, aliases, providers, prices, windows, capabilities.
        Arguments given here take precedence over the file. Raises ConfigError listing every fault
        of the file at once."""
        from lorimer.models.hostfile import read_host

        return read_host(path).models(
            credentials,
            world,
            providers,
            health=health,
            usage_sink=usage_sink,
            trace_sink=trace_sink,
        )

    def available(self) -> tuple[str, ...]:
        """The names of all providers, sorted: registered ones, and those from the environment and
        from installed packages."""
        found = discovery.discoverable(self.context.credentials)
        return tuple(sorted({*self._providers, *found}))

    def register(self, name: str, provider: Model | ProviderFactory | str) -> None:
        """Add or replace a provider: a Model that answers for every model name, a factory `(spec,
        context) -> Model`, or `"module:factory"`, which is imported when first used."""
        self._providers[name.lower()] = provider
        self._models.clear()
        self._targets.clear()

    def get(self, name: str) -> Model | ProviderFactory:
        """The provider of that name, loaded: the registered one, else the one that
        LORIMER_PROVIDER_<NAME> describes, else the one that an installed package offers under
        `lorimer.providers`. Raises ConfigError naming the nearest known name."""
        return self._loaded(name.lower(), "")

    def configure_capabilities(self, target: str, **able: bool) -> None:
        """Declare what a provider, or the model of one spec, can and cannot do: the fields of
        `core.model.Capabilities`, also spelled `supports_tools=True`. A model's setting takes
        precedence over its provider's. Features that are declared missing are left out of requests,
        and named.

        A declaration never adds to the abilities of a vendor's own model. Raises ConfigError for an
        unknown capability or provider.
        """
        if ":" in target or "/" in target:
            target = str(replace(self.parse(target), effort=""))
        elif self.find(target.lower()) is None:
            self.get(target)
        else:
            target = target.lower()
        self._able[target] = self._able.get(target, {}) | changes(able)
        self._models.clear()
        self._targets.clear()

    def expand(self, spec: str) -> list[str]:
        """The specs that a tier, an alias or a chain currently stands for, in the order in which
        they are tried. Raises ConfigError: see `Tiers.expand`."""
        return self.tiers.expand(spec)

    def __repr__(self) -> str:
        own = [name for name in self._providers if name not in PROVIDERS]
        return f"<Models: the shipped providers{''.join([f', {name}' for name in own])}>"

    def resolve(self, spec: str) -> Model:
        """The Model for `provider:model`, `provider/model`, a bare model name, a tier or an alias;
        for a chain, its first one.

        Raises ConfigError: for an unknown provider, naming the nearest; for a missing key, naming
        the variable (`exec.api.no_client`); for a missing SDK (`exec.api.sdk_missing`). A bare name
        with a slash, as other servers have them, needs a base URL or a provider.
        """
        spec = self.expand(spec)[0]
        model = self._models.get(spec)
        if model is None:
            model = self._models[spec] = self._asked(spec)
        return model

    def _asked(self, spec: str) -> Model:
        parsed = self.parse(spec)
        if owner := self.unknown_provider(spec):
            self._loaded(owner, parsed.model.removeprefix(f"{owner}/"))
        try:
            return self._make(parsed)
        except ConfigError as error:
            if error.code is not ExecutorErrorCode.EXEC_API_NO_CLIENT or not parsed.is_guess(spec):
                raise
            hint = (
                f"{spec!r} names no provider, so {parsed.provider} is asked; another is asked as "
                f"e.g. openai:{parsed.model}. Else: {error.hint}"
            )
            raise ConfigError(error.message, code=error.code, hint=hint, cause=error) from None

    def unknown_provider(self, spec: str) -> str:
        """The name before the slash of a bare spec that cannot be a model's own name, because no
        model at its vendor's own address has a slash; "" for any other spec."""
        parsed = self.parse(spec)
        owner, slash, _ = parsed.model.partition("/")
        known = self.context.credentials.get(parsed.provider)
        own_address = isinstance(self.find(parsed.provider), str) and not (known and known.base_url)
        return owner if slash and own_address and parsed.is_guess(spec) else ""

    def targets(self, spec: str) -> tuple[Target, ...]:
        """The models that a chain, a tier or an alias currently stands for, in order; a single spec
        gives one. Returns the same object again as long as nothing has changed.

        Raises ConfigError as `resolve` does; for a chain it names every part that cannot be used.
        """
        key = spec if not self.tiers.live else ",".join(self.expand(spec))
        targets = self._targets.get(key)
        if targets is None:
            targets = self._targets[key] = self._make_targets(self.expand(spec))
        return targets

    def parse(self, spec: str) -> ModelSpec:
        """Parse one spec against the known providers. Raises ConfigError."""
        left, slash, _ = spec.strip().lower().partition("/")
        if slash and ":" not in left and left not in self._providers and self.find(left):
            return parse_spec(spec, {*self._providers, left})
        return parse_spec(spec, self._providers)

    def find(self, name: str) -> Model | ProviderFactory | str | None:
        """A provider as it was registered, not loaded, or as it was discovered; None if there is
        none. Raises ConfigError for a broken one."""
        provider = self._providers.get(name)
        return discovery.discover(name, self.context.credentials) if provider is None else provider

    def able(self, spec: ModelSpec, assumed: Capabilities) -> Capabilities:
        """The capabilities of a model; `assumed` holds for everything that was not configured."""
        for target in (spec.provider, f"{spec.provider}:{spec.model}"):
            assumed = replace(assumed, **self._able.get(target, {}))
        return assumed

    def secrets(self) -> dict[str, str]:
        """Keys and headers, each mapped to the name that is shown in its place: those given, those
        in variables that a host file names, and the tokens in LORIMER_PROVIDER_<NAME>. See
        `core.redaction`."""
        bundle = self.context.credentials
        found = bundle.secrets()
        for name, provider in (self._providers | discovery.described(bundle)).items():
            if isinstance(provider, Compatible | Redirected):
                with suppress(ConfigError):  # no credentials yet
                    found |= provider.reach(bundle).secrets(name)
        return found

    def reload(self) -> None:
        """Make the source of the tiers be read again at the next use."""
        self.tiers.reload()

    def _make_targets(self, specs: list[str]) -> tuple[Target, ...]:
        found: dict[str, Target] = {}
        faults: list[ConfigError] = []
        for spec in specs:
            try:
                parsed = self.parse(spec)
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
        provider, bundle = self.find(spec.provider), self.context.credentials
        if isinstance(provider, Compatible | Redirected):
            url = provider.reach(bundle).base_url
        else:
            known = bundle.get(spec.provider)
            url = "" if known is None else known.base_url
        return f"{spec.provider}:{spec.model}" + (f" {redact_url(url)}" if url else "")

    async def aclose(self) -> None:
        """Close the HTTP clients of the running loop; new ones are made if needed."""
        await self.context.http.aclose()

    def _loaded(self, name: str, model: str) -> Model | ProviderFactory:
        provider = self.find(name)
        if provider is None:
            of = f" of the model {model!r}" if model else ""
            raise ConfigError(
                f"the provider {name!r}{of} is unknown{nearest(name, self.available())}",
                code=ExecutorErrorCode.EXEC_API_NO_CLIENT,
                hint=f"A server of your own: set {discovery.variable_of(name)}, or describe it"
                " in a host file.",
            )
        return load(name, provider) if isinstance(provider, str) else provider

    def _make(self, spec: ModelSpec) -> Model:
        provider = self._loaded(spec.provider, spec.model)
        # such a server declares its own capabilities; all others are assumed to support their wire
        assumed = provider.capabilities if isinstance(provider, Compatible) else None
        if not self.able(spec, Capabilities() if assumed is None else assumed).thinking:
            spec = replace(spec, effort="")
        try:
            made = provider(spec, self.context) if callable(provider) else provider
        except LorimerError:
            raise
        except Exception as error:
            raise ConfigError(
                f"the provider {spec.provider!r} cannot make a model of {spec.model!r}: "
                f"{type(error).__name__}: {error}{raised_in(error)}",
                code=ExecutorErrorCode.EXEC_API_NO_CLIENT,
                cause=error,
            ) from error
        if not callable(getattr(made, "stream", None)):
            raise ConfigError(
                f"the provider {spec.provider!r} made no model of {spec.model!r}, but "
                f"{type(made).__name__}",
                code=ExecutorErrorCode.EXEC_API_NO_CLIENT,
            )
        own = capabilities_of(made)
        able = self.able(spec, own if assumed is None else assumed)
        return made if able == own else Fitted(made, able)


def targets_of(model: str | Model, models: ModelResolver | None) -> Sequence[Target]:
    """The targets of a spec, or the one of a Model, which needs no resolver; at least one. Raises
    ConfigError."""
    if not isinstance(model, str):
        check_port("model", model, Model, "a spec such as claude-haiku-4-5")
        name = f"{model.provider}:{model.name}"
        return (Target(name, model, place=name),)
    if models is None:
        raise ConfigError(f"nobody is there to find the model {model!r}")
    found = models.targets(model)
    if not found:
        raise ConfigError(
            f"the resolver found no model for {model!r}", code=ExecutorErrorCode.EXEC_API_NO_CLIENT
        )
    return found


def load(name: str, target: str) -> ProviderFactory:
    """Import the factory at `module:factory`. Raises ConfigError `exec.api.sdk_missing`."""
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
