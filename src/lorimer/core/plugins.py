"""What installed packages offer: entry points, found by the name that a manifest gives.

    lorimer.stages       <stage>, or <stage>.<implementation>     a Stage
    lorimer.strategies   <stage>.<slot>.<strategy>                a Strategy
    lorimer.tools        <tool>                                   a Tool
    lorimer.providers    <provider>                               a Model, or a factory of them
    lorimer.presets      <preset>                                 a function that makes a manifest

Looked at when a name is none that is shipped or registered, and only for that name: a broken
package hurts nobody who does not use it. What is found is code that somebody has installed; it is
granted nothing by that.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from typing import TYPE_CHECKING, Final, TypeVar

from lorimer.core.errors import ConfigError, ExecutorErrorCode
from lorimer.core.record import record

T = TypeVar("T")

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

STAGES: Final = "lorimer.stages"
STRATEGIES: Final = "lorimer.strategies"
TOOLS: Final = "lorimer.tools"
PROVIDERS: Final = "lorimer.providers"
PRESETS: Final = "lorimer.presets"

_WORDS: Final = {
    STAGES: "stage",
    STRATEGIES: "strategy",
    TOOLS: "tool",
    PROVIDERS: "provider",
    PRESETS: "preset",
}


@record
class Plugin:
    """A loaded offer of a package."""

    group: str
    name: str
    package: str
    """Name and version of the package."""
    value: object

    def make(self, kind: type[T]) -> T:
        """An instance of `kind`, which the package offers either directly or as a class. Raises
        ConfigError, which names the package, if that fails."""
        made = self.value
        if isinstance(made, type) and issubclass(made, kind):
            try:
                made = made()
            except Exception as error:
                raise self.broken(f"{type(error).__name__}: {error}", error) from error
        if isinstance(made, kind):
            return made
        raise self.broken(f"it is {self.value!r}, no {kind.__name__}")

    def make_own(self, kind: type[T]) -> T:
        """`make`, for what is configured afterwards: an object that the package offers is copied,
        because others are given it too. Raises ConfigError also if it cannot be copied."""
        made = self.make(kind)
        if made is not self.value:
            return made
        try:
            return copy(made)
        except Exception as error:
            why = f"it is an object, which cannot be copied: {type(error).__name__}: {error}"
            raise self.broken(f"{why} (offer its class instead)", error) from error

    def broken(self, why: str, cause: Exception | None = None) -> ConfigError:
        """The error for a broken package, which names it."""
        return _broken(self.group, self.name, self.package, why, cause)


def find(group: str, name: str) -> Plugin | None:
    """What an installed package offers under a name of a group, case-insensitively; None: nothing.
    Raises ConfigError for an offer that cannot be loaded, and for a name that several packages
    offer."""
    found = sorted([one for one in _installed(group) if _same(one.name, name)], key=package_of)
    if not found:
        return None
    packages = list(map(package_of, found))
    if len(found) > 1:
        instead = ", or register one yourself: models.register(...)" if group == PROVIDERS else ""
        raise ConfigError(
            f"the {_WORDS[group]} {name!r} is offered by {' and by '.join(packages)}",
            code=_code(group),
            hint=f"Uninstall one of them{instead}.",
        )
    try:
        value: object = found[0].load()
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise _broken(group, name, packages[0], why, error) from error
    return Plugin(group, name, packages[0], value)


def offered(group: str, prefix: str = "") -> list[str]:
    """The names for which `find` would find something, intact or broken, without their common
    prefix; sorted."""
    names = {one.name for one in _installed(group)}
    return sorted(name.removeprefix(prefix) for name in names if name.startswith(prefix))


def offered_stages() -> list[str]:
    """The stages offered, without alternative implementations of stages."""
    return [name for name in offered(STAGES) if "." not in name]


def package_of(entry: EntryPoint) -> str:
    """Name and version of the package of an entry point."""
    dist = entry.dist
    return f"{dist.name} {dist.version}" if dist is not None else entry.value


def _installed(group: str) -> Iterable[EntryPoint]:
    from importlib.metadata import entry_points  # takes 10 ms

    return entry_points(group=group)


def _same(one: str, other: str) -> bool:
    return one.lower() == other.lower()


def _code(group: str) -> ExecutorErrorCode:
    if group == PROVIDERS:
        return ExecutorErrorCode.EXEC_API_NO_CLIENT
    return ExecutorErrorCode.EXEC_PIPELINE_INVALID_MANIFEST


def _broken(
    group: str, name: str, package: str, why: str, cause: Exception | None = None
) -> ConfigError:
    return ConfigError(
        f"the {_WORDS[group]} {name!r} of the package {package} cannot be loaded: {why}",
        code=_code(group),
        hint="Update that package, or uninstall it.",
        cause=cause,
    )
