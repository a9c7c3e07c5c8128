"""Row 5 for a raw loop that commits once a turn, synced."""

from __future__ import annotations

import json
from pathlib import Path
from time import process_time_ns

from benchmarks.durability import Spent, measured, opened
from benchmarks.floors.loops import Message, Script, Work
from benchmarks.scale import Figures, Scale
from benchmarks.support import expect


async def long_runs(scale: Scale) -> Figures:
    """One row and one transaction a turn: WAL, `synchronous=FULL`."""
    return await measured(_run, scale)


async def _run(path: Path, iterations: int) -> Spent:
    db = opened(path)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("CREATE TABLE turns(id INTEGER PRIMARY KEY, body TEXT)")
    stamps: list[int] = []
    model, work = Script(iterations, stamps), Work()
    began = process_time_ns()
    messages: list[Message] = [{"role": "user", "content": "hi"}]
    while True:
        content = (await model(messages))["content"]
        turn: list[Message] = [{"role": "assistant", "content": content}]
        calls = [block for block in content if block["type"] == "tool_use"]
        if calls:
            results = [
                {
                    "type": "tool_result",
                    "tool_use_id": call["id"],
                    "content": await work(call["input"]),
                }
                for call in calls
            ]
            turn.append({"role": "user", "content": results})
        messages += turn
        db.execute("INSERT INTO turns(body) VALUES(?)", (json.dumps(turn),))
        if not calls:
            break
    spent = process_time_ns() - began
    expect("rows", next(iter(db.execute("SELECT count(*) FROM turns")))[0], iterations + 1)
    expect("tool calls", work.calls, iterations)
    db.close()
    return Spent(spent, stamps)
