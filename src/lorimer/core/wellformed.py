"""What makes messages acceptable to every provider.

`faults` finds what is wrong with messages, `repaired` mends it, for all providers at once, so that
a history can be sent to any of them, and from one to another. The following is repaired:

- what is loaded from a journal for a new or resumed run: `journal/conversation.py`;
- what a run has added, when it ends in whatever way: `PipelineState.close_turn`;
- the part of a conversation that a strategy of stage 2 selected, and so also what compaction
  leaves.

In between a history stays valid by construction: `History` keeps nothing empty, a model call gives
its tool calls unique ids, and every call is answered before the next request. So a whole history is
never processed here while a run is live.

The encoders (`models/*_request.py`) rely on these rules and only translate: they merge consecutive
messages of one role, leave out what their wire cannot express (blank text, another provider's
thinking), and adapt ids and names to its alphabet.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Final, TypeAlias, assert_never

from lorimer.core.errors import ExecutorErrorCode
from lorimer.core.jsonable import clean, utf8
from lorimer.core.messages import (
    Block,
    DocumentBlock,
    ImageBlock,
    Message,
    Role,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUse,
    message_from_json,
)
from lorimer.core.record import record

NOT_RUN: Final = "Not run: the run ended first."

OUTCOME_UNKNOWN: Final = (
    f"ERROR {ExecutorErrorCode.EXEC_TOOL_OUTCOME_UNKNOWN.value}: this call was begun, and the run "
    "ended before its result was there. Check whether it took effect before you repeat it."
)

NO_RESULT: Final = (
    f"ERROR {ExecutorErrorCode.EXEC_TOOL_OUTCOME_UNKNOWN.value}: the result of this call is not "
    "there any more; it may have taken effect. Check before you repeat it."
)

IsTaken: TypeAlias = Callable[[str], bool]
"""Whether an id belongs to an earlier call of the conversation."""


def answers(
    calls: Sequence[ToolUse],
    done: Mapping[str, ToolResultBlock],
    begun: Collection[int] = (),
) -> Message:
    """One user message with a result for every call, in call order, as providers require. A call
    without a result is reported as not run; or, if its index is in `begun`, as having an unknown
    outcome."""
    return Message(
        "user",
        tuple(
            [
                done.get(call.id)
                or ToolResultBlock(
                    call.id, OUTCOME_UNKNOWN if index in begun else NOT_RUN, is_error=True
                )
                for index, call in enumerate(calls)
            ]
        ),
    )


def own_ids(
    reply: tuple[Block, ...], taken: Container[str], fresh: Callable[[str], str]
) -> tuple[Block, ...]:
    """The content of a reply in which each call has a unique id: a fresh one (`World.new_id`) where
    the id is missing or was used before. The same object when nothing has to change."""
    ids = [block.id for block in reply if isinstance(block, ToolUse)]
    if not ids or (ids[0] and len(ids) == 1 and ids[0] not in taken):
        return reply
    seen: set[str] = set()
    changed: dict[int, ToolUse] = {}
    for index, block in enumerate(reply):
        if isinstance(block, ToolUse):
            call_id = block.id
            while not call_id or call_id in seen or call_id in taken:
                call_id = fresh("call")
            seen.add(call_id)
            if call_id != block.id:
                changed[index] = renamed(block, call_id)
    if not changed:
        return reply
    return tuple([changed.get(index, block) for index, block in enumerate(reply)])


def renamed(use: ToolUse, id: str) -> ToolUse:
    """The call with another id, and without its signature, which does not cover that id."""
    return ToolUse(id, use.name, use.input, use.raw, use.signature)


# --- what is wrong with messages ------------------------------------------------------------------


@record
class Fault:
    """One fault in a list of messages, for which a provider would refuse it."""

    index: int
    """Index of the message."""
    rule: str
    """`begin empty block text id unanswered orphan order`: see `faults`."""
    words: str


def faults(messages: Iterable[Message], taken: IsTaken | None = None) -> list[Fault]:
    """The faults of these messages for which some provider would refuse them, in order; usually [].

    `begin`: the first message is not the user's. `empty`: a message has no content. `block`: a
    block in a role that may not have it, or without content. `text`: unpaired surrogates. `id`: a
    call without a unique id. `unanswered`: a call without exactly one result in the user turn right
    after it. `orphan`: a result without a call. `order`: a result after other content of its turn.
    Consecutive messages of one role are one turn. `taken` is for messages that continue a
    conversation: it knows the ids of earlier calls, and then the first message need not be the
    user's.
    """
    messages = list(messages)
    found = misplaced(messages, taken)
    for index, message in enumerate(messages):
        if without_empty_end(message) is not message:
            found.append(Fault(index, "empty", "it says nothing, or nothing after its thinking"))
        if readable(message) is not message:
            found.append(Fault(index, "text", "it holds an unpaired surrogate"))
    return sorted(found, key=attrgetter("index"))


def without_empty_end(message: Message) -> Message | None:
    """The message without blank text and thinking at its end, which no provider accepts. Google's
    signature is kept, since other providers are not sent it. None: nothing is left."""
    content = message.content
    last = content[-1] if content else None
    if type(last) is TextBlock:  # nearly always
        if last.text and not last.text.isspace():
            return message
    elif last is not None and not isinstance(last, ThinkingBlock):
        return message
    end = len(content)
    while end and not _says(content[end - 1]):
        end -= 1
    if end and end < len(content) and _seals(content[end]):
        end += 1
    if not end:
        return None
    # a signature may be all that follows the text
    return message if end == len(content) else Message(message.role, content[:end])


def _says(block: Block) -> bool:
    kind = type(block)
    if kind is TextBlock:
        return bool(block.text) and not block.text.isspace()  # type: ignore[union-attr]
    return kind is not ThinkingBlock


def _seals(block: Block) -> bool:
    return isinstance(block, ThinkingBlock) and block.origin == "google" and not block.text


def readable(message: Message) -> Message:
    """The message with text that can be encoded; the same object if it can be already."""
    plain = message.to_json()
    if utf8(plain) is not None:
        return message
    return message_from_json(json.loads(clean(json.dumps(plain, ensure_ascii=False))))


def fits(role: Role, block: Block) -> bool:
    """Whether that role may have such a block, and the block has content."""
    match block:
        case TextBlock():
            return True
        case ThinkingBlock() | ToolUse():
            return role == "assistant"
        case ToolResultBlock():
            return role == "user"
        case ImageBlock() | DocumentBlock():
            return role == "user" and bool(block.data or block.url)
        case _:
            assert_never(block)


def misplaced(messages: Sequence[Message], taken: IsTaken | None) -> list[Fault]:
    """The `faults` concerning order and position: all except `empty` and `text`."""
    found: list[Fault] = []
    if messages and messages[0].role != "user" and taken is None:
        found.append(Fault(0, "begin", "a conversation begins with the user"))
    used: set[str] = set()
    waiting: dict[str, int] = {}  # calls without a result so far, with the index of their message
    turn, said = "", False
    for index, message in enumerate(messages):
        role = message.role
        if role != turn:
            if waiting and role == "assistant":
                found += _unanswered(waiting)
                waiting = {}
            turn, said = role, False
        for block in message.content:
            if isinstance(block, TextBlock):
                said = True
            elif isinstance(block, ToolUse) and role == "assistant":
                call_id = block.id
                if not call_id or call_id in used or (taken is not None and taken(call_id)):
                    found.append(Fault(index, "id", f"a call's id, {call_id!r}, is not its own"))
                used.add(call_id)
                waiting[call_id] = index
            elif isinstance(block, ToolResultBlock) and role == "user":
                if waiting.pop(block.tool_use_id, None) is None:
                    words = f"a result for {block.tool_use_id!r}: no such call waits for one"
                    found.append(Fault(index, "orphan", words))
                elif said:
                    found.append(Fault(index, "order", "a result comes after something else"))
            elif fits(role, block):
                said = True
            else:
                words = f"a {block.type} of the {role}, or without content"
                found.append(Fault(index, "block", words))
    return found + _unanswered(waiting) if waiting else found


def _unanswered(waiting: Mapping[str, int]) -> list[Fault]:
    return [
        Fault(index, "unanswered", f"no result for call {call_id!r} right after it")
        for call_id, index in waiting.items()
    ]


# --- mending --------------------------------------------------------------------------------------


def repaired(messages: Iterable[Message], taken: IsTaken | None = None) -> list[Message]:
    """The messages without their `faults`. Valid messages stay the same objects; repairing twice
    changes nothing.

    A call without a result gets one that says so (`NO_RESULT`), never that it was or was not run.
    Whatever no provider accepts is left out: results without a call, blocks in the wrong role,
    empty messages, and model messages before the user's first. A tool result is never turned into
    text of the user.
    """
    messages = list(messages)
    if not faults(messages, taken):
        return messages
    out: list[Message] = []
    ids = _Ids(taken)
    calls: list[tuple[str, ToolUse]] = []  # of the previous turn, each with its former id
    for role, group in groupby(_fitting(messages), attrgetter("role")):
        turn: list[Message] = list(group)
        if role == "user":
            out += _answered(calls, turn)
            calls = []
        elif out or taken is not None:
            for message in turn:
                uses = [(use.id, ids.own(use)) for use in message.tool_uses]
                out.append(_with_calls(message, [use for _, use in uses]))
                calls += uses
    return out + _answered(calls, [])


def _fitting(messages: Iterable[Message]) -> Iterator[Message]:
    """Each message repaired by itself, in order; without those that become empty."""
    for message in messages:
        content = tuple([block for block in message.content if fits(message.role, block)])
        if len(content) < len(message.content):
            message = Message(message.role, content)
        kept = without_empty_end(readable(message))
        if kept is not None:
            yield kept


def _free(call_id: str) -> bool:
    return False


class _Ids:
    """Gives calls unique ids, deterministically."""

    def __init__(self, taken: IsTaken | None) -> None:
        self._taken = taken or _free
        self._used: set[str] = set()
        self._numbers: dict[str, int] = {}

    def own(self, use: ToolUse) -> ToolUse:
        own, stem = use.id, use.id[:48] or "call"
        while not own or own in self._used or self._taken(own):
            number = self._numbers[stem] = self._numbers.get(stem, 1) + 1
            own = f"{stem}-{number}"
        self._used.add(own)
        return use if own == use.id else renamed(use, own)


def _with_calls(message: Message, calls: Sequence[ToolUse]) -> Message:
    """The message with these calls in place of its own, in order."""
    if all(new is old for new, old in zip(calls, message.tool_uses, strict=True)):
        return message
    given = iter(calls)
    content = [next(given) if isinstance(block, ToolUse) else block for block in message.content]
    return Message(message.role, tuple(content))


def _answered(calls: Sequence[tuple[str, ToolUse]], turn: list[Message]) -> list[Message]:
    """The user turn after these calls: first a result for every call, then the rest."""
    asked = Message("assistant", tuple([use for _, use in calls]))
    as_they_were = all(had == use.id for had, use in calls)
    if as_they_were and not misplaced([asked, *turn], _free):
        return turn
    given: dict[str, deque[ToolResultBlock]] = {}
    out: list[Message] = []
    for message in turn:
        rest: list[Block] = []
        for block in message.content:
            if isinstance(block, ToolResultBlock):
                given.setdefault(block.tool_use_id, deque()).append(block)
            else:
                rest.append(block)
        kept = without_empty_end(
            message if len(rest) == len(message.content) else Message("user", tuple(rest))
        )
        if kept is not None:
            out.append(kept)
    results = tuple([_result(use, given.get(had)) for had, use in calls])
    return [Message("user", results), *out] if results else out


def _result(use: ToolUse, given: deque[ToolResultBlock] | None) -> ToolResultBlock:
    """The first unused result for a call."""
    if not given:
        return ToolResultBlock(use.id, NO_RESULT, is_error=True)
    found = given.popleft()
    same = found.tool_use_id == use.id
    return found if same else ToolResultBlock(use.id, found.content, found.is_error)
