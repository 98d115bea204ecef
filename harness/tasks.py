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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

from harness import assets
from harness.fingerprint import digest_of
from harness.specs import Basket, Benchmark, Unusable

INDEX = 2  # raise it when what is remembered of lm-eval's folders changes
OF_A_GROUP = {
    "group",
    "group_alias",
    "task",
    "task_alias",
    "tag",
    "aggregate_metric_list",
    "metadata",
    "version",
}  # changes no score
FILES = ("json", "csv", "parquet", "arrow", "text")  # what `datasets` reads from the user's own disk


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
    own = TaskManager(include_path=[tasks], include_defaults=False).task_index if tasks else {}
    wanted = [*names, *(member for name in names if name in own for member in _below(own[name], own))]
    known = _lm_eval_folders()
    folders = sorted({folder for name in wanted for folder in known.get(name, [])})
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
            below = [entries[member] for member in _below(entry, entries) if member in entries]
            for member in [entry, *below]:
                if member.yaml_path:
                    folders.setdefault(name, set()).add(Path(member.yaml_path).relative_to(root).parts[0])
        (made / "folders.json").write_text(json.dumps({name: sorted(found) for name, found in folders.items()}))

    made = assets.publish(assets.cache_dir() / f"lm-eval-{version('lm_eval')}-{INDEX}", index)
    folders = json.loads((made / "folders.json").read_text())
    return {name: [str(root / folder) for folder in found] for name, found in folders.items()}


def _below(entry, entries: Mapping[str, Any] = {}) -> list[str]:
    """Names of the members of a group or tag, and of theirs as far as these are among `entries`; none of a task."""
    if entry.kind.name == "TAG":
        return sorted(entry.tags)
    if entry.kind.name != "GROUP":
        return []
    members = _flat(_definition(entry).get("task", []))
    return [name for m in members for name in (m, *(_below(entries[m], entries) if m in entries else ()))]


def build_tasks(benchmark: Benchmark, basket: Basket, manager) -> dict[str, Any]:
    """The single tasks behind a benchmark, by name; `Unusable` for those that cannot be asked or judged together."""
    names = list(dict.fromkeys(_leaves(benchmark.task, manager, benchmark.name)))
    tasks = {name: _build_task(name, benchmark, basket, manager) for name in names}
    kinds = {name: task.OUTPUT_TYPE for name, task in tasks.items()}
    for name, task in tasks.items():
        if kinds[name] != kinds[names[0]]:
            raise Unusable(
                f"benchmark '{benchmark.name}': tasks {names[0]} ({kinds[names[0]]}) and {name} ({kinds[name]}) are of"
                " different types; make them two benchmarks."
            )
        _check_shots(name, task, benchmark)
    return tasks


def _check_shots(name: str, task, benchmark: Benchmark) -> None:
    """Asks lm-eval's sampler, as an exemplar must not be the item itself where both come from one split."""
    wanted = task.config.num_fewshot or 0
    own = task.fewshot_cfg.split == task.config.test_split
    try:
        if wanted:
            task.sampler.sample(wanted, eval_doc=task.eval_docs[0] if own else None)
    except (AttributeError, AssertionError, ValueError):  # no sampler at all; too few fixed ones; too small a pool
        held = len(task.sampler.df) if hasattr(task, "sampler") else 0
        raise Unusable(
            f"benchmark '{benchmark.name}': fewshot = {wanted} is more than the {held} exemplars of task {name} allow;"
            " lower fewshot in the basket."
        ) from None


def _leaves(name: str, manager, benchmark: str) -> list[str]:
    """Names of the single tasks behind a task, group or tag."""
    entry = manager.task_index.get(name)
    if entry is None:
        raise Unusable(f"benchmark '{benchmark}': lm-eval's group names a task '{name}' that it does not define.")
    if entry.kind.name == "TAG":
        return sorted(entry.tags)
    if entry.kind.name != "GROUP":
        return [name]
    return [leaf for member in _members(entry, benchmark) for leaf in _leaves(member, manager, benchmark)]


def _members(entry, benchmark: str) -> list[str]:
    """Names of a group's members; `Unusable` where it gives them settings, which a basket alone may do."""
    told = _definition(entry)
    for table in [told, *_tables(told.get("task", []))]:
        if other := sorted(set(table) - OF_A_GROUP):
            raise Unusable(
                f"benchmark '{benchmark}': lm-eval's group {entry.name} sets {other[0]} for its tasks; name the tasks"
                " themselves as benchmarks, with the settings that are wanted."
            )
    return _flat(told.get("task", []))


def _tables(members: Any) -> list[dict[str, Any]]:
    """The members of a group that are written as tables, and theirs."""
    members = members if isinstance(members, list) else [members]
    tables = [member for member in members if isinstance(member, dict)]
    return [*tables, *(inner for table in tables for inner in _tables(table.get("task", [])))]


def parts_of(name: str, manager) -> dict[str, str]:
    """Leaf task -> the group below `name` that holds it; empty where `name` holds its tasks directly."""
    entry = manager.task_index[name]
    if entry.kind.name != "GROUP":
        return {}
    members = _flat(_definition(entry).get("task", []))
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


def _definition(entry) -> dict[str, Any]:
    """Of a group, which may stand in the file of another."""
    return entry.cfg or _yaml(entry)


def _yaml(entry) -> dict[str, Any]:
    from lm_eval.tasks._yaml_loader import load_yaml

    return load_yaml(entry.yaml_path, resolve_func=False)


def _build_task(name: str, benchmark: Benchmark, basket: Basket, manager):
    entry = manager.task_index[name]
    overrides: dict[str, Any] = {}
    if basket.documents == "embedded" and "custom_dataset" not in (config := _yaml(entry)):
        path, subset = config.get("dataset_path"), config.get("dataset_name")
        if path not in FILES:
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
    for key, given in (("temperature", benchmark.temperature), ("max_gen_toks", benchmark.max_gen_toks)):
        if given and task.OUTPUT_TYPE != "generate_until":
            raise Unusable(
                f"benchmark '{benchmark.name}': {key} = {given} is of texts, and task {name} writes none; leave it out."
            )
    if task.OUTPUT_TYPE == "generate_until":
        kwargs = task.config.generation_kwargs
        if benchmark.max_gen_toks is not None:
            kwargs["max_gen_toks"] = benchmark.max_gen_toks
        if benchmark.temperature > 0:
            kwargs |= {"do_sample": True, "temperature": benchmark.temperature}
    return task


def decoding(task) -> dict[str, Any]:
    """A task's generation settings as every lm-eval backend reads them: one name for each, temperature 0 if greedy."""
    from lm_eval.models.utils import normalize_gen_kwargs

    return normalize_gen_kwargs(dict(task.config.generation_kwargs or {}))


def right_choices(task, doc: dict[str, Any]) -> list[int]:
    """Places of the right choices, which a task may name by text or place, one or several; empty if it names none.

    Where the choices are prompts that share their continuation (Winogrande), lm-eval has the place in doc_to_text.
    """
    choices = task.doc_to_choice(doc)
    gold = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    named = gold if isinstance(gold, list) else [gold]
    places = [choices.index(g) if isinstance(g, str) and g in choices else g for g in named]
    return [place for place in places if isinstance(place, Integral) and 0 <= place < len(choices)]


def definition_of(task) -> dict[str, Any]:
    """What a stored score depends on: the task's configuration, the code around its functions, the documents.

    Documents count by their content, so where they came from (a hub, a wheel, a folder that moved) changes nothing.
    """
    origin = ("metadata", "custom_dataset", "dataset_path", "dataset_name", "dataset_kwargs")
    config = {k: v for k, v in task.dump_config().items() if k not in origin}
    shots = [getattr(task, "sampler", None) and [dict(d) for d in task.sampler.df]]
    return {
        "version": task.VERSION,
        "config": {k: v for k, v in config.items() if not callable(v) and " at 0x" not in str(v)},
        "code": _code(task),
        "documents": digest_of([[dict(doc) for doc in task.eval_docs], shots]),
    }


def _code(task) -> list[str]:
    """Digests of all Python files beside and below those of the task's functions, whose helpers they may be."""
    from lm_eval.api.task import ConfigurableTask

    own = [type(task)] if type(task) is not ConfigurableTask else []
    sources = {inspect.getsourcefile(f) for f in _functions([*vars(task.config).values(), *own])}
    files = set()
    for folder in {Path(source).parent for source in sources if source}:
        for path in folder.rglob("*.py"):
            within = path.relative_to(folder)
            if not any(part.startswith((".", "__pycache__")) for part in within.parts):
                files.add((within.as_posix(), hashlib.sha256(path.read_bytes()).hexdigest()))
    return [digest for _, digest in sorted(files)]


def _functions(value: Any) -> Iterator[Any]:
    """The functions and classes in a configuration, which may lie deep (a metric, a sampler) or have bound arguments.

    No lambdas: a task's own stand in a file with named functions, or in its configuration as text.
    """
    if isinstance(value, functools.partial):
        yield from _functions(value.func)
    elif inspect.isclass(value) or (inspect.isfunction(value) and value.__name__ != "<lambda>"):
        yield value
    elif isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _functions(part)
    elif is_dataclass(value):
        yield from _functions(vars(value))


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
