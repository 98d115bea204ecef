"""What `lm_eval --log_samples --output_path DIR` wrote, read without lm-eval, torch or the model.

    DIR/<model>/results_<time>.json             settings of a run: tasks' configurations, versions, shots, packages
    DIR/<model>/samples_<task>_<time>.jsonl     a line for each document and filter: prompt, responses, metrics, hashes

(with `--output_path X.json`: X_<time>.json, and the samples beside it). Several runs may have written to one DIR; of
each task the newest by the time in the name counts. As in lm-eval 0.4.13.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.answers import STRICT, instruction_kinds
from harness.benchmarks import choice_probability, number
from harness.faults import EMPTY, LOOPING, faults
from harness.fingerprint import digest_of
from harness.specs import CHOICE_PROB, ModelSpec, Unusable

RESULTS = re.compile(r"_(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?)\.json$")
REMEDY = "run lm_eval with --log_samples --output_path DIR"
# Arguments of a backend that say which model it is.
NAMES_A_MODEL = ("pretrained", "peft", "delta", "model", "path", "engine", "tokenizer", "revision", "subfolder",
                 "gguf_file", "lora_local_path", "served_model_name")  # fmt: skip
KINDS = ("multiple_choice", "generate_until", "loglikelihood")
HASHES = ("doc_hash", "prompt_hash", "target_hash")


@dataclass(frozen=True)
class TaskSamples:
    """The newest samples of one task. results: the file that tells its settings, `run` its content."""

    task: str
    stamp: str
    results: Path
    run: Mapping[str, Any] = field(repr=False)

    @property
    def path(self) -> Path:
        return self.results.parent / f"samples_{self.task}_{self.stamp}.jsonl"

    @property
    def config(self) -> Mapping[str, Any]:
        return self.run["configs"][self.task]

    @property
    def shots(self) -> int | None:
        return self.run.get("n-shot", {}).get(self.task)

    def lines(self) -> Iterator[dict[str, Any]]:
        """Its samples as written; `Unusable` for a file that is missing or cut."""
        if not self.path.is_file():
            raise Unusable(
                f"{self.results} tells of task {self.task}, and {self.path.name} is not beside it; {REMEDY}."
            )
        with self.path.open("rb") as file:
            for number_, text in enumerate(file, 1):
                try:
                    yield json.loads(text)
                except ValueError as error:
                    raise Unusable(f"{self.path}, line {number_}, is no JSON ({error}); {REMEDY} again.") from None


@dataclass(frozen=True)
class Side:
    """One model's samples. groups: group -> its members, tasks or groups; name: what lm-eval called the model."""

    spec: ModelSpec
    tasks: Mapping[str, TaskSamples]
    groups: Mapping[str, Sequence[str]]

    @property
    def name(self) -> str:
        return str(next(iter(self.tasks.values())).run.get("model_name"))

    def files(self, tasks: Sequence[str]) -> dict[str, list[str]]:
        """Results file -> those of the tasks that it tells of."""
        found: dict[str, list[str]] = {}
        for task in tasks:
            found.setdefault(self.tasks[task].results.name, []).append(task)
        return found


@dataclass(frozen=True)
class Answered:
    """One document as one model answered it.

    hashes: lm-eval's own of document, prompt and target; asked: of all that went in; metrics: named as in `benchmarks`;
    choices: how many there were to choose from, 0 where there were none; told: what a reader wants to see, as
    `recorded.Told` keeps it.
    """

    doc: Mapping[str, Any] = field(repr=False)
    hashes: tuple[str, ...]
    asked: str
    metrics: dict[str, float]
    responses: list[Any] = field(repr=False)
    choices: int
    told: dict[str, Any] = field(repr=False)


def read_side(spec: ModelSpec) -> Side:
    """The samples in a directory, which must be of one model; `Unusable` otherwise."""
    folder = _folder(spec)
    tasks: dict[str, TaskSamples] = {}
    groups: dict[str, Sequence[str]] = {}
    for stamp, path in sorted(_results(folder), reverse=True):
        run = _content(path)
        for task in run["configs"]:
            tasks.setdefault(task, TaskSamples(task, stamp, path, run))
        for group, members in run.get("group_subtasks", {}).items():
            groups.setdefault(group, members)
    if not tasks:
        raise Unusable(f"model '{spec.text}': {folder} tells of no task; {REMEDY}.")
    _of_one_model(spec, tasks)
    return Side(spec, tasks, groups)


def _folder(spec: ModelSpec) -> Path:
    """Where the results lie: the directory named, or the one below it that lm-eval made for the model."""
    named = Path(spec.location).expanduser()
    if not named.is_dir():
        raise Unusable(f"model '{spec.text}': {named} is no directory; name what --output_path named.")
    if _results(named):
        return named
    below = [path for path in sorted(named.iterdir()) if path.is_dir() and _results(path)]
    if len(below) > 1:
        raise Unusable(
            f"model '{spec.text}' holds samples of {len(below)} models ({', '.join(p.name for p in below)}); name one"
            " of these directories."
        )
    if not below:
        raise Unusable(f"model '{spec.text}' holds no results_*.json; {REMEDY}.")
    return below[0]


def _results(folder: Path) -> list[tuple[str, Path]]:
    """(time, path) of each results file."""
    return [(m[1], path) for path in folder.glob("*.json") if (m := RESULTS.search(path.name))]


def _content(path: Path) -> dict[str, Any]:
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Unusable(f"{path} cannot be read ({error}); {REMEDY} again.") from None
    if not isinstance(run, dict) or not {"configs", "versions", "config"} <= run.keys():
        raise Unusable(f"{path} is no results file of lm-eval 0.4; {REMEDY}.")
    return run


def model_arguments(run: Mapping[str, Any]) -> dict[str, Any]:
    """model_args as a table, however it was given."""
    given = run["config"].get("model_args") or {}
    if isinstance(given, str):
        given = dict(part.partition("=")[::2] for part in given.split(",") if part)
    return dict(given)


def _of_one_model(spec: ModelSpec, tasks: Mapping[str, TaskSamples]) -> None:
    first = next(iter(tasks.values()))
    for found in tasks.values():
        ours_told, theirs_told = (_names(t.run) for t in (first, found))
        for key, ours in ours_told.items():
            if ours != (theirs := theirs_told[key]):
                raise Unusable(
                    f"model '{spec.text}': {first.results.name} and {found.results.name} are of different models ({key}"
                    f" {ours} and {theirs}); give each model an --output_path of its own."
                )


def _names(run: Mapping[str, Any]) -> dict[str, Any]:
    """What a run says of which model it is: by itself, and by the arguments of the backend."""
    own = {key: run.get(key, run["config"].get(key)) for key in ("model_name", "model_sha", "model_num_parameters")}
    return own | {key: model_arguments(run).get(key) for key in NAMES_A_MODEL}


# ---- documents -------------------------------------------------------------------------------------------------------


def read_task(samples: TaskSamples) -> dict[int, Answered]:
    """lm-eval's number of a document -> how it was answered, all filters together; `Unusable` if some are missing."""
    if (kind := samples.config.get("output_type")) not in KINDS:
        raise Unusable(
            f"task {samples.task} is of type {kind}, which has no score of a document in [0, 1]; leave it out of a"
            f" basket that names tasks of type {', '.join(KINDS)}."
        )
    rows: dict[int, dict[str, dict[str, Any]]] = {}
    hashed = hashlib.sha256()
    for row in samples.lines():
        try:
            filters = rows.setdefault(row["doc_id"], {})
            hashed.update("".join(row[key] for key in HASHES).encode())
            twice = row["filter"] in filters
            filters[row["filter"]] = row
        except (KeyError, TypeError) as error:
            raise Unusable(f"{samples.path} is not as lm-eval 0.4 writes it ({error}); {REMEDY}.") from None
        if twice:
            raise Unusable(f"{samples.path} holds document {row['doc_id']} twice; {REMEDY} again, to an empty DIR.")
    _whole(samples, rows, hashed.hexdigest())
    try:
        return {doc: _answered(samples, filters) for doc, filters in rows.items()}
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise Unusable(f"{samples.path} is not as lm-eval 0.4 writes it ({error}); {REMEDY}.") from None


def _whole(samples: TaskSamples, rows: Mapping[int, Mapping[str, Any]], digest: str) -> None:
    """All that the run evaluated must be there."""
    wanted = samples.run.get("n-samples", {}).get(samples.task, {}).get("effective", len(rows))
    told = samples.run.get("task_hashes", {}).get(samples.task, digest)
    if len(rows) != wanted or len({frozenset(filters) for filters in rows.values()}) != 1:
        raise Unusable(
            f"{samples.path} holds {len(rows)} documents and the run evaluated {wanted}, under every filter: it was"
            f" cut; {REMEDY} again."
        )
    if told != digest:
        raise Unusable(
            f"{samples.path} is not what {samples.results.name} was written with: one of them was changed; {REMEDY}"
            " again."
        )


def _answered(samples: TaskSamples, filters: Mapping[str, Mapping[str, Any]]) -> Answered:
    first = next(iter(filters.values()))
    metrics: dict[str, float] = {}
    for name, row in filters.items():
        suffix = "" if name == "none" else f",{name}"
        found = {metric + suffix: number(row.get(metric)) for metric in row["metrics"]}
        metrics |= {metric: value for metric, value in found.items() if value is not None}
    kind, choices, gold = samples.config.get("output_type"), 0, None
    responses = [repeats[0] for repeats in first["resps"]]
    if kind != "generate_until":
        responses = [[float(value), flag == "True"] for value, flag in responses]
        if not all(math.isfinite(value) for value, _ in responses):
            raise Unusable(
                f"{samples.path}: document {first['doc_id']} has a log-likelihood that is not finite, so the model is"
                " broken or overflowed; repair it, or evaluate in another dtype."
            )
    else:
        seen = faults(responses[0], 0, None)  # how many tokens it has is not told
        metrics |= {name: seen[name] for name in (EMPTY, LOOPING)}
    if kind == "multiple_choice":
        choices = len(responses) // (2 if "acc_mutual_info" in metrics else 1)
        if (gold := _right_choice(first, metrics, [value for value, _ in responses[:choices]])) is not None:
            metrics[CHOICE_PROB] = choice_probability([value for value, _ in responses[:choices]], [gold])
    hashes = tuple(first[key] for key in HASHES)
    told = _told(samples, first, responses[:choices], gold)
    return Answered(first["doc"], hashes, digest_of(first["arguments"]), metrics, responses, choices, told)


def _told(samples: TaskSamples, row: Mapping[str, Any], choices: Sequence[Any], gold: int | None) -> dict[str, Any]:
    """The question, as far as the prompt tells it from its shots; the choice made; which instructions were followed.

    gold: place of the right choice. What else is expected is a text only where the task makes one.
    """
    told: dict[str, Any] = {"question": row["arguments"]["gen_args_0"]["arg_0"]}
    if gold is not None:
        told["expected"] = row["arguments"][f"gen_args_{gold}"]["arg_1"].strip()
    elif not choices and isinstance(samples.config.get("doc_to_target"), str):
        told["expected"] = str(row["target"]).strip()
    if samples.shots:
        told["question"] = told["question"].rpartition(samples.config.get("fewshot_delimiter") or "\n\n")[2]
    if choices:
        likely = [value for value, _ in choices]
        told["answer"] = row["arguments"][f"gen_args_{likely.index(max(likely))}"]["arg_1"].strip()
    kinds, flags = instruction_kinds(row["doc"]), row.get(STRICT)
    if kinds and isinstance(flags, list) and len(flags) == len(kinds):
        told |= {"kinds": kinds, "followed": flags}
    return told


def _right_choice(row: Mapping[str, Any], metrics: Mapping[str, float], logs: Sequence[float]) -> int | None:
    """Place of the right choice, by its number or text; None where the target does not tell it."""
    given = [row["arguments"][f"gen_args_{n}"] for n in range(len(logs))]
    texts = [str(arguments["arg_1"]).strip() for arguments in given]
    target = row["target"].strip()
    if len({arguments["arg_0"] for arguments in given}) > 1:  # a prompt for each choice: the target is their ending
        return None
    places = [int(target)] if target.isdigit() else [n for n, text in enumerate(texts) if text == target]
    if len(places) != 1 or places[0] >= len(texts):
        return None
    chosen = float(logs.index(max(logs)) == places[0])
    return places[0] if metrics.get("acc", chosen) == chosen else None  # lm-eval counted another one as right
