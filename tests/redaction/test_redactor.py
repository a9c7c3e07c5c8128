"""What counts as a secret, what is struck out, and that a run can be repeated all the same."""

from __future__ import annotations

import asyncio
import base64
import html
import json
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorimer import PipelinePresets, ProviderCredentials, tool
from lorimer.core.context import short_hash
from lorimer.core.errors import APIError, ConfigError
from lorimer.core.jsonable import JSON, canonical
from lorimer.core.messages import ToolUse
from lorimer.core.redaction import (
    Redactor,
    is_secret,
    logger,
    names_secret,
    of_environment,
    secrets_in,
    veiled,
)
from lorimer.core.request import Response, StopReason, TextDelta, ToolInputDelta
from lorimer.core.stage import Stage
from lorimer.core.state import PipelineState
from lorimer.journal.sqlite.store import SQLiteJournal
from lorimer.models import Models, ScriptedModel
from lorimer.models.scrubbing import Scrubber
from lorimer.pipeline import Pipeline

KEY = "sk-ant-api03-9fJ2kLm4Qx7TzB1v"
OTHER = "ghp_16C7e42F292c6912E7710c838347Ae178B4a"
BOTH = Redactor({KEY: "ANTHROPIC_API_KEY", OTHER: "GH_TOKEN"})


@pytest.mark.parametrize(
    "name",
    "ANTHROPIC_API_KEY AWS_SECRET_ACCESS_KEY GITHUB_TOKEN PGPASSWORD DB_PASS npm_config_auth"
    " NPM_AUTH_TOKEN api-key X-Api-Key Authorization Cookie apikey SSH_PASSPHRASE MY_SECRET"
    " VAULT_CREDENTIALS GITLAB_PAT Proxy-Authorization SECRETS APIKEY".split(),
)
def test_names_of_secrets(name: str) -> None:
    assert names_secret(name)


@pytest.mark.parametrize(
    "name",
    "PATH HOME KEYBOARD MONKEY TOKENIZERS_PARALLELISM MAX_TOKENS_LEFT AUTHOR PASSENGER_ROOT"
    " AWS_ACCESS_KEY_ID SSH_AUTH_SOCK XAUTHORITY KEY_FILE COMPASS Accept User-Agent".split(),
)
def test_names_of_other_things(name: str) -> None:
    assert not names_secret(name)


@pytest.mark.parametrize(
    "value",
    [KEY, OTHER, "hunter2hunter", "p4ssw0rd!", "passw0rd", "correct horse battery staple",
     "/" + KEY + OTHER],
)  # fmt: skip
def test_values_that_count(value: str) -> None:
    assert is_secret(value)


@pytest.mark.parametrize(
    "value",
    ["", "none", "postgres", "changeme", "1234567890", "true", "/etc/keys/id.json", "~/.netrc",
     "lm-studio", "not-needed", "xxxxxxxxxxxxxxxxxxxxxxxx", "sk-1", "passw0r",
     "abcdabcdabcdabcdabcd",
     "/run/secrets/registry/token.json", "~/keys/registry/token.json", "./keys/registry/token.pem"],
)  # fmt: skip
def test_values_that_would_garble_text(value: str) -> None:
    assert not is_secret(value)


def test_what_variables_hold() -> None:
    variables = {
        "GH_TOKEN": OTHER,
        "AUTHORIZATION": f"Bearer {KEY}",
        "DATABASE_URL": "postgres://me:s3cr3tpass@db/x?sslmode=require",
        "HOME": "/home/me12345",
        "NAME": KEY[::-1],
        "PASSWORD": "postgres",
    }
    assert secrets_in(variables) == {
        OTHER: "GH_TOKEN", KEY: "AUTHORIZATION", "s3cr3tpass": "DATABASE_URL",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("password", "x", "[redacted]"),
        ("password", 1234, "[redacted]"),
        ("Passwords", ["x", 5], ["[redacted]", "[redacted]"]),
        ("token", {"of": {"ann": ["x"]}}, {"of": {"ann": ["[redacted]"]}}),
        ("tokens", 512, 512),
        ("secret", None, None),
        ("secret", True, True),
        ("key", "name", "name"),
        ("keys", ["name", KEY], ["name", "[redacted]"]),
        ("name", [{"password": "x"}, KEY], [{"password": "[redacted]"}, KEY]),
    ],
)
def test_what_a_name_veils(name: str, value: JSON, shown: JSON) -> None:
    assert veiled({name: value}) == {name: shown}


def test_a_text_that_is_not_unicode_is_looked_through() -> None:
    found = BOTH.json({"half \ud800": [f"{KEY} \udfff"]})
    assert KEY not in str(found) and "[redacted:" in str(found)


def test_what_holds_none_is_given_back_as_it_is() -> None:
    text, data = "nothing to see " * 100, {"a": ["b", {"c": None, "d": 1.5}]}
    assert BOTH.text(text) is text
    assert BOTH.json(data, deep=True) is data
    for page in sorted(Path("docs").glob("*.md")):
        text = page.read_text("utf-8")
        assert BOTH.text(text) is text


@settings(deadline=None)
@given(st.text(max_size=20), st.text(max_size=20), st.sampled_from([KEY, OTHER]))
def test_wherever_it_stands(before: str, after: str, secret: str) -> None:
    text = f"{before}{secret}{after}"
    assert secret not in BOTH.text(text)
    found = str(BOTH.json({text: [text, {"x": text}]}))
    assert secret not in found and "[redacted:" in found
    raw = f"{before}{secret}{after}".encode("utf-8", "surrogatepass")
    inner = base64.b64encode(secret.encode())[4:-4].decode()
    hidden = BOTH.text(base64.b64encode(raw).decode())
    assert inner not in hidden and "[redacted:" in hidden
    assert secret.encode().hex() not in BOTH.text(raw.hex())


@settings(deadline=None)
@given(st.lists(st.sampled_from([*KEY, KEY, OTHER, "s", "sk", "gh", " ", "ghp_16C7", "x"])))
def test_pieces_come_to_the_same_as_the_whole(parts: list[str]) -> None:
    scrubber = Scrubber(BOTH)
    said = [piece for part in parts for piece in scrubber.take(TextDelta(part))]
    said += scrubber.rest()
    texts = [piece.text for piece in said if isinstance(piece, TextDelta)]
    whole = "".join(parts)
    assert "".join(texts) == BOTH.text(whole, deep=False)
    assert KEY not in "".join(texts)


ODD = 'pa"ss\\wo/rd+1é'


@settings(deadline=None)
@given(st.sampled_from([1, 2, 3, 5, 8, 100]), st.booleans(), st.text(max_size=5))
def test_arguments_in_pieces_hold_none_whatever_json_escapes(
    size: int, ascii: bool, before: str
) -> None:
    text = json.dumps({"to": f"{before}{ODD}", "by": [f"{ODD} {KEY}"]}, ensure_ascii=ascii)
    scrubber = Scrubber(Redactor({ODD: "PASSWORD", KEY: "ANTHROPIC_API_KEY"}))
    pieces = [ToolInputDelta(0, text[at : at + size]) for at in range(0, len(text), size)]
    said = [each for piece in pieces for each in scrubber.take(piece)] + scrubber.rest()
    heard = json.loads("".join([each.partial_json for each in said]))  # type: ignore[union-attr]
    shown = "[redacted:PASSWORD]"
    assert heard == {"to": f"{before}{shown}", "by": [f"{shown} [redacted:ANTHROPIC_API_KEY]"]}


def test_arguments_that_cannot_be_read_hold_none() -> None:
    call = ToolUse("c", "f", {}, raw=json.dumps({"to": ODD})[:-1])
    answer = Response((call,), StopReason.MAX_TOKENS)
    said = Scrubber(Redactor({ODD: "PASSWORD"})).answer(answer, answer.to_json())
    assert "[redacted:PASSWORD]" in answer.tool_calls[0].raw and "wo/rd" not in str(said)


@pytest.mark.parametrize(
    "encode",
    [json.dumps, lambda text: json.dumps(text, ensure_ascii=False), quote,
     lambda text: quote(text, safe=""), lambda text: text.encode().hex(),
     lambda text: text.encode().hex().upper()],
)  # fmt: skip
def test_how_programs_write_one(encode: Callable[[str], str]) -> None:
    secret = 'é"pass/wörd\\12é'
    redactor = Redactor({secret: "PASS"})
    told = redactor.text(encode(secret))
    assert told.strip('"') == "[redacted:PASS]"
    assert redactor.raw(encode(secret).encode()) == told.encode()


@pytest.mark.parametrize("letter", "?>~o")  # the base64 of some has `/`, or `+`, of some neither
@pytest.mark.parametrize("before", ["", "x", "xy"])
def test_both_alphabets_of_base64(letter: str, before: str) -> None:
    redactor = Redactor({letter * 12 + "p4ss": "PASS"})
    data = f"{before}{letter * 12}p4ss".encode()
    for encoded in (base64.b64encode(data), base64.urlsafe_b64encode(data)):
        assert "[redacted:PASS]" in redactor.text(encoded.decode())
        assert b"[redacted:PASS]" in redactor.raw(encoded)


@pytest.mark.parametrize("width", [20, 64, 76])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("before", ["", "x", "more before it: "])
def test_base64_in_lines(width: int, end: str, before: str) -> None:
    """As `base64` prints it: the keys of some are longer than a line."""
    secret = "sk-proj-" + "aB3dE5" * 12
    redactor = Redactor({secret: "KEY"})
    text = base64.b64encode(f"{before}{secret} and more".encode()).decode()
    told = end.join([text[at : at + width] for at in range(0, len(text), width)])
    shown = redactor.text(told)
    assert "[redacted:KEY]" in shown and len(shown) < len(told) - len(secret)
    assert redactor.json({"a": [told]}, deep=True) == {"a": [shown]}
    assert redactor.raw(told.encode()) == shown.encode()
    plain = f"nothing{end}to see{end}"
    assert redactor.text(plain) is plain


def test_how_other_languages_write_one() -> None:
    secret = "k/3+y&<x>'z"
    redactor = Redactor({secret: "KEY"})
    for said in (
        "k\\/3+y&<x>'z",  # PHP
        "k/3+y\\u0026\\u003cx\\u003e'z",  # Go
        "k/3\\u002By\\u0026\\u003Cx\\u003E\\u0027z",  # .NET
        "k%2f3%2by%26%3cx%3e%27z",
    ):
        assert redactor.text(said) == "[redacted:KEY]", said


def test_what_encodes_one_is_looked_for_when_that_is_asked() -> None:
    said = f"0x{KEY.encode().hex()}"
    assert BOTH.text(said) == "0x[redacted:ANTHROPIC_API_KEY]"
    assert BOTH.json({said: [said]}, deep=True) == {BOTH.text(said): [BOTH.text(said)]}
    assert BOTH.text(said, deep=False) is said
    assert BOTH.json({said: [said], "x": KEY}) == {said: [said], "x": BOTH.text(KEY)}


def test_a_secret_of_several_lines_counts_by_the_line() -> None:
    body = base64.b64encode(bytes(range(96))).decode()
    key = f"-----BEGIN KEY-----\n{body[:64]}\n{body[64:]}\n-----END KEY-----"
    redactor = Redactor({key: "TLS_KEY"})
    for text in (key, f"3\t{body[:64]}", f'{{"k": "{body[64:]}"}}'):
        assert "[redacted:TLS_KEY]" in redactor.text(text)
    assert redactor.text("-----BEGIN KEY-----") == "-----BEGIN KEY-----"
    two = Redactor({f"{body[:64]}\n{body[64:]}": "TWO"})
    assert two.text(f"3\t{body[:64]}") == "3\t[redacted:TWO]"


@pytest.mark.parametrize("where", ["words", "hint", "problems", "notes"])
def test_an_error_tells_none_wherever_it_stands(where: str) -> None:
    said = {name: KEY if name == where else "x" for name in ("words", "hint", "problems")}
    error = ConfigError(said["words"], hint=said["hint"], problems=(said["problems"],))
    if where == "notes":
        error.add_note(KEY)
    assert BOTH.error(error) is error
    told = repr((str(error), error.hint, error.problems, error.__notes__, error.to_json()))
    assert KEY not in told
    assert "[redacted:ANTHROPIC_API_KEY]" in told
    broken = APIError("x")
    broken.partial = f"so far {KEY}"
    BOTH.error(broken)
    assert broken.partial == "so far [redacted:ANTHROPIC_API_KEY]"


def test_of_nothing_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.environ", {"HOME": "/home/x"})
    assert of_environment() is None
    assert of_environment({KEY: "key"}) is not None


@pytest.mark.parametrize("given", [["short"], [7], "abc"])
def test_what_the_host_declares_has_to_be_one(given: object) -> None:
    with pytest.raises(ConfigError, match="secrets: "):
        PipelinePresets.minimal(secrets=given)  # type: ignore[arg-type]


def test_a_manifest_that_holds_one_is_refused() -> None:
    pipeline = PipelinePresets.chat(
        system_prompt=f"Use {KEY}.", model="scripted:any", secrets=[KEY],
        models=Models(providers={"scripted": ScriptedModel(["never"])}),
    )  # fmt: skip
    with pytest.raises(ConfigError, match="the manifest holds a secret: the value of secret"):
        pipeline.run_sync("hi")


def test_a_key_given_in_code_is_one() -> None:
    models = Models(providers={"scripted": ScriptedModel([f"it is {KEY}"])})
    pipeline = PipelinePresets.minimal(model="scripted:any", models=models, secrets=[KEY])
    assert pipeline.run_sync("hi").text == "it is [redacted:secret]"
    assert ProviderCredentials(KEY, extras={"api": "responses"}).secrets("x") == {KEY: "x key"}


# --- repeating


@tool(effects=["read"])
async def look() -> str:
    """Look."""
    return f"it is {KEY}"


def agent(journal: SQLiteJournal, model: ScriptedModel, secrets: list[str]) -> Pipeline:
    return PipelinePresets.agent(
        model="scripted:any",
        models=Models(providers={"scripted": model}),
        journal=journal,
        tools=[look],
        secrets=secrets,
    )


def calls(number: int) -> list[ToolUse]:
    return [ToolUse(f"c{number}", "look", {})]


@pytest.mark.parametrize("later", [[KEY], [], [OTHER, "redacted:secret"]])
def test_a_run_goes_on_whatever_is_secret_by_then(later: list[str], tmp_path: Path) -> None:
    """What is recorded is answered as it is, so what is asked is the same, to the hash."""

    async def main() -> None:
        journal = SQLiteJournal(tmp_path / "runs.db")
        first: Pipeline

        def stop(_: object) -> list[ToolUse]:
            first.shut_down()
            return calls(2)

        first = agent(journal, ScriptedModel([calls(1), stop]), [KEY])
        stopped = await first.run(f"find {KEY}", raise_on_error=False)
        assert stopped.status == "suspended", stopped.error
        await first.aclose()
        model = ScriptedModel(["done"] * 3)
        second = agent(journal, model, later)
        done = await second.resume(stopped.run_id)
        assert done.text == "done"
        texts = str([message.to_json() for message in model.requests[0].messages])
        assert "find [redacted:secret]" in texts and "it is [redacted:secret]" in texts
        for secrets in ([KEY], []):
            replayed = await agent(journal, ScriptedModel([]), secrets).replay(done.run_id)
            assert replayed.divergence is None, (secrets, replayed.divergence)
        await second.aclose()
        await journal.close()

    asyncio.run(main())


def test_the_recorded_hash_is_that_of_what_the_tool_was_given() -> None:
    given: list[Mapping[str, JSON]] = []

    @tool(effects=["write"])
    async def store(text: str) -> str:
        """Store."""
        given.append({"text": text})
        return "ok"

    model = ScriptedModel([[ToolUse("c", "store", {"text": f"use {KEY}"})], "done"])
    models = Models(providers={"scripted": model})
    pipeline = PipelinePresets.agent(
        model="scripted:any", models=models, tools=[store], secrets=[KEY]
    )
    result = pipeline.run_sync("go")
    assert given == [{"text": "use [redacted:secret]"}]
    intent = next(fact for fact in result.events if fact.type == "tool.intent")
    plain: JSON = {"name": "store", "input": {"text": "use [redacted:secret]"}}
    assert intent.data["hash"] in (short_hash(canonical(plain)), _as_asked(plain))


def _as_asked(plain: JSON) -> str:
    from lorimer.core.jsonable import fingerprint

    return short_hash(fingerprint(plain))


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([KEY, OTHER, KEY[:9], "s", "gh", "\xff", "\n", KEY.encode().hex()]))
)
def test_bytes_in_any_pieces_come_to_the_same(parts: list[str]) -> None:
    whole = "".join(parts).encode("latin-1")
    out, held = b"", b""
    for at in range(0, len(whole), 7):
        data = BOTH.raw(held + whole[at : at + 7])
        kept = BOTH.held_back_raw(data)
        out, held = out + data[: len(data) - kept], data[len(data) - kept :]
    out += BOTH.raw(held)
    assert out == BOTH.raw(whole)
    assert KEY.encode() not in out and KEY.encode().hex().encode() not in out


def test_what_a_program_writes_on_and_on_is_kept_without(tmp_path: Path) -> None:
    """The file that takes long output while it comes."""
    (tmp_path / "once").write_text(f"{KEY} {'x' * 1000}" * 50)
    command = "for i in $(seq 60); do cat once; done"
    calls = [ToolUse("c", "Bash", {"command": command})]
    pipeline = PipelinePresets.agent(
        model="scripted:any",
        models=Models(providers={"scripted": ScriptedModel([calls, "done"])}),
        built_in="Bash",
        workspace=tmp_path,
        rules=[f"Bash({command})"],
        secrets=[KEY],
    )
    result = pipeline.run_sync("go")
    assert "[redacted:secret]" in str(result.steps[0].content)
    kept = b"".join(
        [path.read_bytes() for path in (tmp_path / ".lorimer").rglob("*") if path.is_file()]
    )
    assert KEY.encode() not in kept
    assert kept.count(b"[redacted:secret]") == 3000


def test_what_is_logged_holds_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    log = logger("lorimer.test")
    log.warning("the key is %s, and %d", KEY, 3, extra={"redactor": BOTH})
    try:
        raise ValueError(f"refused {OTHER}")
    except ValueError:
        log.warning("it failed", exc_info=True, extra={"redactor": BOTH})
    log.warning("plain %s", "words", extra={"redactor": BOTH})
    assert KEY not in caplog.text and OTHER not in caplog.text
    assert "ANTHROPIC_API_KEY" in caplog.text and "GH_TOKEN" in caplog.text
    assert [record.getMessage() for record in caplog.records][1:] == ["it failed", "plain words"]
    assert "and 3" in caplog.records[0].getMessage()


class Blabs(Stage[object, object]):
    name, order = "blabs", 7

    async def execute(self, input: object, state: PipelineState) -> object:
        raise ValueError(f"cannot open {KEY}")


def test_a_stage_that_crashes_with_a_secret_tells_nobody(tmp_path: Path) -> None:
    async def main() -> None:
        journal = SQLiteJournal(tmp_path / "runs.db")
        pipeline = agent(journal, ScriptedModel(["x"]), [KEY])
        pipeline.register_stage(Blabs())
        told: list[str] = []
        pipeline.on("*", lambda event: told.append(json.dumps(event.data, default=str)))
        result = await pipeline.run("go", raise_on_error=False)
        await pipeline.aclose()
        await journal.close()
        assert "cannot open [redacted:secret]" in str(result.error)
        assert KEY not in str(result.error) + "".join(told) + str([e.data for e in result.events])
        assert "cannot open [redacted:secret]" in "".join(told)

    asyncio.run(main())
    assert KEY.encode() not in (tmp_path / "runs.db").read_bytes()


HARD = "k3y'with\"both<&>and\\é9"


@pytest.mark.parametrize(
    "shown",
    [
        html.escape(HARD),
        html.escape(HARD, quote=False),
        repr(HARD),
        repr(KeyError(HARD)),
        repr(HARD.encode()),
        shlex.quote(HARD),
        "'" + HARD.replace("'", "'\\''") + "'",
        json.dumps(json.dumps(HARD)),
        json.dumps(json.dumps(HARD, ensure_ascii=False), ensure_ascii=False),
        repr({"it's": 'a "word"', "key": HARD}),
    ],
)
def test_what_is_quoted_for_a_page_a_shell_or_python_is_found(shown: str) -> None:
    clean = Redactor({HARD: "KEY"}).text(f"<p>{shown}</p>")
    assert "[redacted:KEY]" in clean
    assert "k3y" not in clean


def test_what_guards_see_of_a_result_has_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guard may write down what it is told; after an interruption it is told what is recorded."""
    monkeypatch.setenv("SOME_API_KEY", KEY)
    seen: list[str] = []

    @tool(effects=["read"])
    def look(fail: bool) -> str:
        """Look."""
        if fail:
            raise ValueError(f"no {KEY}")
        return f"it is {base64.b64encode(KEY.encode()).decode()}, {KEY}"

    for event, fail in (("PostToolUse", "false"), ("PostToolFailure", "true")):
        agent = PipelinePresets.agent(model="scripted:obedient", tools=[look])

        @agent.hook(event)
        def told(payload: Mapping[str, JSON]) -> None:
            seen.append(json.dumps(payload))

        asyncio.run(agent.run(f'CALL look {{"fail": {fail}}}'))
    assert [text.count("[redacted:SOME_API_KEY]") for text in seen] == [2, 1]
    assert not any(KEY in text for text in seen)
