"""The policy of a reward model: what ships is what the code takes where a file is silent, and what it refuses."""

from __future__ import annotations

import tomllib
from dataclasses import fields

import pytest

from harness.reward.policy import Diagnostics, Policy, check_categories, load_policy, read_targets, with_options
from harness.specs import Unusable
from tests.tiny_audit import ROOT

SHIPPED = ROOT / "fixtures" / "baskets" / "reward.toml"


@pytest.fixture
def policy(tmp_path):
    def load(text: str) -> Policy:
        path = tmp_path / "reward.toml"
        path.write_text(text)
        return load_policy(path)

    return load


def test_what_ships_states_every_value_and_is_what_a_silent_file_gets(policy):
    assert load_policy(SHIPPED) == policy("") == Policy()
    assert set(tomllib.loads(SHIPPED.read_text())["diagnostics"]) == {field.name for field in fields(Diagnostics)}


def test_every_value_that_ships_has_its_reason_before_it():
    before, reasons = "", {}
    for line in SHIPPED.read_text().splitlines():
        if " = " in line and not line.startswith("#"):
            reasons[line.split(" = ")[0]] = before if before.startswith("#") else reasons.get(before, "")
            before = line.split(" = ")[0]
        else:
            before = line
    assert [key for key, reason in reasons.items() if not reason and key != "name"] == []


def test_points_of_the_file_are_shares_inside(policy):
    found = policy("[targets]\noverall = 75\ntone = 60\n[diagnostics]\nnear_ties = 40\nreordered = 0.5")
    assert (found.overall, found.category, found.target_of("tone"), found.target_of("x")) == (0.75, 0.65, 0.6, 0.65)
    assert (found.diagnostics.near_ties, found.diagnostics.reordered) == (0.4, 0.5)


def test_targets_of_the_command_line_win(policy):
    found = with_options(policy("[targets]\ntone = 60\n"), read_targets(["overall=75", "refusals=55.5"]))
    assert (found.overall, found.categories) == (0.75, {"tone": 0.6, "refusals": 0.555})
    every = with_options(found, read_targets(["category=70"]))
    assert (every.target_of("tone"), every.target_of("refusals"), every.overall) == (0.7, 0.7, 0.75)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[targets]\noverall = 0", r"\[targets\]: overall=0 is no share of pairs in points; write a number from 50,"),
        ("[targets]\noverall = 0.72", "overall=0.72 is no share of pairs in points; .* as in 75 for three quarters"),
        ("[targets]\ntone = 'high'", "tone='high' is no share of pairs in points"),
        ("[targets]\ntone = nan", "tone=nan is no share of pairs in points"),
        ("targets = 72", r"\[targets\] must be a table"),
        ("[limits]", "has an unknown key 'limits'; known are alpha, diagnostics, "),
        ("[diagnostics]\nsd = 1", r"\[diagnostics\] has an unknown key 'sd'; known are agreement, bins, "),
        ("[diagnostics]\nspread = -1", "spread = -1 is out of range; write a number above 0"),
        ("[diagnostics]\nnear_ties = 100", "near_ties = 100 is out of range; .* above 0 and below 100, in points"),
        ("[diagnostics]\nagreement = 0.6", "agreement = 0.6 is out of range; write a number above 50 and below 100"),
        ("[diagnostics]\nsaturation = 0.4", "saturation = 0.4 is out of range; write a number above 0.5 and below 1"),
        ("[diagnostics]\nbins = 2.5", "bins = 2.5 is of the wrong kind; write a whole number"),
        ("[diagnostics]\nspread = true", "spread = True is of the wrong kind; write a number"),
        ("alpha = 0.7", "alpha = 0.7 is no error rate; write a number such as 0.05"),
        ("inherent_length = 'brevity'", "inherent_length = 'brevity' is no list of names; write as in"),
        ("may_skip = ['agrement']", "may_skip names no check 'agrement'; known are finite, spread, .*agreement"),
        ("name = 3", "name = 3 is no text"),
        ("= 3", "is not valid TOML"),
    ],
)
def test_what_a_policy_must_not_hold_is_said(policy, text, said):
    with pytest.raises(Unusable, match=said):
        policy(text)


def test_a_policy_that_is_not_there_is_said(tmp_path):
    with pytest.raises(Unusable, match=r"does not exist; name a TOML file such as fixtures/baskets/reward.toml\."):
        load_policy(tmp_path / "nowhere.toml")


@pytest.mark.parametrize("text", ["overall", "tone=high", "=", "tone="])
def test_a_target_without_a_number_is_said(text):
    with pytest.raises(Unusable, match=f"--target {text} is no NAME=POINTS; write as in --target overall=75"):
        read_targets([text])


def test_a_target_out_of_range_is_said():
    with pytest.raises(Unusable, match=r"--target tone=600\.0 is no share of pairs in points"):
        with_options(Policy(), read_targets(["tone=600"]))


def test_a_target_of_a_category_that_no_pair_has_is_said():
    with pytest.raises(Unusable, match="a target for 'tones', a category that no pair has; targets are overall, categ"):
        check_categories(with_options(Policy(), {"tones": 60}), ["tone", "refusals"])
    with pytest.raises(Unusable, match='no held-out pair has a category, and each is judged; write "category"'):
        check_categories(Policy(), [])


@pytest.mark.parametrize("name", ["overall", "category"])
def test_a_category_has_no_name_of_another_target(name):
    with pytest.raises(Unusable, match=f"a category is named '{name}'"):
        check_categories(Policy(), {name, "tone"})
