"""Emitters of stage 17: how an answer feels, and its sentences to be spoken."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from pydantic import Field

from lorimer.core.bindings import Bindings
from lorimer.core.jsonable import JSON
from lorimer.core.state import PipelineState
from lorimer.stages.s17_emit import Emitter

NEUTRAL: Final = "neutral"

FEELINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "excited": ("amazing", "awesome", "incredible", "wow", "can't wait"),
    "happy": ("glad", "great", "happy", "love", "nice", "thank", "welcome", "yay"),
    "sad": ("afraid", "alas", "sad", "sorry", "unfortunately"),
    "thinking": ("hm", "let me see", "maybe", "perhaps", "wonder"),
}
"""Feeling to the words that show it."""

_SENTENCE: Final = re.compile(r"(?<=[.!?])\s+|\n+")
_CODE: Final = re.compile(r"```.*?```", re.DOTALL)
_MARKS: Final = re.compile(r"[*_`#>|]+")


class _Teller(Emitter):
    """An emitter that calls what the host has bound under a name, where it has."""

    class Config(Emitter.Config):
        target: str = ""
        """The name under which the host bound the function; none: only the signal tells it."""

    _call: Callable[[JSON], Awaitable[object] | object] | None

    def bind(self, bindings: Bindings) -> None:
        self._call = None
        if self.config.target in bindings.named:
            self._call = bindings.function(self.config.target, f"the emitter {self.name!r}")

    async def tell(self, payload: JSON) -> None:
        """Call it; it may be async."""
        waiting = None if self._call is None else self._call(payload)
        if inspect.isawaitable(waiting):
            await waiting


class VTuberEmitter(_Teller):
    """How the answer feels: the feeling of which it has the most words."""

    name = "vtuber"
    description = "Calls target({emotion, text}) and signals vtuber.emotion."

    class Config(_Teller.Config):
        words: dict[str, list[str]] = Field({})
        """Feeling to more words that show it."""

    def configure(self, config: Mapping[str, JSON]) -> None:
        super().configure(config)
        self._words = self.Config.model_validate(config).words

    async def emit(self, state: PipelineState) -> Mapping[str, JSON]:
        emotion = self.feeling(state.text)
        state.shared["last_emotion"] = emotion
        state.run.signal("vtuber.emotion", {"emotion": emotion})
        await self.tell({"emotion": emotion, "text": state.text})
        return {"emotion": emotion}

    def feeling(self, text: str) -> str:
        """The feeling of a text; `neutral` when no word shows one."""
        folded = text.casefold()
        counts: dict[str, int] = {}
        for feeling in dict.fromkeys([*FEELINGS, *self._words]):
            words = [*FEELINGS.get(feeling, ()), *self._words.get(feeling, ())]
            counts[feeling] = sum(
                len(re.findall(rf"(?<!\w){re.escape(word.casefold())}", folded)) for word in words
            )
        best = max(counts, key=lambda feeling: counts[feeling])
        return best if counts[best] else NEUTRAL


class TTSEmitter(_Teller):
    """The answer as it is spoken: sentence by sentence, without code and markup."""

    name = "tts"
    description = "Calls target(sentence) for each sentence and signals tts.sentence."

    class Config(_Teller.Config):
        max_chars: int = Field(300, ge=20)
        """Of a sentence; a longer one is told in parts."""

    def configure(self, config: Mapping[str, JSON]) -> None:
        super().configure(config)
        self._max_chars = self.Config.model_validate(config).max_chars

    async def emit(self, state: PipelineState) -> Mapping[str, JSON]:
        sentences = self.sentences(state.text)
        for sentence in sentences:
            state.run.signal("tts.sentence", {"text": sentence})
            await self.tell(sentence)
        return {"sentences": len(sentences)}

    def sentences(self, text: str) -> list[str]:
        """What there is to be spoken."""
        plain = _MARKS.sub("", _CODE.sub("\n", text))
        found = [" ".join(part.split()) for part in _SENTENCE.split(plain)]
        return [piece for part in found if part for piece in self._pieces(part)]

    def _pieces(self, sentence: str) -> list[str]:
        pieces: list[str] = []
        while len(sentence) > self._max_chars:
            at = sentence.rfind(" ", 0, self._max_chars + 1)
            at = at if at > 0 else self._max_chars
            pieces.append(sentence[:at])
            sentence = sentence[at:].lstrip()
        return [*pieces, sentence]
