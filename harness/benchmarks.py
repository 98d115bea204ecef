"""Benchmark -> items and requests, through lm-eval's own task definitions.

Prompts, few-shot format, filters and scoring are lm-eval's. Ours are only: where documents come from when there is no
hub, which items are drawn, what a seed changes, and two companions beside the task's metrics.

Metrics are named as lm-eval names them (`acc`, `prompt_level_strict_acc`), with the filter behind a comma where a task
has named ones (`exact_match,flexible-extract`). Companions: `choice_prob`, the probability of the right choice among
the choices; `gold_prob_per_byte`, 2^(-bits per byte) of the gold solution.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from harness.answers import answer_of, expected_of, followed, instruction_kinds
from harness.faults import faults
from harness.fingerprint import digest_of
from harness.specs import CHOICE_PROB, GOLD_PROB, Basket, Benchmark, Unusable
from harness.store import Score
from harness.tasks import (
    build_tasks,
    compile_templates_once,
    decoding,
    definition_of,
    parts_of,
    right_choices,
    seed_fewshot,
    shots_drawn,
    task_manager,
)

SCORING_VERSION = 2  # raise it when what is stored for an item changes its meaning


@dataclass(frozen=True)
class Item:
    """One question, the unit of pairing. id: by content, whatever the order; stratum: its task (MMLU: the subject)."""

    id: str
    stratum: str
    doc: dict[str, Any] = field(repr=False, compare=False)


class LoadedBenchmark:
    """A benchmark with its documents: items drawn, requests built, responses scored."""

    def __init__(self, benchmark: Benchmark, tasks: dict[str, Any], groups: dict[str, str] | None = None):
        """groups: task -> the part of the benchmark that it belongs to (MMLU: stem, humanities, …), if it has parts."""
        self.benchmark, self.tasks, self.groups = benchmark, tasks, groups or {}
        first = next(iter(tasks.values()))
        self.output_type = first.OUTPUT_TYPE
        self.items = draw({name: items_of(name, task.eval_docs) for name, task in tasks.items()}, benchmark)
        named = ("fewshot", "chat", "temperature", "max_gen_toks", "gold")
        settings = {key: value for key, value in asdict(benchmark).items() if key in named}
        if benchmark.answers == "first":
            settings["answers"] = benchmark.seeds[:1]
        self.digest = digest_of(
            {
                "scoring": SCORING_VERSION,
                "settings": settings,
                "tasks": {name: definition_of(task) for name, task in tasks.items()},
            }
        )
        self._check()

    @property
    def name(self) -> str:
        return self.benchmark.name

    @property
    def planned(self) -> int:
        """How many items it has."""
        return len(self.items)

    @property
    def temperature(self) -> float:
        """Of what is written: the basket's, or the tasks' own where the basket says 0; 0 if nothing is written."""
        if self.output_type != "generate_until":
            return 0.0
        return max(decoding(task).get("temperature") or 0.0 for task in self.tasks.values())

    def effective_seeds(self, seeds: Sequence[int]) -> tuple[int, ...]:
        """The seeds that are replicates of the deciding metric.

        All if it is read from sampled texts; else the first of those that give the same prompts.
        """
        if self.temperature > 0 and self.benchmark.metric != GOLD_PROB:
            return tuple(seeds)
        first: dict[Any, int] = {}
        for seed in seeds:
            first.setdefault(tuple(shots_drawn(task, seed) for task in self.tasks.values()), seed)
        return tuple(first.values())

    def writes(self, seed: int) -> bool:
        """True if the task's own requests are made under this seed, and not the gold solution's alone."""
        return self.benchmark.writes(seed)

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
        seed_fewshot(task, seed)
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
        made = []
        if self.writes(seed):
            made = task.construct_requests(doc=item.doc, ctx=context, metadata=(item.stratum, item.id, 1), **chat)
            made = made if isinstance(made, list) else [made]
        if self.benchmark.gold is not None:
            made.append(self._gold_request(item, context, task))
        return made

    def question(self, item: Item) -> str:
        """What a user would ask: the item's own text, without shots and template.

        Where the choices are whole prompts (Winogrande) or stand alone (BLiMP), lm-eval's text is the place of the
        right one or nothing, and what a user would write are the choices.
        """
        task = self.tasks[item.stratum]
        text = str(task.doc_to_text(item.doc))
        if not (task.multiple_input or not text.strip()):
            return text
        choices = task.doc_to_choice(item.doc) if task.config.doc_to_choice is not None else ()
        return "\n".join(map(str, choices)) or text

    def kinds(self, item: Item) -> list[str]:
        """The kinds of instruction that an item gives."""
        return instruction_kinds(item.doc)

    def followed(self, item: Item, score: Score) -> list[bool] | None:
        """Which of these an answer follows; None where the scorer does not judge each."""
        return followed(self.tasks[item.stratum], item.doc, score)

    def answer(self, item: Item, score: Score) -> str:
        """What a model wrote, or chose."""
        return answer_of(self.tasks[item.stratum], item.doc, score)

    def expected(self, item: Item) -> str:
        """The right choice, or the text that an answer is compared with."""
        return expected_of(self.tasks[item.stratum], item.doc)

    def _gold_request(self, item: Item, context: str, task):
        from lm_eval.api.instance import Instance

        delimiter = "" if self.benchmark.chat else task.config.target_delimiter
        return Instance(
            "loglikelihood",
            item.doc,
            (context, delimiter + self._gold_text(item)),
            len(task.config.task),
            metadata=(item.stratum, item.id, 1),
        )

    def _gold_text(self, item: Item) -> str:
        from lm_eval.utils import apply_template

        try:
            gold = apply_template(self.benchmark.gold, item.doc).strip()
        except Exception as error:  # a template may call anything
            raise Unusable(
                f"benchmark '{self.name}': its gold template fails on item {item.id} ({error}); correct it in the"
                " basket."
            ) from None
        if not gold:
            raise Unusable(
                f"benchmark '{self.name}': its gold template gives no text for item {item.id}; correct it in the"
                " basket."
            )
        return gold

    def reference_request(self, item: Item, requests: list[Any]):
        """Of an item's requests, the one for the likelihood of its gold solution or right choice; None without one."""
        if self.benchmark.gold is not None:
            return requests[-1]
        if self.output_type == "loglikelihood":
            return requests[0]
        if self.output_type != "multiple_choice":
            return None
        gold = right_choices(self.tasks[item.stratum], item.doc)
        return requests[gold[0]] if gold else None

    def score(
        self, item: Item, requests: list[Any], responses: list[Any], count_tokens: Callable[[str], int] = len
    ) -> dict[str, float]:
        """Metrics of one item from the responses to its requests, in their order.

        count_tokens: of a written answer, to tell whether it reached its limit.
        """
        task = self.tasks[item.stratum]
        metrics: dict[str, float] = {}
        if self.benchmark.gold is not None:
            loglikelihood, _ = responses[-1]
            size = len(requests[-1].args[1].encode())
            metrics[GOLD_PROB] = math.exp(loglikelihood / size)
            requests, responses = requests[:-1], responses[:-1]
            if not requests:
                return metrics
        for request, response in zip(requests, responses, strict=True):
            request.resps, request.filtered_resps = [response], {}
        task._instances = requests
        task.apply_filters()
        for filter_name in requests[0].filtered_resps:
            results = task.process_results(item.doc, [r.filtered_resps[filter_name] for r in requests])
            suffix = "" if filter_name == "none" else f",{filter_name}"
            metrics |= {name + suffix: number(value) for name, value in results.items() if number(value) is not None}
        if self.output_type == "multiple_choice" and (gold := right_choices(task, item.doc)):
            choices = len(task.doc_to_choice(item.doc))
            metrics[CHOICE_PROB] = choice_probability([response[0] for response in responses[:choices]], gold)
        if self.output_type == "generate_until":
            metrics |= faults(responses[0], count_tokens(responses[0]), decoding(task)["max_gen_toks"])
        return metrics

    def _check(self) -> None:
        """Raises `Unusable` for what the basket asks of the tasks and their documents cannot give."""
        from harness.text_end import check_settings  # imports torch, which judging alone does without

        for name, task in self.tasks.items() if self.output_type == "generate_until" else ():
            check_settings(dict(task.config.generation_kwargs or {}), f"benchmark '{self.name}': task {name}")
        firsts = {item.stratum: item for item in reversed(self.items)}
        for name in firsts if self.benchmark.gold is not None else ():
            if self.tasks[name].multiple_input:
                raise Unusable(
                    f"benchmark '{self.name}': task {name} has a prompt for each choice, so gold has none to follow;"
                    " leave it out."
                )
        for item in self.items:
            if self.benchmark.gold is not None:
                self._gold_text(item)
            if self.benchmark.metric == CHOICE_PROB and self.output_type == "multiple_choice":
                self._check_right_choice(item)
        for item in firsts.values():
            if (metrics := self._rehearsed(item)) is not None:
                self.check_metric(metrics, item)

    def _check_right_choice(self, item: Item) -> None:
        if not right_choices(self.tasks[item.stratum], item.doc):
            raise Unusable(
                f"benchmark '{self.name}': item {item.id} has no right choice, so it has no {CHOICE_PROB}; name another"
                " metric, or documents with answers."
            )

    def _rehearsed(self, item: Item) -> dict[str, float] | None:
        """The metrics of made-up responses, for which no model is needed; None where the scorer does not take them."""
        made_up = {"loglikelihood": (-1.0, False), "generate_until": ""}
        try:
            requests = self.requests(item, (*self.benchmark.seeds, 0)[0], lambda messages, **_: str(messages))
            return self.score(item, requests, [made_up[request.request_type] for request in requests])
        except Exception:  # a task's scorer may ask for more than this; the first real response is checked again
            return None

    @property
    def needs_loglikelihoods(self) -> bool:
        """True if an item is scored by the probability of given texts."""
        return self.output_type != "generate_until" or self.benchmark.gold is not None

    def check_room(self, positions: int | None) -> None:
        """Raises `Unusable` where an answer may fill all of a model's positions; None: it names no limit."""
        for name, task in self.tasks.items() if self.output_type == "generate_until" else ():
            if (limit := decoding(task)["max_gen_toks"]) >= (positions or math.inf):
                raise Unusable(
                    f"benchmark '{self.name}': an answer of task {name} may have {limit} tokens and the model"
                    f" {positions} positions in all; set a smaller max_gen_toks in the basket."
                )

    def check_metric(self, metrics: dict[str, float], item: Item) -> None:
        """Raises `Unusable` where the basket decides by a metric that the task does not give."""
        metric = self.benchmark.metric
        if metric not in metrics:
            raise Unusable(
                f"benchmark '{self.name}' has no metric '{metric}'; name one that task {item.stratum} gives:"
                f" {', '.join(sorted(metrics))}."
            )
        if not 0 <= metrics[metric] <= 1:
            raise Unusable(
                f"benchmark '{self.name}': metric '{metric}' is {metrics[metric]} on item {item.id}; name one that lies"
                " in [0, 1]."
            )


def load_benchmarks(basket: Basket) -> dict[str, LoadedBenchmark]:
    """Loads every benchmark of a basket; `Unusable` for whatever it asks that tasks or documents cannot give."""
    import datasets

    datasets.disable_progress_bars()
    manager = task_manager([b.task for b in basket.benchmarks], basket.tasks)
    compile_templates_once()
    return {
        b.name: LoadedBenchmark(b, build_tasks(b, basket, manager), parts_of(b.task, manager))
        for b in (replace(b, seeds=b.seeds or basket.seeds) for b in basket.benchmarks)
    }


# ---- items -----------------------------------------------------------------------------------------------------------


def items_of(task: str, docs: Iterable[Mapping[str, Any]]) -> list[Item]:
    """The documents of one task as items."""
    items: list[Item] = []
    seen: dict[str, int] = {}
    for doc in docs:
        key = f"{task}:{digest_of(dict(doc))[:12]}"
        seen[key] = seen.get(key, 0) + 1
        suffix = "" if seen[key] == 1 else f"~{seen[key]}"  # the very same document twice
        items.append(Item(key + suffix, task, dict(doc)))
    return items


def item_named(key: str) -> Item:
    """An item by its id alone, where its document is not at hand."""
    return Item(key, key.rpartition(":")[0], {})


def draw(items: dict[str, list[Item]], benchmark: Benchmark) -> tuple[Item, ...]:
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


def number(value: Any) -> float | None:
    """A per-item metric as a number: lists of flags (IFEval's instructions) by their mean; what is no number, None.

    A list of numbers is no score of an item: metrics of a whole set, such as F1, get (right answer, answer) there.
    """
    if isinstance(value, bool | int | float):
        return float(value)
    if isinstance(value, list) and value and all(isinstance(v, bool) for v in value):
        return sum(value) / len(value)
    return None


def choice_probability(logs: Sequence[float], gold: Sequence[int]) -> float:
    top = max(logs)
    weights = [math.exp(value - top) for value in logs]
    return sum(weights[g] for g in gold) / sum(weights)
