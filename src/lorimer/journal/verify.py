"""Verifies that a run, or a conversation, is as it was written and obeys the contract: its rows,
its facts, and what the store has in addition to them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from math import inf
from typing import cast

from lorimer.core.arguments import is_a, wrong
from lorimer.core.errors import ExecutorErrorCode, JournalError, LorimerError, PipelineError
from lorimer.core.journal import ALL_RUNS, Balance, Journal, RunRow
from lorimer.core.jsonable import JSON, fields_of
from lorimer.core.limits import Limits
from lorimer.core.manifest import manifest_digest
from lorimer.core.purse import purses_of
from lorimer.journal.contract import Contract, Finding, RunFacts
from lorimer.journal.fold import Fold
from lorimer.journal.projection import ended_row, started_row
from lorimer.journal.recording import Recording


async def verify(journal: Journal, name: str, purses: PurseCheck | None = None) -> list[Finding]:
    """What is wrong with a run (its id, or the beginning of it) or with a whole conversation (its
    session id); [] if nothing is. Reads the whole conversation, claims nothing, writes nothing.
    `purses`: shared by the checks of many runs, so that each purse is read once. Others may write
    to the conversation meanwhile.

    Raises PipelineError `exec.run.unknown` if there is neither, or it was removed meanwhile.
    """
    if not is_a(name, str):
        raise wrong("the id of a run or a session", name, "text", "result.run_id")
    row = await journal.find_run(name)
    stream = row.stream if row is not None else name
    rows = await journal.runs(limit=ALL_RUNS, stream=stream) if stream else []  # "" would be all
    if not rows:
        raise _unknown(name)
    found = await _stream(journal, stream, rows, purses or PurseCheck(journal))
    if found:  # what was listed before the facts were read may have changed since
        now = {row.run_id: row for row in await journal.runs(limit=ALL_RUNS, stream=stream)}
        if not now:
            raise _unknown(name)
        then = {row.run_id: row for row in rows}
        found = [
            finding
            for finding in found
            if finding.rule != "list" or then.get(finding.run_id) == now.get(finding.run_id)
        ]
    found.sort(key=lambda finding: finding.seq)
    if row is None or name == stream:
        return found
    after = min([other.first for other in rows if other.first > row.first], default=inf)
    return [
        finding
        for finding in found
        if finding.run_id == row.run_id or row.first <= finding.seq < after
    ]


def _unknown(name: str) -> PipelineError:
    return PipelineError(
        f"There is no run and no conversation {name!r} in this store.",
        code=ExecutorErrorCode.EXEC_RUN_UNKNOWN,
        hint="lorimer runs ls shows the runs there are.",
    )


def verify_recording(recording: Recording) -> list[Finding]:
    """What is wrong with the facts of one run, such as `read_export` returns: without a store there
    are no rows, no ledger and no list of runs to compare with."""
    contract = Contract()
    for fact in recording.facts:
        contract.fold.messages = contract.fold.messages or list(recording.history)
        contract.take(fact)
    found = list(contract.found)
    for facts in contract.runs.values():
        found += _limits(facts, recording.manifest)
    return found


async def _stream(
    journal: Journal, stream: str, rows: list[RunRow], purses: PurseCheck
) -> list[Finding]:
    damage = await journal.check(stream)
    found = [Finding(place.seq, "rows", "", place.what) for place in damage]
    contract = Contract()
    kept = await journal.snapshot(stream)
    complete = True
    try:
        async for fact in journal.read(stream):
            contract.take(fact)
            if kept is not None and fact.seq == kept[0]:
                found += _snapshot(kept, contract.fold)
    except JournalError as error:
        complete = False  # the facts after it cannot be checked
        if not damage:
            found.append(Finding(contract.fold.seq + 1, "rows", "", str(error)))
    found += contract.found
    for row in rows:
        facts = contract.runs.get(row.run_id)
        if facts is not None:
            found += _listed(row, facts) if complete or facts.end is not None else ()
            found += await _kept(journal, facts)
            found += await purses.of(facts)
        elif complete:
            found.append(Finding(row.first, "list", row.run_id, "its facts are missing"))
    known = {row.run_id for row in rows}
    for run_id, facts in contract.runs.items():
        if run_id not in known:
            seq = facts.start.seq or 0
            found.append(Finding(seq, "list", run_id, "it is not in the list of runs"))
    return found


def _snapshot(kept: tuple[int, bytes], fold: Fold) -> Iterator[Finding]:
    try:
        same = Fold.load(kept[1]).to_json() == fold.to_json()
    except JournalError as error:
        yield Finding(kept[0], "snapshot", "", str(error))
        return
    if not same:
        yield Finding(kept[0], "snapshot", "", "the snapshot differs from its facts")


def _listed(row: RunRow, facts: RunFacts) -> Iterator[Finding]:
    told = started_row(row.stream, facts.start.seq or 0, facts.start)
    if facts.end is not None:
        told = ended_row(told, facts.end)
    listed, said = asdict(row), asdict(told)
    for name in listed:
        if listed[name] != said[name]:
            what = f"the list of runs says {name} {listed[name]!r}, its facts {said[name]!r}"
            yield Finding(row.first, "list", row.run_id, what)


def _parsed(body: bytes, digest: str) -> JSON:
    """The manifest in a document; None: it does not have this digest, or is not a manifest."""
    try:
        manifest = cast("JSON", json.loads(body))
        return manifest if manifest_digest(manifest) == digest else None
    except (ValueError, RecursionError):
        return None


async def _kept(journal: Journal, facts: RunFacts) -> list[Finding]:
    """Check what the store has in addition to a run's facts: its money and its manifest."""
    run_id, seq = facts.run_id, facts.start.seq or 0
    found: list[Finding] = []
    digest = facts.start.data.get("manifest")
    body = await journal.get(digest) if isinstance(digest, str) else None
    if body is None:
        found.append(Finding(seq, "manifest", run_id, f"its manifest {digest} is not stored"))
    elif (manifest := _parsed(body, str(digest))) is None:
        found.append(Finding(seq, "manifest", run_id, "its manifest is not the one it names"))
    else:
        found += _limits(facts, manifest)
    if facts.end is not None:  # for a live run, the ledger may be ahead of the facts read
        balance = await journal.balance(run_id)
        if (balance.spent, balance.reserved) != (facts.cost_nano, 0):
            what = (
                f"the ledger says {balance.spent} spent and {balance.reserved} set aside, its "
                f"facts {facts.cost_nano} and 0"
            )
            found.append(Finding(facts.end.seq or 0, "ledger", run_id, what))
    return found


class PurseCheck:
    """Checks that purses agree with the facts of their runs."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._shares: dict[str, Mapping[str, Balance]] = {}
        """The shares of each purse found so far; those of a purse with many runs take long to
        read."""

    async def of(self, facts: RunFacts) -> list[Finding]:
        """Check the purses that pay for a run: its share of each, once it has ended, and, for the
        first run of each, that the purse's total is the sum over all its runs."""
        seq, run_id = (facts.end or facts.start).seq or 0, facts.run_id
        try:
            purses = purses_of(facts.start.data)
        except JournalError as error:
            return [Finding(facts.start.seq or 0, "ledger", run_id, str(error))]
        found: list[Finding] = []
        own = Balance(0, facts.cost_nano - facts.below_nano)
        for purse in purses:
            if purse.name not in self._shares and (what := await self._read(purse.name)):
                found.append(Finding(seq, "ledger", run_id, what))
            if facts.end is None:
                continue
            share = self._shares[purse.name].get(run_id, Balance())
            if share != own:  # unless the run has ended since they were read
                self._shares[purse.name] = shares = await self._journal.shares(purse.name)
                share = shares.get(run_id, Balance())
            if share != own:
                what = (
                    f"budget {purse.name} says {share.spent} spent and {share.reserved} set aside "
                    f"for it, its facts {own.spent} and 0"
                )
                found.append(Finding(seq, "ledger", run_id, what))
        return found

    async def _read(self, name: str) -> str:
        """What is wrong with a purse as a whole; "": nothing."""
        journal = self._journal
        before = await journal.balance(name)
        self._shares[name] = shares = await journal.shares(name)
        total = Balance(
            sum([each.reserved for each in shares.values()]),
            sum([each.spent for each in shares.values()]),
        )
        # others may be spending from it meanwhile
        if total == before or before != await journal.balance(name):
            return ""
        return (
            f"budget {name} holds {before.spent} spent and {before.reserved} set aside, "
            f"the shares of its runs come to {total.spent} and {total.reserved}"
        )


def _limits(facts: RunFacts, manifest: JSON) -> Iterator[Finding]:
    given = facts.start.data.get("limits")
    if not isinstance(given, Mapping) and isinstance(manifest, Mapping):
        given = manifest.get("limits")
    seq = (facts.end or facts.start).seq or 0
    try:
        limits = facts.raised(Limits.from_json(fields_of(given)))
    except LorimerError as error:
        yield Finding(seq, "manifest", facts.run_id, f"its limits cannot be read: {error}")
        return
    if facts.turns > limits.max_turns:
        what = f"{facts.turns} turns, and the limit is {limits.max_turns}"
        yield Finding(seq, "C6", facts.run_id, what)
    most = limits.max_cost_nano
    if most is not None and facts.cost_nano > most:
        what = f"{facts.cost_nano} nano-dollars spent, and the limit is {most}"
        yield Finding(seq, "C6", facts.run_id, what)
