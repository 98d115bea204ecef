"""lm-eval's task definitions: found, built with our documents and settings, described for the digest, seeded.

A task stays lm-eval's own; replaced are only the source of its documents, where there is no hub, and what the basket
says of shots and decoding.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import logging
import random
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness import assets
from harness.fingerprint import digest_of
from harness.specs import Basket, Benchmark, Unusable


@functools.cache
def compile_templates_once() -> None:
    """lm-eval compiles its prompt templates anew for each document; there are a handful, so they are kept."""
    from lm_eval import utils

    utils.env.from_string = functools.lru_cache(maxsize=4096)(utils.env.from_string)


def task_manager(names: Sequence[str], tasks: str | None):
    """lm-eval's index of the folders that hold the tasks named, and of the user's own folder.

    Reading the index of all of lm-eval's 14,000 files takes many seconds, so which folder holds what is remembered.
    """
    import nltk

    data = str(assets.sentence_tokenizer_data())
    if data not in nltk.data.path:
        nltk.data.path.insert(0, data)  # before IFEval's scorer is imported: it would download
    from lm_eval.tasks import TaskManager

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    known = _lm_eval_folders()
    folders = sorted({folder for name in names for folder in known.get(name, [])})
    manager = TaskManager(include_path=[*folders, *([tasks] if tasks else [])], include_defaults=False)
    missing = [name for name in names if name not in manager.task_index]
    if missing:
        raise Unusable(
            f"lm-eval has no task '{missing[0]}'; list its tasks with 'lm_eval ls tasks', or name the folder of yours"
            " as tasks = in the basket."
        )
    return manager


def _lm_eval_folders() -> dict[str, list[str]]:
    """Task, group or tag -> the folders of lm-eval that define it."""
    from importlib.metadata import version

    import lm_eval.tasks

    root = Path(lm_eval.tasks.__file__).parent

    def index(made: Path) -> None:
        folders: dict[str, set[str]] = {}
        entries = lm_eval.tasks.TaskManager().task_index
        for name, entry in entries.items():
            for member in [entry, *(entries[task] for task in entry.tags if task in entries)]:
                if member.yaml_path:
                    folders.setdefault(name, set()).add(Path(member.yaml_path).relative_to(root).parts[0])
        (made / "folders.json").write_text(json.dumps({name: sorted(found) for name, found in folders.items()}))

    made = assets.publish(assets.cache_dir() / f"lm-eval-{version('lm_eval')}", index)
    folders = json.loads((made / "folders.json").read_text())
    return {name: [str(root / folder) for folder in found] for name, found in folders.items()}


def build_tasks(benchmark: Benchmark, basket: Basket, manager) -> dict[str, Any]:
    names = list(dict.fromkeys(_leaves(benchmark.task, manager, benchmark.name)))
    return {name: _build_task(name, benchmark, basket, manager) for name in names}


def _leaves(name: str, manager, benchmark: str) -> list[str]:
    """Names of the single tasks behind a task, group or tag."""
    entry = manager.task_index.get(name)
    if entry is None:
        raise Unusable(f"benchmark '{benchmark}': lm-eval's group names a task '{name}' that it does not define.")
    if entry.kind.name == "TAG":
        return sorted(entry.tags)
    if entry.kind.name != "GROUP":
        return [name]
    members = (entry.cfg or _yaml(entry)).get("task", [])
    return [leaf for member in _flat(members) for leaf in _leaves(member, manager, benchmark)]


def parts_of(name: str, manager) -> dict[str, str]:
    """Leaf task -> the group below `name` that holds it; empty where `name` holds its tasks directly."""
    entry = manager.task_index[name]
    if entry.kind.name != "GROUP":
        return {}
    members = _flat((entry.cfg or _yaml(entry)).get("task", []))
    parts = {
        member: _leaves(member, manager, name) for member in members if manager.task_index[member].kind.name != "TASK"
    }
    return {leaf: part for part, leaves in parts.items() for leaf in leaves}


def _flat(members: Any) -> list[str]:
    if isinstance(members, str):
        return [members]
    if isinstance(members, dict):
        return _flat(members.get("task", []))
    return [name for member in members for name in _flat(member)]


def _yaml(entry) -> dict[str, Any]:
    from lm_eval.tasks._yaml_loader import load_yaml

    return load_yaml(entry.yaml_path, resolve_func=False)


def _build_task(name: str, benchmark: Benchmark, basket: Basket, manager):
    entry = manager.task_index[name]
    overrides: dict[str, Any] = {}
    if basket.documents == "embedded" and "custom_dataset" not in (config := _yaml(entry)):
        path, subset = config.get("dataset_path"), config.get("dataset_name")
        overrides["custom_dataset"] = lambda **_: assets.documents(path, subset)
        assets.documents(path, subset)
    if benchmark.fewshot is not None:
        overrides["num_fewshot"] = benchmark.fewshot
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            task = manager._factory._build_task(
                entry, overrides
            )  # the only way to keep an official task but for its source
    except Unusable:
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise Unusable(
            f"benchmark '{benchmark.name}': task {name} or its documents cannot be loaded ({reason}); check the"
            ' network, or set documents = "embedded".'
        ) from None
    if task.OUTPUT_TYPE not in ("multiple_choice", "generate_until", "loglikelihood"):
        raise Unusable(
            f"benchmark '{benchmark.name}': task {name} is of type {task.OUTPUT_TYPE}; use multiple_choice,"
            " generate_until or loglikelihood."
        )
    if task.OUTPUT_TYPE == "generate_until":
        kwargs = task.config.generation_kwargs
        if benchmark.max_gen_toks is not None:
            kwargs["max_gen_toks"] = benchmark.max_gen_toks
        if benchmark.temperature > 0:
            kwargs |= {"do_sample": True, "temperature": benchmark.temperature}
    return task


def definition_of(task) -> dict[str, Any]:
    """What a stored score depends on: the task's configuration, the source of its functions, the documents.

    Documents count by their content, so where they came from (a hub, a wheel, a folder that moved) changes nothing.
    """
    origin = ("metadata", "custom_dataset", "dataset_path", "dataset_name", "dataset_kwargs")
    config = {k: v for k, v in task.dump_config().items() if k not in origin}
    functions = [v for v in vars(task.config).values() if inspect.isfunction(v) and v.__name__ != "<lambda>"]
    sources = sorted({inspect.getsourcefile(f) for f in functions} - {None})
    shots = [getattr(task, "sampler", None) and [dict(d) for d in task.sampler.df]]
    return {
        "version": task.VERSION,
        "config": {k: v for k, v in config.items() if not callable(v) and " at 0x" not in str(v)},
        "code": [hashlib.sha256(open(path, "rb").read()).hexdigest() for path in sources],
        "documents": digest_of([[dict(doc) for doc in task.eval_docs], shots]),
    }


def shots_drawn(task, seed: int) -> Any:
    """What a seed makes of a task's few-shot block: an order of fixed exemplars, or the key of a draw from a pool."""
    sampler = getattr(task, "sampler", None)
    if sampler is None or not task.config.num_fewshot:
        return None
    if type(sampler).__name__ != "FirstNSampler":
        return f"{seed}/{task.task_name}"
    order = range(task.config.num_fewshot)
    return tuple(order if seed == 0 else random.Random(f"{seed}/{task.task_name}").sample(order, len(order)))


def seed_fewshot(task, seed: int) -> None:
    """Seed 0 is the task's canonical prompt; others reorder fixed exemplars or draw others from the pool.

    The draw depends on (seed, task) and not on the item, so that the items of a task share their few-shot block.
    """
    drawn = shots_drawn(task, seed)
    if isinstance(drawn, str):
        task.sampler.set_rnd(drawn)
    elif drawn is not None:
        if not hasattr(task.sampler, "canonical"):
            task.sampler.canonical = list(task.sampler.df)
        shots = task.sampler.canonical
        task.sampler.df = [shots[n] for n in drawn] + shots[len(drawn) :]
