"""A folder of manifests: by name, whole or not at all, and nothing outside of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lorimer import ConfigError
from lorimer.environment.manager import EnvironmentManager
from lorimer.presets import preset_manifest
from tests.environment.test_import import FIXTURES


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[EnvironmentManager]:
    with EnvironmentManager(tmp_path / "envs") as manager:
        yield manager


def test_what_is_saved_is_listed_loaded_and_deleted(folder: EnvironmentManager) -> None:
    manifest = preset_manifest("chat")
    manifest.metadata.tags = ["talk"]
    assert folder.save(manifest) == "chat"
    assert folder.save(manifest, "other") == "other"
    assert folder.load("chat") == manifest
    assert [(each.name, each.tags, each.digest) for each in folder.list_all()] == [
        ("chat", ("talk",), manifest.digest),
        ("other", ("talk",), manifest.digest),
    ]
    folder.delete("chat")
    assert [each.name for each in folder.list_all()] == ["other"]
    with pytest.raises(ConfigError, match="there is no manifest 'chat'"):
        folder.load("chat")
    with pytest.raises(ConfigError, match="there is no manifest 'othr'; did you mean 'other'"):
        folder.delete("othr")


def test_one_is_replaced_duplicated_and_compared(folder: EnvironmentManager) -> None:
    manifest = preset_manifest("chat")
    folder.save(manifest)
    with pytest.raises(ConfigError, match="there is a manifest 'chat' already"):
        folder.save(manifest, replace=False)
    assert folder.duplicate("chat", "second") == "second"
    with pytest.raises(ConfigError, match="already"):
        folder.duplicate("chat", "second")
    assert folder.diff("chat", "second") == []
    manifest.stages["api"].strategies["retry"] = "no_retry"
    folder.save(manifest, "second")
    [change] = folder.diff("chat", "second")
    assert change.path == "stages[6].strategies.retry"


def test_files_come_and_go_in_every_kind(folder: EnvironmentManager, tmp_path: Path) -> None:
    folder.save(preset_manifest("agent"))
    folder.export("agent", tmp_path / "out.toml")
    assert folder.import_file(tmp_path / "out.toml").notes == ()
    assert folder.load("out") == preset_manifest("agent")
    found = folder.import_file(FIXTURES / "geny-3.0.json", "researcher")
    assert found.notes
    assert folder.load("researcher").metadata.name == "researcher"
    assert folder.variables("researcher") == ["CITY"]
    assert folder.variables("agent") == []
    preset_manifest("chat").save(folder.folder / "mine.yaml")  # one of the person's own
    changed = folder.load("mine")
    changed.metadata.author = "me"
    folder.save(changed, "mine")
    assert not (folder.folder / "mine.json").exists()
    assert folder.load("mine").metadata.author == "me"


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "a/b", "/etc/passwd", "a.json", "a b", "-x", "x" * 65, "ä", "a\0"],
)
def test_a_name_leads_nowhere_else(folder: EnvironmentManager, tmp_path: Path, name: str) -> None:
    preset_manifest("chat").save(tmp_path / "x.json")
    folder.save(preset_manifest("chat"))
    for call in (
        lambda: folder.load(name),
        lambda: folder.delete(name),
        lambda: folder.duplicate("chat", name),
        lambda: folder.export(name, tmp_path / "y.json"),
        lambda: folder.import_file(tmp_path / "x.json", name or "../x"),
        lambda: folder.save(preset_manifest("chat"), name or ".."),
    ):
        with pytest.raises(ConfigError, match="is not a valid name for a manifest"):
            call()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["envs", "x.json"]


def test_a_link_that_leads_out_is_not_followed(folder: EnvironmentManager, tmp_path: Path) -> None:
    preset_manifest("chat").save(tmp_path / "secret.json")
    os.symlink(tmp_path / "secret.json", folder.folder / "link.json")
    with pytest.raises(ConfigError, match=r"link\.json: is not a file of this folder"):
        folder.load("link")
    os.mkfifo(folder.folder / "pipe.json")
    assert [each.name for each in folder.list_all() if each.fault] == ["link"]


def test_a_broken_one_is_told_in_the_list_and_not_loaded(folder: EnvironmentManager) -> None:
    (folder.folder / "bad.yaml").write_text("version: '1'\nstages: []\n")
    (folder.folder / "worse.json").write_bytes(b"\xff")
    (folder.folder / "notes.txt").write_text("no manifest")
    assert [(each.name, each.fault.partition(":")[0]) for each in folder.list_all()] == [
        ("bad", "The manifest has 4 errors"),
        ("worse", "worse.json"),
    ]
    with pytest.raises(ConfigError, match="'input' is missing"):
        folder.load("bad")
    broken = preset_manifest("chat")
    broken.stages["api"].strategies["retry"] = "nonesuch"
    with pytest.raises(ConfigError, match="nonesuch"):
        folder.save(broken)


def test_a_save_that_fails_leaves_what_was_there(
    folder: EnvironmentManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.save(preset_manifest("chat"))

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    other = preset_manifest("chat")
    other.metadata.author = "me"
    with pytest.raises(OSError, match="No space"):
        folder.save(other)
    assert folder.load("chat") == preset_manifest("chat")
    assert [path.name for path in folder.folder.iterdir()] == ["chat.json"]
