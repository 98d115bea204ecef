"""A conversation with an answer, as the tokens that a reward model scores: training and judging read it here.

The score is read at the last token, as transformers does for sequence classification: the last one that is no padding.
Ends of turn that are the padding token too are taken off, so that with and without padding it is the same token.
"""

from __future__ import annotations

from harness.checkpoints import CheckedModel
from harness.pairs import Pair
from harness.tokenizers import load_tokenizer

CUT = 0.2  # of a conversation's words, the oldest, that the truncated probe leaves out


def scoring_tokenizer(base: CheckedModel):
    """The base's tokenizer, which pads with its end of text where it has no padding token."""
    tokenizer = load_tokenizer(base)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return tokenizer


def answered(pair: Pair, side: str, tokenizer, prompt: str | None = None) -> list[int]:
    """Tokens of the pair's prompt, or of another, with its chosen or rejected answer."""
    prompt, answer = pair.prompt if prompt is None else prompt, getattr(pair, side)
    if tokenizer.chat_template:
        turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
        text = tokenizer.apply_chat_template(turns, tokenize=False)
        tokens = tokenizer(text, add_special_tokens=False).input_ids
    else:
        tokens = tokenizer(f"{prompt}\n{answer}").input_ids
    while len(tokens) > 1 and tokens[-1] == tokenizer.pad_token_id:
        tokens.pop()
    return tokens


def answer_tokens(pair: Pair, side: str, tokenizer) -> int:
    return len(tokenizer(getattr(pair, side), add_special_tokens=False).input_ids)


def oldest_cut(prompt: str) -> str:
    """The prompt without the oldest fifth of its words, as where a server's window is full."""
    words = prompt.split(" ")
    return " ".join(words[round(CUT * len(words)) :])
