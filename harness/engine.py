"""The engine: lm-eval requests -> responses, every token through the model once.

Requests form a tree of tokens (few-shot block, question, choices). A tree is laid out as one sequence in which a token
attends to its ancestors only, so a shared prefix costs nothing twice and there is no padding; a few-shot block of many
prompts is read once and kept (`token_tree`, `attention`). Text is generated in slots (`generation`, `slots`), and a
prompt that is both continued and scored is read once for both.

The class is an lm-eval `LM`, so `lm_eval` itself can use it, and any lm-eval backend can stand in its place.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import (
    has_bos_prefix,
    normalize_gen_kwargs,
)
from transformers import DynamicCache

from harness.generation import Given, Writing
from harness.likelihood import loglikelihoods
from harness.lower_states import Below
from harness.memory import Budget, attempt
from harness.sampling import noise_key
from harness.slots import Prefix
from harness.specs import Unusable
from harness.text_end import Settings
from harness.token_tree import TokenTree, packs, split_by_prefix, split_for_writing
from harness.tokenizers import rendered

STEP_COST = {"cpu": 25, "cuda": 500}  # tokens that are read in about the time of a step of few rows
SEGMENT = {"cpu": 64, "cuda": 512}  # tokens below which an attention call of their own does not pay


class Engine(TemplateLM):
    """An lm-eval `LM` over one loaded causal model.

    model: a transformers causal LM (or a PeftModel around one) in eval mode; tokenizer: its tokenizer.
    seed: keys the noise of sampled decoding, together with the item (`Instance.doc_id`) and the position.
    pack_tokens, slots: how much goes through the model at once, by default what the free memory allows; halved when it
    runs out, never visible in scores. below: states that other models on the same lower blocks have in common with it.
    """

    def __init__(
        self,
        model,
        tokenizer,
        *,
        seed: int = 0,
        pack_tokens: int | None = None,
        slots: int | None = None,
        below: Below | None = None,
    ):
        super().__init__()
        self.model, self.tokenizer, self.seed, self.below = model, tokenizer, seed, below
        self._device = model.device
        budget = Budget.of(model)
        self.pack_tokens = pack_tokens or budget.pack_tokens
        self.slots = slots or budget.slots
        self.tokens_computed = 0  # every token that went through the model, or through its upper blocks

    # ---- lm-eval's interface -------------------------------------------------------------------------------------

    @property
    def eot_token_id(self) -> int:
        return self.tokenizer.eos_token_id

    @property
    def prefix_token_id(self) -> int:
        bos = self.tokenizer.bos_token_id
        return self.eot_token_id if bos is None else bos

    @property
    def max_length(self) -> int:
        return int(getattr(self.model.config, "max_position_embeddings", None) or 2048)

    @property
    def tokenizer_name(self) -> str:
        return self.tokenizer.name_or_path.replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs) -> list[int]:
        """Text -> token ids; a text that already opens with BOS gets no second one."""
        if add_special_tokens is None and has_bos_prefix(string, self.tokenizer.decode(self.prefix_token_id)):
            add_special_tokens = False
        options = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        return self.tokenizer.encode(string, **options)

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        return rendered(self.tokenizer, chat_history, add_generation_prompt)

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        raise NotImplementedError(
            "rolling perplexity is not an item metric in [0, 1]; use a task of type multiple_choice or generate_until"
        )

    def _loglikelihood_tokens(self, requests, **kwargs) -> list[tuple[float, bool]]:
        return _in_order(self.score([(context, continuation) for _, context, continuation in requests]), len(requests))

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        return _in_order(self.generate(requests), len(requests))

    def encode_request(self, request: Instance) -> tuple[list[int], list[int]]:
        """Token ids of (context, continuation), neither of them empty; but a generation has no continuation."""
        if request.request_type == "generate_until":
            context, options = request.args
            room = self.max_length - normalize_gen_kwargs(options)["max_gen_toks"]
            if room <= 0:
                raise ValueError(f"max_gen_toks={options} leaves no room for a prompt in {self.max_length} positions")
            return self.tok_encode(context)[-room:] or [self.prefix_token_id], []
        context, continuation = request.args
        if context:
            before, tokens = self._encode_pair(context, continuation)
        else:
            before, tokens = [self.prefix_token_id], self.tok_encode(continuation, add_special_tokens=False)
            tokens = tokens[tokens[:1] == before :]
        if not tokens:
            raise Unusable(
                f"task {request.task_name}: this tokenizer leaves no token of its own to the answer {continuation!r}"
                f" behind a prompt that ends in {context[-20:]!r}, so it has no likelihood; leave the task out of the"
                " basket."
            )
        return before or [self.prefix_token_id], tokens

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        return _in_order(self.score([self.encode_request(request) for request in requests]), len(requests))

    def stream(self, requests: Sequence[Instance], seeds: Sequence[int] | None = None) -> Iterator[tuple[int, Any]]:
        """Yields (index of the request, response) as batches finish: (loglikelihood, is greedy) or text.

        seeds: of each request's noise, by default the engine's own; what several seeds ask alike is read once.
        """
        encoded = [self.encode_request(request) for request in requests]
        written = [i for i, r in enumerate(requests) if r.request_type == "generate_until"]
        prompts = {tuple(encoded[i][0]): i for i in written}
        given: Given = {}
        scored = []
        for i, request in enumerate(requests):
            if request.request_type == "loglikelihood":
                context, continuation = encoded[i]
                if (writer := prompts.get(tuple(context))) is None or not self._fits(context, continuation):
                    scored.append(i)
                else:
                    given.setdefault(writer, []).append((i, continuation))
        for n, answer in self.score([encoded[i] for i in scored]):
            yield scored[n], answer
        yield from self._generate({i: encoded[i][0] for i in written}, requests, given, seeds)

    def _fits(self, context: list[int], continuation: list[int]) -> bool:
        return len(context) + len(continuation) <= self.max_length + 1

    # ---- scoring given continuations -----------------------------------------------------------------------------

    def score(self, pairs: Sequence[tuple[list[int], list[int]]]) -> Iterator[tuple[int, tuple[float, bool]]]:
        """(context, continuation) token ids -> (index, (sum of log-probabilities, greedy decoding would write it))."""
        longest = max((len(continuation) for _, continuation in pairs), default=0)
        if not all(continuation for _, continuation in pairs):
            raise ValueError("a continuation of no tokens has no likelihood")
        if longest > self.max_length:
            raise ValueError(
                f"a continuation of {longest} tokens does not fit into the model's {self.max_length} positions"
            )
        rows = [(context + continuation)[-(self.max_length + 1) :] for context, continuation in pairs]
        inputs = [row[:-1] for row in rows]  # the last token is predicted, never read
        for shared, members in split_by_prefix(inputs, self.pack_tokens):
            # a continuation may be shared too, and what predicts it must be read with the rest
            prefix_len = min(shared, *(len(inputs[i]) - len(pairs[i][1]) for i in members))
            prefix = None  # the last group's is given back first
            prefix = self._kept_prefix(inputs[members[0]][:prefix_len])
            runs = packs(members, inputs, prefix.length if prefix else 0, self.pack_tokens)[::-1]
            while runs:
                pack = runs.pop()
                answers = attempt(lambda p=pack, x=prefix: self._score_pack(p, pairs, inputs, x), len(pack) > 1)
                if answers is None:
                    self.pack_tokens = max(1, self.pack_tokens // 2)
                    if self.below:
                        self.below.clear()
                    runs += [pack[len(pack) // 2 :], pack[: len(pack) // 2]]
                else:
                    yield from answers

    def _score_pack(self, members, pairs, inputs, prefix) -> list[tuple[int, tuple[float, bool]]]:
        start = prefix.length if prefix else 0
        tree = TokenTree([inputs[i][start:] for i in members])
        wanted = [path[len(path) - len(pairs[i][1]) :] for path, i in zip(tree.paths, members, strict=True)]
        nodes = sorted({node for path in wanted for node in path})
        place = {node: n for n, node in enumerate(nodes)}
        logits, _ = self.read_tree(tree, prefix, nodes)
        rows = [([place[node] for node in path], pairs[i][1]) for path, i in zip(wanted, members, strict=True)]
        return list(zip(members, loglikelihoods(logits, rows), strict=True))

    # ---- writing -------------------------------------------------------------------------------------------------

    def generate(self, requests: Sequence[Instance]) -> Iterator[tuple[int, str]]:
        """Yields (index, text) as rows end."""
        yield from self._generate({i: self.encode_request(r)[0] for i, r in enumerate(requests)}, requests, {})

    def _generate(
        self, prompts: dict[int, list[int]], requests, given: Given, seeds: Sequence[int] | None = None
    ) -> Iterator[tuple[int, Any]]:
        """Requests with equal generation settings run together."""
        groups: dict[str, list[int]] = {}
        for i in prompts:
            groups.setdefault(repr(sorted(requests[i].args[1].items(), key=str)), []).append(i)
        for members in groups.values():
            settings = Settings.of(requests[members[0]].args[1], self)
            keys = {}
            if settings.temperature:
                keys = {i: noise_key(seeds[i] if seeds else self.seed, requests[i].doc_id) for i in members}
            least = STEP_COST["cuda" if self._device.type == "cuda" else "cpu"] * settings.max_gen_toks
            for shared, part in split_for_writing([prompts[i] for i in members], self.pack_tokens, self.slots, least):
                own = {members[n]: prompts[members[n]] for n in part}
                start = prompts[members[part[0]]][:shared]
                # named nowhere here, so that what a part shares is given back before the next part's is read
                yield from Writing(self, own, self._kept_prefix(start), settings, keys, given).run()

    def _kept_prefix(self, tokens: list[int]) -> Prefix | None:
        """None for no tokens, and for more than the memory holds: each row then reads them itself."""
        return attempt(lambda: self.read_prefix(tokens), again=True) if tokens else None

    # ---- the model -----------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def read_tree(self, tree: TokenTree, prefix: Prefix | None, nodes: Sequence[int], keep_cache: bool = False):
        """One forward pass over a tree -> logits [len(nodes), vocabulary] and, if wanted, the cache it filled."""
        start = prefix.length if prefix else 0
        device = self.model.device
        cache = DynamicCache(config=self.model.config) if keep_cache else None
        least = SEGMENT["cuda" if device.type == "cuda" else "cpu"]
        shares = self.below is not None and prefix is None and not keep_cache
        out = (functools.partial(self.below, self.model) if shares else self.model)(
            input_ids=torch.tensor([tree.tokens], device=device),
            attention_mask=torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device),  # the segments hold the masks
            position_ids=torch.tensor([tree.depths], device=device) + start,
            past_key_values=cache,
            use_cache=keep_cache,
            logits_to_keep=torch.tensor(nodes, device=device),
            layout=tree.segments(least, self.model.dtype, device),
            prefix=prefix,
        )
        self.tokens_computed += len(tree.tokens)
        return out.logits[0], cache

    @torch.inference_mode()
    def read_prefix(self, tokens: list[int]) -> Prefix:
        """The keys and values of tokens that several requests start with."""
        cache = DynamicCache(config=self.model.config)
        self.model(input_ids=torch.tensor([tokens], device=self.model.device), past_key_values=cache, logits_to_keep=1)
        self.tokens_computed += len(tokens)
        return Prefix.of(cache)


def _in_order(answers: Iterator[tuple[int, Any]], count: int) -> list[Any]:
    ordered: list[Any] = [None] * count
    for i, answer in answers:
        ordered[i] = answer
    return ordered
