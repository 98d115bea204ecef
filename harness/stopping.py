"""When a generated text ends, and what of it counts: the rules of lm-eval's Hugging Face backend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text


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
        """From a task's generation_kwargs; settings that would silently change the sampling are refused."""
        kwargs = normalize_gen_kwargs(gen_kwargs)
        known = {"until", "max_gen_toks", "temperature", "do_sample"}
        extra = {k: v for k, v in kwargs.items() if k not in known and not (k == "top_p" and v == 1)}
        if extra and kwargs.get("do_sample"):
            raise ValueError(
                f"generation settings {extra} are not supported; use temperature, until, max_gen_toks only"
            )
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

        penalise = RepetitionPenaltyLogitsProcessor(self.repetition_penalty)
        held = [torch.tensor([row.prompt + row.tokens], device=logits.device) for row in rows]
        return torch.cat([penalise(tokens, scores[None].float()) for tokens, scores in zip(held, logits, strict=True)])

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
