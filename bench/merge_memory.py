"""What merging full weights takes: a model of random weights, by default of 2 GB, merged in a process of its own.

    python -m bench.merge_memory [--gb 2.0] [--method linear] [--folder DIR]

prints its peak memory above the interpreter, its seconds and its size. Three times the size lies in a temporary folder,
under DIR, for as long as it runs. Base and candidate are one file each, which takes the most memory to read.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

SHAPE = {"hidden_size": 2048, "intermediate_size": 5632, "num_attention_heads": 32, "vocab_size": 32000}
GB = 1e9


def peak() -> float:
    """The most memory that this process has held so far, mapped files with it, in GB (Linux)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GB


def make(folder: Path, gb: float) -> float:
    """Two Llamas of random bfloat16 weights, checked once, so that the merge need not; the size of one in GB."""
    import torch
    from safetensors.torch import save_file
    from transformers import LlamaConfig, LlamaForCausalLM

    from harness.checkpoints import check
    from harness.specs import parse_model

    def config(layers: int) -> LlamaConfig:
        return LlamaConfig(**SHAPE, num_hidden_layers=layers, dtype="bfloat16", tie_word_embeddings=False)

    def build(layers: int) -> LlamaForCausalLM:
        with torch.device("meta"):
            return LlamaForCausalLM(config(layers))

    none, one = (2 * sum(weight.numel() for weight in build(layers).parameters()) / GB for layers in (0, 1))
    layers = max(1, round((gb - none) / (one - none)))
    shapes = {name: weight.shape for name, weight in build(layers).named_parameters()}
    for seed, name in enumerate(("base", "candidate")):
        random = torch.Generator().manual_seed(seed)
        weights = {n: torch.empty(s, dtype=torch.bfloat16).uniform_(generator=random) for n, s in shapes.items()}
        config(layers).save_pretrained(folder / name)
        save_file(weights, folder / name / "model.safetensors", metadata={"format": "pt"})
        check(parse_model(str(folder / name)))
    return sum(weight.nbytes for weight in weights.values()) / GB


def measure(folder: Path, method: str) -> dict[str, float]:
    """Merges what `make` made: seconds, and GB at the start, once all is imported, and at most."""
    found = {"start": peak()}
    import peft  # noqa: F401  (brings torch and transformers along)

    from harness.checkpoints import check
    from harness.specs import parse_model
    from mitigations.merge import merge

    base, candidate = (check(parse_model(str(folder / name))) for name in ("base", "candidate"))
    found["imported"], begun = peak(), time.monotonic()
    merge(base, candidate, folder / "merged", 0.3, 0.9, method, density=None if method == "linear" else 0.2)
    return found | {"peak": peak(), "seconds": time.monotonic() - begun}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Measure the memory of merging full weights.")
    parser.add_argument("--gb", type=float, default=2.0, help="size of the model, default: 2.0")
    parser.add_argument("--method", default="linear", help="linear, ties or dare, default: linear")
    parser.add_argument("--folder", help="where the models lie meanwhile, default: the system's temporary folder")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        os.environ["LETHE_CACHE"] = str(Path(name) / "cache")
        with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as fresh:
            size = fresh.submit(make, Path(name), given.gb).result()
            found = fresh.submit(measure, Path(name), given.method).result()
    above = {key: found[key] - found["start"] for key in ("imported", "peak")}
    print(
        f"{given.method} merge of {size:.2f} GB in {found['seconds']:.0f} s: peak {above['peak']:.2f} GB above the"
        f" interpreter ({found['start']:.2f} GB), {above['imported']:.2f} GB of it libraries."
    )


if __name__ == "__main__":
    main()
