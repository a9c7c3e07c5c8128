"""Bash: one command, its output and exit code, and nothing left behind."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from lorimer import PipelinePresets
from lorimer.core.bus import Bus
from lorimer.core.errors import ConfigError
from lorimer.core.events import Event
from lorimer.core.messages import ToolUse
from lorimer.core.world import Finished
from lorimer.journal import SQLiteJournal
from lorimer.models.registry import Models
from lorimer.testing import ScriptedModel
from lorimer.testing.simulated_world import SimulatedWorld
from lorimer.testing.simulation import simulate
from lorimer.tools import builtin_tools
from lorimer.world.files import RootedFiles
from tests.tools.support import Bench, run, toolset
from tests.world.levels import needs


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


def test_files_that_look_like_a_repository_name_no_programs(tmp_path: Path) -> None:
    """Files that a model may write are not settings of git."""
    for folder in ("objects", "refs"):
        (tmp_path / folder).mkdir()
    (tmp_path / "HEAD").write_text("ref: refs/heads/main\n")
    (tmp_path / "config").write_text(
        "[core]\nrepositoryformatversion = 0\nbare = false\nworktree = .\n"
        'fsmonitor = "touch started; false"\n'
    )
    content, is_error = bash(tmp_path, "git status")
    assert is_error, content
    assert not (tmp_path / "started").exists()
    bash(tmp_path, "git --git-dir=. status")  # said so, it is one
    assert (tmp_path / "started").exists()


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


def isolated(root: Path, command: str, **options: Any) -> tuple[str, dict[str, Any]]:
    """What the model is told, and the data of `tool.call_complete`."""

    async def main() -> tuple[str, dict[str, Any]]:
        bus = Bus()
        seen: list[Event] = []
        bus.on("tool.call_complete", seen.append)
        bench = await Bench.make(bus=bus)
        tools = toolset(*builtin_tools(["Bash"]), working_dir=root, **options)
        block = await bench.call(tools, "Bash", {"command": command})
        return str(block.content), dict(seen[0].data["metadata"])

    return run(main)


def test_the_level_in_force_is_in_the_result(tmp_path: Path) -> None:
    _, metadata = isolated(tmp_path, "true")
    assert metadata["isolation"]["requested"] == "auto"
    assert metadata["isolation"]["in_force"] in ("L0", "L1", "L2")
    assert "isolation" not in isolated(tmp_path, "true", sandbox="off")[1]


def test_the_model_is_told_where_the_sandbox_is_in_its_way(tmp_path: Path) -> None:
    needs("L1")
    content, _ = isolated(tmp_path, "echo x > /usr/here")
    assert "[sandbox: only the working directory and $TMPDIR are writable" in content
    assert "there is no network]" in content
    assert "sandbox" not in isolated(tmp_path, "exit 1")[0]
    assert "sandbox" not in isolated(tmp_path, "echo permission denied")[0]


def test_a_sandbox_that_is_required_and_missing_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorimer.world.sandbox.bubblewrap.found", lambda *_: None)

    async def main() -> None:
        bench = await Bench.make()
        tools = toolset(*builtin_tools(["Bash"]), working_dir=tmp_path, sandbox="require")
        block = await bench.call(tools, "Bash", {"command": "touch made"})
        assert str(block.content).startswith("ERROR exec.sandbox.missing: ")
        assert os.listdir(tmp_path) == []

    run(main)


def test_the_store_and_keys_are_hidden_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("L2")
    home, work = tmp_path / "home", tmp_path / "work"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "id").write_text("canary")
    work.mkdir()
    monkeypatch.setenv("HOME", str(home))
    journal = SQLiteJournal(work / "runs.db")
    use = ToolUse("c1", "Bash", {"command": "cat ~/.ssh/id; head -c 15 runs.db; ls"})
    models = Models(providers={"scripted": ScriptedModel([[use], "done"])})

    async def main() -> str:
        async with PipelinePresets.agent(
            built_in="Bash",
            workspace=work,
            rules=["Bash"],
            model="scripted:m",
            models=models,
            journal=journal,
        ) as agent:
            result = await agent.run("go")
        await journal.close()
        return json.dumps([fact.data for fact in result.events if fact.type == "tool.result"])

    told = run(main)
    assert "runs.db" in told
    assert "canary" not in told
    assert "SQLite format" not in told


def test_a_wrong_word_for_the_sandbox_is_told() -> None:
    with pytest.raises(ConfigError, match="'auto', 'require', 'off'"):
        PipelinePresets.agent(sandbox="none")  # type: ignore[arg-type]


def in_folder(root: Path, command: str) -> str:
    async def main() -> str:
        bench = await Bench.make()
        with RootedFiles([root]) as files:
            tools = toolset(*builtin_tools(["Bash"]), files=files)
            block = await bench.call(tools, "Bash", {"command": command})
        return str(block.content)

    return run(main)


def kept(root: Path) -> list[Path]:
    folder = root / ".lorimer/results"
    return sorted(folder.iterdir()) if folder.exists() else []


def test_output_beyond_a_mebibyte_is_kept_in_a_file(tmp_path: Path) -> None:
    content = in_folder(tmp_path, "seq 400000; echo last; exit 7")
    whole = "".join(f"{number}\n" for number in range(1, 400_001)) + "last\n"
    assert content.startswith("1\n2\n3\n")
    (file,) = kept(tmp_path)
    assert file.read_text() == whole
    assert content.endswith(
        f"last\n[{len(whole):,} bytes of output, 1,048,576 kept. All of it is in "
        f"{file.relative_to(tmp_path)}: Read it with offset and limit, or Grep it.]\n[exit code 7]"
    )
    assert len(content) <= 50_000


def test_that_file_is_bounded(tmp_path: Path) -> None:
    content = in_folder(tmp_path, "yes 0123456789abcdef | head -c 70000000; echo last")
    (file,) = kept(tmp_path)
    assert file.stat().st_size == 64 * 1024 * 1024
    assert (
        "last\n[70,000,005 bytes of output, 1,048,576 kept. Its first 67,108,864 is in" in content
    )


def test_output_that_fits_needs_no_file_of_its_own(tmp_path: Path) -> None:
    in_folder(tmp_path, "seq 3000")
    assert kept(tmp_path) == []
    in_folder(tmp_path, "seq 30000")  # more than the model is shown
    (file,) = kept(tmp_path)
    assert file.read_text().startswith("1\n2\n")


def test_a_disk_that_takes_no_more_leaves_head_and_tail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RootedFiles, "append_bytes", full)
    content = in_folder(tmp_path, "seq 900000; echo last")
    assert content.endswith("bytes of output, 1,048,576 kept.]\n[exit code 0]")
    assert "output could not be kept in .lorimer/results/" in caplog.text


@pytest.mark.parametrize(
    "command",
    [
        "ulimit -v 400000; python3 -c 'x = bytearray(10**9)'",
        "ulimit -v 100000; x=$(head -c 500000000 /dev/zero | tr '\\0' x)",
    ],
)
def test_out_of_memory_has_its_code(tmp_path: Path, command: str) -> None:
    async def main() -> None:
        bench = await Bench.make()
        tools = toolset(*builtin_tools(["Bash"]), working_dir=tmp_path)
        block = await bench.call(tools, "Bash", {"command": command})
        assert "[exec.tool.out_of_memory: it wanted more memory than there is]" in str(
            block.content
        )
        assert bench.facts[-1][1]["error"] == "exec.tool.out_of_memory"

    run(main)


def test_a_kill_of_the_kernels_is_told_apart(tmp_path: Path) -> None:
    async def killed(argv: Any, **_: Any) -> Finished:
        return Finished(-9, b"working\n", 8, False, 0.1, out_of_memory=True)

    assert "exec.tool.out_of_memory" in played(tmp_path, killed)


def played(root: Path, script: Any) -> str:
    async def main(world: SimulatedWorld) -> str:
        bench = await Bench.make(world=world)
        tools = toolset(*builtin_tools(["Bash"]), working_dir=root, sandbox="off")
        return str((await bench.call(tools, "Bash", {"command": "true"})).content)

    return str(simulate(main, spawn=script))
