"""Judging what `lm_eval --log_samples` wrote: the verdict of our own run, and refusals of what cannot be paired."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.baskets import load_basket
from harness.judging import Options
from harness.samples.audit import prepare_samples
from harness.samples.benchmarks import of_basket
from harness.samples.files import read_side
from harness.specs import Unusable, parse_model
from tests.conftest import save_adapter
from tests.logged_samples import change_rows, change_run, log_samples, rehash, results_of, samples_of
from tests.recorded import without_time
from tests.tiny_audit import ROOT, WORDS, environment, run, verdict_of, write_basket, write_tasks

CHOICES = 'task = "tiny_choice"\nfewshot = 4\nmetric = "choice_prob"\nmargin = 2.0'
LETTERS = 'task = "tiny_write"\nmetric = "exact_match"\nmargin = 10.0\nchat = true'
GROUP = "group: tiny_group\ntask: [tiny_choice, tiny_twin]\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory, taught) -> dict[str, Path]:
    """What lm-eval writes for a base and an adapter that spoils it: a group of two tasks, and one asked as a chat."""
    root = tmp_path_factory.mktemp("made")
    tasks = write_tasks(root / "tasks")
    twin = (tasks / "tiny_choice.yaml").read_text().replace("task: tiny_choice", "task: tiny_twin")
    (tasks / "tiny_twin.yaml").write_text(twin)
    (tasks / "tiny_group.yaml").write_text(GROUP)
    spoiled = save_adapter(root / "spoiled", taught, scale=1.0)
    found = {"taught": taught, "spoiled": spoiled}
    for name, peft in (("base", None), ("candidate", spoiled)):
        log_samples(taught, ["tiny_group"], tasks, root / name, peft, num_fewshot=4)
        log_samples(taught, ["tiny_write"], tasks, root / name, peft, apply_chat_template=True)
        found[name] = root / name
    return found


@pytest.fixture
def copies(made, tmp_path) -> dict[str, Path]:
    """Folders of both sides' files, to be changed."""
    found = {}
    for name in ("base", "candidate"):
        inside = next(path for path in made[name].iterdir() if path.is_dir())
        found[name] = shutil.copytree(inside, tmp_path / "samples" / name)
    return found


def gate(out: Path, base, candidate, *more: str) -> subprocess.CompletedProcess:
    """The gate over samples, in a process in which torch cannot be imported."""
    given = [sys.executable, "-m", "pytest", "-m", "forgetting", "-p", "no:cacheprovider", "-p", "tests.without_torch"]
    given += [f"--base={base}", f"--candidate={candidate}", f"--out={out / 'out'}", *more]
    return subprocess.run(given, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120)


def judged(copies: dict[str, Path], out: Path, basket=None, margins=()):
    options = Options(f"samples:{copies['base']}", (f"samples:{copies['candidate']}",), out)
    return prepare_samples(options, basket, dict(margins))


def test_the_verdict_is_that_of_our_own_run_on_the_same_documents(made, tmp_path):
    basket = write_basket(tmp_path, choices=CHOICES, letters=LETTERS)
    ours = run(tmp_path, made["taught"], made["spoiled"], basket=basket, more=("--seeds=0",))
    theirs = gate(tmp_path / "again", f"samples:{made['base']}", f"samples:{made['candidate']}", f"--basket={basket}")
    one, other = verdict_of(tmp_path), verdict_of(tmp_path / "again")
    assert theirs.returncode == ours.returncode == one["exit"] == other["exit"] == 1, theirs.stdout + theirs.stderr
    assert [row["items"] for row in other["benchmarks"]] == [40, 40]
    for ours_row, theirs_row in zip(one["benchmarks"], other["benchmarks"], strict=True):
        for key in ("verdict", "items", "lost", "gained", "margin", "floor", "metric"):
            assert ours_row[key] == theirs_row[key], key
        for key in ("base", "candidate", "change", "low", "high"):
            assert theirs_row[key] == pytest.approx(ours_row[key], abs=0.01), key
    assert one["benchmarks"][0]["verdict"] == "REGRESSED"
    assert one["benchmarks"][0]["others"]["acc"]["change"] == other["benchmarks"][0]["others"]["acc"]["change"]


@pytest.fixture(scope="module")
def without_basket(made, tmp_path_factory):
    out = tmp_path_factory.mktemp("shared")
    return out, gate(out, f"samples:{made['base']}", f"samples:{made['candidate']}")


def test_without_a_basket_all_that_both_sides_share_is_judged(without_basket, made):
    folder, done = without_basket
    verdict = verdict_of(folder)
    rows = {row["name"]: row for row in verdict["benchmarks"]}
    assert done.returncode == verdict["exit"] == 1, done.stdout + done.stderr
    assert {name: row["items"] for name, row in rows.items()} == {"tiny_group": 80, "tiny_write": 40}
    assert {name: row["metric"] for name, row in rows.items()} == {"tiny_group": "acc", "tiny_write": "exact_match"}
    assert {row["margin"] for row in rows.values()} == {3.0}
    assert {group["name"] for group in rows["tiny_group"]["groups"]["subjects"]} == {"tiny_choice", "tiny_twin"}
    assert rows["tiny_group"]["floor"] == pytest.approx(100 / 3)
    assert "every task that all sides share, each by its own first metric" in done.stdout


def test_the_header_and_the_verdict_say_which_files_were_judged(without_basket, made):
    folder, done = without_basket
    inside = next(path for path in made["candidate"].iterdir() if path.is_dir())
    results = {task: results_of(inside, task).name for task in ("tiny_choice", "tiny_write")}
    files = verdict_of(folder)["samples"]["candidates"][0]["files"]
    assert files[results["tiny_choice"]] == ["tiny_choice", "tiny_twin"]
    assert files[results["tiny_write"]] == ["tiny_write"]
    assert all(name in done.stdout for name in results.values())
    assert "no model runs, so nothing tests the instrument" in done.stdout
    assert verdict_of(folder)["canaries"] == []


def test_the_command_in_the_verdict_gives_the_verdict(without_basket, tmp_path):
    words = shlex.split(verdict_of(without_basket[0])["command"])
    assert "--mitigate" not in words
    done = subprocess.run(
        [sys.executable, *words[1:], f"--out={tmp_path}"], cwd=ROOT, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 1, done.stdout
    assert without_time(tmp_path) == without_time(without_basket[0] / "out")


def test_a_reader_sees_questions_and_answers(without_basket):
    found = verdict_of(without_basket[0])["forgotten"]
    assert found["benchmark"] == "tiny_group"
    for example in found["examples"]:
        assert example["question"].startswith("Q: ")
        assert example["question"].count("Q: ") == 1
        assert example["before"] != example["after"]
    assert all({example["before"], example["after"]} <= set(WORDS) for example in found["examples"])


def test_a_run_over_samples_can_be_judged_again(without_basket, tmp_path):
    out = without_basket[0] / "out"
    given = [sys.executable, "-m", "tests.without_torch", "harness.report", "--from", out / "scores.jsonl"]
    done = subprocess.run([*given, "--out", tmp_path], cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert (tmp_path / "verdict.json").read_bytes() == (out / "verdict.json").read_bytes()


def test_of_several_runs_the_newest_counts(copies, tmp_path):
    """An older run of one task, whose answers were all right."""
    newest = {name: results_of(copies[name], "tiny_write").name for name in copies}
    for folder in copies.values():
        stamp = results_of(folder, "tiny_write").stem.removeprefix("results_")
        for path in (results_of(folder, "tiny_write"), samples_of(folder, "tiny_write")):
            text = path.read_text().replace('"exact_match": 0.0', '"exact_match": 1.0')
            path.with_name(path.name.replace(stamp, "2020-01-01T00-00-00")).write_text(text)
    audit = judged(copies, tmp_path)
    assert audit.comparison(audit.candidates[0], "tiny_write").base.mean() < 0.5
    assert newest["candidate"] in audit.origin[1]
    assert "2020" not in " ".join(audit.origin)


def test_a_benchmark_of_a_basket_takes_part_of_the_documents(copies, tmp_path):
    from harness.baskets import load_basket

    basket = load_basket(write_basket(tmp_path, choices=CHOICES + "\nitems = 30", letters=LETTERS))
    audit = judged(copies, tmp_path, basket)
    assert {name: len(loaded.items) for name, loaded in audit.benchmarks.items()} == {"choices": 30, "letters": 40}


def test_a_model_against_itself_ships_and_is_named(copies, tmp_path):
    basket = tmp_path / "choices.toml"
    basket.write_text(f'name = "choices"\n[[benchmark]]\nname = "choices"\n{CHOICES}\n')
    spec = f"samples:{copies['base']}"
    done = gate(tmp_path, spec, spec, f"--basket={basket}", "--margin=choices=10")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "answers every document exactly as the base" in done.stdout


def nested(keys: str, value):
    """A change of a run: keys as in "config.model_dtype"."""

    def change(run):
        *above, last = keys.split("/")
        for key in above:
            run = run[key]
        run[last] = value

    return change


SETTINGS = {
    "version": (nested("versions/tiny_write", 9.0), "differ in the version of task tiny_write: '1.0' (base) and '9.0'"),
    "shots": (nested("n-shot/tiny_write", 3), "the number of shots of task tiny_write: '0' (base) and '3' (candidate)"),
    "decoding": (nested("configs/tiny_write/generation_kwargs/max_gen_toks", 99), "differ in generation_kwargs of"),
    "prompt format": (nested("configs/tiny_write/doc_to_text", "Say {{question}}"), "differ in doc_to_text of task"),
    "gen_kwargs": (nested("config/gen_kwargs", {"temperature": 1}), "differ in gen_kwargs of task tiny_write"),
    "template": (nested("chat_template", "{{ messages }}"), "differ in the chat template of task tiny_write"),
    "system": (nested("system_instruction", "Be brief."), "differ in the system instruction"),
    "backend": (nested("model_source", "vllm"), "differ in the backend of task tiny_write: 'hf' (base) and 'vllm'"),
    "dtype": (nested("config/model_dtype", "torch.bfloat16"), "'torch.float32' (base) and 'torch.bfloat16'"),
    "eos": (nested("tokenizer_eos_token", ["<s>", "0"]), "differ in the EOS token"),
    "bos": (nested("config/model_args/add_bos_token", True), "differ in model_args add_bos_token"),
    "lm_eval": (nested("lm_eval_version", "0.3"), "differ in the version of lm_eval"),
}


@pytest.mark.parametrize(("change", "sentence"), SETTINGS.values(), ids=SETTINGS)
def test_sides_that_were_run_otherwise_are_refused(copies, tmp_path, change, sentence):
    change_run(copies["candidate"], "tiny_write", change)
    with pytest.raises(Unusable) as refused:
        judged(copies, tmp_path)
    assert sentence in str(refused.value)


def other_prompt(rows):
    rows[7]["arguments"]["gen_args_0"]["arg_0"] = rows[7]["arguments"]["gen_args_0"]["arg_0"].replace("Q: ", "W: ", 1)
    rehash(rows[7])


def other_document(rows):
    rows[7]["doc"]["question"] = "what else?"
    rehash(rows[7])


def other_target(rows):
    rows[7]["target"] = "9"
    rehash(rows[7])


def other_choice(rows):
    rows[7]["arguments"]["gen_args_1"]["arg_1"] = " nonsense"


DOCUMENTS = {
    "prompt": (other_prompt, True, "the prompt of document 7 of task tiny_choice is 'Q: "),
    "document": (other_document, True, "document 7 of task tiny_choice is"),
    "target": (other_target, True, "the target of document 7 of task tiny_choice is"),
    "choice": (other_choice, True, "what was asked of document 7 of task tiny_choice is"),
    "missing": (lambda rows: rows.pop(7), True, "lacks 1 of 40 documents of task tiny_choice (number 7 is the first)"),
    "cut": (lambda rows: rows.pop(), False, "holds 39 documents and the run evaluated 40"),
    "twice": (lambda rows: rows.append(rows[3]), True, "holds document 3 twice"),
    "changed": (other_prompt, False, "one of them was changed"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "whole", "sentence"), DOCUMENTS.values(), ids=DOCUMENTS)
def test_sides_that_were_asked_otherwise_are_refused_with_the_first_difference(
    copies, tmp_path, change, whole, sentence
):
    change_rows(copies["candidate"], "tiny_choice", change, whole)
    with pytest.raises(Unusable) as refused:
        judged(copies, tmp_path)
    assert sentence in str(refused.value)


def test_a_refusal_ends_with_status_4_and_leaves_no_verdict(copies, tmp_path, without_basket):
    shutil.copytree(without_basket[0] / "out", tmp_path / "out")
    change_rows(copies["candidate"], "tiny_choice", other_prompt)
    done = gate(tmp_path, f"samples:{copies['base']}", f"samples:{copies['candidate']}")
    assert done.returncode == 4
    assert "the prompt of document 7 of task tiny_choice is" in done.stdout + done.stderr
    assert not (tmp_path / "out" / "verdict.json").exists()


def test_a_broken_model_is_no_wrong_answer(copies, tmp_path):
    change_rows(copies["candidate"], "tiny_choice", lambda rows: rows[5]["resps"][0][0].__setitem__(0, "nan"))
    with pytest.raises(Unusable, match="document 5 has a log-likelihood that is not finite"):
        judged(copies, tmp_path)


def test_a_task_without_a_score_of_a_document_is_named_and_in_a_basket_refused(copies, tmp_path):
    for folder in copies.values():
        change_run(folder, "tiny_write", nested("configs/tiny_write/output_type", "loglikelihood_rolling"))
    assert "they score no single document: tiny_write" in " ".join(judged(copies, tmp_path / "out").origin)
    basket = load_basket(write_basket(tmp_path, choices=CHOICES, letters=LETTERS))
    with pytest.raises(Unusable, match="task tiny_write is of type loglikelihood_rolling"):
        judged(copies, tmp_path / "out", basket)


def test_a_metric_of_which_less_is_better_does_not_decide(copies, tmp_path):
    for folder in copies.values():
        change_run(folder, "tiny_write", nested("higher_is_better/tiny_write/exact_match", False))
    with pytest.raises(Unusable, match="exact_match, of which less is better"):
        judged(copies, tmp_path)


def test_an_adapter_that_was_not_applied_is_refused(copies, tmp_path):
    """lm-eval ran the base twice and says peft= of the second."""
    shutil.copytree(copies["base"], same := tmp_path / "same")
    for path in same.glob("results_*.json"):
        told = json.loads(path.read_text())
        told["config"]["model_args"]["peft"] = "somewhere"
        path.write_text(json.dumps(told))
    with pytest.raises(Unusable, match="its adapter was not applied"):
        judged({"base": copies["base"], "candidate": same}, tmp_path)


def test_a_task_of_one_side_alone_is_said_and_not_judged(copies, tmp_path):
    for path in (results_of(copies["candidate"], "tiny_write"), samples_of(copies["candidate"], "tiny_write")):
        path.unlink()
    audit = judged(copies, tmp_path)
    assert list(audit.benchmarks) == ["tiny_group"]
    assert any("NOT JUDGED" in said and "tiny_write" in said for said in audit.origin)


def test_a_run_without_samples_is_no_reason_to_take_older_ones(copies, tmp_path):
    """The newest run of a task was made without --log_samples."""
    samples_of(copies["candidate"], "tiny_write").unlink()
    with pytest.raises(Unusable, match=r"samples_tiny_write_.* is not beside it; run lm_eval with --log_samples"):
        judged(copies, tmp_path)


BASKETS = {
    "shots": (CHOICES.replace("= 4", "= 2"), "has fewshot = 2 and 'samples:"),
    "chat": (CHOICES + "\nchat = true", "has chat = True"),
    "temperature": (CHOICES + "\ntemperature = 0.7", "has temperature = 0.7"),
    "items": (CHOICES + "\nitems = 41", "asks for 41 items and its documents hold 40"),
    "metric": (CHOICES.replace("choice_prob", "f1"), "has no metric 'f1'; it has acc"),
    "gold": (
        CHOICES.replace("choice_prob", "gold_prob_per_byte") + '\ngold = "{{ gold }}"',
        "gold_prob_per_byte, which lm_eval does not log",
    ),
    "task": (CHOICES.replace("tiny_choice", "mmlu"), "holds no samples of task mmlu; it has tiny_choice"),
}


@pytest.mark.parametrize(("choices", "sentence"), BASKETS.values(), ids=BASKETS)
def test_a_basket_that_asks_for_something_else_is_refused(copies, tmp_path, choices, sentence):
    from harness.baskets import load_basket

    basket = load_basket(write_basket(tmp_path, choices=choices, letters=LETTERS))
    with pytest.raises(Unusable) as refused:
        judged(copies, tmp_path, basket)
    assert sentence in str(refused.value)


def test_a_basket_of_all_documents_is_not_met_by_some(copies, tmp_path):
    from harness.baskets import load_basket

    for folder in copies.values():
        change_run(folder, "tiny_choice", nested("n-samples/tiny_choice/original", 400))
    basket = load_basket(write_basket(tmp_path, choices=CHOICES, letters=LETTERS))
    with pytest.raises(Unusable, match="holds 40 of 400 of task tiny_choice"):
        judged(copies, tmp_path, basket)


OPTIONS = {
    "a model beside samples": (("--candidate=embedded:chemistry",), "must be read by the same program"),
    "mitigations": (("--mitigate=merge",), "--mitigate needs models that run"),
    "seeds": (("--seeds=0,1",), "--seeds needs models that run"),
    "a number format": (("--dtype=bfloat16",), "--dtype needs models that run"),
    "a margin of nothing": (("--margin=mmlu=3",), "benchmark 'mmlu' is not in basket 'samples'; it has tiny_group"),
}


@pytest.mark.parametrize(("more", "sentence"), OPTIONS.values(), ids=OPTIONS)
def test_options_that_need_models_are_refused(copies, tmp_path, more, sentence):
    done = gate(tmp_path, f"samples:{copies['base']}", f"samples:{copies['candidate']}", *more)
    assert done.returncode == 4
    assert sentence in done.stdout + done.stderr


FOLDERS = {
    "nowhere": (lambda folder: folder / "none", "is no directory"),
    "empty": (lambda folder: (folder / "empty", (folder / "empty").mkdir())[0], "holds no results_*.json"),
    "two models": (lambda folder: folder, "holds samples of 2 models (base, candidate)"),
}


@pytest.mark.parametrize(("named", "sentence"), FOLDERS.values(), ids=FOLDERS)
def test_a_folder_without_the_samples_of_one_model_is_refused(copies, tmp_path, named, sentence):
    with pytest.raises(Unusable) as refused:
        judged({**copies, "candidate": named(copies["base"].parent)}, tmp_path)
    assert sentence in str(refused.value)


def test_runs_of_two_models_in_one_folder_are_refused(copies, tmp_path):
    change_run(copies["candidate"], "tiny_write", nested("model_name", "another"))
    with pytest.raises(Unusable, match="are of different models"):
        judged(copies, tmp_path)


def test_two_adapters_of_one_base_are_two_models(copies, tmp_path):
    """Of which lm_eval writes one name, and vLLM no digest."""
    change_run(copies["candidate"], "tiny_write", nested("config/model_args", {"lora_local_path": "v2"}))
    with pytest.raises(Unusable, match=r"are of different models \("):
        judged(copies, tmp_path)


def test_texts_that_were_sampled_are_no_greedy_ones(copies, tmp_path):
    from harness.baskets import load_basket

    for folder in copies.values():
        change_run(folder, "tiny_write", nested("configs/tiny_write/generation_kwargs/do_sample", True))
        change_run(folder, "tiny_write", nested("config/gen_kwargs", "do_sample=True"))
    basket = load_basket(write_basket(tmp_path, choices=CHOICES, letters=LETTERS))
    with pytest.raises(Unusable, match=r"has temperature = 0\.0 and 'samples:.*' was run with 1\.0"):
        judged(copies, tmp_path, basket)


def test_what_a_metric_of_a_whole_set_is_given_is_no_score_of_a_document(copies, tmp_path):
    """lm-eval hands (right answer, answer) to MCC and F1, and (reference, text) to BLEU; their mean means nothing."""

    def paired(rows):
        for row in rows:
            row |= {"metrics": ["mcc"], "mcc": [1, 0]}

    for folder in copies.values():
        change_rows(folder, "tiny_write", paired)
    audit = judged(copies, tmp_path / "out")
    assert [b.name for b in audit.basket.benchmarks] == ["tiny_group"]
    assert "tiny_write" in " ".join(line for line in audit.origin if line.startswith("NOT JUDGED"))
    for folder in copies.values():
        for task in ("tiny_choice", "tiny_twin"):
            change_rows(folder, task, paired)
    with pytest.raises(Unusable, match="no task that the samples have in common has a score of each document"):
        judged(copies, tmp_path / "out")


def test_a_tag_is_what_any_side_has_under_it(copies, tmp_path):
    """lm-eval tells of a tag only in the tasks that it ran."""

    def tagged(run):
        for task in run["configs"]:
            run["configs"][task]["tag"] = "words"

    for folder in copies.values():
        for task in ("tiny_choice", "tiny_write"):
            change_run(folder, task, tagged)
    basket = load_basket(write_basket(tmp_path, choices=CHOICES.replace("tiny_choice", "words"), letters=LETTERS))
    sides = [read_side(parse_model(f"samples:{copies[name]}")) for name in ("base", "candidate")]
    assert set(of_basket(basket, sides)[0].tasks) >= {"tiny_choice", "tiny_write"}
    results_of(copies["base"], "tiny_write").unlink()
    for path in list(copies["base"].glob("samples_tiny_write_*")):
        path.unlink()
    with pytest.raises(Unusable, match="holds no samples of task tiny_write"):
        judged(copies, tmp_path / "out", basket)
