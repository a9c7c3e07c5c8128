"""Row 11: what a fresh base install puts on the disk."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks.scale import Figures, NotHere, Scale

ROOT: Final = Path(__file__).parent.parent.parent
LOCK: Final = ROOT / "requirements" / "dev.txt"
INSTALLERS: Final = ("pip", "setuptools", "_virtualenv", "_distutils_hack", "distutils-precedence")


async def fresh_install(scale: Scale) -> Figures:
    """Build the wheel, install it with the locked versions into a new virtual environment, count.
    Downloads what is not in uv's cache."""
    uv = _uv()
    with TemporaryDirectory(prefix="lorimer-bench-") as folder:
        _call(*uv, "build", "--wheel", "--out-dir", folder, str(ROOT))
        wheel = next(Path(folder).glob("*.whl"))
        python = Path(folder, "venv", "bin", "python")
        _call(*uv, "venv", "--python", sys.executable, str(python.parent.parent))
        pins = Path(folder, "pins.txt")
        # The lock names hashes too, and constraints with hashes would ask for one of the wheel.
        pins.write_text("\n".join(_pins(LOCK.read_text(encoding="utf-8"))), encoding="utf-8")
        _call(*uv, "pip", "install", "--python", str(python), "--constraint", str(pins), str(wheel))
        places = list(Path(folder, "venv").glob("lib/*/site-packages"))
        files = [file for place in places for file in _counted(place)]
        packages = {file.parent for file in files if file.parent.suffix == ".dist-info"}
        return {
            "packages": float(len(packages)),
            "mb": sum(file.stat().st_size for file in files) / 1e6,
        }


def _uv() -> tuple[str, ...]:
    if find_spec("uv") is not None:
        return (sys.executable, "-m", "uv")
    found = shutil.which("uv")
    if found is None:
        raise NotHere("needs uv")
    return (found,)


def _call(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")


def _pins(lock: str) -> Iterator[str]:
    for line in lock.splitlines():
        found = re.match(r"[A-Za-z0-9._-]+==[^\\]+", line)
        if found is not None:
            yield found[0].strip()


def _counted(place: Path) -> Iterator[Path]:
    for file in place.rglob("*"):
        first = file.relative_to(place).parts[0]
        ours = not first.startswith(INSTALLERS) and "__pycache__" not in file.parts
        if ours and file.is_file():
            yield file
