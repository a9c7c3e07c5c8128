"""A run that is killed in the middle of a failover goes on where it was; and is replayed."""

from __future__ import annotations

from copy import copy
from typing import Any

import pytest

from lorimer.core.errors import JournalError
from lorimer.core.events import Event
from lorimer.journal.verify import verify
from lorimer.models import Models
from lorimer.models.failover import NUDGE
from lorimer.models.unasked import Unasked
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from tests.core.support import Do, held, make, use
from tests.models.chains import CODE, Chain, asked, cut, down

ONE = [[use("look", "a")], down(), cut("never seen"), "late"]
TWO = [cut("The answer "), cut("is "), down(), "never"]
THREE = ["42.", "never"]
WHOLE = {
    "stop": (["", "", "", "two:m"], CODE.EXEC_API_STREAM_INCOMPLETE),
    "restart": (["", "", "", "two:m", "two:m", "three:m"], None),
    "continue": (["", "", "", "two:m", "two:m", "three:m"], None),
}


def chain(world: SimulatedWorld, policy: str, **more: Any) -> Chain:
    """Somebody listens from when `two` is asked."""
    made = Chain(world, ONE, TWO, THREE, after_release=policy, tools=[Do("look")], **more)

    def listen(event: Event) -> None:
        if event.data["to"] == "two:m":
            made.pipeline.on("text.delta", made.hear)

    made.pipeline.on("api.model_routed", listen)
    return made


async def whole(world: SimulatedWorld, policy: str) -> list[Event]:
    made = chain(world, policy)
    result = await made.run()
    where, code = WHOLE[policy]
    assert (asked(result), result.code) == (where, code)
    if code is None:
        assert result.text == ("The answer is 42." if policy == "continue" else "42.")
        assert made.shown == result.text
    assert (await made.pipeline.replay(result.run_id)).divergence is None
    return result.events


@pytest.mark.parametrize("policy", WHOLE)
def test_it_is_replayed_without_listeners_keys_or_health(policy: str) -> None:
    async def main(world: SimulatedWorld) -> None:
        facts = await whole(world, policy)
        for last in range(1, len(facts) + 1):
            journal = await held(world, facts[:last])
            other = chain(world, policy, journal=journal, models=Unasked())
            replayed = await other.pipeline.replay(facts[0].run_id)
            assert replayed.divergence is None, last

    simulate(main)


@pytest.mark.parametrize("policy", WHOLE)
@pytest.mark.parametrize("heard", [False, True])
def test_killed_after_any_fact_it_goes_on_and_asks_nobody_twice(policy: str, heard: bool) -> None:
    facts = simulate(lambda world: whole(world, policy))

    async def resumed(world: SimulatedWorld, kept: list[Event]) -> None:
        journal = await held(world, kept)
        intents = [fact.data.get("target", "one:m") for fact in kept if fact.type == "model.intent"]
        done = [fact for fact in kept if fact.type == "model.reply"]
        made = [list(script) for script in (ONE, TWO, THREE)]
        for target in intents[: len(done)]:
            made[("one:m", "two:m", "three:m").index(str(target))].pop(0)
        again = Chain(
            world, *made, after_release=policy, tools=[Do("look")], journal=journal, heard=heard
        )
        result = await again.pipeline.resume(kept[0].run_id, raise_on_error=False)
        assert result.status in ("ok", "error")
        assert result.success or policy == "stop"
        assert [fact.data for fact in result.events[: len(kept)]] == [f.data for f in kept]
        new = asked(result)[len(intents) :]
        waiting = intents[len(done) :]
        assert sum(again.calls) == len(new) + len(waiting)
        said = [f.data.get("error", {}).get("partial", "") for f in result.events]
        assert not result.success or result.text.startswith("".join(said))
        assert policy == "continue" or not any(said)
        if heard and result.success:
            assert result.text.endswith(again.shown)
        found = await verify(journal, result.run_id)
        assert [finding.rule for finding in found] == ["manifest"], "which was not copied"
        assert (await again.pipeline.replay(result.run_id)).divergence is None

    for last in range(1, len(facts)):
        simulate(lambda world, kept=facts[:last]: resumed(world, kept))


def test_a_target_that_left_the_chain_stops_a_resumed_run() -> None:
    facts = simulate(lambda world: whole(world, "restart"))
    last = max(n for n, fact in enumerate(facts) if fact.data.get("target") == "two:m")

    async def main(world: SimulatedWorld) -> None:
        journal = await held(world, facts[: last + 1])
        made = Chain(
            world, ONE, TWO, THREE, after_release="restart", tools=[Do("look")], journal=journal
        )
        spare = dict.fromkeys(("one", "three"), made.models[0])

        class Less(Models):
            def targets(self, spec: str) -> Any:
                return super().targets("one:m,three:m")

        less = Chain(
            world,
            ONE,
            TWO,
            THREE,
            after_release="restart",
            tools=[Do("look")],
            journal=journal,
            models=Less(providers=spare),
        )
        with pytest.raises(JournalError, match="'two:m', which is not in its chain"):
            await less.pipeline.resume(facts[0].run_id)
        assert sum(less.calls) == 0

    simulate(main)


def test_a_run_that_older_versions_recorded_is_replayed() -> None:
    """They did not say what was released, and decided by it all the same."""

    async def main(world: SimulatedWorld) -> None:
        made = Chain(world, [down(), cut("half")], retry={"max_retries": 3})
        made.pipeline.on("api.retry", lambda e: made.pipeline.on("text.delta", made.hear))
        result = await made.run()
        assert result.code is CODE.EXEC_API_STREAM_INCOMPLETE
        old: list[Event] = []
        for fact in result.events:
            data = dict(fact.data)
            if isinstance(error := data.get("error"), dict):
                data["error"] = {k: v for k, v in error.items() if k != "released"}
            old.append(Event(fact.type, data, fact.run_id, fact.iteration, fact.time))
        assert [f.data for f in old] != [f.data for f in result.events]
        journal = await held(world, old)
        other = Chain(world, [], journal=journal, models=Unasked())
        assert (await other.pipeline.replay(result.run_id)).divergence is None

    simulate(main)


def test_waits_are_the_same_for_a_run_that_was_resumed() -> None:
    """The dice are thrown for recorded attempts too."""
    waits: list[list[float]] = []

    def chain_of(world: SimulatedWorld, failures: int, **more: Any) -> Chain:
        return Chain(world, [*[down()] * failures, "done"], retry={"jitter": 0.5}, **more)

    async def main(world: SimulatedWorld) -> None:
        made = chain_of(world, 3)
        result = await made.run()
        waits.append([float(event.data["delay_s"]) for event in made.signals])
        last = [n for n, fact in enumerate(result.events) if fact.type == "model.reply"][1]
        journal = await held(world, result.events[: last + 1])
        again = chain_of(world, 1, journal=journal)
        await again.pipeline.resume(result.run_id)
        waits.append([float(event.data["delay_s"]) for event in again.signals])

    simulate(main)
    assert waits[1] == waits[0][1:]


@pytest.mark.parametrize("old", [False, True])
def test_killed_round_an_empty_answer_it_asks_what_is_recorded(old: bool) -> None:
    """With the nudge; without one, where a version that had none has asked already."""

    async def first(world: SimulatedWorld) -> list[Event]:
        model = ScriptedModel(["", "Done."])
        result = await make(world, model).run("go")
        assert [NUDGE in str(request.messages) for request in model.requests] == [False, True]
        assert NUDGE not in str(result.messages)
        return result.events

    async def again(world: SimulatedWorld, facts: list[Event], last: int) -> None:
        replies = sum(fact.type == "model.reply" for fact in facts[:last])
        model = ScriptedModel(["", "Done."][replies:])
        pipeline = make(world, model, journal=await held(world, facts[:last]))
        assert (await pipeline.resume(facts[0].run_id)).text == "Done."
        begun = sum(fact.type == "model.intent" for fact in facts[:last])
        nudged = [NUDGE in str(request.messages) for request in model.requests]
        assert nudged == [False, not (old and begun == 2)][replies:]
        assert (await pipeline.replay(facts[0].run_id)).divergence is None

    facts = simulate(first)
    if old:
        one, two = [at for at, fact in enumerate(facts) if fact.type == "model.intent"]
        data = {**facts[two].data, "hash": facts[one].data["hash"]}
        assert data.pop("nudge") == NUDGE
        facts[two] = copy(facts[two])
        facts[two].data = data
    for last in range(1, len(facts)):
        simulate(lambda world, last=last: again(world, facts, last))
