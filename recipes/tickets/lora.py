"""A causal language model with a LoRA adapter: loaded, trained on (prompt, completion) pairs, asked for probabilities.

LoRA: Hu et al. 2021, arXiv:2106.09685; 4-bit base weights (QLoRA): Dettmers et al. 2023, arXiv:2305.14314.
"""

from __future__ import annotations

import importlib.util
import inspect
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from transformers.pytorch_utils import Conv1D

IGNORED = -100  # a label that has no part in the loss
LONGEST = 512  # tokens of a pair


@dataclass(frozen=True)
class Pair:
    """What is given, and what the model is to say then; the loss is on the completion alone."""

    prompt: str
    completion: str


def load(weights: str, seed: int, rank: int, layers: int):
    """(model with a new adapter on its last `layers` layers, tokenizer).

    float32 on a CPU, bfloat16 on CUDA, and 4 bits there where bitsandbytes is installed.
    """
    torch.manual_seed(seed)  # peft draws the adapter from the global generator
    torch.use_deterministic_algorithms(True, warn_only=True)
    tokenizer = AutoTokenizer.from_pretrained(weights, padding_side="left")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    cuda = torch.cuda.is_available()
    quantised = cuda and importlib.util.find_spec("bitsandbytes") is not None
    options = {"dtype": torch.bfloat16 if cuda else torch.float32, "device_map": {"": 0} if cuda else None}
    if quantised:
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
        )
    model = AutoModelForCausalLM.from_pretrained(weights, **options)
    if quantised:
        model = prepare_model_for_kbit_training(model)
    adapted = _linear_in_last(model, layers)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=adapted, task_type="CAUSAL_LM")
    return get_peft_model(model, config), tokenizer


def _linear_in_last(model, layers: int) -> list[str]:
    """Names of the linear modules of the last layers; in floats, nothing is computed backwards below them."""
    blocks = model.config.get_text_config().num_hidden_layers
    name, stack = next((n, m) for n, m in model.named_modules() if isinstance(m, nn.ModuleList) and len(m) == blocks)
    return [
        f"{name}.{at}.{part}"
        for at in range(max(0, blocks - layers), blocks)
        for part, module in stack[at].named_modules()
        if isinstance(module, nn.Linear | Conv1D)
    ]


def train(
    model, tokenizer, pairs: Sequence[Pair], held_out: Sequence[Pair], epochs: int, batch: int, lr: float, seed: int
):
    """Trains the adapter; {"steps", "train_loss" of the last epoch, "val_loss", "wall_clock_s"}.

    Batches hold rows of like length, as padding costs time; their order is drawn anew in each epoch.
    """
    began, order = time.monotonic(), random.Random(seed)
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=lr, weight_decay=0.0)
    rows = sorted((_encoded(tokenizer, pair) for pair in pairs), key=lambda row: len(row[0]))
    batches = [rows[n : n + batch] for n in range(0, len(rows), batch)]
    steps = epochs * len(batches)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / 10) * (1 - step / max(steps, 1))
    )
    losses = []
    model.train()
    for _ in range(epochs):
        losses = []
        for rows in order.sample(batches, len(batches)):
            loss = _loss(model, tokenizer, rows)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses.append(loss.item())
    model.eval()
    with torch.inference_mode():
        kept = [_loss(model, tokenizer, [_encoded(tokenizer, pair)]).item() for pair in held_out]
    return {
        "steps": steps,
        "train_loss": sum(losses) / max(len(losses), 1),
        "val_loss": sum(kept) / max(len(kept), 1),
        "wall_clock_s": time.monotonic() - began,
    }


def _encoded(tokenizer, pair: Pair) -> tuple[list[int], int]:
    """Tokens of a pair with an end of text, and how many are the prompt's, of which a long one loses its start."""
    prompt = tokenizer(pair.prompt).input_ids
    completion = [*tokenizer(pair.completion, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
    completion = completion[:LONGEST]
    prompt = prompt[max(0, len(prompt) + len(completion) - LONGEST) :]
    return prompt + completion, len(prompt)


def _loss(model, tokenizer, rows: Sequence[tuple[list[int], int]]) -> torch.Tensor:
    """Mean over the completion's tokens of all rows; no logits are computed where every row has its prompt."""
    longest, start = max(len(ids) for ids, _ in rows), max(1, min(prompt for _, prompt in rows))
    ids = torch.tensor([ids + [tokenizer.pad_token_id] * (longest - len(ids)) for ids, _ in rows])
    seen = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids, _ in rows])
    labels = ids.clone()
    for n, (row, prompt) in enumerate(rows):
        labels[n, :prompt] = IGNORED
        labels[n, len(row) :] = IGNORED
    kept = longest - start + 1  # a token is foretold by the position before it
    logits = _logits(model, kept, input_ids=ids.to(model.device), attention_mask=seen.to(model.device))[:, :-1]
    return nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), labels[:, start:].flatten().to(model.device), ignore_index=IGNORED
    )


def _logits(model, kept: int, **asked) -> torch.Tensor:
    """[rows, kept, vocabulary]: of the last positions, computed for these alone where the model can do that."""
    knows = "logits_to_keep" in inspect.signature(model.get_base_model().forward).parameters
    return model(**asked, **({"logits_to_keep": kept} if knows else {})).logits[:, -kept:]


def merged(model):
    """Puts the adapter into the weights, which is faster to ask; not into 4 bits, which would round it away."""
    if not getattr(model, "is_quantized", False):
        model.merge_adapter()
    return model


def logprobs(model, tokenizer, prompt: str, completions: Sequence[str], at_once: int = 4096) -> list[float]:
    """Mean log-probability of a token of each completion after the prompt; at_once: tokens of a batch, with padding."""
    rows = [tokenizer(text, add_special_tokens=False).input_ids[:LONGEST] for text in completions]
    batches: list[list[int]] = []
    for n in sorted(range(len(rows)), key=lambda n: len(rows[n])):
        if not batches or (len(batches[-1]) + 1) * len(rows[n]) > at_once:
            batches.append([])
        batches[-1].append(n)
    found = {}
    for batch in batches:
        found |= dict(zip(batch, _logprobs(model, tokenizer, prompt, [rows[n] for n in batch]), strict=True))
    return [found[n] for n in range(len(rows))]


@torch.inference_mode()
def _logprobs(model, tokenizer, prompt: str, rows: Sequence[list[int]]) -> list[float]:
    """The prompt is read once, and its cache shared."""
    start = tokenizer(prompt, return_tensors="pt").input_ids[:, -LONGEST:].to(model.device)
    longest = max(map(len, rows))
    ids = torch.tensor([row + [tokenizer.pad_token_id] * (longest - len(row)) for row in rows], device=model.device)
    there = torch.tensor([[1.0] * len(row) + [0.0] * (longest - len(row)) for row in rows], device=model.device)
    first = model(input_ids=start, use_cache=True)
    cache = first.past_key_values
    cache.batch_repeat_interleave(len(rows))
    seen = torch.cat([torch.ones(len(rows), start.shape[1], device=model.device), there], 1).long()
    rest = model(input_ids=ids, attention_mask=seen, past_key_values=cache).logits
    logits = torch.cat([first.logits[:, -1:].expand(len(rows), -1, -1), rest[:, :-1]], 1).float()
    found = logits.gather(-1, ids.unsqueeze(-1)).squeeze(-1) - logits.logsumexp(-1)  # [rows, tokens]
    return ((found * there).sum(1) / there.sum(1)).tolist()


@torch.inference_mode()
def write(model, tokenizer, prompts: Sequence[str], most: int) -> list[tuple[str, int]]:
    """(greedy answer, tokens of prompt and answer) for each prompt, of at most `most` new tokens; one batch."""
    put = tokenizer(list(prompts), return_tensors="pt", padding=True).to(model.device)
    made = model.generate(
        **put, max_new_tokens=most, do_sample=False, pad_token_id=tokenizer.pad_token_id, use_cache=True
    )[:, put.input_ids.shape[1] :]
    read = put.attention_mask.sum(1).tolist()
    written = (made != tokenizer.pad_token_id).sum(1).tolist()
    texts = tokenizer.batch_decode(made, skip_special_tokens=True)
    return [(text.strip(), a + b) for text, a, b in zip(texts, read, written, strict=True)]
