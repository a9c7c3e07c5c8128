"""Every provider and wire that there is, as the kit takes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from lorimer.core.model import Model
from lorimer.models import CredentialBundle, Models, ProviderCredentials
from lorimer.testing import FakeLLMServer
from lorimer.testing.providers import Subject
from tests.models.support import API, MODEL, PROVIDER, WIRES

OBJECTS: Final = "its calls come as objects, not as text"
LACKS: Final[Mapping[str, Mapping[str, str]]] = {
    "google": {
        "odd calls.they_are_kept_for_the_model_to_see": OBJECTS,
        "odd calls.cut_where_it_looks_whole": f"{OBJECTS}, and so never in part",
        "events.the_same_stream_twice": "its body's end is the end: what comes before counts",
    }
}


def _model(provider: str, name: str, path: str = "", api: str = "") -> Callable[[str, str], Model]:
    def make(url: str, key: str) -> Model:
        extras = {"api": api} if api else {}
        known = ProviderCredentials(key, url + path, extras=extras)
        models = Models(CredentialBundle({provider: known}, env={}))
        if provider == "vllm":  # of a server of one's own nothing is known until somebody says so
            models.configure_capabilities("vllm", tools=True)
        return models.resolve(f"{provider}:{name}")

    return make


SUBJECTS: Final[Mapping[str, Subject]] = {
    wire: Subject(
        _model(PROVIDER[wire], MODEL[wire], "/v1" if wire in API else "", API.get(wire, "")),
        wire,
        api=API.get(wire, ""),
        lacks=LACKS.get(wire, {}),
    )
    for wire in WIRES
} | {
    "vllm": Subject(
        _model("vllm", "Qwen/Qwen3-32B", "/v1"),
        "openai",
        partial(FakeLLMServer, reasoning_field="reasoning_content"),
    )
}
