"""The public kit of cases, on every wire and provider that there is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import pytest

from lorimer.models import CredentialBundle, Models, ProviderCredentials
from lorimer.testing.providers import CASES, Case, Subject
from tests.models.support import API, MODEL, PROVIDER, WIRES, Wire

OBJECTS: Final = "its calls come as objects, not as text"
LACKS: Final[Mapping[str, Mapping[str, str]]] = {
    "anthropic": {},
    "openai": {},
    "responses": {},
    "google": {
        "odd calls.they_are_kept_for_the_model_to_see": OBJECTS,
        "odd calls.cut_where_it_looks_whole": f"{OBJECTS}, and so never in part",
        "events.the_same_stream_twice": "its body's end is the end: what comes before counts",
    },
}


def subject(wire: Wire) -> Subject:
    """A wire of ours at the fake server."""

    def model(url: str, key: str):
        base = url + "/v1" if wire in ("openai", "responses") else url
        extras = {"api": API[wire]} if wire in API else {}
        known = ProviderCredentials(key, base, extras=extras)
        bundle = CredentialBundle({PROVIDER[wire]: known}, env={})
        return Models(bundle).resolve(f"{PROVIDER[wire]}:{MODEL[wire]}")

    return Subject(model, wire, api=API.get(wire, ""), lacks=LACKS[wire])


SUBJECTS: Final = {wire: subject(wire) for wire in WIRES}


@pytest.mark.parametrize("wire", SUBJECTS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_conformance(wire: str, case: Case) -> None:
    case.run(SUBJECTS[wire])
