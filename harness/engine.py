"""The engine: lm-eval requests -> responses, every token through the model once.

Requests form a tree of tokens (few-shot block, question, choices). A tree is laid out as one sequence under a
mask that lets a token see its ancestors only, so a shared prefix costs nothing twice and there is no padding.
Text is generated in slots: a row that ends leaves its slot to the next prompt. A few-shot block that all prompts
share is kept once and attended to by all rows together (as in Hydragen, Juravsky et al. 2024, arXiv:2402.05099).

The class is an lm-eval `LM`, so `lm_eval` itself can use it, and any lm-eval backend can stand in its place.
"""

from __future__ import annotations

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

from harness.memory import out_of_memory
from harness.sampling import coupled_choice, noise_key
from harness.slots import Prefix, Slots
from harness.stopping import Settings
from harness.token_tree import TokenTree, packs, shared_prefix, split_by_prefix

PACK_TOKENS = {"cpu": 1024, "cuda": 4096}  # tokens of one forward pass over a tree
SLOTS = {"cpu": 64, "cuda": 128}  # rows generated together
WORTH_SHARING = 64  # a common prefix shorter than this is cheaper to repeat than to keep apart


class Engine(TemplateLM):
    """An lm-eval `LM` over one loaded causal model.

    model: a transformers causal LM (or a PeftModel around one) in eval mode; tokenizer: its tokenizer.
    seed: keys the noise of sampled decoding, together with the item (`Instance.doc_id`) and the position.
    pack_tokens, slots: how much goes through the model at once; halved when memory runs out, never visible in scores.
    """

    def __init__(self, model, tokenizer, *, seed: int = 0, pack_tokens: int | None = None, slots: int | None = None):
        super().__init__()
        self.model, self.tokenizer, self.seed = model, tokenizer, seed
        self._device = model.device
        kind = "cuda" if model.device.type == "cuda" else "cpu"
        self.pack_tokens = pack_tokens or PACK_TOKENS[kind]
        self.slots = slots or SLOTS[kind]
        self.tokens_computed = 0  # every token that went through the model

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
        return self.tokenizer.apply_chat_template(
            chat_history,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        raise NotImplementedError(
            "rolling perplexity is not an item metric in [0, 1]; use a task of type multiple_choice or generate_until"
        )

    def _loglikelihood_tokens(self, requests, **kwargs) -> list[tuple[float, bool]]:
        return _in_order(self.score([(context, continuation) for _, context, continuation in requests]), len(requests))

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        return _in_order(self.generate(requests), len(requests))

    def encode_request(self, request: Instance) -> tuple[list[int], list[int]]:
        """Token ids of (context, continuation); the continuation of a generation is empty."""
        if request.request_type == "generate_until":
            context, options = request.args
            room = self.max_length - normalize_gen_kwargs(options)["max_gen_toks"]
            if room <= 0:
                raise ValueError(f"max_gen_toks={options} leaves no room for a prompt in {self.max_length} positions")
            return self.tok_encode(context)[-room:], []
        context, continuation = request.args
        if context:
            return self._encode_pair(context, continuation)
        tokens = self.tok_encode(continuation, add_special_tokens=False)
        return ([self.prefix_token_id], tokens) if tokens[0] != self.prefix_token_id else (tokens[:1], tokens[1:])

    def stream(self, requests: Sequence[Instance]) -> Iterator[tuple[int, Any]]:
        """Yields (index of the request, response) as batches finish: (loglikelihood, is greedy) or text."""
        scored = [i for i, r in enumerate(requests) if r.request_type == "loglikelihood"]
        for i, answer in self.score([self.encode_request(requests[i]) for i in scored]):
            yield scored[i], answer
        written = [i for i, r in enumerate(requests) if r.request_type == "generate_until"]
        for i, text in self.generate([requests[i] for i in written]):
            yield written[i], text

    # ---- scoring given continuations -----------------------------------------------------------------------------

    def score(self, pairs: Sequence[tuple[list[int], list[int]]]) -> Iterator[tuple[int, tuple[float, bool]]]:
        """(context, continuation) token ids -> (index, (sum of log-probabilities, greedy decoding would write it))."""
        longest = max((len(continuation) for _, continuation in pairs), default=0)
        if longest > self.max_length:
            raise ValueError(
                f"a continuation of {longest} tokens does not fit into the model's {self.max_length} positions"
            )
        rows = [(context + continuation)[-(self.max_length + 1) :] for context, continuation in pairs]
        inputs = [row[:-1] for row in rows]  # the last token is predicted, never read
        for shared, members in split_by_prefix(inputs, self.pack_tokens, WORTH_SHARING):
            # a continuation may be shared too, and what predicts it must be read with the rest
            prefix_len = min(shared, *(len(inputs[i]) - len(pairs[i][1]) for i in members))
            prefix = self._read_prefix(inputs[members[0]][:prefix_len]) if prefix_len else None
            for pack in packs(members, inputs, prefix_len, self.pack_tokens):
                yield from self._score_pack(pack, pairs, inputs, prefix)

    def _score_pack(self, members, pairs, inputs, prefix) -> list[tuple[int, tuple[float, bool]]]:
        start = prefix.length if prefix else 0
        tree = TokenTree([inputs[i][start:] for i in members])
        wanted, targets = [], []
        for path, i in zip(tree.paths, members, strict=True):
            continuation = pairs[i][1]
            wanted.append(path[len(path) - len(continuation) :])
            targets.append(continuation)
        nodes = sorted({node for path in wanted for node in path})
        place = {node: n for n, node in enumerate(nodes)}
        try:
            logits, _ = self._read_tree(tree, prefix, nodes)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error) or len(members) == 1:
                raise
            half = len(members) // 2
            return [
                answer
                for part in (members[:half], members[half:])
                for answer in self._score_pack(part, pairs, inputs, prefix)
            ]
        logprobs = torch.log_softmax(logits.float(), dim=-1)
        best = logits.argmax(dim=-1)
        answers = []
        for i, path, target in zip(members, wanted, targets, strict=True):
            at = torch.tensor([place[node] for node in path], device=logits.device)
            token = torch.tensor(target, device=logits.device)
            answers.append((i, (float(logprobs[at, token].sum()), bool((best[at] == token).all()))))
        return answers

    # ---- writing -------------------------------------------------------------------------------------------------

    def generate(self, requests: Sequence[Instance]) -> Iterator[tuple[int, str]]:
        """Yields (index, text) as rows end; requests with equal generation settings run together."""
        groups: dict[str, list[int]] = {}
        for i, request in enumerate(requests):
            groups.setdefault(repr(sorted(request.args[1].items(), key=str)), []).append(i)
        for members in groups.values():
            yield from self._generate_group(members, requests)

    def _generate_group(self, members: list[int], requests) -> Iterator[tuple[int, str]]:
        settings = Settings.of(requests[members[0]].args[1], self)
        prompts = {i: self.encode_request(requests[i])[0] for i in members}
        common = shared_prefix([prompt[:-1] for prompt in prompts.values()])
        prefix = (
            self._read_prefix(next(iter(prompts.values()))[:common])
            if common >= WORTH_SHARING and len(members) > 1
            else None
        )
        waiting = sorted(members, key=lambda i: len(prompts[i]), reverse=True)
        keys = {i: noise_key(self.seed, requests[i].doc_id) for i in members} if settings.temperature else {}
        slots = Slots(self.model, self.slots, prefix)
        while waiting or slots.rows:
            if waiting and slots.free:
                batch = [waiting.pop() for _ in range(min(slots.free, len(waiting)))]
                self._admit(slots, batch, prompts, settings, keys)
            else:
                self._step(slots, settings, keys)
            for row in slots.take_finished():
                yield row.key, settings.text(row.tokens)

    def _admit(self, slots: Slots, batch: list[int], prompts, settings, keys) -> None:
        """Reads the batch's prompts and puts each with its first token into a slot."""
        start = slots.prefix.length if slots.prefix else 0
        sizes = sorted(batch, key=lambda i: prompts[i])
        for members in packs(sizes, prompts, start, self.pack_tokens):
            tree = TokenTree([prompts[i][start:] for i in members])
            ends = [path[-1] for path in tree.paths]
            logits, cache = self._read_tree(tree, slots.prefix, ends, keep_cache=True)
            slots.put(members, tree.paths, [prompts[i] for i in members], cache)
            slots.append(members, self._next_tokens(logits, [(keys.get(i), 0) for i in members], settings), settings)

    def _step(self, slots: Slots, settings, keys) -> None:
        rows = slots.rows
        self.tokens_computed += len(rows)
        logits = slots.forward()
        where = [(keys.get(row.key), len(row.tokens)) for row in rows]
        slots.append([row.key for row in rows], self._next_tokens(logits, where, settings), settings)

    def _next_tokens(self, logits, where, settings) -> list[int]:
        if not settings.temperature:
            return logits.argmax(dim=-1).tolist()
        return coupled_choice(logits.float() / settings.temperature, where)

    # ---- the model -----------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def _read_tree(self, tree: TokenTree, prefix: Prefix | None, nodes: Sequence[int], keep_cache: bool = False):
        """One forward pass over a tree -> logits [len(nodes), vocabulary] and, if asked for, the cache it filled."""
        start = prefix.length if prefix else 0
        cache = (
            prefix.as_cache(self.model.config)
            if prefix
            else (DynamicCache(config=self.model.config) if keep_cache else None)
        )
        self.tokens_computed += len(tree.tokens)
        device = self.model.device
        out = self.model(
            input_ids=torch.tensor([tree.tokens], device=device),
            attention_mask=tree.mask(start).to(device)[None, None],
            position_ids=torch.tensor([tree.depths], device=device) + start,
            past_key_values=cache,
            use_cache=cache is not None,
            logits_to_keep=torch.tensor(nodes, device=device),
        )
        return out.logits[0], cache

    @torch.inference_mode()
    def _read_prefix(self, tokens: list[int]) -> Prefix:
        self.tokens_computed += len(tokens)
        cache = DynamicCache(config=self.model.config)
        self.model(input_ids=torch.tensor([tokens], device=self.model.device), past_key_values=cache, logits_to_keep=1)
        return Prefix.of(cache)


def _in_order(answers: Iterator[tuple[int, Any]], count: int) -> list[Any]:
    ordered: list[Any] = [None] * count
    for i, answer in answers:
        ordered[i] = answer
    return ordered
