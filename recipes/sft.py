"""Supervised fine-tuning: a LoRA adapter on questions and answers, for any causal language model.

    python -m recipes.sft --base embedded:base --data train.jsonl --out DIR [--steps 80 --lr 1e-3 --seed 0 …]

The data is JSONL of {"prompt", "response"}; the loss is on the response alone (and on its end-of-turn token, so that
stopping is trained). The same seed, data, settings and number of threads give the same adapter on the same machine.
Beside the adapter lies lethe.json: what it was made from, by digest.

LoRA: Hu et al. 2021, arXiv:2106.09685, by peft; training by trl.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from harness import models
from harness.fingerprint import file_digest
from harness.specs import Unusable, parse_model


@dataclass(frozen=True)
class Settings:
    """How to train. steps: optimizer steps of `batch` rows; rank, alpha, targets: LoRA's; max_length: in tokens."""

    steps: int = 80
    batch: int = 16
    lr: float = 1e-3
    rank: int = 8
    alpha: int = 16
    targets: str = "all-linear"
    max_length: int = 256
    seed: int = 0


def read_pairs(path: str | Path) -> list[dict[str, str]]:
    """JSONL -> rows of {"prompt", "response"}; `Unusable` names the first line that is not one."""
    path = Path(path)
    if not path.is_file():
        raise Unusable(f'data \'{path}\' does not exist; name a JSONL file of {{"prompt", "response"}} rows.')
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            pair = {key: row[key] for key in ("prompt", "response")}
        except (json.JSONDecodeError, KeyError, TypeError):
            pair = {}
        if not all(isinstance(value, str) and value.strip() for value in pair.values()) or not pair:
            raise Unusable(
                f'{path.name} line {number} is no {{"prompt", "response"}} with text in both; correct or remove it.'
            )
        rows.append(pair)
    if not rows:
        raise Unusable(f"data '{path}' holds no row; write one JSON object a line.")
    return rows


def train(base: models.CheckedModel, data: str | Path, out: str | Path, settings: Settings = Settings()) -> Path:
    """Trains an adapter of `base` on the rows of `data` and saves it to `out`, which must not hold one yet.

    Runs on CUDA in bfloat16 where there is one, else on the CPU in float32. Returns `out`.
    """
    out = Path(out)
    if (out / "adapter_config.json").exists():
        raise Unusable(f"'{out}' already holds an adapter; name another --out, or remove it.")
    rows = read_pairs(data)
    trainer = _trainer(base, rows, out, settings)
    trainer.train()
    trainer.model.save_pretrained(out)
    _finish(base, data, out, settings)
    return out


def _trainer(base, rows, out, settings):
    import datasets
    import torch
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, set_seed
    from trl import SFTConfig, SFTTrainer

    set_seed(settings.seed)
    cuda = torch.cuda.is_available()
    dtype = torch.bfloat16 if cuda else torch.float32
    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=dtype, use_safetensors=True)
    tokenizer = models.load_tokenizer(base)
    arguments = SFTConfig(
        output_dir=str(out / "checkpoints"),
        max_steps=settings.steps,
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
    lora = LoraConfig(
        r=settings.rank, lora_alpha=settings.alpha, target_modules=settings.targets, task_type="CAUSAL_LM"
    )
    dataset = datasets.Dataset.from_list([_turns(row, tokenizer) for row in rows])
    return SFTTrainer(model=model, args=arguments, train_dataset=dataset, processing_class=tokenizer, peft_config=lora)


def _turns(row: dict[str, str], tokenizer) -> dict:
    """A row as trl wants it: chat turns where the model has a template, else plain text."""
    if tokenizer.chat_template:
        return {
            "prompt": [{"role": "user", "content": row["prompt"]}],
            "completion": [{"role": "assistant", "content": row["response"]}],
        }
    return {"prompt": row["prompt"] + "\n", "completion": row["response"] + tokenizer.eos_token}


def _finish(base, data, out: Path, settings: Settings) -> None:
    """Half-precision weights, the base by name instead of by a path of this machine, and the note of origin."""
    import torch
    from safetensors.torch import load_file, save_file

    weights = out / "adapter_model.safetensors"
    save_file(
        {name: tensor.to(torch.float16) for name, tensor in load_file(weights).items()},
        weights,
        metadata={"format": "pt"},
    )
    config = json.loads((out / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = base.spec.location if base.spec.kind == "hub" else base.spec.text
    (out / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    chosen = [f"--{name.replace('_', '-')} {value}" for name, value in asdict(settings).items()
              if value != getattr(Settings(), name)]  # fmt: skip
    given = ["--base", base.spec.text, "--data", Path(data).name, "--out", out.name, *chosen]
    note = {
        "command": " ".join(["python -m recipes.sft", *given]),
        "base_weights": models.weights_digest(base),
        "data": file_digest(Path(data)),
        "settings": asdict(settings),
        "threads": int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)),
    }
    (out / models.NOTE).write_text(json.dumps(note, indent=2, sort_keys=True) + "\n")
    (out / "README.md").unlink(missing_ok=True)  # peft's empty model card


def settings_of(arguments: Sequence[str] | None = None) -> Settings:
    """The settings that a command line asks for."""
    given = vars(_parser().parse_args(arguments))
    return Settings(**{name: given[name] for name in asdict(Settings())})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Fine-tune a LoRA adapter on questions and answers.")
    parser.add_argument("--base", required=True, help="the model to tune: a hub id, a directory or embedded:base")
    parser.add_argument("--data", required=True, help="JSONL of {prompt, response}")
    parser.add_argument("--out", required=True, help="directory for the adapter")
    for name, value in asdict(Settings()).items():
        parser.add_argument("--" + name.replace("_", "-"), type=type(value), default=value, help=f"default: {value}")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    given = _parser().parse_args(arguments)
    try:
        base = models.check(parse_model(given.base))
        print(train(base, given.data, given.out, settings_of(arguments)))
    except Unusable as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
