"""Stage 6, API: one model call. Its strategies only decide; attempts, clocks and retries are in
`models/attempts.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from random import Random
from typing import Final, Literal, Protocol, runtime_checkable

from pydantic import Field

from lorimer.core.bindings import Bindings
from lorimer.core.context import RunContext, Safety
from lorimer.core.errors import APIError, ConfigError, ErrorCategory, ExecutorErrorCode
from lorimer.core.excerpt import Trailed
from lorimer.core.history import History
from lorimer.core.jsonable import JSON, fields_of
from lorimer.core.manifest import EnvironmentManifest, ModelConfig
from lorimer.core.messages import Message, user_message
from lorimer.core.model import Target
from lorimer.core.request import CacheMarks, OutputSchema, Request, Response
from lorimer.core.stage import Settings, Slot, Stage, Strategy
from lorimer.core.state import PipelineState
from lorimer.core.tool import EarlyCalls, Toolbox
from lorimer.models.attempts import call
from lorimer.models.backoff import Backoff
from lorimer.models.caller import Caller, own_price
from lorimer.models.health import Health
from lorimer.models.registry import PROVIDERS, Models, targets_of
from lorimer.models.spec import chain, parse_spec
from lorimer.stages.s06_router import Passthrough, Router
from lorimer.stages.s07_token import TokenStage
from lorimer.stages.s08_think import ThinkStage
from lorimer.stages.s10_tool import ToolStage

_ROUTES: Final = "api.routes"
"""In `state.shared`: what the router's choices resolve to in this run."""


class Retry(Strategy):
    """Decides whether a failed attempt is repeated."""

    def delay_s(self, error: APIError, attempt: int, dice: Random) -> float | None:
        """Seconds to wait after attempt number `attempt` (the first is 1); None: give up. `dice`
        are the run's own, so that a resumed run waits the same."""
        raise TypeError(f"{type(self).__name__} has no delay_s method")


class NoRetry(Retry):
    """One attempt."""

    name = "no_retry"
    description = "Every failure is final."

    def delay_s(self, error: APIError, attempt: int, dice: Random) -> float | None:
        return None


class ExponentialBackoff(Retry):
    """Waits as long as the provider asks, else longer each time."""

    name = "exponential_backoff"
    description = "Recoverable failures, max_retries times, doubling the wait; obeys Retry-After."

    class Config(Settings):
        max_retries: int = Field(3, ge=0)
        base_delay_s: float = Field(1.0, ge=0)
        max_delay_s: float = Field(60.0, ge=0)
        jitter: float = Field(0.1, ge=0, le=1)
        """Share of the wait that is added at random."""

    config: Config

    def delay_s(self, error: APIError, attempt: int, dice: Random) -> float | None:
        config = self.config
        backoff = Backoff(
            config.max_retries, config.base_delay_s, config.max_delay_s, config.jitter
        )
        return backoff.delay_s(error, attempt, dice)


class RateLimitAware(Retry):
    """Waits as long as the provider asks, however long that is."""

    name = "rate_limit_aware"
    description = "Rate limits, overload and time-outs; waits as long as the provider asks."

    class Config(Settings):
        max_retries: int = Field(5, ge=0)
        fallback_delay_s: float = Field(5.0, ge=0)
        """Seconds to wait when the provider does not say."""

    config: Config

    def delay_s(self, error: APIError, attempt: int, dice: Random) -> float | None:
        again = (ErrorCategory.RATE_LIMITED, ErrorCategory.TIMEOUT, ErrorCategory.SERVER_ERROR)
        if attempt > self.config.max_retries or error.category not in again:
            return None
        return self.config.fallback_delay_s if error.retry_after_s is None else error.retry_after_s


@runtime_checkable
class Relief(Protocol):
    """Implemented by a stage 2 that can shorten a prompt that did not fit."""

    async def relieve(self, state: PipelineState) -> bool:
        """The provider reported `state.context` as too long: make it shorter. False: impossible."""
        ...


class APIStage(Stage[object, Response]):
    """Calls the model and appends its answer to the conversation. Returns the Response."""

    name = "api"
    order = 6
    category = "execution"
    overrides = frozenset(ModelConfig.model_fields)

    class Config(Settings):
        provider: str = ""
        """Only needed if the model's spec does not name it; the two must not disagree."""
        stream: bool = True
        """Receive the answer in pieces; False: as a whole."""
        tool_choice: str = "auto"
        """`auto`, `any`, `none` or the name of a tool."""
        after_release: Literal["stop", "restart", "continue"] = "stop"
        """If an answer breaks off after listeners were given part of it: `stop` fails the call;
        `restart` tells them to discard it (`api.stream_restart`) and asks again; `continue` asks
        for the rest, if it is text (else like `restart`)."""

        on_refusal: Literal["stop", "next"] = "stop"
        """If a provider of a chain rejects the key, has no credit left or does not serve this
        region: `stop` fails the call; `next` asks the next model."""

    config: Config

    retry = Slot(
        Retry,
        default="exponential_backoff",
        known={
            "exponential_backoff": "lorimer.stages.s06_api:ExponentialBackoff",
            "rate_limit_aware": "lorimer.stages.s06_api:RateLimitAware",
            "no_retry": "lorimer.stages.s06_api:NoRetry",
        },
    )

    router = Slot(
        Router,
        default="passthrough",
        known={
            "passthrough": "lorimer.stages.s06_router:Passthrough",
            "adaptive": "lorimer.stages.s06_router:Adaptive",
        },
    )

    def check(self, manifest: EnvironmentManifest) -> Iterable[str]:
        try:
            for spec in chain(manifest.model.model):
                parse_spec(spec, PROVIDERS)
        except ConfigError as error:
            return [f"model.model: {error}"]
        try:
            model_spec(manifest.model, self.config.provider)
        except ConfigError as error:
            return [str(error)]
        return []

    def bind(self, bindings: Bindings) -> None:
        model = bindings.model
        self._spec = model_spec(model, self.config.provider)
        self._named = chain(self._spec)
        self._models = bindings.models
        self._health = Health()
        schema = model.output_schema
        # the common part of all requests; reading from a Pydantic model is slow
        self._request = Request(
            "",
            (),
            tool_choice=self.config.tool_choice,
            max_tokens=model.max_tokens,
            temperature=model.temperature,
            top_p=model.top_p,
            top_k=model.top_k,
            stop_sequences=tuple(model.stop_sequences),
            thinking_tokens=model.thinking_budget_tokens if model.thinking_enabled else None,
            stream=self.config.stream,
            output=None if schema is None else OutputSchema("answer", schema),
            seed=model.seed,
            api=model.api,
        )
        # unset fields are left out, so that fields added by later versions do not change
        # fingerprints
        said = [
            part.model_dump_json(exclude_defaults=True) if part.model_fields_set else "{}"
            for part in (model, self.config)
        ]
        self._settings = " ".join([self._spec, *said]).encode()
        self._fixed = ""
        """What the manifest's model resolves to in every run; "": it has to be looked up."""
        tool, tools = bindings.stages.get("tool"), bindings.tools
        self._early: Callable[[PipelineState], EarlyCalls] | None = None
        if isinstance(tool, ToolStage) and tool.executor.early and tools is not None:
            self._early = partial(_begin_early, tool, tools)
        self._made: dict[str, Caller] = {}
        self._routes = not isinstance(self.router, Passthrough)
        context = bindings.stages.get("context")
        self._relief = context if isinstance(context, Relief) else None
        think = bindings.stages.get("think")
        self._planner = think.budget_planner if isinstance(think, ThinkStage) else None
        token = bindings.stages.get("token")
        self._token = token if isinstance(token, TokenStage) else None

    async def execute(self, input: object, state: PipelineState) -> Response:
        settings = self._request
        thinking = settings.thinking_tokens
        if thinking is not None and self._planner is not None:
            thinking = self._planner.budget(thinking, state)
        if not state.models:
            fixed = not state.run.replaying and self._fixed
            state.models = fixed or await self._stands_for(self._spec, state.run)
        spec = state.models
        if self._routes:
            spec = await self._routed(state, thinks=thinking is not None) or spec
        caller = self._caller(spec)
        target = caller.first
        request = Request(
            target.model.name,
            trailed(state) if state.volatile else state.context,
            state.system,
            state.tools,
            settings.tool_choice,
            settings.max_tokens,
            settings.temperature,
            settings.top_p,
            settings.top_k,
            settings.stop_sequences,
            thinking,
            target.effort,
            settings.stream,
            state.cache,
            settings.output,
            settings.seed,
            settings.api,
        )
        state.request = request
        made = 0
        while True:
            try:
                response, plain = await call(caller, request, state, made)
                break
            except APIError as error:
                too_long = error.code is ExecutorErrorCode.EXEC_API_TOKEN_LIMIT
                if not too_long or self._relief is None or not await self._relief.relieve(state):
                    raise
                made = error.attempts
            request.messages = trailed(state)
            request.cache = CacheMarks(state.cache.system, state.cache.tools)
        state.response = response
        message = Message("assistant", response.content)
        state.add_recorded(message, {"role": "assistant", "content": plain["content"]})
        state.text = response.text
        run = state.run
        if run.wants("api.response"):
            run.signal(
                "api.response",
                {
                    "stop_reason": response.stop.value,
                    "text_length": len(state.text),
                    "tool_calls": len(response.tool_calls),
                    **response.usage.to_json(),
                    "cost_usd": response.cost_nano / 1e9,
                    "model": response.model,
                },
            )
        return response

    async def _routed(self, state: PipelineState, *, thinks: bool) -> str:
        """What the router's choice resolves to; "": the manifest's model."""
        chosen = self.router.route(state, thinks=thinks)
        if not chosen:
            return ""
        routes = dict(fields_of(state.shared.get(_ROUTES)))
        if chosen not in routes:
            spec = ",".join([_with_provider(part, self.config.provider) for part in chain(chosen)])
            routes[chosen] = await self._stands_for(spec, state.run)
            state.shared[_ROUTES] = routes
        return str(routes[chosen])

    async def _stands_for(self, spec: str, run: RunContext) -> str:
        """What the manifest's or the router's model resolves to. The meaning of a tier or an alias
        can change; a run keeps the one from its beginning, also when it is resumed or replayed:
        this is recorded as an effect if such a name is used."""
        models = self._models
        host = models if isinstance(models, Models) else None
        known = run.recorded("effect", f"models:{spec}") is not None
        named = self._named if spec is self._spec else chain(spec)
        if not known and (host is None or host.expand(spec) == named):
            if spec is self._spec:
                self._fixed = spec if host is not None and not host.tiers.live else ""
            return spec

        async def expand() -> Mapping[str, JSON]:
            return {"specs": list(host.expand(spec)) if host is not None else chain(spec)}

        data = await run.effect(
            "models", spec, expand, request=spec.encode(), safety=Safety.READ_ONLY
        )
        specs = data.get("specs")
        return ",".join(map(str, specs)) if isinstance(specs, list | tuple) else spec

    def _caller(self, spec: str) -> Caller:
        if self._models is None:
            raise APIError(
                "No models are bound to this pipeline.",
                code=ExecutorErrorCode.EXEC_API_NO_CLIENT,
                hint="Pass models=Models(...) or an api_key when you build it.",
            )
        made = self._made.get(spec)
        if made is None or made.targets is not self._models.targets(spec):
            made = self._made[spec] = self._make_caller(targets_of(spec, self._models))
        return made

    def _make_caller(self, targets: Sequence[Target]) -> Caller:
        models = self._models
        shared = models if isinstance(models, Models) else None
        return Caller(
            targets,
            self.retry,
            own_price if self._token is None else self._token.calculator.price,
            self._settings,
            health=self._health if shared is None else shared.health,
            after_release=self.config.after_release,
            on_refusal=self.config.on_refusal,
            sinks=None if shared is None else shared.sinks,
            counts=None if shared is None else shared.counts,
            early=self._early,
        )


def _begin_early(stage: ToolStage, tools: Toolbox, state: PipelineState) -> EarlyCalls:
    stage.prepare(state.run)
    return tools.early(state)


def trailed(state: PipelineState) -> Sequence[Message]:
    """The messages for the model, followed by what is not part of the conversation."""
    told = "\n\n".join([text for text in state.volatile.values() if text])
    if not told:
        return state.context
    last = user_message(f"[From the program, not from the user:]\n\n{told}")
    context = state.context
    return Trailed(context, last) if isinstance(context, History) else [*context, last]


def spec_in(bindings: Bindings) -> str:
    """The spec of the model that stage 6 calls, for earlier stages."""
    api = bindings.stages.get("api")
    provider = api.config.provider if isinstance(api, APIStage) else ""
    return model_spec(bindings.model, provider)


def model_spec(model: ModelConfig, provider: str) -> str:
    """The spec that results from a manifest's model and stage 6's `provider`; for a chain, that of
    every part. Raises ConfigError when they disagree, or no model is named."""
    if not provider and "," not in model.model:
        parse_spec(model.model, PROVIDERS)
        return model.model
    return ",".join([_with_provider(part, provider) for part in chain(model.model)])


def _with_provider(text: str, provider: str) -> str:
    spec = parse_spec(text, PROVIDERS)
    if not provider or spec.provider == provider:
        return text
    named = text.startswith((f"{spec.provider}:", f"{spec.provider}/"))
    if named and spec.provider in PROVIDERS:
        raise ConfigError(
            f"stages[6].config.provider: it says {provider!r}, model.model says {text!r}",
            hint="Name the provider in one of them only.",
        )
    return f"{provider}:{text}"
