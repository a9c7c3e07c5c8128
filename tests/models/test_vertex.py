"""Vertex AI: Google's and Anthropic's wires at Google Cloud's addresses, with its login."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from lorimer.core.errors import APIError, ConfigError, ExecutorErrorCode
from lorimer.core.messages import TextBlock, user_message
from lorimer.core.model import CountsTokens, Model
from lorimer.core.request import Request, Usage
from lorimer.models import CredentialBundle, Models, ProviderCredentials
from lorimer.models.provider_info import provider_status
from lorimer.world import RealWorld
from tests.models.support import NoWorld, Provider, Reply, hear

CODE = ExecutorErrorCode
ENV = {"GOOGLE_CLOUD_PROJECT": "my-project", "VERTEX_ACCESS_TOKEN": "ya29.secret-token"}
GEMINI = {
    "candidates": [
        {"content": {"role": "model", "parts": [{"text": "Hi!"}]}, "finishReason": "STOP"}
    ],
    "usageMetadata": {"promptTokenCount": 4, "candidatesTokenCount": 2, "totalTokenCount": 6},
    "modelVersion": "gemini-2.5-pro",
}
CLAUDE = {
    "id": "msg_vrtx_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-haiku-4-5-20251001",
    "content": [{"type": "text", "text": "Hi!"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 4, "output_tokens": 2},
}


def model_of(world: NoWorld | RealWorld, name: str, **env: str) -> Model:
    return Models(CredentialBundle(env={**ENV, **env}), world).resolve(f"vertex:{name}")


def asked(model: Model, **fields: object) -> Request:
    return Request(model.name, [user_message("Hello")], **{"stream": False, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("location", "host"),
    [
        ("", "aiplatform.googleapis.com"),
        ("europe-west4", "europe-west4-aiplatform.googleapis.com"),
        ("eu", "aiplatform.eu.rep.googleapis.com"),
    ],
)
def test_gemini(location: str, host: str) -> None:
    provider = Provider(Reply.of(GEMINI))
    world = NoWorld(provider)
    model = model_of(world, "gemini-2.5-pro", GOOGLE_CLOUD_LOCATION=location)
    answer = asyncio.run(hear(model, asked(model, system="Be brief."), world)).answer
    (request,) = provider.requests
    place = f"projects/my-project/locations/{location or 'global'}"
    assert request.url == (
        f"https://{host}/v1beta1/{place}/publishers/google/models/gemini-2.5-pro:generateContent"
    )
    assert request.headers["authorization"] == "Bearer ya29.secret-token"
    assert "x-goog-api-key" not in request.headers
    assert provider.sent["contents"] == [{"role": "user", "parts": [{"text": "Hello"}]}]
    assert answer.text == "Hi!"
    assert answer.usage == Usage(4, 2)
    assert answer.cost_nano == 4 * 1250 + 2 * 10_000, "Google's price"


def test_claude() -> None:
    provider = Provider(Reply.of(CLAUDE))
    from anthropic.lib.vertex._client import ANTHROPIC_API_VERSION

    from lorimer.models.vertex_claude import ANTHROPIC_VERSION

    world = NoWorld(provider)
    model = model_of(world, "claude-haiku-4-5@20251001")
    answer = asyncio.run(hear(model, asked(model), world)).answer
    (request,) = provider.requests
    assert request.url.raw_path.decode() == (
        "/v1/projects/my-project/locations/global/publishers/anthropic/models/"
        "claude-haiku-4-5@20251001:rawPredict"
    )
    assert request.headers["authorization"] == "Bearer ya29.secret-token"
    assert "model" not in provider.sent
    assert provider.sent["anthropic_version"] == ANTHROPIC_VERSION == ANTHROPIC_API_VERSION
    assert answer.content == (TextBlock("Hi!"),)
    assert answer.cost_nano == 4 * 1000 + 2 * 5000, "Anthropic's price"


def test_a_stream_is_asked_for_as_one() -> None:
    provider = Provider(Reply.of({"error": {"message": "no"}}, 400))
    world = NoWorld(provider)
    for name in ("claude-sonnet-4-6", "gemini-2.5-pro"):
        model = model_of(world, name)
        assert asyncio.run(hear(model, asked(model, stream=True), world)).error is not None
    first, second = [str(request.url).rpartition(":")[2] for request in provider.requests]
    assert (first, second) == ("streamRawPredict", "streamGenerateContent?alt=sse")
    assert json.loads(provider.requests[0].content)["stream"] is True


@pytest.mark.parametrize(
    ("name", "reply", "end"),
    [
        ("gemini-2.5-pro", {"totalTokens": 7}, "google/models/gemini-2.5-pro:countTokens"),
        ("claude-sonnet-4-6", {"input_tokens": 7}, "anthropic/models/count-tokens:rawPredict"),
    ],
)
def test_tokens_are_counted(name: str, reply: dict[str, int], end: str) -> None:
    provider = Provider(Reply.of(reply))
    world = NoWorld(provider)
    model = model_of(world, name)
    assert isinstance(model, CountsTokens)
    assert asyncio.run(model.count_tokens(asked(model), world=world)) == 7  # type: ignore[arg-type]
    assert str(provider.requests[0].url).endswith(f"/publishers/{end}")
    assert ("model" in provider.sent) == name.startswith("claude")


def test_a_refused_token_stays_out_of_the_message() -> None:
    refusal = {"error": {"code": 401, "message": "ya29.secret-token expired", "status": "X"}}
    world = NoWorld(Provider(Reply.of(refusal, 401)))
    model = model_of(world, "gemini-2.5-pro")
    error = asyncio.run(hear(model, asked(model), world)).error
    assert error is not None
    assert error.code is CODE.EXEC_API_AUTH_EXPIRED
    assert "gcloud auth" in error.hint
    assert "ya29" not in str(error)


@pytest.mark.parametrize(
    "env", [{}, {"GOOGLE_CLOUD_PROJECT": "a/../b"}, {**ENV, "GOOGLE_CLOUD_LOCATION": "evil/x"}]
)
def test_what_cannot_be_a_place(env: dict[str, str]) -> None:
    models = Models(CredentialBundle(env=env))
    with pytest.raises(ConfigError) as wrong:
        models.resolve("vertex:gemini-2.5-pro")
    assert wrong.value.code is CODE.EXEC_API_NO_CLIENT
    assert "GOOGLE_CLOUD_PROJECT" in wrong.value.hint
    assert not provider_status(models, "vertex").ready
    assert provider_status(Models(CredentialBundle(env=ENV)), "vertex").ready


def test_a_token_goes_only_where_it_was_meant_for() -> None:
    provider = Provider(Reply.of(GEMINI))
    world = NoWorld(provider)
    given = ProviderCredentials("own-token", "https://gate.example", extras={"project": "p"})
    bundle = CredentialBundle({"vertex": given}, env=ENV)
    model = Models(bundle, world).resolve("vertex:gemini-2.5-pro")
    assert asyncio.run(hear(model, asked(model), world)).answer.text == "Hi!"
    (request,) = provider.requests
    assert str(request.url).startswith("https://gate.example/v1beta1/projects/p/locations/global/")
    assert request.headers["authorization"] == "Bearer own-token"


# --- the machine's own login ---------------------------------------------------------------------


@pytest.fixture
def tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, object]]]:
    """A service account whose tokens come from a server here; what that was asked."""
    asked: list[dict[str, object]] = []

    class Server(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
            claims = form["assertion"][0].split(".")[1]
            asked.append(json.loads(base64.urlsafe_b64decode(claims + "==")))
            body = json.dumps({"access_token": f"token-{len(asked)}", "expires_in": 3600}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Server)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    account = {
        "type": "service_account",
        "client_email": "me@example.org",
        "private_key": key.decode(),
        "token_uri": f"http://127.0.0.1:{server.server_port}/token",
    }
    path = tmp_path / "account.json"
    path.write_text(json.dumps(account))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    yield asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_token_is_asked_for_once_and_anew_when_it_is_refused(
    tokens: list[dict[str, object]],
) -> None:
    refusal = Reply.of({"error": {"message": "expired"}}, 401)
    provider = Provider(Reply.of(GEMINI), Reply.of(GEMINI), refusal, Reply.of(GEMINI))
    world = NoWorld(provider)
    model = model_of(world, "gemini-2.5-pro", VERTEX_ACCESS_TOKEN="")

    async def main() -> list[bool]:
        return [(await hear(model, asked(model), world)).error is None for _ in range(4)]

    assert asyncio.run(main()) == [True, True, False, True]
    sent = [request.headers["authorization"] for request in provider.requests]
    assert sent == ["Bearer token-1"] * 3 + ["Bearer token-2"]
    assert [claims["iss"] for claims in tokens] == ["me@example.org"] * 2
    assert "cloud-platform" in str(tokens[0]["scope"])


def test_without_any_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    world = NoWorld(Provider(Reply.of(GEMINI)))
    model = model_of(world, "claude-sonnet-4-6", VERTEX_ACCESS_TOKEN="")
    error = asyncio.run(hear(model, asked(model), world)).error
    assert isinstance(error, APIError)
    assert error.code is CODE.EXEC_API_AUTH_INVALID_KEY
    assert "gcloud auth application-default login" in error.hint
