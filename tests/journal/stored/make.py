"""Writes a journal with the code that is there: two ended runs of one conversation, a third whose
process died in the middle of an unsafe call, and a run of its own that failed."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import apsw

from lorimer import Pipeline
from lorimer.core.limits import Limits
from lorimer.core.request import Usage
from lorimer.journal import SQLiteJournal
from lorimer.models.pricing import Price
from lorimer.models.registry import Models
from lorimer.presets import preset_manifest
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from lorimer.tools.base import ToolInput
from tests.core.support import Do, use

REPLIES = (
    [use("look", "c1"), use("save", "c2", text="x" * 40)],
    [use("send", "c3", to="Ann")],
    "Sent to Ann.",
    "Hello again.",
    [use("save", "c4", text="y")],
    [use("send", "c5", to="nobody")],
    "Not kept.",
)


def models(replies: Iterable[object]) -> Models:
    """A model that says this, and costs something."""
    said = ScriptedModel(replies, usage=Usage(120, 30), price=Price(3, 15))  # type: ignore[arg-type]
    return Models(providers={"scripted": said})


def tools(died: Path | None = None, live: Path | None = None) -> list[Do]:
    """`send` is unsafe; when it sends to nobody, `live` is copied to `died` as it is then."""

    def send(given: ToolInput, _: object) -> str:
        if given.get("to") == "nobody" and live is not None:
            db = apsw.Connection(str(live))
            db.execute("VACUUM INTO ?", (str(died),))
            db.close()
        return "sent"

    return [
        Do("look"),
        Do("send", send, effects=["send"]),
        Do("save", effects=["write"], idempotent=True),
    ]


def write(path: Path) -> None:
    """Make the journal at `path`."""

    async def main(world: SimulatedWorld) -> None:
        with TemporaryDirectory() as folder:
            live = Path(folder, "live.db")
            journal = SQLiteJournal(live, world=world, threads=False)
            manifest = preset_manifest("chat", model="scripted:m")
            manifest.limits = Limits(max_cost_usd=2.0)
            chat = Pipeline(
                manifest,
                tools=tools(path, live),
                models=models(REPLIES),
                journal=journal,
                world=world,
                session_id="session_stored",
                owner="stored",
            )
            alone = Pipeline(
                preset_manifest("minimal", model="scripted:m"),
                models=models([]),
                journal=journal,
                world=world,
            )
            await chat.run("Tell Ann — ünïcode too.")
            await alone.run("nobody answers", raise_on_error=False)
            await chat.run({"text": "Hi"})
            await chat.run("Tell nobody.")
            await journal.close()

    simulate(main)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
