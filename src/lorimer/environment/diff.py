"""The differences of two manifests: in their meaning, not in how they are written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final, Literal

from lorimer.core.catalogue import Catalogue
from lorimer.core.jsonable import JSON, dumps
from lorimer.core.manifest import EnvironmentManifest
from lorimer.core.record import record
from lorimer.environment.values import values, written
from lorimer.stages.catalogue import catalogue as shipped

_STAGE: Final = re.compile(r"stages\[[^\]]*\]")


@record
class Change:
    """One difference. `before` is None if it was added, `after` if it was removed."""

    path: str
    kind: Literal["added", "removed", "changed"]
    before: JSON
    after: JSON
    stage: str = ""
    """The name of its stage; "": it is not in a stage."""

    def __str__(self) -> str:
        where = f"{self.path} ({self.stage})" if self.stage else self.path
        if self.kind == "changed":
            return f"{where}: {_said(self.before)} -> {_said(self.after)}"
        given = self.after if self.kind == "added" else self.before
        if given == self.stage:  # the stage itself
            return f"{where}: {self.kind}"
        return f"{where}: {self.kind}, {_said(given)}"

    def to_json(self) -> dict[str, JSON]:
        """As an object."""
        return {
            "path": self.path,
            "kind": self.kind,
            "stage": self.stage or None,
            "before": self.before,
            "after": self.after,
        }


def diff(
    before: EnvironmentManifest, after: EnvironmentManifest, catalogue: Catalogue | None = None
) -> list[Change]:
    """All differences, in the order of the manifest; [] if both mean the same.

    Defaults count as if they were written. For a strategy that is replaced, the parts of its
    configuration that the manifest set are listed, but not the defaults of its successor.
    """
    known = catalogue or shipped()
    old, new = values(before, known), values(after, known)
    names = {path: str(name) for path, name in (old | new).items() if _STAGE.fullmatch(path)}
    replaced = _replaced(old, new)
    said = [written(manifest.to_dict(), known) for manifest in (before, after)]
    found: list[Change] = []
    for path in _in_order(old, new):
        was, now = path in old, path in new
        if was and now and old[path] == new[path]:
            continue
        stage = _STAGE.match(path)
        if stage is not None and path != stage[0] and (stage[0] in old) != (stage[0] in new):
            continue  # the stage itself is listed
        if path.startswith(replaced):
            # of another strategy, or of one that was added or removed
            was, now = (was and path in said[0], now and path in said[1])
        name = names[stage[0]] if stage is not None else ""
        if was and now:
            found += _within(path, old[path], new[path], name)
        elif was:
            found.append(Change(path, "removed", old[path], None, name))
        elif now:
            found.append(Change(path, "added", None, new[path], name))
    return found


def _in_order(old: Mapping[str, JSON], new: Mapping[str, JSON]) -> list[str]:
    """All paths, grouped by stage, the stages by number."""

    def place(path: str) -> tuple[int, str]:
        stage = _STAGE.match(path)
        if stage is None:
            return (0, "")
        key = stage[0][len("stages[") : -1]
        return (int(key), "") if key.isdecimal() else (22, key)

    return sorted(dict.fromkeys([*old, *new]), key=place)


def _replaced(old: Mapping[str, JSON], new: Mapping[str, JSON]) -> tuple[str, ...]:
    """Path prefixes of the configurations whose strategies differ."""
    found: list[str] = []
    for path, one in old.items():
        head, mark, slot = path.partition(".strategies.")
        if not mark or path not in new or new[path] == one:
            continue
        other = new[path]
        at = f"{head}.strategy_configs.{slot}."
        if isinstance(one, list) and isinstance(other, list):
            found += [f"{at}{name}." for name in {*map(str, one)} ^ {*map(str, other)}]
        else:
            found.append(at)
    return tuple(found)


def _within(path: str, before: JSON, after: JSON, stage: str) -> Iterator[Change]:
    """The differences of two values: of objects, and of tools by name, one by one."""
    one, two = _members(before), _members(after)
    if one is None or two is None:
        yield Change(path, "changed", before, after, stage)
        return
    named = isinstance(before, list)
    for name in dict.fromkeys([*one, *two]):
        below = f"{path}[{name}]" if named else f"{path}.{name}"
        if name not in two:
            yield Change(below, "removed", one[name], None, stage)
        elif name not in one:
            yield Change(below, "added", None, two[name], stage)
        elif one[name] != two[name]:
            yield from _within(below, one[name], two[name], stage)


def _members(value: JSON) -> Mapping[str, JSON] | None:
    if isinstance(value, Mapping):
        return value or None
    if isinstance(value, list) and value:
        named = {
            str(item["name"]): item
            for item in value
            if isinstance(item, Mapping) and "name" in item
        }
        return named if len(named) == len(value) else None
    return None


def _said(value: JSON) -> str:
    return value if isinstance(value, str) and value else dumps(value)
