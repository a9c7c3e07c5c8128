"""What is pickled, for a queue, a cache or another process, has no secret in it."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from lorimer import APIError, CredentialBundle, PipelinePresets, ProviderCredentials
from lorimer.core.errors import ExecutorErrorCode
from lorimer.models import Models
from lorimer.testing import ScriptedModel

KEY = "sk-ant-a-key-that-nobody-may-see"


@pytest.mark.parametrize(
    "given", [{"api_key": KEY}, {"secrets": [KEY]}, {"variables": {"API_KEY": KEY}}]
)
def test_a_result_is_stored_without_the_keys_that_its_run_knew(given: dict[str, Any]) -> None:
    result = PipelinePresets.agent(model="scripted:echo", **given).run_sync(f"my key is {KEY}")
    stored = pickle.dumps(result)
    assert KEY.encode() not in stored
    again = pickle.loads(stored)
    assert again.messages == result.messages == copy.deepcopy(result).messages
    assert (again.text, again.usage, again.events) == (result.text, result.usage, result.events)


def test_an_error_is_stored_with_its_result_and_without_keys() -> None:
    models = Models(
        CredentialBundle({"openai": ProviderCredentials(KEY)}, env={}),
        providers={"scripted": ScriptedModel([APIError("busy", status=500)])},
    )
    agent = PipelinePresets.minimal(model="scripted:m", models=models, secrets=[KEY])
    with pytest.raises(APIError) as caught:
        agent.run_sync("hello")
    stored = pickle.dumps(caught.value)
    assert KEY.encode() not in stored
    again = pickle.loads(stored)
    assert (str(again), again.status, again.code) == (
        "busy",
        500,
        ExecutorErrorCode.EXEC_API_UNKNOWN,
    )
    assert again.result.messages[0].text == "hello"


def test_credentials_are_not_stored_and_copies_of_them_are_themselves() -> None:
    known = ProviderCredentials(KEY, "https://example.org")
    given = CredentialBundle({"openai": known}, env={})
    variables = CredentialBundle(env={"OPENAI_API_KEY": KEY})
    for each in (known, given, variables):
        with pytest.raises(TypeError, match="not stored"):
            pickle.dumps(each)
        assert copy.deepcopy(each) is each
    assert pickle.loads(pickle.dumps(CredentialBundle(env={"LANG": "C"}))).variable("LANG") == "C"
