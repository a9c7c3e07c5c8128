"""Saved agents, whatever store they are in: versions, who may see and change them, and what is
checked when they are saved."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorimer.core import mail
from lorimer.core.errors import ConfigError, ExecutorErrorCode, StoreFailed
from lorimer.core.request import Request
from lorimer.journal import MemoryJournal
from lorimer.journal.explain import explain
from lorimer.journal.recording import recorded
from lorimer.models import Models
from lorimer.models.tiers import Tiers
from lorimer.run import AuditLog, Ports, RunResult
from lorimer.run.agent import RunnableAgent
from lorimer.run.identity import ADMIN
from lorimer.run.invocation import Invocation
from lorimer.run.phases import Phase
from lorimer.run.saved.agent import DeclaredInput, SavedAgent
from lorimer.run.saved.library import AgentLibrary, SavedStore
from lorimer.run.stores.memory_agents import MemoryAgents
from lorimer.run.stores.memory_audit import MemoryAudit
from lorimer.run.stores.sqlite_agents import SQLiteAgents
from lorimer.stages.catalogue import catalogue
from lorimer.testing import SimulatedWorld, simulate
from lorimer.tools import AskLater, Rule, Tool, ToolContext, ToolResult
from lorimer.tools.policy.modes import Action
from lorimer.tools.policy.people import Person
from lorimer.tools.registry import ToolRegistry
from tests.run.support import executor_of, model_of, use

pytestmark = pytest.mark.anyio

ANN, BOB, EVE = Person("ann"), Person("bob", frozenset({"team"})), Person("eve")
ROOT = Person("root", frozenset({ADMIN}))
STORES: dict[str, Callable[[Path], SavedStore]] = {
    "memory": lambda folder: MemoryAgents(),
    "sqlite": lambda folder: SQLiteAgents(folder / "kernel.db"),
}


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> SavedStore:
    return STORES[str(request.param)](tmp_path)


class LookUp(Tool):
    name = "look_up"
    effects = frozenset({"read"})
    share_safe = True

    async def execute(self, input: dict[str, Any], context: ToolContext) -> ToolResult:
        return ToolResult("nothing")


class Note(LookUp):
    name = "note"
    share_safe = False


class Deploy(LookUp):
    name = "deploy"
    author_requires = ADMIN


TOOLS = ToolRegistry([LookUp(), Note(), Deploy()])
MODELS = Models(tiers=Tiers({"fast": "openai:gpt-5", "thinking": "anthropic:claude-opus-4-6"}))
BUILTIN = SavedAgent(name="guide", prompt="You guide.", visibility="public")


def library(store: SavedStore, world: SimulatedWorld) -> AgentLibrary:
    return AgentLibrary(
        store,
        tools=TOOLS,
        models=MODELS,
        builtins={"guide": BUILTIN},
        world=world,
        threads=False,
    )


def names(agents: list[SavedAgent]) -> list[str]:
    return [each.id for each in agents]


WHOLE = SavedAgent(
    name="reviewer",
    description="Reviews a diff",
    prompt="You review.\n– carefully \u2028",
    model="thinking:high, openai:gpt-5",
    max_turns=7,
    timeout_s=90.5,
    tools=("look_up", "now"),
    skills=("lint",),
    agents=("guide", "other"),
    inputs=(
        DeclaredInput(name="diff", description="The diff"),
        DeclaredInput(name="lenses", type="array", required=False, default=["bugs", 1, None]),
    ),
    phases=(
        Phase("find", "Of {query}", model="fast", max_turns=3, tools=("now",), bare=True),
        Phase("write", "Of {find}", optional=True, fallback="-"),
    ),
    critic=True,
    visibility="shared",
    shared_with=("bob", "@team"),
)


def test_row_89_every_field_comes_back(store: SavedStore) -> None:
    async def main(world: SimulatedWorld) -> None:
        agents = library(store, world)
        saved = await agents.save(WHOLE, ANN)
        assert saved == await agents.get("reviewer", ANN) == await agents.get("ann/reviewer", BOB)
        kept = {"owner": "ann", "version": 1, "saved_by": "ann", "saved_at": world.time()}
        assert saved == WHOLE.model_copy(update=kept)
        assert (
            set(saved.model_fields_set) >= {"name"}
            and SavedAgent.from_json(saved.to_json()) == saved
        )
        await agents.close()
        assert await agents.get("reviewer", ANN) == saved

    simulate(main)


def test_row_84_versions_list_newest_first_and_stay_as_they_were(store: SavedStore) -> None:
    async def main(world: SimulatedWorld) -> None:
        agents = library(store, world)
        for number in range(1, 5):
            await world.sleep(1)
            draft = SavedAgent(name="a", prompt=f"Prompt {number}")
            assert (await agents.save(draft, ANN)).version == number
        found = await agents.versions("a", ANN)
        assert [(each.version, each.prompt) for each in found] == [
            (number, f"Prompt {number}") for number in (4, 3, 2, 1)
        ]
        assert [each.version for each in await agents.versions("a", ANN, limit=2)] == [4, 3]
        assert (await agents.get("a", ANN, version=2)).prompt == "Prompt 2"
        await agents.share("a", "public", ANN)
        back = await agents.restore("a", 2, ANN)
        assert (back.version, back.prompt, back.visibility) == (6, "Prompt 2", "public")
        with pytest.raises(ConfigError, match="of version 9"):
            await agents.get("a", ANN, version=9)
        await agents.delete("a", ANN)
        with pytest.raises(ConfigError, match="no saved agent a"):
            await agents.versions("a", ANN)
        assert (await agents.save(SavedAgent(name="a"), ANN)).version == 1

    simulate(main)


def test_row_84_private_shared_and_public_agents_are_listed_for_whom_they_are(
    store: SavedStore,
) -> None:
    async def main(world: SimulatedWorld) -> None:
        agents = library(store, world)
        for name in ("mine", "ours", "team", "all"):
            await agents.save(SavedAgent(name=name), ANN)
        await agents.save(SavedAgent(name="mine"), BOB)
        await agents.share("ours", "shared", ANN, shared_with=["eve"])
        await agents.share("team", "shared", ANN, shared_with=["@team"])
        await agents.share("all", "public", ANN)
        assert names(await agents.list(ANN)) == [
            *("guide", "ann/all", "ann/mine", "ann/ours", "ann/team")
        ]
        assert names(await agents.list(BOB)) == ["guide", "ann/all", "ann/team", "bob/mine"]
        assert names(await agents.list(EVE)) == ["guide", "ann/all", "ann/ours"]
        assert names(await agents.list(EVE, limit=1)) == ["guide", "ann/all"]
        await agents.share("ours", "private", ANN, shared_with=["eve"])
        assert names(await agents.list(EVE)) == ["guide", "ann/all"]
        for which in ("ann/mine", "ann/nothing"):  # told alike
            with pytest.raises(
                ConfigError, match=f"no saved agent {which}; did|no saved agent"
            ) as no:
                await agents.get(which, EVE)
            assert no.value.code.value == "exec.agent.unknown"
            assert "mine" not in str(no.value).removeprefix(f"there is no saved agent {which}")
        assert (await agents.get("ann/mine", ROOT)).owner == "ann"

    simulate(main)


def test_only_its_owner_and_admins_change_an_agent(store: SavedStore) -> None:
    async def main(world: SimulatedWorld) -> None:
        agents = library(store, world)
        saved = await agents.save(SavedAgent(name="a", visibility="public"), ANN)
        for who in (
            lambda: agents.save(saved, BOB),
            lambda: agents.save(SavedAgent(name="new", owner="ann"), BOB),
            lambda: agents.share("ann/a", "private", BOB),
            lambda: agents.restore("ann/a", 1, BOB),
            lambda: agents.delete("ann/a", BOB),
            lambda: agents.delete("ann/nothing", BOB),
        ):
            with pytest.raises(ConfigError, match="bob may not change agents of ann") as no:
                await who()
            assert no.value.code.value == "exec.agent.denied"
        assert (await agents.get("ann/a", BOB)).version == 1
        by_admin = await agents.save(saved, ROOT)
        assert (by_admin.owner, by_admin.saved_by, by_admin.version) == ("ann", "root", 2)
        with pytest.raises(ConfigError, match="no saved agent guide"):
            await agents.share("guide", "private", ANN)  # it is the host's
        with pytest.raises(ConfigError, match="root may not change agents of the host"):
            await agents.share("/guide", "private", ROOT)

    simulate(main)


def test_what_is_not_there_is_not_shared_restored_or_deleted(store: SavedStore) -> None:
    async def main(world: SimulatedWorld) -> None:
        agents = library(store, world)
        for change in (
            agents.share("poet", "public", ANN),
            agents.restore("poet", 1, ANN),
            agents.delete("poet", ANN),
        ):
            with pytest.raises(ConfigError) as unknown:
                await change
            assert unknown.value.code.value == "exec.agent.unknown"
        assert names(await agents.list(ANN)) == [BUILTIN.id]

    simulate(main)


def test_a_name_is_ones_own_before_it_is_the_hosts(store: SavedStore) -> None:
    async def main(world: SimulatedWorld) -> None:
        agents = library(store, world)
        assert await agents.get("guide", ANN) is BUILTIN
        assert await agents.versions("guide", ANN) == [BUILTIN]
        await agents.save(SavedAgent(name="guide", prompt="Mine"), ANN)
        assert (await agents.get("guide", ANN)).prompt == "Mine"
        assert await agents.get("guide", BOB) is BUILTIN

    simulate(main)


def test_a_change_made_from_an_old_version_is_refused(store: SavedStore) -> None:
    async def main(world: SimulatedWorld) -> None:
        agents = library(store, world)
        first = await agents.save(SavedAgent(name="a"), ANN, expect=0)
        await agents.save(first, ANN, expect=1)
        with pytest.raises(ConfigError, match="in the meantime") as no:
            await agents.save(first, ANN, expect=1)
        assert no.value.code.value == "exec.agent.changed"
        assert (await agents.get("a", ANN)).version == 2
        there = await agents.get("a", ANN)
        assert not store.put(there) and not store.put(there.model_copy(update={"version": 4}))

    simulate(main)


def test_row_57_only_an_admin_saves_an_agent_with_a_tool_that_asks_for_one(
    store: SavedStore,
) -> None:
    async def main(world: SimulatedWorld) -> None:
        agents = library(store, world)
        wanted = SavedAgent(name="ops", tools=("deploy",))
        with pytest.raises(ConfigError, match="only an author with the role 'admin' puts deploy"):
            await agents.save(wanted, ANN)
        assert names(await agents.list(ANN)) == ["guide"]
        await agents.save(wanted, ROOT)
        for_ann = await agents.save(wanted.model_copy(update={"owner": "ann"}), ROOT)
        with pytest.raises(ConfigError, match="role 'admin'"):  # nor keeps it with another prompt
            await agents.save(for_ann.model_copy(update={"prompt": "Deploy all"}), ANN)

    simulate(main)


def test_row_58_an_agent_with_a_tool_that_is_not_safe_to_share_is_not_shared(
    store: SavedStore,
) -> None:
    async def main(world: SimulatedWorld) -> None:
        agents = library(store, world)
        await agents.save(SavedAgent(name="a", tools=("look_up", "think", "note")), ANN)
        for visibility in ("shared", "public"):
            with pytest.raises(ConfigError, match="not safe to share: note"):
                await agents.share("a", visibility, ANN)
        with pytest.raises(ConfigError, match="not safe to share: note"):
            await agents.save(SavedAgent(name="b", tools=("note",), visibility="public"), ANN)
        assert (await agents.get("a", ANN)).visibility == "private"
        await agents.save(SavedAgent(name="a", tools=("look_up", "think")), ANN)
        await agents.share("a", "public", ANN)
        with pytest.raises(ConfigError, match="not safe to share: note"):
            await agents.restore("a", 1, ANN)  # that would publish the tool

    simulate(main)


@pytest.mark.parametrize(
    ("agent", "said"),
    [
        (SavedAgent(name="a", tools=("look_upp",)), "no tool named 'look_upp'; did you mean"),
        (SavedAgent(name="a", model="fsat"), "no tier or alias 'fsat'; did you mean 'fast'"),
        (SavedAgent(name="a", model="fast,thinkng:high"), "no tier or alias 'thinkng:high'"),
        (SavedAgent(name="a", model="fast,,x"), "nothing between two commas"),
        (SavedAgent(name="a", phases=(Phase(name="p", model="fsat"),)), "alias 'fsat'"),
        (
            SavedAgent(name="a", tools=("now",), phases=(Phase(name="p", tools=("noww",)),)),
            "'p' has the tool 'noww', which the agent does not have; did you mean 'now'",
        ),
    ],
    ids=["tool", "tier", "chain", "commas", "phase's tier", "phase's tool"],
)
def test_typing_errors_are_found_when_it_is_saved(
    store: SavedStore, agent: SavedAgent, said: str
) -> None:
    async def main(world: SimulatedWorld) -> None:
        with pytest.raises(ConfigError) as no:
            await library(store, world).save(agent, ANN)
        assert said in str(no.value) and str(no.value).startswith("ann/a: ")

    simulate(main)


@pytest.mark.parametrize("model", ["", "fast", "thinking:low", "gpt-5", "claude-x", "vllm:any/x"])
def test_models_that_can_be_meant_are_taken(store: SavedStore, model: str) -> None:
    async def main(world: SimulatedWorld) -> None:
        await library(store, world).save(SavedAgent(name="a", model=model), ANN)

    simulate(main)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"timeout_s": float("nan")}, "agent.timeout_s: input should be a finite number"),
        ({"timeout_s": float("inf")}, "agent.timeout_s: input should be a finite number"),
        ({"inputs": [{"name": "n", "default": float("nan")}]}, "inputs[0].default"),
        ({"agents": ["ann/other"]}, "agent.agents[0]"),
        ({"max_turns": -1}, "agent.max_turns"),
        ({"name": "a/b"}, "agent.name"),
        ({"visibility": "publik"}, "agent.visibility"),
        ({"promt": "x"}, "agent.promt: there is no such field; did you mean 'prompt'"),
        ({"tools": ["now", "now"]}, "tools name now twice"),
        ({"phases": [{"name": "a", "promt": "x"}]}, "agent.phases[0].promt"),
        ({"phases": [{"name": "a", "prompt": "{b}"}]}, "phases[0].prompt: {b} is not an earlier"),
        ({"inputs": [{"name": "x"}, {"name": "x"}]}, "inputs name x twice"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_row_89_nan_and_other_nonsense_is_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as no:
        SavedAgent.from_json({"name": "a", **wrong})  # pyright: ignore[reportArgumentType]
    assert said in str(no.value)


def test_row_83_a_saved_agent_lowers_to_what_an_executor_runs() -> None:
    assert WHOLE.model_copy(update={"owner": "ann", "version": 3}).to_runnable() == RunnableAgent(
        name="reviewer",
        prompt=WHOLE.prompt,
        model=WHOLE.model,
        max_turns=7,
        timeout_s=90.5,
        tools=("look_up", "now"),
        skills=("lint",),
        agents=("guide", "other"),
        description="Reviews a diff",
        critic=True,
        phases=WHOLE.phases,
        subject="ann/reviewer",
        version=3,
    )
    assert WHOLE.input_schema() == {
        "type": "object",
        "properties": {
            "diff": {"type": "string", "description": "The diff"},
            "lenses": {"type": "array", "default": ["bugs", 1, None]},
        },
        "required": ["diff"],
        "additionalProperties": False,
    }


async def test_row_83_a_persons_agents_give_work_to_agents_that_they_may_run() -> None:
    agents = AgentLibrary(MemoryAgents(), builtins={"guide": BUILTIN}, threads=False)
    inputs = (DeclaredInput(name="city"),)
    await agents.save(SavedAgent(name="weather", prompt="weather", inputs=inputs), ANN)
    boss = SavedAgent(
        name="boss", prompt="boss", skills=("weather",), agents=("guide",), visibility="public"
    )
    asked: list[str] = []

    def reply(request: Request) -> Any:
        asked.append(request.system)
        if request.system != "boss":
            return f"{request.system}: {request.messages[-1].text}"
        calls = {1: use("skill__weather", city="Rome"), 3: use("agent__guide", prompt="go")}
        return calls.get(len(request.messages), "done")

    executor = executor_of(model_of(reply))

    async def run_by(by: Person) -> RunResult:
        found = await agents.get("ann/boss", by)
        asked = Invocation(caller_id=by.name, palette=agents.palette(found, by))
        return await executor.run(found.to_runnable(), "hello", asked)

    await agents.save(boss, ANN)
    await agents.save(SavedAgent(name="weather", prompt="another"), EVE)
    assert (await run_by(ANN)).output == "done"
    assert asked == ["boss", "weather", "boss", "You guide.", "boss"]
    refused = await run_by(EVE)  # who may not run the skill, and whose own is not meant
    assert refused.status == "error" and "no skill 'weather'" in refused.error
    await agents.share("weather", "public", ANN)
    asked.clear()
    assert (await run_by(EVE)).output == "done" and "another" not in asked


async def test_a_run_says_which_version_of_a_saved_agent_made_it() -> None:
    agents = AgentLibrary(MemoryAgents(), builtins={"guide": BUILTIN}, threads=False)
    await agents.save(SavedAgent(name="poet", prompt="Rhyme."), ANN)
    await agents.save(SavedAgent(name="poet", prompt="Do not rhyme."), ANN)
    log = AuditLog(MemoryAudit())
    executor = executor_of(model_of(lambda request: request.system), ports=Ports(audit=log))

    async def make(saved: SavedAgent) -> RunResult:
        return await executor.run(saved.to_runnable(), "go", Invocation(caller_id="ann"))

    results = [await make(await agents.get("poet", ANN, version=number)) for number in (1, 2)]
    for number, result in enumerate(results, 1):
        run = await recorded(executor.journal, result.run_id)
        told = {"agent": "poet", "subject": "ann/poet", "version": number, "caller": "ann"}
        assert run.facts[0].data["invocation"] == told
        assert (await agents.get("ann/poet", ANN, version=number)).prompt == result.output
        audited = await log.run(result.run_id)
        assert audited is not None
        assert (audited.start.subject, audited.start.version) == ("ann/poet", number)
        assert f"poet, version {number}" in explain(run, catalogue())[0].why
    guide = await make(await agents.get("guide", ANN))  # built in: it has no versions
    run = await recorded(executor.journal, guide.run_id)
    assert run.facts[0].data["invocation"] == {"agent": "guide", "caller": "ann"}


ACT = st.one_of(
    st.tuples(st.just("save"), st.sampled_from("ab"), st.integers(0, 3)),
    st.tuples(st.just("share"), st.sampled_from("ab"), st.integers(0, 2)),
    st.tuples(st.just("delete"), st.sampled_from("ab"), st.just(0)),
)


@settings(max_examples=6)
@given(acts=st.lists(ACT, max_size=12))
def test_row_89_both_stores_say_the_same_whatever_is_done(
    acts: list[tuple[str, str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    async def act(agents: AgentLibrary, kind: str, name: str, number: int) -> object:
        try:
            if kind == "save":
                return await agents.save(SavedAgent(name=name, max_turns=number), ANN)
            if kind == "share":
                to = ("private", "shared", "public")[number]
                return await agents.share(name, to, ANN, shared_with=["@team"])
            return await agents.delete(name, ANN)
        except ConfigError as error:
            return str(error)

    async def main(world: SimulatedWorld) -> None:
        folder = tmp_path_factory.mktemp("both")
        kept = [library(make(folder), world) for make in STORES.values()]
        for kind, name, number in acts:
            one, two = [await act(agents, kind, name, number) for agents in kept]
            assert one == two
        for who in (ANN, BOB, EVE):
            one, two = [await agents.list(who) for agents in kept]
            assert one == two
        for agents in kept:
            await agents.close()

    simulate(main)


def test_what_is_stored_is_not_trusted(tmp_path: Path) -> None:
    path = tmp_path / "kernel.db"
    store = SQLiteAgents(path)
    assert store.put(SavedAgent(name="a", owner="ann", version=1))
    store.close()
    db = apsw.Connection(str(path))
    db.execute("""UPDATE agents SET body = json_set(body, '$.max_turns', -5)""")
    db.close()
    with pytest.raises(StoreFailed, match=r"cannot be read: agent\.max_turns"):
        store.get("ann", "a")
    store.close()
    db = apsw.Connection(str(path))
    db.execute("PRAGMA user_version = 9")
    db.close()
    with pytest.raises(StoreFailed, match="another version of lorimer"):
        store.get("ann", "a")


def test_row_89_a_busy_file_is_waited_for_off_the_loop(tmp_path: Path) -> None:
    path = tmp_path / "kernel.db"

    async def main() -> None:
        agents = AgentLibrary(SQLiteAgents(path))
        await agents.save(SavedAgent(name="a"), ANN)
        other = apsw.Connection(str(path))
        other.execute("BEGIN IMMEDIATE")
        saving = asyncio.create_task(agents.save(SavedAgent(name="a"), ANN))
        done, _ = await asyncio.wait([saving], timeout=0.1)
        assert not done  # it waits, and this loop went on
        other.execute("ROLLBACK")
        other.close()
        assert (await saving).version == 2
        await agents.close()

    asyncio.run(main())


def test_row_84_what_was_private_when_it_was_saved_stays_so(store: SavedStore) -> None:
    """Else sharing what is fit to be shared gave away what was not."""

    async def main(world: SimulatedWorld) -> None:
        agents = library(store, world)
        await agents.save(SavedAgent(name="a", prompt="Mine alone"), ANN)
        await agents.save(SavedAgent(name="a", prompt="For all"), ANN)
        await agents.share("a", "public", ANN)
        assert [each.version for each in await agents.versions("ann/a", BOB)] == [3]
        with pytest.raises(ConfigError, match="of version 1"):
            await agents.get("ann/a", BOB, version=1)
        for who in (ANN, ROOT):
            assert [each.version for each in await agents.versions("ann/a", who)] == [3, 2, 1]
            assert (await agents.get("ann/a", who, version=1)).prompt == "Mine alone"

    simulate(main)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: SavedAgent(name="bad name!"), "SavedAgent.name: "),
        (lambda: SavedAgent(name="x", tool=("now",)), "did you mean 'tools'"),  # type: ignore[call-arg]
        (lambda: DeclaredInput(name="1st"), "DeclaredInput.name: "),
        (lambda: SavedAgent(name="x", tools=("a", "a")), "tools name a twice"),
    ],
    ids=["name", "field", "input", "twice"],
)
def test_a_saved_agent_that_is_made_wrong_says_so_in_one_line(
    make: Callable[[], object], said: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)) as raised:
        make()
    assert raised.value.code is ConfigError.default_code
    assert "\n" not in str(raised.value)


async def test_agents_of_the_host_work_with_those_of_the_host() -> None:
    """Whoever saves one under the name of another does not take its place in the host's."""
    hosts = {
        "mailer": SavedAgent(name="mailer", prompt="mailer", agents=("approve",)),
        "approve": SavedAgent(name="approve", prompt="approve"),
    }
    agents = AgentLibrary(MemoryAgents(), builtins=hosts, threads=False)
    await agents.save(SavedAgent(name="approve", prompt="always", visibility="public"), ANN)
    asked: list[str] = []

    def reply(request: Request) -> Any:
        asked.append(request.system)
        calls = {
            "poet": use("agent__mailer", prompt="go"),
            "mailer": use("agent__approve", prompt="go"),
        }
        return "done" if len(request.messages) > 1 else calls.get(request.system, "yes")

    executor = executor_of(model_of(reply))

    async def run(by: Person, *names: str) -> RunResult:
        asked.clear()
        await agents.save(
            SavedAgent(name="poet", prompt="poet", agents=names, visibility="public"), ANN
        )
        poet = await agents.get("ann/poet", by)
        invocation = Invocation(caller_id=by.name, palette=agents.palette(poet, by))
        return await executor.run(poet.to_runnable(), "go", invocation)

    for by in (ANN, EVE):
        assert (await run(by, "mailer")).status == "ok"
        assert asked == ["poet", "mailer", "approve", "mailer", "poet"]
        for names in (("mailer", "approve"), ("approve", "mailer")):
            both = await run(by, *names)
            assert (both.status, asked) == ("error", [])
            assert "ann/poet and mailer each name the agent 'approve'" in both.error
    await agents.delete("approve", ANN)
    assert (await run(EVE, "mailer", "approve")).status == "ok"


def test_at_a_time_when_an_agent_was_private_it_was_not_there_for_others() -> None:
    async def main(world: SimulatedWorld) -> None:
        agents = library(MemoryAgents(), world)
        desk = await agents.save(SavedAgent(name="desk", visibility="public"), ANN)
        seen: list[str | None] = []
        for number, visibility in enumerate(("public", "private", "public")):
            await world.sleep(10)
            clerk = SavedAgent(name="clerk", prompt=str(number), visibility=visibility)
            await agents.save(clerk, ANN)
        for ago_s in (25, 15, 5, 0):
            palette = agents.palette(desk, BOB, at=world.time() - ago_s)
            found = await palette.agent("clerk")
            seen.append(found and found.prompt)
        assert seen == [None, "0", None, "2"]

    simulate(main)


def test_a_run_goes_on_with_the_versions_that_it_began_with() -> None:
    def reply(request: Request) -> Any:
        if len(request.messages) > 1:
            return f"{request.system}: {request.messages[-1].content[0].to_json()['content']}"
        return use("agent__clerk", prompt="go") if "desk" in request.system else use("look_up")

    async def main(world: SimulatedWorld) -> None:
        agents, journal = library(MemoryAgents(), world), MemoryJournal(world)
        ask = Rule.parse("look_up", action=Action.ASK)
        executor = executor_of(
            model_of(reply),
            tools=TOOLS,
            world=world,
            journal=journal,
            rules=[ask],
            approver=AskLater(),
        )

        async def save(number: int) -> None:
            await world.sleep(10)
            clerk = SavedAgent(name="clerk", prompt=f"clerk {number}", tools=("look_up",))
            await agents.save(clerk, ANN)
            desk = SavedAgent(name="desk", prompt=f"desk {number}", agents=("clerk",))
            await agents.save(desk, ANN)
            await world.sleep(10)

        await save(1)
        await save(2)
        found = await agents.get("desk", ANN)
        asked = Invocation(run_id="R", palette=agents.palette(found, ANN))
        waits = await executor.run(found.to_runnable(), "go", asked)
        assert waits.status == "suspended"
        await save(3)
        row = await journal.find_run("R")
        assert row is not None
        before = await agents.get("desk", ANN, version=2)
        now = Invocation(palette=agents.palette(before, ANN))
        changed = await executor.resume(before.to_runnable(), "R", now)
        assert changed.code is ExecutorErrorCode.EXEC_JOURNAL_DIVERGED
        await mail.answer(journal, "R", True)
        then = Invocation(palette=agents.palette(before, ANN, at=row.started))
        result = await executor.resume(before.to_runnable(), "R", then)
        assert result.output == "desk 2: clerk 2: nothing"
        # at that time there was no such agent, or it was the host's
        early = agents.palette(found, ANN, at=world.time() - 1000)
        assert (await early.agent("clerk"), await early.agent("guide")) == (
            None,
            BUILTIN.to_runnable(),
        )
        with pytest.raises(ConfigError, match="a time in seconds"):
            agents.palette(found, ANN, at="now")  # pyright: ignore[reportArgumentType]

    simulate(main)
