"""Row 9 for the raw loops: an interpreter, asyncio, json and sqlite3."""

from __future__ import annotations

import sqlite3
import sys
from time import process_time

from benchmarks.floors.loops import FINAL, Loop, Script, Work, raw, raw21
from benchmarks.memory import peak_rss_kib
from benchmarks.scale import Figures, Scale


async def raw_start(scale: Scale) -> Figures:
    """In a process of its own."""
    return await _start(raw)


async def raw21_start(scale: Scale) -> Figures:
    """In a process of its own."""
    return await _start(raw21)


async def _start(loop: Loop) -> Figures:
    if (
        await loop(Script(0), Work(), []) != FINAL["content"][0]["text"]
        or not sqlite3.sqlite_version
    ):
        raise RuntimeError("the loop did not answer")
    return {
        "s": process_time(),
        "mib": peak_rss_kib() / 1024,
        "modules": float(len(sys.modules)),
    }
