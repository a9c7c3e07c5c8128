"""Context windows: from the price data, and from whoever knows better."""

from __future__ import annotations

import pytest

from lorimer.core.errors import ConfigError
from lorimer.core.model import KnowsWindow
from lorimer.models import CredentialBundle, Models, ProviderCredentials, Windows


def test_known_windows() -> None:
    windows = Windows()
    assert windows.tokens("anthropic", "claude-haiku-4-5") == 200_000
    assert windows.tokens("openai", "gpt-4o") == 128_000
    assert windows.tokens("openai", "no-such-model") is None
    # a name that holds a vendor's is not that vendor
    assert windows.tokens("my-openai", "gpt-4o") is None
    assert windows.tokens("mine", "gpt-4o", base_url="https://api.openai.com/v1") == 128_000


def test_overrides_come_first() -> None:
    windows = Windows({"openai:gpt-4o": 10, "claude-haiku-4-5": 20, "gpu:*": 30})
    assert windows.tokens("openai", "gpt-4o") == 10
    assert windows.tokens("anthropic", "claude-haiku-4-5") == 20
    assert windows.tokens("gpu", "any") == 30


def test_a_window_is_a_number_of_tokens() -> None:
    with pytest.raises(ConfigError, match="'m'"):
        Windows({"m": 0})


@pytest.mark.parametrize("spec", ["anthropic:claude-haiku-4-5", "openai:gpt-4o"])
def test_models_know_theirs(spec: str) -> None:
    both = {name: ProviderCredentials("k") for name in ("anthropic", "openai")}
    model = Models(CredentialBundle(both, env={}), windows=Windows({spec: 7})).resolve(spec)
    assert isinstance(model, KnowsWindow)
    assert model.context_window == 7
