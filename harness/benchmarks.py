"""Benchmark -> items and requests, through lm-eval's own task definitions.

Prompts, few-shot format, filters and scoring are lm-eval's. Ours are only: where documents come from when there is no
hub, which items are drawn, what a seed changes, and two companions beside the task's metrics.

Metrics are named as lm-eval names them (`acc`, `prompt_level_strict_acc`), with the filter behind a comma where a task
has named ones (`exact_match,flexible-extract`). Companions: `choice_prob`, the probability of the right choice among
the choices; `gold_prob_per_byte`, 2^(-bits per byte) of the gold solution.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import logging
import math
import random
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness import assets
from harness.fingerprint import digest_of
from harness.specs import Basket, Benchmark, Unusable

CHOICE_PROB, GOLD_PROB = "choice_prob", "gold_prob_per_byte"
SCORING_VERSION = 1  # raise it when what is stored for an item changes its meaning


@dataclass(frozen=True)
class Item:
    """One question, the unit of pairing. id: by content, whatever the order; stratum: its task (MMLU: the subject)."""

    id: str
    stratum: str
    doc: dict[str, Any] = field(repr=False, compare=False)


class LoadedBenchmark:
    """A benchmark with its documents: items drawn, requests built, responses scored."""

    def __init__(self, benchmark: Benchmark, tasks: dict[str, Any]):
        self.benchmark, self.tasks = benchmark, tasks
        first = next(iter(tasks.values()))
        self.output_type = first.OUTPUT_TYPE
        self.items = _draw(_all_items(tasks), benchmark)
        self.digest = digest_of(
            {
                "scoring": SCORING_VERSION,
                "settings": {
                    k: v
                    for k, v in asdict(benchmark).items()
                    if k in ("fewshot", "chat", "temperature", "max_gen_toks", "gold")
                },
                "tasks": {name: _definition(task) for name, task in tasks.items()},
            }
        )

    @property
    def name(self) -> str:
        return self.benchmark.name

    def effective_seeds(self, seeds: Sequence[int]) -> tuple[int, ...]:
        """The seeds that are replicates: all with sampling, else the first of those that give the same prompts."""
        if self.benchmark.temperature > 0:
            return tuple(seeds)
        first: dict[Any, int] = {}
        for seed in seeds:
            first.setdefault(tuple(_shots_drawn(task, seed) for task in self.tasks.values()), seed)
        return tuple(first.values())

    def floor(self) -> float:
        """Score of guessing in [0, 1]: the basket's, else one in the number of choices, else 0."""
        if self.benchmark.floor is not None:
            return self.benchmark.floor / 100
        if self.output_type != "multiple_choice" or self.benchmark.metric == GOLD_PROB:
            return 0.0
        return sum(1 / len(self.tasks[i.stratum].doc_to_choice(i.doc)) for i in self.items) / len(self.items)

    def requests(self, item: Item, seed: int, chat_template=None) -> list[Any]:
        """lm-eval's instances for one item under one seed; one more for the gold solution if the basket names it.

        chat_template: renders messages to a prompt, as `LM.apply_chat_template` does; used where `chat` is set.
        """
        task = self.tasks[item.stratum]
        _seed_fewshot(task, seed)
        chat = {
            "apply_chat_template": self.benchmark.chat,
            "chat_template": chat_template if self.benchmark.chat else None,
        }
        context = task.fewshot_context(
            item.doc,
            num_fewshot=task.config.num_fewshot or 0,
            fewshot_as_multiturn=self.benchmark.chat,
            gen_prefix=task.doc_to_prefix(item.doc),
            **chat,
        )
        made = task.construct_requests(doc=item.doc, ctx=context, metadata=(item.stratum, item.id, 1), **chat)
        made = made if isinstance(made, list) else [made]
        if self.benchmark.gold is not None:
            made.append(self._gold_request(item, context, task))
        return made

    def _gold_request(self, item: Item, context: str, task):
        from lm_eval.api.instance import Instance
        from lm_eval.utils import apply_template

        gold = apply_template(self.benchmark.gold, item.doc).strip()
        if not gold:
            raise Unusable(
                f"benchmark '{self.name}': its gold template gives no text for item {item.id}; correct it in the"
                " basket."
            )
        delimiter = "" if self.benchmark.chat else task.config.target_delimiter
        return Instance(
            "loglikelihood",
            item.doc,
            (context, delimiter + gold),
            len(task.config.task),
            metadata=(item.stratum, item.id, 1),
        )

    def score(self, item: Item, requests: list[Any], responses: list[Any]) -> dict[str, float]:
        """Metrics of one item from the responses to its requests, in their order."""
        task = self.tasks[item.stratum]
        metrics: dict[str, float] = {}
        if self.benchmark.gold is not None:
            loglikelihood, _ = responses[-1]
            size = len(requests[-1].args[1].encode())
            metrics[GOLD_PROB] = math.exp(loglikelihood / size)
            requests, responses = requests[:-1], responses[:-1]
        for request, response in zip(requests, responses, strict=True):
            request.resps, request.filtered_resps = [response], {}
        task._instances = requests
        task.apply_filters()
        for filter_name in requests[0].filtered_resps:
            results = task.process_results(item.doc, [r.filtered_resps[filter_name] for r in requests])
            suffix = "" if filter_name == "none" else f",{filter_name}"
            metrics |= {name + suffix: _number(value) for name, value in results.items() if _number(value) is not None}
        if self.output_type == "multiple_choice":
            metrics[CHOICE_PROB] = _choice_probability(task, item.doc, responses)
        return metrics

    def check_metric(self, metrics: dict[str, float], item: Item) -> None:
        """Raises `Unusable` where the basket decides by a metric that the task does not give."""
        metric = self.benchmark.metric
        if metric not in metrics:
            raise Unusable(
                f"benchmark '{self.name}' has no metric '{metric}'; task {item.stratum} gives"
                f" {', '.join(sorted(metrics))}."
            )
        if not 0 <= metrics[metric] <= 1:
            raise Unusable(
                f"benchmark '{self.name}': metric '{metric}' is {metrics[metric]} on item {item.id}; name one that lies"
                " in [0, 1]."
            )


@functools.cache
def _compile_templates_once() -> None:
    """lm-eval compiles its prompt templates anew for each document; there are a handful, so they are kept."""
    from lm_eval import utils

    utils.env.from_string = functools.lru_cache(maxsize=4096)(utils.env.from_string)


def load_benchmarks(basket: Basket) -> dict[str, LoadedBenchmark]:
    """Loads every benchmark of a basket; `Unusable` for unknown tasks, missing documents and too few items."""
    import datasets

    datasets.disable_progress_bars()
    manager = _task_manager([b.task for b in basket.benchmarks], basket.tasks)
    _compile_templates_once()
    return {b.name: LoadedBenchmark(b, _build_tasks(b, basket, manager)) for b in basket.benchmarks}


# ---- lm-eval's tasks -------------------------------------------------------------------------------------------------


def _task_manager(names: Sequence[str], tasks: str | None):
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


def _build_tasks(benchmark: Benchmark, basket: Basket, manager) -> dict[str, Any]:
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


def _definition(task) -> dict[str, Any]:
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


def _shots_drawn(task, seed: int) -> Any:
    """What a seed makes of a task's few-shot block: an order of fixed exemplars, or the key of a draw from a pool."""
    sampler = getattr(task, "sampler", None)
    if sampler is None or not task.config.num_fewshot:
        return None
    if type(sampler).__name__ != "FirstNSampler":
        return f"{seed}/{task.task_name}"
    order = range(task.config.num_fewshot)
    return tuple(order if seed == 0 else random.Random(f"{seed}/{task.task_name}").sample(order, len(order)))


def _seed_fewshot(task, seed: int) -> None:
    """Seed 0 is the task's canonical prompt; others reorder fixed exemplars or draw others from the pool.

    The draw depends on (seed, task) and not on the item, so that the items of a task share their few-shot block.
    """
    drawn = _shots_drawn(task, seed)
    if isinstance(drawn, str):
        task.sampler.set_rnd(drawn)
    elif drawn is not None:
        if not hasattr(task.sampler, "canonical"):
            task.sampler.canonical = list(task.sampler.df)
        shots = task.sampler.canonical
        task.sampler.df = [shots[n] for n in drawn] + shots[len(drawn) :]


# ---- items -----------------------------------------------------------------------------------------------------------


def _all_items(tasks: dict[str, Any]) -> dict[str, list[Item]]:
    items: dict[str, list[Item]] = {}
    seen: dict[str, int] = {}
    for name, task in tasks.items():
        for doc in task.eval_docs:
            key = f"{name}:{digest_of(dict(doc))[:12]}"
            seen[key] = seen.get(key, 0) + 1
            suffix = "" if seen[key] == 1 else f"~{seen[key]}"  # the very same document twice
            items.setdefault(name, []).append(Item(key + suffix, name, dict(doc)))
    return items


def _draw(items: dict[str, list[Item]], benchmark: Benchmark) -> tuple[Item, ...]:
    """The items of the benchmark: drawn by a hash of their ids, evenly over the tasks, nested as the number grows."""
    ordered = {
        name: sorted(group, key=lambda i: hashlib.sha256(i.id.encode()).digest()) for name, group in items.items()
    }
    available = sum(map(len, ordered.values()))
    wanted = benchmark.items if benchmark.items is not None else available
    if wanted > available:
        raise Unusable(
            f"benchmark '{benchmark.name}' asks for {wanted} items and its documents hold {available}; lower items in"
            " the basket."
        )
    drawn: list[Item] = []
    rounds = max(map(len, ordered.values()))
    for n in range(rounds):
        for name in sorted(ordered, key=lambda name: hashlib.sha256(f"{n}/{name}".encode()).digest()):
            if n < len(ordered[name]) and len(drawn) < wanted:
                drawn.append(ordered[name][n])
    return tuple(drawn)


def _number(value: Any) -> float | None:
    """A per-item metric as a number: lists of flags (IFEval's instructions) by their mean; what is no number, None."""
    if isinstance(value, bool | int | float):
        return float(value)
    if isinstance(value, list) and value and all(isinstance(v, bool | int | float) for v in value):
        return sum(value) / len(value)
    return None


def _choice_probability(task, doc, responses) -> float:
    choices = task.doc_to_choice(doc)
    gold = task.doc_to_target(doc)
    gold = choices.index(gold) if isinstance(gold, str) else gold
    logs = [response[0] for response in responses[: len(choices)]]
    top = max(logs)
    weights = [math.exp(value - top) for value in logs]
    golds = gold if isinstance(gold, list) else [gold]
    return sum(weights[g] for g in golds) / sum(weights)
