"""Google Cloud's Vertex AI: its addresses, and its login.

`vertex:gemini-...` uses Google's wire there (`vertex_gemini`), `vertex:claude-...` Anthropic's
(`vertex_claude`). Requests are sent by our own client; of Google's libraries only the login is
used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, cast

import anyio.to_thread
import httpx2

from lorimer.core.errors import APIError, ConfigError, ExecutorErrorCode
from lorimer.core.model import Model
from lorimer.core.request import Usage
from lorimer.core.world import World
from lorimer.models.credentials import (
    VERTEX,
    CredentialBundle,
    ProviderCredentials,
    redact_url,
)
from lorimer.models.errors import NETWORK_ERRORS, network_error, refused
from lorimer.models.hosted import HostedModel

if TYPE_CHECKING:
    from lorimer.models.registry import ProviderContext
    from lorimer.models.spec import ModelSpec

PROJECT: Final = ("GOOGLE_CLOUD_PROJECT", "ANTHROPIC_VERTEX_PROJECT_ID")
LOCATION: Final = ("GOOGLE_CLOUD_LOCATION", "CLOUD_ML_REGION")
TOKEN: Final = "VERTEX_ACCESS_TOKEN"
"""Variable with an access token; without it the machine's own login is used (Application Default
Credentials), and renewed."""
SCOPES: Final = ("https://www.googleapis.com/auth/cloud-platform",)

_NAME: Final = re.compile(r"[a-z0-9:.-]{1,100}", re.ASCII)
_JOINT: Final = ("us", "eu")
"""Locations that span several regions."""
_Code: Final = ExecutorErrorCode


@dataclass(frozen=True, slots=True)
class Place:
    """A project and a location of Google Cloud."""

    project: str
    location: str
    base_url: str

    @classmethod
    def of(cls, bundle: CredentialBundle, provider: str = VERTEX) -> Place:
        """From `extras["project"]` and `extras["location"]` of the provider's credentials, else
        from variables. Raises ConfigError `exec.api.no_client`."""
        given = bundle.get(provider) or ProviderCredentials()
        project = given.extras.get("project", "") or _first(bundle, PROJECT)
        location = given.extras.get("location", "") or _first(bundle, LOCATION) or "global"
        for what, name in (("project", project), ("location", location)):
            if not _NAME.fullmatch(name):
                raise ConfigError(
                    f"Vertex AI has no {what} {name!r}"
                    if name
                    else f"there is no {what} for Vertex AI",
                    code=_Code.EXEC_API_NO_CLIENT,
                    hint=f"export {PROJECT[0]}=... and {LOCATION[0]}=... (default: global)",
                )
        return cls(project, location, given.base_url or _official(location))

    def url(self, version: str, publisher: str, rest: str) -> str:
        """The URL of a resource of a publisher (`google`, `anthropic`) here."""
        place = f"projects/{self.project}/locations/{self.location}"
        return f"{self.base_url}/{version}/{place}/publishers/{publisher}/{rest}"


def _first(bundle: CredentialBundle, names: tuple[str, ...]) -> str:
    return next((value for name in names if (value := bundle.variable(name))), "")


def _official(location: str) -> str:
    if location == "global":
        return "https://aiplatform.googleapis.com"
    if location in _JOINT:
        return f"https://aiplatform.{location}.rep.googleapis.com"
    return f"https://{location}-aiplatform.googleapis.com"


def vertex(spec: ModelSpec, context: ProviderContext) -> Model:
    """The model of a spec: Claude with Anthropic's wire, all others with Google's. Raises
    ConfigError for a missing project or SDK."""
    from lorimer.models.registry import load

    claude = spec.model.lower().startswith("claude")
    name = "vertex_claude:VertexClaude" if claude else "vertex_gemini:VertexGemini"
    return load(VERTEX, f"lorimer.models.{name}")(spec, context)


class _GoogleCredentials(Protocol):
    """The part of `google.auth.credentials.Credentials` that is used."""

    token: str | None

    @property
    def valid(self) -> bool: ...

    def refresh(self, request: object) -> None: ...


class Access:
    """Sends requests to a place, with an access token that is kept until it expires."""

    def __init__(self, provider: str, context: ProviderContext) -> None:
        self.place = Place.of(context.credentials, provider)
        self._provider = provider
        self._context = context
        given = context.credentials.get(provider) or ProviderCredentials()
        variable = "" if given.base_url else context.credentials.variable(TOKEN)
        self.credentials = ProviderCredentials(
            given.api_key or variable, given.base_url, given.default_headers
        )
        self._login: _GoogleCredentials | None = None

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes | None, world: World
    ) -> httpx2.Response:
        """The response, with a status of 2xx and its body not read yet. Raises APIError."""
        token = self.credentials.api_key.reveal() or await self._token(world)
        sent = {
            "authorization": f"Bearer {token}",
            "content-type": "application/json",
            **self.credentials.default_headers,
            **headers,
        }
        http = self._context.http.get((self._provider, self.place.base_url), world)
        try:
            request = http.build_request(method, url, content=content, headers=sent, timeout=None)
            response = await http.send(request, stream=True, follow_redirects=False)
            if response.is_success:
                return response
            await response.aread()
        except NETWORK_ERRORS as error:
            raise network_error(self._provider, error, self.credentials) from error
        told = refused(self._provider, response, self.credentials, world.time())
        if response.status_code == 401:
            self._login = None  # the next request logs in anew
            told.hint = f"Log in: {_LOG_IN}"
        raise told

    async def _token(self, world: World) -> str:
        with world.outside("Google's login"):
            return await anyio.to_thread.run_sync(self._renewed)

    def _renewed(self) -> str:
        """Blocks: reads files, and sends a request to Google."""
        import google.auth
        from google.auth.exceptions import GoogleAuthError, TransportError
        from google.auth.transport.requests import Request

        login = self._login
        try:
            if login is None:
                found = google.auth.default(scopes=SCOPES)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
                login = self._login = cast("_GoogleCredentials", found[0])
            if not login.valid:
                login.refresh(Request())
        except TransportError as error:
            raise network_error(self._provider, error, self.credentials) from error
        except (GoogleAuthError, OSError) as error:
            self._login = None
            why = " ".join(str(error).split())[:300]
            raise APIError(
                f"{self._provider} has no login: {why}",
                code=_Code.EXEC_API_AUTH_INVALID_KEY,
                hint=f"Log in: {_LOG_IN}",
                cause=error,
            ) from error
        return login.token or ""


class AtVertex(HostedModel):
    """A vendor's model at Vertex. Subclasses add the vendor's wire, which sends with `_access`."""

    vendor = ""

    def __init__(self, spec: ModelSpec, context: ProviderContext) -> None:
        self._access = Access(spec.provider, context)
        super().__init__(spec, context, self._access.credentials)
        self._sold = spec.model
        """Its name in the tables of its vendor's models."""

    def price(self, usage: Usage, *, model: str = "") -> int | None:
        """Nano-dollars, at its vendor's prices unless the host has given others."""
        prices = self._context.prices
        own = prices.nano(self.provider, self.name, usage, answered=model)
        return prices.nano(self.vendor, self._sold, usage, answered=model) if own is None else own

    @property
    def context_window(self) -> int | None:
        """Tokens, from the table of windows."""
        return self._context.windows.tokens(self.vendor, self._sold)


_LOG_IN: Final = f"gcloud auth application-default login; or set {TOKEN}."


def shown(bundle: CredentialBundle) -> str:
    """The URL to show in tables, without user name and password. Raises ConfigError."""
    return redact_url(Place.of(bundle).base_url)
