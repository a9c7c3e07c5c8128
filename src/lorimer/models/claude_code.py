"""Claude through the `claude` program (Claude Code), with the program's own login: no key is
needed.

The program serves only as a model, with its tools, settings, sessions and retries turned off, in
one process per call. Tools, permissions and limits are Lorimer's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Final

from lorimer.core.errors import APIError, ConfigError, ExecutorErrorCode
from lorimer.core.model import Capabilities
from lorimer.core.request import NO_USAGE, Delta, Request, Response, Usage, UsageDelta
from lorimer.core.world import Finished, Isolation, ProcessLimits, World
from lorimer.models.credentials import CLAUDE_CODE, CredentialBundle, ProviderCredentials
from lorimer.models.errors import incomplete
from lorimer.models.fitting import fit
from lorimer.models.registry import ProviderContext
from lorimer.models.spec import ModelSpec
from lorimer.models.wires.claude_code_answer import ClaudeCodeAnswer, Lines, failure
from lorimer.models.wires.claude_code_request import line, words
from lorimer.models.wires.shared import BROKEN, writing
from lorimer.world.plainfiles import find_program

BINARY: Final = "CLAUDE_CODE_BINARY"
"""Variable with the path of the program; otherwise PATH is searched."""
MAX_S: Final = 3600.0
"""Seconds per call, whatever the clocks of the run allow."""
MAX_ERRORS: Final = 65_536
MAX_WAITING: Final = 4 * 1024 * 1024
"""Bytes that were received but not processed yet."""

_KEYS: Final = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN")
_PASSED: Final = (
    "ANTHROPIC_BASE_URL",
    "CLAUDE_CONFIG_DIR",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "NODE_EXTRA_CA_CERTS",
)
_SAID: Final = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "CLAUDE_CODE_MAX_RETRIES": "0",  # retries are ours
    "DISABLE_AUTOUPDATER": "1",
}
ABLE: Final = Capabilities(
    tools=False,
    tool_choice=False,
    output_schema=False,
    stop_sequences=False,
    temperature=False,
    top_p=False,
    top_k=False,
    seed=False,
    cache_marks=False,
)
_HOME: Final = Path("/")
"""Its working directory: no project files there."""


def claude_code_cli(spec: ModelSpec, context: ProviderContext) -> ClaudeCodeModel:
    """A model by the program's own name for it: `sonnet`, `claude-opus-4-6`. Raises ConfigError
    `exec.cli.binary_not_found`."""
    return ClaudeCodeModel(spec, context)


class ClaudeCodeModel:
    """See the module. Optional credentials: a key and a base URL like Anthropic's, and
    `extras["binary_path"]`. The conversation is sent as text, in one message."""

    capabilities = ABLE

    def __init__(self, spec: ModelSpec, context: ProviderContext) -> None:
        self.provider = spec.provider
        self.name = spec.model
        self._effort = spec.effort
        self._context = context
        self._credentials = context.credentials.get(spec.provider) or ProviderCredentials()
        self._program = program_of(context.credentials, spec.provider)
        if spec.model.startswith("-"):
            raise ConfigError(f"{spec.model!r} is not a valid name of a model")

    @property
    def context_window(self) -> int | None:
        """Tokens, from the table of windows."""
        return self._context.windows.tokens("anthropic", self.name)

    def price(self, usage: Usage, *, model: str = "") -> int | None:
        """Nano-dollars, at Anthropic's prices unless the host has given others; the cost that the
        program reports is in the answer's `extra["total_cost_usd"]`."""
        prices = self._context.prices
        own = prices.nano(self.provider, self.name, usage, answered=model)
        return prices.nano("anthropic", self.name, usage, answered=model) if own is None else own

    async def stream(
        self, request: Request, *, world: World
    ) -> AsyncGenerator[Delta | Response, None]:
        """Runs one process; see `core.model.Model.stream`. Closing the iterator ends it and
        everything that it started."""
        fitting, dropped = fit(request, ABLE)
        with writing(self.provider):
            given = line(fitting)
        argv = [self._program, *words(fitting, self._effort)]
        answer = ClaudeCodeAnswer(self.provider, self._credentials)
        output, lines = _Output(), Lines()
        limits = ProcessLimits(MAX_S, MAX_ERRORS, apart=True)
        environment = self._environment(request)
        process = asyncio.get_running_loop().create_task(
            world.spawn(argv, cwd=_HOME, env=environment, stdin=given, limits=limits, sink=output)
        )
        process.add_done_callback(output.over)
        try:
            begun = False
            while (chunk := await output.next()) is not None:
                for each in lines.feed(chunk):
                    for delta in answer.read(each):
                        begun = True
                        if request.stream:
                            yield delta
                if not begun and request.stream:
                    begun = True
                    yield UsageDelta(NO_USAGE)  # it has answered: stops the connect clock
            answer.read(lines.rest())
            done = await process
            if not answer.ended:
                raise self._died(done, answer.usage)
            response = answer.finish(now=world.time())
        except OSError as error:
            raise APIError(
                f"{self.provider} could not be started: {error}",
                code=ExecutorErrorCode.EXEC_CLI_BINARY_NOT_FOUND,
                cause=error,
            ) from error
        except BROKEN as error:
            why = f"it makes no sense ({type(error).__name__}: {error})"
            raise incomplete(self.provider, why, usage=answer.usage, cause=error) from error
        finally:
            process.cancel()
            await asyncio.wait([process])  # ends the whole process tree
        response.cost_nano = self.price(response.usage, model=response.model) or 0
        if dropped:
            response.extra = {**response.extra, "dropped": dropped}
        yield response

    def _environment(self, request: Request) -> dict[str, str]:
        bundle, own = self._context.credentials, self._credentials
        names = _PASSED if own.base_url or own.api_key else (*_KEYS, *_PASSED)
        given = {name: value for name in names if (value := bundle.variable(name))}
        if own.api_key:
            given["ANTHROPIC_API_KEY"] = own.api_key.reveal()
        if own.base_url:
            given["ANTHROPIC_BASE_URL"] = own.base_url
        most = str(request.max_tokens + (request.thinking_tokens or 0))
        return {**given, **_SAID, "CLAUDE_CODE_MAX_OUTPUT_TOKENS": most}

    def _died(self, done: Finished, usage: Usage) -> APIError:
        """The error for a process that gave no result."""
        said = done.errors.decode("utf-8", "replace").strip()
        if done.timed_out:
            said = f"it was stopped after {MAX_S:g} s, timed out"
        how = f"exit code {done.returncode}" + (f": {said}" if said else "")
        code = (
            ExecutorErrorCode.EXEC_CLI_EXITED
            if done.returncode
            else ExecutorErrorCode.EXEC_CLI_PROTOCOL_ERROR
        )
        return failure(
            self.provider, f"it gave no result, {how}", self._credentials, usage=usage, code=code
        )


def program_of(bundle: CredentialBundle, provider: str = CLAUDE_CODE) -> str:
    """The path of the program. Raises ConfigError `exec.cli.binary_not_found`."""
    given = bundle.get(provider)
    named = "" if given is None else given.extras.get("binary_path", "")
    program = named or bundle.variable(BINARY) or "claude"
    path = find_program(program)
    if not path:
        raise ConfigError(
            f"the program {program!r} was not found",
            code=ExecutorErrorCode.EXEC_CLI_BINARY_NOT_FOUND,
            hint="Install Claude Code (npm install -g @anthropic-ai/claude-code), or say where it "
            f"is: {BINARY}.",
        )
    return path


class _Output:
    """The program's output, for one reader. A `Sink`."""

    def __init__(self) -> None:
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._waiting = 0
        self._room = asyncio.Event()

    def begun(self, isolation: Isolation | None) -> None:
        """See `Sink`."""

    def take(self, chunk: bytes) -> bool:
        """See `Sink`."""
        self._chunks.put_nowait(chunk)
        self._waiting += len(chunk)
        return self._waiting < MAX_WAITING

    async def drain(self) -> None:
        """See `Sink`."""
        while self._waiting >= MAX_WAITING:
            self._room.clear()
            await self._room.wait()

    def over(self, _: object) -> None:
        """The process has ended."""
        self._chunks.put_nowait(None)

    async def next(self) -> bytes | None:
        """The next output; None: there is no more."""
        chunk = await self._chunks.get()
        if chunk is not None:
            self._waiting -= len(chunk)
            self._room.set()
        return chunk
