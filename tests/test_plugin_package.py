"""The example of a plug-in is built, installed into a fresh environment, and used there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLUGIN = ROOT / "examples" / "plugin"

USE = """
import asyncio, json
from lorimer import EnvironmentManifest, Pipeline, PipelinePresets
from lorimer.models import Models, ScriptedModel
from lorimer.presets import preset_names

heard = []
async def speak(sentence): heard.append(sentence)
faces = []
model = ScriptedModel(["Wow, **that** is amazing! Thank you.\\n```py\\nx = 1\\n```", "Hm. Maybe."])
agent = PipelinePresets.geny_vtuber(
    model="scripted:m",
    models=Models(providers={"scripted": model}),
    bindings={"avatar": faces.append, "voice": speak},
)
signals = []
agent.on("vtuber.emotion", lambda event: signals.append(event.data["emotion"]))

async def main():
    first = await agent.run("Hello!")
    kept = len(heard)
    assert (await agent.replay(first.run_id)).divergence is None
    assert len(heard) == kept, "a replay calls nobody"
    manifest = EnvironmentManifest.from_dict(agent.manifest.to_dict())
    manifest.stages["system"].strategies["builder"] = "dynamic_persona"
    manifest.stages["system"].strategy_configs["builder"] = {
        "personas": {"a": {"name": "Ann"}, "b": {"name": "Bob"}}, "default": "b",
    }
    manifest.stages["emit"].strategy_configs["emitters"] = {}
    other = Pipeline(manifest, models=Models(providers={"scripted": model}))
    other.on("tts.sentence", lambda event: signals.append(event.data["text"]))
    await other.run("And?")

asyncio.run(main())
print(json.dumps({
    "presets": [name for name in preset_names() if "vtuber" in name],
    "stages": len(agent.plan.stages),
    "prompts": [request.system.split("\\n")[0] for request in model.requests],
    "faces": [face["emotion"] for face in faces],
    "heard": heard,
    "signals": signals,
}))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment with the package; of this one it has only what
    Lorimer needs, and Lorimer."""
    if find_spec("hatchling") is None:
        pytest.skip("hatchling, a dev requirement that builds the package, is not installed")
    place = tmp_path_factory.mktemp("plugin")
    shutil.copytree(PLUGIN, place / "source", ignore=shutil.ignore_patterns("__pycache__"))
    (place / "dist").mkdir()
    build = f"import hatchling.build as b; print(b.build_wheel({str(place / 'dist')!r}))"
    made = _run([sys.executable, "-c", build], cwd=place / "source").splitlines()[-1]
    venv.create(place / "env", with_pip=False, symlinks=True)
    fresh = place / "env" / "bin" / "python"
    uv, wheel = Path(sys.executable).parent / "uv", str(place / "dist" / made)
    if uv.exists():
        install = [str(uv), "pip", "install", "--offline", "--no-deps", "--python", str(fresh)]
    else:
        install = [sys.executable, "-m", "pip", "--python", str(fresh), "install"]
        install += ["--no-index", "--no-deps", "--disable-pip-version-check"]
    _run([*install, wheel])
    site = next((place / "env" / "lib").glob("python*/site-packages"))
    paths = [str(ROOT / "src"), sysconfig.get_paths()["purelib"]]
    (site / "lorimer_and_what_it_needs.pth").write_text("\n".join(paths))
    return fresh


def _run(words: list[str], cwd: Path | None = None) -> str:
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        words, cwd=cwd, env=clean, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_preset_that_it_offers_runs(python: Path, tmp_path: Path) -> None:
    told = json.loads(_run([str(python), "-W", "error", "-c", USE], cwd=tmp_path))
    assert told["presets"] == ["geny_vtuber"]
    assert told["prompts"] == [
        "You are Geny. You stream live, and talk with your audience.",
        "You are Bob.",
    ]
    assert told["faces"] == ["excited"]
    assert told["heard"] == ["Wow, that is amazing!", "Thank you."]
    assert told["signals"] == ["excited", "Hm.", "Maybe."]


def test_the_command_line_knows_it(python: Path, tmp_path: Path) -> None:
    words = [str(python), "-m", "lorimer", "manifest", "explain", "geny_vtuber"]
    told = _run(words, cwd=tmp_path)
    assert "A persona, then the configured prompt." in told
    assert "signals vtuber.emotion" in told
