"""The model card's fragment: the hub's own reader finds the audited scores in it, with what the audit says of them."""

from __future__ import annotations

import pytest
import yaml
from huggingface_hub.repocard_data import model_index_to_eval_results

from harness.report.model_card import model_card, write_model_card
from tests import verdicts
from tests.verdicts import HOSTILE, gain, row


def results(document) -> dict:
    name, found = model_index_to_eval_results(yaml.safe_load(model_card(document))["model-index"])
    return {"name": name} | {result.dataset_name: result for result in found}


def test_the_hub_reads_the_scores_of_the_candidate():
    found = results(verdicts.blocked())
    assert found["name"] == "acme/med-7b"
    assert set(found) == {"name", "mmlu", "ifeval", "gsm8k", "medqa"}
    ifeval = found["ifeval"]
    assert (ifeval.metric_type, ifeval.metric_value, ifeval.dataset_type) == (
        "prompt_level_strict_acc",
        48.9,
        "task_ifeval",
    )
    assert ifeval.metric_args["verdict"] == "REGRESSED"
    assert (ifeval.metric_args["base"], ifeval.metric_args["low"], ifeval.metric_args["margin"]) == (60.0, -13.1, 5.0)
    assert found["medqa"].metric_value == 48.1
    assert "verdict" not in found["medqa"].metric_args


@pytest.mark.parametrize(
    ("made", "first"),
    [
        (verdicts.ship, "# SHIP: every benchmark passed."),
        (verdicts.inconclusive, "# BLOCKED: not to be released as it is."),
        (verdicts.blocked, "# BLOCKED: not to be released as it is."),
    ],
)
def test_the_decision_comes_first(made, first):
    assert model_card(made()).startswith(first)


def test_only_a_base_of_the_hub_is_named_as_one():
    document = verdicts.ship()
    card = yaml.safe_load(model_card(document))
    assert (card["base_model"], card["base_model_relation"]) == ("acme/base-7b", "adapter")
    document["base"] |= {"spec": "acme/base-7b@main"}
    assert yaml.safe_load(model_card(document))["base_model"] == "acme/base-7b"
    document["base"] |= {"kind": "local"}
    assert "base_model" not in yaml.safe_load(model_card(document))


def test_hostile_names_stay_values():
    name = f"{HOSTILE}\nbase_model: evil/model"
    document = verdicts.document([row(name, "PASS", 0.0)], "SHIP", 0, base=verdicts.ship()["base"] | {"spec": name})
    card = yaml.safe_load(model_card(document))
    assert card["model-index"][0]["results"][0]["dataset"]["name"] == name
    assert card["base_model"] == name.partition("@")[0]
    assert [
        line for line in model_card(document).splitlines() if "evil/model" in line and line.startswith("base_model")
    ] == []


def test_each_run_of_a_recipe_has_its_own_scores():
    models = [{"spec": name, "digest": "0" * 64, "adapter": True} for name in ("one", "two")]
    document = verdicts.document(
        [row("a", "PASS", -1.0, model="recipe of 2 runs")], "SHIP", 0, candidates=models,
        training_runs=[row("a", "PASS", -0.5, model="one"), row("a", "PASS", -1.5, model="two")],
        domain=[gain(model="one"), gain(model="two")],
    )  # fmt: skip
    index = yaml.safe_load(model_card(document))["model-index"]
    assert [(entry["name"], entry["results"][0]["metrics"][0]["value"]) for entry in index] == [
        ("one", 59.5),
        ("two", 58.5),
    ]


def test_the_same_verdict_gives_the_same_file(tmp_path):
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        write_model_card(verdicts.worst_case(), folder)
    assert (tmp_path / "a" / "model-card.yaml").read_bytes() == (tmp_path / "b" / "model-card.yaml").read_bytes()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["model-card.yaml"]
