"""`@tool`: signature -> schema, docstring -> texts, arguments converted once."""

from __future__ import annotations

import asyncio
import copy
import functools
import itertools
import pickle
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from typing import Annotated, Any, Literal, TypedDict

import pytest
from pydantic import BaseModel, Field

from lorimer.core.bus import Bus
from lorimer.core.errors import ConfigError, ExecutorErrorCode, ToolExecutionError
from lorimer.core.events import Event
from lorimer.tools import Tool, ToolContext, ToolResult, tool
from lorimer.tools.decorator import ToolOptions
from lorimer.tools.docstring import read_docstring
from lorimer.world.real import RealWorld
from tests.tools.support import Bench, one_call, run, toolset


class Place(BaseModel):
    city: str
    zip: int = 0


@tool
def forecast(place: Place, day: date, unit: Literal["C", "F"] = "C", days: int = 1) -> str:
    """Tell the weather.

    Looks it up in a table.

    Args:
        place: where, as a city
            and maybe a zip code
        day (date): which day
        unit: Celsius or Fahrenheit

    Returns:
        One line of text.
    """
    return f"{place.city} {day.isoformat()} {unit} {days}"


def test_the_signature_is_the_schema() -> None:
    assert forecast.name == "forecast"
    schema = forecast.input_schema
    assert schema["required"] == ["place", "day"]
    assert schema["additionalProperties"] is False
    properties = schema["properties"]
    assert properties["day"] == {"type": "string", "format": "date", "description": "which day"}
    assert properties["unit"]["enum"] == ["C", "F"]
    assert properties["unit"]["default"] == "C"
    assert properties["days"] == {"type": "integer", "default": 1}
    assert properties["place"]["description"] == "where, as a city and maybe a zip code"
    assert "title" not in str(schema)


def test_the_docstring_is_the_description() -> None:
    assert forecast.description == (
        "Tell the weather.\n\nLooks it up in a table.\n\nReturns:\n    One line of text."
    )


def test_it_is_a_tool_and_still_a_function() -> None:
    assert isinstance(forecast, Tool)
    assert forecast(Place(city="Ulm"), date(2026, 1, 2)) == "Ulm 2026-01-02 C 1"
    assert forecast.__name__ == "forecast"


def test_it_is_pickled_by_its_name() -> None:
    """For processes that import the same module; as with functions, others cannot be."""
    assert pickle.loads(pickle.dumps(forecast)) is forecast
    assert copy.deepcopy([forecast]) == [forecast]
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(tool(functools.partial(forecast.function, days=1)))


def test_arguments_are_converted() -> None:
    call = {"place": {"city": "Ulm"}, "day": "2026-01-02", "days": "3"}
    block = run(lambda: one_call(forecast, call))
    assert (block.content, block.is_error) == ("Ulm 2026-01-02 C 3", False)


@pytest.mark.parametrize(
    ("input", "told"),
    [
        ({}, "input.place: Field required; input.day: Field required"),
        ({"place": {}, "day": "x"}, "input.place.city: Field required; input.day: "),
        ({"place": {"city": "U"}, "day": "2026-01-02", "days": True}, "input.days: must be a numb"),
        ({"place": {"city": "U"}, "day": "2026-01-02", "unitt": "C"}, "did you mean 'unit'?"),
        ({"place": {"city": "U"}, "day": "2026-01-02", "unit": "K"}, "input.unit: Input should be"),
    ],
)
def test_faults_name_their_path(input: dict[str, Any], told: str) -> None:
    block = run(lambda: one_call(forecast, input))
    assert block.is_error
    assert str(block.content).startswith("ERROR exec.tool.invalid_input: ")
    assert told in str(block.content)


def test_the_context_is_given_and_not_shown() -> None:
    @tool(effects=["read"])
    async def who(greeting: str, context: ToolContext) -> str:
        return f"{greeting} {context.run_id} {context.session_id} {context.idempotency_key}"

    assert list(who.input_schema["properties"]) == ["greeting"]
    block = run(lambda: one_call(who, {"greeting": "hi"}))
    assert block.content == "hi r_test s_test r_test-0-0"


def test_an_optional_context_is_found_too() -> None:
    @tool
    async def who(context: ToolContext | None = None) -> str:
        return "there" if context is not None else "missing"

    assert run(lambda: one_call(who)).content == "there"


def test_names_that_classes_use_are_fine() -> None:
    @tool
    async def odd(copy: int, json: str, self_: int = 0, model_config: str = "") -> str:
        return f"{copy}{json}{self_}{model_config}"

    block = run(lambda: one_call(odd, {"copy": 1, "json": "j", "model_config": "m"}))
    assert block.content == "1j0m"


def test_field_constraints_hold() -> None:
    @tool
    async def roll(sides: Annotated[int, Field(ge=2, description="how many")]) -> int:
        return sides

    assert roll.input_schema["properties"]["sides"] == {
        "type": "integer",
        "minimum": 2,
        "description": "how many",
    }
    assert run(lambda: one_call(roll, {"sides": 1})).is_error
    assert run(lambda: one_call(roll, {"sides": 6})).content == "6"


def test_a_field_as_default_is_a_default() -> None:
    """As in `def f(x: int = Field(3, ge=1))`: what was given to the function was the Field."""

    @tool(effects=["read"])
    async def roll(
        dice: int,
        sides: int = Field(default=6, ge=2, description="how many"),
        names: list[str] = Field(default_factory=lambda: ["first"]),  # noqa: B008
        seed: int = Field(description="for luck"),
    ) -> str:
        """Roll."""
        return f"{dice} {sides} {names} {seed}"

    schema = roll.input_schema
    assert schema["required"] == ["dice", "seed"]
    assert schema["properties"]["sides"] == {
        "type": "integer",
        "minimum": 2,
        "default": 6,
        "description": "how many",
    }
    assert schema["properties"]["names"]["default"] == ["first"]
    assert schema["properties"]["seed"]["description"] == "for luck"
    assert run(lambda: one_call(roll, {"dice": 1, "seed": 2})).content == "1 6 ['first'] 2"
    assert run(lambda: one_call(roll, {"dice": 1, "seed": 2, "sides": 1})).is_error


def test_odd_fields_as_defaults() -> None:
    @tool(effects=["read"])
    async def odd(
        start: Annotated[int, Field(alias="from")] = 3,
        most: float = Field(default=float("inf")),
    ) -> str:
        """Look."""
        return f"{start} {most}"

    assert odd.input_schema["properties"]["most"] == {"type": "number", "default": "Infinity"}
    assert run(lambda: one_call(odd, {})).content == "3 inf"
    assert run(lambda: one_call(odd, {"from": 4, "most": 1})).content == "4 1.0"


def test_a_default_of_none_may_be_given() -> None:
    @tool(effects=["read"])
    async def find(
        word: str = None,  # type: ignore[assignment]  # noqa: RUF013  # pyright: ignore
        most: Annotated[int, Field(ge=1)] = None,  # type: ignore  # noqa: RUF013  # pyright: ignore
        anything: Any = None,
    ) -> str:
        """Find."""
        return f"{word} {most} {anything}"

    word = find.input_schema["properties"]["word"]
    assert word == {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}
    assert run(lambda: one_call(find, {"word": None, "most": None})).content == "None None None"
    assert run(lambda: one_call(find, {"most": 0})).is_error
    assert run(lambda: one_call(find, {"most": True})).is_error
    assert find.input_schema["properties"]["anything"] == {"default": None}


class Doc:
    """As `typing_extensions.Doc`."""

    def __init__(self, documentation: str) -> None:
        self.documentation = documentation


def test_notes_of_a_type_describe_it() -> None:
    @tool(effects=["read"])
    def where(
        city: Annotated[str, "its name"],
        zip: Annotated[int, Doc("of the post")],
        land: Annotated[str, "not this"],
    ) -> None:
        """Look it up.

        Args:
            land: this
        """

    properties = where.input_schema["properties"]
    told = {name: each["description"] for name, each in properties.items()}
    assert told == {"city": "its name", "zip": "of the post", "land": "this"}


def test_what_it_returns_need_not_be_known() -> None:
    """A type under `if TYPE_CHECKING` says nothing to the model."""

    @tool(effects=["read"])
    async def count(n: int) -> Nowhere:  # type: ignore[name-defined]  # noqa: F821  # pyright: ignore
        """Count."""
        return n  # pyright: ignore

    assert run(lambda: one_call(count, {"n": 2})).content == "2"


def test_types_may_be_local() -> None:
    """With `from __future__ import annotations`, as here, they are known by name only."""

    class Local(BaseModel):
        city: str

    @tool(effects=["read"])
    async def look(place: Local, others: list[Local]) -> str:
        """Look."""
        return place.city + "".join([other.city for other in others])

    call = {"place": {"city": "Ulm"}, "others": [{"city": "Rom"}]}
    assert run(lambda: one_call(look, call)).content == "UlmRom"


def test_what_a_partial_gives_is_its_own() -> None:
    def search(query: str, limit: int, key: str) -> str:
        """Search it."""
        return f"{query} {limit} {key}"

    find = tool(effects=["read"])(functools.partial(search, key="k-123", limit=3))
    assert (find.name, find.description) == ("search", "Search it.")
    assert list(find.input_schema["properties"]) == ["query"]
    assert "k-123" not in str(find.input_schema)
    assert run(lambda: one_call(find, {"query": "q"})).content == "q 3 k-123"
    assert run(lambda: one_call(find, {"query": "q", "key": "x"})).is_error


def test_the_words_for_an_object_that_is_called() -> None:
    class Bare:
        def __call__(self, city: str) -> str:
            return city

    class Described:
        def __call__(self, city: str) -> str:
            """Tell the weather."""
            return city

    assert tool(name="a")(Bare()).description == ""
    assert tool(name="b")(Described()).description == "Tell the weather."


@pytest.mark.parametrize("values", [lambda: map(str, [1, 2]), lambda: (str(n) for n in (1, 2))])
def test_what_is_drawn_one_by_one_is_a_list(values: Callable[[], Iterator[str]]) -> None:
    @tool(effects=["read"])
    def plain() -> Any:
        return values()

    @tool(effects=["read"])
    async def waiting() -> Any:
        return values()

    for each in (plain, waiting):
        assert run(lambda each=each: one_call(each)).content == '["1","2"]'  # type: ignore[misc]


def test_endless_values_are_cut() -> None:
    @tool(effects=["read"], max_result_chars=200)
    def numbers() -> Any:
        return itertools.count()

    assert "characters left out" in str(run(lambda: one_call(numbers)).content)


def test_an_iterable_is_a_list_that_was_checked() -> None:
    @tool(effects=["read"])
    async def add(numbers: Iterable[int]) -> int:
        return sum(numbers) + sum(numbers)

    assert run(lambda: one_call(add, {"numbers": [1, 2]})).content == "6"
    told = str(run(lambda: one_call(add, {"numbers": [1, "x"]})).content)
    assert told.startswith("ERROR exec.tool.invalid_input: input.numbers.1: ")


def test_options_of_the_decorator() -> None:
    @tool(
        name="other",
        description="does",
        effects=("write",),
        idempotent=True,
        concurrency_safe=True,
        timeout_s=3,
        max_result_chars=10,
    )
    def anything() -> None:
        """Not this."""

    assert (anything.name, anything.description) == ("other", "does")
    assert anything.effects == {"write"}
    assert (anything.idempotent, anything.concurrency_safe) == (True, True)
    assert (anything.timeout_s, anything.max_result_chars) == (3, 10)


def test_undeclared_effects_are_all() -> None:
    assert forecast.effects == {"read", "write", "exec", "net", "send", "secret", "policy"}


def test_a_blocking_function_runs_in_a_thread_with_its_context() -> None:
    @tool
    def where(context: ToolContext) -> ToolResult:
        context.progress("working")
        return ToolResult(threading.current_thread().name)

    async def main() -> tuple[object, list[str]]:
        seen: list[str] = []
        bus = Bus()
        home = threading.get_ident()

        def listen(event: Event) -> None:
            assert threading.get_ident() == home
            seen.append(str(event.data["text"]))

        bus.on("tool.progress", listen)
        bench = await Bench.make(bus=bus)
        block = await bench.call(toolset(where), "where")
        return block.content, seen

    assert run(main) == ("lorimer tool", ["working"])


def typed(function: Any) -> Any:
    function.__annotations__ = {"city": str}
    return function


def test_an_awaitable_from_a_plain_function_is_awaited_not_shown() -> None:
    class Weather:
        async def __call__(self, city: str) -> str:
            return f"rain in {city}"

    ask = tool(name="weather")(Weather())
    assert run(lambda: one_call(ask, {"city": "Ulm"})).content == "rain in Ulm"
    later = tool(name="later")(typed(lambda city: Weather()(city)))
    assert run(lambda: one_call(later, {"city": "Ulm"})).content == "rain in Ulm"
    half = tool(name="ulm")(functools.partial(Weather().__call__, "Ulm"))
    assert run(lambda: one_call(half)).content == "rain in Ulm"


def test_a_bound_method_is_usable() -> None:
    class Counter:
        def __init__(self) -> None:
            self.count = 0

        async def add(self, by: int = 1) -> int:
            """Count on."""
            self.count += by
            return self.count

    counter = Counter()
    assert run(lambda: one_call(tool(counter.add), {"by": 2})).content == "2"


def test_execute_may_be_called_directly() -> None:
    async def main() -> ToolResult:
        return await forecast.execute(
            {"place": {"city": "Ulm"}, "day": "2026-01-02"}, ToolContext(RealWorld())
        )

    assert run(main).content == "Ulm 2026-01-02 C 1"

    async def wrong() -> None:
        with pytest.raises(ToolExecutionError) as caught:
            await forecast.execute({}, ToolContext(RealWorld()))
        assert caught.value.code is ExecutorErrorCode.EXEC_TOOL_INVALID_INPUT

    run(wrong)


def star(*numbers: int) -> None: ...
def stars(**numbers: int) -> None: ...
def only(x: int, /) -> None: ...
def untyped(x) -> None: ...  # type: ignore[no-untyped-def]  # pyright: ignore
def missing(x: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821  # pyright: ignore
def strange(x: threading.Lock) -> None: ...  # type: ignore[valid-type]  # pyright: ignore
def function(x: Callable[[], int]) -> None: ...
def generator(x: int) -> Iterator[int]:
    yield x


def method(self, x: int) -> None: ...  # type: ignore[no-untyped-def]  # pyright: ignore


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (star, "cannot be given by name"),
        (stars, "cannot be given by name"),
        (only, "cannot be given by name"),
        (untyped, "parameter 'x' has no type"),
        (missing, "cannot be resolved: name 'Missing'"),
        (strange, "parameter 'x' has a type that a model cannot give"),
        (function, "JSON cannot hold"),
        (generator, "a generator cannot be a tool"),
        (method, "'self' is not an argument that a model could give"),
        (lambda: 1, "needs a name"),
    ],
)
def test_signatures_that_no_model_could_call(bad: Callable[..., object], why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        tool(bad)
    assert why in caught.value.message


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="typing has the right one")
def test_a_typed_dict_of_an_old_python_is_told() -> None:
    class Given(TypedDict):
        x: int

    def look(where: Given) -> None: ...

    with pytest.raises(ConfigError, match=r"parameter 'where': .*typing_extensions.TypedDict"):
        tool(look)


def test_options_go_by_name() -> None:
    with pytest.raises(ConfigError, match="takes its options by name") as caught:
        tool("forecast")  # type: ignore[call-overload]  # pyright: ignore
    assert caught.value.hint == "@tool(name='forecast')"


def test_a_method_of_a_class_is_made_a_tool_outside_of_it() -> None:
    def names(cls: type, letter: str) -> list[str]:
        return [letter]

    with pytest.raises(ConfigError, match="needs a function, not a classmethod"):
        tool(effects=["read"])(classmethod(names))  # type: ignore[arg-type]  # pyright: ignore


@pytest.mark.parametrize(
    ("text", "description", "notes"),
    [
        ("", "", {}),
        ("One line.", "One line.", {}),
        (
            "A.\n\nArgs:\n    x: first\n    *y (int): second: more",
            "A.",
            {"x": "first", "y": "second: more"},
        ),
        (
            "A.\n\nArguments:\n  x:\n    below\n\nNote:\n  z: no",
            "A.\n\nNote:\n  z: no",
            {"x": "below"},
        ),
        ("Args:\n    no colon here\n    x: yes", "", {"x": "yes"}),
        (
            "A.\n\nParameters\n----------\nx : int\n    first\n    line\n\ny, *z\n    both\n\n"
            "Returns\n-------\nint\n    it",
            "A.\n\nReturns\n-------\nint\n    it",
            {"x": "first line", "y": "both", "z": "both"},
        ),
        ("A.\n\nNotes\n-----\nx: no", "A.\n\nNotes\n-----\nx: no", {}),
        (
            "A.\n\n:param x: first\n    line\n:type x: int\n:param str y: second: more\n"
            ":returns: it",
            "A.\n\n:returns: it",
            {"x": "first line", "y": "second: more"},
        ),
    ],
)
def test_docstrings(text: str, description: str, notes: dict[str, str]) -> None:
    assert read_docstring(text) == (description, notes)


def test_many_blocking_calls_share_the_threads() -> None:
    lock = threading.Lock()
    now, most = 0, 0

    @tool(concurrency_safe=True)
    def busy(seconds: float) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        threading.Event().wait(seconds)
        with lock:
            now -= 1

    async def main() -> None:
        bench = await Bench.make()
        tools = toolset(busy)
        calls = [bench.call(tools, "busy", {"seconds": 0.01}, index=i) for i in range(100)]
        assert not any(block.is_error for block in await asyncio.gather(*calls))

    run(main)
    assert 1 < most <= 32


def test_a_function_can_be_told_what_a_class_can() -> None:
    @tool(
        effects=["net"],
        early=True,
        subject="url",
        urls="url",
        paths=["to"],
        author_requires="admin",
        callers="staff",
        share_safe=True,
        untrusted=True,
        approval="It costs money.",
    )
    async def download(url: str, to: str) -> str:
        """Download."""
        return url + to

    @tool
    def plain(url: str) -> str:
        """Nothing is said of it."""
        return url

    told = (
        *(download.early, download.subject, download.urls, download.paths, download.commands),
        *(download.author_requires, download.callers, download.share_safe, download.untrusted),
        download.approval,
    )
    assert told == (
        *(True, "url", frozenset({"url"}), frozenset({"to"}), frozenset()),
        *("admin", frozenset({"staff"}), True, True),
        "It costs money.",
    )
    for option in ToolOptions.__annotations__:
        if option not in ("name", "description", "reconcile"):
            assert vars(plain)[option] == getattr(Tool, option), option


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"idempotant": True}, "@tool has no option 'idempotant'; did you mean 'idempotent'"),
        (
            {"paths": ["pth"]},
            "paths names 'pth', which is not a parameter of it; did you mean 'path'",
        ),
        ({"subject": "url"}, "subject names 'url', which is not a parameter of it"),
    ],
    ids=["unknown", "no parameter", "no subject"],
)
def test_an_option_that_would_do_nothing_is_refused(options: Any, said: str) -> None:
    def look(path: str) -> str:
        """Look."""
        return path

    with pytest.raises(ConfigError, match=re.escape(said)):
        tool(**options)(look)
