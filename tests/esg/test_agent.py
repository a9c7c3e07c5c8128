"""Steps as tools of an agent: what runs, what the model is told, and what an interruption leaves.

Rows of the reference (esg.md section 7): 29, 33, 44, 53, 56, 57, 59.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorimer import Pipeline
from lorimer.core.errors import ExecutorErrorCode
from lorimer.core.events import Event
from lorimer.core.jsonable import JSON
from lorimer.core.messages import ToolResultBlock, ToolUse
from lorimer.core.result import PipelineResult
from lorimer.core.tool import PastCall
from lorimer.esg.agent import trusted_steps
from lorimer.esg.agent.record import Ran, Recorded, changed_line, fold, ran_line
from lorimer.journal.memory import MemoryJournal
from lorimer.tools.hooks import Answer
from lorimer.world import RealWorld
from tests.core.support import check_history, held, make
from tests.tools.planned import Script
from tests.tools.test_background import living
from tests.world.levels import needs

NAMES = ("step", "edit_step", "replay", "graph", "diagnose")


def a(tool: str, **input: JSON) -> list[ToolUse]:
    """A reply of one call."""
    return [ToolUse(f"{tool} {input}"[:60], tool, input)]


def agent(
    folder: Path,
    replies: Sequence[list[ToolUse] | str],
    *,
    confined: bool = False,
    journal: MemoryJournal | None = None,
    **options: Any,
) -> Pipeline:
    """Steps in this process, or as a manifest has them."""

    def named(manifest: Any) -> None:
        shipped = ["steps"] if confined else ["Write"]
        manifest.tools.built_in = shipped if options.get("workspace", folder) else []

    tools = [] if confined else trusted_steps()
    options.setdefault("permission_mode", "bypass")
    return make(
        RealWorld(),
        Script(replies),
        tools=tools,
        change=named,
        journal=journal,
        **{"workspace": folder, **options},
    )


def told(
    folder: Path, *replies: list[ToolUse], confined: bool = False, **options: Any
) -> list[str]:
    """What the model was told of each call."""

    async def main() -> PipelineResult:
        pipeline = agent(folder, [*replies, "done"], confined=confined, **options)
        return await pipeline.run("go", raise_on_error=False)

    found = asyncio.run(main())
    assert len(found.steps) == len(replies), found.error
    return [str(step.content) for step in found.steps]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps in this process work in its folder."""
    monkeypatch.chdir(tmp_path)


SESSION = (
    a("step", id="load", code="rows = [3, 1, 2]\nprint('loaded')"),
    a("step", id="scale", code="factor = 10"),
    a("step", id="sort", code="rows.sort()"),
    a("step", id="show", code="[row * factor for row in rows]"),
)


def test_without_a_workspace_it_is_told_who_gives_one(tmp_path: Path) -> None:
    [answer] = told(tmp_path, SESSION[0], workspace=None)
    assert "workspace=..." in answer


# --- what runs, and what is told -----------------------------------------------------------------


@pytest.mark.loads("matplotlib")
def test_a_step_that_draws_with_matplotlib_runs_again_after_an_edit(tmp_path: Path) -> None:
    """The first import of it looks for fonts with a program, and keeps what it has found."""
    plot = "import matplotlib.pyplot as plt\nplt.plot(xs)\nplt.savefig('out.png')"
    found = told(
        tmp_path,
        a("step", id="load", code="xs = [1, 2]"),
        a("step", id="plot", code=plot, timeout_seconds=60),
        a("edit_step", id="load", code="xs = [1, 3]", timeout_seconds=60),
        confined=True,
    )
    [ran] = [line for line in found[1].splitlines() if line.startswith("✓ plot")]
    assert ran.endswith("outside wrote out.png")
    assert "matplotlib" not in found[1].replace("settings:matplotlib", "")
    assert "✓ plot again" in found[2]


@pytest.mark.parametrize("confined", [False, True], ids=["in process", "confined"])
def test_that_a_file_is_put_back_is_not_what_the_step_did(tmp_path: Path, confined: bool) -> None:
    """Else it is held back after the next edit, as a step that touched the outside."""
    save = "import pathlib\npathlib.Path('out.txt').write_text(str(xs))"

    async def main() -> list[str]:
        script: list[list[ToolUse] | str] = [
            a("step", id="load", code="xs = [1]"),
            a("step", id="save", code=save),
            "done",
            a("edit_step", id="load", code="xs = [2]"),
            a("edit_step", id="load", code="xs = [3]"),
            a("edit_step", id="load", code="xs = [4]"),
            "done",
        ]
        pipeline = agent(tmp_path, script, confined=confined)
        await pipeline.run("go")
        return [str(step.content) for step in (await pipeline.run("go")).steps]

    for said in asyncio.run(main()):
        [ran] = [line for line in said.splitlines() if line.startswith("✓ save again")]
        assert ran.endswith("| outside wrote out.txt")
    assert (tmp_path / "out.txt").read_text() == "[4]"


@pytest.mark.parametrize("confined", [False, True], ids=["in process", "confined"])
def test_what_a_library_does_when_it_is_imported_is_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, confined: bool
) -> None:
    """It is done once in a process, whatever becomes of the step; not so what a file of the
    workspace does, or a function of the library."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)  # an import makes a folder then
    begins = "import subprocess\nsubprocess.call('true')\n"
    for name in ("ours", "mine"):
        monkeypatch.setitem(sys.modules, name, sys)  # which is taken out again
        del sys.modules[name]
    library = tmp_path / "site-packages"
    library.mkdir()
    (library / "ours.py").write_text(begins + "def start(): subprocess.call('true')\n")
    (tmp_path / "mine.py").write_text(begins)
    here = f"import sys\nsys.path[:0] = [{str(library)!r}, {str(tmp_path)!r}]\n"
    quiet = "try:\n    {}\nexcept OSError:\n    pass"
    _, imports, mine, starts = told(
        tmp_path,
        a("step", id="path", code=here),
        a("step", id="imports", code=quiet.format("import ours")),
        a("step", id="mine", code=quiet.format("import mine")),
        a(
            "step",
            id="starts",
            code=f"{quiet.format('import ours')}\n{quiet.format('ours.start()')}",
        ),
        confined=confined,
    )
    assert "started" not in imports
    assert "outside started true" in mine
    assert confined or "outside started" in starts  # it could not be imported there


@pytest.mark.parametrize("confined", [False, True], ids=["in process", "confined"])
def test_29_44_an_edit_runs_what_is_stale_and_tells_it(tmp_path: Path, confined: bool) -> None:
    found = told(
        tmp_path,
        *SESSION,
        a("edit_step", id="scale", code="factor = 100"),
        a("edit_step", id="scale", code="factor = 100  # per cent"),
        a("edit_step", id="scale", code="factor = 50 + 50"),
        a("graph"),
        confined=confined,
    )
    assert found[0] == "step load: added\n✓ load | makes rows\n\nloaded"
    assert found[3].endswith("\n\n[10, 20, 30]")
    assert found[4].splitlines() == [
        "step scale: edited",
        "✓ scale | makes factor",
        "✓ show again | reads factor, rows",
        "(2 other steps are up to date: not run)",
        "",
        "[show]",
        "[100, 200, 300]",
    ]
    assert found[5] == "step scale: edited\n(4 steps are up to date: not run)"
    assert "show" not in found[6], "what it reads is what it was"
    assert found[7].splitlines() == [
        "load (fresh) | makes rows",
        "scale (fresh) | makes factor",
        "sort (fresh) | takes rows of load | makes rows",
        "show (fresh) | takes factor of scale; rows of sort",
    ]


def test_a_step_can_be_put_between_others_and_taken_away(tmp_path: Path) -> None:
    found = told(
        tmp_path,
        *SESSION,
        a("step", id="drop", code="rows = rows[1:]", after="load"),
        a("edit_step", id="drop", code=""),
    )
    assert "✓ sort again" in found[4]
    assert found[4].endswith("[show]\n[10, 20]")
    assert found[5].startswith("step drop: deleted\n")
    assert found[5].endswith("[show]\n[10, 20, 30]")


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (a("step", code="x = (1"), "line 1: '(' was never closed"),
        (a("step", code="%matplotlib inline"), "magics are not Python"),
        (a("step", id="load", code="1"), "there is a step 'load' already: change it with edit_"),
        (a("step", code="1", after="laod"), "there is no step 'laod'; did you mean 'load'?"),
        (a("edit_step", id="laod", code="1"), "there is no step 'laod'; did you mean 'load'?"),
        (a("edit_step", id="load", code="1 +"), "the code is no Python, so nothing was changed"),
        (a("replay", id="x"), "there is no step 'x'"),
        (a("replay", again=["x"]), "there is no step 'x'"),
        (a("graph", id="x"), "there is no step 'x'"),
        (
            a("graph", about="the weather"),
            "variable: no step has to do with that. K",
        ),
        (a("diagnose", id="load"), "step 'load' has not failed (it is fresh)"),
        (a("diagnose", id="x"), "there is no step 'x'"),
    ],
    ids=lambda value: str(value[0].input) if isinstance(value, list) else "",
)
def test_wrong_input_is_told_and_changes_nothing(
    tmp_path: Path, call: list[ToolUse], says: str
) -> None:
    found = told(tmp_path, SESSION[0], call, a("graph"))
    assert found[1].startswith(f"ERROR {ExecutorErrorCode.EXEC_STEP_INVALID.value}: ")
    assert says in found[1]
    assert found[2] == "load (fresh) | makes rows"


def test_33_53_56_a_step_that_fails_is_diagnosed_and_mended(tmp_path: Path) -> None:
    found = told(
        tmp_path,
        *SESSION[:2],
        a("step", id="bad", code="rows.append(9)\nprint(rows[0] * facto)"),
        a("step", id="after", code="rows"),
        a("diagnose", id="bad"),
        a("diagnose", id="bad", apply=True),
        a("step", id="last", code="rows"),
    )
    assert found[2].splitlines()[1].startswith("✗ bad | reads facto, rows | NameError: ")
    assert "Cause: 'facto' is probably 'factor'" in found[2]
    assert "+print(rows[0] * factor)" in found[2]
    assert found[3].splitlines()[1] == "- after not run: bad failed"
    assert "(failed before and still to be mended: bad)" in found[3]
    assert "# %% load\nrows = [3, 1, 2]" in found[4]
    assert found[5].splitlines()[:4] == [
        "step bad: patched",
        "the code of bad is now:",
        "| rows.append(9)",
        "| print(rows[0] * factor)",
    ]
    assert "✓ after" in found[5]
    assert found[6].endswith("[3, 1, 2, 9]")


def test_a_patch_that_does_not_help_is_taken_back(tmp_path: Path) -> None:
    found = told(
        tmp_path,
        a("step", id="a", code="valeu = None"),
        a("step", id="b", code="value.x"),
        a("diagnose", id="b", apply=True),
        a("graph", id="b"),
    )
    assert "the patch was tried and taken back" in found[2]
    assert "    value.x" in found[3]


def test_57_a_remark_finds_its_steps_and_only_what_they_need(tmp_path: Path) -> None:
    found = told(
        tmp_path,
        *SESSION,
        a("step", id="title", code="title = 'Sales per shop'"),
        a("step", id="chart", code="f'{title}: {factor}'"),
        a("graph", about="The title should say Germany"),
        a("graph", about="the factor in show looks wrong to me"),
        a("step", id="by-month", code="'March'"),
        a("graph", about="is by-month. all right?"),
        a("graph", about=f"{'.' * 1900}title"),
    )
    assert found[9].startswith("This is about by-month.\n")
    assert found[10].startswith("This is about title.\n")
    assert found[6].startswith("This is about title.\nAn edit may make stale: chart.\n")
    assert "rows" not in found[6]
    assert found[7].startswith("This is about scale, show.\n")
    assert "title" not in found[7]
    assert len(found[7]) < sum(len(str(call[0].input)) for call in SESSION) * 1.5


def test_what_is_written_below_python_and_a_long_output(tmp_path: Path) -> None:
    found = told(
        tmp_path,
        a("step", id="os", code="import os\nos.write(1, b'from below\\n')"),
        a("step", id="long", code="print('x' * 300_000)"),
        a("step", id="program", code="os.system('echo x')"),
        confined=True,
    )
    assert found[0].endswith("\n\nfrom below\n11")
    assert len(found[1]) <= 50_000
    assert "characters left out" in found[1]
    assert "x\n" not in found[2].partition("\n\n")[2], "a confined step starts no program"


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import os; os._exit(3)", "ERROR exec.step.crashed: the code was ended: it ended the pro"),
        ("import os; os.abort()", "ERROR exec.step.crashed: the code was ended: the process was "),
        ("while True: pass", "ERROR exec.step.timeout: the code was ended: it took longer than 1"),
        ("x = 10**10**9", "ERROR exec.step.timeout: the code was ended: it took longer than 1 s"),
    ],
    ids=["exit", "abort", "loop", "power"],
)
def test_a_session_that_ends_is_there_again(tmp_path: Path, code: str, says: str) -> None:
    found = told(
        tmp_path,
        *SESSION[:2],
        a("step", id="bad", code=code, timeout_seconds=1 if "timeout" in says else 30),
        a("step", id="show", code="[row * factor for row in rows]"),
        a("graph"),
        confined=True,
    )
    assert found[2].startswith(says)
    assert "changed no step" in found[2]
    assert found[3].startswith("step show: added\n")
    assert found[3].splitlines()[-1] == "[30, 10, 20]"
    assert "loaded" not in found[3], "it was told already"
    assert [line.split()[0] for line in found[4].splitlines()] == ["load", "scale", "show"]


def test_what_a_step_writes_to_its_own_channel_is_no_answer(tmp_path: Path) -> None:
    forge = (
        "import os\nfor fd in range(3, 9):\n"
        '    try: os.write(fd, b\'\\n{"mark": "x"}\\n[1\\n{"event": 7}\\n\\xff\\n\')\n'
        "    except OSError: pass\n1"
    )
    found = told(tmp_path, a("step", id="f", code=forge), a("step", code="2"), confined=True)
    assert found[0].splitlines()[0] == "step f: added"
    assert found[1].endswith("2")


# --- permission ----------------------------------------------------------------------------------


def _refused(folder: Path, mode: str, *rules: str, **options: Any) -> list[bool]:
    found = told(
        folder,
        a("step", id="x", code="x = 1"),
        a("graph"),
        confined=True,
        permission_mode=mode,
        rules=rules,
        **options,
    )
    return [text.startswith("ERROR exec.tool.access_denied") for text in found]


def test_running_code_is_permitted_like_any_program(tmp_path: Path) -> None:
    assert _refused(tmp_path, "default") == [True, False]
    assert _refused(tmp_path, "default", "step") == [False, False]
    assert _refused(tmp_path, "bypass") == [False, False]
    # without a sandbox of level 2 this mode lets nothing run
    assert _refused(tmp_path, "sandboxed", sandbox="off") == [True, False]


def test_a_sandbox_of_level_2_holds_what_the_mode_lets_run(tmp_path: Path) -> None:
    needs("L2")
    held: list[Any] = []

    async def main() -> PipelineResult:
        code = "import socket\nsocket.create_connection(('127.0.0.1', 9), 1)"
        pipeline = agent(
            tmp_path,
            [a("step", id="net", code=code), a("step", code="open('/etc/x', 'w')"), "done"],
            confined=True,
            permission_mode="sandboxed",
            sandbox="require",
        )
        pipeline.on("tool.call_complete", lambda event: held.append(event.data["metadata"]))
        return await pipeline.run("go")

    net, write = (str(step.content) for step in asyncio.run(main()).steps)
    assert "PermissionError" in net or "OSError" in net
    assert "Error" in write
    assert held[0]["isolation"]["in_force"] == "L2"


def test_code_that_a_hook_changed_is_what_runs_again(tmp_path: Path) -> None:
    def tame(event: dict[str, Any]) -> Answer | None:
        given = event["tool_input"]
        if "secret" not in given.get("code", ""):
            return None
        return Answer(change={**given, "code": given["code"].replace("secret", "public")})

    async def main() -> list[str]:
        pipeline = agent(
            tmp_path,
            [a("step", id="x", code="x = 'secret'"), "done", a("step", id="y", code="x"), "done"],
        )
        pipeline.hook("PreToolUse")(tame)
        first = await pipeline.run("go")
        return [str(each.content) for each in (*first.steps, *(await pipeline.run("on")).steps)]

    first, second = asyncio.run(main())
    assert "the code of x is now:\n| x = 'public'\n" in first
    assert second.endswith("'public'")


# --- listeners -----------------------------------------------------------------------------------


@pytest.mark.parametrize("confined", [False, True], ids=["in process", "confined"])
def test_59_listeners_are_told_in_order(tmp_path: Path, confined: bool) -> None:
    calls = [*SESSION, a("edit_step", id="scale", code="factor = 3"), "done"]
    heard: list[tuple[str, Any]] = []

    async def main() -> None:
        pipeline = agent(tmp_path, calls, confined=confined)

        def hear(event: Event) -> None:
            heard.append((event.type, event.data.get("step") or event.data.get("steps")))

        for name in ("started", "finished", "stale", "replayed"):
            pipeline.on(f"step.{name}", hear)
        progress: list[str] = []
        pipeline.on("tool.progress", lambda event: progress.append(str(event.data["text"])))
        await pipeline.run("go")
        assert progress[-1] == "running show"

    asyncio.run(main())
    assert heard[:3] == [
        ("step.started", "load"),
        ("step.finished", "load"),
        ("step.replayed", ["load"]),
    ]
    assert heard[-6:] == [
        ("step.stale", ["scale", "show"]),
        ("step.started", "scale"),
        ("step.finished", "scale"),
        ("step.started", "show"),
        ("step.finished", "show"),
        ("step.replayed", ["scale", "show"]),
    ]


# --- interruptions -------------------------------------------------------------------------------


def test_the_next_run_runs_again_only_what_is_needed_and_tells_it(tmp_path: Path) -> None:
    async def main() -> list[str]:
        pipeline = agent(
            tmp_path,
            [
                *SESSION,
                "done",
                a("graph"),
                a("step", id="sum", code="sum(rows)"),
                a("step", id="twice", code="factor * 2"),
                "done",
            ],
        )
        await pipeline.run("go")
        return [str(step.content) for step in (await pipeline.run("go on")).steps]

    graph, total, twice = asyncio.run(main())
    assert graph.splitlines()[2] == "sort (fresh) | takes rows of load | makes rows"
    assert total.splitlines()[:4] == [
        "step sum: added",
        "✓ load again | makes rows",
        "✓ sort again | reads rows | makes rows",
        "✓ sum | reads rows",
    ]
    assert "(2 other steps are up to date: not run)" in total
    assert total.endswith("\n\n[sum]\n6")
    assert "✓ scale again" in twice
    assert "load" not in twice


def test_a_step_that_a_patch_moves_is_where_it_was_put_in_the_next_run(tmp_path: Path) -> None:
    async def main() -> tuple[str, list[str]]:
        pipeline = agent(
            tmp_path,
            [
                a("step", id="show", code="print(total)"),
                a("step", id="total", code="total = 5"),
                a("diagnose", id="show", apply=True),
                a("step", id="more", code="more = total + 1"),
                "done",
                a("step", id="sum", code="more + total"),
                a("graph"),
                "done",
            ],
        )
        first = await pipeline.run("go")
        then = await pipeline.run("go on")
        return str(first.steps[2].content), [str(step.content) for step in then.steps]

    patched, (total, graph) = asyncio.run(main())
    assert patched.splitlines()[:2] == ["step show: patched", "total comes before all now"]
    assert total.endswith("[sum]\n11")
    assert [line.split(" ")[0] for line in graph.splitlines()] == ["total", "show", "more", "sum"]


def test_what_touched_the_outside_runs_again_only_when_it_is_named(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    save = "with open('log.txt', 'a') as file:\n    file.write('saved\\n')\ntotal = 7"

    async def main() -> list[str]:
        pipeline = agent(
            tmp_path,
            [
                a("step", id="save", code=save),
                a("step", id="other", code="x = 1"),
                "done",
                a("step", id="use", code="total + 1"),
                a(
                    "step",
                    id="read",
                    code="from pathlib import Path\nPath('log.txt').read_text(), x",
                ),
                a("replay", again=["save"]),
                "done",
            ],
        )
        first = await pipeline.run("go")
        assert "| outside wrote log.txt" in str(first.steps[0].content)
        return [str(step.content) for step in (await pipeline.run("go on")).steps]

    used, read, again = asyncio.run(main())
    assert (
        "- use not run: its values are gone, but save touched the outside (wrote log.txt): to run "
        'it once more call replay with again=["save"]' in used
    )
    assert "✓ use" not in used
    assert read.endswith("('saved\\n', 1)")
    assert "✓ save" in again
    assert "✓ use" in again
    assert log.read_text() == "saved\nsaved\n"


def test_what_a_step_shows_first_is_told_behind_many_that_only_ran_again(tmp_path: Path) -> None:
    save = "with open('log.txt', 'w') as file:\n    file.write('saved')\na0 = 0"
    more = [a("step", id=f"s{n}", code=f"a{n} = a{n - 1} + 1\na{n}") for n in range(1, 6)]

    async def main() -> str:
        pipeline = agent(
            tmp_path,
            [
                a("step", id="save", code=save),
                *more,
                "done",
                a("step", id="use", code="a5 + 1"),
                a("replay", again=["save"]),
                "done",
            ],
        )
        await pipeline.run("go")
        return str((await pipeline.run("go on")).steps[1].content)

    assert asyncio.run(main()).endswith("\n\n[use]\n6")


def test_a_step_of_before_that_shows_something_else_tells_it(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("31")

    async def main() -> str:
        pipeline = agent(
            tmp_path,
            [
                a("step", id="one", code="from pathlib import Path"),
                a("step", id="read", code="text = Path('a.txt').read_text()\nint(text)"),
                "done",
                a("step", id="use", code="len(text)"),
                "done",
            ],
        )
        await pipeline.run("go")
        (tmp_path / "a.txt").write_text("3")
        return str((await pipeline.run("go on")).steps[0].content)

    assert "[read]\n3\n" in asyncio.run(main())


def test_a_program_that_a_step_started_is_not_started_by_an_edit_elsewhere(tmp_path: Path) -> None:
    found = told(
        tmp_path,
        a("step", id="who", code="who = 'Ann'"),
        a("step", id="mail", code="import os\nos.system(f'echo {who} >> sent.txt')"),
        a("edit_step", id="who", code="who = 'Bob'"),
        a("replay", again=["mail"]),
    )
    assert "- mail not run: it is not up to date, but mail touched the outside" in found[2]
    assert "✓ mail" in found[3]
    assert (tmp_path / "sent.txt").read_text() == "Ann\nBob\n"


def test_a_file_that_another_tool_changed_stays_as_it_is(tmp_path: Path) -> None:
    found = told(
        tmp_path,
        a("step", id="write", code="with open('a.txt', 'w') as f: f.write('one')"),
        a("step", id="read", code="from pathlib import Path\ntext = Path('a.txt').read_text()"),
        a("Write", file_path="a.txt", content="two"),
        a("step", id="more", code="text.upper()"),
    )
    assert "(changed since by somebody else, and taken as it is: a.txt)" in found[3]
    assert "✓ read" in found[3]
    assert "✓ write" not in found[3]
    assert found[3].endswith("'TWO'")
    assert (tmp_path / "a.txt").read_text() == "two"


def test_after_every_fact_the_run_goes_on_and_repeats_no_recorded_step(tmp_path: Path) -> None:
    """As if the process had died after each fact: recorded calls run nothing, their values come
    back when they are needed, and what has written a file writes no second time."""
    log = tmp_path / "log.txt"
    mark = "with open('log.txt', 'a') as file:\n    file.write('{}\\n')"
    replies = [
        *SESSION[:3],
        a("step", id="log", code=mark.format("logged")),
        a("edit_step", id="scale", code="factor = 100"),
        SESSION[3],
        "done",
    ]

    async def main() -> None:
        whole = await agent(tmp_path, replies).run("go")
        assert str(whole.steps[-1].content).endswith("[100, 200, 300]")
        for upto in range(1, len(whole.events)):
            past = whole.events[:upto]
            has = {(fact.type, fact.iteration) for fact in past}
            log.write_text("logged\n" if ("tool.result", 3) in has else "")
            journal = await held(RealWorld(), past, whole.session_id)
            result = await agent(tmp_path, replies, journal=journal).resume(whole.run_id)
            check_history(result.messages)
            contents = [str(step.content) for step in result.steps]
            unknown = [at for at, text in enumerate(contents) if "outcome_unknown" in text]
            done = {at for kind, at in has if kind == "tool.result"}
            cut = [at for kind, at in has if kind == "tool.intent" and at not in done]
            assert unknown == cut, upto
            assert log.read_text().count("logged") <= 1
            if not unknown:
                assert contents[-1].endswith("[100, 200, 300]"), upto
                assert [text.splitlines()[0] for text in contents] == [
                    str(step.content).splitlines()[0] for step in whole.steps
                ]
            replayed = await agent(tmp_path, replies, journal=journal).replay(result.run_id)
            assert replayed.divergence is None
            assert log.read_text().count("logged") <= 1, "a replay executes nothing"

    asyncio.run(main())


def test_a_step_of_unknown_outcome_is_no_step(tmp_path: Path) -> None:
    async def main() -> PipelineResult:
        replies = [SESSION[0], SESSION[1], a("graph"), a("step", id="scale", code="2"), "done"]
        whole = await agent(tmp_path, replies).run("go")
        at = next(
            n for n, f in enumerate(whole.events) if f.type == "tool.result" and f.iteration == 1
        )
        journal = await held(RealWorld(), whole.events[:at], whole.session_id)
        return await agent(tmp_path, replies, journal=journal).resume(whole.run_id)

    result = asyncio.run(main())
    assert "exec.tool.outcome_unknown" in str(result.steps[1].content)
    assert str(result.steps[2].content) == "load (fresh) | makes rows"
    assert str(result.steps[3].content).startswith("step scale: added")


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_cancelled_run_leaves_no_process(tmp_path: Path) -> None:
    code = "import time\nwith open('begun', 'w'): pass\ntime.sleep(99)"

    async def main() -> PipelineResult:
        pipeline = agent(tmp_path, [a("step", code=code), "done"], confined=True)
        going = asyncio.ensure_future(pipeline.run("go", raise_on_error=False))
        while not (tmp_path / "begun").exists():
            await asyncio.sleep(0.02)
        assert living("zygote.py", tmp_path)
        going.cancel()
        with pytest.raises(asyncio.CancelledError):
            await going
        return None  # type: ignore[return-value]

    asyncio.run(main())
    assert not living("zygote.py", tmp_path)


# --- the record ----------------------------------------------------------------------------------

names = st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=12), max_size=4)


@given(names, names, names, st.booleans(), st.booleans(), st.text(max_size=20), st.floats(0, 999))
@settings(max_examples=60, deadline=None)
def test_the_record_of_a_run_is_read_as_it_was_written(
    reads: list[str],
    makes: list[str],
    outside: list[str],
    ok: bool,
    again: bool,
    why: str,
    seconds: float,
) -> None:
    ran = Ran(ok, tuple(reads), tuple(makes), tuple(outside))
    line = ran_line("a", seconds, ran, again=again, why="" if ok else f"ValueError: {why}")
    assert "\n" not in line
    text = f"{changed_line('a', 'added')}\n{line}\n\n✗ a"
    call = PastCall(ToolUse("1", "step", {"code": "1"}), ToolResultBlock("1", text, not ok))
    assert fold([call]) == [Recorded("a", "1", ran, tuple(outside))]


def test_results_that_say_nothing_are_no_steps() -> None:
    for text in ("ERROR exec.tool.timeout: stopped", "step b: burnt", "", "✓ a"):
        use = ToolUse("1", "step", {"code": "1", "id": "a"})
        assert fold([PastCall(use, ToolResultBlock("1", text, True))]) == []
