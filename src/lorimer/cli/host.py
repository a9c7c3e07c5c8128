"""The host file of the command line: this machine's settings for models."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from lorimer.cli.fail import Fault
from lorimer.cli.places import config_directory, expanded

if TYPE_CHECKING:
    from lorimer.models.hostfile import Host

VARIABLE: Final = "LORIMER_MODELS"

models_option = click.option(
    "--models",
    metavar="FILE",
    help="The model settings of this machine: tiers, aliases, providers, prices. Default:"
    f" ${VARIABLE}, else lorimer/models.toml in the user's configuration directory.",
)


def host_path(given: str | None) -> Path | None:
    """The path in `--models`, else in LORIMER_MODELS, else the default path if that file exists.
    Raises Fault if a file that was named does not exist."""
    named = given or os.environ.get(VARIABLE)
    if not named:
        usual = config_directory() / "models.toml"
        return usual if usual.is_file() else None
    path = expanded(named)
    if not os.path.isfile(path):
        what = "is not a file" if os.path.exists(path) else "does not exist"
        raise Fault(
            f"the host file {path} {what}",
            hint=f"It was named by {'--models' if given else VARIABLE}.",
        )
    return path


def read(given: str | None) -> Host:
    """Read the host file; empty settings if there is none. Raises ConfigError naming every error in
    it, and Fault."""
    from lorimer.models.hostfile import Host, read_host

    path = host_path(given)
    return Host() if path is None else read_host(path)
