"""When a generated text ends, and what of it counts: the rules of lm-eval's Hugging Face backend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text

from harness.specs import Unusable

APPLIED = {"until", "max_gen_toks", "temperature", "do_sample"}
OF_COST = {"use_cache", "pad_token_id"}  # they change no text
PLAIN = {  # values that change nothing, beside None
    "num_beams": 1, "num_beam_groups": 1, "repetition_penalty": 1, "encoder_repetition_penalty": 1,
    "no_repeat_ngram_size": 0, "encoder_no_repeat_ngram_size": 0, "min_length": 0, "min_new_tokens": 0,
    "diversity_penalty": 0, "guidance_scale": 1, "penalty_alpha": 0, "length_penalty": 1, "early_stopping": False,
    "num_return_sequences": 1,
}  # fmt: skip
OF_SAMPLING = {"top_p": 1, "top_k": 0, "min_p": 0, "typical_p": 1, "epsilon_cutoff": 0, "eta_cutoff": 0}


def check_settings(gen_kwargs: dict[str, Any], whose: str) -> None:
    """Raises `Unusable` for a generation setting that would change the texts and that the engine does not apply.

    gen_kwargs: a task's generation_kwargs; whose: how a sentence about them begins.
    """
    kwargs = normalize_gen_kwargs(gen_kwargs)
    sampled = bool(kwargs.get("do_sample") and kwargs.get("temperature"))
    plain = PLAIN | (OF_SAMPLING if sampled else {})
    ignored = APPLIED | OF_COST | (set() if sampled else OF_SAMPLING.keys())
    for name, value in sorted(kwargs.items()):
        if name not in ignored and value is not None and (name not in plain or value != plain[name]):
            raise Unusable(
                f"{whose} asks for {name} = {value!r}, and texts are written with until, max_gen_toks and temperature"
                " alone; take it out of the generation_kwargs in a copy of the task, or leave the benchmark out."
            )


@dataclass(frozen=True)
class Settings:
    """Decoding settings of one group of requests. temperature 0 is greedy; `until` ends a text and is cut from it.

    eos: token ids that end a text; repetition_penalty: of the model's own generation settings, 1 for none.
    """

    tokenizer: Any
    eos: frozenset[int]
    until: tuple[str, ...]
    max_gen_toks: int
    temperature: float
    repetition_penalty: float = 1.0

    @classmethod
    def of(cls, gen_kwargs: dict[str, Any], lm) -> Settings:
        """From a task's generation_kwargs; `Unusable` as for `check_settings`."""
        check_settings(gen_kwargs, "a task")
        kwargs = normalize_gen_kwargs(gen_kwargs)
        eos = lm.tokenizer.decode(lm.eot_token_id, skip_special_tokens=False)
        until = handle_stop_sequences(list(kwargs.get("until") or []), eos=eos)
        temperature = float(kwargs.get("temperature") or 0.0)
        own = getattr(lm.model, "generation_config", None)
        ends = getattr(own, "eos_token_id", None)
        ends = ends if isinstance(ends, list) else [ends]
        return cls(
            tokenizer=lm.tokenizer,
            eos=frozenset({lm.eot_token_id, *ends} - {None}),
            until=tuple(until),
            max_gen_toks=kwargs["max_gen_toks"],
            temperature=temperature,
            repetition_penalty=getattr(own, "repetition_penalty", None) or 1.0,
        )

    def adjusted(self, logits: torch.Tensor, rows: Sequence[Any]) -> torch.Tensor:
        """Logits [rows, vocabulary] after the repetition penalty (Keskar et al. 2019, arXiv:1909.05858) on what each
        row's prompt and text hold, as transformers applies it."""
        if self.repetition_penalty == 1.0:
            return logits
        from transformers import RepetitionPenaltyLogitsProcessor

        # each row's different tokens in one matrix; to name one of them again changes nothing
        widest = max(len(row.held) for row in rows)
        held = [[*row.held, *[row.prompt[0]] * (widest - len(row.held))] for row in rows]
        penalise = RepetitionPenaltyLogitsProcessor(self.repetition_penalty)
        return penalise(torch.tensor(held, device=logits.device), logits.float())

    def finished(self, tokens: list[int]) -> bool:
        """True at the end-of-text token, at the length limit, or once a stop string stands in the text."""
        if tokens[-1] in self.eos or len(tokens) >= self.max_gen_toks:
            return True
        longest = max(len(stop) for stop in self.until)
        # a token is at least one byte, so the last `longest` + 8 tokens hold any stop string that just ended
        tail = self.tokenizer.decode(tokens[-(4 * longest + 8) :], skip_special_tokens=False)
        return any(stop in tail for stop in self.until if stop)

    def text(self, tokens: list[int]) -> str:
        """The response: decoded without special tokens and cut at the first stop string."""
        decoded = self.tokenizer.decode(tokens, skip_special_tokens=True)
        return postprocess_generated_text(decoded, list(self.until), None)
