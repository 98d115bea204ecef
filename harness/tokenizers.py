"""Tokenizers: loaded from checked files, and the same on both sides of a comparison."""

from __future__ import annotations

from collections.abc import Sequence

from harness.checkpoint_files import reason
from harness.checkpoints import CheckedModel
from harness.specs import Unusable


def load_tokenizer(model: CheckedModel, trust_remote_code: bool = False):
    """The tokenizer beside a model's weights, or its base's; `Unusable` if it is missing or knows no end of text."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model.tokenizer_path, trust_remote_code=trust_remote_code)
    except Exception as error:
        raise Unusable(
            f"the tokenizer of '{model.spec.text}' cannot be loaded ({reason(error)}); save it beside the weights."
        ) from None
    if tokenizer.eos_token_id is None:
        raise Unusable(
            f"the tokenizer of '{model.spec.text}' has no EOS token, at which answers end; set eos_token in its"
            " tokenizer_config.json."
        )
    return tokenizer


def rendered(tokenizer, messages: Sequence[dict[str, str]], add_generation_prompt: bool = True) -> str:
    """Messages -> prompt by the chat template; one that refuses the system's turn gets the others, as in lm-eval."""
    from jinja2.exceptions import TemplateError

    options = {"add_generation_prompt": add_generation_prompt, "continue_final_message": not add_generation_prompt}
    try:
        return tokenizer.apply_chat_template(messages, tokenize=False, **options)
    except TemplateError:
        spoken = [message for message in messages if message["role"] != "system"]
        return tokenizer.apply_chat_template(spoken, tokenize=False, **options)


def check_tokenizers(base: CheckedModel, candidate: CheckedModel, chat: bool, trust_remote_code: bool = False):
    """Both sides must turn every text into the same tokens; returns the tokenizer they share."""
    ours = load_tokenizer(base, trust_remote_code)
    if chat and not ours.chat_template:
        raise Unusable(
            f"model '{base.spec.text}' has no chat template, which the basket needs; add one, or set chat = false in"
            " the basket."
        )
    if candidate.tokenizer_path == base.tokenizer_path:
        return ours
    theirs = load_tokenizer(candidate, trust_remote_code)
    for what, a, b in (
        ("vocabularies", ours.get_vocab(), theirs.get_vocab()),
        ("special tokens", *(t.special_tokens_map | {"pad_token": None} for t in (ours, theirs))),  # pads are masked
        ("chat templates", ours.chat_template if chat else None, theirs.chat_template if chat else None),
        ("tokenizations", *(t("Forty-two: naïve  café\n\tx = 0x1F; 東京 🙂").input_ids for t in (ours, theirs))),
    ):
        if a != b:
            raise Unusable(
                f"the {what} of '{base.spec.text}' and '{candidate.spec.text}' differ, so their scores cannot be"
                " paired; give both the base's tokenizer files."
            )
    return ours
