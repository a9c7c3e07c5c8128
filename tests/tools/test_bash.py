"""Bash: one command, its output and exit code, and nothing left behind."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from lorimer.core.world import Finished
from lorimer.testing.simulated_world import SimulatedWorld
from lorimer.testing.simulation import simulate
from lorimer.tools import builtin_tools
from tests.tools.support import Bench, run, toolset


def bash(root: Path, command: str, **arguments: Any) -> tuple[str, bool]:
    async def main() -> tuple[str, bool]:
        bench = await Bench.make()
        tools = toolset(*builtin_tools(["Bash"]), working_dir=root)
        block = await bench.call(tools, "Bash", {"command": command, **arguments})
        return str(block.content), block.is_error

    return run(main)


@pytest.mark.parametrize(
    ("command", "told", "is_error"),
    [
        ("echo hello", "hello\n[exit code 0]", False),
        ("printf hello; echo oops >&2", "hellooops\n[exit code 0]", False),
        ("true", "[exit code 0]", False),
        ("echo no; exit 3", "no\n[exit code 3]", True),
        ("kill -9 $$", "[ended by signal 9]", True),
        ("no-such-command-anywhere", "no-such-command-anywhere: command not found", True),
        ("printf 'a\\xffb'", "a\ufffdb\n[exit code 0]", False),
        ("cat", "[exit code 0]", False),
    ],
)
def test_output_and_exit_code(tmp_path: Path, command: str, told: str, is_error: bool) -> None:
    content, failed = bash(tmp_path, command)
    assert told in content
    assert failed is is_error


def test_it_starts_in_the_working_directory_with_a_clean_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_API_KEY", "canary")
    content, _ = bash(tmp_path, "pwd; env")
    assert content.startswith(f"{os.path.realpath(tmp_path)}\n")
    assert "canary" not in content


def test_its_time_out_is_told_and_everything_is_ended(tmp_path: Path) -> None:
    command = "echo begun; (trap '' TERM; sleep 47) & sleep 47"
    content, is_error = bash(tmp_path, command, timeout=300)
    assert content == "begun\n[stopped after 0.3 s, its time-out]"
    assert is_error


@pytest.mark.parametrize("timeout", [0, 600_001, 1.5, "1000", True])
def test_time_outs_out_of_range_are_invalid(tmp_path: Path, timeout: object) -> None:
    content, _ = bash(tmp_path, "true", timeout=timeout)
    assert content.startswith("ERROR exec.tool.invalid_input: input.timeout")


def test_a_command_no_system_could_take(tmp_path: Path) -> None:
    content, is_error = bash(tmp_path, "echo a\0b")
    assert content.startswith("bash could not be started: ")
    assert is_error
    assert bash(tmp_path, "echo \ud800")[0].endswith("[exit code 0]")


def test_without_a_working_directory_it_does_not_run() -> None:
    async def main() -> None:
        bench = await Bench.make()
        block = await bench.call(toolset(*builtin_tools(["Bash"])), "Bash", {"command": "true"})
        assert block.is_error

    run(main)


def test_its_effects_are_all_and_unsafe(tmp_path: Path) -> None:
    async def main() -> None:
        bench = await Bench.make()
        tools = toolset(*builtin_tools(["Bash"]), working_dir=tmp_path, granted=False)
        block = await bench.call(tools, "Bash", {"command": "echo x > made"})
        assert "'Bash(echo x > made)' would allow it" in str(block.content)
        assert os.listdir(tmp_path) == []
        allowed = toolset(
            *builtin_tools(["Bash"]),
            working_dir=tmp_path,
            granted=False,
            rules=["Bash(echo x > made)"],
        )
        block = await bench.call(allowed, "Bash", {"command": "echo x > made"}, index=1)
        assert not block.is_error
        assert bench.facts[-2][1]["effects"] == "all"
        assert bench.facts[-2][1]["decision"] == "rule Bash(echo x > made)"

    run(main)


def test_under_simulation_a_script_plays_bash() -> None:
    async def play(argv: Any, *, cwd: Any, env: Any, stdin: Any, limits: Any) -> Finished:
        assert list(argv) == ["bash", "--noprofile", "--norc", "-c", "make && true"]
        assert (limits.timeout_s, limits.max_output_bytes) == (118, 1_048_576)
        assert limits.sandbox.writable == (Path("/work"),)
        return Finished(0, b"built\n", 6, False, 1.0)

    async def main(world: SimulatedWorld) -> object:
        bench = await Bench.make(world=world)
        tools = toolset(*builtin_tools(["Bash"]), working_dir="/work")
        return (await bench.call(tools, "Bash", {"command": "make && true"})).content

    assert simulate(main, spawn=play) == "built\n[exit code 0]"


@pytest.mark.parametrize(
    ("command", "argv"),
    [
        ("git log 'a  b' --x=\"c\"", ["git", "log", "a  b", "--x=c"]),
        ("echo $HOME", ["bash", "--noprofile", "--norc", "-c", "echo $HOME"]),
        ("A=b ls", ["bash", "--noprofile", "--norc", "-c", "A=b ls"]),
        ("cd 'a b'", ["bash", "--noprofile", "--norc", "-c", '"$@"', "bash", "cd", "a b"]),
    ],
)
def test_a_simple_command_is_started_without_a_shell(command: str, argv: list[str]) -> None:
    async def play(words: Any, **_: Any) -> Finished:
        assert list(words) == argv
        return Finished(0, b"", 0, False, 1.0)

    async def main(world: SimulatedWorld) -> object:
        bench = await Bench.make(world=world)
        tools = toolset(*builtin_tools(["Bash"]), working_dir="/work")
        return (await bench.call(tools, "Bash", {"command": command})).content

    assert simulate(main, spawn=play) == "[exit code 0]"


def test_what_the_system_cannot_start_by_itself(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text('echo "it says $1"\n')
    assert bash(tmp_path, "./script 'a b'")[0].endswith("[exit code 126]")
    script.chmod(0o755)
    assert bash(tmp_path, "./script 'a  $b'")[0] == "it says a  $b\n[exit code 0]"
    assert bash(tmp_path, "./none")[0].endswith("[exit code 127]")
    assert bash(tmp_path, "exit 3")[0] == "[exit code 3]"
    assert bash(tmp_path, "type cd")[0].startswith("cd is a shell builtin")
