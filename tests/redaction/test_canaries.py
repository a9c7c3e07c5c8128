"""Fifty planted secrets: none in a fact, signal, spilled file, log, recording, export or error."""

from __future__ import annotations

import asyncio
from collections.abc import Generator

import pytest

from tests.redaction.canaries import TABLE, Outcome, environment, forms_of, leak_all, shown_as


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Generator[Outcome]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment().items():
            patch.setenv(name, value)
        yield asyncio.run(leak_all(tmp_path_factory.mktemp("canaries")))


def test_there_are_fifty() -> None:
    assert len(TABLE) == 50


@pytest.mark.parametrize("name", TABLE)
def test_it_is_nowhere_and_was_on_its_way(name: str, outcome: Outcome) -> None:
    for place, content in outcome.sinks.items():
        for form in forms_of(name):
            assert form not in content, (name, place, form)
    everything = b"".join(outcome.sinks.values())
    assert shown_as(name).encode() in everything, "it was never planted"


def test_the_model_is_told_what_is_recorded(outcome: Outcome) -> None:
    told = [name for name in TABLE if any(form.decode() in outcome.seen for form in forms_of(name))]
    assert told == []
    assert shown_as("text") in outcome.seen
