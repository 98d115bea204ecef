"""What two models' samples must share before their scores can be paired: everything but the model.

The first difference is shown, with where it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from harness.samples.files import HASHES, NAMES_A_MODEL, Answered, Side, TaskSamples, model_arguments
from harness.specs import GOLD_PROB, Benchmark, Unusable

ORIGIN = ("metadata", "custom_dataset", "dataset_path", "dataset_name", "dataset_kwargs")  # documents count, not whence
# Arguments of a backend that say where it runs; every other one but `NAMES_A_MODEL` must be equal.
ADAPTERS = ("peft", "lora_local_path")
OF_THE_MACHINE = ("dtype", "device", "device_map", "device_map_option", "parallelize", "max_memory_per_gpu",
                  "max_cpu_memory", "offload_folder", "tensor_parallel_size", "data_parallel_size", "num_concurrent",
                  "gpu_memory_utilization", "batch_size", "max_batch_size", "max_retries", "timeout",
                  "trust_remote_code")  # fmt: skip
LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens")  # names of the limit of an answer
AROUND = 30  # characters shown on each side of a difference


def settings_of(samples: TaskSamples) -> dict[str, Any]:
    """What the scores of a task depend on besides the model and the documents, by a name to show."""
    run, config = samples.run, samples.run["config"]
    given = model_arguments(run)
    shown = {
        "the version of lm_eval": run.get("lm_eval_version"),
        "the version": run["versions"].get(samples.task),
        "the number of shots": samples.shots,
        "gen_kwargs": config.get("gen_kwargs") or None,
        "fewshot_seed": config.get("fewshot_seed") if samples.shots else None,
    }
    told = sorted(samples.config.items())
    shown |= {k: v for k, v in told if k not in ORIGIN and " at 0x" not in str(v)}  # an address tells nothing
    shown |= {
        "the backend": run.get("model_source"),
        "the dtype": config.get("model_dtype") or given.get("dtype"),
        "the system instruction": run.get("system_instruction"),
        "the chat template": run.get("chat_template"),
        "fewshot_as_multiturn": run.get("fewshot_as_multiturn") or None,
        "the BOS token": run.get("tokenizer_bos_token"),
        "the EOS token": run.get("tokenizer_eos_token"),
        "max_length": run.get("max_length"),
    }
    apart = (*NAMES_A_MODEL, "base_url", *OF_THE_MACHINE)
    return shown | {f"model_args {key}": value for key, value in sorted(given.items()) if key not in apart}


def check_same(
    base: Side, other: Side, task: str, ours: Mapping[int, Answered], theirs: Mapping[int, Answered]
) -> None:
    """`Unusable` with the first difference between two sides on one task. ours, theirs: by the document's number."""
    where = f"'{base.spec.text}' and '{other.spec.text}'"
    settings = [settings_of(side.tasks[task]) for side in (base, other)]
    for key in {**settings[0], **settings[1]}:
        values = [found.get(key) for found in settings]
        if values[0] != values[1]:
            raise Unusable(
                f"{where} differ in {key} of task {task}: {_beside(*values)}; run lm_eval on both with the same."
            )
    for doc in sorted({*ours, *theirs}):
        for side, held in ((base, ours), (other, theirs)):
            if doc not in held:
                missing = len({*ours, *theirs} - {*held})
                raise Unusable(
                    f"'{side.spec.text}' lacks {missing} of {len({*ours, *theirs})} documents of task {task} (number"
                    f" {doc} is the first); run lm_eval on both with the same --limit and --samples."
                )
        if (ours[doc].hashes, ours[doc].asked) != (theirs[doc].hashes, theirs[doc].asked):
            what, values = _differing(base.tasks[task], other.tasks[task], doc)
            raise Unusable(
                f"{where} were not asked the same: {what} {doc} of task {task} is {_beside(*values)}; run lm_eval on"
                " both with the same tasks, documents and templates."
            )


def _differing(ours: TaskSamples, theirs: TaskSamples, doc: int) -> tuple[str, list[Any]]:
    """(what differs of a document, its two values), read again from the files."""
    rows = [next(row for row in samples.lines() if row["doc_id"] == doc) for samples in (ours, theirs)]
    shown = {
        "doc_hash": ("document", [row["doc"] for row in rows]),
        "target_hash": ("the target of document", [row["target"] for row in rows]),
        "prompt_hash": ("the prompt of document", [row["arguments"]["gen_args_0"]["arg_0"] for row in rows]),
    }
    for key in sorted(HASHES):  # doc, prompt, target
        if rows[0][key] != rows[1][key]:
            return shown[key]
    return "what was asked of document", [row["arguments"] for row in rows]


def _beside(ours: Any, theirs: Any) -> str:
    """Two values, cut to where they differ."""
    texts = [value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in (ours, theirs)]
    at = next((n for n, (a, b) in enumerate(zip(*texts, strict=False)) if a != b), min(map(len, texts)))
    shown = []
    for text in texts:
        start, end = max(0, at - AROUND), at + AROUND
        part = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[start:end])
        shown.append(f"{'…' if start else ''}{part}{'…' if end < len(text) else ''}")
    return f"'{shown[0]}' (base) and '{shown[1]}' (candidate)"


def check_basket(benchmark: Benchmark, samples: TaskSamples, side: Side) -> None:
    """`Unusable` where a basket asks for something else than what lm_eval did."""
    kwargs = samples.config.get("generation_kwargs") or {}
    length = next((kwargs[key] for key in LENGTHS if key in kwargs), None)
    given = str(samples.run["config"].get("gen_kwargs"))  # of the run, and not of the task itself
    sampled = "do_sample" in given or "temperature" in given
    wanted = benchmark.temperature or (0.0 if sampled else None)
    asked = {
        "fewshot": (benchmark.fewshot, samples.shots),
        "chat": (benchmark.chat, bool(samples.run.get("chat_template"))),
        "temperature": (wanted, _temperature(kwargs)),
        "max_gen_toks": (benchmark.max_gen_toks, length),
    }
    for key, (wanted, done) in asked.items():
        if wanted is not None and wanted != done:
            raise Unusable(
                f"benchmark '{benchmark.name}' has {key} = {wanted} and '{side.spec.text}' was run with {done} on task"
                f" {samples.task}; correct the basket, or run lm_eval so."
            )
    if benchmark.metric == GOLD_PROB:
        raise Unusable(
            f"benchmark '{benchmark.name}' is decided by {GOLD_PROB}, which lm_eval does not log; name a metric of task"
            f" {samples.task} in the basket."
        )


def _temperature(kwargs: Mapping[str, Any]) -> float:
    """At which lm-eval writes: as `do_sample` says, and where it says nothing as the temperature does."""
    if kwargs.get("do_sample") is None:
        return float(kwargs.get("temperature") or 0)
    return float(kwargs.get("temperature", 1)) if kwargs["do_sample"] else 0.0
