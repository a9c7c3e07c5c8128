"""What every audit keeps and answers, whatever its store."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lorimer.core.errors import ConfigError, StoreFailed
from lorimer.core.jsonable import JSON
from lorimer.core.messages import ToolUse
from lorimer.run import (
    AgentLibrary,
    FolderInputFiles,
    InputFile,
    Ports,
    RunnableAgent,
    SavedAgent,
)
from lorimer.run.audit.chain import Sealer
from lorimer.run.audit.log import MAX_TEXT, AuditedRun, AuditLog, AuditQuery, AuditStore
from lorimer.run.audit.port import Audit, AuditClose, AuditStart
from lorimer.run.stores import SQLiteAgents
from lorimer.run.stores.memory_audit import MemoryAudit
from lorimer.run.stores.sqlite_audit import SQLiteAudit
from lorimer.testing import SimulatedWorld, simulate, simulate_in
from lorimer.tools.policy.people import Person
from lorimer.world.files import RootedFiles
from tests.quick import calls
from tests.run.support import executor_of
from tests.run.support_audit import CLOSE, STORES, log_of, whole_run
from tests.world.levels import needs


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> AuditStore:
    return STORES[str(request.param)](tmp_path)


def ids(runs: Sequence[AuditedRun]) -> list[str]:
    return [each.start.run_id for each in runs]


def test_row_30_start_and_close_carry_all_that_was_said(store: AuditStore) -> None:
    start = AuditStart("r", "agent-7", "reviewer", "bob", "room", "p", {"lens": ["bugs", 1]}, 5.0)

    async def main(world: SimulatedWorld) -> None:
        log: AuditLog = log_of(store, world)
        port: Audit = log
        assert await log.run("r") is None
        run = await port.start(start)
        assert await log.run("r") == AuditedRun(start, None)
        await run.close(CLOSE)
        assert await log.run("r") == AuditedRun(start, CLOSE)
        await log.close()

    simulate(main)


def test_a_run_is_closed_also_if_the_clock_was_set_back_meanwhile(store: AuditStore) -> None:
    class SetBack(SimulatedWorld):
        ago_s = 0.0

        def time(self) -> float:
            return super().time() - self.ago_s

    async def main(world: SimulatedWorld) -> None:
        assert isinstance(world, SetBack)
        log = log_of(store, world)
        run = await log.start(AuditStart("r"))
        world.ago_s = 3600
        await run.close(CLOSE)
        assert await log.run("r") == AuditedRun(AuditStart("r"), CLOSE)
        again = await log.start(AuditStart("r"))  # it is resumed
        assert await log.run("r") == AuditedRun(AuditStart("r"), None)
        await again.close(CLOSE)
        assert await log.run("r") == AuditedRun(AuditStart("r"), CLOSE)

    simulate_in(SetBack(), main)


def test_records_of_a_run_stand_in_order_with_their_times(store: AuditStore) -> None:
    async def main(world: SimulatedWorld) -> list[tuple[str, JSON]]:
        log = log_of(store, world)
        began = world.time()
        await whole_run(log, AuditStart("other"))
        await world.sleep(10)
        await whole_run(log, AuditStart("r"))
        found = await log.records("r")
        assert [round(each.time - began) for each in found] == [10] * 5
        assert {each.run_id for each in found} == {"r"}
        assert found[1].data["arguments"] == {"query": "ships"}
        assert found[2].data["usage"] == {"input_tokens": 10, "output_tokens": 5}
        assert found[3].data == {
            "event": "compaction_fired",
            "data": {"before": 9, "after": 3},
        }
        assert [each.kind for each in await log.records("r", limit=2)] == ["log", "close"]
        return [(each.kind, each.data.get("status")) for each in found]

    assert simulate(main) == [
        ("start", None),
        ("tool", None),
        ("step", None),
        ("log", None),
        ("close", "ok"),
    ]


def test_row_31_a_run_that_failed_before_its_loop_is_closed_as_error(store: AuditStore) -> None:
    async def main(world: SimulatedWorld) -> None:
        log = log_of(store, world)
        end = AuditClose("error", code="exec.tool.unknown", error="there is no tool 'serch'")
        await (await log.start(AuditStart("r"))).close(end)
        found = await log.run("r")
        assert found is not None and found.close == end

    simulate(main)


def test_row_85_runs_by_caller_children_and_last_of_a_subject(store: AuditStore) -> None:
    async def main(world: SimulatedWorld) -> None:
        log = log_of(store, world)
        for number in range(6):
            subject = "a" if number < 4 else "b"
            caller = "bob" if number % 2 else "eve"
            parent = "r0" if number in (2, 3) else ""
            start = AuditStart(f"r{number}", subject, "", caller, "", parent)
            await whole_run(log, start)
        assert ids(await log.runs()) == ["r5", "r4", "r3", "r2", "r1", "r0"]
        assert ids(await log.runs(limit=2)) == ["r5", "r4"]
        assert ids(await log.runs(caller_id="bob")) == ["r5", "r3", "r1"]
        assert ids(await log.runs(caller_id="bob", subject="a")) == ["r3", "r1"]
        assert ids(await log.children("r0")) == ["r3", "r2"]
        assert await log.children("r5") == await log.children("") == []
        last = await log.last("a")
        assert last is not None and last.start.run_id == "r3" and last.close == CLOSE
        assert await log.last("c") is await log.last("") is await log.run("") is None

    simulate(main)


def test_row_85_the_chain_of_ancestors_ends_though_it_be_a_circle(store: AuditStore) -> None:
    async def main(world: SimulatedWorld) -> None:
        log = log_of(store, world)
        for run, parent in {"a": "b", "b": "c", "c": "a", "x": "gone", "y": "x", "z": "z"}.items():
            await log.start(AuditStart(run, parent_run_id=parent))
        assert ids(await log.ancestors("a")) == ["b", "c"]
        assert ids(await log.ancestors("y")) == ["x"]
        assert await log.ancestors("z") == await log.ancestors("nobody") == []

    simulate(main)


def test_a_run_that_was_resumed_is_listed_once(store: AuditStore) -> None:
    async def main(world: SimulatedWorld) -> None:
        log = log_of(store, world)
        suspended = AuditClose("suspended")
        await whole_run(log, AuditStart("r", caller_id="bob"), suspended)
        assert await log.runs() == [AuditedRun(AuditStart("r", caller_id="bob"), suspended)]
        await world.sleep(1)
        again = await log.start(AuditStart("r", caller_id="bob"))
        assert await log.runs() == [AuditedRun(AuditStart("r", caller_id="bob"), None)]
        await again.close(CLOSE)
        assert await log.runs() == [AuditedRun(AuditStart("r", caller_id="bob"), CLOSE)]

    simulate(main)


def test_runs_are_listed_in_so_much_time_for_each_however_many_there_are(store: AuditStore) -> None:
    async def main(world: SimulatedWorld) -> list[int]:
        log, taken = log_of(store, world), list[int]()
        for begun, until in ((0, 20), (20, 200)):
            for number in range(begun, until):
                await whole_run(log, AuditStart(f"r{number}"))
            with calls() as made:
                found = await log.runs(limit=until)
            assert [each.close for each in found] == [CLOSE] * until
            taken += made
        await log.close()
        return taken

    few, many = simulate(main)
    assert many < 15 * few


def test_runs_that_were_told_no_end_are_asked_for_alone(store: AuditStore) -> None:
    async def main(world: SimulatedWorld) -> None:
        log = log_of(store, world)
        for run, caller in {"died": "bob", "died too": "eve", "ended": "bob"}.items():
            going = await log.start(AuditStart(run, caller_id=caller))
            await whole_run(log, AuditStart(f"beside {run}", caller_id=caller))
        await going.close(CLOSE)
        again = await log.start(AuditStart("died too", caller_id="eve"))
        unfinished = await log.runs(unfinished=True)
        assert ids(unfinished) == ["died too", "died"]
        assert [each.close for each in unfinished] == [None, None]
        assert ids(await log.runs(unfinished=True, caller_id="bob")) == ["died"]
        assert ids(await log.runs(unfinished=True, limit=1)) == ["died too"]
        await again.close(CLOSE)  # which ends both of its beginnings
        assert ids(await log.runs(unfinished=True)) == ["died"]

    simulate(main)


@pytest.mark.parametrize("key", [None, b"sixteen bytes at least"], ids=["no key", "key"])
def test_row_85_purge_takes_old_whole_runs_and_the_chain_goes_on(
    store: AuditStore, key: bytes | None
) -> None:
    async def main(world: SimulatedWorld) -> None:
        log = log_of(store, world, key)
        await whole_run(log, AuditStart("old"))
        long = await log.start(AuditStart("long"))
        await whole_run(log, AuditStart("also old"))
        await world.sleep(100)
        late = world.time()
        await long.close(CLOSE)
        before = await log.head()
        assert before is not None
        assert await log.purge(late, by="bob") == 5
        assert ids(await log.runs()) == ["also old", "long"]
        assert await log.run("old") is None and await log.records("old") == []
        assert len(await log.records("also old")) == 5
        assert (await log.verify()).records == 8
        assert (await log.verify(before.told())).ok
        assert await log.purge(late) == 0  # `long` has a record from then
        assert await log.purge(late + 1) == 8
        assert await log.runs() == []
        verdict = await log.verify()
        assert verdict.ok and verdict.records == 1
        assert await log.purge(late) == 0  # nor is what tells of the purge older
        await whole_run(log, AuditStart("new"))
        assert (await log.verify()).records == 6
        purges = await log.records(kind="purged")
        assert [each.data["by"] for each in purges] == [""]

    simulate(main)


def test_secrets_and_what_names_itself_one_are_not_kept(store: AuditStore) -> None:
    async def main(world: SimulatedWorld) -> None:
        secrets = {"s3cr3t-value-91": "WIKI"}
        log = AuditLog(store, secrets=secrets, world=world, threads=False)
        inputs: dict[str, JSON] = {
            "query": "see s3cr3t-value-91",
            "password": "abc",
            "credentials": {"user": "bob", "pin": 1234, "on": True},
            "deep": [{"api_key": "x", "key": "name", "max_tokens": 5}],
        }
        run = await log.start(AuditStart("r", inputs=inputs))
        await run.close(AuditClose("ok", "x" * (MAX_TEXT - 9) + "s3cr3t-value-91"))
        found = await log.run("r")
        assert found is not None and found.close is not None
        assert found.start.inputs == {
            "query": "see [redacted:WIKI]",
            "password": "[redacted]",
            "credentials": {"user": "[redacted]", "pin": "[redacted]", "on": True},
            "deep": [{"api_key": "[redacted]", "key": "name", "max_tokens": 5}],
        }
        assert "s3cr" not in found.close.output and "more]" in found.close.output

    simulate(main)


def test_large_and_impossible_data_is_told_as_that_and_the_rest_is_kept(store: AuditStore) -> None:
    circle: list[Any] = []
    circle.append(circle)

    async def main(world: SimulatedWorld) -> None:
        log = log_of(store, world)
        await log.start(AuditStart("nan", inputs={"a": float("nan")}))
        await log.start(AuditStart("circle", inputs={"a": circle}))
        await log.start(AuditStart("half \ud800", inputs={"a": "\ud800"}))
        await log.start(AuditStart("large", caller_id="bob", inputs={"a": ["y" * 50] * 1000}))
        assert (await log.runs(caller_id="bob"))[0].start.inputs["cut_bytes"] == 53_007
        for run in ("nan", "circle"):
            found = await log.run(run)
            assert found is not None and list(found.start.inputs) == ["not_json"]
        assert len(await log.runs()) == 4
        assert (await log.verify()).ok

    simulate(main)


def test_a_log_is_not_gone_on_with_another_key(store: AuditStore) -> None:
    async def main(world: SimulatedWorld) -> None:
        await whole_run(log_of(store, world, b"k" * 16), AuditStart("r"))
        other = log_of(store, world, b"l" * 16)
        with pytest.raises(StoreFailed, match="another key"):
            await other.start(AuditStart("s"))
        assert (await log_of(store, world, b"k" * 16).verify()).records == 5

    simulate(main)
    with pytest.raises(ConfigError, match="16 bytes"):
        Sealer(b"short")


class Slow(MemoryAudit):
    """Holds every write until it is let go, or fails it."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.broken = False
        self.threads: set[int] = set()

    def append(self, bodies: Sequence[bytes], sealer: Sealer) -> None:
        self.go.wait(30)
        self.threads.add(threading.get_ident())
        if self.broken:
            raise StoreFailed("the disk is full")
        super().append(bodies, sealer)


def test_a_slow_store_holds_up_nobody_but_who_waits_for_it() -> None:
    async def main() -> None:
        store = Slow()
        log = AuditLog(store)
        starting = asyncio.create_task(log.start(AuditStart("r")))
        done, _ = await asyncio.wait([starting], timeout=0.05)
        assert not done  # and the loop went on
        store.go.set()
        run = await starting
        store.go.clear()
        for number in range(50):
            run.log("n", {"at": number})
        store.go.set()
        await run.close(CLOSE)
        events = [each.data["data"] for each in await log.records("r") if each.kind == "log"]
        assert events == [{"at": number} for number in range(50)]
        assert threading.get_ident() not in store.threads
        await log.close()

    asyncio.run(main())


def test_what_a_failing_store_refused_is_written_when_it_works_again() -> None:
    async def main(world: SimulatedWorld) -> None:
        store = Slow()
        store.go.set()
        log = log_of(store, world)
        run = await log.start(AuditStart("r"))
        store.broken = True
        run.log("n", {"at": 1})
        with pytest.raises(StoreFailed, match="disk is full"):
            await run.close(CLOSE)
        store.broken = False
        await log.start(AuditStart("s"))
        assert [each.kind for each in await log.records("r")] == ["start", "log", "close"]
        run.log("n", {"at": 2})  # and now at once again
        assert len(store.find(AuditQuery("log"), 9)) == 2

    simulate(main)


def test_records_that_find_no_room_are_counted_in_the_log() -> None:
    async def main(world: SimulatedWorld) -> None:
        store = Slow()
        store.go.set()
        log = AuditLog(store, world=world, threads=False, max_waiting_bytes=1_000)
        run = await log.start(AuditStart("r"))
        store.broken = True
        more = 20
        for number in range(more):
            run.log("n", {"at": number})
        store.broken = False
        await run.close(CLOSE)
        kept = [each for each in await log.records("r") if each.kind == "log"]
        assert [each.data for each in await log.records(kind="lost")] == [
            {"count": more - len(kept)}
        ]
        assert 0 < len(kept) < more
        assert (await log.records("r"))[-1].kind == "close"  # which has waited for room
        assert (await log.verify()).ok

    simulate(main)


def test_programs_of_a_run_do_not_see_its_audit_saved_agents_and_files_of_others(
    tmp_path: Path,
) -> None:
    needs("L2")
    work = tmp_path / "work"
    work.mkdir()
    (work / "mine").write_text("SQLite format, too")
    told = "audit.db agents.db seen.db inputs/*"
    command = {"command": f"for each in {told}; do head -c 15 $each; done; head -c 18 mine; ls"}

    async def main() -> str:
        log, seen = AuditLog(SQLiteAudit(work / "audit.db")), SQLiteAudit(work / "seen.db")
        assert seen.head() is None
        library = AgentLibrary(SQLiteAgents(work / "agents.db"))
        ann = Person("ann")
        saved = await library.save(SavedAgent(name="poet"), ann)
        files = FolderInputFiles(RootedFiles([work]))
        await files.stage("r_other", "file_1", InputFile("a", b"of another run"))
        async with executor_of(
            [[ToolUse("c1", "Bash", command)], "done"],
            ports=Ports(audit=log, input_files=files, palette=library.palette(saved, ann)),
            workspace=work,
            rules=["Bash"],
        ) as host:
            result = await host.run(RunnableAgent("a", tools=("Bash",)), "go")
        assert result.status == "ok"
        (call,) = await log.records(result.run_id, kind="tool")
        seen.close()
        await library.close()
        await log.close()
        return str(call.data["result"])

    told = asyncio.run(main())
    assert "SQLite format, too" in told and "audit.db" in told
    assert "of another run" not in told
    assert told.count("SQLite format 3") == 1  # of the file that nobody hides


ALONE = """
import sys
import lorimer.run, lorimer.run.audit.log, lorimer.run.saved.library, lorimer.run.executor
names = {"apsw", "sqlite3", "lorimer.run.stores", "lorimer.journal.sqlite.database"}
assert not names & set(sys.modules), names & set(sys.modules)
"""


def test_row_2_no_store_is_imported_before_it_is_used() -> None:
    # a measurement of coverage keeps what it finds in SQLite
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    subprocess.run([sys.executable, "-c", ALONE], check=True, timeout=60, env=env)


FORKING = """
import asyncio, os, signal, sys
from lorimer.core.errors import StoreFailed
from lorimer.run.audit.log import AuditLog
from lorimer.run.stores import SQLiteAudit

log = AuditLog(SQLiteAudit("audit.db"))
assert asyncio.run(log.verify()).ok
if sys.argv[1] == "closed":
    asyncio.run(log.close())
pid = os.fork()
if not pid:
    signal.alarm(5)
    try:
        print(asyncio.run(log.verify()).ok, flush=True)
    except StoreFailed as error:
        print(error, flush=True)
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
"""


@pytest.mark.parametrize(
    ("state", "told"), [("closed", "True"), ("open", "open when this process was forked")]
)
def test_an_audit_used_before_a_fork_answers_in_the_child(
    state: str, told: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORKING, state]
    done = subprocess.run(
        command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, timeout=60, check=True
    )
    assert told in done.stdout


def test_one_audit_serves_executors_of_several_threads() -> None:
    writing, release = threading.Event(), threading.Event()

    class Held(MemoryAudit):
        def append(self, bodies: Sequence[bytes], sealer: Sealer) -> None:
            writing.set()
            assert release.wait(10)
            super().append(bodies, sealer)

    log = AuditLog(Held())
    ended: list[tuple[str, Sequence[str]]] = []

    def work() -> None:
        executor = executor_of(["hello"], ports=Ports(audit=log))
        result = executor.run_sync(RunnableAgent(), "hi")
        ended.append((result.status, list(result.warnings)))

    threads = [threading.Thread(target=work, daemon=True) for _ in range(5)]
    threads[0].start()
    assert writing.wait(10)
    for thread in threads[1:]:  # all that they say comes to be written at once
        thread.start()
    threading.Event().wait(0.3)
    release.set()
    until = time.monotonic() + 7  # a port's 10 s wake a loop that nobody told
    for thread in threads:
        thread.join(max(until - time.monotonic(), 0))
    assert ended == [("ok", [])] * 5
    assert asyncio.run(log.verify()).ok
    asyncio.run(log.close())
