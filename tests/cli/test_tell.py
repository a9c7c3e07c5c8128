"""`lorimer runs send|answer|change|cancel`: real processes tell each other things."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from lorimer.core import mail
from lorimer.core.journal import Journal, RunRow
from lorimer.core.mail import Question
from lorimer.presets import agent_manifest
from lorimer.testing.fake_server import FakeLLMServer, Turn
from tests.cli.support import (
    HangsOnce,
    Running,
    asked,
    by_turn,
    call,
    in_terminal,
    invoke,
    last_run,
    listed,
)

DONE = Turn(text="All is done.")
WORK = (call("Bash", command="echo ran >> log.txt"), DONE)


def test_a_run_that_waits_for_an_answer_is_answered_and_resumed() -> None:
    with FakeLLMServer(by_turn(*WORK)) as server:
        began = invoke("run", "hi", "--base-url", server.url, "--ask-later")
        assert (began.exit_code, began.stdout) == (5, "")
        run = last_run()
        assert "(exec.run.waiting)" in began.stderr
        assert f"hint: See its question: lorimer runs show {run[:12]}\n" in began.stderr
        assert listed()[0]["status"] == "waiting"
        shown = invoke("runs", "show").stdout
        assert "asks: Bash (may exec," in shown
        assert '{"command":"echo ran >> log.txt"}' in shown
        exact = f"lorimer runs answer {run[:12]} yes --question 0:0"
        assert f"answer with: {exact} (or no)" in shown  # never for another one asked since
        other = invoke(*exact.replace("0:0", "0:1").split()[1:])
        assert (other.exit_code, "asks 0:0, not '0:1'" in other.stderr) == (2, True)

        still = invoke("runs", "resume", run)
        assert still.exit_code == 5, "nobody has answered"
        answered = invoke("runs", "answer", run[:10], "yes")
        assert answered.stdout == (
            'answered yes: Bash {"command":"echo ran >> log.txt"}\n'
            f"go on with: lorimer runs resume {run[:12]}\n"
        )
        assert listed()[0]["status"] == "interrupted"
        again = invoke("runs", "answer", run, "no")
        assert again.exit_code == 2
        assert "asks nothing" in again.stderr
        done = invoke("runs", "resume", run)
        assert (done.exit_code, done.stdout) == (0, "All is done.\n")
        assert len(server.requests) == 2
    with open("log.txt", encoding="utf-8") as log:
        assert log.read() == "ran\n"


def test_of_two_answers_at_once_the_later_one_is_told_that_it_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: list[str] = []

    async def beaten(journal: Journal, row: RunRow) -> list[Question]:
        asked = await questions(journal, row)
        looks.append(row.run_id)
        if len(looks) == 2:  # between the look and the post
            no = {"kind": "answer", "run": row.run_id, "question": asked[0].id, "approved": False}
            await journal.post(row.stream, f"answer {row.run_id} {asked[0].id}", no)
        return asked

    questions = mail.questions
    with FakeLLMServer(by_turn(*WORK)) as server:
        invoke("run", "hi", "--base-url", server.url, "--ask-later")
        run = last_run()
        with monkeypatch.context() as patched:
            patched.setattr(mail, "questions", beaten)
            late = invoke("runs", "answer", run, "yes")
        assert (late.exit_code, late.stdout) == (2, "")
        assert "was just answered by somebody else" in late.stderr
        assert invoke("runs", "resume", run).exit_code == 0
    assert not Path("log.txt").exists()


@pytest.mark.parametrize(("words", "code", "said"), [("yes", 0, "Pay 20 EUR\n"), ("no", 3, "")])
def test_an_answer_that_a_person_has_to_accept(words: str, code: int, said: str) -> None:
    made = agent_manifest(model="scripted:echo")
    made.stages["hitl"].config["answers"] = True
    made.stages["hitl"].strategies["requester"] = "pipeline_resume"
    made.save("careful.json")
    began = invoke("run", "--manifest", "careful.json", "Pay 20 EUR")
    assert (began.exit_code, began.stdout) == (5, "")
    run = last_run()
    shown = invoke("runs", "show").stdout
    assert "asks: the answer (a person has to accept it)\n  Pay 20 EUR" in shown
    assert invoke("runs", "answer", run, words).exit_code == 0
    done = invoke("runs", "resume", run)
    assert (done.exit_code, done.stdout) == (code, said)
    if code:
        assert "did not accept it (exec.hitl.rejected)" in done.stderr
        assert listed()[0]["status"] == "rejected"


ASK = (call("AskUserQuestion", question="Which?", options=["red", "blue"]), DONE)


def test_a_question_of_the_agent_is_answered_in_words() -> None:
    with FakeLLMServer(by_turn(*ASK)) as server:
        words = ("run", "hi", "--base-url", server.url, "--tools", "asking")
        assert invoke(*words, "--ask-later").exit_code == 5
        run = last_run()
        shown = invoke("runs", "show").stdout
        assert "asks: Which?\n  1. red\n  2. blue\n" in shown
        assert f"answer with: lorimer runs answer {run[:12]} 'YOUR ANSWER'\n" in shown
        answered = invoke("runs", "answer", run, "2")
        assert answered.stdout.startswith("answered blue: AskUserQuestion ")
        assert invoke("runs", "resume", run).stdout == "All is done.\n"
        assert "blue" in str(server.requests[-1].body["messages"][-1])
        assert "a person was asked and said blue" in invoke("runs", "show").stdout


def test_a_question_of_the_agent_is_answered_on_the_terminal(own_place: Path) -> None:
    with FakeLLMServer(by_turn(*ASK)) as server:
        words = ("run", "hi", "--base-url", server.url, "--tools", "asking")
        done = in_terminal(*words, keys=[(b"Number or words: ", b"green\n")])
        assert done.code == 0, done.out
        assert "1. red" in done.out
        assert "green" in str(server.requests[-1].body["messages"][-1])


def test_a_call_that_wants_to_run_takes_yes_or_no() -> None:
    with FakeLLMServer(by_turn(*WORK)) as server:
        invoke("run", "hi", "--base-url", server.url, "--ask-later")
        wrong = invoke("runs", "answer", last_run(), "perhaps")
        assert wrong.exit_code == 2
        assert "is yes or no, not 'perhaps'" in wrong.stderr
        assert listed()[0]["status"] == "waiting"


def test_no_is_told_to_the_model() -> None:
    with FakeLLMServer(by_turn(*WORK)) as server:
        invoke("run", "hi", "--base-url", server.url, "--ask-later")
        assert invoke("runs", "answer", last_run(), "no").exit_code == 0
        assert invoke("runs", "resume", last_run()).exit_code == 0
        assert "the person who was asked said no" in str(server.requests[-1].body)


def test_a_live_run_is_cancelled_from_another_process() -> None:
    with (
        FakeLLMServer(HangsOnce(1, *WORK)) as server,
        Running("run", "hi", "--base-url", server.url, "--allow", "Bash") as process,
    ):
        asked(server, 2)
        began = time.monotonic()
        told = invoke("runs", "cancel", last_run()[:12])
        took = time.monotonic() - began
        done = process.wait()
    assert told.exit_code == 0, told.stderr
    assert told.stdout == (
        f"cancelled: run {last_run()[:12]}; what was done until then stays done\n"
    )
    assert done.code == 130
    assert listed()[0]["status"] == "cancelled"
    assert took < 10


def test_an_interrupted_run_is_cancelled_at_once() -> None:
    with (
        FakeLLMServer(HangsOnce(1, *WORK)) as server,
        Running("run", "hi", "--base-url", server.url, "--allow", "Bash") as process,
    ):
        asked(server, 2)
        process.send(signal.SIGKILL)
        process.wait()
    assert invoke("runs", "cancel", last_run()).exit_code == 0
    assert listed()[0]["status"] == "cancelled"
    ended = invoke("runs", "cancel", last_run())
    assert ended.exit_code == 2
    assert "has ended (cancelled)" in ended.stderr


def test_a_text_reaches_a_live_run() -> None:
    with (
        FakeLLMServer(by_turn(call("Bash", command="touch on; sleep 1.5"), DONE)) as server,
        Running("run", "hi", "--base-url", server.url, "--allow", "Bash") as process,
    ):
        asked(server, 1)
        told = invoke("runs", "send", last_run(), "and be quick")
        assert "reads it before its next call" in told.stdout
        assert process.wait().code == 0
        assert "and be quick" in str(server.requests[1].body)


PROMPT = "stages[system].config.prompt"


def test_a_live_run_is_changed() -> None:
    with (
        FakeLLMServer(by_turn(call("Bash", command="touch on; sleep 1"), DONE)) as server,
        Running("run", "hi", "--base-url", server.url, "--allow", "Bash") as process,
    ):
        asked(server, 1)
        run = last_run()
        told = invoke(
            *("runs", "change", run[:12], "--set", f"{PROMPT}=Be brief.", "--set"),
            *("model.temperature=0.5", "--change", '{"kind": "remove_stage", "stage": "think"}'),
        )
        assert told.stdout == f"changed: run {run[:12]}, from turn 2 on\n", told.stderr
        assert process.wait().code == 0
        first, second = [request.body for request in server.requests]
        assert "Be brief." not in str(first["system"])
        assert "Be brief." in str(second["system"])
        assert (first.get("temperature"), second.get("temperature")) == (None, 0.5)
    shown = [line for line in invoke("runs", "show").stdout.splitlines() if line[:3] == "cha"]
    assert [line.split()[:2] for line in shown] == [
        ["changed:", "remove_stage"],
        ["changed:", "update_stage_config"],
        ["changed:", "update_model_config"],
    ]
    assert "a message to the run" in invoke("runs", "explain", run, "--json").stdout
    assert invoke("runs", "replay", run).exit_code == 0
    assert invoke("runs", "verify", run).exit_code == 0


def test_a_run_that_waits_is_changed_when_it_is_resumed_or_says_why_not() -> None:
    with FakeLLMServer(by_turn(*WORK)) as server:
        assert invoke("run", "hi", "--base-url", server.url, "--ask-later").exit_code == 5
        run = last_run()
        told = invoke("runs", "change", run, "--set", f"{PROMPT}=Be brief.")
        assert told.stdout.startswith(f"sent: run {run[:12]} is changed when it is resumed; see it")
        gone = '{"kind": "remove_stage", "stage": "context"}'
        assert invoke("runs", "change", run, "--change", gone).exit_code == 0
        assert invoke("runs", "answer", run, "yes").exit_code == 0
        assert invoke("runs", "resume", run).exit_code == 0
        assert "Be brief." in str(server.requests[-1].body["system"])
    shown = invoke("runs", "show", run).stdout
    assert "not changed: whether it remembers cannot be changed" in shown
    assert "(exec.mutation.invalid)" in shown


UNFIT: list[tuple[tuple[str, ...], str]] = [
    ((), "there is nothing to change"),
    (("--set", "model.temperature"), "is not PATH=VALUE"),
    (("--set", "modle.temperature=0"), "no path 'modle.temperature'; did you mean 'model'"),
    (("--set", "model.temprature=0"), "did you mean 'temperature'?"),
    (("--set", "model.temperature=9"), "temperature: input should be less than or equal to 2"),
    (("--set", "stages[sistem].config.prompt=x"), "no stage 'sistem'; did you mean 'system'"),
    (("--set", "stages[api].stratgies.retry=x"), "no 'stratgies.retry' to change; did you"),
    (("--set", "stages[6].strategies.retry=no_rety"), "did you mean 'no_retry'?"),
    (("--set", "limits.max_turns=99"), "limits cannot be changed while a run is going on"),
    (("--change", "remove"), "--change is not JSON"),
    (("--change", '"remove"'), 'has to be an object with a "kind"'),
    (("--change", '{"kind": "remove_stge"}'), "kind"),
]


def test_a_change_that_does_not_fit_is_refused_at_once() -> None:
    words = ("--ask-later", "--model", "scripted:obedient", 'CALL Bash {"command": "echo hi"}')
    assert invoke("run", *words).exit_code == 5
    run = last_run()
    for given, says in UNFIT:
        result = invoke("runs", "change", run, *given)
        assert (result.exit_code, result.stdout) == (2, ""), given
        assert says in result.stderr, (given, result.stderr)
        assert result.stderr.startswith("error: ")
        assert len(result.stderr.splitlines()) <= 2, result.stderr


def test_what_cannot_be_told() -> None:
    with FakeLLMServer(by_turn(DONE)) as server:
        assert invoke("run", "hi", "--base-url", server.url).exit_code == 0
    ended = last_run()
    for words, expected in (
        (("send", ended, "hello"), "has ended (ok)"),
        (("send", "nix", "hello"), "there is no run 'nix'"),
        (("send", ended, ""), "has 1 to"),
        (("change", ended, "--set", "model.temperature=0"), "has ended (ok)"),
        (("change", "nix", "--set", "model.temperature=0"), "there is no run 'nix'"),
        (("answer", ended, "yes"), "has ended (ok)"),
        (("answer", ended, "perhaps"), "has ended (ok)"),
        (("cancel", "nix"), "there is no run 'nix'"),
    ):
        result = invoke("runs", *words)
        assert result.exit_code == 2, words
        assert expected in result.stderr, (words, result.stderr)
        assert "Traceback" not in result.output


def test_what_is_typed_and_is_no_unicode_does_not_fail_in_the_store() -> None:
    task = 'CALL Bash {"command": "make"}'
    assert invoke("run", "-m", "scripted:obedient", "--ask-later", task).exit_code == 5
    run, latin1 = last_run(), "caf\udce9"  # as Python has the bytes of another encoding
    sent = invoke("runs", "send", run, latin1)
    assert sent.exit_code == 0, sent.stderr
    assert invoke("runs", "answer", run, "no").exit_code == 0
    assert invoke("runs", "resume", run).exit_code == 0
    assert "caf\ufffd" in invoke("runs", "show", run, "--json").stdout
    nobody = invoke("runs", "show", f"run_{latin1}")
    assert (nobody.exit_code, "(exec.run.unknown)" in nobody.stderr) == (2, True)
