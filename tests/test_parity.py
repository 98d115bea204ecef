"""Our scores against lm-eval's own: its evaluator and its Hugging Face backend, on the same model and documents.

On a tiny model in the project's tests, 30 items each; on the embedded model, 50, with `make parity`. Greedy decoding.
Then what lm_eval's command logs of the embedded pair, judged as our own run of it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from lm_eval.models.huggingface import HFLM
from transformers import AutoModelForCausalLM, AutoTokenizer

from bench.speed.lm_eval_runs import run_ours, run_theirs
from fixtures.embedded import chemistry_data
from harness import assets
from harness.baskets import load_basket
from harness.benchmarks import LoadedBenchmark, items_of, load_benchmarks
from tests.conftest import save_tiny
from tests.tiny_audit import ROOT, environment, verdict_of, write_tasks

QUICK = ROOT / "fixtures" / "baskets" / "quick.toml"
ITEMS = {"tiny": 30, "embedded": 50}
NEW_TOKENS = {"tiny": 12, "embedded": 64}
NAMES = ("mmlu", "gsm8k", "ifeval", "instructions", "chemistry")

MODELS = [
    pytest.param("tiny", id="tiny"),
    pytest.param("embedded", id="embedded", marks=pytest.mark.parity),
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Callable[[str], Path]:
    tiny = save_tiny(tmp_path_factory.mktemp("parity") / "tiny", positions=16384)
    return lambda name: tiny if name == "tiny" else assets.base_model()


def greedy(name: str, new_tokens: int, items: int = ITEMS["embedded"]) -> LoadedBenchmark:
    """A benchmark of the embedded default with few items, freshly loaded, without sampling."""
    chemistry_data()
    basket = load_basket(QUICK)
    settings = replace(basket.named(name), items=items, temperature=0.0)
    if settings.max_gen_toks:
        settings = replace(settings, max_gen_toks=new_tokens)
    return load_benchmarks(replace(basket, benchmarks=(settings,)))[name]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("model", MODELS)
def test_scores_equal_lm_eval_s_item_by_item(model, name, directory):
    asked, path = (name, NEW_TOKENS[model], ITEMS[model]), directory(model)
    our_metrics, our_responses = run_ours(greedy(*asked), path)
    their_metrics, their_responses = run_theirs(greedy(*asked), path)
    assert len(our_metrics) == ITEMS[model]
    assert our_metrics.keys() == their_metrics.keys()
    for item, expected in their_metrics.items():
        for metric, value in expected.items():
            value = float(sum(value) / len(value) if isinstance(value, list) else value)
            assert our_metrics[item][metric] == pytest.approx(value, abs=1e-9), (item, metric)
        for got, want in zip(our_responses[item], their_responses[item], strict=False):  # a gold solution is ours alone
            assert got == want if isinstance(want, str) else got[0] == pytest.approx(float(want[0]), abs=1e-3)


@pytest.mark.parametrize("name", ["gsm8k", "chemistry"])
@pytest.mark.parametrize("model", MODELS)
def test_gold_solutions_get_the_log_likelihood_of_lm_eval_s_backend(model, name, directory):
    path = directory(model)
    benchmark = greedy(name, 1, ITEMS[model])
    backend = HFLM(pretrained=AutoModelForCausalLM.from_pretrained(path).eval(),
                   tokenizer=AutoTokenizer.from_pretrained(path), batch_size=8)  # fmt: skip
    _, responses = run_ours(benchmark, path)
    requests = [benchmark.requests(item, 0, backend.apply_chat_template)[-1] for item in benchmark.items]
    for item, (expected, _) in zip(benchmark.items, backend.loglikelihood(requests, disable_tqdm=True), strict=True):
        assert responses[item.id][-1][0] == pytest.approx(expected, abs=1e-3), item.id


# ---- the command, and what it logs -----------------------------------------------------------------------------------

LOGGED = """
name = "logged"
tasks = "{tasks}"

[[benchmark]]
name = "choices"
task = "tiny_choice"
metric = "choice_prob"
fewshot = 0
chat = true
margin = 3.0

[[benchmark]]
name = "instructions"
task = "lethe_instructions"
metric = "prompt_level_strict_acc"
chat = true
max_gen_toks = 48
margin = 2.0

[[benchmark]]
name = "chemistry"
task = "lethe_chemistry"
role = "domain"
metric = "exact_match"
chat = true
items = 40
"""


@pytest.fixture(scope="module")
def logged(tmp_path_factory) -> Path:
    """A folder with a basket of three tasks and what lm_eval's own command logged of the embedded pair on them.

    One task each that is chosen from, written, and written for the domain; MMLU's documents lie in a file for both.
    """
    folder = tmp_path_factory.mktemp("logged")
    tasks = write_tasks(Path(shutil.copytree(ROOT / "fixtures" / "tasks", folder / "tasks")))
    rows = "".join(json.dumps(dict(item.doc)) + "\n" for item in greedy("mmlu", 1).items)
    for name in ("docs.jsonl", "shots.jsonl"):
        (tasks / name).write_text(rows)
    (folder / "basket.toml").write_text(LOGGED.format(tasks=tasks))
    benchmarks = load_benchmarks(load_basket(folder / "basket.toml"))
    adapter = ROOT / "fixtures" / "adapters" / "chemistry"
    for name, peft in (("base", ""), ("candidate", f",peft={adapter}")):
        given = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--device", "cpu", "--batch_size", "16"]
        given += ["--model_args", f"pretrained={assets.base_model()},dtype=float32{peft}", "--log_samples"]
        given += ["--tasks", "tiny_choice,lethe_instructions,lethe_chemistry", "--include_path", str(tasks)]
        given += ["--samples", json.dumps(places(benchmarks)), "--apply_chat_template"]
        given += ["--gen_kwargs", "max_gen_toks=48", "--output_path", str(folder / name)]
        done = subprocess.run(given, env=environment(), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
    return folder


def gate(folder: Path, base: str, candidate: str, *more: str) -> subprocess.CompletedProcess:
    """A run of the gate over that basket, with its reports in a folder."""
    basket = next(path for path in (folder / "basket.toml", folder.parent / "basket.toml") if path.is_file())
    given = [sys.executable, "-m", "pytest", "-m", "forgetting", "-p", "no:cacheprovider", f"--base={base}"]
    given += [f"--candidate={candidate}", f"--basket={basket}", f"--out={folder / 'out'}", *more]
    return subprocess.run(given, cwd=ROOT, env=environment(), capture_output=True, text=True)


def places(benchmarks: dict[str, LoadedBenchmark]) -> dict[str, list[int]]:
    """Task -> the places of the documents that were drawn, as lm_eval's --samples wants them."""
    found = {}
    for loaded in benchmarks.values():
        drawn = {item.id for item in loaded.items}
        for name, task in loaded.tasks.items():
            found[name] = [n for n, item in enumerate(items_of(name, task.eval_docs)) if item.id in drawn]
    return found


@pytest.mark.parity
def test_what_lm_eval_s_command_logged_gets_the_verdict_of_our_own_run(logged):
    """`make parity ARGS="-k logged"`: models run twice, by lm_eval and by our gate, on the same documents."""
    again = logged / "again"
    more = (f"--store={logged / 'store'}", "--device=cpu", "--seeds=0")
    models = gate(logged, "embedded:base", "embedded:chemistry", *more)
    samples = gate(again, f"samples:{logged / 'base'}", f"samples:{logged / 'candidate'}")
    ours, theirs = verdict_of(logged), verdict_of(again)
    assert samples.returncode == models.returncode == ours["exit"] == theirs["exit"], samples.stdout + models.stdout
    assert [row["items"] for row in theirs["benchmarks"]] == [ITEMS["embedded"], 120]
    for part in ("benchmarks", "domain"):
        for our_row, their_row in zip(ours[part], theirs[part], strict=True):
            for key in {"name", "metric", "items", "verdict", "lost", "gained", "margin", "floor"} & our_row.keys():
                assert their_row[key] == our_row[key], (our_row["name"], key)
            for key in ("base", "candidate", "change", "low", "high"):
                assert their_row[key] == pytest.approx(our_row[key], abs=0.01), (our_row["name"], key)
    assert all(row["lost"] and row["gained"] for row in theirs["benchmarks"]), "there was something to disagree about"
