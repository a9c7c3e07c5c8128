"""The user's directories for settings and data, by the conventions of the system."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from lorimer.cli.fail import Fault


def config_directory() -> Path:
    """The user's directory for Lorimer's settings. Raises Fault if there is no home directory."""
    return _directory("APPDATA", "AppData/Roaming", "XDG_CONFIG_HOME", ".config")


def data_directory() -> Path:
    """The user's directory for Lorimer's data. Raises Fault if there is no home directory."""
    return _directory("LOCALAPPDATA", "AppData/Local", "XDG_DATA_HOME", ".local/share")


def expanded(named: str) -> Path:
    """A path given by a person, with `~` replaced by the home directory if there is one."""
    return Path(os.path.expanduser(named))  # Path's own raises where there is none


def _directory(windows: str, windows_usual: str, xdg: str, xdg_usual: str) -> Path:
    """Lorimer's directory in the one that the variable names, else in the usual one of the home
    directory. Raises Fault if there is neither."""
    if sys.platform == "darwin":
        base = str(_home(xdg) / "Library" / "Application Support")
    elif sys.platform == "win32":
        base = os.environ.get(windows) or str(_home(windows) / windows_usual)
    else:
        # the specification says that a relative path in the variable is to be ignored
        given = os.environ.get(xdg, "")
        base = given if os.path.isabs(given) else str(_home(xdg) / xdg_usual)
    return Path(base) / "lorimer"


def _home(variable: str) -> Path:
    try:
        return Path.home()
    except RuntimeError:  # a user that is unknown to the system, as in some containers
        raise Fault(
            "this user has no home directory", hint=f"Set HOME, or {variable}, to a folder."
        ) from None
