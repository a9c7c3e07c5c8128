"""Specs: which provider and model a string means."""

from __future__ import annotations

import pytest

from lorimer.core.errors import ConfigError, ExecutorErrorCode
from lorimer.models import CredentialBundle, Models, ProviderCredentials, ScriptedModel, parse_spec
from lorimer.models.registry import PROVIDERS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("anthropic:claude-sonnet-4-6", ("anthropic", "claude-sonnet-4-6", "")),
        ("anthropic/claude-sonnet-4-6", ("anthropic", "claude-sonnet-4-6", "")),
        ("Anthropic:Claude-X", ("anthropic", "Claude-X", "")),
        (" openai:gpt-5:high ", ("openai", "gpt-5", "high")),
        ("openai:o3:LOW", ("openai", "o3", "low")),
        ("openai/meta-llama/Llama-3:free", ("openai", "meta-llama/Llama-3:free", "")),
        ("openai:meta-llama/Llama-3:free", ("openai", "meta-llama/Llama-3:free", "")),
        ("openai:a:b:medium", ("openai", "a:b", "medium")),
        ("claude-haiku-4-5", ("anthropic", "claude-haiku-4-5", "")),
        ("gpt-4o", ("openai", "gpt-4o", "")),
        ("o1-mini:low", ("openai", "o1-mini", "low")),
        ("o3", ("openai", "o3", "")),
        ("o4-mini", ("openai", "o4-mini", "")),
        ("chatgpt-4o-latest", ("openai", "chatgpt-4o-latest", "")),
        ("ft:gpt-4o:acme::id", ("openai", "ft:gpt-4o:acme::id", "")),
        ("gemini-2.5-pro", ("google", "gemini-2.5-pro", "")),
        ("something-else", ("anthropic", "something-else", "")),
        ("meta/llama", ("anthropic", "meta/llama", "")),
        ("nobody:model", ("nobody", "model", "")),
    ],
)
def test_specs(text: str, expected: tuple[str, str, str]) -> None:
    spec = parse_spec(text, PROVIDERS)
    assert (spec.provider, spec.model, spec.effort) == expected
    again = parse_spec(str(spec), PROVIDERS)
    assert again == spec


@pytest.mark.parametrize(
    "text", ["", "  ", "anthropic", "anthropic:", "openai/", ":x", "openai:high"]
)
def test_a_spec_without_a_model_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_spec(text, PROVIDERS)


def test_unknown_provider_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="'antropic'.* is unknown; did you mean 'anthropic'"):
        Models(CredentialBundle(env={})).resolve("antropic:claude-x")


def test_the_name_before_a_slash_is_a_provider_unless_a_base_url_is_given() -> None:
    def models(base_url: str) -> Models:
        key = ProviderCredentials("sk-x", base_url=base_url)
        return Models(credentials=CredentialBundle({"anthropic": key}))

    with pytest.raises(ConfigError) as caught:
        models("").resolve("opnai/gpt-5")
    assert caught.value.code is ExecutorErrorCode.EXEC_API_NO_CLIENT
    assert "provider 'opnai' of the model 'gpt-5' is unknown; did you mean 'openai'" in str(
        caught.value
    )
    gateway = models("http://gateway.example").resolve("deepseek/deepseek-chat")
    assert (gateway.provider, gateway.name) == ("anthropic", "deepseek/deepseek-chat")
    own = Models(providers={"anthropic": ScriptedModel(["hi"])})
    assert own.resolve("deepseek/deepseek-chat").provider == "scripted"


@pytest.mark.parametrize(
    ("provider", "variable"),
    [
        ("anthropic", "ANTHROPIC_API_KEY"),
        ("openai", "OPENAI_API_KEY"),
        ("google", "GEMINI_API_KEY"),
    ],
)
def test_a_missing_key_names_its_variable(provider: str, variable: str) -> None:
    with pytest.raises(ConfigError, match=variable) as caught:
        Models(CredentialBundle(env={})).resolve(f"{provider}:some-model")
    assert caught.value.code is ExecutorErrorCode.EXEC_API_NO_CLIENT


def test_models_are_kept_per_spec_and_providers_can_be_registered() -> None:
    mine = ScriptedModel(["hi"])
    models = Models(CredentialBundle(env={}), providers={"scripted": mine})
    assert models.resolve("scripted:anything") is mine
    seen: list[str] = []

    def factory(spec: object, context: object) -> ScriptedModel:
        seen.append(str(spec))
        return ScriptedModel(["yo"])

    models.register("Mine", factory)
    assert models.resolve("mine:a:low") is models.resolve("mine:a:low")
    assert seen == ["mine:a:low"]
    assert "mine" in models.available()


@pytest.mark.parametrize(
    ("provider", "missing"),
    [
        ("anthropic", "anthropic"),
        ("openai", "openai"),
        ("google", "google"),
        ("google", "google.genai"),  # another package of that namespace is there
    ],
)
def test_a_missing_sdk_says_what_to_install(
    provider: str, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import builtins
    import sys

    real = builtins.__import__

    def refuse(name: str, *rest: object) -> object:
        if name.startswith(missing):
            raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)
        return real(name, *rest)  # type: ignore[arg-type]

    monkeypatch.delitem(sys.modules, f"lorimer.models.{provider}", raising=False)
    monkeypatch.setattr(builtins, "__import__", refuse)
    bundle = CredentialBundle({provider: ProviderCredentials("k")}, env={})
    with pytest.raises(ConfigError, match=rf"install lorimer\[{provider}\]") as caught:
        Models(bundle).resolve(f"{provider}:some-model")
    assert caught.value.code is ExecutorErrorCode.EXEC_API_SDK_MISSING


@pytest.mark.parametrize("provider", ["scripted", "anthropic", "openai", "google"])
def test_an_sdk_is_imported_when_its_provider_is_used(provider: str) -> None:
    import subprocess
    import sys

    code = (
        "import sys\n"
        "from lorimer import CredentialBundle, ProviderCredentials\n"
        "from lorimer.models import Models\n"
        f"keys = CredentialBundle({{{provider!r}: ProviderCredentials('k')}}, env={{}})\n"
        "def there(): return sorted({'anthropic', 'openai', 'google.genai'} & set(sys.modules))\n"
        "models = Models(keys)\n"
        "before = there()\n"
        f"models.resolve({provider!r} + ':echo')\n"
        "print(before, there())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    used = {"anthropic": ["anthropic"], "openai": ["openai"], "google": ["google.genai"]}
    assert done.stdout.strip() == f"[] {used.get(provider, [])}"


def test_the_shipped_scripted_names() -> None:
    models = Models(CredentialBundle(env={}))
    assert models.resolve("scripted:echo").name == "echo"
    assert models.resolve("scripted:obedient").name == "obedient"
    with pytest.raises(ConfigError, match="did you mean 'echo'"):
        models.resolve("scripted:ecoh")
