"""Files of the host's own that are written line by line."""

from __future__ import annotations

import sys

import pytest

from lorimer.world.plainfiles import Lines


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full")
def test_a_line_that_finds_no_room_is_told_with_the_file() -> None:
    lines = Lines("/dev/full")
    assert not lines.lost
    for line in ("one", "two"):
        lines.write(line)
        assert lines.lost.startswith("/dev/full cannot be written: No space")
    lines.close()
    lines.close()
