"""Recorded votes with planted win rates, agreement and position bias give them back; verdicts and their words."""

from __future__ import annotations

import json

import numpy as np
import pytest

from harness.ballot import results
from harness.ballot.judge import INCONCLUSIVE, MISSED, PASS, judge, tally
from tests.voting import hand_back, key_of, pairs, planted

PAIRS = pairs(50)
KEY = key_of(PAIRS)
ROUNDS = 24


def judged(seed=0, key=KEY, **plan):
    return judge(key, planted(key, seed, **plan), "out/gate/key.json")


@pytest.mark.parametrize(
    ("plan", "truths"),
    [
        ({"rates": (0.6, 0.1, 0.3), "share": 0.7}, {"win": 0.65, "agreement": 0.49, "position": 0.0}),
        ({"rates": (0.4, 0.0, 0.6), "share": 0.4}, {"win": 0.4, "agreement": 0.16, "position": 0.0}),
    ],
)
def test_planted_rates_and_agreement_come_back(plan, truths):
    found = [judged(seed, **plan) for seed in range(ROUNDS)]
    for name, truth in truths.items():
        held = sum(getattr(one, name).low <= truth <= getattr(one, name).high for one in found)
        assert held >= 18, name  # two bounds at 95% hold 90 in 100, and fewer than 18 of 24 once in 200
    assert np.mean([one.win.estimate for one in found]) == pytest.approx(truths["win"], abs=0.04)
    assert np.mean([one.agreement.estimate for one in found]) == pytest.approx(truths["agreement"], abs=0.06)


def test_planted_position_bias_comes_back_and_moves_no_win_rate():
    found = [judged(seed, rates=(0.7, 0.0, 0.3), share=0.3, lazy=0.4) for seed in range(ROUNDS)]
    assert sum(one.position.low <= 0.2 <= one.position.high for one in found) >= 18
    assert np.mean([one.position.estimate for one in found]) == pytest.approx(0.2, abs=0.03)
    assert np.mean([one.win.estimate for one in found]) == pytest.approx(0.6 * 0.7 + 0.4 * 0.5, abs=0.03)
    assert all("position bias is shown" in " ".join(results.beside(one)) for one in found if one.position.low > 0)


def test_planted_consistency_comes_back():
    steady, fickle = judged(steady=1.0), judged(3, steady=0.5, share=0.0)
    assert steady.consistency.estimate == 1
    assert fickle.consistency.low <= 0.5 <= fickle.consistency.high
    assert [row.repeats for row in steady.rows] == [4, 4, 4]


def test_each_editors_own_rate_comes_back():
    key = key_of(PAIRS, editors=3)
    votes = planted(key, 1, rates=(0.8, 0.0, 0.2), share=0.0)
    votes |= {3: planted(key, 2, rates=(0.2, 0.0, 0.8), share=0.0)[3]}
    found = judge(key, votes, "key.json")
    for row, truth in zip(found.rows, (0.8, 0.8, 0.2), strict=True):
        assert row.rate.low <= truth <= row.rate.high
    assert found.rows[0].rate.low > 0.5 > found.rows[2].rate.high
    assert found.win.estimate == pytest.approx(np.mean([row.rate.estimate for row in found.rows]))
    assert all(row.wins + row.ties + row.losses == 50 for row in found.rows)


def test_repeats_count_for_consistency_alone():
    votes = planted(KEY, 5)
    flipped = planted(KEY, 5, steady=0.0)
    assert (tally(KEY, votes).won == tally(KEY, flipped).won).all()
    assert not any(any(same) for same in tally(KEY, flipped).same)


@pytest.mark.parametrize(
    ("rates", "verdict", "status", "words"),
    [
        ((0.9, 0.05, 0.05), PASS, 0, "the win rate is shown to be above 60%: "),
        ((0.3, 0.1, 0.6), MISSED, 1, "that editors prefer it to the base is not shown"),
        ((0.65, 0.0, 0.35), INCONCLUSIVE, 10, "the win rate is above 60%, not proven: "),
        ((0.55, 0.0, 0.45), INCONCLUSIVE, 10, "the win rate is not above 60%, and not shown to be below: "),
    ],
)
def test_verdicts_and_their_words(rates, verdict, status, words):
    found = next(one for one in (judged(seed, rates=rates) for seed in range(40)) if words in one.reason)
    assert (found.verdict, found.exit) == (verdict, status)
    assert (found.win.low > 0.6, found.win.high < 0.6) == (verdict == PASS, verdict == MISSED)
    if verdict == INCONCLUSIVE:
        assert f"about {found.needed:,} prompts instead of 50 would probably settle it" in found.reason or (
            "more than 5,000 prompts would be needed" in found.reason
        )


def test_a_rate_above_the_target_alone_is_never_a_pass():
    found = [judged(seed, rates=(0.6, 0.0, 0.4)) for seed in range(40)]
    assert sum(one.win.estimate > 0.6 for one in found) > 10
    assert sum(one.verdict == PASS for one in found) <= 6, "5% of 40, and three standard deviations"


def test_the_target_itself_and_unanimity():
    key = key_of(pairs(10), editors=1, repeats=0)
    six = {1: planted(key, 0, rates=(1.0, 0.0, 0.0))[1]}
    assert judge(key, six, "key.json").win.high == 1
    choices = dict(six[1].choices)
    for place in [p for p in key.places[0] if p.prompt < 4]:
        choices[place.token] = 3 - choices[place.token]
    found = judge(key, {1: type(six[1])("f", 1, "", choices, {})}, "key.json")
    assert found.win.estimate == pytest.approx(0.6)
    assert "it is the target itself, so no number of prompts would tell" in found.reason
    assert found.agreement is found.consistency is found.correlation is None


def test_without_all_votes_it_is_inconclusive_and_says_where_the_ballots_lie():
    found = judge(KEY, {}, "/runs/dpo/ballot/gate/key.json")
    assert (found.verdict, found.exit, found.win) == (INCONCLUSIVE, 10, None)
    assert found.reason == (
        "3 of 3 editors have not voted; hand out ballot-1.html, ballot-2.html, ballot-3.html from /runs/dpo/ballot and"
        " put the files of votes that come back into one folder for --votes"
    )
    two = {n: votes for n, votes in planted(KEY, 0).items() if n != 2}
    assert judge(KEY, two, "b/gate/key.json").reason.startswith(
        "1 of 3 editors has not voted; hand out ballot-2.html from b and"
    )


def test_the_document_and_the_table_say_the_same(tmp_path):
    found = judged(0)
    said = results.document(found, KEY)
    assert json.loads(json.dumps(said)) == said
    assert said["win_rate"]["estimate"] == pytest.approx(100 * found.win.estimate, abs=0.01)
    assert (said["prompts"], said["editors"], said["target"], said["simulated"]) == (50, 3, 60.0, False)
    told = results.lines(found, KEY)
    assert "SIMULATED" not in " ".join(told)
    assert told[-1] == f"{found.verdict} (exit {found.exit}): {found.reason}"
    assert len([line for line in told if line.split()[0] in ("1", "2", "3", "all")]) == 4
    assert any("Krippendorff's alpha" in line for line in told)


@pytest.mark.parametrize("how", ["votes", "ballots"])
def test_simulated_votes_are_labelled_in_every_line_page_and_file(tmp_path, how):
    key = key_of(PAIRS, simulated=how == "ballots")
    votes = planted(key, 0)
    if how == "votes":
        votes[2] = type(votes[2])("f", 2, "SIMULATED rule", votes[2].choices, {KEY.places[1][0].token: "so"})
    found = judge(key, votes, "key.json")
    told = results.lines(found, key)
    assert told[0] == "SIMULATED: programs vote here, not people."
    assert told[-1].startswith("SIMULATED ")
    assert all("SIMULATED" in line for line in told if line.startswith("all"))
    assert results.document(found, key)["simulated"]
    written = results.write(found, key, tmp_path)
    assert [path.name for path in written] == ["head-to-head-SIMULATED.json", "head-to-head-SIMULATED.md"]
    assert written[1].read_text().startswith("# SIMULATED Head-to-head")
    results.remove(tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_editors_and_specs_say_acts_nowhere(tmp_path):
    key = type(KEY)(**{**vars(KEY), "base": {"spec": "a|b\x1b[31m", "digest": ""}})
    votes = planted(key, 0)
    votes[1] = type(votes[1])("f", 1, "", votes[1].choices, {key.places[0][0].token: "<script>|[x](http://y)"})
    found = judge(key, votes, "key.json")
    assert "\x1b" not in " ".join(results.lines(found, key))
    page = results.markdown(found, key)
    assert "<script>" not in page
    assert "http://" not in page
    assert len(found.comments) == 1


def test_comments_reach_the_result(tmp_path):
    votes = planted(KEY, 0)
    votes[3] = type(votes[3])("f", 3, "", votes[3].choices, {KEY.places[2][5].token: "The second names a date."})
    hand_back(tmp_path, KEY, PAIRS, votes)
    found = judge(KEY, votes, "key.json")
    place = KEY.places[2][5]
    assert found.comments == ((3, place.prompt, "The second names a date."),)
    assert "The second names a date." in results.markdown(found, KEY)
