"""Which requests the fake Gemini rejects: our own reading of the vendor's rules.

Written from the vendor's documentation and reported error messages, with their wording where known.
Stricter than the vendor where that is vague: roles alternate, results come first and carry the ids
of their calls, and a seal must have been given to exactly that part.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping
from typing import Final, NoReturn, TypeAlias

from lorimer.core.jsonable import JSON, canonical, objects_of
from lorimer.testing.fake_turn import Refused, SeenRequest, seal

Object: TypeAlias = Mapping[str, JSON]

UNSEALED: Final = ("skip_thought_signature_validator", "context_engineering_is_the_way_to_go")
"""Documented by the vendor for calls that its model did not make."""

_TOP: Final = frozenset(
    "contents tools toolConfig safetySettings systemInstruction generationConfig"
    " cachedContent serviceTier store".split()
)
_CONFIG: Final = frozenset(
    "stopSequences responseMimeType responseSchema responseJsonSchema responseModalities"
    " candidateCount maxOutputTokens temperature topP topK seed presencePenalty frequencyPenalty"
    " responseLogprobs logprobs thinkingConfig mediaResolution speechConfig imageConfig".split()
)
_DATA: Final[Mapping[str, frozenset[str]]] = {
    # what a part holds, one of these, and its fields
    "text": frozenset(),
    "inlineData": frozenset({"mimeType", "data"}),
    "fileData": frozenset({"mimeType", "fileUri"}),
    "functionCall": frozenset({"id", "name", "args"}),
    "functionResponse": frozenset({"id", "name", "response", "parts", "willContinue"}),
}
_BESIDE: Final = frozenset({"thought", "thoughtSignature", "videoMetadata", "mediaResolution"})
_ROLE_OF: Final = {"functionCall": "model", "functionResponse": "user"}
_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}")
_VERSION: Final = re.compile(r"gemini-(?:[a-z]+-)?(\d+)(?:\.(\d+))?")
_BUDGETS: Final = (("flash-lite", 512, 24_576), ("flash", 0, 24_576), ("pro", 128, 32_768))
MAX_STOP_SEQUENCES: Final = 5


class Issued:
    """Which seal a server gave to which part."""

    def __init__(self) -> None:
        self._given: dict[str, set[str]] = {}

    def give(self, part: Object, signature: str) -> str:
        """A seal for the part: this one, else one that every server accepts."""
        sealed = _sealed(part)
        given = signature or seal(sealed)
        self._given.setdefault(given, set()).add(sealed)
        return given

    def genuine(self, part: Object) -> bool:
        """Whether the part's seal is genuine, in either alphabet of base64."""
        signature = str(part["thoughtSignature"]).replace("-", "+").replace("_", "/")
        sealed = _sealed(part)
        return sealed in self._given.get(signature, ()) or signature == seal(sealed)


def _sealed(part: Object) -> str:
    """What a part's seal covers: not the id of a call, which a client may have to make up."""
    call = part.get("functionCall")
    if isinstance(call, Mapping):
        return canonical([call.get("name"), call.get("args") or {}]).decode()
    return canonical([part.get("text"), part.get("thought") is True]).decode()


def seals(model: str) -> bool:
    """Whether the model seals each of its steps, and requires the seals back."""
    return _version(model) >= (3, 0)


def check(request: SeenRequest, issued: Issued) -> None:
    """Raises Refused (400) for the first rule that the request breaks."""
    body, model = request.body, request.model
    top = _TOP
    if ":countTokens" in request.path:
        _known(body, frozenset({"contents", "generateContentRequest"}))
        if "generateContentRequest" in body:
            body, top = _object(body["generateContentRequest"], "request"), _TOP | {"model"}
            if body.get("model") != f"models/{model}":
                _no("GenerateContentRequest.model: the model of the URL is another one.")
    _known(body, top)
    names = _tools(body)
    _config(body, model, bool(names))
    system = body.get("systemInstruction")
    if system is not None and not objects_of(_object(system, "systemInstruction").get("parts")):
        _no("* GenerateContentRequest.system_instruction.parts: must not be empty.")
    contents = _contents(body.get("contents"))
    _pairs(contents)
    for _, parts in contents:
        for part in parts:
            if "thoughtSignature" in part:
                _seal(part, issued)
    if seals(model):
        _sealed_steps(contents)


def _no(message: str) -> NoReturn:
    raise Refused(400, message)


def _unknown(name: str) -> NoReturn:
    _no(f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.')


def _known(value: Object, names: frozenset[str]) -> None:
    for name in value:
        if re.sub("_(.)", lambda match: match[1].upper(), name) not in names:
            _unknown(name)  # Google's SDK writes some names with underscores, which is legal


def _object(value: JSON, where: str) -> Object:
    if not isinstance(value, Mapping):
        _no(f"Invalid value at '{where}': an object was expected.")
    return value


def _version(model: str) -> tuple[int, int]:
    match = _VERSION.match(model)
    if match is None:
        return (99, 0) if model.startswith("gemini") else (0, 0)
    return int(match[1]), int(match[2] or 0)


def _tools(body: Object) -> set[str]:
    """The names of the declared functions."""
    names: set[str] = set()
    for tool in objects_of(body.get("tools")):
        _known(tool, frozenset({"functionDeclarations"}))
        for function in objects_of(tool.get("functionDeclarations")):
            _known(
                function,
                frozenset({"name", "description", "parameters", "parametersJsonSchema"}),
            )
            name = function.get("name")
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                _no(
                    "Invalid function name. Must start with a letter or an underscore. Must be"
                    " alphanumeric (a-z, A-Z, 0-9), underscores (_), dots (.), colons (:), or"
                    " dashes (-), with a maximum length of 64."
                )
            if name in names:
                _no(f"Duplicate function declaration found: {name}")
            if "parameters" in function and "parametersJsonSchema" in function:
                _no("parameters and parameters_json_schema: only one of them can be set.")
            given = function.get("parameters_json_schema", function.get("parametersJsonSchema", {}))
            if not isinstance(given, Mapping):
                _no(f"{name}: parameters_json_schema has to be an object.")
            names.add(name)
    choice = _object(body.get("toolConfig", {}), "toolConfig").get("functionCallingConfig")
    if isinstance(choice, Mapping):
        _known(choice, frozenset({"mode", "allowedFunctionNames"}))
        mode, allowed = choice.get("mode", "AUTO"), choice.get("allowedFunctionNames")
        if mode not in ("AUTO", "ANY", "NONE", "VALIDATED"):
            _no(f"Invalid value at 'tool_config.function_calling_config.mode': {mode}")
        if not names:
            _no("Function calling config is set without function_declarations.")
        if allowed is not None:
            if mode not in ("ANY", "VALIDATED"):
                _no("Allowed function names should only be set when the mode is ANY.")
            for name in allowed if isinstance(allowed, list) else [allowed]:
                if name not in names:
                    _no(f"allowed_function_names: {name} is not declared.")
    return names


def _config(body: Object, model: str, tools: bool) -> None:
    config = _object(body.get("generationConfig", {}), "generationConfig")
    _known(config, _CONFIG)
    stops = config.get("stopSequences", [])
    if isinstance(stops, list) and len(stops) > MAX_STOP_SEQUENCES:
        _no(f"The number of stop sequences must not exceed {MAX_STOP_SEQUENCES}.")
    limit = config.get("maxOutputTokens", 1)
    if not isinstance(limit, int) or limit < 1:
        _no("max_output_tokens must be positive.")
    seed = config.get("seed", 0)
    if not isinstance(seed, int) or not -(2**31) <= seed < 2**31:
        _no(f"Invalid value at 'generation_config.seed' (TYPE_INT32), {seed}")
    form = config.get("responseMimeType", "text/plain")
    if "responseJsonSchema" in config and form != "application/json":
        _no("response_json_schema needs the response_mime_type 'application/json'.")
    if form == "application/json" and tools and _version(model) < (3, 0):
        _no("Function calling with a response mime type: 'application/json' is unsupported")
    if config.get("thinkingConfig") is not None:
        _thinking(_object(config["thinkingConfig"], "thinkingConfig"), model)


def _thinking(thinking: Object, model: str) -> None:
    _known(thinking, frozenset({"includeThoughts", "thinkingBudget", "thinkingLevel"}))
    budget, level = thinking.get("thinkingBudget"), thinking.get("thinkingLevel")
    version = _version(model)
    if version < (2, 5):
        _no("Thinking is not enabled for this model.")
    if budget is not None and level is not None:
        _no("You can only set only one of thinking budget and thinking level.")
    if level is not None:
        if version < (3, 0):
            _no("Thinking level is not supported for this model.")
        if level not in ("MINIMAL", "LOW", "MEDIUM", "HIGH") or (
            level in ("MINIMAL", "MEDIUM") and "gemini-3-pro" in model
        ):
            _no(f"Thinking level {level} is not supported for this model.")
    if isinstance(budget, int) and budget != -1:
        for part, least, most in _BUDGETS:
            if part in model:
                if not (least <= budget <= most or (budget == 0 and part != "pro")):
                    _no(
                        f"The thinking budget {budget} is invalid. Please choose a value between"
                        f" {least} and {most}."
                    )
                break


_Contents: TypeAlias = list[tuple[str, list[Object]]]


def _contents(value: JSON) -> _Contents:
    """Role and parts of each content, each part known and complete."""
    if not isinstance(value, list) or not value:
        _no("* GenerateContentRequest.contents: contents is not specified")
    out: _Contents = []
    for index, item in enumerate(value):
        where = f"contents[{index}]"
        content = _object(item, where)
        _known(content, frozenset({"role", "parts"}))
        role, parts = content.get("role", "user"), objects_of(content.get("parts"))
        if role not in ("user", "model"):
            _no("Please use a valid role: user, model.")
        if not parts:
            _no(f"* GenerateContentRequest.{where}.parts: contents.parts must not be empty.")
        for place, part in enumerate(parts):
            _part(part, str(role), f"{where}.parts[{place}]")
        if role == (out[-1][0] if out else "model"):
            _no(f"{where}: roles have to alternate, beginning with user.")
        out.append((str(role), parts))
    return out


def _part(part: Object, role: str, where: str) -> None:
    _known(part, frozenset(_DATA) | _BESIDE)
    held = [name for name in part if name in _DATA]
    if len(held) != 1:
        _no(
            f"* GenerateContentRequest.{where}.data: required oneof field 'data' must have one"
            " initialized field"
        )
    kind = held[0]
    if _ROLE_OF.get(kind, role) != role:
        _no(f"{where}: a {kind} belongs to the role {_ROLE_OF[kind]}.")
    for name in ("thought", "thoughtSignature"):
        if name in part and role != "model":
            _no(f"{where}: {name} belongs to the role model.")
    if kind == "text":
        text = part["text"]
        if not isinstance(text, str):
            _no(f"Invalid value at '{where}.text' (TYPE_STRING)")
        if not text and "thoughtSignature" not in part:
            _no(f"{where}: the text is empty.")
        return
    data = _object(part[kind], where)
    _known(data, _DATA[kind])
    match kind:
        case "inlineData":
            _media(data, where)
        case "fileData":
            if not data.get("fileUri"):
                _no(f"{where}.file_data.file_uri: required.")
        case _:
            name = data.get("name")
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                _no(f"* GenerateContentRequest.{where}.{kind}.name: Name cannot be empty.")
            field = "args" if kind == "functionCall" else "response"
            if not isinstance(data.get(field, {} if field == "args" else None), Mapping):
                _no(f"Invalid value at '{where}.{kind}.{field}': a Struct was expected.")
            for inner in objects_of(data.get("parts")):
                _known(inner, frozenset({"inlineData"}))
                _media(_object(inner.get("inlineData"), where), where)


def _media(data: Object, where: str) -> None:
    if not data.get("mimeType"):
        _no(f"{where}.inline_data.mime_type: required.")
    try:
        b64decode(str(data.get("data", "")), validate=True)
    except ValueError:
        _no(f"Invalid value at '{where}.inline_data.data' (TYPE_BYTES), Base64 decoding failed")


def _pairs(contents: _Contents) -> None:
    """Every call answered once, by id and name, at the head of the next content."""
    pending: list[tuple[JSON, JSON]] = []
    for _, parts in [*contents, ("user", list[Object]())]:
        calls = [_object(p["functionCall"], "") for p in parts if "functionCall" in p]
        found = [_object(p["functionResponse"], "") for p in parts if "functionResponse" in p]
        if len(found) != len(pending):
            _no(
                "Please ensure that the number of function response parts is equal to the number of"
                " function call parts of the function call turn."
            )
        if any("functionResponse" not in part for part in parts[: len(found)]):
            _no("Function responses have to come before anything else in their content.")
        answered = [(item.get("id"), item.get("name")) for item in found]
        if sorted(map(str, answered)) != sorted(map(str, pending)):
            _no(f"Function responses {answered} do not fit the calls {pending}.")
        pending = [(item.get("id"), item.get("name")) for item in calls]
        ids = [one for one, _ in pending if one is not None]
        if len({*map(str, ids)}) < len(ids):
            _no("Ids of function calls have to differ.")


def _seal(part: Object, issued: Issued) -> None:
    if "functionCall" in part and part["thoughtSignature"] in UNSEALED:
        return
    if not issued.genuine(part):
        _no("Thought signature is not valid.")


def _sealed_steps(contents: _Contents) -> None:
    """In the current turn, the first call of each of the model's steps is sealed."""
    begins = max(
        (
            at
            for at, (role, parts) in enumerate(contents)
            if role == "user" and any("functionResponse" not in part for part in parts)
        ),
        default=0,
    )
    for at, (_, parts) in enumerate(contents[begins:], begins):
        first = next((part for part in parts if "functionCall" in part), None)
        if first is not None and not first.get("thoughtSignature"):
            name = _object(first["functionCall"], "").get("name")
            _no(
                "Function call is missing a thought_signature in functionCall parts. This is"
                " required for tools to work correctly, and missing thought_signature may lead to"
                f" degraded model performance. Additional data, function call `{name}`, position"
                f" {at + 1}."
            )
