"""What lm-eval itself writes with --log_samples: made with its evaluator on tiny models, and changed for tests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

HASHES = ("doc_hash", "prompt_hash", "target_hash")


def log_samples(model: Path, tasks: list[str], folder: Path, out: Path, peft: Path | None = None, **settings) -> Path:
    """Runs lm-eval's evaluator as its command does; returns the folder that it made for the model.

    folder: of the tasks' definitions; settings: further arguments of `simple_evaluate`.
    """
    from lm_eval import simple_evaluate
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.tasks import TaskManager

    arguments = {"pretrained": str(model), "dtype": "float32"} | ({"peft": str(peft)} if peft else {})
    tracker = EvaluationTracker(output_path=str(out))
    found = simple_evaluate(
        model="hf",
        model_args=arguments,
        tasks=tasks,
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        evaluation_tracker=tracker,
        log_samples=True,
        bootstrap_iters=0,
        batch_size=8,
        device="cpu",
        **settings,
    )
    samples = found.pop("samples")
    tracker.save_results_aggregated(results=found, samples=samples)
    for name in found["configs"]:
        tracker.save_results_samples(task_name=name, samples=samples[name])
    return next(path for path in out.iterdir() if path.is_dir())


def results_of(folder: Path, task: str) -> Path:
    """The newest results file that tells of a task."""
    found = [path for path in sorted(folder.glob("results_*.json")) if task in json.loads(path.read_text())["configs"]]
    return found[-1]


def samples_of(folder: Path, task: str) -> Path:
    return results_of(folder, task).with_name(
        results_of(folder, task).name.replace("results_", f"samples_{task}_").replace(".json", ".jsonl")
    )


def change_run(folder: Path, task: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes what a run says of itself."""
    path = results_of(folder, task)
    run = json.loads(path.read_text())
    change(run)
    path.write_text(json.dumps(run))


def change_rows(folder: Path, task: str, change: Callable[[list[dict[str, Any]]], object], whole: bool = True) -> None:
    """Changes the samples of a task. whole: as if lm-eval had written them so, with its count and digest."""
    path = samples_of(folder, task)
    rows = [json.loads(text) for text in path.read_text().splitlines()]
    change(rows)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))

    def count(run: dict[str, Any]) -> None:
        joined = "".join(row[key] for row in rows for key in HASHES)
        run["task_hashes"][task] = hashlib.sha256(joined.encode()).hexdigest()
        run["n-samples"][task]["effective"] = len({row["doc_id"] for row in rows})

    if whole:
        change_run(folder, task, count)


def rehash(row: dict[str, Any]) -> None:
    """The hashes of a row that was changed, as lm-eval makes them."""
    texts = (json.dumps(row["doc"], indent=2, ensure_ascii=False), row["arguments"]["gen_args_0"]["arg_0"])
    for key, text in zip(HASHES, (*texts, row["target"]), strict=True):
        row[key] = hashlib.sha256(text.encode()).hexdigest()
