"""Who is compared, with which setting, and in which environment."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Contender:
    """One column of the table.

    environment: the folder of its own environment, beneath that of all of them; "": this one.
    packages: whose versions are told.
    """

    name: str
    setting: str
    module: str
    variant: str
    environment: str
    packages: tuple[str, ...]

    def command(self, environments: Path, folder: Path, turns: int, pause_s: float) -> list[str]:
        """What starts its agent, and starts it again."""
        module = f"benchmarks.killed.{self.module}"
        python = str(self._python(environments))
        return [python, "-m", module, str(folder), self.variant, str(turns), str(pause_s)]

    def missing(self, environments: Path) -> bool:
        """Its environment is not there."""
        return not self._python(environments).exists()

    def versions(self, environments: Path) -> str:
        """`name version, ...` of what is installed for it; Lorimer is as it is here."""
        code = (
            "import platform, sys; from importlib.metadata import version;"
            "names = [f'{name} {version(name)}' for name in sys.argv[1:]];"
            "print(', '.join([*names, f'Python {platform.python_version()}']))"
        )
        command = [str(self._python(environments)), "-c", code, *self.packages]
        told = subprocess.run(command, env=self.environ(), check=True, capture_output=True)
        return told.stdout.decode().strip()

    def environ(self) -> dict[str, str]:
        """Nothing of whoever started the comparison that could switch on a service."""
        kept = ("PATH", "HOME", "LANG", "TMPDIR")
        paths = [str(ROOT)]
        if not self.environment:
            paths += filter(None, [os.environ.get("PYTHONPATH")])
        environ = {name: os.environ[name] for name in kept if name in os.environ}
        return environ | {"PYTHONPATH": os.pathsep.join(paths)}

    def _python(self, environments: Path) -> Path:
        if not self.environment:
            return Path(sys.executable)
        return environments.resolve() / self.environment / "bin" / "python"


_LORIMER: Final = ("Lorimer", "on_lorimer", "", ("apsw",))
_LANGGRAPH: Final = (
    "langgraph",
    "on_langgraph",
    "langgraph",
    ("langgraph", "langgraph-checkpoint-sqlite"),
)
_PYDANTIC_AI: Final = (
    "pydantic-ai",
    "on_pydantic_ai",
    "pydantic-ai",
    ("pydantic-ai-slim", "dbos"),
)


def _contender(of: tuple[str, str, str, tuple[str, ...]], variant: str, setting: str) -> Contender:
    name, module, environment, packages = of
    return Contender(name, setting, module, variant, environment, packages)


CONTENDERS: Final[Sequence[Contender]] = (
    _contender(_LORIMER, "unsafe", "unsafe tool"),
    _contender(_LORIMER, "idempotent", "idempotent tool"),
    _contender(_LANGGRAPH, "sync", "SQLite, sync"),
    _contender(_LANGGRAPH, "async", "SQLite, async"),
    _contender(_PYDANTIC_AI, "dbos", "DBOS, SQLite"),
)
