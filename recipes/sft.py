"""Supervised fine-tuning: a LoRA adapter on questions and answers, for any causal language model.

    python -m recipes.sft --base embedded:base --data train.jsonl --out DIR [--steps 80 --lr 1e-3 --seed 0 …]

The data is JSONL of {"prompt", "response"}; the loss is on the response alone (and on its end-of-turn token, so that
stopping is trained). The same seed, data, settings and number of threads give the same adapter on the same machine, as
long as its memory holds the weights twice (`harness.onednn`). Beside the adapter lies lethe.json: what it was made
from, by digest.

General rows can be mixed in against forgetting (`mixing`): --general FILE --share 0.25 [--kl 0.1].

LoRA: Hu et al. 2021, arXiv:2106.09685, by peft; training by trl.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness import checkpoints
from harness.command_line import Arguments, statuses
from harness.fingerprint import file_digest
from harness.onednn import packed_weights
from harness.specs import Unusable, parse_model
from harness.tokenizers import load_tokenizer
from recipes.adapter import (
    add_settings,
    check_settings,
    lora_targets,
    made_whole,
    on_device,
    seal,
    settings_from,
    threads,
    words_of,
)
from recipes.mixing import Mix, check_mix, rows_seen
from recipes.pairs import read_pairs


@dataclass(frozen=True)
class Settings:
    """How to train; `Unusable` if that is impossible.

    steps: optimizer steps of `batch` rows; rank, alpha: LoRA's; targets: "all-linear", or names of linear layers with
    commas between; max_length: in tokens, what is longer is cut.
    """

    steps: int = 80
    batch: int = 16
    lr: float = 1e-3
    rank: int = 8
    alpha: int = 16
    targets: str = "all-linear"
    max_length: int = 256
    seed: int = 0

    def __post_init__(self):
        check_settings(self, {"steps": 1, "batch": 1, "rank": 1, "alpha": 1, "max_length": 1, "seed": 0})


def train(
    base: checkpoints.CheckedModel,
    data: str | Path,
    out: str | Path,
    settings: Settings = Settings(),
    *,
    general: str | Path | None = None,
    share: float = 0.0,
    kl: float = 0.0,
    origin: Mapping[str, Any] = {},
    device: str = "auto",
) -> Path:
    """Trains an adapter of `base` on the rows of `data` and saves it to `out`, which is new or empty.

    general, share, kl: a file of general rows, which make up this share of all rows seen, and the weight with which the
    adapter is held to the base on them; the rows of `data` are seen as often as without. origin: more for the note.
    device: auto, cpu, cuda or cuda:i; on CUDA it is trained in bfloat16, on the CPU in float32. Returns `out`, which is
    there once all is done; how many rows are cut goes to stderr.
    """
    check_mix(general, share, kl)
    out, rows = Path(out), read_pairs(data)
    mix = Mix(Path(general), read_pairs(general), share, kl) if share else None
    with made_whole(out) as made, on_device(device) as cuda:
        trainer = _trainer(base, rows, made.parent, settings, mix, cuda)
        _say_what_is_cut(trainer, rows, mix, settings.max_length)
        with packed_weights(trainer.model):
            trainer.train()
        trainer.model.save_pretrained(made)
        _finish(base, data, made, settings, mix, origin)
    return out


def _trainer(base, rows, out, settings, mix: Mix | None = None, cuda: bool = False):
    import torch
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, set_seed
    from trl import SFTTrainer

    set_seed(settings.seed)
    dtype = torch.bfloat16 if cuda else torch.float32
    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=dtype, use_safetensors=True)
    tokenizer = load_tokenizer(base)
    targets = lora_targets(model, settings.targets)
    made = {
        "model": model,
        "args": _arguments(out, settings, mix, cuda),
        "train_dataset": _dataset(rows, mix, tokenizer),
        "processing_class": tokenizer,
        "peft_config": LoraConfig(
            r=settings.rank, lora_alpha=settings.alpha, target_modules=targets, task_type="CAUSAL_LM"
        ),
    }
    if mix is None:
        return SFTTrainer(**made)
    from recipes.mixed_trainer import MixedTrainer

    return MixedTrainer(**made, mix=mix, steps=settings.steps)


def _arguments(out, settings, mix: Mix | None, cuda: bool):
    from trl import SFTConfig

    made = SFTConfig(
        output_dir=str(out / "checkpoints"),
        max_steps=rows_seen(settings.steps, settings.batch, mix.share)[2] if mix else settings.steps,
        per_device_train_batch_size=settings.batch,
        learning_rate=settings.lr,
        lr_scheduler_type="linear",
        max_length=settings.max_length,
        completion_only_loss=True,
        gradient_checkpointing=False,
        use_cpu=not cuda,
        bf16=cuda,
        report_to="none",
        save_strategy="no",
        logging_steps=10,
        seed=settings.seed,
        data_seed=settings.seed,
        dataset_num_proc=None,
    )
    made._n_gpu = min(1, made.n_gpu)  # of several GPUs each would get `batch` rows, which is another recipe
    return made


def _dataset(rows, mix: Mix | None, tokenizer):
    """The rows as trl wants them; those of a mix say in a column what they are."""
    import datasets

    turns = [_turns(row, tokenizer) for row in rows]
    if mix:
        turns = [turn | {"general": False} for turn in turns]
        turns += [_turns(row, tokenizer) | {"general": True} for row in mix.rows]
    return datasets.Dataset.from_list(turns)


def _say_what_is_cut(trainer, rows, mix: Mix | None, max_length: int) -> None:
    """trl cuts rows at `max_length` tokens and leaves out those that then hold nothing to be trained."""
    left, tokenizer = trainer.train_dataset, trainer.processing_class
    of_mix = sum(left["general"]) if mix and len(left) else 0
    for kind, given, kept in [("", rows, len(left) - of_mix), *([("general ", mix.rows, of_mix)] if mix else [])]:
        if not kept:
            raise Unusable(
                f"--max-length {max_length} leaves nothing of any {kind}answer to be trained; write a larger one."
            )
        cut = sum(length_of(_turns(row, tokenizer), tokenizer) > max_length for row in given)
        if cut:
            print(
                f"{cut} of {len(given)} {kind}rows are longer than --max-length {max_length} and lose their end;"
                f" {len(given) - kept} of them are left out, as nothing of their answer remains.",
                file=sys.stderr,
            )


def length_of(turns: dict, tokenizer) -> int:
    """Tokens of a row with its answer, uncut."""
    whole = turns["prompt"] + turns["completion"]
    ids = (
        tokenizer(whole).input_ids
        if isinstance(whole, str)
        else tokenizer.apply_chat_template(whole, return_dict=False)
    )
    return len(ids)


def _turns(row: dict[str, str], tokenizer) -> dict:
    """A row as trl wants it: chat turns where the model has a template, else plain text."""
    if tokenizer.chat_template:
        return {
            "prompt": [{"role": "user", "content": row["prompt"]}],
            "completion": [{"role": "assistant", "content": row["response"]}],
        }
    return {"prompt": row["prompt"] + "\n", "completion": row["response"] + tokenizer.eos_token}


def _finish(base, data, out: Path, settings: Settings, mix: Mix | None, origin: Mapping[str, Any]) -> None:
    chosen = words_of(settings)
    if mix:
        chosen += [f"--general {mix.path.name} --share {mix.share}", *([f"--kl {mix.kl}"] if mix.kl else [])]
    given = ["--base", base.spec.text, "--data", Path(data).name, "--out", out.name, *chosen]
    note = {
        "command": " ".join(["python -m recipes.sft", *given]),
        "base_weights": checkpoints.weights_digest(base),
        "data": file_digest(Path(data)),
        "settings": asdict(settings),
        "threads": threads(),
        **({"general": file_digest(mix.path), "share": mix.share, "kl": mix.kl} if mix else {}),
        **origin,
    }
    seal(base, out, note, settings.lr)


def settings_of(arguments: Sequence[str] | None = None) -> Settings:
    """The settings that a command line asks for."""
    return settings_from(_parser().parse_args(arguments), Settings)


def _parser() -> Arguments:
    parser = Arguments(description="Fine-tune a LoRA adapter on questions and answers.")
    parser.add_argument("--base", required=True, help="the model to tune: a hub id, a directory or embedded:base")
    parser.add_argument("--data", required=True, help="JSONL of {prompt, response}")
    parser.add_argument("--out", required=True, help="directory for the adapter")
    add_settings(parser, Settings)
    parser.add_argument("--general", help="JSONL of {prompt, response} to mix in, against forgetting")
    parser.add_argument("--share", type=float, default=0.0, help="of general rows among all rows seen, as in 0.25")
    parser.add_argument("--kl", type=float, default=0.0, help="weight of the divergence from the base on general rows")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    with statuses():
        given = _parser().parse_args(arguments)
        settings = settings_from(given, Settings)
        mixed = {name: getattr(given, name) for name in ("general", "share", "kl")}
        check_mix(**mixed)
        print(train(checkpoints.check(parse_model(given.base)), given.data, given.out, settings, **mixed))


if __name__ == "__main__":
    main()
