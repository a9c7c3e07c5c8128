"""A stream cut into chunks at random: the same deltas and the same answer, on every wire and in
every legal framing. In full 100,000 chunkings, in the suite 5,000."""

from __future__ import annotations

import os
from random import Random

from lorimer.core.request import Delta, Response
from lorimer.models import ProviderCredentials
from lorimer.models.wires.sse import SSEParser
from lorimer.testing.fake_server import recorded_body
from lorimer.testing.fake_turn import Turn
from lorimer.testing.providers.streams import FRAMINGS
from lorimer.testing.providers.trial import TURN, same
from tests.models.support import MODEL, WIRES, Wire
from tests.models.test_cuts import ASSEMBLERS
from tests.seeds import chosen_or_fresh

CAMPAIGN = 100_000
SUITE = 5_000


def read(wire: Wire, body: bytes, cuts: list[int]) -> tuple[list[Delta], Response]:
    parser, answer = SSEParser(), ASSEMBLERS[wire](wire, ProviderCredentials())
    deltas: list[Delta] = []
    for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True):
        events = parser.feed(body[start:end])
        if events and not answer.done:
            deltas.extend(answer.read(events))
    return deltas, answer.finish()


def test_any_chunks_give_the_same_answer() -> None:
    seed = chosen_or_fresh()
    print(f"\nfresh seed: LORIMER_SEED={seed}")
    dice = Random(seed)
    count = CAMPAIGN if os.environ.get("LORIMER_CAMPAIGN") else SUITE
    bodies = []
    for wire in WIRES:
        for faults in ((), *[(framing,) for framing in FRAMINGS]):
            turn = Turn(TURN.text, TURN.thinking, tool_calls=TURN.tool_calls, usage=TURN.usage,
                        faults=faults)  # fmt: skip
            body = recorded_body(turn, wire, model=MODEL[wire])
            bodies.append((wire, body, read(wire, body, [])))
    for number in range(count):
        wire, body, (deltas, answer) = bodies[number % len(bodies)]
        some = dice.choice((1, 3, 10, 30, 100, len(body) - 1))
        cuts = sorted(dice.sample(range(1, len(body)), min(some, len(body) - 1)))
        heard, got = read(wire, body, cuts)
        assert heard == deltas, (wire, cuts)
        assert same(got, answer), (wire, cuts)
    print(f"{count} chunkings of {len(bodies)} bodies")
