"""Files of the host's own that are written line by line."""

from __future__ import annotations

import sys

import pytest

from lorimer.core.errors import ConfigError
from lorimer.world.plainfiles import Lines

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/dev/full")


def test_a_line_that_finds_no_room_is_told_with_the_file() -> None:
    with (
        pytest.raises(ConfigError, match="^/dev/full cannot be written: No space"),
        Lines("/dev/full") as lines,
    ):
        lines.write("one")


def test_the_error_that_was_there_first_is_told() -> None:
    lines = Lines("/dev/full")
    with pytest.raises(ConfigError):
        lines.write("one")
    with pytest.raises(KeyError), lines:  # closing it tries that line once more
        raise KeyError


def test_what_is_found_out_at_the_end_is_told_too() -> None:
    lines = Lines("/dev/full")
    with pytest.raises(ConfigError):
        lines.write("one")
    with pytest.raises(ConfigError, match="/dev/full cannot be written"), lines:
        pass
