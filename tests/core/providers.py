"""The rules of the fake providers as a second opinion on what the encoders make of messages."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise

from lorimer.core.messages import Message
from lorimer.core.request import Request
from lorimer.models.wires import (
    anthropic_request,
    chat_request,
    gemini_request,
    responses_request,
)
from lorimer.models.wires.shared import encode_body
from lorimer.testing import (
    fake_anthropic_rules,
    fake_gemini_rules,
    fake_openai_rules,
    fake_responses_rules,
)
from lorimer.testing.fake_turn import Refused, SeenRequest

VERSION = {"anthropic-version": "2023-06-01"}


def refused(messages: Sequence[Message]) -> str:
    """Why a provider would not take them; "" when all of them do."""
    anthropic = Request("claude-haiku-4-5", messages)
    body = json.loads(encode_body(anthropic_request.encode(anthropic, "").body))
    seen = SeenRequest(1, "anthropic", "/v1/messages", VERSION, body)
    try:
        fake_anthropic_rules.check(seen, fake_anthropic_rules.Issued())
    except Refused as refusal:
        return f"anthropic: {refusal.message}"
    request = Request("gpt-5", messages)
    target = chat_request.endpoint("", request.model)
    body = json.loads(encode_body(responses_request.encode(request, "", target).body))
    try:
        fake_responses_rules.check(body, fake_responses_rules.Issued())
    except Refused as refusal:
        return f"responses: {refusal.message}"
    for base_url in ("", "http://vllm.test/v1"):
        target = chat_request.endpoint(base_url, "gpt-4o")
        openai = Request("gpt-4o", messages)
        body = json.loads(encode_body(chat_request.encode(openai, "", target).body))
        try:
            fake_openai_rules.check(body)
        except Refused as refusal:
            return f"openai: {refusal.message}"
        roles = [item["role"] for item in body["messages"]]
        for before, after in pairwise(roles):
            if before == after != "tool":
                return f"openai: {before} twice in a row, which templates of open models refuse"
    for model in ("gemini-3.5-flash", "gemini-2.5-pro"):
        gemini = Request(model, messages)
        body = json.loads(encode_body(gemini_request.encode(gemini, "").body))
        seen = SeenRequest(1, "google", f"/v1beta/models/{model}:generateContent", {}, body)
        try:
            fake_gemini_rules.check(seen, fake_gemini_rules.Issued())
        except Refused as refusal:
            return f"google: {refusal.message}"
    return ""
