"""What the pages show runs: Python, shell lines, manifests; and their links lead somewhere."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import click
import pytest
import yaml

from lorimer.cli.app import lorimer
from lorimer.cli.policy_files import shipped
from lorimer.core.compile import check_document
from lorimer.environment.settings import Source as Settings
from lorimer.environment.settings import layer_of
from lorimer.models.hostfile import host_of
from lorimer.stages.catalogue import catalogue
from lorimer.testing import FakeLLMServer
from lorimer.testing.fake_turn import SeenRequest, Turn
from lorimer.testing.faults import Hang
from lorimer.tools.policy.sources import Source
from lorimer.tools.rule_files.reading import check, read
from tests.docs.pages import PAGES, README, ROOT, Block, Page, doc
from tests.docs.provider import answer, provider
from tests.docs.running import Program, bash, expected_output, folder, prints_what_it_says

DOCUMENTS = {"yaml": yaml.safe_load, "json": json.loads, "toml": tomllib.loads}
"""Languages in which pages show manifests, and the host file `models.toml`."""

KNOWN = {"python", "bash", "text", *DOCUMENTS}

SET_UP = ("make", "pip", "git", "cd")
"""Commands that a page may show without a test running them."""

MOST_NOT_RUN = 3
MOST_LINES_OF_README = 170

_KEYS = (
    *("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL", "LORIMER_OPENAI_API"),
    *("GEMINI_API_KEY", "GOOGLE_API_KEY", "LORIMER_STORE"),
)


def blocks(*languages: str) -> list[Block]:
    return [b for page in PAGES for b in page.blocks if b.language in languages]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeLLMServer]:
    """A provider, and the environment of somebody who has set a key."""
    for name in _KEYS:
        monkeypatch.delenv(name, raising=False)
    with provider() as running:
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-of-nobody")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", running.url)
        yield running


@pytest.mark.parametrize(
    "page",
    [p for p in PAGES if any(b.language == "python" for b in p.blocks)],
    ids=lambda p: p.name,
)
def test_python_runs_and_prints_what_it_says(
    page: Page, server: FakeLLMServer, tmp_path: Path
) -> None:
    program = Program(page.name)
    try:
        with folder(tmp_path, page.blocks):
            for block in page.blocks:
                if block.language == "python" and not block.not_run:
                    printed = program.run(block)
                    assert prints_what_it_says(block, printed), (
                        f"{block.where} says it prints {expected_output(block.text)}, "
                        f"but it prints {printed.splitlines()}"
                    )
    finally:
        program.close()


@pytest.mark.parametrize(
    "block", [b for b in blocks("bash") if not b.not_run], ids=lambda b: b.where
)
def test_shell_lines_run(block: Block, server: FakeLLMServer, tmp_path: Path) -> None:
    page = next(page for page in PAGES if page.name == block.page)
    (tmp_path / "notes.md").write_text("Buy milk.\n")
    with folder(tmp_path, page.blocks):
        env = {name: os.environ[name] for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL")}
        done = bash(block.text, cwd=tmp_path, env=env)
    assert done.returncode == 0, f"{block.where}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("page", "line"),
    [
        (page.name, line)
        for page in PAGES
        for line in re.findall(r"`(lorimer [^`]+)`", page.prose.replace("\n", " "))
    ],
)
def test_commands_in_the_text_exist(page: str, line: str) -> None:
    """`lorimer runs resume ID`: its words are commands, its flags are theirs."""
    command: click.Command = lorimer
    context = click.Context(command)
    for word in line.split()[1:]:
        flags = {flag for parameter in command.get_params(context) for flag in parameter.opts}
        if word.startswith("-"):
            assert word in flags, f"{page}: `{line}`: there is no {word}"
        elif isinstance(command, click.Group):
            found = command.get_command(context, word)
            assert found is not None, f"{page}: `{line}`: there is no command {word}"
            command = found


@pytest.mark.parametrize("block", blocks(*DOCUMENTS), ids=lambda b: b.where)
def test_manifests_are_valid(block: Block) -> None:
    if block.file == "models.toml":
        host_of(tomllib.loads(block.text))
        return
    if block.file == "settings.toml":
        assert layer_of(tomllib.loads(block.text), Settings.USER, block.where).values
        return
    if block.file == "permissions.toml":
        said = read(block.text, block.where, Source.USER, shipped)
        assert said.rules or said.hooks
        check(said.rules, shipped, block.where)
        return
    assert check_document(DOCUMENTS[block.language](block.text), catalogue()) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Page) -> None:
    known = {other.path.resolve(): other for other in PAGES}
    for target in page.links:
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.path.parent / path).resolve() if path else page.path.resolve()
        assert file.exists(), f"{page.name} links to {target}, which is not there"
        if anchor and file in known:
            assert anchor in known[file].anchors, f"{page.name} links to {target}: no such heading"


def test_no_block_escapes() -> None:
    """Every block has a language that a test knows, and few are not run."""
    for page in PAGES:
        for block in page.blocks:
            assert block.language in KNOWN, (
                f"{block.where}: ```{block.language} is tested by nobody"
            )
    not_run = [block for page in PAGES for block in page.blocks if block.not_run]
    assert len(not_run) <= MOST_NOT_RUN
    for block in not_run:
        for line in block.text.splitlines():
            command = line.partition("#")[0].split()
            assert not command or command[0] in SET_UP, f"{block.where}: {line!r} could be run"


def _linked(page: Page) -> set[Path]:
    return {(page.path.parent / target.partition("#")[0]).resolve() for target in page.links}


def test_every_page_is_found_from_the_readme_and_in_the_index() -> None:
    index = doc("README.md")
    for page in PAGES:
        path = page.path.resolve()
        assert page is README or path in _linked(README), f"README does not link {page.name}"
        if path.parent == ROOT / "docs" and page is not index:
            assert path in _linked(index), f"docs/README.md does not link {page.name}"


def test_the_readme_stays_short() -> None:
    assert len(README.text.splitlines()) <= MOST_LINES_OF_README


def test_the_readmes_durable_program_survives_kill_9(tmp_path: Path) -> None:
    """Killed while it waits for the second answer, started again: nothing is asked twice."""

    def play(request: SeenRequest) -> Turn:
        return Turn("Late.", faults=(Hang(),)) if request.number == 2 else answer(request)

    with FakeLLMServer(play) as server:
        start = partial(
            subprocess.Popen,
            [
                sys.executable,
                "-W",
                "error",
                "-m",
                "tests.docs.running",
                "README.md",
                "SQLiteJournal(",
            ],
            cwd=tmp_path,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
                "ANTHROPIC_API_KEY": "sk-ant-of-nobody",
                "ANTHROPIC_BASE_URL": server.url,
            },
            stdout=subprocess.PIPE,
            text=True,
        )
        with start() as first:
            server.wait_until(lambda server: len(server.requests) == 2, timeout_s=30)
            first.kill()
        assert first.returncode == -signal.SIGKILL
        with start() as second:
            out, _ = second.communicate(timeout=60)
        assert out == "ok sent to ann@example.org\n"
        asked = [request.body["messages"] for request in server.requests]
        assert len(asked) == 3
        assert asked[2] == asked[1]


def test_a_false_output_is_noticed() -> None:
    block = Block("x", 1, "python", 'print("a 1")\n#> a ...\n')
    assert prints_what_it_says(block, "a 1\n")
    assert not prints_what_it_says(block, "b 1\n")
    assert not prints_what_it_says(block, "a 1\na 2\n")
