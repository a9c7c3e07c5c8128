"""The vendors' SDKs, each imported by the test that first uses it: ten thousand classes, at which
every test would look that looks at all there are (steps do, see `conftest.py`)."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class Later:
    """A module that is imported when something of it is asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith(("_", "pytest")):  # pytest looks for signs of its own
            raise AttributeError(attribute)
        return getattr(import_module(self._name), attribute)


anthropic = Later("anthropic")
openai = Later("openai")
genai = Later("google.genai")
errors = Later("google.genai.errors")
types = Later("google.genai.types")
