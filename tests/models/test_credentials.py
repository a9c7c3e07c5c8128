"""Keys reach the wire and nothing else."""

from __future__ import annotations

import copy
import json
import pickle

import pytest

from lorimer.core.errors import ConfigError, ExecutorErrorCode
from lorimer.core.jsonable import dumps
from lorimer.models import CredentialBundle, ProviderCredentials, Secret

KEY = "sk-very-secret-123456"


def test_a_secret_is_not_shown() -> None:
    secret = Secret(KEY)
    credentials = ProviderCredentials(
        KEY, "http://user:pass-word@host/v1/", {"X-Auth": KEY}, {"org": KEY}
    )
    bundle = CredentialBundle({"anthropic": credentials}, env={"ANTHROPIC_API_KEY": KEY})
    for shown in (repr(secret), str(secret), f"{secret}", repr(credentials), repr(bundle)):
        assert KEY not in shown
        assert "pass-word" not in shown
    assert "X-Auth" in repr(credentials)
    assert secret.reveal() == KEY
    assert secret == Secret(KEY) and secret != KEY and hash(secret) == hash(Secret(KEY))


def test_a_secret_is_not_stored() -> None:
    secret = Secret(KEY)
    for store in (dumps, json.dumps, pickle.dumps):
        with pytest.raises(TypeError):
            store(secret)  # type: ignore[arg-type]
    assert copy.deepcopy({"a": secret}) == {"a": copy.copy(secret)}


def test_errors_are_redacted() -> None:
    credentials = ProviderCredentials(KEY, default_headers={"X-Auth": "header-value"})
    assert credentials.redact(f"bad key {KEY} or header-value") == "bad key *** or ***"


def test_the_environment_fills_gaps() -> None:
    env = {"ANTHROPIC_API_KEY": "a", "OPENAI_API_KEY": "o", "OPENAI_BASE_URL": "http://h/v1"}
    bundle = CredentialBundle({"mine": ProviderCredentials("m")}, env=env)
    assert bundle.require("anthropic").api_key.reveal() == "a"
    assert bundle.require("openai").base_url == "http://h/v1"
    assert bundle.providers == ("anthropic", "mine", "openai")
    assert not bundle.has("google")
    assert bundle.get("google") is None


def test_googles_two_variables() -> None:
    """As its SDK reads them: GOOGLE_API_KEY wins."""
    both = {"GEMINI_API_KEY": "gem", "GOOGLE_API_KEY": "goo", "GOOGLE_GEMINI_BASE_URL": "http://h"}
    found = CredentialBundle(env=both).require("google")
    assert (found.api_key.reveal(), found.base_url) == ("goo", "http://h")
    for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY"):
        assert CredentialBundle(env={name: "one"}).require("google").api_key.reveal() == "one"
    elsewhere = {"google": ProviderCredentials(base_url="http://mine")}
    assert not CredentialBundle(elsewhere, env=both).has("google")


def test_the_token_that_gateways_tell_people_to_set() -> None:
    """As Anthropic's SDK reads it: ANTHROPIC_API_KEY wins; nothing is sent to an address of one's
    own."""
    env = {"ANTHROPIC_AUTH_TOKEN": "tok", "ANTHROPIC_BASE_URL": "http://gate.test"}
    found = CredentialBundle(env=env).require("anthropic")
    assert (found.api_key.reveal(), found.base_url) == ("tok", "http://gate.test")
    both = CredentialBundle(env={**env, "ANTHROPIC_API_KEY": "key"})
    assert both.require("anthropic").api_key.reveal() == "key"
    elsewhere = {"anthropic": ProviderCredentials(base_url="http://mine")}
    with pytest.raises(ConfigError, match="the one in ANTHROPIC_AUTH_TOKEN is meant for"):
        CredentialBundle(elsewhere, env=env).require("anthropic")


def test_the_process_environment_is_read_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = CredentialBundle()
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    assert not bundle.has("anthropic")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "later")
    assert bundle.require("anthropic").api_key.reveal() == "later"


def test_a_given_url_never_gets_the_key_of_the_environment() -> None:
    elsewhere = {"openai": ProviderCredentials(base_url="http://localhost:8000/v1")}
    bundle = CredentialBundle(elsewhere, env={"OPENAI_API_KEY": KEY})
    assert bundle.require("openai").api_key.reveal() == "none"
    assert bundle.has("openai")


def test_a_missing_key_names_the_variable() -> None:
    with pytest.raises(ConfigError, match="OPENAI_API_KEY") as caught:
        CredentialBundle(env={}).require("openai")
    assert caught.value.code is ExecutorErrorCode.EXEC_API_NO_CLIENT
    with pytest.raises(ConfigError, match="there is no API key for 'mine'"):
        CredentialBundle(env={}).require("mine")


@pytest.mark.parametrize(
    ("provider", "variable"),
    [
        ("anthropic", "ANTHROPIC_API_KEY"),
        ("google", "GEMINI_API_KEY"),
        ("google", "GOOGLE_API_KEY"),
    ],
)
def test_a_key_that_is_not_sent_elsewhere_is_not_told_to_be_set(
    provider: str, variable: str
) -> None:
    elsewhere = {provider: ProviderCredentials(base_url="http://me:secret@mine")}
    with pytest.raises(ConfigError, match=f"the one in {variable} is meant for") as caught:
        CredentialBundle(elsewhere, env={variable: KEY}).require(provider)
    assert "Pass api_key=... too" in caught.value.hint
    assert "secret" not in str(caught.value)
    with pytest.raises(ConfigError, match=f"{provider!r}: set "):
        CredentialBundle(elsewhere, env={}).require(provider)


@pytest.mark.parametrize("key", ["sk-\u2013dash", "two words", "a\nb", "tab\there"])
def test_a_key_that_no_header_takes_is_refused(key: str) -> None:
    bundle = CredentialBundle({"openai": ProviderCredentials(key)}, env={})
    with pytest.raises(ConfigError, match="no HTTP header takes") as caught:
        bundle.require("openai")
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        *("localhost:8000", "ftp://x", "http://", "http://h:port/", "//h/v1"),
        *("http://h/v1?api-version=2024-10-21", "http://h/v1#here"),
    ],
)
def test_a_url_that_is_none_is_refused(url: str) -> None:
    bundle = CredentialBundle({"openai": ProviderCredentials(KEY, url)}, env={})
    with pytest.raises(ConfigError, match="base URL for 'openai'"):
        bundle.require("openai")


def test_a_bare_key_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigError, match="credentials of 'openai' must be Prov") as caught:
        CredentialBundle({"openai": "sk-very-secret"})  # type: ignore[dict-item]  # pyright: ignore
    assert caught.value.hint == "CredentialBundle({'openai': ProviderCredentials(key)})"
    assert "sk-very" not in repr(caught.value)


def test_where_the_key_of_a_plug_ins_provider_comes_from_is_told() -> None:
    with pytest.raises(ConfigError, match="no API key for 'acme'") as caught:
        CredentialBundle(env={"ACME_API_KEY": KEY}).require("acme")
    assert "--api-key-env" in caught.value.hint
