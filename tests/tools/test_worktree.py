"""Worktrees: work on a branch of its own, and nothing that is not committed is lost."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lorimer import PipelinePresets
from lorimer.core.messages import ToolUse
from lorimer.models.registry import Models
from lorimer.testing import ScriptedModel
from lorimer.tools import builtin_tools
from lorimer.tools.policy.modes import Action
from lorimer.tools.policy.rules import Rule
from lorimer.world.files import RootedFiles
from tests.tools.support import Bench, run, toolset
from tests.world.levels import needs


def git(root: Path, *words: str) -> str:
    name = ("-c", "user.name=T", "-c", "user.email=t@example.org")
    done = subprocess.run(
        ["git", *name, *words], cwd=root, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    made = tmp_path / "work"
    made.mkdir()
    git(made, "init", "-q", "-b", "main")
    (made / "a").write_text("one\n")
    (made / ".gitignore").write_text("*.tmp\n")
    git(made, "add", ".")
    git(made, "commit", "-qm", "first")
    return made


class Calls:
    def __init__(self, bench: Bench, root: Path, **options: Any) -> None:
        self.bench = bench
        names = ["worktree", "Bash", "filesystem"]
        options = {"granted": True, **options}
        self.tools = toolset(*builtin_tools(names), files=RootedFiles([root]), **options)
        self.count = 0

    async def __call__(self, name: str, **input: Any) -> str:
        self.count += 1
        block = await self.bench.call(self.tools, name, input, index=self.count)
        self.failed = block.is_error
        return str(block.content)


def calling(root: Path, main: Callable[[Calls], Any], **options: Any) -> Any:
    async def whole() -> Any:
        return await main(Calls(await Bench.make(), root, **options))

    return run(whole)


ENTERED = "Entered .worktrees/fix-it, a new worktree on the branch fix/it: calls begin there now."


def test_calls_begin_in_it_until_it_is_left(root: Path) -> None:
    async def main(call: Calls) -> None:
        assert await call("EnterWorktree", branch="fix/it") == ENTERED
        place = root / ".worktrees/fix-it"
        assert (await call("Bash", command="pwd")).startswith(f"{place}\n")
        await call("Write", file_path="a", content="two\n")
        await call("Write", file_path="new/b", content="x")
        assert (place / "a").read_text() == "two\n"
        assert (root / "a").read_text() == "one\n"
        assert "1\ttwo" in await call("Read", file_path="a")
        assert "1\tone" in await call("Read", file_path=str(root / "a"))
        assert await call("Glob", pattern="**/b") == "new/b"
        assert "a:1:two" in await call("Grep", pattern="two")
        assert git(root, "status", "--porcelain") == ""
        told = await call(
            "Bash", command="git add . && git -c user.name=T -c user.email=t@e commit -qm x"
        )
        assert told == "[exit code 0]"
        left = await call("ExitWorktree", remove=True)
        assert left.endswith("The worktree .worktrees/fix-it is removed; its branch stays.")
        assert not place.exists()
        assert git(root, "show", "fix/it:a") == "two"
        assert (await call("Bash", command="pwd")).startswith(f"{root}\n")
        assert "1\tone" in await call("Read", file_path="a")

    calling(root, main)


@pytest.mark.parametrize(
    "change",
    ["echo x >> a", "touch new", "touch made.tmp", "git rm -q a", "echo x >> a; git add a"],
)
def test_what_is_not_committed_is_never_removed(root: Path, change: str) -> None:
    async def main(call: Calls) -> None:
        await call("EnterWorktree", branch="b")
        await call("Bash", command=change)
        told = await call("ExitWorktree", remove=True)
        assert call.failed
        assert "it is not removed, for it holds what is not committed" in told
        assert (root / ".worktrees/b/.gitignore").exists()
        assert (await call("Bash", command="pwd")).startswith(f"{root}/.worktrees/b\n")
        stays = await call("ExitWorktree")
        assert stays == "Calls begin in the workspace again. The worktree .worktrees/b stays."

    calling(root, main)


def test_a_commit_that_no_branch_has_is_not_lost(root: Path) -> None:
    async def main(call: Calls) -> None:
        await call("EnterWorktree", branch="b")
        git(root / ".worktrees/b", "checkout", "-q", "--detach")
        (root / ".worktrees/b/a").write_text("two\n")
        git(root / ".worktrees/b", "commit", "-qam", "lost?")
        assert "no branch has its last commit" in await call("ExitWorktree", remove=True)
        git(root / ".worktrees/b", "branch", "kept")
        assert "is removed" in await call("ExitWorktree", remove=True)

    calling(root, main)


def test_they_are_a_stack(root: Path) -> None:
    async def main(call: Calls) -> None:
        await call("EnterWorktree", branch="one")
        await call("EnterWorktree", branch="two", path="sub/two", base="main")
        assert f"{root}/sub/two\n" in await call("Bash", command="pwd")
        assert (await call("ExitWorktree")).startswith("Calls begin in .worktrees/one again.")
        assert f"{root}/.worktrees/one\n" in await call("Bash", command="pwd")
        await call("ExitWorktree", remove=True)
        assert await call("ExitWorktree") == "no worktree was entered"

    calling(root, main)


def test_one_that_is_there_is_entered_again(root: Path) -> None:
    async def main(call: Calls) -> None:
        await call("EnterWorktree", branch="fix/it")
        await call("ExitWorktree")
        again = await call("EnterWorktree", branch="fix/it")
        assert "which was there already" in again
        await call("ExitWorktree")
        other = await call("EnterWorktree", branch="other", path=".worktrees/fix-it")
        assert "is there already, and no worktree on the branch other" in other

    calling(root, main)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"branch": "a..b"}, "git check-ref-format: no such name"),
        ({"branch": "-x"}, "'-x' is not a valid name for a branch"),
        ({"branch": "@{-1}"}, "git check-ref-format: no such name"),
        ({"branch": "b", "path": "../out"}, "cannot be a worktree's folder"),
        ({"branch": "b", "path": "/tmp/out"}, "cannot be a worktree's folder"),
        ({"branch": "b", "path": ".git/x"}, "cannot be a worktree's folder"),
        ({"branch": "b", "path": "x/./y"}, "cannot be a worktree's folder"),
        ({"branch": "b", "path": "away/x"}, "outside the permitted folders"),
        ({"branch": "b", "path": "inside/x"}, "leads elsewhere"),
        ({"branch": "b", "path": "full"}, "full is there already"),
        ({"branch": "b", "base": "--output=x"}, "there is no such commit"),
        ({"branch": "b", "base": "none"}, "there is no such commit"),
        ({"branch": "old", "base": "main"}, "the branch 'old' is there already: give no base"),
        ({"branch": "main"}, "git worktree: fatal: 'main' is already checked out"),
    ],
    ids=range(14),
)
def test_what_cannot_be(root: Path, arguments: dict[str, str], told: str) -> None:
    (root / "away").symlink_to(root.parent)
    (root / "inside").symlink_to(".")
    (root / "full").mkdir()
    git(root, "branch", "old")
    before = sorted(os.listdir(root.parent))

    async def main(call: Calls) -> None:
        assert told in await call("EnterWorktree", **arguments)
        assert call.failed
        assert (await call("Bash", command="pwd")).startswith(f"{root}\n")

    calling(root, main)
    assert sorted(os.listdir(root.parent)) == before


def test_hooks_of_the_repository_are_not_run(root: Path) -> None:
    hook = root / ".git/hooks/post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {root}/ran\n")
    hook.chmod(0o755)

    async def main(call: Calls) -> None:
        assert await call("EnterWorktree", branch="fix/it") == ENTERED

    calling(root, main)
    assert not (root / "ran").exists()


def test_one_that_was_swapped_is_not_worked_in(root: Path) -> None:
    async def main(call: Calls) -> None:
        await call("EnterWorktree", branch="b")
        place = root / ".worktrees/b"
        place.rename(root / "moved")
        place.symlink_to("/etc")
        for name, arguments in (
            ("Bash", {"command": "ls"}),
            ("Read", {"file_path": "passwd"}),
            ("Glob", {"pattern": "*"}),
        ):
            told = await call(name, **arguments)
            assert "the worktree .worktrees/b no longer exists: call ExitWorktree" in told
        assert "outside the permitted" in await call("ExitWorktree", remove=True)
        await call("ExitWorktree")
        assert (await call("Bash", command="pwd")).startswith(f"{root}\n")

    calling(root, main)


def test_rules_see_where_paths_lead(root: Path) -> None:
    rules = [
        "EnterWorktree",
        "Write(a)",
        "Bash",
        Rule.parse("Write(./.worktrees/b/open/**)", pattern=True),
    ]

    async def main(call: Calls) -> None:
        await call("EnterWorktree", branch="b")
        assert "exec.tool.access_denied" in await call("Write", file_path="a", content="x")
        assert "Created" in await call("Write", file_path="open/c", content="x")
        assert "exec.tool.access_denied" in await call("Bash", command="echo x > /etc/made")

    calling(root, main, granted=False, rules=rules)


def test_what_a_command_opens_is_decided_where_it_begins(root: Path) -> None:
    deny = Rule.parse("Write(./.worktrees/b/secret)", pattern=True, action=Action.DENY)

    async def main(call: Calls) -> None:
        assert "[exit code 0]" in await call("Bash", command="echo x > secret")
        await call("EnterWorktree", branch="b")
        assert "exec.tool.access_denied" in await call("Bash", command="echo x > secret")
        assert not (root / ".worktrees/b/secret").exists()

    calling(root, main, granted=False, rules=["Bash", "Write", "EnterWorktree", deny])


def test_who_is_asked_is_told_where_a_command_begins(root: Path) -> None:
    told: list[tuple[str, str]] = []

    class Person:
        async def approve(self, tool: str, summary: str, reason: str) -> bool:
            told.append((tool, reason.partition("; in ")[2]))
            return True

    async def main(call: Calls) -> None:
        await call("Bash", command="ls")
        await call("EnterWorktree", branch="b")
        await call("Bash", command="ls")
        await call("Write", file_path="c", content="")

    calling(root, main, granted=False, approver=Person())
    folder = ".worktrees/b"
    assert told == [("Bash", ""), ("EnterWorktree", ""), ("Bash", folder), ("Write", "")]


def test_spilled_results_stay_in_the_workspace(root: Path) -> None:
    async def main(call: Calls) -> None:
        await call("EnterWorktree", branch="b")
        told = await call("Bash", command="seq 400000")
        assert f" is in {root}/.lorimer/results/" in told
        assert "is removed" in await call("ExitWorktree", remove=True)

    calling(root, main)


def test_a_resumed_run_is_where_it_was_and_so_is_the_next(root: Path) -> None:
    needs("L2")
    enter = ToolUse("c1", "EnterWorktree", {"branch": "b"})
    where = ToolUse("c2", "Bash", {"command": "pwd"})
    leave = ToolUse("c3", "ExitWorktree", {})

    async def main() -> None:
        model = ScriptedModel([[enter], [where], "done", [where], [leave], [where], "done"])
        agent = PipelinePresets.agent(
            built_in=("worktree", "Bash"),
            workspace=root,
            rules=["EnterWorktree", "ExitWorktree", "Bash"],
            model="scripted:m",
            models=Models(providers={"scripted": model}),
        )
        told: list[Any] = []
        agent.hook("CwdChanged", name="cd")(lambda payload: told.append(payload["folder"]))
        first = await agent.run("go")
        assert told == [".worktrees/b"]
        assert first.steps[1].content == f"{root}/.worktrees/b\n[exit code 0]"
        second = await agent.run("on")
        assert [str(step.content).split("\n")[0] for step in second.steps] == [
            f"{root}/.worktrees/b",
            "Calls begin in the workspace again. The worktree .worktrees/b stays.",
            str(root),
        ]
        assert told == [".worktrees/b", ""]

    run(main)


TOP = "the workspace is not the top folder of a git repository."


def test_outside_of_a_repository(tmp_path: Path) -> None:
    async def main(call: Calls) -> None:
        assert TOP in await call("EnterWorktree", branch="b")

    calling(tmp_path, main)


def test_outside_of_a_repository_where_git_speaks_another_language(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git = tmp_path / "bin" / "git"
    git.parent.mkdir()
    git.write_text(
        f'#!/bin/sh\n[ "$LC_ALL" = C ] && exec {shutil.which("git")} "$@"\n'
        "echo fatal: Kein Git-Repository >&2; exit 128\n"
    )
    git.chmod(0o755)
    monkeypatch.setenv("PATH", f"{git.parent}:{os.environ['PATH']}")

    async def main(call: Calls) -> None:
        assert TOP in await call("EnterWorktree", branch="b")

    calling(tmp_path, main, sandbox="off")


def test_a_worktree_whose_repository_cannot_be_seen_says_so(tmp_path: Path) -> None:
    (tmp_path / ".git").write_text("gitdir: /srv/no/such/.git/worktrees/one\n")

    async def main(call: Calls) -> None:
        told = await call("EnterWorktree", branch="b")
        assert "its repository is not there, or commands cannot see it" in told
        assert "/srv/no/such/.git/worktrees/one" in told

    calling(tmp_path, main)


def test_a_repository_without_a_commit(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)

    async def main(call: Calls) -> None:
        assert "the repository has none yet" in await call("EnterWorktree", branch="b")

    calling(tmp_path, main)


@pytest.mark.parametrize("sandbox", ["off", "auto"])
def test_beneath_the_top_of_a_repository(root: Path, sandbox: str) -> None:
    (root / "sub").mkdir()

    async def main(call: Calls) -> None:
        assert TOP in await call("EnterWorktree", branch="b")

    calling(root / "sub", main, sandbox=sandbox)
