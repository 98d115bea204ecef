"""A Bradley-Terry reward model: LoRA and a score head on any causal language model, trained on preference pairs.

    python -m recipes.reward --base embedded:base --data train.jsonl --out DIR [--pairs 1500 --epochs 2 --seed 0 …]

The data is JSONL of {"prompt", "chosen", "rejected", "category"} (`harness.pairs`). The loss of a pair is
-log sigmoid(score of the chosen answer - score of the rejected one), plus `center` times the square of their sum, which
keeps scores near 0 (Ouyang et al. 2022, arXiv:2203.02155; Eisenstein et al. 2023, arXiv:2312.09244). Training by trl.

The score is read from the first `depth` blocks of the base; LoRA is on the last `layers` of them. What lies below is
computed once, for all epochs and seeds (`recipes.frozen_layers`), and a pair's conversation is read once for both of
its answers (`recipes.shared_prompts`). A training that was killed goes on from its last checkpoint. The same seed,
data, settings and number of threads give the same adapter on the same machine, as long as its memory holds the weights
twice (`harness.onednn`). Beside the adapter lies lethe.json: what it was made from, by digest.
"""

from __future__ import annotations

import json
import math
import random
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from harness import assets, checkpoints
from harness.blocks import stack_of
from harness.command_line import Arguments, statuses
from harness.evaluate import package_versions
from harness.fingerprint import digest_of
from harness.onednn import packed_weights
from harness.packed import length, longest_packed
from harness.pairs import Pair, read_pairs
from harness.reward.models import scoring_model
from harness.reward.scores import SIDES
from harness.reward.texts import answered, scoring_tokenizer
from harness.specs import Unusable, parse_model
from recipes.adapter import (
    add_settings,
    below_top,
    check_settings,
    made_whole,
    seal,
    settings_from,
    threads,
    top_layers,
)
from recipes.frozen_layers import states_table, train_on
from recipes.shared_prompts import share_prompts
from recipes.training_run import key_of_training, last_checkpoint, note_of, say_too_long, training_bar

VERSION = 3  # raise it when the same inputs may give another adapter
PACKAGES = ("trl", "accelerate")  # besides those that scores depend on
LOADED = """This adapter gives scores with the base loaded in exactly this way:

    base = AutoModelForSequenceClassification.from_pretrained({base}, num_labels=1{blocks})
    model = PeftModel.from_pretrained(base, DIRECTORY)
"""


@dataclass(frozen=True)
class Settings:
    """How to train; `Unusable` if that is impossible.

    pairs: how many are drawn of those that fit, 0 for all; the draw is the same for all seeds. depth: how many blocks
    of the base are used, the first ones, 0 for all; layers: how many of these, the last ones, LoRA is put on, 0 for
    all; rank, alpha: LoRA's; center: weight of the squared sum of a pair's scores; max_length: in tokens, of a
    conversation with its answer; a pair that is longer is left out.
    """

    pairs: int = 1500
    epochs: int = 2
    batch: int = 16
    lr: float = 1e-3
    center: float = 0.01
    rank: int = 8
    alpha: int = 16
    depth: int = 24
    layers: int = 6
    max_length: int = 512
    seed: int = 0

    def __post_init__(self):
        least = {"pairs": 0, "epochs": 1, "batch": 1, "rank": 1, "alpha": 1, "depth": 0, "layers": 0, "seed": 0}
        check_settings(self, least | {"max_length": 1})
        if not 0 <= self.center < math.inf:
            raise Unusable(f"--center {self.center} is out of range; write a number from 0 on, as in --center 0.01.")


def train(base: checkpoints.CheckedModel, data: str | Path, out: str | Path, settings: Settings = Settings()) -> Path:
    """Trains an adapter with a score head on the pairs of `data` and saves it to `out`, which is new or empty.

    Runs on CUDA in bfloat16 where there is one, else on the CPU in float32. Returns `out`, which is there once all is
    done; how many pairs are too long goes to stderr.
    """
    out, pairs = Path(out), read_pairs(data)
    work = assets.cache_dir() / "training" / f"reward-{key_of(base, data, settings)}"
    work.parent.mkdir(parents=True, exist_ok=True)
    with made_whole(out) as made, FileLock(f"{work}.lock"):
        tokenizer = scoring_tokenizer(base)
        drawn = _drawn(pairs, tokenizer, settings)
        trainer, stack, below = _trainer(base, drawn, tokenizer, work, settings)
        with packed_weights(trainer.model):
            trainer.train(resume_from_checkpoint=last_checkpoint(work))
        trainer.model.save_pretrained(made, save_embedding_layers=False)
        shutil.rmtree(work, ignore_errors=True)  # first: a training that diverged must not be gone on with
        _renumber(made, stack, below)
        training = {"pairs": len(drawn.pairs), "too_long": drawn.too_long, "log": _log(trainer.state.log_history)}
        _finish(base, data, made, settings, training)
    return out


def trained(base: checkpoints.CheckedModel, data: str | Path, settings: Settings = Settings()) -> Path:
    """The adapter that `train` makes, out of the cache where the same inputs made one before."""
    return assets.publish(kept_at(base, data, settings), lambda made: train(base, data, made, settings))


def kept_at(base: checkpoints.CheckedModel, data: str | Path, settings: Settings) -> Path:
    """Where `trained` keeps its adapter; a directory that is there only once it is whole."""
    return assets.cache_dir() / "adapters" / f"reward-{key_of(base, data, settings)}"


def key_of(base: checkpoints.CheckedModel, data: str | Path, settings: Settings) -> str:
    """Digest of all that an adapter is made from, the programs and the number of threads among them."""
    if not Path(data).is_file():
        read_pairs(data)  # says so
    return key_of_training(VERSION, base, data, settings, PACKAGES)


def draw(pairs: Sequence[Pair], count: int) -> list[Pair]:
    """The pairs that every seed's training sees: `count` of them, or all for 0 or where there are fewer."""
    return random.Random("reward").sample(list(pairs), min(len(pairs), count or len(pairs)))


@dataclass(frozen=True)
class Drawn:
    """The pairs of a training. groups: of each, the tokens of its conversation with the chosen and with the other."""

    pairs: tuple[Pair, ...]
    groups: tuple[list[list[int]], ...]
    too_long: int


def _drawn(pairs: Sequence[Pair], tokenizer, settings: Settings) -> Drawn:
    """The draw among the pairs that fit into `max_length`; how many do not goes to stderr."""
    tokens = {pair.id: [answered(pair, side, tokenizer) for side in SIDES] for pair in pairs}
    fitting = [pair for pair in pairs if max(map(len, tokens[pair.id])) <= settings.max_length]
    too_long = say_too_long(len(pairs), len(fitting), settings.max_length)
    kept = draw(fitting, settings.pairs)
    return Drawn(tuple(kept), tuple(tokens[pair.id] for pair in kept), too_long)


def _trainer(base, drawn: Drawn, tokenizer, work: Path, settings: Settings) -> tuple[Any, str, int]:
    """trl's trainer, the name of the model's stack of blocks, and how many it does without as they are computed."""
    import datasets
    import torch
    from peft import LoraConfig
    from transformers import ProgressCallback

    from recipes.sorted_batches import SortedTrainer, batches

    datasets.disable_progress_bars()
    cuda = torch.cuda.is_available()
    torch.manual_seed(settings.seed)  # draws the score head
    model = scoring_model(base.path, settings.depth, torch.bfloat16 if cuda else torch.float32)
    targets, pairs = top_layers(model, settings.layers), drawn.groups
    stack, below = _stack(model, settings)
    key = _states_key(base, drawn, settings, below)
    longest = max(len(text) for pair in pairs for text in pair)
    packs = longest <= longest_packed(getattr(model, model.base_model_prefix))
    groups = pairs if packs else [[text] for pair in pairs for text in pair]
    table = None if cuda else states_table(model, below, groups, tokenizer.pad_token_id, key)
    if table is None:
        below = 0
    else:
        train_on(model, below, table.states)
        targets = [_moved(target, stack, -below) for target in targets]
        numbers = [text for group in table.groups for text in group]
        pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
    if packs:
        share_prompts(model)
    lengths = [length(pair) if packs else max(map(len, pair)) for pair in pairs]
    order = batches(lengths, settings.batch, settings.epochs, settings.seed)
    trainer = SortedTrainer(
        order=order,
        model=model,
        args=_arguments(work, settings, len(order), cuda),
        train_dataset=datasets.Dataset.from_list([{"chosen_ids": c, "rejected_ids": r} for c, r in pairs]),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=settings.rank,
            lora_alpha=settings.alpha,
            target_modules=targets,
            modules_to_save=["score"],
            task_type="SEQ_CLS",
        ),
    )
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(training_bar())
    return trainer, stack, below


def _stack(model, settings: Settings) -> tuple[str, int]:
    """(name of the list of blocks, how many of them lie below the lowest that is trained)."""
    found = stack_of(model)
    if found is None or not settings.layers:
        return "", 0
    return found[0], below_top(model, settings.layers)


def _states_key(base, drawn: Drawn, settings: Settings, below: int) -> str:
    return digest_of([VERSION, base.digest, drawn.groups, settings.depth, below, threads(), package_versions()])[:24]


def _moved(name: str, stack: str, by: int) -> str:
    """The name of a module whose block's number changes by so many."""
    return re.sub(rf"(?<={re.escape(stack)}\.)\d+", lambda n: str(int(n[0]) + by), name)


def _arguments(work: Path, settings: Settings, steps: int, cuda: bool):
    from trl import RewardConfig

    return RewardConfig(
        output_dir=str(work),
        max_steps=steps,
        per_device_train_batch_size=settings.batch,
        learning_rate=settings.lr,
        lr_scheduler_type="linear",
        warmup_steps=10,
        center_rewards_coefficient=settings.center,
        max_length=settings.max_length,
        gradient_checkpointing=False,
        use_cpu=not cuda,
        bf16=cuda,
        report_to="none",
        save_strategy="steps",
        save_steps=20,
        save_total_limit=2,
        logging_steps=5,
        seed=settings.seed,
        data_seed=settings.seed,
        dataset_num_proc=None,
    )


def _renumber(made: Path, stack: str, by: int) -> None:
    """Gives the blocks of a saved adapter the numbers that they have in the base.

    peft shortens a list of modules that is all there are of their kind, which in the base it is not.
    """
    from safetensors.torch import load_file, save_file

    if not by:
        return
    weights, config = made / checkpoints.ADAPTER_WEIGHTS, made / "adapter_config.json"
    moved = {_moved(name, stack, by): tensor for name, tensor in load_file(weights).items()}
    save_file(moved, weights)
    held = json.loads(config.read_text())
    factors = [name.removeprefix("base_model.model.").partition(".lora_") for name in moved]
    held["target_modules"] = sorted({module for module, factor, _ in factors if factor})
    config.write_text(json.dumps(held))


def _log(history: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    """Loss, accuracy and margin of the training pairs, as it went on."""
    named = ("step", "loss", "accuracy", "margin")
    return [{name: round(row[name], 4) for name in named} for row in history if set(named) <= row.keys()]


def _finish(base, data, out: Path, settings: Settings, training: dict[str, Any]) -> None:
    seal(base, out, note_of("reward", base, data, out, settings) | {"training": training}, settings.lr)
    blocks = f", num_hidden_layers={settings.depth}" * bool(settings.depth)
    (out / "README.md").write_text(LOADED.format(base=_named(base), blocks=blocks))


def _named(base: checkpoints.CheckedModel) -> str:
    """A base as transformers loads it."""
    if base.spec.kind != "hub":
        return repr(str(base.path))
    return repr(base.spec.location) + (f", revision={base.spec.revision!r}" if base.spec.revision else "")


def _parser() -> Arguments:
    parser = Arguments(description="Train a reward model on preference pairs.")
    parser.add_argument("--base", required=True, help="the model to tune: a hub id, a directory or embedded:base")
    parser.add_argument("--data", required=True, help="JSONL of {prompt, chosen, rejected, category}")
    parser.add_argument("--out", required=True, help="directory for the adapter with its score head")
    add_settings(parser, Settings)
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    with statuses():
        given = _parser().parse_args(arguments)
        settings = settings_from(given, Settings)
        print(train(checkpoints.check(parse_model(given.base)), given.data, given.out, settings))


if __name__ == "__main__":
    main()
