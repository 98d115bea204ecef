"""trl's trainer on batches of domain and general rows: `mixing` draws them, and the base can hold the general ones.

General answers are long where the domain's are short, and padding all to the longest row of a batch would push several
times the tokens that count. So each kind goes through the model by itself, and each computes only what its answers need
(`answer_loss`); the loss is that of the whole batch, as trl's own trainer has it.

The divergence from the base on rehearsed rows: Li and Hoiem 2016, "Learning without Forgetting", arXiv:1606.09282.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import DataLoader
from trl import SFTTrainer

from recipes.answer_loss import answers, next_token
from recipes.mixing import Mix, draw


class MixedTrainer(SFTTrainer):
    """An `SFTTrainer` whose rows say in a column `general` what they are.

    steps: of the recipe without general rows; `args.max_steps` is what `mixing.rows_seen` gives.
    """

    def __init__(self, *, mix: Mix, steps: int, **options):
        super().__init__(**options)
        self.mix, self.recipe_steps = mix, steps

    def get_train_dataloader(self) -> DataLoader:
        rows, args = self.train_dataset, self.args
        lengths = [len(tokens) for tokens in rows["input_ids"]]
        batch = args.per_device_train_batch_size
        batches = draw(rows["general"], lengths, self.recipe_steps, batch, self.mix.share, args.seed)
        return DataLoader(rows, batch_sampler=batches, collate_fn=self._collate)

    def _collate(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        return {**self.data_collator(rows), "general": torch.tensor([row["general"] for row in rows])}

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Cross-entropy, averaged over the answer tokens of both kinds; `mix.kl` times the divergence joins it."""
        general = inputs.pop("general")
        tokens = inputs["labels"][:, 1:].ne(-100).sum() if num_items_in_batch is None else num_items_in_batch
        loss = torch.zeros((), device=general.device)
        for kind in (False, True):
            if not (general == kind).any():
                continue
            part = _trimmed(inputs, general == kind)
            if self.aux_loss_enabled and not (kind and self.mix.kl):  # a mixture of experts adds a loss of its own
                loss = loss + super().compute_loss(model, part, num_items_in_batch=tokens)
                continue
            ours = next_token(model, part)
            loss = loss + torch.nn.functional.nll_loss(ours, answers(part), reduction="sum") / tokens
            if kind and self.mix.kl:
                loss = loss + self.mix.kl * self._divergence(model, part, ours)
        return loss

    def _divergence(self, model, part: dict[str, torch.Tensor], ours: torch.Tensor) -> torch.Tensor:
        """Mean divergence from the base over the answer tokens, in nats. ours: their log-probabilities.

        That of a token is KL(candidate || base) = sum over the vocabulary of p (log p - log q), p the candidate's
        next-token distribution and q that of the base, which is the model with its adapter off.
        """
        model.eval()  # the base without dropout
        with torch.no_grad(), self.accelerator.unwrap_model(model).disable_adapter():
            base = next_token(model, part)
        model.train()
        return (ours.exp() * (ours - base)).sum(dim=-1).mean()


def _trimmed(inputs: dict[str, torch.Tensor], rows: torch.Tensor) -> dict[str, torch.Tensor]:
    """Some rows of a batch, without the padding that only the others need; it stands on the right."""
    longest = inputs["attention_mask"][rows].sum(dim=1).max()
    return {name: tensor[rows, :longest] for name, tensor in inputs.items()}
