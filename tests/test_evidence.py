"""What stands beside a verdict: groups, companions, clusters and kinds of loss."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness import evidence, stats
from tests.scored import comparison, flips


def with_strata(found, labels):
    return replace(found, strata=tuple(labels))


def test_no_change_can_hide_as_many_lost_as_won():
    rates = evidence.flip_rates(flips(200, 20, 20), 0.05)
    assert rates["lost_rate"].estimate == rates["gained_rate"].estimate == 0.1
    assert rates["lost_rate"].low > 0.06


def test_a_companion_that_fell_says_so():
    rng = np.random.default_rng(0)
    base = rng.uniform(0.3, 0.7, 200)
    assert evidence.companion(comparison(base, base - 0.03), 0.05).moved
    assert not evidence.companion(comparison(base, base + rng.normal(0, 0.02, 200)), 0.05).moved
    assert evidence.companion(None, 0.05) is None


def test_subjects_that_fall_together_widen_the_interval():
    labels = np.repeat([f"s{n}" for n in range(10)], 20)
    fell = np.isin(labels, ["s0", "s1", "s2"])
    found = with_strata(comparison(np.ones(200), 1.0 - fell), labels)
    bound = stats.crossed(found.change)
    wide = evidence.clustered(found, bound, 0.05)
    assert wide.high - wide.low > 1.5 * (bound.high - bound.low)


def test_subjects_that_fall_like_their_items_do_not():
    labels = np.repeat([f"s{n}" for n in range(40)], 10)
    one_in_ten = np.tile(np.arange(10) > 0, 40)
    found = with_strata(comparison(np.ones(400), one_in_ten), labels)
    assert evidence.clustered(found, stats.crossed(found.change), 0.05) is None


def test_one_stratum_has_no_clusters():
    found = flips(100, 5, 5)
    assert evidence.clustered(found, stats.crossed(found.change), 0.05) is None


def test_the_subject_that_fell_is_found_and_no_other_is_blamed():
    rng = np.random.default_rng(2)
    labels = np.repeat([f"s{n:02}" for n in range(57)], 40)
    base = (rng.random(len(labels)) < 0.6).astype(float)
    noise = rng.random(len(labels)) < 0.05
    candidate = np.where(noise, 1 - base, base)
    candidate[labels == "s07"] = 0
    rows = evidence.groups(with_strata(comparison(base, candidate), labels), {s: s for s in labels}, 0.05)
    assert [row["name"] for row in rows if row["fell"]] == ["s07"]
    assert rows[0]["name"] == "s07"
    assert rows[0]["adjusted"] >= rows[0]["pvalue"]


def test_a_group_of_few_items_is_shown_and_not_tested():
    found = with_strata(flips(20, 5, 0), ["small"] * 5 + ["large"] * 15)
    rows = {row["name"]: row for row in evidence.groups(found, {"small": "small", "large": "large"}, 0.05)}
    assert rows["small"]["pvalue"] is None
    assert not rows["small"]["fell"]
    assert rows["large"]["pvalue"] is not None


def test_subjects_are_gathered_into_domains():
    found = with_strata(flips(60, 9, 0), ["algebra"] * 20 + ["physics"] * 20 + ["law"] * 20)
    rows = evidence.groups(found, {"algebra": "stem", "physics": "stem", "law": "humanities"}, 0.05)
    assert {row["name"]: row["items"] for row in rows} == {"stem": 40, "humanities": 20}


def test_losses_are_split_by_what_the_lenient_reading_still_accepts():
    strict = comparison([1, 1, 1, 1, 0], [0, 0, 0, 1, 0])
    lenient = comparison([1, 1, 0, 1, 0], [1, 0, 0, 1, 0])  # the third was never right when read leniently
    assert evidence.format_losses(strict, lenient) == {"capability": 2, "format": 1}


@pytest.mark.parametrize(
    ("metrics", "pair"),
    [
        (
            ["prompt_level_strict_acc", "prompt_level_loose_acc", "empty"],
            ("prompt_level_strict_acc", "prompt_level_loose_acc"),
        ),
        (["acc", "acc_norm"], None),
    ],
)
def test_readings_are_known_by_name(metrics, pair):
    assert evidence.readings(metrics) == pair
