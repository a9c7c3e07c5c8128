"""A package that is installed for one test: its module, and the entry points that it declares."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest


def install(
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    code: str,
    offers: Mapping[str, Mapping[str, str]],
    *,
    version: str = "1.2",
) -> None:
    """Module and metadata in `place`, as an installer would leave them. `offers` maps a group to
    names and what they stand for, `:Class` in the package's own module."""
    module = name.replace("-", "_")
    (place / f"{module}.py").write_text(code)
    info = place / f"{module}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines: list[str] = []
    for group, names in offers.items():
        lines.append(f"[{group}]")
        lines += [
            f"{each} = {module if target.startswith(':') else ''}{target}"
            for each, target in names.items()
        ]
    (info / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.delitem(sys.modules, module, raising=False)
