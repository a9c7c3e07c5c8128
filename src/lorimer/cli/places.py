"""Where the command line keeps what is the user's own, by the custom of the system."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def config_directory() -> Path:
    """The user's own directory for settings of programs."""
    return _directory("APPDATA", "AppData/Roaming", "XDG_CONFIG_HOME", ".config")


def data_directory() -> Path:
    """The user's own directory for data of programs."""
    return _directory("LOCALAPPDATA", "AppData/Local", "XDG_DATA_HOME", ".local/share")


def _directory(windows: str, windows_usual: str, xdg: str, xdg_usual: str) -> Path:
    """Ours in the directory that a variable names, or in the usual one of the home directory."""
    if sys.platform == "darwin":
        base = str(Path.home() / "Library" / "Application Support")
    elif sys.platform == "win32":
        base = os.environ.get(windows) or str(Path.home() / windows_usual)
    else:
        # the specification says that a relative path in the variable is to be ignored
        given = os.environ.get(xdg, "")
        base = given if os.path.isabs(given) else str(Path.home() / xdg_usual)
    return Path(base) / "lorimer"
