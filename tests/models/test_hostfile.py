"""The host file: what it says holds, and every fault of it is named at once."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from lorimer.core.errors import ConfigError
from lorimer.core.model import KnowsWindow
from lorimer.core.request import Usage
from lorimer.models import CredentialBundle, Models, ProviderCredentials
from lorimer.models.hostfile import read_host
from tests.models.support import NoWorld, Provider, Reply, hear, request

FULL = """
[tiers]
fast = "haiku, gpu:qwen3:low"

[aliases]
haiku = "anthropic:claude-haiku-4-5"

[providers.gpu]
kind = "vllm"
base_url = "https://gpu.example.com/v1/"
key_env = "GPU_KEY"
headers = { x-team = "acme", x-gateway-key = "$GATEWAY" }
capabilities = { tools = true, supports_vision = false }
context_window = 32768

[providers.anthropic]
key_env = "WORK_KEY"

[prices."gpu:qwen3"]
input = 0.5
output = 2

[[prices."gpu:qwen3-next"]]
input = 1
output = 4

[[prices."gpu:qwen3-next"]]
input = 2
output = 8
from = 2026-06-01

[windows]
"gpu:small" = 4096

[capabilities."gpu:small"]
tools = false
"""
ENV = {"GPU_KEY": "gpu-key-4711", "GATEWAY": "gate-4711", "WORK_KEY": "work-4711"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "models.toml"
    path.write_text(FULL, "utf-8")
    return path


def loaded(path: Path, env: dict[str, str] = ENV) -> Models:
    return Models.from_file(path, credentials=CredentialBundle(env=env))


def test_all_of_it_holds(file: Path) -> None:
    models = loaded(file)
    assert models.expand("fast") == ["anthropic:claude-haiku-4-5", "gpu:qwen3:low"]
    model = models.resolve("gpu:qwen3")
    assert (model.provider, model.name) == ("gpu", "qwen3")
    assert model.price(Usage(1_000_000, 1_000_000)) == 2_500_000_000
    assert isinstance(model, KnowsWindow)
    assert model.context_window == 32768
    small = models.resolve("gpu:small")
    assert isinstance(small, KnowsWindow)
    assert small.context_window == 4096
    assert models.resolve("fast").provider == "anthropic"


def test_what_is_sent_there(file: Path) -> None:
    import asyncio

    provider = Provider(Reply.of({"error": {"message": "no"}}, 400))
    world = NoWorld(provider)
    models = Models.from_file(file, credentials=CredentialBundle(env=ENV), world=world)

    async def go() -> None:
        await hear(models.resolve("gpu:qwen3"), request("openai"), world)
        await hear(models.resolve("anthropic:claude-haiku-4-5"), request(), world)
        await models.aclose()

    asyncio.run(go())
    gpu, anthropic = provider.requests
    assert str(gpu.url) == "https://gpu.example.com/v1/chat/completions"
    assert gpu.headers["authorization"] == "Bearer gpu-key-4711"
    assert gpu.headers["x-team"] == "acme"
    assert gpu.headers["x-gateway-key"] == "gate-4711"
    assert anthropic.headers["authorization"] == "Bearer work-4711"
    assert anthropic.url.host == "api.anthropic.com"


def test_prices_by_their_day(file: Path) -> None:
    world = NoWorld()
    models = Models.from_file(file, credentials=CredentialBundle(env=ENV), world=world)
    use = Usage(1_000_000)
    prices: list[int | None] = []
    for day in (date(2026, 5, 31), date(2026, 6, 1)):
        world.now = (day - date(1970, 1, 1)).total_seconds() + 3600
        prices.append(models.resolve("gpu:qwen3-next").price(use))
    assert prices == [1_000_000_000, 2_000_000_000]


@pytest.mark.parametrize("missing", ["GPU_KEY", "GATEWAY"])
def test_a_missing_variable_is_named_when_it_is_needed(file: Path, missing: str) -> None:
    models = loaded(file, {name: value for name, value in ENV.items() if name != missing})
    assert models.resolve("anthropic:x").name == "x"
    with pytest.raises(ConfigError, match=f"'gpu' needs .*: set {missing}"):
        models.resolve("gpu:qwen3")


def test_what_is_given_in_code_wins(file: Path) -> None:
    bundle = CredentialBundle({"gpu": ProviderCredentials("own", "http://localhost:1/v1")}, env=ENV)
    models = Models.from_file(file, credentials=bundle)
    assert "localhost:1" in repr(models.resolve("gpu:q").inner._credentials)  # type: ignore[attr-defined]
    # the file's key is not sent to an address that was given in code
    bundle = CredentialBundle({"gpu": ProviderCredentials("", "http://localhost:1/v1")}, env=ENV)
    models = Models.from_file(file, credentials=bundle)
    assert models.resolve("gpu:q").inner._credentials.api_key.reveal() == "none"  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["json", "yaml"])
def test_other_forms(tmp_path: Path, kind: str) -> None:
    data = {
        "tiers": {"fast": "ollama:qwen3"},
        "prices": {"ollama:*": {"input": 0, "output": 0, "from": "2026-01-01"}},
    }
    path = tmp_path / f"models.{kind}"
    path.write_text(json.dumps(data), "utf-8")
    models = loaded(path)
    assert models.resolve("fast").price(Usage(5, 5)) == 0


FAULTS = [
    ('nope = 1', "nope: there is no such section"),
    ('tiers = "x"', "tiers: "),
    ('[tiers]\nfast = 3', "tiers.fast: "),
    ('[tiers]\na = "b"\nb = "x:y"', "tiers.a: the tier 'a' names the tier 'b'"),
    ('[aliases]\na = "b"\nb = "a"', "a -> b -> a"),
    ('[providers.gpu]\nbase_ur = "http://x"', "providers.gpu.base_ur: there is no such field"),
    ('[providers.gpu]\nkind = "vlm"\nbase_url = "http://x"', "did you mean 'vllm'"),
    ('[providers.gpu]\nkind = "vllm"', "providers.gpu: base_url: it is missing"),
    ('[providers.GPU]\nbase_url = "http://x"', "providers.GPU: a name has small letters"),
    ('[providers.gpu]\nbase_url = "gpu:8000"', "base_url: an http:// or https:// URL is wanted"),
    ('[providers.gpu]\nbase_url = "http://x"\napi = "soap"', "providers.gpu.api: "),
    ('[providers.gpu]\nbase_url = "http://x"\ncapabilities = {tolls = true}',
     "did you mean 'tools'"),
    ('[providers.gpu]\nbase_url = "http://x"\ncontext_window = 0',
     "providers.gpu.context_window: "),
    ('[providers.scripted]\nbase_url = "http://x"', "not reached over a network"),
    ('[providers.mine]\nkind = "anthropic"', "providers.mine: base_url: it is missing"),
    ('[providers.mine]\nkind = "google"\nbase_url = "http://x"\napi = "chat"',
     "api: 'google' has one wire only"),
    ('[providers.anthropic]\nkind = "google"', "this name is taken by 'anthropic'"),
    ('[providers.anthropic]\nbase_url = "http://x"', "key_env: it is missing"),
    ('[providers.vllm]\nkind = "ollama"', "this name is taken by 'vllm'"),
    ('[providers.anthropic]\napi = "chat"', "api: 'anthropic' has one wire only"),
    ('[prices."a:b"]\ninput = 1', "prices.a:b.output: field required"),
    ('[prices."a:b"]\ninput = -1\noutput = 1', "prices.a:b.input: "),
    ('[prices."a:b"]\ninput = inf\noutput = 1', "prices.a:b.input: "),
    ('[prices."a:b"]\ninput = "1"\noutput = 1', "prices.a:b.input: "),
    ('[[prices."a:b"]]\ninput = 1\noutput = 1\n[[prices."a:b"]]\ninput = 1\noutput = 2',
     "begin on the same day"),
    ('[prices."a:b"]\ninput = 1\noutput = 1\nfrom = "soon"', "prices.a:b.from: "),
    ('[windows]\na = 0', "windows.a: "),
    ('[capabilities.ollama]\ntolls = true', "capabilities.ollama: there is no capability"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), FAULTS, ids=[expected for _, expected in FAULTS])
def test_a_fault_is_named_with_its_path(text: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError) as caught:
        read_host(path)
    assert any(expected in problem for problem in caught.value.problems), caught.value.problems
    assert str(path) in str(caught.value)


def test_all_faults_at_once(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text(
        json.dumps(
            {
                "tiers": {"a": "b,,c"},
                "aliases": {"low": "x:y"},
                "providers": {"Bad": {"api_key": "sk-1"}, "p": {"kind": "x"}},
                "prices": {"m": {"input": -1}},
                "windows": {"m": "big"},
                "other": {},
            }
        ),
        "utf-8",
    )
    with pytest.raises(ConfigError, match="has 9 errors") as caught:
        read_host(path)
    assert len(caught.value.problems) == 9


SECRET = "sk-live-do-not-show-4711"


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        (f'api_key = "{SECRET}"', 'key_env = "MY_GPU_API_KEY"'),
        (f'token = "{SECRET}"', 'key_env = "MY_GPU_API_KEY"'),
        (f'key_env = "{SECRET}"', "the name of a variable is wanted"),
        (f'headers = {{ Authorization = "Bearer {SECRET}" }}', '"$VARIABLE"'),
        (f'headers = {{ x-api-key = "{SECRET}" }}', '"$VARIABLE"'),
    ],
)
def test_a_key_in_the_file_is_refused_and_not_repeated(
    line: str, remedy: str, tmp_path: Path
) -> None:
    path = tmp_path / "m.toml"
    path.write_text(f'[providers.my-gpu]\nbase_url = "https://gpu.test/v1"\n{line}\n', "utf-8")
    with pytest.raises(ConfigError) as caught:
        read_host(path)
    assert remedy in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_password_in_the_address_is_refused_and_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text(f'[providers.g]\nbase_url = "https://me:{SECRET}@gpu.test/v1"\n', "utf-8")
    with pytest.raises(ConfigError, match="use key_env") as caught:
        read_host(path)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("name", ["absent.toml", "folder.toml", "latin.toml", "m.ini", "half.toml"])
def test_a_file_that_cannot_be_read(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "latin.toml").write_bytes("# Zürich".encode("latin-1"))
    (tmp_path / "m.ini").write_text("x", "utf-8")
    (tmp_path / "half.toml").write_text("[tiers\n", "utf-8")
    with pytest.raises(ConfigError, match=name.replace(".", r"\.")):
        read_host(tmp_path / name)
