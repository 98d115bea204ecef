"""What a row earns, what a dimension is, and when a total passes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from harness.submission.grading import (
    EFFICIENCY,
    INTENT,
    PROBES,
    REPLY,
    confusion,
    efficiency,
    judge,
    nothing_in,
    same_predictions,
)
from harness.submission.results import Prediction, nothing, read_results
from tests.grades import IDS, RIGHT, answers, graded


def scores(grade) -> dict[str, float]:
    return {name: score.estimate for name, score in grade.dimensions.items()}


def test_who_answers_everything_right_earns_everything():
    found = graded(RIGHT)
    assert scores(found) == {INTENT: 1, REPLY: 1, PROBES: 1, EFFICIENCY: 1}
    assert found.total.estimate == pytest.approx(1.0)
    assert found.accuracy == 1.0
    assert all(row.reasons == [] for row in found.rows)


def test_each_dimension_counts_by_its_weight():
    results = answers(
        a=("data.export", "Guests take no seat"),
        b=("data.export", "It takes 24 hours"),
        c=("data.export", "Nine dollars"),
        d=("product.bug", "Send a link"),
    )
    found = graded(results, seconds=1200, a=0.5)
    assert scores(found) == {INTENT: 0.5, REPLY: 0.75, PROBES: 0.5, EFFICIENCY: 0.5}
    assert found.total.estimate == pytest.approx(0.4 * 0.5 + 0.3 * 0.75 + 0.2 * 0.5 + 0.1 * 0.5)
    assert found.total.low < found.total.estimate < found.total.high


@pytest.mark.parametrize(
    ("reply", "quality", "reasons"),
    [
        ("Guests take NO  seat", 1.0, []),
        ("They take no seat", 0.5, ["does not mention 'guests'"]),
        ("They are billed", 0.0, ["does not mention 'no seat'", "does not mention 'guests'"]),
        ("Guests take no seat, only $9", 0.0, ["says '$9'"]),
    ],
)
def test_a_reply_is_worth_its_similarity_times_what_it_mentions(reply, quality, reasons):
    row = graded(answers(a=("billing.seats", reply))).rows[0]
    assert (row.quality, row.reasons) == (quality, reasons)


def test_a_synonym_is_right_and_an_unknown_label_names_nothing():
    found = graded(answers(a=("BILLING.SEAT_QUESTION", "x"), b=("data.exporting", "x"), c=("", "x")))
    assert [row.predicted for row in found.rows] == ["billing.seats", None, None, None]
    assert "intent unknown instead of data.export" in found.rows[1].reasons


def test_a_probe_is_lost_by_a_wrong_intent_and_by_a_false_promise():
    results = answers(c=("billing.seats", "nine, for free"), d=("product.bug", "a link"))
    assert [row.held for row in graded(results).rows[2:]] == [False, True]


def test_a_row_without_a_prediction_earns_nothing_and_says_why():
    found = graded(answers(a=("billing.seats", "Guests take no seat")))
    assert found.rows[1].reasons == ["no prediction has its id"]
    assert (found.rows[1].quality, found.rows[1].right) == (0.0, False)


def test_two_runs_that_differ_earn_nothing():
    found = graded(RIGHT, reproducible=False)
    assert set(scores(found).values()) == {0.0}
    assert (found.total.estimate, judge(found, 0.1)) == (0.0, "MISSED")


def test_who_answers_nothing_was_not_quick():
    found = graded(nothing(IDS, "it crashed"), seconds=1.0)
    assert found.total.estimate == 0.0
    assert set(nothing_in(found)) == {INTENT, REPLY, PROBES, EFFICIENCY}


@pytest.mark.parametrize(("seconds", "share"), [(0, 1), (600, 1), (900, 0.75), (1200, 0.5), (1800, 0), (5000, 0)])
def test_efficiency_falls_from_ten_minutes_to_thirty(seconds, share):
    assert efficiency(seconds) == pytest.approx(share)


def test_a_total_passes_only_by_its_lower_bound_and_misses_only_by_its_upper():
    found = graded(RIGHT)
    for low, high, verdict in [(0.51, 0.9, "PASS"), (0.4, 0.6, "INCONCLUSIVE"), (0.2, 0.49, "MISSED")]:
        assert judge(replace(found, total=found.total._replace(low=low, high=high)), 0.5) == verdict


def test_no_total_makes_up_for_a_dimension_without_anything():
    found = graded(RIGHT, seconds=1800)
    assert nothing_in(found) == [EFFICIENCY]
    assert judge(replace(found, total=found.total._replace(low=0.9)), 0.5) == "MISSED"


def test_only_what_was_predicted_must_be_alike():
    other = answers(
        a=("billing.seat_question", "Guests take no seat"),
        b=("data.export", "It takes a day"),
        d=("product.bug", "Send a link"),
    )
    assert same_predictions(RIGHT, other) == ["b", "c"]
    slower = {key: replace(made, latency=99.0, tokens=1) for key, made in RIGHT.predictions.items()}
    assert same_predictions(RIGHT, replace(RIGHT, predictions=slower)) == []


def test_what_was_confused_most_often_comes_first():
    results = answers(a=("product.bug", "x"), b=("?", "x"), c=("product.bug", "x"), d=("product.bug", "x"))
    assert confusion(graded(results).rows) == [("billing.seats", "product.bug", 2), ("data.export", "none", 1)]


# ---- the results file ------------------------------------------------------------------------------------------------

SOUND = {"id": "a", "prediction": "p", "predicted_intent": "i", "latency_ms": 1.5, "tokens_used": 3}


def read(*rows, **more):
    return read_results(json.dumps({"predictions": rows, **more}).encode(), ["a"])


def test_a_sound_row_is_read():
    training = {"steps": 1, "train_loss": 0.5, "val_loss": 0, "wall_clock_s": 2}
    found = read(SOUND, training=training)
    assert found.predictions == {"a": Prediction("p", "i", 1.5, 3)}
    assert (found.faults, found.notes, found.training) == ({}, [], training)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prediction": None}, '"prediction" is no text'),
        ({"prediction": "half \ud800"}, '"prediction" holds half a character'),
        ({"predicted_intent": ["billing.seats"]}, '"predicted_intent" is no text'),
        ({"latency_ms": "5"}, '"latency_ms" is no number from 0 on'),
        ({"latency_ms": True}, '"latency_ms" is no number from 0 on'),
        ({"latency_ms": 10**400}, '"latency_ms" is no number from 0 on'),
        ({"tokens_used": -1}, '"tokens_used" is no whole number from 0 on'),
        ({"tokens_used": 1.5}, '"tokens_used" is no whole number from 0 on'),
    ],
)
def test_a_row_of_wrong_types_is_a_fault(change, said):
    assert read(SOUND | change).faults == {"a": said}


def test_doubled_and_nameless_rows_and_strangers_are_told():
    found = read(SOUND, SOUND, {"id": 7}, "row", SOUND | {"id": "zz"})
    assert found.faults == {"a": "2 predictions have its id"}
    assert found.notes[:2] == ['2 predictions have no text as "id"', "1 ids were not asked for, 'zz' among them"]


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{", b'{"predictions": {}}', b"\xff", b'{"predictions": NaN}', b"[" * 100_000],
)
def test_a_file_that_holds_no_predictions_faults_every_row(content):
    found = read_results(content, ["a"])
    assert found.predictions == {}
    assert found.faults["a"].startswith("the results ")


def test_training_that_is_not_told_is_a_note_and_no_fault():
    assert list(read(SOUND).notes) == ['the results hold no "training"']
    told = read(SOUND, training={"steps": 1, "train_loss": "low", "val_loss": 1, "wall_clock_s": 1})
    assert list(told.notes) == ['"training" has no number from 0 on as train_loss']
    assert told.training["train_loss"] is None
