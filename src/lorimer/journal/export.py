"""Runs as JSON lines, for other programs and other places; and those lines as runs again.

For each run one line that describes it, then its facts, one per line, as `Event.to_json` gives
them:

    {"type": "lorimer.run", "format": 1, "run_id", "session_id", "digest", "manifest", "messages"}
    {"type": "run.start", "run_id", "iteration", "stage", "time", "seq", "data"}
    ...

`messages` is the conversation before the run, `compacted` the receipt of its last compaction; both
are omitted if the previous run in the file is also the previous one in the session.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from math import isfinite
from typing import Final, cast

from lorimer.core.errors import ExecutorErrorCode, JournalError
from lorimer.core.events import FACT_KINDS, Event
from lorimer.core.journal import Journal, find
from lorimer.core.jsonable import JSON, dumps
from lorimer.core.messages import message_from_json
from lorimer.core.receipt import Receipt
from lorimer.core.wellformed import repaired
from lorimer.journal.fold import Fold
from lorimer.journal.recording import Recording, manifest_of, recorded

FORMAT: Final = 1
HEAD: Final = "lorimer.run"


async def export(
    journal: Journal, run_id: str, *, session: bool = False
) -> AsyncGenerator[str, None]:
    """The lines of a run (its id, or the unique beginning of it), or of its whole session, without
    line ends. Reads only. Raises as `recorded` does."""
    if not session:
        run = await recorded(journal, run_id)
        before = Fold()
        before.messages, before.receipt = list(run.history), run.receipt
        yield _head(run.run_id, run.session_id, run.digest, run.manifest, before)
        for fact in run.facts:
            yield _line(fact.to_json())
        return
    stream = (await find(journal, run_id)).stream
    before = Fold()
    begun = False
    async for fact in journal.read(stream):
        if fact.type == "run.start":
            digest = fact.data.get("manifest")
            manifest = await manifest_of(journal, fact)
            told = None if begun else before
            yield _head(fact.run_id, stream, str(digest), manifest, told)
            begun = True
        if begun:
            yield _line(fact.to_json())
        else:
            before.apply(fact)


def read_export(lines: Iterable[str]) -> list[Recording]:
    """The runs that `export` has written, in the same order. Empty lines are skipped.

    Raises JournalError naming the line: `exec.journal.version` for lines of a newer version,
    `exec.journal.failed` for invalid ones. The content of the facts is checked by
    `verify_recording`.
    """
    runs: list[Recording] = []
    facts: list[Event] = []
    fold = Fold()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            data = cast("JSON", json.loads(line, parse_constant=_finite, parse_float=_finite))
            if not isinstance(data, Mapping):
                raise ValueError("it is not an object")
            if data.get("type") == HEAD:
                fold = _history(data, fold)
                facts = []
                runs.append(_run(data, facts, fold))
            elif runs:
                facts.append(_fact(data))
                fold.apply(facts[-1])
            else:
                raise ValueError(f"it does not begin with a line of the type {HEAD!r}")
        except (ValueError, RecursionError, OverflowError) as error:
            raise JournalError(
                f"line {number} is not a line of an export: {error}", cause=error
            ) from None
    for run in runs:
        if not run.facts or run.facts[0].type != "run.start":
            raise JournalError(f"run {run.run_id} has no run.start in this export")
    return runs


def _head(
    run_id: str,
    session_id: str,
    digest: str,
    manifest: Mapping[str, JSON] | None,
    before: Fold | None,
) -> str:
    head: dict[str, JSON] = {
        "type": HEAD,
        "format": FORMAT,
        "run_id": run_id,
        "session_id": session_id,
        "digest": digest,
        "manifest": manifest,
    }
    if before is not None:
        head["messages"] = [message.to_json() for message in before.messages]
        if before.receipt is not None:
            head["compacted"] = before.receipt.to_json()
    return _line(head)


def _finite(text: str) -> float:
    """Raises ValueError for what no fact can contain: NaN, infinity, and numbers too large for a
    float."""
    number = float(text)
    if not isfinite(number):
        raise ValueError(f"{text} is not a JSON number")
    return number


def _line(data: JSON) -> str:
    text = dumps(data)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair: only an escape can hold it
        return json.dumps(data, separators=(",", ":"))
    return text


def _history(head: Mapping[str, JSON], before: Fold) -> Fold:
    written = head.get("format")
    if isinstance(written, int) and written > FORMAT:
        raise JournalError(
            f"an export was written by a newer version of lorimer (format {written})",
            code=ExecutorErrorCode.EXEC_JOURNAL_VERSION,
            hint="Update lorimer to read it.",
        )
    given = head.get("messages")
    if given is None:
        before.close()
        return before
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise ValueError("its messages are not a list")
    fold = Fold()
    fold.messages = [message_from_json(item) for item in given]
    compacted = head.get("compacted")
    fold.receipt = None if compacted is None else Receipt.from_json(compacted)
    return fold


def _run(head: Mapping[str, JSON], facts: list[Event], before: Fold) -> Recording:
    run_id, session_id, manifest = (head.get(k) for k in ("run_id", "session_id", "manifest"))
    if not isinstance(run_id, str) or not isinstance(session_id, str):
        raise ValueError("it names no run, or no session")
    if manifest is not None and not isinstance(manifest, Mapping):
        raise ValueError("its manifest is not an object")
    history = repaired(before.messages)
    return Recording(run_id, session_id, history, facts, manifest, before.receipt)


def _fact(data: Mapping[str, JSON]) -> Event:
    kind, run_id, stage, body = (data.get(k) for k in ("type", "run_id", "stage", "data"))
    iteration, time, seq = (data.get(k) for k in ("iteration", "time", "seq"))
    if not isinstance(kind, str) or not isinstance(run_id, str) or not isinstance(stage, str):
        raise ValueError("type, run_id and stage of a fact must be text")
    if kind not in FACT_KINDS:
        raise ValueError(f"there is no kind of fact {kind!r}")
    if type(iteration) is not int or type(seq) is not int or not isinstance(time, int | float):
        raise ValueError("iteration, seq and time of a fact must be numbers")
    if not isinstance(body, Mapping):
        raise ValueError("the data of a fact must be an object")
    return Event(kind, body, run_id, iteration, float(time), stage, seq)
