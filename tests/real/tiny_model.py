"""Writes a chat model of a hundred kilobytes for a real server to serve: mostly at random, and with
calls that go wrong in the ways in which models write them.

Runs in the server's environment (`make real-server`), which has torch and transformers. The model
is a GPT-2 whose layers add nothing: each token decides the next one. A token is a byte, and follows
from the byte before at random, so that answers are noise and mostly no UTF-8; only after a digit
comes what `ANSWERS` says. The prompt ends with the last letter of the last message, so who asks
"... 2" gets answer 2.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

CONTEXT = 512
"""Tokens of its window. There is no position after it: the server fails there."""
ANSWERS = {
    # each in tokens, which may not repeat; then it stops
    "1": ('<tool_call>\n{"name": "look", "arguments": {"at"', ': "here"}}\n</tool_call>'),
    "2": ('<tool_call>\n{"name": "look", "arguments": [1,', " 2]}\n</tool_call>"),
    "3": ('<tool_call>\n{"name": "look", "arguments": ', "true}\n</tool_call>"),
    "4": ('<tool_call>\n{"name": "look", "arguments": {"at": "he',),
    "5": ("<tool_call>\nlook at it, ", "please\n</tool_call>"),
    "6": ('<tool_call>\n{"name": "look", "arguments": {"at": N', "aN}}\n</tool_call>"),
    "7": (
        '<tool_call>\n{"name": "look", "arguments": {"at": "a"}}',
        "\n</tool_call>\n",
        '<tool_call>\n{"name": "look", "arguments": {"at": "b"}}',
        "\n</tool_call>\n\n",
    ),
    "8": ('<tool_call>\n{"name": "look', '"}\n</tool_call>'),
    "9": ("Nothing ", "to look at."),
}
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "assistant:{{ messages[-1]['content'][-1:] }}"
)
CALLS = {
    # as servers read the calls of models that write them so
    "defaults": {"role": "assistant"},
    "start_anchor_pattern": "assistant:.",
    "fields": {
        "tool_calls": {
            "open_pattern": r"\s*<tool_call>",
            "close": "</tool_call>",
            "repeats": True,
            "content": "json",
            "transform": {"type": "function", "function": "{content}"},
        },
        "content": {"close_pattern": r"\s*</s>", "content": "text"},
    },
}
START, END = "<s>", "</s>"


def write(folder: Path) -> None:
    """Model, tokenizer and settings, as `from_pretrained` reads them."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([START, END, *letters])}
    bytewise = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bytewise.decoder = decoders.ByteLevel()
    pieces = [piece for answer in ANSWERS.values() for piece in answer]
    bytewise.add_tokens([AddedToken(piece, normalized=False) for piece in pieces])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bytewise,
        bos_token=START,
        eos_token=END,
        pad_token=END,
        chat_template=TEMPLATE,
        model_max_length=CONTEXT,
        response_template=CALLS,
    )
    size = len(tokenizer)
    torch.manual_seed(7)
    quiet = [vocabulary[letter] for letter in letters if not letter.isascii()]
    following = torch.tensor(quiet)[torch.randint(len(quiet), (size,))]
    for digit, answer in ANSWERS.items():
        path = [digit, *answer, END]
        numbers = [tokenizer.convert_tokens_to_ids(token) for token in path]
        following[torch.tensor(numbers[:-1])] = torch.tensor(numbers[1:])
    config = GPT2Config(
        vocab_size=size,
        n_positions=CONTEXT,
        n_embd=size,
        n_inner=4,
        n_layer=1,
        n_head=1,
        tie_word_embeddings=False,
        bos_token_id=vocabulary[START],
        eos_token_id=vocabulary[END],
    )
    model = GPT2LMHeadModel(config)
    with torch.no_grad():
        for part in model.parameters():
            part.zero_()
        model.transformer.wte.weight.copy_(torch.eye(size))
        model.transformer.ln_f.weight.fill_(1.0)
        model.lm_head.weight[following, torch.arange(size)] = 1.0
    model.generation_config = GenerationConfig(
        bos_token_id=vocabulary[START], eos_token_id=vocabulary[END], pad_token_id=vocabulary[END]
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
