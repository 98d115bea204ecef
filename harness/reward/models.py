"""Reward models, loaded: LoRA adapters with a score head over one base, or whole models with one.

    scores = RewardModels(base, candidates).scores([[1, 5, 7], …])     # [texts, candidates]

Adapters on the same base share one loaded model, and the blocks below the lowest adapted one run once for all of them
(`harness.blocks`). An adapter may use the first blocks of its base alone; lethe.json beside it says how many.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor

from harness.adapters import check_applied
from harness.blocks import above, is_exact, lowest_changed, stack_of, states_below
from harness.checkpoint_files import weight_files
from harness.checkpoints import ADAPTER_WEIGHTS, NOTE, CheckedModel
from harness.onednn import packed_weights
from harness.packed import length, longest_packed, pack, shared
from harness.specs import Unusable

BUDGET = {"cpu": 2048, "cuda": 32768}  # tokens at a time, with padding


def scoring_model(path: Path, depth: int = 0, dtype: torch.dtype = torch.float32):
    """A causal model's first `depth` blocks (0: all) with a score head, drawn from torch's generator if it has none.

    `Unusable` where there are fewer blocks, or the checkpoint lacks other weights.
    """
    from transformers import AutoConfig, AutoModelForSequenceClassification
    from transformers.utils import logging

    blocks = AutoConfig.from_pretrained(path).get_text_config().num_hidden_layers
    if depth > blocks:
        raise Unusable(f"--depth {depth}: the model has {blocks} blocks; write a number up to that, or 0 for all.")
    shown = logging.get_verbosity()
    logging.set_verbosity_error()  # the language-model head and the blocks above have no place here
    logging.disable_progress_bar()
    try:
        model, report = AutoModelForSequenceClassification.from_pretrained(
            path,
            num_labels=1,
            num_hidden_layers=depth or blocks,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
        )
    finally:
        logging.set_verbosity(shown)
    if missing := sorted(name for name in report["missing_keys"] if name != "score.weight"):
        raise Unusable(  # transformers draws them at random
            f"the checkpoint in '{path}' lacks {missing[0]} ({len(missing)} in all); copy or save the model again."
        )
    return model


def depth_of(candidate: CheckedModel) -> int:
    """How many blocks of its base an adapter uses, 0 for all; `Unusable` where its note says what cannot be."""
    note = candidate.path / NOTE
    settings = (json.loads(note.read_text()) if note.is_file() else {}).get("settings")
    depth = settings.get("depth", 0) if isinstance(settings, dict) else 0
    if not candidate.is_adapter:
        return 0
    with safe_open(candidate.path / ADAPTER_WEIGHTS, framework="pt") as tensors:
        numbers = [int(n) for name in tensors.keys() for n in re.findall(r"\.(\d+)\.", name)]  # noqa: SIM118
    if isinstance(depth, bool) or not isinstance(depth, int) or (depth and not max(numbers, default=0) < depth):
        raise Unusable(
            f"{NOTE} of '{candidate.spec.text}' says that it uses {depth!r} blocks of its base, and its weights are of"
            f" block {max(numbers, default=0)} too; copy both from one training."
        )
    return depth


def check_head(candidate: CheckedModel) -> None:
    """`Unusable` unless a checked model or adapter has a head that gives one score."""
    depth_of(candidate)
    files = [candidate.path / ADAPTER_WEIGHTS] if candidate.is_adapter else weight_files(candidate.path, candidate.spec)
    for file in files:
        with safe_open(file, framework="pt") as tensors:
            heads = [name for name in tensors.keys() if name.endswith("score.weight")]  # noqa: SIM118
            if heads and tensors.get_slice(heads[0]).get_shape()[0] == 1:
                return
    raise Unusable(
        f"'{candidate.spec.text}' has no head that gives one score (score.weight); train it with recipes.reward, or by"
        ' peft with task_type "SEQ_CLS", one label and modules_to_save=["score"].'
    )


class RewardModels:
    """Candidates on one base. device: cpu or cuda; dtype: a name of torch's."""

    def __init__(
        self, base: CheckedModel, candidates: Sequence[CheckedModel], device: str = "cpu", dtype: str = "float32"
    ):
        self.device, self.dtype = device, getattr(torch, dtype)
        self.columns = {candidate.digest: n for n, candidate in enumerate(candidates)}
        by_depth: dict[int, list[CheckedModel]] = {}
        for candidate in candidates:
            if candidate.is_adapter:
                by_depth.setdefault(depth_of(candidate), []).append(candidate)
        self._groups = [self._adapters(base, depth, own) for depth, own in by_depth.items()]
        self._groups += [self._whole(candidate) for candidate in candidates if not candidate.is_adapter]

    def _adapters(self, base: CheckedModel, depth: int, adapters: Sequence[CheckedModel]) -> _Group:
        from peft import PeftModel

        model = scoring_model(base.path, depth, self.dtype)
        names = [adapter.digest for adapter in adapters]
        lowest = min(lowest_changed(adapter.path, stack_of(model)) for adapter in adapters)
        model = PeftModel.from_pretrained(model, adapters[0].path, adapter_name=names[0])
        for adapter, name in zip(adapters[1:], names[1:], strict=True):
            model.load_adapter(adapter.path, adapter_name=name)
        for adapter in adapters:
            check_applied(model, adapter)
        return _Group(model.to(self.device).eval(), model.get_base_model(), names, lowest)

    def _whole(self, candidate: CheckedModel) -> _Group:
        model = scoring_model(candidate.path, 0, self.dtype).to(self.device).eval()
        return _Group(None, model, [candidate.digest], 0)

    def scores(self, texts: Sequence[Sequence[int]], shuffled: int | None = None) -> NDArray[np.float64]:
        """[texts, candidates] for texts of tokens, each read at its last one.

        Texts of like length go through together, and neighbours that begin alike in one row; shuffled: each goes
        through by itself, in an order drawn by this seed.
        """
        found = np.full((len(texts), len(self.columns)), np.nan)
        packs = shuffled is None and max(map(len, texts), default=0) <= min(models.longest for models in self._groups)
        together = _neighbours(texts) if packs else [[n] for n in range(len(texts))]
        groups = [[texts[n] for n in numbers] for numbers in together]
        lengths = list(map(length, groups))
        order = sorted(range(len(groups)), key=lambda at: lengths[at])
        if shuffled is not None:
            order = [order[n] for n in np.random.default_rng(shuffled).permutation(len(order))]
        with contextlib.ExitStack() as packed:
            for models in self._groups:
                packed.enter_context(packed_weights(models.model))
            for batch in batches(order, lengths, BUDGET[self.device.partition(":")[0]]):
                asked, numbers = [groups[at] for at in batch], [n for at in batch for n in together[at]]
                for models in self._groups:
                    for name, column in models.scores(asked):
                        found[numbers, self.columns[name]] = column.double().cpu().numpy()
        return found


class _Group:
    """Candidates in one loaded model, peft None for a whole one. lowest: the first block that they do not share."""

    def __init__(self, peft, model, names: Sequence[str], lowest: int):
        self.peft, self.model, self.names = peft, model, names
        self.inner = getattr(model, model.base_model_prefix)
        self.longest = longest_packed(self.inner)
        probe = torch.arange(1, 9, device=model.device)[None] % model.config.get_text_config().vocab_size
        self.lowest = lowest if len(names) > 1 and lowest and is_exact(self.inner, lowest, probe) else 0

    def scores(self, groups: Sequence[Sequence[Sequence[int]]]) -> Iterator[tuple[str, Tensor]]:
        """(candidate, [texts] scores) for each."""
        rows = pack(groups, self.model.dtype).to(self.model.device)
        asked = rows.asked
        with torch.no_grad():
            below = states_below(self.inner, self.lowest, asked) if self.lowest else None
            for name in self.names:
                if self.peft is not None:
                    self.peft.set_adapter(name)
                if below is None:
                    states = self.inner(**asked).last_hidden_state
                else:
                    with above(self.inner, self.lowest):
                        states = self.inner(**{**asked, "input_ids": None, "inputs_embeds": below}).last_hidden_state
                yield name, self.model.score(states[rows.row, rows.end])[:, 0]


def _neighbours(texts: Sequence[Sequence[int]]) -> list[list[int]]:
    """Numbers of the texts, two by two where the second begins as the first does for a quarter of it or more."""
    found: list[list[int]] = []
    for n, text in enumerate(texts):
        if found and len(found[-1]) == 1 and shared([texts[n - 1], text]) >= len(text) / 4:
            found[-1].append(n)
        else:
            found.append([n])
    return found


def batches(order: Sequence[int], lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Numbers in the order given, so many at a time that their padded tokens fit into the budget."""
    batch: list[int] = []
    for n in order:
        if batch and max(lengths[m] for m in (*batch, n)) * (len(batch) + 1) > budget:
            yield batch
            batch = []
        batch.append(n)
    if batch:
        yield batch
