"""What a step shows besides text: its figures, and its last value as HTML or picture.

A matplotlib figure is drawn when its step ends, and closed, as in notebooks: no step finds the open
figure of another. matplotlib is never imported here; a step that has not imported it has no
figures.
"""

from __future__ import annotations

import base64
import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, cast

from lorimer.esg.values.content import home_of

MAX_BYTES: Final = 4 * 2**20
"""Limit on everything that one step shows; more is omitted, with a note."""
_DPI: Final = 100


@dataclass(frozen=True, slots=True)
class Display:
    """Something to display. HTML is as an object of the step returned it: escape or isolate it."""

    kind: str
    """`image/png`, `text/html`, or `text/plain` for the reason why something is not shown."""
    data: str
    """The text; for a picture its bytes in base64."""


class _Figure(Protocol):
    def savefig(self, file: io.BytesIO, **how: object) -> None: ...


class _Pyplot(Protocol):
    def get_fignums(self) -> list[int]: ...
    def figure(self, number: int) -> _Figure: ...
    def close(self, number: int) -> None: ...


def open_figures() -> frozenset[int]:
    """The numbers of the figures that pyplot has open; they belong to others."""
    pyplot = _pyplot()
    return frozenset(pyplot.get_fignums()) if pyplot else frozenset()


def collect(value: object, before: frozenset[int]) -> tuple[Display, ...]:
    """What a step shows that has ended with this last value. Closes the figures it opened."""
    found = [*_of_value(value), *_of_figures(value, before)]
    room, kept = MAX_BYTES, list[Display]()
    for each in found:
        room -= len(each.data)
        if room < 0:
            kept.append(Display("text/plain", f"[{len(found) - len(kept)} more: over 4 MiB]"))
            break
        kept.append(each)
    return tuple(kept)


def close(before: frozenset[int]) -> None:
    """Close the figures of a step that has raised."""
    pyplot = _pyplot()
    for number in pyplot.get_fignums() if pyplot else ():
        if pyplot and number not in before:
            pyplot.close(number)


def _of_figures(value: object, before: frozenset[int]) -> list[Display]:
    pyplot = _pyplot()
    found = list[Display]()
    for number in pyplot.get_fignums() if pyplot else ():
        if pyplot and number not in before:
            figure = pyplot.figure(number)
            if figure is not value:  # it was shown as the value
                found.append(_asked("the figure", lambda figure=figure: _png(figure)))
            pyplot.close(number)
    return found


def _of_value(value: object) -> list[Display]:
    """The richest form offered by the class of the last value."""
    kind = type(value)
    if kind.__module__ == "matplotlib.figure":
        return [_asked("the figure", lambda: _png(cast("_Figure", value)))]
    for method, make in (("_repr_png_", _picture), ("_repr_html_", _html)):
        function: object = getattr(kind, method, None)
        if callable(function):
            shown = _asked(method, lambda f=function, make=make: make(f(value)))
            return [shown] if shown.data else []
    return []


def _png(figure: _Figure) -> Display:
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=_DPI, bbox_inches="tight")
    return _picture(written.getvalue())


def _picture(data: object) -> Display:
    picture = data if isinstance(data, bytes) else b""
    return Display("image/png", base64.b64encode(picture).decode("ascii"))


def _html(data: object) -> Display:
    return Display("text/html", data if isinstance(data, str) else "")


def _asked(what: str, make: Callable[[], Display]) -> Display:
    try:
        return make()
    except Exception as error:  # noqa: BLE001 - code of the step's objects; the step itself ran
        return Display("text/plain", f"[{what} raised {type(error).__name__}: {error}]")


def _pyplot() -> _Pyplot | None:
    return cast("_Pyplot | None", sys.modules.get("matplotlib.pyplot"))


def drawn(value: object, shown: tuple[Display, ...]) -> bool:
    """Whether part of it may have been drawn by matplotlib. Tables of pandas are not; what styles
    one may use its colours."""
    home = home_of(type(value))
    tables = home == "pandas" or home.startswith("pandas.core.")  # from pandas 3 on, and before
    return any(each.kind == "image/png" or not tables for each in shown)
