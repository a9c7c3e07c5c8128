"""The small ports of the kernel: each may be absent, each has a shipped default."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorimer.core.errors import ExecutorErrorCode, LorimerError, ToolExecutionError
from lorimer.core.world import World
from lorimer.run import Invocation, Ports, RunnableAgent
from lorimer.run.attachments import Attachments
from lorimer.run.config import EnvironmentConfig, Settings
from lorimer.run.delivery import Artifact, Discard, Stdout, Target, post
from lorimer.run.identity import ADMIN, Listed, person
from lorimer.testing import simulate
from tests.run.support import executor_of

CHAT = Target("chat", "42")
PLOT = Artifact("plot.png", "image/png", b"12345")


class Recorded:
    """A delivery that notes what it is given."""

    def __init__(self) -> None:
        self.posted: list[tuple[object, ...]] = []

    async def deliver(self, target: Target, output: str, artifacts: Sequence[Artifact]) -> str:
        self.posted.append((target, output, tuple(artifacts)))
        return "p1"

    async def deliver_error(self, target: Target, error: LorimerError) -> None:
        self.posted.append((target, error))


class Broken:
    """Every port, none of which works."""

    async def deliver(self, target: Target, output: str, artifacts: Sequence[Artifact]) -> str:
        raise OSError("the chat is down")

    async def deliver_error(self, target: Target, error: LorimerError) -> None:
        raise OSError("the chat is down")

    async def is_admin(self, caller_id: str) -> bool:
        raise OSError("no directory")

    async def groups(self, caller_id: str) -> list[str]:
        raise OSError("no directory")

    def get(self, key: str) -> str | None:
        raise OSError("no database")


def test_row_32_with_a_target_output_or_error_is_posted_and_without_one_nothing() -> None:
    async def main() -> None:
        port = Recorded()
        error = LorimerError("it broke")
        assert await post(port, CHAT, "Done.", None, [PLOT]) == "p1"
        assert await post(port, CHAT, "half", error, [PLOT]) == ""
        assert port.posted == [(CHAT, "Done.", (PLOT,)), (CHAT, error)]
        for delivery, target in ((port, None), (port, Target("chat", "")), (None, CHAT)):
            assert await post(delivery, target, "Done.", None) is None
        assert len(port.posted) == 2

    asyncio.run(main())


def test_row_32_a_delivery_that_fails_is_logged_and_raises_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert asyncio.run(post(Broken(), CHAT, "Done.", None)) is None
    assert asyncio.run(post(Broken(), CHAT, "", LorimerError("x"))) is None
    assert [record.getMessage() for record in caplog.records] == [
        "a delivery to chat '42' failed"
    ] * 2


def test_a_delivery_is_told_as_failed_where_it_raises_and_only_there() -> None:
    class Late(Recorded):
        async def deliver(self, target: Target, output: str, artifacts: Sequence[Artifact]) -> str:
            await super().deliver(target, output, artifacts)
            raise OSError("no receipt")

    class Silent(Recorded):
        async def deliver(self, target: Target, output: str, artifacts: Sequence[Artifact]) -> Any:
            await super().deliver(target, output, artifacts)

    async def main(world: World) -> None:
        silent = Ports(delivery=Silent())
        executor = executor_of(["Done."], ports=silent, world=world)
        result = await executor.run(RunnableAgent("a"), "go", Invocation(delivery=CHAT))
        assert result.warnings == []
        port = Late()
        executor = executor_of(["Done.", "Done."], ports=Ports(delivery=port), world=world)
        for target, told in ((CHAT, ["the delivery to chat 42 failed"]), (Target("chat", ""), [])):
            asked = Invocation(delivery=target)
            result = await executor.run(RunnableAgent("a"), "go", asked)
            assert (result.status, result.warnings) == ("ok", told)
        assert port.posted == [(CHAT, "Done.", ())]

    simulate(main)


def test_row_33_discard_and_stdout_are_shipped() -> None:
    out, err = io.StringIO(), io.StringIO()
    error = LorimerError("No.", code=ExecutorErrorCode.EXEC_LIMIT_COST, hint="Raise it.")

    async def main() -> None:
        assert await post(Discard(), CHAT, "Done.", None, [PLOT]) == ""
        assert await post(Discard(), CHAT, "", error) == ""
        await post(Stdout(out, err), CHAT, "Done.", None, [PLOT])
        await post(Stdout(out, err), CHAT, "", error)

    asyncio.run(main())
    assert out.getvalue() == "Done.\n[plot.png, image/png, 5 bytes]\n"
    assert err.getvalue() == "No. [exec.limit.cost] Raise it.\n"


def test_row_33_stdout_is_the_one_that_is_there_when_it_writes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    asyncio.run(post(Stdout(), CHAT, "Done.", None))
    asyncio.run(post(Stdout(), CHAT, "", LorimerError("No.")))
    assert capsys.readouterr() == ("Done.\n", "No. [exec.unknown]\n")


def test_row_33_the_environment_is_a_configuration() -> None:
    config = EnvironmentConfig(
        "REVIEWER_", {"REVIEWER_MODEL_TIER_FAST": "a:b", "REVIEWER_LANES_A_B_CAP": " ", "X": "1"}
    )
    assert config.get("model.tier.fast") == "a:b"
    assert config.get("lanes.a-b.cap") is None
    assert config.get("x") is None


def test_row_33_a_malformed_setting_is_logged_once_and_its_default_holds(
    caplog: pytest.LogCaptureFixture,
) -> None:
    variables = {"N_CAP": "four", "N_LOW": "-1", "N_R": "nan", "N_F": "maybe", "N_TOP": "1.5"}
    settings = Settings(EnvironmentConfig("N_", variables))
    for _ in range(3):
        assert settings.integer("cap", 4) == 4
        assert settings.integer("low", 2) == 2
        assert settings.number("r", 0.7) == 0.7
        assert settings.number("top", 0.7, most=1.0) == 0.7
        assert settings.flag("f", default=True) is True
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        "setting cap is not a whole number from 0 on; 4 is used",
        "setting low is not a whole number from 0 on; 2 is used",
        "setting r is not a number from 0 on; 0.7 is used",
        "setting top is not a number from 0 to 1; 0.7 is used",
        "setting f is not true or false; True is used",
    ]
    assert "four" not in caplog.text


@given(st.text())
def test_row_33_no_text_of_a_setting_raises(text: str) -> None:
    class Holds:
        def get(self, key: str) -> str | None:
            return text

    logging.getLogger("lorimer.run").disabled = True
    try:
        settings = Settings(Holds())
        assert settings.integer("k", 3, least=1) >= 1
        assert 0 <= settings.number("k", 0.5, most=1.0) <= 1
        assert settings.flag("k", default=False) in (True, False)
        assert settings.text("k", "x") == text
    finally:
        logging.getLogger("lorimer.run").disabled = False


@pytest.mark.parametrize(
    "value",
    [True, 10**400, float("inf"), b"4", [1], object()],
    ids=["flag", "huge", "endless", "bytes", "list", "object"],
)
def test_row_33_no_other_value_of_a_setting_raises(value: Any) -> None:
    class Holds:
        def get(self, key: str) -> Any:
            return value

    settings = Settings(Holds())
    assert settings.integer("k", 3, least=1) >= 1
    assert 0 <= settings.number("k", 0.5, most=1.0) <= 1
    assert settings.flag("k", default=True) is True
    assert settings.text("k", "x")


@pytest.mark.parametrize("config", [None, Broken()], ids=["absent", "broken"])
def test_row_33_settings_without_a_working_source_are_the_defaults(config: Broken | None) -> None:
    settings = Settings(config)
    assert settings.integer("cap", 4) == 4
    assert settings.text("a", "b") == "b"


def test_row_33_settings_are_read_anew_each_time() -> None:
    variables = {"N_CAP": "4"}
    settings = Settings(EnvironmentConfig("N_", variables))
    assert settings.integer("cap", 1) == 4
    variables["N_CAP"] = "8"
    assert settings.integer("cap", 1) == 8


def test_row_33_who_calls_has_the_roles_that_the_host_says() -> None:
    async def main() -> None:
        listed = Listed(["ann"], {"staff": ["ann", "bob"], ADMIN: ["bob"]})
        ann, bob = await person(listed, "ann"), await person(listed, "bob")
        assert ann is not None
        assert ann.roles == {ADMIN, "staff"}
        assert bob is not None
        assert bob.roles == {"staff"}  # a group cannot make an admin
        for identity in (None, Broken()):
            nobody = await person(identity, "ann")
            assert nobody is not None
            assert nobody.roles == frozenset()
        assert await person(listed, "") is None
        assert await person(listed, "@admin") is None

    asyncio.run(main())


def file(name: str, size: int = 10) -> Artifact:
    return Artifact(name, "text/plain", b"x" * size)


def test_row_81_attachments_arrive_once_and_those_of_children_with_the_root() -> None:
    parked = Attachments()
    parked.open("root")
    parked.open("child", "root")
    parked.open("grandchild", "child")
    parked.open("other")
    for run_id, name in (("grandchild", "a"), ("root", "b"), ("child", "c"), ("other", "d")):
        parked.add(run_id, file(name))
    parked.close("grandchild")
    assert parked.drain("child") == ()
    assert [each.name for each in parked.drain("root")] == ["a", "b", "c"]
    assert parked.drain("root") == ()
    assert [each.name for each in parked.drain("other")] == ["d"]


def test_row_81_there_are_caps_on_count_and_bytes_that_a_family_shares() -> None:
    parked = Attachments(max_files=2, max_bytes=100)
    parked.open("root")
    parked.open("child", "root")
    parked.add("root", file("a", 60))
    with pytest.raises(ToolExecutionError, match=r"^b: its 41 bytes do not fit; .* 60 are taken"):
        parked.add("child", file("b", 41))
    parked.add("child", file("c", 40))
    with pytest.raises(ToolExecutionError, match="^d: at most 2 files"):
        parked.add("root", file("d", 0))
    assert [each.name for each in parked.drain("root")] == ["a", "c"]


def test_row_81_what_is_left_goes_with_the_root_and_nothing_comes_after() -> None:
    parked = Attachments()
    parked.open("root")
    parked.open("child", "root")
    parked.add("root", file("a"))
    parked.close("root")
    parked.close("root")
    for run_id in ("root", "child", "never"):
        with pytest.raises(ToolExecutionError, match="has been delivered already"):
            parked.add(run_id, file("late"))
        assert parked.drain(run_id) == ()
    parked.close("child")
    assert len(parked) == 0
