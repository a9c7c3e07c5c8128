"""Agents that come with a host, written as documents that extend one another."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorimer.core.errors import ConfigError
from lorimer.core.jsonable import JSON
from lorimer.run.saved.builtins import merged, read_builtins

BASE = """
agents:
  base: {prompt: You help., tools: [now, think], max_turns: 5, critic: true}
  reader:
    extends: base
    description: Reads
    tools: [Read]
    critic: null
"""
MORE = '{"agents": {"reviewer": {"extends": "reader", "prompt": "You review.", "max_turns": 9}}}'


def test_row_83_builtins_extend_one_another_across_documents() -> None:
    found = read_builtins({"more.json": MORE, "base.yaml": BASE})
    assert list(found) == ["reviewer", "base", "reader"]
    reader, reviewer = found["reader"], found["reviewer"]
    assert (reader.prompt, reader.tools, reader.max_turns) == ("You help.", ("Read",), 5)
    assert (reader.critic, found["base"].critic) == (False, True)
    assert (reviewer.prompt, reviewer.tools, reviewer.max_turns) == ("You review.", ("Read",), 9)
    assert {(each.owner, each.visibility, each.version) for each in found.values()} == {
        ("", "public", 0)
    }
    assert reviewer.id == "reviewer" and reviewer.description == "Reads"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: {extends: b}, b: {extends: c}, c: {extends: b}", "b -> c -> b"),
        ("a: {extends: a}", "a -> a"),
        ("a: {extends: revewer}, reviewer: {}", "extends 'revewer', which does not exist; did you"),
        ("a: {extends: [b]}, b: {}", "which does not exist"),
        ("a: {promt: x}", "x.yaml: agents.a.promt: there is no such field; did you mean 'prompt'"),
        ("a: {owner: ann}", "agents.a.owner: a built-in agent has no such field"),
        ("a: {max_turns: -1}, b: {max_turns: x}", "agents.b.max_turns"),
        ("a: text", "agents.a: must be fields"),
        ("a: {}, 'b/c': {}", "agents.b/c.name"),
    ],
    ids=["circle", "itself", "unknown", "list", "field", "owner", "value", "text", "name"],
)
def test_what_is_wrong_is_named_with_its_place(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as no:
        read_builtins({"x.yaml": f"agents: {{{text}}}"})
    assert said in str(no.value)
    assert all(problem.startswith("x.yaml: ") for problem in no.value.problems)


def test_all_faults_are_told_at_once_and_twice_the_same_name_is_one() -> None:
    documents = {"a.yaml": "agents: {a: {max_turns: -1}, b: {}}", "b.yaml": "agents: {b: {}}"}
    with pytest.raises(ConfigError) as no:
        read_builtins(documents)
    assert len(no.value.problems) == 2
    assert "b.yaml: agents.b: a.yaml has one too" in no.value.problems
    with pytest.raises(ConfigError, match="must contain `agents`"):
        read_builtins({"c.yaml": "agent: {}"})
    with pytest.raises(ConfigError, match="unknown kind of document"):
        read_builtins({"agents": "agents: {}"})


def test_a_line_of_agents_may_be_long() -> None:
    agents = {f"a{at}": {"extends": f"a{at + 1}", "prompt": str(at)} for at in range(3_000)}
    agents["a3000"] = {"description": "first"}
    found = read_builtins({"x.json": json.dumps({"agents": agents})})
    assert (found["a0"].description, found["a0"].prompt) == ("first", "0")


LEAF = st.none() | st.integers(0, 3) | st.lists(st.integers(0, 2), max_size=2)
TREE: st.SearchStrategy[dict[str, JSON]] = st.dictionaries(
    st.sampled_from("abc"),
    st.recursive(LEAF, lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3)),
    max_size=3,
)


@settings(max_examples=40)
@given(below=TREE, above=TREE)
def test_the_rule_of_merging(below: dict[str, JSON], above: dict[str, JSON]) -> None:
    made = merged(below, above)
    for key in {*below, *above}:
        if key not in above:
            assert made[key] == below[key]
        elif above[key] is None:
            assert key not in made
        else:
            over, under = above[key], below.get(key)
            if isinstance(over, dict):
                assert made[key] == merged(under if isinstance(under, dict) else {}, over)
            else:
                assert made[key] == over
    assert merged(made, {}) == made
