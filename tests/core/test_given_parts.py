"""What a pipeline is made of, and is not what it has to be, is refused before anything is run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from lorimer import ConfigError, PipelinePresets, ProviderCredentials
from lorimer.core.messages import ToolUse
from lorimer.models import Models
from lorimer.testing import ScriptedModel
from lorimer.tools import Tool
from lorimer.tools.hooks import FunctionHook

WRONG = [
    ({"approver": lambda tool, summary, reason: True}, "'<lambda>' has no approve()"),
    ({"approver": True}, "a bool has no approve()"),
    ({"models": ScriptedModel(["hi"])}, "a ScriptedModel has no resolve()"),
    ({"models": {"openai": "sk-a-key-of-mine"}}, "models must be a ModelResolver, and a dict has"),
    ({"credentials": {"openai": "sk-a-key-of-mine"}}, "must be a CredentialBundle, not dict"),
    ({"credentials": ProviderCredentials("sk-a-key-of-mine")}, "must be a CredentialBundle, not"),
    ({"author": "ann"}, "author must be a Person, not str"),
    ({"caller": "ann"}, "caller must be a Person, not str"),
    ({"world": 3}, "world must be a World, and an int has no"),
    ({"hooks": print}, "hooks must be a list, and each a Hook, not builtin_function_or_method"),
    ({"hooks": [print]}, "each of hooks must be a Hook, not builtin_function_or_method"),
    ({"variables": {"PORT": 8080}}, "variables['PORT'] must be text, not int"),
    ({"network": [3]}, "each of network must be text, not int"),
    ({"network": "no host"}, "network: 'no host' is not a host"),
    ({"session_id": 7}, "session_id must be text, not int"),
    ({"session_id": "a\ud800"}, "contains half a character"),
    ({"owner": "a\ud800"}, "contains half a character"),
    ({"owner": 7}, "owner must be text, not int"),
    ({"tools": "Read"}, "tools must be a list of tools or a ToolRegistry, not str"),
    ({"tools": ["Read"]}, "'Read' is not a tool"),
    ({"tools": [Tool]}, "Tool is a class, not a tool"),
]


@pytest.mark.parametrize(("given", "why"), WRONG, ids=[why for _, why in WRONG])
def test_a_part_of_the_wrong_kind(given: dict[str, Any], why: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        PipelinePresets.agent(model="scripted:echo", built_in="Bash", workspace=tmp_path, **given)
    assert why in str(refused.value)
    assert "a-key" not in f"{refused.value} {refused.value.hint}"


def test_a_mode_that_there_is_not_is_told_also_where_there_are_no_tools() -> None:
    with pytest.raises(ConfigError, match="no permission mode 'plna'; did you mean 'plan'"):
        PipelinePresets.minimal(model="scripted:echo", permission_mode="plna")


def test_names_of_shipped_tools_are_no_tools() -> None:
    for given in ("Read", ["Read"]):
        with pytest.raises(ConfigError) as refused:
            PipelinePresets.agent(model="scripted:echo", tools=given)  # type: ignore[arg-type]
        assert "built_in" in refused.value.hint


def test_providers_that_are_no_mapping() -> None:
    with pytest.raises(ConfigError, match="providers must be a mapping, not list"):
        Models(providers=[ScriptedModel(["hi"])])  # type: ignore[arg-type]


def test_a_name_that_says_no_vendor_is_told_with_the_key_that_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="there is no API key for 'anthropic'") as bare:
        PipelinePresets.minimal(model="gpt5").run_sync("hi")
    assert "'gpt5' names no provider, so anthropic is asked" in bare.value.hint
    with pytest.raises(ConfigError, match="there is no API key for 'anthropic'") as named:
        PipelinePresets.minimal(model="claude-sonnet-4-6").run_sync("hi")
    assert "names no provider" not in named.value.hint


@pytest.mark.skipif(sys.platform != "linux", reason="a sandbox")
@pytest.mark.parametrize("hidden", ["/etc/passwd", Path("/etc/passwd"), ["/etc/passwd"]])
def test_one_path_alone_is_hidden_as_a_whole(hidden: Any, tmp_path: Path) -> None:
    asks = [ToolUse("c1", "Bash", {"command": "cat /etc/passwd"})]
    models = Models(providers={"scripted": ScriptedModel([asks, "Done."])})
    agent = PipelinePresets.agent(
        model="scripted:m",
        models=models,
        built_in="Bash",
        workspace=tmp_path,
        rules="Bash(cat /etc/passwd)",
        hidden=hidden,
    )
    told: list[Any] = []
    agent.on("tool.call_complete", lambda event: told.append(event.data))
    [step] = agent.run_sync("Look.").steps
    if told[0]["metadata"]["isolation"]["in_force"] == "L0":
        pytest.skip("nothing is hidden at L0")
    assert "root:" not in step.content


def test_one_hook_alone_is_one() -> None:
    told: list[object] = []
    hook: Any = FunctionHook("PipelineEnd", lambda told_of: told.append(told_of["status"]))
    assert PipelinePresets.minimal(model="scripted:echo", hooks=hook).run_sync("hi").text == "hi"
    assert told == ["ok"]
