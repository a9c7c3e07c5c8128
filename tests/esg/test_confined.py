"""Confined steps, by real workers: what they can do as `StepExecutor` can, and how they recover."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest

from lorimer.core.errors import ExecutorErrorCode, LorimerError
from lorimer.core.world import Finished, Isolation, Level, ProcessLimits, Sandbox, Sink
from lorimer.esg.confined import ConfinedSteps, StepLimits, StepWorkers, WorkerError
from lorimer.esg.graph.questions import StepError
from lorimer.esg.patching.patches import Edit, PatchResult, hash_of
from lorimer.world import RealWorld
from tests.world.levels import needs

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="confined steps are for Linux")

HELD: tuple[Level, ...] = ("L1", "L2")
Play = Callable[[ConfinedSteps], Awaitable[None]]


class At(RealWorld):
    """Holds every program at just this level."""

    def __init__(self, level: Level) -> None:
        super().__init__()
        self._level: Level = level

    async def spawn(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        stdin: Any = b"",
        limits: ProcessLimits = ProcessLimits(),
        sink: Sink | None = None,
    ) -> Finished:
        from lorimer.world.spawn import run_process

        isolation = Isolation("auto", self._level)
        return await run_process(
            argv, cwd=cwd, env=env, stdin=stdin, limits=limits, isolation=isolation, sink=sink
        )


def play(
    script: Play, folder: Path, level: Level = "L1", limits: StepLimits = StepLimits(step_s=20)
) -> None:
    async def main() -> None:
        async with StepWorkers(folder, limits=limits, world=At(level)) as workers:
            await script(await ConfinedSteps.begin(workers))

    needs(level)

    asyncio.run(main())


@pytest.mark.parametrize("level", HELD)
def test_what_steps_define_is_in_main(level: Level, tmp_path: Path) -> None:
    one = "class Foo:\n    v = 1\ndef f(x):\n    return x + k, Foo.v"
    child = (
        "import multiprocessing\nfork = multiprocessing.get_context('fork')\n"
        "come, go = fork.Pipe()\nprocess = fork.Process(target=lambda: go.send((f(1), Foo)))\n"
        "process.start()\nprint(come.recv()[0])\nprocess.join()\ndel come, go, process"
    )

    async def script(session: ConfinedSteps) -> None:
        await session.execute("k", "k = 1")
        await session.execute("foo", one)
        saved = "import pickle\nwith open('foo', 'wb') as file:\n    pickle.dump(Foo(), file)"
        await session.execute("save", f"{saved}\ndel file")
        loaded = "with open('foo', 'rb') as file:\n    print(pickle.load(file).v)\ndel file"
        await session.execute("load", loaded)
        result = await session.execute("child", child)
        assert result.stdout == "(2, 1)\n", result.failure
        await session.edit_step("foo", one.replace("v = 1", "v = 2"))
        assert (await session.replay()).ran == ("foo", "save", "load", "child")
        assert [session.results[each].stdout for each in ("load", "child")] == ["2\n", "(2, 2)\n"]
        await session.edit_step("k", "k = 5")
        assert (await session.replay()).ran == ("k", "child")
        assert session.results["child"].stdout == "(6, 2)\n"
        crash = await session.execute("crash", "import os, __main__\n__main__.k = 9\nos.abort()")
        assert crash.code == ExecutorErrorCode.EXEC_STEP_CRASHED
        assert (await session.execute("after", "import __main__\n__main__.k")).shown == "5"

    play(script, tmp_path, level)


def test_what_a_step_puts_in_place_of_a_librarys_function_does_not_end_its_session(
    tmp_path: Path,
) -> None:
    code = "import json, functools\njson.dumps = functools.partial(json.dumps, indent=2)"

    async def script(session: ConfinedSteps) -> None:
        assert (await session.execute("patch", code)).ok
        result = await session.execute("show", "print(json.dumps([1]))")
        assert result.stdout == "[\n  1\n]\n"
        assert (await session.execute("loads", "json.loads = None")).ok
        assert (await session.execute("low", "import sys\nsys.setrecursionlimit(60)")).failure
        assert (await session.execute("after", "1 + 1")).shown == "2"
        assert session.recoveries == 0

    play(script, tmp_path)


@pytest.mark.parametrize("level", HELD)
def test_an_edit_runs_what_is_stale_and_nothing_else(level: Level, tmp_path: Path) -> None:
    async def script(session: ConfinedSteps) -> None:
        await session.execute("load", "rows = [3, 1, 2]")
        await session.execute("scale", "factor = 10")
        await session.execute("sort", "rows.sort()")
        shown = await session.execute("show", "print([row * factor for row in rows])\nrows")
        assert (shown.stdout, shown.shown, shown.type) == ("[10, 20, 30]\n", "[1, 2, 3]", "list")
        assert await session.edit_step("scale", "factor = 100") == ["scale", "show"]
        assert [each.step for each in await session.plan()] == ["scale", "show"]
        assert (await session.replay()).ran == ("scale", "show")
        assert session.results["show"].stdout == "[100, 200, 300]\n"
        assert session.isolation is not None
        assert session.isolation.in_force == level

    play(script, tmp_path, level)


SHORT = StepLimits(step_s=0.4, memory_bytes=2 * 1024**3, file_bytes=10_000, output_chars=2_000)
CODE = ExecutorErrorCode
TIMEOUT = CODE.EXEC_STEP_TIMEOUT
ENDED: dict[str, tuple[str, ExecutorErrorCode, str]] = {
    "a loop": ("while True:\n    pass", CODE.EXEC_STEP_TIMEOUT, "longer than 0.4 s"),
    "a loop in C": ("10**10**9", CODE.EXEC_STEP_TIMEOUT, "longer than 0.4 s"),
    "a loop that catches all": (
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        CODE.EXEC_STEP_TIMEOUT,
        "longer than 0.4 s",
    ),
    "endless printing": ("while True: print('x' * 1000)", CODE.EXEC_STEP_TIMEOUT, "longer"),
    "memory": ("bytearray(10 * 2**30)", CODE.EXEC_STEP_OUT_OF_MEMORY, ""),
    "an abort": ("import os; os.abort()", CODE.EXEC_STEP_CRASHED, "SIGABRT"),
    "a fault": ("import ctypes; ctypes.string_at(0)", CODE.EXEC_STEP_CRASHED, "SIGSEGV"),
    "an exit from below": ("import os; os._exit(3)", CODE.EXEC_STEP_CRASHED, "status 3"),
    "an interrupt": ("raise KeyboardInterrupt", CODE.EXEC_STEP_CRASHED, "in line 1"),
    "a stop": ("import os; os.kill(os.getpid(), 19)", CODE.EXEC_STEP_TIMEOUT, "longer"),
    "processes that leave": (
        "import os, time\n"
        "for _ in range(5):\n"
        "    if os.fork() == 0:\n"
        "        os.setsid()\n"
        "        if os.fork() == 0: time.sleep(100)\n"
        "        os._exit(0)\n"
        "os.abort()",
        CODE.EXEC_STEP_CRASHED,
        "SIGABRT",
    ),
    "the death of all that it can reach": (
        "import os\nos.kill(-1, 9)\nos.kill(os.getpid(), 9)",
        CODE.EXEC_STEP_OUT_OF_MEMORY,
        "killed",
    ),
}


@pytest.mark.parametrize("level", HELD)
def test_what_does_not_end_well_has_changed_nothing(level: Level, tmp_path: Path) -> None:
    async def script(session: ConfinedSteps) -> None:
        loop = asyncio.get_running_loop()
        (folder / "runs").write_text("")
        once = "open('runs', 'a').write('x')\nrest = iter([1, 2, 3, 4])\nnext(rest)"
        assert (await session.execute("once", once)).shown == "1"
        await session.execute("xs", "xs = [1]")
        for name, (code, expected, why) in cases.items():
            began = loop.time()
            ended = await session.execute("bad", code)
            took = loop.time() - began
            assert ended.code is expected, name
            assert ended.failure is not None
            assert why in ended.failure.message
            assert took < 10, name  # on a busy machine; the benchmark has the figure
            looked = await session.execute("look", "xs")
            while looked.code is TIMEOUT:  # the machine stood still for as long as a step may take
                looked = await session.execute("look", "xs")
            assert looked.shown == "[1]", name
        status = await session.status()
        assert (status["bad"], status["xs"], status["look"]) == ("failed", "fresh", "fresh")
        # the iterator is where it was: its step did not have to run again
        assert (await session.execute("next", "next(rest)")).shown == "2"

    for limits in (SHORT, replace(SHORT, step_s=20)):  # who is to die by itself has the time to
        late = limits is SHORT
        folder = tmp_path / str(late)
        folder.mkdir()
        cases = {name: case for name, case in ENDED.items() if (case[1] is TIMEOUT) is late}
        play(script, folder, level, limits)


def test_only_so_much_is_written_and_told(tmp_path: Path) -> None:
    async def script(session: ConfinedSteps) -> None:
        printed = await session.execute("print", "print('a' * 10**6, 'z')")
        assert printed.ok
        assert len(printed.stdout) < 2_200
        assert printed.stdout.endswith("z\n")
        big = await session.execute("big", "open('big', 'wb').write(bytes(10**6))")
        assert big.failure is not None
        assert "too large" in big.failure.message
        below = await session.execute("below", "import os\nn = os.write(2, b'from below')")
        assert below.stdout == "from below"

    play(script, tmp_path, limits=SHORT)


def test_without_an_heir_steps_run_again_where_they_are_needed(tmp_path: Path) -> None:
    async def script(session: ConfinedSteps) -> None:
        wait = "import threading\nhold = threading.Event()\n"
        begin = f"{wait}threading.Thread(target=hold.wait, daemon=True).start()"
        await session.execute("runs", "with open('runs', 'a') as f: n = f.write('x')")
        await session.execute("xs", "xs = [1]")
        await asyncio.sleep(0.1)  # an heir is made
        await session.execute("kill", "import os, signal\nos.kill(-1, signal.SIGKILL)")
        await session.execute("thread", begin)  # and no other, while there is a thread
        assert (await session.execute("bad", "import os; os.abort()")).code is not None
        assert (await session.execute("look", "xs")).shown == "[1]"
        assert (tmp_path / "runs").read_text() == "x", "nobody needs what it made"
        assert (await session.status())["bad"] == "failed"

    play(script, tmp_path)


def test_a_replay_goes_on_after_a_step_that_ends_its_worker(tmp_path: Path) -> None:
    async def script(session: ConfinedSteps) -> None:
        await session.execute("a", "a = 1")
        await session.execute("bad", "b = a\nif a == 2:\n    import os; os.abort()")
        await session.execute("c", "c = b")
        await session.execute("d", "d = a")
        await session.edit_step("a", "a = 2")
        await asyncio.sleep(0.1)  # an heir is made
        done = await session.replay()
        assert (done.failed, done.blocked) == (("bad",), ("c",))
        assert set(done.ran) == {"a", "bad", "d"}
        assert session.results["bad"].code is CODE.EXEC_STEP_CRASHED
        assert (await session.names())["d"] == ("int", "2")
        assert (await session.replay()).ran == ()  # not once more
        assert session.recoveries == 1
        await session.edit_step("bad", "b = a * 10")
        assert (await session.replay()).ran == ("bad", "c")
        assert (await session.names())["c"] == ("int", "20")

    play(script, tmp_path)


@pytest.mark.parametrize("level", HELD)
def test_a_cancelled_step_is_ended_and_the_session_goes_on(level: Level, tmp_path: Path) -> None:
    async def script(session: ConfinedSteps) -> None:
        await session.execute("xs", "xs = [1]")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await session.execute("bad", "xs.append(2)\nwhile True: pass")
        assert (await session.execute("look", "xs")).shown == "[1]"
        assert "bad" not in session.steps

    play(script, tmp_path, level)


def zygotes(folder: Path) -> list[int]:
    found = list[int]()
    for each in Path("/proc").iterdir():
        try:
            inside = each.name.isdigit() and Path(os.readlink(each / "cwd")) == folder
            if inside and b"zygote.py" in (each / "cmdline").read_bytes():
                found.append(int(each.name))
        except OSError:
            continue
    return sorted(found)


@pytest.mark.parametrize("level", HELD)
def test_a_session_outlives_its_zygote(level: Level, tmp_path: Path) -> None:
    async def script(session: ConfinedSteps) -> None:
        await session.execute("a", "a = [1]")
        await session.execute("b", "a.append(2)")
        await session.add_step("new", "early = len(a)")
        await session.move_step("new", after="a")
        await session.execute("bad", "import os; os.abort()")
        for each in zygotes(tmp_path):
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        assert (await session.execute("look", "a")).shown == "[1, 2]"
        assert session.steps == ("a", "new", "b", "bad", "look")
        status = await session.status()
        assert (status["bad"], status["new"]) == ("failed", "new")
        await session.replay()
        assert (await session.names())["early"] == ("int", "1")
        await session.edit_step("new", "a.append(3)")
        for each in zygotes(tmp_path):
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        assert "look" in (await session.replay()).ran
        assert session.results["look"].shown == "[1, 3, 2]"

    play(script, tmp_path, level)


@pytest.mark.parametrize("change", ["a.append(2)", "also.append(2)", "[also][0].append(2)"])
def test_a_session_without_values_knows_by_what_other_names_an_object_goes(
    change: str, tmp_path: Path
) -> None:
    async def script(session: ConfinedSteps) -> None:
        await session.execute("a", "a = [1]")
        await session.execute("b", "b = a")
        await session.execute("also", "also = a")
        await session.execute("change", "pass")
        await session.execute("print", "print(b)")
        for each in zygotes(tmp_path):
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        await session.edit_step("change", change)
        await session.replay()
        assert session.results["print"].stdout == "[1, 2]\n"

    play(script, tmp_path)


@pytest.mark.parametrize("level", HELD)
def test_nothing_is_left_when_it_ends(level: Level, tmp_path: Path) -> None:
    async def script(session: ConfinedSteps) -> None:
        await session.execute(
            "a", "import os, time\nif os.fork() == 0: os.setsid(); time.sleep(60)"
        )
        assert zygotes(tmp_path)

    play(script, tmp_path, level)
    assert zygotes(tmp_path) == []


def test_43_a_saved_session_is_opened_elsewhere_and_runs_what_is_needed(tmp_path: Path) -> None:
    async def main() -> None:
        async with StepWorkers(tmp_path, world=At("L1")) as workers:
            session = await ConfinedSteps.begin(workers)
            await session.execute("a", "a = [1]\nopen('runs', 'a').write('a')")
            await session.execute("b", "print('b')\nb = a + [2]\nopen('runs', 'a').write('b')")
            await session.execute("c", "c = 3")
            await session.execute("bad", "1 / 0")
            await session.execute("dead", "import os; os.abort()")
            await session.edit_step("c", "c = 4")
            for number in range(30):
                await session.execute(f"x{number}", f"x{number} = {number}")
            saved = json.loads(json.dumps(session.save()))
        async with StepWorkers(tmp_path, world=At("L1")) as workers:
            session = await ConfinedSteps.open(workers, saved)
            assert session.results["b"].stdout == "b\n"
            assert session.results["dead"].code is CODE.EXEC_STEP_CRASHED
            status = await session.status()
            assert [status[each] for each in ("a", "b", "c")] == ["fresh", "fresh", "stale"]
            assert (status["bad"], status["dead"]) == ("failed", "failed")
            assert (await session.execute("d", "a + [c]")).shown == "[1, 3]"
            assert (await session.replay()).ran == ("c", "bad", "d")
            assert session.results["d"].shown == "[1, 4]"
            assert len(await session.names()) == 30 + 3
        for wrong in ({}, {"format": 1, "steps": [{"step": 1}]}, {"format": 2, "steps": []}):
            async with StepWorkers(tmp_path, world=At("L1")) as workers:
                with pytest.raises(StepError, match="saved session"):
                    await ConfinedSteps.open(workers, wrong)

    needs("L1")
    asyncio.run(main())


LIES = {
    "another answer": b'{"n": 3, "answer": {"result": {"stdout": 7, "failure": 3, "reads": "x"}}}',
    "no answer": b"{]\n[1, 2]\nnull",
    "much of it": b"[" * 100_000,
    "a death": b'{"at": 99999999999999999999999, "status": "x"}',
    "what is saved": b'{"saved": 1000000}',
    "an event": b'{"n": 3, "tell": {"event": "step.finished", "step": "xs", "result": {}}}',
}


@pytest.mark.parametrize("lie", LIES)
def test_a_worker_that_lies_is_not_believed_but_as_text(lie: str, tmp_path: Path) -> None:
    async def script(session: ConfinedSteps) -> None:
        await session.execute("xs", "xs = [1]")
        said = b"\n" + LIES[lie] + b"\n"
        say = f"import os\nfor fd in range(3, 20):\n    try: os.write(fd, {said!r})\n"
        try:
            result = await session.execute("lie", f"{say}    except OSError: pass")
        except LorimerError:
            return
        assert isinstance(result.stdout, str)
        assert all(isinstance(each, str) for each in result.reads)
        assert isinstance(session.results["xs"].shown, str)

    play(script, tmp_path, limits=StepLimits(step_s=2))


HEIRS = {
    "a number that is none": "heir(b'9' * 40, ours)",
    "no number": "heir(b'x', ours)",
    "no socket": "heir(b'7', os.pipe()[1])",
    "one that takes no message": "fill(); heir(b'%d' % os.getpid(), ours)",
    "none": "leash.shutdown(socket.SHUT_RDWR)",
}
FORGED = """
import fcntl, os, signal, socket, sys, time

frame = sys._getframe()
while type(frame.f_locals.get("self")).__name__ != "_Serving":
    frame = frame.f_back
leash = frame.f_locals["self"]._leash
ours, theirs = socket.socketpair()

def heir(number, wake):
    socket.send_fds(leash, [number], [wake if isinstance(wake, int) else wake.fileno()])

def fill():
    try:
        while True: ours.send(b"x" * 4096, socket.MSG_DONTWAIT)
    except BlockingIOError:
        pass

held = open("held", "w")
fcntl.flock(held, fcntl.LOCK_EX)
if os.fork() == 0:
    os.setsid()
    time.sleep(60)
{attempt}
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("level", HELD)
@pytest.mark.parametrize("what", HEIRS)
def test_a_forged_heir_is_none_and_nothing_outlives_the_session(
    what: str, level: Level, tmp_path: Path
) -> None:
    async def script(session: ConfinedSteps) -> None:
        await session.execute("xs", "xs = [1]")
        ended = await session.execute("bad", FORGED.replace("{attempt}", HEIRS[what]))
        assert ended.code is CODE.EXEC_STEP_OUT_OF_MEMORY  # so it looks: it was killed
        assert (await session.execute("ys", "xs + [2]")).shown == "[1, 2]"
        session.close()
        with (tmp_path / "held").open() as held:
            async with asyncio.timeout(20):
                while True:
                    with suppress(BlockingIOError):
                        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        return
                    await asyncio.sleep(0.02)

    play(script, tmp_path, level, StepLimits(step_s=5))


SAYS = """
import os, socket, stat

for fd in range(3, 20):
    for number in range(9):
        try:
            with socket.socket(fileno=os.dup(fd)) as talk:
                if talk.type == socket.SOCK_STREAM:
                    talk.sendall(b"\\n" + {said!r}.replace(b'"N"', b"%d" % number) + b"\\n")
        except OSError: pass
"""
_HUGE = b"1" + b"0" * 400


@pytest.mark.parametrize(
    "said",
    [
        b'{"n":"N","answer":{"result":{"seconds":'
        + _HUGE
        + b',"failure":{"line":'
        + _HUGE
        + b"}}}}",
        b'{"n":"N","answer":{"result":{"seconds":NaN,"stdout":"\\ud800"}}}',
        b'{"n":"N","answer":{"result":{"seconds":1e999,"reads":["\\udfff"],"type":"\\ud83d"}}}',
        b'{"n":"N","tell":{"event":"step.finished","step":"a","result":{"seconds":-1e999}}}',
        b'{"n":"N","answer":{"result":{"x":[],"\\ud800":["\\ud800",[]]},"stale":[1e999]}}',
    ],
    ids=["huge", "no number", "infinite", "an event", "names"],
)
def test_what_a_step_says_for_its_worker_is_text_and_numbers(said: bytes, tmp_path: Path) -> None:
    async def script(session: ConfinedSteps) -> None:
        await session.add_step("a", "1")
        with suppress(StepError, WorkerError):
            await session.execute("a", SAYS.replace("{said!r}", repr(said)))
        for ask in (session.names, session.plan, session.edges, session.status):
            with suppress(StepError, WorkerError):
                repr(await ask()).encode()
        json.dumps(session.save(), allow_nan=False, ensure_ascii=False).encode()

    play(script, tmp_path)


FLOOD = """
import os, time

def say():
    while True:
        for fd in range(3, 20):
            try: os.write(fd, b"\\n{}\\n")
            except OSError: pass
        time.sleep(0.005)

while True:
    try: say()
    except BaseException: pass
"""


def test_a_step_that_says_nothing_at_great_length_is_ended_like_any(tmp_path: Path) -> None:
    async def script(session: ConfinedSteps) -> None:
        async with asyncio.timeout(20):
            result = await session.execute("flood", FLOOD)
        assert result.code is ExecutorErrorCode.EXEC_STEP_TIMEOUT

    play(script, tmp_path, limits=StepLimits(step_s=1))


PRETENDS = """
import os, signal

def say(said):
    for fd in range(3, 20):
        try: os.write(fd, b"\\n" + said + b"\\n")
        except OSError: pass

def pretend():
    count = 0
    while True:
        signal.setitimer(signal.ITIMER_REAL, 0)
        count += 1
        for number in range(1, 12):
            for told in {tells!r}:
                say((told % (number, count)).encode())
        time.sleep(0.02)

import time
while True:
    try: pretend()
    except BaseException: pass
"""
TELLS = {
    "that others have begun": [
        '{"n": %d, "tell": {"event": "step.finished", "step": "bad"}, "of": %d}',
        '{"n": %d, "tell": {"event": "step.started", "step": "xs"}, "of": %d}',
        '{"n": %d, "tell": {"event": "step.started", "step": "bad"}, "of": %d}',
    ],
    "that steps have begun which there are not": [
        '{"n": %d, "tell": {"event": "step.started", "step": "x%d"}}',
    ],
    "that it is saved": ['{"saved": %d, "of": %d}'],
    "anything": ['{"n": %d, "tell": {"of": %d}}'],
}


@pytest.mark.parametrize("what", TELLS)
def test_a_step_gets_no_more_time_by_what_it_says(what: str, tmp_path: Path) -> None:
    async def script(session: ConfinedSteps) -> None:
        await session.execute("xs", "xs = [1]")
        await session.execute("k", "k = 1")
        async with asyncio.timeout(40):
            code = PRETENDS.replace("{tells!r}", repr(TELLS[what]))
            ended = await session.execute("bad", f"if k > 1:\n{indent(code, '    ')}")
            assert ended.ok, ended.failure
            await session.edit_step("k", "k = 2")
            assert "bad" in (await session.replay()).failed
            ended = await session.execute("bad", code)
        assert ended.code is TIMEOUT
        again = await session.execute("xs", "xs = [1]")  # it may be blamed for what was said of it
        assert again.ok, again.failure
        look = await session.execute("look", "xs")
        assert look.shown == "[1]", look.failure

    play(script, tmp_path, limits=StepLimits(step_s=1))


def test_who_reads_nothing_that_is_long_is_ended_in_time(tmp_path: Path) -> None:
    async def script(session: ConfinedSteps) -> None:
        tells = ['{"n": %d, "answer": {"result": {"of": %d}}}']
        async with asyncio.timeout(40):
            await session.execute("bad", PRETENDS.replace("{tells!r}", repr(tells)))
            await asyncio.sleep(0.1)
            with suppress(LorimerError):
                for number in range(3):
                    await session.execute(f"long{number}", "#" * 900_000)

    play(script, tmp_path, limits=StepLimits(step_s=1))


def test_what_the_host_does_meanwhile_takes_no_time_of_a_step(tmp_path: Path) -> None:
    async def script(session: ConfinedSteps) -> None:
        for number in range(3):
            await session.execute(f"s{number}", f"a{number} = {number}")
        for step in session.steps:
            await session.mark_stale(step)
        done = await session.replay(lambda _: time.sleep(1.5))
        assert done.ok, [session.results[each].failure for each in done.failed]
        assert done.ran == ("s0", "s1", "s2")

        async def busy() -> None:
            await asyncio.sleep(0.05)
            time.sleep(2.5)

        blocks = asyncio.create_task(busy())
        assert (await session.execute("slow", "import time\ntime.sleep(0.3)")).ok
        await blocks

    play(script, tmp_path, limits=StepLimits(step_s=1))


def test_a_worker_that_says_too_much_at_once_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorimer.esg.confined.worker.MAX_VALUES", 1000)
    say = "import os\nfor fd in range(3, 20):\n    try: os.write(fd, said)\n"
    said = b'\n{"x": [' + b"{}," * 2000 + b"0]}\n"

    async def script(session: ConfinedSteps) -> None:
        with pytest.raises(WorkerError, match="keeps ending"):
            await session.execute("much", f"said = {said!r}\n{say}    except OSError: pass")

    play(script, tmp_path)


def test_sessions_of_one_zygote_share_nothing_but_files(tmp_path: Path) -> None:
    async def main() -> None:
        async with StepWorkers(tmp_path, world=At("L1")) as workers:
            one, other = [await ConfinedSteps.begin(workers) for _ in range(2)]
            await one.execute(
                "a", "import sys, json\nx = 1\njson.x = 2\nopen('file', 'w').write('f')"
            )
            assert (await other.execute("a", "import json\nhasattr(json, 'x')")).shown == "False"
            assert not (await other.execute("b", "x")).ok
            assert (await other.execute("c", "open('file').read()")).shown == "'f'"
            dice = "import random\nrandom.random()"
            assert (await one.execute("d", dice)).shown != (await other.execute("d", dice)).shown
            one.close()
            assert (await other.execute("e", "1")).ok

    needs("L1")
    asyncio.run(main())


def test_the_next_session_is_forked_before_it_is_asked_for(tmp_path: Path) -> None:
    async def main() -> None:
        async with StepWorkers(tmp_path, world=At("L1")) as workers:
            await ConfinedSteps.begin(workers)
            while len(family := zygotes(tmp_path)) < 5:  # of both a keeper, and what runs steps
                await asyncio.sleep(0.01)
            (zygote,) = [each for each in family if parent(each) not in family]
            os.kill(zygote, signal.SIGSTOP)
            try:
                async with asyncio.timeout(10):
                    other = await ConfinedSteps.begin(workers)
                    assert (await other.execute("a", "1")).shown == "1"
            finally:
                os.kill(zygote, signal.SIGCONT)
        async with StepWorkers(tmp_path, ahead=False, world=At("L1")) as workers:
            await ConfinedSteps.begin(workers)
            await (await ConfinedSteps.begin(workers)).execute("a", "1")
            assert len(zygotes(tmp_path)) <= 5 + 2  # and who takes over from each

    needs("L1")
    asyncio.run(main())


def parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_patch_that_moves_a_step_is_kept(tmp_path: Path) -> None:
    async def script(session: ConfinedSteps) -> None:
        await session.execute("show", "print(total)")
        await session.execute("total", "total = 5")
        _, patch = await session.diagnose("show")
        assert [each.step for each in patch.moves] == ["total"]
        assert await session.repair(patch, "show")
        assert session.steps == ("total", "show")
        assert session.results["show"].stdout == "5\n"
        for each in zygotes(tmp_path):
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        await session.mark_stale("show")
        assert (await session.replay()).ok

    play(script, tmp_path)


def test_a_patch_of_a_step_that_takes_most_of_its_time_is_tried_and_kept(tmp_path: Path) -> None:
    async def script(session: ConfinedSteps) -> None:
        code = "import time\ntime.sleep(2.5)\ntotl = 1\nprint({})"
        await session.execute("slow", code.format("total"))
        _, patch = await session.diagnose("slow")
        assert await session.repair(patch, "slow")
        assert session.results["slow"].stdout == "1\n"

    play(script, tmp_path, limits=StepLimits(step_s=4))


def test_a_patch_that_ends_the_worker_is_taken_back(tmp_path: Path) -> None:
    async def script(session: ConfinedSteps) -> None:
        await session.execute("xs", "xs = [1]")
        await session.execute("bad", "y = xs / 0")
        code = "import os; os.abort()  # 1 / 0"
        patch = PatchResult(
            "a try",
            (Edit("bad", 0, 10, code),),
            {"bad": hash_of("y = xs / 0")},
        )
        assert not await session.repair(patch, "bad")
        assert session.source("bad") == "y = xs / 0"
        assert (await session.execute("look", "xs")).shown == "[1]"
        assert (await session.execute("dead", "import os; os.abort()")).code is not None
        wrong = PatchResult("", (Edit("dead", 0, 6, "raise "),), {"dead": "of another text"})
        with pytest.raises(StepError):
            await session.repair(wrong, "dead")
        assert "dead" not in (await session.replay()).ran, "what ended its worker"

    play(script, tmp_path)


def test_the_graph_is_asked_and_changed_as_that_of_an_executor(tmp_path: Path) -> None:
    async def script(session: ConfinedSteps) -> None:
        await session.execute("load", "xs = [3, 1, 2]")
        await session.execute("sort", "ordered = xs.sort()")
        await session.execute("first", "print(ordered[0])")
        report, patch = await session.diagnose("first")
        assert report.findings[0].rule == "none_from_in_place"
        assert await session.repair(patch, "first")
        assert session.source("sort") == "xs.sort()\nordered = xs"
        assert session.results["first"].stdout == "1\n"
        assert await session.edges() == [
            ("load", "sort", ("xs",)),
            ("sort", "first", ("ordered", "xs")),
        ]
        assert "reads xs of load" in await session.explain("sort")
        assert [each for each, _ in await session.lineage("ordered")]
        await session.rename_step("load", "begin")
        assert await session.mark_stale("begin") == ["begin", "sort", "first"]
        assert (await session.why_stale("begin"))[-1:] == (await session.why_stale("begin"))[-1:]
        assert await session.delete_step("first") == []
        assert session.steps == ("begin", "sort")
        assert (await session.script("xs")).count("xs") >= 2
        for wrong in (session.explain("nope"), session.edit_step("nope", "1")):
            with pytest.raises(StepError, match="nope"):
                await wrong
        with pytest.raises(StepError, match="longer"):
            await session.execute("long", " " * 1_000_001)

    play(script, tmp_path)


def test_a_level_that_is_missing_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    async def main() -> None:
        strict = Sandbox(at_least="L2", writable=(tmp_path,))
        async with StepWorkers(tmp_path, sandbox=strict) as workers:
            with pytest.raises(LorimerError, match="L2 is required") as caught:
                await ConfinedSteps.begin(workers)
            assert caught.value.code is CODE.EXEC_SANDBOX_MISSING

    asyncio.run(main())


def test_what_cannot_be_preloaded_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        async with StepWorkers(tmp_path, preload=["no_such_module"]) as workers:
            with pytest.raises(WorkerError, match="no_such_module"):
                await ConfinedSteps.begin(workers)

    asyncio.run(main())


@pytest.mark.parametrize("level", HELD)
def test_nothing_outlives_a_kill_of_ours(level: Level, tmp_path: Path) -> None:
    script = f"""
import asyncio, os
from pathlib import Path
from lorimer.esg.confined import ConfinedSteps, StepWorkers
from tests.esg.test_confined import At

async def main():
    workers = StepWorkers(Path({str(tmp_path)!r}), world=At({level!r}))
    session = await ConfinedSteps.begin(workers)
    await session.execute("a", "import os, time\\nif os.fork() == 0: os.setsid(); time.sleep(60)")
    open("here", "w").close()
    await session.execute("b", "open('begun', 'w').close()\\ntime.sleep(60)")

asyncio.run(main())
"""
    needs(level)
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root / "src"), str(root)])
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}
    )
    try:
        wait_until(lambda: (tmp_path / "begun").exists() or process.poll() is not None)
        assert zygotes(tmp_path)
    finally:
        process.kill()
        process.wait()
    wait_until(lambda: not zygotes(tmp_path))


def wait_until(there: Callable[[], bool]) -> None:
    for _ in range(1000):
        if there():
            return
        time.sleep(0.01)
    raise AssertionError("it never came to be")
