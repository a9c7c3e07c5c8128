"""Agents whose answer is data of a form."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from pydantic import BaseModel, field_validator
from typing_extensions import TypedDict

from lorimer.core.errors import ConfigError, ExecutorErrorCode
from lorimer.core.messages import ToolResultBlock
from lorimer.journal import MemoryJournal
from lorimer.models import Models
from lorimer.run import Executor, FixedPalette, Phase, Ports, RunnableAgent
from lorimer.run.saved.agent import SavedAgent
from lorimer.run.saved.builtins import read_builtins
from lorimer.tools import tool
from tests.run.support import executor_of, model_of, use

pytestmark = pytest.mark.anyio

GOOD = '{"city": "Ulm", "people": 126}'
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "people": {"type": "integer"}},
    "required": ["city", "people"],
    "additionalProperties": False,
}


class Place(BaseModel):
    city: str
    people: int


@dataclass
class PlainPlace:
    city: str
    people: int


class TypedPlace(TypedDict):
    city: str
    people: int


@tool(effects=["read"])
def work() -> str:
    """Looks it up."""
    return "126"


async def test_the_answer_is_a_value_of_its_type() -> None:
    executor = executor_of(model_of([GOOD, "126"]))
    result = await executor.run(RunnableAgent(output_schema=Place), "go")
    assert result.output_as(Place) == Place(city="Ulm", people=126)
    assert (await executor.run(RunnableAgent(), "go")).output_as(str) == "126"


@pytest.mark.parametrize("form", [Place, PlainPlace, TypedPlace, SCHEMA])
@pytest.mark.parametrize("tools", [(), ("work",)])
async def test_an_answer_is_data_and_goes_back_until_it_fits(
    form: Any, tools: tuple[str, ...]
) -> None:
    model = model_of(['{"city": "Ulm"}', GOOD])
    agent = RunnableAgent("census", tools=tools, output_schema=form)
    result = await executor_of(model, tools=[work]).run(agent, "Ulm?")
    assert (result.status, result.structured_output) == ("ok", {"city": "Ulm", "people": 126})
    assert result.output == GOOD
    first, second = model.requests
    assert first.output is not None
    assert first.output.schema["required"] == ["city", "people"]
    assert "people" in second.messages[-1].text


class Town(Place):
    """The same to a schema."""

    @field_validator("people")
    @classmethod
    def few(cls, people: int) -> int:
        if people > 1000:
            raise ValueError("a town is small")
        return people


async def test_a_type_holds_an_answer_to_its_own_checks() -> None:
    big = '{"city": "Ulm", "people": 126000}'
    model = model_of([big, big, GOOD])
    executor = executor_of(model)
    first = await executor.run(RunnableAgent("census", output_schema=Place), "Ulm?")
    second = await executor.run(RunnableAgent("census", output_schema=Town), "Ulm?")
    assert first.structured_output == {"city": "Ulm", "people": 126000}
    assert second.structured_output == {"city": "Ulm", "people": 126}
    assert "people: Value error, a town is small" in model.requests[2].messages[-1].text


async def test_types_hold_phases_and_delegates_too() -> None:
    big = '{"city": "Ulm", "people": 126000}'
    phased = RunnableAgent(
        "census",
        output_schema=Town,
        phases=(Phase("look", "Look."), Phase("say", "Say {look}.")),
    )
    result = await executor_of(model_of(["Ulm", big, GOOD])).run(phased, "Ulm?")
    assert result.structured_output == {"city": "Ulm", "people": 126}

    clerk = RunnableAgent("clerk", prompt="You count.", output_schema=Town, description="Counts.")
    model = model_of([use("agent__clerk", prompt="Ulm?"), big, GOOD, "126"])
    boss = RunnableAgent("boss", agents=("clerk",))
    ports = Ports(palette=FixedPalette(agents=[clerk]))
    told = await executor_of(model, ports=ports).run(boss, "Ulm?")
    assert (told.output, model.calls) == ("126", 4)


async def test_one_that_never_fits_is_an_error() -> None:
    result = await executor_of(["no"] * 3).run(RunnableAgent(output_schema=Place), "Ulm?")
    assert (result.status, result.structured_output) == ("error", None)
    assert result.code is ExecutorErrorCode.EXEC_API_OUTPUT_INVALID
    assert "not accepted after 3 tries" in result.error


async def test_an_agent_without_a_form_has_text_alone() -> None:
    result = await executor_of([GOOD]).run(RunnableAgent(), "Ulm?")
    assert (result.output, result.structured_output) == (GOOD, None)


async def test_the_last_phase_answers_in_the_form_and_no_other() -> None:
    phases = (Phase("find", "Find out: {query}"), Phase("write", "Write of: {find}"))
    model = model_of(["facts", "no", GOOD])
    agent = RunnableAgent("writer", phases=phases, output_schema=Place)
    result = await executor_of(model).run(agent, "Ulm?")
    assert result.structured_output == {"city": "Ulm", "people": 126}
    assert [request.output is None for request in model.requests] == [True, False, False]


async def test_what_stands_in_for_the_answer_of_a_phase_has_to_fit_too() -> None:
    phases = (Phase("write", "Write.", optional=True, fallback="nothing"),)
    agent = RunnableAgent("writer", phases=phases, output_schema=Place)
    result = await executor_of(["no"] * 3).run(agent, "Ulm?")
    assert (result.status, result.structured_output) == ("error", None)
    assert "not accepted after 1 try:" in result.error
    fits = replace(agent, phases=(replace(phases[0], fallback=GOOD),))
    result = await executor_of(["no"] * 3).run(fits, "Ulm?")
    assert result.structured_output == {"city": "Ulm", "people": 126}


async def test_whoever_is_given_work_answers_in_its_own_form_and_not_in_its_parents() -> None:
    census = RunnableAgent("census", prompt="Count.", output_schema=SCHEMA)
    poet = RunnableAgent("poet", prompt="Rhyme.")
    boss = RunnableAgent("boss", prompt="Boss", agents=("census", "poet"), output_schema=Place)
    replies = {
        "Boss": [use("agent__census", prompt="Ulm"), use("agent__poet", prompt="Ulm"), GOOD],
        "Count.": ["126", GOOD],
        "Rhyme.": ["Ulm in the spring"],
    }
    model = model_of(lambda request: replies[request.system].pop(0))
    executor = executor_of(model, ports=Ports(palette=FixedPalette([census, poet])))
    result = await executor.run(boss, "go")
    assert result.structured_output == {"city": "Ulm", "people": 126}
    given = [m.content[0] for m in result.messages if isinstance(m.content[0], ToolResultBlock)]
    assert [each.content for each in given] == [GOOD, "Ulm in the spring"]
    assert [r.output is None for r in model.requests if r.system == "Rhyme."] == [True]


async def test_another_process_reads_the_data_of_a_run_that_has_ended() -> None:
    journal = MemoryJournal()
    model = model_of([GOOD])
    models = Models(providers={"scripted": model})
    executor = Executor(models=models, tier="scripted:x", journal=journal)
    result = await executor.run(RunnableAgent(output_schema=Place), "Ulm?")
    other = Executor(models=models, tier="scripted:x", journal=journal)
    found = await other.result(result.run_id)
    assert found is not None
    assert found.structured_output == {"city": "Ulm", "people": 126}


def test_an_agents_answer_has_so_many_tokens_at_most() -> None:
    """What is set aside for a call goes by it."""
    phases = (Phase("look", "Look."), Phase("say", "Say."))
    executor = executor_of([])
    assert executor.manifest(RunnableAgent(max_tokens=300)).model.max_tokens == 300
    assert executor.manifest(RunnableAgent()).model.max_tokens == 8192
    phased = executor.manifest(RunnableAgent(max_tokens=300, phases=phases))
    made = [each.manifest for each in phased.agents]
    assert [each is not None and each.model.max_tokens for each in made] == [300, 300]
    with pytest.raises(ConfigError, match="max_tokens must be a whole number, not str"):
        RunnableAgent(max_tokens="300")  # type: ignore[arg-type]


def test_agents_are_equal_where_their_types_and_forms_are() -> None:
    one, other = (RunnableAgent("a", output_schema=form) for form in (Place, PlainPlace))
    same = RunnableAgent("a", output_schema=Place)
    assert (one == same, hash(one) == hash(same)) == (True, True)
    assert one != other  # what they ask for is the same, and each type has checks of its own
    assert replace(one, output_schema=SCHEMA) == replace(other, output_schema=SCHEMA)
    assert one != RunnableAgent("a")
    assert one != replace(one, output_schema={"type": "object"})


@pytest.mark.parametrize(
    ("form", "says"),
    [
        (int, "a value of int is not an object"),
        ("Place", "output_schema must be a class or a JSON Schema, not str"),
        ({"type": 5}, "RunnableAgent.output_schema must have type 'object'"),
    ],
)
def test_a_form_that_no_answer_can_have_is_refused(form: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        RunnableAgent(output_schema=form)


async def test_one_that_is_given_work_has_a_form_or_gives_work_itself() -> None:
    census = RunnableAgent("census", agents=("poet",), output_schema=SCHEMA)
    boss = RunnableAgent("boss", agents=("census",))
    palette = FixedPalette([census, RunnableAgent("poet")])
    result = await executor_of(["done"], ports=Ports(palette=palette)).run(boss, "go")
    assert "'agent__census' has an output_schema and gives work to others" in result.error
    assert result.code is ExecutorErrorCode.EXEC_PIPELINE_INVALID_MANIFEST


def test_a_saved_agent_keeps_its_form() -> None:
    text = f"agents: {{census: {{output_schema: {SCHEMA!r}}}}}".replace("False", "false")
    saved = read_builtins({"agents.yaml": text})["census"]
    assert SavedAgent.from_json(saved.to_json()) == saved
    assert saved.to_runnable() == RunnableAgent(
        "census", output_schema=SCHEMA, subject="census", version=0
    )
    with pytest.raises(ConfigError, match=r"agents\.census.*must have type 'object'"):
        read_builtins({"agents.yaml": "agents: {census: {output_schema: {type: array}}}"})
