"""Direct preference optimization: a LoRA adapter that prefers what raters chose, for any causal language model.

    python -m recipes.dpo --base embedded:base --data train.jsonl --out DIR [--beta 0.1 --loss sigmoid --steps 60 …]

The data is JSONL of {"prompt", "chosen", "rejected"} (`harness.pairs`). The reference is the base: the adapter switched
off, asked once before the first step. A training that was killed goes on from its last checkpoint when the same command
is given again. The same seed, data, settings and number of threads give the same adapter on the same machine, as long
as its memory holds the weights twice (`harness.onednn`). Beside the adapter lies lethe.json: what it was made from, by
digest, and whether the chosen answers became less likely.

DPO: Rafailov et al. 2023, arXiv:2305.18290; with a supervised term: Pang et al. 2024, arXiv:2404.19733; IPO: Azar et
al. 2023, arXiv:2310.12036. Training by trl.
"""

from __future__ import annotations

import math
import random
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from harness import assets, checkpoints
from harness.command_line import Arguments, statuses
from harness.onednn import packed_weights
from harness.packed import longest_packed
from harness.pairs import Pair, read_pairs
from harness.specs import Unusable, parse_model
from harness.tokenizers import load_tokenizer
from recipes.adapter import (
    add_settings,
    below_top,
    check_settings,
    made_whole,
    seal,
    settings_from,
    top_layers,
)
from recipes.answers_only import answers_only
from recipes.chosen_watch import warning, watch
from recipes.sft import length_of
from recipes.shared_prompts import share_prompts
from recipes.training_run import key_of_training, last_checkpoint, note_of, say_too_long, training_bar

VERSION = 4  # raise it when the same inputs may give another adapter
LOSSES = {"sigmoid": ["sigmoid"], "sigmoid+sft": ["sigmoid", "sft"], "ipo": ["ipo"]}
PACKAGES = ("trl", "accelerate")  # besides those that scores depend on


@dataclass(frozen=True)
class Settings:
    """How to train; `Unusable` if that is impossible.

    steps: optimizer steps of `batch` pairs, drawn without repeats while there are enough. loss: one of `LOSSES`; beta:
    its strength of staying near the base (IPO's tau); sft_weight: of the supervised term. layers: how many of the last
    layers LoRA is put on, 0 for all; rank, alpha: LoRA's; max_length: in tokens, of prompt and answer; a pair that is
    longer is left out, since nobody preferred the half of an answer.
    """

    steps: int = 60
    batch: int = 4
    lr: float = 3e-3
    beta: float = 0.1
    loss: str = "sigmoid"
    sft_weight: float = 1.0
    rank: int = 8
    alpha: int = 16
    layers: int = 8
    max_length: int = 512
    seed: int = 0

    def __post_init__(self):
        least = {"steps": 1, "batch": 1, "rank": 1, "alpha": 1, "layers": 0, "max_length": 1, "seed": 0}
        check_settings(self, least)
        if self.loss not in LOSSES:
            raise Unusable(f"--loss {self.loss} is unknown; write one of {', '.join(LOSSES)}.")
        for name in ("beta", "sft_weight"):
            if not 0 < (value := getattr(self, name)) < math.inf:
                raise Unusable(f"--{name.replace('_', '-')} {value} is out of range; write a number above 0.")


def train(base: checkpoints.CheckedModel, data: str | Path, out: str | Path, settings: Settings = Settings()) -> Path:
    """Trains an adapter of `base` on the pairs of `data` and saves it to `out`, which is new or empty.

    Runs on CUDA in bfloat16 where there is one, else on the CPU in float32. Returns `out`, which is there once all is
    done; how many pairs are too long, and a sustained fall of the chosen answers, go to stderr.
    """
    out, pairs = Path(out), read_pairs(data)
    work = assets.cache_dir() / "training" / f"dpo-{key_of(base, data, settings)}"
    work.parent.mkdir(parents=True, exist_ok=True)
    with made_whole(out) as made, FileLock(f"{work}.lock"), answers_only():
        trainer, drawn = _trainer(base, pairs, work, settings)
        with packed_weights(trainer.model):
            trainer.train(resume_from_checkpoint=last_checkpoint(work))
        trainer.model.save_pretrained(made)
        shutil.rmtree(work, ignore_errors=True)  # first: a training that diverged must not be gone on with
        _finish(base, data, made, settings, drawn | {"chosen": watch(trainer.state.log_history, settings.beta)})
    return out


def trained(base: checkpoints.CheckedModel, data: str | Path, settings: Settings = Settings()) -> Path:
    """The adapter that `train` makes, out of the cache where the same inputs made one before."""
    return assets.publish(kept_at(base, data, settings), lambda made: train(base, data, made, settings))


def kept_at(base: checkpoints.CheckedModel, data: str | Path, settings: Settings) -> Path:
    """Where `trained` keeps its adapter; a directory that is there only once it is whole."""
    return assets.cache_dir() / "adapters" / f"dpo-{key_of(base, data, settings)}"


def key_of(base: checkpoints.CheckedModel, data: str | Path, settings: Settings) -> str:
    """Digest of all that an adapter is made from, the programs and the number of threads among them."""
    if not Path(data).is_file():
        read_pairs(data)  # says so
    return key_of_training(VERSION, base, data, settings, PACKAGES)


def draw(pairs: Sequence[Pair], settings: Settings) -> list[Pair]:
    """The pairs that the training sees, by its seed; all of them if they are fewer than steps * batch."""
    wanted = min(len(pairs), settings.steps * settings.batch)
    return random.Random(f"dpo/{settings.seed}").sample(list(pairs), wanted)


def _trainer(base, pairs: Sequence[Pair], work: Path, settings: Settings) -> tuple[Any, dict[str, int]]:
    """trl's trainer, and how many pairs it sees and how many were too long for it."""
    import datasets
    import torch
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, ProgressCallback
    from trl import DPOTrainer

    datasets.disable_progress_bars()  # of the tokenizer; those of the reference and of the training are trl's own
    cuda = torch.cuda.is_available()
    tokenizer = load_tokenizer(base)
    fitting = _fitting(pairs, tokenizer, settings.max_length)
    seen = draw(fitting, settings)
    model = AutoModelForCausalLM.from_pretrained(
        base.path, dtype=torch.bfloat16 if cuda else torch.float32, use_safetensors=True
    )
    targets = top_layers(model, settings.layers)
    routed = hasattr(model.config.get_text_config(), "output_router_logits")  # trl balances experts by its own rows
    longest = max(_length(pair, tokenizer) for pair in seen)
    if not routed and longest <= longest_packed(getattr(model, model.base_model_prefix)):
        share_prompts(model, 0 if cuda else below_top(model, settings.layers))
    with packed_weights(model):  # the reference is asked now
        trainer = DPOTrainer(
            model=model,
            args=_arguments(work, settings, cuda),
            train_dataset=datasets.Dataset.from_list([_turns(pair, tokenizer) for pair in seen]),
            processing_class=tokenizer,
            peft_config=LoraConfig(
                r=settings.rank,
                lora_alpha=settings.alpha,
                target_modules=targets,
                task_type="CAUSAL_LM",
            ),
        )
    if len(trainer.train_dataset) != len(seen):
        raise RuntimeError(f"trl left out {len(seen) - len(trainer.train_dataset)} pairs that fit into its length")
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(training_bar())
    return trainer, {"pairs": len(seen), "too_long": len(pairs) - len(fitting)}


def _arguments(work: Path, settings: Settings, cuda: bool):
    from trl import DPOConfig

    losses = LOSSES[settings.loss]
    return DPOConfig(
        output_dir=str(work),
        max_steps=settings.steps,
        per_device_train_batch_size=settings.batch,
        learning_rate=settings.lr,
        lr_scheduler_type="linear",
        beta=settings.beta,
        loss_type=losses,
        loss_weights=[1.0, settings.sft_weight][: len(losses)],
        max_length=settings.max_length,
        precompute_ref_log_probs=True,
        gradient_checkpointing=False,
        use_cpu=not cuda,
        bf16=cuda,
        report_to="none",
        save_strategy="steps",
        save_steps=5,
        save_total_limit=2,
        logging_steps=1,
        seed=settings.seed,
        data_seed=settings.seed,
        dataset_num_proc=None,
    )


def _turns(pair: Pair, tokenizer) -> dict[str, Any]:
    """A pair as trl wants it: chat turns where the model has a template, else plain text."""
    if tokenizer.chat_template:
        sides = {side: [{"role": "assistant", "content": getattr(pair, side)}] for side in ("chosen", "rejected")}
        return {"prompt": [{"role": "user", "content": pair.prompt}], **sides}
    sides = {side: getattr(pair, side) + tokenizer.eos_token for side in ("chosen", "rejected")}
    return {"prompt": pair.prompt + "\n", **sides}


def _fitting(pairs: Sequence[Pair], tokenizer, longest: int) -> list[Pair]:
    """The pairs whose prompt fits with either answer into `longest` tokens; how many do not goes to stderr."""
    fitting = [pair for pair in pairs if _length(pair, tokenizer) <= longest]
    say_too_long(len(pairs), len(fitting), longest)
    return fitting


def _length(pair: Pair, tokenizer) -> int:
    """Tokens of the prompt with the longer answer."""
    turns = _turns(pair, tokenizer)
    return max(length_of({**turns, "completion": turns[side]}, tokenizer) for side in ("chosen", "rejected"))


def _finish(base, data, out: Path, settings: Settings, training: dict[str, Any]) -> None:
    if said := warning(training["chosen"]):
        print(said, file=sys.stderr)
    seal(base, out, note_of("dpo", base, data, out, settings) | {"training": training}, settings.lr)


def _parser() -> Arguments:
    parser = Arguments(description="Train a LoRA adapter on preference pairs.")
    parser.add_argument("--base", required=True, help="the model to tune: a hub id, a directory or embedded:base")
    parser.add_argument("--data", required=True, help="JSONL of {prompt, chosen, rejected}")
    parser.add_argument("--out", required=True, help="directory for the adapter")
    add_settings(parser, Settings)
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    with statuses():
        given = _parser().parse_args(arguments)
        settings = settings_from(given, Settings)
        print(train(checkpoints.check(parse_model(given.base)), given.data, given.out, settings))


if __name__ == "__main__":
    main()
