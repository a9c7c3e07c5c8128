"""Commands on runs with numbers that none can have: what can be shown is shown."""

from __future__ import annotations

import os

import apsw
import pytest

from tests.cli.support import invoke, last_run, listed

HUGE = "1" + "0" * 400
ENDLESS = '"' + "x\\n" * 10_000 + '"'
COMMANDS = (
    ("show", "{}", "--full"),
    ("explain", "{}", "--time"),
    ("explain", "{}", "--cost"),
    ("explain", "{}", "--cost", "--json"),
    ("diff", "{}", "{}"),
    ("replay", "{}"),
    ("export", "{}"),
    ("verify", "{}"),
    ("ls",),
)


@pytest.mark.parametrize(
    "sql",
    [
        f"UPDATE facts SET body=replace(body, '[10,5]', '[10,5],{HUGE}')",  # the cost of a reply
        f"UPDATE facts SET body=replace(body, '[10,5]', '[10,{HUGE}]')",
        "UPDATE facts SET body=replace(body, ',0,[0,', ',99999999999,[0,')",  # the turn
        f'UPDATE facts SET body=replace(body, \'{{"input"\', \'{{"used_s":{HUGE},"input"\')',
        'UPDATE facts SET body=replace(body, \'"seed"\', \'"budgets":7,"seed"\')',
        "UPDATE runs SET started=1<<62",
        f"UPDATE documents SET body=CAST('{'[' * 5000}' AS BLOB)",
    ],
)
def test_impossible_numbers_stop_no_command(sql: str) -> None:
    words = ("-m", "scripted:obedient", "--allow", "Bash(true)", 'CALL Bash {"command":"true"}')
    assert invoke("run", *words).exit_code == 0
    run = last_run()
    db = apsw.Connection(os.environ["LORIMER_STORE"])
    db.execute(sql)
    assert db.changes()
    db.close()
    for command in COMMANDS:
        done = invoke("runs", *[word.format(run) for word in command])
        assert "unexpected" not in done.stderr, command
    assert invoke("runs", "show", run).exit_code == 0


def test_one_damaged_message_or_part_hides_no_run_in_the_list() -> None:
    began = invoke("run", "-m", "scripted:obedient", "--ask-later", 'CALL Bash {"command":"true"}')
    assert began.exit_code == 5
    run = last_run()
    assert invoke("runs", "send", run, "hello").exit_code == 0
    db = apsw.Connection(os.environ["LORIMER_STORE"])
    db.execute("UPDATE inbox SET body='[['")
    db.close()
    assert invoke("run", "--preset", "minimal", "-m", "scripted:echo", "hi").exit_code == 0
    assert [row["status"] for row in listed()] == ["ok", "damaged"]
    shown = invoke("runs", "show", run)
    assert (shown.exit_code, "CALL Bash" in shown.stdout) == (0, True)
    assert invoke("runs", "verify", "--all").exit_code == 1
    assert invoke("runs", "cancel", run).exit_code == 0


def test_a_question_with_an_endless_text_is_shown_within_reason() -> None:
    words = ("-m", "scripted:obedient", "--ask-later", 'CALL Bash {"command":"true"}')
    assert invoke("run", *words).exit_code == 5
    run = last_run()
    db = apsw.Connection(os.environ["LORIMER_STORE"])
    db.execute("UPDATE facts SET body=replace(body, '\"Bash\"', ?)", (ENDLESS,))
    assert db.changes()
    db.close()
    shown = invoke("runs", "show", run)
    assert shown.exit_code == 0
    [asks] = [line for line in shown.stdout.splitlines() if line.startswith("asks:")]
    assert len(asks) < 500
    assert len(shown.stdout.splitlines()) < 50
