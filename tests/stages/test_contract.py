"""Every strategy that a manifest can name works through a manifest, alone and beside every other
of its stage, and does something that no other in its place does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from lorimer.stages import catalogue
from tests.stages.contract import Effect, Key, declared, keys, play
from tests.stages.effects import EFFECTS

SLOTS = declared()


def chosen(*picks: Key) -> Mapping[str, Mapping[str, Any]]:
    """A manifest's strategies with their configurations; those of one chain in this order."""
    found: dict[str, dict[str, Any]] = {}
    for stage, slot, name in picks:
        config = dict(EFFECTS[stage, slot, name].config)
        names, configs = found.setdefault(stage, {}).get(slot, ([], {}))
        if SLOTS[stage][slot].chain:
            found[stage][slot] = ([*names, name], {**configs, **({name: config} if config else {})})
        else:
            found[stage][slot] = (name, config)
    return found


def fields(key: Key) -> set[str]:
    """What a strategy can be configured with."""
    stage, slot, name = key
    kind = catalogue().strategy(stage, SLOTS[stage][slot], name).Config
    declared = {} if kind is None else kind.model_fields
    return {field.alias or name for name, field in declared.items()}


def without(key: Key) -> Iterator[Mapping[str, Mapping[str, Any]]]:
    """Manifests with something else in the place of a strategy: nothing, in a chain; each other
    one, with a configuration of its own, and with that of the strategy as far as it takes it."""
    stage, slot, name = key
    chain = SLOTS[stage][slot].chain
    if chain:
        yield {stage: {slot: ([], {})}}
    for other in SLOTS[stage][slot].known:
        if other == name:
            continue
        instead = (stage, slot, other)
        taken = {k: v for k, v in EFFECTS[key].config.items() if k in fields(instead)}
        if not chain:
            yield chosen(instead)
        if chain or taken:
            config = {**EFFECTS[instead].config, **taken}
            yield {stage: {slot: ([other], {other: config}) if chain else (other, config)}}


def pairs() -> list[tuple[Key, Key]]:
    """A strategy, and another one of its stage that may be chosen with it. Both orders, for each
    has to show its own effect beside the other, and in a chain before and after it."""
    return [
        (one, other)
        for one in keys()
        for other in keys()
        if one != other
        and one[0] == other[0]
        and (one[1] != other[1] or SLOTS[one[0]][one[1]].chain)
        and f"{other[1]}.{other[2]}" not in EFFECTS[one].clashes
    ]


def named(key: object) -> str:
    return ".".join(key) if isinstance(key, tuple) else str(key)


def test_no_strategy_without_an_effect_of_its_own() -> None:
    assert set(EFFECTS) == set(keys())


@pytest.mark.parametrize("key", keys(), ids=named)
def test_a_strategy_has_an_effect_that_only_it_has(key: Key) -> None:
    effect: Effect = EFFECTS[key]
    assert effect.shows(play(effect, chosen(key)))
    for other in without(key):
        assert not effect.shows(play(effect, other)), f"so does {other}"


@pytest.mark.parametrize(("one", "other"), pairs(), ids=named)
def test_a_strategy_works_beside_every_other_of_its_stage(one: Key, other: Key) -> None:
    effect = EFFECTS[one]
    assert effect.shows(play(effect, chosen(one, other)))
    if one[1] == other[1]:
        assert effect.shows(play(effect, chosen(other, one)))
