"""`lorimer manifest`: files that describe agents."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lorimer.core.manifest import EnvironmentManifest
from lorimer.presets import PRESETS, preset_manifest
from tests.cli.support import invoke, lines
from tests.environment.test_import import FIXTURES

BROKEN = """
version: "1"
metadata: {name: broken, autor: me}
model: {max_tokens: 0}
stages:
- {order: 1, name: input}
- {order: 6, name: api, strategies: {retry: exponental_backoff}}
- {order: 9, name: pares}
- {order: 10, name: tool, strategies: {exekutor: partition}}
- {order: 21, name: yield, config: {a: 1}}
"""


def test_what_a_star_means_is_said_where_there_is_one(own_place: Path) -> None:
    legend = "* chosen by this manifest"
    Path("minimal.json").write_text(json.dumps(preset_manifest("minimal").to_dict()))
    assert legend not in invoke("manifest", "explain", "minimal.json").stdout
    chosen = preset_manifest("minimal")
    chosen.stages["api"].strategies["retry"] = "no_retry"
    Path("minimal.json").write_text(json.dumps(chosen.to_dict()))
    shown = invoke("manifest", "explain", "minimal.json").stdout
    assert "no_retry *" in shown
    assert legend in shown


@pytest.mark.parametrize("file", ["a.yaml", "a.json", "a.toml"])
@pytest.mark.parametrize("preset", list(PRESETS))
def test_a_new_manifest_is_that_of_the_preset(preset: str, file: str, own_place: Path) -> None:
    assert invoke("manifest", "new", "--preset", preset, "-o", file).exit_code == 0
    expected = preset_manifest(preset)
    if "system" in expected.stages:
        expected.stages["system"].config.setdefault("prompt", "")
    assert EnvironmentManifest.load(file) == expected
    result = invoke("manifest", "validate", file)
    assert (result.exit_code, result.stdout) == (0, f"{file}: ok\n")


def test_a_new_manifest_to_standard_output(own_place: Path) -> None:
    words = ("--model", "openai:gpt-5.2", "--tools", "readonly", "--system", "Be brief.")
    (own_place / "b.yaml").write_text(invoke("manifest", "new", *words).stdout, "utf-8")
    read = EnvironmentManifest.load("b.yaml")
    assert read.model.model == "openai:gpt-5.2"
    assert read.tools.built_in == ["Read", "Glob", "Grep"]
    assert read.stages["system"].config["prompt"] == "Be brief."


def test_a_file_is_not_replaced_by_accident(own_place: Path) -> None:
    (own_place / "a.json").write_text("precious", "utf-8")
    result = invoke("manifest", "new", "-o", "a.json")
    assert result.exit_code == 2
    assert "a.json already exists" in result.stderr
    assert (own_place / "a.json").read_text("utf-8") == "precious"
    assert invoke("manifest", "new", "-o", "a.json", "--force").exit_code == 0
    assert EnvironmentManifest.load("a.json").metadata.base_preset == "agent"


def test_a_new_manifest_is_a_start_to_edit() -> None:
    result = invoke("manifest", "new")
    for line in (
        "  name: agent",
        "  model: claude-sonnet-4-6",
        "  max_turns: 50",
        "  max_cost_usd: null",
        "  built_in: []",
        "    prompt: ''",
    ):
        assert f"\n{line}\n" in result.stdout
    assert result.stderr == "no tools: add names to tools.built_in, e.g. [readonly]\n"
    assert invoke("manifest", "new", "--tools", "readonly").stderr == ""
    assert "no tools" not in invoke("manifest", "new", "--preset", "minimal").stderr


def test_a_manifest_that_cannot_be_written() -> None:
    result = invoke("manifest", "new", "-o", "nowhere/a.yaml")
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        "error: cannot write nowhere/a.yaml: No such file or directory",
        "hint: Name another place with -o.",
    ]


def test_every_error_is_named_with_its_path(own_place: Path) -> None:
    (own_place / "broken.yaml").write_text(BROKEN, "utf-8")
    (own_place / "good.yaml").write_text(invoke("manifest", "new").stdout, "utf-8")
    result = invoke("manifest", "validate", "broken.yaml", "good.yaml", "nowhere.yaml")
    told = result.stderr.splitlines()
    assert result.exit_code == 2
    assert result.stdout == "good.yaml: ok\n"
    for path, reason in (
        ("metadata.autor", "there is no such field"),
        ("model.max_tokens", "greater than or equal to 1"),
        ("stages[6].strategies.retry", "did you mean 'exponential_backoff'?"),
        ("stages[9].name", "did you mean 'parse'?"),
        ("stages[10].strategies", "did you mean 'executor'?"),
        ("stages[21].config", "takes no configuration"),
        ("nowhere.yaml", "there is no such file"),
    ):
        assert any(path in line and reason in line for line in told), (path, told)
    assert told.pop() == "hint: Write one: lorimer manifest new -o nowhere.yaml"
    assert all(line.startswith("error: ") for line in told)
    assert all(line.endswith(" (exec.pipeline.invalid_manifest)") for line in told)
    as_json = invoke("manifest", "validate", "broken.yaml", "good.yaml", "nowhere.yaml", "--json")
    assert (as_json.exit_code, as_json.stderr) == (2, "")
    broken, good, nowhere = lines(as_json.stdout)
    assert good == {"file": "good.yaml", "ok": True}
    assert (broken["file"], nowhere["file"]) == ("broken.yaml", "nowhere.yaml")
    assert broken["code"] == nowhere["code"] == "exec.pipeline.invalid_manifest"
    assert isinstance(broken["problems"], list)
    assert len(broken["problems"]) == len(told) - 1
    assert nowhere["hint"] == "Write one: lorimer manifest new -o nowhere.yaml"


def test_a_run_of_a_broken_manifest_lists_them_too(own_place: Path) -> None:
    (own_place / "broken.yaml").write_text(BROKEN, "utf-8")
    result = invoke("run", "hi", "--manifest", "broken.yaml")
    told = result.stderr.splitlines()
    assert result.exit_code == 2
    count = len(told) - 1
    assert count >= 6
    assert told[0] == (
        f"error: broken.yaml: The manifest has {count} errors (exec.pipeline.invalid_manifest)"
    )


def test_the_schema_describes_what_is_written() -> None:
    schema = json.loads(invoke("manifest", "schema").stdout)
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert set(preset_manifest("agent").to_dict()) <= set(schema["properties"])
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize("preset", list(PRESETS))
def test_an_agent_is_explained_stage_by_stage(preset: str) -> None:
    shown = invoke("manifest", "explain", preset).stdout
    for entry in preset_manifest(preset).stages:
        assert f"{entry.order:>2}  {entry.name}" in shown
    assert "claude-sonnet-4-6 of anthropic" in shown
    assert "exponential_backoff" in shown
    assert "Recoverable failures" in shown


def test_what_a_manifest_chose_is_marked(own_place: Path) -> None:
    manifest = preset_manifest("agent", model="openai:gpt-5.2:high")
    manifest.stages["api"].strategies["retry"] = "rate_limit_aware"
    manifest.stages["api"].strategy_configs["retry"] = {"max_retries": 9}
    manifest.stages["think"].active = False
    manifest.save("a.yaml")
    shown = invoke("manifest", "explain", "a.yaml").stdout
    assert "rate_limit_aware *" in shown
    assert "[max_retries: 9]" in shown
    assert "think (off)" in shown
    assert "gpt-5.2 of openai, effort high" in shown


def test_a_reference_is_read_from_the_environment_where_the_option_says_so(
    own_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = preset_manifest("chat", model="scripted:echo")
    manifest.stages["guard"].strategies["guards"] = ["iteration"]
    manifest.stages["guard"].strategy_configs["guards"] = {
        "iteration": {"max_iterations": "${ROUNDS}"}
    }
    manifest.save("a.toml")
    assert invoke("manifest", "validate", "a.toml").exit_code == 0
    monkeypatch.setenv("ROUNDS", "3")
    result = invoke("run", "hi", "--manifest", "a.toml")
    assert result.exit_code == 2
    assert "iteration: nothing is given for ${ROUNDS}; pass" in result.stderr
    assert "or --env (exec.pipeline.invalid_manifest)" in result.stderr
    result = invoke("run", "hi", "--manifest", "a.toml", "--env", "ROUNDS")
    assert (result.exit_code, result.stdout) == (0, "hi\n")
    result = invoke("run", "hi", "--manifest", "a.toml", "--env", "ROUNDS,NOWHERE")
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        "error: --env NOWHERE: this variable is not set (exec.pipeline.invalid_manifest)",
        "hint: export NOWHERE=...",
    ]


def test_the_model_is_read_from_the_environment_where_the_option_says_so(
    own_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preset_manifest("chat", model="${MODEL}").save("a.toml")
    assert "${MODEL}, with variables" in invoke("manifest", "explain", "a.toml").stdout
    monkeypatch.setenv("MODEL", "scripted:echo")
    result = invoke("run", "hi", "--manifest", "a.toml")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines() == [
        "error: model.model: nothing is given for ${MODEL} (exec.pipeline.invalid_manifest)",
        "hint: Add --env MODEL.",
    ]
    result = invoke("run", "hi", "--manifest", "a.toml", "--env", "MODEL")
    assert (result.exit_code, result.stdout) == (0, "hi\n")
    assert "scripted:echo" in result.stderr
    [run] = lines(invoke("runs", "ls", "--json").stdout)
    words = ("runs", "fork", str(run["run_id"]), "more", "--after", "1")
    assert "nothing is given for ${MODEL}" in invoke(*words).stderr
    result = invoke(*words, "--env", "MODEL")
    assert (result.exit_code, result.stdout) == (0, "more\n")


def test_a_manifest_of_geny_is_imported_and_what_is_lost_is_told(own_place: Path) -> None:
    words = ("manifest", "import", str(FIXTURES / "geny-3.0.json"))
    result = invoke(*words, "-o", "a.toml")
    assert (result.exit_code, result.stdout) == (0, "")
    told = result.stderr.splitlines()
    assert "note: tools.mcp_servers: not imported: configure MCP servers where it is run" in told
    assert all(line.startswith("note: ") for line in told)
    assert "DoNotShow" not in result.stderr
    assert invoke("manifest", "validate", "a.toml").exit_code == 0
    result = invoke(*words, "-o", "a.toml")
    assert result.exit_code == 2
    assert "a.toml already exists" in result.stderr
    assert "version: '1'\n" in invoke(*words).stdout
