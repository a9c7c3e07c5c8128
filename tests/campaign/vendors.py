"""Whether the vendors would take a conversation: their rules, as the fake providers have them."""

from __future__ import annotations

import json
from collections.abc import Sequence

from lorimer.core.jsonable import dumps
from lorimer.core.messages import Message
from lorimer.core.request import Request
from lorimer.models.wires import (
    anthropic_request,
    chat_request,
    gemini_request,
    responses_request,
)
from lorimer.testing import (
    fake_anthropic_rules,
    fake_gemini_rules,
    fake_openai_rules,
    fake_responses_rules,
)
from lorimer.testing.fake_turn import Refused, SeenRequest
from tests.core.support import check_history

HEADERS = {"anthropic-version": "2023-06-01"}
GEMINI = "gemini-3.5-flash"
CHAT = chat_request.endpoint("", "gpt-4o")
RESPONSES = chat_request.endpoint("", "gpt-5")


def refused(messages: Sequence[Message]) -> str:
    """Why a provider would not take these messages; "" when all would."""
    if not messages:
        return ""
    try:
        check_history(messages)
        body = _plain(anthropic_request.encode(Request("claude-sonnet-4-5", messages), "").body)
        seen = SeenRequest(1, "anthropic", "/v1/messages", HEADERS, body)
        fake_anthropic_rules.check(seen, fake_anthropic_rules.Issued())
        body = _plain(chat_request.encode(Request("gpt-4o", messages), "", CHAT).body)
        fake_openai_rules.check(body)
        body = _plain(responses_request.encode(Request("gpt-5", messages), "", RESPONSES).body)
        fake_responses_rules.check(body, fake_responses_rules.Issued())
        body = _plain(gemini_request.encode(Request(GEMINI, messages), "").body)
        seen = SeenRequest(1, "google", f"/v1beta/models/{GEMINI}:generateContent", {}, body)
        fake_gemini_rules.check(seen, fake_gemini_rules.Issued())
    except AssertionError as error:
        return str(error)
    except Refused as error:
        return error.message
    return ""


def _plain(body: object) -> dict[str, object]:
    return json.loads(dumps(body))  # type: ignore[arg-type]
